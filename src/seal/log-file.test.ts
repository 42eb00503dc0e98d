import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { NonceLedger } from '../../integration/sim/nonces.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { concatBytes, EMPTY_BYTES, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { type Aead, aes256gcm, type CipherKey } from './aead.ts';
import { openVault } from './disk-vault.ts';
import { AHEAD_BYTES } from './log-file.ts';
import { HEADER_BYTES } from './sealed-header.ts';
import { FRAME_HEADER_BYTES, FRAME_OVERHEAD, FRAME_PLAIN_MAX, type Frame, parseFrame } from './sealed-log.ts';
import type { SealedLog } from './vault.ts';

const TENANT = '11'.repeat(16);

interface SetupOptions {
  readonly capacityBytes?: number;
  readonly growBytes?: number;
  readonly aheadBytes?: number;
}

/** Refuses to seal twice under one nonce, even what is never written: whichever cipher it was, whenever made ready. */
function onceOnly(aead: Aead): Aead {
  const used = new Set<string>(); // by the key's bytes: two handles of one key are one key
  const use = (key: CipherKey, nonce: Uint8Array): void => {
    const bytes = key instanceof Uint8Array ? key : key.export();
    const pair = `${bytes.join()} ${nonce.join()}`;
    if (used.has(pair)) throw new Error(`nonce ${nonce.join()} sealed something already`);
    used.add(pair);
  };
  return {
    ready(key, nonce) {
      const cipher = aead.ready(key, nonce);
      return {
        seal(...all) {
          use(key, nonce);
          cipher.seal(...all);
        },
      };
    },
    seal(key, nonce, ...rest) {
      this.ready(key, nonce).seal(...rest);
    },
    open: aead.open,
  };
}

function setup(seed = 1, { growBytes = 0, aheadBytes = AHEAD_BYTES, ...options }: SetupOptions = {}) {
  const random = new SimRandom(seed);
  const ledger = new NonceLedger();
  const disk = new SimDisk({
    random: random.split('disk'),
    onWrite: (path, offset, bytes) => ledger.see(path, offset, bytes),
    ...options,
  });
  const keys = new SimFileKeys(TENANT, random.split('kek'));
  const aead = onceOnly(aes256gcm);
  const scope = { tenant: TENANT };
  const open = () => openVault({ disk, directory: 'wal', scope, keys, random, growBytes, aheadBytes, aead });
  return { random, disk, keys, ledger, open, vault: open() };
}

const all = (log: SealedLog): Promise<Uint8Array> => log.read(log.origin, log.length - log.origin);
const text = async (log: SealedLog): Promise<string> => Buffer.from(await all(log)).toString();

async function put(log: SealedLog, what: string): Promise<void> {
  log.append([utf8(what)]);
  await log.flush();
}

describe('a log', () => {
  test('begins where it is told, grows, and is read by range', async () => {
    const { vault, open } = setup();
    const log = await vault.log('seg', { create: true, origin: 1000 });
    expect([log.origin, log.length, log.durable]).toEqual([1000, 1000, 1000]);
    log.append([utf8('ab'), new Uint8Array(0), utf8('cd')]);
    expect([log.length, log.durable]).toEqual([1004, 1000]);
    await expect(log.read(1000, 1)).rejects.toMatchObject({ code: 'bytes-short' });
    await log.flush();
    await put(log, 'efg');
    expect(log.durable).toBe(1007);
    expect(Buffer.from(await log.read(1003, 3)).toString()).toBe('def');
    await expect(log.read(999, 1)).rejects.toMatchObject({ code: 'bytes-short' });
    await expect(log.read(1006, 2)).rejects.toMatchObject({ code: 'bytes-short' });
    await log.close();
    await expect(vault.log('seg', { create: true })).rejects.toMatchObject({ code: 'file-exists' });
    const again = await open().log('seg', { create: false });
    expect([again.origin, again.length, again.durable]).toEqual([1000, 1007, 1007]);
    await put(again, 'hi');
    expect(await text(again)).toBe('abcdefghi');
  });

  test('flushes that meet are one write: what was appended meanwhile goes with the next', async () => {
    const { vault, disk } = setup();
    const log = await vault.log('seg', { create: true });
    const before = disk.steps;
    const flushes: Promise<void>[] = [];
    for (let i = 0; i < 10; i++) {
      log.append([utf8('x')]);
      flushes.push(log.flush());
    }
    await Promise.all(flushes);
    expect(log.durable).toBe(10);
    expect(disk.steps - before).toBe(2); // one write and sync each: the first, and the nine together
  });

  test('large and many pieces become frames of bounded size', async () => {
    const { vault, random, open } = setup();
    const log = await vault.log('seg', { create: true });
    const pieces = [
      random.bytes(3 * FRAME_PLAIN_MAX + 17),
      ...Array.from({ length: 40 }, () => random.bytes(100)),
    ];
    log.append(pieces);
    await log.flush();
    expect(Buffer.compare(await all(log), concatBytes(pieces))).toBe(0);
    const again = await open().log('seg', { create: false });
    expect(Buffer.compare(await all(again), concatBytes(pieces))).toBe(0);
  });

  test('room reserved ahead changes nothing but where the file ends', async () => {
    const { vault, disk, open } = setup();
    const log = await vault.log('seg', { create: true, reserve: 3_000_000 });
    await put(log, 'abc');
    expect((await disk.stat('wal/seg'))?.size).toBe(3_000_000);
    const again = await open().log('seg', { create: false });
    expect(await text(again)).toBe('abc');
    await put(again, 'def');
    expect((await disk.stat('wal/seg'))?.size).toBe(3_000_000);
    const out = await open().copyOut('seg');
    const source = await open().openLogSource('seg', out);
    expect(Buffer.from(await source.read(1, 4)).toString()).toBe('bcde');
  });
});

