// The log as a library, against its aims: decoding with checksums, full replay beside Postgres's own recovery of
// the same log over the same base, and one page rebuilt from an image and a chain of records.
//
// What is compared in "replay speed against Postgres". The log and the base are the same files, written just before.
// - Postgres: crash recovery in one process; the time is the one it tells itself at "redo done", from the first
//   record to the last: reading the log and the base's pages (from the file cache, which the copying of them has
//   warmed: system calls, no disk), checksums, redo. Starting up, the checkpoint at the end and writing pages
//   back are not in it: shared_buffers hold the whole base, checkpoints are far off. Its settings are the defaults.
// - Ours: checksums, decoding, redo and effects in one thread; the time is from the first record to the last. Log and
//   base lie in memory as bytes, as they would in a page cache or a layer; pages become objects as they are met. The
//   heap is collected before, compiled code is kept between rounds, as in a server that has run for a second.
// Both check what a recovery checks and no more: the log holds no verification images. Rounds go by turns, one of
// Postgres's to two of ours; the least of each counts, on the clock, and beside it by the processor's time (which
// misses what the kernel does for a process in page faults, and has a grain of ten milliseconds on some machines).
//
// A busy machine falsifies all of this: caches are shared. Compare ratios of quiet runs only.

import { readFileSync } from 'node:fs';
import type { Lsn } from '../../src/base/lsn.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { newPage, type Page } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { redoBlock } from '../../src/xlog/redo.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { type Bench, bestSeconds, distribution, type Figure } from './harness.ts';
import { loadBase, type RecordedWal, recordWal, type Took } from './wal-workload.ts';

const CHUNK = 256 * 1024;
const TRANSACTIONS_SMALL = 200_000;
const TRANSACTIONS_IMAGES = 60_000;
const REPLAY_ROUNDS = 6;

interface Log {
  readonly start: Lsn;
  readonly segments: readonly Uint8Array[];
  readonly bytes: number;
}

function loadLog(wal: RecordedWal): Log {
  const control = readControlFile(readFileSync(`${wal.base}/global/pg_control`));
  const start = control.checkPointCopy.redo;
  const segments = wal.segments.map(path => new Uint8Array(readFileSync(path)));
  segments[0] = segments[0]!.subarray(start % 0x1000000);
  return { start, segments, bytes: segments.reduce((sum, s) => sum + s.length, 0) };
}

