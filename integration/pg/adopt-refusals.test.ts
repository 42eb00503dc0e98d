// What cannot be adopted, and what is wrong on the way: each told in one sentence with what to do, and nothing left
// behind on the origin. The same of checkouts.

import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { selfSigned } from '../certificate.ts';
import { Adopter, lakebed, Origin, opened, placeArgs } from './adopting.ts';
import { Storage } from './harness.ts';

let storage: Storage;
let tenant: string;
let origin: Origin;

beforeAll(async () => {
  storage = await Storage.start();
  tenant = await storage.createTenant();
  origin = await Origin.start(16, { initdb: [] });
  const roles = [
    `create role plain login password 'right'`,
    `create role copier login replication password 'right'`,
  ];
  for (const statement of roles) await origin.server.sql(statement);
  // Of the lines that initdb makes, one is left: replication for one role, with a password.
  const path = join(origin.server.dataDirectory, 'pg_hba.conf');
  const local = (await readFile(path, 'utf8')).split('\n').filter(line => line.startsWith('local'));
  const lines = ['copier', 'plain'].map(role => `host replication ${role} 127.0.0.1/32 scram-sha-256`);
  await writeFile(path, [...local, ...lines, ''].join('\n'));
  await origin.server.sql('select pg_reload_conf()');
});

afterAll(async () => {
  await origin.server.destroy();
  await storage.stop();
});

async function refused(url: string, ...args: string[]): Promise<string> {
  const safekeepers = storage.safekeepers.map(s => `127.0.0.1:${s.port}`).join(',');
  const place = [...placeArgs(storage, tenant), '--safekeepers', safekeepers];
  const { err, code } = await lakebed('adopt', url, '--once', ...place, ...args);
  expect(code).toBe(1);
  return err;
}

const as = (who: string): string => `postgres://${who}@127.0.0.1:${origin.port}/postgres`;

test('who may not connect is told which line is missing, which attribute, which password', async () => {
  const noLine = await refused(as('postgres'));
  expect(noLine).toContain('no pg_hba.conf entry for replication connection');
  expect(noLine).toContain('host  replication  postgres  127.0.0.1/32  scram-sha-256');
  expect(await refused(as('copier:wrong'))).toContain('Is this the password of copier?');
  expect(await refused(as('copier'))).toContain('Give the password in the address or in PGPASSWORD.');
  expect(await refused(as('plain:right'))).toContain('ALTER ROLE plain REPLICATION;');
  expect(await refused('postgres://copier:right@127.0.0.1:1/')).toContain('cannot connect to 127.0.0.1:1');
  expect(await refused('mysql://127.0.0.1/')).toContain('Write it as postgres://');
  expect(await refused(`${as('copier:right')}?sslmode=require`)).toContain('does not take TLS connections');
});

test('an origin that cannot be followed is told what to change', async () => {
  await origin.server.sql(`create tablespace elsewhere location '${await directory('space')}'`);
  const tablespace = await refused(as('copier:right'));
  expect(tablespace).toContain('has a tablespace at');
  expect(tablespace).toContain('SET TABLESPACE pg_default');
  await origin.server.sql('drop tablespace elsewhere');
  expect(await origin.server.sql('select count(*)::int from pg_replication_slots')).toEqual([{ count: 0 }]);

  await origin.server.stop();
  await origin.server.start({ wal_level: 'minimal', max_wal_senders: 0 });
  expect(await refused(as('copier:right'))).toContain("ALTER SYSTEM SET wal_level = 'replica'");
  await origin.server.stop();
  await origin.server.start({ wal_level: 'replica', max_wal_senders: 10, max_replication_slots: 0 });
  expect(await refused(as('copier:right'))).toContain('max_replication_slots');
  await origin.server.stop();
  await origin.server.start({ max_replication_slots: 10 });
  expect(await origin.server.sql('select count(*)::int from pg_replication_slots')).toEqual([{ count: 0 }]);
});