describe('what is appended while a flush is under way', () => {
  /** Every frame of the file, in order. */
  function framesOf(disk: SimDisk): Frame[] {
    const [, bytes] = disk.files().find(([path]) => path === 'wal/seg')!;
    const frames: Frame[] = [];
    for (let at = HEADER_BYTES; at + FRAME_HEADER_BYTES <= bytes.length; ) {
      const frame = parseFrame(bytes, at, bytes.length - at);
      if (frame === undefined) break;
      frames.push(frame);
      at += FRAME_OVERHEAD + frame.length;
    }
    return frames;
  }

  test('is sealed ahead, goes with the next flush, and says what was synced then', async () => {
    const { vault, disk, open } = setup(1, { aheadBytes: 10 });
    const log = await vault.log('seg', { create: true });
    log.append([utf8('first')]);
    const flushing = log.flush();
    const writes = disk.steps;
    log.append([utf8('second, and long enough')]);
    log.append([utf8('third, the same')]);
    log.append([utf8('short')]);
    expect(disk.steps).toBe(writes);
    await flushing;
    expect([log.durable, log.length]).toEqual([5, 48]);
    expect(framesOf(disk)).toHaveLength(1);
    await log.flush();
    expect(await text(log)).toBe('firstsecond, and long enoughthird, the sameshort');
    const frames = framesOf(disk);
    expect(frames.map(f => [f.number, f.offset, f.length])).toEqual([
      [0, 0, 5],
      [1, 5, 23],
      [2, 28, 15],
      [3, 43, 5],
    ]);
    const after = HEADER_BYTES + FRAME_OVERHEAD + 5;
    expect(frames.map(f => f.synced)).toEqual([HEADER_BYTES, after, after, after]);
    const again = await open().log('seg', { create: false, atLeast: 48 });
    expect(await text(again)).toBe('firstsecond, and long enoughthird, the sameshort');
  });

  test('is sealed anew under another key when that flush fails', async () => {
    const capacityBytes = HEADER_BYTES + 200;
    const { vault, disk, ledger, open } = setup(1, { aheadBytes: 10, capacityBytes });
    const log = await vault.log('seg', { create: true });
    await put(log, 'fits');
    log.append([new Uint8Array(300).fill(97)]);
    const flushing = log.flush();
    log.append([new Uint8Array(20).fill(98)]);
    await expect(flushing).rejects.toMatchObject({ code: 'disk-full' });
    await log.truncate(24);
    await log.flush();
    expect(await text(log)).toBe(`fits${'a'.repeat(20)}`);
    const [first, second] = framesOf(disk);
    expect([first!.number, second!.number]).toEqual([0, 0]);
    expect(second!.salt).not.toEqual(first!.salt);
    expect(await text(await open().log('seg', { create: false }))).toBe(`fits${'a'.repeat(20)}`);
    expect(ledger.count).toBeGreaterThan(2);
  });

  test('is cut like anything else, and what follows goes under another key', async () => {
    const { vault, disk, open } = setup(1, { aheadBytes: 1 });
    const log = await vault.log('seg', { create: true });
    log.append([utf8('first')]);
    const flushing = log.flush();
    log.append([utf8('second')]);
    await flushing;
    await log.truncate(7);
    await put(log, 'third');
    expect(await text(log)).toBe('firstsethird');
    const [first, second] = framesOf(disk);
    expect(second!.number).toBe(0);
    expect(second!.salt).not.toEqual(first!.salt);
    expect(await text(await open().log('seg', { create: false }))).toBe('firstsethird');
  });

  test('waits for the key, if that is switched off meanwhile', async () => {
    const { vault, keys } = setup(1, { aheadBytes: 1 });
    const log = await vault.log('seg', { create: true });
    log.append([utf8('first')]);
    const flushing = log.flush();
    log.append([utf8('second')]);
    await flushing;
    keys.revoke();
    log.append([utf8('third')]);
    await expect(log.flush()).rejects.toMatchObject({ code: 'key-revoked' });
    keys.restore();
    await log.flush();
    expect(await text(log)).toBe('firstsecondthird');
  });
});

