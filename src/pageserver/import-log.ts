// The log that an imported directory brings along, taken in to its end; and the three ways a directory comes: on a
// disk (initdb's output among them), in one tar, in a tar with another one for the log.

import { Fault, isFault } from '../base/fault.ts';
import { lsn as asLsn, formatLsn, type Lsn } from '../base/lsn.ts';
import type { Disk } from '../base/ports.ts';
import { readTar, type TarEntry } from '../base/tar.ts';
import { CONTROL_FILE_PATH } from '../xlog/control-file.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';
import {
  pageHeaderSize,
  segmentFileName,
  segmentOf,
  segmentSizeIsValid,
  XLOG_BLCKSZ,
} from '../xlog/segment.ts';
import { BACKUP_LABEL, FileImport, type ImportedFiles, isImported, PIECE_BYTES } from './import.ts';
import { Ingest } from './ingest.ts';
import type { PgData } from './pgdata.ts';

const SEGMENT_PATH = /^(?:pg_wal\/)?([0-9A-F]{24})$/;
/** Segments that come in a tar before its files are in wait in memory. */
const SEGMENTS_KEPT_BYTES_MAX = 4 * 1024 * 1024 * 1024;
/** XLOG_CHECKPOINT_SHUTDOWN: header, main data's header, CheckPoint. */
const CHECKPOINT_RECORD_SIZE = 24 + 2 + 88;
const RM_XLOG_ID = 0;
const XLOG_BACKUP_END = 0x50;

/** A segment of the log by its file name; undefined when there is none. */
export type Segments = (name: string) => Promise<Uint8Array | undefined>;

export interface Imported {
  /** Where the files stood. */
  readonly startLsn: Lsn;
  /** Where the log ends: reads are good from here on. */
  readonly endLsn: Lsn;
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  /** To go on with, when more log is at hand. */
  readonly ingest: Ingest;
}

/** A data directory below `root` of a disk: `''` when the disk is the directory. */
export async function importDirectory(pgdata: PgData, disk: Disk, root: string): Promise<Imported> {
  const at = (path: string): string => (root === '' ? path : `${root}/${path}`);
  const files = new FileImport(pgdata);
  for await (const path of walk(disk, root, '')) {
    if (!isImported(path)) continue;
    const file = await disk.open(at(path), 'read');
    try {
      const size = await file.size();
      for (let offset = 0; offset < size || offset === 0; offset += PIECE_BYTES) {
        await files.piece(path, size, offset, await file.read(offset, Math.min(PIECE_BYTES, size - offset)));
      }
    } finally {
      await file.close();
    }
  }
  return finish(pgdata, await files.finish(), async name => {
    const path = at(`pg_wal/${name}`);
    return (await disk.stat(path)) === undefined ? undefined : disk.readFile(path);
  });
}

async function* walk(disk: Disk, root: string, inside: string): AsyncGenerator<string> {
  for (const name of await disk.list([root, inside].filter(p => p !== '').join('/'))) {
    const path = inside === '' ? name : `${inside}/${name}`;
    if (path === 'pg_wal') continue;
    const stat = await disk.stat(root === '' ? path : `${root}/${path}`);
    if (stat?.isDirectory) yield* walk(disk, root, path);
    else if (stat !== undefined) yield path;
  }
}

/** A tar of a data directory; `wal` is a tar of segments, where the first has none (pg_basebackup -Ft -Xstream). */
export async function importTar(
  pgdata: PgData,
  tar: AsyncIterable<Uint8Array>,
  wal?: AsyncIterable<Uint8Array>,
): Promise<Imported> {
  const files = new FileImport(pgdata);
  const segments = new TarSegments();
  const entries = readTar(tar, isWanted, PIECE_BYTES)[Symbol.asyncIterator]();
  let inServersOrder: boolean | undefined;
  let hasControl = false;
  for (let next = await entries.next(); !next.done; next = await entries.next()) {
    const { name, bytes, offset, size, isDirectory } = next.value;
    inServersOrder ??= name === BACKUP_LABEL;
    if (isDirectory) continue;
    if (segments.keep(next.value)) {
      // A server sends pg_control last of the files, and then the log in order: it need not be kept, only read.
      if (inServersOrder && hasControl && wal === undefined) {
        const take = (segment: string): Promise<Uint8Array | undefined> => segments.upTo(segment, entries);
        const imported = await finish(pgdata, await files.finish(), take);
        while (!(await entries.next()).done);
        return imported;
      }
      continue;
    }
    await files.piece(name, size, offset, bytes);
    hasControl ||= name === CONTROL_FILE_PATH && offset + bytes.length === size;
  }
  if (wal !== undefined) {
    for await (const entry of readTar(wal, path => SEGMENT_PATH.test(path), PIECE_BYTES))
      segments.keep(entry);
  }
  return finish(pgdata, await files.finish(), async name => segments.take(name));
}

const isWanted = (path: string, size: number): boolean =>
  isImported(path) || (SEGMENT_PATH.test(path) && segmentSizeIsValid(size));

/** Segments that come in a tar: kept until they are asked for. */
class TarSegments {
  private readonly whole = new Map<string, Uint8Array>();
  private keptBytes = 0;
  private readonly growing = new Map<string, Uint8Array>();

