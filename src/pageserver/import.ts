// A data directory, as it lies on a disk or comes in a tar, becomes the beginning of a timeline.
//
//   files                  -> pages, lengths, names, at LSNs 8, 16, 24 ...: a step for each piece, so that no batch
//                             grows with the cluster. Nobody reads there: the log begins far above
//   pg_control             -> the checkpoint; the log is taken in from its redo position on (or from where
//                             backup_label says), to its end
//   after that             -> the timeline stands where the log ends, with the record before it known
//
// A directory that was shut down holds one record to take in, its shutdown checkpoint; one copied while its server
// ran (a base backup), or that crashed, holds more, and is whole only at their end: pages of the copy may be newer
// than the record at hand, and redo passes those over by their LSN. Reads are to be promised from `endLsn` on.
//
// Files may come in any order. Left out: temporary relations, the contents of unlogged ones (a start resets them),
// replication slots, statistics, and whatever is made anew at start.
//
// Answers to import_datadir.rs of Neon's pageserver and to the order of things in StartupXLOG.

import { Fault } from '../base/fault.ts';
import { lsn as asLsn, type Lsn, parseLsn } from '../base/lsn.ts';
import { INIT_FORKNUM, SLRU_DIRECTORY, SLRU_PAGES_PER_SEGMENT, type SlruKind } from '../base/rel.ts';
import { type CheckPoint, checkpointBytes, fullFromAllowableAt, xidFromFull } from '../xlog/checkpoint.ts';
import {
  CONTROL_FILE_PATH,
  type ControlFile,
  DB_SHUTDOWNED,
  DB_SHUTDOWNED_IN_RECOVERY,
  readControlFile,
} from '../xlog/control-file.ts';
import { BLCKSZ } from '../xlog/page.ts';
import { parseRelationPath } from '../xlog/replay/cluster.ts';
import { RELSEG_SIZE } from '../xlog/replay/relation-file.ts';
import { parseSlruSegmentName } from '../xlog/slru.ts';
import { prepareOfTwophaseFile } from '../xlog/twophase.ts';
import { type BackupLabel, REPLORIGIN_FILE, readBackupLabel, readReplorigins } from './backup-files.ts';
import type { RelFork } from './directory.ts';
import { isZero } from './ingest-copy.ts';
import {
  CHECKPOINT_NAME,
  CONTROL_FILE_NAME,
  FULL_PAGE_WRITES_NAME,
  originName,
  relmapName,
  twophaseName,
} from './names.ts';
import type { PgData } from './pgdata.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_IMAGE } from './value.ts';

/** Pieces of files are at most this long: whole pages, so that none is cut. */
export const PIECE_BYTES = 1024 * 1024;
/** What of pg_control is kept: PG_CONTROL_MAX_SAFE_SIZE. */
const CONTROL_KEPT = 512;
const STEP = 8;
const SMALL_FILE_MAX = 16 * 1024 * 1024;

const MAP_FILE = /^(?:(global)|base\/(\d+)|pg_tblspc\/(\d+)\/(?:[^/]+\/)?(\d+))\/pg_filenode\.map$/;
const TWOPHASE_FILE = /^pg_twophase\/([0-9A-F]{8}|[0-9A-F]{16})$/;
export const BACKUP_LABEL = 'backup_label';

/** Whether a file of a data directory says anything to us; segments of the log are asked for elsewhere. */
export const isImported = (path: string): boolean =>
  path === CONTROL_FILE_PATH ||
  path === BACKUP_LABEL ||
  path === REPLORIGIN_FILE ||
  MAP_FILE.test(path) ||
  TWOPHASE_FILE.test(path) ||
  slruSegmentOfPath(path) !== undefined ||
  parseRelationPath(path) !== undefined;

/** What the files said about the log. */
export interface ImportedFiles {
  readonly control: ControlFile;
  readonly label: BackupLabel | undefined;
  /** Where the log is to be taken in from. */
  readonly start: Lsn;
  /** Cleanly shut down: nothing but the checkpoint's own record follows. */
  readonly wasShutDown: boolean;
}

