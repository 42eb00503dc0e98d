// Which connections read which timeline: what the HTTP API tells of them besides their feedback.

import type { ShardParameters } from '../protocol/commands.ts';
import type { ReaderHandle, TimelineHandle } from './timeline-handle.ts';

export interface WalStreamInfo {
  readonly reader: ReaderHandle;
  readonly address: string;
  readonly connectionId: number;
  readonly applicationName: string;
  /** Of the interpreted protocol. */
  readonly shard: ShardParameters | undefined;
}

export class StreamRegistry {
  private readonly streams = new Map<TimelineHandle, Set<WalStreamInfo>>();

  /** Call the result when the connection ends. */
  add(timeline: TimelineHandle, stream: WalStreamInfo): () => void {
    const set = this.streams.get(timeline) ?? new Set();
    this.streams.set(timeline, set.add(stream));
    return () => {
      set.delete(stream);
      if (set.size === 0) this.streams.delete(timeline);
    };
  }

  of(timeline: TimelineHandle): readonly WalStreamInfo[] {
    return [...(this.streams.get(timeline) ?? [])];
  }
}
