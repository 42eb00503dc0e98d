// PostgreSQL's own regression and isolation suites, through a compute with 1 MB of buffers, so that every page travels;
// afterwards a new compute checks every index and table that they left.
//
// They come with the sources of Neon's Postgres and run for minutes each: NEON_PG_SOURCES names a directory that holds
// v15, v16, v17. Differences from the expected output that have nothing to do with storage are listed below.

import { execFileSync, spawn } from 'node:child_process';
import { chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { neonBin } from '../safekeeper/neon-postgres.ts';
import { amcheck } from './checks.ts';
import { asNobody, type Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const SOURCES = process.env['NEON_PG_SOURCES'];
const majors = majorsHere("PostgreSQL's regression suites").filter(
  major => SOURCES !== undefined && existsSync(join(SOURCES, `v${major}/src/test/regress/parallel_schedule`)),
);
if (majors.length === 0) {
  console.log(
    "skipped: PostgreSQL's regression suites (NEON_PG_SOURCES does not hold sources of Neon's Postgres)",
  );
}

/** Tests whose output differs, and why. */
const DIFFERENT: Record<string, string> = {
  create_function_c: 'without an extension server a missing library is warned of, too',
};

/** As pg_regress sets up the database that it makes itself. */
const DATABASE_SETTINGS = ['lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time'].map(
  name => `set ${name} to 'C'`,
);

type Kind = 'regress' | 'isolation';

const chownTree = (path: string): void => {
  if (process.getuid?.() === 0) execFileSync('chown', ['-R', '65534:65534', path]);
};

/** The suite's inputs, and the libraries that it loads, in a directory that the compute's user may read. */
function prepare(storage: Storage, major: number, kind: Kind): string {
  const inputs = join(storage.dir, `${kind}-${major}`);
  cpSync(join(SOURCES!, `v${major}/src/test/${kind}`), inputs, { recursive: true });
  if (kind === 'regress') {
    const config = (flag: string): string =>
      execFileSync(neonBin(major, 'pg_config'), [flag], { encoding: 'utf8' }).trim();
    const so = join(inputs, 'regress.so');
    execFileSync('cc', [
      '-shared',
      '-fPIC',
      '-O1',
      `-I${config('--includedir-server')}`,
      '-o',
      so,
      join(inputs, 'regress.c'),
    ]);
    for (const spi of ['autoinc', 'refint'])
      cpSync(join(config('--pkglibdir'), `${spi}.so`), join(inputs, `${spi}.so`));
    for (const file of readdirSync(inputs)) if (file.endsWith('.c')) execFileSync('rm', [join(inputs, file)]);
  }
  chownTree(inputs);
  return inputs;
}

async function runSuite(storage: Storage, compute: Compute, kind: Kind): Promise<string> {
  const { major } = compute.options;
  const database = kind === 'regress' ? 'regression' : 'isolation_regression';
  await compute.query(`create database ${database} template template0 lc_collate 'C' lc_ctype 'C'`);
  for (const setting of [
    ...DATABASE_SETTINGS,
    "set bytea_output to 'hex'",
    "set timezone_abbreviations to 'Default'",
  ]) {
    await compute.query(`alter database ${database} ${setting}`);
  }
  const inputs = prepare(storage, major, kind);
  const out = join(storage.dir, `${kind}-${major}-out`);
  mkdirSync(out);
  if (process.getuid?.() === 0) chownSync(out, 65534, 65534);
  const bin = neonBin(major, '.');
  const lib = execFileSync(neonBin(major, 'pg_config'), ['--pkglibdir'], { encoding: 'utf8' }).trim();
  const program = kind === 'regress' ? 'regress/pg_regress' : 'isolation/pg_isolation_regress';
  const child = spawn(
    join(lib, 'pgxs/src/test', program),
    [
      '--use-existing',
      `--dbname=${database}`,
      '--host=127.0.0.1',
      `--port=${compute.port}`,
      '--user=cloud_admin',
      `--bindir=${bin}`,
      `--dlpath=${inputs}`,
      `--inputdir=${inputs}`,
      `--outputdir=${out}`,
      '--max-concurrent-tests=20',
      `--schedule=${join(inputs, kind === 'regress' ? 'parallel_schedule' : 'isolation_schedule')}`,
    ],
    {
      cwd: out,
      env: { PATH: `${bin}:/usr/bin:/bin`, HOME: out },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...asNobody,
    },
  );
  let said = '';
  child.stdout.on('data', piece => (said += piece));
  child.stderr.on('data', piece => (said += piece));
  await new Promise(done => child.once('close', done));
  return said;
}

/** Names of the tests that failed: TAP from 16 on, `name ... FAILED` before. */
function failures(said: string): string[] {
  const tap = [...said.matchAll(/^not ok \d+\s+[-+]?\s*(\S+)/gm)].map(m => m[1]!);
  const old = [...said.matchAll(/^(?:test\s+)?\s*(\S+)\s+\.\.\. FAILED/gm)].map(m => m[1]!);
  return [...tap, ...old];
}

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let tenant: string;
  beforeAll(async () => {
    storage = await Storage.start();
    tenant = await storage.createTenant();
  });
  afterAll(() => storage.stop());

  test.each(['regress', 'isolation'] as const)('%s', { timeout: 1_800_000 }, kind =>
    storage.during(async () => {
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const settings = { shared_buffers: '1MB', 'neon.regress_test_mode': 'on' };
      const compute = await storage.compute({ major, tenant, timeline, settings });
      const said = await runSuite(storage, compute, kind);
      const diffs = join(storage.dir, `${kind}-${major}-out/regression.diffs`);
      const unexpected = failures(said).filter(name => !(name in DIFFERENT));
      const count = Number(
        /All (\d+) tests passed|\d+ of (\d+) tests failed/.exec(said)?.slice(1).find(Boolean),
      );
      expect(count, said.slice(-2000)).toBeGreaterThan(100);
      const differing = failures(said).filter(name => name in DIFFERENT);
      const equal = count - differing.length - unexpected.length;
      console.log(
        `Postgres ${major}, ${kind}: ${count} tests, ${equal} as expected, ${unexpected.length} failed, ` +
          `${differing.length} otherwise${differing.map(name => ` (${name}: ${DIFFERENT[name]})`).join('')}`,
      );
      if (unexpected.length > 0) console.error(readFileSync(diffs, 'utf8').slice(0, 20_000));
      expect(unexpected).toEqual([]);
      await compute.stop('SIGKILL');
      const fresh = await storage.compute({ major, tenant, timeline });
      const { broken, indexes, tables } = await amcheck(fresh);
      console.log(
        `Postgres ${major}, ${kind}: ${indexes} indexes and ${tables} tables checked by a new compute`,
      );
      expect(broken).toEqual([]);
      await fresh.stop();
    }),
  );
});
