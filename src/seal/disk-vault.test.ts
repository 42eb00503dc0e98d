import { describe, expect, test } from 'vitest';
import { SimDisk, SimStopped } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { NonceLedger } from '../../integration/sim/nonces.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import { openVault } from './disk-vault.ts';
import { CHUNK_BYTES } from './sealed-file.ts';
import { HEADER_BYTES } from './sealed-header.ts';
import type { SealScope, Vault } from './vault.ts';

const TENANT = '11'.repeat(16);
const TIMELINE = '22'.repeat(16);
const SCOPE: SealScope = { tenant: TENANT, timeline: TIMELINE };

function setup(seed = 1, scope = SCOPE) {
  const random = new SimRandom(seed);
  const ledger = new NonceLedger();
  const disk = new SimDisk({
    random: random.split('disk'),
    // Copies repeat what was sealed, and say so by their name.
    onWrite: (path, offset, bytes) => void (path.includes('copy') || ledger.see(path, offset, bytes)),
  });
  const keys = new SimFileKeys(scope.tenant, random.split('kek'));
  const open = (s: SealScope = scope, directory = 'dir'): Vault =>
    openVault({ disk, directory, scope: s, keys, random });
  return { random, disk, keys, ledger, open, vault: open() };
}

/** `toEqual` on large arrays takes seconds. */
const same = (found: Uint8Array, wanted: Uint8Array): void => expect(Buffer.compare(found, wanted)).toBe(0);

const bytesOf = (random: SimRandom, length: number): Uint8Array => random.bytes(length);

describe('files replaced as a whole', () => {
  test('read back what was written last, every size around the chunk border', async () => {
    const { vault, random } = setup();
    for (const size of [0, 1, 511, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]) {
      const bytes = bytesOf(random, size);
      await vault.writeFile('control', bytes);
      same(await vault.readFile('control'), bytes);
    }
    expect(await vault.list()).toEqual(['control']);
  });

  test('survive any crash as the old or the new, once written as the new', async () => {
    for (let step = 1; step <= 8; step++) {
      for (let seed = 0; seed < 10; seed++) {
        const { vault, disk, open } = setup(seed);
        await vault.writeFile('control', utf8('old'));
        disk.crashAt(step);
        const written = await vault.writeFile('control', utf8('new')).then(
          () => true,
          () => false,
        );
        disk.crash();
        const after = open();
        const found = Buffer.from(await after.readFile('control')).toString();
        expect(['old', 'new']).toContain(found);
        if (written) expect(found).toBe('new');
        await after.sweep();
        expect(await after.list()).toEqual(['control']);
        expect(disk.files().length).toBe(1);
      }
    }
  });

  test('an older one put back is refused while the vault lives, by generation after', async () => {
    const { vault, disk, open } = setup();
    await vault.writeFile('control', utf8('first'), { generation: 1 });
    const old = await disk.readFile('dir/control');
    await vault.writeFile('control', utf8('second'), { generation: 2 });
    disk.plant('dir/control', old);
    await expect(vault.readFile('control')).rejects.toMatchObject({
      code: 'sealed-tampered',
      message: expect.stringContaining(`${TENANT}/${TIMELINE}/control`),
    });
    await expect(open().readFile('control', { generation: 2 })).rejects.toMatchObject({
      code: 'sealed-tampered',
    });
  });
});

describe('big files', () => {
  test('any range, against the bytes themselves', async () => {
    const { vault, random } = setup();
    const whole = bytesOf(random, 5 * CHUNK_BYTES + 777);
    const writer = await vault.create('layer');
    for (let at = 0; at < whole.length; ) {
      const part = whole.subarray(at, at + 1 + random.below(2 * CHUNK_BYTES));
      await writer.write(part);
      at += part.length;
    }
    expect(await vault.list()).toEqual([]);
    expect(await writer.finish()).toBe(whole.length);
    const file = await vault.open('layer');
    expect(file.size).toBe(whole.length);
    for (let i = 0; i < 300; i++) {
      const from = random.below(whole.length + 1);
      const length = random.below(whole.length - from + 1);
      expect(Buffer.compare(await file.read(from, length), whole.subarray(from, from + length))).toBe(0);
    }
    await expect(file.read(whole.length, 1)).rejects.toMatchObject({ code: 'bytes-short' });
    await file.close();
  });

  test('a range that was read is the reader’s own: changing it changes nothing', async () => {
    const { vault } = setup();
    await vault.writeFile('a', new Uint8Array(3 * CHUNK_BYTES).fill(7));
    const file = await vault.open('a');
    for (const at of [0, CHUNK_BYTES + 5, 3 * CHUNK_BYTES - 10]) {
      (await file.read(at, 10)).fill(0);
      expect(await file.read(at, 10)).toEqual(new Uint8Array(10).fill(7));
    }
    await file.close();
  });

  test('an aborted or failed one leaves nothing', async () => {
    const { vault, disk } = setup();
    const writer = await vault.create('layer');
    await writer.write(new Uint8Array(100));
    await writer.abort();
    expect(disk.files()).toEqual([]);
    const failing = await vault.create('layer');
    await failing.write(new Uint8Array(100));
    disk.failSyncs(1);
    await expect(failing.finish()).rejects.toMatchObject({ code: 'disk-failed' });
    expect(disk.files()).toEqual([]);
  });

  test('finished is durable', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { vault, disk, open, random } = setup(seed);
      const whole = bytesOf(random, 70_000);
      const writer = await vault.create('deep/down/layer');
      await writer.write(whole);
      await writer.finish();
      disk.crash();
      same(await open().readFile('deep/down/layer'), whole);
    }
  });
});

