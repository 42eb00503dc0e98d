// What the manager asks of the storage: of pageservers by node, of the safekeepers as one. Every call may be repeated:
// it does what is not done yet. An implementation over HTTP is storage-http.ts; the simulation has its own.
//
// Faults: `connection-failed` and other `unavailable` ones are tried again; `request-invalid`, `branch-lsn-invalid` and
// the like are told to whoever asked.

import type { SafekeeperAt } from './drivers/driver.ts';
import type { Node } from './model.ts';

export type NewTimeline =
  | {
      readonly timelineId: string;
      readonly pgVersion: number;
      /** Of 14 and 15 heap records differ between Neon's builds and stock ones. */
      readonly flavour?: 'neon' | 'stock' | undefined;
    }
  | { readonly timelineId: string; readonly ancestorId: string; readonly lsn: string | undefined };

export interface TimelineState {
  /** Where it left its ancestor; undefined on a root. */
  readonly ancestorLsn: string | undefined;
  readonly lastRecordLsn: string;
}

export interface LsnByTime {
  readonly kind: 'present' | 'future' | 'past' | 'nodata';
  readonly lsn: string;
}

export interface TenantSettings {
  /** How far back in time reads go. */
  readonly historyRetentionSeconds: number;
}

export interface Storage {
  /** Answers, now. */
  alive(node: Node): Promise<boolean>;
  attach(node: Node, tenantId: string, generation: number, settings: TenantSettings): Promise<void>;
  /** Gives up what the node holds of a tenant; its objects stay. */
  detach(node: Node, tenantId: string): Promise<void>;
  /** The timeline, made if it is not there. */
  createTimeline(node: Node, tenantId: string, timeline: NewTimeline): Promise<TimelineState>;
  timeline(node: Node, tenantId: string, timelineId: string): Promise<TimelineState | undefined>;
  /** Resolves when it is gone. */
  deleteTimeline(node: Node, tenantId: string, timelineId: string): Promise<void>;
  deleteTenant(node: Node, tenantId: string): Promise<void>;
  lsnByTime(node: Node, tenantId: string, timelineId: string, atMs: number): Promise<LsnByTime>;
  /** Keeps an LSN readable; until when. */
  lease(node: Node, tenantId: string, timelineId: string, lsn: string): Promise<number>;
  /** What a quorum of safekeepers has acknowledged; undefined where they have never heard of it. */
  commitLsn(tenantId: string, timelineId: string): Promise<string | undefined>;
  /** Of one timeline, or of the whole tenant. */
  deleteWal(tenantId: string, timelineId: string | undefined): Promise<void>;
  /** As computes are told. */
  safekeepers(): readonly SafekeeperAt[];
}
