// What records do beyond the pages they name, as values of a timeline: one handler for each kind of effect, in a
// table typed so that none can be missing. The twin of xlog/replay/apply.ts, which does the same to a cluster in
// memory, and its judge in tests.
//
// SLRUs and files that only a base backup needs are kept on the first shard; the rest on every shard.
//
// Answers to walingest.rs of Neon's pageserver, and to Postgres's redo functions where Neon leaves something out:
// segments of multixact offsets are cut, commit timestamps are kept, an origin's progress never goes back.

import {
  FSM_FORKNUM,
  MAIN_FORKNUM,
  type RelFileLocator,
  SLRU_COMMIT_TS,
  VISIBILITYMAP_FORKNUM,
} from '../base/rel.ts';
import { fullFromAllowableAt } from '../xlog/checkpoint.ts';
import { fsmTruncation, type MapTruncation, vmBlockOf, vmTruncation } from '../xlog/derived.ts';
import type { Effect, EffectKind, EffectOf } from '../xlog/effects.ts';
import { encodeParameters, readParameters } from './backup-control.ts';
import type { Directory, RelFork } from './directory.ts';
import { editBytes, encodeFsmTruncate, encodeVmClear, encodeVmTruncate } from './edit.ts';
import type { Ingest } from './ingest.ts';
import { copyDatabase } from './ingest-copy.ts';
import { IngestTransactions } from './ingest-transactions.ts';
import {
  FILE_PREFIX,
  FULL_PAGE_WRITES_NAME,
  type Names,
  originName,
  PARAMETERS_NAME,
  parseTwophaseName,
  relmapName,
  TWOPHASE_PREFIX,
  twophaseName,
} from './names.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_EDIT } from './value.ts';

const FORKS = [0, 1, 2, 3] as const;
const AUX_FILE_MESSAGE = 'neon-file:';
const FPW_SIZE = 9;

type Handlers = { readonly [Kind in EffectKind]: (effect: EffectOf<Kind>) => void };
const nothing = (): void => {};

export class IngestEffects {
  /** What the record still waits for. */
  waiting: (() => Promise<void>) | undefined;
  readonly transactions: IngestTransactions;
  /** Commits get a timestamp in pg_commit_ts. */
  trackCommitTs: boolean;

  private readonly ingest: Ingest;
  private readonly writer: TimelineWriter;
  private readonly names: Names;
  private readonly directory: Directory;
  private readonly handlers: Handlers;
  /** The end of the record at hand. */
  private lsn = 0;
  private fullPageWrites: boolean | undefined;
  /** Where that was told. */
  private fullPageWritesLsn = 0;

  /** `trackCommitTimestamp` as the control file has it; a later record of parameters says more. */
  constructor(ingest: Ingest, trackCommitTimestamp: boolean) {
    this.ingest = ingest;
    this.writer = ingest.writer;
    this.names = ingest.pgdata.names;
    this.directory = ingest.pgdata.directory;
    this.transactions = new IngestTransactions(ingest);
    const parameters = this.names.get(PARAMETERS_NAME);
    this.trackCommitTs =
      parameters === undefined ? trackCommitTimestamp : readParameters(parameters).trackCommitTimestamp;
    const fpw = this.names.get(FULL_PAGE_WRITES_NAME);
    if (fpw !== undefined) {
      this.fullPageWrites = fpw[0] === 1;
      this.fullPageWritesLsn = new DataView(fpw.buffer, fpw.byteOffset).getFloat64(1, true);
      this.writer.fullPageWrites(this.fullPageWrites, this.fullPageWritesLsn);
      ingest.tracker.fullPageWrites(this.fullPageWrites);
    }
    this.handlers = this.table();
  }

  /** To hand to `effects` of an operation, for a record that ends at `lsn`. */
  emitAt(lsn: number): (effect: Effect) => void {
    this.lsn = lsn;
    return this.emit;
  }

  private readonly emit = (effect: Effect): void => {
    (this.handlers[effect.kind] as (e: Effect) => void)(effect);
  };

