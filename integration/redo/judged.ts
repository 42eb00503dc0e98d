// One log of stock Postgres, judged by Postgres three times over: replayed from a base with its verification
// images, read by pg_walinspect (15 and later; 14 has none), and recovered by Postgres itself from the same base.
//
// `run` makes a cluster, keeps a copy of it, lets a workload loose on it, replays the log in memory and lets
// Postgres recover the copy. What came of it is there to be asserted on.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes } from '../../src/base/bytes.ts';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { type Page, PD_CHECKSUM, pageLsn } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { findOp, opName } from '../../src/xlog/rmgr.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  parseSegmentFileName,
  segmentOf,
  segmentStart,
} from '../../src/xlog/segment.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';

export type Settings = Readonly<Record<string, string | number>>;

export interface Judgement {
  readonly settings: Settings;
  /** Names of the managers on trial. */
  readonly managers: ReadonlySet<string>;
  readonly workload: (postgres: StockPostgres) => Promise<void>;
  /** What redo tells apart in a record of these managers; each shape is counted. */
  readonly shapeOf: (name: string, description: string, record: WalRecord) => string;
}

export class Judged {
  readonly postgres: StockPostgres;
  readonly dialect: Dialect;
  readonly cluster = new Cluster();
  readonly replayer: Replayer;
  /** pg_walinspect's operation and description by LSN, and ours. */
  readonly described = new Map<Lsn, string>();
  readonly ours = new Map<Lsn, string>();
  readonly shapes = new Map<string, number>();
  private readonly judgement: Judgement;
  /** Where the log ends. */
  private end = 0;

  private constructor(postgres: StockPostgres, judgement: Judgement) {
    this.postgres = postgres;
    this.judgement = judgement;
    this.dialect = dialectOfMajor(postgres.major, 'stock');
    this.replayer = new Replayer(this.dialect, this.cluster, { trackCommitTimestamp: false });
  }

  static async run(major: StockMajor, judgement: Judgement): Promise<Judged> {
    const postgres = await StockPostgres.create(major, { settings: judgement.settings });
    try {
      const judged = new Judged(postgres, judgement);
      load(judged.cluster, postgres.dataDirectory);
      execFileSync('cp', ['-a', postgres.dataDirectory, judged.recoveredDirectory]);
      await postgres.start();
      await judgement.workload(postgres);
      if (major >= 15) await judged.inspect();
      await postgres.stop();
      judged.replay();
      await judged.recover();
      return judged;
    } catch (error) {
      await postgres.destroy();
      throw error;
    }
  }

  private get recoveredDirectory(): string {
    return join(this.postgres.home, 'recovered');
  }

  private get redo(): Lsn {
    return readControlFile(this.cluster.controlFile!).checkPointCopy.redo;
  }

  private async inspect(): Promise<void> {
    await this.postgres.sql('create extension pg_walinspect');
    const names = [...this.judgement.managers].map(name => `'${name}'`).join(', ');
    const rows = await this.postgres.sql(
      `select start_lsn, resource_manager, record_type, description
         from pg_get_wal_records_info('${formatLsn(this.redo)}', pg_current_wal_flush_lsn())
        where resource_manager in (${names})`,
    );
    for (const { start_lsn, resource_manager, record_type, description } of rows) {
      this.described.set(parseLsn(start_lsn), `${resource_manager}/${record_type} ${description ?? ''}`);
    }
  }

  private replay(): void {
    const redo = this.redo;
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
    this.end = record.endLsn;
    const rmgr = this.dialect.rmgrs[record.rmid]!;
    if (!this.judgement.managers.has(rmgr.name)) return;
    const name = `${rmgr.name}/${opName(rmgr, record.info)}`;
    const text = findOp(rmgr, record.info)!.describe?.(record) ?? '';
    this.ours.set(record.lsn, `${name} ${text}`);
    const shape = this.judgement.shapeOf(name, text, record);
    this.shapes.set(shape, (this.shapes.get(shape) ?? 0) + 1);
  }

  private async recover(): Promise<void> {
    writeFileSync(join(this.recoveredDirectory, 'recovery.signal'), '');
    await this.postgres.runDirectory(this.recoveredDirectory, {
      ...this.judgement.settings,
      restore_command: `cp ${this.postgres.dataDirectory}/pg_wal/%f %p`,
      hot_standby: 'off',
    });
  }

  /**
   * Pages of these forks that differ from Postgres's recovery in any byte but the checksum's: `16384.0 block 3`.
   * Pages that the recovered server touched once it was up, their LSN past the log's end, are counted as `later`:
   * hint bits of the catalogs a login reads (with wal_log_hints, or their LSN would not tell).
   */
  differences(forks: readonly number[]): { compared: number; later: number; wrong: string[] } {
    const recovered = new Cluster();
    load(recovered, this.recoveredDirectory);
    const wrong: string[] = [];
    let compared = 0;
    let later = 0;
    for (const file of recovered.relations()) {
      const { spcOid, dbOid, relNumber, forkNum } = file.tag;
      if (!forks.includes(forkNum)) continue;
      const ours = this.cluster.find(spcOid, dbOid, relNumber, forkNum);
      if ((ours?.nblocks ?? 0) !== file.nblocks) {
        wrong.push(`${relNumber}.${forkNum} has ${ours?.nblocks ?? 0} blocks, not ${file.nblocks}`);
      }
      for (let blkno = 0; blkno < file.nblocks; blkno++) {
        const theirs = file.page(blkno)!;
        if (pageLsn(theirs) > this.end) {
          later++;
          continue;
        }
        compared++;
        if (!samePage(ours?.page(blkno), theirs)) wrong.push(`${relNumber}.${forkNum} block ${blkno}`);
      }
    }
    return { compared, later, wrong };
  }
}

export function load(cluster: Cluster, root: string): void {
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
