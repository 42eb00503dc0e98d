// Recovery in memory: each record's blocks redone on a cluster's pages, its effects carried out, and every
// verification image compared after masking just what Postgres masks.
//
// Order as in Postgres: a record's effects and blocks together make one change; images are checked after it
// (checkXLogConsistency of xlogrecovery.c): an image that was restored proves nothing and is passed over, so is
// one whose page has moved past the record. A block that is not there when a record wants to edit it must belong
// to something cut or dropped later: it is remembered, and whatever is still remembered at the end is a fault of
// the log (log_invalid_page and XLogCheckInvalidPages of xlogutils.c).

import { Fault } from '../../base/fault.ts';
import type { Lsn } from '../../base/lsn.ts';
import { relKey } from '../../base/rel.ts';
import type { Dialect } from '../dialect.ts';
import { restoreImage } from '../image.ts';
import { BLCKSZ, newPage, PD_FLAGS, pageLsn } from '../page.ts';
import type { BlockRef, WalRecord } from '../record.ts';
import { mayBeNew, redoBlockOf } from '../redo.ts';
import { emitEffects, findOp, maskPage, type Op, opName, type PageMask } from '../rmgr.ts';
import { EffectsOnCluster } from './apply.ts';
import type { Cluster } from './cluster.ts';
import { OP_KEYS, type OpTally, opKey, Tally } from './tally.ts';

/** A page that came out other than Postgres made it. */
export interface Mismatch {
  readonly lsn: Lsn;
  readonly rmgr: string;
  readonly op: string;
  readonly block: { spcOid: number; dbOid: number; relNumber: number; forkNum: number; blkno: number };
  /** Masked bytes: what replay made, what Postgres wrote. */
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array;
  /** For blocks that could not be replayed at all. */
  readonly error?: string;
}

/** What replay needs to know of an operation, looked up once. */
interface Entry {
  readonly op: Op | undefined;
  readonly mask: PageMask | undefined;
  readonly row: OpTally;
}

const MISMATCHES_KEPT_MAX = 100;

export class Replayer {
  readonly tally: Tally;
  readonly mismatches: Mismatch[] = [];
  private readonly dialect: Dialect;
  private readonly cluster: Cluster;
  private readonly effects: EffectsOnCluster;
  /** By manager and operation, as the tally's rows. */
  private readonly entries: (Entry | undefined)[] = new Array(OP_KEYS).fill(undefined);
  private readonly ours = newPage();
  private readonly theirs = newPage();
  private readonly theirBytes = Buffer.from(this.theirs.bytes.buffer);

  constructor(dialect: Dialect, cluster: Cluster, options: { trackCommitTimestamp: boolean }) {
    this.dialect = dialect;
    this.cluster = cluster;
    this.tally = new Tally(dialect);
    this.effects = new EffectsOnCluster(cluster, options.trackCommitTimestamp);
  }

