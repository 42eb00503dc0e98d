// Heap and Heap2 judged by stock Postgres 14 to 18: every page after every record by the verification image in the
// log, every description by pg_walinspect, and at the end every page of every relation and every visibility map by
// Postgres's own recovery of the same log, byte for byte (but for the checksum).
//
// What redo tells apart must be met: a shape of record that none was of fails the suite by name. wal_log_hints is
// on, so that VISIBLE moves pd_lsn on both sides.

import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn } from '../../src/base/lsn.ts';
import { MAIN_FORKNUM, VISIBILITYMAP_FORKNUM } from '../../src/base/rel.ts';
import type { WalRecord } from '../../src/xlog/record.ts';
import { STOCK_MAJORS, type StockPostgres } from '../pg/stock.ts';
import { logicalWorkload, plainWorkload } from './heap-workload.ts';
import { Judged } from './judged.ts';

const MANAGERS = new Set(['Heap', 'Heap2']);
const HOOK_TIMEOUT_MS = 600_000;
const SESSIONS = 3;

const SETTINGS = {
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  full_page_writes: 'off',
  max_wal_size: '8GB',
  wal_consistency_checking: 'heap,heap2',
  wal_keep_size: '8GB',
  wal_level: 'replica',
  wal_log_hints: 'on',
};

/** By operation, the bits of its flags that change what redo or effects do. */
const FLAGS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  INSERT: { 1: 'cleared' },
  MULTI_INSERT: { 1: 'cleared', 32: 'frozen' },
  DELETE: { 1: 'cleared', 8: 'super', 16: 'moved' },
  UPDATE: { 1: 'old-cleared', 2: 'new-cleared', 32: 'prefix', 64: 'suffix' },
  HOT_UPDATE: { 1: 'old-cleared', 32: 'prefix', 64: 'suffix' },
  LOCK: { 1: 'cleared' },
  VISIBLE: { 1: 'visible', 2: 'frozen' },
};

const PARTS: readonly [RegExp, string][] = [
  [/nplans:? [1-9]|ntuples [1-9]/, 'freeze'],
  [/nredirected:? [1-9]/, 'redirect'],
  [/ndead:? [1-9]/, 'dead'],
  [/nunused:? [1-9]/, 'unused'],
];

