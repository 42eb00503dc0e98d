// B-trees and hash indexes judged by stock Postgres 14 to 18, three times over: each page after each record by the
// verification image in the log; each description by pg_walinspect (15 and later; 14 has none); and at the end
// each page by Postgres's own recovery of the same log over the same base, byte for byte, LSNs, hint bits and
// unused space included (but for the checksum, which is off).
//
// What replay tells apart must be met: a shape of record that none was of fails the suite by name. Two shapes of
// hash records are beyond it: a new bitmap page takes 32,768 overflow pages, and the freed page of a squeeze is
// always its chain's last.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { equalBytes } from '../../src/base/bytes.ts';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { relKey } from '../../src/base/rel.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { type Page, PD_CHECKSUM } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { findOp } from '../../src/xlog/rmgr.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  parseSegmentFileName,
  segmentOf,
  segmentStart,
} from '../../src/xlog/segment.ts';
import { STOCK_MAJORS, type StockMajor, StockPostgres } from '../pg/stock.ts';
import { btreeWorkload, CHECKED, hashWorkload, imagesWorkload } from './btree-hash-workload.ts';

const SETTINGS = {
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  full_page_writes: 'off',
  max_wal_size: '8GB',
  wal_consistency_checking: CHECKED,
  wal_keep_size: '8GB',
  wal_level: 'replica',
};
const HOOK_TIMEOUT_MS = 600_000;

const MANAGERS = new Set(['Btree', 'Hash']);

/** Shapes of records that redo tells apart, as `shapeOf` names them. */
const SHAPES: readonly string[] = [
  'Btree/DEDUP 0',
  'Btree/DELETE deletes 0',
  'Btree/DELETE deletes updates 0',
  'Btree/DELETE updates 0',
  'Btree/INSERT_LEAF 0',
  'Btree/INSERT_LEAF 0*',
  'Btree/INSERT_META 0*,1,2',
  'Btree/INSERT_META 0,1,2',
  'Btree/INSERT_POST 0',
  'Btree/INSERT_UPPER 0*,1',
  'Btree/INSERT_UPPER 0,1',
  'Btree/MARK_PAGE_HALFDEAD 0,1',
  'Btree/MARK_PAGE_HALFDEAD 0,1*',
  'Btree/META_CLEANUP 0',
  'Btree/NEWROOT leaf 0,2',
  'Btree/NEWROOT upper 0,1,2',
  'Btree/REUSE_PAGE',
  'Btree/SPLIT_L 0,1',
  'Btree/SPLIT_L 0,1,2',
  'Btree/SPLIT_L posting 0,1,2',
  'Btree/SPLIT_L upper 0,1,2,3',
  'Btree/SPLIT_L upper 0,1,3',
  'Btree/SPLIT_R 0,1',
  'Btree/SPLIT_R 0,1,2',
  'Btree/SPLIT_R 0,1,2*',
  'Btree/SPLIT_R upper 0*,1,3',
  'Btree/SPLIT_R upper 0,1,2,3',
  'Btree/SPLIT_R upper 0,1,3',
  'Btree/UNLINK_PAGE 0,1,2',
  'Btree/UNLINK_PAGE 0,1,2*',
  'Btree/UNLINK_PAGE 0,2',
  'Btree/UNLINK_PAGE upper 0,1*,2*,3',
  'Btree/UNLINK_PAGE upper 0,1,2*,3',
  'Btree/UNLINK_PAGE upper 0,1,2,3',
  'Btree/UNLINK_PAGE upper 0,2,3',
  'Btree/UNLINK_PAGE_META 0,2,4',
  'Btree/UNLINK_PAGE_META upper 0,2,3,4',
  'Btree/VACUUM deletes 0',
  'Btree/VACUUM deletes 0*',
  'Btree/VACUUM deletes updates 0',
  'Btree/VACUUM deletes updates 0*',
  'Btree/VACUUM updates 0',
  'Hash/ADD_OVFL_PAGE 0,1,4',
  'Hash/ADD_OVFL_PAGE found 0,1,2*,4',
  'Hash/ADD_OVFL_PAGE found 0,1,2,4',
  'Hash/DELETE 0,1',
  'Hash/DELETE 0,1*',
  'Hash/DELETE primary 1',
  'Hash/DELETE primary 1*',
  'Hash/INIT_BITMAP_PAGE 0,1',
  'Hash/INIT_META_PAGE 0',
  'Hash/INSERT 0*,1',
  'Hash/INSERT 0*,1*',
  'Hash/INSERT 0,1',
  'Hash/MOVE_PAGE_CONTENTS moves 0,1,2',
  'Hash/MOVE_PAGE_CONTENTS moves primary 1,2',
  'Hash/SPLIT_ALLOCATE_PAGE 0,1,2',
  'Hash/SPLIT_ALLOCATE_PAGE masks splitpoint 0,1,2',
  'Hash/SPLIT_ALLOCATE_PAGE splitpoint 0,1,2',
  'Hash/SPLIT_CLEANUP 0',
  'Hash/SPLIT_COMPLETE 0,1',
  'Hash/SPLIT_PAGE 0*',
  'Hash/SQUEEZE_PAGE moves 0,1,2,3,5,6',
  'Hash/SQUEEZE_PAGE moves 0,1,2,5',
  'Hash/SQUEEZE_PAGE moves primary 1,2*,3,5*,6*',
  'Hash/SQUEEZE_PAGE moves primary 1,2*,3,5,6',
  'Hash/SQUEEZE_PAGE moves primary 1,2,3,5,6',
  'Hash/SQUEEZE_PAGE moves primary 1,2,5',
  'Hash/SQUEEZE_PAGE moves primary 1,2,5,6',
  'Hash/SQUEEZE_PAGE primary 1,2,3,5,6',
  'Hash/SQUEEZE_PAGE primary 1,2,5',
  'Hash/SQUEEZE_PAGE primary 1,2,5,6',
  'Hash/UPDATE_META_PAGE 0',
  'Hash/VACUUM_ONE_PAGE 0,1',
];

