// RelMap (7): a database's map of catalogs to files, written anew as a whole.
//
//   UPDATE   0 dbid u32 (0: the shared map) | 4 tsid u32 | 8 nbytes i32 | 12 the file, its checksum included
//
// The file has 512 bytes, from 16 on 524; one of another size is refused, as Postgres does.
//
// Mirrors relmap_redo of relmapper.c and relmap_desc of relmapdesc.c.

import { badRecord, type WalRecord } from '../record.ts';
import type { Rmgr } from '../rmgr.ts';
import { arrayEnd, copyOf, mainAt } from './main-data.ts';

export const RM_RELMAP_ID = 7;
export const XLOG_RELMAP_UPDATE = 0x00;

const MIN_SIZE_OF_RELMAP_UPDATE = 12;

/** Where the record begins, once it is known to hold what it says. */
function updateAt(record: WalRecord): number {
  const at = mainAt(record, MIN_SIZE_OF_RELMAP_UPDATE, 'xl_relmap_update');
  arrayEnd(record, at + MIN_SIZE_OF_RELMAP_UPDATE, record.view.getInt32(at + 8, true), 1, 'bytes of map');
  return at;
}

const relmap = (fileSize: number): Rmgr => ({
  id: RM_RELMAP_ID,
  name: 'RelMap',
  opMask: 0xf0,
  ops: {
    [XLOG_RELMAP_UPDATE]: {
      name: 'UPDATE',
      effects: (record, emit) => {
        const at = updateAt(record);
        const size = record.view.getInt32(at + 8, true);
        if (size !== fileSize) throw badRecord(record, `a relation map of ${size} bytes, not ${fileSize}`);
        const data = at + MIN_SIZE_OF_RELMAP_UPDATE;
        emit({
          kind: 'relmap',
          dbOid: record.view.getUint32(at, true),
          spcOid: record.view.getUint32(at + 4, true),
          bytes: copyOf(record, data, data + size),
        });
      },
      describe: record => {
        const at = updateAt(record);
        const { view } = record;
        return (
          `database ${view.getUint32(at, true)} tablespace ${view.getUint32(at + 4, true)} ` +
          `size ${view.getInt32(at + 8, true)}`
        );
      },
    },
  },
});

export const relmap14 = relmap(512);
export const relmap15 = relmap14;
export const relmap16 = relmap(524);
export const relmap17 = relmap16;
export const relmap18 = relmap17;
