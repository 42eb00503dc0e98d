// The audit as an auditor reads it: for every use of a customer's key and every decision about keys a line that says
// who, which key and version, which tenant, what for, how it ended, and the key service's request.

import { describe, expect, test } from 'vitest';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimKeys } from '../../integration/sim/keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import type { AuditLine } from './audit.ts';
import { openVault } from './disk-vault.ts';
import { KeyCalls } from './key-calls.ts';
import { KeyRing } from './key-ring.ts';
import { KEY_TIMES } from './key-state.ts';
import { blobKeyStore } from './key-store.ts';
import { filesInBlobs, filesOnDisk, retireOld, rewrapPass } from './rewrap.ts';

const T = 'ab'.repeat(16);
const MINUTE = 60_000;

function world() {
  const random = new SimRandom(1);
  const clock = new SimClock();
  const kms = new SimKeys({ random: random.split('kms') });
  for (const name of ['one', 'two']) kms.make(name);
  const blobs = new SimBlobs({ random: random.split('blobs') });
  const disk = new SimDisk({ random: random.split('disk') });
  const lines: AuditLine[] = [];
  const audit = { line: (line: AuditLine) => void lines.push(line) };
  const calls = new KeyCalls({
    services: [kms],
    clock,
    audit,
    who: 'node-1',
    requestMs: KEY_TIMES.requestMs,
  });
  const ring = new KeyRing({
    store: blobKeyStore(blobs),
    calls,
    random,
    times: KEY_TIMES,
    defaultCmk: 'sim:one',
    node: 'node-1',
    localFiles: () => [filesOnDisk(disk, T, 'node-1')],
  });
  const keys = ring.attach(T);
  const vault = openVault({ disk, directory: T, scope: { tenant: T }, keys, random });
  const pass = (ms: number): Promise<void> => clock.run(clock.monotonic() + ms);
  /** What was said since this was asked last. */
  const said = (): AuditLine[] => lines.splice(0);
  const shared = [filesInBlobs(blobs, `tenants/${T}/`, 'objects')];
  return { ring, keys, vault, kms, blobs, pass, said, shared };
}

const only = (lines: readonly AuditLine[], event: AuditLine['event']): AuditLine => {
  const found = lines.filter(line => line.event === event);
  expect(found, event).toHaveLength(1);
  return found[0]!;
};

const whole = (kek: number, purpose: string, cmk = 'sim:one') => ({
  at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
  who: 'node-1',
  tenant: T,
  cmk,
  kek,
  purpose,
  result: 'ok',
  keyVersion: '1',
  requestId: expect.stringMatching(/^sim-\d+$/),
});