  private table(): Handlers {
    const { ingest, transactions } = this;
    const first = ingest.isFirstShard;
    const onFirst = <E extends Effect>(handler: (effect: E) => void): ((effect: E) => void) =>
      first ? handler : nothing;
    return {
      'smgr-create': ({ rel, forkNum }) => void this.fork(rel, forkNum),
      'smgr-truncate': effect => this.truncate(effect),
      'drop-relations': ({ rels }) => {
        for (const rel of rels) for (const fork of FORKS) this.drop(rel, fork);
      },
      'database-copy': effect => {
        const { lsn } = this;
        this.waiting = () => copyDatabase(ingest, effect, lsn);
      },
      'database-create': nothing,
      'database-drop': ({ dbOid, spcOids }) => {
        for (const spcOid of spcOids) this.dropDatabase(spcOid, dbOid);
      },
      relmap: ({ spcOid, dbOid, bytes }) => this.put(relmapName(spcOid, dbOid), bytes),
      'vm-clear': effect => this.clearVisibility(effect),
      'xact-commit': effect => transactions.commit(effect, this.lsn, this.trackCommitTs),
      'xact-abort': effect => transactions.abort(effect, this.lsn),
      'xact-prepare': ({ xid, bytes }) => this.put(twophaseName(this.fullXid(xid)), bytes),
      'slru-zero-page': onFirst(({ slru, pageno }) =>
        ingest.pgdata.slrus.zeroPage(this.writer, this.lsn, slru, pageno),
      ),
      'clog-truncate': effect => transactions.truncateClog(effect, this.lsn),
      'multixact-create': effect => transactions.createMultiXact(effect, this.lsn),
      'multixact-truncate': effect => transactions.truncateMultiXacts(effect, this.lsn),
      'commit-ts-truncate': effect => transactions.truncateCommitTs(effect, this.lsn),
      'parameter-change': effect => this.changeParameters(effect),
      'next-oid': ({ oid }) => ingest.tracker.nextOid(oid),
      checkpoint: ({ shutdown, bytes }) => {
        ingest.tracker.checkpointRecord(bytes, shutdown, this.lsn, this.preparedXids());
        // It tells how things stood at its redo pointer: an XLOG_FPW_CHANGE since then is newer.
        const redo = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
        if (Number(redo) >= this.fullPageWritesLsn) this.setFullPageWrites(bytes[16] !== 0);
      },
      'end-of-recovery': ({ walLevel }) => ingest.tracker.walLevel(walLevel),
      'full-page-writes': ({ on }) => this.setFullPageWrites(on),
      'running-xacts': ({ oldestRunningXid }) => ingest.tracker.runningXacts(oldestRunningXid),
      'origin-set': ({ nodeId, remoteLsn, force }) => this.setOrigin(nodeId, remoteLsn, force),
      'origin-drop': ({ nodeId }) => this.names.remove(this.writer, this.lsn, originName(nodeId)),
      'logical-message': onFirst(({ prefix, message }) => this.auxFile(prefix, message)),
    };
  }

  private put(name: string, bytes: Uint8Array): void {
    this.names.put(this.writer, this.lsn, name, bytes);
  }

  // ---- relations --------------------------------------------------------------------------------------------

  private fork({ spcOid, dbOid, relNumber }: RelFileLocator, forkNum: number): RelFork {
    return (
      this.directory.find(spcOid, dbOid, relNumber, forkNum) ??
      this.directory.create(this.writer, this.lsn, spcOid, dbOid, relNumber, forkNum)
    );
  }

  private drop({ spcOid, dbOid, relNumber }: RelFileLocator, forkNum: number): void {
    const fork = this.directory.find(spcOid, dbOid, relNumber, forkNum);
    if (fork !== undefined) this.directory.drop(this.writer, this.lsn, fork);
  }

  private dropDatabase(spcOid: number, dbOid: number): void {
    for (const fork of this.directory.forksOf(spcOid, dbOid))
      this.directory.drop(this.writer, this.lsn, fork);
    this.names.remove(this.writer, this.lsn, relmapName(spcOid, dbOid));
  }

  /** smgr_redo, XLOG_SMGR_TRUNCATE */
  private truncate({ rel, blkno, heap, vm, fsm }: EffectOf<'smgr-truncate'>): void {
    const main = this.fork(rel, MAIN_FORKNUM);
    if (heap) this.cut(main, blkno);
    if (fsm) this.truncateMap(rel, FSM_FORKNUM, fsmTruncation(blkno), encodeFsmTruncate, blkno);
    if (vm) this.truncateMap(rel, VISIBILITYMAP_FORKNUM, vmTruncation(blkno), encodeVmTruncate, blkno);
  }

