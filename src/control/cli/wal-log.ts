// A log read from files, record by record, with its dialect found out on the way: what `wal dump` and `wal verify`
// have in common.
//
// How a log ends: zeros, or the pages of a recycled segment, where the next page or record should begin. The same
// in the middle of a log is damage, so before an end is believed the rest of its segment and the next one are
// looked at: a sound page further on means that this was not the end.

import { Fault, isFault } from '../../base/fault.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import type { Dialect, Flavour } from '../../xlog/dialect.ts';
import { dialectOfMagic } from '../../xlog/dialects/all.ts';
import { flavourOf } from '../../xlog/dialects/flavour.ts';
import { WalReader } from '../../xlog/reader.ts';
import { WalRecord } from '../../xlog/record.ts';
import { segmentStart, XLOG_BLCKSZ } from '../../xlog/segment.ts';
import type { SegmentFile, WalSource } from './wal-source.ts';

export interface LogOptions {
  /** The first record wanted; without it, the first that begins in the first segment. */
  readonly start?: Lsn;
  /** Records that begin at or after this are not wanted. */
  readonly end?: Lsn;
  readonly flavour?: Flavour;
  /** The last segment may still be growing: its end is no damage. */
  readonly growing?: boolean;
}

export interface LogEnd {
  /** Just past the last whole record. */
  readonly lsn: Lsn;
  /** Why reading ended there; undefined when `end` or the visitor ended it, or the bytes were used up. */
  readonly reason: string | undefined;
}

/** Called for each record; false ends the reading. */
export type Visit = (record: WalRecord, dialect: Dialect) => boolean;
export type SegmentDone = (bytesSoFar: number, lsn: Lsn) => Promise<void> | void;

/** How many bytes go to the reader at once: small enough to stay in the processor's cache with their records. */
const CHUNK = 256 * 1024;
/** Before this major, stock and Neon logs differ in records that look the same. */
const FIRST_MAJOR_ALIKE = 16;

const COPY_HINT = 'Take another copy of this segment: from the archive, a standby or another safekeeper.';

export class LogScan {
  private readonly source: WalSource;
  private readonly options: LogOptions;
  private readonly magic: number;
  private reader: WalReader | undefined;
  private readonly record = new WalRecord();
  private flavour: Flavour | undefined;
  private bytes = 0;
  dialect: Dialect;

  constructor(source: WalSource, options: LogOptions) {
    this.source = source;
    this.options = options;
    this.magic = new DataView(source.firstPage.buffer, source.firstPage.byteOffset).getUint16(0, true);
    this.flavour = options.flavour;
    this.dialect = this.dialectOf(this.flavour);
  }

  /** From 16 on a Neon dialect reads stock logs as well: it only knows one manager more. */
  private dialectOf(flavour: Flavour | undefined): Dialect {
    const stock = dialectOfMagic(this.magic, 'stock');
    return dialectOfMagic(this.magic, flavour ?? (stock.major < FIRST_MAJOR_ALIKE ? 'stock' : 'neon'));
  }

  async run(visit: Visit, segmentDone?: SegmentDone): Promise<LogEnd> {
    let next: SegmentFile | undefined;
    const files = this.source.segments()[Symbol.asyncIterator]();
    const first =
      this.options.start === undefined ? 0 : Math.floor(this.options.start / this.source.segmentSize);
    let step = await files.next();
    while (!step.done && step.value.segno < first) step = await files.next();
    if (step.done)
      throw new Fault('file-missing', `no WAL segment holds ${formatLsn(this.options.start ?? 0)}`);
    for (next = step.value; next !== undefined; ) {
      const file: SegmentFile = next;
      const bytes = await file.read();
      step = await files.next();
      next = step.done ? undefined : step.value;
      const ended = await this.readSegment(file, bytes, visit, next);
      this.bytes += bytes.length;
      await segmentDone?.(this.bytes, this.position);
      if (ended !== undefined) return ended;
      if (next !== undefined && next.segno !== file.segno + 1) {
        throw new Fault(
          'file-missing',
          `the WAL segment after ${file.name} is missing (next is ${next.name})`,
        );
      }
    }
    return { lsn: this.position, reason: undefined };
  }

  private get position(): Lsn {
    return this.reader!.recordEnd;
  }

