import { describe, expect, test } from 'vitest';
import { madeRecord } from '../../../integration/redo/effect-records.ts';
import { Builder } from '../../base/bytes.ts';
import { isFault } from '../../base/fault.ts';
import { xact18 } from './xact.ts';
import {
  parsePrepareRecord,
  parseXactRecord,
  readRelations,
  type XactLayout,
  XactRecord,
} from './xact-record.ts';

const layout14: XactLayout = { statsItemSize: 0, prepareTail: 40 };
const layout15: XactLayout = { statsItemSize: 12, prepareTail: 48 };
const layout18: XactLayout = { statsItemSize: 16, prepareTail: 48 };
const HAS_INFO = 0x80;

/** Everything that a commit can say; `statsItem` bytes per dropped entry, or no entries at all. */
function fullCommit(statsItem: number): Builder {
  const b = new Builder()
    .u64le(846_460_800_123_456n)
    .u32le(0xe000_00bf + (statsItem === 0 ? 0 : 0x100)) // bits 0-5, 7, 29-31, and 8
    .u32le(5) // dbId
    .u32le(1663) // tsId
    .u32le(2) // nsubxacts
    .u32le(701)
    .u32le(702)
    .u32le(1) // nrels
    .u32le(1663)
    .u32le(5)
    .u32le(16384);
  if (statsItem !== 0) b.u32le(2).zeros(2 * statsItem);
  return b
    .u32le(1) // nmsgs
    .zeros(16)
    .u32le(700) // twophase xid
    .cstr('a gid')
    .u64le(0xffff_ffff_ffff_fff0n) // origin_lsn, unaligned
    .u64le(0x8000_0000_0000_0000n);
}

const parse = (main: Builder, layout: XactLayout, isCommit = true): XactRecord =>
  parseXactRecord(new XactRecord(), madeRecord(xact18, HAS_INFO, main), layout, isCommit);

const refused = (run: () => unknown): void => {
  try {
    run();
  } catch (error) {
    if (isFault(error, 'wal-record')) return;
    throw error;
  }
  expect.unreachable('no Fault');
};

describe('commit and abort records', () => {
  test.each([
    [layout14, 0],
    [layout15, 12],
    [layout18, 16],
  ])('all parts, by layout %o', (layout, statsItem) => {
    const main = fullCommit(statsItem);
    const record = madeRecord(xact18, HAS_INFO, main);
    const xact = parseXactRecord(new XactRecord(), record, layout, true);
    expect(xact.xactTime).toBe(846_460_800_123_456);
    expect([xact.dbId, xact.tsId]).toEqual([5, 1663]);
    expect([xact.nsubxacts, record.view.getUint32(xact.subxactsAt + 4, true)]).toEqual([2, 702]);
    expect(readRelations(record.view, xact.relsAt, xact.nrels)).toEqual([
      { spcOid: 1663, dbOid: 5, relNumber: 16384 },
    ]);
    expect(xact.nstats).toBe(statsItem === 0 ? 0 : 2);
    expect(xact.nmsgs).toBe(1);
    expect(xact.twophaseXid).toBe(700);
    expect(Buffer.from(record.bytes.subarray(xact.gidAt, xact.gidAt + xact.gidLength)).toString()).toBe(
      'a gid',
    );
    expect(xact.hasOrigin).toBe(true);
    expect(record.view.getBigUint64(xact.originAt, true)).toBe(0xffff_ffff_ffff_fff0n);
    expect(xact.originAt + 16).toBe(main.length);
  });

  test('an item of the other size throws the rest out of place', () => {
    expect(() => {
      const xact = parse(fullCommit(16), layout15);
      if (xact.twophaseXid !== 700) throw new Error('out of place');
    }).toThrow();
  });

  test('an abort has no invalidation messages, even where the bit is set', () => {
    const main = new Builder()
      .u64le(1n)
      .u32le(0x08 | 0x20)
      .u64le(7n)
      .u64le(8n);
    const xact = parse(main, layout18, false);
    expect(xact.nmsgs).toBe(0);
    expect(xact.originAt).toBe(12);
  });

  test('a plain record is its time; what was parsed before is gone', () => {
    const into = new XactRecord();
    parseXactRecord(into, madeRecord(xact18, HAS_INFO, fullCommit(16)), layout18, true);
    parseXactRecord(into, madeRecord(xact18, 0, new Builder().u64le(0xffff_ffff_ffff_ffffn)), layout18, true);
    expect(into).toMatchObject({
      xactTime: -1,
      xinfo: 0,
      nsubxacts: 0,
      nrels: 0,
      nstats: 0,
      nmsgs: 0,
      twophaseXid: 0,
      gidLength: 0,
      hasOrigin: false,
    });
  });

  test('a GID counts only behind a two-phase xid', () => {
    const xact = parse(new Builder().u64le(1n).u32le(0x80), layout18);
    expect(xact.gidLength).toBe(0);
  });

  test.each([
    ['no time', new Builder().u32le(1)],
    ['no xinfo', new Builder().u64le(1n)],
    ['half a dbinfo', new Builder().u64le(1n).u32le(1).u32le(5)],
    ['no count', new Builder().u64le(1n).u32le(2)],
    ['a negative count', new Builder().u64le(1n).u32le(2).u32le(0xffff_ffff).zeros(64)],
    ['one subxact too many', new Builder().u64le(1n).u32le(2).u32le(3).zeros(8)],
    ['a billion subxacts', new Builder().u64le(1n).u32le(2).u32le(0x3fff_ffff).zeros(64)],
    ['one relation too many', new Builder().u64le(1n).u32le(4).u32le(2).zeros(23)],
    ['one statistic too many', new Builder().u64le(1n).u32le(0x100).u32le(2).zeros(31)],
    ['one message too many', new Builder().u64le(1n).u32le(8).u32le(2).zeros(31)],
    ['no two-phase xid', new Builder().u64le(1n).u32le(16).zeros(3)],
    [
      'a GID without an end',
      new Builder()
        .u64le(1n)
        .u32le(16 | 128)
        .u32le(7)
        .text('abc'),
    ],
    ['half an origin', new Builder().u64le(1n).u32le(32).zeros(15)],
  ])('refused: %s', (_, main) => refused(() => parse(main, layout18)));

  test('a GID does not end in the next record', () => {
    const whole = new Builder()
      .u64le(1n)
      .u32le(16 | 128)
      .u32le(7)
      .text('abc')
      .zeros(8)
      .finish();
    const record = madeRecord(xact18, HAS_INFO, whole);
    record.mainLength = whole.length - 8;
    refused(() => parseXactRecord(new XactRecord(), record, layout18, true));
  });
});

