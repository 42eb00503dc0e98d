// Computes of stock Postgres, where there is no build of Neon's: a branch as a data directory, and its log followed
// into the safekeepers.
//
//   start   the pageserver has what a quorum has -> full backup of the branch -> Postgres -> follow
//   follow  Postgres --its log--> follower (adopt/follow.ts) --> safekeepers --> pageserver
//   stop    Postgres ends, the follower takes its last record, the directory is wiped
//
// A commit is told to the client when a quorum has it: Postgres waits for the follower (synchronous_standby_names), as a
// Neon compute waits for its walproposer. While the manager is away commits wait; it finds the compute again and follows
// on. One that died with records under way leaves safekeepers of different lengths: they are brought to one log before
// the next start. What it cannot do: a start copies the whole branch, where a Neon compute reads pages as it needs them;
// and a read replica stays where the branch was when it started.

import { Fault, isFault } from '../../../base/fault.ts';
import { answerText } from '../../../base/http.ts';
import { formatLsn, type Lsn, parseLsn } from '../../../base/lsn.ts';
import type { Http } from '../../../base/ports.ts';
import type { PqClient } from '../../../protocol/pq-client.ts';
import type { AdoptWorld, StorageAt } from '../../adopt/contract.ts';
import { follow } from '../../adopt/follow.ts';
import { checkOrigin, connectOrigin, ensureSlot, type Origin } from '../../adopt/origin.ts';
import { Pageserver } from '../../adopt/storage.ts';
import { syncSafekeepers } from '../../adopt/sync-safekeepers.ts';
import { ADMIN_ROLE, type DriverKind } from '../model.ts';
import { type ComputeAddress, type ComputeSpec, tooFew } from './driver.ts';
import { ProcessDriver, type ProcessDriverDeps, parentOf, type Stopwatch } from './process.ts';
import { stockSettings } from './settings.ts';

export interface StockDriverDeps extends ProcessDriverDeps {
  readonly http: Http;
  readonly storageToken: string | undefined;
}

interface Follower {
  readonly stop: AbortController;
  readonly done: Promise<unknown>;
  /** Rejects when it cannot go on. */
  readonly failed: Promise<never>;
}

const SLOT = 'lakebed_manager';
const CATCH_UP_MS = 10_000;
const FOLLOWER_END_MS = 15_000;

export class StockDriver extends ProcessDriver {
  override readonly kind: DriverKind = 'stock';
  private readonly stock: StockDriverDeps;
  private readonly followers = new Map<string, Follower>();

  constructor(deps: StockDriverDeps) {
    super(deps);
    this.stock = deps;
  }

  override problem(pgVersion: number): string | undefined {
    const majors = this.deps.computes.majors();
    if (majors.includes(pgVersion)) return undefined;
    return `no stock Postgres ${pgVersion} is installed (found: ${majors.join(', ') || 'none'})`;
  }

  protected override settings(spec: ComputeSpec, address: ComputeAddress, sockets: string): string {
    return stockSettings(spec, { ...address, sockets });
  }

  protected override async fill(
    spec: ComputeSpec,
    directory: string,
    signal: AbortSignal,
    watch: Stopwatch,
  ): Promise<void> {
    const { tenantId, timelineId, mode } = spec;
    const lsn = typeof mode === 'object' ? mode.staticLsn : await this.head(spec, signal);
    watch.lap('catch_up_ms');
    const client = await this.pageserver(spec);
    try {
      if (typeof mode === 'object') await client.query(`lease lsn ${tenantId} ${timelineId} ${lsn} `);
      await this.deps.computes.unpack(
        directory,
        client.copyOut(`fullbackup ${tenantId} ${timelineId} ${lsn}`),
      );
      watch.lap('fullbackup_ms');
    } finally {
      await client.end();
    }
  }

  /** Where the branch is: the pageserver has read what a quorum has, and nobody has more. */
  private async head(spec: ComputeSpec, signal: AbortSignal): Promise<string> {
    const world = this.worldOf(signal);
    const storage = this.storageOf(spec);
    const pageserver = new Pageserver(storage, world);
    const { commitLsn, flushLsn, term } = await this.written(spec);
    if (flushLsn <= commitLsn) return formatLsn(await this.readUpTo(commitLsn, spec, pageserver, signal));
    const { log } = this.deps;
    log.info('safekeepers are brought to one log', { branch: spec.branchId, commitLsn, flushLsn });
    const options = { storage, timeline: spec.timelineId, major: spec.pgVersion, term };
    let readLsn: Lsn | undefined;
    await syncSafekeepers(options, world, async lsn => {
      readLsn = await this.readUpTo(lsn, spec, pageserver, signal);
    });
    return formatLsn(readLsn!);
  }

  private async readUpTo(
    lsn: Lsn,
    { branchId, timelineId }: ComputeSpec,
    pageserver: Pageserver,
    signal: AbortSignal,
  ): Promise<Lsn> {
    const { clock } = this.deps;
    const over = new AbortController();
    const late = clock.sleep(CATCH_UP_MS, over.signal).then(() => {
      throw new Fault('timeout', `the pageserver has not read branch ${branchId} up to ${formatLsn(lsn)}`, {
        hint: 'It is tried again; look at the log of the pageserver.',
      });
    });
    late.catch(() => undefined);
    try {
      const either = AbortSignal.any([signal, over.signal]);
      return await Promise.race([pageserver.untilRead(timelineId, lsn, either), late]);
    } finally {
      over.abort(new Error('no longer waited for'));
    }
  }

