// A pageserver's object store and cache disk, as a timeline's remote half sees them, in the simulator: machines that
// come and go, one object store that stays and misbehaves, one control plane that knows the newest generation.
//
//   LateBlobs      a put that fails with `blob-unavailable` and arrives some seconds later all the same, over
//                  whatever was put meanwhile
//   RemoteMachine  one process: a disk, the queues that a process has once, and one timeline's remote half

import { expect } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { Fault } from '../../src/base/fault.ts';
import { Semaphore } from '../../src/base/flow.ts';
import { tenantId, timelineId, UNSHARDED } from '../../src/base/ids.ts';
import type { Blobs, Log, PutOptions } from '../../src/base/ports.ts';
import { ALL_KEYS } from '../../src/pageserver/key.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { describeLayer } from '../../src/pageserver/layers/layer-name.ts';
import { DeletionQueue } from '../../src/pageserver/remote/deletion-queue.ts';
import { findIndex } from '../../src/pageserver/remote/find.ts';
import { newIndex } from '../../src/pageserver/remote/index-part.ts';
import { LastingPuts } from '../../src/pageserver/remote/lasting-puts.ts';
import { newCacheCounters } from '../../src/pageserver/remote/layer-cache.ts';
import { timelineDirectory } from '../../src/pageserver/remote/paths.ts';
import { type RemoteDeps, RemoteTimeline } from '../../src/pageserver/remote/remote-timeline.ts';
import { retrying } from '../../src/pageserver/remote/retry.ts';
import { MAY_ALL, type Permissions } from '../../src/pageserver/remote/upload-queue.ts';
import { newUploadCounters } from '../../src/pageserver/remote/uploader.ts';
import { Validator } from '../../src/pageserver/remote/validator.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import type { Vault } from '../../src/seal/vault.ts';
import { SimBlobs } from './blobs.ts';
import { SimClock } from './clock.ts';
import { SimDisk, SimStopped } from './disk.ts';
import { SimFileKeys } from './file-keys.ts';
import { SimRandom } from './random.ts';

export const TENANT = tenantId('11'.repeat(16));
export const TIMELINE = timelineId('22'.repeat(16));
export const AT = { tenant: TENANT, shard: UNSHARDED };
export const DIRECTORY = timelineDirectory(AT, TIMELINE);

const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silent,
};

export class LateBlobs implements Blobs {
  /** Puts in a thousand that arrive late. */
  late = 0;
  lateMs = 5000;
  private readonly blobs: SimBlobs;
  private readonly clock: SimClock;
  private readonly random: SimRandom;

  constructor(blobs: SimBlobs, clock: SimClock, random: SimRandom) {
    this.blobs = blobs;
    this.clock = clock;
    this.random = random;
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void> {
    if (this.random.below(1000) >= this.late) return this.blobs.put(key, bytes, options);
    const copy = bytes.slice();
    const modifiedMs = this.clock.now();
    this.clock.at(this.random.below(this.lateMs), () =>
      this.blobs.objects.set(key, { bytes: copy, modifiedMs }),
    );
    throw new Fault('blob-unavailable', `${key}: timed out`);
  }

  get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    return this.blobs.get(key, range);
  }
  head(key: string): ReturnType<Blobs['head']> {
    return this.blobs.head(key);
  }
  list(prefix: string): ReturnType<Blobs['list']> {
    return this.blobs.list(prefix);
  }
  remove(keys: readonly string[]): Promise<void> {
    return this.blobs.remove(keys);
  }
  copy(from: string, to: string): Promise<void> {
    return this.blobs.copy(from, to);
  }
}

/** The object store as one process reaches it, until the process dies in the middle of a call. */
export class MortalBlobs implements Blobs {
  /** Calls made. */
  calls = 0;
  /** The call in which it dies, and whether the store did it all the same. */
  diesAt = Infinity;
  happened = false;
  private readonly blobs: Blobs;

  constructor(blobs: Blobs) {
    this.blobs = blobs;
  }

