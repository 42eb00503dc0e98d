import { describe, expect, test } from 'vitest';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimDisk, SimStopped } from '../../integration/sim/disk.ts';
import { SimKeys } from '../../integration/sim/keys.ts';
import { NonceLedger } from '../../integration/sim/nonces.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import { openVault } from './disk-vault.ts';
import { BAG_DEKS_MAX } from './key-bag.ts';
import { KeyCalls } from './key-calls.ts';
import type { KeyDocument } from './key-document.ts';
import { KeyRing } from './key-ring.ts';
import { KEY_TIMES } from './key-state.ts';
import { blobKeyStore } from './key-store.ts';
import { filesInBlobs, filesOnDisk, type RewrapProgress, retireOld, rewrapPass } from './rewrap.ts';
import type { Vault } from './vault.ts';

const T = 'ab'.repeat(16);
const PREFIX = `tenants/${T}/`;

/** A tenant with files on a disk, objects in a store, and one node that serves it. */
class World {
  readonly random: SimRandom;
  readonly clock = new SimClock();
  readonly kms: SimKeys;
  readonly blobs: SimBlobs;
  readonly disk: SimDisk;
  /** Refuses any nonce used twice: chunks, frames, wrapped DEKs in headers and in bags. */
  readonly ledger = new NonceLedger();
  readonly wanted = new Map<string, Uint8Array>();
  ring: KeyRing;
  vault: Vault;
  private starts = 0;

  constructor(seed = 1) {
    this.random = new SimRandom(seed);
    this.kms = new SimKeys({ random: this.random.split('kms') });
    const ledger = this.ledger;
    this.blobs = new SimBlobs({
      random: this.random.split('blobs'),
      onPut: (key, bytes) => ledger.seeObject(key, bytes),
    });
    this.disk = new SimDisk({
      random: this.random.split('disk'),
      onWrite: (path, offset, bytes) => ledger.see(path, offset, bytes),
    });
    this.kms.make('one');
    this.kms.make('two');
    this.ring = this.start();
    this.vault = this.attach();
  }

  start(node = 'node-1', hasDisk = true): KeyRing {
    const { clock, kms, random, disk } = this;
    const audit = { line: () => undefined };
    const calls = new KeyCalls({ services: [kms], clock, audit, who: node, requestMs: KEY_TIMES.requestMs });
    return new KeyRing({
      store: blobKeyStore(this.blobs),
      calls,
      // Chance does not start over when a machine does.
      random: random.split(`${node}, start ${this.starts++}`),
      times: KEY_TIMES,
      defaultCmk: 'sim:one',
      node,
      ...(hasDisk ? { localFiles: () => [filesOnDisk(disk, T, node)] } : {}),
    });
  }

  attach(): Vault {
    const keys = this.ring.attach(T);
    return openVault({ disk: this.disk, directory: T, scope: { tenant: T }, keys, random: this.random });
  }

  /** As after a crash: what was in memory is gone. */
  restart(): void {
    this.blobs.before = this.blobs.after = this.kms.before = () => undefined;
    this.ring.close();
    this.ring = this.start();
    this.vault = this.attach();
  }

  async put(name: string): Promise<void> {
    const bytes = utf8(`contents of ${name}`);
    if (name.startsWith('object'))
      await this.blobs.put(`${PREFIX}${name}`, await this.vault.seal(name, bytes));
    else if (name.startsWith('log')) {
      const log = await this.vault.log(name, { create: true });
      log.append([bytes]);
      await log.flush();
      await log.close();
    } else await this.vault.writeFile(name, bytes);
    this.wanted.set(name, bytes);
  }

  async get(name: string): Promise<Uint8Array> {
    if (name.startsWith('object')) return this.vault.unseal(name, await this.blobs.get(`${PREFIX}${name}`));
    if (!name.startsWith('log')) return this.vault.readFile(name);
    const log = await this.vault.log(name, { create: false });
    const bytes = await log.read(0, log.length);
    await log.close();
    return bytes;
  }

