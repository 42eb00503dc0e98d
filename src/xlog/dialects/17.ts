// Postgres 17, by its differences from 16: checkpoints tell wal_level, and CHECKPOINT_REDO marks where an online
// one begins; SLRU page numbers in records are 64 bits wide and two-phase files are named by full xid; Heap2's
// three pruning opcodes keep their numbers and share one new layout.

import { CONTROL_FILE_1700 } from '../control-file.ts';
import type { Dialect } from '../dialect.ts';
import { pg16 } from './16.ts';
import { stockManagers } from './managers.ts';

export const pg17: Dialect = {
  ...pg16,
  major: 17,
  xlogPageMagic: 0xd116,
  catalogVersion: 202406281,
  rmgrs: stockManagers(17),
  controlFile: CONTROL_FILE_1700,
  slruPageNumberBytes: 8,
  twophaseFullXid: true,
  versionText: '17\n',
};
