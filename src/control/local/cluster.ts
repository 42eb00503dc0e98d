// The default project of one machine: its tenant and its first branch on the pageserver, made once, and the compute
// that runs on them.

import { concatBytes, fromUtf8, utf8 } from '../../base/bytes.ts';
import type { World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import type { Running } from '../../base/ports.ts';
import { PqClient } from '../../protocol/pq-client.ts';
import { computeSettings, type LocalState, portsFrom } from './layout.ts';

const CREATE_MS = 300_000;
const START_MS = 60_000;
const POLL_MS = 20;

/** One call of the pageserver's management API; anything but 2xx is a Fault with its words. */
async function call(
  world: World,
  state: LocalState,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const reply = await world.http.request({
    method,
    url: `http://127.0.0.1:${portsFrom(state.portFirst).pageserverHttp}/v1/${path}`,
    timeoutMs: CREATE_MS,
    ...(body === undefined
      ? {}
      : { headers: { 'content-type': 'application/json' }, body: utf8(JSON.stringify(body)) }),
  });
  const pieces: Uint8Array[] = [];
  for await (const piece of reply.body) pieces.push(piece);
  const text = fromUtf8(concatBytes(pieces));
  if (reply.status < 200 || reply.status > 299) {
    throw new Fault(
      'pageserver-refused',
      `the pageserver answers ${reply.status} to ${method} ${path}: ${text}`,
    );
  }
  return text === '' ? undefined : JSON.parse(text);
}

/** The tenant attached and its first timeline there; both calls are idempotent. */
export async function ensureCluster(world: World, state: LocalState): Promise<void> {
  const { tenant, timeline, pgVersion } = state;
  const attached = (await call(world, state, 'GET', 'tenant')) as { id: string }[];
  if (!attached.some(t => t.id === tenant)) {
    const location = { mode: 'AttachedSingle', generation: 1, tenant_conf: {} };
    await call(world, state, 'PUT', `tenant/${tenant}/location_config`, location);
  }
  await call(world, state, 'POST', `tenant/${tenant}/timeline/`, {
    new_timeline_id: timeline,
    pg_version: pgVersion,
  });
}

export interface LocalCompute {
  stop(): Promise<void>;
}

/** From nothing to answering: safekeepers synced, base backup at their LSN, Postgres on top of it. */
export async function startCompute(world: World, state: LocalState, log: string): Promise<LocalCompute> {
  const { computes } = world;
  const ports = portsFrom(state.portFirst);
  const directory = await computes.prepare(`compute-${state.timeline}`, computeSettings(state));
  const lsn = await computes.syncSafekeepers(state.pgVersion, directory);
  const backup = await PqClient.connect(world.net, world.random, {
    host: '127.0.0.1',
    port: ports.pageserver,
    parameters: { user: 'cloud_admin', application_name: 'lakebed' },
    password: undefined,
  });
  const at = lsn === '0/0' ? '' : ` ${lsn}`;
  await computes.unpack(directory, backup.copyOut(`basebackup ${state.tenant} ${state.timeline}${at}`));
  await backup.end();
  const running = computes.run(state.pgVersion, directory, log);
  await untilItAnswers(world, ports.compute, running, log);
  return {
    async stop() {
      running.kill('SIGINT');
      await running.ended;
      await computes.discard(directory);
    },
  };
}

async function untilItAnswers(world: World, port: number, running: Running, log: string): Promise<void> {
  const { clock, net, random } = world;
  const end = clock.monotonic() + START_MS;
  let ended: string | undefined;
  void running.ended.then(how => (ended = how));
  for (;;) {
    try {
      const options = { host: '127.0.0.1', port, parameters: { user: 'cloud_admin', database: 'postgres' } };
      const client = await PqClient.connect(net, random, { ...options, password: undefined });
      await client.end();
      return;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (ended !== undefined || clock.monotonic() > end) {
        running.kill('SIGKILL');
        const how = ended === undefined ? 'does not answer' : `ended (${ended})`;
        throw new Fault('compute-failed', `the compute ${how}: ${error.message}`, {
          hint: `Its log is ${log}.`,
          cause: error,
        });
      }
      await clock.sleep(POLL_MS);
    }
  }
}
