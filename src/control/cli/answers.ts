// What commands over the manager's API have in common: an answer printed as JSON or as words, and a point in history as
// the fields of a request.

import { flagOption, textOption, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { parsePoint } from './render.ts';

export const jsonOr = (input: VerbInput, world: World, value: unknown, text: () => string): void =>
  world.terminal.write(flagOption(input, 'json') ? `${JSON.stringify(value, null, 2)}\n` : text());

/** `--at`, as the fields of a request. */
export function pointOf(input: VerbInput, world: World, prefix: string): Record<string, string> {
  const given = textOption(input, 'at');
  if (given === undefined) return {};
  const point = parsePoint(given, world.clock.now());
  if (point === undefined) {
    throw new Fault('command-unknown', `--at ${given} is no LSN and no time`, {
      hint: "Give an LSN such as 0/16B3748, a time such as 2026-01-31T12:00Z, or '15 min ago'.",
    });
  }
  return 'lsn' in point ? { [`${prefix}_lsn`]: point.lsn } : { [`${prefix}_timestamp`]: point.timestamp };
}
