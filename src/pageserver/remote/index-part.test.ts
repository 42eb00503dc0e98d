import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8 } from '../../base/bytes.ts';
import { type TimelineId, timelineId } from '../../base/ids.ts';
import {
  auditIndex,
  auditSuccessor,
  decodeIndex,
  encodeIndex,
  type IndexPart,
  type LayerRef,
  newIndex,
} from './index-part.ts';

const ID = timelineId('ffeeddccbbaa00998877665544332211');
const lsnArb = fc.integer({ min: 0, max: 2 ** 50 - 1 }).map(n => n * 8);
const idArb = fc
  .array(fc.constantFrom(...'0123456789abcdef'), { minLength: 32, maxLength: 32 })
  .map(d => timelineId(d.join('')));
const refArb: fc.Arbitrary<LayerRef> = fc.record({
  bytes: fc.integer({ min: 1, max: 2 ** 40 }),
  generation: fc.integer({ min: 0, max: 0xffffffff }),
  shard: fc.constantFrom({ number: 0, count: 0 }, { number: 3, count: 4 }),
});
const msArb = fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: undefined });
const ancestryArb = fc.record({ timeline: idArb, lsn: lsnArb });

const indexArb: fc.Arbitrary<IndexPart> = fc
  .record({
    sequence: fc.nat(),
    pgVersion: fc.integer({ min: 14, max: 18 }),
    layers: fc
      .dictionary(fc.string({ minLength: 1, maxLength: 20 }), refArb, { noNullPrototype: true })
      .map(d => new Map(Object.entries(d))),
    forgotten: fc.array(fc.string({ maxLength: 20 })),
    diskConsistentLsn: lsnArb,
    prevRecordLsn: fc.option(lsnArb, { nil: undefined }),
    ancestor: fc.option(ancestryArb, { nil: undefined }),
    initdbLsn: lsnArb,
    gcCutoffLsn: lsnArb,
    retainedLsns: fc.array(lsnArb),
    flavour: fc.constantFrom('neon' as const, 'stock' as const),
    archivedAt: msArb,
    deletedAt: msArb,
    markedInvisibleAt: msArb,
    gcBlocking: fc.subarray(['Manual', 'DetachAncestor'] as const),
    lineage: fc.array(idArb, { maxLength: 3 }) as fc.Arbitrary<TimelineId[]>,
    detached: fc.option(fc.record({ timeline: idArb, lsn: lsnArb, at: fc.integer({ min: 0, max: 4e12 }) }), {
      nil: undefined,
    }),
    fullPageWrites: fc.option(fc.record({ on: fc.boolean(), lsn: lsnArb }), { nil: undefined }),
    importing: fc.option(fc.record({ idempotencyKey: fc.string(), done: fc.boolean() }), { nil: undefined }),
  })
  .map(newIndex);

test('every index is read as it was written', () => {
  fc.assert(
    fc.property(indexArb, index => {
      expect(decodeIndex(encodeIndex(index), 'x')).toEqual(index);
    }),
  );
});

test('the same index is the same bytes, whatever the order of its layers', () => {
  const a: LayerRef = { bytes: 1, generation: 1, shard: { number: 0, count: 0 } };
  const seed = { pgVersion: 17, diskConsistentLsn: 8, prevRecordLsn: undefined, initdbLsn: 8 };
  const one = newIndex({
    ...seed,
    layers: new Map([
      ['a', a],
      ['b', a],
    ]),
  });
  const two = newIndex({
    ...seed,
    layers: new Map([
      ['b', a],
      ['a', a],
    ]),
  });
  expect(encodeIndex(one)).toEqual(encodeIndex(two));
});

// Format 1 as it was first written. It must open for ever.
const VERSION_1 = `{"version":1,"sequence":7,
  "layer_metadata":{"l1":{"file_size":4096,"generation":3},"l2":{"file_size":9,"generation":1,"shard":{"number":0,"count":2}}},
  "disk_consistent_lsn":"1/2000028","metadata":{"prev_record_lsn":"1/2000000","ancestor_timeline":"${ID}",
  "ancestor_lsn":"0/16B3748","latest_gc_cutoff_lsn":"0/0","initdb_lsn":"0/16B3748","pg_version":16},
  "forgotten":["l0-00000001"],"archived_at":"2026-05-01T10:00:00.000Z","gc_blocking":{"reasons":["Manual"]},
  "full_page_writes":{"on":false,"lsn":"1/0"},"something_new":{"a":1}}`;

test('format 1 is read, and what a later build added to it is let pass', () => {
  const index = decodeIndex(utf8(VERSION_1), 'x');
  expect(index.layers.get('l2')).toEqual({ bytes: 9, generation: 1, shard: { number: 0, count: 2 } });
  expect(index).toMatchObject({
    sequence: 7,
    pgVersion: 16,
    diskConsistentLsn: 0x1_0200_0028,
    prevRecordLsn: 0x1_0200_0000,
    ancestor: { timeline: ID, lsn: 0x16b3748 },
    forgotten: ['l0-00000001'],
    archivedAt: Date.UTC(2026, 4, 1, 10),
    gcBlocking: ['Manual'],
    fullPageWrites: { on: false, lsn: 0x1_0000_0000 },
  });
  expect(() => auditIndex(index, 3)).not.toThrow();
});

test('a later format, and bytes that are none, are refused by name', () => {
  expect(() => decodeIndex(utf8('{"version":2}'), 'tenants/x/index')).toThrow(
    /tenants\/x\/index has format version 2/,
  );
  expect(() => decodeIndex(utf8('{"version":1}'), 'that one')).toThrow(/that one cannot be read/);
  expect(() => decodeIndex(utf8('not json'), 'that one')).toThrow(/that one cannot be read/);
});

const good = newIndex({
  sequence: 1,
  pgVersion: 17,
  diskConsistentLsn: 800,
  prevRecordLsn: 760,
  initdbLsn: 80,
  layers: new Map([['a', { bytes: 10, generation: 2, shard: { number: 0, count: 0 } }]]),
});

test.each<[string, Partial<IndexPart>, RegExp]>([
  ['no layers', { layers: new Map() }, /no layers/],
  ['forgotten and named', { forgotten: ['a'] }, /both named and forgotten/],
  ['branch point past the end', { ancestor: { timeline: ID, lsn: 808 } }, /before its branch point/],
  ['cutoff past the end', { gcCutoffLsn: 808 }, /GC cutoff/],
  ['odd end', { diskConsistentLsn: 801 }, /boundary/],
])('an index with %s is a broken promise', (_, change, error) => {
  expect(() => auditIndex({ ...good, ...change }, 2)).toThrow(error);
});

test('a layer of the future is a broken promise', () => {
  expect(() => auditIndex(good, 2)).not.toThrow();
  expect(() => auditIndex(good, 1)).toThrow(/later generation/);
});

test.each<[string, Partial<IndexPart>, RegExp]>([
  ['the same number', { sequence: 1 }, /number/],
  ['an earlier end', { diskConsistentLsn: 792 }, /went back/],
  ['an ancestor', { ancestor: { timeline: ID, lsn: 8 } }, /took an ancestor/],
  ['another version', { pgVersion: 16 }, /version/],
])('a successor with %s is a broken promise', (_, change, error) => {
  expect(() => auditSuccessor(good, { ...good, sequence: 2 })).not.toThrow();
  expect(() => auditSuccessor(good, { ...good, sequence: 2, ...change })).toThrow(error);
});
