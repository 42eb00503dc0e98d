// WAL in, values out: each record becomes what will be read again, page by page, at any LSN from its end on.
//
//   its xid                 -> nextXid of the checkpoint (checkpoint-tracker.ts)
//   each block it names     -> the record itself under the block's key, once for all its blocks; an image of its own
//                              where the record is nothing but images (ingest-images.ts)
//   a block past the end    -> the fork's new length, and zeros over old values in between (directory.ts)
//   what it does beyond     -> edits, drops, names (ingest-effects.ts)
//   the checkpoint, if it changed
//
// All values of a record have its end as their LSN. A fork that no record made is made by the first that names it.
// Nothing here waits, but for a database copied by files, which reads the source's pages; `record` answers with a
// promise then and must not be called again before it is kept. `advance` makes what was taken in visible: once per
// batch, for it wakes readers.
//
// With several shards every shard takes in every record: lengths and names on all of them, blocks on the one that
// holds them, SLRUs on the first.
//
// Answers to walingest.rs of Neon's pageserver and serialized_batch.rs of its wal_decoder.

import { assert } from '../base/assert.ts';
import { readCheckpoint } from '../xlog/checkpoint.ts';
import { readControlFile } from '../xlog/control-file.ts';
import { BLCKSZ } from '../xlog/page.ts';
import type { BlockRef, WalRecord } from '../xlog/record.ts';
import { findOp, type RecordEffects } from '../xlog/rmgr.ts';
import { CheckpointTracker } from './checkpoint-tracker.ts';
import type { Directory, RelFork } from './directory.ts';
import { IngestEffects } from './ingest-effects.ts';
import { IngestImages } from './ingest-images.ts';
import { CHECKPOINT_NAME, CONTROL_FILE_NAME, FILE_PREFIX } from './names.ts';
import { noSuchName, type PgData } from './pgdata.ts';
import { ONE_SHARD, type ShardIdentity, shardOfBlock } from './shard.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_RECORD_INIT } from './value.ts';

const RM_XLOG_ID = 0;
const XLOG_FPI_FOR_HINT = 0xa0;
const XLOG_FPI = 0xb0;
const RM_TBLSPC_ID = 5;

const ZERO_PAGE = new Uint8Array(BLCKSZ);
/** No manager, or nothing beyond its pages. */
const NO_EFFECTS: RecordEffects = () => undefined;

export class Ingest {
  readonly pgdata: PgData;
  readonly writer: TimelineWriter;
  readonly shard: ShardIdentity;
  tracker!: CheckpointTracker;
  effects!: IngestEffects;
  /** Of the records taken in, whether visible yet or not. */
  lastRecordLsn: number;
  prevRecordLsn: number;
  /** Records of a manager that we have no rows for, an extension's own; their pages cannot be redone. */
  unknownRecords = 0;
  /** Of the newest of them. */
  unknownRmid = 0;

  private readonly directory: Directory;
  private readonly images: IngestImages;
  private readonly sharded: boolean;
  /** By manager and info, looked up once. */
  private readonly effectsOf: (RecordEffects | undefined)[] = new Array(0x1_0000).fill(undefined);
  /** Forks that the record at hand made longer. */
  private readonly grown: RelFork[] = [];
  private grownCount = 0;

  constructor(pgdata: PgData, shard: ShardIdentity = ONE_SHARD) {
    const { timeline, directory } = pgdata;
    this.pgdata = pgdata;
    this.writer = timeline.writer();
    this.shard = shard;
    this.sharded = shard.count > 1;
    this.directory = directory;
    this.images = new IngestImages(this);
    this.lastRecordLsn = timeline.lastRecordLsn;
    this.prevRecordLsn = timeline.prevRecordLsn;
  }

  /** Go on from the timeline's newest state. */
  async load(): Promise<void> {
    const { pgdata } = this;
    const { lastRecordLsn, prevRecordLsn } = pgdata.timeline;
    await pgdata.ready();
    const bytes = pgdata.names.get(CHECKPOINT_NAME);
    const control = pgdata.names.get(CONTROL_FILE_NAME);
    if (bytes === undefined) throw noSuchName(CHECKPOINT_NAME, lastRecordLsn);
    if (control === undefined) throw noSuchName(CONTROL_FILE_NAME, lastRecordLsn);
    const shape = pgdata.dialect.controlFile;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.tracker = new CheckpointTracker(shape, readCheckpoint(view, 0, shape));
    this.effects = new IngestEffects(this, readControlFile(control).trackCommitTimestamp);
    this.lastRecordLsn = lastRecordLsn;
    this.prevRecordLsn = prevRecordLsn;
  }

  get isFirstShard(): boolean {
    return this.shard.number === 0;
  }

