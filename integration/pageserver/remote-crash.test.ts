// A timeline's remote half, stopped at every call to the object store and at every change of the disk in a run of
// flushes and compactions, over a store that fails, loses answers, lists late and carries out puts late. After each
// stop another machine attaches from the objects alone, and:
//
//   what safekeepers were told is in the store is there, to the last byte
//   what it finds is a state that the timeline really had, not a mixture of two
//   it goes on from there, and what was forgotten is deleted in the end
//
// A failure names the seed and the step: RUN_SEED=7 RUN_STEP=31 npx vitest run integration/pageserver/remote-crash

import { expect, test } from 'vitest';
import { SimStopped } from '../sim/disk.ts';
import { DIRECTORY, type RemoteMachine, RemoteWorld } from '../sim/remote-world.ts';

function worldOf(seed: number): RemoteWorld {
  const world = new RemoteWorld(seed);
  world.newest = 1;
  world.store.failure = 40;
  world.store.lostAnswer = 40;
  world.store.lateListMs = 3000;
  world.blobs.late = 40;
  return world;
}

const ignoreStop = (error: unknown): void => {
  if (!(error instanceof SimStopped)) throw error;
};

/** The run that is stopped somewhere. */
async function life(machine: RemoteMachine): Promise<void> {
  const { world } = machine;
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3; i++) {
      await machine.flush();
      await world.clock.sleep(world.random.below(200));
    }
    await machine.compact(3);
    await machine.remote.waitUploaded();
    await world.clock.sleep(2000);
  }
  await world.clock.sleep(10_000);
}

/** Another machine takes over from the objects, or from them and what the dead one's disk kept. */
async function takeOver(world: RemoteWorld, dead: RemoteMachine, sameDisk: boolean): Promise<void> {
  world.newest = 2;
  const heir = sameDisk ? world.machine(dead.disk) : world.machine();
  await world.drive(heir.attach(2));
  expect(heir.lsn, 'what was told to be safe').toBeGreaterThanOrEqual(dead.visible);
  const found = { lsn: heir.lsn, layers: heir.layers.map(layer => layer.name).sort() };
  const states = [{ lsn: 8, layers: [] }, ...dead.states];
  expect(states, 'a state that the timeline had').toContainEqual(found);
  await world.drive(heir.checkAll());

  await world.drive(heir.flush());
  await world.drive(heir.compact(heir.layers.length));
  await world.drive(heir.remote.waitUploaded());
  await world.pass(120_000);
  const forgotten = heir.remote.queue.durable!.forgotten.filter(layer =>
    world.store.objects.has(`${DIRECTORY}/${layer}`),
  );
  expect(forgotten, 'forgotten, and deleted').toEqual([]);
  // The cache may vanish: the store has all of it.
  const third = world.machine();
  world.newest = 3;
  await world.drive(third.attach(3));
  await world.drive(third.checkAll());
  expect(third.lsn).toBe(heir.lsn);
  for (const machine of [heir, third]) await world.drive(machine.remote.stop());
}

type Stop = (machine: RemoteMachine, step: number) => void;

async function stopped(seed: number, step: number, stop: Stop, sameDisk: boolean): Promise<boolean> {
  const world = worldOf(seed);
  const machine = world.machine();
  await world.drive(machine.attach(1));
  stop(machine, step);
  let lived = true;
  await world.drive(
    life(machine).catch(error => {
      lived = false;
      ignoreStop(error);
    }),
  );
  // What it had under way when the store let it down ends with it.
  if (machine.fatal !== undefined) lived = false;
  machine.blobs.diesAt = 0;
  machine.crash();
  await takeOver(world, machine, sameDisk);
  return lived;
}

const seeds = process.env['RUN_SEED'] ? [Number(process.env['RUN_SEED'])] : [1, 2];
const onlyStep = process.env['RUN_STEP'] ? Number(process.env['RUN_STEP']) : undefined;

/** Every step, until the run gets through. */
async function everyStep(seed: number, stop: Stop): Promise<number> {
  for (let step = onlyStep ?? 1; ; step++) {
    try {
      const lived = await stopped(seed, step, stop, step % 2 === 0);
      if (lived || onlyStep !== undefined) return step;
    } catch (error) {
      (error as Error).message = `seed ${seed}, step ${step}: ${(error as Error).message}`;
      throw error;
    }
  }
}

test.each(seeds)('seed %i: stopped before each call to the object store', async seed => {
  const steps = await everyStep(seed, (machine, step) => {
    machine.blobs.diesAt = step;
  });
  expect(steps).toBeGreaterThan(20);
});

test.each(seeds)('seed %i: stopped after each call to the object store', async seed => {
  await everyStep(seed, (machine, step) => {
    machine.blobs.diesAt = step;
    machine.blobs.happened = true;
  });
});

test.each(seeds)('seed %i: stopped at each change of the disk', async seed => {
  const steps = await everyStep(seed, (machine, step) => machine.disk.crashAt(step));
  expect(steps).toBeGreaterThan(60);
});

/** Two processes believe to have the timeline; the control plane believes the one with the higher generation. */
async function rivals(seed: number): Promise<void> {
  const world = worldOf(seed);
  let machine = world.machine();
  await world.drive(machine.attach(1));
  const stale: RemoteMachine[] = [];
  for (let generation = 2; generation < 6; generation++) {
    const told = machine.visible;
    const heir = world.machine();
    world.newest = generation;
    await world.drive(heir.attach(generation));
    expect(heir.lsn).toBeGreaterThanOrEqual(told);
    stale.push(machine);
    machine = heir;
    for (let i = 0; i < 12; i++) {
      const who = world.random.chance(0.5) ? machine : world.random.pick(stale);
      if (who.layers.length > 1 && world.random.chance(0.4)) await world.drive(who.compact(2));
      else await world.drive(who.flush());
      await world.pass(world.random.below(8000));
    }
    await world.pass(30_000);
    await world.drive(machine.checkAll());
  }
  for (const { visible, states, remote } of stale) {
    // A stale one was told of nothing that it did after it was replaced.
    expect(remote.durableLsn).toBeGreaterThanOrEqual(visible);
    expect(states.length).toBeGreaterThan(0);
  }
  await world.drive(machine.remote.waitUploaded());
  const last = world.machine();
  await world.drive(last.attach(9));
  expect(last.layers.map(l => l.name).sort()).toEqual(machine.layers.map(l => l.name).sort());
  await world.drive(last.checkAll());
}

test.each(process.env['RUN_SEED'] ? seeds : Array.from({ length: 12 }, (_, i) => i + 1))(
  'seed %i: stale attachments go on working and harm nothing',
  rivals,
);
