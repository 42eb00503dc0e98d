// The fourth step of an adoption: the origin's log through our proposer into the safekeepers, across restarts of all of
// them, until what was asked for is reached.
//
//   origin --OriginStream--> Proposer --> safekeepers --> pageserver
//                 ^             |
//                 +-- status <--+ commit
//
// A connection that breaks is made again with growing pauses. What no retry cures is thrown: another server at the
// origin's address, a promotion, a log that the origin no longer has, damage.

import { Fault, isFault } from '../../base/fault.ts';
import { tenantId, timelineId } from '../../base/ids.ts';
import type { Lsn } from '../../base/lsn.ts';
import type { PqClient } from '../../protocol/pq-client.ts';
import type {
  AdoptOptions,
  AdoptProgress,
  AdoptResult,
  AdoptState,
  AdoptStore,
  AdoptWorld,
  Lag,
  StorageAt,
} from './contract.ts';
import { connectOrigin, type Origin } from './origin.ts';
import { OriginStream } from './origin-stream.ts';
import { Proposer, TakenOver } from './proposer.ts';
import type { Pageserver } from './storage.ts';

const REPORT_MS = 1000;
const RECONNECT_FIRST_MS = 100;
const RECONNECT_MAX_MS = 2000;

export interface Adoption {
  readonly origin: Origin;
  readonly state: AdoptState;
  readonly storage: StorageAt;
  readonly store: AdoptStore;
  readonly until: AdoptOptions['until'];
  /** Where the import ended: safekeepers that have nothing begin here. */
  readonly freshLsn: Lsn;
}

