// What a pageserver does by itself, all the time: memory that has been open for too long is written out, level 0 that
// is waiting is compacted, garbage is collected, layers leave a full disk, archived timelines are unloaded, heatmaps
// are told, warm secondaries kept warm.
//
// One loop looks every second at what is due; what it starts runs beside it, each kind once at a time for each tenant,
// and is awaited at the end. Periods are the tenant's own settings, read when they are due, so a change counts from then
// on; a period of zero means never. The first time comes after a part of the period dealt by chance, so that a thousand
// tenants do not come at once.
//
// Answers to tenant/tasks.rs, disk_usage_eviction_task.rs and tenant/timeline/eviction_task.rs.

import type { DiskUsageEviction } from './config.ts';
import { bytesTooMany, evictBytes, evictUnread } from './eviction.ts';
import { uploadHeatmap } from './secondary.ts';
import type { Tenant } from './tenant.ts';
import { collectTenant } from './tenant-gc.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { Tenants } from './tenants.ts';
import { offloadTimeline } from './timeline-archive.ts';

const LOOK_MS = 1000;
/** A secondary asks for its heatmap this often. */
const SECONDARY_MS = 60_000;
/** Archived timelines are looked at this often. */
const OFFLOAD_MS = 60_000;

interface Chore {
  dueMs: number;
  running: boolean;
}

export interface HousekeepingSettings {
  readonly eviction: DiskUsageEviction;
}

export class Housekeeping {
  private readonly tenants: Tenants;
  private readonly settings: HousekeepingSettings;
  private readonly stopping = new AbortController();
  private readonly chores = new Map<string, Chore>();
  private readonly running = new Set<Promise<void>>();
  /** When each timeline's open layer was first seen with something in it. */
  private readonly opened = new WeakMap<object, number>();
  private loop: Promise<void> | undefined;
  /** What was done, by name; for metrics. */
  readonly done = new Map<string, { count: number; failures: number; seconds: number }>();

  constructor(tenants: Tenants, settings: HousekeepingSettings) {
    this.tenants = tenants;
    this.settings = settings;
  }

  start(): void {
    this.loop ??= this.lookForEver();
  }

  /** Nothing is begun any more; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('stopped'));
    await this.loop;
    await Promise.all(this.running);
  }

  private async lookForEver(): Promise<void> {
    const { clock } = this.tenants.deps;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      this.look();
      await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  /** Begins what is due. */
  look(): void {
    const { eviction } = this.settings;
    if (eviction.enabled) this.due('disk', 'eviction', eviction.periodMs, () => this.freeDisk());
    for (const tenant of this.tenants.attached()) {
      if (tenant.phase === 'Active') this.lookAt(tenant);
    }
    for (const secondary of this.tenants.secondaries()) {
      const warm = this.tenants.location(secondary.at).warm;
      if (warm)
        this.due(`${secondary.at.tenant}${secondary.at.shard.number}`, 'secondary', SECONDARY_MS, () =>
          secondary.download(),
        );
    }
    this.forgetGone();
  }

  private lookAt(tenant: Tenant): void {
    const { settings, id } = tenant;
    for (const timeline of tenant.timelines.values()) this.flushIfOld(timeline);
    this.due(id, 'compaction', settings.compaction_period, async () => {
      for (const timeline of tenant.timelines.values()) timeline.timeline.upkeep.start();
    });
    this.due(id, 'gc', settings.gc_period, () => collectTenant(tenant));
    this.due(id, 'heatmap', settings.heatmap_period, () => uploadHeatmap(tenant));
    const { kind, period = 0, threshold = 0 } = settings.eviction_policy;
    if (kind === 'LayerAccessThreshold') {
      this.due(id, 'unread', period, () => this.evictUnread(tenant, threshold));
    }
    if (settings.timeline_offloading && this.tenants.deps.timelineOffloading) {
      this.due(id, 'offload', OFFLOAD_MS, () => offloadArchived(tenant));
    }
  }

  /** WAL that came and stopped is written out, too; the flusher itself looks only when more comes. */
  private flushIfOld({ timeline, phase, home }: TenantTimeline): void {
    const { open } = timeline.state;
    if (phase !== 'Active' || open.entries === 0) return;
    const now = this.tenants.deps.clock.monotonic();
    const since = this.opened.get(open);
    if (since === undefined) this.opened.set(open, now);
    else if (now - since >= home.settings.checkpoint_timeout) timeline.flushSoon();
  }

  private due(whose: string, what: string, periodMs: number, work: () => Promise<unknown>): void {
    const { clock, random } = this.tenants.deps;
    const name = `${whose} ${what}`;
    if (periodMs <= 0) return void this.chores.delete(name);
    const now = clock.monotonic();
    let chore = this.chores.get(name);
    if (!chore) this.chores.set(name, (chore = { dueMs: now + random.below(periodMs), running: false }));
    // The period may have been made shorter since.
    chore.dueMs = Math.min(chore.dueMs, now + periodMs);
    if (chore.running || chore.dueMs > now) return;
    chore.running = true;
    chore.dueMs = now + periodMs;
    const run: Promise<void> = this.run(whose, what, work).finally(() => {
      chore.running = false;
      this.running.delete(run);
    });
    this.running.add(run);
  }

  private async run(whose: string, what: string, work: () => Promise<unknown>): Promise<void> {
    const { clock, log } = this.tenants.deps;
    const began = clock.monotonic();
    const tally = this.done.get(what) ?? { count: 0, failures: 0, seconds: 0 };
    this.done.set(what, tally);
    tally.count++;
    try {
      await work();
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      tally.failures++;
      log.warn(`${what} failed`, { tenant: whose, error: String(error) });
    } finally {
      tally.seconds += (clock.monotonic() - began) / 1000;
    }
  }

  private async freeDisk(): Promise<void> {
    const { disk, clock, log } = this.tenants.deps;
    const bytes = await bytesTooMany(disk, this.settings.eviction);
    if (bytes === 0) return;
    const {
      layers,
      bytes: freed,
      shortBytes,
    } = await evictBytes(this.tenants.timelines(), bytes, clock.now());
    log.info('the disk is too full: layers were evicted', { wanted: bytes, freed, layers });
    if (shortBytes > 0)
      log.warn('the disk is too full, and what is left is not uploaded yet', { bytes: shortBytes });
  }

  private async evictUnread(tenant: Tenant, thresholdMs: number): Promise<void> {
    const now = tenant.deps.clock.now();
    for (const timeline of tenant.timelines.values()) await evictUnread(timeline, thresholdMs, now);
  }

  /** Chores of tenants that are no longer here. */
  private forgetGone(): void {
    if (this.chores.size < 16 * (this.tenants.attached().length + 1)) return;
    const here = new Set([...this.tenants.attached().map(tenant => tenant.id), 'disk']);
    for (const [name, chore] of this.chores) {
      if (!chore.running && !here.has(name.split(' ')[0]!)) this.chores.delete(name);
    }
  }
}

async function offloadArchived(tenant: Tenant): Promise<void> {
  for (const timeline of [...tenant.timelines.values()]) {
    if (timeline.isArchived && timeline.phase === 'Active') await offloadTimeline(tenant, timeline.id);
  }
}
