// The proxy before a real Postgres: a stock server stands for the compute, a door of the test for the manager.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, type ClientConfig } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Fault } from '../../src/base/fault.ts';
import type { Log } from '../../src/base/ports.ts';
import type { ComputeAddress, ComputeDoor, EndpointActivity } from '../../src/control/proxy/compute-door.ts';
import { ComputeProxy } from '../../src/control/proxy/proxy.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { ReloadingCertificate } from '../../src/host/tls.ts';
import { PROTOCOL_3_0, startupPacket } from '../../src/protocol/pq-frame.ts';
import { selfSigned } from '../certificate.ts';
import { StockPostgres } from '../pg/stock.ts';

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => quiet };
// Every loopback address has ports of its own: the server keeps its usual one.
const ADDRESS = `127.${[1, 2, 3].map(() => 1 + hostRandom.below(250)).join('.')}`;
const COMPUTE: ComputeAddress = { endpointId: 'ep-test-1', host: ADDRESS, port: 5432 };

class TestDoor implements ComputeDoor {
  readonly asked: string[] = [];
  readonly heard: EndpointActivity[][] = [];
  /** Until it resolves the compute sleeps. */
  asleep: Promise<void> = Promise.resolve();

  async wake(target: string): Promise<ComputeAddress> {
    this.asked.push(target);
    await this.asleep;
    if (target === 'main' || target === 'ep-test-1') return COMPUTE;
    throw new Fault('route-unknown', `there is no branch or endpoint '${target}'`, { hint: 'List them.' });
  }

  async report(activity: readonly EndpointActivity[]): Promise<void> {
    this.heard.push([...activity]);
  }
}

let postgres: StockPostgres;
let proxy: ComputeProxy;
let door: TestDoor;
let port: number;
let certificate: ReloadingCertificate;
const dir = mkdtempSync(join(tmpdir(), 'lakebed-proxy-'));

beforeAll(async () => {
  const files = { keyFile: join(dir, 'server.key'), certFile: join(dir, 'server.crt') };
  selfSigned({ key: files.keyFile, cert: files.certFile }, 'db.example', '*.db.example');
  certificate = new ReloadingCertificate(files, 60_000, quiet);
  postgres = await StockPostgres.start(17, {
    settings: { listen_addresses: ADDRESS, password_encryption: 'scram-sha-256' },
  });
  await postgres.sql(`create role ada login password 'of counting'`);
  await postgres.sql('create database shop owner ada');
  door = new TestDoor();
  const net = hostNet({ serverTls: certificate });
  const routes = { domain: 'db.example', defaultTarget: 'main' };
  const machine = { net, clock: hostClock, random: hostRandom, log: quiet, door };
  proxy = new ComputeProxy(machine, { listen: { host: '127.0.0.1', port: 0 }, routes, tlsOnly: false });
  port = (await proxy.start()).port;
}, 60_000);

afterAll(async () => {
  await proxy?.stop();
  certificate?.close();
  await postgres?.destroy();
  rmSync(dir, { recursive: true, force: true });
});

