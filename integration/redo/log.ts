// The log in a pg_wal directory, read to its end across timelines: a promotion copies the segment it happens in to
// its own timeline and goes on there, so of every segment the newest timeline's file is the one to read.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '../../src/base/lsn.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  parseSegmentFileName,
  segmentOf,
  segmentStart,
} from '../../src/xlog/segment.ts';

/** The segments of a pg_wal from number `first` on, in the order of the log. */
export function segmentPaths(
  directory: string,
  first = 0,
  segmentSize: number = DEFAULT_SEGMENT_SIZE,
): string[] {
  const newest = new Map<number, { tli: number; path: string }>();
  for (const name of readdirSync(directory)) {
    const parsed = parseSegmentFileName(name, segmentSize);
    if (parsed === undefined || parsed.partial || parsed.segno < first) continue;
    const { tli, segno } = parsed;
    if ((newest.get(segno)?.tli ?? 0) < tli) newest.set(segno, { tli, path: join(directory, name) });
  }
  return [...newest].sort(([a], [b]) => a - b).map(([, { path }]) => path);
}

/** Visit every record from `from` on; the reader, for what it learned on the way. */
export function readLog(
  directory: string,
  dialect: Dialect,
  from: Lsn,
  visit: (record: WalRecord) => void,
  segmentSize: number = DEFAULT_SEGMENT_SIZE,
): WalReader {
  const first = segmentOf(from, segmentSize);
  const start = segmentStart(first, segmentSize);
  const reader = new WalReader({ start, dialect, segmentSize, resync: true });
  const record = new WalRecord();
  try {
    for (const path of segmentPaths(directory, first, segmentSize)) {
      reader.push(new Uint8Array(readFileSync(path)));
      while (reader.next(record)) if (record.lsn >= from) visit(record);
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  return reader;
}
