// One connection on a pageserver's Postgres port: who came, what it may touch, and which command it sent.
//
//   pagestream_v2, pagestream_v3   pages, until the client leaves (pagestream-session.ts)
//   basebackup, fullbackup         a tar archive as COPY OUT, by simple and by extended query
//   lease lsn                      one row: until when, in milliseconds since 1970; NULL when refused
//   set ...                        drivers say it; nothing to do
//
// Permission is asked per command, when the tenant is known, and before anything is looked up: about another tenant
// the answer is the same whether it exists or not.
//
// Answers to PageServerHandler of pageserver/src/page_service.rs.

import { concatBytes } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { type PageserverCommand, parsePageserverCommand } from '../protocol/commands.ts';
import { type Claims, checkPermission, type TokenVerifier } from '../protocol/jwt.ts';
import { commandComplete, dataRow, rowDescription, textColumn } from '../protocol/pq-messages.ts';
import type { PqConnection, PqHandler } from '../protocol/pq-serve.ts';
import type { StartupParameters } from '../protocol/pq-server.ts';
import { gzip } from './gzip.ts';
import { type PagestreamDeps, PagestreamSession } from './pagestream-session.ts';
import { collected } from './read-lsn.ts';
import { type ServedTimeline, ShardRouter } from './served.ts';

export interface BackupOptions {
  readonly lsn: Lsn;
  readonly prevLsn: Lsn | undefined;
  readonly full: boolean;
  readonly replica: boolean;
}

export interface PageServiceDeps extends PagestreamDeps {
  /** Undefined: everybody is trusted. */
  readonly tokens: TokenVerifier | undefined;
  /** The archive of a backup, piece by piece. */
  backup(served: ServedTimeline, options: BackupOptions): AsyncIterable<Uint8Array>;
}

type Command<K extends PageserverCommand['kind']> = Extract<PageserverCommand, { kind: K }>;

export class PageService implements PqHandler {
  private readonly deps: PageServiceDeps;
  private claims: Claims | undefined;

  constructor(deps: PageServiceDeps) {
    this.deps = deps;
  }

  startup(_parameters: StartupParameters): void {}

  async checkPassword(password: string): Promise<void> {
    this.claims = await this.deps.tokens?.verify(password);
  }

  async query(text: string, pq: PqConnection, extended: boolean): Promise<void> {
    const command = parsePageserverCommand(text);
    if (command.kind === 'set') return pq.send(commandComplete('SELECT 1'));
    this.authorize(command.tenantId);
    this.deps.metrics.commands.with(command.kind).inc();
    switch (command.kind) {
      case 'pagestream':
        if (extended) throw new Fault('command-unknown', 'pagestream is for simple queries');
        return new PagestreamSession(pq, command.version, command, this.deps).run();
      case 'basebackup':
        return this.backup(command, pq);
      case 'fullbackup':
        return this.backup({ ...command, gzip: false, replica: false }, pq);
      case 'lease-lsn':
        return this.lease(command, pq);
    }
  }

  private authorize(tenantId: TenantId): void {
    if (!this.deps.tokens) return;
    if (!this.claims) throw new Fault('auth-failed', 'no token was shown');
    checkPermission('pageserver', this.claims, tenantId);
  }

  private async find(tenantId: TenantId, timelineId: TimelineId): Promise<ShardRouter> {
    const router = new ShardRouter(this.deps.timelines, tenantId, timelineId);
    await router.refresh();
    return router;
  }

  private async backup(
    command: Omit<Command<'basebackup'>, 'kind'> & { kind: string; prevLsn?: Lsn | undefined },
    pq: PqConnection,
  ): Promise<void> {
    const { clock, metrics } = this.deps;
    const startMs = clock.monotonic();
    const observe = (result: string): void =>
      metrics.basebackup.with(result).observe((clock.monotonic() - startMs) / 1000);
    try {
      const served = (await this.find(command.tenantId, command.timelineId)).zero();
      if (served.isArchived) throw new Fault('timeline-missing', 'timeline is archived: not found');
      const lsn = await this.backupLsn(served, command.lsn);
      const waitedMs = clock.monotonic() - startMs;
      const { prevLsn, replica } = command;
      const options = { lsn, prevLsn, replica, full: command.kind === 'fullbackup' };
      const archive = this.deps.backup(served, options);
      const bytes = await sendArchive(pq, command.gzip ? gzip(archive) : archive);
      observe('ok');
      this.log('backup sent', { kind: command.kind, lsn: formatLsn(lsn), bytes, waitedMs, startMs });
    } catch (error) {
      observe('error');
      throw error;
    }
  }

  private log(message: string, { startMs, ...fields }: { startMs: number } & Record<string, unknown>): void {
    this.deps.log.info(message, { ...fields, ms: Math.round(this.deps.clock.monotonic() - startMs) });
  }

  private async backupLsn(served: ServedTimeline, asked: Lsn | undefined): Promise<Lsn> {
    const { timeline } = served;
    if (asked === undefined) return timeline.lastRecordLsn as Lsn;
    await timeline.waitFor(asked, this.deps.waitLsnTimeoutMs, served.signal);
    const { gcCutoffLsn } = timeline.state;
    if (asked < gcCutoffLsn && !served.leased(asked)) throw collected(asked, gcCutoffLsn);
    return asked;
  }

  private async lease(command: Command<'lease-lsn'>, pq: PqConnection): Promise<void> {
    const { tenantId, timelineId, shard, lsn } = command;
    const served = (await this.find(tenantId, timelineId)).known(shard.number, shard.count);
    let until: string | null = null;
    try {
      until = String(served.lease(lsn));
    } catch (error) {
      // NULL tells the compute that it will never get one.
      if (!isFault(error)) throw error;
      this.deps.log.info('a lease was refused', { lsn: formatLsn(lsn), error });
    }
    const row = [rowDescription([textColumn('valid_until')]), dataRow([until]), commandComplete('SELECT 1')];
    await pq.send(concatBytes(row));
  }
}

/** Pieces of an archive are put together to at least this much per message. */
const MESSAGE_BYTES = 64 * 1024;

async function sendArchive(pq: PqConnection, archive: AsyncIterable<Uint8Array>): Promise<number> {
  await pq.startCopyOut();
  let total = 0;
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  const flush = async (): Promise<void> => {
    if (waitingBytes > 0) await pq.sendCopyData(...waiting);
    waiting = [];
    waitingBytes = 0;
  };
  for await (const piece of archive) {
    waiting.push(piece);
    waitingBytes += piece.length;
    total += piece.length;
    if (waitingBytes >= MESSAGE_BYTES) await flush();
  }
  await flush();
  await pq.endCopyOut('SELECT 1');
  return total;
}
