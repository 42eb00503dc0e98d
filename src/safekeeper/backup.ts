// What a safekeeper does for its timelines beside serving them, once a second and cheaply where there is nothing to
// do: whole segments to the object store (by the one elected uploader), the incomplete one after a while, removal
// of what nobody needs, eviction of idle timelines. What is to be done is decided by the plans (backup-plan.ts,
// removal-plan.ts, eviction-plan.ts); here it is carried out, at most one such job a timeline at a time.
//
// Without an object store WAL is removed once the pageserver has it in its own, and every peer has it, too: a peer
// that is behind could fetch it from nowhere else.
//
// Answers to wal_backup.rs, wal_backup_partial.rs, remove_wal.rs and timeline_eviction.rs of safekeeper/src.

import { Fault, isFault } from '../base/fault.ts';
import { Semaphore } from '../base/flow.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Clock, Log } from '../base/ports.ts';
import {
  beginPartial,
  collectPartial,
  electUploader,
  finishPartial,
  partialSegmentOf,
  partialUploadNeeded,
  segmentsToUpload,
} from './backup-plan.ts';
import type { PartialSegment } from './control-state.ts';
import { whyResident } from './eviction-plan.ts';
import { active, type SafekeeperMetrics } from './metrics.ts';
import type { Peers } from './peers.ts';
import { firstSegmentToKeep } from './removal-plan.ts';
import type { Timeline } from './timeline.ts';
import type { WalRemote } from './wal-remote.ts';

export interface BackupSettings {
  readonly maxOffloaderLagBytes: number;
  readonly parallelJobs: number;
  /** How long the incomplete segment waits for its upload after a change. */
  readonly partialTimeoutMs: number;
  readonly partialConcurrency: number;
  /** Idle timelines lose their local WAL. */
  readonly evict: boolean;
  readonly evictMinResidentMs: number;
  /** WAL is kept for the slowest reader. */
  readonly keepForReaders: boolean;
}

export interface BackupDeps {
  readonly nodeId: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: SafekeeperMetrics;
  readonly peers: Peers;
  /** Undefined: there is no object store, or backup is switched off. */
  readonly remote: WalRemote | undefined;
  readonly settings: BackupSettings;
}

interface Kept {
  busy: boolean;
  /** Since when the log ends where it does, and where. */
  end: string;
  endSinceMs: number;
  /** When it was used last. */
  usedMs: number;
}

/** A failed job is tried again after this. */
const RETRY_MS = 5000;

export class Backup {
  private readonly deps: BackupDeps;
  private readonly segmentJobs: Semaphore;
  private readonly partialJobs: Semaphore;
  private readonly kept = new WeakMap<Timeline, Kept>();

  constructor(deps: BackupDeps) {
    this.deps = deps;
    this.segmentJobs = new Semaphore(deps.settings.parallelJobs);
    this.partialJobs = new Semaphore(deps.settings.partialConcurrency);
  }

  /** To be called about once a second. Jobs it starts go on behind it. */
  tick(timelines: readonly Timeline[]): void {
    for (const timeline of timelines) {
      if (timeline.signal.aborted) continue;
      const kept = this.look(timeline);
      if (kept.busy) continue;
      const job = this.jobFor(timeline, kept);
      if (job) void this.run(timeline, kept, job);
    }
  }

  private look(timeline: Timeline): Kept {
    const now = this.deps.clock.monotonic();
    const end = `${timeline.flushLsn}/${timeline.commitLsn}/${timeline.term}`;
    let kept = this.kept.get(timeline);
    if (!kept) this.kept.set(timeline, (kept = { busy: false, end, endSinceMs: now, usedMs: now }));
    if (kept.end !== end) {
      kept.end = end;
      kept.endSinceMs = now;
    }
    if (timeline.proposers().length > 0 || timeline.readers().length > 0) kept.usedMs = now;
    return kept;
  }

  private jobFor(timeline: Timeline, kept: Kept): (() => Promise<void>) | undefined {
    const { remote } = this.deps;
    if (remote) {
      if (this.isUploader(timeline)) return () => this.uploadSegments(timeline, remote);
      if (this.partialIsDue(timeline, kept)) return () => this.uploadPartial(timeline, remote);
    }
    if (this.removable(timeline) > 0) return () => this.removeWal(timeline);
    if (remote && this.mayEvict(timeline, kept)) return () => this.evict(timeline);
    return undefined;
  }

  private async run(timeline: Timeline, kept: Kept, job: () => Promise<void>): Promise<void> {
    kept.busy = true;
    try {
      await job();
    } catch (error) {
      if (!timeline.signal.aborted) {
        this.deps.metrics.backupErrors.inc();
        this.logOf(timeline).warn('upkeep of WAL failed; it is tried again', { error });
        await this.deps.clock.sleep(RETRY_MS, timeline.signal).catch(() => {});
      }
    } finally {
      kept.busy = false;
    }
  }

  private logOf(timeline: Timeline): Log {
    return this.deps.log.with({ tenant: timeline.key.tenantId, timeline: timeline.key.timelineId });
  }

  // ---------------------------------------------------------------------------------------------- whole segments

  private isUploader(timeline: Timeline): boolean {
    const { memory, control, offloaded } = timeline.status();
    if (
      offloaded ||
      segmentsToUpload(memory.backupLsn, memory.commitLsn, control.server.walSegSize).length === 0
    ) {
      return false;
    }
    const choice = {
      timelineId: timeline.key.timelineId,
      backupLsn: memory.backupLsn,
      maxLagBytes: this.deps.settings.maxOffloaderLagBytes,
    };
    return electUploader(this.deps.peers.alive(timeline.key), choice) === this.deps.nodeId;
  }

