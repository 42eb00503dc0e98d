// One page at a time, from wherever it lies: the page cache, memory, layers of level 0 and 1, images. Layers are
// sealed files on the disk; the caches of pages and blocks are made too small to help, but for the figure that is
// about them.

import type { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { SimRandom } from '../sim/random.ts';
import { type Bench, distribution, type Figure } from './harness.ts';
import { BenchEngine } from './pageserver-engine.ts';
import { PageHistory, REL } from './pageserver-pages.ts';

const PAGES = 4000;
const READS = 4000;
const WARM = 500;

const NO_CACHE = { pageCachePages: 1, blockCacheBytesMax: 1 };
const BY_HAND = {
  background: false,
  memoryBytesMax: 2 ** 33,
  imageCreationThreshold: 2 ** 30,
  imageLayersThreshold: 2 ** 30,
};

interface Measured {
  readonly p50: number;
  readonly figures: Figure[];
}

async function measure(
  timeline: Timeline,
  name: string,
  more: Pick<Figure, 'target' | 'note'> = {},
): Promise<Measured> {
  const random = new SimRandom(9);
  const lsn = timeline.lastRecordLsn;
  for (let i = 0; i < WARM; i++) await timeline.getPage(REL, random.below(PAGES), lsn);
  const times: number[] = [];
  const cpu = process.threadCpuUsage();
  for (let i = 0; i < READS; i++) {
    const blk = random.below(PAGES);
    const start = performance.now();
    await timeline.getPage(REL, blk, lsn);
    times.push((performance.now() - start) * 1000);
  }
  const { user, system } = process.threadCpuUsage(cpu);
  const { p50, p99, mean } = distribution(times);
  const note = `mean ${mean.toFixed(0)}, p99 ${p99.toFixed(0)}, event loop ${((user + system) / READS).toFixed(0)}`;
  const figure: Figure = {
    name,
    value: p50,
    unit: 'us',
    ...more,
    note: more.note ? `${more.note}; ${note}` : note,
  };
  return { p50, figures: [figure] };
}

async function batches(timeline: Timeline, name: string): Promise<Figure> {
  const random = new SimRandom(11);
  const lsn = timeline.lastRecordLsn;
  const into = new Uint8Array(32 * 8192);
  const start = performance.now();
  const rounds = 600;
  for (let round = 0; round < rounds; round++) {
    const requests = Array.from({ length: 32 }, (_, i) => ({
      rel: REL,
      blk: random.below(PAGES),
      lsn,
      into,
      at: i * 8192,
    }));
    await timeline.getPages(requests);
  }
  const perSecond = (rounds * 32) / ((performance.now() - start) / 1000);
  return { name, value: perSecond, unit: 'pages/s' };
}

async function depths(figures: Figure[]): Promise<void> {
  const bench = new BenchEngine({ ...NO_CACHE, ...BY_HAND });
  try {
    const timeline = bench.open();
    const history = new PageHistory(timeline, PAGES);
    const take = async (name: string, more?: Pick<Figure, 'target' | 'note'>): Promise<number> => {
      const { p50, figures: found } = await measure(timeline, name, more);
      figures.push(...found);
      return p50;
    };
    await history.images();
    await take('image in memory');
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true, forceImages: true });
    await take('image layer');
    figures.push(await batches(timeline, 'image layer, batches of 32'));
    await history.addEdits(3);
    await take('3 deltas in memory, image layer');
    await timeline.freezeAndFlush();
    await take('3 deltas in level 0, image layer');
    await timeline.compact({ forceLevel0: true });
    const three = await take('3 deltas in level 1, image layer');
    await history.addEdits(297);
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true });
    const many = await take('300 deltas in level 1, image layer', {
      target: '<= 3x of 3 deltas',
    });
    figures.push({ name: '300 deltas against 3', value: many / three, unit: 'x', target: '<= 3' });
    (bench.engine.settings as { imageCreationThreshold: number }).imageCreationThreshold = 32;
    await history.addEdits(1);
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true });
    const imaged = await take('300 deltas after image creation');
    figures.push({ name: 'imaged against 3 deltas', value: imaged / three, unit: 'x', target: '<= 1.2' });
  } finally {
    await bench.destroy();
  }
}

async function cached(figures: Figure[]): Promise<void> {
  const bench = new BenchEngine(BY_HAND);
  try {
    const timeline = bench.open();
    const history = new PageHistory(timeline, PAGES);
    await history.images();
    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true, forceImages: true });
    for (let blk = 0; blk < PAGES; blk++) await timeline.getPage(REL, blk, timeline.lastRecordLsn);
    figures.push(...(await measure(timeline, 'page cache')).figures);
    figures.push(await batches(timeline, 'page cache, batches of 32'));
    await history.addEdits(3);
    figures.push(...(await measure(timeline, 'page cache, rolled forward by 3 deltas at first')).figures);
  } finally {
    await bench.destroy();
  }
}

const bench: Bench = {
  name: 'pageserver: one page, from wherever it lies',
  async run() {
    const figures: Figure[] = [];
    await cached(figures);
    await depths(figures);
    return figures;
  },
};

export default bench;
