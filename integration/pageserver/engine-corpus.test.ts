// A recorded log through the whole engine: taken in while memory is flushed, layers are merged and pages are imaged
// in the background, over a disk of sealed files. At several LSNs every page must be what replay of the same log
// makes: as it stands after ingest, after everything was merged and imaged, after a restart from the layers alone,
// after a GC that keeps these LSNs as leases, and on a branch.

import { expect, test } from 'vitest';
import { timelineId } from '../../src/base/ids.ts';
import { formatLsn } from '../../src/base/lsn.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { Ingest } from '../../src/pageserver/ingest.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { checkState } from '../../src/pageserver/timeline/invariants.ts';
import { vaultStore } from '../../src/pageserver/timeline/store.ts';
import { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { corpora, NO_CORPUS } from '../redo/corpus.ts';
import { SimDisk } from '../sim/disk.ts';
import { simEngine } from '../sim/engine.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import { SimRandom } from '../sim/random.ts';
import { compareMoment, type Moment, moment } from './cluster-history.ts';
import { loadBase, readLog } from './corpus-log.ts';

const MOMENTS = 3;
const SEED = Number(process.env['SEED'] ?? 1);
const MiB = 1024 * 1024;

const SETTINGS = {
  background: true,
  memoryLayerBytesMax: 4 * MiB,
  checkpointDistance: 4 * MiB,
  memoryBytesMax: 32 * MiB,
  compactionThreshold: 4,
  compactionTargetSize: 2 * MiB,
  imageCreationThreshold: 16,
  pageCachePages: 512,
  blockCacheBytesMax: 4 * MiB,
  openLayersMax: 20,
};

const found = corpora().filter(corpus => corpus.major === 17);
test.skipIf(found.length > 0)(`skipped: ${NO_CORPUS}`, () => {});

class Home {
  readonly dialect: Dialect;
  private readonly random = new SimRandom(SEED);
  private readonly vault;

  constructor(dialect: Dialect) {
    this.dialect = dialect;
    this.vault = openVault({
      disk: new SimDisk({ random: this.random.split('disk') }),
      directory: 'timeline',
      scope: { tenant: '11'.repeat(16), timeline: '22'.repeat(16) },
      keys: new SimFileKeys('11'.repeat(16), this.random.split('keys')),
      random: this.random.split('vault'),
    });
  }

  open(layers: readonly LayerDesc[], lastRecordLsn: number, prevRecordLsn: number): Timeline {
    return new Timeline({
      id: timelineId('22'.repeat(16)),
      engine: simEngine({ settings: SETTINGS, random: this.random.split(`engine ${layers.length}`) }),
      redo: { dialect: this.dialect, applyEdit },
      store: vaultStore(this.vault, 1),
      layers,
      lastRecordLsn,
      prevRecordLsn,
    });
  }

  branch(timeline: Timeline, lsn: number): Timeline {
    return new Timeline({
      id: timelineId('33'.repeat(16)),
      engine: timeline.engine,
      redo: { dialect: this.dialect, applyEdit },
      ancestor: { timeline, lsn },
      lastRecordLsn: lsn,
      prevRecordLsn: 0,
    });
  }
}

test.each(found.map(c => [c.name, c] as const))(
  '%s: every page, whatever the engine has done to it',
  async (_, corpus) => {
    const dialect = dialectOfMajor(corpus.major, 'neon');
    const home = new Home(dialect);
    let timeline = home.open([], 0, 0);
    const pgdata = new PgData(timeline, dialect);
    const cluster = await loadBase(corpus, pgdata);
    const control = readControlFile(cluster.controlFile!);
    const ingest = new Ingest(pgdata);
    await ingest.load();
    const replayer = new Replayer(dialect, cluster, { trackCommitTimestamp: control.trackCommitTimestamp });
    const start = control.checkPointCopy.redo;
    const size = control.xlogSegSize;

    const lsns: number[] = [];
    await readLog(corpus, new WalReader({ start, dialect, segmentSize: size }), start, size, record => {
      lsns.push(record.endLsn);
    });
    const random = new SimRandom(SEED).split('moments');
    const chosen = new Set(Array.from({ length: MOMENTS - 1 }, () => lsns[random.below(lsns.length)]!));
    chosen.add(lsns[lsns.length - 1]!);
    const moments: Moment[] = [];
    let records = 0;
    await readLog(corpus, new WalReader({ start, dialect, segmentSize: size }), start, size, async record => {
      replayer.replay(record);
      await ingest.record(record);
      if (++records % 200 === 0) {
        ingest.advance();
        await ingest.writer.ready();
      }
      if (chosen.has(record.endLsn)) moments.push(moment(cluster, record.endLsn));
    });
    ingest.advance();
    expect(moments.length).toBe(chosen.size);

    let pages = 0;
    const compare = async (of: Timeline, when: string, which: readonly Moment[] = moments): Promise<void> => {
      checkState(of.state, of.ancestorLsn);
      const data = new PgData(of, dialect);
      await data.ready();
      for (const then of which) {
        const result = await compareMoment(data, then);
        expect(result.differences, `${when}, at ${formatLsn(then.lsn)}`).toEqual([]);
        pages += result.pages;
      }
    };
    const last = moments[moments.length - 1]!;
    await compare(timeline, 'after ingest');
    expect(timeline.upkeep.totals.compactions).toBeGreaterThan(0);

    await timeline.freezeAndFlush();
    await timeline.compact({ forceLevel0: true });
    await compare(timeline, 'merged', [moments[0]!]);
    expect(timeline.upkeep.totals.hotPages).toBeGreaterThan(100);
    const { denseLayers } = await timeline.compact({ forceImages: true });
    expect(denseLayers).toBeGreaterThan(0);
    await compare(timeline, 'imaged');
    await compare(home.branch(timeline, moments[1]!.lsn), 'on a branch', [moments[1]!]);

    const { layers, diskConsistentLsn, diskConsistentPrev } = timeline.state;
    expect(diskConsistentLsn).toBe(last.lsn);
    await timeline.close();
    timeline = home.open(
      [...layers.all()].map(layer => layer.desc),
      diskConsistentLsn,
      diskConsistentPrev,
    );
    await compare(timeline, 'restarted', [moments[0]!]);

    // One moment is leased, the others before the end are given up: garbage goes, the lease stays.
    const lease = moments[1]!;
    const before = timeline.state.layers.size;
    const { removed } = await timeline.gc(last.lsn, [lease.lsn]);
    await compare(timeline, 'collected', [lease, last]);
    const all = await timeline.gc(last.lsn, []);
    expect(removed.length + all.removed.length).toBeGreaterThan(0);
    await compare(timeline, 'collected wholly', [last]);
    console.info(
      `${corpus.name}: ${records} records, ${pages} pages compared; ${before} layers, ${timeline.state.layers.size} after GC`,
    );
    await timeline.close();
  },
  1_200_000,
);
