// A pageserver as it runs in earnest, to measure: a process of its own from `bin`, its store a directory, a broker and
// one safekeeper beside it; a stock cluster imported and its pages imaged; and the log of that cluster's work to catch
// up with, streamed by the safekeeper.
//
// The processor time of its event loop is told besides: on a machine that is not idle it is what can be compared.
// LAKEBED_BENCH_PROFILE names a directory for a profile of each of its threads; LAKEBED_BENCH_NODE_OPTIONS are told to
// its Node besides.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Lsn } from '../../src/base/lsn.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { DEFAULT_SEGMENT_SIZE } from '../../src/xlog/segment.ts';
import { hexId, StockLog, Whole, type WholePageserver } from '../pageserver/whole.ts';
import { PageClient, type PageTarget } from './page-client.ts';
import type { RecordedWal } from './wal-workload.ts';

const PROFILE = process.env['LAKEBED_BENCH_PROFILE'];
const NODE_OPTIONS = [
  ...(PROFILE ? [`--cpu-prof --cpu-prof-dir=${resolve(PROFILE)}`] : []),
  process.env['LAKEBED_BENCH_NODE_OPTIONS'] ?? '',
].join(' ');
const MAJOR = 17;
const BLCKSZ = 8192;

export interface CaughtUp {
  readonly bytes: number;
  readonly records: number;
  readonly seconds: number;
  /** Of the event loop, on the processor. */
  readonly loopSeconds: number;
  /** Of the process, all its threads. */
  readonly processSeconds: number;
}

export class BenchPageserver {
  readonly tenant = hexId();
  readonly timeline = hexId();
  private readonly whole: Whole;
  private readonly wal: RecordedWal;
  private readonly target: PageTarget;

  private constructor(whole: Whole, wal: RecordedWal) {
    this.whole = whole;
    this.wal = wal;
    this.target = largestTable(wal.base);
  }

  static async start(wal: RecordedWal): Promise<BenchPageserver> {
    const bench = new BenchPageserver(await Whole.start({ safekeepers: 1, env: { NODE_OPTIONS } }), wal);
    const { pageserver, tenant, timeline } = bench;
    await bench.whole.during(async () => {
      await pageserver.attach(tenant, 1);
      await pageserver.importData(tenant, timeline, wal.base, MAJOR);
      await bench.settle();
    });
    return bench;
  }

  get pageserver(): WholePageserver {
    return this.whole.pageservers[0]!;
  }

  /** All that is in memory into layers, all of level 0 merged, an image of every page, all of it in the store. */
  async settle(): Promise<void> {
    const path = `tenant/${this.tenant}/timeline/${this.timeline}`;
    const how = 'force_l0_compaction=true&force_image_layer_creation=true&wait_until_uploaded=true';
    await this.pageserver.ok('PUT', `${path}/checkpoint?${how}`);
  }

  /** A branch over HTTP, named in the object store when it is answered; milliseconds. */
  async branch(): Promise<number> {
    const start = performance.now();
    await this.pageserver.ok('POST', `tenant/${this.tenant}/timeline/`, {
      new_timeline_id: hexId(),
      ancestor_timeline_id: this.timeline,
    });
    return performance.now() - start;
  }

  client(random: () => number): Promise<PageClient> {
    return PageClient.open(this.pageserver.pgPort, this, this.target, random);
  }

  /** Seconds on the processor: of the event loop, and of the process. */
  cpu(): { loop: number; process: number } {
    const { pid } = this.pageserver;
    const seconds = (path: string): number => {
      try {
        return Number(readFileSync(`${path}/schedstat`, 'utf8').split(' ')[0]) / 1e9;
      } catch {
        return Number.NaN; // only Linux tells, and a thread may have ended
      }
    };
    const task = `/proc/${pid}/task`;
    let sum = 0;
    try {
      for (const tid of readdirSync(task)) sum += seconds(`${task}/${tid}`) || 0;
    } catch {
      sum = Number.NaN;
    }
    return { loop: seconds(`${task}/${pid}`), process: sum };
  }

