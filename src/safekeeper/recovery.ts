// Catching up without a compute: when no compute streams and a peer's log is newer, its WAL is fetched as the compute
// with the newest term would, and fed into our own acceptor as if its leader had come: vote, elected, appends. All
// rules of the acceptor hold; what a peer sends is examined like anything else.
//
//   donor's status (HTTP)         its term history
//   START_REPLICATION (term='N')  its WAL from the last common point on, flushed and maybe not committed
//
// It ends when nothing more comes, when a compute arrives, or when the donor's term changes.
//
// Answers to safekeeper/src/recovery.rs.

import { Fault } from '../base/fault.ts';
import { parseAddress } from '../base/flags.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import type { Clock, Http, Log, Net, Random } from '../base/ports.ts';
import { formatStreamProtocol } from '../protocol/commands.ts';
import { PqClient } from '../protocol/pq-client.ts';
import { readWalSenderMessage } from '../protocol/replication.ts';
import type { TermHistory } from '../protocol/walproposer.ts';
import type { Peers } from './peers.ts';
import { peerStatus } from './pull-timeline.ts';
import { donors } from './recovery-plan.ts';
import { highestCommonPoint } from './term-history.ts';
import type { Timeline } from './timeline.ts';
import type { PeerInfo, ProposerHandle } from './timeline-handle.ts';

const LOOK_MS = 2000;
/** Appends on their way to the disk. */
const IN_FLIGHT_BYTES_MAX = 4 * 1024 * 1024;

export interface RecoveryDeps {
  readonly nodeId: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly net: Net;
  readonly http: Http;
  readonly peers: Peers;
  /** Shown to peers. */
  readonly token: string | undefined;
  readonly tls: boolean;
}

export class Recovery {
  private readonly deps: RecoveryDeps;
  private readonly busy = new WeakSet<Timeline>();
  private readonly looked = new WeakMap<Timeline, number>();

  constructor(deps: RecoveryDeps) {
    this.deps = deps;
  }

  /** To be called about once a second; recoveries it starts go on behind it. */
  tick(timelines: readonly Timeline[]): void {
    const now = this.deps.clock.monotonic();
    for (const timeline of timelines) {
      if (timeline.signal.aborted || timeline.offloaded || this.busy.has(timeline)) continue;
      if (now - (this.looked.get(timeline) ?? -Infinity) < LOOK_MS) continue;
      this.looked.set(timeline, now);
      const donor = this.donorFor(timeline);
      if (donor) void this.run(timeline, donor);
    }
  }

  private donorFor(timeline: Timeline): PeerInfo | undefined {
    const { control, flushLsn, lastLogTerm } = timeline.status();
    const view = {
      nodeId: this.deps.nodeId,
      term: control.term,
      lastLogTerm,
      flushLsn,
      streamingComputes: timeline.proposers().filter(p => p.status === 'streaming').length,
    };
    return donors(view, this.deps.peers.alive(timeline.key))[0];
  }

  private async run(timeline: Timeline, donor: PeerInfo): Promise<void> {
    const { tenantId, timelineId } = timeline.key;
    const log = this.deps.log.with({ tenant: tenantId, timeline: timelineId, donor: donor.nodeId });
    this.busy.add(timeline);
    const from = timeline.flushLsn;
    try {
      await this.recover(timeline, donor);
      log.info('caught up with a peer', { from: formatLsn(from), to: formatLsn(timeline.flushLsn) });
    } catch (error) {
      if (!timeline.signal.aborted) log.info('catching up with a peer ended', { error });
    } finally {
      this.busy.delete(timeline);
    }
  }

  /** Fetch what `donor` has more than we. */
  async recover(timeline: Timeline, donor: PeerInfo): Promise<void> {
    const status = await peerStatus(timeline.key, hostUrl(donor), this.deps);
    const { term, epoch, term_history } = status.acceptor_state;
    if (term !== donor.term || epoch !== donor.lastLogTerm || status.flush_lsn < donor.flushLsn) {
      throw new Fault('term-changed', 'the peer is not any more what it was');
    }
    const theirs: TermHistory = term_history.filter(entry => entry.lsn <= status.flush_lsn);
    const session = timeline.connectProposer();
    try {
      const start = await elect(timeline, session, term, theirs);
      await this.stream(timeline, session, donor, term, start);
    } finally {
      await session.close();
    }
  }

