// pg_control: the cluster's own account of itself. 8192 bytes of which the first 292 (296 in 18) count:
//
//    0 system_identifier u64     40 checkPointCopy, 88 bytes     172 wal_level i32        208 floatFormat f64
//    8 pg_control_version u32   128 unloggedLSN u64              176 wal_log_hints bool   216 blcksz u32
//   12 catalog_version_no u32   136 minRecoveryPoint u64         180 MaxConnections i32   220 relseg_size u32
//   16 state u32                144 minRecoveryPointTLI u32      184 max_worker_proc. i32 224 xlog_blcksz u32
//   24 time i64                 152 backupStartPoint u64         188 max_wal_senders i32  228 xlog_seg_size u32
//   32 checkPoint u64           160 backupEndPoint u64           192 max_prepared_x. i32  232 nameDataLen u32
//                               168 backupEndRequired bool       196 max_locks_per_x. i32 236 indexMaxKeys u32
//                                                                200 track_commit_ts bool 240 toast_max_chunk u32
//                                                                204 maxAlign u32         244 loblksize u32
//   248 float8ByVal bool | 252 data_checksum_version u32
//   14-17: 256 mock_authentication_nonce, 32 bytes | 288 crc u32
//   18:    256 default_char_signedness bool | 257 mock_authentication_nonce, 32 bytes | 292 crc u32
//
// The CRC-32C covers all that lies before it. Its place follows from pg_control_version, which 14, 15 and 16
// share. A control file is a plain value: edit it by spreading. Mirrors ControlFileData of catalog/pg_control.h
// and get_controlfile/update_controlfile of controldata_utils.c.

import { Fault } from '../base/fault.ts';
import { type Lsn, readLsnLE, writeLsnLE } from '../base/lsn.ts';
import { type CheckPoint, readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { crc32c } from './crc32c.ts';
import type { ControlFileShape } from './dialect.ts';

/** PG_CONTROL_FILE_SIZE and XLOG_CONTROL_FILE */
export const CONTROL_FILE_SIZE = 8192;
export const CONTROL_FILE_PATH = 'global/pg_control';

const CHECKPOINT_COPY = 40;
const NONCE_LENGTH = 32;
const FLOATFORMAT_VALUE = 1234567.0;

export const CONTROL_FILE_1300: ControlFileShape = {
  pgControlVersion: 1300,
  crcOffset: 288,
  checkpointHasWalLevel: false,
  hasCharSignedness: false,
};
export const CONTROL_FILE_1700: ControlFileShape = {
  ...CONTROL_FILE_1300,
  pgControlVersion: 1700,
  checkpointHasWalLevel: true,
};
export const CONTROL_FILE_1800: ControlFileShape = {
  ...CONTROL_FILE_1700,
  pgControlVersion: 1800,
  crcOffset: 292,
  hasCharSignedness: true,
};

const SHAPES = [CONTROL_FILE_1300, CONTROL_FILE_1700, CONTROL_FILE_1800];

/** DBState, by value. */
export const DB_STARTUP = 0;
export const DB_SHUTDOWNED = 1;
export const DB_SHUTDOWNED_IN_RECOVERY = 2;
export const DB_SHUTDOWNING = 3;
export const DB_IN_CRASH_RECOVERY = 4;
export const DB_IN_ARCHIVE_RECOVERY = 5;
export const DB_IN_PRODUCTION = 6;

/** WalLevel, by value. */
export const WAL_LEVEL_MINIMAL = 0;
export const WAL_LEVEL_REPLICA = 1;
export const WAL_LEVEL_LOGICAL = 2;

export interface ControlFile {
  readonly systemIdentifier: bigint;
  readonly pgControlVersion: number;
  readonly catalogVersionNo: number;
  readonly state: number;
  /** Unix seconds of the last update. */
  readonly time: number;
  readonly checkPoint: Lsn;
  readonly checkPointCopy: CheckPoint;
  readonly unloggedLsn: Lsn;
  readonly minRecoveryPoint: Lsn;
  readonly minRecoveryPointTli: number;
  readonly backupStartPoint: Lsn;
  readonly backupEndPoint: Lsn;
  readonly backupEndRequired: boolean;
  readonly walLevel: number;
  readonly walLogHints: boolean;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedXacts: number;
  readonly maxLocksPerXact: number;
  readonly trackCommitTimestamp: boolean;
  readonly maxAlign: number;
  readonly blcksz: number;
  readonly relsegSize: number;
  readonly xlogBlcksz: number;
  readonly xlogSegSize: number;
  readonly nameDataLen: number;
  readonly indexMaxKeys: number;
  readonly toastMaxChunkSize: number;
  readonly loblksize: number;
  readonly float8ByVal: boolean;
  /** 0 when data pages carry no checksums. */
  readonly dataChecksumVersion: number;
  /** 18 and later. */
  readonly defaultCharSignedness?: boolean;
  readonly mockAuthenticationNonce: Uint8Array;
}

/** Where a control file of this version keeps what differs between majors. */
export function controlFileShape(pgControlVersion: number): ControlFileShape {
  const shape = SHAPES.find(s => s.pgControlVersion === pgControlVersion);
  if (shape === undefined) {
    throw new Fault('control-file', `pg_control version ${pgControlVersion} is not known`, {
      hint: `Known versions: ${SHAPES.map(s => s.pgControlVersion).join(', ')} (Postgres 14 to 18).`,
    });
  }
  return shape;
}

/** Whether the CRC in a control file is the one its bytes have. */
export function controlFileCrcHolds(bytes: Uint8Array, shape: ControlFileShape): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return crc32c(bytes, 0, shape.crcOffset) === view.getUint32(shape.crcOffset, true);
}