  async readable(): Promise<string[]> {
    const readable: string[] = [];
    for (const [name, bytes] of this.wanted) {
      try {
        expect(await this.get(name)).toEqual(bytes);
        readable.push(name);
      } catch (error) {
        if (!isFault(error)) throw error;
      }
    }
    return readable;
  }

  get shared() {
    return [filesInBlobs(this.blobs, PREFIX, 'objects')];
  }

  rewrap(progress?: (p: RewrapProgress) => void): Promise<RewrapProgress> {
    const keys = this.ring.keysOf(T)!;
    const options = { keys, store: this.ring.admin.store, files: this.shared[0]! };
    return rewrapPass(progress ? { ...options, progress } : options);
  }

  retire(): Promise<KeyDocument> {
    return retireOld({ admin: this.ring.admin, keys: this.ring.keysOf(T)!, shared: this.shared });
  }

  /** The node notices a change and does what it must in the background. */
  async noticed(): Promise<void> {
    for (let i = 0; i < 3; i++) {
      await this.ring.refresh(T);
      await this.clock.run(this.clock.monotonic());
    }
  }
}

async function filled(seed?: number): Promise<World> {
  const world = new World(seed);
  for (const name of ['file-1', 'log-1', 'object-1', 'object-2']) await world.put(name);
  world.restart(); // so that no node remembers having made them
  await world.ring.admin.rotateKek(T);
  await world.noticed();
  for (const name of ['file-2', 'log-2', 'object-3']) await world.put(name);
  return world;
}

const kekStates = (document: KeyDocument): string =>
  document.keks.map(k => `${k.version} ${k.state}`).join(', ');

describe('rotation', () => {
  test('of a KEK changes what new files use; old ones are read as before, untouched', async () => {
    const w = await filled();
    const document = await w.ring.admin.load(T);
    expect(kekStates(document)).toBe('1 old, 2 current');
    const versionOf = (bytes: Uint8Array): number =>
      new DataView(bytes.buffer, bytes.byteOffset).getUint32(64);
    expect(versionOf(await w.disk.readFile(`${T}/file-1`))).toBe(1);
    expect(versionOf(await w.disk.readFile(`${T}/file-2`))).toBe(2);
    expect((await w.readable()).length).toBe(7);
    w.restart();
    expect((await w.readable()).length).toBe(7);
  });

  test('of the CMK rewraps KEKs alone', async () => {
    const w = await filled();
    const before = w.disk.files();
    w.kms.rotate('one');
    const steps: string[] = [];
    const document = await w.ring.admin.rewrapKeks(T, (done, of) => steps.push(`${done}/${of}`));
    expect(document.keks.map(k => k.keyVersion)).toEqual(['2', '2']);
    expect(steps).toEqual(['1/2', '2/2']);
    expect(w.disk.files()).toEqual(before);
    w.restart();
    expect((await w.readable()).length).toBe(7);
  });

  test('to another CMK: everything is read on, and the old CMK is not needed any more', async () => {
    const w = await filled();
    await w.ring.admin.changeCmk(T, 'sim:two');
    w.kms.set('one', 'destroyed');
    await w.noticed();
    expect((await w.readable()).length).toBe(7);
    w.restart();
    expect((await w.readable()).length).toBe(7);
    await expect(w.ring.admin.changeCmk(T, 'sim:none')).rejects.toMatchObject({ code: 'key-destroyed' });
    expect((await w.ring.admin.load(T)).cmk).toBe('sim:two');
  });

  test('by two at once: one wins, the other is told', async () => {
    const w = await filled();
    const results = await Promise.allSettled([
      w.ring.admin.rotateKek(T),
      w.ring.admin.changeCmk(T, 'sim:two'),
    ]);
    expect(results.map(r => r.status).sort()).toEqual(['fulfilled', 'rejected']);
    const lost = results.find(r => r.status === 'rejected') as PromiseRejectedResult;
    expect(lost.reason).toMatchObject({ code: 'key-conflict', kind: 'conflict' });
    w.restart();
    expect((await w.readable()).length).toBe(7);
  });

  test('by one who slept: its number is free again, and it gives way all the same', async () => {
    const w = await filled();
    const { store } = w.ring.admin;
    const asleep = await w.ring.admin.load(T);
    await w.ring.admin.rotateKek(T);
    await w.ring.admin.rotateKek(T);
    const stale = { ...asleep, sequence: asleep.sequence + 1, cmk: 'sim:two' };
    await expect(store.put(stale)).rejects.toMatchObject({ code: 'key-conflict' });
    expect(await w.ring.admin.load(T)).toMatchObject({ cmk: 'sim:one', sequence: asleep.sequence + 2 });
    expect([...w.blobs.objects.keys()].filter(key => key.includes('document-')).length).toBe(1);
  });

  test('a put whose answer was lost is not taken for somebody else’s', async () => {
    const w = await filled();
    const { blobs } = w;
    const put = blobs.put.bind(blobs);
    // What a retrying wrapper does: the first answer is lost, the second says it exists.
    blobs.put = async (key, bytes, options) => {
      if (key.includes('document-')) await put(key, bytes, options);
      await put(key, bytes, options);
    };
    expect(kekStates(await w.ring.admin.rotateKek(T))).toBe('1 old, 2 old, 3 current');
  });
});

