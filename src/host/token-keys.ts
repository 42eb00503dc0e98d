// Public keys for tokens, from a PEM file or a directory of them, looked at again every so often: keys are added
// and taken away without a restart. Files that do not load leave the keys before in place, and are told to the log.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/ports.ts';

const RELOAD_MS = 3000;

/** What holds the keys: protocol's TokenVerifier, handed in so that host need not know it. */
export interface KeyTaker {
  replace(pems: readonly string[]): Promise<void>;
}

/** PEM texts of a file, or of every file in a directory (not below it). */
export function readPems(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [readFileSync(path, 'utf8')];
    return readdirSync(path)
      .sort()
      .map(name => join(path, name))
      .filter(file => statSync(file).isFile())
      .map(file => readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Fault('config-invalid', `cannot read the public keys for tokens at ${path}`, {
      hint: `Give a PEM file or a directory of PEM files. ${(error as Error).message}`,
      cause: error,
    });
  }
}

/** Keys from `path`, kept up to date for the life of the process. */
export async function loadTokens<T extends KeyTaker>(
  path: string,
  verifier: { of(pems: readonly string[], now: () => number): Promise<T> },
  log: Log,
): Promise<T> {
  let seen = readPems(path);
  const tokens = await verifier.of(seen, () => Date.now());
  const timer = setInterval(async () => {
    try {
      const pems = readPems(path);
      if (pems.join() === seen.join()) return;
      await tokens.replace(pems);
      seen = pems;
      log.info('public keys for tokens reloaded', { path });
    } catch (error) {
      log.warn('public keys not reloaded; the ones before stay in use', { error });
    }
  }, RELOAD_MS);
  timer.unref();
  return tokens;
}
