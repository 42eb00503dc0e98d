// GIN, GiST and SP-GiST judged by stock Postgres 14 to 18: a log written with wal_consistency_checking is replayed,
// each page compared with Postgres's own image of it, each description with pg_walinspect's (15 and later; 14 has
// none), and at the end every page with the one on disk.
//
// What replay tells apart must be met: the shapes of records are counted by their descriptions, and one that no
// record was of fails the suite by name. ASSIGN_LSN is met only where wal_level is minimal: it names no page.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { pageLsn } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { findOp } from '../../src/xlog/rmgr.ts';
import { DEFAULT_SEGMENT_SIZE } from '../../src/xlog/segment.ts';
import { STOCK_MAJORS, type StockMajor, StockPostgres } from '../pg/stock.ts';
import { CHECKED, ginWorkload, gistWorkload, spgistWorkload } from './gin-gist-spgist-workload.ts';

const SETTINGS = {
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  full_page_writes: 'off',
  max_wal_size: '8GB',
  wal_consistency_checking: CHECKED,
  wal_keep_size: '8GB',
  wal_level: 'replica',
};

const MANAGERS = new Set(['Gin', 'Gist', 'SPGist']);

/** Shapes of records that redo tells apart, as `shapeOf` names them. */
const SHAPES: readonly string[] = [
  'Gin/INSERT isdata: F isleaf: F children: N/N isdelete: F',
  'Gin/INSERT isdata: F isleaf: T isdelete: F',
  'Gin/INSERT isdata: F isleaf: T isdelete: T',
  'Gin/INSERT isdata: T isleaf: F children: N/N pitem: N-N/N',
  'Gin/INSERT isdata: T isleaf: T (add)',
  'Gin/INSERT isdata: T isleaf: T (insert)',
  'Gin/INSERT isdata: T isleaf: T (insert) (replace)',
  'Gin/SPLIT isrootsplit: F isdata: F isleaf: F',
  'Gin/SPLIT isrootsplit: F isdata: F isleaf: T',
  'Gin/SPLIT isrootsplit: F isdata: T isleaf: T',
  'Gin/SPLIT isrootsplit: T isdata: F isleaf: F',
  'Gin/SPLIT isrootsplit: T isdata: F isleaf: T',
  'Gin/SPLIT isrootsplit: T isdata: T isleaf: T',
  'Gin/VACUUM_DATA_LEAF_PAGE (delete)',
  'Gin/VACUUM_DATA_LEAF_PAGE (replace)',
  'Gin/UPDATE_META_PAGE blocks 0',
  'Gin/UPDATE_META_PAGE blocks 0,1',
  'Gist/PAGE_SPLIT blocks 1,2',
  'Gist/PAGE_SPLIT blocks 0,1,2',
  'Gist/PAGE_SPLIT blocks 1,2,3',
  'Gist/PAGE_UPDATE blocks 0',
  'Gist/PAGE_UPDATE blocks 0,1',
  'SPGist/ADD_LEAF blocks 0',
  'SPGist/ADD_LEAF (newpage) blocks 0,1',
  'SPGist/ADD_LEAF (nulls) blocks 0',
  'SPGist/MOVE_LEAFS blocks 0,1,2',
  'SPGist/MOVE_LEAFS (newpage) blocks 0,1,2',
  'SPGist/ADD_NODE blocks 0',
  'SPGist/ADD_NODE blocks 0,1,2',
  'SPGist/ADD_NODE (newpage) blocks 0,1,2',
  'SPGist/SPLIT_TUPLE (same) blocks 0',
  'SPGist/PICKSPLIT blocks 0,1,2,3',
  'SPGist/PICKSPLIT (innerIsParent) blocks 0,1,2',
  'SPGist/PICKSPLIT (isRootSplit) blocks 1,2',
  'SPGist/PICKSPLIT (nulls) (isRootSplit) blocks 1,2',
];

