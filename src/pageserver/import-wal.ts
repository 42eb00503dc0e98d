// Log that somebody brings in a tar, segment after segment, for a timeline that has no safekeepers: taken in from where
// the timeline stands, to where it is said to end.
//
// Answers to import_wal_from_tar of pageserver/src/import_datadir.rs.

import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { readTar } from '../base/tar.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';
import type { TenantTimeline } from './tenant-timeline.ts';

const PIECE_BYTES = 1024 * 1024;
const SEGMENT = /(?:^|\/)[0-9A-F]{24}(?:\.partial)?$/;

export interface WalImport {
  /** Where the timeline stands. */
  readonly start: Lsn;
  readonly end: Lsn;
  readonly tar: AsyncIterable<Uint8Array>;
}

export async function importWal(timeline: TenantTimeline, { start, end, tar }: WalImport): Promise<void> {
  const { lastRecordLsn } = timeline.timeline;
  if (start !== lastRecordLsn) {
    throw new Fault(
      'config-invalid',
      `the log begins at ${formatLsn(start)}, the timeline stands at ${formatLsn(lastRecordLsn)}`,
      { hint: 'Give start_lsn as last_record_lsn of the timeline.' },
    );
  }
  const ingest = await timeline.openIngest();
  const { dialect, walSegmentSize: segmentSize } = timeline.pgdata;
  const reader = new WalReader({ start, dialect, segmentSize, checkPrev: true });
  const record = new WalRecord();
  let skip = start % segmentSize;
  for await (const { name, bytes, offset, size, isDirectory } of readTar(
    tar,
    path => SEGMENT.test(path),
    PIECE_BYTES,
  )) {
    if (isDirectory || bytes.length === 0 || !SEGMENT.test(name)) continue;
    // The first segment holds what is before the start, too.
    const from = Math.min(bytes.length, Math.max(0, skip - offset));
    if (offset + bytes.length === size) skip = 0;
    reader.push(bytes.subarray(from));
    while (ingest.lastRecordLsn < end && reader.next(record)) await ingest.record(record);
    ingest.advance();
    await ingest.writer.ready(timeline.signal);
  }
  if (ingest.lastRecordLsn < end) {
    throw new Fault(
      'wal-end',
      `the log ends at ${formatLsn(ingest.lastRecordLsn)}, before ${formatLsn(end)}`,
      {
        hint: 'Give every segment up to end_lsn, in order.',
      },
    );
  }
  await timeline.timeline.freezeAndFlush();
}
