// From where on a replayed base is a database cluster: files copied from a running server are of different moments
// until the log has come past the end of the copying.
//
//   backup_label from a primary   the BACKUP_END record that names the backup's start
//   backup_label from a standby   minRecoveryPoint of the copied pg_control
//   no label, stopped in recovery minRecoveryPoint
//   no label                      at once: a cluster shut down, or crashed
//
//   backup_label:  START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
//                  BACKUP METHOD: streamed
//                  BACKUP FROM: primary
//
// Until then pages may be newer than the records to come (whose images restore them: full_page_writes is on while
// a backup runs), and relations may be missing that the log will drop. From there on nothing may be missing.
// Pages are compared all the way, as Postgres compares them.
//
// Mirrors read_backup_label and CheckRecoveryConsistency of xlogrecovery.c.

import { INVALID_LSN, type Lsn, parseLsn, readLsnLE } from '../../base/lsn.ts';
import {
  type ControlFile,
  DB_IN_ARCHIVE_RECOVERY,
  DB_SHUTDOWNED_IN_RECOVERY,
} from '../../xlog/control-file.ts';
import type { WalRecord } from '../../xlog/record.ts';

const RM_XLOG_ID = 0;
const XLOG_BACKUP_END = 0x50;

export interface BackupLabel {
  readonly start: Lsn;
  readonly fromStandby: boolean;
}

export function parseBackupLabel(text: string): BackupLabel | undefined {
  const start = /^START WAL LOCATION: ([0-9A-F]{1,8}\/[0-9A-F]{1,8})/m.exec(text);
  if (start === null) return undefined;
  return { start: parseLsn(start[1]!), fromStandby: /^BACKUP FROM: standby/m.test(text) };
}

export class Consistency {
  /** The end of the record that made it so; undefined while it is not. */
  reached: Lsn | undefined;
  private readonly backupStart: Lsn = INVALID_LSN;
  private readonly minRecoveryPoint: Lsn = INVALID_LSN;

  constructor(label: BackupLabel | undefined, control: ControlFile, start: Lsn) {
    const inRecovery = [DB_SHUTDOWNED_IN_RECOVERY, DB_IN_ARCHIVE_RECOVERY].includes(control.state);
    if (label !== undefined && !label.fromStandby) this.backupStart = label.start;
    else if (label !== undefined || inRecovery) this.minRecoveryPoint = control.minRecoveryPoint;
    if (this.backupStart === INVALID_LSN && this.minRecoveryPoint <= start) this.reached = start;
  }

  /** What is waited for, in words. */
  get awaited(): string {
    return this.backupStart === INVALID_LSN
      ? 'the minimum recovery point of the base'
      : 'the end of the backup';
  }

  /** Look at a record that has been replayed; true when this is the one. */
  reachedBy(record: WalRecord): boolean {
    if (this.reached !== undefined || !this.isEnough(record)) return false;
    this.reached = record.endLsn;
    return true;
  }

  private isEnough(record: WalRecord): boolean {
    if (this.backupStart === INVALID_LSN) return record.endLsn >= this.minRecoveryPoint;
    return (
      record.rmid === RM_XLOG_ID &&
      (record.info & 0xf0) === XLOG_BACKUP_END &&
      record.mainLength >= 8 &&
      readLsnLE(record.view, record.mainOffset) === this.backupStart
    );
  }
}
