// Every verb of the command line, in the order of the help.

import type { Verb } from '../../base/command.ts';
import { inspectSealedVerb } from './inspect-sealed.ts';
import { keyVerbs } from './keys.ts';
import { start } from './start.ts';
import { walDump } from './wal-dump.ts';
import { walVerify } from './wal-verify.ts';

export const verbs: readonly Verb[] = [start, walDump, walVerify, ...keyVerbs, inspectSealedVerb];