  private async readSegment(
    file: SegmentFile,
    bytes: Uint8Array,
    visit: Visit,
    next: SegmentFile | undefined,
  ): Promise<LogEnd | undefined> {
    const begin = segmentStart(file.segno, this.source.segmentSize);
    const start = this.reader === undefined ? this.options.start : undefined;
    let at = start === undefined ? 0 : start - begin;
    if (this.flavour === undefined && this.dialect.major < FIRST_MAJOR_ALIKE)
      this.lookForFlavour(begin, bytes, at);
    this.reader ??= this.newReader((begin + at) as Lsn, start === undefined);
    try {
      for (; at < bytes.length; at += CHUNK) {
        this.reader.push(bytes.subarray(at, Math.min(at + CHUNK, bytes.length)));
        while (this.reader.next(this.record)) {
          if (this.options.end !== undefined && this.record.lsn >= this.options.end) {
            return { lsn: this.record.lsn, reason: undefined };
          }
          if (visit(this.record, this.dialect) === false)
            return { lsn: this.record.endLsn, reason: undefined };
        }
      }
      return bytes.length < this.source.segmentSize ? this.cutShort(bytes.length) : undefined;
    } catch (error) {
      if (!isFault(error, 'wal-end')) throw named(error, file);
      await this.believeEnd(error, file, bytes, next);
      return { lsn: this.position, reason: error.message };
    }
  }

  /** A segment has its whole size from the beginning, however little of it is written. */
  private cutShort(length: number): LogEnd {
    const what = `${length} of ${this.source.segmentSize} bytes`;
    if (this.options.growing) return { lsn: this.position, reason: `the segment is growing: ${what}` };
    throw new Fault('bytes-short', `cut short: ${what}, whole records up to ${formatLsn(this.position)}`, {
      hint: COPY_HINT,
    });
  }

  private newReader(start: Lsn, resync: boolean): WalReader {
    const { segmentSize } = this.source;
    return new WalReader({ start, dialect: this.dialect, segmentSize, resync, checkPrev: true });
  }

  /** Read ahead for a record that tells whose log this is; before `at` there may be no log. */
  private lookForFlavour(begin: Lsn, bytes: Uint8Array, at: number): void {
    const record = new WalRecord();
    const reader = this.newReader((begin + at) as Lsn, at === 0);
    try {
      reader.push(bytes.subarray(at));
      while (this.flavour === undefined && reader.next(record))
        this.flavour = flavourOf(this.dialect.major, record);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    }
    this.dialect = this.dialectOf(this.flavour);
  }

  private async believeEnd(
    end: Fault,
    file: SegmentFile,
    bytes: Uint8Array,
    next: SegmentFile | undefined,
  ): Promise<void> {
    const size = this.source.segmentSize;
    const begin = segmentStart(file.segno, size);
    const past = Math.max(0, this.reader!.recordEnd - begin);
    const from = Math.ceil((past + 1) / XLOG_BLCKSZ) * XLOG_BLCKSZ;
    let sound = this.soundPage(bytes, from, begin);
    let where = file.name;
    if (sound === undefined && next !== undefined) {
      sound = this.soundPage((await next.read()).subarray(0, XLOG_BLCKSZ), 0, segmentStart(next.segno, size));
      where = next.name;
    }
    if (sound === undefined) return;
    throw new Fault(
      'wal-record',
      `${file.name}: damaged: ${end.message}, but the log goes on at ${formatLsn(sound)} (${where})`,
      {
        cause: end,
        hint: COPY_HINT,
      },
    );
  }

  /** The address of the first page from `from` on that belongs where it stands. */
  private soundPage(bytes: Uint8Array, from: number, begin: number): Lsn | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = from; at + 16 <= bytes.length; at += XLOG_BLCKSZ) {
      const address = view.getUint32(at + 12, true) * 0x1_0000_0000 + view.getUint32(at + 8, true);
      if (view.getUint16(at, true) === this.magic && address === begin + at) return address as Lsn;
    }
    return undefined;
  }
}

function named(error: unknown, file: SegmentFile): unknown {
  if (!(error instanceof Fault)) return error;
  return new Fault(error.code, `${file.name}: ${error.message}`, {
    cause: error,
    hint: error.hint ?? COPY_HINT,
  });
}
