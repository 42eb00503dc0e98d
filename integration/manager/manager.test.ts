// The manager with real processes around it: safekeepers, pageservers, computes. With Neon's build of Postgres where
// NEON_PG_DIR points at one, and with stock Postgres everywhere.

import { afterAll, beforeAll, describe, expect, onTestFailed, test } from 'vitest';
import { neonMajors } from '../safekeeper/neon-postgres.ts';
import { Installation, type Json } from './installation.ts';

const drivers: ('process' | 'stock')[] = neonMajors().includes(17) ? ['process', 'stock'] : ['stock'];
if (drivers.length === 1)
  console.log('manager with computes of Neon: skipped (NEON_PG_DIR has no Postgres 17)');

const WAKES = 50;

describe.each(drivers)('the manager with computes by %s', driver => {
  let lakebed: Installation;
  let project: Json;
  const path = (rest: string): string => `projects/${project.id}/${rest}`;

  beforeAll(async () => {
    lakebed = await Installation.start({ driver, managerArgs: ['--key-poll', '1s'] });
    const made = await lakebed.api('POST', 'projects?wait=true', {
      project: { name: 'shop', key: 'local:acme' },
    });
    project = made.project;
  }, 180_000);

  afterAll(() => lakebed?.stop(), 60_000);

  // A stock compute copies its branch at every start: what does not depend on the driver is tested with the other.
  const rounds = driver === 'process' ? [0, 5, 20, 60, 150] : [20];
  const test_ = (name: string, work: () => Promise<void>): void =>
    test(name, async () => {
      onTestFailed(() => console.log(lakebed.logs));
      await work();
    }, 180_000);

  const onceOnly = driver === 'process' || process.env['LAKEBED_TEST_LONG'] ? test_ : (): void => undefined;

  test_('50 clients wake one compute', async () => {
    const answers = await Promise.all(Array.from({ length: WAKES }, () => lakebed.wake('shop/main')));
    expect(new Set(answers.map(one => one.status))).toEqual(new Set([200]));
    expect(new Set(answers.map(one => one.body.port)).size).toBe(1);
    const { operations } = await lakebed.api('GET', path('operations'));
    expect(operations.filter((one: Json) => one.action === 'start_compute')).toHaveLength(1);
  });

  test_('branches, time travel, restore', async () => {
    const client = await lakebed.connect('main');
    await client.query('CREATE TABLE t (v int)');
    await client.query('INSERT INTO t VALUES (1)');
    const [{ lsn }] = (await client.query('SELECT pg_current_wal_flush_lsn()::text AS lsn')).rows;
    // What was committed before the call is in the branch.
    await client.query('INSERT INTO t VALUES (2)');
    const { branch } = await lakebed.api('POST', path('branches'), { branch: { name: 'dev' } });
    expect(branch.current_state).toBe('ready');
    await client.query('INSERT INTO t VALUES (3)');
    expect(await lakebed.query('dev', 'SELECT v FROM t ORDER BY v')).toEqual([{ v: 1 }, { v: 2 }]);
    await lakebed.query('dev', 'DELETE FROM t');
    expect(await lakebed.query('main', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 3 }]);

    const { endpoint } = await lakebed.api('POST', path('endpoints'), {
      endpoint: { branch_id: 'main', static_lsn: lsn },
    });
    expect(await lakebed.query(endpoint.id, 'SELECT v FROM t')).toEqual([{ v: 1 }]);
    await expect(lakebed.query(endpoint.id, 'INSERT INTO t VALUES (9)')).rejects.toThrow(/read-only/);
    await lakebed.api('DELETE', path(`endpoints/${endpoint.id}?wait=true`));

    await lakebed.api('POST', path('branches/dev/reset_to_parent?wait=true'));
    expect(await lakebed.query('dev', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 3 }]);
    await lakebed.api('POST', path('branches/dev/restore?wait=true'), {
      source_branch_id: 'main',
      source_lsn: lsn,
    });
    expect(await lakebed.query('dev', 'SELECT v FROM t')).toEqual([{ v: 1 }]);
    await lakebed.api('DELETE', path('branches/dev?wait=true'));
    const { branches } = await lakebed.api('GET', path('branches'));
    expect(branches.map((one: Json) => one.timeline_id).sort()).toEqual(
      await lakebed.timelines(project.tenant_id),
    );
  });

  test_('what sleeps keeps everything; passwords are asked for', async () => {
    const { endpoints } = await lakebed.api('GET', path('branches/main/endpoints'));
    await lakebed.api('POST', path(`endpoints/${endpoints[0].id}/suspend?wait=true`));
    expect((await lakebed.api('GET', path(`endpoints/${endpoints[0].id}`))).endpoint.current_state).toBe(
      'idle',
    );
    expect(await lakebed.query('main', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 3 }]);
    await expect(lakebed.connect('main', { password: 'wrong' })).rejects.toThrow(/password authentication/);
    await expect(lakebed.connect('main', { user: 'cloud_admin' })).rejects.toThrow(/pg_hba|rejects/);
  });

  onceOnly('an idle compute is suspended, one at work is not', async () => {
    const { endpoints } = await lakebed.api('GET', path('branches/main/endpoints'));
    const endpoint = path(`endpoints/${endpoints[0].id}`);
    const setTimeout_ = (seconds: number): Promise<Json> =>
      lakebed.api('PATCH', `${endpoint}?wait=true`, { endpoint: { suspend_timeout_seconds: seconds } });
    // Past the proxy: nobody tells the manager of this session, the compute itself does.
    const client = await lakebed.connect('main');
    await client.query('BEGIN');
    await client.query('SELECT 1');
    const looks = async (): Promise<number> => {
      const { operations } = await lakebed.api('GET', path('operations'));
      return operations.filter((one: Json) => one.action === 'suspend_compute' && one.status === 'finished')
        .length;
    };
    const before = await looks();
    await setTimeout_(1);
    await lakebed.until(async () => (await looks()) > before, 'it was looked at');
    expect((await client.query('SELECT 2 AS v')).rows).toEqual([{ v: 2 }]);
    await client.end();
    await lakebed.until(
      async () => (await lakebed.api('GET', endpoint)).endpoint.current_state === 'idle',
      'it is suspended',
    );
    await setTimeout_(0);
  });

  if (driver === 'process') {
    test_('a replica follows', async () => {
      const { endpoint } = await lakebed.api('POST', path('endpoints'), {
        endpoint: { branch_id: 'main', type: 'read_only' },
      });
      const replica = await lakebed.connect(endpoint.id);
      await lakebed.query('main', 'CREATE TABLE followed AS SELECT 7 AS v');
      await lakebed.until(async () => {
        const { rows } = await replica.query('SELECT v FROM followed');
        return rows[0]?.v === 7;
      }, 'the replica has it');
      await replica.end();
      await lakebed.api('DELETE', path(`endpoints/${endpoint.id}?wait=true`));
    });
  }

  test_('roles and databases are made and dropped in the compute', async () => {
    await lakebed.api('POST', path('branches/main/roles?wait=true'), { role: { name: 'ann "the" O\'Neil' } });
    await lakebed.api('POST', path('branches/main/databases?wait=true'), {
      database: { name: 'notes', owner_name: 'ann "the" O\'Neil' },
    });
    const client = await lakebed.connect('main', { user: 'ann "the" O\'Neil', database: 'notes' });
    await client.query('CREATE TABLE mine (v int)');
    await client.end();
    await lakebed.api('DELETE', path('branches/main/databases/notes?wait=true'));
    await lakebed.api(
      'DELETE',
      path(`branches/main/roles/${encodeURIComponent('ann "the" O\'Neil')}?wait=true`),
    );
    await expect(lakebed.connect('main', { user: 'ann "the" O\'Neil' })).rejects.toThrow(
      /password authentication/,
    );
    const { uri } = await lakebed.api('GET', path('connection_uri'));
    expect(uri).toMatch(/^postgresql:\/\/neondb_owner:[A-Za-z0-9]{20}@/);
  });

  test_('kill -9 of the manager in the middle of things', async () => {
    for (const afterMs of rounds) {
      const asked = [1, 2, 3].map(i =>
        lakebed.call('POST', `api/v2/${path('branches')}`, { branch: { name: `killed-${afterMs}-${i}` } }),
      );
      const answered = Promise.allSettled([...asked, lakebed.wake('main')]);
      await new Promise(done => setTimeout(done, afterMs));
      await lakebed.manager.kill('SIGKILL');
      await answered;
      await lakebed.manager.start();
      await lakebed.until(async () => {
        const { operations } = await lakebed.api('GET', path('operations'));
        return operations.every((one: Json) => one.status === 'finished');
      }, 'all operations are finished');
    }
    const { branches } = await lakebed.api('GET', path('branches'));
    expect(branches.every((one: Json) => one.current_state === 'ready')).toBe(true);
    expect(branches.map((one: Json) => one.timeline_id).sort()).toEqual(
      await lakebed.timelines(project.tenant_id),
    );
    // A compute that ran went on running, and is the one that is told.
    expect(await lakebed.query('main', 'INSERT INTO t VALUES (4) RETURNING v')).toEqual([{ v: 4 }]);
  });

  onceOnly('a compute that dies is started again', async () => {
    const client = await lakebed.connect('main');
    const [{ pid }] = (await client.query('SELECT pg_backend_pid() AS pid')).rows;
    const { body } = await lakebed.wake('main');
    process.kill(pid, 'SIGKILL'); // Postgres ends with it: restart_after_crash is off
    await lakebed.until(async () => {
      const { status, body: now } = await lakebed.wake('main');
      return status === 200 && now.port !== body.port;
    }, 'another compute is there');
    expect(await lakebed.query('main', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 4 }]);
  });

  test_('a revoked key ends computes at once, and wipes what they had', async () => {
    await lakebed.query('main', 'SELECT 1');
    lakebed.setKey('acme', 'disabled');
    await lakebed.until(async () => {
      const { endpoints } = await lakebed.api('GET', path('endpoints'));
      return endpoints.every((one: Json) => one.current_state === 'idle');
    }, 'no compute of the project runs');
    const { status, body } = await lakebed.wake('main');
    expect([status, body.msg]).toEqual([403, expect.stringContaining('customer key')]);
    expect((await lakebed.call('GET', `api/v2/${path('connection_uri')}`)).status).toBe(403);
    lakebed.setKey('acme', 'enabled');
    await lakebed.until(async () => (await lakebed.wake('main')).status === 200, 'it starts again');
    expect(await lakebed.query('main', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 4 }]);
  });

  onceOnly('an orderly end stops computes, and the next start finds them', async () => {
    const { body } = await lakebed.wake('main');
    await lakebed.manager.stop();
    await expect(fetch(`http://${body.host}:${body.port}`)).rejects.toThrow();
    await lakebed.manager.start();
    expect(await lakebed.query('main', 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 4 }]);
  });

  test_('a project goes with all that is in it', async () => {
    await lakebed.api('DELETE', `projects/${project.id}?wait=true`);
    expect((await lakebed.api('GET', 'projects')).projects).toEqual([]);
    expect(await lakebed.timelines(project.tenant_id)).toEqual([]);
    expect((await lakebed.call('GET', 'status')).body.endpoints_active).toBe(0);
  });
});
