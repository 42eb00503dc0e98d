// Adoption into the Lakebed of this machine, through its manager: an adopted server is a project, whose branches are made
// and checked out by name.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { portBlock } from '../first-run/port-block.ts';
import { CHECKOUT_SETTINGS, contents, Origin, sound } from './adopting.ts';
import type { StockPostgres } from './stock.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const home = mkdtempSync(join(tmpdir(), 'lakebed-adopt-'));
const place = join(home, 'data');
let origin: Origin | undefined;

afterAll(async () => {
  lakebed('stop');
  await origin?.server.destroy();
  rmSync(home, { recursive: true, force: true });
}, 120_000);

/** To its end; what it leaves running must not hold our pipes. */
function lakebed(...args: string[]): { status: number | null; text: string } {
  const out = join(home, 'out');
  const line = `exec "$0" "$@" >${out} 2>&1 </dev/null`;
  const { status } = spawnSync('sh', ['-c', line, LAKEBED, ...args, '-D', place], {
    env: { ...process.env, HOME: home, NO_COLOR: '1', PGPASSWORD: 'of-the-origin' },
  });
  return { status, text: readFileSync(out, 'utf8') };
}

function ok(...args: string[]): string {
  const { status, text } = lakebed(...args);
  expect(status, `lakebed ${args.join(' ')}\n${text}`).toBe(0);
  return text;
}

async function opened(
  branch: string,
  at: string[],
  work: (server: StockPostgres) => Promise<void>,
): Promise<void> {
  const { server } = origin!;
  const directory = join(server.home, branch.replace('/', '-'));
  ok('checkout', branch, directory, '--no-sync', ...at);
  await server.runDirectory(directory, CHECKOUT_SETTINGS, work);
}

test('a project of its own: followed, branched, checked out by name', { timeout: 240_000 }, async () => {
  ok('start', '--ports', await portBlock());
  origin = await Origin.start(16, { initdb: [] });
  await origin.fill();
  const { server, url } = origin;
  expect(ok('adopt', url, '--once', '--branch', 'shop')).toMatch(
    /imported at 0\/[0-9A-F]+: [\d.]+ MB in [\d.]+ s\n(.*\n)*caught up: /,
  );
  const first = await contents(server);
  const { lsn } = await origin.mark('later');
  await server.sql(`update account set note = 'later'`);
  const again = ok('adopt', url, '--once', '--branch', 'shop');
  expect(again).toContain('branch shop goes on: timeline');
  expect(again).toContain('imported before');
  const newest = await contents(server);

  await opened('shop', [], async copy => {
    expect(await contents(copy)).toEqual(newest);
    await sound(copy);
  });
  ok('branch', 'create', 'before', '--project', 'shop', '--at', lsn, '--no-compute');
  await opened('shop/before', [], async copy => {
    expect(await contents(copy)).toEqual({ ...first, marker: expect.anything() });
    expect(await copy.sql('select name from marker')).toEqual([{ name: 'later' }]);
    await sound(copy);
  });
  // Its roles and databases are known by name, their passwords to the origin alone.
  expect(ok('branch', 'create', 'try', '--project', 'shop')).toMatch(
    /^Branch try .*\n.*lakebed psql try -p shop\n.*postgresql:\/\/\w+@127/,
  );
  await server.sql(`create role visitor login password 'of-the-origin'`);
  expect(ok('adopt', url, '--once', '--branch', 'shop')).toContain('caught up');
  ok('branch', 'create', 'visit', '--project', 'shop');
  const asked = ['psql', 'visit', '--project', 'shop', '-d', 'postgres', '-U', 'visitor'];
  expect(ok(...asked, '-c', 'select current_user')).toContain('visitor');
  expect(ok('adopt', url, '--end', '--branch', 'shop')).toContain('is gone from the origin');
  expect(await server.sql('select count(*)::int from pg_replication_slots')).toEqual([{ count: 0 }]);
});
