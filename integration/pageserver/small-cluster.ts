// A timeline of a cluster that has next to nothing in it, for tests that hand it records one by one.

import { lsn as asLsn, type Lsn } from '../../src/base/lsn.ts';
import { Ingest } from '../../src/pageserver/ingest.ts';
import { CHECKPOINT_NAME, CONTROL_FILE_NAME } from '../../src/pageserver/names.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { ONE_SHARD, type ShardIdentity } from '../../src/pageserver/shard.ts';
import { type CheckPoint, checkpointBytes } from '../../src/xlog/checkpoint.ts';
import { type ControlFile, writeControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { makeRecord, type RecordSpec } from '../../src/xlog/writer.ts';
import { MemoryTimeline } from './memory-timeline.ts';

export const SMALL_CHECKPOINT: CheckPoint = {
  redo: asLsn(0),
  thisTimeLineId: 1,
  prevTimeLineId: 1,
  fullPageWrites: true,
  walLevel: 1,
  nextXid: 1000,
  nextOid: 10_000,
  nextMulti: 1,
  nextMultiOffset: 0,
  oldestXid: 3,
  oldestXidDb: 1,
  oldestMulti: 1,
  oldestMultiDb: 1,
  time: 0,
  oldestCommitTsXid: 0,
  newestCommitTsXid: 0,
  oldestActiveXid: 3,
};

export const SMALL_CONTROL: ControlFile = {
  systemIdentifier: 7_000_000_000_000_000_001n,
  pgControlVersion: 1700,
  catalogVersionNo: 0,
  state: 1,
  time: 0,
  checkPoint: asLsn(0),
  checkPointCopy: SMALL_CHECKPOINT,
  unloggedLsn: asLsn(1000),
  minRecoveryPoint: asLsn(0),
  minRecoveryPointTli: 0,
  backupStartPoint: asLsn(0),
  backupEndPoint: asLsn(0),
  backupEndRequired: false,
  walLevel: 1,
  walLogHints: false,
  maxConnections: 100,
  maxWorkerProcesses: 8,
  maxWalSenders: 10,
  maxPreparedXacts: 0,
  maxLocksPerXact: 64,
  trackCommitTimestamp: false,
  maxAlign: 8,
  blcksz: 8192,
  relsegSize: 131072,
  xlogBlcksz: 8192,
  xlogSegSize: 16 * 1024 * 1024,
  nameDataLen: 64,
  indexMaxKeys: 32,
  toastMaxChunkSize: 1996,
  loblksize: 2048,
  float8ByVal: true,
  dataChecksumVersion: 0,
  mockAuthenticationNonce: new Uint8Array(32),
};

export class SmallCluster {
  readonly memory: MemoryTimeline;
  readonly pgdata: PgData;
  readonly dialect: Dialect;
  ingest!: Ingest;
  private readonly record = new WalRecord();

  private constructor(dialect: Dialect) {
    this.dialect = dialect;
    this.memory = new MemoryTimeline(dialect);
    this.pgdata = new PgData(this.memory.timeline, dialect);
  }

  static async make(dialect: Dialect, shard: ShardIdentity = ONE_SHARD): Promise<SmallCluster> {
    const cluster = new SmallCluster(dialect);
    const { pgdata, memory } = cluster;
    await pgdata.ready();
    const writer = pgdata.timeline.writer();
    const shape = dialect.controlFile;
    const control = { ...SMALL_CONTROL, pgControlVersion: shape.pgControlVersion };
    pgdata.names.put(writer, 8, CHECKPOINT_NAME, checkpointBytes(shape, SMALL_CHECKPOINT));
    pgdata.names.put(writer, 8, CONTROL_FILE_NAME, writeControlFile(control));
    writer.advance(8, 0);
    cluster.ingest = new Ingest(pgdata, shard);
    await cluster.ingest.load();
    memory.counts.clear();
    return cluster;
  }

  /** A record that ends at `lsn`; it is visible afterwards. */
  async take(spec: RecordSpec, lsn: number): Promise<WalRecord> {
    const bytes = makeRecord(spec, this.dialect);
    const view = new DataView(bytes.buffer);
    const from = (lsn - 8) as Lsn;
    decodeRecord(this.record, bytes, view, 0, from, lsn as Lsn, this.dialect.imageBits);
    await this.ingest.record(this.record);
    this.ingest.advance();
    return this.record;
  }
}
