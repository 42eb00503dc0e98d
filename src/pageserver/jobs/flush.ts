// The job of a flush: a memory layer, packed as it lies in memory -> the whole file of a layer of level 0. The job
// of a tail: sections made elsewhere -> what follows their data in the file.
//
// Level 0 is not compressed: it lives until the next merge, and zstd was half of what a flush and a third of what a
// merge took, while the log waits.

import type { SpareBuffers } from '../../base/spare-buffers.ts';
import { ALL_KEYS } from '../key.ts';
import { DELTA_BLOCK_BYTES } from '../layers/block.ts';
import { layerTail, type Section, SectionBuilder } from '../layers/layer-builder.ts';
import { BlockIndex, KeyCounts } from '../layers/layer-format.ts';
import type { LayerIdentity } from '../layers/layer-name.ts';
import { type MemoryColumns, MemoryLayer } from '../layers/memory-layer.ts';
import { asFloat64, asInt32, asUint16, asUint32, openParcel, Parcel } from './parcel.ts';

export interface FlushHeader {
  readonly identity: LayerIdentity;
  readonly entries: number;
  readonly keys: number;
}

/** The parcel of a frozen layer, in turns: `turn` is awaited again and again. */
export async function packMemoryLayer(
  layer: MemoryLayer,
  identity: LayerIdentity,
  turn: () => Promise<void>,
  spares: SpareBuffers,
): Promise<Uint8Array> {
  const columns = layer.columns();
  const { slotRel, slotBlk, slotHead, lsn, chunk, offset, length, meta, previous, chunks } = columns;
  const arrays = [slotRel, slotBlk, slotHead, lsn, chunk, offset, length, meta, previous];
  const header: FlushHeader = { identity, entries: columns.entries, keys: columns.keys };
  const pieces = [...arrays, ...chunks];
  const parcel = new Parcel(
    header,
    pieces.map(piece => piece.byteLength),
    bytes => spares.take(bytes),
  );
  let copied = 0;
  for (let i = 0; i < pieces.length; i++) {
    const { buffer, byteOffset, byteLength } = pieces[i]!;
    for (let at = 0; at < byteLength; at += TURN_BYTES) {
      const part = Math.min(TURN_BYTES, byteLength - at);
      parcel.fill(i, new Uint8Array(buffer, byteOffset + at, part), at);
      if ((copied += part) < TURN_BYTES) continue;
      copied = 0;
      await turn();
    }
  }
  return parcel.bytes;
}

/** Copied between two turns of the event loop: 0.1 ms, or over a millisecond where the memory is new to the process. */
const TURN_BYTES = 256 * 1024;

export function flushJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<FlushHeader>(input);
  const columns: MemoryColumns = {
    entries: header.entries,
    keys: header.keys,
    slotRel: asUint32(pieces[0]!),
    slotBlk: asUint32(pieces[1]!),
    slotHead: asInt32(pieces[2]!),
    lsn: asFloat64(pieces[3]!),
    chunk: asUint32(pieces[4]!),
    offset: asUint32(pieces[5]!),
    length: asUint32(pieces[6]!),
    meta: asUint16(pieces[7]!),
    previous: asInt32(pieces[8]!),
    chunks: pieces.slice(9),
  };
  const { identity } = header;
  const builder = new SectionBuilder(DELTA_BLOCK_BYTES, false);
  MemoryLayer.over(columns, identity.lsnStart, identity.lsnEnd).scan(ALL_KEYS, 0, Infinity, builder);
  const section = builder.finish();
  const tail = layerTail(identity, [section]);
  const file = new Uint8Array(section.dataBytes + tail.length);
  let at = 0;
  for (const piece of [...section.data, tail]) {
    file.set(piece, at);
    at += piece.length;
  }
  return file;
}

export interface TailHeader {
  readonly identity: LayerIdentity;
  readonly sections: readonly { readonly valueCount: number; readonly dataBytes: number }[];
}

type SectionOutline = Pick<Section, 'index' | 'counts' | 'valueCount' | 'dataBytes'>;

export function packTail(identity: LayerIdentity, sections: readonly SectionOutline[]): Uint8Array {
  const header: TailHeader = {
    identity,
    sections: sections.map(({ valueCount, dataBytes }) => ({ valueCount, dataBytes })),
  };
  return Parcel.of(
    header,
    sections.flatMap(({ index, counts }) => [
      index.rel,
      index.blk,
      index.lsn,
      index.stored,
      counts.rel,
      counts.blk,
      counts.edits,
    ]),
  );
}

export function tailJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<TailHeader>(input);
  const sections = header.sections.map((section, i): SectionOutline => {
    const [rel, blk, lsn, stored, keyRel, keyBlk, edits] = pieces.slice(7 * i, 7 * i + 7);
    const index = new BlockIndex(rel!.length / 4);
    index.rel.set(asUint32(rel!));
    index.blk.set(asUint32(blk!));
    index.lsn.set(asFloat64(lsn!));
    index.stored.set(asUint32(stored!));
    const counts = new KeyCounts(keyRel!.length / 4);
    counts.rel.set(asUint32(keyRel!));
    counts.blk.set(asUint32(keyBlk!));
    counts.edits.set(asUint32(edits!));
    return { ...section, index, counts };
  });
  return layerTail(header.identity, sections);
}
