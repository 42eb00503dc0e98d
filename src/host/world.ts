// The real world, put together: what main hands to a verb.

import { userInfo } from 'node:os';
import type { World } from '../base/command.ts';
import { hostClock } from './clock.ts';
import { processComputes } from './computes-process.ts';
import { hostDisk } from './disk.ts';
import { handOver } from './hand-over.ts';
import { hostHttp } from './http.ts';
import { hostNet } from './net.ts';
import { openBlobs } from './open-blobs.ts';
import { hostKeys } from './open-keys.ts';
import { hostPrograms } from './programs.ts';
import { hostRandom } from './random.ts';
import { hostTerminal } from './terminal.ts';
import { readUnpacked } from './unpack.ts';

export function hostWorld(): World {
  const interrupted = new AbortController();
  const interrupt = (): void => {
    // The second time somebody means it: end at once.
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort(new Error('interrupted'));
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return {
    clock: hostClock,
    random: hostRandom,
    net: hostNet(),
    tlsNet: verify => hostNet({ clientTls: { rejectUnauthorized: verify } }),
    terminal: hostTerminal(),
    disk: hostDisk,
    blobs: openBlobs,
    keyServices: hostKeys,
    readUnpacked,
    http: hostHttp(),
    programs: hostPrograms,
    computes: processComputes(process.env['NEON_PG_DIR']),
    handOver,
    environment: name => (name === 'PWD' ? process.cwd() : process.env[name]),
    user,
    signal: interrupted.signal,
  };
}

/** The account's name; its number where it has none, as in many containers. */
function user(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.()}`;
  }
}
