// Which safekeeper a timeline receives its WAL from, and when it changes to another. Knows what the broker told and
// how the connection fares; waits for nothing, and is told the time.
//
//   no connection                                                           the best candidate
//   silence for connectTimeoutMs                                            another, if there is one
//   connecting                                                              keep
//   another has maxLsnWalLag more committed WAL                             change
//   another has as much, lies in our zone, and the one we have does not     change
//   another has more, and nothing new came for laggingWalTimeoutMs          change
//   else                                                                    keep
//
// The best candidate is the one with the most committed WAL; of equals, the one that failed us least. Candidates not
// heard of for laggingWalTimeoutMs are forgotten. After a connection ends its safekeeper is left alone for a while
// that grows with each failure, counted from the connection's start, and forgiven once a connection brought WAL. A
// safekeeper that ended the stream because we have everything is no failure: nobody is asked before there is more.
//
// Answers to ConnectionManagerState of pageserver/src/tenant/timeline/walreceiver/connection_manager.rs.

import type { Lsn } from '../base/lsn.ts';
import { formatLsn } from '../base/lsn.ts';

export interface ReceiverSettings {
  readonly connectTimeoutMs: number;
  readonly laggingWalTimeoutMs: number;
  readonly maxLsnWalLag: number;
  readonly availabilityZone: string | undefined;
}

export const RECEIVER_DEFAULTS: ReceiverSettings = {
  connectTimeoutMs: 10_000,
  laggingWalTimeoutMs: 10_000,
  maxLsnWalLag: 1024 * 1024 * 1024,
  availabilityZone: undefined,
};

/** What the broker told of a safekeeper. */
export interface Candidate {
  readonly safekeeperId: number;
  readonly commitLsn: Lsn;
  /** host:port */
  readonly connstr: string;
  readonly availabilityZone: string | undefined;
}

export type SwitchReason =
  | 'no-existing-connection'
  | 'no-keepalives'
  | 'lagging-wal'
  | 'switch-availability-zone'
  | 'no-wal-timeout';

export interface Switch {
  readonly to: Candidate;
  readonly reason: SwitchReason;
}

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 15_000;
const RETRY_GROWTH = 1.5;

interface Current {
  readonly candidate: Candidate;
  readonly startedMs: number;
  connected: boolean;
  /** The last sign of life. */
  aliveMs: number;
  /** The last WAL. */
  walMs: number;
  streamingLsn: number | undefined;
  commitLsn: number | undefined;
  /** More WAL than this one has is known to be elsewhere. */
  newer: { readonly lsn: number; readonly sinceMs: number } | undefined;
}

interface Retry {
  atMs: number;
  waitMs: number;
  failures: number;
}

export class ReceiverPlan {
  readonly settings: ReceiverSettings;
  private readonly candidates = new Map<number, { candidate: Candidate; heardMs: number }>();
  private readonly retries = new Map<number, Retry>();
  private current: Current | undefined;
  /** We were told that this is all there is. */
  private completeLsn = 0;

  constructor(settings: ReceiverSettings) {
    this.settings = settings;
  }

  get connection(): Readonly<Current> | undefined {
    return this.current;
  }

  get idle(): boolean {
    return !this.current && this.candidates.size === 0;
  }

  /** The broker told of a safekeeper; true when it is a new one. */
  heard(candidate: Candidate, nowMs: number): boolean {
    const isNew = !this.candidates.has(candidate.safekeeperId);
    this.candidates.set(candidate.safekeeperId, { candidate, heardMs: nowMs });
    return isNew;
  }

  /** What to change, if anything. */
  next(nowMs: number, lastRecordLsn: number): Switch | undefined {
    this.forgetStale(nowMs);
    const { current } = this;
    const best = this.best(nowMs, current?.candidate.safekeeperId);
    if (!best) return undefined;
    if (!current) return { to: best, reason: 'no-existing-connection' };
    const reason = this.reasonToLeave(current, best, nowMs, lastRecordLsn);
    return reason && { to: best, reason };
  }

  private reasonToLeave(
    current: Current,
    best: Candidate,
    nowMs: number,
    lastRecordLsn: number,
  ): SwitchReason | undefined {
    const { connectTimeoutMs, laggingWalTimeoutMs, maxLsnWalLag, availabilityZone } = this.settings;
    if (nowMs - current.aliveMs > connectTimeoutMs) return 'no-keepalives';
    if (!current.connected) return undefined;
    if (current.commitLsn !== undefined && best.commitLsn >= current.commitLsn) {
      if (best.commitLsn - current.commitLsn >= maxLsnWalLag) return 'lagging-wal';
      const ours = availabilityZone !== undefined && best.availabilityZone === availabilityZone;
      if (ours && current.candidate.availabilityZone !== availabilityZone) return 'switch-availability-zone';
    }
    const streaming = current.streamingLsn ?? lastRecordLsn;
    const commit = current.commitLsn ?? streaming;
    if (current.newer && current.newer.lsn <= commit) current.newer = undefined;
    if (!current.newer && best.commitLsn > commit) current.newer = { lsn: best.commitLsn, sinceMs: nowMs };
    let waitingSinceMs: number | undefined;
    if (streaming < commit) waitingSinceMs = current.walMs;
    else if (current.newer) waitingSinceMs = Math.max(current.newer.sinceMs, current.walMs);
    const waited = waitingSinceMs !== undefined && nowMs - waitingSinceMs > laggingWalTimeoutMs;
    return waited && best.commitLsn > commit ? 'no-wal-timeout' : undefined;
  }