  private async stream(
    timeline: Timeline,
    session: ProposerHandle,
    donor: PeerInfo,
    term: number,
    start: Lsn,
  ): Promise<void> {
    const { nodeId, net, random, token, tls } = this.deps;
    const { tenantId, timelineId } = timeline.key;
    const address = parseAddress(donor.pgAddress);
    if (!address) throw new Fault('config-invalid', `the peer's address is none: ${donor.pgAddress}`);
    const client = await PqClient.connect(net, random, {
      ...address,
      tls,
      password: token,
      parameters: {
        user: 'no_user',
        database: 'postgres',
        replication: 'true',
        application_name: `safekeeper_${nodeId}`,
        options: `-c timeline_id=${timelineId} tenant_id=${tenantId} protocol=${formatStreamProtocol({ type: 'vanilla' })}`,
      },
    });
    const feed = new Feed(timeline, session, term, start);
    try {
      const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(start)} (term='${term}')`);
      for (let bytes = await copy.read(); bytes; bytes = await copy.read()) {
        const message = readWalSenderMessage(bytes);
        if (message.kind === 'keepalive' && message.endLsn <= feed.at) break;
        if (message.kind === 'wal') await feed.take(message.startLsn, message.wal);
        if (computeCame(timeline, session)) break;
      }
      await feed.settled();
    } finally {
      client.destroy();
    }
  }
}

/** Stand in for the leader of `term`: where its log and ours part. */
async function elect(
  timeline: Timeline,
  session: ProposerHandle,
  term: number,
  termHistory: TermHistory,
): Promise<Lsn> {
  const { generation } = timeline.status().control.membership;
  await session.process({ kind: 'vote-request', generation, term });
  const { termHistory: ours, flushLsn } = timeline.status();
  const startStreamingAt = highestCommonPoint(termHistory, ours, flushLsn);
  await session.process({ kind: 'elected', generation, term, startStreamingAt, termHistory });
  return startStreamingAt;
}

/** WAL of a peer as appends of its leader. */
class Feed {
  at: Lsn;
  private readonly timeline: Timeline;
  private readonly session: ProposerHandle;
  private readonly term: number;
  private inFlight: Promise<unknown>[] = [];
  private inFlightBytes = 0;

  constructor(timeline: Timeline, session: ProposerHandle, term: number, at: Lsn) {
    this.timeline = timeline;
    this.session = session;
    this.term = term;
    this.at = at;
  }

  async take(startLsn: Lsn, wal: Uint8Array): Promise<void> {
    if (startLsn !== this.at) {
      throw new Fault(
        'protocol-violation',
        `WAL came from ${formatLsn(startLsn)}, not ${formatLsn(this.at)}`,
      );
    }
    const endLsn = (startLsn + wal.length) as Lsn;
    const append = this.session.process({
      kind: 'append-request',
      generation: this.timeline.status().control.membership.generation,
      term: this.term,
      beginLsn: startLsn,
      endLsn,
      commitLsn: INVALID_LSN,
      truncateLsn: INVALID_LSN,
      wal,
    });
    append.catch(() => {});
    this.at = endLsn;
    this.inFlight.push(append);
    this.inFlightBytes += wal.length;
    if (this.inFlightBytes > IN_FLIGHT_BYTES_MAX) await this.settled();
  }

  async settled(): Promise<void> {
    await Promise.all(this.inFlight);
    this.inFlight = [];
    this.inFlightBytes = 0;
  }
}

const computeCame = (timeline: Timeline, session: ProposerHandle): boolean =>
  timeline.proposers().some(p => p.id !== session.id && p.status === 'streaming');

function hostUrl(donor: PeerInfo): string {
  if (donor.httpsAddress) return `https://${donor.httpsAddress}`;
  return `http://${donor.httpAddress}`;
}
