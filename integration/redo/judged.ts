// A log of Postgres, judged by Postgres four times over: replayed in memory from a base, each page after each
// record against the verification image in the log; each record's description against pg_walinspect (15 and later;
// 14 has none); the cluster at the end against the data directory that the writer left behind; and the same, byte
// for byte, against what Postgres's own recovery makes of the same log over the same base.
//
// `judge` makes a cluster, keeps a copy of it, lets acts loose on it (each under settings of its own, with a restart
// between them), and hands down a verdict to be asserted on. Cluster and copies are gone when it returns.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes } from '../../src/base/bytes.ts';
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { INIT_FORKNUM, MAIN_FORKNUM, relPath, VISIBILITYMAP_FORKNUM } from '../../src/base/rel.ts';
import { type ControlFile, readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect, Flavour } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { flavourOf } from '../../src/xlog/dialects/flavour.ts';
import { type Page, PD_CHECKSUM, pageLsn } from '../../src/xlog/page.ts';
import type { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { ClusterComparison, type Comparison } from '../../src/xlog/replay/compare.ts';
import type { RelationFile } from '../../src/xlog/replay/relation-file.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import type { Tally } from '../../src/xlog/replay/tally.ts';
import { findOp, opName } from '../../src/xlog/rmgr.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import { readLog } from './log.ts';

export type Settings = Readonly<Record<string, string | number>>;

/** A piece of work, on a server started with these settings. */
export interface Act {
  readonly name: string;
  readonly settings: Settings;
  readonly perform: (postgres: StockPostgres) => Promise<void>;
}

/** What redo tells apart in records of some managers. */
export interface Shapes {
  readonly managers: ReadonlySet<string>;
  readonly shapeOf: (name: string, record: WalRecord, describe: () => string) => string;
  /** Those that the managers' work makes a major write. */
  readonly expected: (major: number) => readonly string[];
}

export interface Judgement {
  /** Another build than the stock one: its `bin`, and whose records it writes. */
  readonly build?: { readonly bin: string; readonly flavour: Flavour };
  readonly initdb?: readonly string[];
  /** Given the methods of wal_compression that the build has. */
  readonly acts: (compressions: readonly string[]) => readonly Act[];
  readonly shapes: readonly Shapes[];
  /** Settings of Postgres's own recovery; without them there is none. */
  readonly recovery?: Settings;
}

export interface Recovered {
  /** Pages of main forks and visibility maps compared. */
  compared: number;
  /** Pages that the recovered server changed once it was up: hint bits of the catalogs a login reads. */
  later: number;
  readonly wrong: string[];
}

export interface Performed {
  readonly act: Act;
  readonly seconds: number;
  /** Where the log ended when it was done. */
  readonly end: Lsn;
}

export interface Verdict {
  readonly major: StockMajor;
  /** Compression methods of wal_compression that the build has. */
  readonly compressions: readonly string[];
  readonly tally: Tally;
  readonly mismatches: readonly string[];
  readonly dangling: readonly string[];
  /** Records whose description pg_walinspect told, and those that we word otherwise. */
  readonly described: number;
  readonly misdescribed: readonly string[];
  readonly shapes: ReadonlyMap<string, number>;
  /** What the records say of whose log this is, and how often. */
  readonly flavours: Readonly<Partial<Record<Flavour, number>>>;
  /** Image compressions met. */
  readonly imagesCompressed: ReadonlyMap<string, number>;
  readonly final: Comparison;
  readonly recovered: Recovered | undefined;
  readonly performed: readonly Performed[];
  readonly logStart: Lsn;
  readonly logEnd: Lsn;
  /** Of replaying and comparing, in this process. */
  readonly replaySeconds: number;
}

const MISDESCRIBED_KEPT_MAX = 10;

export async function judge(major: StockMajor, judgement: Judgement): Promise<Verdict> {
  const { build, initdb = [] } = judgement;
  const postgres = await StockPostgres.create(major, { initdb, ...(build && { bin: build.bin }) });
  try {
    return await new Judge(postgres, judgement).run();
  } finally {
    await postgres.destroy();
  }
}

class Judge {
  private readonly postgres: StockPostgres;
  private readonly judgement: Judgement;
  private readonly dialect: Dialect;
  private readonly cluster = new Cluster();
  private readonly control: ControlFile;
  private readonly replayer: Replayer;
  /** pg_walinspect's operation and description by LSN. */
  private readonly described = new Map<Lsn, string>();
  private readonly misdescribed: string[] = [];
  private readonly shapes = new Map<string, number>();
  private readonly flavours: Partial<Record<Flavour, number>> = {};
  private readonly imagesCompressed = new Map<string, number>();
  private readonly performed: Performed[] = [];
  private compressions: readonly string[] = [];
  private lastRecord = 0;
  private end: Lsn = INVALID_LSN;

  constructor(postgres: StockPostgres, judgement: Judgement) {
    this.postgres = postgres;
    this.judgement = judgement;
    this.dialect = dialectOfMajor(postgres.major, judgement.build?.flavour ?? 'stock');
    loadDirectory(this.cluster, postgres.dataDirectory);
    this.control = readControlFile(this.cluster.controlFile!);
    const { trackCommitTimestamp } = this.control;
    this.replayer = new Replayer(this.dialect, this.cluster, { trackCommitTimestamp });
  }

  async run(): Promise<Verdict> {
    const { postgres, judgement, replayer } = this;
    const recovers = judgement.recovery !== undefined;
    if (recovers) execFileSync('cp', ['-a', postgres.dataDirectory, this.recoveredDirectory]);
    await this.work();
    const begin = performance.now();
    this.replay();
    const theirs = new Cluster();
    loadDirectory(theirs, postgres.dataDirectory);
    const final = this.compare(theirs);
    const replaySeconds = (performance.now() - begin) / 1000;
    const recovered = recovers ? await this.recover() : undefined;
    return {
      major: postgres.major,
      compressions: this.compressions,
      tally: replayer.tally,
      mismatches: replayer.mismatches.map(
        m =>
          `${m.rmgr}/${m.op} ${formatLsn(m.lsn)} ${relPath(m.block)} block ${m.block.blkno} ${m.error ?? ''}`,
      ),
      dangling: replayer.danglingPages(),
      described: this.described.size,
      misdescribed: this.misdescribed,
      shapes: this.shapes,
      flavours: this.flavours,
      imagesCompressed: this.imagesCompressed,
      final,
      recovered,
      performed: this.performed,
      logStart: this.control.checkPointCopy.redo,
      logEnd: this.end,
      replaySeconds,
    };
  }

  private get recoveredDirectory(): string {
    return join(this.postgres.home, 'recovered');
  }

  private async work(): Promise<void> {
    const { postgres } = this;
    this.compressions = await compressionsOf(postgres);
    const acts = this.judgement.acts(this.compressions);
    for (const act of acts) {
      const begin = performance.now();
      postgres.configure(act.settings);
      await postgres.start();
      await act.perform(postgres);
      const [{ lsn }] = await postgres.sql('select pg_current_wal_insert_lsn() as lsn');
      this.performed.push({ act, seconds: (performance.now() - begin) / 1000, end: parseLsn(lsn) });
      if (act === acts.at(-1) && postgres.major >= 15) await this.inspect();
      await postgres.stop();
    }
  }

  private async inspect(): Promise<void> {
    await this.postgres.sql('create extension if not exists pg_walinspect');
    const rows = await this.postgres.sql(
      `select start_lsn, resource_manager, record_type, description
         from pg_get_wal_records_info('${formatLsn(this.control.checkPointCopy.redo)}',
                                      pg_current_wal_flush_lsn())`,
    );
    for (const { start_lsn, resource_manager, record_type, description } of rows) {
      const text = `${resource_manager}/${record_type} ${asWaldump(description ?? '')}`;
      this.described.set(parseLsn(start_lsn), text);
    }
  }

  private replay(): void {
    const directory = join(this.postgres.dataDirectory, 'pg_wal');
    const { checkPointCopy, xlogSegSize } = this.control;
    readLog(directory, this.dialect, checkPointCopy.redo, record => this.take(record), xlogSegSize);
  }

  private take(record: WalRecord): void {
    this.replayer.replay(record);
    this.lastRecord = record.lsn;
    this.end = record.endLsn;
    const flavour = flavourOf(this.dialect.major, record);
    if (flavour !== undefined) this.flavours[flavour] = (this.flavours[flavour] ?? 0) + 1;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const { inUse, hasImage, compression } = record.blocks[id]!;
      if (inUse && hasImage) count(this.imagesCompressed, compression);
    }
    const rmgr = this.dialect.rmgrs[record.rmid]!;
    const name = `${rmgr.name}/${opName(rmgr, record.info)}`;
    const describe = (): string => findOp(rmgr, record.info)?.describe?.(record) ?? '';
    const theirs = this.described.get(record.lsn);
    if (theirs !== undefined) {
      const ours = `${name} ${describe()}`;
      if (ours !== theirs && this.misdescribed.length < MISDESCRIBED_KEPT_MAX) {
        this.misdescribed.push(`${formatLsn(record.lsn)}: "${ours}", not "${theirs}"`);
      }
    }
    for (const { managers, shapeOf } of this.judgement.shapes) {
      if (managers.has(rmgr.name)) count(this.shapes, shapeOf(name, record, describe));
    }
  }

  private compare(theirs: Cluster): Comparison {
    const { checkPoint, checkPointCopy } = readControlFile(theirs.controlFile!);
    if (this.lastRecord !== checkPoint) {
      throw new Error(
        `the log ends with ${formatLsn(this.lastRecord)}, not with the checkpoint at ${formatLsn(checkPoint)}`,
      );
    }
    return new ClusterComparison(this.dialect, this.cluster, theirs).run(checkPointCopy.nextMulti);
  }

  /** With wal_log_hints Postgres moves the LSN of a page it only hints, and stamps what VISIBLE names, as we do. */
  private async recover(): Promise<Recovered> {
    writeFileSync(join(this.recoveredDirectory, 'recovery.signal'), '');
    try {
      await this.postgres.runDirectory(this.recoveredDirectory, {
        ...this.judgement.recovery,
        restore_command: `cp ${this.postgres.dataDirectory}/pg_wal/%f %p`,
        hot_standby: 'off',
        wal_log_hints: 'on',
      });
    } catch (error) {
      // Its own checks may stop it (inconsistent page found): the end of what it said tells.
      return { compared: 0, later: 0, wrong: [(error as Error).message.slice(-1000)] };
    }
    return this.differences();
  }

  private differences(): Recovered {
    const recovered = new Cluster();
    loadDirectory(recovered, this.recoveredDirectory);
    const result: Recovered = { compared: 0, later: 0, wrong: [] };
    for (const file of recovered.relations()) {
      const { spcOid, dbOid, relNumber, forkNum } = file.tag;
      const isJudged = forkNum === MAIN_FORKNUM || forkNum === VISIBILITYMAP_FORKNUM;
      const isUnlogged = recovered.find(spcOid, dbOid, relNumber, INIT_FORKNUM) !== undefined;
      if (isJudged && !isUnlogged) this.compareFile(file, result);
    }
    return result;
  }

  private compareFile(theirs: RelationFile, result: Recovered): void {
    const { spcOid, dbOid, relNumber, forkNum } = theirs.tag;
    const ours = this.cluster.find(spcOid, dbOid, relNumber, forkNum);
    if ((ours?.nblocks ?? 0) !== theirs.nblocks) {
      result.wrong.push(`${relPath(theirs.tag)} has ${ours?.nblocks ?? 0} blocks, not ${theirs.nblocks}`);
    }
    for (let blkno = 0; blkno < theirs.nblocks; blkno++) {
      const page = theirs.page(blkno)!;
      if (pageLsn(page) > this.end) {
        result.later++;
        continue;
      }
      result.compared++;
      if (!sameButChecksum(ours?.page(blkno), page))
        result.wrong.push(`${relPath(theirs.tag)} block ${blkno}`);
    }
  }
}

