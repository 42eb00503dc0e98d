// A control file in words, line for line as pg_controldata prints it (C locale, UTC).
//
// Answers to src/bin/pg_controldata/pg_controldata.c. 18 adds the line on char signedness; nothing else differs
// between the majors.

import { toHex } from '../base/bytes.ts';
import { formatLsn } from '../base/lsn.ts';
import { epochFromFull, xidFromFull } from './checkpoint.ts';
import type { ControlFile } from './control-file.ts';
import { segmentFileName, segmentOf } from './segment.ts';

/** dbState of pg_controldata, by DBState. */
export const DB_STATE_NAMES = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
] as const;

export const WAL_LEVEL_NAMES = ['minimal', 'replica', 'logical'] as const;

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

/** strftime's %c in the C locale. */
function formatTime(unixSeconds: number): string {
  const t = new Date(unixSeconds * 1000);
  const two = (n: number): string => String(n).padStart(2, '0');
  const clock = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())}`;
  const day = String(t.getUTCDate()).padStart(2, ' ');
  return `${DAYS[t.getUTCDay()]} ${MONTHS[t.getUTCMonth()]} ${day} ${clock} ${t.getUTCFullYear()}`;
}

const onOff = (on: boolean): string => (on ? 'on' : 'off');

/** Labels, with their colon, and values. */
export function controlFileLines(control: ControlFile): readonly (readonly [string, string])[] {
  const checkpoint = control.checkPointCopy;
  const last = "Latest checkpoint's";
  const redoSegment = segmentOf(checkpoint.redo, control.xlogSegSize);
  const nextXid = `${epochFromFull(checkpoint.nextXid)}:${xidFromFull(checkpoint.nextXid)}`;
  const signedness = control.defaultCharSignedness;
  return [
    ['pg_control version number:', `${control.pgControlVersion}`],
    ['Catalog version number:', `${control.catalogVersionNo}`],
    ['Database system identifier:', `${control.systemIdentifier}`],
    ['Database cluster state:', DB_STATE_NAMES[control.state] ?? 'unrecognized status code'],
    ['pg_control last modified:', formatTime(control.time)],
    ['Latest checkpoint location:', formatLsn(control.checkPoint)],
    [`${last} REDO location:`, formatLsn(checkpoint.redo)],
    [`${last} REDO WAL file:`, segmentFileName(checkpoint.thisTimeLineId, redoSegment, control.xlogSegSize)],
    [`${last} TimeLineID:`, `${checkpoint.thisTimeLineId}`],
    [`${last} PrevTimeLineID:`, `${checkpoint.prevTimeLineId}`],
    [`${last} full_page_writes:`, onOff(checkpoint.fullPageWrites)],
    [`${last} NextXID:`, nextXid],
    [`${last} NextOID:`, `${checkpoint.nextOid}`],
    [`${last} NextMultiXactId:`, `${checkpoint.nextMulti}`],
    [`${last} NextMultiOffset:`, `${checkpoint.nextMultiOffset}`],
    [`${last} oldestXID:`, `${checkpoint.oldestXid}`],
    [`${last} oldestXID's DB:`, `${checkpoint.oldestXidDb}`],
    [`${last} oldestActiveXID:`, `${checkpoint.oldestActiveXid}`],
    [`${last} oldestMultiXid:`, `${checkpoint.oldestMulti}`],
    [`${last} oldestMulti's DB:`, `${checkpoint.oldestMultiDb}`],
    [`${last} oldestCommitTsXid:`, `${checkpoint.oldestCommitTsXid}`],
    [`${last} newestCommitTsXid:`, `${checkpoint.newestCommitTsXid}`],
    ['Time of latest checkpoint:', formatTime(checkpoint.time)],
    ['Fake LSN counter for unlogged rels:', formatLsn(control.unloggedLsn)],
    ['Minimum recovery ending location:', formatLsn(control.minRecoveryPoint)],
    ["Min recovery ending loc's timeline:", `${control.minRecoveryPointTli}`],
    ['Backup start location:', formatLsn(control.backupStartPoint)],
    ['Backup end location:', formatLsn(control.backupEndPoint)],
    ['End-of-backup record required:', control.backupEndRequired ? 'yes' : 'no'],
    ['wal_level setting:', WAL_LEVEL_NAMES[control.walLevel] ?? 'unrecognized wal_level'],
    ['wal_log_hints setting:', onOff(control.walLogHints)],
    ['max_connections setting:', `${control.maxConnections}`],
    ['max_worker_processes setting:', `${control.maxWorkerProcesses}`],
    ['max_wal_senders setting:', `${control.maxWalSenders}`],
    ['max_prepared_xacts setting:', `${control.maxPreparedXacts}`],
    ['max_locks_per_xact setting:', `${control.maxLocksPerXact}`],
    ['track_commit_timestamp setting:', onOff(control.trackCommitTimestamp)],
    ['Maximum data alignment:', `${control.maxAlign}`],
    ['Database block size:', `${control.blcksz}`],
    ['Blocks per segment of large relation:', `${control.relsegSize}`],
    ['WAL block size:', `${control.xlogBlcksz}`],
    ['Bytes per WAL segment:', `${control.xlogSegSize}`],
    ['Maximum length of identifiers:', `${control.nameDataLen}`],
    ['Maximum columns in an index:', `${control.indexMaxKeys}`],
    ['Maximum size of a TOAST chunk:', `${control.toastMaxChunkSize}`],
    ['Size of a large-object chunk:', `${control.loblksize}`],
    ['Date/time type storage:', '64-bit integers'],
    ['Float8 argument passing:', control.float8ByVal ? 'by value' : 'by reference'],
    ['Data page checksum version:', `${control.dataChecksumVersion}`],
    ...(signedness === undefined
      ? []
      : [['Default char data signedness:', signedness ? 'signed' : 'unsigned'] as const]),
    ['Mock authentication nonce:', toHex(control.mockAuthenticationNonce)],
  ];
}

const LABEL_WIDTH = 38;

/** As pg_controldata prints it. */
export const controlFileText = (control: ControlFile): string =>
  controlFileLines(control)
    .map(([label, value]) => `${label.padEnd(LABEL_WIDTH)}${value}\n`)
    .join('');
