// The small managers without page numbers: storage, databases, tablespaces, maps, standbys, origins, messages.

import { describe, expect, test } from 'vitest';
import { describeOf, effectsOf, madeRecord } from '../../../integration/redo/effect-records.ts';
import { Builder, utf8 } from '../../base/bytes.ts';
import { isFault } from '../../base/fault.ts';
import { dbase14, dbase15 } from './dbase.ts';
import { logicalmsg14 } from './logicalmsg.ts';
import { relmap14, relmap16 } from './relmap.ts';
import { replorigin14 } from './replorigin.ts';
import { smgr18 } from './smgr.ts';
import { standby14, standby16, standby18 } from './standby.ts';
import { tblspc14 } from './tblspc.ts';

describe('Storage', () => {
  test('a fork that does not exist is refused', () => {
    for (const fork of [4, 0xffff_ffff]) {
      const record = madeRecord(smgr18, 0x10, new Builder().u32le(1663).u32le(5).u32le(16384).u32le(fork));
      expect(() => effectsOf(smgr18, record)).toThrow('fork');
      expect(() => describeOf(smgr18, record)).toThrow('fork');
    }
  });

  test('which forks a truncation cuts', () => {
    const truncated = (flags: number): unknown =>
      effectsOf(
        smgr18,
        madeRecord(smgr18, 0x20, new Builder().u32le(3).u32le(1663).u32le(5).u32le(16384).u32le(flags)),
      )[0];
    expect(truncated(7)).toMatchObject({ blkno: 3, heap: true, vm: true, fsm: true });
    expect(truncated(2)).toMatchObject({ heap: false, vm: true, fsm: false });
    expect(truncated(4)).toMatchObject({ heap: false, vm: false, fsm: true });
  });
});

describe('Database', () => {
  test('opcode 0x10 drops in 14 and creates in 15', () => {
    const drop = new Builder().u32le(16400).u32le(1).u32le(1663);
    expect(effectsOf(dbase14, madeRecord(dbase14, 0x10, drop))).toEqual([
      { kind: 'database-drop', dbOid: 16400, spcOids: [1663] },
    ]);
    const create = new Builder().u32le(16400).u32le(1663);
    expect(effectsOf(dbase15, madeRecord(dbase15, 0x10, create))).toEqual([
      { kind: 'database-create', dbOid: 16400, spcOid: 1663 },
    ]);
    expect(effectsOf(dbase15, madeRecord(dbase15, 0x20, drop))).toEqual([
      { kind: 'database-drop', dbOid: 16400, spcOids: [1663] },
    ]);
  });

  test.each([0xffff_ffff, 2, 0x4000_0000])('%i tablespaces where one is are refused', count => {
    const record = madeRecord(dbase15, 0x20, new Builder().u32le(16400).u32le(count).u32le(1663));
    expect(() => effectsOf(dbase15, record)).toThrow('do not fit');
  });
});

test('CREATE TABLESPACE is refused with its reason, DROP is harmless', () => {
  const record = madeRecord(tblspc14, 0x00, new Builder().u32le(16384).cstr('/fast/disk'));
  expect(describeOf(tblspc14, record)).toBe('16384 "/fast/disk"');
  try {
    effectsOf(tblspc14, record);
    expect.unreachable('no Fault');
  } catch (error) {
    if (!isFault(error, 'wal-unsupported')) throw error;
    expect(error.message).toContain('CREATE TABLESPACE 16384 "/fast/disk" at 0/1000028');
    expect(error.hint).toContain('default tablespace');
  }
  expect(effectsOf(tblspc14, madeRecord(tblspc14, 0x10, new Builder().u32le(16384)))).toEqual([]);
});

