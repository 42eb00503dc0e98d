// The origin of an adoption: a running stock Postgres, spoken to by the replication protocol alone. One line of its
// pg_hba.conf and the REPLICATION attribute are all that is needed: no extension, no patch, no superuser.
//
//   postgres://user:password@host:port/?sslmode=disable|require|verify-full
//
// Everything that can be wrong is found before anything is made, and told with what to do about it.
//
// Answers to src/backend/replication/walsender.c and src/backend/libpq/auth.c (whose messages are recognised here).

import { Fault, isFault } from '../../base/fault.ts';
import { type Lsn, parseLsn } from '../../base/lsn.ts';
import { PqClient, ServerError } from '../../protocol/pq-client.ts';
import { BLCKSZ } from '../../xlog/page.ts';
import { segmentSizeIsValid } from '../../xlog/segment.ts';
import type { AdoptWorld } from './contract.ts';

export const APPLICATION_NAME = 'lakebed';
const BOOTSTRAP_SUPERUSERID = 10;
const MAJOR_FIRST = 14;
const MAJOR_LAST = 18;

export interface Origin {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly sslmode: 'disable' | 'require' | 'verify-full';
}

const bad = (why: string): Fault =>
  new Fault('config-invalid', `the address of the origin: ${why}`, {
    hint: 'Write it as postgres://user:password@host:5432/ and add ?sslmode=require where TLS is wanted.',
  });

export function parseOrigin(text: string, world: Pick<AdoptWorld, 'environment'>): Origin {
  if (!URL.canParse(text)) throw bad(`"${text}" is no URL`);
  const url = new URL(text);
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:')
    throw bad(`it begins with ${url.protocol}`);
  if (url.hostname === '') throw bad('it has no host (Unix sockets are not supported)');
  const sslmode = url.searchParams.get('sslmode') ?? world.environment('PGSSLMODE') ?? 'disable';
  const user = decodeURIComponent(url.username) || world.environment('PGUSER') || 'postgres';
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || world.environment('PGPORT') || 5432),
    user,
    password: decodeURIComponent(url.password) || world.environment('PGPASSWORD'),
    database: decodeURIComponent(url.pathname.slice(1)) || user,
    sslmode: tlsMode(sslmode),
  };
}

/** Nothing in between: `prefer` would send the log in the clear to whoever asks. */
function tlsMode(sslmode: string): Origin['sslmode'] {
  if (sslmode === 'require' || sslmode === 'verify-full') return sslmode;
  if (sslmode === 'verify-ca') return 'verify-full';
  if (sslmode === 'disable' || sslmode === 'prefer' || sslmode === 'allow') return 'disable';
  throw bad(`sslmode ${sslmode} is not known`);
}

export const originName = ({ host, port }: Origin): string => `${host}:${port}`;

/** A walsender, or a session for SQL. */
export async function connectOrigin(
  origin: Origin,
  world: AdoptWorld,
  as: 'walsender' | 'session' = 'walsender',
): Promise<PqClient> {
  const { host, port, user, database, password, sslmode } = origin;
  const replication: Record<string, string> = as === 'walsender' ? { replication: 'true' } : {};
  const tls = sslmode !== 'disable';
  const net = tls ? world.tlsNet?.(sslmode === 'verify-full') : world.net;
  if (net === undefined) throw new Fault('config-invalid', 'TLS to the origin is not available here');
  try {
    return await PqClient.connect(net, world.random, {
      host,
      port,
      password,
      tls,
      parameters: { user, database, ...replication, application_name: APPLICATION_NAME },
    });
  } catch (error) {
    throw explained(error, origin);
  }
}

