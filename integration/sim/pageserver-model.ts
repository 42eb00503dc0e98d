// What a pageserver's timelines must answer, in the simplest way there is: every value ever put, in a list by key,
// and pages made by walking the list from its beginning. No layers, no caches, no bases that end a search; the edits
// are written out once more here, not taken from the code under test.
//
//   pages   8192 bytes; header: pd_lsn, pd_lower = pd_upper = 24 on a page that was ever initialised
//   edits   a u32 at slot n (an edit of the pageserver's own), bytes at an offset (a generic WAL record)

import { editBytes, encodeMultiXactOffset } from '../../src/pageserver/edit.ts';
import { REL_SIZES } from '../../src/pageserver/key.ts';
import {
  VALUE_BYTES,
  VALUE_EDIT,
  VALUE_IMAGE,
  VALUE_RECORD,
  VALUE_RECORD_INIT,
} from '../../src/pageserver/value.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { makeRecord } from '../../src/xlog/writer.ts';
import type { SimRandom } from './random.ts';

const BLCKSZ = 8192;
/** Slots and bytes below are the page header's. */
const SLOT_FIRST = 6;
const BYTE_FIRST = 24;

export type ModelPut =
  | { readonly kind: typeof VALUE_IMAGE; readonly page: Uint8Array }
  /** A WAL record with the page's image. */
  | { readonly kind: typeof VALUE_RECORD_INIT; readonly page: Uint8Array }
  | { readonly kind: typeof VALUE_RECORD; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: typeof VALUE_EDIT; readonly slot: number; readonly value: number }
  | { readonly kind: typeof VALUE_BYTES; readonly bytes: Uint8Array };

export interface ModelValue {
  readonly rel: number;
  readonly blk: number;
  readonly lsn: number;
  readonly put: ModelPut;
}

/** Records that became visible together. */
export interface ModelBatch {
  readonly values: readonly ModelValue[];
  readonly lsn: number;
  readonly prev: number;
}

export class ModelTimeline {
  readonly name: string;
  readonly parent: ModelTimeline | undefined;
  readonly branchLsn: number;
  readonly batches: ModelBatch[] = [];
  lastRecordLsn: number;
  prevRecordLsn: number;
  /** Lengths of forks now, for the generator. */
  readonly lengths: Map<number, { length: number; peak: number }>;
  private readonly byKey = new Map<string, ModelValue[]>();

  constructor(name: string, parent: ModelTimeline | undefined, branchLsn: number, prev: number) {
    this.name = name;
    this.parent = parent;
    this.branchLsn = branchLsn;
    this.lastRecordLsn = branchLsn;
    this.prevRecordLsn = prev;
    this.lengths = new Map();
  }

  add(batch: ModelBatch): void {
    this.batches.push(batch);
    for (const value of batch.values) {
      const key = `${value.rel}/${value.blk}`;
      const list = this.byKey.get(key);
      if (list) list.push(value);
      else this.byKey.set(key, [value]);
    }
    this.lastRecordLsn = batch.lsn;
    this.prevRecordLsn = batch.prev;
  }

  /** Takes back the values of the batch added last. */
  forget(values: readonly ModelValue[]): void {
    for (const { rel, blk } of values) this.byKey.get(`${rel}/${blk}`)!.pop();
  }

  /** The records boundaries there are, this timeline's and its parents'. */
  boundaries(): number[] {
    const own = this.batches.map(batch => batch.lsn);
    const older = this.parent?.boundaries().filter(lsn => lsn < this.branchLsn) ?? [];
    return [...older, this.branchLsn, ...own];
  }

  /** Where the record that ends at or before an LSN begins. */
  prevAt(lsn: number): number {
    const own = this.batches.findLast(batch => batch.lsn <= lsn);
    if (own) return own.prev;
    return this.parent?.prevAt(Math.min(lsn, this.branchLsn)) ?? 0;
  }

  values(rel: number, blk: number, lsn: number): ModelValue[] {
    const older = this.parent?.values(rel, blk, Math.min(lsn, this.branchLsn)) ?? [];
    const own = this.byKey.get(`${rel}/${blk}`) ?? [];
    return [...older, ...own.filter(value => value.lsn <= lsn)];
  }