describe('a growing file', () => {
  test('grows by steps, gives the rest back when closed, and needs no room to spare on a full disk', async () => {
    const { vault, disk, open } = setup(1, { growBytes: 4096, capacityBytes: 9000 });
    const sizeOf = async (): Promise<number> => (await disk.stat('wal/seg'))!.size;
    const log = await vault.log('seg', { create: true });
    expect(await sizeOf()).toBe(HEADER_BYTES);
    const sizes = new Set<number>();
    for (let i = 0; i < 40; i++) {
      await put(log, 'x'.repeat(100));
      sizes.add(await sizeOf());
    }
    const frames = 40 * (FRAME_OVERHEAD + 100);
    expect(sizes.size).toBeLessThanOrEqual(3);
    expect(await sizeOf()).toBeGreaterThan(HEADER_BYTES + frames);
    // Beyond the second step there is no room for a third, but for frames there is.
    for (let i = 0; i < 11; i++) await put(log, 'y'.repeat(100));
    expect(log.durable).toBe(5100);
    log.append([new Uint8Array(4000)]);
    await expect(log.flush()).rejects.toMatchObject({ code: 'disk-full' });
    await log.truncate(log.length - 4000);
    await log.close();
    const again = await open().log('seg', { create: false });
    expect(again.length).toBe(5100);
    await again.close();
    await vault.remove('seg');
    const small = await vault.log('small', { create: true });
    await put(small, 'abc');
    await small.close();
    expect((await disk.stat('wal/small'))!.size).toBe(HEADER_BYTES + FRAME_OVERHEAD + 3);
    const read = await open().log('small', { create: false });
    expect(await text(read)).toBe('abc');
  });
});

describe('truncation', () => {
  test('at a frame, within one, of what is only buffered; then other bytes follow', async () => {
    const { vault, open } = setup();
    const log = await vault.log('seg', { create: true });
    await put(log, 'aaaa');
    await put(log, 'bbbb');
    log.append([utf8('cc'), utf8('dd')]);
    await log.truncate(11);
    expect([log.length, log.durable]).toEqual([11, 8]);
    await log.flush();
    expect(await text(log)).toBe('aaaabbbbccd');
    await log.truncate(6);
    expect([log.length, log.durable]).toEqual([6, 6]);
    await put(log, 'XYZ');
    await log.truncate(8);
    await log.truncate(4);
    await put(log, '12');
    expect(await text(log)).toBe('aaaa12');
    expect(await text(await open().log('seg', { create: false }))).toBe('aaaa12');
    await expect(log.truncate(100)).rejects.toMatchObject({ code: 'bytes-short' });
    await log.truncate(0);
    expect(await text(log)).toBe('');
    await put(log, 'new');
    expect(await text(await open().log('seg', { create: false }))).toBe('new');
  });
});

