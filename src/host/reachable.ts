// Programs that an unprivileged user can reach. Root's children drop to `nobody`, for Postgres refuses root; but a
// checkout below /root is closed to everybody else, and a program there cannot be started. Then its directory is
// copied, once, to a place that is open:
//
//   <tmp>/lakebed-programs-<digest of where it was and when it changed>/
//
// made aside and renamed, so that it is there whole or not at all; one that is not root's own is not trusted.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Fault } from '../base/fault.ts';

const OTHERS_MAY_ENTER = 0o001;
const OTHERS_MAY_WRITE = 0o022;
const DIGEST_DIGITS = 16;

/** The directory itself, or a copy of it that everybody can enter. */
export function reachable(directory: string, temporary = tmpdir()): string {
  if (process.getuid?.() !== 0) return directory;
  const real = realpathSync(directory);
  if (isOpen(real)) return real;
  const { mtimeMs, ino } = statSync(real);
  const digest = createHash('sha256').update(`${real} ${mtimeMs} ${ino}`).digest('hex');
  const copy = join(temporary, `lakebed-programs-${digest.slice(0, DIGEST_DIGITS)}`);
  if (!isThere(copy)) make(real, copy, temporary);
  const { uid, mode } = lstatSync(copy);
  if (uid === 0 && (mode & OTHERS_MAY_WRITE) === 0) return copy;
  throw new Fault('config-invalid', `${copy} belongs to somebody else, and is not used`, {
    hint: `Remove it; or put Lakebed where every user may enter, which ${directory} is not.`,
  });
}

/** Every directory on the way lets others through. */
function isOpen(directory: string): boolean {
  for (let at = directory; ; at = dirname(at)) {
    if ((statSync(at).mode & OTHERS_MAY_ENTER) === 0) return false;
    if (dirname(at) === at) return true;
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function make(from: string, to: string, temporary: string): void {
  const aside = mkdtempSync(join(temporary, 'lakebed-programs-new-'));
  try {
    cpSync(from, aside, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    chmodSync(aside, 0o755);
    renameSync(aside, to);
  } catch (error) {
    rmSync(aside, { recursive: true, force: true });
    // Somebody else made it meanwhile.
    if (!isThere(to)) throw error;
  }
}