  page(rel: number, blk: number, lsn: number): Uint8Array {
    const page = new Uint8Array(BLCKSZ);
    const view = new DataView(page.buffer);
    const stamp = (at: number): void => {
      view.setUint32(0, Math.floor(at / 2 ** 32), true);
      view.setUint32(4, at % 2 ** 32, true);
    };
    const lsnOf = (): number => view.getUint32(0, true) * 2 ** 32 + view.getUint32(4, true);
    for (const value of this.values(rel, blk, lsn)) {
      const { put } = value;
      const isNew = view.getUint16(14, true) === 0;
      if (put.kind === VALUE_IMAGE) page.set(put.page);
      else if (put.kind === VALUE_RECORD_INIT) {
        page.set(put.page);
        if (view.getUint16(14, true) !== 0) stamp(value.lsn);
      } else if (put.kind === VALUE_EDIT) view.setUint32(put.slot * 4, put.value, true);
      else if (put.kind === VALUE_RECORD && !isNew && lsnOf() < value.lsn) {
        page.set(put.bytes, put.offset);
        stamp(value.lsn);
      }
    }
    return page;
  }

  bytes(rel: number, blk: number, lsn: number): Uint8Array | undefined {
    const newest = this.values(rel, blk, lsn).at(-1);
    return newest?.put.kind === VALUE_BYTES ? newest.put.bytes : undefined;
  }

  /** The length of a fork at an LSN; Infinity where nothing was ever said of it. */
  lengthAt(rel: number, lsn: number): number {
    const bytes = this.bytes(REL_SIZES, rel, lsn);
    if (bytes === undefined) return Infinity;
    return bytes.length === 0 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  /** Keys that hold anything at an LSN, in order. */
  keysAt(lsn: number): { rel: number; blk: number }[] {
    const keys = new Map<string, { rel: number; blk: number }>();
    const collect = (timeline: ModelTimeline, bound: number): void => {
      for (const list of timeline.byKey.values()) {
        const first = list[0]!;
        if (first.lsn <= bound) keys.set(`${first.rel}/${first.blk}`, { rel: first.rel, blk: first.blk });
      }
      if (timeline.parent) collect(timeline.parent, Math.min(bound, timeline.branchLsn));
    };
    collect(this, lsn);
    return [...keys.values()].sort((a, b) => a.rel - b.rel || a.blk - b.blk);
  }
}

/** The bytes that a value has in the pageserver; `at` and `length` say where in `bytes`. */
export function storedBytes(value: ModelValue): { bytes: Uint8Array; length: number } {
  const { put } = value;
  switch (put.kind) {
    case VALUE_IMAGE:
      return { bytes: put.page, length: BLCKSZ };
    case VALUE_BYTES:
      return { bytes: put.bytes, length: put.bytes.length };
    case VALUE_EDIT: {
      const length = encodeMultiXactOffset(put.slot, put.value);
      return { bytes: editBytes(), length };
    }
    case VALUE_RECORD_INIT: {
      const image = { bytes: put.page, holeOffset: 0, holeLength: 0, apply: true };
      const record = makeRecord({ rmid: 0, info: 0xb0, blocks: [block(value, { image })] }, pg17);
      return { bytes: record, length: record.length };
    }
    case VALUE_RECORD: {
      const data = new Uint8Array(4 + put.bytes.length);
      const view = new DataView(data.buffer);
      view.setUint16(0, put.offset, true);
      view.setUint16(2, put.bytes.length, true);
      data.set(put.bytes, 4);
      const record = makeRecord({ rmid: 20, info: 0, blocks: [block(value, { data })] }, pg17);
      return { bytes: record, length: record.length };
    }
  }
}

const block = <T>({ rel, blk }: ModelValue, more: T) => ({
  id: 0,
  spcOid: 1663,
  dbOid: 5,
  relNumber: rel,
  blkno: blk,
  ...more,
});

/** A page as Postgres might leave it: initialised, or (seldom) not. */
export function randomPage(random: SimRandom): Uint8Array {
  const page = new Uint8Array(BLCKSZ);
  if (random.chance(0.1)) return page;
  const view = new DataView(page.buffer);
  view.setUint16(12, 24, true);
  view.setUint16(14, 24, true);
  view.setUint16(16, BLCKSZ, true);
  view.setUint16(18, 8196, true);
  // Some pages compress, some do not.
  const noise = random.chance(0.3) ? BLCKSZ - BYTE_FIRST : 64;
  page.set(random.bytes(noise), BYTE_FIRST);
  return page;
}

export const randomSlot = (random: SimRandom): number => SLOT_FIRST + random.below(2048 - SLOT_FIRST);
export const randomOffset = (random: SimRandom, length: number): number =>
  BYTE_FIRST + random.below(BLCKSZ - BYTE_FIRST - length);
