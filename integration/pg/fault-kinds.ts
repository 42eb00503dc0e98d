// What can happen to a running system, each as a function that does it and resolves when it has ended: processes die,
// stand still or lose their cache, clocks step, the object store goes away, networks are cut.
//
// `touches` names what a fault lays hands on: two faults with nothing in common can happen at once.

import { readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../src/base/ports.ts';
import type { Compute } from './compute.ts';
import type { Daemon } from './daemon.ts';
import type { Storage } from './harness.ts';
import type { Ledger } from './ledger.ts';

export interface Scene {
  readonly storage: Storage;
  readonly ledger: Ledger;
  readonly random: Random;
  /** How long the object store stays away, and a quarter of it is how long some networks stay cut. */
  readonly longMs: number;
  compute: Compute;
  /** A new compute on the same timeline, started. */
  next(): Promise<Compute>;
}

export interface FaultKind {
  readonly name: string;
  readonly touches: readonly string[];
  run(scene: Scene): Promise<void>;
}

export const pause = (ms: number): Promise<void> => new Promise(done => setTimeout(done, ms));

const STILL_MS = 2000;
const CUT_MS = 3000;
/** With no quorum nothing is acknowledged for this long ... */
const QUIET_MS = 1000;
/** ... beginning this soon. */
const STILL_WITHIN_MS = 10_000;

async function bounce(daemon: Daemon, awayMs: number): Promise<void> {
  await daemon.kill('SIGKILL');
  await pause(awayMs);
  await daemon.start();
}

async function freeze(daemon: Daemon, ms: number): Promise<void> {
  daemon.signal('SIGSTOP');
  await pause(ms);
  daemon.signal('SIGCONT');
}

/** What lies in the pageserver's cache: everything but its settings. */
function wipeCache(storage: Storage): void {
  const tenants = join(storage.dir, 'pageserver', 'tenants');
  for (const tenant of readdirSync(tenants)) {
    rmSync(join(tenants, tenant, 'timelines'), { recursive: true, force: true });
  }
}

async function newCompute(scene: Scene): Promise<void> {
  scene.compute = await scene.next();
  scene.ledger.target = scene.compute;
}

/** With two of three safekeepers away nothing may be acknowledged; what waited goes on when they are back. */
async function twoSafekeepersDie(scene: Scene, spared: number): Promise<void> {
  const { storage, ledger } = scene;
  const dying = storage.safekeepers.filter((_, i) => i !== spared);
  await Promise.all(dying.map(sk => sk.kill('SIGKILL')));
  // Answers may have been on their way when they died; after them comes none.
  const end = performance.now() + STILL_WITHIN_MS;
  for (let before = -1; before !== ledger.acknowledged; ) {
    if (performance.now() > end) throw new Error('one safekeeper of three goes on acknowledging commits');
    before = ledger.acknowledged;
    await pause(QUIET_MS);
  }
  await Promise.all(dying.map(sk => sk.start()));
}

/** A store whose directory cannot be reached at all: every call fails, none says that an object is missing. */
async function storeAway({ storage, longMs }: Scene): Promise<void> {
  renameSync(storage.store, `${storage.store}.away`);
  symlinkSync(storage.store, storage.store);
  await pause(longMs);
  rmSync(storage.store);
  renameSync(`${storage.store}.away`, storage.store);
}

/** A server and everything that it started. */
function family(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // Gone meanwhile.
    }
  }
  const all = [pid];
  for (let i = 0; i < all.length; i++) all.push(...(children.get(all[i]!) ?? []));
  return all;
}

function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone meanwhile.
    }
  }
}

const SAFEKEEPERS = [0, 1, 2] as const;
const storageNames = ['safekeeper-1', 'safekeeper-2', 'safekeeper-3', 'pageserver', 'broker', 'store'];

function safekeeperFaults(): FaultKind[] {
  return SAFEKEEPERS.flatMap(i => [
    {
      name: `safekeeper ${i + 1} dies`,
      touches: ['quorum'],
      run: ({ storage }: Scene) => bounce(storage.safekeepers[i]!, 500),
    },
    {
      name: `the safekeepers but ${i + 1} die`,
      touches: ['quorum'],
      run: (scene: Scene) => twoSafekeepersDie(scene, i),
    },
    {
      name: `safekeeper ${i + 1} stands still`,
      touches: ['quorum'],
      run: ({ storage }: Scene) => freeze(storage.safekeepers[i]!, STILL_MS),
    },
  ]);
}

function otherFaults(): FaultKind[] {
  return [
    {
      name: 'the pageserver dies',
      touches: ['pageserver'],
      run: ({ storage }) => bounce(storage.pageserver, 200),
    },
    {
      name: 'the pageserver dies and its cache is gone',
      touches: ['pageserver', 'store'],
      async run({ storage }) {
        await storage.pageserver.kill('SIGKILL');
        wipeCache(storage);
        await storage.pageserver.start();
      },
    },
    {
      name: 'the pageserver stands still',
      touches: ['pageserver'],
      run: ({ storage }) => freeze(storage.pageserver, STILL_MS),
    },
    { name: 'the broker dies', touches: ['broker'], run: ({ storage }) => bounce(storage.broker, 1000) },
    {
      name: 'the broker stands still',
      touches: ['broker'],
      run: ({ storage }) => freeze(storage.broker, STILL_MS),
    },
    {
      name: 'the compute dies',
      touches: ['compute', 'quorum', 'pageserver'],
      async run(scene) {
        await scene.compute.stop('SIGKILL');
        await newCompute(scene);
      },
    },
    {
      name: 'the compute stands still',
      touches: ['compute'],
      async run({ compute }) {
        const pids = compute.running ? family(compute.pid) : [];
        signalAll(pids, 'SIGSTOP');
        await pause(STILL_MS);
        signalAll(pids, 'SIGCONT');
      },
    },
    {
      name: 'everything dies',
      touches: ['compute', 'quorum', ...storageNames],
      async run(scene) {
        const { storage } = scene;
        await Promise.all([scene.compute.stop('SIGKILL'), ...storage.daemons.map(d => d.kill('SIGKILL'))]);
        await Promise.all(storage.daemons.map(d => d.start()));
        await newCompute(scene);
      },
    },
    { name: 'the object store is away', touches: ['store', 'pageserver'], run: storeAway },
    {
      name: 'clocks step',
      touches: ['clock'],
      async run({ storage, random }) {
        const hours = [-24, -1, 1, 24];
        for (const daemon of storage.daemons) storage.stepClock(daemon, hours[random.below(4)]! * 3_600_000);
        await pause(1000);
        for (const daemon of storage.daemons) storage.stepClock(daemon, 0);
        await pause(200);
      },
    },
  ];
}

/** Each way between two processes, both manners of being cut. */
function cuts(storage: Storage): FaultKind[] {
  return [...storage.wires.values()].flatMap(wire =>
    (['silent', 'refused'] as const).map(state => ({
      name: `${wire.name} is ${state}`,
      touches: wire.name.includes('safekeeper') ? ['quorum'] : wire.name.split(' > '),
      async run({ random, longMs }: Scene) {
        wire.cut(state);
        await pause(random.below(2) === 0 ? CUT_MS : Math.max(CUT_MS, longMs / 4));
        wire.heal();
      },
    })),
  );
}

export const faultKinds = (storage: Storage): FaultKind[] => [
  ...safekeeperFaults(),
  ...otherFaults(),
  ...cuts(storage),
];
