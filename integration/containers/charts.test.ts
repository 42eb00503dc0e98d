// The Helm chart and the compose files, by whatever tools are at hand: `helm` (or HELM), `docker compose`,
// `docker-compose` (or COMPOSE), `kubernetes-validate` and `kubeconform`. What is not there is said, and skipped. What
// needs no tool is always checked: that the compose files hang together, and that every flag in them is one that the
// daemon takes.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readConfig } from '../../src/pageserver/config.ts';
import { parseSafekeeperFlags, safekeeperSettings } from '../../src/safekeeper/settings.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const CHART = join(ROOT, 'charts/lakebed');
const COMPOSE = join(ROOT, 'docker/compose.yml');
const COMPOSE_NEON = join(ROOT, 'docker/compose.neon.yml');

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-charts-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The first of these that can be run. */
function tool(name: string, candidates: readonly (readonly string[])[]): readonly string[] | undefined {
  const found = candidates.find(([program, ...args]) => {
    return program && spawnSync(program, args.length > 0 ? [...args, 'version'] : ['--help']).status === 0;
  });
  if (!found) console.log(`${name} is not installed here: what it would check is skipped`);
  return found;
}
const helm = tool('helm', [[process.env['HELM'] ?? 'helm']]);
const compose = tool('docker compose', [
  [process.env['COMPOSE'] ?? ''],
  ['docker', 'compose'],
  ['docker-compose'],
]);
const validate = tool('kubernetes-validate', [[process.env['KUBERNETES_VALIDATE'] ?? 'kubernetes-validate']]);

const run = ([program, ...args]: readonly string[], more: readonly string[]): string =>
  execFileSync(program!, [...args, ...more], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly volumes?: readonly string[];
  readonly user?: string;
}
interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}
const composeFile = (path: string): ComposeFile =>
  parse(readFileSync(path, 'utf8'), { merge: true }) as ComposeFile;

/** What a shell makes of a line, for a program that only says what it was given. */
function shellArguments(line: string, program: string, env: Record<string, string>): string[] {
  const said = join(dir, 'said');
  const stub = join(dir, program);
  writeFileSync(stub, `#!/bin/sh\nfor a in "$@"; do printf '%s\\n' "$a"; done > ${said}\n`, { mode: 0o755 });
  execFileSync('/bin/sh', ['-c', line], { env: { PATH: `${dir}:/usr/bin:/bin`, ...env } });
  return readFileSync(said, 'utf8').trimEnd().split('\n');
}

function checkSafekeeper(args: readonly string[]): ReturnType<typeof safekeeperSettings> {
  const { values, unknown } = parseSafekeeperFlags(args);
  expect(unknown).toEqual([]);
  const notes: string[] = [];
  const settings = safekeeperSettings(values, note => notes.push(note));
  expect(notes).toEqual([]);
  return settings;
}

