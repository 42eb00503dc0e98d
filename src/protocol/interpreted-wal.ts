// WAL as a safekeeper interprets it for a pageserver: of each record the values of the blocks that the receiver's
// shard holds, and what it does beyond them. A batch travels as protobuf or bincode, its whole body compressed with
// zstd where that was agreed.
//
//   protobuf   InterpretedWalRecords { records rep 1 | next_record_lsn 2 | raw_wal_start_lsn 3 }
//              InterpretedWalRecord  { metadata_record 1 | batch 2 | next_record_lsn 3 | flush_uncommitted 4 | xid 5 }
//              SerializedValueBatch  { raw 1 | metadata rep 2 | max_lsn 3 | len 4 }
//              ValueMeta             { type 1 | key 2 { high 1 | low 2 } | lsn 3 | batch_offset 4 | len 5 | will_init 6 }
//   value      u32 0 Image    | u64 length | page                              (bincode, inside `raw`)
//              u32 1 Record   | u32 0 Postgres | u8 will_init | u64 length | record as it is in the log
//   key        spc u16 at bit 104 | db u32 at 72 | rel u32 at 40 | fork u8 at 32 | block u32
//
// A value that is only observed (shard 0 of several must know how long relations are) has a key and no bytes.
//
// Answers to libs/wal_decoder/proto/interpreted_wal.proto, wire_format.rs and serialized_batch.rs.

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { concatBytes, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { INVALID_LSN, type Lsn } from '../base/lsn.ts';
import type { RelTag } from '../base/rel.ts';
import { BincodeReader, BincodeWriter } from './bincode.ts';
import type { StreamProtocol } from './commands.ts';
import {
  decodeMetadata,
  encodeMetadata,
  type MetadataRecord,
  readMetadata,
  writeMetadata,
} from './metadata-record.ts';
import { ProtoReader, ProtoWriter } from './protobuf.ts';

export interface ValueMeta {
  readonly rel: RelTag;
  readonly blkno: number;
  readonly lsn: Lsn;
  /** Undefined: observed only. */
  readonly value:
    | { readonly offset: number; readonly length: number; readonly willInit: boolean }
    | undefined;
}

export interface InterpretedRecord {
  readonly metadata: MetadataRecord | undefined;
  /** Values back to back. */
  readonly raw: Uint8Array;
  readonly values: readonly ValueMeta[];
  readonly nextRecordLsn: Lsn;
  readonly flushUncommitted: boolean;
  readonly xid: number;
}

export interface InterpretedBatch {
  readonly records: readonly InterpretedRecord[];
  readonly nextRecordLsn: Lsn;
  /** Where the raw WAL began that these records were taken from. */
  readonly rawWalStartLsn: Lsn | undefined;
}

export type InterpretedFormat = Omit<Extract<StreamProtocol, { type: 'interpreted' }>, 'type'>;

const BATCH_BYTES_MAX = 256 * 1024 * 1024;
const PAGE_BYTES = 8192;

// ------------------------------------------------------------------------------------------------------- values

const VALUE_IMAGE = 0;
const VALUE_RECORD = 1;

/** What goes before a page in `raw`. */
export function imageValueHeader(): Uint8Array {
  return new BincodeWriter(12).variant(VALUE_IMAGE).u64(PAGE_BYTES).finish();
}

/** What goes before a record in `raw`. */
export function recordValueHeader(willInit: boolean, length: number): Uint8Array {
  return new BincodeWriter(17).variant(VALUE_RECORD).variant(0).bool(willInit).u64(length).finish();
}

export type BlockValue =
  | { readonly kind: 'image'; readonly page: Uint8Array }
  | { readonly kind: 'record'; readonly willInit: boolean; readonly record: Uint8Array };

export function readValue(bytes: Uint8Array): BlockValue {
  const r = new BincodeReader(bytes);
  if (r.u32() === VALUE_IMAGE) return { kind: 'image', page: r.bytes() };
  if (r.u32() !== 0) throw new Fault('protocol-violation', 'a value that is neither a page nor a record');
  return { kind: 'record', willInit: r.bool(), record: r.bytes() };
}

const HIGH = 0x1_0000_0000n;

/** A block's key as two halves of 64 bits. */
export function compactKey(rel: RelTag, blkno: number): { readonly high: bigint; readonly low: bigint } {
  const middle = BigInt(rel.dbOid);
  const number = BigInt(rel.relNumber);
  // Bits 64 to 127: spc at 40 of it, db at 8, the top byte of rel; then the rest of rel, fork, block.
  const high = (BigInt(rel.spcOid & 0xffff) << 40n) | (middle << 8n) | (number >> 24n);
  const low = ((number & 0xffffffn) << 40n) | (BigInt(rel.forkNum) << 32n) | BigInt(blkno);
  return { high, low };
}

export function fromCompactKey(high: bigint, low: bigint): { rel: RelTag; blkno: number } {
  return {
    rel: {
      spcOid: Number((high >> 40n) & 0xffffn),
      dbOid: Number((high >> 8n) % HIGH),
      relNumber: Number(((high & 0xffn) << 24n) | (low >> 40n)),
      forkNum: Number((low >> 32n) & 0xffn),
    },
    blkno: Number(low % HIGH),
  };
}

const maxLsnOf = (r: InterpretedRecord): Lsn => (r.values.some(v => v.value) ? r.nextRecordLsn : INVALID_LSN);
const countOf = (r: InterpretedRecord): number => r.values.filter(v => v.value).length;

// ------------------------------------------------------------------------------------------------------- a batch

export function encodeBatch(batch: InterpretedBatch, { format, zstdLevel }: InterpretedFormat): Uint8Array {
  const body = format === 'protobuf' ? toProtobuf(batch) : toBincode(batch);
  if (zstdLevel === undefined) return body;
  return zstdCompressSync(body, { params: { [constants.ZSTD_c_compressionLevel]: zstdLevel } });
}

export function decodeBatch(bytes: Uint8Array, { format, zstdLevel }: InterpretedFormat): InterpretedBatch {
  const body =
    zstdLevel === undefined ? bytes : zstdDecompressSync(bytes, { maxOutputLength: BATCH_BYTES_MAX });
  return format === 'protobuf' ? fromProtobuf(body) : fromBincode(body);
}

function toProtobuf(batch: InterpretedBatch): Uint8Array {
  const w = new ProtoWriter(4096);
  for (const record of batch.records) w.message(1, inner => recordToProtobuf(inner, record));
  w.alwaysUint(2, batch.nextRecordLsn);
  if (batch.rawWalStartLsn !== undefined) w.alwaysUint(3, batch.rawWalStartLsn);
  return w.finish();
}

function recordToProtobuf(w: ProtoWriter, r: InterpretedRecord): void {
  if (r.metadata) w.alwaysBytes(1, encodeMetadata(r.metadata));
  w.message(2, batch => {
    batch.bytesField(1, r.raw);
    for (const value of r.values) batch.message(2, meta => metaToProtobuf(meta, value));
    batch.uint(3, maxLsnOf(r)).uint(4, countOf(r));
  });
  w.uint(3, r.nextRecordLsn).bool(4, r.flushUncommitted).uint(5, r.xid);
}

function metaToProtobuf(w: ProtoWriter, { rel, blkno, lsn, value }: ValueMeta): void {
  const key = compactKey(rel, blkno);
  w.uint(1, value ? 0 : 1);
  w.message(2, inner => inner.bigint(1, key.high).bigint(2, key.low));
  w.uint(3, lsn);
  if (value)
    w.alwaysUint(4, value.offset)
      .alwaysUint(5, value.length)
      .alwaysUint(6, value.willInit ? 1 : 0);
}

function fromProtobuf(bytes: Uint8Array): InterpretedBatch {
  const r = new ProtoReader(bytes);
  const records: InterpretedRecord[] = [];
  let nextRecordLsn = INVALID_LSN;
  let rawWalStartLsn: Lsn | undefined;
  while (r.next()) {
    if (r.field === 1) records.push(recordFromProtobuf(r.message()));
    else if (r.field === 2) nextRecordLsn = r.lsn();
    else if (r.field === 3) rawWalStartLsn = r.lsn();
    else r.skip();
  }
  return { records, nextRecordLsn, rawWalStartLsn };
}

function recordFromProtobuf(r: ProtoReader): InterpretedRecord {
  let metadata: MetadataRecord | undefined;
  let raw: Uint8Array = new Uint8Array(0);
  let nextRecordLsn = INVALID_LSN;
  let flushUncommitted = false;
  let xid = 0;
  const values: ValueMeta[] = [];
  while (r.next()) {
    if (r.field === 1) metadata = decodeMetadata(r.bytes());
    else if (r.field === 2) {
      const batch = r.message();
      while (batch.next()) {
        if (batch.field === 1) raw = batch.bytes();
        else if (batch.field === 2) values.push(metaFromProtobuf(batch.message()));
        else batch.skip();
      }
    } else if (r.field === 3) nextRecordLsn = r.lsn();
    else if (r.field === 4) flushUncommitted = r.bool();
    else if (r.field === 5) xid = r.uint();
    else r.skip();
  }
  return { metadata, raw, values, nextRecordLsn, flushUncommitted, xid };
}

function metaFromProtobuf(r: ProtoReader): ValueMeta {
  let [high, low] = [0n, 0n];
  let lsn = INVALID_LSN;
  let observed = false;
  let [offset, length, willInit] = [0, 0, false];
  while (r.next()) {
    if (r.field === 1) observed = r.uint() === 1;
    else if (r.field === 2) {
      const key = r.message();
      while (key.next()) {
        if (key.field === 1) high = key.bigint();
        else if (key.field === 2) low = key.bigint();
        else key.skip();
      }
    } else if (r.field === 3) lsn = r.lsn();
    else if (r.field === 4) offset = r.uint();
    else if (r.field === 5) length = r.uint();
    else if (r.field === 6) willInit = r.bool();
    else r.skip();
  }
  return { ...fromCompactKey(high, low), lsn, value: observed ? undefined : { offset, length, willInit } };
}

function toBincode(batch: InterpretedBatch): Uint8Array {
  const w = new BincodeWriter(4096);
  w.list(batch.records, r => {
    w.option(r.metadata, m => writeMetadata(w, m));
    w.bytes(r.raw).list(r.values, v => metaToBincode(w, v));
    w.lsn(maxLsnOf(r)).u64(countOf(r)).lsn(r.nextRecordLsn);
    w.variant(r.flushUncommitted ? 0 : 1).u32(r.xid);
  });
  w.lsn(batch.nextRecordLsn).option(batch.rawWalStartLsn, v => w.lsn(v));
  return w.finish();
}

function metaToBincode(w: BincodeWriter, { rel, blkno, lsn, value }: ValueMeta): void {
  const key = compactKey(rel, blkno);
  w.variant(value ? 0 : 1)
    .u64big(key.high)
    .u64big(key.low)
    .lsn(lsn);
  if (value) w.u64(value.offset).u64(value.length).bool(value.willInit);
}

function fromBincode(bytes: Uint8Array): InterpretedBatch {
  const r = new BincodeReader(bytes);
  const records = r.list((): InterpretedRecord => {
    const metadata = r.option(() => readMetadata(r));
    const raw = r.bytes();
    const values = r.list(() => metaFromBincode(r));
    r.lsn();
    r.u64();
    return { metadata, raw, values, nextRecordLsn: r.lsn(), flushUncommitted: r.u32() === 0, xid: r.u32() };
  });
  const batch = { records, nextRecordLsn: r.lsn(), rawWalStartLsn: r.option(r.lsn) };
  r.finish();
  return batch;
}

function metaFromBincode(r: BincodeReader): ValueMeta {
  const observed = r.u32() === 1;
  const key = fromCompactKey(r.u64big(), r.u64big());
  const lsn = r.lsn();
  if (observed) return { ...key, lsn, value: undefined };
  return { ...key, lsn, value: { offset: r.u64(), length: r.u64(), willInit: r.bool() } };
}

/** A page image of a record, whole: the hole put back, the LSN stamped unless the page is new. */
export function wholePage(image: Uint8Array, holeOffset: number, holeLength: number, lsn: Lsn): Uint8Array {
  const page =
    holeLength === 0
      ? image.slice()
      : concatBytes([image.subarray(0, holeOffset), new Uint8Array(holeLength), image.subarray(holeOffset)]);
  const view = viewOf(page);
  // PageIsNew: pd_upper is 0.
  if (view.getUint16(14, true) !== 0) {
    view.setUint32(0, Math.floor(lsn / 0x1_0000_0000), true);
    view.setUint32(4, lsn % 0x1_0000_0000, true);
  }
  return page;
}
