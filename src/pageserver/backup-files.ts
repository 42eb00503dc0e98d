// What lies in a data directory besides the data: directories and small files of a backup, as initdb makes them.
//
// Answers to PGDATA_SUBDIRS and PGDATA_SPECIAL_FILES of Neon's postgres_ffi, and to initdb.c.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN } from '../base/lsn.ts';
import { DEFAULTTABLESPACE_OID, GLOBALTABLESPACE_OID } from '../base/rel.ts';
import { crc32c } from '../xlog/crc32c.ts';
import type { Dialect } from '../xlog/dialect.ts';
import { RELMAPPER_FILENAME } from '../xlog/relmap.ts';
import { DEFAULT_SEGMENT_SIZE } from '../xlog/segment.ts';

const DIRECTORIES = [
  'global',
  'pg_wal/archive_status',
  'pg_commit_ts',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_subtrans',
  'pg_twophase',
  'pg_multixact',
  'pg_multixact/members',
  'pg_multixact/offsets',
  'base',
  'base/1',
  'pg_replslot',
  'pg_tblspc',
  'pg_stat',
  'pg_stat_tmp',
  'pg_xact',
  'pg_logical',
  'pg_logical/snapshots',
  'pg_logical/mappings',
];

/** 17 and later keep WAL summaries. */
export function directoriesOf(dialect: Dialect): string[] {
  const directories = [...DIRECTORIES];
  if (dialect.major >= 17) directories.splice(2, 0, 'pg_wal/summaries');
  return directories;
}

const PG_HBA = `# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             all                                     trust
host    all             all             127.0.0.1/32            trust
host    all             all             ::1/128                 trust
local   replication     all                                     trust
host    replication     all             127.0.0.1/32            trust
host    replication     all             ::1/128                 trust
`;

/** Files that are always there. A compute brings its own postgresql.conf; a stock server does not start without. */
export function configFiles(full: boolean, walSegmentSize: number): [path: string, contents: Uint8Array][] {
  const empty = new Uint8Array(0);
  const files: [string, Uint8Array][] = [
    ['pg_hba.conf', utf8(PG_HBA)],
    ['pg_ident.conf', empty],
    ['postgresql.auto.conf', empty],
  ];
  if (full) files.push(['postgresql.conf', utf8(settingsText(walSegmentSize))]);
  return files;
}

/** With other segments the log's limits have other defaults (DEFAULT_MIN_WAL_SEGS): a server insists on two segments. */
function settingsText(walSegmentSize: number): string {
  if (walSegmentSize === DEFAULT_SEGMENT_SIZE) return '# Everything at its default.\n';
  const megabytes = walSegmentSize / (1024 * 1024);
  return `min_wal_size = ${5 * megabytes}MB\nmax_wal_size = ${64 * megabytes}MB\n`;
}

/** Where a database lies; undefined for a tablespace outside the data directory. */
export function databasePath(spcOid: number, dbOid: number): string | undefined {
  if (spcOid === GLOBALTABLESPACE_OID) return 'global';
  return spcOid === DEFAULTTABLESPACE_OID ? `base/${dbOid}` : undefined;
}

/** The version file and the map of a database, by their paths. */
export function databaseFiles(
  dialect: Dialect,
  spcOid: number,
  dbOid: number,
  relmap: Uint8Array,
): [path: string, contents: Uint8Array][] {
  if (relmap.length !== dialect.relmapFileSize) {
    throw new Fault(
      'relmap-file',
      `the map of database ${dbOid} is ${relmap.length} bytes, not ${dialect.relmapFileSize}`,
    );
  }
  const home = databasePath(spcOid, dbOid)!;
  const version = home === 'global' ? 'PG_VERSION' : `${home}/PG_VERSION`;
  return [
    [version, utf8(dialect.versionText)],
    [`${home}/${RELMAPPER_FILENAME}`, relmap],
  ];
}