describe('a line', () => {
  test('for the first key of a tenant, and for each use of it', async () => {
    const w = world();
    await w.vault.writeFile('f', utf8('x'));
    await w.keys.ask();
    const lines = w.said();
    expect(only(lines, 'generate')).toMatchObject({ ...whole(1, 'first KEK'), ms: expect.any(Number) });
    expect(only(lines, 'create')).toMatchObject(whole(1, 'first KEK'));
    for (const line of lines.filter(l => l.event === 'unwrap')) {
      expect(line).toMatchObject({ ...whole(1, 'use of the CMK'), ms: expect.any(Number) });
    }
  });

  test('for a rotation of either key, a rewrap, a change and a retirement, with the request that did it', async () => {
    const w = world();
    await w.vault.writeFile('f', utf8('x'));
    w.said();
    await w.ring.admin.rotateKek(T);
    let lines = w.said();
    expect(only(lines, 'generate')).toMatchObject(whole(2, 'rotate KEK'));
    expect(only(lines, 'rotate')).toMatchObject(whole(2, 'rotate KEK'));
    expect(only(lines, 'rotate').requestId).toBe(only(lines, 'generate').requestId);

    w.kms.rotate('one');
    await w.ring.admin.rewrapKeks(T);
    lines = w.said();
    expect(lines.filter(l => l.event === 'wrap')).toHaveLength(2);
    expect(only(lines, 'rewrap-keks')).toMatchObject({ ...whole(2, 'rewrap KEKs'), keyVersion: '2' });

    await w.ring.admin.changeCmk(T, 'sim:two');
    lines = w.said();
    for (const line of lines.filter(l => l.event === 'wrap')) {
      expect(line).toMatchObject({ ...whole(line.kek!, 'change CMK', 'sim:two') });
    }
    expect(only(lines, 'change')).toMatchObject(whole(2, 'change CMK', 'sim:two'));
    expect(lines.filter(l => l.event === 'wrap').map(l => l.requestId)).toContain(
      only(lines, 'change').requestId,
    );

    await w.ring.refresh(T);
    await w.pass(MINUTE);
    await w.ring.refresh(T);
    w.said();
    const [files] = w.shared;
    await rewrapPass({ keys: w.keys, store: w.ring.admin.store, files: files! });
    const { admin } = w.ring;
    expect(only(w.said(), 'rewrap')).toMatchObject({
      who: 'node-1',
      tenant: T,
      cmk: 'sim:two',
      kek: 2,
      purpose: 'rewrap files',
      result: 'ok',
      message: 'objects: 0 files seen, 0 file keys rewrapped, 0 refused',
    });
    await retireOld({ admin, keys: w.keys, shared: w.shared });
    expect(only(w.said(), 'retire')).toMatchObject({ kek: 1, purpose: 'retire KEK', result: 'ok' });
  });

  test('for what was refused: the call, the wiping, and how often files were asked for, once a poll', async () => {
    const w = world();
    await w.vault.writeFile('f', utf8('x'));
    w.said();
    w.kms.set('one', 'disabled');
    await w.pass(MINUTE);
    let lines = w.said();
    expect(lines.filter(l => l.event === 'unwrap').at(-1)).toMatchObject({
      who: 'node-1',
      tenant: T,
      cmk: 'sim:one',
      kek: 1,
      purpose: 'use of the CMK',
      result: 'key-disabled',
      requestId: expect.stringMatching(/^sim-\d+$/),
      message: expect.stringContaining('disabled'),
    });
    expect(only(lines, 'revoke')).toMatchObject({ tenant: T, cmk: 'sim:one', kek: 1, result: 'disabled' });
    for (let i = 0; i < 5; i++) {
      await expect(w.vault.readFile('f')).rejects.toMatchObject({ code: 'key-revoked' });
    }
    await w.pass(MINUTE);
    lines = w.said();
    expect(only(lines, 'deny')).toMatchObject({
      who: 'node-1',
      tenant: T,
      cmk: 'sim:one',
      kek: 1,
      purpose: 'use of the keys',
      result: 'disabled',
      message: '5 uses refused',
    });
    expect(w.ring.status()[0]!.denied).toBe(5);
    await w.pass(3 * MINUTE);
    expect(w.said().filter(l => l.event === 'deny')).toEqual([]);
    w.kms.set('one', 'enabled');
    await w.pass(MINUTE);
    expect(only(w.said(), 'restore')).toMatchObject({ tenant: T, cmk: 'sim:one', kek: 1, result: 'ok' });
  });

  test('for a change that did not come about', async () => {
    const w = world();
    await w.vault.writeFile('f', utf8('x'));
    w.said();
    w.kms.mood = 'denying';
    await expect(w.ring.admin.rotateKek(T)).rejects.toMatchObject({ code: 'key-denied' });
    expect(only(w.said(), 'unwrap')).toMatchObject({ purpose: 'rotate KEK', result: 'key-denied' });
    w.kms.mood = 'well';
    await expect(w.ring.admin.changeCmk(T, 'sim:none')).rejects.toMatchObject({ code: 'key-destroyed' });
    expect(only(w.said(), 'wrap')).toMatchObject({ cmk: 'sim:none', result: 'key-destroyed' });
    w.blobs.away = true;
    await expect(w.ring.admin.shred(T)).rejects.toMatchObject({ kind: 'unavailable' });
  });

  test('for shredding, and for shredding that failed halfway', async () => {
    const w = world();
    await w.vault.writeFile('f', utf8('x'));
    await w.ring.admin.rotateKek(T);
    w.said();
    w.blobs.before = verb => void (verb === 'remove' && (w.blobs.away = true));
    await expect(w.ring.admin.shred(T)).rejects.toMatchObject({ kind: 'unavailable' });
    const failed = only(w.said(), 'shred');
    expect(failed).toMatchObject({ who: 'node-1', tenant: T, cmk: 'sim:one', kek: 2, purpose: 'shred' });
    expect(failed.result).not.toBe('ok');
    w.blobs.before = () => undefined;
    w.blobs.away = false;
    await w.ring.admin.shred(T);
    expect(only(w.said(), 'shred')).toMatchObject({ tenant: T, cmk: 'sim:one', result: 'ok' });
  });
});
