// The shape of a resource manager, and the registry's own check.
//
// A record may touch several blocks; a reader wants one page. Every edit needs only its page and the record, so
// the unit is manager x operation x block: `ops[opcode].redo[blockId]`. The other half of an operation,
// `effects`, says what the record does beyond the pages it names: sizes, drops, SLRUs, visibility bits. Redo,
// effects and description stand in one row, so none can be forgotten.
//
// A redo function is synchronous, edits the page in place, allocates nothing it can avoid and returns nothing.
// It does not set pd_lsn: `redoBlock` (redo.ts) does that after it, and restores images and zeroes will-init
// pages before it. It throws `redoFault` when the page cannot be the one the record was written for.

import { Violation } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import type { Effect } from './effects.ts';
import type { Page } from './page.ts';
import { type BlockRef, badRecord, type WalRecord } from './record.ts';

export type PageRedo = (page: Page, record: WalRecord, block: BlockRef) => void;

/**
 * What an edit returns when the record names the page without changing it (a lock held at replay, as on the
 * primary bucket of a hash squeeze): pd_lsn then stays as it was.
 */
export const UNCHANGED = 'unchanged';
/** The edit of such a block. */
export const leaveUnchanged = (): string => UNCHANGED;

export type RecordEffects = (record: WalRecord, emit: (effect: Effect) => void) => void;

/** Hide what replay does not promise, as the manager's rm_mask does; `blkno` is the page's block number. */
export type PageMask = (page: Page, blkno: number) => void;

export interface Op {
  /** As pg_waldump names it. */
  readonly name: string;
  /** By block id. A block the record names without a row here is a fault at redo, unless it carries an image. */
  readonly redo?: Readonly<Record<number, PageRedo>>;
  /** For the few operations whose blocks are all alike, however many there are. */
  readonly redoEvery?: PageRedo;
  /**
   * By block id, what Postgres edits on top of an image it has just restored: the flags that a writer changes
   * only after the image was taken (GiST's left child, the buckets of a hash split).
   */
  readonly afterImage?: Readonly<Record<number, PageRedo>>;
  /**
   * Block ids whose page may never have been written before and is then begun by the edit itself: those that
   * Postgres reads with RBM_ZERO_ON_ERROR (the visibility map, whose extension is not logged).
   */
  readonly mayBeNew?: readonly number[];
  /** Blocks without an image are named and not so much as read, so they need not be there (FPI_FOR_HINT). */
  readonly imagesOnly?: boolean;
  readonly effects?: RecordEffects;
  /** One line, as pg_waldump's `desc` of that major (without the block references). */
  readonly describe?: (record: WalRecord) => string;
  /** Why this operation cannot be replayed; met in a log it is a clear error. */
  readonly unsupported?: string;
}

export interface Rmgr {
  readonly id: number;
  /** As pg_waldump names it. */
  readonly name: string;
  /** Bits of xl_info that choose the operation. */
  readonly opMask: number;
  /** XLOG_HEAP_INIT_PAGE: shown as "+INIT" behind the operation's name. */
  readonly initFlag?: number;
  /** By opcode: xl_info & opMask. */
  readonly ops: Readonly<Record<number, Op>>;
  readonly mask?: PageMask;
}

export function findOp(rmgr: Rmgr, info: number): Op | undefined {
  return rmgr.ops[info & rmgr.opMask];
}

export function opName(rmgr: Rmgr, info: number): string {
  const op = findOp(rmgr, info);
  if (op === undefined) return `UNKNOWN (${(info & 0xf0).toString(16).toUpperCase()})`;
  return rmgr.initFlag !== undefined && (info & rmgr.initFlag) !== 0 ? `${op.name}+INIT` : op.name;
}

/** The redo of one block of an operation, if the operation edits it. */
export const redoOf = (op: Op, blockId: number): PageRedo | undefined => op.redo?.[blockId] ?? op.redoEvery;

/**
 * Emit a record's effects. A body whose lengths lead out of the record shows as an offset out of range: it is
 * told as the record's fault, like any other.
 */
