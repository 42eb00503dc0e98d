// Page numbers in the records of SLRUs (CLOG, MultiXact, CommitTs): i32 until 16, i64 from 17 on. A number past
// the last page that 32-bit ids can reach is a damaged record.
//
//   SLRU                what is on a page                                       pages
//   pg_xact             32768 transactions, 2 bits each                         2^32 / 32768
//   pg_multixact/
//     offsets           2048 offsets u32                                        2^32 / 2048
//     members           409 groups of 4 members, 20 bytes each                  2^32 / 1636
//   pg_commit_ts        819 entries of 10 bytes: time i64, node u16             2^32 / 819
//
// Mirrors clog.c, multixact.c and commit_ts.c.

import type { SlruKind } from '../../base/rel.ts';
import { badRecord, type WalRecord } from '../record.ts';
import type { Op } from '../rmgr.ts';
import { mainAt, readInt64 } from './main-data.ts';

/** How wide a page number is, and how to read one. */
export interface PageNumber {
  readonly size: 4 | 8;
  readonly read: (view: DataView, at: number) => number;
}

export const pageNumber14: PageNumber = { size: 4, read: (view, at) => view.getInt32(at, true) };
export const pageNumber17: PageNumber = { size: 8, read: readInt64 };

/** By SlruKind: entries on a page. */
const ENTRIES_PER_PAGE = [32_768, 1636, 2048, 819] as const;

const lastPage = (slru: SlruKind): number => Math.floor(0xffff_ffff / ENTRIES_PER_PAGE[slru]);

export function pagenoAt(record: WalRecord, at: number, number: PageNumber, slru: SlruKind): number {
  const pageno = number.read(record.view, at);
  if (pageno < 0 || pageno > lastPage(slru)) throw badRecord(record, `page ${pageno} of SLRU ${slru}`);
  return pageno;
}

/** The operation whose record is a page number: the page is zeroed. */
export function zeroPageOp(name: string, slru: SlruKind, number: PageNumber, prefix = ''): Op {
  const read = (record: WalRecord): number =>
    pagenoAt(record, mainAt(record, number.size, name), number, slru);
  return {
    name,
    effects: (record, emit) => emit({ kind: 'slru-zero-page', slru, pageno: read(record) }),
    describe: record => prefix + read(record),
  };
}
