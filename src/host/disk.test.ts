import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { utf8 } from '../base/bytes.ts';
import type { Disk } from '../base/ports.ts';
import { hostClock } from './clock.ts';
import { hostDisk } from './disk.ts';
import { hostRandom } from './random.ts';

let root: string;
let disk: Disk;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-disk-'));
  disk = hostDisk(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('files', () => {
  test('positional writes and reads meet, in any order and at once', async () => {
    const file = await disk.open('a', 'create-new');
    await Promise.all([file.write(4, utf8('5678')), file.write(0, utf8('1234'))]);
    await file.writev(8, [utf8('9'), new Uint8Array(0), utf8('abc')]);
    await file.writeDurably(12, [utf8('d'), utf8('ef')]);
    await file.sync();
    expect(readFileSync(join(root, 'a'), 'latin1')).toBe('123456789abcdef');
    expect(Buffer.from(await file.read(7, 3)).toString()).toBe('89a');
    expect(await file.size()).toBe(15);
    await file.truncate(3);
    expect(Buffer.from(await file.read(0, 10)).toString()).toBe('123');
    await file.close();
    await file.close();
  });

  test('a read past the end is short, not an error', async () => {
    writeFileSync(join(root, 'short'), 'xy');
    const file = await disk.open('short', 'read');
    expect(await file.read(1, 10)).toEqual(utf8('y'));
    expect(await file.read(50, 10)).toEqual(new Uint8Array(0));
    await file.close();
  });

  test('modes say what must exist', async () => {
    await expect(disk.open('none', 'read')).rejects.toMatchObject({ code: 'file-missing' });
    await expect(disk.open('none', 'write')).rejects.toMatchObject({ code: 'file-missing' });
    await (await disk.open('some', 'create')).close();
    await (await disk.open('some', 'create')).close();
    await expect(disk.open('some', 'create-new')).rejects.toMatchObject({ code: 'file-exists' });
  });

  test('nobody else may read what is written', async () => {
    await (await disk.open('private', 'create')).close();
    expect(statSync(join(root, 'private')).mode & 0o077).toBe(0);
  });

  test('writing where writing is not possible fails with a fault, and a failed sync is final', async () => {
    const full = hostDisk('/dev');
    if (!existsSync('/dev/full')) return;
    const file = await full.open('full', 'write');
    await expect(file.write(0, utf8('x'))).rejects.toMatchObject({
      code: 'disk-full',
      hint: expect.stringContaining('Free space'),
    });
    // Character devices cannot be synced: the kernel says EINVAL, which nobody may ignore.
    await expect(file.sync()).rejects.toMatchObject({ code: 'disk-failed' });
    await expect(file.write(0, utf8('x'))).rejects.toThrow('failed to sync earlier');
    await expect(file.writeDurably(0, [utf8('x')])).rejects.toThrow('failed to sync earlier');
    await file.close();
  });
});

describe('directories', () => {
  test('made, listed in order, renamed, removed', async () => {
    await disk.makeDirectory('d/e');
    await disk.makeDirectory('d/e');
    for (const name of ['z', 'b', 'a']) await (await disk.open(`d/${name}`, 'create')).close();
    await disk.rename('d/z', 'd/c');
    await disk.syncDirectory('d');
    expect(await disk.list('d')).toEqual(['a', 'b', 'c', 'e']);
    expect((await disk.stat('d/e'))?.isDirectory).toBe(true);
    expect(await disk.stat('d/none')).toBeUndefined();
    expect(await disk.stat('d/a/below-a-file')).toBeUndefined();
    await disk.remove('d/a');
    await expect(disk.remove('d/a')).rejects.toMatchObject({ code: 'file-missing' });
    await disk.removeTree('d');
    await disk.removeTree('d');
    await expect(disk.list('d')).rejects.toMatchObject({ code: 'file-missing' });
  });

  test('no path leaves the root', async () => {
    for (const path of ['../x', 'a/../../x', '/etc/passwd'])
      await expect(disk.readFile(path)).rejects.toThrow('leaves its directory');
    await (await disk.open('..odd', 'create')).close();
    expect(await disk.stat('..odd')).toBeDefined();
  });

  test('free space is told', async () => {
    const { capacityBytes, freeBytes } = await disk.usage();
    expect(freeBytes).toBeGreaterThan(0);
    expect(capacityBytes).toBeGreaterThan(freeBytes);
  });
});

describe('time and chance', () => {
  test('sleep waits, and is cut short by its signal with the signal reason', async () => {
    const start = hostClock.monotonic();
    await hostClock.sleep(20);
    expect(hostClock.monotonic() - start).toBeGreaterThanOrEqual(18);
    const reason = new Error('stop');
    await expect(hostClock.sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const sleeping = hostClock.sleep(2 ** 40, controller.signal);
    controller.abort(reason);
    await expect(sleeping).rejects.toBe(reason);
  });

  test('random bytes differ and own their memory', () => {
    const a = hostRandom.bytes(32);
    expect(a).not.toEqual(hostRandom.bytes(32));
    expect(a.buffer.byteLength).toBe(32);
    for (let i = 0; i < 100; i++) expect(hostRandom.below(3)).toBeLessThan(3);
  });
});