describe('rewrapping', () => {
  test('bags what the old KEK wrapped, reads no data, rewrites nothing; then the old KEK may go', async () => {
    const w = await filled();
    const before = w.disk.files();
    const objects = new Map(w.blobs.objects);
    const gets: number[] = [];
    const get = w.blobs.get.bind(w.blobs);
    w.blobs.get = async (key, range) => {
      if (key.startsWith('tenants/')) gets.push(range?.length ?? -1);
      return get(key, range);
    };
    const seen: number[] = [];
    expect(await w.rewrap(p => seen.push(p.seen))).toEqual({ seen: 3, rewrapped: 2, refused: [] });
    expect(gets).toEqual([512, 512, 512]);
    expect(seen).toEqual([1, 2, 3]);
    const document = await w.retire();
    expect(kekStates(document)).toBe('1 retired, 2 current');
    expect(JSON.stringify(document.keks[0])).not.toContain('wrapped');
    expect(w.disk.files()).toEqual(before);
    for (const [name, stored] of objects)
      if (!name.startsWith('keys/')) expect(w.blobs.objects.get(name)).toBe(stored);
    expect((await w.readable()).length).toBe(7);
    w.restart();
    expect((await w.readable()).length).toBe(7);
  });

  test('twice and thrice over: bags of bags', async () => {
    const w = await filled();
    for (let round = 0; round < 3; round++) {
      await w.rewrap();
      await w.noticed();
      await w.retire();
      await w.ring.admin.rotateKek(T);
      await w.noticed();
      await w.put(`file-r${round}`);
      w.restart();
      await w.noticed();
      expect((await w.readable()).length).toBe(8 + round);
    }
    await w.retire();
    w.restart();
    expect((await w.readable()).length).toBe(10);
    expect(w.ledger.count).toBeGreaterThan(40);
    const bags = [...w.blobs.objects.keys()].filter(name => name.includes('/bags/'));
    expect(bags.every(name => name.includes('/bags/00000005/'))).toBe(true);
  });

  test('a KEK stays while a node has not caught up; a node that is gone can be forgotten', async () => {
    const w = await filled();
    const store = w.ring.admin.store;
    await store.putHolder(T, { node: 'node-9', sequence: 1, rewrapped: 1, at: 'then' });
    await expect(w.retire()).rejects.toThrow('node-9');
    await store.removeHolder(T, 'node-9');
    expect(kekStates(await w.retire())).toBe('1 retired, 2 current');
  });

  test('a file that was being written when the KEK was rotated is not lost', async () => {
    const w = await filled();
    const writer = await w.vault.create('file-slow');
    await writer.write(utf8('contents of '));
    const sealed = await w.vault.seal('object-slow', utf8('contents of object-slow'));
    await w.ring.admin.rotateKek(T);
    await w.noticed();
    await w.retire();
    await writer.write(utf8('file-slow'));
    await writer.finish();
    await w.blobs.put(`${PREFIX}object-slow`, sealed);
    for (const name of ['file-slow', 'object-slow']) w.wanted.set(name, utf8(`contents of ${name}`));
    w.restart();
    expect((await w.readable()).length).toBe(9);
  });

  test('nor is an object that a node without a disk was sending', async () => {
    const w = await filled();
    const ring = w.start('node-2', false);
    const vault = openVault({
      disk: w.disk,
      directory: T,
      scope: { tenant: T },
      keys: ring.attach(T),
      random: w.random,
    });
    const sealed = await vault.seal('object-slow', utf8('contents of object-slow'));
    await w.ring.admin.rotateKek(T);
    await w.noticed();
    await ring.refresh(T);
    await w.clock.run(w.clock.monotonic());
    await w.retire();
    await w.blobs.put(`${PREFIX}object-slow`, sealed);
    w.wanted.set('object-slow', utf8('contents of object-slow'));
    w.restart();
    expect((await w.readable()).length).toBe(8);
    ring.close();
  });

  test('damaged files hold up the retiring of their KEK, by name, and nothing else', async () => {
    const w = await filled();
    const stored = w.blobs.objects.get(`${PREFIX}object-1`)!;
    const bytes = stored.bytes.slice();
    bytes[120]! ^= 1;
    w.blobs.objects.set(`${PREFIX}object-1`, { ...stored, bytes });
    await expect(w.retire()).rejects.toThrow('object-1');
    expect(await w.readable()).toEqual(['file-1', 'log-1', 'object-2', 'file-2', 'log-2', 'object-3']);
  });

  test('a bag that was changed is refused', async () => {
    const w = await filled();
    await w.retire();
    const name = [...w.blobs.objects.keys()].find(key => key.includes('/bags/') && key.includes('objects'))!;
    const stored = w.blobs.objects.get(name)!;
    const text = Buffer.from(stored.bytes).toString();
    w.blobs.objects.set(name, { ...stored, bytes: utf8(text.replace('"seen":3', '"seen":4')) });
    w.restart();
    await expect(w.get('object-1')).rejects.toMatchObject({ code: 'sealed-tampered' });
    expect(await w.get('object-3')).toEqual(w.wanted.get('object-3'));
  });
});

