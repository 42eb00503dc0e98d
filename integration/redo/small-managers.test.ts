// BRIN, sequences and generic records (bloom indexes): every page after every record as Postgres's own
// verification image has it, and every description as Postgres words it. Stock 14 to 18 write the log here and
// now, with what recordings lack (revmap extension over regular pages, summaries that outgrow their page); the
// recordings of Neon's builds are replayed where they are at hand.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { relPath } from '../../src/base/rel.ts';
import { CONTROL_FILE_PATH, readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect, Flavour } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { flavourOf } from '../../src/xlog/dialects/flavour.ts';
import { restoreImage } from '../../src/xlog/image.ts';
import { recordDescription, recordOpName, rmgrName } from '../../src/xlog/inspect.ts';
import { BLCKSZ, newPage, type Page, pageOver } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { type BlockRef, WalRecord } from '../../src/xlog/record.ts';
import { redoBlock } from '../../src/xlog/redo.ts';
import { DEFAULT_SEGMENT_SIZE, parseSegmentFileName, segmentOf } from '../../src/xlog/segment.ts';
import { STOCK_MAJORS, StockPostgres } from '../pg/stock.ts';
import { corpora, NO_CORPUS, tarMembers } from './corpus.ts';

const RM_XLOG_ID = 0;
const JUDGED = new Map([
  [15, 'Sequence'],
  [17, 'BRIN'],
  [20, 'Generic'],
]);

const WORK = [
  'create extension bloom',
  'create extension pageinspect',
  'create table t (id int, v text, n int) with (fillfactor = 10)',
  `insert into t select i, repeat(chr(97 + i % 26), 40), i % 100 from generate_series(1, 9000) i`,
  'create index by_id on t using brin (id) with (pages_per_range = 1)',
  'create index by_v on t using brin (v) with (pages_per_range = 1)',
  'create index by_n on t using brin (n int4_minmax_multi_ops) with (pages_per_range = 4)',
  'create index by_v_bloom on t using brin (v text_bloom_ops) with (pages_per_range = 32)',
  `update t set v = repeat(v, 1 + id % 30) where id % 3 = 0`,
  `insert into t select i, 'tail', i from generate_series(9001, 9900) i`,
  'vacuum t',
  `select brin_desummarize_range('by_id', b) from generate_series(10, 60, 5) b`,
  `select brin_summarize_new_values('by_id')`,
  'create index by_bloom on t using bloom (id, n)',
  `insert into t select i, 'bloom', i from generate_series(20000, 22000) i`,
  'delete from t where id % 5 = 0',
  'vacuum t',
  'create sequence s increment 7 cache 1',
  `do $$ begin for i in 1..500 loop perform nextval('s'); end loop; end $$`,
  `select setval('s', 4711)`,
  'alter sequence s restart with 3',
  'create table u (id serial, w int generated always as identity)',
  'insert into u select from generate_series(1, 200)',
  'drop table u',
];

/** Pages by block, as the log makes them; a block met for the first time is asked of `base`. */
class Pages {
  private readonly pages = new Map<string, Page>();
  private readonly base: (block: BlockRef) => Page;

  constructor(base: (block: BlockRef) => Page) {
    this.base = base;
  }

  of(block: BlockRef): Page {
    const { spcOid, dbOid, relNumber, forkNum, blkno } = block;
    const key = `${spcOid}/${dbOid}/${relNumber}.${forkNum}.${blkno}`;
    let page = this.pages.get(key);
    if (page === undefined) this.pages.set(key, (page = this.base(block)));
    return page;
  }
}

class Judge {
  readonly dialect: Dialect;
  readonly met = new Map<string, number>();
  readonly mismatches: string[] = [];
  verified = 0;
  /** What its records say of whose log this is: a flavour, and how often. */
  readonly flavours: Partial<Record<Flavour, number>> = {};
  private readonly pages: Pages;
  private readonly ours = newPage();
  private readonly theirs = newPage();

  constructor(dialect: Dialect, pages: Pages) {
    this.dialect = dialect;
    this.pages = pages;
  }