/** The server's words, with what to do about them. */
function explained(error: unknown, origin: Origin): unknown {
  if (isFault(error, 'auth-failed')) {
    return new Fault('auth-failed', `${originName(origin)}: ${error.message}`, {
      hint: 'Give the password in the address or in PGPASSWORD.',
      cause: error,
    });
  }
  if (!(error instanceof ServerError)) return error;
  const hint = hintFor(error, origin);
  if (hint === undefined) return error;
  return new Fault('auth-failed', `${originName(origin)}: ${error.message}`, { hint, cause: error });
}

function hintFor({ sqlState, message }: ServerError, { user, host, sslmode }: Origin): string | undefined {
  if (sqlState === '28000' && message.includes('pg_hba.conf')) {
    const kind = sslmode === 'disable' ? 'host' : 'hostssl';
    const from = /host "([^"]+)"/.exec(message)?.[1];
    const plain = /no encryption|SSL off/.test(message);
    const mask = from === undefined ? 'ADDRESS/32' : `${from}/${from.includes(':') ? 128 : 32}`;
    return (
      `On ${host}, add this line to pg_hba.conf and run SELECT pg_reload_conf():\n` +
      `    ${kind}  replication  ${user}  ${mask}  scram-sha-256` +
      (plain ? '\n  Or there is one for TLS alone: then add ?sslmode=require to the address.' : '')
    );
  }
  if (sqlState === '28P01') return `Is this the password of ${user}? It may also come from PGPASSWORD.`;
  if (sqlState === '28000') return `On the origin: CREATE ROLE ${user} LOGIN REPLICATION PASSWORD '...';`;
  if (sqlState === '42501') return `On the origin, as a superuser: ALTER ROLE ${user} REPLICATION;`;
  if (sqlState === '53300' && message.includes('max_wal_senders'))
    return "On the origin: ALTER SYSTEM SET max_wal_senders = 10; ALTER SYSTEM SET wal_level = 'replica'; and restart it.";
  return undefined;
}

export interface Identity {
  readonly systemIdentifier: string;
  /** Postgres's own timeline: 1 until it is promoted. */
  readonly timelineId: number;
  /** Flushed. */
  readonly lsn: Lsn;
}

export async function identify(client: PqClient): Promise<Identity> {
  const { rows } = await client.query('IDENTIFY_SYSTEM');
  const [systemIdentifier, timelineId, lsn] = rows[0] ?? [];
  if (systemIdentifier == null || timelineId == null || lsn == null)
    throw new Fault('protocol-violation', 'the origin does not say which system it is');
  return { systemIdentifier, timelineId: Number(timelineId), lsn: parseLsn(lsn) };
}

/** Who may log in to which databases: known to the origin, and so to every branch of it. */
export interface OriginAccess {
  /** The first superuser, whom initdb made. */
  readonly admin: string;
  readonly roles: readonly string[];
  readonly databases: readonly { readonly name: string; readonly owner_name: string }[];
}

/**
 * Asked by SQL, which a role that may only replicate need not be allowed: undefined then. What clients most likely want
 * comes first: the address's own database and role, then databases that people made.
 */
export async function accessOf(origin: Origin, world: AdoptWorld): Promise<OriginAccess | undefined> {
  const client = await openSession(origin, world);
  if (client === undefined) return undefined;
  try {
    const admins = await client.query(
      `SELECT rolname FROM pg_catalog.pg_roles WHERE oid = ${BOOTSTRAP_SUPERUSERID}`,
    );
    const roles = await client.query(
      'SELECT rolname FROM pg_catalog.pg_roles WHERE rolcanlogin ORDER BY rolname <> current_user, rolname',
    );
    const databases = await client.query(
      `SELECT datname, pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database
       WHERE datallowconn AND NOT datistemplate
       ORDER BY datname = 'postgres', datname <> pg_catalog.current_database(), datname`,
    );
    return {
      admin: admins.rows[0]![0]!,
      roles: roles.rows.map(([name]) => name!),
      databases: databases.rows.map(([name, owner]) => ({ name: name!, owner_name: owner! })),
    };
  } finally {
    await client.end();
  }
}

