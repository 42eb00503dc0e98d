// The served protocol judged by clients that are not ours: node-postgres, and a TLS socket of Node's own.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as netConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { selfSigned } from '../../integration/certificate.ts';
import { concatBytes, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Connection, Listener } from '../base/ports.ts';
import { hostNet } from '../host/net.ts';
import { copyData, FrameReader, frame, PROTOCOL_3_0, startupPacket, TAG } from './pq-frame.ts';
import { commandComplete, dataRow, readError, rowDescription, textColumn } from './pq-messages.ts';
import { EndStreaming, type PqHandler, servePq } from './pq-serve.ts';

const handler = (): PqHandler => {
  let application = '';
  return {
    startup(parameters) {
      application = parameters.values.get('application_name') ?? '';
    },
    async checkPassword(password) {
      if (password !== 'right') throw new Fault('auth-failed', 'JWT authentication error');
    },
    async query(text, connection) {
      if (text === 'fail') throw new Fault('timeline-missing', 'no such timeline', { hint: 'Create it.' });
      if (text === 'copy out') {
        await connection.startCopyOut();
        await connection.sendCopyData(utf8('some bytes'));
        return connection.endCopyOut('SELECT 1');
      }
      if (text === 'copy both') {
        await connection.startCopyBoth(1000);
        for (;;) {
          const data = await connection.readCopyData();
          if (Buffer.from(data).toString() === 'end it') throw new EndStreaming('ending streaming to x');
          if (Buffer.from(data).toString() === 'break it') throw new Error('broken');
          await connection.sendCopyData(data);
        }
      }
      await connection.send(
        concatBytes([
          rowDescription([textColumn('query'), textColumn('app'), textColumn('nothing')]),
          dataRow([text, application, null]),
          commandComplete('SELECT 1'),
        ]),
      );
    },
  };
};

const serve =
  (password: boolean, tlsOn = false) =>
  (connection: Connection): void =>
    void servePq(connection, handler(), { tls: tlsOn, password });

const listeners: Listener[] = [];
async function start(password = false): Promise<Listener> {
  const listener = await hostNet().listen({ host: '127.0.0.1', port: 0 }, serve(password));
  listeners.push(listener);
  return listener;
}
afterAll(() => Promise.all(listeners.map(l => l.close())));

/** A bare socket: sends bytes, collects frames until the server closes. */
function talk(port: number, ...pieces: Uint8Array[]): Promise<{ tag: string; body: Uint8Array }[]> {
  return new Promise((resolve, reject) => {
    const socket = netConnect(port, '127.0.0.1');
    const reader = new FrameReader(1 << 20);
    const frames: { tag: string; body: Uint8Array }[] = [];
    socket.on('data', chunk => {
      reader.push(chunk);
      for (let f = reader.next(); f; f = reader.next()) {
        frames.push({ tag: String.fromCharCode(f.tag), body: f.body.slice() });
      }
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(frames));
    for (const piece of pieces) socket.write(piece);
  });
}
const hello = startupPacket(PROTOCOL_3_0, ['user', 'x']);
const query = (text: string): Uint8Array => frame(TAG.query, utf8(`${text}\0`));
const said = (frames: { tag: string }[]): string =>
  frames
    .map(f => f.tag)
    .join('')
    .replace(/^RS+Z/, '');

describe('node-postgres', () => {
  test('rows, errors with a hint, and the next query after an error', async () => {
    const { port } = await start();
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'u', application_name: 'app' });
    await client.connect();
    const { rows } = await client.query('hello there');
    expect(rows).toEqual([{ query: 'hello there', app: 'app', nothing: null }]);
    await expect(client.query('fail')).rejects.toMatchObject({
      message: 'no such timeline',
      hint: 'Create it.',
    });
    expect((await client.query('again')).rows[0].query).toBe('again');
    await client.end();
  });

  test('the extended protocol', async () => {
    const { port } = await start();
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'u' });
    await client.connect();
    await expect(client.query({ text: 'fail', values: [], name: 'x' })).rejects.toThrow('no such timeline');
    await client.query('again');
    await client.end();
  });

  test('passwords', async () => {
    const { port } = await start(true);
    const good = new pg.Client({ host: '127.0.0.1', port, user: 'u', password: 'right' });
    await good.connect();
    await good.end();
    const bad = new pg.Client({ host: '127.0.0.1', port, user: 'u', password: 'wrong' });
    await expect(bad.connect()).rejects.toThrow('JWT authentication error');
  });
});

