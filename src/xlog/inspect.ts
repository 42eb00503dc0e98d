// The log's window: records as lines, as JSON and as statistics. Lines are those of pg_waldump, to the letter,
// so that what is known of one tool serves for the other; Neon's records, which it shows as UNKNOWN, are told
// like the rest. Mirrors XLogDumpDisplayRecord and XLogDumpDisplayStats of pg_waldump.c, XLogRecGetBlockRefInfo
// of xlogdesc.c.

import { Fault } from '../base/fault.ts';
import { formatLsn, formatLsnPadded } from '../base/lsn.ts';
import { FORK_NAMES } from '../base/rel.ts';
import type { Dialect } from './dialect.ts';
import { BLCKSZ } from './page.ts';
import type { BlockRef, WalRecord } from './record.ts';
import { findOp, opName } from './rmgr.ts';

/** Bytes of page images in a record. */
export function imageBytes(record: WalRecord): number {
  let bytes = 0;
  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = record.blocks[id]!;
    if (block.inUse) bytes += block.imageLength;
  }
  return bytes;
}

export function rmgrName(dialect: Dialect, record: WalRecord): string {
  return dialect.rmgrs[record.rmid]?.name ?? `custom${String(record.rmid).padStart(3, '0')}`;
}

export function recordOpName(dialect: Dialect, record: WalRecord): string {
  const rmgr = dialect.rmgrs[record.rmid];
  return rmgr === undefined ? `UNKNOWN (${(record.info & 0xf0).toString(16)})` : opName(rmgr, record.info);
}

/** What the record says, without its blocks: the `desc` of its manager. */
export function recordDescription(dialect: Dialect, record: WalRecord): string {
  const rmgr = dialect.rmgrs[record.rmid];
  if (rmgr === undefined) return `rmid: ${record.rmid}`;
  try {
    return findOp(rmgr, record.info)?.describe?.(record) ?? '';
  } catch (error) {
    // The rest of the line is still worth having.
    if (error instanceof Fault || error instanceof RangeError) return `(damaged: ${error.message})`;
    throw error;
  }
}

/** One record as pg_waldump prints it, without the line's end. */
export function recordLine(dialect: Dialect, record: WalRecord, details = false): string {
  const length = record.totalLength - imageBytes(record);
  return (
    `rmgr: ${rmgrName(dialect, record).padEnd(11)} ` +
    `len (rec/tot): ${String(length).padStart(6)}/${String(record.totalLength).padStart(6)}, ` +
    `tx: ${String(record.xid).padStart(10)}, ` +
    `lsn: ${formatLsnPadded(record.lsn)}, prev ${formatLsnPadded(record.prev)}, ` +
    `desc: ${recordOpName(dialect, record)} ${recordDescription(dialect, record)}` +
    blockReferences(record, details)
  );
}

function blockReferences(record: WalRecord, details: boolean): string {
  let text = '';
  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = record.blocks[id]!;
    if (!block.inUse) continue;
    text += details ? `\n\t${blockDetails(block)}` : `, ${blockShort(block)}`;
  }
  return text;
}

function blockShort(block: BlockRef): string {
  const fork = block.forkNum === 0 ? '' : ` fork ${FORK_NAMES[block.forkNum] ?? block.forkNum}`;
  const image = block.hasImage ? (block.applyImage ? ' FPW' : ' FPW for WAL verification') : '';
  return `blkref #${block.id}: rel ${block.spcOid}/${block.dbOid}/${block.relNumber}${fork} blk ${block.blkno}${image}`;
}

function blockDetails(block: BlockRef): string {
  const fork = FORK_NAMES[block.forkNum] ?? block.forkNum;
  let text = `blkref #${block.id}: rel ${block.spcOid}/${block.dbOid}/${block.relNumber} fork ${fork} blk ${block.blkno}`;
  if (block.hasImage) {
    const what = block.applyImage ? 'FPW' : 'FPW for WAL verification';
    text += ` (${what}); hole: offset: ${block.holeOffset}, length: ${block.holeLength}`;
    if (block.compression !== 'none') {
      const saved = BLCKSZ - block.holeLength - block.imageLength;
      text += `, compression saved: ${saved}, method: ${block.compression}`;
    }
  }
  return text;
}