export class FileImport {
  private readonly pgdata: PgData;
  private readonly writer: TimelineWriter;
  private lsn = STEP;
  private control: ControlFile | undefined;
  private label: BackupLabel | undefined;
  private readonly prepared = new Map<number, Uint8Array>();
  private readonly unlogged: RelFork[] = [];
  /** The small file that is being put together. */
  private small: { path: string; bytes: Uint8Array } | undefined;

  constructor(pgdata: PgData) {
    this.pgdata = pgdata;
    this.writer = pgdata.timeline.writer();
  }

  /** A piece of a file, by its path in the directory; the pieces of one file come one after the other. */
  async piece(path: string, size: number, offset: number, bytes: Uint8Array): Promise<void> {
    await this.pgdata.ready();
    const relation = parseRelationPath(path);
    if (relation !== undefined) this.relation(relation, offset, bytes);
    else if (isImported(path)) this.smallPiece(path, size, offset, bytes);
    else return;
    this.writer.advance(this.lsn, 0);
    this.lsn += STEP;
    await this.writer.ready();
  }

  // ---- relations --------------------------------------------------------------------------------------------

  private relation(
    tag: NonNullable<ReturnType<typeof parseRelationPath>>,
    offset: number,
    bytes: Uint8Array,
  ): void {
    const { directory } = this.pgdata;
    const { spcOid, dbOid, relNumber, forkNum, segno } = tag;
    let fork = directory.find(spcOid, dbOid, relNumber, forkNum);
    if (fork === undefined) {
      fork = directory.create(this.writer, this.lsn, spcOid, dbOid, relNumber, forkNum);
      if (forkNum === INIT_FORKNUM) this.unlogged.push(fork);
    }
    const first = segno * RELSEG_SIZE + offset / BLCKSZ;
    const count = Math.floor(bytes.length / BLCKSZ);
    for (let i = 0; i < count; i++) {
      const page = bytes.subarray(i * BLCKSZ, (i + 1) * BLCKSZ);
      if (!isZero(page)) this.writer.put(fork.id, first + i, this.lsn, VALUE_IMAGE, 0, page, 0, BLCKSZ);
    }
    if (first + count <= fork.nblocks) return;
    directory.resize(fork, this.lsn, first + count);
    directory.storeSize(this.writer, this.lsn, fork);
  }

  // ---- everything else --------------------------------------------------------------------------------------

  private smallPiece(path: string, size: number, offset: number, bytes: Uint8Array): void {
    if (size > SMALL_FILE_MAX) throw new Fault('data-directory', `${path} is ${size} bytes long`);
    if (offset === 0) this.small = { path, bytes: new Uint8Array(size) };
    this.small!.bytes.set(bytes, offset);
    if (offset + bytes.length === size) this.smallFile(path, this.small!.bytes);
  }

  private smallFile(path: string, bytes: Uint8Array): void {
    const slru = slruSegmentOfPath(path);
    const map = MAP_FILE.exec(path);
    const twophase = TWOPHASE_FILE.exec(path);
    if (slru !== undefined) this.slruSegment(slru.kind, slru.segno, bytes);
    else if (map !== null) this.put(mapName(map), bytes);
    else if (twophase !== null)
      this.prepared.set(parseInt(twophase[1]!, 16), prepareOfTwophaseFile(bytes).slice());
    else if (path === BACKUP_LABEL) this.label = readBackupLabel(bytes);
    else if (path === REPLORIGIN_FILE) this.origins(bytes);
    else this.controlFile(bytes);
  }

  private put(name: string, bytes: Uint8Array): void {
    this.pgdata.names.put(this.writer, this.lsn, name, bytes);
  }

  private slruSegment(kind: SlruKind, segno: number, bytes: Uint8Array): void {
    const first = segno * SLRU_PAGES_PER_SEGMENT;
    for (let at = 0; at + BLCKSZ <= bytes.length; at += BLCKSZ) {
      this.pgdata.slrus.putPage(this.writer, this.lsn, kind, first + at / BLCKSZ, bytes, at);
    }
  }

  private origins(bytes: Uint8Array): void {
    for (const [id, remoteLsn] of readReplorigins(bytes)) {
      const value = new Uint8Array(8);
      new DataView(value.buffer).setBigUint64(0, remoteLsn, true);
      this.put(originName(id), value);
    }
  }

