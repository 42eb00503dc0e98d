import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { CANARY, ModelWal } from '../../integration/sim/model-wal.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { isFault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import { openVault } from '../seal/disk-vault.ts';
import type { Vault } from '../seal/vault.ts';
import { WalStore } from './wal-store.ts';

const MIB = 1024 * 1024;
const PG = 170005;
const L = (n: number): Lsn => n as Lsn;

interface World {
  disk: SimDisk;
  vault: () => Vault;
  random: SimRandom;
}

function world(seed = 1): World {
  const random = new SimRandom(seed);
  const disk = new SimDisk({ random: random.split('disk') });
  const scope = { tenant: 'aa'.repeat(16), timeline: 'bb'.repeat(16) };
  const keys = new SimFileKeys(scope.tenant, random.split('kek'));
  return { disk, random, vault: () => openVault({ disk, directory: 'tl', scope, keys, random }) };
}

const open = (w: World, commit: number, start: number, segmentSize = MIB): Promise<WalStore> =>
  WalStore.open({
    vault: w.vault(),
    segmentSize,
    pgVersion: PG,
    commitLsn: L(commit),
    localStartLsn: L(start),
  });

function wal(start: number, records: number, size: number, segmentSize = MIB, writer = 'w'): ModelWal {
  const model = new ModelWal(L(start), { pgVersion: PG, segmentSize });
  for (let i = 0; i < records; i++) model.add(ModelWal.payload(writer, i, size));
  return model;
}

/** A new store that begins at the model's start. */
async function begun(w: World, model: ModelWal): Promise<WalStore> {
  const store = await open(w, 0, 0);
  await store.truncate(model.start);
  return store;
}

async function write(store: WalStore, model: ModelWal, to: number, chunk = 5000): Promise<void> {
  for (let at = store.writeLsn as number; at < to; ) {
    const end = Math.min(to, at + chunk);
    await store.write(L(at), model.bytes(at, end));
    at = end;
  }
}

async function readAll(store: WalStore, from: number, to: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let at = from; at < to; ) {
    const part = await store.read(L(at), to - at);
    expect(part.length).toBeGreaterThan(0);
    parts.push(part);
    at += part.length;
  }
  return Buffer.concat(parts);
}

async function faultOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    e => e,
  );
  if (!isFault(error)) throw error ?? new Error('no fault');
  return `${error.code}: ${error.message} | ${error.hint ?? ''}`;
}

describe('what is written', () => {
  test('ends at record boundaries, whatever the chunks', async () => {
    for (const chunk of [1, 7, 24, 8192, 100_000]) {
      const model = wal(3 * MIB + 0x128, 12, chunk === 1 ? 40 : 3000);
      const store = await begun(world(chunk), model);
      for (let at = model.start as number; at < model.end; ) {
        const end = Math.min(model.end, at + chunk);
        const boundary = await store.write(L(at), model.bytes(at, end));
        expect(boundary).toBe(Math.max(...model.boundaries.filter(b => b <= end)));
        at = end;
      }
      await store.flush();
      expect([store.writeLsn, store.recordLsn, store.durableLsn]).toEqual([model.end, model.end, model.end]);
      expect(
        Buffer.compare(await readAll(store, model.start, model.end), model.bytes(model.start, model.end)),
      ).toBe(0);
    }
  });

  test('crosses segments, and comes back after a restart', async () => {
    const w = world();
    const model = wal(4 * MIB - 20_000, 600, 3000);
    const store = await begun(w, model);
    await write(store, model, model.end, 131072);
    await store.flush();
    expect(store.list().map(s => [s.segno, s.origin, s.length])).toEqual([
      [3, MIB - 20_000, MIB],
      [4, 0, MIB],
      [5, 0, model.end - 5 * MIB],
    ]);
    await store.close();
    for (const commit of [model.start, model.boundaries[300]!, model.end]) {
      const again = await open(w, commit, model.start);
      expect(again.writeLsn).toBe(model.end);
      expect(again.oldestLsn).toBe(model.start);
      expect(
        Buffer.compare(await readAll(again, model.start, model.end), model.bytes(model.start, model.end)),
      ).toBe(0);
      await again.close();
    }
  });

  test('that is no WAL is refused before it is kept', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 10, 500);
    const store = await begun(w, model);
    await write(store, model, model.boundaries[4]!);
    const bad = model.bytes(model.boundaries[4]!, model.end).slice();
    bad[100]! ^= 1;
    expect(await faultOf(store.write(model.boundaries[4]!, bad))).toMatch(/wal-crc/);
    expect(store.writeLsn).toBe(model.boundaries[4]!);
    await store.flush();
    await store.truncate(model.boundaries[4]!);
    await write(store, model, model.end);
    await store.flush();
    expect(store.durableLsn).toBe(model.end);
  });

  test('a switch counts as a boundary once its padding is written', async () => {
    const w = world();
    const model = wal(2 * MIB - 40_000, 2, 100);
    const before = model.end;
    model.addSwitch();
    model.add(ModelWal.payload('w', 9, 100));
    const store = await begun(w, model);
    await write(store, model, before + 24);
    expect(store.recordLsn).toBe(before);
    await write(store, model, 2 * MIB - 8);
    expect(store.recordLsn).toBe(before);
    await write(store, model, 2 * MIB);
    expect(store.recordLsn).toBe(2 * MIB);
    await write(store, model, model.end);
    await store.flush();
    await store.close();
    expect((await open(w, model.start, model.start)).writeLsn).toBe(model.end);
    expect((await open(w, 2 * MIB, model.start)).writeLsn).toBe(model.end);
  });

  test('lies on the disk sealed', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 50, 2000);
    const store = await begun(w, model);
    await write(store, model, model.end);
    await store.flush();
    for (const [path, bytes] of w.disk.files()) {
      expect(Buffer.from(bytes).includes(CANARY), path).toBe(false);
    }
  });
});

