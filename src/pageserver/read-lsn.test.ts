import { describe, expect, test } from 'vitest';
import { type Lsn, MAX_LSN } from '../base/lsn.ts';
import { readLsn } from './read-lsn.ts';

const at = { lastRecordLsn: 1000, gcCutoffLsn: 500, leased: (lsn: Lsn) => lsn === 400 };
const read = (request: number, since: number): number => readLsn(request as Lsn, since as Lsn, at);

describe('where a request is read', () => {
  test.each([
    ['the newest, nothing to wait for', MAX_LSN, 800, 1000],
    ['the newest, and WAL is behind', MAX_LSN, 1200, 1200],
    ['an old LSN', 700, 600, 700],
    ['an LSN ahead that the object did not change before', 1500, 900, 1000],
    ['an LSN ahead, changed there', 1500, 1500, 1500],
    ['below the cutoff, under a lease', 400, 100, 400],
    ['at the cutoff', 500, 100, 500],
    ['not modified since below the cutoff', 1000, 8, 1000],
  ])('%s', (_, request, since, expected) => {
    expect(read(request, since)).toBe(expected);
  });

  test.each([
    ['backwards', 600, 700, 'lsn-invalid'],
    ['zero', 0, 0, 'lsn-invalid'],
    ['collected', 499, 100, 'lsn-collected'],
  ])('%s', (_, request, since, code) => {
    expect(() => read(request, since)).toThrowError(expect.objectContaining({ code }));
  });
});
