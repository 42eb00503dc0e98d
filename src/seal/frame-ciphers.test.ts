// The ciphers that a log makes ready for its next frames while the disk is at work: that they are used, and that each
// seals nothing but its frame.

import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { concatBytes, EMPTY_BYTES, toHex, utf8, viewOf } from '../base/bytes.ts';
import { type Aead, aes256gcm, type CipherKey, type ReadyCipher } from './aead.ts';
import { openVault } from './disk-vault.ts';
import { fileSecrets } from './envelope.ts';
import { DataKey } from './file-keys.ts';
import { FrameCiphers } from './frame-ciphers.ts';
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

describe('the ciphers of the next frames', () => {
  test('are made while the disk is at work, as many as there are frames, up to eight; and seal those frames', async () => {
    const { vault, made, told } = watched();
    const log = await vault.log('seg', { create: true });
    log.append([utf8('a')]);
    const flushing = log.flush();
    expect(told()).toEqual([
      [0, true],
      [1, false],
    ]);
    await flushing;
    const counts: number[] = [];
    for (let i = 1; i < 40; i++) {
      await put(log, 'x');
      counts.push(made.length);
      expect(told().filter(([, sealed]) => sealed)).toHaveLength(i + 1);
    }
    expect([...new Set(counts)]).toEqual([4, 8, 16, 24, 32, 40, 48]);
    expect(told().map(([number]) => number)).toEqual(Array.from({ length: 48 }, (_, i) => i));
    expect(new Set(made.map(({ key }) => key)).size).toBe(1);
    expect(await text(log)).toBe(`a${'x'.repeat(39)}`);
  });

  test('seal nothing once their stretch has ended: truncated, failed, or closed', async () => {
    const { vault, made, told } = watched(HEADER_BYTES + 400);
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
    expect(told()).toEqual([
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

  test('go with the keys, and are made anew when those are back', async () => {
    const { vault, keys, made, told } = watched();
    const log = await vault.log('seg', { create: true });
    for (const what of ['one', 'two']) await put(log, what);
    const before = made.length;
    keys.revoke();
    keys.restore();
    await put(log, 'three');
    expect(told().slice(0, before)).toEqual([
      [0, true],
      [1, true],
      [2, false],
      [3, false],
    ]);
    expect(told().slice(before, before + 1)).toEqual([[2, true]]);
    expect(await text(log)).toBe('onetwothree');
  });

  test('fit the frame of their salt and number alone', async () => {
    const keys = new SimFileKeys(TENANT, new SimRandom(2));
    const { dek, wrapped } = await keys.make();
    const secrets = fileSecrets(dek);
    const key = new DataKey(keys, wrapped, 'a log', secrets);
    const [salt, other] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)];
    const sealedBy = (cipher: ReadyCipher): string => {
      const out: Uint8Array[] = [];
      cipher.seal(EMPTY_BYTES, [utf8('the same bytes')], out);
      return toHex(concatBytes(out));
    };
    const fresh = (s: Uint8Array, number: number): string =>
      sealedBy(new FrameCiphers(aes256gcm, key).take(secrets, s, number));
    const wanted: [Uint8Array, number][] = [
      [salt, 4],
      [salt, 5],
      [salt, 3],
      [salt, 6],
      [other, 4],
      [other, 5],
      [Uint8Array.from(salt), 4], // not the stretch that goes on
    ];
    for (const [s, number] of wanted) {
      const ciphers = new FrameCiphers(aes256gcm, key);
      ciphers.prepare(salt, 4);
      expect(sealedBy(ciphers.take(secrets, s, number)), `number ${number}`).toBe(fresh(s, number));
      // Whatever was asked for, what comes after it is right as well.
      expect(sealedBy(ciphers.take(secrets, s, number + 1))).toBe(fresh(s, number + 1));
    }
  });

  test('seals once', () => {
    const out: Uint8Array[] = [];
    const cipher = aes256gcm.ready(new Uint8Array(32), new Uint8Array(12));
    cipher.seal(EMPTY_BYTES, [utf8('a')], out);
    expect(() => cipher.seal(EMPTY_BYTES, [utf8('b')], out)).toThrow('seals once');
    expect(out).toHaveLength(2);
  });
});