describe('trouble', () => {
  test('a failed sync is final', async () => {
    const { vault, disk } = setup();
    const log = await vault.log('seg', { create: true });
    await put(log, 'kept');
    disk.failSyncs(1);
    log.append([utf8('lost')]);
    await expect(log.flush()).rejects.toMatchObject({ code: 'disk-failed' });
    await expect(log.flush()).rejects.toMatchObject({ code: 'disk-failed' });
    await expect(log.truncate(0)).rejects.toMatchObject({ code: 'disk-failed' });
    expect(() => log.append([utf8('x')])).toThrow('takes no more');
    expect(log.durable).toBe(4);
    expect(Buffer.from(await log.read(0, 4)).toString()).toBe('kept');
  });

  test('a full disk is not: what could not be written goes with the next flush, under another key', async () => {
    const { vault, open, ledger } = setup(1, { capacityBytes: 1000 });
    const log = await vault.log('seg', { create: true });
    await put(log, 'kept');
    log.append([new Uint8Array(600).fill(65)]);
    await expect(log.flush()).rejects.toMatchObject({ code: 'disk-full' });
    expect([log.length, log.durable]).toEqual([604, 4]);
    await log.truncate(10); // still buffered: only less of it now
    await log.flush();
    expect(await text(log)).toBe('keptAAAAAA');
    expect(await text(await open().log('seg', { create: false }))).toBe('keptAAAAAA');
    expect(ledger.count).toBeGreaterThan(2);
  });

  test('a revoked key stops appends and reads, keeps what is buffered, and gives way again', async () => {
    const { vault, keys } = setup();
    const log = await vault.log('seg', { create: true });
    await put(log, 'one');
    log.append([utf8('two')]);
    keys.revoke();
    for (const work of [() => log.flush(), () => log.write(), () => log.read(0, 1), () => log.truncate(1)]) {
      await expect(work()).rejects.toMatchObject({ code: 'key-revoked' });
    }
    keys.restore();
    await log.flush();
    expect(await text(log)).toBe('onetwo');
  });
});

describe('damage', () => {
  async function threeFrames() {
    const world = setup();
    const log = await world.vault.log('seg', { create: true });
    for (const what of ['first frame', 'second frame', 'third frame']) await put(log, what);
    const bytes = await world.disk.readFile('wal/seg');
    const start = (n: number): number => HEADER_BYTES + [0, 11, 23, 34][n]! + n * FRAME_OVERHEAD;
    return { ...world, log, bytes, start };
  }

  test('of a synced frame in the middle is refused and named, wherever it is', async () => {
    const { disk, bytes, start, open } = await threeFrames();
    for (let at = 0; at < start(2); at++) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1 << (at % 8);
      disk.plant('wal/seg', damaged);
      await expect(open().log('seg', { create: false }), `byte ${at}`).rejects.toMatchObject({
        kind: 'corrupt',
        message: expect.stringContaining(`${TENANT}/seg`),
      });
    }
  });

  test('of the last frame looks like a torn tail, unless the caller knows what was durable', async () => {
    const { disk, bytes, start, open } = await threeFrames();
    for (let at = start(2); at < bytes.length; at++) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1 << (at % 8);
      disk.plant('wal/seg', damaged);
      await expect(open().log('seg', { create: false, atLeast: 34 })).rejects.toMatchObject({
        code: 'sealed-tampered',
        message: expect.stringContaining('its end was cut off'),
      });
      const log = await open().log('seg', { create: false });
      expect(await text(log)).toBe('first framesecond frame');
      expect((await disk.stat('wal/seg'))?.size).toBe(start(2));
    }
  });

  test('frames swapped, repeated, dropped or of another log', async () => {
    const { disk, bytes, start, open, vault } = await threeFrames();
    const other = await vault.log('other', { create: true });
    for (const what of ['first frame', 'second frame', 'third frame']) await put(other, what);
    const theirs = await disk.readFile('wal/other');
    const frame = (from: Uint8Array, n: number): Uint8Array => from.subarray(start(n), start(n + 1));
    const head = bytes.subarray(0, start(0));
    const shapes: Record<string, Uint8Array[]> = {
      dropped: [frame(bytes, 0), frame(bytes, 2)],
      swapped: [frame(bytes, 1), frame(bytes, 0), frame(bytes, 2)],
      foreign: [frame(bytes, 0), frame(theirs, 1), frame(bytes, 2)],
      repeated: [frame(bytes, 0), frame(bytes, 0), frame(bytes, 1)],
    };
    for (const [name, frames] of Object.entries(shapes)) {
      disk.plant('wal/seg', concatBytes([head, ...frames]));
      const opening = open().log('seg', { create: false, atLeast: 34 });
      await expect(opening, name).rejects.toMatchObject({ code: 'sealed-tampered' });
    }
    disk.plant('wal/other', bytes);
    await expect(open().log('other', { create: false })).rejects.toThrow(
      'it is sealed as name seg, not other',
    );
  });

  test('while it is open is refused at the read, and the rest stays readable', async () => {
    const { disk, log, start } = await threeFrames();
    disk.rot('wal/seg', start(1) + 50);
    await expect(log.read(11, 3)).rejects.toMatchObject({ code: 'sealed-tampered' });
    expect(Buffer.from(await log.read(0, 11)).toString()).toBe('first frame');
    expect(Buffer.from(await log.read(23, 11)).toString()).toBe('third frame');
  });
});

