import { expect, test } from 'vitest';
import { DIRECTORY, RemoteWorld } from '../../../integration/sim/remote-world.ts';
import { MAY_ALL } from './upload-queue.ts';

const objectsOf = (world: RemoteWorld): string[] =>
  [...world.store.objects.keys()].map(key => key.slice(DIRECTORY.length + 1)).sort();

test('what is flushed reaches the store, and the safekeepers hear of it when it is confirmed', async () => {
  const world = new RemoteWorld(1);
  world.newest = 1;
  world.silent = true;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  const sequence = await world.drive(machine.flush());
  await world.drive(machine.remote.waitFor(sequence));
  expect(objectsOf(world)).toEqual([machine.layers[0]!.name, 'index_part.json-00000001']);
  expect(machine.remote.durableLsn).toBe(machine.lsn);
  await world.pass(10_000);
  expect(machine.visible).toBe(0);
  world.silent = false;
  await world.pass(10_000);
  expect(machine.visible).toBe(machine.lsn);
});

test('compaction deletes what the index forgot; a machine without files serves what is there', async () => {
  const world = new RemoteWorld(2);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  for (let i = 0; i < 5; i++) await world.drive(machine.flush());
  await world.drive(machine.compact(4));
  await world.drive(machine.remote.waitUploaded());
  await world.pass(60_000);
  expect(objectsOf(world)).toEqual([...machine.layers.map(l => l.name), 'index_part.json-00000001'].sort());

  world.newest = 2;
  const other = world.machine();
  await world.drive(other.attach(2));
  expect(other.lsn).toBe(machine.lsn);
  expect(other.remote.cache.residentCount).toBe(0);
  await world.drive(other.checkAll());
  expect(other.deps.cache.downloads).toBe(2);
  expect(other.remote.cache.residentCount).toBe(2);
  // Resident now: nothing is fetched again, until it is evicted.
  await world.drive(other.checkAll());
  expect(other.deps.cache.downloads).toBe(2);
  expect(await world.drive(other.remote.cache.evict(other.layers[0]!.name))).toBe(true);
  await world.drive(other.checkAll());
  expect(other.deps.cache.downloads).toBe(3);
});

test('many who open one layer wait for one download', async () => {
  const world = new RemoteWorld(3);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  await world.drive(machine.flush());
  await world.drive(machine.remote.waitUploaded());
  const other = world.machine();
  await world.drive(other.attach(2));
  await world.drive(Promise.all(Array.from({ length: 20 }, () => other.checkAll())));
  expect(other.deps.cache.downloads).toBe(1);
});

test('a layer that was not uploaded is not evicted', async () => {
  const world = new RemoteWorld(4);
  const machine = world.machine();
  await world.drive(machine.attach(1));
  world.store.away = true;
  await machine.flush();
  expect(await machine.remote.cache.evict(machine.layers[0]!.name)).toBe(false);
  await world.drive(machine.checkAll());
});

test('damaged in the cache: fetched again, under an open reader too', async () => {
  const world = new RemoteWorld(5);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  await world.drive(machine.flush());
  await world.drive(machine.remote.waitUploaded());
  const { name, bytes } = machine.layers[0]!;
  const path = `${DIRECTORY}/${name}`;

  machine.disk.rot(path, 600);
  await world.drive(machine.checkAll());
  expect(machine.deps.cache).toMatchObject({ repaired: 1, damaged: 0 });

  // Its header, and cut short.
  machine.disk.rot(path, 30);
  await world.drive(machine.checkAll());
  const file = await machine.disk.open(path, 'write');
  await file.truncate(700);
  await world.drive(machine.checkAll());
  expect(machine.deps.cache).toMatchObject({ repaired: 3, damaged: 0 });

  const big = await world.drive(machine.write(200_000));
  machine.remote.layersChanged([big], []);
  await world.drive(machine.remote.waitUploaded());
  const reader = await world.drive(machine.remote.openLayer(big.name));
  machine.disk.rot(`${DIRECTORY}/${big.name}`, 100_000);
  const reads = [0, 90_000, 95_000, 150_000].map(at => reader.read(at, 20_000));
  const got = await world.drive(Promise.all(reads));
  expect(got.map(b => b.length)).toEqual([20_000, 20_000, 20_000, 20_000]);
  expect(machine.deps.cache).toMatchObject({ repaired: 4, damaged: 0 });
  expect(bytes).toBeGreaterThan(0);
});

