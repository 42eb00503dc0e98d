// One client of the proxy, from its first byte to its last: TLS if it asks, cancel requests passed on, its compute found
// and woken while it waits, and then bytes in both directions, each held back by the pace of the other end.
//
// Passwords are the compute's business: its questions and the client's answers pass through untouched, so the proxy
// never holds a secret. (A compute behind TLS of its own would offer channel binding, which no man in the middle can
// pass on; computes are reached over a trusted network and offer none.)
//
// A client that leaves while its compute wakes is let go; the compute wakes all the same, as others may wait for it.
// A compute that refuses the connection right after it woke is asked for again, a few times: it may just have slept.

import { Builder } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { Clock, Connection, Net, Random } from '../../base/ports.ts';
import { CANCEL_REQUEST, FrameReader, GSSENC_REQUEST, SSL_REQUEST } from '../../protocol/pq-frame.ts';
import { errorOf, errorResponse, SQLSTATE } from '../../protocol/pq-messages.ts';
import type { CancelKeys } from './cancel-keys.ts';
import type { ComputeAddress, ComputeDoor } from './compute-door.ts';
import { type Route, type RouteSettings, routeOf } from './route.ts';
import { SessionWatch } from './wire-watch.ts';

/** As Postgres's authentication_timeout: for the packets before the startup's. */
const LOGIN_MS = 60_000;
const CONNECT_MS = 5000;
const CONNECT_TRIES = 5;
const CONNECT_PAUSE_MS = 100;
/** How long a client may take to read the last words. */
const LINGER_MS = 5000;
const FIRST_PACKETS_MAX = 4;
/** Protocol 3.2: a process id and up to 256 bytes. */
const CANCEL_KEY_BYTES_MAX = 260;

/** A session under way, as the proxy counts it. */
export interface LiveSession {
  readonly endpointId: string;
  readonly watch: SessionWatch;
  /** Of the clock's monotonic time. */
  lastByteMs: number;
}

export interface SessionWorld {
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly door: ComputeDoor;
  readonly routes: RouteSettings;
  readonly cancelKeys: CancelKeys;
  /** Plain connections are refused. */
  readonly tlsOnly: boolean;
  readonly onRouted: (target: string, wokeMs: number) => void;
  readonly onLive: (session: LiveSession) => () => void;
  readonly onBytes: (direction: 'in' | 'out', count: number) => void;
}

interface Arrival {
  readonly connection: Connection;
  readonly packet: { readonly code: number; readonly body: Uint8Array };
}

/** Serve one client until either side ends. Throws what the client was told. */
export async function serveClient(raw: Connection, world: SessionWorld): Promise<void> {
  let client = raw;
  const late = new AbortController();
  world.clock.sleep(LOGIN_MS, late.signal).then(
    () => client.destroy(),
    () => {},
  );
  try {
    const arrival = await arrive(raw, c => (client = c));
    late.abort();
    if (!arrival) return;
    if (arrival.packet.code === CANCEL_REQUEST) {
      await cancel(arrival.packet.body, world);
      return;
    }
    if (world.tlsOnly && client.secure !== true) {
      throw new Fault('protocol-violation', 'this proxy takes TLS connections only', {
        hint: 'Connect with sslmode=require.',
      });
    }
    await through(client, routeOf(arrival.packet, client.serverName, world.routes), world);
    await client.end();
  } catch (error) {
    if (!isFault(error, 'connection-closed')) await tell(client, error);
    throw error;
  } finally {
    late.abort();
    client.destroy();
  }
}

/** The packet that is no request for encryption; undefined when the client left instead. */
async function arrive(raw: Connection, onChange: (c: Connection) => void): Promise<Arrival | undefined> {
  let connection = raw;
  const reader = new FrameReader(0);
  for (let packets = 0; packets < FIRST_PACKETS_MAX; ) {
    const packet = reader.nextStartup();
    if (!packet) {
      const bytes = await connection.read();
      if (!bytes) return undefined;
      reader.push(bytes);
      continue;
    }
    packets++;
    if (packet.code !== SSL_REQUEST && packet.code !== GSSENC_REQUEST) return { connection, packet };
    if (reader.buffered > 0) {
      throw new Fault('protocol-violation', 'unencrypted data came behind a request for encryption');
    }
    const isTls = packet.code === SSL_REQUEST && connection.upgradeTls !== undefined && !connection.secure;
    await connection.write(new Uint8Array([isTls ? 0x53 : 0x4e]));
    if (isTls) onChange((connection = await connection.upgradeTls!()));
  }
  throw new Fault('protocol-violation', 'encryption was asked for again and again');
}

