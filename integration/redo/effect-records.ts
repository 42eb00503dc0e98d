// Records for the tests of the managers that edit no pages: captured ones out of the fixtures, and ones made of
// main data alone. A made record ends where its buffer ends, so that a read past it is a RangeError.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Builder, fromHex, viewOf } from '../../src/base/bytes.ts';
import { type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import type { Effect } from '../../src/xlog/effects.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { findOp, type Rmgr } from '../../src/xlog/rmgr.ts';

export const MAJORS = [14, 15, 16, 17, 18] as const;

export interface CapturedRow {
  readonly op: string;
  readonly lsn: string;
  readonly record: string;
  readonly desc: string | null;
}

export function capturedRows(major: number): readonly CapturedRow[] {
  const path = join(import.meta.dirname, `../fixtures/effects-${major}.json`);
  return JSON.parse(readFileSync(path, 'utf8')) as CapturedRow[];
}

export function decodeRow(row: CapturedRow, major: number): WalRecord {
  const bytes = fromHex(row.record);
  const lsn = parseLsn(row.lsn);
  const end = (lsn + bytes.length) as Lsn;
  const { imageBits } = dialectOfMajor(major, 'stock');
  return decodeRecord(new WalRecord(), bytes, viewOf(bytes), 0, lsn, end, imageBits);
}

/** A record with this main data and nothing else. */
export function madeRecord(
  rmgr: Rmgr,
  info: number,
  main: Uint8Array | Builder,
  header: { readonly xid?: number; readonly origin?: number } = {},
): WalRecord {
  const bytes = main instanceof Builder ? main.finish() : main;
  const record = new WalRecord();
  record.bytes = bytes;
  record.view = viewOf(bytes);
  record.rmid = rmgr.id;
  record.info = info;
  record.xid = header.xid ?? 0;
  record.origin = header.origin ?? 0;
  record.lsn = parseLsn('0/1000028');
  record.mainLength = bytes.length;
  return record;
}

/** The same record with only the first bytes of its main data, in a buffer that ends there. */
export function cutShort(record: WalRecord, length: number, rmgr: Rmgr): WalRecord {
  const main = record.bytes.slice(record.mainOffset, record.mainOffset + length);
  return madeRecord(rmgr, record.info, main, { xid: record.xid, origin: record.origin });
}

export function effectsOf(rmgr: Rmgr, record: WalRecord): Effect[] {
  const effects: Effect[] = [];
  findOp(rmgr, record.info)?.effects?.(record, effect => effects.push(effect));
  return effects;
}

export function describeOf(rmgr: Rmgr, record: WalRecord): string {
  return findOp(rmgr, record.info)?.describe?.(record) ?? '';
}