const FLAGS: readonly [RegExp, string][] = [
  [/\blev(?:el)?:? [1-9]/, 'upper'],
  [/\blev(?:el)?:? 0$/, 'leaf'],
  [/postingoff:? [1-9]/, 'posting'],
  [/ndeleted:? [1-9]/, 'deletes'],
  [/nupdated:? [1-9]/, 'updates'],
  [/ntups [1-9]/, 'moves'],
  [/is_primary T/, 'primary'],
  [/clear_dead_marking T/, 'clears'],
  [/bmpage_found T/, 'found'],
  [/masks_updated T/, 'masks'],
  [/issplitpoint_changed T/, 'splitpoint'],
];

/** A record's name, what stands out in its description, its blocks; `*` behind a block restored from an image. */
function shapeOf(name: string, text: string, record: WalRecord): string {
  const flags = FLAGS.filter(([pattern]) => pattern.test(text)).map(([, flag]) => flag);
  const blocks = record.blocks
    .filter(block => record.hasBlock(block.id))
    .map(block => `${block.id}${block.hasImage && block.applyImage ? '*' : ''}`);
  return [name, ...flags, blocks.join(',')].join(' ').trimEnd();
}

class Judged {
  readonly postgres: StockPostgres;
  readonly dialect: Dialect;
  readonly cluster = new Cluster();
  /** pg_walinspect's description by LSN. */
  readonly described = new Map<Lsn, string>();
  readonly ours = new Map<Lsn, string>();
  readonly shapes = new Set<string>();
  /** Forks that the two managers' records have changed. */
  readonly forks = new Set<string>();
  readonly replayer: Replayer;

  private constructor(postgres: StockPostgres) {
    this.postgres = postgres;
    this.dialect = dialectOfMajor(postgres.major, 'stock');
    this.replayer = new Replayer(this.dialect, this.cluster, { trackCommitTimestamp: false });
  }

  static async run(major: StockMajor): Promise<Judged> {
    const postgres = await StockPostgres.create(major, { settings: SETTINGS });
    const judged = new Judged(postgres);
    load(judged.cluster, postgres.dataDirectory);
    execFileSync('cp', ['-a', postgres.dataDirectory, judged.recoveredDirectory]);
    await postgres.start();
    await judged.work();
    await postgres.stop();
    judged.replay();
    await judged.recover();
    return judged;
  }

  get recoveredDirectory(): string {
    return join(this.postgres.home, 'recovered');
  }

  private async work(): Promise<void> {
    await this.postgres.session(async client => {
      const sql = (text: string) => client.query(text);
      await sql('set synchronous_commit = off');
      await btreeWorkload(sql);
      await hashWorkload(sql);
    });
    await this.postgres.stop();
    await this.postgres.start({ full_page_writes: 'on' });
    await this.postgres.session(async client => {
      const sql = (text: string) => client.query(text);
      await imagesWorkload(sql);
      if (this.postgres.major < 15) return;
      await sql('create extension pg_walinspect');
      const { redo } = readControlFile(this.cluster.controlFile!).checkPointCopy;
      const records = await sql(
        `select start_lsn, resource_manager, record_type, description
           from pg_get_wal_records_info('${formatLsn(redo)}', pg_current_wal_flush_lsn())
          where resource_manager in ('Btree', 'Hash')`,
      );
      for (const { start_lsn, resource_manager, record_type, description } of records.rows) {
        const text = `${resource_manager}/${record_type} ${description ?? ''}`;
        this.described.set(parseLsn(start_lsn), text);
      }
    });
  }

