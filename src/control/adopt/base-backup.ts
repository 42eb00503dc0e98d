// BASE_BACKUP of the replication protocol: a copy of a running server's data directory with the log that makes it whole,
// as one tar, while the server works.
//
//   rows: start LSN, timeline | rows: per tablespace  oid, location, kB | COPY OUT: tar per tablespace | rows: end LSN
//
// Without TARGET all majors answer in this way, the data directory's own tablespace with oid and location NULL. A
// cluster with other tablespaces is refused before anything is copied: storage keeps one data directory.
//
// Answers to src/backend/backup/basebackup.c and basebackup_copy.c (bbsink_copytblspc).

import { Fault } from '../../base/fault.ts';
import type { PqClient } from '../../protocol/pq-client.ts';

/** The last version without options in brackets. */
const MAJOR_LEGACY = 14;
const KIB = 1024;

const commandFor = (major: number): string =>
  major <= MAJOR_LEGACY
    ? "BASE_BACKUP LABEL 'lakebed' PROGRESS FAST WAL NOWAIT"
    : "BASE_BACKUP (LABEL 'lakebed', PROGRESS true, CHECKPOINT 'fast', WAL true, WAIT false, MANIFEST 'no')";

/** The tar, piece by piece; `onProgress` is told its size as far as it can be estimated. */
export async function* baseBackup(
  client: PqClient,
  major: number,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let results = 0;
  let copies = 0;
  let done = 0;
  let total = 0;
  for await (const part of client.mixedOut(commandFor(major))) {
    if (part.kind === 'rows') results++;
    else if (part.kind === 'copy') copies++;
    else if (part.kind === 'row' && results === 2) total += tablespaceBytes(part.row);
    else if (part.kind === 'data' && copies === 1) {
      done += part.bytes.length;
      onProgress(done, Math.max(total, done));
      yield part.bytes;
    }
  }
  if (copies === 0) throw new Fault('protocol-violation', 'the origin sent no base backup');
}

function tablespaceBytes([oid, location, size]: readonly (string | null)[]): number {
  if (oid == null) return Number(size ?? 0) * KIB;
  throw new Fault('origin-unfit', `the origin has a tablespace at ${location}`, {
    hint: 'Move what is in it (ALTER DATABASE|TABLE|INDEX ... SET TABLESPACE pg_default) and drop it.',
  });
}
