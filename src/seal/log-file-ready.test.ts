// The cipher that a log makes ready for its next frame while the disk is at work: that it is used, and that it seals
// nothing but that frame.

import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { EMPTY_BYTES, utf8, viewOf } from '../base/bytes.ts';
import { type Aead, aes256gcm, type CipherKey } from './aead.ts';
import { openVault } from './disk-vault.ts';
import { HEADER_BYTES } from './sealed-header.ts';
import type { SealedLog } from './vault.ts';

const TENANT = '11'.repeat(16);

/** A vault that tells which ciphers were made, by key and number, and which of them sealed. */
function watched(capacityBytes = Infinity) {
  const made: { key: CipherKey; number: number; sealed: boolean }[] = [];
  const aead: Aead = {
    ...aes256gcm,
    ready(key, nonce) {
      const one = { key, number: viewOf(nonce).getUint32(8), sealed: false };
      made.push(one);
      const cipher = aes256gcm.ready(key, nonce);
      return {
        seal(...all) {
          one.sealed = true;
          cipher.seal(...all);
        },
      };
    },
  };
  const random = new SimRandom(1);
  const disk = new SimDisk({ random: random.split('disk'), capacityBytes });
  const keys = new SimFileKeys(TENANT, random.split('kek'));
  const scope = { tenant: TENANT };
  const vault = openVault({ disk, directory: 'wal', scope, keys, random, growBytes: 0, aead });
  const told = () => made.map(({ number, sealed }) => [number, sealed]);
  return { vault, keys, disk, made, told };
}

const text = async (log: SealedLog): Promise<string> =>
  Buffer.from(await log.read(log.origin, log.length - log.origin)).toString();

async function put(log: SealedLog, what: string): Promise<void> {
  log.append([utf8(what)]);
  await log.flush();
}

describe('the cipher of the next frame', () => {
  test('is made while the disk is at work, and seals that frame', async () => {
    const { vault, told } = watched();
    const log = await vault.log('seg', { create: true });
    log.append([utf8('one')]);
    const flushing = log.flush();
    expect(told()).toEqual([
      [0, true],
      [1, false],
    ]);
    await flushing;
    log.append([utf8('two')]);
    const again = log.flush();
    expect(told()).toEqual([
      [0, true],
      [1, true],
      [2, false],
    ]);
    await again;
    expect(await text(log)).toBe('onetwo');
  });

  test('seals nothing once its stretch has ended: truncated, failed, or closed', async () => {
    const { vault, made } = watched(HEADER_BYTES + 400);
    const log = await vault.log('seg', { create: true });
    await put(log, 'first');
    await log.truncate(3);
    await put(log, 'second');
    log.append([new Uint8Array(500)]);
    await expect(log.flush()).rejects.toMatchObject({ code: 'disk-full' });
    await log.truncate(log.length - 500);
    await put(log, 'third');
    await log.close();
    const again = await vault.log('seg', { create: false });
    expect(await text(again)).toBe('firsecondthird');
    await put(again, '!');
    expect(made.map(({ number, sealed }) => [number, sealed])).toEqual([
      [0, true], // first
      [1, false], // dropped by the truncation
      [0, true], // the truncation
      [1, true], // second
      [2, true], // what did not fit
      [3, false], // dropped by that failure
      [0, true], // third
      [1, false], // dropped by closing
      [0, true], // !
      [1, false],
    ]);
    const keyOf = (i: number): CipherKey => made[i]!.key;
    expect(new Set([0, 2, 6, 8].map(keyOf)).size).toBe(4);
    for (const [first, ...others] of [
      [0, 1],
      [2, 3, 4, 5],
      [6, 7],
      [8, 9],
    ] as const) {
      for (const other of others) expect(keyOf(other)).toBe(keyOf(first));
    }
  });

  test('goes with the keys, and is made anew when they are back', async () => {
    const { vault, keys, told } = watched();
    const log = await vault.log('seg', { create: true });
    await put(log, 'one');
    keys.revoke();
    keys.restore();
    await put(log, 'two');
    expect(told()).toEqual([
      [0, true],
      [1, false],
      [1, true],
      [2, false],
    ]);
    expect(await text(log)).toBe('onetwo');
  });

  test('seals once', () => {
    const out: Uint8Array[] = [];
    const cipher = aes256gcm.ready(new Uint8Array(32), new Uint8Array(12));
    cipher.seal(EMPTY_BYTES, [utf8('a')], out);
    expect(() => cipher.seal(EMPTY_BYTES, [utf8('b')], out)).toThrow('seals once');
    expect(out).toHaveLength(2);
  });
});