  private replay(): void {
    const { redo } = readControlFile(this.cluster.controlFile!).checkPointCopy;
    const directory = join(this.postgres.dataDirectory, 'pg_wal');
    const first = segmentOf(redo, DEFAULT_SEGMENT_SIZE);
    const reader = new WalReader({
      start: segmentStart(first, DEFAULT_SEGMENT_SIZE),
      dialect: this.dialect,
      resync: true,
    });
    const record = new WalRecord();
    for (const name of readdirSync(directory).sort()) {
      const segment = parseSegmentFileName(name, DEFAULT_SEGMENT_SIZE);
      if (segment === undefined || segment.segno < first) continue;
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
    this.replayer.replay(record);
    const rmgr = this.dialect.rmgrs[record.rmid]!;
    if (!MANAGERS.has(rmgr.name)) return;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const { spcOid, dbOid, relNumber, forkNum } = record.blocks[id]!;
      if (record.hasBlock(id)) this.forks.add(relKey(spcOid, dbOid, relNumber, forkNum));
    }
    const op = findOp(rmgr, record.info)!;
    const name = `${rmgr.name}/${op.name}`;
    const text = op.describe?.(record) ?? '';
    this.ours.set(record.lsn, `${name} ${text}`);
    this.shapes.add(shapeOf(name, text, record));
  }

  /** Postgres replays the same log over the same base. */
  private async recover(): Promise<void> {
    writeFileSync(join(this.recoveredDirectory, 'recovery.signal'), '');
    await this.postgres.runDirectory(this.recoveredDirectory, {
      restore_command: `cp ${this.postgres.dataDirectory}/pg_wal/%f %p`,
      hot_standby: 'off',
      autovacuum: 'off',
      checkpoint_timeout: '1h',
      max_wal_size: '8GB',
    });
  }

  recovered(): Cluster {
    const cluster = new Cluster();
    load(cluster, this.recoveredDirectory);
    return cluster;
  }
}

function load(cluster: Cluster, root: string): void {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(root.length + 1);
    if (!name.startsWith('pg_wal/')) cluster.loadFile(name, new Uint8Array(readFileSync(path)));
  }
}

function samePage(ours: Page | undefined, theirs: Page): boolean {
  if (ours === undefined) return false;
  const bytes = ours.bytes.slice();
  bytes.set(theirs.bytes.subarray(PD_CHECKSUM, PD_CHECKSUM + 2), PD_CHECKSUM);
  return equalBytes(bytes, theirs.bytes);
}

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let judged: Judged;
  beforeAll(async () => {
    judged = await Judged.run(major);
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await judged?.postgres.destroy();
  });

  test('every page is as its verification image', () => {
    const { mismatches, tally } = judged.replayer;
    const wrong = mismatches.filter(m => MANAGERS.has(m.rmgr));
    expect(wrong.map(m => `${m.op} ${formatLsn(m.lsn)} ${m.error ?? ''}`)).toEqual([]);
    for (const row of tally.met().filter(row => MANAGERS.has(row.rmgr))) {
      expect([row.rmgr, row.op, row.mismatched, row.unsupported]).toEqual([row.rmgr, row.op, 0, 0]);
    }
  });

  test('every operation and shape was met', () => {
    const never = judged.replayer.tally.neverMet().filter(name => MANAGERS.has(name.split('/')[0]!));
    expect(never).toEqual([]);
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

  test('every page is the one that Postgres recovers, byte for byte', () => {
    const wrong: string[] = [];
    let compared = 0;
    for (const file of judged.recovered().relations()) {
      const { spcOid, dbOid, relNumber, forkNum } = file.tag;
      if (!judged.forks.has(relKey(spcOid, dbOid, relNumber, forkNum))) continue;
      const ours = judged.cluster.find(spcOid, dbOid, relNumber, forkNum);
      for (let blkno = 0; blkno < file.nblocks; blkno++) {
        compared++;
        if (!samePage(ours?.page(blkno), file.page(blkno)!))
          wrong.push(`${relNumber}.${forkNum} block ${blkno}`);
      }
    }
    expect(compared).toBeGreaterThan(500);
    expect(wrong).toEqual([]);
  });
});
