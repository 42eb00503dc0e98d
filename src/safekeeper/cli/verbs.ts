// The safekeeper's verbs of the command line.

import type { Verb } from '../../base/command.ts';
import { inspectSafekeeper } from './inspect-safekeeper.ts';
import type { VaultDoor } from './vault-door.ts';
import { walExport } from './wal-export.ts';

export const safekeeperVerbs = (door: VaultDoor): readonly Verb[] => [
  walExport(door),
  inspectSafekeeper(door),
];
