// A data directory at one LSN, as a tar archive piece by piece: what a compute starts from (base backup), or a
// stock Postgres (full backup).
//
//   directories | config files | SLRU segments | per database: its directory, version, map, relations |
//   files of logical messages | restart.lsn | two-phase states | replication origins | neon.signal, zenith.signal |
//   global/pg_control, nearly last: an archive that broke off does not start | pg_wal/<segment>
//
// A base backup holds no relations but the init forks of unlogged ones, each under its own name and under the main
// fork's: the compute asks for pages. A full backup holds every fork, in segments of 1 GiB.
//
//   the segment, base backup:  | long header | zeros ... | page of LSN: header with a gap up to LSN | zeros
//               full backup:   the same, and at LSN a shutdown checkpoint's record: a stock server wants to find the
//                              checkpoint that pg_control names, and goes on behind it
//
// The archive is made as it is taken: whoever reads slowly holds up nothing but itself.
//
// Answers to basebackup.rs of Neon's pageserver (which keeps no pg_commit_ts) and, for what a stock server checks, to
// xlogrecovery.c.

import { Fault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import { INIT_FORKNUM, MAIN_FORKNUM, relPath, SLRU_COMMIT_TS, type SlruKind } from '../base/rel.ts';
import { tarEnd, tarHeader, tarPadding } from '../base/tar.ts';
import { type CheckPoint, checkpointBytes, readCheckpoint } from '../xlog/checkpoint.ts';
import {
  CONTROL_FILE_PATH,
  type ControlFile,
  readControlFile,
  writeControlFile,
} from '../xlog/control-file.ts';
import { BLCKSZ } from '../xlog/page.ts';
import { segmentFileName, segmentOf, segmentPrefix, segmentStart } from '../xlog/segment.ts';
import { slruSegmentPath } from '../xlog/slru.ts';
import { TWOPHASE_DIR, twophaseFile, twophaseFileName } from '../xlog/twophase.ts';
import { WalWriter } from '../xlog/writer.ts';
import {
  baseBackupControl,
  fullBackupControl,
  nextRecordStart,
  readParameters,
  shutdownCheckpoint,
} from './backup-control.ts';
import {
  configFiles,
  databaseFiles,
  databasePath,
  directoriesOf,
  minRestartLsn,
  REPLORIGIN_FILE,
  signalText,
  writeReplorigins,
} from './backup-files.ts';
import {
  CHECKPOINT_NAME,
  CONTROL_FILE_NAME,
  FILE_PREFIX,
  ORIGIN_PREFIX,
  PARAMETERS_NAME,
  parseOriginName,
  parseRelmapName,
  parseTwophaseName,
  RELMAP_PREFIX,
  relmapName,
  TWOPHASE_PREFIX,
} from './names.ts';
import { noSuchName, type PgData } from './pgdata.ts';
import type { RelationAt, Snapshot } from './snapshot.ts';

const RM_XLOG_ID = 0;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
/** Neon's computes write on timeline 1, and a restored cluster begins there anew. */
const TIMELINE_ID = 1;
/** Pages read at a time. */
const BATCH = 128;
const ZEROS = new Uint8Array(256 * 1024);
const PGSTAT_FILE = 'pg_stat/pgstat.stat';

export interface BackupOptions {
  readonly lsn: number;
  /** The record before, if the caller knows it; it must be the one that we know. */
  readonly prevLsn?: number | undefined;
  readonly full: boolean;
  /** For a read replica: without replication slots. */
  readonly replica: boolean;
  /** Leave SLRUs out; the compute asks for them. */
  readonly lazySlruDownload?: boolean;
  /** For the archive's headers and a full backup's checkpoint. */
  readonly nowMs: number;
}

export async function* backupArchive(pgdata: PgData, options: BackupOptions): AsyncGenerator<Uint8Array> {
  yield* new Backup(pgdata, options, await pgdata.snapshot(options.lsn)).archive();
}

class Backup {
  private readonly pgdata: PgData;
  private readonly options: BackupOptions;
  private readonly snapshot: Snapshot;
  private readonly control: ControlFile;
  private readonly checkpoint: CheckPoint;

  constructor(pgdata: PgData, options: BackupOptions, snapshot: Snapshot) {
    this.pgdata = pgdata;
    this.options = options;
    this.snapshot = snapshot;
    this.control = readControlFile(this.named(CONTROL_FILE_NAME));
    const bytes = this.named(CHECKPOINT_NAME);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.checkpoint = readCheckpoint(view, 0, pgdata.dialect.controlFile);
  }

  private named(name: string): Uint8Array {
    const bytes = this.snapshot.names.get(name);
    if (bytes === undefined) throw noSuchName(name, this.options.lsn);
    return bytes;
  }

  async *archive(): AsyncGenerator<Uint8Array> {
    const { full } = this.options;
    const { dialect } = this.pgdata;
    // Before anything is sent: what cannot be answered is refused as a whole.
    const prevLsn = this.prevLsn();
    const databases = this.databases();
    for (const directory of directoriesOf(dialect)) yield this.directory(directory);
    for (const [path, contents] of configFiles(full, this.control.xlogSegSize))
      yield* this.file(path, contents);
    yield* this.slrus();
    for (const [spcOid, dbOid] of databases) yield* this.database(spcOid, dbOid);
    yield* this.auxFiles();
    yield* this.twophase();
    yield* this.origins();
    const signal = signalText(prevLsn, this.options.lsn === this.pgdata.timeline.ancestorLsn);
    yield* this.file('neon.signal', signal);
    yield* this.file('zenith.signal', signal);
    const at = nextRecordStart(this.options.lsn, this.control.xlogSegSize);
    if (full) yield* this.fullEnd(at, prevLsn);
    else yield* this.baseEnd(at);
    yield tarEnd();
  }

  /** The record before, known where the timeline ends; 0 where it is not. */
  private prevLsn(): number {
    const { lsn, prevLsn: given } = this.options;
    const { lastRecordLsn, prevRecordLsn } = this.pgdata.timeline;
    const known = lsn === lastRecordLsn ? prevRecordLsn : 0;
    if (given !== undefined && known !== 0 && given !== known) {
      throw new Fault('lsn-invalid', 'the record before is another than the one given as prev_lsn');
    }
    return given ?? known;
  }

  // ---- entries ----------------------------------------------------------------------------------------------

  private directory(path: string): Uint8Array {
    return tarHeader(path, 0, { mtimeMs: this.options.nowMs, directory: true });
  }

  private header(path: string, size: number): Uint8Array {
    return tarHeader(path, size, { mtimeMs: this.options.nowMs });
  }

  private *file(path: string, contents: Uint8Array): Generator<Uint8Array> {
    yield this.header(path, contents.length);
    if (contents.length === 0) return;
    yield contents;
    yield tarPadding(contents.length);
  }

  private async *slrus(): AsyncGenerator<Uint8Array> {
    const { full, lazySlruDownload, lsn } = this.options;
    for (const [kind, segments] of this.snapshot.slrus.entries()) {
      if (lazySlruDownload && !full && kind !== SLRU_COMMIT_TS) continue;
      for (const [segno, pages] of [...segments].sort(([a], [b]) => a - b)) {
        const contents = await this.pgdata.slruPages(kind as SlruKind, segno, pages, lsn);
        yield* this.file(slruSegmentPath(kind as SlruKind, segno), contents);
      }
    }
  }

  // ---- databases --------------------------------------------------------------------------------------------

  /** Tablespace and database, in order. */
  private databases(): [spcOid: number, dbOid: number][] {
    const found = new Map<string, [number, number]>();
    for (const name of this.snapshot.names.keys()) {
      if (name.startsWith(RELMAP_PREFIX)) found.set(name, parseRelmapName(name));
    }
    for (const { spcOid, dbOid } of this.snapshot.relations)
      found.set(relmapName(spcOid, dbOid), [spcOid, dbOid]);
    for (const [spcOid, dbOid] of found.values()) {
      if (databasePath(spcOid, dbOid) !== undefined) continue;
      throw new Fault('wal-unsupported', `database ${dbOid} has relations in tablespace ${spcOid}`, {
        hint: 'Move them to the default tablespace: a backup holds the data directory alone.',
      });
    }
    return [...found.values()].sort(([spcA, dbA], [spcB, dbB]) => spcA - spcB || dbA - dbB);
  }

  private async *database(spcOid: number, dbOid: number): AsyncGenerator<Uint8Array> {
    const home = databasePath(spcOid, dbOid)!;
    if (home !== 'global' && home !== 'base/1') yield this.directory(home);
    const relmap = this.snapshot.names.get(relmapName(spcOid, dbOid));
    if (relmap !== undefined) {
      for (const [path, contents] of databaseFiles(this.pgdata.dialect, spcOid, dbOid, relmap)) {
        yield* this.file(path, contents);
      }
    }
    const forks = this.snapshot.relations
      .filter(r => r.spcOid === spcOid && r.dbOid === dbOid)
      .sort((a, b) => a.relNumber - b.relNumber || a.forkNum - b.forkNum);
    const unlogged = new Set(forks.filter(r => r.forkNum === INIT_FORKNUM).map(r => r.relNumber));
    for (const fork of forks) {
      if (fork.forkNum === INIT_FORKNUM) {
        yield* this.relation(fork, INIT_FORKNUM);
        yield* this.relation(fork, MAIN_FORKNUM);
      } else if (this.options.full && !unlogged.has(fork.relNumber)) {
        yield* this.relation(fork, fork.forkNum);
      }
    }
  }

  /** A fork's segment files, under the name of `forkNum`. */
  private async *relation(fork: RelationAt, forkNum: number): AsyncGenerator<Uint8Array> {
    const nblocks = this.snapshot.sizes.get(fork.id)?.nblocks ?? 0;
    const path = relPath({ ...fork, forkNum });
    const { relsegSize } = this.control;
    for (let segno = 0, first = 0; first < nblocks || segno === 0; segno++, first += relsegSize) {
      const end = Math.min(first + relsegSize, nblocks);
      yield this.header(segno === 0 ? path : `${path}.${segno}`, (end - first) * BLCKSZ);
      for (let blk = first; blk < end; blk += BATCH) {
        yield await this.pgdata.blocks(fork.id, blk, Math.min(BATCH, end - blk), this.options.lsn);
      }
    }
  }

  // ---- files found by name ----------------------------------------------------------------------------------

  private list(prefix: string): [name: string, contents: Uint8Array][] {
    return [...this.snapshot.names]
      .filter(([name]) => name.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }

  private *auxFiles(): Generator<Uint8Array> {
    const { lsn, replica } = this.options;
    const wasShutDown = this.checkpoint.redo === lsn;
    const files = this.list(FILE_PREFIX)
      .map(([name, contents]) => [name.slice(FILE_PREFIX.length), contents] as const)
      .filter(([path]) => path !== REPLORIGIN_FILE)
      .filter(([path]) => !(replica && path.startsWith('pg_replslot/')))
      .filter(([path]) => path !== PGSTAT_FILE || wasShutDown);
    for (const [path, contents] of files) yield* this.file(path, contents);
    const restartLsn = minRestartLsn(files);
    if (restartLsn === undefined) return;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, restartLsn, true);
    yield* this.file('restart.lsn', bytes);
  }

  private *twophase(): Generator<Uint8Array> {
    for (const [name, prepare] of this.list(TWOPHASE_PREFIX)) {
      const file = twophaseFileName(parseTwophaseName(name), this.pgdata.dialect);
      yield* this.file(`${TWOPHASE_DIR}/${file}`, twophaseFile(prepare));
    }
  }

  private *origins(): Generator<Uint8Array> {
    const origins = new Map<number, bigint>();
    for (const [name, lsn] of this.list(ORIGIN_PREFIX)) {
      origins.set(parseOriginName(name), new DataView(lsn.buffer, lsn.byteOffset).getBigUint64(0, true));
    }
    if (origins.size > 0) yield* this.file(REPLORIGIN_FILE, writeReplorigins(origins));
  }

  // ---- the end ----------------------------------------------------------------------------------------------

  private log(): Parameters<typeof segmentPrefix>[0] {
    return {
      magic: this.pgdata.dialect.xlogPageMagic,
      tli: TIMELINE_ID,
      sysid: this.control.systemIdentifier,
      segmentSize: this.control.xlogSegSize,
    };
  }

  private *baseEnd(at: Lsn): Generator<Uint8Array> {
    const control = baseBackupControl(this.control, this.checkpoint, this.options.lsn);
    yield* this.file(CONTROL_FILE_PATH, writeControlFile(control));
    yield* this.segments(at, segmentPrefix(this.log(), at));
  }

  private *fullEnd(at: Lsn, prevLsn: number): Generator<Uint8Array> {
    const { dialect } = this.pgdata;
    const parameters = this.snapshot.names.get(PARAMETERS_NAME);
    const checkpoint = shutdownCheckpoint(this.checkpoint, at, Math.floor(this.options.nowMs / 1000));
    const known = parameters === undefined ? undefined : readParameters(parameters);
    const control = fullBackupControl(this.control, checkpoint, known);
    yield* this.file(CONTROL_FILE_PATH, writeControlFile(control));
    const writer = new WalWriter({
      start: at,
      dialect,
      prev: prevLsn as Lsn,
      segmentSize: control.xlogSegSize,
      systemId: control.systemIdentifier,
      timelineId: TIMELINE_ID,
    });
    const main = checkpointBytes(dialect.controlFile, checkpoint);
    writer.append({ rmid: RM_XLOG_ID, info: XLOG_CHECKPOINT_SHUTDOWN, main });
    const before = segmentPrefix(this.log(), at).subarray(0, at % control.xlogSegSize);
    const record = writer.take();
    const bytes = new Uint8Array(before.length + record.length);
    bytes.set(before);
    bytes.set(record, before.length);
    yield* this.segments(at, bytes);
  }

  /** Segment files from the one of `lsn` on, of these bytes and zeros. */
  private *segments(lsn: Lsn, bytes: Uint8Array): Generator<Uint8Array> {
    const { xlogSegSize: size } = this.control;
    const first = segmentOf(lsn, size);
    for (let segno = first; segmentStart(segno - first, size) < bytes.length; segno++) {
      const from = segmentStart(segno - first, size);
      const part = bytes.subarray(from, from + size);
      yield this.header(`pg_wal/${segmentFileName(TIMELINE_ID, segno, size)}`, size);
      if (part.length > 0) yield part;
      for (let left = size - part.length; left > 0; left -= ZEROS.length) {
        yield left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS;
      }
    }
  }
}