/** A record's name, its telling flags or parts, and its blocks. */
function shapeOf(name: string, text: string, record: WalRecord): string {
  const op = name.replace(/^.*\//, '').replace('+INIT', '');
  const flags = Number(/flags:? (0x[0-9A-F]{2})/.exec(text)?.[1] ?? 0);
  const named = Object.entries(FLAGS[op] ?? {}).filter(([bit]) => (flags & Number(bit)) !== 0);
  const parts = /PRUNE|VACUUM|FREEZE/.test(op) ? PARTS.filter(([pattern]) => pattern.test(text)) : [];
  const blocks = record.blocks.filter(block => record.hasBlock(block.id)).map(block => block.id);
  return [name, ...named.map(([, word]) => word), ...parts.map(([, word]) => word), blocks.join(',')]
    .join(' ')
    .trimEnd();
}

const COMMON: readonly string[] = [
  'Heap/DELETE 0',
  'Heap/DELETE cleared 0',
  'Heap/DELETE moved 0',
  'Heap/DELETE super 0',
  'Heap/HEAP_CONFIRM 0',
  'Heap/HOT_UPDATE 0',
  'Heap/HOT_UPDATE old-cleared prefix suffix 0',
  'Heap/HOT_UPDATE prefix 0',
  'Heap/HOT_UPDATE prefix suffix 0',
  'Heap/HOT_UPDATE suffix 0',
  'Heap/INPLACE 0',
  'Heap/INSERT 0',
  'Heap/INSERT cleared 0',
  'Heap/INSERT+INIT 0',
  'Heap/LOCK 0',
  'Heap/LOCK cleared 0',
  'Heap/TRUNCATE',
  'Heap/UPDATE 0,1',
  'Heap/UPDATE new-cleared 0,1',
  'Heap/UPDATE old-cleared 0,1',
  'Heap/UPDATE old-cleared new-cleared 0,1',
  'Heap/UPDATE prefix suffix 0',
  'Heap/UPDATE suffix 0',
  'Heap/UPDATE+INIT 0,1',
  'Heap2/LOCK_UPDATED 0',
  'Heap2/MULTI_INSERT 0',
  'Heap2/MULTI_INSERT cleared 0',
  'Heap2/MULTI_INSERT+INIT 0',
  'Heap2/MULTI_INSERT+INIT frozen 0',
  'Heap2/NEW_CID',
  'Heap2/REWRITE',
  'Heap2/VISIBLE visible 0,1',
  'Heap2/VISIBLE visible frozen 0,1',
];

const SHAPES_14: readonly string[] = [
  ...COMMON,
  'Heap2/FREEZE_PAGE freeze 0',
  'Heap2/PRUNE dead 0',
  'Heap2/PRUNE redirect 0',
  'Heap2/VACUUM unused 0',
];

/** From 16 on descriptions say how many became unused. */
const SHAPES_16: readonly string[] = [...SHAPES_14, 'Heap2/PRUNE redirect unused 0'];

const SHAPES_17: readonly string[] = [
  ...COMMON,
  'Heap2/PRUNE_ON_ACCESS redirect 0',
  'Heap2/PRUNE_ON_ACCESS redirect unused 0',
  'Heap2/PRUNE_VACUUM_CLEANUP unused 0',
  'Heap2/PRUNE_VACUUM_SCAN dead 0',
  'Heap2/PRUNE_VACUUM_SCAN freeze 0',
];

async function workload(postgres: StockPostgres): Promise<void> {
  const others = Array.from(
    { length: SESSIONS },
    () => new Client({ host: postgres.home, user: 'postgres', database: 'postgres' }),
  );
  for (const other of others) await other.connect();
  await postgres.session(client => plainWorkload(client, others, postgres.home));
  for (const other of others) await other.end();
  await postgres.stop();
  await postgres.start({ wal_level: 'logical' });
  await postgres.session(client => logicalWorkload(client, postgres.home));
}

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let judged: Judged;
  beforeAll(async () => {
    judged = await Judged.run(major, { settings: SETTINGS, managers: MANAGERS, workload, shapeOf });
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await judged?.postgres.destroy();
  });

  test('every page is as its verification image', () => {
    const { mismatches, tally } = judged.replayer;
    expect(mismatches.map(m => `${m.rmgr}/${m.op} ${formatLsn(m.lsn)} ${m.error ?? ''}`)).toEqual([]);
    const verified = tally
      .met()
      .filter(row => MANAGERS.has(row.rmgr))
      .reduce((sum, row) => sum + row.verified, 0);
    expect(verified).toBeGreaterThan(20_000);
  });

  test('every operation and shape was met', () => {
    const never = judged.replayer.tally.neverMet().filter(name => MANAGERS.has(name.split('/')[0]!));
    expect(never).toEqual([]);
    const shapes = major >= 17 ? SHAPES_17 : major === 16 ? SHAPES_16 : SHAPES_14;
    expect(shapes.filter(shape => !judged.shapes.has(shape))).toEqual([]);
  });

  test.skipIf(major < 15)('descriptions are those of pg_walinspect', () => {
    expect(judged.described.size).toBeGreaterThan(20_000);
    const wrong: string[] = [];
    for (const [lsn, text] of judged.described) {
      const ours = judged.ours.get(lsn);
      if (ours !== text) wrong.push(`${formatLsn(lsn)}: "${ours}", not "${text}"`);
    }
    expect(wrong.slice(0, 10)).toEqual([]);
  });

  test('every page and every map is the one that Postgres recovers, byte for byte', () => {
    const { compared, later, wrong } = judged.differences([MAIN_FORKNUM, VISIBILITYMAP_FORKNUM]);
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(1_000);
    expect(later).toBeLessThan(50);
  });
});
