// A program below a closed directory can be started by nobody all the same.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { reachable } from './reachable.ts';

const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;
const home = mkdtempSync(join(tmpdir(), 'lakebed-reachable-'));
const open = join(home, 'open');
afterAll(() => rmSync(home, { recursive: true, force: true }));

function build(name: string, mode: number): string {
  const place = join(home, name);
  mkdirSync(join(place, 'native/bin'), { recursive: true });
  writeFileSync(join(place, 'native/bin/hello'), '#!/bin/sh\necho hello from $(id -u)\n', { mode: 0o755 });
  chmodSync(place, mode);
  return join(place, 'native');
}

test.skipIf(!isRoot)('what is closed is copied once, and runs as nobody', () => {
  chmodSync(home, 0o755);
  mkdirSync(open, { mode: 0o755 });
  const closed = build('closed', 0o700);
  const hello = (directory: string): string =>
    execFileSync(join(directory, 'bin/hello'), { uid: NOBODY, gid: NOBODY, encoding: 'utf8', cwd: '/' });
  expect(() => hello(closed)).toThrow(/EACCES/);
  const copy = reachable(closed, open);
  expect(hello(copy)).toBe(`hello from ${NOBODY}\n`);
  expect(reachable(closed, open)).toBe(copy);
  chmodSync(copy, 0o777);
  expect(() => reachable(closed, open)).toThrow(/belongs to somebody else/);
});

test('what is open is used where it is', () => {
  chmodSync(home, 0o755);
  const place = build('fine', 0o755);
  expect(reachable(place)).toBe(place);
});
