import { expect, test } from 'vitest';
import { SimDisk } from '../../../integration/sim/disk.ts';
import { simEngine } from '../../../integration/sim/engine.ts';
import { SimFileKeys } from '../../../integration/sim/file-keys.ts';
import { SimRandom } from '../../../integration/sim/random.ts';
import { Fault } from '../../base/fault.ts';
import { timelineId } from '../../base/ids.ts';
import { openVault } from '../../seal/disk-vault.ts';
import { pg17 } from '../../xlog/dialects/17.ts';
import { BLCKSZ } from '../../xlog/page.ts';
import { applyEdit, editBytes, encodeMultiXactOffset } from '../edit.ts';
import type { EngineSettings } from '../engine-settings.ts';
import { ALL_KEYS } from '../key.ts';
import { VALUE_EDIT, VALUE_IMAGE } from '../value.ts';
import { checkState } from './invariants.ts';
import { type LayerStore, vaultStore } from './store.ts';
import { Timeline } from './timeline.ts';

const REL = 1024;
const SCOPE = { tenant: '11'.repeat(16), timeline: '22'.repeat(16) };

class Bed {
  readonly disk = new SimDisk({ random: new SimRandom(1) });
  readonly vault = openVault({
    disk: this.disk,
    directory: 'timeline',
    scope: SCOPE,
    keys: new SimFileKeys(SCOPE.tenant, new SimRandom(2)),
    random: new SimRandom(3),
  });
  readonly engine;
  readonly timeline: Timeline;
  lsn = 1000;

  constructor(settings: Partial<EngineSettings> = {}, store: Partial<LayerStore> = {}) {
    this.engine = simEngine({ settings: { pageCachePages: 1, blockCacheBytesMax: 1, ...settings } });
    this.timeline = new Timeline({
      id: timelineId(SCOPE.timeline),
      engine: this.engine,
      redo: { dialect: pg17, applyEdit },
      store: { ...vaultStore(this.vault, 1), ...store },
      lastRecordLsn: this.lsn,
      prevRecordLsn: 0,
      uploads: true,
    });
  }

  image(blk: number, byte: number): this {
    this.lsn += 8;
    const page = new Uint8Array(BLCKSZ).fill(byte);
    this.timeline.writer().put(REL, blk, this.lsn, VALUE_IMAGE, 0, page, 0, BLCKSZ);
    return this.advance();
  }

  edit(blk: number, slot: number, value: number): this {
    this.lsn += 8;
    const length = encodeMultiXactOffset(slot, value);
    this.timeline.writer().put(REL, blk, this.lsn, VALUE_EDIT, 0, editBytes(), 0, length);
    return this.advance();
  }

  advance(): this {
    this.timeline.writer().advance(this.lsn, this.lsn - 8);
    return this;
  }

  async byte(blk: number, lsn = this.lsn): Promise<number> {
    return (await this.timeline.getPage(REL, blk, lsn))[100]!;
  }

  get counts(): string {
    const { layers } = this.timeline.state;
    const of = (kind: string, sparse: boolean): number =>
      layers.placed.filter(({ desc }) => desc.kind === kind && desc.sparse === sparse).length;
    return `L0 ${layers.l0.length}, L1 ${of('delta', false)}, sparse ${of('image', true)}, dense ${of('image', false)}`;
  }
}

const until = async (condition: () => boolean): Promise<void> => {
  for (let turns = 0; !condition(); turns++) {
    if (turns > 2000) throw new Error('it never came to be');
    await new Promise<void>(resolve => setImmediate(resolve));
  }
};

test('a flush, a merge, images and a restart leave every page as it was', async () => {
  const bed = new Bed();
  bed.image(1, 10).image(2, 20);
  await bed.timeline.freezeAndFlush();
  for (let i = 0; i < 6; i++) bed.edit(1, 25, 0x01010101 * i);
  await bed.timeline.freezeAndFlush();
  bed.edit(2, 25, 0x07070707);
  await bed.timeline.freezeAndFlush();
  expect(bed.counts).toBe('L0 3, L1 0, sparse 0, dense 0');
  expect([await bed.byte(1), await bed.byte(2), await bed.byte(3)]).toEqual([5, 7, 0]);
  expect(await bed.timeline.compact()).toEqual({ merged: 3, hotPages: 1, denseLayers: 0 });
  expect(bed.counts).toBe('L0 0, L1 1, sparse 1, dense 0');
  expect([await bed.byte(1), await bed.byte(2), await bed.byte(1, 1016)]).toEqual([5, 7, 10]);
  await bed.timeline.compact({ forceImages: true });
  expect(bed.counts).toBe('L0 0, L1 1, sparse 1, dense 1');
  const { removed } = await bed.timeline.gc(bed.lsn, []);
  expect(removed.length).toBe(2);
  expect([await bed.byte(1), await bed.byte(2)]).toEqual([5, 7]);
  checkState(bed.timeline.state, 0);
});

