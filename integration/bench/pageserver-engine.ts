// An engine to measure: sealed files on the machine's disk, real threads, the default settings unless told otherwise;
// a base imported into a timeline, and a log taken in.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { timelineId } from '../../src/base/ids.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { WorkerPool } from '../../src/host/pool.ts';
import { hostRandom } from '../../src/host/random.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { Engine } from '../../src/pageserver/engine.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from '../../src/pageserver/engine-settings.ts';
import { FileImport, isImported, PIECE_BYTES } from '../../src/pageserver/import.ts';
import { Ingest } from '../../src/pageserver/ingest.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { LAYER_CHUNK_BYTES, vaultStore } from '../../src/pageserver/timeline/store.ts';
import { Timeline } from '../../src/pageserver/timeline/timeline.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { silentLog } from '../sim/engine.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import { SimRandom } from '../sim/random.ts';

/** As the receiver hands it over. */
const CHUNK = 64 * 1024;
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

  /** A timeline over what is on the disk; with fresh caches. */
  open(layers: readonly LayerDesc[] = [], lastRecordLsn = 0, prevRecordLsn = 0): Timeline {
    this.engine = this.newEngine();
    const vault = openVault({
      disk: hostDisk(this.home),
      directory: 'timeline',
      scope: { tenant: this.keys.tenant, timeline: ID },
      keys: this.keys,
      chunkBytes: LAYER_CHUNK_BYTES,
      random: hostRandom,
    });
    return new Timeline({
      id: ID,
      engine: this.engine,
      redo: { dialect: pg17, applyEdit },
      store: vaultStore(vault, 1),
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

/** Take over a data directory. */
export async function importBase(pgdata: PgData, directory: string): Promise<void> {
  const files = new FileImport(pgdata);
  const walk = async (inside: string): Promise<void> => {
    for (const entry of readdirSync(join(directory, inside), { withFileTypes: true })) {
      const path = inside === '' ? entry.name : `${inside}/${entry.name}`;
      if (entry.isDirectory()) await walk(path);
      else if (entry.isFile() && isImported(path)) {
        const bytes = new Uint8Array(readFileSync(join(directory, path)));
        for (let at = 0; at < bytes.length || at === 0; at += PIECE_BYTES)
          await files.piece(path, bytes.length, at, bytes.slice(at, at + PIECE_BYTES));
        await pgdata.timeline.writer().ready();
      }
    }
  };
  await walk('');
  await files.finish();
}

export interface Ingested {
  readonly bytes: number;
  readonly records: number;
  readonly seconds: number;
  /** Of this thread. */
  readonly cpuSeconds: number;
  /** The most that memory layers took. */
  readonly memoryBytes: number;
}

/** Take in a log as a receiver would, batch by batch, held back where the engine says so. */
export async function ingestLog(
  timeline: Timeline,
  ingest: Ingest,
  start: Lsn,
  segments: readonly Uint8Array[],
  pause: () => Promise<void> | undefined = () => undefined,
): Promise<Ingested> {
  const reader = new WalReader({ start, dialect: pg17 });
  const record = new WalRecord();
  const began = performance.now();
  const cpu = process.threadCpuUsage();
  let records = 0;
  let memoryBytes = 0;
  try {
    for (const segment of segments) {
      for (let at = 0; at < segment.length; at += CHUNK) {
        reader.push(segment.subarray(at, at + CHUNK));
        while (reader.next(record)) {
          records++;
          const waits = ingest.record(record);
          if (waits !== undefined) await waits;
        }
        ingest.advance();
        memoryBytes = Math.max(memoryBytes, timeline.engine.memoryBytes);
        await ingest.writer.ready();
        // The event loop turns between two pieces of the stream, as it does with a socket.
        await new Promise<void>(resolve => setImmediate(resolve));
        await pause();
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  ingest.advance();
  const { user, system } = process.threadCpuUsage(cpu);
  return {
    bytes: ingest.lastRecordLsn - start,
    records,
    seconds: (performance.now() - began) / 1000,
    cpuSeconds: (user + system) / 1e6,
    memoryBytes,
  };
}

export async function newIngest(timeline: Timeline): Promise<{ pgdata: PgData; ingest: Ingest }> {
  const pgdata = new PgData(timeline, pg17);
  const ingest = new Ingest(pgdata);
  return { pgdata, ingest };
}