  replay(record: WalRecord): void {
    const entry = this.entryOf(record);
    const { op, row } = entry;
    this.tally.records++;
    row.records++;
    if (op === undefined) {
      this.refuse(record, undefined, `no row for rmgr ${record.rmid} info 0x${record.info.toString(16)}`);
      return;
    }
    let images = false;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      if (op.imagesOnly !== true || block.hasImage) this.redo(entry, record, block);
      if (block.hasImage && !block.applyImage) images = true;
    }
    if (op.effects !== undefined) this.carryOut(op, record);
    if (images) this.verify(entry, record);
  }

  private entryOf(record: WalRecord): Entry {
    const key = opKey(record);
    return this.entries[key] ?? this.newEntry(key, record);
  }

  private newEntry(key: number, record: WalRecord): Entry {
    const rmgr = this.dialect.rmgrs[record.rmid];
    const op = rmgr && findOp(rmgr, record.info);
    const entry = { op, mask: rmgr?.mask, row: this.tally.row(record) };
    this.entries[key] = entry;
    return entry;
  }

  /** What the record does beyond its pages; an operation that has no place here (CREATE TABLESPACE) is refused. */
  private carryOut(op: Op, record: WalRecord): void {
    try {
      emitEffects(op, record, this.effects.emit);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.refuse(record, undefined, error.message);
    }
  }

  /** References to pages that were not there and that nothing cut or dropped since. */
  danglingPages(): readonly string[] {
    return this.effects.invalidPages.remaining();
  }

  private redo({ op, row }: Entry, record: WalRecord, block: BlockRef): void {
    const { spcOid, dbOid, relNumber, forkNum, blkno } = block;
    const creates = block.willInit || (block.hasImage && block.applyImage) || mayBeNew(op, block);
    const file = creates
      ? this.cluster.findOrCreate(spcOid, dbOid, relNumber, forkNum)
      : this.cluster.find(spcOid, dbOid, relNumber, forkNum);
    const page = creates ? file!.extendTo(blkno) : file?.page(blkno);
    if (page === undefined) {
      this.effects.invalidPages.add(relKey(spcOid, dbOid, relNumber, forkNum), blkno, record);
      this.tally.countBlock(row, 'missing');
      return;
    }
    try {
      const outcome = redoBlockOf(op, page, record, block);
      if (outcome === 'missing') {
        this.effects.invalidPages.add(relKey(spcOid, dbOid, relNumber, forkNum), blkno, record);
      }
      this.tally.countBlock(row, outcome);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.refuse(record, block, error.message);
    }
  }

  private refuse(record: WalRecord, block: BlockRef | undefined, error: string): void {
    this.tally.unsupported++;
    this.tally.row(record).unsupported++;
    this.keep(record, block, new Uint8Array(0), new Uint8Array(0), error);
  }

  private verify({ row, mask }: Entry, record: WalRecord): void {
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse || !block.hasImage || block.applyImage) continue;
      const page = this.cluster
        .find(block.spcOid, block.dbOid, block.relNumber, block.forkNum)
        ?.page(block.blkno);
      if (page === undefined || pageLsn(page) > record.endLsn) continue;
      restoreImage(this.theirs.bytes, record, block);
      row.verified++;
      this.tally.verified++;
      if (mask !== undefined && this.sameAsTheirs(page.bytes)) continue;
      this.ours.bytes.set(page.bytes);
      try {
        if (mask !== undefined) {
          maskPage(mask, this.ours, block.blkno);
          maskPage(mask, this.theirs, block.blkno);
        }
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.mismatch(record, block, error.message);
        continue;
      }
      if (!samePage(this.ours.bytes, this.theirs.bytes)) this.mismatch(record, block);
    }
  }

  /** Every mask hides pd_lsn and pd_checksum: where all else is the same, nothing is left to mask. */
  private sameAsTheirs(bytes: Uint8Array): boolean {
    return this.theirBytes.compare(bytes, PD_FLAGS, BLCKSZ, PD_FLAGS, BLCKSZ) === 0;
  }

  private mismatch(record: WalRecord, block: BlockRef, error?: string): void {
    this.tally.mismatched++;
    this.tally.row(record).mismatched++;
    this.keep(record, block, this.ours.bytes.slice(), this.theirs.bytes.slice(), error);
  }

  private keep(
    record: WalRecord,
    block: BlockRef | undefined,
    ours: Uint8Array,
    theirs: Uint8Array,
    error?: string,
  ): void {
    if (this.mismatches.length >= MISMATCHES_KEPT_MAX) return;
    const rmgr = this.dialect.rmgrs[record.rmid];
    const { spcOid, dbOid, relNumber, forkNum, blkno } = block ?? NO_BLOCK;
    this.mismatches.push({
      lsn: record.lsn,
      rmgr: rmgr?.name ?? `custom${record.rmid}`,
      op: rmgr === undefined ? 'UNKNOWN' : opName(rmgr, record.info),
      block: { spcOid, dbOid, relNumber, forkNum, blkno },
      ours,
      theirs,
      ...(error === undefined ? {} : { error }),
    });
  }
}

const NO_BLOCK = { spcOid: 0, dbOid: 0, relNumber: 0, forkNum: 0, blkno: 0 };

export function samePage(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === BLCKSZ && b.length === BLCKSZ && Buffer.compare(a, b) === 0;
}