  private controlFile(bytes: Uint8Array): void {
    const control = readControlFile(bytes);
    const { dialect } = this.pgdata;
    if (control.catalogVersionNo !== dialect.catalogVersion) {
      throw new Fault(
        'data-directory',
        `the directory is of catalog version ${control.catalogVersionNo}, Postgres ${dialect.major} has ${dialect.catalogVersion}`,
        { hint: 'Create the timeline with the major version that wrote the directory.' },
      );
    }
    if (control.blcksz !== BLCKSZ || control.relsegSize !== RELSEG_SIZE) {
      throw new Fault(
        'data-directory',
        `blocks of ${control.blcksz} bytes, ${control.relsegSize} to a file`,
        {
          hint: 'Only the default block and segment sizes are supported.',
        },
      );
    }
    this.control = control;
    this.put(CONTROL_FILE_NAME, bytes.slice(0, CONTROL_KEPT));
  }

  // ---- the end ----------------------------------------------------------------------------------------------

  /** Every file is in. The timeline then stands where the log is to be taken in from. */
  async finish(): Promise<ImportedFiles> {
    const { control, label, writer } = this;
    await this.pgdata.ready();
    if (control === undefined) {
      throw new Fault('data-directory', 'the directory has no global/pg_control', {
        hint: 'Give a data directory, or a tar of one; a tar that broke off has none.',
      });
    }
    const { checkPointCopy: checkpoint, state } = control;
    const start = label === undefined ? checkpoint.redo : parseLsn(label.startLsn);
    if (this.lsn >= start) throw new Fault('data-directory', 'more files than there is log before them');
    for (const init of this.unlogged) this.dropContents(init);
    const prepared: number[] = [];
    for (const [xid, prepare] of this.prepared) {
      const full = fullFromAllowableAt(checkpoint.nextXid, xidFromFull(xid));
      prepared.push(full);
      this.put(twophaseName(full), prepare);
    }
    const wasShutDown =
      label === undefined && (state === DB_SHUTDOWNED || state === DB_SHUTDOWNED_IN_RECOVERY);
    this.put(
      CHECKPOINT_NAME,
      checkpointBytes(this.pgdata.dialect.controlFile, asIngested(checkpoint, prepared)),
    );
    this.put(FULL_PAGE_WRITES_NAME, fullPageWrites(checkpoint.fullPageWrites, start));
    writer.fullPageWrites(checkpoint.fullPageWrites, start);
    this.pgdata.settle(control);
    writer.advance(start, 0);
    await writer.ready();
    return { control, label, start, wasShutDown };
  }

  private dropContents(init: RelFork): void {
    for (const forkNum of [0, 1, 2]) {
      const fork = this.pgdata.directory.find(init.spcOid, init.dbOid, init.relNumber, forkNum);
      if (fork !== undefined) this.pgdata.directory.drop(this.writer, this.lsn, fork);
    }
  }
}

/** As checkpoint-tracker.ts would have it, the checkpoint's record not taken in yet. */
function asIngested(checkpoint: CheckPoint, prepared: readonly number[]): CheckPoint {
  const oldest = xidFromFull(Math.min(checkpoint.nextXid, ...prepared));
  return { ...checkpoint, redo: asLsn(0), oldestActiveXid: checkpoint.oldestActiveXid || oldest };
}

function slruSegmentOfPath(path: string): { kind: SlruKind; segno: number } | undefined {
  const slash = path.lastIndexOf('/');
  const kind = (SLRU_DIRECTORY as readonly string[]).indexOf(path.slice(0, slash));
  const segno = kind < 0 ? undefined : parseSlruSegmentName(path.slice(slash + 1));
  return segno === undefined ? undefined : { kind: kind as SlruKind, segno };
}

function mapName([, global, base, space, spaceDb]: RegExpExecArray): string {
  if (global !== undefined) return relmapName(1664, 0);
  return base !== undefined ? relmapName(1663, Number(base)) : relmapName(Number(space), Number(spaceDb));
}

function fullPageWrites(on: boolean, lsn: number): Uint8Array {
  const bytes = new Uint8Array(9);
  bytes[0] = on ? 1 : 0;
  new DataView(bytes.buffer).setFloat64(1, lsn, true);
  return bytes;
}