describe('truncation', () => {
  test('anywhere, then other WAL from there on, across restarts', async () => {
    const model = wal(2 * MIB - 30_000, 60, 1500);
    for (const cut of [0, 1, 15, 20, 21, 40, 60]) {
      const w = world(cut + 1);
      const store = await begun(w, model);
      await write(store, model, model.end);
      await store.flush();
      const to = model.boundaries[cut]!;
      await store.truncate(to);
      expect([store.writeLsn, store.durableLsn]).toEqual([to, to]);
      const other = wal(to, 30, 1700, MIB, 'other');
      await write(store, other, other.end);
      await store.flush();
      await store.close();
      const again = await open(w, model.start, model.start);
      expect(again.writeLsn).toBe(other.end);
      const bytes = await readAll(again, model.start, other.end);
      expect(Buffer.compare(bytes.subarray(0, to - model.start), model.bytes(model.start, to))).toBe(0);
      expect(Buffer.compare(bytes.subarray(to - model.start), other.bytes(to, other.end))).toBe(0);
    }
  });

  test('of bytes that were not flushed yet', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 20, 500);
    const store = await begun(w, model);
    await write(store, model, model.boundaries[10]!);
    await store.flush();
    await write(store, model, model.end);
    await store.truncate(model.boundaries[12]!);
    await write(store, model, model.end);
    await store.flush();
    expect(
      Buffer.compare(await readAll(store, model.start, model.end), model.bytes(model.start, model.end)),
    ).toBe(0);
  });
});

describe('after a crash', () => {
  test('all that was flushed is there, and what is torn is cut at a record', async () => {
    for (let seed = 0; seed < 60; seed++) {
      const w = world(seed);
      const model = wal(2 * MIB - 25_000, 50, 1200);
      const store = await begun(w, model);
      let flushed: number = model.start;
      w.disk.crashAt(1 + (seed % 20));
      try {
        for (let i = 3; i < model.boundaries.length; i += 4) {
          await write(store, model, model.boundaries[i]! - 16);
          await store.flush();
          flushed = store.recordLsn;
        }
      } catch {
        // the machine stopped
      }
      w.disk.crash();
      const again = await open(w, model.start, model.start);
      expect(again.writeLsn).toBeGreaterThanOrEqual(flushed);
      expect(model.boundaries).toContain(again.writeLsn);
      if (again.writeLsn > model.start) {
        const bytes = await readAll(again, model.start, again.writeLsn);
        expect(Buffer.compare(bytes, model.bytes(model.start, again.writeLsn))).toBe(0);
      }
      await write(again, model, model.end);
      await again.flush();
      expect(again.durableLsn).toBe(model.end);
    }
  });

  test('a truncation leaves the log whole, cut or not yet', async () => {
    for (let seed = 0; seed < 30; seed++) {
      const w = world(seed);
      const model = wal(2 * MIB - 10_000, 800, 3000);
      const store = await begun(w, model);
      await write(store, model, model.end, 131072);
      await store.flush();
      const to = model.boundaries[2]!;
      w.disk.crashAt(1 + (seed % 6));
      const done = await store.truncate(to).then(
        () => true,
        () => false,
      );
      w.disk.crash();
      const again = await open(w, model.start, model.start);
      if (done) expect(again.writeLsn).toBe(to);
      expect(model.boundaries).toContain(again.writeLsn);
      const bytes = await readAll(again, model.start, again.writeLsn);
      expect(Buffer.compare(bytes, model.bytes(model.start, again.writeLsn))).toBe(0);
    }
  });
});

