// Makes `integration/fixtures/records-*.json.zst` from the recordings beside the repository: for each operation
// met, a few records (without their verification images) and the pages they edit as they stood before. The seeds
// of the fuzzer. Run: node integration/redo/capture-records.ts

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { type BlockSpec, makeRecord } from '../../src/xlog/writer.ts';
import { corpora, tarMembers } from './corpus.ts';
import type { RecordSample } from './record-samples.ts';

const SAMPLES_PER_OP = 3;
const RECORD_BYTES_MAX = 3000;
const INSIDE = /(?:^|\/)((?:base|global|pg_xact|pg_multixact|pg_commit_ts)\/.*)$/;

/** The record without images that are there only for checking. */
function strip(record: WalRecord, dialect: ReturnType<typeof dialectOfMajor>): Uint8Array {
  const piece = (at: number, length: number): Uint8Array => record.bytes.slice(at, at + length);
  const blocks: BlockSpec[] = record.blocks
    .slice(0, record.maxBlockId + 1)
    .filter(b => b.inUse)
    .map(b => ({
      id: b.id,
      spcOid: b.spcOid,
      dbOid: b.dbOid,
      relNumber: b.relNumber,
      forkNum: b.forkNum,
      blkno: b.blkno,
      willInit: b.willInit,
      ...(b.hasData ? { data: piece(b.dataOffset, b.dataLength) } : {}),
      ...(b.hasImage && b.applyImage
        ? {
            image: {
              bytes: piece(b.imageOffset, b.imageLength),
              holeOffset: b.holeOffset,
              holeLength: b.holeLength,
              compression: b.compression,
              apply: true,
            },
          }
        : {}),
    }));
  return makeRecord(
    {
      rmid: record.rmid,
      info: record.info,
      xid: record.xid,
      blocks,
      main: piece(record.mainOffset, record.mainLength),
      ...(record.origin === 0 ? {} : { origin: record.origin }),
      ...(record.toplevelXid === 0 ? {} : { toplevelXid: record.toplevelXid }),
    },
    dialect,
  );
}

for (const corpus of corpora()) {
  const dialect = dialectOfMajor(corpus.major, 'neon');
  const cluster = new Cluster();
  for await (const { name, bytes } of tarMembers(join(corpus.path, 'base.tar.zst'), n => INSIDE.test(n))) {
    cluster.loadFile(INSIDE.exec(name)![1]!, bytes);
  }
  const control = readControlFile(cluster.controlFile!);
  const replayer = new Replayer(dialect, cluster, { trackCommitTimestamp: control.trackCommitTimestamp });
  const start = control.checkPointCopy.redo;
  const reader = new WalReader({ start, dialect });
  const record = new WalRecord();
  const seen = new Map<number, number>();
  const samples: RecordSample[] = [];
  let first = true;
  try {
    for await (const { bytes } of tarMembers(join(corpus.path, 'wal.tar.zst'), n =>
      /[0-9A-F]{24}$/.test(n),
    )) {
      reader.push(first ? bytes.subarray(start % 0x1000000) : bytes);
      first = false;
      while (reader.next(record)) {
        const key = record.rmid * 256 + (record.info & 0xf0);
        const count = seen.get(key) ?? 0;
        // The first of a kind, one a little later, and one much later: small pages and full ones.
        if (count === 0 || count === 7 || count === 500) {
          const bytes = strip(record, dialect);
          if (
            bytes.length <= RECORD_BYTES_MAX &&
            samples.filter(s => s.key === key).length < SAMPLES_PER_OP
          ) {
            const pages = record.blocks
              .slice(0, record.maxBlockId + 1)
              .filter(b => b.inUse)
              .map(b => ({
                id: b.id,
                page: Buffer.from(
                  cluster.find(b.spcOid, b.dbOid, b.relNumber, b.forkNum)?.page(b.blkno)?.bytes ??
                    new Uint8Array(8192),
                ).toString('base64'),
              }));
            samples.push({ key, end: record.endLsn, record: Buffer.from(bytes).toString('base64'), pages });
          }
        }
        seen.set(key, count + 1);
        replayer.replay(record);
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  const file = join(import.meta.dirname, `../fixtures/records-${corpus.name}.json.zst`);
  writeFileSync(
    file,
    zstdCompressSync(JSON.stringify({ major: corpus.major, samples }), { params: { 100: 19 } }),
  );
  console.log(`${file}: ${samples.length} records of ${seen.size} operations`);
}
