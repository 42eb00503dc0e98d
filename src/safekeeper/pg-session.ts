// One connection on a safekeeper's Postgres port: who came, what it may touch, and which command it sent.
//
// Permission is asked per command, when the ids are known, and before anything is looked up: about another
// tenant's timeline the answer is the same whether it exists or not.
//
// Answers to SafekeeperPostgresHandler of safekeeper/src/handler.rs.

import { concatBytes } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import type { Clock, Log, Traces } from '../base/ports.ts';
import {
  parseSafekeeperCommand,
  parseSafekeeperStartup,
  type SafekeeperStartup,
} from '../protocol/commands.ts';
import { type Claims, checkPermission, type TokenVerifier } from '../protocol/jwt.ts';
import { commandComplete, dataRow, int4Column, rowDescription, textColumn } from '../protocol/pq-messages.ts';
import type { PqConnection, PqHandler } from '../protocol/pq-serve.ts';
import type { StartupParameters } from '../protocol/pq-server.ts';
import { type SafekeeperMetrics, UNKNOWN } from './metrics.ts';
import { sendInterpreted } from './send-interpreted.ts';
import { sendWal } from './send-wal.ts';
import type { StreamRegistry } from './stream-registry.ts';
import type { TimelineKey } from './timeline-handle.ts';
import type { Timelines } from './timelines.ts';
import type { Traffic } from './traffic.ts';
import { receiveWal } from './wal-service.ts';

export interface PgSessionDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly timelines: Timelines;
  readonly metrics: SafekeeperMetrics;
  readonly streams: StreamRegistry;
  /** Undefined: everybody is trusted. */
  readonly tokens: TokenVerifier | undefined;
  /** The second port: tokens of single tenants only. */
  readonly tenantOnly: boolean;
  /** Ours, for counters of traffic between zones. */
  readonly availabilityZone: string | undefined;
  readonly traces?: Traces | undefined;
}

export class PgSession implements PqHandler {
  readonly connectionId: number;
  private readonly deps: PgSessionDeps;
  private readonly traffic: Traffic;
  private startupSaid: SafekeeperStartup | undefined;
  private claims: Claims | undefined;

  constructor(connectionId: number, deps: PgSessionDeps, traffic: Traffic) {
    this.connectionId = connectionId;
    this.deps = deps;
    this.traffic = traffic;
  }

  startup(parameters: StartupParameters): void {
    this.startupSaid = parseSafekeeperStartup(parameters);
  }

  async checkPassword(password: string): Promise<void> {
    const { tokens, tenantOnly } = this.deps;
    if (!tokens) return;
    const claims = await tokens.verify(password);
    if (tenantOnly && claims.scope !== 'tenant') {
      throw new Fault('auth-failed', 'this port takes tokens of single tenants only');
    }
    this.claims = claims;
  }

  async query(text: string, pq: PqConnection): Promise<void> {
    const command = parseSafekeeperCommand(text);
    if (command.kind === 'set') return pq.send(commandComplete('SELECT 1'));
    const finished = this.deps.metrics.query(command.kind.toUpperCase().replaceAll('-', '_'));
    try {
      const key = this.authorized();
      this.countTraffic();
      switch (command.kind) {
        case 'identify-system':
          return await this.identifySystem(key, pq);
        case 'timeline-status':
          return await this.timelineStatus(key, pq);
        case 'show':
          return await this.show(key, command.name, pq);
        case 'start-wal-push': {
          const { protoVersion, allowTimelineCreation } = command;
          return await receiveWal(pq, { key, protoVersion, allowTimelineCreation }, this.deps);
        }
        case 'start-replication':
          return await this.startReplication(key, command.startLsn, command.term, pq);
      }
    } finally {
      finished();
    }
  }

  private authorized(): TimelineKey {
    const { tenantId, timelineId } = this.startupSaid ?? {};
    if (!tenantId || !timelineId) {
      throw new Fault('command-unknown', 'the connection names no tenant and timeline', {
        hint: "Connect with options='-c tenant_id=... timeline_id=...'.",
      });
    }
    if (this.deps.tokens) {
      if (!this.claims) throw new Fault('auth-failed', 'no token was shown');
      checkPermission('safekeeper', this.claims, tenantId);
    }
    return { tenantId, timelineId };
  }

  /** Only of those who may be here: names that strangers make up are no names of series. */
  private countTraffic(): void {
    const { metrics, availabilityZone } = this.deps;
    const theirs = this.startupSaid?.availabilityZone ?? UNKNOWN;
    this.traffic.assign(metrics.io(theirs, availabilityZone ?? UNKNOWN, this.applicationName || UNKNOWN));
  }

  private get applicationName(): string {
    return this.startupSaid?.applicationName ?? '';
  }

  private async identifySystem(key: TimelineKey, pq: PqConnection): Promise<void> {
    const timeline = this.deps.timelines.get(key);
    const recovers =
      this.applicationName === 'wal_proposer_recovery' || this.applicationName.startsWith('safekeeper');
    const { control } = timeline.status();
    const at = recovers ? timeline.flushLsn : timeline.commitLsn;
    const columns = [
      textColumn('systemid'),
      int4Column('timeline'),
      textColumn('xlogpos'),
      textColumn('dbname'),
    ];
    await pq.send(
      concatBytes([
        rowDescription(columns),
        dataRow([control.server.systemId.toString(), '1', formatLsn(at), null]),
        commandComplete('IDENTIFY_SYSTEM'),
      ]),
    );
  }

  private async timelineStatus(key: TimelineKey, pq: PqConnection): Promise<void> {
    const timeline = this.deps.timelines.find(key);
    const rows = timeline ? [dataRow([formatLsn(timeline.flushLsn), formatLsn(timeline.commitLsn)])] : [];
    await pq.send(
      concatBytes([
        rowDescription([textColumn('flush_lsn'), textColumn('commit_lsn')]),
        ...rows,
        commandComplete('TIMELINE_STATUS'),
      ]),
    );
  }

  /** What pg_receivewal and its kin ask before they begin. */
  private async show(key: TimelineKey, name: string, pq: PqConnection): Promise<void> {
    const { walSegSize } = this.deps.timelines.get(key).status().control.server;
    const known: Readonly<Record<string, string>> = {
      wal_segment_size: `${walSegSize / (1024 * 1024)}MB`,
      data_directory_mode: '0700',
    };
    const value = known[name];
    if (value === undefined) throw new Fault('command-unknown', `a safekeeper has no setting ${name}`);
    await pq.send(
      concatBytes([rowDescription([textColumn(name)]), dataRow([value]), commandComplete('SHOW')]),
    );
  }

  private async startReplication(
    key: TimelineKey,
    startLsn: Parameters<typeof sendWal>[2]['startLsn'],
    term: number | undefined,
    pq: PqConnection,
  ): Promise<void> {
    const timeline = this.deps.timelines.get(key);
    if (timeline.offloaded) await timeline.restore();
    const { protocol, shard } = this.startupSaid!;
    const { applicationName } = this;
    const reader = timeline.connectReader();
    const { connectionId } = this;
    const leave = this.deps.streams.add(timeline, {
      reader,
      address: pq.peer,
      connectionId,
      applicationName,
      shard,
    });
    try {
      const stream = { startLsn, term, applicationName };
      if (protocol.type === 'vanilla') await sendWal(pq, timeline, stream, reader, this.deps);
      else
        await sendInterpreted(
          pq,
          timeline,
          { ...stream, format: protocol, shard: shard! },
          reader,
          this.deps,
        );
    } finally {
      leave();
      reader.close();
    }
  }
}