test('over TLS where the origin insists on it', async () => {
  const { server } = origin;
  selfSigned({ key: join(server.home, 'server.key'), cert: join(server.home, 'server.crt') });
  for (const name of ['server.key', 'server.crt']) {
    chmodSync(join(server.home, name), 0o600);
    const { uid, gid } = statSync(server.dataDirectory);
    chownSync(join(server.home, name), uid, gid);
  }
  const hba = join(server.dataDirectory, 'pg_hba.conf');
  const before = await readFile(hba, 'utf8');
  await writeFile(hba, before.replaceAll(/^host /gm, 'hostssl '));
  await server.stop();
  const [ssl_key_file, ssl_cert_file] = ['server.key', 'server.crt'].map(name => join(server.home, name));
  await server.start({ ssl: 'on', ssl_key_file: ssl_key_file!, ssl_cert_file: ssl_cert_file! });
  expect(await refused(as('copier:right'))).toContain('add ?sslmode=require to the address');
  expect(await refused(`${as('copier:right')}?sslmode=verify-full`)).toContain('the TLS handshake failed');
  const adopter = new Adopter(storage, tenant, origin, '--branch', 'over-tls');
  adopter.url = `${as('copier:right')}?sslmode=require`;
  adopter.start('--once');
  expect(await adopter.exit(), adopter.words).toBe(0);
  adopter.start('--end');
  expect(await adopter.exit()).toBe(0);
  await writeFile(hba, before);
  await server.sql('select pg_reload_conf()');
});

test('a tablespace made, or a promotion, ends what was going well; the branch stays', async () => {
  const adopter = new Adopter(storage, tenant, origin);
  adopter.url = as('copier:right');
  adopter.start();
  await adopter.event('caught-up');
  await origin.server.sql(`create tablespace elsewhere location '${await directory('space')}'`);
  expect(await adopter.exit()).toBe(1);
  expect(adopter.words).toContain('the origin made a tablespace');
  await origin.server.sql('drop tablespace elsewhere');
  const { timeline } = adopter;
  await opened(storage, { tenant, branch: timeline }, origin, async server => {
    expect(await server.sql('select count(*)::int from pg_tablespace')).toEqual([{ count: 2 }]);
  });
  await origin.server.stop();
  writeFileSync(join(origin.server.dataDirectory, 'standby.signal'), '');
  await origin.server.start();
  await origin.server.sql('select pg_promote()');
  adopter.start();
  expect(await adopter.exit()).toBe(1);
  expect(adopter.words).toContain('it was promoted or restored');
  adopter.start('--end');
  expect(await adopter.exit()).toBe(0);
});

test('a standby is refused', async () => {
  await origin.server.stop();
  writeFileSync(join(origin.server.dataDirectory, 'standby.signal'), '');
  await origin.server.start({ hot_standby: 'on' });
  expect(await refused(as('copier:right'))).toContain('Adopt its primary');
});

async function directory(name: string): Promise<string> {
  const path = join(origin.server.home, name);
  await origin.server.sql(`copy (select 1) to program 'rm -rf ${path} && mkdir -p ${path}'`);
  return path;
}

test('storage that is not there, or not named', async () => {
  const { err } = await lakebed('adopt', as('copier'), '--data-dir', join(storage.dir, 'nothing'));
  expect(err).toContain('Start one (lakebed start)');
  const nobody = await lakebed(
    'adopt',
    as('copier'),
    '--pageserver',
    'http://127.0.0.1:1',
    '--tenant',
    tenant,
  );
  expect(nobody.err).toContain('no safekeepers are given');
  const args = [
    '--tenant',
    tenant,
    '--safekeepers',
    '127.0.0.1:1',
    '--data-dir',
    join(storage.dir, 'adopter'),
  ];
  const silent = await lakebed('adopt', as('copier:right'), '--pageserver', 'http://127.0.0.1:1', ...args);
  expect(silent.err).toContain('the pageserver does not answer');
  expect((await lakebed('adopt', as('copier'), '--branch', 'a/b')).err).toContain('cannot be the name of');
});

test('checkouts that cannot be', async () => {
  const place = [...placeArgs(storage, tenant), '--pages', `127.0.0.1:${storage.pageserverPort}`];
  const used = join(storage.dir, 'used');
  mkdirSync(used);
  writeFileSync(join(used, 'something'), '');
  const unknown = '0'.repeat(32);
  expect((await lakebed('checkout', unknown, used, ...place)).err).toContain('is not empty');
  expect((await lakebed('checkout', 'nowhere', join(storage.dir, 'x'), ...place)).err).toContain(
    'there is no branch "nowhere"',
  );
  expect((await lakebed('checkout', unknown, join(storage.dir, 'x'), ...place)).err).toContain(
    `there is no timeline ${unknown}`,
  );
  const timeline = await storage.createTimeline(tenant, { pgVersion: 17 });
  const at = async (moment: string): Promise<string> =>
    (await lakebed('checkout', timeline, join(storage.dir, 'x'), ...place, '--at', moment)).err;
  expect(await at('yesterday')).toContain('neither an LSN nor a time');
  expect(await at('F/0')).toContain('the timeline ends at');
});
