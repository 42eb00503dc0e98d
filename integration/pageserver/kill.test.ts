// kill -9 of the pageserver in a loop, under a client that pushes WAL to three safekeepers and readers that never stop;
// its cache is wiped now and then, and now and then it is killed again while it starts. Layers are small, so that it
// dies in the middle of flushes, merges, uploads and deletions. Every page ever answered is what the model says, and
// at the end every page is, at the newest LSN and at old ones.
//
// LAKEBED_PAGESERVER_KILLS sets how many deaths there are, LAKEBED_PAGESERVER_KILL_SEED their order, and
// LAKEBED_PAGESERVER_BACK_MS how soon after a start the newest page must be served (2000 on a machine of its own).

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { Storage } from '../pg/harness.ts';
import { Pusher } from '../safekeeper/pusher.ts';
import { SimRandom } from '../sim/random.ts';
import { ModelLog, PatientReader } from './model-log.ts';

const ROUNDS = Number(process.env['LAKEBED_PAGESERVER_KILLS'] ?? 6);
const SEED = Number(process.env['LAKEBED_PAGESERVER_KILL_SEED'] ?? 1);
const BACK_MS = Number(process.env['LAKEBED_PAGESERVER_BACK_MS'] ?? 60_000);
const READERS = 2;

let storage: Storage;
beforeAll(async () => {
  storage = await Storage.start({
    pageserverToml: [
      '[tenant_config]',
      'checkpoint_distance = 262144',
      'compaction_threshold = 3',
      'compaction_target_size = 524288',
      'image_creation_threshold = 3',
    ],
    walBackup: true,
  });
});
afterAll(() => storage.stop());

const pause = (ms: number): Promise<void> => new Promise(done => setTimeout(done, ms));

/** All of the local disk but settings and keys. */
function wipeCache(): void {
  const tenants = join(storage.dir, 'pageserver', 'tenants');
  for (const tenant of readdirSync(tenants))
    rmSync(join(tenants, tenant, 'timelines'), { recursive: true, force: true });
}

/** Processor time that a process has taken; what a busy machine adds is not in it. */
function cpuMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return Number.NaN;
  }
}

interface Back {
  /** To the newest page. */
  readonly ms: number;
  /** To the answer that it is up. */
  readonly readyMs: number;
  readonly cpuMs: number;
}

class Run {
  readonly log: ModelLog;
  readonly random = new SimRandom(SEED);
  private readonly pusher: Pusher;
  private readonly ids: { readonly tenant: string; readonly timeline: string };
  private stopping = false;
  committed: Lsn;
  answered = 0;
  wrong: string[] = [];
  retries = 0;

  constructor(tenant: string, timeline: string, start: Lsn, prev: Lsn) {
    this.ids = { tenant, timeline };
    this.log = new ModelLog(start, prev);
    this.committed = start;
    this.pusher = new Pusher({
      targets: storage.safekeepers.map(({ port }) => ({ host: '127.0.0.1', port })),
      key: { tenantId: tenantId(tenant), timelineId: timelineId(timeline) },
      log: this.log,
    });
  }

  /** Push and read until the body is done. */
  async during(body: () => Promise<void>): Promise<void> {
    await this.pusher.elect();
    const load = [this.push(), ...Array.from({ length: READERS }, (_, i) => this.read(i))];
    try {
      await Promise.race([body(), Promise.all(load)]);
    } finally {
      this.stopping = true;
      await Promise.all(load);
      this.pusher.close();
    }
  }

  private async push(): Promise<void> {
    const random = this.random.split('push');
    while (!this.stopping) {
      for (let records = 1 + random.below(20); records > 0; records--)
        this.pusher.write(this.log.next(random));
      const { end } = this.log;
      await this.pusher.committed(end);
      this.committed = end;
      await pause(10);
    }
  }

  private async read(number: number): Promise<void> {
    const random = this.random.split(`reader ${number}`);
    const reader = new PatientReader(storage.pageserverPort, this.ids);
    while (!this.stopping) {
      await this.check(reader, random);
      await pause(2);
    }
    this.retries += reader.retries;
    reader.close();
  }