describe('objects', () => {
  test('are the same bytes as the file', async () => {
    const { vault, open, disk } = setup();
    await vault.writeFile('layer', utf8('contents'));
    const out = await vault.copyOut('layer');
    const bytes = await out.read(0, out.size);
    expect(bytes).toEqual(await disk.readFile('dir/layer'));
    const other = open(SCOPE, 'copy');
    await other.copyIn('layer', out);
    await out.close();
    same(await disk.readFile('copy/layer'), bytes);
    expect(await other.readFile('layer')).toEqual(utf8('contents'));
    expect(await vault.unseal('layer', bytes)).toEqual(utf8('contents'));
    expect(await vault.unseal('x', await vault.seal('x', utf8('y')))).toEqual(utf8('y'));
  });

  test('damaged on the way are not taken in', async () => {
    const { vault, open, disk } = setup();
    await vault.writeFile('layer', new Uint8Array(3 * CHUNK_BYTES));
    const bytes = await disk.readFile('dir/layer');
    for (const at of [9, 100, 490, HEADER_BYTES + 5, HEADER_BYTES + CHUNK_BYTES + 99]) {
      const damaged = bytes.slice();
      damaged[at]! ^= 4;
      disk.plant('dir/damaged', damaged);
      const source = await vault.copyOut('damaged');
      const other = open(SCOPE, 'copy');
      await expect(other.copyIn('layer', source)).rejects.toMatchObject({ kind: 'corrupt' });
      expect(await other.list()).toEqual([]);
    }
  });

  test('rebound to a branch: same chunks, new header, old name refused', async () => {
    const { vault, open, disk } = setup();
    const whole = new Uint8Array(2 * CHUNK_BYTES).fill(3);
    await vault.writeFile('layer', whole);
    const branch = open({ tenant: TENANT, timeline: '33'.repeat(16) }, 'branch-copy');
    const out = await vault.copyOut('layer');
    await expect(branch.copyIn('layer', out)).rejects.toThrow('it is sealed as timeline');
    await branch.copyIn('layer', await branch.rebind('layer', out, { scope: SCOPE, name: 'layer' }));
    same(await branch.readFile('layer'), whole);
    const [mine, theirs] = [await disk.readFile('dir/layer'), await disk.readFile('branch-copy/layer')];
    same(theirs.subarray(HEADER_BYTES), mine.subarray(HEADER_BYTES));
    await vault.rename('layer', 'renamed-copy');
    expect(await vault.list()).toEqual(['renamed-copy']);
    same(await vault.readFile('renamed-copy'), whole);
  });
});

