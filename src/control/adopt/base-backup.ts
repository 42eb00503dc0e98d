// BASE_BACKUP of the replication protocol: a copy of a running server's data directory with the log that makes it whole,
// as one tar, while the server works.
//
//   rows: start LSN, timeline | rows: per tablespace  oid, location, kB | COPY OUT | rows: end LSN, timeline
//
//   COPY OUT of 14       the tar, as it is
//            15 and up   messages: 'n' name, location: an archive begins | 'd' a piece of it | 'p' u64: progress
//
// The data directory's own tablespace has oid and location NULL. A cluster with others is refused before anything is
// copied: storage keeps one data directory.
//
// Answers to src/backend/backup/basebackup.c and basebackup_copy.c (in 14 src/backend/replication/basebackup.c).

import { Fault } from '../../base/fault.ts';
import type { PqClient } from '../../protocol/pq-client.ts';

/** The last version without options in brackets. */
const MAJOR_LEGACY = 14;
const KIB = 1024;

/** BASE_BACKUP's own limits of MAX_RATE, in kB/s. */
export const MAX_RATE = { lower: 32, upper: 1_048_576 } as const;

export interface BackupOptions {
  readonly major: number;
  readonly maxRateKbPerSecond: number | undefined;
}

function commandFor({ major, maxRateKbPerSecond: rate }: BackupOptions): string {
  if (major <= MAJOR_LEGACY) {
    return `BASE_BACKUP LABEL 'lakebed' PROGRESS FAST WAL NOWAIT${rate === undefined ? '' : ` MAX_RATE ${rate}`}`;
  }
  const options = [
    "LABEL 'lakebed'",
    'PROGRESS true',
    "CHECKPOINT 'fast'",
    'WAL true',
    'WAIT false',
    "MANIFEST 'no'",
  ];
  if (rate !== undefined) options.push(`MAX_RATE ${rate}`);
  return `BASE_BACKUP (${options.join(', ')})`;
}

/** The tar, piece by piece; `onProgress` is told its size as far as it can be estimated. */
export async function* baseBackup(
  client: PqClient,
  options: BackupOptions,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const pieceOf = options.major <= MAJOR_LEGACY ? (bytes: Uint8Array) => bytes : archivePiece;
  let results = 0;
  let done = 0;
  let total = 0;
  for await (const part of client.mixedOut(commandFor(options))) {
    if (part.kind === 'rows') results++;
    else if (part.kind === 'row' && results === 2) total += tablespaceBytes(part.row);
    else if (part.kind === 'data') {
      const bytes = pieceOf(part.bytes);
      done += bytes.length;
      onProgress(done, Math.max(total, done));
      yield bytes;
    }
  }
  if (done === 0) throw new Fault('protocol-violation', 'the origin sent no base backup');
}

const ARCHIVE_DATA = 0x64; // 'd'; of the others there is nothing to keep, with one archive and no manifest

const archivePiece = (message: Uint8Array): Uint8Array =>
  message[0] === ARCHIVE_DATA ? message.subarray(1) : new Uint8Array(0);

function tablespaceBytes([oid, location, size]: readonly (string | null)[]): number {
  if (oid == null) return Number(size ?? 0) * KIB;
  throw new Fault('origin-unfit', `the origin has a tablespace at ${location}`, {
    hint: 'Move what is in it (ALTER DATABASE|TABLE|INDEX ... SET TABLESPACE pg_default) and drop it.',
  });
}