/** Read and check a control file of any known version. Trailing zeroes may be missing. */
export function readControlFile(bytes: Uint8Array): ControlFile {
  if (bytes.length < 16) throw new Fault('control-file', `pg_control is cut short: ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = controlFileShape(view.getUint32(8, true));
  if (bytes.length < shape.crcOffset + 4) {
    throw new Fault('control-file', `pg_control is cut short: ${bytes.length} bytes`);
  }
  if (!controlFileCrcHolds(bytes, shape)) {
    throw new Fault('control-file', 'incorrect checksum in pg_control', {
      hint: 'The file is damaged, or of a build with another layout.',
    });
  }
  return decode(bytes, view, shape);
}

function decode(bytes: Uint8Array, view: DataView, shape: ControlFileShape): ControlFile {
  const u32 = (at: number): number => view.getUint32(at, true);
  const i32 = (at: number): number => view.getInt32(at, true);
  const bool = (at: number): boolean => view.getUint8(at) !== 0;
  const nonceAt = shape.hasCharSignedness ? 257 : 256;
  return {
    systemIdentifier: view.getBigUint64(0, true),
    pgControlVersion: u32(8),
    catalogVersionNo: u32(12),
    state: u32(16),
    time: Number(view.getBigInt64(24, true)),
    checkPoint: readLsnLE(view, 32),
    checkPointCopy: readCheckpoint(view, CHECKPOINT_COPY, shape),
    unloggedLsn: readLsnLE(view, 128),
    minRecoveryPoint: readLsnLE(view, 136),
    minRecoveryPointTli: u32(144),
    backupStartPoint: readLsnLE(view, 152),
    backupEndPoint: readLsnLE(view, 160),
    backupEndRequired: bool(168),
    walLevel: i32(172),
    walLogHints: bool(176),
    maxConnections: i32(180),
    maxWorkerProcesses: i32(184),
    maxWalSenders: i32(188),
    maxPreparedXacts: i32(192),
    maxLocksPerXact: i32(196),
    trackCommitTimestamp: bool(200),
    maxAlign: u32(204),
    blcksz: u32(216),
    relsegSize: u32(220),
    xlogBlcksz: u32(224),
    xlogSegSize: u32(228),
    nameDataLen: u32(232),
    indexMaxKeys: u32(236),
    toastMaxChunkSize: u32(240),
    loblksize: u32(244),
    float8ByVal: bool(248),
    dataChecksumVersion: u32(252),
    ...(shape.hasCharSignedness ? { defaultCharSignedness: bool(256) } : {}),
    mockAuthenticationNonce: bytes.slice(nonceAt, nonceAt + NONCE_LENGTH),
  };
}

/** The whole file, CRC and all; its version chooses the layout. */
export function writeControlFile(control: ControlFile): Uint8Array {
  const shape = controlFileShape(control.pgControlVersion);
  const bytes = new Uint8Array(CONTROL_FILE_SIZE);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  const bool = (at: number, value: boolean): void => view.setUint8(at, value ? 1 : 0);
  view.setBigUint64(0, control.systemIdentifier, true);
  u32(8, control.pgControlVersion);
  u32(12, control.catalogVersionNo);
  u32(16, control.state);
  view.setBigInt64(24, BigInt(control.time), true);
  writeLsnLE(view, 32, control.checkPoint);
  writeCheckpoint(view, CHECKPOINT_COPY, shape, control.checkPointCopy);
  writeLsnLE(view, 128, control.unloggedLsn);
  writeLsnLE(view, 136, control.minRecoveryPoint);
  u32(144, control.minRecoveryPointTli);
  writeLsnLE(view, 152, control.backupStartPoint);
  writeLsnLE(view, 160, control.backupEndPoint);
  bool(168, control.backupEndRequired);
  u32(172, control.walLevel);
  bool(176, control.walLogHints);
  u32(180, control.maxConnections);
  u32(184, control.maxWorkerProcesses);
  u32(188, control.maxWalSenders);
  u32(192, control.maxPreparedXacts);
  u32(196, control.maxLocksPerXact);
  bool(200, control.trackCommitTimestamp);
  u32(204, control.maxAlign);
  view.setFloat64(208, FLOATFORMAT_VALUE, true);
  u32(216, control.blcksz);
  u32(220, control.relsegSize);
  u32(224, control.xlogBlcksz);
  u32(228, control.xlogSegSize);
  u32(232, control.nameDataLen);
  u32(236, control.indexMaxKeys);
  u32(240, control.toastMaxChunkSize);
  u32(244, control.loblksize);
  bool(248, control.float8ByVal);
  u32(252, control.dataChecksumVersion);
  if (shape.hasCharSignedness) bool(256, control.defaultCharSignedness ?? true);
  bytes.set(control.mockAuthenticationNonce.subarray(0, NONCE_LENGTH), shape.hasCharSignedness ? 257 : 256);
  u32(shape.crcOffset, crc32c(bytes, 0, shape.crcOffset));
  return bytes;
}
