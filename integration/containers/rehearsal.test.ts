// docker/compose.yml, rehearsed without an engine: each service's own command, with the names of services and places of
// volumes put in terms of this machine, on a server of S3, and at the end a compute of Neon's with the settings that
// first_branch wrote. The first `up` must work with no hand laid on it, and what was written must be there after
// `down` and `up`.
//
// It needs a build of Neon's Postgres (NEON_PG_DIR) and an S3 server; without them it says so.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { Compute } from '../pg/compute.ts';
import { Daemon } from '../pg/daemon.ts';
import { type S3Server, s3Env, startS3 } from '../s3.ts';
import { freePort, neonMajors } from '../safekeeper/neon-postgres.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const MAJOR = 17;

interface Service {
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
}
const { services } = parse(readFileSync(join(ROOT, 'docker/compose.yml'), 'utf8'), { merge: true }) as {
  services: Readonly<Record<string, Service>>;
};

let dir: string;
let s3: S3Server | string;
/** What a name and a port inside the containers are here. */
const here = new Map<string, string>();
const ports: Record<string, number> = {};
let daemons: Daemon[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-rehearsal-'));
  // The compute runs as nobody where we are root.
  chmodSync(dir, 0o755);
  if (!neonMajors().includes(MAJOR)) return;
  s3 = await startS3('lakebed');
  if (typeof s3 === 'string') return;
  here.set('http://minio:9000', s3.endpoint);
  const names = ['storage_broker:50051', 'pageserver:6400', 'pageserver:9898', 'manager:55420'];
  for (const n of [1, 2, 3]) names.push(`safekeeper${n}:5454`, `safekeeper${n}:7676`);
  for (const name of names) {
    ports[name] = await freePort();
    here.set(name, `127.0.0.1:${ports[name]}`);
  }
});
afterAll(async () => {
  await down('SIGKILL');
  if (s3 && typeof s3 !== 'string') await s3.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** A text of the compose file, for a service, on this machine. */
function localized(service: string, text: string): string {
  let out = text.replaceAll('/keys', join(dir, 'keys'));
  // A list of safekeepers is HOST:PG/HTTP, two ports of one name.
  out = out.replace(/(safekeeper\d):5454\/7676/g, (_, name) => {
    return `${here.get(`${name}:5454`)}/${ports[`${name}:7676`]}`;
  });
  for (const [inside, outside] of here) out = out.replaceAll(inside, outside);
  return out
    .replace(/0\.0\.0\.0:(\d+)/g, (_, port) => here.get(`${service}:${port}`)!)
    .replace(/\/data\b/g, join(dir, service));
}

function argumentsOf(service: string): string[] {
  const { command, entrypoint } = services[service]!;
  if (!entrypoint) return command!.slice(1).map(word => localized(service, word));
  const program = service.startsWith('safekeeper') ? 'safekeeper' : 'lakebed';
  const said = join(dir, 'said');
  writeFileSync(join(dir, program), `#!/bin/sh\nfor a in "$@"; do printf '%s\\n' "$a"; done > ${said}\n`, {
    mode: 0o755,
  });
  const env = { PATH: `${dir}:/usr/bin:/bin`, SAFEKEEPER_ID: service.slice(-1) };
  execFileSync('/bin/sh', ['-c', entrypoint[2]!.replaceAll('$$', '$')], { env });
  const words = readFileSync(said, 'utf8').trimEnd().split('\n');
  return words.map(word => localized(service, word));
}

function daemonOf(service: string, program: string, status: string): Daemon {
  mkdirSync(join(dir, service), { recursive: true });
  return new Daemon({
    name: service,
    program,
    dir,
    args: argumentsOf(service),
    statusUrl: `http://${here.get(status.split('/')[0]!)}/${status.split('/').slice(1).join('/')}`,
    env: s3Env(s3 as S3Server),
  });
}

/** The services in the order of their depends_on; then first_branch. */
async function up(): Promise<{ tenant: string; timeline: string; settings: Record<string, string> }> {
  const work = join(dir, 'pageserver/.neon');
  mkdirSync(work, { recursive: true });
  for (const name of ['identity.toml', 'pageserver.toml', 'metadata.json']) {
    const text = readFileSync(join(ROOT, 'docker/local', name), 'utf8')
      .replace("'/usr/local/'", `'${process.env['NEON_PG_DIR']}'`)
      .replace(
        '"host": "pageserver", "port": 6400',
        `"host": "127.0.0.1", "port": ${ports['pageserver:6400']}`,
      )
      .replace(
        '"http_host": "pageserver", "http_port": 9898',
        `"http_host": "127.0.0.1", "http_port": ${ports['pageserver:9898']}`,
      );
    writeFileSync(join(work, name), localized('pageserver', text));
  }
  const of = (n: number): Daemon => daemonOf(`safekeeper${n}`, 'safekeeper', `safekeeper${n}:7676/v1/status`);
  const first = [daemonOf('storage_broker', 'storage_broker', 'storage_broker:50051/status')];
  const second = [of(1), of(2), of(3), daemonOf('manager', 'lakebed', 'manager:55420/status')];
  const third = [daemonOf('pageserver', 'pageserver', 'pageserver:9898/v1/status')];
  daemons = [...first, ...second, ...third];
  for (const together of [first, second, third]) await Promise.all(together.map(d => d.start()));
  const config = join(dir, 'config.json');
  const made = spawnSync(process.execPath, [join(ROOT, 'docker/first-branch.ts')], {
    env: { MANAGER: `http://${here.get('manager:55420')}`, PG_VERSION: String(MAJOR), SETTINGS: config },
    encoding: 'utf8',
  });
  expect(made.status, made.stderr).toBe(0);
  const { spec } = JSON.parse(readFileSync(config, 'utf8'));
  const settings = Object.fromEntries(
    spec.cluster.settings.map((s: { name: string; value: string }) => [
      s.name,
      localized('compute', s.value),
    ]),
  );
  return { tenant: settings['neon.tenant_id'], timeline: settings['neon.timeline_id'], settings };
}

async function down(signal: NodeJS.Signals): Promise<void> {
  await Promise.all(daemons.map(d => d.kill(signal)));
  daemons = [];
}

async function withCompute<T>(
  name: string,
  branch: Awaited<ReturnType<typeof up>>,
  work: (query: (text: string) => Promise<unknown[]>) => Promise<T>,
): Promise<T> {
  // Libraries that a build of the tests need not have, and what the harness gives itself.
  const { port: _, listen_addresses: __, shared_preload_libraries: ___, ...settings } = branch.settings;
  settings['neon.pageserver_connstring'] = `host=127.0.0.1 port=${ports['pageserver:6400']}`;
  const compute = new Compute(join(dir, name), {
    major: MAJOR,
    tenant: branch.tenant,
    timeline: branch.timeline,
    pageserver: { port: ports['pageserver:6400']! },
    safekeepers: [1, 2, 3].map(n => ({ port: ports[`safekeeper${n}:5454`]! })),
    settings,
  });
  try {
    await compute.start();
    const client = await compute.connect();
    const result = await work(async text => (await client.query(text)).rows);
    await compute.disconnect(client);
    return result;
  } finally {
    await compute.stop();
  }
}

test('up, write, down, up: it is there', async context => {
  if (!neonMajors().includes(MAJOR)) {
    console.log('NEON_PG_DIR names no build of Postgres 17: the rehearsal of compose.yml is skipped');
    return context.skip();
  }
  if (typeof s3 === 'string') {
    console.log(`the rehearsal of compose.yml is skipped: ${s3}`);
    return context.skip();
  }
  const first = await up();
  await withCompute('compute-1', first, async query => {
    await query("create table kept as select i, repeat('x', 100) as t from generate_series(1, 5000) i");
  });
  await down('SIGTERM');
  const second = await up();
  expect([second.tenant, second.timeline]).toEqual([first.tenant, first.timeline]);
  await withCompute('compute-2', second, async query => {
    expect(await query('select count(*)::int as n, sum(i)::int as s from kept')).toEqual([
      { n: 5000, s: 12_502_500 },
    ]);
    await query("insert into kept values (5001, 'again')");
  });
  await down('SIGKILL');
  const third = await up();
  await withCompute('compute-3', third, async query => {
    expect(await query('select count(*)::int as n from kept')).toEqual([{ n: 5001 }]);
  });
}, 600_000);
