// What every daemon does around its work: say its version, tell trouble of the start in one sentence, end on a
// signal, and die loudly of an error that nobody expected.

import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/ports.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version;
}

/** The commit: of the checkout this runs from, or of `build.json` beside package.json, or zeros. */
export function commit(): string {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(join(ROOT, path), 'utf8').trim();
    } catch {
      return undefined;
    }
  };
  const built = read('build.json');
  if (built) return (JSON.parse(built) as { commit: string }).commit;
  const head = read('.git/HEAD');
  if (!head?.startsWith('ref: ')) return head && /^[0-9a-f]{40}$/.test(head) ? head : '0'.repeat(40);
  const ref = head.slice(5);
  const packed = read('.git/packed-refs')
    ?.split('\n')
    .find(line => line.endsWith(` ${ref}`));
  return read(`.git/${ref}`) ?? packed?.slice(0, 40) ?? '0'.repeat(40);
}

/** What `--version` prints; launchers look for `"testing"` to know that maintenance calls are there. */
export const versionLine = (): string =>
  `Lakebed ${packageVersion()} git:${commit()} failpoints: false, features: ["testing"]`;

/** Runs a daemon's `main`; a Fault of the start is told in a sentence with its way out, exit code 1. */
export async function runDaemon(name: string, main: () => Promise<Log | undefined>): Promise<void> {
  let log: Log | undefined;
  const die = (what: string) => (error: unknown) => {
    if (log) log.error(what, { error });
    else process.stderr.write(`${name}: ${what}: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  };
  process.on('uncaughtException', die('an error that nobody expected ends the process'));
  process.on('unhandledRejection', die('an error that nobody waited for ends the process'));
  // A pipe whose reader has gone must not take the service along.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
  try {
    log = await main();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    process.stderr.write(`${name}: ${error.message}\n${error.hint ? `  ${error.hint}\n` : ''}`);
    process.exit(1);
  }
}

/** SIGINT and SIGTERM run `stop`, for a while at most; SIGQUIT ends at once. All exit with 0. */
export function onSignals(log: Log, stop?: () => Promise<void>, graceMs = 8000): void {
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const) {
    process.on(signal, () => {
      log.info('ending on a signal', { signal });
      if (signal === 'SIGQUIT' || stopping || !stop) process.exit(0);
      stopping = true;
      setTimeout(() => process.exit(0), graceMs).unref();
      stop().finally(() => process.exit(0));
    });
  }
}