/** A prepare record with one of each; `stats` bytes per dropped entry. */
function fullPrepare(layout: XactLayout): Builder {
  const pad = (b: Builder): Builder => b.zeros((8 - (b.length % 8)) % 8);
  const b = new Builder()
    .u32le(0x57f9_4534)
    .u32le(0)
    .u32le(700) // xid
    .u32le(5) // database
    .u64le(846_460_800_123_456n)
    .u32le(10) // owner
    .u32le(1) // nsubxacts
    .u32le(1) // ncommitrels
    .u32le(1); // nabortrels
  if (layout.statsItemSize !== 0) b.u32le(1).u32le(1);
  b.u32le(1) // ninvalmsgs
    .u8(1) // initfileinval
    .u8(0)
    .u16le(6) // gidlen
    .u64le(0x1_0000_0002n)
    .u64le(3n);
  pad(b.cstr('a gid'));
  pad(b.u32le(701));
  pad(b.u32le(1663).u32le(5).u32le(16384));
  pad(b.u32le(1663).u32le(5).u32le(16390));
  if (layout.statsItemSize !== 0) {
    pad(
      b
        .u32le(2)
        .u32le(5)
        .u32le(16384)
        .zeros(layout.statsItemSize - 12),
    );
    pad(
      b
        .u32le(2)
        .u32le(5)
        .u32le(16390)
        .zeros(layout.statsItemSize - 12),
    );
  }
  return b.zeros(16);
}

describe('prepare records', () => {
  test.each([layout14, layout15, layout18])('all parts, by layout %o', layout => {
    const main = fullPrepare(layout);
    const record = madeRecord(xact18, 0x10, main);
    const prepare = parsePrepareRecord(record, layout);
    const { view } = record;
    expect(prepare).toMatchObject({ xid: 700, database: 5, preparedAt: 846_460_800_123_456 });
    expect(prepare.initFileInval).toBe(true);
    expect(prepare.gidEnd - prepare.gidAt).toBe(6);
    expect(view.getUint32(prepare.subxactsAt, true)).toBe(701);
    expect(readRelations(view, prepare.commitrelsAt, 1)[0]!.relNumber).toBe(16384);
    expect(readRelations(view, prepare.abortrelsAt, 1)[0]!.relNumber).toBe(16390);
    expect(prepare.ncommitstats).toBe(layout.statsItemSize === 0 ? 0 : 1);
    if (layout.statsItemSize !== 0) {
      expect(view.getUint32(prepare.commitstatsAt + 8, true)).toBe(16384);
      expect(view.getUint32(prepare.abortstatsAt + 8, true)).toBe(16390);
    }
    expect(prepare.invalmsgsAt + 16).toBe(main.length);
    expect(view.getBigUint64(prepare.originAt, true)).toBe(0x1_0000_0002n);
  });

  test.each([28, 32, 36, 40, 44, 48])('refused: a count at %i that does not fit', at => {
    for (const count of [0xffff_ffff, 1000, 0x7fff_ffff]) {
      const record = madeRecord(xact18, 0x10, fullPrepare(layout18));
      record.view.setUint32(at, count, true);
      refused(() => parsePrepareRecord(record, layout18));
    }
  });

  test('refused: a GID longer than the record', () => {
    const record = madeRecord(xact18, 0x10, fullPrepare(layout18));
    record.view.setUint16(54, 0xffff, true);
    refused(() => parsePrepareRecord(record, layout18));
  });
});
