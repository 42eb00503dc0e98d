// The door of adoption, as values: what it takes, what it keeps between starts, what it tells on the way. `adopt.ts` and
// `checkout.ts` are the functions behind it; the command line and the manager are their callers.
//
//   const result = await adopt(options, world, onProgress)        src/control/adopt/adopt.ts
//   await endAdoption({ origin, store }, world)                   drops the slot; the branch stays
//   await checkout(options, world, onProgress)                    src/control/adopt/checkout.ts
//
// An adoption is one timeline of a tenant that follows one running Postgres server, its origin:
//
//   1 check     the origin is fit, and nothing has been touched yet
//   2 slot      a physical replication slot keeps the origin's log from here on
//   3 import    a base backup streams into the pageserver: the timeline is there, complete, at one LSN
//   4 follow    the origin's log streams through our proposer into the safekeepers; the pageserver follows those
//
// Each step is recorded through `AdoptStore` before it is acted on, and asks what is already there before it does
// anything: whoever calls again with the same store goes on where the last one was, kill -9 included. A store belongs
// to one adoption; two adopters at once on one are told apart by their terms, and the older one ends.
//
// What ends it: `until`; the signal (its reason is thrown); another proposer on the timeline (`taken-over` is
// returned, not thrown: this is how a compute takes the timeline over); a Fault that no retry cures, with its hint.

import type { Lsn } from '../../base/lsn.ts';
import type { Clock, Http, Net, Random } from '../../base/ports.ts';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Where the storage is, as its clients see it. */
export interface StorageAt {
  /** The pageserver's management API, such as `http://127.0.0.1:9898`. */
  readonly pageserverHttp: string;
  /** Its page service. */
  readonly pageserver: HostPort;
  /** Empty is enough for a checkout. */
  readonly safekeepers: readonly HostPort[];
  readonly tenant: string;
  /** Shown to all of them, where they ask for one. */
  readonly token?: string | undefined;
}

/** A part of `World`; a test or the manager may bring its own. */
export interface AdoptWorld {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  readonly http: Http;
  /** A Net whose connections can go on under TLS; with `verify`, to a name that the machine's authorities vouch for. */
  tlsNet?(verify: boolean): Net;
  environment(name: string): string | undefined;
  readonly signal: AbortSignal;
}

/** What is kept of an adoption: nothing secret, so the password is not in it. */
export interface AdoptState {
  readonly version: 1;
  /** `host:port`. */
  readonly origin: string;
  /** Of the origin, decimal: another server at the same address is not taken for it. */
  readonly systemIdentifier: string;
  /** Postgres's own timeline: a promotion changes it, and what follows may not be what we have. */
  readonly originTimeline: number;
  readonly tenant: string;
  readonly timeline: string;
  readonly slot: string;
  /** PG_VERSION_NUM. */
  readonly pgVersion: number;
  readonly walSegmentSize: number;
  /** The last term that we stood for; 0 before the first. A higher one on a safekeeper is somebody else's. */
  readonly term: number;
}

export interface AdoptStore {
  load(): Promise<AdoptState | undefined>;
  /** Durable when it resolves. */
  save(state: AdoptState): Promise<void>;
}

export interface AdoptOptions {
  /** `postgres://user:password@host:port/?sslmode=require`; without a password, PGPASSWORD. */
  readonly origin: string;
  readonly storage: StorageAt;
  /** The base backup takes at most so much of the origin's disk and network. */
  readonly maxRateKbPerSecond?: number | undefined;
  /** For a new adoption: the id of the timeline to make; a random one unless given. */
  readonly timeline?: string | undefined;
  readonly store: AdoptStore;
  /**
   * caught-up       what the origin had when the import was done is in, and the pageserver has it
   * origin-stopped  the origin was shut down cleanly and its last record is in: a compute may take over
   * interrupted     goes on across restarts of the origin until the signal is aborted
   */
  readonly until: 'caught-up' | 'origin-stopped' | 'interrupted';
}

export type AdoptProgress =
  | {
      readonly step: 'checked';
      readonly pgVersion: number;
      readonly systemIdentifier: string;
      readonly walSegmentSize: number;
      readonly checksums: boolean;
      /** Found in the store: an adoption goes on. */
      readonly resumed: boolean;
      readonly timeline: string;
    }
  | { readonly step: 'slot'; readonly slot: string }
  | { readonly step: 'base-backup'; readonly doneBytes: number; readonly totalBytes: number }
  /** The timeline is there, complete at this LSN. */
  | { readonly step: 'imported'; readonly lsn: Lsn }
  | { readonly step: 'elected'; readonly term: number; readonly lsn: Lsn }
  /** About once a second. */
  | ({ readonly step: 'following' } & Lag)
  | ({ readonly step: 'caught-up' } & Lag)
  /** The origin, the pageserver or a quorum of safekeepers does not answer: tried again until it does. */
  | { readonly step: 'waiting'; readonly why: string }
  | { readonly step: 'origin-stopped'; readonly lsn: Lsn };

/** How far everybody is; 0 is unknown. */
export interface Lag {
  /** What the origin has flushed, as far as it said. */
  readonly originLsn: Lsn;
  readonly receivedLsn: Lsn;
  /** On a quorum of safekeepers. */
  readonly commitLsn: Lsn;
  readonly safekeepers: readonly Lsn[];
  /** What the pageserver has received. */
  readonly pageserverLsn: Lsn;
}

export interface AdoptResult {
  readonly tenant: string;
  readonly timeline: string;
  readonly ended: 'caught-up' | 'origin-stopped' | 'taken-over';
  /** Everything up to here is on a quorum. */
  readonly commitLsn: Lsn;
}

export interface CheckoutOptions {
  readonly storage: StorageAt;
  readonly timeline: string;
  /** An LSN (`0/16B3748`), a time (RFC 3339), or the newest. */
  readonly at?: string | undefined;
  /** Absolute; empty or not there yet. */
  readonly directory: string;
  /** Wait until the machine has the files for good. */
  readonly sync: boolean;
}

export interface CheckoutResult {
  readonly lsn: Lsn;
  readonly files: number;
  readonly bytes: number;
  readonly pgVersion: number;
  /** Who owns the directory, if it is somebody else than who made it. */
  readonly owner: string | undefined;
}
