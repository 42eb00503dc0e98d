import { describe, expect, test } from 'vitest';
import { Builder, viewOf } from '../../base/bytes.ts';
import {
  describeInvalidations,
  invalNames14,
  invalNames18,
  lsnAt,
  relPathAt,
  timestamptzToStr,
  walLevelString,
} from './desc.ts';

const POSTGRES_EPOCH_MILLIS = Date.UTC(2000, 0, 1);

describe('timestamptzToStr', () => {
  test('known times', () => {
    expect(timestamptzToStr(0n)).toBe('2000-01-01 00:00:00.000000 UTC');
    expect(timestamptzToStr(1n)).toBe('2000-01-01 00:00:00.000001 UTC');
    expect(timestamptzToStr(5_097_600_000_000n)).toBe('2000-02-29 00:00:00.000000 UTC');
    expect(timestamptzToStr(846_460_800_123_456n)).toBe('2026-10-28 00:00:00.123456 UTC');
  });

  test('before 2000 the fraction keeps its sign, as C has it', () => {
    expect(timestamptzToStr(-1n)).toBe('2000-01-01 00:00:00.-00001 UTC');
    expect(timestamptzToStr(-86_400_000_000n)).toBe('1999-12-31 00:00:00.000000 UTC');
    expect(timestamptzToStr(-1_500_000n)).toBe('1999-12-31 23:59:59.-500000 UTC');
  });

  test('agrees with Date on every day of eight centuries', () => {
    const wrong: string[] = [];
    for (let day = -100 * 365; day < 700 * 365; day++) {
      const micros = BigInt(day) * 86_400_000_000n + 45_296_000_000n;
      const iso = new Date(POSTGRES_EPOCH_MILLIS + day * 86_400_000 + 45_296_000).toISOString();
      const text = timestamptzToStr(micros);
      if (text !== `${iso.slice(0, 10)} ${iso.slice(11, 19)}.000000 UTC`) wrong.push(`${iso}: ${text}`);
    }
    expect(wrong).toEqual([]);
  });

  test('what is no time is printed all the same', () => {
    expect(timestamptzToStr(0x7fff_ffff_ffff_ffffn)).toMatch(/^294277-01-09 04:00:54\.775807 UTC$/);
    expect(timestamptzToStr(-0x8000_0000_0000_0000n)).toContain(' UTC');
  });
});

test('LSNs are printed whatever they hold', () => {
  const view = viewOf(new Builder().u64le(0xffff_ffff_0000_000an).finish());
  expect(lsnAt(view, 0)).toBe('FFFFFFFF/A');
});

test('paths by tablespace and fork', () => {
  const at = (spc: number, db: number, rel: number): DataView =>
    viewOf(new Builder().u32le(spc).u32le(db).u32le(rel).finish());
  expect(relPathAt(at(1664, 0, 1262), 0, 0, 'PG_X')).toBe('global/1262');
  expect(relPathAt(at(1663, 5, 16384), 0, 1, 'PG_X')).toBe('base/5/16384_fsm');
  expect(relPathAt(at(16400, 5, 16384), 0, 3, 'PG_X')).toBe('pg_tblspc/16400/PG_X/5/16384_init');
});

test('invalidation messages by kind; 18 knows one more', () => {
  const message = (id: number, db: number, oid: number): Builder =>
    new Builder(16)
      .u8(id & 0xff)
      .zeros(3)
      .u32le(db)
      .u32le(oid)
      .zeros(4);
  const bytes = [
    message(7, 5, 1),
    message(-1, 5, 1259),
    message(-2, 5, 16384),
    message(-3, 0, 0),
    message(-4, 5, 0),
    message(-5, 5, 2619),
    message(-6, 5, 16390),
    message(-7, 0, 0),
  ].flatMap(m => [...m.finish()]);
  const view = viewOf(new Uint8Array(bytes));
  const common = '; inval msgs: catcache 7 catalog 1259 relcache 16384 smgr relmap db 5 snapshot 2619';
  expect(describeInvalidations(view, 0, 8, undefined, invalNames14)).toBe(
    `${common} unrecognized id -6 unrecognized id -7`,
  );
  expect(describeInvalidations(view, 0, 8, { dbId: 5, tsId: 1663 }, invalNames18)).toBe(
    `; relcache init file inval dbid 5 tsid 1663${common} relsync 16390 unrecognized id -7`,
  );
  expect(describeInvalidations(view, 0, 0, { dbId: 5, tsId: 1663 }, invalNames18)).toBe('');
});

test('wal_level', () => {
  expect([0, 1, 2, 3, -1].map(walLevelString)).toEqual(['minimal', 'replica', 'logical', '?', '?']);
});
