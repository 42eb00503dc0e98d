// The same questions to small and large tenants: a page at the newest LSN, the first page after a restart, a branch.
// Sizes are those of the pages, 8 KiB each: an image of every page, four edits on a quarter of them merged into level 1,
// two on a twentieth in level 0. LAKEBED_GROWTH_GB names other sizes, as `0.1 1 10`; the last takes a minute or two.
//
// Reads are from layers: the caches are too small to help. The processor time of a read is told besides: on a machine
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
const READS = 4000;
/** Of a page; the rest compresses away. */
const NOISE_BYTES = 1024;

async function measure(gigabytes: number, p50s: number[], loops: number[]): Promise<Figure[]> {
  // Caches too small to help, or the small tenant would live in them.
  const bench = new BenchEngine({ pageCachePages: 64, blockCacheBytesMax: 1024 * 1024 });
  try {
    const pages = Math.round((gigabytes * 1e9) / 8192);
    let timeline = bench.open(await imageLayers(bench.store, pages, NOISE_BYTES), 8);
    const history = new PageHistory(timeline, pages);
    await history.addEdits(4, 0.25);
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true });
    await history.addEdits(2, 0.05);
    await timeline.freezeAndFlush();
    const what = `${gigabytes} GB`;

    const restart = performance.now();
    timeline = await bench.reopen(timeline);
    await timeline.getPage(REL, pages >> 1, timeline.lastRecordLsn);
    const first = performance.now() - restart;

    const random = new SimRandom(3);
    const cpu = process.threadCpuUsage();
    const times: number[] = [];
    for (let i = 0; i < READS; i++) {
      const blk = random.below(pages);
      const start = performance.now();
      await timeline.getPage(REL, blk, timeline.lastRecordLsn);
      if (i >= READS / 4) times.push((performance.now() - start) * 1000);
    }
    const { user, system } = process.threadCpuUsage(cpu);
    const { p50, p99 } = distribution(times);
    const loop = (user + system) / READS;
    p50s.push(p50);
    loops.push(loop);

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
    const { layers } = timeline.state;
    return [
      {
        name: `GetPage p50, ${what}`,
        value: p50,
        unit: 'us',
        note: `p99 ${p99.toFixed(0)}, event loop ${loop.toFixed(0)}; ${layers.l0.length} layers in level 0, ${layers.placed.length} others`,
      },
      { name: `restart to the first page, ${what}`, value: first, unit: 'ms', target: '<= 2000' },
      {
        name: `branch, ${what}`,
        value: branched,
        unit: 'ms',
        target: '<= 10',
        note: `first page ${readable.toFixed(1)} ms`,
      },
    ];
  } finally {
    await bench.destroy();
  }
}

const bench: Bench = {
  name: 'pageserver: growth',
  async run() {
    const figures: Figure[] = [];
    const p50s: number[] = [];
    const loops: number[] = [];
    for (const size of SIZES) figures.push(...(await measure(size, p50s, loops)));
    const ratio = p50s[p50s.length - 1]! / p50s[0]!;
    const [small, large] = [loops[0]!, loops[loops.length - 1]!];
    figures.push({
      name: `GetPage p50, ${SIZES.at(-1)} GB against ${SIZES[0]} GB`,
      value: ratio,
      unit: 'x',
      target: '<= 1.3',
      note: `processor time of the event loop: ${small.toFixed(0)} and ${large.toFixed(0)} us, ${(large / small).toFixed(2)}x`,
    });
    return figures;
  },
};

export default bench;