  get isDead(): boolean {
    return this.calls >= this.diesAt;
  }

  private async call<T>(work: () => Promise<T>): Promise<T> {
    if (this.isDead) throw new SimStopped('the process is dead');
    this.calls++;
    if (!this.isDead) {
      const answer = await work();
      if (this.isDead) throw new SimStopped('the process died meanwhile');
      return answer;
    }
    if (this.happened) await work().catch(() => undefined);
    throw new SimStopped('the process died in this call');
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void> {
    return this.call(() => this.blobs.put(key, bytes, options));
  }
  get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    return this.call(() => this.blobs.get(key, range));
  }
  head(key: string): ReturnType<Blobs['head']> {
    return this.call(() => this.blobs.head(key));
  }
  async *list(prefix: string): ReturnType<Blobs['list']> {
    await this.call(async () => undefined);
    yield* this.blobs.list(prefix);
  }
  remove(keys: readonly string[]): Promise<void> {
    return this.call(() => this.blobs.remove(keys));
  }
  copy(from: string, to: string): Promise<void> {
    return this.call(() => this.blobs.copy(from, to));
  }
}

/** What a layer of this name holds: told from the name alone. */
export const contentsOf = (name: string, bytes: number): Uint8Array => {
  const pattern = utf8(`${name} `);
  return Uint8Array.from({ length: bytes }, (_, i) => pattern[i % pattern.length]!);
};

export class RemoteWorld {
  readonly clock = new SimClock();
  readonly random: SimRandom;
  readonly store: SimBlobs;
  readonly blobs: LateBlobs;
  readonly keys: SimFileKeys;
  /** The control plane's word: this generation may write, no other. */
  newest = 0;
  /** The control plane does not answer. */
  silent = false;
  private machines = 0;
  machineCount = 0;

  constructor(seed: number, latencyMs = 20) {
    this.random = new SimRandom(seed);
    this.store = new SimBlobs({ random: this.random.split('blobs'), clock: this.clock, latencyMs });
    this.blobs = new LateBlobs(this.store, this.clock, this.random.split('late'));
    this.keys = new SimFileKeys(TENANT, this.random.split('keys'));
  }

  newDisk(): SimDisk {
    return new SimDisk({ random: this.random.split(`disk ${this.machines++}`) });
  }

  /** Lets time pass until the work is over. */
  async drive<T>(work: Promise<T>, withinMs = 3_600_000): Promise<T> {
    let over = false;
    const settled = work.finally(() => (over = true));
    settled.catch(() => undefined);
    const until = this.clock.monotonic() + withinMs;
    await this.clock.run(until, () => over);
    if (!over) throw new Error(`not over within ${withinMs} ms`);
    return settled;
  }

  /** Lets so much time pass, whether anything happens in it or not. */
  async pass(ms: number): Promise<void> {
    this.clock.at(ms, () => undefined);
    await this.clock.run(this.clock.monotonic() + ms);
  }

  machine(disk = this.newDisk()): RemoteMachine {
    return new RemoteMachine(this, disk);
  }
}

export class RemoteMachine {
  readonly world: RemoteWorld;
  readonly disk: SimDisk;
  readonly deps: RemoteDeps;
  readonly vault: Vault;
  readonly blobs: MortalBlobs;
  remote!: RemoteTimeline;
  /** Every state that was handed over, by its end: the names of its layers. */
  readonly states: { readonly lsn: number; readonly layers: readonly string[] }[] = [];
  layers: LayerDesc[] = [];
  lsn = 8;
  /** What safekeepers were told. */
  visible = 0;
  fatal: unknown;
  private tail = 0;

