// The image, without an engine: the list of files that docker/Dockerfile and .dockerignore make of this checkout, laid
// out in a directory with the packages that the lock file says are needed to run, and each role started from exactly
// that, with an empty environment. What is forgotten in the list, or is a development package, ends a role here.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stockBuild } from '../../src/host/initdb.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { contextFiles, copiesOf, readDockerfile } from './dockerfile.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const { args, stages } = readDockerfile(join(ROOT, 'docker/Dockerfile'));
const image = stages.at(-1)!;
const context = contextFiles(ROOT);
const { files, fromStages } = copiesOf(image, context);

let dir: string;
/** The image's root file system, as far as it comes from this checkout. */
let app: string;
const running = new Set<ReturnType<typeof spawn>>();

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-image-'));
  // initdb is run as nobody where we are root.
  chmodSync(dir, 0o755);
  const root = join(dir, 'root');
  for (const { from, to } of files) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(join(ROOT, from), join(root, to));
  }
  app = join(root, 'app');
  installProduction(join(app, 'node_modules'));
  writeFileSync(join(app, 'build.json'), '{"commit":"0123456789012345678901234567890123456789"}\n');
});
afterAll(async () => {
  for (const child of running) await ended(child, 'SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

interface Locked {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/** What `npm ci --omit=dev` leaves, and the Dockerfile's removal of pg14, as links to what is installed here. */
function installProduction(modules: string): void {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as Locked;
  mkdirSync(join(modules, '.bin'), { recursive: true });
  for (const [path, { dev }] of Object.entries(lock.packages)) {
    const name = path.replace(/^node_modules\//, '');
    if (dev || path === '' || name.includes('node_modules/') || name === 'pg14') continue;
    if (!existsSync(join(ROOT, path))) continue;
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(join(ROOT, path), join(modules, name));
  }
  symlinkSync('../node/bin/node', join(modules, '.bin/node'));
}

const ended = (child: ReturnType<typeof spawn>, signal: NodeJS.Signals): Promise<number | null> =>
  new Promise(done => {
    running.delete(child);
    if (child.exitCode !== null || child.signalCode !== null) return done(child.exitCode);
    child.once('exit', code => done(code));
    child.kill(signal);
  });

/** Starts a role of the image with an empty environment; resolves when it answers. */
async function start(role: string, flags: readonly string[], url: string): Promise<ReturnType<typeof spawn>> {
  const child = spawn(join(app, 'bin', role), flags, {
    cwd: dir,
    env: {},
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let said = '';
  child.stdout.on('data', piece => (said += piece));
  child.stderr.on('data', piece => (said += piece));
  const end = performance.now() + 120_000;
  for (;;) {
    const ok = await fetch(url).then(
      r => r.ok,
      () => false,
    );
    if (ok) return child;
    if (child.exitCode !== null || performance.now() > end) throw new Error(`${role} is not ready:\n${said}`);
    await new Promise(done => setTimeout(done, 20));
  }
}

const script = (name: string, env: Record<string, string>): ReturnType<typeof spawnSync> =>
  spawnSync(join(app, 'node_modules/.bin/node'), [join(app, 'docker', name)], { env, encoding: 'utf8' });

describe('the file list', () => {
  test('holds what runs, and nothing that does not', () => {
    const paths = files.map(f => f.to);
    for (const role of ['lakebed', 'pageserver', 'safekeeper', 'storage_broker', 'manager', 'proxy'])
      expect(paths).toContain(`/app/bin/${role}`);
    expect(paths).toContain('/app/src/main.ts');
    expect(paths).toContain('/app/LICENSE');
    expect(paths).toContain('/data/.neon/identity.toml');
    const strange = context.filter(p => /\.test\.ts$|^integration\/|\.env$|\.pem$|\.key$|^\.git/.test(p));
    expect(strange).toEqual([]);
    const bytes = files.reduce((sum, f) => sum + statSync(join(ROOT, f.from)).size, 0);
    console.log(`image: ${files.length} files of this checkout, ${(bytes / 1e6).toFixed(1)} MB`);
    expect(bytes).toBeLessThan(8e6);
  });

  test('programs keep their mode, and say the version they were built from', () => {
    for (const role of ['pageserver', 'safekeeper', 'storage_broker']) {
      const path = join(app, 'bin', role);
      expect(statSync(path).mode & 0o111).toBe(0o111);
      expect(execFileSync(path, ['--version'], { env: {} }).toString()).toContain(
        'git:0123456789012345678901234567890123456789 ',
      );
    }
    expect(execFileSync(join(app, 'bin/lakebed'), ['--help'], { env: {} }).toString()).toContain('start');
  });
});

describe('docker/Dockerfile', () => {
  const words = (word: string): string[] => image.instructions.filter(i => i.word === word).map(i => i.rest);

  test('runs as an ordinary user, of the uid that Neon has', () => {
    expect(words('USER')).toEqual(['lakebed']);
    expect(words('RUN').join()).toMatch(/useradd --uid 1000 .* lakebed/);
    // Nothing after USER would need more.
    const after = image.instructions.slice(image.instructions.findIndex(i => i.word === 'USER') + 1);
    expect(after.map(i => i.word)).not.toContain('RUN');
  });

  test("has Neon's places: work directory, ports, Postgres, every role by its name", () => {
    expect(words('WORKDIR').at(-1)).toBe('/data');
    expect(words('EXPOSE').join()).toMatch(/6400\s+9898\s+5454\s+7676\s+50051/);
    const majors = fromStages.filter(c => c.stage === 'postgres').map(c => [c.from, c.to]);
    expect(majors).toEqual(['v14', 'v15', 'v16', 'v17'].map(v => [`/usr/local/${v}`, `/usr/local/${v}`]));
    expect(words('RUN').join()).toContain(
      'for role in lakebed pageserver safekeeper storage_broker manager proxy;',
    );
    expect(words('CMD')).toEqual(['["pageserver", "-D", "/data/.neon"]']);
    expect(words('VOLUME')).toEqual(['["/data", "/keys"]']);
  });

  test('every stage that is copied from is there, and none builds on a moving target unseen', () => {
    const names = new Set(stages.map(s => s.name));
    for (const { stage } of fromStages) expect(names.has(stage)).toBe(true);
    for (const name of ['NODE_IMAGE', 'BASE_IMAGE', 'POSTGRES_IMAGE'])
      expect(args.get(name)).toMatch(/.+:.+/);
  });

  test('the health check is a program of the image', () => {
    const program = /"(\/app\/docker\/[^"]+)"/.exec(words('HEALTHCHECK').join())![1]!;
    expect(files.map(f => f.to)).toContain(program);
  });
});

describe('roles, from that list alone and with an empty environment', () => {
  test('storage_broker', async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/status`;
    expect(script('health.ts', { LAKEBED_HEALTH_URL: url }).status).toBe(1);
    const child = await start('storage_broker', [`--listen-addr=127.0.0.1:${port}`], url);
    expect(script('health.ts', { LAKEBED_HEALTH_URL: url }).status).toBe(0);
    expect(await ended(child, 'SIGTERM')).toBe(0);
  });

  test('safekeeper, as compose.neon.yml starts it', async () => {
    const [pg, http] = [await freePort(), await freePort()];
    const data = join(dir, 'sk');
    const url = `http://127.0.0.1:${http}/v1/status`;
    const child = await start(
      'safekeeper',
      [
        ...[`--listen-pg=localhost:${pg}`, `--listen-http=127.0.0.1:${http}`, '--id=1', '-D', data],
        ...['--broker-endpoint=http://127.0.0.1:1'],
        // MinIO is away: a safekeeper serves all the same. What the S3 driver needs is loaded.
        "--remote-storage={endpoint='http://127.0.0.1:1', bucket_name='neon', bucket_region='eu-north-1', prefix_in_bucket='/safekeeper/'}",
      ],
      url,
    );
    expect(script('health.ts', { LAKEBED_HEALTH_URL: url }).status).toBe(0);
    expect(await ended(child, 'SIGTERM')).toBe(0);
  });

  test('pageserver and manager, and the first branch: made once, found again after a restart of both', async () => {
    const [pg, http, api] = [await freePort(), await freePort(), await freePort()];
    const data = join(dir, 'ps');
    cpSync(join(dir, 'root/data/.neon'), data, { recursive: true });
    const distrib = join(dir, 'postgres');
    mkdirSync(distrib);
    symlinkSync(stockBuild(17)!, join(distrib, 'v17'));
    const settings = readFileSync(join(data, 'pageserver.toml'), 'utf8')
      .replace('0.0.0.0:6400', `127.0.0.1:${pg}`)
      .replace('0.0.0.0:9898', `127.0.0.1:${http}`)
      .replace('http://storage_broker:50051', 'http://127.0.0.1:1')
      .replace("'/usr/local/'", `'${distrib}'`)
      .replace("'/data/store'", `'${join(dir, 'store')}'`);
    const upcalls = `control_plane_api = 'http://127.0.0.1:${api}/upcall/v1'`;
    writeFileSync(join(data, 'pageserver.toml'), `${settings}${upcalls}\n`);
    const metadata = { host: '127.0.0.1', port: pg, http_host: '127.0.0.1', http_port: http };
    writeFileSync(join(data, 'metadata.json'), JSON.stringify(metadata));
    const startManager = (): ReturnType<typeof start> =>
      start(
        'lakebed',
        [
          ...['manager', '-D', join(dir, 'manager'), `--listen-http=127.0.0.1:${api}`],
          `--remote-storage={local_path='${join(dir, 'store')}'}`,
        ],
        `http://127.0.0.1:${api}/status`,
      );
    const url = `http://127.0.0.1:${http}/v1/status`;
    const out = join(dir, 'config.json');
    const branch = (): string => {
      const env = { MANAGER: `http://127.0.0.1:${api}`, PG_VERSION: '17', SETTINGS: out };
      const { status, stdout, stderr } = script('first-branch.ts', env);
      expect(status, String(stderr)).toBe(0);
      return /tenant [0-9a-f]{32}, branch [0-9a-f]{32}/.exec(String(stdout))![0];
    };
    let manager = await startManager();
    let child = await start('pageserver', ['-D', data], url);
    expect(script('health.ts', { LAKEBED_HEALTH_URL: url }).status).toBe(0);
    const made = branch();
    expect(branch()).toBe(made);
    expect(await ended(child, 'SIGTERM')).toBe(0);
    expect(await ended(manager, 'SIGTERM')).toBe(0);
    manager = await startManager();
    child = await start('pageserver', ['-D', data], url);
    expect(branch()).toBe(made);
    const [tenant, timeline] = made.match(/[0-9a-f]{32}/g)!;
    const detail = await fetch(`http://127.0.0.1:${http}/v1/tenant/${tenant}/timeline/${timeline}`);
    expect(await detail.json()).toMatchObject({ state: 'Active', pg_version: 17 });
    expect(await ended(child, 'SIGTERM')).toBe(0);
    expect(await ended(manager, 'SIGTERM')).toBe(0);
    const config = JSON.parse(readFileSync(out, 'utf8'));
    const setting = (name: string): string =>
      config.spec.cluster.settings.find((s: { name: string }) => s.name === name).value;
    expect(made).toBe(`tenant ${setting('neon.tenant_id')}, branch ${setting('neon.timeline_id')}`);
    expect(config.compute_ctl_config.jwks.keys[0]).toMatchObject({
      kty: 'OKP',
      crv: 'Ed25519',
      alg: 'EdDSA',
    });
    expect(config.spec.cluster.roles[0].name).toBe('cloud_admin');
  }, 600_000);
});