test('what is put and not yet advanced over holds back a freeze, and no longer than that', async () => {
  const bed = new Bed();
  bed.image(1, 10);
  bed.timeline.writer().put(REL, 2, bed.lsn + 8, VALUE_IMAGE, 0, new Uint8Array(BLCKSZ).fill(9), 0, BLCKSZ);
  let isFlushed = false;
  const flush = bed.timeline.freezeAndFlush().then(() => {
    isFlushed = true;
  });
  await new Promise<void>(resolve => setImmediate(resolve));
  expect(isFlushed).toBe(false);
  bed.lsn += 8;
  bed.advance();
  await flush;
  expect(bed.timeline.diskConsistentLsn).toBe(bed.lsn);
  expect(bed.timeline.state.diskConsistentPrev).toBe(bed.lsn - 8);
});

test('a flush that waits for an advance that never comes ends with the timeline', async () => {
  const bed = new Bed();
  bed.timeline.writer().put(REL, 2, bed.lsn + 8, VALUE_IMAGE, 0, new Uint8Array(BLCKSZ), 0, BLCKSZ);
  const flush = bed.timeline.freezeAndFlush();
  await bed.timeline.close();
  await expect(flush).rejects.toMatchObject({ code: 'shutting-down' });
});

test('records without values move the disk-consistent LSN as well', async () => {
  const changes: number[] = [];
  const bed: Bed = new Bed({}, { changed: () => void changes.push(bed.timeline.diskConsistentLsn) });
  bed.lsn += 80;
  bed.advance();
  await bed.timeline.freezeAndFlush();
  expect(bed.timeline.diskConsistentLsn).toBe(bed.lsn);
  expect(changes).toEqual([bed.lsn]);
  expect(bed.counts).toBe('L0 0, L1 0, sparse 0, dense 0');
});

test('by itself it flushes what is full, merges what is many and images what is hot', async () => {
  const bed = new Bed({ background: true, memoryLayerBytesMax: 40_000, checkpointDistance: 1e9 });
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 6; i++) bed.image(10 + i, round).edit(1, 25, 0x01010101 * round);
    await bed.timeline.writer().ready();
  }
  await until(() => bed.timeline.state.frozen.length === 0 && bed.timeline.state.layers.l0.length < 3);
  await bed.timeline.upkeep.idle();
  expect(bed.timeline.upkeep.totals.compactions).toBeGreaterThan(0);
  expect(bed.timeline.upkeep.totals.hotPages).toBeGreaterThan(0);
  expect(await bed.byte(1)).toBe(5);
  for (let i = 0; i < 6; i++) expect(await bed.byte(10 + i)).toBe(5);
});

test.each([
  ['memory', { memoryBytesMax: 20_000, memoryLayerBytesMax: 1e9 }],
  ['l0', { l0CountMax: 2, compactionThreshold: 4, memoryLayerBytesMax: 9000 }],
] as const)('at the limit of %s the writer waits until there is room', async (limit, settings) => {
  const bed = new Bed({ background: true, checkpointDistance: 1e9, ...settings });
  for (let i = 0; i < 12; i++) {
    bed.image(i, i);
    await until(() => bed.timeline.state.frozen.length === 0);
    await bed.timeline.writer().ready();
    expect(bed.timeline.pressure.limit()).toBeUndefined();
  }
  expect(bed.timeline.pressure.waits[limit].count).toBeGreaterThan(0);
  expect(await bed.byte(3)).toBe(3);
});

test('an object store that lags holds the writer back, until it follows or the wait is called off', async () => {
  const bed = new Bed({ background: true, uploadLagBytesMax: 50 });
  for (let i = 0; i < 10; i++) bed.image(i, i);
  await bed.timeline.freezeAndFlush();
  const called = new AbortController();
  const off = bed.timeline.writer().ready(called.signal);
  await until(() => bed.timeline.pressure.waitingFor === 'upload-lag');
  called.abort(new Error('called off'));
  await expect(off).rejects.toThrow('called off');
  const ready = bed.timeline.writer().ready();
  bed.timeline.setRemoteConsistentLsn(bed.lsn);
  await ready;
});