  constructor(world: RemoteWorld, disk: SimDisk) {
    this.world = world;
    this.disk = disk;
    const { clock } = world;
    const blobs = new MortalBlobs(world.blobs);
    this.blobs = blobs;
    const random = world.random.split(`machine ${world.machineCount++}`);
    const validator = new Validator({
      clock,
      gatherMs: 100,
      validate: async claims => {
        while (world.silent) await clock.sleep(1000);
        return claims.map(({ generation }) => generation === world.newest);
      },
    });
    this.deps = {
      blobs,
      clock,
      random,
      log: silent,
      lasting: new LastingPuts({ blobs, clock, settleMs: 6000, namesAreOld: false }),
      downloads: new Semaphore(4),
      uploadBytes: new Semaphore(1024 * 1024),
      validator,
      deletions: new DeletionQueue({ blobs, validator, clock, random, log: silent, ripeMs: 6000 }),
      uploads: newUploadCounters(),
      cache: newCacheCounters(),
    };
    const scope = { tenant: TENANT, timeline: TIMELINE };
    this.vault = openVault({ disk, directory: DIRECTORY, scope, keys: world.keys, random });
  }

  /** Attaches the timeline as the object store has it, or makes it. */
  async attach(generation: number, may: Permissions = MAY_ALL): Promise<void> {
    const { blobs } = this;
    const { clock, random } = this.deps;
    const found = await retrying({ clock, random }, () =>
      findIndex(blobs, this.vault, AT, TIMELINE, generation),
    );
    const index =
      found?.value ?? newIndex({ pgVersion: 17, diskConsistentLsn: 8, prevRecordLsn: 0, initdbLsn: 8 });
    this.remote = new RemoteTimeline(this.deps, {
      at: AT,
      timeline: TIMELINE,
      vault: this.vault,
      generation,
      index,
      stored: found !== undefined,
      may,
      remoteConsistent: lsn => (this.visible = lsn),
      fatal: error => (this.fatal = error),
    });
    this.lsn = index.diskConsistentLsn;
    this.visible = this.remote.visibleLsn;
    this.layers = [...index.layers].map(([name, ref]) => ({ ...emptyDesc, name, bytes: ref.bytes }));
    this.noteState();
    await this.remote.start();
  }

  /** A new layer over the next stretch of WAL. */
  async write(bytes = 1000): Promise<LayerDesc> {
    const lsnEnd = this.lsn + 8 * (1 + this.world.random.below(1000));
    const desc = describeLayer(
      { ...emptyDesc, lsnStart: this.lsn, lsnEnd, generation: this.remote.generation },
      ++this.tail * 0x1001 + this.remote.generation,
      bytes,
    );
    const writer = await this.vault.create(desc.name, { generation: desc.generation });
    await writer.write(contentsOf(desc.name, bytes));
    await writer.finish();
    return desc;
  }

  /** A flush: a layer, and the position it reaches. */
  async flush(): Promise<number> {
    const desc = await this.write(1 + this.world.random.below(3000));
    this.lsn = desc.lsnEnd;
    this.layers.push(desc);
    this.noteState();
    return this.remote.layersChanged([desc], [], { diskConsistentLsn: this.lsn });
  }

  /** Several layers become one. */
  async compact(count: number): Promise<number> {
    const removed = this.layers.slice(0, count).map(layer => layer.name);
    const desc = await this.write(5000);
    this.layers = [desc, ...this.layers.slice(count)];
    this.noteState();
    const sequence = this.remote.layersChanged([desc], removed);
    return sequence;
  }

  private noteState(): void {
    this.states.push({ lsn: this.lsn, layers: this.layers.map(layer => layer.name).sort() });
  }

  /** Every layer the timeline has can be read, to the last byte. */
  async checkAll(): Promise<void> {
    for (const [name, ref] of this.remote.index.layers) {
      const source = await this.remote.openLayer(name);
      const bytes = await source.read(0, source.size);
      await source.close();
      expect(bytes, name).toEqual(contentsOf(name, ref.bytes));
    }
  }

  /** The process ends: nothing of it happens any more. */
  crash(): void {
    this.disk.crash();
  }
}

const emptyDesc: LayerDesc = {
  name: '',
  kind: 'delta',
  sparse: false,
  keys: ALL_KEYS,
  lsnStart: 0,
  lsnEnd: 0,
  bytes: 0,
  generation: 0,
  isL0: true,
};
