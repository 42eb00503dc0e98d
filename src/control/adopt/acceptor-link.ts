// One safekeeper, as a proposer has it: a connection that is made again whenever it breaks, messages in order both
// ways, and what is known of that safekeeper. What the messages mean is the proposer's business.
//
//   connect -> START_WAL_PUSH -> greeting -> (whatever the proposer says) ... silence or an error -> connect again
//
// A safekeeper that says nothing for SILENCE_MS is taken for gone: heartbeats make it speak every second.
//
// Answers to the connection states of pgxn/neon/walproposer.c.

import { Fault } from '../../base/fault.ts';
import { INVALID_LSN, type Lsn } from '../../base/lsn.ts';
import type { Clock, Net, Random } from '../../base/ports.ts';
import { type CopyStream, PqClient } from '../../protocol/pq-client.ts';
import type {
  AcceptorMessage,
  ProposerGreeting,
  ProposerMessage,
  VoteResponse,
} from '../../protocol/walproposer.ts';
import { readAcceptorMessage, writeProposerMessage } from '../../protocol/walproposer-v3.ts';
import type { HostPort } from './contract.ts';

const RECONNECT_FIRST_MS = 50;
const RECONNECT_MAX_MS = 1000;
const CONNECT_MS = 5000;
const SILENCE_MS = 10_000;

export interface LinkDeps {
  readonly clock: Clock;
  readonly net: Net;
  readonly random: Random;
  readonly token: string | undefined;
}

export interface LinkOwner {
  readonly greeting: ProposerGreeting;
  /** A message came; throws what makes the connection useless. */
  heard(link: AcceptorLink, message: AcceptorMessage): void;
}

/** How a client of a safekeeper says which timeline it is about. */
export const timelineOptions = ({ tenantId, timelineId }: ProposerGreeting): string =>
  `-c timeline_id=${timelineId} tenant_id=${tenantId}`;

export class AcceptorLink {
  readonly target: HostPort;
  private readonly owner: LinkOwner;
  private readonly deps: LinkDeps;
  private readonly stopping = new AbortController();
  private copy: CopyStream | undefined;
  private heardMs = 0;
  private sentMs = 0;
  private waiting: (() => void)[] = [];

  // ---- what is known, over all connections ------------------------------------------------------------------
  nodeId: number | undefined;
  /** Durable there, as far as it said in our term. */
  flushLsn: Lsn = INVALID_LSN;
  /** What the pageserver that it feeds has received. */
  pageserverLsn: Lsn = INVALID_LSN;
  /** Why the last connection ended. */
  trouble: string | undefined;

  // ---- of this connection -----------------------------------------------------------------------------------
  /** Its term when it greeted us. */
  greeted: number | undefined;
  vote: VoteResponse | undefined;
  /** The next byte to send; undefined before it was told of our election. */
  at: Lsn | undefined;
  toldCommitLsn = -1;
  /** Whoever sends WAL does it alone. */
  sending = false;
  private begunLsn: number = INVALID_LSN;

  constructor(target: HostPort, owner: LinkOwner, deps: LinkDeps) {
    this.target = target;
    this.owner = owner;
    this.deps = deps;
  }

  get name(): string {
    return `${this.target.host}:${this.target.port}`;
  }

  /** Keeps a connection until `close`. */
  async run(): Promise<void> {
    const { clock } = this.deps;
    const { signal } = this.stopping;
    let pauseMs = RECONNECT_FIRST_MS;
    while (!signal.aborted) {
      try {
        await this.converse(() => (pauseMs = RECONNECT_FIRST_MS));
        this.trouble = 'it closed the connection';
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.trouble = error.message;
      }
      this.reset();
      await clock.sleep(pauseMs, signal).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, RECONNECT_MAX_MS);
    }
  }

  private async converse(onGreeted: () => void): Promise<void> {
    const { clock, net, random, token } = this.deps;
    const { greeting } = this.owner;
    const options = timelineOptions(greeting);
    const client = await PqClient.connect(net, random, {
      ...this.target,
      password: token,
      connectTimeoutMs: CONNECT_MS,
      parameters: { user: 'lakebed', database: 'replication', options },
    });
    if (this.stopping.signal.aborted) return client.destroy();
    try {
      this.heardMs = clock.monotonic();
      const copy = await client.copyBoth(
        "START_WAL_PUSH (proto_version '3', allow_timeline_creation 'true')",
      );
      this.copy = copy;
      await this.send(greeting);
      for (let bytes = await copy.read(); bytes !== undefined; bytes = await copy.read()) {
        this.heardMs = clock.monotonic();
        onGreeted();
        this.owner.heard(this, readAcceptorMessage(bytes));
        this.wake();
      }
    } finally {
      client.destroy();
    }
  }

  private reset(): void {
    this.copy?.destroy();
    this.copy = undefined;
    this.greeted = undefined;
    this.vote = undefined;
    this.at = undefined;
    this.toldCommitLsn = -1;
    this.wake();
  }

  /** Resolves when it may take more; a connection that is gone is found out by whoever reads from it. */
  async send(message: ProposerMessage): Promise<void> {
    const { copy } = this;
    if (copy === undefined) return;
    this.sentMs = this.deps.clock.monotonic();
    try {
      await copy.write(writeProposerMessage(message));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    }
  }

  /** Its log is ours up to here, and goes on from here. */
  begin(at: Lsn): void {
    this.at = this.begunLsn = at;
    this.toldCommitLsn = -1;
  }

  /** Sent and not known to be durable. */
  get inFlightBytes(): number {
    return (this.at ?? 0) - Math.max(this.flushLsn, this.begunLsn);
  }

  /** Every second or so: whether a heartbeat is due; cuts the connection if nothing was heard for long. */
  heartbeatDue(everyMs: number): boolean {
    if (this.copy === undefined) return false;
    const now = this.deps.clock.monotonic();
    if (now - this.heardMs > SILENCE_MS) {
      this.copy.destroy();
      return false;
    }
    return now - this.sentMs >= everyMs;
  }

  /** Resolves when it says something, or is gone. */
  changed(): Promise<void> {
    return new Promise(resolve => this.waiting.push(resolve));
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** Begin anew with another connection. */
  cut(): void {
    this.copy?.destroy();
  }

  close(): void {
    this.stopping.abort(new Fault('shutting-down', 'the proposer is closed'));
    this.cut();
  }
}
