// Programs of this installation's `bin`, started as processes of their own. They get an almost empty environment and
// a log file; a terminal's interrupt does not reach them (they lead groups of their own), so that whoever started
// them decides in which order they stop.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Programs, Running } from '../base/ports.ts';

const BIN = resolve(import.meta.dirname, '../../bin');
const PASSED_ON = /^(RUST_LOG|HOME|TMPDIR|AWS_|AZURE_|GOOGLE_|NEON_|LAKEBED_|DOCKER_HOST|SSL_)/;

export const hostPrograms: Programs = {
  ownPid: process.pid,

  start(name, args, { directory, log }) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => PASSED_ON.test(key)));
    const out = openSync(log, 'a');
    const child = spawn(join(BIN, name), [...args], {
      cwd: directory,
      env,
      stdio: ['ignore', out, out],
      detached: true,
    });
    closeSync(out);
    return runningOf(child);
  },

  own: name => join(BIN, name),

  find(name, directories) {
    const places = [...directories, ...(process.env['PATH'] ?? '').split(':')];
    return places.map(place => join(place, name)).find(isProgram);
  },

  interactive(path, args, environment) {
    const child = spawn(path, [...args], { stdio: 'inherit', env: { ...process.env, ...environment } });
    return new Promise((resolve, reject) => {
      child.once('error', error => reject(new Fault('role-failed', `cannot run ${path}: ${error.message}`)));
      child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
    });
  },

  signal(pid, signal) {
    try {
      return process.kill(pid, signal);
    } catch {
      return false;
    }
  },

  began: existsSync('/proc/self/stat') ? beganByProc : beganByPs,
};

/** The 22nd field: ticks since the machine started. A zombie has ended. */
function beganByProc(pid: number): string | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function beganByPs(pid: number): string | undefined {
  const { stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' });
  return stdout?.trim().replaceAll(/\s+/g, '_') || undefined;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export function runningOf(child: ChildProcess): Running {
  return {
    pid: child.pid ?? 0,
    ended: new Promise(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`));
    }),
    kill: signal => void child.kill(signal),
    release: () => child.unref(),
  };
}