/** In the address's database, or in the one that every server has. */
async function openSession(origin: Origin, world: AdoptWorld): Promise<PqClient | undefined> {
  for (const database of new Set([origin.database, 'postgres'])) {
    try {
      return await connectOrigin({ ...origin, database }, world, 'session');
    } catch (error) {
      if (!isFault(error)) throw error;
    }
  }
  return undefined;
}

export interface OriginFacts extends Identity {
  /** PG_VERSION_NUM. */
  readonly pgVersion: number;
  readonly walSegmentSize: number;
  readonly checksums: boolean;
}

/** What the origin is; a Fault if it cannot be adopted. */
export async function checkOrigin(client: PqClient): Promise<OriginFacts> {
  const identity = await identify(client);
  const show = async (name: string): Promise<string> =>
    (await client.query(`SHOW ${name}`)).rows[0]?.[0] ?? '';
  const pgVersion = Number(await show('server_version_num'));
  const major = Math.floor(pgVersion / 10_000);
  const unfit = (why: string, hint: string): Fault =>
    new Fault('origin-unfit', `the origin ${why}`, { hint });
  if (!(major >= MAJOR_FIRST && major <= MAJOR_LAST)) {
    const hint = `Majors ${MAJOR_FIRST} to ${MAJOR_LAST} can be adopted.`;
    throw unfit(`is Postgres ${await show('server_version')}`, hint);
  }
  if (client.serverParameters.get('in_hot_standby') === 'on')
    throw unfit('is a standby', 'Adopt its primary: a standby has no say over the log.');
  const walLevel = await show('wal_level');
  if (walLevel !== 'replica' && walLevel !== 'logical') {
    const hint = "On the origin: ALTER SYSTEM SET wal_level = 'replica'; and restart it.";
    throw unfit(`writes its log with wal_level = ${walLevel}`, hint);
  }
  if (Number(await show('block_size')) !== BLCKSZ)
    throw unfit('has blocks of another size than 8192 bytes', 'Such a build is not supported.');
  const walSegmentSize = bytesOf(await show('wal_segment_size'));
  if (!segmentSizeIsValid(walSegmentSize)) throw unfit('has an unknown segment size', 'Is it Postgres?');
  return { ...identity, pgVersion, walSegmentSize, checksums: (await show('data_checksums')) === 'on' };
}

const UNITS: Readonly<Record<string, number>> = { B: 1, kB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };

/** `16MB`, as SHOW prints sizes. */
function bytesOf(text: string): number {
  const [, count, unit] = /^(\d+)([A-Za-z]+)$/.exec(text) ?? [];
  return Number(count) * (UNITS[unit ?? ''] ?? Number.NaN);
}

/** The slot that keeps the log from here on; one that is there already is ours if it has our name. */
export async function ensureSlot(client: PqClient, slot: string): Promise<void> {
  try {
    await client.query(`CREATE_REPLICATION_SLOT "${slot}" PHYSICAL RESERVE_WAL`);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.sqlState === DUPLICATE_OBJECT) return;
    const full = error.message.includes('in use') || error.message.includes('max_replication_slots');
    const hint = full
      ? 'On the origin: ALTER SYSTEM SET max_replication_slots = 10; and restart it, or drop a slot that nobody needs.'
      : (error.hint ?? 'See the log of the origin.');
    const message = `no replication slot can be made on the origin: ${error.message}`;
    throw new Fault('origin-unfit', message, { hint, cause: error });
  }
}

/** The origin may forget its log again; no slot of that name is as good. */
export async function dropSlot(client: PqClient, slot: string): Promise<void> {
  try {
    await client.query(`DROP_REPLICATION_SLOT "${slot}" WAIT`);
  } catch (error) {
    if (!(error instanceof ServerError) || error.sqlState !== UNDEFINED_OBJECT) throw error;
  }
}

const DUPLICATE_OBJECT = '42710';
const UNDEFINED_OBJECT = '42704';