describe('shredding', () => {
  test('leaves no wrapped KEK anywhere, in no older document and no bag; the ring says so for good', async () => {
    const w = await filled();
    await w.rewrap();
    await w.ring.admin.shred(T);
    await w.noticed();
    expect(await w.readable()).toEqual([]);
    await expect(w.get('file-2')).rejects.toMatchObject({ code: 'key-revoked' });
    expect(w.ring.status()[0]).toMatchObject({ phase: 'shredded' });
    const kept = [...w.blobs.objects].filter(
      ([name]) => name.startsWith('keys/') && !name.includes('holders'),
    );
    expect(kept.length).toBe(1);
    expect(Buffer.from(kept[0]![1].bytes).toString()).not.toContain('wrapped');
    w.restart();
    expect(await w.readable()).toEqual([]);
    await expect(w.ring.admin.rotateKek(T)).rejects.toMatchObject({ code: 'key-destroyed' });
    await w.ring.admin.shred(T); // again is no error
  });
});

/** What may be interrupted, and what is true once it was done. */
const WORK: Record<string, { run(w: World): Promise<unknown>; done(w: World): Promise<void> }> = {
  'rotate KEK': {
    run: w => w.ring.admin.rotateKek(T),
    done: async w => expect((await w.ring.admin.load(T)).keks.length).toBeGreaterThanOrEqual(3),
  },
  'rewrap KEKs': {
    run: w => {
      w.kms.rotate('one');
      return w.ring.admin.rewrapKeks(T);
    },
    done: async w =>
      expect(Number((await w.ring.admin.load(T)).keks[0]!.keyVersion)).toBeGreaterThanOrEqual(2),
  },
  'change CMK': {
    run: w => w.ring.admin.changeCmk(T, 'sim:two'),
    done: async w => expect((await w.ring.admin.load(T)).cmk).toBe('sim:two'),
  },
  'rewrap files': { run: w => w.rewrap(), done: async () => undefined },
  'retire KEK': {
    run: async w => {
      await w.noticed();
      return w.retire();
    },
    done: async w => expect(kekStates(await w.ring.admin.load(T))).toBe('1 retired, 2 current'),
  },
};

