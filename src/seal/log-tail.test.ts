import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import type { Disk } from '../base/ports.ts';
import { openVault } from './disk-vault.ts';
import { LogTail, TAIL_BYTES } from './log-tail.ts';
import { FRAME_PLAIN_MAX } from './sealed-log.ts';

describe('the tail of a log', () => {
  test('is what was appended since somebody follows, or nothing', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const random = new SimRandom(seed);
      const tail = new LogTail();
      let log = Buffer.alloc(0);
      let hits = 0;
      for (let step = 0; step < 150; step++) {
        const what = random.below(10);
        if (what < 5) {
          const piece = random.bytes(random.below(random.chance(0.1) ? 2 * TAIL_BYTES : TAIL_BYTES / 8));
          log = Buffer.concat([log, piece]);
          tail.append(piece);
        } else if (what === 5) {
          tail.follow(log.length);
        } else if (what === 6 && random.chance(0.3)) {
          const length = random.below(log.length + 1);
          log = log.subarray(0, length);
          tail.cut(length);
        } else {
          const offset = Math.max(0, log.length - random.below(TAIL_BYTES + 1000));
          const length = random.below(log.length - offset + 1);
          const read = tail.read(offset, length);
          if (read === undefined) continue;
          hits++;
          expect(Buffer.compare(read, log.subarray(offset, offset + length))).toBe(0);
        }
      }
      expect(hits).toBeGreaterThan(5);
    }
  });

  test('is given up when nobody reads it any more', () => {
    const tail = new LogTail();
    tail.follow(0);
    const piece = new Uint8Array(TAIL_BYTES);
    for (let i = 0; i < 4; i++) tail.append(piece);
    expect(tail.read(3 * TAIL_BYTES, 10)).toBeDefined();
    for (let i = 0; i < 5; i++) tail.append(piece);
    expect(tail.read(8 * TAIL_BYTES, 10)).toBeUndefined();
  });
});

/** A vault whose reads of the disk are counted, in bytes. */
function counted() {
  const random = new SimRandom(7);
  const sim = new SimDisk({ random: random.split('disk') });
  let bytes = 0;
  const disk = new Proxy(sim as Disk, {
    get: (target, name) =>
      name !== 'open'
        ? Reflect.get(target, name).bind(target)
        : async (...how: Parameters<Disk['open']>) => {
            const file = await target.open(...how);
            const read = file.read.bind(file);
            file.read = (offset, length) => {
              bytes += length;
              return read(offset, length);
            };
            return file;
          },
  });
  const keys = new SimFileKeys('11'.repeat(16), random.split('kek'));
  const scope = { tenant: '11'.repeat(16) };
  const vault = openVault({ disk, directory: 'wal', scope, keys, random, growBytes: 0 });
  return { random, vault, keys, bytesRead: () => bytes };
}

describe('readers of a log', () => {
  test('one that follows the writer reads nothing from the disk', async () => {
    const { random, vault, bytesRead } = counted();
    const log = await vault.log('seg', { create: true });
    const append = async (): Promise<Uint8Array> => {
      const piece = random.bytes(8192);
      log.append([piece]);
      await log.flush();
      return piece;
    };
    const first = await append();
    expect(await log.read(0, 8192)).toEqual(first);
    const before = bytesRead();
    expect(before).toBeGreaterThan(8192);
    for (let i = 1; i < 200; i++) {
      const piece = await append();
      expect(Buffer.compare(await log.read(i * 8192, 8192), piece)).toBe(0);
    }
    expect(bytesRead()).toBe(before);
  });

  test('one that comes later reads every frame once, in whatever steps', async () => {
    const { random, vault, bytesRead } = counted();
    const log = await vault.log('seg', { create: true });
    const all = random.bytes(4 * FRAME_PLAIN_MAX + 1000);
    log.append([all]);
    await log.flush();
    const before = bytesRead();
    for (let at = 0; at < all.length; at += 100_000) {
      const length = Math.min(100_000, all.length - at);
      expect(Buffer.compare(await log.read(at, length), all.subarray(at, at + length))).toBe(0);
    }
    expect(bytesRead() - before).toBeLessThan(all.length + 1000);
  });

  test('the tail goes with the keys', async () => {
    const { random, vault, keys, bytesRead } = counted();
    const log = await vault.log('seg', { create: true });
    const piece = random.bytes(1000);
    const append = async (): Promise<void> => {
      log.append([piece]);
      await log.flush();
    };
    await append();
    await log.read(0, 1000);
    await append();
    const before = bytesRead();
    await log.read(1000, 1000);
    expect(bytesRead()).toBe(before);
    keys.revoke();
    await expect(log.read(1000, 1000)).rejects.toMatchObject({ code: 'key-revoked' });
    keys.restore();
    expect(await log.read(1000, 1000)).toEqual(piece);
    expect(bytesRead()).toBeGreaterThan(before);
  });
});
