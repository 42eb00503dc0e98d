// ReplicationOrigin (19): how far a subscriber has come with what it applies from elsewhere. (Most of it is told
// by the commits of the applied transactions.)
//
//   SET    0 remote_lsn u64 | 8 node_id u16 | 10 force u8
//   DROP   0 node_id u16
//
// Mirrors replorigin_redo of origin.c and replorigin_desc of replorigindesc.c. Alike in 14 to 18.

import type { Rmgr } from '../rmgr.ts';
import { lsnAt } from './desc.ts';
import { mainAt } from './main-data.ts';

export const RM_REPLORIGIN_ID = 19;
export const XLOG_REPLORIGIN_SET = 0x00;
export const XLOG_REPLORIGIN_DROP = 0x10;

const SIZE_OF_REPLORIGIN_SET = 11;
const SIZE_OF_REPLORIGIN_DROP = 2;

export const replorigin14: Rmgr = {
  id: RM_REPLORIGIN_ID,
  name: 'ReplicationOrigin',
  opMask: 0xf0,
  ops: {
    [XLOG_REPLORIGIN_SET]: {
      name: 'SET',
      effects: (record, emit) => {
        const at = mainAt(record, SIZE_OF_REPLORIGIN_SET, 'xl_replorigin_set');
        emit({
          kind: 'origin-set',
          nodeId: record.view.getUint16(at + 8, true),
          remoteLsn: record.view.getBigUint64(at, true),
          force: record.view.getUint8(at + 10) !== 0,
        });
      },
      describe: record => {
        const at = mainAt(record, SIZE_OF_REPLORIGIN_SET, 'xl_replorigin_set');
        const { view } = record;
        const force = view.getUint8(at + 10);
        return `set ${view.getUint16(at + 8, true)}; lsn ${lsnAt(view, at)}; force: ${force}`;
      },
    },
    [XLOG_REPLORIGIN_DROP]: {
      name: 'DROP',
      effects: (record, emit) => {
        const at = mainAt(record, SIZE_OF_REPLORIGIN_DROP, 'xl_replorigin_drop');
        emit({ kind: 'origin-drop', nodeId: record.view.getUint16(at, true) });
      },
      describe: record => {
        const at = mainAt(record, SIZE_OF_REPLORIGIN_DROP, 'xl_replorigin_drop');
        return `drop ${record.view.getUint16(at, true)}`;
      },
    },
  },
};
export const replorigin15 = replorigin14;
export const replorigin16 = replorigin15;
export const replorigin17 = replorigin16;
export const replorigin18 = replorigin17;