  /** A page at the newest LSN, or at any before. */
  private async check(reader: PatientReader, random: SimRandom): Promise<void> {
    const { log, committed } = this;
    const batches = log.model.batches;
    const known = log.begun.filter(page => page.lsn < committed);
    if (known.length === 0) return;
    const { rel, blk, lsn: since } = random.pick(known);
    const past = batches[random.below(batches.length)]!.lsn;
    const lsn = past > since && past <= committed && random.chance(0.5) ? past : committed;
    await this.compare(reader, rel, blk, lsn);
  }

  private async compare(reader: PatientReader, rel: number, blk: number, lsn: number): Promise<void> {
    const page = await reader.page(rel, blk, lsn);
    this.answered++;
    if (Buffer.compare(page, this.log.model.page(rel, blk, lsn)) !== 0)
      this.wrong.push(`${rel} ${blk} at ${lsn}`);
  }

  /** Every page: now, and at LSNs all over the history. */
  async checkAll(points: number): Promise<number> {
    const reader = new PatientReader(storage.pageserverPort, this.ids);
    const { model, begun, end } = this.log;
    const each = Math.max(1, Math.floor(model.batches.length / points));
    const lsns = [...model.batches.map(batch => batch.lsn).filter((_, i) => i % each === 0), end];
    let pages = 0;
    for (const lsn of lsns)
      for (const page of begun.filter(known => known.lsn < lsn)) {
        await this.compare(reader, page.rel, page.blk, lsn);
        pages++;
      }
    reader.close();
    return pages;
  }

  /** From a start to the newest page, right. */
  async start(): Promise<Back> {
    const { pageserver, pageserverPort } = storage;
    const began = performance.now();
    let readyMs = Number.NaN;
    const starting = pageserver.start().then(() => {
      readyMs = performance.now() - began;
    });
    const reader = new PatientReader(pageserverPort, this.ids);
    const { rel, blk } = this.log.begun[0]!;
    await this.compare(reader, rel, blk, this.committed);
    const took = { ms: performance.now() - began, cpuMs: cpuMs(pageserver.pid) };
    reader.close();
    await starting;
    return { ...took, readyMs };
  }
}

test(`${ROUNDS} deaths, seed ${SEED}`, { timeout: 120_000 + ROUNDS * 60_000 }, async () => {
  await storage.during(async () => {
    const tenant = await storage.createTenant();
    const timeline = await storage.createTimeline(tenant, { pgVersion: 17 });
    const detail = await storage.http<Record<string, string>>('GET', `tenant/${tenant}/timeline/${timeline}`);
    const start = parseLsn(detail['last_record_lsn']!);
    const run = new Run(tenant, timeline, start, parseLsn(detail['prev_record_lsn']!));
    const back: (Back & { readonly wiped: boolean })[] = [];
    const random = run.random.split('deaths');
    await run.during(async () => {
      while (run.committed === start) await pause(10);
      for (let round = 0; round < ROUNDS; round++) {
        await pause(random.below(800));
        await storage.pageserver.kill('SIGKILL');
        const wiped = round % 4 === 1;
        if (wiped) wipeCache();
        if (round % 5 === 3) await killedWhileItStarts(random.below(600));
        back.push({ ...(await run.start()), wiped });
      }
    });
    expect(run.wrong).toEqual([]);
    const { pageserver } = storage;
    const pages = await run.checkAll(10);
    await pageserver.kill('SIGKILL');
    wipeCache();
    await pageserver.start();
    const again = await run.checkAll(10);
    expect(run.wrong).toEqual([]);
    const spread = (list: number[]): string => {
      const sorted = list.toSorted((a, b) => a - b);
      return `${sorted[sorted.length >> 1]!.toFixed(0)} ms, at most ${sorted.at(-1)!.toFixed(0)}`;
    };
    console.log(
      `${ROUNDS} deaths (${back.filter(b => b.wiped).length} with the cache wiped): up after ${spread(back.map(b => b.readyMs))}; ` +
        `serving the newest page after ${spread(back.map(b => b.ms))}; processor time till then ${spread(back.map(b => b.cpuMs))}; ` +
        `${run.log.model.batches.length} records, ${run.log.end - start} bytes, ${run.answered} pages compared ` +
        `(${pages} and ${again} at the end), ${run.retries} connections made anew`,
    );
    expect(back.filter(b => b.ms > BACK_MS)).toEqual([]);
  });
});

async function killedWhileItStarts(afterMs: number): Promise<void> {
  const { pageserver } = storage;
  const started = pageserver.start().catch(() => undefined);
  await pause(afterMs);
  await pageserver.kill('SIGKILL');
  await started;
}
