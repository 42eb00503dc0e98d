// Where do records end? A safekeeper reads the WAL it keeps just enough to know: flush positions are record
// boundaries, and after a crash the end of WAL is the end of the last whole record. Every record's length and
// CRC are checked on the way in, so what a proposer or a cable damaged is refused before it is kept.

import { type Fault, isFault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import { dialectOfVersionNumber } from '../xlog/dialects/all.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';

/** Decoded into, looked at by nobody: one for all, since a scan never waits. */
const RECORD = new WalRecord();

export class WalScan {
  private readonly reader: WalReader;
  /** The end of the last whole record that lies within what was taken in. */
  boundary: Lsn;

  /** `start` is a record boundary. */
  constructor(start: Lsn, segmentSize: number, pgVersion: number) {
    const dialect = dialectOfVersionNumber(pgVersion, 'neon');
    this.reader = new WalReader({ start, segmentSize, dialect });
    this.boundary = start;
  }

  /** Take in the next bytes; the boundary then. A Fault of `xlog` if they are no WAL. */
  push(bytes: Uint8Array): Lsn {
    this.reader.push(bytes);
    const { position } = this.reader;
    // A switch record ends at the next segment's start, past padding that may still be to come: it counts when
    // that is here too.
    if (this.reader.recordEnd <= position) this.boundary = this.reader.recordEnd;
    while (this.reader.next(RECORD)) {
      if (this.reader.recordEnd <= position) this.boundary = this.reader.recordEnd;
    }
    return this.boundary;
  }

  /** Past the last byte taken in. */
  get position(): Lsn {
    return this.reader.position;
  }
}

/** Does this say that bytes are no WAL (and not that a disk or a peer failed)? */
export const isBadWal = (error: unknown): error is Fault =>
  isFault(error, 'wal-crc') ||
  isFault(error, 'wal-record') ||
  isFault(error, 'wal-page-header') ||
  isFault(error, 'wal-end');
