// Computes as processes: a build of Neon's Postgres on this machine, found by NEON_PG_DIR (`$NEON_PG_DIR/v17/bin`).
//
// Postgres refuses to run as root: everything of a compute then belongs to nobody and runs as nobody. A compute's
// directory holds nothing that must last, and is made anew for every start.

import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Computes } from '../base/ports.ts';
import { runningOf } from './programs.ts';

const NOBODY = 65534;
const MAJORS = [14, 15, 16, 17, 18];
const SYNC_TIMEOUT_MS = 60_000;

export function processComputes(distribDir: string | undefined): Computes {
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const postgres = (major: number): string => join(distribDir ?? '', `v${major}`, 'bin', 'postgres');
  const own = async (path: string): Promise<void> => {
    if (isRoot) await chown(path, NOBODY, NOBODY);
  };
  return {
    majors: () => (distribDir === undefined ? [] : MAJORS.filter(major => existsSync(postgres(major)))),

    async prepare(name, settings) {
      // Among the temporary files: nobody may not look into a home directory.
      const home = join(tmpdir(), `lakebed-${name}`);
      const directory = join(home, 'data');
      await rm(directory, { recursive: true, force: true });
      await mkdir(home, { recursive: true });
      await chmod(home, 0o711);
      await mkdir(directory, { mode: 0o700 });
      const path = join(directory, 'postgresql.conf');
      await writeFile(path, settings);
      await own(path);
      await own(directory);
      return directory;
    },

    discard: directory => rm(dirname(directory), { recursive: true, force: true }),

    async syncSafekeepers(major, directory) {
      const env = { ...process.env, PGDATA: directory };
      const options = { env, cwd: dirname(directory), timeout: SYNC_TIMEOUT_MS, ...identity };
      const { code, out, err } = await finished(postgres(major), ['--sync-safekeepers'], options);
      if (code !== 0) throw failed('postgres --sync-safekeepers', code, err);
      return out.trim();
    },

    async unpack(directory, tar) {
      const child = spawn('tar', ['-x', '-C', directory, '-f', '-'], {
        stdio: ['pipe', 'ignore', 'pipe'],
        ...identity,
      });
      let err = '';
      child.stderr.on('data', piece => (err += piece));
      const ended = new Promise<number | null>(resolve => child.once('close', resolve));
      // A tar that ends early tells why by its exit; the broken pipe is only its echo.
      child.stdin.on('error', () => undefined);
      for await (const piece of tar) {
        if (!child.stdin.write(piece))
          await Promise.race([ended, new Promise(r => child.stdin.once('drain', r))]);
      }
      child.stdin.end();
      const code = await ended;
      if (code !== 0) throw failed('unpacking the base backup', code, err);
      await chmod(directory, 0o700);
    },

    run(major, directory, log) {
      const out = openSync(log, 'a');
      const child = spawn(postgres(major), ['-D', directory], {
        cwd: dirname(directory),
        env: process.env,
        stdio: ['ignore', out, out],
        detached: true,
        ...identity,
      });
      closeSync(out);
      return runningOf(child);
    },
  };
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