  /** The furthest that any safekeeper has, and the newest term it voted in. */
  private async written(spec: ComputeSpec): Promise<{ commitLsn: Lsn; flushLsn: Lsn; term: number }> {
    const { http, storageToken } = this.stock;
    const told = await Promise.allSettled(
      spec.safekeepers.map(async ({ host, httpPort }) => {
        const url = `http://${host}:${httpPort}/v1/tenant/${spec.tenantId}/timeline/${spec.timelineId}`;
        const headers = storageToken === undefined ? {} : { authorization: `Bearer ${storageToken}` };
        const reply = await http.request({ method: 'GET', url, headers });
        const text = await answerText(reply);
        if (reply.status === 404) return { commitLsn: 0, flushLsn: 0, term: 0 };
        if (reply.status !== 200) {
          const code = reply.status === 403 ? 'key-revoked' : 'connection-failed';
          throw new Fault(code, `safekeeper ${host} answers ${reply.status}`);
        }
        const status = JSON.parse(text) as {
          flush_lsn: string;
          commit_lsn: string;
          acceptor_state: { term: number };
        };
        const { flush_lsn: flush, commit_lsn: commit, acceptor_state: acceptor } = status;
        return { commitLsn: parseLsn(commit), flushLsn: parseLsn(flush), term: acceptor.term };
      }),
    );
    const answers = told.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []));
    if (answers.length <= spec.safekeepers.length / 2)
      throw tooFew(answers.length, spec.safekeepers.length, told);
    const most = (of: (one: (typeof answers)[number]) => number): number => Math.max(...answers.map(of));
    return {
      commitLsn: most(one => one.commitLsn) as Lsn,
      flushLsn: most(one => one.flushLsn) as Lsn,
      term: most(one => one.term),
    };
  }

  private storageOf({ pageserver, safekeepers, tenantId }: ComputeSpec): StorageAt {
    return {
      pageserverHttp: pageserver.http,
      pageserver,
      safekeepers,
      tenant: tenantId,
      token: this.stock.storageToken,
    };
  }

  private worldOf(signal: AbortSignal): AdoptWorld {
    const { clock, random, net, http } = this.stock;
    return { clock, random, net, http, environment: () => undefined, signal };
  }

  protected override async begun(
    spec: ComputeSpec,
    at: { readonly directory: string; readonly port: number },
    _signal: AbortSignal,
  ): Promise<void> {
    if (spec.mode === 'primary') await this.startFollowing(spec, at);
  }

  private async startFollowing(
    spec: ComputeSpec,
    at: { readonly directory: string; readonly port: number },
  ): Promise<void> {
    const stop = new AbortController();
    const world = this.worldOf(stop.signal);
    const origin: Origin = {
      host: at.directory,
      port: at.port,
      user: ADMIN_ROLE,
      password: undefined,
      database: 'postgres',
      sslmode: 'disable',
    };
    const client: PqClient = await connectOrigin(origin, world);
    const facts = await checkOrigin(client);
    await ensureSlot(client, SLOT);
    await client.end();
    const { term } = await this.written(spec);
    const storage = this.storageOf(spec);
    const pageserver = new Pageserver(storage, world);
    const info = await pageserver.timeline(spec.timelineId);
    if (info === undefined) throw new Fault('timeline-missing', `branch ${spec.branchId} has no timeline`);
    const state = {
      version: 1 as const,
      origin: `${at.directory}:${at.port}`,
      systemIdentifier: facts.systemIdentifier,
      tenant: spec.tenantId,
      timeline: spec.timelineId,
      slot: SLOT,
      pgVersion: facts.pgVersion,
      walSegmentSize: facts.walSegmentSize,
      originTimeline: facts.timelineId,
      // Whoever wrote before us has ended: its term is the one to come after.
      term,
    };
    const store = { load: async () => state, save: async () => undefined };
    const adoption = {
      ...{ origin, state, storage, store },
      until: 'origin-stopped' as const,
      freshLsn: info.lastRecordLsn,
    };
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => undefined);
    const done = follow(adoption, pageserver, world, () => undefined).then(
      () => undefined,
      error => {
        if (stop.signal.aborted) return;
        failed.reject(error);
        this.giveUp(spec.endpointId, error);
      },
    );
    this.followers.set(spec.endpointId, { stop, done, failed: failed.promise });
  }

  /** Commits of one that nobody follows would wait for ever: it ends, and is started again from the storage. */
  private giveUp(endpointId: string, error: unknown): void {
    const { log, computes } = this.deps;
    log.error('the log of a stock compute can be followed no further: it ends', {
      endpoint: endpointId,
      error,
    });
    void computes.find(endpointId).then(found => found?.kill('SIGQUIT'));
  }

  protected override whileHealthy<T>(endpointId: string, work: Promise<T>): Promise<T> {
    const failed = this.followers.get(endpointId)?.failed;
    return failed === undefined ? work : Promise.race([work, failed]);
  }

  protected override async ended(endpointId: string, how: 'fast' | 'immediate'): Promise<void> {
    const follower = this.followers.get(endpointId);
    if (!follower) return;
    this.followers.delete(endpointId);
    const { clock } = this.deps;
    // Its last record is on its way to the safekeepers.
    if (how === 'fast') await Promise.race([follower.done, clock.sleep(FOLLOWER_END_MS)]);
    follower.stop.abort(new Fault('shutting-down', 'the compute has ended'));
    await follower.done;
  }

  /** One that was found running after the manager had ended: its log is followed on. */
  async adopt(spec: ComputeSpec): Promise<void> {
    if (spec.mode !== 'primary' || this.followers.has(spec.endpointId)) return;
    const found = await this.deps.computes.find(spec.endpointId);
    if (!found?.ready) return;
    try {
      await this.startFollowing(spec, { directory: parentOf(found.directory), port: found.port });
    } catch (error) {
      if (!isFault(error)) throw error;
      this.deps.log.warn('the log of a stock compute cannot be followed', {
        endpoint: spec.endpointId,
        error,
      });
    }
  }
}