describe('tampering', () => {
  test('every single flipped bit of a file is refused, with its name', async () => {
    const { vault, disk, open } = setup();
    await vault.writeFile('f', utf8('some bytes worth keeping'));
    const bytes = await disk.readFile('dir/f');
    for (let at = 0; at < bytes.length; at++) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1 << (at % 8);
      disk.plant('dir/f', damaged);
      await expect(open().readFile('f'), `byte ${at}`).rejects.toMatchObject({
        kind: 'corrupt',
        message: expect.stringContaining(`${TENANT}/${TIMELINE}/f`),
      });
    }
    disk.plant('dir/f', bytes);
    expect(await open().readFile('f')).toEqual(utf8('some bytes worth keeping'));
  });

  test('every cut of a file is refused, on opening, wherever it is', async () => {
    const { vault, disk, random, open } = setup();
    await vault.writeFile('f', bytesOf(random, 3 * CHUNK_BYTES + 100));
    const bytes = await disk.readFile('dir/f');
    const step = CHUNK_BYTES + 16;
    const cuts = [
      0,
      1,
      511,
      512,
      513,
      528,
      529,
      512 + step,
      512 + 2 * step,
      512 + 3 * step,
      bytes.length - 1,
    ];
    for (const length of cuts) {
      disk.plant('dir/f', bytes.slice(0, length));
      await expect(open().open('f'), `cut to ${length}`).rejects.toMatchObject({ kind: 'corrupt' });
    }
    disk.plant('dir/f', new Uint8Array([...bytes, 0]));
    await expect(open().open('f')).rejects.toMatchObject({ kind: 'corrupt' });
  });

  test('chunks swapped, repeated, or of another file', async () => {
    const { vault, disk, random } = setup();
    const step = CHUNK_BYTES + 16;
    const chunk = (bytes: Uint8Array, i: number): Uint8Array =>
      bytes.subarray(512 + i * step, 512 + (i + 1) * step);
    await vault.writeFile('f', bytesOf(random, 4 * CHUNK_BYTES));
    await vault.writeFile('g', bytesOf(random, 4 * CHUNK_BYTES));
    const [f, g] = [await disk.readFile('dir/f'), await disk.readFile('dir/g')];
    const refused = async (change: (copy: Uint8Array) => void, at: number): Promise<void> => {
      const copy = f.slice();
      change(copy);
      disk.plant('dir/f', copy);
      const read = async (): Promise<void> => {
        const file = await vault.open('f');
        await file.read(at * CHUNK_BYTES, CHUNK_BYTES).finally(() => file.close());
      };
      await expect(read()).rejects.toMatchObject({ code: 'sealed-tampered' });
    };
    await refused(copy => copy.set(chunk(f, 1), 512), 0);
    await refused(copy => copy.set(chunk(f, 0), 512 + step), 1);
    await refused(copy => copy.set(chunk(g, 1), 512 + step), 1);
    await refused(copy => copy.set(chunk(f, 0), 512 + 3 * step), 3);
  });

  test('files swapped between names, timelines, tenants and directories', async () => {
    const { vault, disk, open } = setup();
    await vault.writeFile('f', utf8('f'));
    await vault.writeFile('g', utf8('g'));
    const f = await disk.readFile('dir/f');
    disk.plant('dir/g', f);
    await expect(open().readFile('g')).rejects.toThrow('it is sealed as name f, not g');
    const timeline = open({ tenant: TENANT, timeline: '44'.repeat(16) });
    await expect(timeline.readFile('f')).rejects.toThrow('it is sealed as timeline');
    const other = setup(9, { tenant: '55'.repeat(16), timeline: TIMELINE });
    other.disk.plant('dir/f', f);
    await expect(other.vault.readFile('f')).rejects.toThrow('it is sealed as tenant');
    // With the identity forged, the wrapped key does not open for the other tenant.
    const forged = f.slice();
    forged.fill(0x55, 16, 32);
    other.disk.plant('dir/f', forged);
    await expect(other.vault.readFile('f')).rejects.toThrow('its wrapped key was changed');
  });
});

describe('nonces', () => {
  test('none repeats, whatever is written again after whatever crash', async () => {
    let pairs = 0;
    for (let seed = 0; seed < 60; seed++) {
      const { disk, random, open, ledger } = setup(seed);
      let vault = open();
      for (let i = 0; i < 25; i++) {
        if (random.chance(0.4)) disk.crashAt(1 + random.below(6));
        try {
          const name = `f${random.below(3)}`;
          const bytes = bytesOf(random, random.below(3 * CHUNK_BYTES));
          if (random.chance(0.5)) await vault.writeFile(name, bytes);
          else {
            const writer = await vault.create(name);
            await writer.write(bytes);
            await (random.chance(0.3) ? writer.abort() : writer.finish());
          }
        } catch (error) {
          if (!(error instanceof SimStopped)) throw error;
          disk.crash();
          vault = open();
          await vault.sweep();
        }
      }
      pairs += ledger.count;
    }
    expect(pairs).toBeGreaterThan(2000);
  });
});

describe('revocation', () => {
  test('open files fail while it lasts and go on after; no key is held meanwhile', async () => {
    const { vault, keys, random } = setup();
    const whole = bytesOf(random, 3 * CHUNK_BYTES);
    await vault.writeFile('f', whole);
    const file = await vault.open('f');
    const writer = await vault.create('g');
    await writer.write(whole);
    keys.revoke();
    for (const work of [
      () => file.read(0, 10),
      () => file.read(2 * CHUNK_BYTES, 10),
      () => vault.readFile('f'),
      () => vault.open('f'),
      () => vault.writeFile('h', whole),
      () => vault.log('log', { create: true }),
      () => writer.write(whole),
      () => writer.finish(),
    ]) {
      await expect(work()).rejects.toMatchObject({ code: 'key-revoked', kind: 'denied' });
    }
    keys.restore();
    expect(await file.read(5, 10)).toEqual(whole.slice(5, 15));
    await writer.write(whole);
    expect(await writer.finish()).toBe(2 * whole.length);
    await file.close();
  });
});