async function damaged(repair: boolean): Promise<{ bed: Bed; asked: string[] }> {
  const asked: string[] = [];
  const kept = new Map<string, Uint8Array>();
  const bed: Bed = new Bed(
    {},
    {
      damaged: async ({ name }) => {
        asked.push(name);
        if (repair) bed.disk.plant(`timeline/${name}`, kept.get(name)!);
        return repair;
      },
    },
  );
  bed.image(1, 10);
  await bed.timeline.freezeAndFlush();
  bed.image(2, 20);
  await bed.timeline.freezeAndFlush();
  for (let i = 3; i < 6; i++) {
    bed.image(i, i * 10);
    await bed.timeline.freezeAndFlush();
  }
  const { name } = bed.timeline.state.layers.l0.at(-2)!.desc;
  await bed.timeline.forgetOpen(name);
  kept.set(name, (await bed.disk.readFile(`timeline/${name}`)).slice());
  bed.disk.rot(`timeline/${name}`, 700);
  return { bed, asked };
}

test('a damaged layer concerns who needs it, by name; the rest is read and merged around it', async () => {
  const { bed, asked } = await damaged(false);
  const { name } = bed.timeline.state.layers.l0.at(-2)!.desc;
  const error = await bed.byte(2).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Fault);
  expect((error as Fault).kind).toBe('corrupt');
  expect((error as Fault).message).toContain(name);
  expect(asked).toEqual([name]);
  expect([await bed.byte(3), await bed.byte(4)]).toEqual([30, 40]);
  // Of page 1 nobody can say any more whether it was written to in there.
  await expect(bed.byte(1)).rejects.toThrow(name);
  expect(await bed.byte(1, 1008)).toBe(10);
  await expect(bed.timeline.scan(ALL_KEYS, bed.lsn, () => undefined)).rejects.toThrow(name);
  expect((await bed.timeline.compact()).merged).toBe(3);
  expect(bed.counts).toBe('L0 2, L1 1, sparse 0, dense 0');
  checkState(bed.timeline.state, 0);
  expect([await bed.byte(3), await bed.byte(5), await bed.byte(1, 1008)]).toEqual([30, 50, 10]);
  await expect(bed.byte(2)).rejects.toThrow(name);
});

test('a damaged block concerns the pages in it', async () => {
  const bed = new Bed();
  for (let blk = 0; blk < 400; blk++) {
    bed.lsn += 8;
    const page = new SimRandom(blk).bytes(BLCKSZ);
    bed.timeline.writer().put(REL, blk, bed.lsn, VALUE_IMAGE, 0, page, 0, BLCKSZ);
  }
  await bed.advance().timeline.freezeAndFlush();
  const { name } = bed.timeline.state.layers.l0[0]!.desc;
  await bed.timeline.forgetOpen(name);
  bed.disk.rot(`timeline/${name}`, 1_000_000);
  const lost: number[] = [];
  for (let blk = 0; blk < 400; blk++) {
    const page = await bed.timeline.getPage(REL, blk, bed.lsn).catch((error: Fault) => {
      expect(error.message).toContain(name);
      lost.push(blk);
    });
    if (page) expect(Buffer.compare(page, new SimRandom(blk).bytes(BLCKSZ))).toBe(0);
  }
  // One sealed chunk of 32 KiB, and the blocks that reach into it.
  expect(lost.length).toBeGreaterThan(0);
  expect(lost.length).toBeLessThan(12);
});

test('a damaged layer of which there is another copy is no more than a delay', async () => {
  const { bed, asked } = await damaged(true);
  expect(await bed.byte(2)).toBe(20);
  expect(asked.length).toBe(1);
  expect((await bed.timeline.compact()).merged).toBe(5);
  expect([await bed.byte(1), await bed.byte(2)]).toEqual([10, 20]);
});

test('below the cutoff only what is retained may be asked for', async () => {
  const bed = new Bed();
  bed.image(1, 10).image(1, 11).image(1, 12);
  await bed.timeline.freezeAndFlush();
  await bed.timeline.gc(1016, [1008]);
  expect(() => bed.timeline.checkReadable(1016)).not.toThrow();
  expect(() => bed.timeline.checkReadable(1008)).not.toThrow();
  expect(() => bed.timeline.checkReadable(1012)).toThrow(/history begins at/);
  expect(await bed.byte(1, 1008)).toBe(10);
});

test('a closed timeline answers nothing and writes nothing', async () => {
  const bed = new Bed();
  bed.image(1, 10);
  const flush = bed.timeline.freezeAndFlush().catch((e: unknown) => e);
  await bed.timeline.close();
  expect(((await flush) as Fault).code).toBe('shutting-down');
  await expect(bed.byte(1)).rejects.toThrow(/closed/);
  await expect(bed.timeline.compact()).rejects.toThrow(/closed/);
  expect(bed.engine.memoryBytes).toBe(0);
  expect(bed.engine.openLayers.count).toBe(0);
});
