// The pid file of a daemon, as launchers expect it: the process itself holds an exclusive flock(2) on it for life,
// and it holds its pid as bare digits. A launcher tells by trying the lock whether the daemon lives.
//
// Node has no flock(2). But a lock of that kind belongs to the open file, not to the process that asked for it:
// flock(1), started with our descriptor as its own number 3, takes the lock and goes, and the lock stays with our
// open file until we close it or die. Node opens files close-on-exec, so no child of ours keeps it alive.
//
// Asking whether we live means holding the lock for a blink. A launcher that polls while we start would thereby turn us
// away from our own directory, so a held lock is asked for again for a second before it counts as another daemon's.

import { spawnSync } from 'node:child_process';
import { existsSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Fault } from '../base/fault.ts';

const FLOCK = ['/usr/bin/flock', '/bin/flock', '/usr/local/bin/flock', '/sbin/flock', '/usr/sbin/flock'];

const ASK_MS = 1_000;
const PAUSE_MS = 20;

/** Locks `path` for the life of this process and writes our pid into it. */
export function lockPidFile(path: string): void {
  const flock = FLOCK.find(existsSync);
  if (!flock) {
    throw new Fault('config-invalid', 'flock(1) is not installed, so the pid file cannot be locked', {
      hint: 'Install util-linux (or busybox): one of its places is /usr/bin/flock.',
    });
  }
  const fd = openSync(path, 'a+', 0o644);
  const until = performance.now() + ASK_MS;
  for (;;) {
    const { status, error, stderr } = spawnSync(flock, ['-x', '-n', '3'], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      env: {},
    });
    if (error) throw new Fault('config-invalid', `cannot run ${flock}: ${error.message}`, { cause: error });
    if (status === 0) break;
    if (performance.now() < until) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
      continue;
    }
    const holder = readFileSync(path, 'utf8').trim();
    throw new Fault('config-invalid', `another process (${holder || 'unknown'}) holds ${path}`, {
      hint: `It serves the same data directory; stop it first. ${stderr.toString().trim()}`.trim(),
    });
  }
  ftruncateSync(fd);
  writeSync(fd, String(process.pid));
}