/** What a log may hold after a crash: some prefix of `bytes`, at least `least` long. */
interface Possible {
  readonly bytes: Uint8Array;
  readonly least: number;
}

class LogModel {
  content: Uint8Array = EMPTY_BYTES;
  possible: Possible[] = [{ bytes: new Uint8Array(0), least: 0 }];

  written(content: Uint8Array, durable: boolean): void {
    const least = Math.min(this.content.length, content.length);
    this.content = content.slice();
    this.possible.push({ bytes: this.content, least });
    if (durable) this.possible = [{ bytes: this.content, least: content.length }];
  }

  allows(found: Uint8Array): boolean {
    return this.possible.some(
      ({ bytes, least }) =>
        found.length >= least &&
        found.length <= bytes.length &&
        Buffer.compare(found, bytes.subarray(0, found.length)) === 0,
    );
  }
}

/** One history from one seed: appends, writes, flushes, truncations, reopenings and crashes at any step. */
async function history(seed: number): Promise<number> {
  const options = { growBytes: [0, 100, 5000][seed % 3]!, aheadBytes: [1, 50, 200, AHEAD_BYTES][seed % 4]! };
  const { random, disk, ledger, open } = setup(seed, options);
  const model = new LogModel();
  let log = await open().log('seg', { create: true, reserve: random.chance(0.5) ? 20_000 : 0 });
  for (let round = 0; round < 30; round++) {
    if (random.chance(0.3)) disk.crashAt(1 + random.below(4));
    let next = model.content;
    try {
      for (let i = random.below(6); i >= 0; i--) {
        const piece = random.bytes(1 + random.below(random.chance(0.1) ? 2000 : 60));
        log.append([piece]);
        next = concatBytes([next, piece]);
        const durable = random.chance(0.5);
        const before = model.possible;
        model.written(next, false);
        const under = durable ? log.flush() : random.chance(0.5) ? log.write() : undefined;
        const flushed = next;
        if (durable && random.chance(0.5)) {
          // While the disk is at work: it may get there with what comes after, and not before.
          for (let more = random.below(3); more >= 0; more--) {
            const piece = random.bytes(1 + random.below(80));
            log.append([piece]);
            next = concatBytes([next, piece]);
          }
        }
        await under;
        if (durable) model.written(flushed, true);
        if (next !== flushed) model.written(next, false);
        else if (log.durable === log.length) model.possible = before;
      }
      await log.write();
      if (random.chance(0.3)) {
        const length = random.below(log.length + 1);
        next = next.slice(0, length);
        model.possible.push({ bytes: next, least: next.length });
        await log.truncate(length);
        model.written(next, true);
      }
      if (random.chance(0.2)) {
        await log.close();
        log = await open().log('seg', { create: false, atLeast: model.content.length });
        model.written(next, true);
      }
    } catch (error) {
      if (error instanceof Fault) throw error;
      disk.crash();
      log = await open().log('seg', { create: false });
      const found = await all(log);
      if (!model.allows(found))
        throw new Error(`seed ${seed}, round ${round}: ${found.length} bytes, not possible`);
      model.written(found, true);
      continue;
    }
    expect(Buffer.compare(await all(log), model.content), `seed ${seed}, round ${round}`).toBe(0);
  }
  return ledger.count;
}

describe('histories', () => {
  test('what was flushed is there after any crash, nothing else is, and no nonce repeats', async () => {
    let pairs = 0;
    for (let seed = 1; seed <= 300; seed++) pairs += await history(seed);
    expect(pairs).toBeGreaterThan(10_000);
  });
});
