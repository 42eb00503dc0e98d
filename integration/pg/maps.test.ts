// Visibility and free space maps, judged by stock Postgres 14 to 18: where a block's entry lies, which bits a
// change takes away, and what is left of a map when its relation is cut.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  FSM_SLOTS_PER_PAGE,
  fsmBlockOf,
  fsmLogicalToPhysical,
  fsmTruncatePage,
  fsmTruncation,
  vmClear,
  vmStatus,
  vmTruncatePage,
  vmTruncation,
} from '../../src/xlog/derived.ts';
import { BLCKSZ, PAGE_HEADER_SIZE, type Page, pageOver } from '../../src/xlog/page.ts';
import { STOCK_MAJORS, StockPostgres } from './stock.ts';

/** More heap blocks than one bottom page of the free space map covers. */
const HEAP_BLOCKS = 4300;
const FP_NODES = PAGE_HEADER_SIZE + 4;
const FIRST_LEAF = FP_NODES + BLCKSZ / 2 - 1;

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let postgres: StockPostgres;
  beforeAll(async () => {
    postgres = await StockPostgres.start(major, { settings: { autovacuum: 'off' } });
    await postgres.sql('create extension pageinspect; create extension pg_freespacemap');
    await postgres.sql('create extension pg_visibility');
    await postgres.sql(`create table t (id int, filler text) with (fillfactor = 10);
      alter table t alter filler set storage plain`);
    // One row to a block, and rows of many sizes, so that every slot of the map says something else.
    await postgres.sql(
      `insert into t select i, repeat('x', 700 + 21 * (i % 300)) from generate_series(1, ${HEAP_BLOCKS}) i`,
    );
    await postgres.sql('vacuum (freeze, truncate false) t');
    const [{ blocks }] = await postgres.sql(`select pg_relation_size('t') / ${BLCKSZ} as blocks`);
    expect(Number(blocks)).toBe(HEAP_BLOCKS);
  });
  afterAll(() => postgres?.destroy());

  async function pages(fork: 'vm' | 'fsm'): Promise<Page[]> {
    const rows = await postgres.sql(`select get_raw_page('t', '${fork}', b::int) as page
      from generate_series(0, pg_relation_size('t', '${fork}') / ${BLCKSZ} - 1) b`);
    return rows.map(({ page }) => pageOver(new Uint8Array(page)));
  }

  test("a block's entries are where we look", async () => {
    const fsm = await pages('fsm');
    expect(fsm.length).toBe(fsmLogicalToPhysical(0, 1) + 1);
    const free = await postgres.sql(`select blkno::int, avail::int from pg_freespace('t')`);
    for (const { blkno, avail } of free) {
      const leaf = FIRST_LEAF + (blkno % FSM_SLOTS_PER_PAGE);
      expect(fsm[fsmBlockOf(blkno)]!.bytes[leaf]! * 32).toBe(avail);
    }
    expect(new Set(free.map(r => r.avail)).size).toBeGreaterThan(100);
    // The pages above hold the largest value below, each in its place.
    const middle = fsm[fsmLogicalToPhysical(1, 0)]!;
    expect(middle.bytes[FIRST_LEAF]).toBe(fsm[fsmLogicalToPhysical(0, 0)]!.bytes[FP_NODES]);
    expect(middle.bytes[FIRST_LEAF + 1]).toBe(fsm[fsmLogicalToPhysical(0, 1)]!.bytes[FP_NODES]);

    const vm = await pages('vm');
    const visible = await postgres.sql(
      `select blkno::int, all_visible, all_frozen from pg_visibility_map('t')`,
    );
    for (const { blkno, all_visible, all_frozen } of visible) {
      expect(vmStatus(vm[0]!, blkno)).toBe((all_visible ? 1 : 0) | (all_frozen ? 2 : 0));
    }
    expect(visible.every(r => r.all_frozen)).toBe(true);
  });

  test('a delete takes both bits, a lock the frozen one', async () => {
    const [vm] = await pages('vm');
    await postgres.sql('delete from t where id in (7, 8, 4000)');
    await postgres.sql('select * from t where id = 13 for update');
    for (const id of [7, 8, 4000]) expect(vmClear(vm!, id - 1, 3)).toBe(true);
    expect(vmClear(vm!, 13 - 1, 2)).toBe(true);
    expect(vmClear(vm!, 13 - 1, 2)).toBe(false);
    expect(map(vm!)).toEqual(map((await pages('vm'))[0]!));
    await postgres.sql('vacuum (freeze, truncate false) t');
  });

  // Into the second bottom page of the free space map, onto the boundary, into the first page.
  for (const blocks of [4107, FSM_SLOTS_PER_PAGE, 4002]) {
    test(`a relation cut to ${blocks} blocks`, async () => {
      await postgres.sql(`delete from t where id > ${blocks}`);
      await postgres.sql('vacuum (freeze, truncate false) t');
      const vm = await pages('vm');
      const fsm = await pages('fsm');
      const truncation = fsmTruncation(blocks);
      await postgres.sql('vacuum (freeze, truncate true) t');
      const [{ left }] = await postgres.sql(`select pg_relation_size('t') / ${BLCKSZ} as left`);
      expect(Number(left)).toBe(blocks);

      expect(vmTruncation(blocks)).toEqual({ nblocks: 1, cutBlock: 0 });
      vmTruncatePage(vm[0]!, blocks);
      expect(map(vm[0]!)).toEqual(map((await pages('vm'))[0]!));

      const cut = await pages('fsm');
      expect(cut.length).toBe(Math.min(fsm.length, truncation.nblocks));
      if (truncation.cutBlock === undefined) return;
      const ours = fsm[truncation.cutBlock]!;
      fsmTruncatePage(ours, blocks);
      expect(
        Buffer.from(ours.bytes.subarray(FP_NODES)).equals(cut[truncation.cutBlock]!.bytes.subarray(FP_NODES)),
      ).toBe(true);
    });
  }
});

const map = (page: Page): string => Buffer.from(page.bytes.subarray(PAGE_HEADER_SIZE)).toString('hex');
