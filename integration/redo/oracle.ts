// All the work that makes stock Postgres write its log, put together: what the oracle suite judges for each major,
// and what is told of it.
//
// A major has two clusters. `work` does everything: heap, B-tree and hash, GIN, GiST and SP-GiST, BRIN, sequences,
// generic records, and whatever ends transactions, relations and databases, under one wal_consistency_checking=all;
// `edges` writes the few records that take an odd cluster. Settings change from act to act (full_page_writes,
// wal_compression, wal_log_hints, track_commit_timestamp), and in another order with every major, so that together
// the majors cover them. The long version runs every major under every setting:
//
//   node integration/redo/oracle.ts --every [14 15 16 17 18]

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { STOCK_MAJORS, type StockMajor, type StockPostgres } from '../pg/stock.ts';
import { btreeHashShapes } from './btree-hash-shapes.ts';
import { btreeWorkload, hashWorkload, imagesWorkload } from './btree-hash-workload.ts';
import { crashWorkload, minimalWorkload, SEGMENT_MIB } from './edges-workload.ts';
import { SETTINGS as EFFECTS_SETTINGS, effectsWorkload } from './effects-workload.ts';
import { ginGistSpgistShapes } from './gin-gist-spgist-shapes.ts';
import { ginWorkload, gistPruneWorkload, gistWorkload, spgistWorkload } from './gin-gist-spgist-workload.ts';
import { heapShapes } from './heap-shapes.ts';
import { logicalWorkload, plainWorkload } from './heap-workload.ts';
import { type Act, type Judgement, judge, type Settings, type Verdict } from './judged.ts';
import { bloomWorkload, brinWorkload, sequenceWorkload } from './small-workload.ts';
import { type Sql, sqlOf } from './statements.ts';

/** Operations that no run meets, each with its reason. */
export const NEVER_MET: Readonly<Record<string, string>> = {
  'XLOG/NOOP': 'no server writes it: replay passes over it, nothing more',
};

/** Operations that are met and refused, each with its reason. */
export const REFUSED: Readonly<Record<string, string>> = {
  'Tablespace/CREATE': 'a place outside the data directory is not kept: a clear error, on purpose',
};

const COMMON: Settings = {
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  max_prepared_transactions: 10,
  max_wal_size: '8GB',
  timezone: 'UTC',
  wal_consistency_checking: 'all',
  wal_keep_size: '8GB',
  wal_level: 'replica',
};

/** The settings that a run varies; what is left open changes from act to act. */
export interface Row {
  readonly fullPageWrites?: 'on' | 'off';
  readonly compression?: string;
  readonly logHints?: 'on' | 'off';
  readonly commitTimestamps?: 'on' | 'off';
  readonly checksums?: 'on' | 'off';
}

const SESSIONS = 3;

/** Tables of one act out of the way of the next. */
async function inSchema(
  postgres: StockPostgres,
  schema: string,
  work: (client: Client) => Promise<void>,
): Promise<void> {
  await postgres.sql(
    `create schema if not exists ${schema}; alter database postgres set search_path = ${schema}, public`,
  );
  await postgres.session(work);
}

const statements =
  (schema: string, ...workloads: readonly ((sql: Sql) => Promise<void>)[]) =>
  (postgres: StockPostgres): Promise<void> =>
    inSchema(postgres, schema, async client => {
      const sql = sqlOf(client);
      await sql('select setseed(0.42)');
      for (const workload of workloads) await workload(sql);
    });

async function heapInSessions(postgres: StockPostgres): Promise<void> {
  await inSchema(postgres, 'heap', async client => {
    const others = Array.from(
      { length: SESSIONS },
      () => new Client({ host: postgres.home, user: 'postgres', database: 'postgres' }),
    );
    for (const other of others) await other.connect();
    await plainWorkload(client, others, postgres.home);
    for (const other of others) await other.end();
  });
}

type Perform = Act['perform'];

/** Name, work, the full_page_writes it is done with unless told, and what else it needs. */
const WORK: readonly (readonly [string, Perform, 'on' | 'off' | 'either', Settings?])[] = [
  ['heap', heapInSessions, 'off'],
  [
    'heap, logical',
    postgres => inSchema(postgres, 'heap', client => logicalWorkload(client, postgres.home)),
    'either',
    { wal_level: 'logical' },
  ],
  ['btree, hash', statements('btree', btreeWorkload, hashWorkload), 'off'],
  ['btree, hash, images', statements('btree', imagesWorkload), 'on'],
  ['gin, gist, spgist', statements('trees', ginWorkload, gistWorkload, spgistWorkload), 'either'],
  ['brin, bloom, sequences', statements('small', brinWorkload, bloomWorkload, sequenceWorkload), 'either'],
];

/** Acts whose images pglz would take longer to pack than all the rest takes. */
const LARGE: ReadonlySet<string> = new Set(['btree, hash', 'gin, gist, spgist']);

const inTurn = <T>(values: readonly T[], turn: number): T => values[turn % values.length]!;
const onOff = (on: boolean): 'on' | 'off' => (on ? 'on' : 'off');