/** Read the whole log; the number of records. */
function readLog(log: Log, visit: (record: WalRecord) => void): number {
  const reader = new WalReader({ start: log.start, dialect: pg17 });
  const record = new WalRecord();
  let records = 0;
  try {
    for (const segment of log.segments) {
      for (let at = 0; at < segment.length; at += CHUNK) {
        reader.push(segment.subarray(at, Math.min(at + CHUNK, segment.length)));
        while (reader.next(record)) {
          records++;
          visit(record);
        }
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  return records;
}

async function decodeFigures(log: Log, what: string): Promise<Figure[]> {
  let records = 0;
  let end = 0;
  const seconds = await bestSeconds(5, () => {
    records = readLog(log, record => {
      end = record.endLsn;
    });
  });
  const bytes = end - log.start;
  return [
    {
      name: `decode, ${what}`,
      value: bytes / seconds / 1e9,
      unit: 'GB/s',
      ...(what.includes('images') ? { target: '>= 1' } : {}),
    },
    {
      name: `decode, ${what}, records`,
      value: records / seconds / 1e6,
      unit: 'M/s',
      note: `${records} records, ${(bytes / records).toFixed(0)} bytes each`,
      ...(what.includes('small') ? { target: '>= 1.5' } : {}),
    },
  ];
}

/** One replay over a fresh copy of the base; the heap is cleaned before, as a new process's would be. */
function replayOnce(wal: RecordedWal, log: Log): Took & { records: number } {
  const replayer = new Replayer(pg17, loadBase(wal.base), { trackCommitTimestamp: false });
  globalThis.gc?.();
  const cpu = process.threadCpuUsage();
  const start = performance.now();
  const records = readLog(log, record => replayer.replay(record));
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.threadCpuUsage(cpu);
  if (replayer.tally.unsupported > 0) throw new Error('replay met what it cannot replay');
  return { records, seconds, cpuSeconds: (user + system) / 1e6 };
}

const least = (takes: readonly Took[], what: keyof Took): number =>
  Math.min(...takes.map(took => took[what]));

/** Rounds of both by turns, so that a busy machine is busy for both; the best of each. */
async function replayFigures(wal: RecordedWal, log: Log, what: string): Promise<Figure[]> {
  const ours: Took[] = [];
  const theirs: Took[] = [];
  let records = 0;
  for (let round = 0; round < REPLAY_ROUNDS; round++) {
    theirs.push(await wal.recover());
    for (let i = 0; i < 2; i++) {
      const took = replayOnce(wal, log);
      records = took.records;
      ours.push(took);
    }
  }
  const best = least(ours, 'seconds');
  const cpu = (takes: readonly Took[]): string => `${least(takes, 'cpuSeconds').toFixed(2)} s of processor`;
  return [
    {
      name: `replay, ${what}`,
      value: best,
      unit: 's',
      note: `${(records / best / 1e6).toFixed(2)} M records/s; ${cpu(ours)}`,
    },
    {
      name: `Postgres 17's recovery, ${what}`,
      value: least(theirs, 'seconds'),
      unit: 's',
      note: cpu(theirs),
    },
    {
      name: `replay speed against Postgres, ${what}`,
      value: least(theirs, 'seconds') / best,
      unit: 'x',
      target: '>= 1',
      note: `by processor time ${(least(theirs, 'cpuSeconds') / least(ours, 'cpuSeconds')).toFixed(2)}x`,
    },
  ];
}

/** A page as it stood, and records that edit it one after the other. */
interface Chain {
  readonly image: Uint8Array;
  readonly blockIds: number[];
  readonly records: Uint8Array[];
  readonly ends: Lsn[];
}

/** Chains of `length` records from the log, one for each page that has as many. */
function collectChains(wal: RecordedWal, log: Log, length: number, wanted: number): Chain[] {
  const cluster = loadBase(wal.base);
  const replayer = new Replayer(pg17, cluster, { trackCommitTimestamp: false });
  const open = new Map<string, Chain>();
  const done: Chain[] = [];
  readLog(log, record => {
    for (let id = 0; id <= record.maxBlockId && done.length < wanted; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse || block.willInit || block.hasImage) continue;
      const page = cluster.find(block.spcOid, block.dbOid, block.relNumber, block.forkNum)?.page(block.blkno);
      if (page === undefined) continue;
      const key = `${block.relNumber}.${block.forkNum}.${block.blkno}`;
      let chain = open.get(key);
      if (chain === undefined)
        open.set(key, (chain = { image: page.bytes.slice(), blockIds: [], records: [], ends: [] }));
      chain.blockIds.push(id);
      chain.records.push(record.bytes.slice(record.offset, record.offset + record.totalLength));
      chain.ends.push(record.endLsn);
      if (chain.records.length === length) {
        done.push(chain);
        open.delete(key);
      }
    }
    replayer.replay(record);
  });
  return done;
}

function rebuild(page: Page, record: WalRecord, chain: Chain, views: readonly DataView[]): void {
  page.bytes.set(chain.image);
  for (let i = 0; i < chain.records.length; i++) {
    const end = chain.ends[i]!;
    decodeRecord(record, chain.records[i]!, views[i]!, 0, end, end, pg17.imageBits);
    redoBlock(pg17, page, record, record.blocks[chain.blockIds[i]!]!);
  }
}

function chainFigure(chains: readonly Chain[], length: number, target: string, published: string): Figure {
  const page = newPage();
  const record = new WalRecord();
  const views = chains.map(c => c.records.map(r => new DataView(r.buffer, r.byteOffset, r.byteLength)));
  const samples: number[] = [];
  const rounds = Math.ceil(40_000 / chains.length);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < chains.length; i++) {
      const start = performance.now();
      rebuild(page, record, chains[i]!, views[i]!);
      if (round > rounds / 4) samples.push((performance.now() - start) * 1000);
    }
  }
  const { p50, p99 } = distribution(samples);
  return {
    name: `page from image + ${length} records, median`,
    value: p50,
    unit: 'us',
    target,
    note: `p99 ${p99.toFixed(1)} us over ${chains.length} pages; ${published} published for Neon's redo process`,
  };
}

const bench: Bench = {
  name: 'xlog',
  async run() {
    const small = await recordWal(false, TRANSACTIONS_SMALL);
    const images = await recordWal(true, TRANSACTIONS_IMAGES);
    try {
      const smallLog = loadLog(small);
      const imageLog = loadLog(images);
      return [
        ...(await decodeFigures(imageLog, 'log full of page images')),
        ...(await decodeFigures(smallLog, 'log of small records')),
        ...(await replayFigures(small, smallLog, 'log of small records')),
        ...(await replayFigures(images, imageLog, 'log full of page images')),
        chainFigure(collectChains(small, smallLog, 3, 500), 3, '<= 5', '32 us'),
        chainFigure(collectChains(small, smallLog, 100, 50), 100, '<= 60', '138 us'),
      ];
    } finally {
      await small.postgres.destroy();
      await images.postgres.destroy();
    }
  },
};

export default bench;
