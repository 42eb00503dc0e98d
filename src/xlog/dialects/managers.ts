// Resource managers by major: which row of each manager a major's log is read with. A cell that equals its left
// neighbour is the same object (the rows say so where they are defined), so a change of layout stands out there.
//
// Neon's builds read Heap, Heap2 and Btree with rows of their own, and have manager 134 from 16 on (there is no
// Neon build of 18 yet; its row is 17's).

import { brin14, brin15, brin16, brin17, brin18 } from '../rmgr/brin.ts';
import {
  btree14,
  btree14Neon,
  btree15,
  btree15Neon,
  btree16,
  btree16Neon,
  btree17,
  btree17Neon,
  btree18,
} from '../rmgr/btree/rows.ts';
import { clog14, clog15, clog16, clog17, clog18 } from '../rmgr/clog.ts';
import { commitTs14, commitTs15, commitTs16, commitTs17, commitTs18 } from '../rmgr/commit-ts.ts';
import { dbase14, dbase15, dbase16, dbase17, dbase18 } from '../rmgr/dbase.ts';
import { generic14, generic15, generic16, generic17, generic18 } from '../rmgr/generic.ts';
import { gin14, gin15, gin16, gin17, gin18 } from '../rmgr/gin/rows.ts';
import { gist14, gist15, gist16, gist17, gist18 } from '../rmgr/gist/rows.ts';
import { hash14, hash15, hash16, hash17, hash18 } from '../rmgr/hash/rows.ts';
import {
  heap2_14,
  heap2_15,
  heap2_16,
  heap2_17,
  heap2_18,
  heap2Neon14,
  heap2Neon15,
  heap2Neon16,
  heap2Neon17,
  heap14,
  heap15,
  heap16,
  heap17,
  heap18,
  heapNeon14,
  heapNeon15,
  heapNeon16,
  heapNeon17,
} from '../rmgr/heap/rows.ts';
import { logicalmsg14, logicalmsg15, logicalmsg16, logicalmsg17, logicalmsg18 } from '../rmgr/logicalmsg.ts';
import { multixact14, multixact15, multixact16, multixact17, multixact18 } from '../rmgr/multixact.ts';
import { neonRmgr16, neonRmgr17 } from '../rmgr/neon.ts';
import { relmap14, relmap15, relmap16, relmap17, relmap18 } from '../rmgr/relmap.ts';
import { replorigin14, replorigin15, replorigin16, replorigin17, replorigin18 } from '../rmgr/replorigin.ts';
import { sequence14, sequence15, sequence16, sequence17, sequence18 } from '../rmgr/sequence.ts';
import { smgr14, smgr15, smgr16, smgr17, smgr18 } from '../rmgr/smgr.ts';
import { spgist14, spgist15, spgist16, spgist17, spgist18 } from '../rmgr/spgist/rows.ts';
import { standby14, standby15, standby16, standby17, standby18 } from '../rmgr/standby.ts';
import { tblspc14, tblspc15, tblspc16, tblspc17, tblspc18 } from '../rmgr/tblspc.ts';
import { xact14, xact15, xact16, xact17, xact18 } from '../rmgr/xact.ts';
import { xlog14, xlog15, xlog16, xlog17, xlog18 } from '../rmgr/xlog.ts';
import { type Rmgr, registry } from '../rmgr.ts';
import { NEON_OPCODES, OPCODES } from './opcodes.ts';

export type Major = 14 | 15 | 16 | 17 | 18;
export const MAJORS: readonly Major[] = [14, 15, 16, 17, 18];

/** By major, from 14. */
type Row = readonly [Rmgr, Rmgr, Rmgr, Rmgr, Rmgr];

const ROWS: readonly Row[] = [
  [xlog14, xlog15, xlog16, xlog17, xlog18],
  [xact14, xact15, xact16, xact17, xact18],
  [smgr14, smgr15, smgr16, smgr17, smgr18],
  [clog14, clog15, clog16, clog17, clog18],
  [dbase14, dbase15, dbase16, dbase17, dbase18],
  [tblspc14, tblspc15, tblspc16, tblspc17, tblspc18],
  [multixact14, multixact15, multixact16, multixact17, multixact18],
  [relmap14, relmap15, relmap16, relmap17, relmap18],
  [standby14, standby15, standby16, standby17, standby18],
  [heap2_14, heap2_15, heap2_16, heap2_17, heap2_18],
  [heap14, heap15, heap16, heap17, heap18],
  [btree14, btree15, btree16, btree17, btree18],
  [hash14, hash15, hash16, hash17, hash18],
  [gin14, gin15, gin16, gin17, gin18],
  [gist14, gist15, gist16, gist17, gist18],
  [sequence14, sequence15, sequence16, sequence17, sequence18],
  [spgist14, spgist15, spgist16, spgist17, spgist18],
  [brin14, brin15, brin16, brin17, brin18],
  [commitTs14, commitTs15, commitTs16, commitTs17, commitTs18],
  [replorigin14, replorigin15, replorigin16, replorigin17, replorigin18],
  [generic14, generic15, generic16, generic17, generic18],
  [logicalmsg14, logicalmsg15, logicalmsg16, logicalmsg17, logicalmsg18],
];

/** What Neon's build of a major has instead, or besides. */
const NEON: Readonly<Record<Major, readonly Rmgr[]>> = {
  14: [heap2Neon14, heapNeon14, btree14Neon],
  15: [heap2Neon15, heapNeon15, btree15Neon],
  16: [heap2Neon16, heapNeon16, btree16Neon, neonRmgr16],
  17: [heap2Neon17, heapNeon17, btree17Neon, neonRmgr17],
  18: [neonRmgr17],
};

type Registry = readonly (Rmgr | undefined)[];

export const stockManagers = (major: Major): Registry =>
  registry(
    ROWS.map(row => row[major - 14]!),
    OPCODES[major],
  );

export function neonManagers(major: Major): Registry {
  const own = NEON[major];
  const stock = ROWS.map(row => row[major - 14]!).filter(rmgr => !own.some(o => o.id === rmgr.id));
  return registry([...stock, ...own], NEON_OPCODES[major]);
}
