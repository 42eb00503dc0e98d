// One daemon of each kind with a small timeline on them, pushed to and read from as a compute does: for suites that
// need true WAL and true pages, and no Postgres. Its cluster is what initdb makes, without the databases' relations.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { hostInitdb } from '../../src/host/initdb.ts';
import { ModelLog, PatientReader } from '../pageserver/model-log.ts';
import type { DaemonSet } from '../pg/one-of-each.ts';
import { Pusher } from '../safekeeper/pusher.ts';
import type { SimRandom } from '../sim/random.ts';

export const TENANT = '10000000000000000000000000000001';
export const TIMELINE = '20000000000000000000000000000002';
export const PG_MAJOR = 17;

// biome-ignore lint/suspicious/noExplicitAny: whatever the call says
export async function ok(url: string, method = 'GET', body?: unknown): Promise<any> {
  for (const end = performance.now() + 60_000; ; ) {
    const reply = await fetch(url, {
      method,
      ...(body === undefined
        ? {}
        : ({ body: body instanceof Uint8Array ? body : JSON.stringify(body) } as RequestInit)),
    });
    const text = await reply.text();
    if (reply.ok) return text === '' ? undefined : JSON.parse(text);
    if (reply.status !== 503 || performance.now() > end)
      throw new Error(`${method} ${url}: ${reply.status} ${text}`);
    await new Promise(done => setTimeout(done, 50));
  }
}

const timelineUrl = (daemons: DaemonSet): string =>
  `${daemons.pageserverHttp}/v1/tenant/${TENANT}/timeline/${TIMELINE}`;

export interface Position {
  readonly last: Lsn;
  readonly prev: Lsn;
}

export async function positionOf(daemons: DaemonSet): Promise<Position> {
  const detail = await ok(timelineUrl(daemons));
  return { last: parseLsn(detail.last_record_lsn), prev: parseLsn(detail.prev_record_lsn) };
}

/** The cluster of a new tenant, as little of it as makes a timeline. */
async function smallCluster(): Promise<Uint8Array> {
  const home = mkdtempSync(join(tmpdir(), 'lakebed-small-'));
  // initdb is run as nobody where we are root.
  chmodSync(home, 0o755);
  try {
    const initdb = hostInitdb({ distribDir: undefined, temporary: home });
    await initdb.run({ major: PG_MAJOR, superuser: 'cloud_admin', locale: 'C.UTF-8' });
    const directory = join(home, readdirSync(home)[0]!, 'pgdata');
    const relations = filesBelow(directory).filter(name => /^(base|global)\/.*\/?\d+(_\w+)?$/.test(name));
    for (const name of relations) rmSync(join(directory, name));
    return new Uint8Array(execFileSync('tar', ['-C', directory, '-cf', '-', '.'], { maxBuffer: 2 ** 30 }));
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** A tenant with one timeline, attached and filled. */
export async function makeTimeline(daemons: DaemonSet): Promise<Position> {
  const location = { mode: 'AttachedSingle', generation: 1, tenant_conf: { checkpoint_distance: 262_144 } };
  await ok(`${daemons.pageserverHttp}/v1/tenant/${TENANT}/location_config`, 'PUT', location);
  const url = `${timelineUrl(daemons)}/import_basebackup?pg_version=${PG_MAJOR}`;
  await ok(url, 'PUT', await smallCluster());
  return positionOf(daemons);
}

export interface Pushed {
  readonly log: ModelLog;
  readonly end: Lsn;
}

/** Pushes so many records from where the log ends; resolves when they are committed. */
export async function pushRecords(
  daemons: DaemonSet,
  { last, prev }: Position,
  count: number,
  random: SimRandom,
): Promise<Pushed> {
  const log = new ModelLog(last, prev);
  const pusher = new Pusher({
    targets: [{ host: '127.0.0.1', port: daemons.ports.safekeeper }],
    key: { tenantId: tenantId(TENANT), timelineId: timelineId(TIMELINE) },
    log,
  });
  try {
    await pusher.elect();
    for (let i = 0; i < count; i++) pusher.write(log.next(random));
    await pusher.committed(log.end);
    return { log, end: log.end };
  } finally {
    pusher.close();
  }
}

export const readerOf = (daemons: DaemonSet): PatientReader =>
  new PatientReader(daemons.ports.pageserver, { tenant: TENANT, timeline: TIMELINE });

/** Every file below a directory, with its bytes. */
export function filesBelow(root: string, at = ''): string[] {
  return readdirSync(join(root, at), { withFileTypes: true }).flatMap(entry =>
    entry.isDirectory() ? filesBelow(root, join(at, entry.name)) : [join(at, entry.name)],
  );
}

export const sizeBelow = (root: string): number =>
  filesBelow(root).reduce((sum, file) => sum + readFileSync(join(root, file)).length, 0);
