// What a replay met, counted: per manager and operation, and in all. The table of `wal verify`.

import type { Dialect } from '../dialect.ts';
import type { WalRecord } from '../record.ts';
import type { RedoOutcome } from '../redo.ts';
import { opName } from '../rmgr.ts';

export interface OpTally {
  readonly rmgr: string;
  readonly op: string;
  records: number;
  /** Blocks edited or restored. */
  applied: number;
  /** Blocks that had the change already, or were cut off later. */
  skipped: number;
  /** Blocks compared with a verification image. */
  verified: number;
  mismatched: number;
  /** Blocks that could not be replayed. */
  unsupported: number;
}

/** A number for every manager and operation, small enough for an array without gaps. */
export const opKey = (record: WalRecord): number => record.rmid * 16 + (record.info >>> 4);
export const OP_KEYS = 256 * 16;

export class Tally {
  private readonly dialect: Dialect;
  private readonly rows: (OpTally | undefined)[] = new Array(OP_KEYS).fill(undefined);
  records = 0;
  blocks = 0;
  verified = 0;
  mismatched = 0;
  unsupported = 0;

  constructor(dialect: Dialect) {
    this.dialect = dialect;
  }

  row(record: WalRecord): OpTally {
    const key = opKey(record);
    return this.rows[key] ?? this.newRow(key, record);
  }

  private newRow(key: number, record: WalRecord): OpTally {
    const rmgr = this.dialect.rmgrs[record.rmid];
    const row: OpTally = {
      rmgr: rmgr?.name ?? `custom${record.rmid}`,
      op: rmgr === undefined ? 'UNKNOWN' : opName(rmgr, record.info),
      records: 0,
      applied: 0,
      skipped: 0,
      verified: 0,
      mismatched: 0,
      unsupported: 0,
    };
    this.rows[key] = row;
    return row;
  }

  countBlock(row: OpTally, outcome: RedoOutcome): void {
    if (outcome === 'applied' || outcome === 'restored') {
      row.applied++;
      this.blocks++;
    } else {
      row.skipped++;
    }
  }

  /** Rows met, in the order of managers and opcodes. */
  met(): OpTally[] {
    return this.rows.filter(row => row !== undefined);
  }

  /** Operations of the major that no record was of: `Btree/REUSE_PAGE`. */
  neverMet(): string[] {
    const names: string[] = [];
    const met = new Set(this.met().map(row => `${row.rmgr}/${row.op.replace('+INIT', '')}`));
    for (const rmgr of this.dialect.rmgrs) {
      if (rmgr === undefined) continue;
      for (const op of Object.values(rmgr.ops)) {
        const name = `${rmgr.name}/${op.name}`;
        if (!met.has(name)) names.push(name);
      }
    }
    return names;
  }
}