  /** The next record of the log. A promise for the few that wait. */
  record(record: WalRecord): void | Promise<void> {
    const lsn = record.endLsn;
    assert(lsn > this.lastRecordLsn, 'records come in the order of the log');
    if (record.xid !== 0) this.tracker.xidUsed(record.xid);
    if (record.maxBlockId >= 0) {
      if (record.rmid === RM_XLOG_ID && (record.info === XLOG_FPI || record.info === XLOG_FPI_FOR_HINT)) {
        this.images.record(record);
      } else {
        this.blocks(record);
      }
      if (this.grownCount > 0) this.storeLengths(lsn);
    }
    const effects = this.effectsOf[(record.rmid << 8) | record.info] ?? this.findEffects(record);
    if (effects !== NO_EFFECTS) {
      effects(record, this.effects.emitAt(lsn));
      const copy = this.effects.waiting;
      if (copy !== undefined) return this.finishLater(copy, lsn);
    }
    this.finish(lsn);
  }

  /** Everything taken in so far becomes visible. */
  advance(): void {
    this.writer.advance(this.lastRecordLsn, this.prevRecordLsn);
  }

  /** As a record of eight bytes that brings these files; an empty one is a file removed. Where no log comes from. */
  putFiles(files: readonly (readonly [path: string, contents: Uint8Array])[]): void {
    const { names } = this.pgdata;
    const lsn = this.lastRecordLsn + 8;
    for (const [path, contents] of files) {
      const name = FILE_PREFIX + path;
      if (contents.length === 0) names.remove(this.writer, lsn, name);
      else names.put(this.writer, lsn, name, contents);
    }
    this.finish(lsn);
    this.advance();
  }

  /** As a shutdown checkpoint's record that ends at `lsn` would leave it, for one that is not at hand. */
  shutDownAt(lsn: number): void {
    this.tracker.shutDownAt(lsn);
    this.finish(lsn);
    this.advance();
  }

  private finish(lsn: number): void {
    if (this.tracker.changed) this.storeCheckpoint(lsn);
    this.prevRecordLsn = this.lastRecordLsn;
    this.lastRecordLsn = lsn;
  }

  private async finishLater(copy: () => Promise<void>, lsn: number): Promise<void> {
    this.effects.waiting = undefined;
    await copy();
    this.finish(lsn);
  }

  storeCheckpoint(lsn: number): void {
    this.pgdata.names.put(this.writer, lsn, CHECKPOINT_NAME, this.tracker.take());
  }

  private findEffects(record: WalRecord): RecordEffects {
    const rmgr = this.pgdata.dialect.rmgrs[record.rmid];
    const op = rmgr && findOp(rmgr, record.info);
    if (op === undefined) {
      this.unknownRecords++;
      this.unknownRmid = record.rmid;
    }
    // Tablespaces are kept like any other: only a backup of them is refused (backup-files.ts).
    const effects = record.rmid === RM_TBLSPC_ID ? undefined : op?.effects;
    if (op !== undefined) this.effectsOf[(record.rmid << 8) | record.info] = effects ?? NO_EFFECTS;
    return effects ?? NO_EFFECTS;
  }

  // ---- blocks -----------------------------------------------------------------------------------------------

  private blocks(record: WalRecord): void {
    const { writer } = this;
    let begun = false;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      const init = block.willInit || block.applyImage;
      const fork = this.forkOf(block, record.endLsn);
      if (block.blkno >= fork.nblocks) this.grow(fork, block.blkno, record.endLsn, init);
      if (this.sharded && !this.holds(fork, block.blkno)) continue;
      if (!begun) {
        this.images.beginShared(record);
        begun = true;
      }
      writer.putShared(fork.id, block.blkno, init ? VALUE_RECORD_INIT : VALUE_RECORD, id);
    }
  }

  /** The fork of a block, made if no record made it. */
  forkOf(block: BlockRef, lsn: number): RelFork {
    return (
      this.directory.find(block.spcOid, block.dbOid, block.relNumber, block.forkNum) ??
      this.directory.create(this.writer, lsn, block.spcOid, block.dbOid, block.relNumber, block.forkNum)
    );
  }

  /**
   * A fork must hold `blkno`. Old values, from before the fork was cut, are hidden under zeros; under `blkno`
   * itself only where the record at hand does not begin the page anew. The length is stored with `storeLengths`.
   */
  grow(fork: RelFork, blkno: number, lsn: number, init: boolean): void {
    const end = Math.min(init ? blkno : blkno + 1, fork.peak);
    for (let blk = fork.nblocks; blk < end; blk++) {
      if (this.holds(fork, blk)) this.writer.put(fork.id, blk, lsn, VALUE_IMAGE, 0, ZERO_PAGE, 0, BLCKSZ);
    }
    this.directory.resize(fork, lsn, blkno + 1);
    if (this.grownCount > 0 && this.grown[this.grownCount - 1] === fork) return;
    this.grown[this.grownCount++] = fork;
  }

  storeLengths(lsn: number): void {
    for (let i = 0; i < this.grownCount; i++) this.directory.storeSize(this.writer, lsn, this.grown[i]!);
    this.grownCount = 0;
  }

  /** Whether this shard keeps the block. */
  holds(fork: RelFork, blkno: number): boolean {
    const { number, count, stripeSize } = this.shard;
    return !this.sharded || shardOfBlock(fork.relNumber, fork.forkNum, blkno, count, stripeSize) === number;
  }
}