describe('docker/compose.yml', () => {
  const file = composeFile(COMPOSE);
  const { services, volumes } = file;

  test('has every role, and what it names is there', () => {
    for (const name of [
      'storage_broker',
      'safekeeper1',
      'safekeeper2',
      'safekeeper3',
      'pageserver',
      'manager',
    ])
      expect(Object.keys(services)).toContain(name);
    for (const [name, service] of Object.entries(services)) {
      expect(service.image, name).toMatch(/.+/);
      for (const other of Object.keys(service.depends_on ?? {})) expect(services[other], other).toBeDefined();
      for (const mount of service.volumes ?? []) {
        const source = mount.split(':')[0]!;
        if (source.startsWith('.')) expect(existsSync(join(ROOT, 'docker', source)), mount).toBe(true);
        else expect(volumes, mount).toHaveProperty(source);
      }
    }
  });

  test('whatever keeps data keeps it in a volume of its own, and keys in theirs', () => {
    const at = (name: string, place: string): string | undefined =>
      services[name]!.volumes?.find(v => v.endsWith(`:${place}`))?.split(':')[0];
    const data = ['minio', 'safekeeper1', 'safekeeper2', 'safekeeper3', 'pageserver', 'manager'].map(n =>
      at(n, '/data'),
    );
    expect(new Set(data).size).toBe(6);
    for (const name of ['safekeeper1', 'safekeeper2', 'safekeeper3', 'pageserver', 'manager'])
      expect(at(name, '/keys'), name).toBe('keys');
  });

  test.each([1, 2, 3])('safekeeper%i is started with flags it takes', id => {
    const [, , line] = services[`safekeeper${id}`]!.entrypoint!;
    const unescaped = line!.replaceAll('$$', '$');
    const settings = checkSafekeeper(shellArguments(unescaped, 'safekeeper', { SAFEKEEPER_ID: String(id) }));
    expect(settings.id).toBe(id);
    expect(settings.remote).toMatchObject({ kind: 's3', bucket: 'lakebed', endpoint: 'http://minio:9000' });
  });

  test('the pageserver is given settings it takes, and tells the manager where it is', () => {
    const text = (name: string): string => readFileSync(join(ROOT, 'docker/local', name), 'utf8');
    const { config, unknown } = readConfig({
      pageserver: text('pageserver.toml'),
      identity: text('identity.toml'),
      metadata: text('metadata.json'),
    });
    expect(unknown).toEqual([]);
    expect(config.metadata).toMatchObject({ host: 'pageserver', port: 6400, httpPort: 9898 });
    expect(config.controlPlaneApi).toBe('http://manager:55420/upcall/v1');
    expect(config.encryption.localKeys).toBe('/keys');
  });

  test('the manager is started with flags it takes', () => {
    const [, , line] = services['manager']!.entrypoint!;
    const [verb, ...args] = shellArguments(line!, 'lakebed', {});
    expect(verb).toBe('manager');
    const help = execFileSync(join(ROOT, 'bin/lakebed'), ['manager', '--help'], { encoding: 'utf8' });
    for (const arg of args.filter(a => a.startsWith('-'))) expect(help).toContain(arg.split('=')[0]);
  });
});

describe('docker/compose.neon.yml', () => {
  test('changes images and nothing else', () => {
    const { services } = composeFile(COMPOSE_NEON);
    const storage = ['pageserver', 'safekeeper1', 'safekeeper2', 'safekeeper3', 'storage_broker'];
    expect(Object.keys(services).sort()).toEqual(storage);
    for (const service of Object.values(services)) {
      expect(Object.keys(service)).toEqual(['image']);
      expect(service.image).toContain('lakebed');
    }
  });
});

describe.skipIf(!compose)('docker compose config', () => {
  test('takes compose.yml', () => {
    const config = parse(run(compose!, ['-f', COMPOSE, 'config'])) as ComposeFile;
    expect(Object.keys(config.services).length).toBe(Object.keys(composeFile(COMPOSE).services).length);
  });

  const neon = process.env['NEON_COMPOSE_DIR'];
  test.skipIf(!neon)("compose.neon.yml over Neon's own file: five image lines differ, and no other", () => {
    const theirs = join(neon!, 'docker-compose.yml');
    const before = run(compose!, ['-f', theirs, 'config']).split('\n');
    const after = run(compose!, ['-f', theirs, '-f', COMPOSE_NEON, 'config']).split('\n');
    expect(after.length).toBe(before.length);
    const changed = after.filter((line, i) => line !== before[i]).map(line => line.trim());
    expect(changed).toEqual(Array(5).fill('image: lakebed:latest'));
  });
});

const EVERYTHING = [
  ...['objectStore.bucket=b', 'objectStore.existingSecret=store', 'objectStore.endpoint=http://minio:9000'],
  ...['auth.existingSecret=tokens', 'tls.existingSecret=cert', 'tracesEndpoint=http://otel:4318'],
  ...['encryption.defaultKey=aws:arn', 'pageserver.replicas=3', 'manager.catalogSecret=catalog'],
];

interface Resource {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // biome-ignore lint/suspicious/noExplicitAny: Kubernetes's shapes are not ours
  readonly spec: any;
  readonly data?: Readonly<Record<string, string>>;
}

