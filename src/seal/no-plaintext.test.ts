// Nothing readable leaves: a canary written through the vault is in no byte that was ever handed to a disk or an object
// store, in no audit line, and in no form. And the search is shown to find it where it is.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesWithCanary, findCanary } from '../../integration/canary.ts';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { localBlobs } from '../host/blobs-local.ts';
import { hostClock } from '../host/clock.ts';
import { hostDisk } from '../host/disk.ts';
import { LocalKeys } from '../host/keys-local.ts';
import { hostRandom } from '../host/random.ts';
import { AuditFile } from './audit.ts';
import { openVault } from './disk-vault.ts';
import { KeyCalls } from './key-calls.ts';
import { KeyRing } from './key-ring.ts';
import { KEY_TIMES } from './key-state.ts';
import { blobKeyStore } from './key-store.ts';

const CANARY = 'the-canary-sings-at-midnight';
const TENANT = 'cd'.repeat(16);

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-canary-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('the search', () => {
  test('finds the canary in every form', () => {
    const text = Buffer.from(`${'x'.repeat(50)} ${CANARY} ${'y'.repeat(50)}`);
    const noise = Buffer.from(hostRandom.bytes(5000));
    const zip = Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(26), deflateRawSync(text)]);
    const forms: Record<string, Buffer> = {
      plain: text,
      utf16: Buffer.from(text.toString(), 'utf16le'),
      hex: Buffer.from(text.toString('hex')),
      gzip: gzipSync(text),
      zlib: deflateSync(text),
      zip,
      zstd: zstdCompressSync(text),
      'zstd of gzip': zstdCompressSync(gzipSync(text)),
    };
    for (const shift of [0, 1, 2])
      forms[`base64 ${shift}`] = Buffer.from(text.subarray(shift).toString('base64'));
    for (const [name, form] of Object.entries(forms)) {
      expect(findCanary(form, CANARY), name).toBeDefined();
      expect(findCanary(Buffer.concat([noise, form]), CANARY), `${name} behind noise`).toBeDefined();
    }
    expect(findCanary(noise, CANARY)).toBeUndefined();
  });
});

describe('what a service keeps', () => {
  test('holds no canary: files, logs, half written ones, objects, key store, audit', async () => {
    const disk = hostDisk(join(root, 'disk'));
    const blobs = localBlobs(join(root, 'blobs'));
    await disk.makeDirectory('.');
    const audit = new AuditFile(disk, 'audit/keys.jsonl', error => {
      throw error;
    });
    const calls = new KeyCalls({
      services: [new LocalKeys(join(root, 'keys'))],
      clock: hostClock,
      audit,
      who: 'node-1',
      requestMs: 1000,
    });
    const store = blobKeyStore(blobs);
    const times = KEY_TIMES;
    const ring = new KeyRing({
      store,
      calls,
      random: hostRandom,
      times,
      defaultCmk: 'local:default',
      node: 'node-1',
    });
    const keys = ring.attach(TENANT);
    const vault = openVault({
      disk,
      directory: 'tenant',
      scope: { tenant: TENANT },
      keys,
      random: hostRandom,
    });
    const page = Buffer.alloc(8192, CANARY);
    await vault.writeFile('control', page);
    const writer = await vault.create('layer');
    for (const bytes of [page, gzipSync(page), zstdCompressSync(page)]) await writer.write(bytes);
    await writer.finish();
    const halfWritten = await vault.create('half');
    for (let i = 0; i < 200; i++) await halfWritten.write(page);
    const log = await vault.log('segment', { create: true, reserve: 100_000 });
    log.append([page]);
    await log.flush();
    await log.truncate(100);
    log.append([page]);
    await log.flush();
    await blobs.put(`tenants/${TENANT}/object`, await vault.seal('object', page));
    const copy = await vault.copyOut('layer');
    await blobs.put(`tenants/${TENANT}/layer`, await copy.read(0, copy.size));
    await ring.admin.rotateKek(TENANT);
    await ring.refresh(TENANT);
    await audit.drained();
    expect(filesWithCanary(root, CANARY)).toEqual([]);
    expect((await disk.list('tenant')).some(name => name.includes('.partial-'))).toBe(true);
    // And it was there to be found.
    expect(findCanary(await vault.readFile('control'), CANARY)).toBeDefined();
    await halfWritten.abort();
    ring.close();
  });
});

describe('the audit file', () => {
  const line = (n: number) => ({
    at: '2026-01-01T00:00:00.000Z',
    event: 'wrap' as const,
    who: 'node-1',
    tenant: TENANT,
    purpose: 'test',
    cmk: 'sim:a',
    kek: n,
    result: 'ok',
  });
  const parse = (bytes: Uint8Array): number[] =>
    Buffer.from(bytes)
      .toString()
      .trimEnd()
      .split('\n')
      .filter(text => text.endsWith('}'))
      .map(text => (JSON.parse(text) as { kek: number }).kek);

  test('keeps every line in order, durably, and goes on where it ended', async () => {
    const disk = new SimDisk({ random: new SimRandom(1) });
    const failed = (error: unknown): never => {
      throw error;
    };
    const first = new AuditFile(disk, 'audit.jsonl', failed);
    for (let i = 0; i < 20; i++) first.line(line(i));
    await first.drained();
    disk.crash();
    const torn = await disk.open('audit.jsonl', 'write');
    await torn.write(await torn.size(), Buffer.from('{"at":"2026'));
    const second = new AuditFile(disk, 'audit.jsonl', failed);
    for (let i = 20; i < 30; i++) second.line(line(i));
    await second.drained();
    expect(parse(await disk.readFile('audit.jsonl'))).toEqual(Array.from({ length: 30 }, (_, i) => i));
  });

  test('says what it could not write, and takes the next lines', async () => {
    const disk = new SimDisk({ random: new SimRandom(1), clock: new SimClock() });
    const lost: number[] = [];
    const audit = new AuditFile(disk, 'audit.jsonl', (_, lines) => lost.push(lines));
    audit.line(line(1));
    await audit.drained();
    disk.failSyncs(1);
    audit.line(line(2));
    await audit.drained();
    expect(lost).toEqual([1]);
    audit.line(line(3));
    await audit.drained();
    expect(parse(await disk.readFile('audit.jsonl')).at(-1)).toBe(3);
  });
});
