// What trouble and upkeep see of the world, and what they may do in it.

import type { SimClock } from './clock.ts';
import type { Compute } from './compute.ts';
import type { Luck } from './luck.ts';
import type { SimNet } from './net.ts';
import type { Operator } from './operator.ts';
import type { SimSafekeeper } from './safekeeper.ts';

export interface Stage {
  readonly luck: Luck;
  readonly clock: SimClock;
  readonly net: SimNet;
  readonly nodes: readonly SimSafekeeper[];
  readonly computes: readonly Compute[];
  readonly operator: Operator;
  /** No trouble is to be caused any more. */
  readonly healed: boolean;
  /** The timeline has been made on all its first members. */
  readonly created: boolean;
  /** Until when a node is reached by no compute, new ones included. */
  readonly absentUntil: Map<string, number>;
  /** `onElected` is called when its votes are in and nobody is told yet. */
  launch(sync: boolean, onElected?: () => void): Compute;
  bootLater(node: SimSafekeeper, ms: number): void;
  /** Work that ends well, or by a Fault, or never. */
  try(work: Promise<unknown>): void;
  trace(line: string): void;
}
