// Our client against a real Postgres: logging in every way, rows, errors, COPY OUT and a replication stream.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stockBin } from '../../integration/pg/stock.ts';
import { hostNet } from '../host/net.ts';
import { hostRandom } from '../host/random.ts';
import { PqClient, ServerError } from './pq-client.ts';
import { readWalSenderMessage } from './replication.ts';

const BIN = stockBin(17);
const NOBODY = 65534;
const asNobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

let dir: string;
let port: number;
let server: ChildProcess;

const freePort = (): Promise<number> =>
  new Promise(done => {
    const s = createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = s.address() as { port: number };
      s.close(() => done(free));
    });
  });

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-pq-client-'));
  if (process.getuid?.() === 0) chownSync(dir, NOBODY, NOBODY);
  chmodSync(dir, 0o755);
  const data = join(dir, 'data');
  execFileSync(join(BIN, 'initdb'), ['-D', data, '-U', 'boss', '--no-sync', '-A', 'trust', '--locale=C'], {
    stdio: 'ignore',
    ...asNobody,
  });
  writeFileSync(
    join(data, 'pg_hba.conf'),
    ['trust boss', 'password plain', 'md5 md', 'scram-sha-256 scram']
      .map(line => line.split(' '))
      .flatMap(([how, who]) => [`host all ${who} all ${how}`, `host replication ${who} all ${how}`])
      .join('\n'),
  );
  port = await freePort();
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories=', 'fsync=off'];
  server = spawn(join(BIN, 'postgres'), ['-D', data, ...settings.flatMap(s => ['-c', s])], {
    stdio: 'ignore',
    ...asNobody,
  });
  for (;;) {
    try {
      const client = await connect('boss');
      await client.query("create role plain login password 'pw'; create role scram login password 'pw'");
      await client.query("set password_encryption = 'md5'; create role md login password 'pw'");
      await client.end();
      return;
    } catch {
      await new Promise(done => setTimeout(done, 100));
    }
  }
});
afterAll(() => {
  server.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const connect = (user: string, password?: string, more: Record<string, string> = {}): Promise<PqClient> =>
  PqClient.connect(hostNet(), hostRandom, {
    host: '127.0.0.1',
    port,
    parameters: { user, database: 'postgres', ...more },
    password,
  });

describe('logging in', () => {
  test.each(['plain', 'md', 'scram'])('%s', async user => {
    const client = await connect(user, 'pw');
    expect((await client.query('select current_user')).rows).toEqual([[user]]);
    await client.end();
    await expect(connect(user, 'wrong')).rejects.toMatchObject({ sqlState: '28P01' });
    await expect(connect(user)).rejects.toThrow(/password/);
  });

  test('an impostor that does not know the password is found out', async () => {
    const { ScramClient } = await import('./scram.ts');
    const client = new ScramClient('pw', new Uint8Array(18));
    client.final(`r=${'A'.repeat(24)}XYZ,s=c2FsdA==,i=4096`);
    expect(() => client.verify(`v=${Buffer.alloc(32).toString('base64')}`)).toThrow(/does not know/);
    expect(() => client.final('r=other,s=c2FsdA==,i=4096')).toThrow(/nonce/);
  });
});

describe('queries', () => {
  test('rows as text, NULL, several statements, and on after an error', async () => {
    const client = await connect('boss');
    const result = await client.query("select 1 as one, null as nothing, 'ä' as letter");
    expect(result).toEqual({
      columns: ['one', 'nothing', 'letter'],
      rows: [['1', null, 'ä']],
      tag: 'SELECT 1',
    });
    const error = await client.query('select 1; nonsense').catch(e => e);
    expect(error).toBeInstanceOf(ServerError);
    expect(error).toMatchObject({ sqlState: '42601' });
    expect((await client.query('select 2')).rows).toEqual([['2']]);
    expect(client.serverParameters.get('server_version')).toMatch(/^17/);
    await client.end();
  });

  test('COPY OUT', async () => {
    const client = await connect('boss');
    const lines: string[] = [];
    for await (const piece of client.copyOut('copy (select generate_series(1, 3)) to stdout')) {
      lines.push(Buffer.from(piece).toString());
    }
    expect(lines.join('')).toBe('1\n2\n3\n');
    expect((await client.query('select 4')).rows).toEqual([['4']]);
    await client.end();
  });
});

test('a replication stream gives WAL from where it was asked', async () => {
  const client = await connect('boss', undefined, { replication: 'true' });
  const { rows, columns } = await client.query('IDENTIFY_SYSTEM');
  expect(columns).toEqual(['systemid', 'timeline', 'xlogpos', 'dbname']);
  const [high] = rows[0]![2]!.split('/');
  const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${high}/1000000`);
  for (let next = 0x1000000; next < 0x1100000; ) {
    const message = readWalSenderMessage((await copy.read())!);
    if (message.kind !== 'wal') continue;
    expect(message.startLsn).toBe(next);
    next += message.wal.length;
  }
  await copy.done();
  while (await copy.read());
  copy.destroy();
});