/**
 * neon.signal: what xl_prev the first record gets. `invalid` lets the compute only read, `none` stands where a
 * branch begins, for which there is no record before.
 */
export function signalText(prevLsn: number, isBranchPoint: boolean): Uint8Array {
  const prev = prevLsn !== INVALID_LSN ? formatLsn(prevLsn) : isBranchPoint ? 'none' : 'invalid';
  return utf8(`PREV LSN: ${prev}`);
}

// ---- pg_logical/replorigin_checkpoint ---------------------------------------------------------------------------
//
//   0  magic u32 0x1257DADE | 4 states: { id u16 | 6 padding | remote LSN u64 } ... | crc u32 of all before
//
// CheckPointReplicationOrigin and StartupReplicationOrigin of origin.c.

export const REPLORIGIN_FILE = 'pg_logical/replorigin_checkpoint';
const REPLORIGIN_MAGIC = 0x1257dade;
const REPLORIGIN_STATE_SIZE = 16;

export function writeReplorigins(origins: ReadonlyMap<number, bigint>): Uint8Array {
  const bytes = new Uint8Array(4 + origins.size * REPLORIGIN_STATE_SIZE + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, REPLORIGIN_MAGIC, true);
  let at = 4;
  for (const [id, remoteLsn] of origins) {
    view.setUint16(at, id, true);
    view.setBigUint64(at + 8, remoteLsn, true);
    at += REPLORIGIN_STATE_SIZE;
  }
  view.setUint32(at, crc32c(bytes, 0, at), true);
  return bytes;
}

export function readReplorigins(bytes: Uint8Array): Map<number, bigint> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const crcAt = bytes.length - 4;
  const sound =
    crcAt >= 4 &&
    (crcAt - 4) % REPLORIGIN_STATE_SIZE === 0 &&
    view.getUint32(0, true) === REPLORIGIN_MAGIC &&
    view.getUint32(crcAt, true) === crc32c(bytes, 0, crcAt);
  if (!sound) throw new Fault('data-directory', `${REPLORIGIN_FILE} is damaged`);
  const origins = new Map<number, bigint>();
  for (let at = 4; at < crcAt; at += REPLORIGIN_STATE_SIZE) {
    origins.set(view.getUint16(at, true), view.getBigUint64(at + 8, true));
  }
  return origins;
}

// ---- replication slots ------------------------------------------------------------------------------------------

const SLOT_STATE = /^pg_replslot\/[^/]+\/state$/;
/** ReplicationSlotOnDisk: magic, checksum, version, length, then the slot; its restart_lsn. */
const SLOT_RESTART_LSN = 96;

/** The lowest restart_lsn of the slots among these files: the log is needed from there on. */
export function minRestartLsn(
  files: Iterable<readonly [path: string, contents: Uint8Array]>,
): bigint | undefined {
  let lowest: bigint | undefined;
  for (const [path, contents] of files) {
    if (!SLOT_STATE.test(path) || contents.length < SLOT_RESTART_LSN + 8) continue;
    const view = new DataView(contents.buffer, contents.byteOffset, contents.byteLength);
    const restart = view.getBigUint64(SLOT_RESTART_LSN, true);
    if (lowest === undefined || restart < lowest) lowest = restart;
  }
  return lowest;
}

/** What backup_label says: where recovery of the backup begins, and whose it is. */
export interface BackupLabel {
  readonly startLsn: string;
  readonly timelineId: number | undefined;
  readonly fromStandby: boolean;
}

export function readBackupLabel(bytes: Uint8Array): BackupLabel {
  const text = fromUtf8(bytes);
  const start = /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+)/m.exec(text);
  if (!start) throw new Fault('data-directory', 'backup_label does not say where the backup begins');
  const tli = /^START TIMELINE: (\d+)/m.exec(text);
  return {
    startLsn: start[1]!,
    timelineId: tli ? Number(tli[1]) : undefined,
    fromStandby: /^BACKUP FROM: standby/m.test(text),
  };
}
