// Objects put back by whoever can write to the store: whole, sealed under the right keys, and of another time or place.
// What claims another attachment or another layer is refused by name. An older index of the same attachment is the
// past: it is served as that, never as the present, for its LSN says from where WAL is to be asked for again.

import { expect, test } from 'vitest';
import { DIRECTORY, RemoteWorld } from '../../../integration/sim/remote-world.ts';
import { indexName } from './paths.ts';

const bytesOf = (world: RemoteWorld, name: string): Uint8Array =>
  world.store.objects.get(`${DIRECTORY}/${name}`)!.bytes.slice();

function plant(world: RemoteWorld, name: string, bytes: Uint8Array): void {
  world.store.objects.set(`${DIRECTORY}/${name}`, { bytes, modifiedMs: 0 });
}

/** A timeline of some layers, in the store. */
async function stored(seed: number) {
  const world = new RemoteWorld(seed);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  for (let i = 0; i < 3; i++) await world.drive(machine.flush());
  await world.drive(machine.remote.waitUploaded());
  return { world, machine };
}

test('the index of an earlier attachment in place of a later one', async () => {
  const { world } = await stored(11);
  world.newest = 2;
  const heir = world.machine();
  await world.drive(heir.attach(2));
  await world.drive(heir.flush());
  await world.drive(heir.remote.waitUploaded());
  const newest = bytesOf(world, indexName(2));
  plant(world, indexName(2), bytesOf(world, indexName(1)));
  world.newest = 3;
  await expect(world.drive(world.machine().attach(3))).rejects.toMatchObject({
    code: 'sealed-tampered',
    message: expect.stringContaining(`it is sealed as name ${indexName(1)}, not ${indexName(2)}`),
  });
  // Put right again, it is attached.
  plant(world, indexName(2), newest);
  const third = world.machine();
  await world.drive(third.attach(3));
  expect(third.lsn).toBe(heir.lsn);
  await world.drive(third.checkAll());
});

test('a layer in place of another', async () => {
  const { world, machine } = await stored(12);
  const [first, second, third] = machine.layers.map(layer => layer.name) as [string, string, string];
  plant(world, second, bytesOf(world, first));
  const other = world.machine();
  world.newest = 2;
  await world.drive(other.attach(2));
  await expect(world.drive(other.remote.openLayer(second))).rejects.toMatchObject({
    code: 'layer-corrupt',
    message: expect.stringContaining(second),
  });
  for (const name of [first, third])
    expect((await world.drive(other.remote.openLayer(name))).size).toBeGreaterThan(0);
});

test('an older index of the same attachment', async () => {
  const { world, machine } = await stored(13);
  const older = bytesOf(world, indexName(1));
  const [then, layersThen] = [machine.lsn, machine.layers.map(layer => layer.name)];
  await world.drive(machine.flush());
  await world.drive(machine.compact(3));
  await world.drive(machine.remote.waitUploaded());
  await world.pass(60_000);
  plant(world, indexName(1), older);
  world.newest = 2;
  const next = world.machine();
  await world.drive(next.attach(2));
  expect(next.lsn).toBe(then);
  expect(next.lsn).toBeLessThan(machine.lsn);
  for (const name of layersThen) {
    const opened = await world.drive(Promise.allSettled([next.remote.openLayer(name)]));
    if (opened[0].status === 'fulfilled') continue;
    expect(opened[0].reason).toMatchObject({ code: 'layer-corrupt', message: expect.stringContaining(name) });
  }
});