  replay(record: WalRecord): void {
    const flavour = flavourOf(this.dialect.major, record);
    if (flavour !== undefined) this.flavours[flavour] = (this.flavours[flavour] ?? 0) + 1;
    if (record.rmid !== RM_XLOG_ID && !JUDGED.has(record.rmid)) return;
    const op = `${rmgrName(this.dialect, record)}/${recordOpName(this.dialect, record)}`;
    this.met.set(op, (this.met.get(op) ?? 0) + 1);
    for (const block of record.blocks) {
      if (!block.inUse) continue;
      const page = this.pages.of(block);
      redoBlock(this.dialect, page, record, block);
      if (block.hasImage && !block.applyImage) this.verify(op, page, record, block);
    }
  }

  private verify(op: string, page: Page, record: WalRecord, block: BlockRef): void {
    this.verified++;
    this.ours.bytes.set(page.bytes);
    restoreImage(this.theirs.bytes, record, block);
    const mask = this.dialect.rmgrs[record.rmid]!.mask!;
    mask(this.ours, block.blkno);
    mask(this.theirs, block.blkno);
    if (Buffer.compare(this.ours.bytes, this.theirs.bytes) === 0) return;
    this.mismatches.push(`${op} at ${formatLsn(record.lsn)}, ${relPath(block)} block ${block.blkno}`);
  }
}

