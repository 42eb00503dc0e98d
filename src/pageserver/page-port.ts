// A pageserver's Postgres port: accepts connections and serves each one (page-service.ts).

import { isFault } from '../base/fault.ts';
import type { Connection, Listener, Log, Net } from '../base/ports.ts';
import { servePq } from '../protocol/pq-serve.ts';
import { PageService, type PageServiceDeps } from './page-service.ts';

export interface PagePort {
  readonly net: Net;
  readonly host: string;
  readonly port: number;
  /** Only TLS connections are welcome. */
  readonly tls: boolean;
}

export function listenPages(at: PagePort, deps: PageServiceDeps): Promise<Listener> {
  const live = deps.metrics.liveConnections.with('page_service');
  const started = deps.metrics.connectionsStarted.with('page_service');
  const finished = deps.metrics.connectionsFinished.with('page_service');
  return at.net.listen({ host: at.host, port: at.port }, connection => {
    live.inc();
    started.inc();
    const log = deps.log.with({ peer: connection.peer });
    void serveOne(connection, { ...deps, log }, at.tls, log).finally(() => {
      live.dec();
      finished.inc();
    });
  });
}

async function serveOne(
  connection: Connection,
  deps: PageServiceDeps,
  tls: boolean,
  log: Log,
): Promise<void> {
  await servePq(connection, new PageService(deps), {
    tls,
    password: deps.tokens !== undefined,
    clock: deps.clock,
    onError: (error, where, query) => {
      const fields = { where, ...(query ? { query } : {}), error };
      // What a client did wrong is no trouble of ours.
      if (isFault(error) && error.kind !== 'corrupt') log.info('connection refused or ended', fields);
      else log.error('connection failed', fields);
    },
  });
}