  /** The most memory that the process ever had, in MB. */
  peakMemory(): number {
    try {
      const found = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pageserver.pid}/status`, 'utf8'));
      return Number(found?.[1]) / 1000;
    } catch {
      return Number.NaN;
    }
  }

  /** Bytes of memory layers now, as its metrics tell. */
  async memoryLayers(): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.pageserver.httpPort}/metrics`)).text();
    return Number(/^pageserver_timeline_ephemeral_bytes (\d+)/m.exec(text)?.[1]);
  }

  /**
   * A share of what is left of the log is pushed to the safekeeper while the pageserver stands still; then it goes on,
   * and is timed from the first record to the last. `meanwhile` begins with it, and is told when it is over.
   */
  async catchUp(
    share: number,
    meanwhile: (isOver: () => boolean) => Promise<void> = async () => undefined,
  ): Promise<CaughtUp> {
    const { pageserver, wal } = this;
    const start = await pageserver.lastRecordLsn(this.tenant, this.timeline);
    const { end, records, log } = readLog(wal, start, share);
    const watch = await this.client(() => 0);
    pageserver.signal('SIGSTOP');
    try {
      await this.whole.push(this.tenant, this.timeline, log);
    } finally {
      pageserver.signal('SIGCONT');
    }
    await watch.reached(start + 1);
    const before = this.cpu();
    const began = performance.now();
    let over = false;
    const beside = meanwhile(() => over);
    await watch.reached(end);
    const seconds = (performance.now() - began) / 1000;
    const after = this.cpu();
    over = true;
    await beside;
    watch.close();
    return {
      bytes: end - start,
      records,
      seconds,
      loopSeconds: after.loop - before.loop,
      processSeconds: after.process - before.process,
    };
  }

  async stop(): Promise<void> {
    // A profile is written at the end of a process that ends in good order.
    if (PROFILE) await this.pageserver.stop();
    await this.whole.stop();
  }
}

const RM_XLOG_ID = 0;
const XLOG_SWITCH = 0x40;

/** A share of it, cut where a record ends; the last switch of segments left out: nothing comes after it. */
function readLog(
  wal: RecordedWal,
  start: number,
  share: number,
): { end: Lsn; records: number; log: StockLog } {
  const directory = join(wal.postgres.dataDirectory, 'pg_wal');
  const { systemIdentifier } = readControlFile(readFileSync(join(wal.base, 'global/pg_control')));
  const reader = new WalReader({ start: start as Lsn, dialect: pg17 });
  const record = new WalRecord();
  const ends: number[] = [start];
  const origin = lsnOfSegment(wal.segments[0]!);
  for (const [i, path] of wal.segments.entries()) {
    const from = origin + i * DEFAULT_SEGMENT_SIZE;
    if (from + DEFAULT_SEGMENT_SIZE <= start) continue;
    reader.push(new Uint8Array(readFileSync(path)).subarray(Math.max(0, start - from)));
    try {
      while (reader.next(record)) {
        if (record.rmid === RM_XLOG_ID && (record.info & 0xf0) === XLOG_SWITCH) continue;
        ends.push(record.endLsn);
      }
    } catch {
      break; // what is behind the end
    }
  }
  const wanted = start + share * (ends.at(-1)! - start);
  const records = ends.findIndex(lsn => lsn >= wanted);
  const end = ends[records]! as Lsn;
  const log = new StockLog(directory, MAJOR, systemIdentifier, start as Lsn, end);
  return { end, records, log };
}

/** Of a file's name: timeline, high and low part, eight digits each. */
function lsnOfSegment(path: string): number {
  const name = path.slice(-24);
  return (
    Number.parseInt(name.slice(8, 16), 16) * 2 ** 32 +
    Number.parseInt(name.slice(16), 16) * DEFAULT_SEGMENT_SIZE
  );
}

/** Of the first database that is not a template. */
function largestTable(base: string): PageTarget {
  const dbOid = 5;
  const directory = join(base, 'base', String(dbOid));
  let target = { spcOid: 1663, dbOid, relNumber: 0, blocks: 0 };
  for (const name of readdirSync(directory).filter(file => /^\d+$/.test(file))) {
    const blocks = statSync(join(directory, name)).size / BLCKSZ;
    if (blocks > target.blocks) target = { ...target, relNumber: Number(name), blocks };
  }
  return target;
}