describe('RelMap', () => {
  const update = (size: number, told = size): Builder =>
    new Builder().u32le(5).u32le(1663).u32le(told).raw(new Uint8Array(size).fill(7));

  test('the whole file, of the size of its major', () => {
    for (const [rmgr, size] of [
      [relmap14, 512],
      [relmap16, 524],
    ] as const) {
      expect(effectsOf(rmgr, madeRecord(rmgr, 0x00, update(size)))).toEqual([
        { kind: 'relmap', dbOid: 5, spcOid: 1663, bytes: new Uint8Array(size).fill(7) },
      ]);
    }
    expect(() => effectsOf(relmap14, madeRecord(relmap14, 0x00, update(524)))).toThrow('not 512');
    expect(() => effectsOf(relmap16, madeRecord(relmap16, 0x00, update(512)))).toThrow('not 524');
  });

  test('one that is not all there is refused', () => {
    expect(() => effectsOf(relmap14, madeRecord(relmap14, 0x00, update(511, 512)))).toThrow('do not fit');
  });
});

describe('Standby', () => {
  const running = (overflow: number): Builder =>
    new Builder()
      .u32le(2)
      .u32le(1)
      .u8(overflow)
      .zeros(3)
      .u32le(900)
      .u32le(880)
      .u32le(899)
      .u32le(880)
      .u32le(881)
      .u32le(882);

  test('running transactions: the horizon, and how majors tell the rest', () => {
    const record = madeRecord(standby14, 0x10, running(1));
    expect(effectsOf(standby14, record)).toEqual([
      { kind: 'running-xacts', nextXid: 900, oldestRunningXid: 880, latestCompletedXid: 899 },
    ]);
    const head = 'nextXid 900 latestCompletedXid 899 oldestRunningXid 880; 2 xacts: 880 881; subxid ';
    expect(describeOf(standby14, record)).toBe(`${head}ovf`);
    expect(describeOf(standby16, record)).toBe(`${head}overflowed; 1 subxacts: 882`);
  });

  test('counts that do not fit are refused', () => {
    for (const at of [0, 4]) {
      const record = madeRecord(standby18, 0x10, running(0));
      record.view.setInt32(at, 99, true);
      expect(() => describeOf(standby18, record)).toThrow('do not fit');
    }
    const locks = madeRecord(standby18, 0x00, new Builder().u32le(2).zeros(23));
    expect(() => describeOf(standby18, locks)).toThrow('2 locks do not fit');
  });
});

test('ReplicationOrigin: positions of other systems may be anything', () => {
  const set = madeRecord(
    replorigin14,
    0x00,
    new Builder().u64le(0xffff_ffff_1234_5678n).u16le(2).u8(1).zeros(5),
  );
  expect(effectsOf(replorigin14, set)).toEqual([
    { kind: 'origin-set', nodeId: 2, remoteLsn: 0xffff_ffff_1234_5678n, force: true },
  ]);
  expect(describeOf(replorigin14, set)).toBe('set 2; lsn FFFFFFFF/12345678; force: 1');
  const drop = madeRecord(replorigin14, 0x10, new Builder().u16le(2));
  expect(effectsOf(replorigin14, drop)).toEqual([{ kind: 'origin-drop', nodeId: 2 }]);
});

describe('LogicalMessage', () => {
  const message = (prefixSize: bigint, messageSize: bigint, tail: Uint8Array): Builder =>
    new Builder().u32le(5).u8(1).zeros(3).u64le(prefixSize).u64le(messageSize).raw(tail);

  test('prefix and message', () => {
    const record = madeRecord(logicalmsg14, 0x00, message(4n, 3n, utf8('abc\0\x01\xff')));
    const [effect] = effectsOf(logicalmsg14, record);
    record.bytes.fill(0);
    expect(effect).toEqual({
      kind: 'logical-message',
      dbOid: 5,
      transactional: true,
      prefix: 'abc',
      message: new Uint8Array([1, 0xc3, 0xbf]),
    });
  });

  test.each([
    ['no prefix', 0n, 0n],
    ['a prefix without its zero', 3n, 1n],
    ['a prefix too long', 7n, 0n],
    ['a message too long', 4n, 4n],
    ['a huge prefix', 1n << 63n, 0n],
    ['a huge message', 4n, (1n << 64n) - 1n],
  ])('refused: %s', (_, prefixSize, messageSize) => {
    const record = madeRecord(logicalmsg14, 0x00, message(prefixSize, messageSize, utf8('abc\0\x01x')));
    expect(() => effectsOf(logicalmsg14, record)).toThrow('bad WAL record');
    expect(() => describeOf(logicalmsg14, record)).toThrow('bad WAL record');
  });
});