/** A record's description without its numbers; for GIN's leaves the kinds of segment actions in it. */
function shapeOf(name: string, text: string, record: WalRecord): string {
  if (name.startsWith('Gin/') && name !== 'Gin/UPDATE_META_PAGE') {
    const actions = text.indexOf(' segments:');
    if (actions < 0) return `${name} ${text.replace(/\d+/g, 'N')}`;
    const kinds = new Set(text.match(/\((?:add|insert|replace|delete)/g));
    const before = text.slice(0, actions).replace(/ *\d+$/, '');
    return `${name} ${before} ${[...kinds].sort().join(') ')})`.replace('  ', ' ');
  }
  const flags = text.match(/\(\w+\)/g) ?? [];
  const blocks = record.blocks.filter(block => record.hasBlock(block.id)).map(block => block.id);
  return [name, ...flags, `blocks ${blocks.join(',')}`].join(' ');
}

class Judged {
  readonly postgres: StockPostgres;
  readonly dialect: Dialect;
  readonly base = new Cluster();
  /** pg_walinspect's description by LSN. */
  readonly described = new Map<Lsn, string>();
  readonly ours = new Map<Lsn, string>();
  readonly shapes = new Set<string>();
  replayer: Replayer | undefined;

  private constructor(postgres: StockPostgres) {
    this.postgres = postgres;
    this.dialect = dialectOfMajor(postgres.major, 'stock');
  }

  static async run(major: StockMajor): Promise<Judged> {
    const postgres = await StockPostgres.start(major, { settings: SETTINGS });
    try {
      const judged = new Judged(postgres);
      await postgres.stop();
      judged.load(judged.base);
      await postgres.start();
      await judged.work();
      await postgres.stop();
      judged.replay();
      return judged;
    } catch (error) {
      await postgres.destroy();
      throw error;
    }
  }

  load(cluster: Cluster): void {
    const root = this.postgres.dataDirectory;
    for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const name = path.slice(root.length + 1);
      if (!name.startsWith('pg_wal/')) cluster.loadFile(name, new Uint8Array(readFileSync(path)));
    }
  }

  private async work(): Promise<void> {
    await this.postgres.session(async client => {
      const sql = (text: string) => client.query(text);
      await sql('select setseed(0.42)');
      await sql('set synchronous_commit = off');
      const { rows } = await sql('select pg_current_wal_insert_lsn() as lsn');
      await ginWorkload(sql);
      await gistWorkload(sql);
      await spgistWorkload(sql);
      if (this.postgres.major < 15) return;
      await sql('create extension pg_walinspect');
      const records = await sql(
        `select start_lsn, record_type, description
           from pg_get_wal_records_info('${rows[0].lsn}', pg_current_wal_flush_lsn())
          where resource_manager in ('Gin', 'Gist', 'SPGist')`,
      );
      for (const { start_lsn, record_type, description } of records.rows) {
        this.described.set(parseLsn(start_lsn), `${record_type} ${description ?? ''}`);
      }
    });
  }

  private replay(): void {
    const { redo } = readControlFile(this.base.controlFile!).checkPointCopy;
    const directory = join(this.postgres.dataDirectory, 'pg_wal');
    const firstSegment = Math.floor(redo / DEFAULT_SEGMENT_SIZE);
    const reader = new WalReader({
      start: (firstSegment * DEFAULT_SEGMENT_SIZE) as Lsn,
      dialect: this.dialect,
      resync: true,
    });
    this.replayer = new Replayer(this.dialect, this.base, { trackCommitTimestamp: false });
    const record = new WalRecord();
    const names = readdirSync(directory).filter(name => /^[0-9A-F]{24}$/.test(name));
    for (const name of names.sort()) {
      const segment = parseInt(name.slice(8, 16), 16) * 256 + parseInt(name.slice(16), 16);
      if (segment < firstSegment) continue;
      reader.push(new Uint8Array(readFileSync(join(directory, name))));
      try {
        while (reader.next(record)) if (record.lsn >= redo) this.take(record);
      } catch (error) {
        if ((error as { code?: string }).code === 'wal-end') return;
        throw error;
      }
    }
  }

  private take(record: WalRecord): void {
    this.replayer!.replay(record);
    const rmgr = this.dialect.rmgrs[record.rmid]!;
    if (!MANAGERS.has(rmgr.name)) return;
    const op = findOp(rmgr, record.info)!;
    this.ours.set(record.lsn, `${op.name} ${op.describe!(record)}`);
    const block = record.blocks[0]!;
    const hasImage = block.hasImage;
    // With its image out of sight a GIN insertion tells what it does.
    if (block.dataLength > 0) block.hasImage = false;
    this.shapes.add(shapeOf(`${rmgr.name}/${op.name}`, op.describe!(record), record));
    block.hasImage = hasImage;
  }
}

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let judged: Judged;
  beforeAll(async () => {
    judged = await Judged.run(major);
  });
  afterAll(async () => {
    await judged?.postgres.destroy();
  });

  test('every page is as its verification image', () => {
    const { mismatches, tally } = judged.replayer!;
    expect(mismatches.filter(m => MANAGERS.has(m.rmgr)).map(m => `${m.op} ${formatLsn(m.lsn)}`)).toEqual([]);
    for (const row of tally.met().filter(row => MANAGERS.has(row.rmgr))) {
      expect([row.rmgr, row.op, row.mismatched, row.unsupported]).toEqual([row.rmgr, row.op, 0, 0]);
    }
  });

  test('every operation and shape was met', () => {
    const never = judged.replayer!.tally.neverMet().filter(name => MANAGERS.has(name.split('/')[0]!));
    expect(never).toEqual(['Gist/ASSIGN_LSN']);
    expect(SHAPES.filter(shape => !judged.shapes.has(shape))).toEqual([]);
  });

  test.skipIf(major < 15)('descriptions are those of pg_walinspect', () => {
    expect(judged.described.size).toBeGreaterThan(10_000);
    const wrong: string[] = [];
    for (const [lsn, text] of judged.described) {
      const ours = judged.ours.get(lsn);
      if (ours !== text) wrong.push(`${formatLsn(lsn)}: "${ours}", not "${text}"`);
    }
    expect(wrong.slice(0, 10)).toEqual([]);
  });

  test('the indexes on disk at the end are the replayed ones, to their LSNs and NSNs', () => {
    const theirs = new Cluster();
    judged.load(theirs);
    const wrong: string[] = [];
    let compared = 0;
    for (const file of theirs.relations()) {
      const { spcOid, dbOid, relNumber, forkNum } = file.tag;
      const ours = judged.base.find(spcOid, dbOid, relNumber, forkNum);
      for (let blkno = 0; forkNum === 0 && blkno < file.nblocks; blkno++) {
        const page = file.page(blkno)!;
        const pageId = page.view.getUint16(8190, true);
        if (pageId !== GIST_PAGE_ID && pageId !== SPGIST_PAGE_ID) continue;
        const other = ours?.page(blkno);
        compared++;
        if (other === undefined || pageLsn(other) !== pageLsn(page)) {
          wrong.push(`${relNumber} block ${blkno}: LSN`);
        } else if (
          pageId === GIST_PAGE_ID &&
          other.view.getBigUint64(8176) !== page.view.getBigUint64(8176)
        ) {
          wrong.push(`${relNumber} block ${blkno}: NSN`);
        }
      }
    }
    expect(compared).toBeGreaterThan(500);
    expect(wrong).toEqual([]);
  });
});

const GIST_PAGE_ID = 0xff81;
const SPGIST_PAGE_ID = 0xff82;
