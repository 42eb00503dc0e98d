// What the broker told of each timeline's safekeepers lately, ourselves among them: hearing our own message is the
// proof that our link to the broker works. Kept in memory, by timeline and node; who was not heard of within the
// heartbeat timeout does not count.
//
// Answers to TimelinePeers (PeersInfo) of safekeeper/src/timeline.rs.

import type { Clock } from '../base/ports.ts';
import type { PeerInfo, TimelineKey } from './timeline-handle.ts';

interface Heard {
  readonly info: PeerInfo;
  readonly atMs: number;
}

const nameOf = (key: TimelineKey): string => key.tenantId + key.timelineId;

export class Peers {
  private readonly clock: Clock;
  private readonly heartbeatTimeoutMs: number;
  private readonly timelines = new Map<string, Map<number, Heard>>();

  constructor(clock: Clock, heartbeatTimeoutMs: number) {
    this.clock = clock;
    this.heartbeatTimeoutMs = heartbeatTimeoutMs;
  }

  heard(key: TimelineKey, info: PeerInfo): void {
    const name = nameOf(key);
    const nodes = this.timelines.get(name) ?? new Map<number, Heard>();
    this.timelines.set(name, nodes.set(info.nodeId, { info, atMs: this.clock.monotonic() }));
  }

  /** Heard of within the heartbeat timeout. */
  alive(key: TimelineKey): PeerInfo[] {
    const since = this.clock.monotonic() - this.heartbeatTimeoutMs;
    const nodes = this.timelines.get(nameOf(key));
    return nodes ? [...nodes.values()].filter(h => h.atMs >= since).map(h => h.info) : [];
  }

  forget(key: TimelineKey): void {
    this.timelines.delete(nameOf(key));
  }
}