/** Stops the machine at the n-th call of the store or the key service: before it, or right after it was done. */
function stopAt(w: World, step: number): () => boolean {
  let left = step;
  let stopped = false;
  const stop = (): void => {
    if (stopped) throw new SimStopped('the machine has stopped');
    if (--left > 0) return;
    stopped = true;
    throw new SimStopped(`the machine stopped at step ${step}`);
  };
  w.blobs.before = w.blobs.after = w.kms.before = stop;
  return () => stopped;
}

describe('a crash at any step', () => {
  test.each(Object.keys(WORK))(
    '%s: nothing becomes unreadable, and running it again finishes it',
    async name => {
      const work = WORK[name]!;
      let steps = 0;
      for (let step = 1; ; step++) {
        const w = await filled(step);
        const stopped = stopAt(w, step);
        await work.run(w).catch(error => {
          if (!(error instanceof SimStopped)) throw error;
        });
        if (!stopped()) break;
        steps++;
        w.restart();
        expect((await w.readable()).length, `step ${step}`).toBe(7);
        await work.run(w);
        await work.done(w);
        w.restart();
        expect((await w.readable()).length, `step ${step}, run again`).toBe(7);
      }
      expect(steps).toBeGreaterThan(3);
    },
  );

  test('shred: all or nothing can be read, and running it again finishes it', async () => {
    for (let step = 1; ; step++) {
      const w = await filled(step);
      const stopped = stopAt(w, step);
      await w.ring.admin.shred(T).catch(error => {
        if (!(error instanceof SimStopped)) throw error;
      });
      if (!stopped()) break;
      w.restart();
      expect([0, 7]).toContain((await w.readable()).length);
      await w.ring.admin.shred(T);
      w.restart();
      expect(await w.readable()).toEqual([]);
      const documents = [...w.blobs.objects.keys()].filter(key => key.includes('document-'));
      expect(documents.length).toBe(1);
    }
  });

  test('a long pass goes on behind its last bag', async () => {
    const w = new World();
    const many = 2 * BAG_DEKS_MAX + 100;
    for (let i = 0; i < many; i++) {
      const name = `object-${String(i).padStart(6, '0')}`;
      await w.blobs.put(`${PREFIX}${name}`, await w.vault.seal(name, utf8('x')));
    }
    w.restart();
    await w.ring.admin.rotateKek(T);
    await w.noticed();
    let read = 0;
    w.blobs.before = (verb, key) => {
      if (verb === 'get' && key.startsWith(PREFIX) && ++read > BAG_DEKS_MAX + 500)
        throw new SimStopped('stop');
    };
    await expect(w.rewrap()).rejects.toThrow('stop');
    w.restart();
    read = 0;
    w.blobs.before = (verb, key) => void (verb === 'get' && key.startsWith(PREFIX) && read++);
    expect(await w.rewrap()).toEqual({ seen: many, rewrapped: many - BAG_DEKS_MAX, refused: [] });
    expect(read).toBe(many - BAG_DEKS_MAX);
    const bags = (await w.ring.admin.store.bags(T, 2)).filter(bag => bag.domain === 'objects');
    expect(bags.map(b => [b.number, b.deks.length, b.done])).toEqual([
      [1, BAG_DEKS_MAX, false],
      [2, BAG_DEKS_MAX, false],
      [3, 100, true],
    ]);
  });
});