  /** Whether it is one, or a piece of one. */
  keep({ name: path, bytes, offset, size }: TarEntry): boolean {
    const name = SEGMENT_PATH.exec(path)?.[1];
    if (name === undefined) return false;
    if (offset === 0) {
      this.growing.set(name, new Uint8Array(size));
      this.keptBytes += size;
    }
    const segment = this.growing.get(name)!;
    segment.set(bytes, offset);
    if (offset + bytes.length === size) {
      this.growing.delete(name);
      this.whole.set(name, segment);
    }
    if (this.keptBytes > SEGMENTS_KEPT_BYTES_MAX) {
      throw new Fault('data-directory', 'the archive holds more log than can be kept in memory', {
        hint: 'Import a directory instead, or take the backup anew: its log begins too far back.',
      });
    }
    return true;
  }

  /** Given away: each is asked for once. */
  take(name: string): Uint8Array | undefined {
    const segment = this.whole.get(name);
    if (segment === undefined) return undefined;
    this.whole.delete(name);
    this.keptBytes -= segment.length;
    return segment;
  }

  /** The same, reading on in the archive for as long as it is not there. */
  async upTo(name: string, entries: AsyncIterator<TarEntry>): Promise<Uint8Array | undefined> {
    while (!this.whole.has(name)) {
      const next = await entries.next();
      if (next.done) break;
      this.keep(next.value);
    }
    return this.take(name);
  }
}

async function finish(pgdata: PgData, files: ImportedFiles, segments: Segments): Promise<Imported> {
  const ingest = new Ingest(pgdata);
  await ingest.load();
  const { control, start } = files;
  const log = new LogImport(ingest, files, segments);
  await log.run();
  if (ingest.lastRecordLsn === start) endWithoutLog(ingest, files);
  return {
    startLsn: start,
    endLsn: asLsn(ingest.lastRecordLsn),
    systemIdentifier: control.systemIdentifier,
    segmentSize: control.xlogSegSize,
    ingest,
  };
}

class LogImport {
  private readonly ingest: Ingest;
  private readonly files: ImportedFiles;
  private readonly segments: Segments;
  private readonly reader: WalReader;
  private readonly record = new WalRecord();
  private sawBackupEnd = false;

  constructor(ingest: Ingest, files: ImportedFiles, segments: Segments) {
    this.ingest = ingest;
    this.files = files;
    this.segments = segments;
    const { dialect } = ingest.pgdata;
    this.reader = new WalReader({
      start: files.start,
      dialect,
      segmentSize: files.control.xlogSegSize,
      checkPrev: true,
    });
  }

  async run(): Promise<void> {
    const { control, start, label } = this.files;
    const size = control.xlogSegSize;
    const tli = label?.timelineId ?? control.checkPointCopy.thisTimeLineId;
    let why = 'the segment that it begins in is missing';
    for (let segno = segmentOf(start, size), skip = start % size; ; segno++, skip = 0) {
      const bytes = await this.segments(segmentFileName(tli, segno, size));
      if (bytes === undefined) break;
      const ended = await this.segment(bytes, skip);
      if (ended !== undefined) why = ended;
      if (ended !== undefined) break;
      why = `segment ${segmentFileName(tli, segno + 1, size)} is missing`;
    }
    this.check(why);
  }

  /** Every record of a segment; why the log ends in it, if it does. */
  private async segment(bytes: Uint8Array, skip: number): Promise<string | undefined> {
    const { ingest, reader } = this;
    for (let at = skip; at < bytes.length; at += PIECE_BYTES) {
      reader.push(bytes.subarray(at, Math.min(at + PIECE_BYTES, bytes.length)));
      for (;;) {
        const next = this.next();
        if (typeof next === 'string') ingest.advance();
        if (next === true) {
          const waits = this.take();
          if (waits !== undefined) await waits;
        } else if (next === false) break;
        else return next;
      }
      ingest.advance();
      await ingest.writer.ready();
    }
    return undefined;
  }

  /** Whether there is another record; or why the log ends here. */
  private next(): boolean | string {
    try {
      return this.reader.next(this.record);
    } catch (error) {
      // A log that nobody is writing any more ends in whatever was there before.
      if (!isFault(error) || !LOG_ENDS.has(error.code)) throw error;
      return error.message;
    }
  }

  private take(): void | Promise<void> {
    const { ingest, record } = this;
    if (record.rmid === RM_XLOG_ID && (record.info & 0xf0) === XLOG_BACKUP_END) this.sawBackupEnd = true;
    return ingest.record(record);
  }

  /** A copy of a running server is whole only where its backup ended. */
  private check(why: string): void {
    const { control, label, wasShutDown, start } = this.files;
    const { lastRecordLsn } = this.ingest;
    const reached = lastRecordLsn > start || wasShutDown;
    const whole =
      label === undefined
        ? reached
        : label.fromStandby
          ? lastRecordLsn >= control.minRecoveryPoint
          : this.sawBackupEnd;
    if (whole) return;
    throw new Fault(
      'data-directory',
      `the log of the directory ends at ${formatLsn(lastRecordLsn)}: ${why}`,
      {
        hint: 'The copy needs the log that was written while it was taken: pg_basebackup -X fetch, or give the log too.',
      },
    );
  }
}

const LOG_ENDS: ReadonlySet<string> = new Set(['wal-end', 'wal-page-header', 'wal-record', 'wal-crc']);

/** A directory that was shut down, without its log: the checkpoint's record is known all the same. */
function endWithoutLog(ingest: Ingest, { control }: ImportedFiles): void {
  const at = control.checkPoint;
  const size = control.xlogSegSize;
  let end = at + CHECKPOINT_RECORD_SIZE;
  const page = (Math.floor(at / XLOG_BLCKSZ) + 1) * XLOG_BLCKSZ;
  if (end > page) end += pageHeaderSize(page, size);
  ingest.shutDownAt(asLsn(Math.ceil(end / 8) * 8));
}
