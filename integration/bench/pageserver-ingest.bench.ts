// Catch-up: a log taken in as fast as it goes, over sealed files, with flushes and compactions beside it; and what
// reads feel of that. The log is a stock Postgres's, once without page images and once full of them.

import { readFileSync } from 'node:fs';
import type { PgData } from '../../src/pageserver/pgdata.ts';
import type { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { SimRandom } from '../sim/random.ts';
import { type Bench, distribution, type Figure } from './harness.ts';
import { BenchEngine, importBase, ingestLog, newIngest } from './pageserver-engine.ts';
import { type RecordedWal, recordWal } from './wal-workload.ts';

const TRANSACTIONS_SMALL = 300_000;
const TRANSACTIONS_IMAGES = 60_000;
const READ_EVERY_MS = 2;

/** Pages of one relation that both logs write to all over. */
interface Target {
  readonly rel: number;
  readonly blocks: number;
}

async function largestRelation(pgdata: PgData): Promise<Target> {
  const lsn = pgdata.timeline.lastRecordLsn;
  const { relations } = await pgdata.snapshot(lsn);
  let largest: Target = { rel: 0, blocks: 0 };
  for (const relation of relations) {
    const blocks = (await pgdata.relSize(relation, lsn)) ?? 0;
    if (blocks > largest.blocks) largest = { rel: relation.id, blocks };
  }
  return largest;
}

/**
 * One read every few milliseconds until told to stop; each timed from when it should have begun, unless the one
 * before was still under way then.
 */
async function readMeanwhile(timeline: Timeline, target: Target, isOver: () => boolean): Promise<number[]> {
  const random = new SimRandom(7);
  const times: number[] = [];
  let due = performance.now();
  while (!isOver()) {
    due = Math.max(due + READ_EVERY_MS, performance.now());
    const left = due - performance.now();
    await new Promise<void>(resolve => (left > 1 ? setTimeout(resolve, left) : setImmediate(resolve)));
    const begun = Math.min(due, performance.now());
    await timeline.getPage(target.rel, random.below(target.blocks), timeline.lastRecordLsn);
    times.push((performance.now() - begun) * 1000);
  }
  return times;
}

async function measure(wal: RecordedWal, what: string, aim: string): Promise<Figure[]> {
  const bench = new BenchEngine();
  try {
    const timeline = bench.open();
    const { pgdata, ingest } = await newIngest(timeline);
    await importBase(pgdata, wal.base);
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true, forceImages: true });
    await ingest.load();
    const start = readControlFile(readFileSync(`${wal.base}/global/pg_control`)).checkPointCopy.redo;
    const segments = wal.segments.map(path => new Uint8Array(readFileSync(path)));
    segments[0] = segments[0]!.subarray(start % 0x1000000);
    const target = await largestRelation(pgdata);

    const until = performance.now() + 3000;
    const idle = distribution(await readMeanwhile(timeline, target, () => performance.now() > until));
    let over = false;
    const reads = readMeanwhile(timeline, target, () => over);
    const before = process.cpuUsage();
    const taken = await ingestLog(timeline, ingest, start, segments);
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true });
    over = true;
    const busy = distribution(await reads);
    const cpu = process.cpuUsage(before);
    const MB = taken.bytes / 1e6;
    const others = (cpu.user + cpu.system) / 1e6 - taken.cpuSeconds;
    const { totals } = timeline.upkeep;
    return [
      {
        name: `ingest, ${what}`,
        value: MB / taken.seconds,
        unit: 'MB/s',
        target: aim,
        note: `${taken.records} records, ${(taken.bytes / taken.records).toFixed(0)} bytes each`,
      },
      { name: `ingest, ${what}, of the event loop's own time`, value: MB / taken.cpuSeconds, unit: 'MB/s' },
      {
        name: `ingest, ${what}, everything else`,
        value: (others * 1000) / MB,
        unit: 'ms/MB',
        note: `flush, merge of ${totals.mergedLayers} layers, images of ${totals.hotPages} pages, reads`,
      },
      { name: `ingest, ${what}, memory layers at most`, value: taken.memoryBytes / 1e6, unit: 'MB' },
      { name: `GetPage p99, idle`, value: idle.p99, unit: 'us', note: `p50 ${idle.p50.toFixed(0)}` },
      {
        name: `GetPage p99 beside ${what}`,
        value: busy.p99,
        unit: 'us',
        target: '<= 3x of idle',
        note: `p50 ${busy.p50.toFixed(0)}, ${(busy.p99 / idle.p99).toFixed(1)}x`,
      },
    ];
  } finally {
    await bench.destroy();
  }
}

const bench: Bench = {
  name: 'pageserver: catch-up ingest, flush and compaction beside it',
  async run() {
    const figures: Figure[] = [];
    for (const [images, transactions, what, aim] of [
      [false, TRANSACTIONS_SMALL, 'log of small records', '>= 100 MB/s'],
      [true, TRANSACTIONS_IMAGES, 'log full of page images', '>= 250 MB/s'],
    ] as const) {
      const wal = await recordWal(images, transactions);
      try {
        figures.push(...(await measure(wal, what, aim)));
      } finally {
        await wal.postgres.destroy();
      }
    }
    return figures;
  },
};

export default bench;
