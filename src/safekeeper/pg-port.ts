// A safekeeper's Postgres port: accepts connections and serves each one (pg-session.ts).

import { isFault } from '../base/fault.ts';
import type { Connection, Listener, Net } from '../base/ports.ts';
import { servePq } from '../protocol/pq-serve.ts';
import { PgSession, type PgSessionDeps } from './pg-session.ts';
import { counted, Traffic } from './traffic.ts';

export interface PgPort {
  readonly net: Net;
  readonly host: string;
  readonly port: number;
  /** Only TLS connections are welcome. */
  readonly tls: boolean;
  readonly nextConnectionId: () => number;
}

export function listenPg(at: PgPort, deps: PgSessionDeps): Promise<Listener> {
  return at.net.listen({ host: at.host, port: at.port }, connection => {
    const id = at.nextConnectionId();
    const log = deps.log.with({ connection: id, peer: connection.peer });
    const traffic = new Traffic();
    const session = new PgSession(id, { ...deps, log }, traffic);
    void serveOne(counted(connection, traffic), session, at.tls, { ...deps, log });
  });
}

async function serveOne(
  connection: Connection,
  session: PgSession,
  tls: boolean,
  { log, clock, tokens }: PgSessionDeps,
): Promise<void> {
  await servePq(connection, session, {
    tls,
    password: tokens !== undefined,
    clock,
    onError: (error, where, query) => {
      const fields = { where, ...(query ? { query } : {}), error };
      // What a client did wrong is no trouble of ours.
      if (isFault(error) && error.kind !== 'corrupt') log.info('connection refused or ended', fields);
      else log.error('connection failed', fields);
    },
  });
}
