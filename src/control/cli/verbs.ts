// Every verb of the command line, in the order of the help.

import type { Verb } from '../../base/command.ts';
import { adopt } from './adopt.ts';
import { benchVerb } from './bench.ts';
import { branchVerbs } from './branch.ts';
import { checkout } from './checkout.ts';
import { computeVerbs, uriVerb } from './compute.ts';
import { branchDiff } from './diff.ts';
import { inspectSealedVerb } from './inspect-sealed.ts';
import { keyVerbs } from './keys.ts';
import { logsVerb } from './logs.ts';
import { projectVerbs } from './project.ts';
import { psqlVerb } from './psql.ts';
import { start } from './start.ts';
import { statusVerb } from './status.ts';
import { stopVerb } from './stop.ts';
import { walDump } from './wal-dump.ts';
import { walVerify } from './wal-verify.ts';

export const verbs: readonly Verb[] = [
  start,
  stopVerb,
  statusVerb,
  logsVerb,
  psqlVerb,
  uriVerb,
  ...branchVerbs,
  adopt,
  checkout,
  branchDiff,
  ...computeVerbs,
  ...projectVerbs,
  walDump,
  walVerify,
  ...keyVerbs,
  inspectSealedVerb,
  benchVerb,
];