/** Read the log from `start` on, segment by segment, to its end. */
async function readLog(
  dialect: Dialect,
  start: Lsn,
  segments: AsyncIterable<{ segno: number; bytes: Uint8Array }>,
  take: (record: WalRecord) => void,
): Promise<void> {
  const reader = new WalReader({ start, dialect });
  const record = new WalRecord();
  const first = segmentOf(start, DEFAULT_SEGMENT_SIZE);
  try {
    for await (const { segno, bytes } of segments) {
      if (segno < first) continue;
      reader.push(segno === first ? bytes.subarray(start % DEFAULT_SEGMENT_SIZE) : bytes);
      while (reader.next(record)) take(record);
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
}

async function* segmentsOf(directory: string) {
  for (const name of (await readdir(directory)).sort()) {
    const parsed = parseSegmentFileName(name, DEFAULT_SEGMENT_SIZE);
    if (parsed !== undefined) {
      yield { segno: parsed.segno, bytes: new Uint8Array(await readFile(join(directory, name))) };
    }
  }
}

describe.each(STOCK_MAJORS)('stock %i', major => {
  test('pages and descriptions are as Postgres has them', async () => {
    const dialect = dialectOfMajor(major, 'stock');
    const postgres = await StockPostgres.start(major, {
      settings: {
        wal_consistency_checking: 'all',
        full_page_writes: 'off',
        autovacuum: 'off',
        wal_keep_size: '4GB',
      },
    });
    try {
      const [{ start }] = await postgres.sql('checkpoint; select pg_current_wal_insert_lsn() as start');
      for (const statement of WORK) await postgres.sql(statement);
      const said = major >= 15 ? await descriptions(postgres, start) : undefined;
      await postgres.stop();

      const judge = new Judge(dialect, new Pages(() => newPage()));
      const described: string[] = [];
      await readLog(dialect, parseLsn(start), segmentsOf(join(postgres.dataDirectory, 'pg_wal')), record => {
        judge.replay(record);
        if (JUDGED.has(record.rmid) && described.length < (said?.length ?? 0)) {
          described.push(line(dialect, record));
        }
      });
      expect(judge.mismatches).toEqual([]);
      expect(judge.verified).toBeGreaterThan(5000);
      // From 16 on only Neon's own manager tells; before, thousands of heap records do, and agree.
      if (major >= 16) expect(judge.flavours).toEqual({});
      else expect(judge.flavours).toEqual({ stock: expect.toSatisfy(count => count > 10_000) });
      if (said !== undefined) expect(described).toEqual(said);
      const neverMet = ['CREATE_INDEX', 'INSERT', 'INSERT+INIT', 'UPDATE', 'UPDATE+INIT', 'SAMEPAGE_UPDATE']
        .concat('REVMAP_EXTEND', 'DESUMMARIZE')
        .map(op => `BRIN/${op}`)
        .concat('Sequence/LOG', 'Generic/Generic')
        .filter(op => !judge.met.has(op));
      expect(neverMet).toEqual([]);
    } finally {
      await postgres.destroy();
    }
  });
});

const line = (dialect: Dialect, record: WalRecord): string =>
  `${formatLsn(record.lsn)} ${rmgrName(dialect, record)} ${recordOpName(dialect, record)}: ` +
  recordDescription(dialect, record);

async function descriptions(postgres: StockPostgres, start: string): Promise<string[]> {
  await postgres.sql('create extension pg_walinspect');
  const rows =
    await postgres.sql(`select start_lsn, resource_manager as rmgr, record_type as op, coalesce(description, '') as description
    from pg_get_wal_records_info('${start}', pg_current_wal_flush_lsn())
    where resource_manager in ('BRIN', 'Sequence', 'Generic')`);
  return rows.map(r => `${formatLsn(parseLsn(r.start_lsn))} ${r.rmgr} ${r.op}: ${r.description}`);
}

const recordings = corpora();
const waldump = (major: number): string => join(process.env['NEON_PG_DIR'] ?? '', `v${major}/bin/pg_waldump`);

async function* recordedSegments(path: string) {
  for await (const { name, bytes } of tarMembers(join(path, 'wal.tar.zst'))) {
    const fileName = name.split('/').at(-1)!;
    const parsed = parseSegmentFileName(fileName, DEFAULT_SEGMENT_SIZE);
    if (parsed !== undefined) yield { segno: parsed.segno, bytes, fileName };
  }
}

async function recordedStart(path: string): Promise<Lsn> {
  const isControl = (name: string): boolean => name === `data/${CONTROL_FILE_PATH}`;
  for await (const { bytes } of tarMembers(join(path, 'base.tar.zst'), isControl)) {
    return readControlFile(bytes).checkPointCopy.redo;
  }
  throw new Error(`${path} has no control file`);
}

/** The blocks of the data directory that the recording starts from. */
async function recordedBase(path: string): Promise<(block: BlockRef) => Page> {
  const files = new Map<string, Uint8Array>();
  const tar = tarMembers(join(path, 'base.tar.zst'), name => /^data\/(base|global)\//.test(name));
  for await (const { name, bytes } of tar) files.set(name, bytes);
  return block => {
    const at = block.blkno * BLCKSZ;
    const file = files.get(`data/${relPath(block)}`);
    return file === undefined || file.length < at + BLCKSZ
      ? newPage()
      : pageOver(file.slice(at, at + BLCKSZ));
  };
}

describe.skipIf(recordings.length === 0)(recordings.length === 0 ? NO_CORPUS : 'recordings', () => {
  for (const { name, major, path } of recordings) {
    const tool = waldump(major);
    const judged = existsSync(tool) ? 'pages and descriptions' : 'pages (descriptions need NEON_PG_DIR)';
    test(`${name}: ${judged}`, async () => {
      const dialect = dialectOfMajor(major, 'neon');
      const start = await recordedStart(path);
      const judge = new Judge(dialect, new Pages(await recordedBase(path)));
      const directory = await mkdtemp(join(tmpdir(), 'small-managers-'));
      const described: string[] = [];
      async function* kept() {
        for await (const segment of recordedSegments(path)) {
          if (existsSync(tool)) await writeFile(join(directory, segment.fileName), segment.bytes);
          yield segment;
        }
      }
      try {
        await readLog(dialect, start, kept(), record => {
          judge.replay(record);
          if (JUDGED.has(record.rmid)) described.push(line(dialect, record));
        });
        expect(judge.mismatches).toEqual([]);
        expect(judge.verified).toBeGreaterThan(10_000);
        expect(judge.flavours).toEqual({ neon: expect.toSatisfy(count => count > 10_000) });
        if (existsSync(tool)) expect(described).toEqual(await dumped(tool, directory, start));
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    });
  }
});

/** What pg_waldump says of the judged managers; it prints them one manager at a time. */
async function dumped(tool: string, directory: string, start: Lsn): Promise<string[]> {
  const lines: { lsn: number; text: string }[] = [];
  for (const rmgr of JUDGED.values()) {
    const { stdout } = await promisify(execFile)(
      tool,
      ['-p', directory, '-s', formatLsn(start), '-r', rmgr],
      { maxBuffer: 1 << 30 },
    ).catch(error => error as { stdout: string });
    for (const text of stdout.split('\n')) {
      const match = /lsn: (\S+), prev \S+, desc: (\S+) (.*?)(?:, blkref #0.*)?$/.exec(text);
      if (match === null) continue;
      const lsn = parseLsn(match[1]!);
      lines.push({ lsn, text: `${formatLsn(lsn)} ${rmgr} ${match[2]}: ${match[3]}` });
    }
  }
  return lines.sort((a, b) => a.lsn - b.lsn).map(l => l.text);
}