describe('copies', () => {
  test('COPY OUT goes on to the next query', async () => {
    const { port } = await start();
    const frames = await talk(port, hello, query('copy out'), query('q'), frame(TAG.terminate));
    expect(said(frames)).toBe('HdcCZTDCZ');
  });

  test('COPY BOTH echoes, and its four ends', async () => {
    const { port } = await start();
    const copy = (...pieces: Uint8Array[]): Promise<{ tag: string; body: Uint8Array }[]> =>
      talk(port, hello, query('copy both'), ...pieces);
    expect(said(await copy(copyData(utf8('a')), frame(TAG.copyDone)))).toBe('Wdc');
    expect(said(await copy(frame(TAG.terminate)))).toBe('W');
    const failed = await copy(frame(TAG.copyFail, utf8('no\0')));
    expect(said(failed)).toBe('WE');
    expect(readError(failed.at(-1)!.body).sqlState).toBe('00000');
    const ended = await copy(copyData(utf8('end it')));
    expect(readError(ended.at(-1)!.body)).toMatchObject({
      sqlState: '00000',
      message: 'ending streaming to x',
    });
    const broken = await copy(copyData(utf8('break it')));
    expect(readError(broken.at(-1)!.body)).toMatchObject({ sqlState: 'XX000', message: 'broken' });
  });

  test('garbage gets an error and a closed connection', async () => {
    const { port } = await start();
    const frames = await talk(port, Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    expect(said(frames)).toBe('E');
    const giant = await talk(port, hello, new Uint8Array([TAG.query, 0x7f, 0xff, 0xff, 0xff]));
    expect(said(giant)).toBe('E');
  });
});

describe('TLS', () => {
  let dir: string;
  let listener: Listener;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'lakebed-tls-'));
    const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
    selfSigned({ key, cert });
    const current = tls.createSecureContext({ key: readFileSync(key), cert: readFileSync(cert) });
    const net = hostNet({ serverTls: { current } });
    listener = await net.listen({ host: '127.0.0.1', port: 0 }, serve(false, true));
    listeners.push(listener);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  test('by request, with node-postgres', async () => {
    const ssl = { rejectUnauthorized: false };
    const client = new pg.Client({ host: '127.0.0.1', port: listener.port, user: 'u', ssl });
    await client.connect();
    expect((await client.query('hello')).rows[0].query).toBe('hello');
    await client.end();
  });

  test('a plain client is refused with a sentence', async () => {
    const client = new pg.Client({ host: '127.0.0.1', port: listener.port, user: 'u' });
    await expect(client.connect()).rejects.toThrow('TLS connections only');
  });

  test('from the first byte', async () => {
    const socket = tls.connect({
      port: listener.port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ALPNProtocols: ['postgresql'],
    });
    await new Promise(done => socket.once('secureConnect', done));
    expect(socket.alpnProtocol).toBe('postgresql');
    socket.write(hello);
    const answer = await new Promise<Buffer>(done => socket.once('data', done));
    expect(String.fromCharCode(answer[0]!)).toBe('R');
    socket.destroy();
  });

  test('garbage that looks like TLS is cut', async () => {
    const socket = netConnect(listener.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    socket.write(new Uint8Array([0x16, 0x03, 0x01, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]));
    await new Promise(done => socket.once('close', done));
  });

  test('our own client side, with TLS by request', async () => {
    const net = hostNet({ clientTls: { rejectUnauthorized: false } });
    const plain = await net.connect({ host: '127.0.0.1', port: listener.port });
    await plain.write(startupPacket(80877103));
    expect(await plain.read()).toEqual(Buffer.from('S'));
    const secured = await plain.upgradeTls!();
    expect(secured.secure).toBe(true);
    await secured.write(hello);
    expect((await secured.read())![0]).toBe(TAG.authentication);
    secured.destroy();
  });
});