async function session<T>(options: ClientConfig, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', ...options });
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const refused = (options: ClientConfig): Promise<{ code?: string; message: string; hint?: string }> =>
  session(options, async () => ({ message: 'it was let in' })).catch(e => e);

const until = async (what: () => boolean): Promise<void> => {
  const end = performance.now() + 20_000;
  while (!what()) {
    if (performance.now() > end) throw new Error('waited in vain');
    await new Promise(done => setTimeout(done, 10));
  }
};

test('queries pass, large answers and large questions among them', async () => {
  await session({}, async client => {
    const text = 'x'.repeat(3_000_000);
    const { rows } = await client.query(
      'select length($1) as n, repeat($1, 4) as t, current_database() as d',
      [text],
    );
    expect(rows[0].n).toBe(text.length);
    expect(rows[0].t).toBe(text.repeat(4));
    expect(rows[0].d).toBe('postgres');
  });
});

test('under TLS the server name chooses; without it an option, or the database', async () => {
  const ca = readFileSync(join(dir, 'server.crt'), 'utf8');
  door.asked.length = 0;
  const database = async (options: ClientConfig): Promise<string> =>
    session(options, async client => (await client.query('select current_database() as d')).rows[0].d);
  expect(await database({ ssl: { ca, servername: 'ep-test-1.db.example' } })).toBe('postgres');
  expect(await database({ options: 'endpoint=ep-test-1' })).toBe('postgres');
  expect(await database({ database: 'shop@ep-test-1' })).toBe('shop');
  expect(await database({})).toBe('postgres');
  expect(door.asked).toEqual(['ep-test-1', 'ep-test-1', 'ep-test-1', 'main']);
});

test('passwords are between client and compute', async () => {
  const hba = (await postgres.sql('show hba_file'))[0].hba_file as string;
  execFileSync('sed', ['-i', `1i host all ada ${ADDRESS}/32 trust\\nhost all ada all scram-sha-256`, hba]);
  // The connection comes from 127.0.0.1: the second line it is.
  await postgres.sql('select pg_reload_conf()');
  const ada = { user: 'ada', database: 'shop' };
  expect(await session({ ...ada, password: 'of counting' }, async () => 'in')).toBe('in');
  const ssl = { rejectUnauthorized: false, servername: 'ep-test-1.db.example' };
  expect(await session({ ...ada, password: 'of counting', ssl }, async () => 'in')).toBe('in');
  expect((await refused({ ...ada, password: 'wrong' })).code).toBe('28P01');
});

test('a compute that does not exist is refused with what to do', async () => {
  expect(await refused({ database: 'postgres@nowhere' })).toMatchObject({
    code: '3D000',
    message: "there is no branch or endpoint 'nowhere'",
    hint: 'List them.',
  });
});

test('a query is cancelled through the proxy, and no other', async () => {
  await session({}, async client => {
    await session({}, async other => {
      const sleeping = client.query('select pg_sleep(60)').catch(e => e);
      const untouched = other.query('select pg_sleep(0.5), 7 as seven');
      await until(() => proxy.activity()[0]?.busy === 2);
      const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
      const request = Buffer.alloc(16);
      request.writeInt32BE(16, 0);
      request.writeInt32BE(80877102, 4);
      request.writeInt32BE(processID, 8);
      request.writeInt32BE(secretKey, 12);
      const pid = (await postgres.sql(`select pid from pg_stat_activity where query like '%sleep(60)'`))[0]
        .pid;
      expect(processID).not.toBe(pid);
      await new Promise<void>(done => {
        const socket = connect(port, '127.0.0.1', () => socket.write(request));
        socket.on('close', () => done());
        socket.resume();
      });
      expect((await sleeping).code).toBe('57014');
      expect((await untouched).rows[0].seven).toBe(7);
    });
  });
});

test('clients are held while the compute wakes; one that leaves meanwhile harms nobody', async () => {
  let open = (): void => {};
  door.asleep = new Promise(resolve => (open = resolve));
  const clients = Array.from({ length: 20 }, () =>
    session({}, async c => (await c.query('select 1 as one')).rows[0].one),
  );
  const impatient = connect(port, '127.0.0.1', () => {
    impatient.write(startupPacket(PROTOCOL_3_0, ['user', 'postgres']));
    setTimeout(() => impatient.destroy(), 50);
  });
  await until(() => impatient.destroyed);
  open();
  expect(await Promise.all(clients)).toEqual(clients.map(() => 1));
});

test('who is at work is told to the manager, and that everybody has gone', async () => {
  await until(() => proxy.activity().length === 0);
  await session({}, async client => {
    await client.query('begin');
    await until(() => door.heard.at(-1)?.some(e => e.connections === 1 && e.busy === 1) === true);
    await client.query('commit');
    await until(() => proxy.activity()[0]?.busy === 0);
    expect(proxy.activity()[0]).toMatchObject({ endpointId: 'ep-test-1', connections: 1 });
  });
  await until(() => door.heard.at(-1)?.some(e => e.connections === 0) === true);
  expect(proxy.metrics.exposition()).toMatch(/lakebed_proxy_bytes_total\{direction="out"\} [1-9]/);
});

test('a client is told when the compute ends under it, and garbage is refused', async () => {
  const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  const ended = new Promise<Error & { code?: string }>(resolve => client.on('error', resolve));
  await client.connect();
  await postgres.sql(`select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null`);
  expect((await ended).code).toBe('57P01');
  const answer = await new Promise<string>(resolve => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
    socket.on('data', d => (text += d));
    socket.on('close', () => resolve(text));
  });
  expect(answer).toMatch(/FATAL/);
});