async function cancel(key: Uint8Array, world: SessionWorld): Promise<void> {
  const place = world.cancelKeys.find(key);
  if (!place) return;
  const b = new Builder(16 + place.key.length);
  b.u32(8 + place.key.length)
    .u32(CANCEL_REQUEST)
    .raw(place.key);
  const compute = await world.net.connect(place, { timeoutMs: CONNECT_MS });
  try {
    await compute.write(b.finish());
    // Postgres answers nothing and closes when the signal is sent.
    while (await compute.read());
  } catch (error) {
    if (!isFault(error, 'connection-closed')) throw error;
  } finally {
    compute.destroy();
  }
}

async function through(client: Connection, route: Route, world: SessionWorld): Promise<void> {
  const { clock } = world;
  const cameAt = clock.monotonic();
  // A client says nothing before the compute's first question: whatever is read now is its end, or kept for later.
  let early: Uint8Array | undefined;
  const first = client.read().then(bytes => (early = bytes));
  first.catch(() => {});
  const left = first.then(bytes => {
    if (bytes === undefined) throw new Fault('connection-closed', 'the client left before its compute woke');
    return new Promise<never>(() => {});
  });
  const { address, compute } = await Promise.race([reach(route, world), left]);
  world.onRouted(route.target, clock.monotonic() - cameAt);
  const watch = new SessionWatch(world.random.bytes(CANCEL_KEY_BYTES_MAX));
  const live: LiveSession = { endpointId: address.endpointId, watch, lastByteMs: clock.monotonic() };
  const leave = world.onLive(live);
  let forget = (): void => {};
  try {
    await compute.write(route.startup);
    const out = pump(compute, client, bytes => {
      live.lastByteMs = clock.monotonic();
      const knew = watch.key !== undefined;
      watch.fromCompute(bytes);
      world.onBytes('out', bytes.length);
      if (!knew && watch.key)
        forget = world.cancelKeys.remember(watch.ownKey, { ...address, key: watch.key });
    });
    const seen = (bytes: Uint8Array): void => {
      live.lastByteMs = clock.monotonic();
      watch.fromClient(bytes);
      world.onBytes('in', bytes.length);
    };
    const into = first.then(async () => {
      if (early) {
        seen(early);
        await compute.write(early);
      }
      await pump(client, compute, seen);
    });
    await untilOver(out, into, client, compute, clock);
  } finally {
    forget();
    leave();
    compute.destroy();
  }
}

async function reach(
  route: Route,
  world: SessionWorld,
): Promise<{ address: ComputeAddress; compute: Connection }> {
  for (let tries = 1; ; tries++) {
    const address = await world.door.wake(route.target);
    try {
      const compute = await world.net.connect(address, { timeoutMs: CONNECT_MS });
      return { address, compute };
    } catch (error) {
      if (tries === CONNECT_TRIES || !isFault(error, 'connection-failed')) throw error;
      await world.clock.sleep(CONNECT_PAUSE_MS);
    }
  }
}

/** From one to the other until the one ends; then the other's side is ended too. */
async function pump(from: Connection, to: Connection, see: (bytes: Uint8Array) => void): Promise<void> {
  for (let bytes = await from.read(); bytes; bytes = await from.read()) {
    see(bytes);
    await to.write(bytes);
  }
}

/**
 * Over when the compute has said its last, or the client is gone: a client that ended its side may still wait for
 * answers, a compute that ended its side has none.
 */
async function untilOver(
  out: Promise<void>,
  into: Promise<void>,
  client: Connection,
  compute: Connection,
  clock: Clock,
): Promise<void> {
  const clientEnded = into.then(() => compute.end()).catch(() => compute.destroy());
  try {
    await out;
  } catch (error) {
    if (!isFault(error, 'connection-closed')) throw error;
  } finally {
    compute.destroy();
    await Promise.race([client.end(), clock.sleep(LINGER_MS)]).catch(() => {});
    client.destroy();
    await clientEnded;
  }
}

/** As Postgres says at the door: FATAL, and why. */
async function tell(client: Connection, error: unknown): Promise<void> {
  const fields = errorOf(error);
  const unnamed = fields.sqlState === SQLSTATE.internalError;
  const sqlState = unnamed && isFault(error, 'route-unknown') ? INVALID_CATALOG_NAME : fields.sqlState;
  try {
    await client.write(errorResponse({ ...fields, severity: 'FATAL', sqlState }));
    await client.end();
  } catch {
    // The client has gone; there is nobody left to tell.
  }
}

const INVALID_CATALOG_NAME = '3D000';
