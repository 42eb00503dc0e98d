// The interpreted stream: recorded WAL of Neon's builds goes through it in every form and for every shard, and what
// comes out is what the log holds; then the stream itself, over sockets.

import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, lsn, parseLsn } from '../../src/base/lsn.ts';
import { shardOfBlock } from '../../src/base/shard.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { formatStreamProtocol } from '../../src/protocol/commands.ts';
import {
  compactKey,
  decodeBatch,
  encodeBatch,
  fromCompactKey,
  type InterpretedBatch,
  readValue,
  type ValueMeta,
} from '../../src/protocol/interpreted-wal.ts';
import { decodeMetadata, encodeMetadata } from '../../src/protocol/metadata-record.ts';
import { PqClient } from '../../src/protocol/pq-client.ts';
import { readWalSenderMessage } from '../../src/protocol/replication.ts';
import { WalInterpreter } from '../../src/safekeeper/send-interpreted.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { corpora, NO_CORPUS, tarMembers } from '../redo/corpus.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { startInProcess } from './in-process.ts';
import { ComputeLog, Pusher } from './pusher.ts';

const found = corpora();
if (found.length === 0) console.log(`skipped: interpreted WAL of recordings (${NO_CORPUS})`);

interface Log {
  readonly start: Lsn;
  readonly wal: Uint8Array;
}

const SEGMENT = 16 * 1024 * 1024;

type Corpus = (typeof found)[number];

async function redoOf(corpus: Corpus): Promise<Lsn> {
  const control = tarMembers(`${corpus.path}/base.tar.zst`, n => n.endsWith('global/pg_control'));
  for await (const { bytes } of control) return readControlFile(bytes).checkPointCopy.redo;
  throw new Error(`${corpus.path} has no pg_control`);
}

/** The log from an LSN to the end of the work, as its segments come. */
async function* segmentsFrom(corpus: Corpus, start: Lsn): AsyncGenerator<Uint8Array> {
  const end = parseLsn((await readFile(`${corpus.path}/end.lsn`, 'utf8')).trim());
  for await (const { name, bytes } of tarMembers(`${corpus.path}/wal.tar.zst`)) {
    const segment = /(?:^|\/)[0-9A-F]{16}([0-9A-F]{8})$/.exec(name);
    if (!segment) continue;
    const begin = Number.parseInt(segment[1]!, 16) * SEGMENT;
    if (begin + SEGMENT > start) yield bytes.subarray(Math.max(0, start - begin), end - begin);
    if (begin + SEGMENT >= end) return;
  }
}

async function recorded(corpus: Corpus, bytesMax: number): Promise<Log> {
  const start = await redoOf(corpus);
  const wal = Buffer.alloc(bytesMax);
  let length = 0;
  for await (const bytes of segmentsFrom(corpus, start)) {
    wal.set(bytes.subarray(0, bytesMax - length), length);
    length += bytes.length;
    if (length >= bytesMax) break;
  }
  return { start, wal };
}

const CHUNK = 128 * 1024;

const interpreterOf = (log: Log, major: number, shard: { number: number; count: number }): WalInterpreter =>
  new WalInterpreter(log.start, major * 10000, SEGMENT, { ...shard, stripeSize: 8 });

function interpret(log: Log, major: number, shard: { number: number; count: number }): InterpretedBatch[] {
  const interpreter = interpreterOf(log, major, shard);
  const batches: InterpretedBatch[] = [];
  for (let at = 0; at < log.wal.length; at += CHUNK) {
    const batch = interpreter.push(log.wal.subarray(at, at + CHUNK));
    // Through the wire and back, so that nothing is looked at that a receiver would not see.
    if (batch) batches.push(decodeBatch(encodeBatch(batch, PROTOBUF), PROTOBUF));
  }
  return batches;
}

const PROTOBUF = { format: 'protobuf', zstdLevel: 1 } as const;
const keyOf = (v: ValueMeta): string =>
  `${v.rel.spcOid}/${v.rel.dbOid}/${v.rel.relNumber}.${v.rel.forkNum}/${v.blkno}@${v.lsn}`;

