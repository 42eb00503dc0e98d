import { describe, expect, test } from 'vitest';
import { utf8 } from '../base/bytes.ts';
import {
  CANCEL_REQUEST,
  copyData,
  FrameReader,
  frame,
  GSSENC_REQUEST,
  PROTOCOL_3_0,
  SSL_REQUEST,
  startupPacket,
  TAG,
} from './pq-frame.ts';
import { PqServerSession, type ServerEvent, splitOptions } from './pq-server.ts';

const startup = startupPacket(PROTOCOL_3_0, ['user', 'u', 'options', '-c timeline_id=ab tenant_id=cd']);

function session(options: Partial<ConstructorParameters<typeof PqServerSession>[0]> = {}): PqServerSession {
  return new PqServerSession({ tls: false, secure: false, password: false, ...options });
}

/** Tags of the frames in an answer. */
function tags(bytes: Uint8Array): string {
  const reader = new FrameReader(1 << 20);
  reader.push(bytes);
  let all = '';
  for (let f = reader.next(); f; f = reader.next()) all += String.fromCharCode(f.tag);
  return all;
}

function feed(s: PqServerSession, ...pieces: Uint8Array[]): ServerEvent[] {
  const events: ServerEvent[] = [];
  for (const piece of pieces) {
    s.push(piece);
    for (let e = s.next(); e; e = s.next()) events.push(e);
  }
  return events;
}

function ready(): PqServerSession {
  const s = session();
  feed(s, startup);
  s.greet();
  return s;
}

const query = (text: string): Uint8Array => frame(TAG.query, utf8(`${text}\0`));

describe('startup', () => {
  test('parameters and options are told, the greeting ends in ReadyForQuery', () => {
    const s = session();
    const [event] = feed(s, startup);
    if (event?.kind !== 'startup') throw new Error('no startup');
    expect(event.parameters.values.get('user')).toBe('u');
    expect(event.parameters.options).toEqual(['-c', 'timeline_id=ab', 'tenant_id=cd']);
    expect(tags(s.greet())).toMatch(/^RS+Z$/);
  });

  test('SSL and GSS are answered N where there is no TLS, and startup follows', () => {
    const s = session();
    const events = feed(s, startupPacket(GSSENC_REQUEST), startupPacket(SSL_REQUEST), startup);
    expect(events.map(e => e.kind)).toEqual(['reply', 'reply', 'startup']);
    expect(events.slice(0, 2)).toEqual([
      { kind: 'reply', bytes: utf8('N') },
      { kind: 'reply', bytes: utf8('N') },
    ]);
  });

  test('asking for encryption for ever is refused', () => {
    const s = session();
    expect(() => feed(s, ...Array(9).fill(startupPacket(GSSENC_REQUEST)))).toThrow(/again and again/);
  });

  test('with TLS: SSLRequest asks for it, a plain startup is refused, early data is refused', () => {
    expect(feed(session({ tls: true }), startupPacket(SSL_REQUEST))).toEqual([{ kind: 'tls' }]);
    expect(() => feed(session({ tls: true }), startup)).toThrow(/TLS connections only/);
    const stuffed = Buffer.concat([startupPacket(SSL_REQUEST), startup]);
    expect(() => feed(session({ tls: true }), stuffed)).toThrow(/unencrypted data/);
    expect(feed(session({ tls: true, secure: true }), startup)[0]?.kind).toBe('startup');
  });

  test('a cancel request ends the connection', () => {
    const s = session();
    expect(feed(s, startupPacket(CANCEL_REQUEST, ['12345678']))).toEqual([{ kind: 'end' }]);
  });

  test('nothing is served before the password was right', () => {
    const s = session({ password: true });
    feed(s, startup);
    expect(tags(s.greet())).toBe('R');
    expect(() => feed(s, query('IDENTIFY_SYSTEM'))).toThrow(/where a password was due/);
    const t = session({ password: true });
    feed(t, startup);
    t.greet();
    const events = feed(t, Buffer.concat([frame(TAG.password, utf8('secret\0')), query('x')]));
    expect(events).toEqual([{ kind: 'password', password: 'secret' }]);
    expect(tags(t.authenticated())).toMatch(/^RS+Z$/);
    expect(t.next()).toEqual({ kind: 'query', text: 'x', extended: false });
  });
});

describe('queries', () => {
  test('extended: the stored text comes with Execute, ReadyForQuery with Sync alone', () => {
    const s = ready();
    const events = feed(
      s,
      frame(TAG.parse, utf8('\0basebackup a b\0\0\0')),
      frame(TAG.describe, utf8('S\0')),
      frame(TAG.bind, utf8('\0\0\0\0\0\0\0\0')),
      frame(TAG.execute, utf8('\0\0\0\0\0')),
      frame(TAG.sync),
    );
    const shown = events.map(e => (e.kind === 'reply' ? tags(e.bytes) : `${e.kind}`));
    expect(shown).toEqual(['1', 'tn', '2', 'query', 'Z']);
    expect(events[3]).toEqual({ kind: 'query', text: 'basebackup a b', extended: true });
  });

  test('after a failed extended query everything up to Sync is dropped', () => {
    const s = ready();
    s.failedExtended();
    const events = feed(s, query('a'), frame(TAG.execute, utf8('\0\0\0\0\0')), frame(TAG.sync), query('b'));
    expect(events.map(e => e.kind)).toEqual(['reply', 'query']);
  });

  test('COPY data comes only in a copy; Terminate ends everywhere', () => {
    const s = ready();
    expect(feed(s, copyData(utf8('late')))).toEqual([]);
    s.enterCopy(1000);
    expect(feed(s, copyData(utf8('now')), frame(TAG.copyDone)).map(e => e.kind)).toEqual([
      'copy-data',
      'copy-done',
    ]);
    expect(() => feed(s, query('x'))).toThrow(/data of a COPY/);
    expect(feed(ready(), frame(TAG.terminate), query('x'))).toEqual([{ kind: 'end' }]);
  });

  test('a message that no client sends is a protocol violation', () => {
    expect(() => feed(ready(), frame(0x07))).toThrow(/0x7/);
  });
});

test('options: white space splits, a backslash takes the next as it is', () => {
  expect(splitOptions('-c  a=1\tb\\ c=2 \\\\x ')).toEqual(['-c', 'a=1', 'b c=2', '\\x']);
  expect(splitOptions('')).toEqual([]);
});
