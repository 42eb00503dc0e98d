// Redo of every operation of every major, judged by stock Postgres 14 to 18: the work of all suites replayed, with
// nothing different after any record, nothing different at the end, nothing described otherwise, and nothing left
// unmet without a reason. The tables that this prints are those of `wal verify`, summed by manager.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { STOCK_MAJORS } from '../pg/stock.ts';
import { judge, type Verdict } from './judged.ts';
import { edges, faults, NEVER_MET, neverMet, REFUSED, report, work } from './oracle.ts';

const HOOK_TIMEOUT_MS = 900_000;

/** Operations of every major together: a reason in the tables that none of them needs fails. */
const neverMetSomewhere = new Set<string>();
const refusedSomewhere = new Set<string>();
const settingsMet = new Set<string>();

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let verdict: Verdict;
  let edgesVerdict: Verdict;
  const judgement = work(major);

  beforeAll(async () => {
    verdict = await judge(major, judgement);
    edgesVerdict = await judge(major, edges(major));
    console.log(report(`Postgres ${major}`, verdict));
    console.log(report(`Postgres ${major}, odd clusters`, edgesVerdict));
    for (const { act } of verdict.performed) {
      for (const [name, value] of Object.entries(act.settings)) settingsMet.add(`${name} ${value}`);
    }
  }, HOOK_TIMEOUT_MS);

  test('every page is as Postgres has it, after each record, at the end, and recovered byte for byte', () => {
    expect(faults(verdict)).toEqual([]);
    expect(faults(edgesVerdict)).toEqual([]);
    expect(verdict.tally.verified).toBeGreaterThan(250_000);
    expect(edgesVerdict.tally.verified).toBeGreaterThan(5_000);
    expect(verdict.final.compared).toBeGreaterThan(5_000);
    expect(verdict.recovered!.compared).toBeGreaterThan(5_000);
    expect(verdict.recovered!.later).toBeLessThan(100);
    if (major >= 15) expect(verdict.described).toBeGreaterThan(500_000);
  });

  test('an operation is never met or refused for a stated reason alone', () => {
    const never = neverMet([verdict, edgesVerdict]);
    const refused = verdict.tally.met().filter(row => row.unsupported > 0);
    console.log(`Postgres ${major} never met:`, never.map(op => `${op} (${NEVER_MET[op]})`).join(', '));
    expect(never.filter(op => !(op in NEVER_MET))).toEqual([]);
    for (const op of never) neverMetSomewhere.add(op);
    for (const { rmgr, op } of refused) refusedSomewhere.add(`${rmgr}/${op}`);
  });

  test('every shape of record that redo tells apart was met', () => {
    for (const { expected } of judgement.shapes) {
      expect(expected(major).filter(shape => !verdict.shapes.has(shape))).toEqual([]);
    }
  });

  test('the records tell whose log it is', () => {
    // From 16 on only Neon's own manager tells; before, thousands of heap records do, and agree.
    if (major >= 16) expect(verdict.flavours).toEqual({});
    else expect(verdict.flavours).toEqual({ stock: expect.toSatisfy(count => count > 10_000) });
  });
});

describe('all majors together', () => {
  test('no reason is left without an operation that needs it', () => {
    expect(Object.keys(NEVER_MET).filter(op => !neverMetSomewhere.has(op))).toEqual([]);
    expect(Object.keys(REFUSED).filter(op => !refusedSomewhere.has(op))).toEqual([]);
  });

  test('each setting was met', () => {
    for (const name of ['full_page_writes', 'wal_log_hints', 'track_commit_timestamp']) {
      expect(settingsMet).toContain(`${name} on`);
      expect(settingsMet).toContain(`${name} off`);
    }
    expect(settingsMet).toContain('wal_compression off');
    expect(settingsMet).toContain('wal_compression pglz');
  });
});

afterAll(() => settingsMet.clear());