describe.each(found)('$name', corpus => {
  const MB = 1024 * 1024;
  let whole: Log;
  beforeAll(async () => {
    whole = await recorded(corpus, 64 * MB);
  }, 180_000);
  const firstOf = (bytes: number): Log => ({ start: whole.start, wal: whole.wal.subarray(0, bytes) });

  test('every block of every record is told, with the record or the page', async () => {
    const log = whole;
    const batches = interpret(log, corpus.major, { number: 0, count: 0 });
    const records = batches.flatMap(b => b.records);
    const dialect = dialectOfMajor(corpus.major, 'neon');
    const reader = new WalReader({ start: log.start, dialect });
    const record = new WalRecord();
    let count = 0;
    let [images, deltas] = [0, 0];
    reader.push(log.wal);
    while (reader.next(record) && count < records.length) {
      const told = records[count++]!;
      if (told.nextRecordLsn !== record.endLsn || told.xid !== record.xid) {
        expect(told).toMatchObject({ nextRecordLsn: record.endLsn, xid: record.xid });
      }
      const blocks = record.blocks.slice(0, record.maxBlockId + 1).filter(b => b.inUse);
      const same = (v: ValueMeta, i: number): boolean => {
        const b = blocks[i]!;
        return v.rel.relNumber === b.relNumber && v.rel.forkNum === b.forkNum && v.blkno === b.blkno;
      };
      if (told.values.length !== blocks.length || !told.values.every(same)) {
        expect.fail(`the blocks of the record at ${formatLsn(record.lsn)} differ`);
      }
      for (const { value } of told.values) {
        const v = readValue(told.raw.subarray(value!.offset, value!.offset + value!.length));
        if (v.kind === 'image') {
          images++;
          if (v.page.length !== 8192 || !value!.willInit) expect.fail('a page is not whole');
        } else {
          deltas++;
          const raw = record.bytes.subarray(record.offset, record.offset + record.totalLength);
          if (Buffer.compare(v.record, raw) !== 0) expect.fail('the record is not as logged');
        }
      }
    }
    expect(count).toBe(records.length);
    expect(count).toBeGreaterThan(10_000);
    expect(deltas).toBeGreaterThan(1000);
    console.log(`${corpus.name}: ${count} records, ${deltas} deltas, ${images} pages`);
    // Batches lie one behind the other.
    let next: number = log.start;
    for (const b of batches) {
      expect(b.rawWalStartLsn).toBe(next);
      next = b.nextRecordLsn;
    }
  });

  test('metadata of many kinds, and none that would not come back', async () => {
    const interpreter = interpreterOf(whole, corpus.major, { number: 0, count: 0 });
    const kinds = new Set<string>();
    let records = 0;
    for await (const wal of segmentsFrom(corpus, whole.start)) {
      for (const { metadata } of interpreter.push(wal)?.records ?? []) {
        records++;
        if (!metadata) continue;
        kinds.add(metadata.kind);
        const bytes = encodeMetadata(metadata);
        if (Buffer.compare(encodeMetadata(decodeMetadata(bytes)), bytes) !== 0) expect.fail(metadata.kind);
      }
    }
    console.log(`${corpus.name}: ${records} records, ${[...kinds].sort().join(' ')}`);
    expect([...kinds].sort()).toEqual([
      'clear-vm-bits',
      'dbase-create',
      'dbase-drop',
      'multixact-create',
      'multixact-zero-page',
      'relmap-update',
      'running-xacts',
      'smgr-create',
      'smgr-truncate',
      'xact',
      'xact-prepare',
      'xlog-raw',
    ]);
  }, 180_000);

  test('four shards hold together what one would, each its own', async () => {
    const log = firstOf(6 * MB);
    const all = interpret(log, corpus.major, { number: 0, count: 0 }).flatMap(b =>
      b.records.flatMap(r => r.values),
    );
    const seen = new Set<string>();
    for (let number = 0; number < 4; number++) {
      const batches = interpret(log, corpus.major, { number, count: 4 });
      const values = batches.flatMap(b => b.records.flatMap(r => r.values));
      for (const v of values) {
        const owner = shardOfBlock(v.rel.relNumber, v.rel.forkNum, v.blkno, 4, 8);
        if (v.value) {
          expect(owner).toBe(number);
          seen.add(keyOf(v));
        } else expect([number, owner !== 0]).toEqual([0, true]);
      }
      const records = batches.flatMap(b => b.records);
      if (number > 0)
        expect(records.every(r => r.values.length > 0 || r.metadata || r.flushUncommitted)).toBe(true);
      else expect(values.length).toBe(all.length);
      for (const r of records) if (r.metadata?.kind === 'aux-file') expect(number).toBe(0);
    }
    expect(seen).toEqual(new Set(all.map(keyOf)));
  });

  test('every form carries the same', async () => {
    const log = firstOf(4 * MB);
    const batch = interpreterOf(log, corpus.major, { number: 0, count: 2 }).push(log.wal)!;
    const PLAIN = { format: 'bincode', zstdLevel: undefined } as const;
    const plain = encodeBatch(batch, PLAIN);
    expect(decodeBatch(plain, PLAIN).records.length).toBe(batch.records.length);
    for (const format of ['protobuf', 'bincode'] as const) {
      for (const zstdLevel of [undefined, 1, 3]) {
        const there = encodeBatch(batch, { format, zstdLevel });
        const back = decodeBatch(there, { format, zstdLevel });
        expect(Buffer.compare(encodeBatch(back, PLAIN), plain)).toBe(0);
      }
    }
  });
});

