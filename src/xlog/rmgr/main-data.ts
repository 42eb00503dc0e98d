// The main data of a record, read with its length in mind. Every struct of a manager's records lies at
// `record.mainOffset`; a struct is read only after `mainAt` has seen that it is there whole, and an array only
// after `arrayEnd` has seen that its count fits. What does not fit is a Fault `wal-record`, never an over-read.
// `blockDataAt` is the same for the data of a block.

import { fromUtf8 } from '../../base/bytes.ts';
import { type BlockRef, badRecord, type WalRecord } from '../record.ts';

const HIGH = 0x1_0000_0000;

/** Where the main data begins, once it is known to hold `size` bytes. */
export function mainAt(record: WalRecord, size: number, struct: string): number {
  if (record.mainLength < size) {
    throw badRecord(record, `${struct} takes ${size} bytes, the record has ${record.mainLength}`);
  }
  return record.mainOffset;
}

export const mainEnd = (record: WalRecord): number => record.mainOffset + record.mainLength;

/** Where the data of a block begins, once it is known to hold `size` bytes. */
export function blockDataAt(record: WalRecord, block: BlockRef, size: number, struct: string): number {
  if (block.dataLength < size) {
    throw badRecord(record, `${struct} takes ${size} bytes, block ${block.id} has ${block.dataLength}`);
  }
  return block.dataOffset;
}

/** Where `count` items of `itemSize` bytes that begin at `at` end, once they are known to fit. */
export function arrayEnd(
  record: WalRecord,
  at: number,
  count: number,
  itemSize: number,
  what: string,
): number {
  const end = at + count * itemSize;
  if (count < 0 || end > mainEnd(record)) {
    throw badRecord(record, `${count} ${what} do not fit into ${record.mainLength} bytes`);
  }
  return end;
}

/** A signed 64-bit number as Postgres's timestamps are: exact to 2^53, which is the year 2285. */
export function readInt64(view: DataView, at: number): number {
  return view.getInt32(at + 4, true) * HIGH + view.getUint32(at, true);
}

/** An unsigned 64-bit length or LSN half pair; inexact past 2^53, so only for comparing. */
export function readUint64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * HIGH + view.getUint32(at, true);
}

export function readUint32s(view: DataView, at: number, count: number): number[] {
  const values = new Array<number>(count);
  for (let i = 0; i < count; i++) values[i] = view.getUint32(at + i * 4, true);
  return values;
}

/** Text up to a zero byte, or to the end of the main data where there is none, as strnlen has it. */
export function readText(record: WalRecord, at: number, end: number): string {
  const zero = record.bytes.indexOf(0, at);
  return fromUtf8(record.bytes.subarray(at, zero < 0 || zero > end ? end : zero));
}

/** A copy of part of the record, to outlive its buffer. */
export const copyOf = (record: WalRecord, at: number, end: number): Uint8Array => record.bytes.slice(at, end);