  private forgetStale(nowMs: number): void {
    for (const [id, { heardMs }] of this.candidates) {
      if (nowMs - heardMs > this.settings.laggingWalTimeoutMs) this.candidates.delete(id);
    }
  }

  private best(nowMs: number, omit: number | undefined): Candidate | undefined {
    let best: Candidate | undefined;
    for (const { candidate } of this.candidates.values()) {
      const { safekeeperId, commitLsn, connstr } = candidate;
      if (safekeeperId === omit || commitLsn <= this.completeLsn || connstr === '') continue;
      if ((this.retries.get(safekeeperId)?.atMs ?? 0) > nowMs) continue;
      if (!best || this.isBetter(candidate, best)) best = candidate;
    }
    return best;
  }

  private isBetter(a: Candidate, b: Candidate): boolean {
    if (a.commitLsn !== b.commitLsn) return a.commitLsn > b.commitLsn;
    return this.failures(a.safekeeperId) < this.failures(b.safekeeperId);
  }

  private failures(safekeeperId: number): number {
    return this.retries.get(safekeeperId)?.failures ?? 0;
  }

  /** A connection to this candidate is being made. */
  started(candidate: Candidate, nowMs: number): void {
    this.completeLsn = 0;
    this.current = {
      candidate,
      startedMs: nowMs,
      connected: false,
      aliveMs: nowMs,
      walMs: nowMs,
      streamingLsn: undefined,
      commitLsn: undefined,
      newer: undefined,
    };
  }

  /** It stands, and the safekeeper said where it is (IDENTIFY_SYSTEM). */
  identified(commitLsn: Lsn, nowMs: number): void {
    const { current } = this;
    if (!current) return;
    Object.assign(current, { connected: true, aliveMs: nowMs, walMs: nowMs, commitLsn });
  }

  keepalive(commitLsn: Lsn, nowMs: number): void {
    const { current } = this;
    if (!current) return;
    current.aliveMs = nowMs;
    current.commitLsn = commitLsn;
  }

  /** WAL up to `streamingLsn` has come. */
  wal(streamingLsn: number, commitLsn: Lsn, nowMs: number): void {
    const { current } = this;
    if (!current) return;
    this.keepalive(commitLsn, nowMs);
    current.walMs = nowMs;
    current.streamingLsn = streamingLsn;
    this.retries.delete(current.candidate.safekeeperId);
  }

  /** The connection is gone, whoever ended it; `complete` when the safekeeper had nothing more for us. */
  ended(complete = false): void {
    const { current } = this;
    if (!current) return;
    this.current = undefined;
    if (complete) {
      this.completeLsn = current.commitLsn ?? 0;
      return;
    }
    const id = current.candidate.safekeeperId;
    const retry = this.retries.get(id) ?? { atMs: 0, waitMs: RETRY_MIN_MS, failures: 0 };
    retry.atMs = current.startedMs + retry.waitMs;
    retry.waitMs = Math.min(retry.waitMs * RETRY_GROWTH, RETRY_MAX_MS);
    retry.failures++;
    this.retries.set(id, retry);
  }

  /** When to ask `next` again if nothing happens before; undefined when there is nothing to wait for. */
  wakeInMs(nowMs: number): number | undefined {
    let wakeMs = this.current || this.candidates.size > 0 ? nowMs + CHECK_MS : undefined;
    if (!this.current) {
      for (const { atMs } of this.retries.values()) {
        if (atMs > nowMs && (wakeMs === undefined || atMs < wakeMs)) wakeMs = atMs;
      }
    }
    return wakeMs === undefined ? undefined : wakeMs - nowMs;
  }

  /** One line, for people. */
  describe(): string {
    const { current } = this;
    let text = 'disconnected';
    if (current) {
      const { streamingLsn, commitLsn } = current;
      const node = `node ${current.candidate.safekeeperId}`;
      if (!current.connected) text = `connecting to ${node}`;
      else if (commitLsn === undefined || streamingLsn === undefined) text = `connected to ${node}`;
      else
        text = `streaming WAL from ${node}, commit|streaming Lsn: ${formatLsn(commitLsn)}|${formatLsn(streamingLsn)}`;
    }
    const known = [...this.candidates.values()].map(
      ({ candidate: c }) => `(${c.safekeeperId}|${formatLsn(c.commitLsn)})`,
    );
    return `${text}, safekeeper candidates (id|commit_lsn): [${known.join(', ')}]`;
  }
}

/** Silence and lag are looked at this often. */
const CHECK_MS = 1000;
