// Programs of this installation's `bin`, started as processes of their own. They get an almost empty environment and
// a log file; a terminal's interrupt does not reach them (they lead groups of their own), so that whoever started
// them decides in which order they stop.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Programs, Running } from '../base/ports.ts';

const BIN = resolve(import.meta.dirname, '../../bin');
const PASSED_ON = /^(RUST_LOG|HOME|TMPDIR|AWS_|AZURE_|GOOGLE_|NEON_|LAKEBED_|SSL_)/;

export const hostPrograms: Programs = {
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
};

export function runningOf(child: ChildProcess): Running {
  return {
    pid: child.pid ?? 0,
    ended: new Promise(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`));
    }),
    kill: signal => void child.kill(signal),
  };
}
