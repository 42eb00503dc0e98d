// Effects carried out on a cluster in memory: what Postgres's redo functions do besides the pages that a record
// names. One handler for each kind of effect; the table is typed so that none can be missing.
//
// Not carried out, for a data directory in memory has no place for it: counters of pg_control (a checkpoint
// record repeats them), free space that redo notes in passing (never logged, so never promised), replication
// origins and logical messages.

import {
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  type SlruKind,
} from '../../base/rel.ts';
import {
  fsmTruncatePage,
  fsmTruncation,
  type MapTruncation,
  vmBlockOf,
  vmClear,
  vmTruncatePage,
  vmTruncation,
} from '../derived.ts';
import type { Effect, EffectKind, EffectOf } from '../effects.ts';
import type { Page } from '../page.ts';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  groupXidsByPage,
  setClogStatus,
  setClogStatuses,
  setCommitTs,
  slruSegmentOf,
  slruSegmentsToDelete,
  XID_ABORTED,
  XID_COMMITTED,
  type XidStatus,
} from '../slru.ts';
import {
  groupMembersByPage,
  memberSegmentsToDelete,
  offsetPageOf,
  offsetsCutoffPage,
  setMultiXactMembers,
  setMultiXactOffset,
} from '../slru-multixact.ts';
import { twophaseFile } from '../twophase.ts';
import { type Cluster, databaseDirectory } from './cluster.ts';
import { InvalidPages } from './invalid-pages.ts';

const FSM_FORK = 1;
const VM_FORK = 2;

type Handlers = { readonly [Kind in EffectKind]: (effect: EffectOf<Kind>) => void };
const nothing = (): void => {};

export class EffectsOnCluster {
  readonly invalidPages = new InvalidPages();
  private readonly cluster: Cluster;
  private trackCommitTs: boolean;
  private readonly handlers: Handlers;

  constructor(cluster: Cluster, trackCommitTs: boolean) {
    this.cluster = cluster;
    this.trackCommitTs = trackCommitTs;
    this.handlers = this.table();
  }

  /** Handed to `effects` of an operation. */
  readonly emit = (effect: Effect): void => {
    (this.handlers[effect.kind] as (e: Effect) => void)(effect);
  };

  private table(): Handlers {
    const { cluster, invalidPages } = this;
    return {
      'smgr-create': ({ rel, forkNum }) =>
        void cluster.findOrCreate(rel.spcOid, rel.dbOid, rel.relNumber, forkNum),
      'smgr-truncate': effect => this.truncate(effect),
      'drop-relations': ({ rels }) => {
        for (const rel of rels) {
          cluster.drop(rel);
          invalidPages.forgetRelation(rel);
        }
      },
      'database-copy': e =>
        cluster.copyDatabase(
          { spcOid: e.srcSpcOid, dbOid: e.srcDbOid },
          { spcOid: e.spcOid, dbOid: e.dbOid },
        ),
      'database-create': nothing,
      'database-drop': ({ dbOid, spcOids }) => {
        for (const spcOid of spcOids) {
          cluster.dropDatabase(spcOid, dbOid);
          invalidPages.forgetDatabase(spcOid, dbOid);
        }
      },
      relmap: ({ spcOid, dbOid, bytes }) => void cluster.relmaps.set(databaseDirectory(spcOid, dbOid), bytes),
      'vm-clear': effect => this.clearVisibility(effect),
      'xact-commit': effect => this.commit(effect),
      'xact-abort': effect => this.setStatus(effect, XID_ABORTED),
      'xact-prepare': ({ xid, bytes }) => void cluster.twophase.set(xid, twophaseFile(bytes)),
      'slru-zero-page': ({ slru, pageno }) => void cluster.slruPage(slru, pageno).bytes.fill(0),
      'clog-truncate': ({ pageno }) => this.dropSegments(SLRU_CLOG, pageno),
      'multixact-create': effect => this.createMultiXact(effect),
      'multixact-truncate': effect => {
        this.dropSegments(SLRU_MULTIXACT_OFFSETS, offsetsCutoffPage(effect.endTruncOff));
        this.removeSegments(
          SLRU_MULTIXACT_MEMBERS,
          memberSegmentsToDelete(effect.startTruncMemb, effect.endTruncMemb),
        );
      },
      'commit-ts-truncate': ({ pageno }) => this.dropSegments(SLRU_COMMIT_TS, pageno),
      'parameter-change': ({ trackCommitTimestamp }) => {
        if (this.trackCommitTs && !trackCommitTimestamp) cluster.slrus[SLRU_COMMIT_TS]!.clear();
        this.trackCommitTs = trackCommitTimestamp;
      },
      'next-oid': nothing,
      checkpoint: nothing,
      'end-of-recovery': nothing,
      'full-page-writes': nothing,
      'running-xacts': nothing,
      'origin-set': nothing,
      'origin-drop': nothing,
      'logical-message': nothing,
    };
  }

