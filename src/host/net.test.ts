import { expect, test } from 'vitest';
import type { Connection } from '../base/ports.ts';
import { hostNet } from './net.ts';

/** Both ends of a connection over loopback. */
async function pair(): Promise<{ here: Connection; there: Connection; close: () => Promise<void> }> {
  const net = hostNet();
  let accepted: (connection: Connection) => void;
  const there = new Promise<Connection>(resolve => (accepted = resolve));
  const listener = await net.listen({ host: '127.0.0.1', port: 0 }, connection => accepted(connection));
  const here = await net.connect({ host: '127.0.0.1', port: listener.port });
  return { here, there: await there, close: () => listener.close() };
}

test('pieces that are lent arrive whole, in order, and are the sender’s again when told so', async () => {
  const { here, there, close } = await pair();
  const body = new Uint8Array(3_000_000);
  const expected = Buffer.alloc(4 * (body.length + 1));
  const sending = (async () => {
    for (let i = 0; i < 4; i++) {
      body.fill(i + 1);
      expected.fill(i + 1, i * (body.length + 1));
      await here.writeLent!([Uint8Array.of(i + 1), body]);
      body.fill(0xff); // what was still to be sent would show it
    }
  })();
  const parts: Uint8Array[] = [];
  for (let got = 0; got < expected.length; ) {
    const part = (await there.read())!;
    parts.push(part);
    got += part.length;
  }
  await sending;
  expect(Buffer.concat(parts).equals(expected)).toBe(true);
  here.destroy();
  await close();
});

test('pieces lent to a connection that breaks are refused, not kept', async () => {
  const { here, there, close } = await pair();
  const body = new Uint8Array(64 * 1024 * 1024); // more than the sockets take while nobody reads
  const lent = here.writeLent!([body]);
  there.destroy();
  await expect(lent).rejects.toMatchObject({ code: 'connection-closed' });
  await expect(here.writeLent!([body])).rejects.toMatchObject({ code: 'connection-closed' });
  await close();
});
