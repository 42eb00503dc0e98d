// The wiring of daemons as they start: that a rotation of keys reaches the files on a node's own disk.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { utf8 } from './base/bytes.ts';
import type { Log } from './base/ports.ts';
import { hostClock } from './host/clock.ts';
import { hostRandom } from './host/random.ts';
import { filesInBlobs, retireOld } from './seal/rewrap.ts';
import { openStorage, type Storage } from './wiring.ts';

const TENANT = 'ab'.repeat(16);
const OTHER = 'cd'.repeat(16);
const TIMELINE = '12'.repeat(16);
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-wiring-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const start = (): Promise<Storage> =>
  openStorage({
    dataDir: join(root, 'node'),
    node: 'node-1',
    remote: { kind: 'local', path: join(root, 'store') },
    defaultKey: undefined,
    localKeys: undefined,
    clock: hostClock,
    random: hostRandom,
    log: SILENT,
  });

/** Asks until the node has told the store that its files are under this KEK. */
async function rewrapped(storage: Storage, tenant: string, kek: number): Promise<void> {
  for (;;) {
    await storage.keys.refresh(tenant);
    const holders = await storage.keys.admin.store.holders(tenant);
    if (holders.every(holder => holder.rewrapped >= kek) && holders.length > 0) return;
    await hostClock.sleep(5);
  }
}

test('files of a node’s own disk, written before it started, are read on when the KEK they were under is gone', async () => {
  const directories = {
    // As a safekeeper lays them, and as a pageserver does, whole tenants and shards.
    [`${TENANT}/${TIMELINE}`]: { tenant: TENANT, timeline: TIMELINE },
    [`tenants/${TENANT}/timelines/${TIMELINE}`]: { tenant: TENANT, timeline: TIMELINE },
    [`tenants/${TENANT}-0102`]: { tenant: TENANT },
    [`${OTHER}/${TIMELINE}`]: { tenant: OTHER, timeline: TIMELINE },
  };
  const first = await start();
  for (const [directory, scope] of Object.entries(directories)) {
    const vault = first.vault(directory, scope);
    await vault.writeFile('control', utf8(`control of ${directory}`));
    const log = await vault.log('segment', { create: true });
    log.append([utf8(`log of ${directory}`)]);
    await log.flush();
    await log.close();
  }
  first.keys.close();

  // Started again, it remembers nothing of having made them.
  const second = await start();
  for (const tenant of [TENANT, OTHER]) second.keys.attach(tenant);
  await rewrapped(second, TENANT, 1);
  const { admin } = second.keys;
  await admin.rotateKek(TENANT);
  await rewrapped(second, TENANT, 2);
  const { seen, running } = second.keys.status().find(status => status.tenant === TENANT)!.rewrap!;
  expect({ seen, running }).toEqual({ seen: 6, running: false });
  const keys = second.keys.keysOf(TENANT)!;
  const document = await retireOld({
    admin,
    keys,
    shared: [filesInBlobs(second.blobs!, 'none/', 'objects')],
  });
  expect(document.keks.map(({ version, state }) => [version, state])).toEqual([
    [1, 'retired'],
    [2, 'current'],
  ]);
  second.keys.close();

  const third = await start();
  for (const [directory, scope] of Object.entries(directories)) {
    const vault = third.vault(directory, scope);
    expect(await vault.readFile('control')).toEqual(utf8(`control of ${directory}`));
    const log = await vault.log('segment', { create: false });
    expect(await log.read(0, log.length)).toEqual(utf8(`log of ${directory}`));
    await log.close();
  }
  third.keys.close();
  expect(readdirSync(root).sort()).toEqual(['lakebed-keys', 'node', 'store']);
});

test('moved to another customer key: parent, branch and what was detached are read on, without the old key', async () => {
  const tenant = '56'.repeat(16);
  const [parent, branch] = ['34'.repeat(16), '78'.repeat(16)].map(timeline => ({ tenant, timeline }));
  const vaultOf = (storage: Storage, scope: { tenant: string; timeline: string }) =>
    storage.vault(`${tenant}/${scope.timeline}`, scope);
  const first = await start();
  await vaultOf(first, parent!).writeFile('layer', utf8('of the parent, which its branches read'));
  await vaultOf(first, branch!).writeFile('own', utf8('of the branch'));
  const { admin } = first.keys;
  expect((await admin.load(tenant)).cmk).toBe('local:default');
  await admin.changeCmk(tenant, 'local:second');
  // Detached while the node still has the old document: the branch takes the parent's file, under a header of its own.
  const sealed = await vaultOf(first, parent!).copyOut('layer');
  const bound = await vaultOf(first, branch!).rebind('layer', sealed, { scope: parent!, name: 'layer' });
  await vaultOf(first, branch!).copyIn('layer', bound);
  await sealed.close();
  await first.keys.refresh(tenant);
  await vaultOf(first, branch!).writeFile('later', utf8('written under the new key'));
  first.keys.close();

  const path = join(root, 'lakebed-keys', 'default.json');
  const old = readFileSync(path);
  rmSync(path);
  const second = await start();
  const read = async (scope: { tenant: string; timeline: string }, name: string): Promise<string> =>
    Buffer.from(await vaultOf(second, scope).readFile(name)).toString();
  expect(await read(parent!, 'layer')).toBe('of the parent, which its branches read');
  expect(await read(branch!, 'layer')).toBe('of the parent, which its branches read');
  expect(await read(branch!, 'own')).toBe('of the branch');
  expect(await read(branch!, 'later')).toBe('written under the new key');
  second.keys.close();
  writeFileSync(path, old, { mode: 0o600 });
});

test('shredded, a tenant leaves no wrapped key on the disk of a node that runs', async () => {
  const documents = join(root, 'node', 'lakebed-keys', 'documents', 'keys', OTHER);
  const kept = (): string =>
    readdirSync(documents)
      .map(name => readFileSync(join(documents, name), 'utf8'))
      .join('');
  const storage = await start();
  const vault = storage.vault(`${OTHER}/${TIMELINE}`, { tenant: OTHER, timeline: TIMELINE });
  await vault.readFile('control');
  expect(kept()).toContain('"wrapped"');
  await storage.keys.admin.shred(OTHER);
  await storage.keys.refresh(OTHER);
  expect(kept()).toContain('"shredded"');
  expect(kept()).not.toContain('"wrapped"');
  await expect(vault.readFile('control')).rejects.toMatchObject({ code: 'key-revoked' });
  storage.keys.close();
});