export async function follow(
  adoption: Adoption,
  pageserver: Pageserver,
  world: AdoptWorld,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptResult> {
  const following = new Following(adoption, pageserver, world, onProgress);
  try {
    return await following.run();
  } finally {
    following.close();
  }
}

class Following {
  private readonly adoption: Adoption;
  private readonly pageserver: Pageserver;
  private readonly world: AdoptWorld;
  private readonly onProgress: (progress: AdoptProgress) => void;
  private readonly proposer: Proposer;
  private readonly over = new AbortController();
  private stream: OriginStream | undefined;

  constructor(
    adoption: Adoption,
    pageserver: Pageserver,
    world: AdoptWorld,
    onProgress: (progress: AdoptProgress) => void,
  ) {
    this.adoption = adoption;
    this.pageserver = pageserver;
    this.world = world;
    this.onProgress = onProgress;
    const { clock, net, random } = world;
    this.proposer = new Proposer(this.proposerOptions(), {
      clock,
      net,
      random,
      token: adoption.storage.token,
    });
    const stop = (): void => this.over.abort(world.signal.reason);
    if (world.signal.aborted) stop();
    else world.signal.addEventListener('abort', stop, { once: true });
    // Whatever ends the proposer ends everything that waits.
    this.proposer.ended.catch((error: unknown) => this.over.abort(error));
  }

  private proposerOptions(): ConstructorParameters<typeof Proposer>[0] {
    const { state, store, storage, freshLsn } = this.adoption;
    return {
      targets: storage.safekeepers,
      greeting: {
        tenantId: tenantId(state.tenant),
        timelineId: timelineId(state.timeline),
        pgVersion: state.pgVersion,
        systemId: BigInt(state.systemIdentifier),
        walSegSize: state.walSegmentSize,
      },
      freshLsn,
      lastTerm: state.term,
      saveTerm: term => store.save({ ...state, term }),
      onElected: (term, lsn) => this.onProgress({ step: 'elected', term, lsn }),
      onCommit: () => void this.stream?.tell(),
    };
  }

  async run(): Promise<AdoptResult> {
    try {
      void this.reportRegularly();
      const start = await this.unlessOver(this.proposer.start());
      this.stream = this.openStream(start);
      return await this.unlessOver(this.untilDone());
    } catch (error) {
      if (error instanceof TakenOver) return this.result('taken-over');
      throw error;
    }
  }

  close(): void {
    this.over.abort(new Fault('shutting-down', 'the adoption has ended'));
    this.proposer.close();
  }

  private openStream(start: Lsn): OriginStream {
    const { state } = this.adoption;
    const { proposer, world } = this;
    return new OriginStream(
      {
        systemIdentifier: state.systemIdentifier,
        timelineId: state.originTimeline,
        slot: state.slot,
        pgVersion: state.pgVersion,
        walSegmentSize: state.walSegmentSize,
        start,
        take: bytes => {
          proposer.push(bytes);
          return proposer.room();
        },
        commitLsn: () => proposer.commitLsn,
      },
      world.clock,
    );
  }

  /** What happens first: that, or the end of everything. */
  private unlessOver<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.over;
    promise.catch(() => {});
    return new Promise((resolve, reject) => {
      const end = (): void => reject(signal.reason as Error);
      if (signal.aborted) return end();
      signal.addEventListener('abort', end, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
    });
  }

  private async untilDone(): Promise<AdoptResult> {
    const { until } = this.adoption;
    const caughtUp = this.untilCaughtUp();
    if (until === 'caught-up') {
      // The stream goes on meanwhile, and is the one that may fail.
      return Promise.race([caughtUp, this.streamOn()]);
    }
    caughtUp.catch(() => {});
    return this.streamOn();
  }

  /** The log, across restarts of the origin. */
  private async streamOn(): Promise<AdoptResult> {
    const { clock } = this.world;
    const { signal } = this.over;
    const stream = this.stream!;
    let pauseMs = RECONNECT_FIRST_MS;
    for (;;) {
      const before = stream.receivedLsn;
      try {
        await this.streamOnce(stream);
        if (stream.isShutDown) {
          await this.proposer.committed(stream.receivedLsn);
          this.onProgress({ step: 'origin-stopped', lsn: stream.receivedLsn });
          if (this.adoption.until === 'origin-stopped') {
            await this.pageserverHas(stream.receivedLsn);
            return this.result('origin-stopped');
          }
        }
      } catch (error) {
        signal.throwIfAborted();
        if (!isFault(error) || (error.kind !== 'unavailable' && error.kind !== 'closed')) throw error;
        this.onProgress({ step: 'waiting', why: `the origin: ${error.message}` });
      }
      if (stream.receivedLsn > before) pauseMs = RECONNECT_FIRST_MS;
      await clock.sleep(pauseMs, signal);
      pauseMs = Math.min(2 * pauseMs, RECONNECT_MAX_MS);
    }
  }

  private async streamOnce(stream: OriginStream): Promise<void> {
    let client: PqClient | undefined;
    try {
      client = await connectOrigin(this.adoption.origin, this.world);
      await stream.run(client, this.over.signal);
    } finally {
      client?.destroy();
    }
  }

  /** All that the origin had when it was first asked is in, here and in the pageserver. */
  private async untilCaughtUp(): Promise<AdoptResult> {
    await this.proposer.committed(await this.stream!.firstLsn);
    const { commitLsn } = this.proposer;
    await this.pageserverHas(commitLsn);
    this.onProgress({ step: 'caught-up', ...this.lag() });
    return this.result('caught-up');
  }

  private async pageserverHas(lsn: Lsn): Promise<void> {
    await this.pageserver.untilRead(this.adoption.state.timeline, lsn, this.over.signal);
  }

  private lag(): Lag {
    const { proposer, stream } = this;
    return {
      originLsn: stream?.originLsn ?? (0 as Lsn),
      receivedLsn: stream?.receivedLsn ?? (0 as Lsn),
      commitLsn: proposer.commitLsn,
      safekeepers: proposer.flushed,
      pageserverLsn: proposer.pageserverLsn,
    };
  }

  private async reportRegularly(): Promise<void> {
    const { signal } = this.over;
    let told: string | undefined;
    while (!signal.aborted) {
      await this.world.clock.sleep(REPORT_MS, signal).catch(() => {});
      if (signal.aborted) return;
      const { trouble } = this.proposer;
      if (trouble !== told && trouble !== undefined) this.onProgress({ step: 'waiting', why: trouble });
      told = trouble;
      if (this.stream !== undefined) this.onProgress({ step: 'following', ...this.lag() });
    }
  }

  private result(ended: AdoptResult['ended']): AdoptResult {
    const { tenant, timeline } = this.adoption.state;
    return { tenant, timeline, ended, commitLsn: this.proposer.commitLsn };
  }
}
