import { expect, test } from 'vitest';
import { lsn } from '../base/lsn.ts';
import { gcCutoffs, STANDBY_LAG_MAX } from './gc-cutoff.ts';
import { Leases } from './leases.ts';

const cutoffs = { appliedLsn: 1000, plannedLsn: 2000, retained: [400, 800] };
const MINUTE = 60_000;

test('a lease is taken, renewed, never shortened, and ends', () => {
  const leases = new Leases(0, 0);
  expect(leases.take(3000, 10 * MINUTE, 0, cutoffs)).toBe(10 * MINUTE);
  expect(leases.take(3000, MINUTE, MINUTE, cutoffs)).toBe(10 * MINUTE);
  expect(leases.take(3000, 10 * MINUTE, MINUTE, cutoffs)).toBe(11 * MINUTE);
  expect(leases.lsns(MINUTE)).toEqual([3000]);
  expect(leases.isLeased(3000, 11 * MINUTE - 1)).toBe(true);
  expect(leases.isLeased(3000, 11 * MINUTE)).toBe(false);
  expect(leases.lsns(11 * MINUTE)).toEqual([]);
});

test('below the cutoffs only what is leased already may be leased', () => {
  const leases = new Leases(0, 0);
  expect(() => leases.take(1500, MINUTE, 0, cutoffs)).toThrow(/below the planned gc cutoff/);
  expect(() => leases.take(500, MINUTE, 0, cutoffs)).toThrow(/below the latest gc cutoff/);
  leases.take(2500, MINUTE, 0, cutoffs);
  const later = { appliedLsn: 5000, plannedLsn: 5000, retained: [2500] };
  expect(leases.take(2500, MINUTE, 1, later)).toBe(MINUTE + 1);
});

test('during the grace, what was kept for a lease of before is renewed', () => {
  const leases = new Leases(0, 10 * MINUTE);
  leases.take(1500, MINUTE, 0, cutoffs);
  leases.take(800, MINUTE, 0, cutoffs);
  expect(() => leases.take(900, MINUTE, 0, cutoffs)).toThrow(/latest/);
  expect(leases.inGrace(10 * MINUTE)).toBe(false);
  expect(() => leases.take(400, MINUTE, 10 * MINUTE, cutoffs)).toThrow(/latest/);
});

const MB = 1024 * 1024;
const history = {
  lastRecordLsn: 100 * MB,
  appliedCutoffLsn: 10 * MB,
  atPitr: { kind: 'present' as const, lsn: lsn(50 * MB) },
  standbyHorizon: 0,
};

test('the longer of the two stretches is kept', () => {
  expect(gcCutoffs({ gcHorizon: 64 * MB, pitrIntervalMs: 1 }, history).cutoffLsn).toBe(36 * MB);
  expect(gcCutoffs({ gcHorizon: 1 * MB, pitrIntervalMs: 1 }, history).cutoffLsn).toBe(50 * MB);
  expect(gcCutoffs({ gcHorizon: 1 * MB, pitrIntervalMs: 0 }, history).cutoffLsn).toBe(99 * MB);
});

test('without a known time everything is kept; with no commit since, all of the time has passed', () => {
  const settings = { gcHorizon: 0, pitrIntervalMs: 1 };
  for (const kind of ['past', 'nodata'] as const) {
    const atPitr = { kind, lsn: lsn(0) };
    expect(gcCutoffs(settings, { ...history, atPitr })).toMatchObject({
      timeLsn: undefined,
      cutoffLsn: 10 * MB,
    });
  }
  const atPitr = { kind: 'future' as const, lsn: lsn(90 * MB) };
  expect(gcCutoffs(settings, { ...history, atPitr }).cutoffLsn).toBe(100 * MB);
});

test('a standby is waited for, up to a limit; the cutoff never goes back', () => {
  const settings = { gcHorizon: 0, pitrIntervalMs: 0 };
  expect(gcCutoffs(settings, { ...history, standbyHorizon: 70 * MB }).cutoffLsn).toBe(70 * MB);
  expect(gcCutoffs(settings, { ...history, standbyHorizon: 5 * MB }).cutoffLsn).toBe(10 * MB);
  const far = { ...history, lastRecordLsn: 70 * MB + STANDBY_LAG_MAX + 8, standbyHorizon: 70 * MB };
  expect(gcCutoffs(settings, far).cutoffLsn).toBe(far.lastRecordLsn);
});
