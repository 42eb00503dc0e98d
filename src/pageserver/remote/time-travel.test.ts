import { expect, test } from 'vitest';
import { parseTenantShard, timelineId } from '../../base/ids.ts';
import type { Blobs, BlobVersion } from '../../base/ports.ts';
import { timelineDirectory } from './paths.ts';
import { planTravel, travel } from './time-travel.ts';

const AT = parseTenantShard('11223344556677889900aabbccddeeff');
const DIRECTORY = timelineDirectory(AT, timelineId('ffeeddccbbaa00998877665544332211'));
const INDEX = `${DIRECTORY}/index_part.json-00000001`;
const INITDB = `${DIRECTORY}/initdb.tar.zst`;

interface Event {
  readonly key: string;
  readonly ms: number;
  readonly isRemoval?: boolean;
}

/** As a store lists them: by key, from the newest on. */
function listed(events: readonly Event[]): BlobVersion[] {
  const versions: BlobVersion[] = [];
  for (const [, of] of Map.groupBy(events, event => event.key)) {
    of.toReversed().forEach(({ key, ms, isRemoval = false }, i) => {
      versions.push({ key, version: `${ms}`, modifiedMs: ms, isNewest: i === 0, isRemoval });
    });
  }
  return versions;
}

const plan = (events: readonly Omit<Event, 'key'>[], to: number, done = 1000): unknown =>
  planTravel(listed(events.map(event => ({ key: 'x', ...event }))), to, done)[0];

test('the newest version from before the time comes back', () => {
  const history = [{ ms: 10 }, { ms: 20 }, { ms: 30, isRemoval: true }, { ms: 40 }];
  expect(plan(history, 50)).toBeUndefined(); // nothing since
  expect(plan(history, 40)).toEqual({ do: 'remove', key: 'x' }); // removed then, there now
  expect(plan(history, 30)).toEqual({ do: 'restore', key: 'x', version: '20' });
  expect(plan(history, 15)).toEqual({ do: 'restore', key: 'x', version: '10' });
  expect(plan(history, 10)).toEqual({ do: 'remove', key: 'x' }); // not made yet
  expect(plan(history.slice(0, 3), 5)).toBeUndefined(); // nor is it there now
});

test('what was brought back before is not touched again', () => {
  const history = [{ ms: 10 }, { ms: 20 }, { ms: 2000 }];
  expect(plan(history, 15, 1000)).toBeUndefined();
  expect(plan(history, 15, 2000)).toEqual({ do: 'restore', key: 'x', version: '10' });
});

test('of two versions within one tick of the clock the newest is the last', () => {
  const history = [{ ms: 10 }, { ms: 20, isRemoval: true }, { ms: 20 }];
  expect(plan(history, 25)).toBeUndefined();
  expect(plan([...history, { ms: 30, isRemoval: true }], 25)).toEqual({
    do: 'restore',
    key: 'x',
    version: '20',
  });
});

test('indexes come back after what they name, and before anything goes; other keys stay', async () => {
  const done: string[] = [];
  const versions = listed([
    { key: INDEX, ms: 10 },
    { key: INDEX, ms: 20 },
    { key: INITDB, ms: 10 },
    { key: INITDB, ms: 20, isRemoval: true },
    { key: `${DIRECTORY}/index_part.json-00000002`, ms: 20 },
    { key: `${DIRECTORY}/a stranger's`, ms: 20 },
  ]);
  const store = {
    async *versions(prefix: string) {
      yield* versions.filter(({ key }) => key.startsWith(prefix));
    },
    restore: async (key: string, version: string) => void done.push(`${key.split('/').at(-1)} ${version}`),
    remove: async ([key]: readonly string[]) => void done.push(`- ${key!.split('/').at(-1)}`),
  } as unknown as Blobs;
  expect(await travel(store, AT, 15, 1000)).toBe(3);
  expect(done).toEqual(['initdb.tar.zst 10', 'index_part.json-00000001 10', '- index_part.json-00000002']);
  await expect(travel({} as Blobs, AT, 15, 1000)).rejects.toMatchObject({ code: 'config-invalid' });
});