  /** smgr_redo, XLOG_SMGR_TRUNCATE */
  private truncate({ rel, blkno, heap, vm, fsm }: EffectOf<'smgr-truncate'>): void {
    const { cluster, invalidPages } = this;
    const main = cluster.findOrCreate(rel.spcOid, rel.dbOid, rel.relNumber, 0);
    if (heap) {
      main.truncate(blkno);
      invalidPages.forgetFrom(rel, 0, blkno);
    }
    if (fsm) this.truncateMap(rel, FSM_FORK, fsmTruncation(blkno), page => fsmTruncatePage(page, blkno));
    if (vm) this.truncateMap(rel, VM_FORK, vmTruncation(blkno), page => vmTruncatePage(page, blkno));
  }

  private truncateMap(
    rel: { spcOid: number; dbOid: number; relNumber: number },
    forkNum: number,
    cut: MapTruncation,
    edit: (page: Page) => void,
  ): void {
    const file = this.cluster.find(rel.spcOid, rel.dbOid, rel.relNumber, forkNum);
    if (file === undefined) return;
    const page = cut.cutBlock === undefined ? undefined : file.page(cut.cutBlock);
    if (page !== undefined) edit(page);
    file.truncate(cut.nblocks);
    this.invalidPages.forgetFrom(rel, forkNum, cut.nblocks);
  }

  private clearVisibility({ rel, heapBlk, heapBlk2, flags }: EffectOf<'vm-clear'>): void {
    const map = this.cluster.find(rel.spcOid, rel.dbOid, rel.relNumber, VM_FORK);
    if (map === undefined) return;
    for (const blk of heapBlk2 === undefined ? [heapBlk] : [heapBlk, heapBlk2]) {
      const page = map.page(vmBlockOf(blk));
      if (page !== undefined) vmClear(page, blk, flags);
    }
  }

  /** xact_redo_commit */
  private commit(effect: EffectOf<'xact-commit'>): void {
    this.setStatus(effect, XID_COMMITTED);
    if (!this.trackCommitTs) return;
    const time = effect.origin === undefined ? effect.xactTime : Number(effect.origin.time);
    for (const group of groupXidsByPage([effect.xid, ...effect.subxids], COMMIT_TS_XACTS_PER_PAGE)) {
      setCommitTs(
        this.cluster.slruPage(SLRU_COMMIT_TS, group.pageno),
        group.xids,
        time,
        effect.origin?.id ?? 0,
      );
    }
  }

  private setStatus(effect: EffectOf<'xact-commit'> | EffectOf<'xact-abort'>, status: XidStatus): void {
    const { xid, subxids } = effect;
    if (effect.prepared) this.cluster.twophase.delete(xid);
    if (subxids.length === 0) {
      // Most transactions: nothing to group.
      setClogStatus(this.cluster.slruPage(SLRU_CLOG, Math.floor(xid / CLOG_XACTS_PER_PAGE)), xid, status);
      return;
    }
    for (const group of groupXidsByPage([xid, ...subxids], CLOG_XACTS_PER_PAGE)) {
      setClogStatuses(this.cluster.slruPage(SLRU_CLOG, group.pageno), group.xids, status);
    }
  }

  /** RecordNewMultiXact */
  private createMultiXact({ mid, moff, nextMid, nextMoff, members }: EffectOf<'multixact-create'>): void {
    const { cluster } = this;
    setMultiXactOffset(cluster.slruPage(SLRU_MULTIXACT_OFFSETS, offsetPageOf(mid)), mid, moff);
    const next = cluster.slrus[SLRU_MULTIXACT_OFFSETS]!.get(offsetPageOf(nextMid));
    if (next !== undefined) setMultiXactOffset(next, nextMid, nextMoff);
    for (const { pageno, first, count } of groupMembersByPage(moff, members.length)) {
      setMultiXactMembers(cluster.slruPage(SLRU_MULTIXACT_MEMBERS, pageno), moff, members, first, count);
    }
  }

  private dropSegments(kind: SlruKind, cutoffPage: number): void {
    const there = new Set([...this.cluster.slrus[kind]!.keys()].map(slruSegmentOf));
    this.removeSegments(kind, slruSegmentsToDelete(kind, there, cutoffPage));
  }

  private removeSegments(kind: SlruKind, segments: readonly number[]): void {
    const gone = new Set(segments);
    if (gone.size === 0) return;
    const pages = this.cluster.slrus[kind]!;
    for (const pageno of pages.keys()) if (gone.has(slruSegmentOf(pageno))) pages.delete(pageno);
  }
}