describe.skipIf(!helm)('charts/lakebed', () => {
  const template = (values: readonly string[]): string =>
    run(helm!, [
      ...['template', 'x', CHART, '--namespace', 'ns', '--kube-version', '1.30.0'],
      ...values.flatMap(value => ['--set', value]),
    ]);
  const resources = (values: readonly string[]): Resource[] =>
    parseAllDocuments(template(values)).flatMap(d => (d.contents ? [d.toJS() as Resource] : []));
  const one = (all: readonly Resource[], kind: string, name: string): Resource =>
    all.find(r => r.kind === kind && r.metadata.name === `x-${name}`)!;

  test('lints, and asks for what it cannot guess', () => {
    expect(
      run(helm!, ['lint', CHART, '--set', 'objectStore.bucket=b', '--kube-version', '1.30.0']),
    ).toContain('0 chart(s) failed');
    expect(() => template([])).toThrow(/name the bucket/);
    expect(() => template(['objectStore.bucket=b', 'safekeeper.replicas=2'])).toThrow(/three are the fewest/);
    expect(() =>
      template(['objectStore.bucket=b', 'manager.enabled=false', 'pageserver.replicas=2']),
    ).toThrow(/need the manager/);
  });

  test.each([[['objectStore.bucket=b']], [EVERYTHING]])('with %j', values => {
    const all = resources(values);
    for (const name of ['safekeeper', 'pageserver', 'manager']) {
      const { spec } = one(all, 'StatefulSet', name);
      const pod = spec.template.spec;
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1000 });
      const [container] = pod.containers;
      expect(container.securityContext.readOnlyRootFilesystem).toBe(true);
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'])
        expect(container[probe].httpGet.path, probe).toMatch(/status$/);
      const volumes = new Set(
        [...pod.volumes, ...spec.volumeClaimTemplates.map((v: Resource) => v.metadata)].map(v => v.name),
      );
      for (const mount of container.volumeMounts) expect(volumes, name).toContain(mount.name);
      expect(spec.selector.matchLabels).toEqual(
        Object.fromEntries(
          Object.entries(spec.template.metadata.labels).filter(([k]) => k in spec.selector.matchLabels),
        ),
      );
    }
    for (const name of ['safekeeper', 'pageserver'])
      expect(one(all, 'PodDisruptionBudget', name).spec.maxUnavailable).toBe(1);
    // Secrets are named, never written out.
    expect(all.some(r => r.kind === 'Secret')).toBe(false);
  });

  test.each([[['objectStore.bucket=b']], [EVERYTHING]])(
    'settings and flags that the daemons take, with %j',
    values => {
      const all = resources(values);
      const { pageserver } = { pageserver: one(all, 'ConfigMap', 'pageserver').data!['pageserver.toml']! };
      expect(readConfig({ pageserver, identity: 'id = 1' }).unknown).toEqual([]);
      const safekeeper = one(all, 'StatefulSet', 'safekeeper').spec.template.spec.containers[0];
      const remote = safekeeper.env.find((e: { name: string }) => e.name === 'REMOTE_STORAGE')
        .value as string;
      const env = { HOSTNAME: 'x-safekeeper-2', REMOTE_STORAGE: remote };
      const settings = checkSafekeeper(shellArguments(safekeeper.args[0], 'safekeeper', env));
      expect(settings.id).toBe(3);
      expect(settings.advertisePg).toBe('x-safekeeper-2.x-safekeeper.ns.svc:5454');
      const manager = one(all, 'StatefulSet', 'manager').spec.template.spec.containers[0];
      const script = (manager.args[0] as string).replace('cat /secrets/manager/token', 'echo token');
      const args = shellArguments(script, 'lakebed', {
        REMOTE_STORAGE: remote,
        CATALOG_URL: 'postgresql://c',
      });
      const help = execFileSync(join(ROOT, 'bin/lakebed'), ['manager', '--help'], { encoding: 'utf8' });
      for (const arg of args.filter(a => a.startsWith('-'))) expect(help).toContain(arg.split('=')[0]);
      expect(args.find(a => a.startsWith('--safekeepers'))!.split(',').length).toBe(3);
    },
  );

  test.skipIf(!validate).each([[['objectStore.bucket=b']], [EVERYTHING]])(
    "is what Kubernetes's schema takes, with %j",
    values => {
      const path = join(dir, 'rendered.yaml');
      writeFileSync(path, template(values));
      run(validate!, ['-k', '1.30', '--strict', path]);
    },
  );
});
