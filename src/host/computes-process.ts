// Computes as processes: a build of Neon's Postgres on this machine, found by NEON_PG_DIR (`$NEON_PG_DIR/v17/bin`), or
// stock builds of the same shape (computes-stock.ts).
//
//   <home>/<name>/data/    its data directory, made anew for every start: nothing in it must last
//   <home>/<name>/         the directory of its Unix socket, for whoever manages it
//
// Postgres refuses to run as root: everything of a compute then belongs to nobody and runs as nobody. `home` is among
// the temporary files (nobody may not look into a home directory), and of one installation: two that share a machine do
// not see each other's computes. A compute outlives whoever started it, and is found again by its `postmaster.pid`:
//
//   pid | data directory | start time | port | socket directory | address | shared memory | "ready" or "standby"
//
// Answers to src/include/utils/pidfile.h.

import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Computes, FoundCompute } from '../base/ports.ts';
import { runningOf } from './programs.ts';

const NOBODY = 65534;
const MAJORS = [14, 15, 16, 17, 18];
const SYNC_TIMEOUT_MS = 60_000;

export interface ProcessOptions {
  /** Where the computes' directories are made; `<tmp>/lakebed-<name>` without it. */
  readonly home?: string;
  /** The directory with `bin` and `lib` of a major. */
  readonly build?: (major: number) => string | undefined;
}

export function processComputes(distribDir: string | undefined, options: ProcessOptions = {}): Computes {
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const build =
    options.build ?? (major => (distribDir === undefined ? undefined : join(distribDir, `v${major}`)));
  const postgres = (major: number): string => join(build(major) ?? '', 'bin', 'postgres');
  const homeOf = (name: string): string =>
    options.home === undefined ? join(tmpdir(), `lakebed-${name}`) : join(options.home, name);
  const environment = (major: number): NodeJS.ProcessEnv => {
    const lib = join(build(major) ?? '', 'lib');
    return { ...process.env, LD_LIBRARY_PATH: lib, DYLD_LIBRARY_PATH: lib };
  };
  const own = async (path: string): Promise<void> => {
    if (isRoot) await chown(path, NOBODY, NOBODY);
  };
  const write = async (directory: string, name: string, text: string): Promise<void> => {
    const path = join(directory, name);
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await own(`${path}.new`);
    await rename(`${path}.new`, path);
  };
  return {
    majors: () => MAJORS.filter(major => build(major) !== undefined && existsSync(postgres(major))),

    async prepare(name, settings) {
      const home = homeOf(name);
      const directory = join(home, 'data');
      await rm(directory, { recursive: true, force: true });
      if (options.home !== undefined) {
        await mkdir(options.home, { recursive: true });
        await chmod(options.home, 0o711);
      }
      await mkdir(home, { recursive: true });
      await chmod(home, 0o711);
      await own(home);
      await mkdir(directory, { mode: 0o700 });
      await write(directory, 'postgresql.conf', settings);
      await own(directory);
      return directory;
    },

    place: name => join(homeOf(name), 'data'),

    discard: directory => rm(dirname(directory), { recursive: true, force: true }),

    async syncSafekeepers(major, directory) {
      const env = { ...environment(major), PGDATA: directory };
      const how = { env, cwd: dirname(directory), timeout: SYNC_TIMEOUT_MS, ...identity };
      const { code, out, err } = await finished(postgres(major), ['--sync-safekeepers'], how);
      if (code !== 0) throw failed('postgres --sync-safekeepers', code, err);
      return out.trim();
    },

    unpack: (directory, tar) => unpackTar(directory, tar, identity),

    run(major, directory, log) {
      const out = openSync(log, 'a');
      const child = spawn(postgres(major), ['-D', directory], {
        cwd: dirname(directory),
        env: environment(major),
        stdio: ['ignore', out, out],
        detached: true,
        ...identity,
      });
      closeSync(out);
      return runningOf(child);
    },

    write,

    find: name => findCompute(join(homeOf(name), 'data')),

    async list() {
      if (options.home === undefined) return [];
      try {
        return await readdir(options.home);
      } catch {
        return []; // nothing was ever started
      }
    },
  };
}

async function unpackTar(
  directory: string,
  tar: AsyncIterable<Uint8Array>,
  identity: { uid?: number; gid?: number },
): Promise<void> {
  const child = spawn('tar', ['-x', '-C', directory, '-f', '-'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    ...identity,
  });
  let err = '';
  child.stderr.on('data', piece => (err += piece));
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  // A tar that ends early tells why by its exit; the broken pipe is only its echo.
  child.stdin.on('error', () => undefined);
  try {
    for await (const piece of tar) {
      if (!child.stdin.write(piece))
        await Promise.race([ended, new Promise(r => child.stdin.once('drain', r))]);
    }
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  child.stdin.end();
  const code = await ended;
  if (code !== 0) throw failed('unpacking the base backup', code, err);
  await chmod(directory, 0o700);
}

async function findCompute(directory: string): Promise<FoundCompute | undefined> {
  let lines: string[];
  try {
    lines = (await readFile(join(directory, 'postmaster.pid'), 'utf8')).split('\n');
  } catch {
    return undefined; // there is none
  }
  const pid = Number(lines[0]);
  if (!(pid > 0) || !isPostgresOf(pid, directory)) return undefined;
  const status = lines[7]?.trim();
  return {
    directory,
    pid,
    port: Number(lines[3]),
    ready: status === 'ready' || status === 'standby',
    kill: signal => {
      try {
        process.kill(pid, signal);
      } catch {
        // It is gone already.
      }
    },
  };
}

/** Alive, and not another process that was given its number since. */
function isPostgresOf(pid: number, directory: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // A zombie has ended, though nobody has asked for its end yet.
    if (stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')) return false;
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
  } catch {
    return !existsSync('/proc/self'); // a system without /proc: its number must do
  }
}

function failed(what: string, code: number | null, said: string): Fault {
  return new Fault(
    'compute-failed',
    `${what} ended with ${code}: ${said.trim().split('\n').slice(-5).join('\n')}`,
  );
}

function finished(
  program: string,
  args: readonly string[],
  options: Parameters<typeof spawn>[2],
): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout?.on('data', piece => (out += piece));
  child.stderr?.on('data', piece => (err += piece));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => resolve({ code, out, err }));
  });
}