/** One record as a value for JSON. */
export function recordJson(dialect: Dialect, record: WalRecord): unknown {
  return {
    lsn: formatLsn(record.lsn),
    end: formatLsn(record.endLsn),
    prev: formatLsn(record.prev),
    rmgr: rmgrName(dialect, record),
    op: recordOpName(dialect, record),
    xid: record.xid,
    length: record.totalLength - imageBytes(record),
    total: record.totalLength,
    ...(record.origin === 0 ? {} : { origin: record.origin }),
    ...(record.toplevelXid === 0 ? {} : { toplevelXid: record.toplevelXid }),
    description: recordDescription(dialect, record),
    blocks: record.blocks
      .slice(0, record.maxBlockId + 1)
      .filter(b => b.inUse)
      .map(b => ({
        id: b.id,
        relation: `${b.spcOid}/${b.dbOid}/${b.relNumber}`,
        fork: FORK_NAMES[b.forkNum] ?? b.forkNum,
        block: b.blkno,
        ...(b.hasImage ? { image: b.applyImage ? 'apply' : 'verify', compression: b.compression } : {}),
      })),
  };
}

export interface StatsRow {
  readonly name: string;
  count: number;
  recordBytes: number;
  imageBytes: number;
}

/** Counts and bytes per manager, or per operation. */
export class WalStats {
  private readonly dialect: Dialect;
  private readonly perOp: boolean;
  private readonly byKey = new Map<number, StatsRow>();

  constructor(dialect: Dialect, perOp: boolean) {
    this.dialect = dialect;
    this.perOp = perOp;
  }

  add(record: WalRecord): void {
    const mask = this.dialect.rmgrs[record.rmid]?.name === 'Transaction' ? 0x70 : 0xf0;
    const key = record.rmid * 256 + (this.perOp ? record.info & mask : 0);
    let row = this.byKey.get(key);
    if (row === undefined) {
      const name = rmgrName(this.dialect, record);
      row = {
        name: this.perOp ? `${name}/${recordOpName(this.dialect, record)}` : name,
        count: 0,
        recordBytes: 0,
        imageBytes: 0,
      };
      this.byKey.set(key, row);
    }
    const images = imageBytes(record);
    row.count++;
    row.recordBytes += record.totalLength - images;
    row.imageBytes += images;
  }

  /** In the order of managers and operations; managers that were not met are left out. */
  rows(): StatsRow[] {
    return [...this.byKey].sort((a, b) => a[0] - b[0]).map(([, row]) => row);
  }

  text(): string {
    const rows = this.rows();
    const sum = (of: (row: StatsRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
    const count = sum(r => r.count);
    const records = sum(r => r.recordBytes);
    const images = sum(r => r.imageBytes);
    const both = records + images;
    const cell = (n: number, total: number): string =>
      `${String(n).padStart(20)} (${(total === 0 ? 0 : (100 * n) / total).toFixed(2).padStart(6)})`;
    const head = (name: string, cells: string[]): string =>
      `${name.padEnd(27)} ${cells.map(c => `${c.padStart(20)} ${c[0] === '-' ? '     ---' : '     (%)'}`).join(' ')}`;
    const lines = [
      head('Type', ['N', 'Record size', 'FPI size', 'Combined size']),
      head('----', ['-', '-----------', '--------', '-------------']),
      ...rows.map(
        r =>
          `${r.name.padEnd(27)} ${cell(r.count, count)} ${cell(r.recordBytes, records)} ` +
          `${cell(r.imageBytes, images)} ${cell(r.recordBytes + r.imageBytes, both)}`,
      ),
      `${''.padEnd(27)} ${[1, 2, 3, 4].map(() => '--------'.padStart(20)).join('          ')}`,
      `${'Total'.padEnd(27)} ${String(count).padStart(20)} ${''.padEnd(9)}${String(records).padStart(20)} ` +
        `${share(records, both).padEnd(9)}${String(images).padStart(20)} ${share(images, both).padEnd(9)}` +
        `${String(both).padStart(20)} [100%]`,
    ];
    return `${lines.join('\n')}\n`;
  }
}

const share = (part: number, whole: number): string =>
  `[${(whole === 0 ? 0 : (100 * part) / whole).toFixed(2)}%]`;
