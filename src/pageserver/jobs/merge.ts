// The job of compaction: the blocks of several delta layers over a range of keys -> one section of a new layer, each
// key's values together. What no read can need any more is dropped on the way (keep.ts).
//
// The layers' LSN ranges do not overlap, and they come oldest first: so the values of one key, taken layer by layer,
// are in the order in which the log made them, equal LSNs included.

import type { KeyRange } from '../key.ts';
import { Block, DELTA_BLOCK_BYTES, loadBlock } from '../layers/block.ts';
import { type Section, SectionBuilder } from '../layers/layer-builder.ts';
import { BlockIndex, KeyCounts } from '../layers/layer-format.ts';
import type { ValueVisitor } from '../value.ts';
import { markNeeded, type Readable } from './keep.ts';
import { BlockRun, walkKeys } from './merge-runs.ts';
import { asFloat64, asUint32, openParcel, Parcel } from './parcel.ts';

export interface RunHeader {
  readonly name: string;
  /** Stored lengths of the blocks, which lie end to end in the run's piece. */
  readonly stored: readonly number[];
}

export interface MergeHeader {
  readonly range: KeyRange;
  readonly runs: readonly RunHeader[];
  readonly readable: Readable;
}

/** The blocks of one run's piece. */
export function openRun(header: RunHeader, piece: Uint8Array, range: KeyRange): BlockRun {
  const { stored, name } = header;
  let offset = 0;
  const load = (block: number): Block => {
    const at = offset;
    offset += stored[block]!;
    return new Block(loadBlock(piece.subarray(at, offset), name), name);
  };
  return new BlockRun(stored.length, load, range);
}

export function mergeJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<MergeHeader>(input);
  const runs = header.runs.map((run, i) => openRun(run, pieces[i]!, header.range));
  const builder = new SectionBuilder(DELTA_BLOCK_BYTES);
  const values = new KeyValues();
  walkKeys(runs, (rel, blk, having) => {
    values.count = 0;
    for (const run of having) run.visit(values);
    values.emit(rel, blk, header.readable, builder);
  });
  return packSection(builder.finish());
}

/** The values of one key, oldest first. */
class KeyValues implements ValueVisitor {
  count = 0;
  private readonly lsn: number[] = [];
  private readonly kind: number[] = [];
  private readonly blockId: number[] = [];
  private readonly bytes: Uint8Array[] = [];
  private readonly offset: number[] = [];
  private readonly length: number[] = [];
  private keep = new Uint8Array(1024);

  visit(
    _rel: number,
    _blk: number,
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const i = this.count++;
    this.lsn[i] = lsn;
    this.kind[i] = kind;
    this.blockId[i] = blockId;
    this.bytes[i] = bytes;
    this.offset[i] = offset;
    this.length[i] = length;
  }

  emit(rel: number, blk: number, readable: Readable, builder: SectionBuilder): void {
    if (this.count > this.keep.length) this.keep = new Uint8Array(this.count * 2);
    const { keep } = this;
    markNeeded(this.lsn, this.kind, this.count, readable, keep);
    for (let i = 0; i < this.count; i++) {
      if (keep[i] === 0) continue;
      const bytes = this.bytes[i]!;
      const kind = this.kind[i]!;
      builder.visit(rel, blk, this.lsn[i]!, kind, this.blockId[i]!, bytes, this.offset[i]!, this.length[i]!);
    }
  }
}

// ---- a section on its way back ------------------------------------------------------------------------------

interface SectionHeader {
  readonly valueCount: number;
  readonly dataBytes: number;
}

export function packSection(section: Section): Uint8Array {
  const { index, counts, valueCount, dataBytes, data } = section;
  const header: SectionHeader = { valueCount, dataBytes };
  const columns = [
    index.rel,
    index.blk,
    index.lsn,
    index.stored,
    counts.rel,
    counts.blk,
    counts.edits,
  ] as const;
  const parcel = new Parcel(header, [...columns.map(column => column.byteLength), dataBytes]);
  columns.forEach((column, i) => {
    parcel.fill(i, new Uint8Array(column.buffer, column.byteOffset, column.byteLength));
  });
  let at = 0;
  for (const piece of data) {
    parcel.fill(columns.length, piece, at);
    at += piece.length;
  }
  return parcel.bytes;
}

export function unpackSection(bytes: Uint8Array): Section {
  const { header, pieces } = openParcel<SectionHeader>(bytes);
  const index = new BlockIndex(pieces[0]!.length / 4);
  index.rel.set(asUint32(pieces[0]!));
  index.blk.set(asUint32(pieces[1]!));
  index.lsn.set(asFloat64(pieces[2]!));
  index.stored.set(asUint32(pieces[3]!));
  const counts = new KeyCounts(pieces[4]!.length / 4);
  counts.rel.set(asUint32(pieces[4]!));
  counts.blk.set(asUint32(pieces[5]!));
  counts.edits.set(asUint32(pieces[6]!));
  return { index: index.settle(), counts, ...header, data: [pieces[7]!] };
}