describe('keys and values', () => {
  test('keys are Neon’s compact ones', () => {
    const rel = { spcOid: 1663, dbOid: 0x89abcdef, relNumber: 0x12345678, forkNum: 2 };
    const { high, low } = compactKey(rel, 0xfedcba98);
    const whole = (high << 64n) | low;
    const wanted = (1663n << 104n) | (0x89abcdefn << 72n) | (0x12345678n << 40n) | (2n << 32n) | 0xfedcba98n;
    expect(whole).toBe(wanted);
    expect(fromCompactKey(high, low)).toEqual({ rel, blkno: 0xfedcba98 });
  });

  test('metadata in its bytes: visibility bits of a move', () => {
    const rel = { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 2 };
    const m = {
      kind: 'clear-vm-bits',
      neon: true,
      newHeapBlkno: 17,
      oldHeapBlkno: undefined,
      vmRel: rel,
      flags: 3,
    } as const;
    const wanted = '00000001 00000000 01 00000011 00 02 0000067f 00000005 00004000 03'.replaceAll(' ', '');
    expect(Buffer.from(encodeMetadata(m)).toString('hex')).toBe(wanted);
  });
});

test('over a socket: batches, keepalives, and the shard it was asked for', async () => {
  const sk = await startInProcess(1);
  const key = { tenantId: 'a'.repeat(32), timelineId: 'b'.repeat(32) } as TimelineKey;
  const log = new ComputeLog(lsn(0x14ebd08));
  const push = new Pusher({ targets: [{ host: '127.0.0.1', port: sk.port }], key, log });
  await push.elect();
  for (let i = 0; i < 300; i++) push.write(ModelWal.payload('i', i, 3000));
  await push.committed(log.end);
  await sk.timelines.get(key).waitForCommit(log.end, AbortSignal.timeout(60_000));
  const protocol = formatStreamProtocol({ type: 'interpreted', ...PROTOBUF });
  const client = await PqClient.connect(hostNet(), hostRandom, {
    host: '127.0.0.1',
    port: sk.port,
    parameters: {
      user: 'x',
      application_name: 'pageserver-9',
      options: `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId} protocol=${protocol} shard_count=0 shard_number=0 shard_stripe_size=2048`,
    },
  });
  const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(log.start)}`);
  let count = 0;
  let streamed: number = log.start;
  while (streamed < log.end) {
    const m = readWalSenderMessage((await copy.read())!);
    if (m.kind !== 'interpreted') continue;
    const batch = decodeBatch(m.body, PROTOBUF);
    count += batch.records.length;
    expect(batch.rawWalStartLsn).toBeLessThanOrEqual(streamed);
    expect(m.commitLsn).toBe(log.end);
    streamed = m.streamingLsn;
  }
  expect(count).toBe(300);
  let keepalive = readWalSenderMessage((await copy.read())!);
  while (keepalive.kind !== 'keepalive') keepalive = readWalSenderMessage((await copy.read())!);
  expect(keepalive.endLsn).toBe(log.end);
  client.destroy();
  push.close();
  await sk.stop();
});
