import { expect, test } from 'vitest';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { fromUtf8, utf8 } from '../base/bytes.ts';
import type { HttpCall, HttpReply, Log } from '../base/ports.ts';
import { type UpcallOptions, upcalls } from './upcalls.ts';

const log: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => log,
};

const TENANT = '11'.repeat(16);

function world(answers: { status: number; body: string }[], change: Partial<UpcallOptions> = {}) {
  const clock = new SimClock();
  const calls: { url: string; auth: string | undefined; body: unknown }[] = [];
  const request = async (call: HttpCall): Promise<HttpReply> => {
    calls.push({
      url: call.url,
      auth: call.headers?.['authorization'],
      body: JSON.parse(fromUtf8(call.body!)) as unknown,
    });
    const { status, body } = answers.shift()!;
    return {
      status,
      headers: {},
      body: (async function* () {
        yield utf8(body);
      })(),
    };
  };
  const plane = upcalls({
    http: { request },
    clock,
    random: new SimRandom(1),
    log,
    url: 'http://control/upcall/v1',
    token: 'secret',
    nodeId: 7,
    metadata: undefined,
    availabilityZone: undefined,
    emergencyMode: false,
    ...change,
  });
  const run = async <T>(work: Promise<T>): Promise<T> => {
    await clock.run(3_600_000);
    return work;
  };
  return { plane, calls, run };
}

const signal = new AbortController().signal;

test('re-attach tells who we are and learns what is ours, however often it must ask', async () => {
  const metadata = {
    host: 'ps',
    port: 6400,
    httpHost: 'ps',
    httpPort: 9898,
    httpsPort: undefined,
    grpcHost: undefined,
    grpcPort: undefined,
    availabilityZone: 'a',
    nodeIpAddress: undefined,
  };
  const { plane, calls, run } = world(
    [
      { status: 503, body: '{"msg":"not yet"}' },
      { status: 200, body: 'no json' },
      {
        status: 200,
        body: `{"tenants":[{"id":"${TENANT}-0102","gen":9,"mode":"AttachedMulti","stripe_size":2048},
          {"id":"${TENANT}","gen":null,"mode":"Secondary","stripe_size":1}]}`,
      },
    ],
    { metadata },
  );
  const tenants = await run(plane.reAttach(true, signal));
  expect(tenants).toEqual([
    {
      at: { tenant: TENANT, shard: { number: 1, count: 2 } },
      mode: 'AttachedMulti',
      generation: 9,
      stripeSize: 2048,
    },
    {
      at: { tenant: TENANT, shard: { number: 0, count: 0 } },
      mode: 'Secondary',
      generation: undefined,
      stripeSize: 1,
    },
  ]);
  expect(calls).toHaveLength(3);
  expect(calls[0]).toEqual({
    url: 'http://control/upcall/v1/re-attach',
    auth: 'Bearer secret',
    body: {
      node_id: 7,
      empty_local_disk: true,
      register: {
        node_id: 7,
        listen_pg_addr: 'ps',
        listen_pg_port: 6400,
        listen_grpc_addr: null,
        listen_grpc_port: null,
        listen_http_addr: 'ps',
        listen_http_port: 9898,
        listen_https_port: null,
        availability_zone_id: 'a',
        node_ip_addr: null,
      },
    },
  });
});

test('a tenant that validate leaves out is not ours any more', async () => {
  const { plane, calls, run } = world([
    { status: 200, body: `{"tenants":[{"id":"b","valid":false},{"id":"a","valid":true}]}` },
  ]);
  const claims = ['a', 'b', 'c'].map(id => ({ id, generation: 3 }));
  expect(await run(plane.validate(claims, signal))).toEqual([true, false, false]);
  expect(calls[0]!.body).toEqual({ tenants: claims.map(({ id }) => ({ id, gen: 3 })) });
});

test('in emergency mode nobody is asked at the start', async () => {
  const { plane, calls, run } = world([], { emergencyMode: true });
  expect(await run(plane.reAttach(false, signal))).toBeUndefined();
  expect(calls).toEqual([]);
});

test('the wait for an answer ends with the process', async () => {
  const stop = new AbortController();
  const { plane, run } = world(Array.from({ length: 1000 }, () => ({ status: 500, body: '' })));
  const waiting = plane.validate([{ id: 'a', generation: 1 }], stop.signal);
  waiting.catch(() => undefined);
  stop.abort(new Error('stopped'));
  await expect(run(waiting)).rejects.toThrow('stopped');
});