  private async uploadSegments(timeline: Timeline, remote: WalRemote): Promise<void> {
    const { memory, control } = timeline.status();
    const segments = segmentsToUpload(memory.backupLsn, memory.commitLsn, control.server.walSegSize);
    const uploads = segments.map(segment =>
      this.segmentJobs.run(async () => {
        timeline.signal.throwIfAborted();
        await remote.putSegment(timeline.key, segment.name);
      }),
    );
    for (const upload of uploads) upload.catch(() => {});
    // In order: backup_lsn is the end of the last one before which all are there.
    for (const [i, upload] of uploads.entries()) {
      await upload;
      this.deps.metrics.backedUpSegments.inc();
      await timeline.setBackupLsn(segments[i]!.endLsn);
      this.logOf(timeline).info('segment uploaded', {
        segment: segments[i]!.name,
        backupLsn: formatLsn(segments[i]!.endLsn),
      });
    }
  }

  // -------------------------------------------------------------------------------------------- the incomplete one

  private partialIsDue(timeline: Timeline, kept: Kept): boolean {
    const { control, memory, flushLsn, lastLogTerm, offloaded } = timeline.status();
    if (offloaded || flushLsn === 0 || memory.commitLsn !== flushLsn) return false;
    const waited = this.deps.clock.monotonic() - kept.endSinceMs;
    if (waited < this.deps.settings.partialTimeoutMs) return false;
    return partialUploadNeeded(control.partialSegments, {
      flushLsn,
      commitLsn: memory.commitLsn,
      lastLogTerm,
    });
  }

  private uploadPartial(timeline: Timeline, remote: WalRemote): Promise<void> {
    return this.partialJobs.run(async () => {
      const { control, memory, flushLsn, lastLogTerm } = timeline.status();
      const end = { flushLsn, commitLsn: memory.commitLsn, lastLogTerm };
      const next = partialSegmentOf(end, this.deps.nodeId, control.server.walSegSize);
      await this.changePartials(timeline, segments => beginPartial(segments, next));
      const bytes = await remote.putPartial(timeline, next, timeline.term);
      this.deps.metrics.partialUploads.inc();
      this.deps.metrics.partialUploadedBytes.inc(bytes);
      await this.changePartials(timeline, segments => finishPartial(segments, next));
      await this.collect(timeline, remote);
    });
  }

  private async changePartials(
    timeline: Timeline,
    change: (segments: readonly PartialSegment[]) => readonly PartialSegment[],
  ): Promise<void> {
    await timeline.changeControl(control => ({
      ...control,
      partialSegments: change(control.partialSegments),
    }));
  }

  private async collect(timeline: Timeline, remote: WalRemote): Promise<void> {
    const { remove } = collectPartial(timeline.status().control.partialSegments);
    if (remove.length === 0) return;
    await remote.remove(timeline.key, remove);
    await this.changePartials(timeline, segments => segments.filter(s => !remove.includes(s.name)));
  }

  /** Restores local WAL and removes every partial segment from the store; the names that were there. */
  async resetPartial(timeline: Timeline): Promise<string[]> {
    const { remote } = this.deps;
    if (!remote) throw new Fault('config-invalid', 'there is no object store');
    if (timeline.offloaded) await timeline.restore();
    const names = timeline.status().control.partialSegments.map(s => s.name);
    await this.changePartials(timeline, segments => segments.map(s => ({ ...s, status: 'deleting' })));
    await this.collect(timeline, remote);
    return names;
  }

  // -------------------------------------------------------------------------------------------- removal, eviction

  private removeBelow(timeline: Timeline): number {
    const { control, flushLsn } = timeline.status();
    const laggardLsn = this.deps.settings.keepForReaders ? slowest(timeline) : undefined;
    // Without an object store nothing is ever uploaded: what the pageserver has, and every peer, may go.
    const { remoteConsistentLsn, peerHorizonLsn } = control;
    const backupLsn = Math.min(remoteConsistentLsn, peerHorizonLsn) as Lsn;
    const seen = this.deps.remote ? control : { ...control, backupLsn };
    return firstSegmentToKeep({ control: seen, flushLsn, laggardLsn });
  }

  private removable(timeline: Timeline): number {
    if (timeline.offloaded) return 0;
    const below = this.removeBelow(timeline);
    return timeline.segments().filter(s => s.segno < below).length;
  }

  private async removeWal(timeline: Timeline): Promise<void> {
    const count = await timeline.removeSegmentsBelow(this.removeBelow(timeline));
    this.deps.metrics.removedSegments.inc(count);
    if (count > 0) this.logOf(timeline).info('WAL removed that nobody needs', { segments: count });
    else await this.deps.clock.sleep(RETRY_MS, timeline.signal);
  }

  private mayEvict(timeline: Timeline, kept: Kept): boolean {
    const { evict, evictMinResidentMs } = this.deps.settings;
    if (!evict) return false;
    const view = {
      status: timeline.status(),
      proposers: timeline.proposers().length,
      readers: timeline.readers().length,
      active: active(timeline),
      segments: timeline.segments().length,
      residentMs: this.deps.clock.monotonic() - kept.usedMs,
    };
    return whyResident(view, evictMinResidentMs) === undefined;
  }

  private async evict(timeline: Timeline): Promise<void> {
    try {
      await timeline.offload();
    } catch (error) {
      // Somebody came meanwhile.
      if (!isFault(error, 'timeline-busy')) throw error;
    }
  }
}

function slowest(timeline: Timeline): Lsn | undefined {
  const positions = timeline.readers().map(r => r.position);
  return positions.length === 0 ? undefined : (Math.min(...positions) as Lsn);
}
