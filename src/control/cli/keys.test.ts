import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { utf8 } from '../../base/bytes.ts';
import type { World } from '../../base/command.ts';
import { localBlobs } from '../../host/blobs-local.ts';
import { hostClock } from '../../host/clock.ts';
import { hostDisk } from '../../host/disk.ts';
import { LocalKeys } from '../../host/keys-local.ts';
import { openBlobs } from '../../host/open-blobs.ts';
import { hostKeys } from '../../host/open-keys.ts';
import { hostRandom } from '../../host/random.ts';
import { main } from '../../main.ts';
import { openVault } from '../../seal/disk-vault.ts';
import { KeyCalls } from '../../seal/key-calls.ts';
import { KeyRing } from '../../seal/key-ring.ts';
import { KEY_TIMES } from '../../seal/key-state.ts';
import { blobKeyStore } from '../../seal/key-store.ts';

const T = '0123456789abcdef'.repeat(2);

let root: string;
let ring: KeyRing;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-keys-cli-'));
  ring = service();
});
afterEach(() => {
  ring.close();
  rmSync(root, { recursive: true, force: true });
});

/** A node that serves the tenant from the same store. */
function service(): KeyRing {
  const services = [new LocalKeys(join(root, 'keys'))];
  const audit = { line: () => undefined };
  const { requestMs } = KEY_TIMES;
  return new KeyRing({
    store: blobKeyStore(localBlobs(join(root, 'store'))),
    calls: new KeyCalls({ services, clock: hostClock, audit, who: 'node-1', requestMs }),
    random: hostRandom,
    times: KEY_TIMES,
    defaultCmk: 'local:default',
    node: 'node-1',
  });
}

const vault = () =>
  openVault({
    disk: hostDisk(root),
    directory: 'disk',
    scope: { tenant: T },
    keys: ring.attach(T),
    random: hostRandom,
  });

const put = async (name: string): Promise<void> =>
  localBlobs(join(root, 'store')).put(`tenants/${T}/${name}`, await vault().seal(name, utf8(name)));
const get = async (name: string): Promise<string> =>
  Buffer.from(
    await vault().unseal(name, await localBlobs(join(root, 'store')).get(`tenants/${T}/${name}`)),
  ).toString();

async function run(...argv: string[]): Promise<{ code: number; out: string; note: string }> {
  let out = '';
  let note = '';
  // Only what these verbs use: whatever else they reached for would fail.
  const world: Partial<World> = {
    clock: hostClock,
    random: hostRandom,
    terminal: {
      write: text => void (out += text),
      note: text => void (note += text),
      isTerminal: false,
      columns: 80,
      drained: async () => undefined,
      progress: () => ({ update: () => undefined, stop: () => undefined }),
    },
    disk: hostDisk,
    blobs: openBlobs,
    keyServices: hostKeys,
    environment: name =>
      ({
        LAKEBED_STORE: join(root, 'store'),
        LAKEBED_LOCAL_KEYS: join(root, 'keys'),
        LAKEBED_AUDIT: join(root, 'audit', 'keys.jsonl'),
        USER: 'someone',
      })[name],
    signal: new AbortController().signal,
  };
  const code = await main(['keys', ...argv], world as World);
  return { code, out, note };
}

const audit = (): { event: string; who: string; result: string }[] =>
  readFileSync(join(root, 'audit', 'keys.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));

describe('keys status', () => {
  test('prints the key, its state, the KEKs and the bound', async () => {
    expect((await run('status')).out).toMatch(/^No tenant has keys/);
    await put('a');
    const { code, out } = await run('status');
    expect(code).toBe(0);
    expect(out).toContain(`${T}\n  customer key  local:default  enabled\n  document      1, created at `);
    expect(out).toMatch(/KEK 1 +current, made .*, under version 1 of the customer key/);
    expect(out).toContain('out of use within 360 s: asked every 60 s (poll), kept at most 300 s');
    await new LocalKeys(join(root, 'keys')).setState('default', 'disabled');
    const disabled = await run('status', '--json');
    expect(disabled.code).toBe(1);
    expect(JSON.parse(disabled.out)).toMatchObject({
      pollSeconds: 60,
      lifetimeSeconds: 300,
      boundSeconds: 360,
      tenants: [{ tenant: T, cmk: 'local:default', state: 'disabled', sequence: 1 }],
    });
    expect(disabled.out).not.toContain('"wrapped"');
  });
});

describe('a life', () => {
  test('rotated, rewrapped, retired, moved, shredded', async () => {
    await put('a');
    expect((await run('rotate', T)).out).toContain('KEK 2 seals new files');
    await ring.refresh(T);
    await put('b');
    // The node has not said yet that its own files are done.
    await hostClock.sleep(50);
    await ring.refresh(T);
    const rewrapped = await run('rewrap', T, '--retire', '--json');
    expect(rewrapped.note).toBe('');
    expect(JSON.parse(rewrapped.out)).toMatchObject({
      seen: 2,
      keks: [{ state: 'retired' }, { state: 'current' }],
    });
    ring.close();
    ring = service();
    expect([await get('a'), await get('b')]).toEqual(['a', 'b']);

    const rotated = await run('rotate', T, '--cmk', '--json');
    expect(JSON.parse(rotated.out)).toMatchObject({ change: 'cmk-rotated', keks: [{}, { keyVersion: '2' }] });
    expect((await run('change', T, '--to', 'local:other')).out).toContain(`${T} is under local:other now.`);
    rmSync(join(root, 'keys', 'default.json'));
    ring.close();
    ring = service();
    expect([await get('a'), await get('b')]).toEqual(['a', 'b']);
    expect((await run('status')).out).toContain('held by       node-1: document');

    const refused = await run('shred', T);
    expect([refused.code, refused.note]).toEqual([1, expect.stringContaining(`--confirm ${T}`)]);
    expect((await run('shred', T, '--confirm', T)).code).toBe(0);
    await ring.refresh(T);
    await expect(get('a')).rejects.toMatchObject({ code: 'key-revoked' });
    expect((await run('status')).out).toContain('shredded');
    expect(audit().map(line => line.event)).toEqual(
      expect.arrayContaining([
        'unwrap',
        'generate',
        'rotate',
        'rewrap',
        'retire',
        'rewrap-keks',
        'wrap',
        'change',
        'shred',
      ]),
    );
    expect(new Set(audit().map(line => line.who))).toEqual(new Set(['cli:someone']));
  });

  test('wrong calls say what to do', async () => {
    await put('a');
    const wrong: [string[], RegExp][] = [
      [['rotate', 'zz'], /not a tenant id/],
      [['rotate', 'ff'.repeat(16)], /has no keys in this store/],
      [['change', T], /Give --to KEY/],
      [['change', T, '--to', 'nonsense'], /an AWS KMS ARN/],
      [['status', '--store', 'ftp://x'], /Give a directory, or s3:/],
    ];
    for (const [argv, says] of wrong) {
      const { code, note } = await run(...argv);
      expect([code, note], argv.join(' ')).toEqual([1, expect.stringMatching(says)]);
    }
  });
});
