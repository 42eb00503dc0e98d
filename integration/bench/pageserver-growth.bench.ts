// The same questions to small and large tenants: a page at the newest LSN, the first page after a restart, a branch.
// Sizes are those of the pages, 8 KiB each: an image of every page, four edits on a quarter of them merged into level 1,
// two on a twentieth in level 0. LAKEBED_GROWTH_GB names other sizes, as `0.1 1 10`; the last takes a minute or two.
//
// Sizes take turns, a few hundred reads each, so that what else the machine does falls on all of them. Reads are from
// layers: there are no caches to speak of. The processor time of a read is told besides: on a machine
// that is not idle it is what can be compared. What a restart takes of the process itself, kill.test.ts tells.

import { timelineId } from '../../src/base/ids.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { SimRandom } from '../sim/random.ts';
import { type Bench, distribution, type Figure } from './harness.ts';
import { BenchEngine } from './pageserver-engine.ts';
import { imageLayers, PageHistory, REL } from './pageserver-pages.ts';

const SIZES = (process.env['LAKEBED_GROWTH_GB'] ?? '0.1 1').split(' ').map(Number);
const WARM = 1000;
const READS = 4000;
const TURNS = 20;
/** Of a page; the rest compresses away. */
const NOISE_BYTES = 1024;

/** A tenant of one size, as it stands after its history. */
class Tenant {
  readonly what: string;
  readonly pages: number;
  readonly times: number[] = [];
  cpuMicros = 0;
  private readonly bench: BenchEngine;
  private timeline: Timeline;
  private readonly random = new SimRandom(3);

  private constructor(gigabytes: number, bench: BenchEngine, timeline: Timeline) {
    this.what = `${gigabytes} GB`;
    this.pages = pagesOf(gigabytes);
    this.bench = bench;
    this.timeline = timeline;
  }

  static async create(gigabytes: number): Promise<Tenant> {
    // No caches to speak of, or the small tenant's deltas would live in them.
    const bench = new BenchEngine({ pageCachePages: 1, blockCacheBytesMax: 1 });
    try {
      const pages = pagesOf(gigabytes);
      const timeline = bench.open(await imageLayers(bench.store, pages, NOISE_BYTES), 8);
      const history = new PageHistory(timeline, pages);
      await history.addEdits(4, 0.25);
      await timeline.freezeAndFlush();
      await timeline.compact({ forceLevel0: true });
      await history.addEdits(2, 0.05);
      await timeline.freezeAndFlush();
      return new Tenant(gigabytes, bench, timeline);
    } catch (error) {
      await bench.destroy();
      throw error;
    }
  }

  async restart(): Promise<Figure> {
    const restart = performance.now();
    this.timeline = await this.bench.reopen(this.timeline);
    await this.timeline.getPage(REL, this.pages >> 1, this.timeline.lastRecordLsn);
    return {
      name: `restart to the first page, ${this.what}`,
      value: performance.now() - restart,
      unit: 'ms',
      target: '<= 2000',
    };
  }

  async read(count: number): Promise<void> {
    const { timeline, random, pages } = this;
    const cpu = process.threadCpuUsage();
    for (let i = 0; i < count; i++) {
      const blk = random.below(pages);
      const start = performance.now();
      await timeline.getPage(REL, blk, timeline.lastRecordLsn);
      this.times.push((performance.now() - start) * 1000);
    }
    const { user, system } = process.threadCpuUsage(cpu);
    this.cpuMicros += user + system;
  }

  /** What was read so far was to warm up. */
  begin(): void {
    this.times.length = 0;
    this.cpuMicros = 0;
  }

  /** Processor time of the event loop for a read. */
  get loop(): number {
    return this.cpuMicros / this.times.length;
  }

  reads(): Figure {
    const { p50, p99 } = distribution(this.times);
    const { l0, placed } = this.timeline.state.layers;
    return {
      name: `GetPage p50, ${this.what}`,
      value: p50,
      unit: 'us',
      note: `p99 ${p99.toFixed(0)}, event loop ${this.loop.toFixed(0)}; ${l0.length} layers in level 0, ${placed.length} others`,
    };
  }

  async branch(): Promise<Figure> {
    const { timeline } = this;
    const began = performance.now();
    const lsn = timeline.lastRecordLsn;
    const branch = new Timeline({
      id: timelineId('33'.repeat(16)),
      engine: timeline.engine,
      redo: { dialect: pg17, applyEdit },
      ancestor: { timeline, lsn },
      lastRecordLsn: lsn,
      prevRecordLsn: 0,
    });
    const branched = performance.now() - began;
    await branch.getPage(REL, 1, lsn);
    const readable = performance.now() - began;
    return {
      name: `branch, ${this.what}`,
      value: branched,
      unit: 'ms',
      target: '<= 10',
      note: `first page ${readable.toFixed(1)} ms`,
    };
  }

  destroy(): Promise<void> {
    return this.bench.destroy();
  }
}

const pagesOf = (gigabytes: number): number => Math.round((gigabytes * 1e9) / 8192);

async function measure(tenants: readonly Tenant[]): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const tenant of tenants) {
    figures.push(await tenant.restart());
    await tenant.read(WARM);
    tenant.begin();
  }
  for (let turn = 0; turn < TURNS; turn++) for (const tenant of tenants) await tenant.read(READS / TURNS);
  for (const tenant of tenants) figures.push(tenant.reads(), await tenant.branch());
  const [small, large] = [tenants[0]!, tenants.at(-1)!];
  const p50 = (tenant: Tenant): number => distribution(tenant.times).p50;
  // Of the reads that nothing disturbed.
  const p10 = (tenant: Tenant): number => tenant.times.toSorted((a, b) => a - b)[READS / 10]!;
  figures.push({
    name: `GetPage p50, ${large.what} against ${small.what}`,
    value: p50(large) / p50(small),
    unit: 'x',
    target: '<= 1.3',
    note: `p10: ${(p10(large) / p10(small)).toFixed(2)}x; processor time of the event loop: ${(large.loop / small.loop).toFixed(2)}x`,
  });
  return figures;
}

const bench: Bench = {
  name: 'pageserver: growth',
  async run() {
    const tenants: Tenant[] = [];
    try {
      for (const size of SIZES) tenants.push(await Tenant.create(size));
      return await measure(tenants);
    } finally {
      for (const tenant of tenants) await tenant.destroy();
    }
  },
};

export default bench;
