// For the tests of this folder: heap records and heap pages made by hand, and what is on a page afterwards.

import { Builder } from '../../../base/bytes.ts';
import type { Lsn } from '../../../base/lsn.ts';
import type { Dialect } from '../../dialect.ts';
import { dialectOfMajor } from '../../dialects/all.ts';
import type { Effect } from '../../effects.ts';
import { newPage, type Page, pageInit } from '../../page.ts';
import { itemIdLength, pageAddItem, pageGetItemOffset } from '../../page-items.ts';
import { decodeRecord, WalRecord } from '../../record.ts';
import { findOp } from '../../rmgr.ts';
import { type BlockSpec, makeRecord } from '../../writer.ts';

export const stock = (major: number): Dialect => dialectOfMajor(major, 'stock');
export const neon = (major: number): Dialect => dialectOfMajor(major, 'neon');

export const REL = { spcOid: 1663, dbOid: 5, relNumber: 16384 };
export const XID = 777;
export const BLKNO = 70_000;
export const INIT_PAGE = 0x80;
export const END = 0x2000;

export interface Made {
  rmid: number;
  info: number;
  main: Uint8Array;
  data?: Uint8Array;
  blkno?: number;
  willInit?: boolean;
  block1?: Partial<BlockSpec>;
}

export function made(dialect: Dialect, { rmid, info, main, data, blkno, willInit, block1 }: Made): WalRecord {
  const blocks: BlockSpec[] = [
    { id: 0, ...REL, blkno: blkno ?? BLKNO, ...(data && { data }), ...(willInit && { willInit }) },
  ];
  if (block1 !== undefined) blocks.push({ id: 1, ...REL, blkno: BLKNO + 1, ...block1 });
  const bytes = makeRecord({ rmid, info, xid: XID, main, blocks }, dialect);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return decodeRecord(new WalRecord(), bytes, view, 0, 0x1000 as Lsn, END as Lsn, dialect.imageBits);
}

export const bytes = (write: (b: Builder) => Builder): Uint8Array => write(new Builder()).finish();

/** A tuple as it lies on a page. */
export function tuple({
  xmin = 5,
  xmax = 0,
  cid = 9,
  infomask2 = 2,
  infomask = 0x0902,
  hoff = 24,
  user = [1, 2, 3],
}) {
  return bytes(b =>
    b
      .u32le(xmin)
      .u32le(xmax)
      .u32le(cid)
      .u16le(0)
      .u16le(3)
      .u16le(1)
      .u16le(infomask2)
      .u16le(infomask)
      .u8(hoff)
      .zeros(hoff - 23)
      .raw(Uint8Array.from(user)),
  );
}

export function heapPage(...tuples: Uint8Array[]): Page {
  const page = newPage();
  pageInit(page, 0);
  for (const t of tuples) pageAddItem(page, t, 0, t.length, 0, false, true);
  return page;
}

export interface Tuple {
  xmin: number;
  xmax: number;
  cid: number;
  ctid: string;
  infomask2: number;
  infomask: number;
  hoff: number;
  user: number[];
}

export function tupleOf(page: Page, offnum: number): Tuple {
  const at = pageGetItemOffset(page, offnum);
  const { view } = page;
  const hoff = view.getUint8(at + 22);
  return {
    xmin: view.getUint32(at, true),
    xmax: view.getUint32(at + 4, true),
    cid: view.getUint32(at + 8, true),
    ctid: `${view.getUint16(at + 12, true) * 0x10000 + view.getUint16(at + 14, true)}/${view.getUint16(at + 16, true)}`,
    infomask2: view.getUint16(at + 18, true),
    infomask: view.getUint16(at + 20, true),
    hoff,
    user: [...page.bytes.subarray(at + hoff, at + itemIdLength(page, offnum))],
  };
}

export function effectsOf(dialect: Dialect, record: WalRecord): Effect[] {
  const effects: Effect[] = [];
  findOp(dialect.rmgrs[record.rmid]!, record.info)!.effects?.(record, effect => effects.push(effect));
  return effects;
}

export const describeOf = (dialect: Dialect, record: WalRecord): string =>
  findOp(dialect.rmgrs[record.rmid]!, record.info)!.describe!(record);
