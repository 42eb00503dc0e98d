// Pages with histories of a wanted depth: an image each, and then edits as a heap leaves them, records of Postgres's
// own form (insertions until the page is full, then changes in place), in random order over the pages.

import { REL_RELATIONS_FIRST } from '../../src/pageserver/key.ts';
import { IMAGE_BLOCK_BYTES } from '../../src/pageserver/layers/block.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { layerTail, SectionBuilder } from '../../src/pageserver/layers/layer-builder.ts';
import { describeLayer } from '../../src/pageserver/layers/layer-name.ts';
import type { LayerStore } from '../../src/pageserver/timeline/store.ts';
import type { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { VALUE_IMAGE, VALUE_RECORD } from '../../src/pageserver/value.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { BLCKSZ, newPage, pageInit } from '../../src/xlog/page.ts';
import { makeRecord } from '../../src/xlog/writer.ts';
import { SimRandom } from '../sim/random.ts';

export const REL = REL_RELATIONS_FIRST;
const RM_HEAP_ID = 10;
const XLOG_HEAP_INSERT = 0x00;
const XLOG_HEAP_INPLACE = 0x70;
const TUPLE_BYTES = 72;
const TUPLES = 60;

const place = (blkno: number) => ({ id: 0, spcOid: 1663, dbOid: 5, relNumber: 16384, blkno });

/** Edit `nth` of a page, from 0: a new tuple, or another value in one that is there. */
function editRecord(blkno: number, nth: number, random: SimRandom): Uint8Array {
  const tuple = random.bytes(TUPLE_BYTES);
  const main = new Uint8Array(3);
  const view = new DataView(main.buffer);
  view.setUint16(0, (nth % TUPLES) + 1, true);
  if (nth >= TUPLES) {
    const blocks = [{ ...place(blkno), data: tuple }];
    return makeRecord({ rmid: RM_HEAP_ID, info: XLOG_HEAP_INPLACE, main: main.subarray(0, 2), blocks }, pg17);
  }
  // xl_heap_header: infomask2 u16, infomask u16, hoff u8; a tuple's bytes after its 23 fixed ones
  const data = new Uint8Array(5 + 1 + TUPLE_BYTES);
  data.set([2, 0, 2, 8, 24, 0]);
  data.set(tuple, 6);
  return makeRecord(
    { rmid: RM_HEAP_ID, info: XLOG_HEAP_INSERT, main, blocks: [{ ...place(blkno), data }] },
    pg17,
  );
}

/** In a file of `imageLayers`. */
const FILE_PAGES = 64 * 1024;

/**
 * Dense image layers of so many pages, written straight into the store: what a large tenant is once it was imported
 * and compacted, without the time that takes. `noise` bytes of each page do not compress.
 */
export async function imageLayers(store: LayerStore, pages: number, noise: number): Promise<LayerDesc[]> {
  const random = new SimRandom(4);
  const page = newPage();
  pageInit(page, 0);
  const layers: LayerDesc[] = [];
  for (let from = 0; from < pages; from += FILE_PAGES) {
    const to = Math.min(pages, from + FILE_PAGES);
    const keys = { start: { rel: REL, blk: from }, end: { rel: REL, blk: to } };
    const { generation } = store;
    const identity = { kind: 'image', sparse: false, keys, lsnStart: 8, lsnEnd: 9, generation } as const;
    const builder = new SectionBuilder(IMAGE_BLOCK_BYTES);
    for (let blk = from; blk < to; blk++) {
      page.bytes.set(random.bytes(noise), BLCKSZ - noise);
      builder.visit(REL, blk, 8, VALUE_IMAGE, 0, page.bytes, 0, BLCKSZ);
    }
    const section = builder.finish();
    const desc = describeLayer(identity, random.below(0x1_0000_0000), 0);
    const writer = await store.create(desc.name);
    for (const piece of [...section.data, layerTail(identity, [section])]) await writer.write(piece);
    layers.push({ ...desc, bytes: await writer.finish() });
  }
  return layers;
}

export class PageHistory {
  readonly pages: number;
  private readonly timeline: Timeline;
  private readonly random = new SimRandom(4);
  private readonly edits: Uint32Array;
  private readonly prefix: number;

  constructor(timeline: Timeline, pages: number, rel = REL) {
    this.timeline = timeline;
    this.pages = pages;
    this.edits = new Uint32Array(pages);
    this.prefix = rel;
  }

  /** An image of each page; `noise` bytes of it do not compress. */
  async images(noise = 0): Promise<void> {
    const writer = this.timeline.writer();
    const page = newPage();
    let lsn = this.timeline.lastRecordLsn;
    for (let blk = 0; blk < this.pages; blk++) {
      pageInit(page, 0);
      if (noise > 0) page.bytes.set(this.random.bytes(noise), BLCKSZ - noise);
      lsn += 8;
      writer.put(this.prefix, blk, lsn, VALUE_IMAGE, 0, page.bytes, 0, BLCKSZ);
      if (blk % 256 === 255) await this.advance(lsn);
    }
    await this.advance(lsn);
  }

  private order(share: number): number[] {
    const all = Array.from({ length: this.pages }, (_, blk) => blk);
    return share === 1 ? all : all.filter(() => this.random.chance(share));
  }

  /** So many edits on each page (or on a share of them), round after round, in random order. */
  async addEdits(each: number, share = 1): Promise<void> {
    const writer = this.timeline.writer();
    let lsn = this.timeline.lastRecordLsn;
    const order = this.order(share);
    for (let round = 0; round < each; round++) {
      for (let i = order.length - 1; i > 0; i--) {
        const j = this.random.below(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      let taken = 0;
      for (const blk of order) {
        const record = editRecord(blk, this.edits[blk]!++, this.random);
        lsn += Math.ceil(record.length / 8) * 8;
        writer.put(this.prefix, blk, lsn, VALUE_RECORD, 0, record, 0, record.length);
        if (++taken % 1000 === 0) await this.advance(lsn);
      }
      await this.advance(lsn);
    }
  }

  private async advance(lsn: number): Promise<void> {
    const writer = this.timeline.writer();
    writer.advance(lsn, lsn - 8);
    await writer.ready();
  }
}
