import { expect, test } from 'vitest';
import { utf8 } from '../base/bytes.ts';
import { nameHash, REL_NAMES } from './key.ts';
import {
  findInBucket,
  Names,
  originName,
  parseOriginName,
  parseRelationName,
  parseRelmapName,
  parseTwophaseName,
  readBucket,
  relationName,
  relmapName,
  twophaseName,
} from './names.ts';
import type { TimelineWriter } from './timeline/timeline.ts';

/** Keeps the newest bytes of each key. */
function recorder(): { writer: TimelineWriter; buckets: Map<number, Uint8Array> } {
  const buckets = new Map<number, Uint8Array>();
  const writer = {
    put: (
      rel: number,
      blk: number,
      _l: number,
      _k: number,
      _b: number,
      bytes: Uint8Array,
      at: number,
      length: number,
    ) => {
      expect(rel).toBe(REL_NAMES);
      buckets.set(blk, bytes.slice(at, at + length));
    },
  } as unknown as TimelineWriter;
  return { writer, buckets };
}

/** Two names of one hash. */
const COLLIDING = ['file/87606-847', 'file/115846-665'] as const;

test('names of one hash share a bucket, and each comes and goes by itself', () => {
  const [a, b] = COLLIDING;
  expect(nameHash(a)).toBe(nameHash(b));
  const { writer, buckets } = recorder();
  const names = new Names();
  names.put(writer, 8, a, utf8('A'));
  names.put(writer, 16, b, utf8('B'));
  const bucket = (): Uint8Array | undefined => buckets.get(nameHash(a));
  expect(findInBucket(bucket(), a)).toEqual(utf8('A'));
  expect(findInBucket(bucket(), b)).toEqual(utf8('B'));
  names.put(writer, 24, a, utf8('AA'));
  expect(findInBucket(bucket(), a)).toEqual(utf8('AA'));
  expect(findInBucket(bucket(), b)).toEqual(utf8('B'));
  names.remove(writer, 32, a);
  expect(findInBucket(bucket(), a)).toBeUndefined();
  expect(findInBucket(bucket(), b)).toEqual(utf8('B'));
  names.remove(writer, 40, b);
  expect(bucket()).toEqual(new Uint8Array(0));
  expect(names.get(a) ?? names.get(b)).toBeUndefined();
});

test('what was stored loads again, and goes on', () => {
  const [a, b] = COLLIDING;
  expect(nameHash(a)).toBe(nameHash(b));
  const first = recorder();
  const names = new Names();
  for (const name of [a, b, 'checkpoint', 'file/ö/ü']) names.put(first.writer, 8, name, utf8(`of ${name}`));
  const loaded = new Names();
  for (const bytes of first.buckets.values())
    readBucket(bytes, (name, contents) => loaded.load(name, contents));
  for (const name of [a, b, 'checkpoint', 'file/ö/ü']) expect(loaded.get(name)).toEqual(utf8(`of ${name}`));
  expect([...loaded.list('file/')].map(([name]) => name).sort()).toEqual([a, b, 'file/ö/ü'].sort());
  const second = recorder();
  loaded.put(second.writer, 16, a, utf8('new'));
  expect(findInBucket(second.buckets.get(nameHash(a)), b)).toEqual(utf8(`of ${b}`));
});

test('removing what is not there writes nothing', () => {
  const { writer, buckets } = recorder();
  new Names().remove(writer, 8, 'file/none');
  expect(buckets.size).toBe(0);
});

test('names say what they are of', () => {
  expect(parseRelationName(relationName(1663, 5, 16384, 3))).toEqual([1663, 5, 16384, 3]);
  expect(parseRelmapName(relmapName(1664, 0))).toEqual([1664, 0]);
  expect(parseTwophaseName(twophaseName(0x3_0000_02f0))).toBe(0x3_0000_02f0);
  expect(parseOriginName(originName(65535))).toBe(65535);
  expect(() => parseRelationName('rel/x')).toThrow('rel/x');
});

test('a bucket cut short is refused', () => {
  const { writer, buckets } = recorder();
  new Names().put(writer, 8, 'checkpoint', new Uint8Array(88));
  const bytes = [...buckets.values()][0]!;
  for (const length of [1, 7, 20, bytes.length - 1]) {
    expect(() => readBucket(bytes.slice(0, length), () => undefined)).toThrow('cut short');
  }
});

test('what is kept under a name is a copy: bytes of the log are used again', () => {
  const { writer } = recorder();
  const names = new Names();
  const bytes = utf8('as it was');
  names.put(writer, 10, 'name', bytes);
  bytes.fill(0);
  expect(names.get('name')).toEqual(utf8('as it was'));
});