  private truncateMap(
    { spcOid, dbOid, relNumber }: RelFileLocator,
    forkNum: number,
    cut: MapTruncation,
    encode: (heapBlocks: number) => number,
    heapBlocks: number,
  ): void {
    const fork = this.directory.find(spcOid, dbOid, relNumber, forkNum);
    if (fork === undefined) return;
    if (cut.cutBlock !== undefined) this.edit(fork, cut.cutBlock, encode(heapBlocks));
    this.cut(fork, cut.nblocks);
  }

  private cut(fork: RelFork, nblocks: number): void {
    if (nblocks >= fork.nblocks) return;
    this.directory.resize(fork, this.lsn, nblocks);
    this.directory.storeSize(this.writer, this.lsn, fork);
  }

  private clearVisibility({ rel, heapBlk, heapBlk2, flags }: EffectOf<'vm-clear'>): void {
    const map = this.directory.find(rel.spcOid, rel.dbOid, rel.relNumber, VISIBILITYMAP_FORKNUM);
    if (map === undefined) return;
    const block = vmBlockOf(heapBlk);
    if (heapBlk2 !== undefined && vmBlockOf(heapBlk2) !== block) {
      this.edit(map, vmBlockOf(heapBlk2), encodeVmClear(heapBlk2, -1, flags));
      this.edit(map, block, encodeVmClear(heapBlk, -1, flags));
    } else {
      this.edit(map, block, encodeVmClear(heapBlk, heapBlk2 ?? -1, flags));
    }
  }

  /** The edit that was just encoded, if the fork has the block and this shard keeps it. */
  private edit(fork: RelFork, blkno: number, length: number): void {
    if (blkno >= fork.nblocks || !this.ingest.holds(fork, blkno)) return;
    this.writer.put(fork.id, blkno, this.lsn, VALUE_EDIT, 0, editBytes(), 0, length);
  }

  // ---- the cluster ------------------------------------------------------------------------------------------

  /** The full xid of one met in the log, by the next one to be given out. */
  private fullXid(xid: number): number {
    return fullFromAllowableAt(this.ingest.tracker.nextXid, xid);
  }

  private preparedXids(): number[] {
    return [...this.names.list(TWOPHASE_PREFIX)].map(([name]) => parseTwophaseName(name));
  }

  private changeParameters(effect: EffectOf<'parameter-change'>): void {
    this.put(PARAMETERS_NAME, encodeParameters(effect));
    this.ingest.tracker.walLevel(effect.walLevel);
    if (this.trackCommitTs && !effect.trackCommitTimestamp) {
      this.ingest.pgdata.slrus.dropAll(this.writer, this.lsn, SLRU_COMMIT_TS);
      this.ingest.tracker.commitTsOff();
    }
    this.trackCommitTs = effect.trackCommitTimestamp;
  }

  private setFullPageWrites(on: boolean): void {
    if (this.fullPageWrites === on) return;
    this.fullPageWrites = on;
    this.fullPageWritesLsn = this.lsn;
    this.ingest.tracker.fullPageWrites(on);
    const bytes = new Uint8Array(FPW_SIZE);
    bytes[0] = on ? 1 : 0;
    new DataView(bytes.buffer).setFloat64(1, this.lsn, true);
    this.put(FULL_PAGE_WRITES_NAME, bytes);
    this.writer.fullPageWrites(on, this.lsn);
  }

  /** replorigin_advance */
  setOrigin(nodeId: number, remoteLsn: bigint, force: boolean): void {
    const name = originName(nodeId);
    const before = this.names.get(name);
    if (before !== undefined && !force) {
      if (new DataView(before.buffer, before.byteOffset).getBigUint64(0, true) >= remoteLsn) return;
    }
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, remoteLsn, true);
    this.put(name, bytes);
  }

  removeTwophase(xid: number): void {
    this.names.remove(this.writer, this.lsn, twophaseName(this.fullXid(xid)));
  }

  /** A file that a compute wants to find again in its base backup; an empty one is a file removed. */
  private auxFile(prefix: string, message: Uint8Array): void {
    if (!prefix.startsWith(AUX_FILE_MESSAGE)) return;
    const path = prefix.slice(AUX_FILE_MESSAGE.length);
    if (!isInside(path)) return;
    if (message.length === 0) this.names.remove(this.writer, this.lsn, FILE_PREFIX + path);
    else this.put(FILE_PREFIX + path, message);
  }
}

/** Any user may send a message: what would lead out of the data directory is no file of ours. */
export const isInside = (path: string): boolean =>
  path !== '' &&
  !path.startsWith('/') &&
  path.length < 1024 &&
  !path.split('/').some(part => part === '..' || part === '');