test('damaged in the store: an error that names the layer, for those who need it alone', async () => {
  const world = new RemoteWorld(6);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  for (let i = 0; i < 3; i++) await world.drive(machine.flush());
  await world.drive(machine.remote.waitUploaded());
  const [bad, gone, good] = machine.layers.map(l => l.name);
  world.store.objects.get(`${DIRECTORY}/${bad}`)!.bytes[520]! ^= 1;
  world.store.objects.delete(`${DIRECTORY}/${gone}`);

  const other = world.machine();
  await world.drive(other.attach(2));
  const opened = await world.drive(
    Promise.allSettled([bad!, gone!, good!].map(name => other.remote.openLayer(name))),
  );
  expect(opened.map(o => o.status)).toEqual(['rejected', 'rejected', 'fulfilled']);
  const [first, second] = opened.map(o => (o.status === 'rejected' ? (o.reason as Error) : undefined));
  expect(first).toMatchObject({ code: 'layer-corrupt' });
  expect(first!.message).toContain(bad);
  expect(first!.message).toContain('damaged in the object store');
  expect(second).toMatchObject({ code: 'layer-corrupt' });
  expect(second!.message).toContain(`layer ${gone}`);
  expect(second!.message).toContain('does not have it');

  // Put back from a copy, it is served again.
  world.store.objects.get(`${DIRECTORY}/${bad}`)!.bytes[520]! ^= 1;
  await world.pass(60_000);
  const again = await world.drive(other.remote.openLayer(bad!));
  expect(again.size).toBeGreaterThan(0);
});

test('a stale attachment harms nothing of the newer one', async () => {
  const world = new RemoteWorld(7);
  world.newest = 1;
  const old = world.machine();
  await world.drive(old.attach(1));
  for (let i = 0; i < 6; i++) await world.drive(old.flush());
  await world.drive(old.remote.waitUploaded());
  await world.pass(10_000);
  const before = old.visible;

  // The old one is cut off from the control plane's news, and goes on.
  world.newest = 2;
  const heir = world.machine();
  await world.drive(heir.attach(2));
  await world.drive(old.compact(5));
  await world.drive(old.flush());
  await world.drive(old.remote.waitUploaded());
  await world.pass(120_000);

  expect(old.remote.isStale).toBe(true);
  expect(old.visible).toBe(before);
  expect(old.deps.deletions.executed).toBe(0);
  await world.drive(heir.checkAll());
  await world.drive(heir.compact(6));
  await world.drive(heir.remote.waitUploaded());
  await world.pass(120_000);
  await world.drive(heir.checkAll());
  const third = world.machine();
  await world.drive(third.attach(3));
  expect(third.remote.index.layers).toEqual(heir.remote.index.layers);
});

test('what was forgotten and not deleted is deleted by the next attachment', async () => {
  const world = new RemoteWorld(8);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1, { upload: true, delete: false }));
  for (let i = 0; i < 4; i++) await world.drive(machine.flush());
  await world.drive(machine.compact(3));
  await world.drive(machine.remote.waitUploaded());
  await world.pass(60_000);
  expect(objectsOf(world)).toHaveLength(6);
  machine.crash();
  world.newest = 2;
  const next = world.machine();
  await world.drive(next.attach(2, MAY_ALL));
  await world.pass(60_000);
  const indexes = ['index_part.json-00000001', 'index_part.json-00000002'];
  expect(objectsOf(world)).toEqual([...next.layers.map(l => l.name), ...indexes].sort());
  await world.drive(next.flush());
  await world.drive(next.remote.waitUploaded());
  expect(next.remote.queue.durable!.forgotten).toEqual([]);
});

test('a revoked key stops uploads, and nothing is lost when it is given back', async () => {
  const world = new RemoteWorld(9);
  world.newest = 1;
  const machine = world.machine();
  await world.drive(machine.attach(1));
  world.store.away = true;
  await world.drive(machine.flush());
  world.keys.revoke();
  world.store.away = false;
  await world.pass(60_000);
  expect(objectsOf(world)).toHaveLength(1);
  expect(machine.fatal).toBeUndefined();
  world.keys.restore();
  await world.drive(machine.remote.waitUploaded());
  expect(objectsOf(world)).toHaveLength(2);
});

test('a layer damaged before it was uploaded never reaches the store', async () => {
  const world = new RemoteWorld(10);
  const machine = world.machine();
  await world.drive(machine.attach(1));
  const desc = await machine.write();
  machine.disk.rot(`${DIRECTORY}/${desc.name}`, 700);
  machine.remote.layersChanged([desc], []);
  await world.pass(10_000);
  expect(machine.fatal).toMatchObject({ kind: 'corrupt' });
  expect(objectsOf(world)).toEqual([]);
});
