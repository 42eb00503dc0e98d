// An engine to measure: sealed files on the machine's disk, real threads, the default settings unless told otherwise.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { timelineId } from '../../src/base/ids.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { WorkerPool } from '../../src/host/pool.ts';
import { hostRandom } from '../../src/host/random.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { Engine } from '../../src/pageserver/engine.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from '../../src/pageserver/engine-settings.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { type LayerStore, vaultStore } from '../../src/pageserver/timeline/store.ts';
import { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { silentLog } from '../sim/engine.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import { SimRandom } from '../sim/random.ts';

const ID = timelineId('22'.repeat(16));

export class BenchEngine {
  readonly home: string;
  readonly pool: WorkerPool;
  engine: Engine;
  private readonly settings: EngineSettings;
  private readonly keys = new SimFileKeys('11'.repeat(16), new SimRandom(1));

  constructor(settings: Partial<EngineSettings> = {}) {
    this.home = mkdtempSync(join(tmpdir(), 'lakebed-bench-'));
    this.pool = new WorkerPool({ entry: new URL('../../src/worker.ts', import.meta.url) });
    this.settings = { ...ENGINE_DEFAULTS, ...settings };
    this.engine = this.newEngine();
  }

  private newEngine(): Engine {
    const ports = { clock: hostClock, random: hostRandom, pool: this.pool, log: silentLog };
    return new Engine(this.settings, ports);
  }

  /** Where the timeline's layers lie. */
  get store(): LayerStore {
    const vault = openVault({
      disk: hostDisk(this.home),
      directory: 'timeline',
      scope: { tenant: this.keys.tenant, timeline: ID },
      keys: this.keys,
      random: hostRandom,
    });
    return vaultStore(vault, 1);
  }

  /** A timeline over what is on the disk; with fresh caches. */
  open(layers: readonly LayerDesc[] = [], lastRecordLsn = 0, prevRecordLsn = 0): Timeline {
    this.engine = this.newEngine();
    return new Timeline({
      id: ID,
      engine: this.engine,
      redo: { dialect: pg17, applyEdit },
      store: this.store,
      layers,
      lastRecordLsn,
      prevRecordLsn,
    });
  }

  /** The same timeline after a restart. */
  async reopen(timeline: Timeline): Promise<Timeline> {
    const { layers, diskConsistentLsn, diskConsistentPrev } = timeline.state;
    await timeline.close();
    return this.open(
      [...layers.all()].map(layer => layer.desc),
      diskConsistentLsn,
      diskConsistentPrev,
    );
  }

  async destroy(): Promise<void> {
    await this.pool.close();
    rmSync(this.home, { recursive: true, force: true });
  }
}