function workActs(major: StockMajor, row: Row, compressions: readonly string[]): Act[] {
  const methods = ['off', ...compressions];
  const fast = methods.filter(method => method !== 'pglz' && method !== 'on');
  const settings = (turn: number, fullPageWrites: 'on' | 'off' | 'either', large: boolean): Settings => ({
    ...COMMON,
    full_page_writes:
      row.fullPageWrites ?? (fullPageWrites === 'either' ? onOff(turn % 2 === 0) : fullPageWrites),
    wal_compression: row.compression ?? inTurn(large ? fast : methods, turn),
    wal_log_hints: row.logHints ?? onOff(turn % 3 === 0),
    track_commit_timestamp: row.commitTimestamps ?? onOff(turn % 4 === 0),
  });
  const acts = WORK.map(([name, perform, fullPageWrites, needs], i): Act => {
    const large = LARGE.has(name);
    return { name, perform, settings: { ...settings(major + i, fullPageWrites, large), ...needs } };
  });
  // Last, for it ends in freezing everything; it turns full_page_writes off and on itself.
  const { full_page_writes: _, ...rest } = settings(major + WORK.length, 'on', false);
  return [
    ...acts,
    {
      name: 'effects',
      settings: { ...rest, ...EFFECTS_SETTINGS, wal_compression: rest['wal_compression']! },
      perform: async postgres => {
        await inSchema(postgres, 'effects', async () => undefined);
        await effectsWorkload(postgres);
      },
    },
  ];
}

const checksumOption = (major: number, on: boolean): string[] =>
  on ? ['--data-checksums'] : major >= 18 ? ['--no-data-checksums'] : [];

/** Everything, on one cluster. Shapes of records are for a log without images to restore. */
export function work(major: StockMajor, row: Row = {}): Judgement {
  const checksums = row.checksums === undefined ? major === 15 || major === 18 : row.checksums === 'on';
  return {
    initdb: checksumOption(major, checksums),
    acts: compressions => workActs(major, row, compressions),
    shapes: row.fullPageWrites === 'on' ? [] : [heapShapes, btreeHashShapes, ginGistSpgistShapes],
    recovery: COMMON,
  };
}

/** The majors that Neon's builds are at hand for (NEON_PG_DIR); they know every compression of images. */
export const NEON_MAJORS: readonly StockMajor[] = STOCK_MAJORS.filter(major => existsSync(neonBin(major)));

function neonBin(major: StockMajor): string {
  return join(process.env['NEON_PG_DIR'] ?? '/nowhere', `v${major}/bin`);
}

/** The same work on a Neon build, whose heap records are others, and so their shapes. */
export function neonWork(major: StockMajor): Judgement {
  const judgement = work(major);
  // "all" is of managers known when it is read, which is before the library brings its own.
  const rmgr: Settings =
    major >= 16 ? { shared_preload_libraries: 'neon_rmgr', wal_consistency_checking: 'all,neon' } : {};
  return {
    ...judgement,
    build: { bin: neonBin(major), flavour: 'neon' },
    acts: compressions =>
      judgement.acts(compressions).map(act => ({ ...act, settings: { ...act.settings, ...rmgr } })),
    shapes: [btreeHashShapes, ginGistSpgistShapes],
    recovery: { ...COMMON, ...rmgr },
  };
}

/**
 * What takes a cluster of its own, without Postgres's recovery: that refuses a log of wal_level minimal, and finds
 * itself inconsistent where a GiST page is pruned (its redo sets F_TUPLES_DELETED, the writer does not).
 */
export function edges(major: StockMajor): Judgement {
  const settings: Settings = {
    ...COMMON,
    max_wal_senders: 0,
    wal_keep_size: '1GB',
    wal_skip_threshold: '1GB',
    track_commit_timestamp: onOff(major % 2 === 0),
  };
  return {
    initdb: [`--wal-segsize=${SEGMENT_MIB}`, ...checksumOption(major, major !== 15 && major !== 18)],
    acts: () => [
      { name: 'minimal', settings: { ...settings, wal_level: 'minimal' }, perform: minimalWorkload },
      { name: 'crash', settings, perform: crashWorkload },
      { name: 'gist, pruned', settings, perform: statements('trees', gistPruneWorkload) },
    ],
    shapes: [],
  };
}

/** Operations of the major that none of its runs met. */
export function neverMet(verdicts: readonly Verdict[]): string[] {
  return verdicts[0]!.tally
    .neverMet()
    .filter(name => verdicts.every(verdict => verdict.tally.neverMet().includes(name)));
}