describe('damage', () => {
  async function filled(): Promise<{ w: World; model: ModelWal }> {
    const w = world();
    const model = wal(2 * MIB - 25_000, 50, 1200);
    const store = await begun(w, model);
    for (const boundary of model.boundaries.filter((_, i) => i % 5 === 0)) {
      await write(store, model, boundary);
      await store.flush();
    }
    await store.close();
    return { w, model };
  }

  test('of committed WAL is a Fault that names the file and the cure', async () => {
    const { w, model } = await filled();
    w.disk.rot('tl/000000010000000000000001', 700);
    const fault = await faultOf(open(w, model.boundaries[15]!, model.start));
    expect(fault).toMatch(/safekeeper-wal: WAL segment 000000010000000000000001 is damaged/);
    expect(fault).toMatch(/pull_timeline/);
  });

  test('of WAL past the committed position is no torn tail', async () => {
    const { w, model } = await filled();
    w.disk.rot('tl/000000010000000000000001', 2000);
    expect(await faultOf(open(w, model.start, model.start))).toMatch(/000000010000000000000001 is damaged/);
  });

  test('a missing segment is a Fault that names it', async () => {
    const { w, model } = await filled();
    await w.disk.remove('tl/000000010000000000000001');
    expect(await faultOf(open(w, model.boundaries[10]!, model.start))).toMatch(
      /segment 000000010000000000000001 is missing; WAL is committed up to 0\/1F/,
    );
    expect(await faultOf(open(w, model.start, model.start))).toMatch(/is missing/);
  });

  test('bytes that are whole under their seal and no WAL are told apart from a torn tail', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 10, 500);
    const vault = w.vault();
    const log = await vault.log('000000010000000000000001', { create: true, origin: 0x28 });
    const bytes = model.bytes(model.start, model.end).slice();
    bytes[model.boundaries[6]! - model.start + 60]! ^= 4;
    log.append([bytes]);
    await log.flush();
    await log.close();
    const fault = await faultOf(open(w, model.start, model.start));
    expect(fault).toMatch(/safekeeper-wal: WAL is damaged in 000000010000000000000001 at offset \d+/);
    expect(fault).toContain('incorrect checksum');
  });
});

describe('segments that go', () => {
  test('are removed oldest first, never the one that WAL ends in', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 1200, 3000);
    const store = await begun(w, model);
    await write(store, model, model.end, 131072);
    await store.flush();
    expect(store.list().map(s => s.segno)).toEqual([1, 2, 3, 4]);
    expect(await store.removeBelow(3)).toBe(2);
    expect(store.oldestLsn).toBe(3 * MIB);
    expect(store.holds(L(2 * MIB))).toBe(false);
    expect(await faultOf(store.read(L(2 * MIB), 100))).toMatch(/wal-missing/);
    expect(await store.removeBelow(100)).toBe(1);
    expect(store.list().map(s => s.segno)).toEqual([4]);
    await store.close();
    expect((await open(w, model.end, model.start)).writeLsn).toBe(model.end);
  });

  test('wait for those who read from them', async () => {
    const w = world();
    const model = wal(MIB + 0x28, 1200, 3000);
    const store = await begun(w, model);
    await write(store, model, model.end, 131072);
    await store.flush();
    const reading = store.read(L(MIB + 0x28), 100_000);
    const [bytes] = await Promise.all([reading, store.removeBelow(3)]);
    expect(Buffer.compare(bytes, model.bytes(MIB + 0x28, MIB + 0x28 + 100_000))).toBe(0);
  });
});

test('many idle stores cost nothing open', async () => {
  const w = world();
  const model = wal(MIB + 0x28, 10, 500);
  const store = await begun(w, model);
  await write(store, model, model.end);
  await store.flush();
  await store.rest();
  const more = new ModelWal(model.end, { pgVersion: PG, segmentSize: MIB });
  more.add(ModelWal.payload('x', 1, 100));
  await write(store, more, more.end);
  await store.flush();
  expect(store.durableLsn).toBe(more.end);
});
