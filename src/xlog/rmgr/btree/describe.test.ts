// Descriptions in which majors differ, side by side. 15 and later are judged by pg_walinspect in the redo suite; 14
// has no such extension, so its wording is held here.

import { describe, expect, it } from 'vitest';
import { Builder, viewOf } from '../../../base/bytes.ts';
import { lsn } from '../../../base/lsn.ts';
import { dialectOfMajor } from '../../dialects/all.ts';
import { decodeRecord, WalRecord } from '../../record.ts';
import { findOp } from '../../rmgr.ts';
import { makeRecord } from '../../writer.ts';
import { RM_BTREE_ID, XLOG_BTREE_DELETE, XLOG_BTREE_REUSE_PAGE } from './rows.ts';

function text(major: number, info: number, main: Uint8Array, data?: Uint8Array): string {
  const dialect = dialectOfMajor(major, 'stock');
  const blocks =
    data === undefined ? [] : [{ id: 0, spcOid: 1663, dbOid: 5, relNumber: 16384, blkno: 7, data }];
  const bytes = makeRecord({ rmid: RM_BTREE_ID, info, main, blocks }, dialect);
  const record = decodeRecord(new WalRecord(), bytes, viewOf(bytes), 0, lsn(8), lsn(16), dialect.imageBits);
  return findOp(dialect.rmgrs[RM_BTREE_ID]!, info)!.describe!(record);
}

describe('DELETE', () => {
  const main = (major: number): Uint8Array => {
    const fields = new Builder().u32le(731).u16le(2).u16le(2);
    return (major >= 16 ? fields.u8(1) : fields).finish();
  };
  // Items 3 and 9 go; item 4 loses its second TID, item 7 its first and third.
  const data = [3, 9, 4, 7, 1, 1, 2, 0, 2].reduce((out, n) => out.u16le(n), new Builder()).finish();
  const arrays =
    ', deleted: [3, 9], updated: [{ off: 4, nptids: 1, ptids: [1] }, { off: 7, nptids: 2, ptids: [0, 2] }]';

  it.each([
    [14, 'latestRemovedXid 731; ndeleted 2; nupdated 2'],
    [15, 'latestRemovedXid 731; ndeleted 2; nupdated 2'],
    [16, `snapshotConflictHorizon: 731, ndeleted: 2, nupdated: 2${arrays}`],
    [17, `snapshotConflictHorizon: 731, ndeleted: 2, nupdated: 2, isCatalogRel: T${arrays}`],
    [18, `snapshotConflictHorizon: 731, ndeleted: 2, nupdated: 2, isCatalogRel: T${arrays}`],
  ])('of %i', (major, expected) => {
    expect(text(major, XLOG_BTREE_DELETE, main(major), data)).toBe(expected);
  });

  it('without the data, as with an image to apply, tells the counts alone', () => {
    expect(text(16, XLOG_BTREE_DELETE, main(16))).toBe(
      'snapshotConflictHorizon: 731, ndeleted: 2, nupdated: 2',
    );
  });

  it('with less data than it announces is refused', () => {
    expect(() => text(17, XLOG_BTREE_DELETE, main(17), data.slice(0, 16))).toThrow(
      'update 1 of 2 is not there',
    );
    expect(() => text(17, XLOG_BTREE_DELETE, main(17).slice(0, 6), data)).toThrow('bad WAL record');
  });
});

describe('REUSE_PAGE', () => {
  const main = new Builder().u32le(1663).u32le(5).u32le(16385).u32le(9).u32le(1021).u32le(2).u8(0).finish();

  it.each([
    [14, 'rel 1663/5/16385; latestRemovedXid 2:1021'],
    [15, 'rel 1663/5/16385; latestRemovedXid 2:1021'],
    [16, 'rel: 1663/5/16385, snapshotConflictHorizon: 2:1021'],
    [17, 'rel: 1663/5/16385, snapshotConflictHorizon: 2:1021, isCatalogRel: F'],
    [18, 'rel: 1663/5/16385, snapshotConflictHorizon: 2:1021, isCatalogRel: F'],
  ])('of %i', (major, expected) => {
    expect(text(major, XLOG_BTREE_REUSE_PAGE, main)).toBe(expected);
  });
});