/** What is not as Postgres has it, in words; empty when all is well. */
export function faults(verdict: Verdict): string[] {
  const { tally, final, recovered } = verdict;
  return [
    ...verdict.mismatches.filter(m => !(m.split(' ')[0]! in REFUSED)),
    ...tally
      .met()
      .filter(row => row.unsupported > 0 && !(`${row.rmgr}/${row.op}` in REFUSED))
      .map(row => `${row.rmgr}/${row.op}: ${row.unsupported} not replayed`),
    ...verdict.dangling.map(page => `never there: ${page}`),
    ...verdict.misdescribed.map(text => `described as ${text}`),
    ...final.differences.map(d => `at the end: ${d.path} block ${d.blkno ?? '-'}: ${d.what}`),
    ...(recovered?.wrong ?? []).map(page => `recovered otherwise: ${page}`),
  ];
}

const VARIED = ['full_page_writes', 'wal_compression', 'wal_log_hints', 'track_commit_timestamp'] as const;

/** Totals by manager, and what was compared. */
export function report(title: string, verdict: Verdict): string {
  const { tally, final, recovered } = verdict;
  const managers = new Map<string, [records: number, blocks: number, verified: number]>();
  for (const row of tally.met()) {
    const sums = managers.get(row.rmgr) ?? [0, 0, 0];
    managers.set(row.rmgr, [sums[0] + row.records, sums[1] + row.applied, sums[2] + row.verified]);
  }
  const line = (name: string, numbers: readonly number[]): string =>
    `  ${name.padEnd(18)}${numbers.map(n => `${n}`.padStart(10)).join('')}`;
  const images = [...verdict.imagesCompressed].map(([method, n]) => `${method} ${n}`).join(', ');
  let begin = verdict.logStart;
  const acts = verdict.performed.map(({ act, seconds, end }) => {
    const megabytes = ((end - begin) / 1e6).toFixed(0);
    begin = end;
    const varied = VARIED.filter(name => name in act.settings).map(name => `${name} ${act.settings[name]}`);
    return `  ${act.name}: ${megabytes} MB in ${seconds.toFixed(1)} s; ${varied.join(', ')}`;
  });
  const refused = tally
    .met()
    .reduce((sum, row) => sum + (`${row.rmgr}/${row.op}` in REFUSED ? row.unsupported : 0), 0);
  const seconds = verdict.replaySeconds.toFixed(1);
  const megabytes = ((verdict.logEnd - verdict.logStart) / 1e6).toFixed(0);
  return [
    `${title}: ${megabytes} MB of log, replayed and compared in ${seconds} s; images: ${images}`,
    ...acts,
    `  ${'manager'.padEnd(18)}${['records', 'blocks', 'verified'].map(s => s.padStart(10)).join('')}`,
    ...[...managers].map(([name, numbers]) => line(name, numbers)),
    line('total', [tally.records, tally.blocks, tally.verified]),
    `  mismatched ${tally.mismatched}, unsupported ${tally.unsupported - refused}, dangling ` +
      `${verdict.dangling.length}; refused ${refused} (${Object.keys(REFUSED).join(', ')})`,
    `  described ${verdict.described}; at the end ${final.compared} blocks compared, ${final.mismatched} differ` +
      (recovered === undefined
        ? ''
        : `; ${recovered.compared} pages recovered by Postgres, ${recovered.wrong.length} differ`),
  ].join('\n');
}

/** Every setting beside every other that it may have to do with. */
export const EVERY_ROW: readonly Row[] = (['off', 'on'] as const).flatMap(fullPageWrites =>
  ['off', 'pglz', 'lz4', 'zstd'].map((compression, i) => ({
    fullPageWrites,
    compression,
    logHints: onOff(i % 2 === 0),
    commitTimestamps: onOff((i >> 1) % 2 === (fullPageWrites === 'on' ? 0 : 1)),
    checksums: onOff((i % 2 === 1) === (fullPageWrites === 'on')),
  })),
);

async function everyRow(major: StockMajor): Promise<boolean> {
  const verdicts: Verdict[] = [];
  let sound = true;
  const run = async (title: string, judgement: Judgement): Promise<void> => {
    const verdict = await judge(major, judgement);
    verdicts.push(verdict);
    const wrong = faults(verdict);
    sound &&= wrong.length === 0;
    console.log(report(`Postgres ${major}, ${title}`, verdict), wrong.length === 0 ? '' : wrong);
  };
  for (const row of EVERY_ROW) {
    const compression = major === 14 && row.compression === 'pglz' ? 'on' : row.compression!;
    if (verdicts.length > 0 && ![...verdicts[0]!.compressions, 'off'].includes(compression)) {
      console.log(`Postgres ${major}: this build has no ${compression}`);
      continue;
    }
    await run(JSON.stringify(row), work(major, { ...row, compression }));
  }
  await run('edges', edges(major));
  const never = neverMet(verdicts);
  console.log(`Postgres ${major}: never met:`, never.map(op => `${op} (${NEVER_MET[op]})`).join(', '), '\n');
  return sound && never.every(op => op in NEVER_MET);
}

if (import.meta.main) {
  const asked = process.argv.slice(2).map(Number);
  let sound = true;
  for (const major of STOCK_MAJORS) {
    if (asked.some(n => n === major) || asked.every(Number.isNaN)) sound = (await everyRow(major)) && sound;
  }
  process.exitCode = sound ? 0 : 1;
}
