// The proxy: one address for every compute. It listens, serves each client in a session of its own, keeps count of
// who is at work, and tells the manager, so that a compute sleeps when nobody needs it and wakes when somebody comes.
//
// Activity is told at once when the first client of a compute comes or the last one goes, and every REPORT_MS while
// there are any. A manager that does not answer is told again later; sessions do not notice.

import { Fault, isFault } from '../../base/fault.ts';
import type { HttpApi } from '../../base/http.ts';
import { Metrics, SECONDS } from '../../base/metrics.ts';
import type { Clock, Listener, Log, Net, Random } from '../../base/ports.ts';
import { watchApi } from '../../base/watch-api.ts';
import { CancelKeys } from './cancel-keys.ts';
import type { ComputeDoor, EndpointActivity } from './compute-door.ts';
import type { RouteSettings } from './route.ts';
import { type LiveSession, type SessionWorld, serveClient } from './session.ts';

const REPORT_MS = 2000;

export interface ProxyOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly routes: RouteSettings;
  readonly tlsOnly: boolean;
}

export interface ProxyMachine {
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly door: ComputeDoor;
}

export class ComputeProxy {
  readonly metrics = new Metrics();
  private readonly machine: ProxyMachine;
  private readonly options: ProxyOptions;
  private readonly cancelKeys = new CancelKeys();
  private readonly live = new Set<LiveSession>();
  private readonly counted = this.counters();
  /** Endpoints whose last client has gone, not told yet: when it went. */
  private readonly left = new Map<string, number>();
  private readonly stopping = new AbortController();
  private tell: () => void = () => {};
  private listener: Listener | undefined;

  constructor(machine: ProxyMachine, options: ProxyOptions) {
    this.machine = machine;
    this.options = options;
  }

  async start(): Promise<Listener> {
    const world: SessionWorld = {
      ...this.machine,
      routes: this.options.routes,
      tlsOnly: this.options.tlsOnly,
      cancelKeys: this.cancelKeys,
      onRouted: (_target, ms) => this.counted.woke.with().observe(ms / 1000),
      onLive: session => this.onLive(session),
      onBytes: (direction, count) => this.counted.bytes.with(direction).inc(count),
    };
    this.listener = await this.machine.net.listen(this.options.listen, connection => {
      this.counted.clients.with().inc();
      serveClient(connection, world).catch(error => this.onTrouble(connection.peer, error));
    });
    void this.report();
    return this.listener;
  }

  async stop(): Promise<void> {
    this.stopping.abort(new Fault('shutting-down', 'the proxy is shutting down'));
    this.tell();
    await this.listener?.close();
  }

  /** Who is at work, by endpoint. */
  activity(): EndpointActivity[] {
    const now = this.machine.clock.monotonic();
    const byEndpoint = new Map<string, { connections: number; busy: number; idleMs: number }>();
    for (const [endpointId, since] of this.left)
      byEndpoint.set(endpointId, { connections: 0, busy: 0, idleMs: now - since });
    for (const { endpointId, watch, lastByteMs } of this.live) {
      const so = byEndpoint.get(endpointId) ?? { connections: 0, busy: 0, idleMs: Number.POSITIVE_INFINITY };
      so.connections++;
      if (watch.isBusy) so.busy++;
      so.idleMs = watch.isBusy ? 0 : Math.min(so.idleMs, now - lastByteMs);
      byEndpoint.set(endpointId, so);
    }
    return [...byEndpoint].map(([endpointId, so]) => ({ endpointId, ...so }));
  }

  /** Status and metrics, for whoever watches. */
  api(version: string): HttpApi {
    return watchApi('Lakebed proxy', version, this.metrics);
  }

  private onLive(session: LiveSession): () => void {
    this.live.add(session);
    this.left.delete(session.endpointId);
    this.tell();
    return () => {
      this.live.delete(session);
      const others = [...this.live].some(s => s.endpointId === session.endpointId);
      if (!others) this.left.set(session.endpointId, this.machine.clock.monotonic());
      this.tell();
    };
  }

  private onTrouble(peer: string, error: unknown): void {
    if (isFault(error, 'connection-closed')) return;
    const code = isFault(error) ? error.code : 'violation';
    this.counted.refused.with(code).inc();
    this.machine.log.warn('client refused', { peer, code, error: (error as Error).message });
  }

  private async report(): Promise<void> {
    const { clock, door, log } = this.machine;
    const { signal } = this.stopping;
    let failing = false;
    while (!signal.aborted) {
      const activity = this.activity();
      if (activity.length > 0) {
        const told = [...this.left.keys()];
        try {
          await door.report(activity);
          for (const endpointId of told) this.left.delete(endpointId);
          failing = false;
        } catch (error) {
          if (!failing)
            log.warn('the manager does not hear of activity', { error: (error as Error).message });
          failing = true;
          await clock.sleep(REPORT_MS, signal).catch(() => {});
          continue;
        }
      }
      await new Promise<void>(resolve => {
        this.tell = resolve;
        clock.sleep(REPORT_MS, signal).then(resolve, () => resolve());
      });
    }
  }

  private counters() {
    const { metrics } = this;
    const help = 'Clients connected to a compute, by whether they are at work.';
    metrics.collected('gauge', 'lakebed_proxy_sessions', help, ['state'], emit => {
      const busy = [...this.live].filter(s => s.watch.isBusy).length;
      emit(['busy'], busy);
      emit(['idle'], this.live.size - busy);
    });
    return {
      clients: metrics.counter('lakebed_proxy_clients_total', 'Clients that came.'),
      refused: metrics.counter('lakebed_proxy_refused_total', 'Clients that were refused, by code.', [
        'code',
      ]),
      bytes: metrics.counter('lakebed_proxy_bytes_total', 'Bytes passed on.', ['direction']),
      woke: metrics.histogram(
        'lakebed_proxy_wake_seconds',
        "From a client's startup packet to its compute's open door, in seconds.",
        [],
        SECONDS,
      ),
    };
  }
}