const count = (counts: Map<string, number>, key: string): void =>
  void counts.set(key, (counts.get(key) ?? 0) + 1);

/** The backend writes times as 04:05:06.7+00, pg_waldump as 04:05:06.700000 UTC. */
const asWaldump = (text: string): string =>
  text.replace(
    /(\d\d:\d\d:\d\d)(?:\.(\d+))?\+00/g,
    (_, time: string, fraction = '') => `${time}.${fraction.padEnd(6, '0')} UTC`,
  );

/** What the build can compress images with: 14 knows only its own, and calls it "on". */
async function compressionsOf(postgres: StockPostgres): Promise<string[]> {
  const methods = postgres.major === 14 ? ['on'] : ['pglz', 'lz4', 'zstd'];
  const has = await Promise.all(methods.map(method => postgres.accepts('wal_compression', method)));
  return methods.filter((_, i) => has[i]);
}

/** Everything of a data directory but its log. */
export function loadDirectory(cluster: Cluster, root: string): void {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(root.length + 1);
    if (!name.startsWith('pg_wal/')) cluster.loadFile(name, new Uint8Array(readFileSync(path)));
  }
}

function sameButChecksum(ours: Page | undefined, theirs: Page): boolean {
  if (ours === undefined) return false;
  const bytes = ours.bytes.slice();
  bytes.set(theirs.bytes.subarray(PD_CHECKSUM, PD_CHECKSUM + 2), PD_CHECKSUM);
  return equalBytes(bytes, theirs.bytes);
}