export function emitEffects(op: Op, record: WalRecord, emit: (effect: Effect) => void): void {
  if (op.effects === undefined) return;
  try {
    op.effects(record, emit);
  } catch (error) {
    throw error instanceof RangeError ? badRecord(record, error.message) : error;
  }
}

/** Mask a page for comparison; a page that is none of the manager's is a Fault. */
export function maskPage(mask: PageMask, page: Page, blkno: number): void {
  try {
    mask(page, blkno);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Fault('wal-redo', `block ${blkno} is no page of this manager: ${error.message}`, {
      cause: error,
    });
  }
}

/** The page cannot be the one the record was written for. */
export function redoFault(record: WalRecord, block: BlockRef, reason: string, cause?: unknown): Fault {
  const { spcOid, dbOid, relNumber, forkNum, blkno } = block;
  return new Fault(
    'wal-redo',
    `redo of rmgr ${record.rmid} info 0x${record.info.toString(16)} at ${formatLsn(record.lsn)} ` +
      `on ${spcOid}/${dbOid}/${relNumber} fork ${forkNum} block ${blkno}: ${reason}`,
    cause === undefined ? {} : { cause },
  );
}

/** The registry of a major: managers by id, every opcode that Postgres can write checked to have a row. */
export function registry(
  rmgrs: readonly Rmgr[],
  expected: Readonly<Record<number, readonly number[]>>,
): readonly (Rmgr | undefined)[] {
  const table: (Rmgr | undefined)[] = new Array(256).fill(undefined);
  for (const rmgr of rmgrs) {
    if (table[rmgr.id] !== undefined) throw new Violation(`two resource managers with id ${rmgr.id}`);
    table[rmgr.id] = uniform(rmgr);
    for (const [code, op] of Object.entries(rmgr.ops)) {
      if ((Number(code) & ~rmgr.opMask) !== 0)
        throw new Violation(`${rmgr.name} ${op.name}: opcode ${code} is masked`);
    }
  }
  for (const [id, codes] of Object.entries(expected)) {
    const rmgr = table[Number(id)];
    if (rmgr === undefined) throw new Violation(`no resource manager with id ${id}`);
    for (const code of codes) {
      if (rmgr.ops[code] === undefined)
        throw new Violation(`${rmgr.name}: no row for opcode 0x${code.toString(16)}`);
    }
    for (const code of Object.keys(rmgr.ops)) {
      if (!codes.includes(Number(code)))
        throw new Violation(
          `${rmgr.name}: a row for 0x${Number(code).toString(16)}, which this major never writes`,
        );
    }
  }
  return table;
}

/**
 * The same manager, its operations all of one shape: fields that are not there are there as undefined. Replay asks
 * for them for every block, and the engine finds a field of one shape in one step.
 */
function uniform(rmgr: Rmgr): Rmgr {
  const known = uniformOf.get(rmgr);
  if (known !== undefined) return known;
  const { id, name, opMask, initFlag, ops, mask } = rmgr;
  const uniformOp = (op: Op): Op =>
    ({
      name: op.name,
      redo: op.redo,
      redoEvery: op.redoEvery,
      afterImage: op.afterImage,
      mayBeNew: op.mayBeNew,
      imagesOnly: op.imagesOnly,
      effects: op.effects,
      describe: op.describe,
      unsupported: op.unsupported,
    }) satisfies Record<keyof Op, unknown> as Op;
  const uniformOps = Object.fromEntries(Object.entries(ops).map(([code, op]) => [code, uniformOp(op)]));
  const made = { id, name, opMask, initFlag, ops: uniformOps, mask } as Rmgr;
  uniformOf.set(rmgr, made);
  return made;
}

/** Majors share managers: what is one stays one. */
const uniformOf = new WeakMap<Rmgr, Rmgr>();

/** One manager with some operations replaced: how a major differs from the one before it. */
export function replaceOps(rmgr: Rmgr, ops: Readonly<Record<number, Op>>): Rmgr {
  return { ...rmgr, ops: { ...rmgr.ops, ...ops } };
}
