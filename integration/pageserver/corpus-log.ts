// A recording put to use: its base imported into a timeline and loaded as a cluster, its log read record by record.

import { FileImport, isImported, PIECE_BYTES } from '../../src/pageserver/import.ts';
import type { PgData } from '../../src/pageserver/pgdata.ts';
import type { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { parseSegmentFileName, segmentOf } from '../../src/xlog/segment.ts';
import { type Corpus, tarMembers } from '../redo/corpus.ts';

export async function loadBase(corpus: Corpus, pgdata: PgData): Promise<Cluster> {
  const cluster = new Cluster();
  const files = new FileImport(pgdata);
  for await (const { name, bytes } of tarMembers(`${corpus.path}/base.tar.zst`)) {
    const path = name.replace(/^(\.\/)?data\//, '');
    cluster.loadFile(path, bytes.slice());
    if (!isImported(path)) continue;
    for (let at = 0; at < bytes.length || at === 0; at += PIECE_BYTES) {
      await files.piece(path, bytes.length, at, bytes.slice(at, at + PIECE_BYTES));
    }
  }
  await files.finish();
  return cluster;
}

async function* segments(corpus: Corpus, start: number, size: number): AsyncGenerator<Uint8Array> {
  const names = new Map<number, Uint8Array>();
  for await (const { name, bytes } of tarMembers(`${corpus.path}/wal.tar.zst`)) {
    const parsed = parseSegmentFileName(name.slice(name.lastIndexOf('/') + 1), size);
    if (parsed !== undefined) names.set(parsed.segno, bytes);
  }
  for (let segno = segmentOf(start, size); names.has(segno); segno++) {
    const bytes = names.get(segno)!;
    yield segno === segmentOf(start, size) ? bytes.subarray(start % size) : bytes;
  }
}

/** The log, record by record; `done` with whatever ends it. */
export async function readLog(
  corpus: Corpus,
  reader: WalReader,
  start: number,
  size: number,
  take: (record: WalRecord) => void | Promise<void>,
): Promise<void> {
  const record = new WalRecord();
  try {
    for await (const bytes of segments(corpus, start, size)) {
      reader.push(bytes);
      while (reader.next(record)) {
        const waits = take(record);
        if (waits !== undefined) await waits;
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
}
