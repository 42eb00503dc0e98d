// Which compute a client means, read from its first packet; and the packet as the compute shall see it.
//
// A client may say it in three ways, and the first that speaks decides:
//
//   server name   psql 'host=ep-calm-sea-1.db.example sslmode=require ...'   the first label; `-pooler` is cut off
//   option        psql 'options=endpoint=ep-calm-sea-1 ...'                  `project=` means the same
//   database      psql 'dbname=postgres@feature ...'                         behind the last @
//
// and where none does, the proxy's default. What it names is an endpoint, a branch, or `project/branch`: the manager
// knows. Two ways that disagree are refused. Option and suffix are taken out of the packet; all else, the protocol
// version among it, goes on as it came, in its order. Pure.
//
// Answers to proxy/src/auth/credentials.rs (ComputeUserInfoMaybeEndpoint::parse).

import { Builder, Cursor } from '../../base/bytes.ts';
import { Fault } from '../../base/fault.ts';
import { splitOptions } from '../../protocol/pq-server.ts';

export interface RouteSettings {
  /** Server names end in this: what stands before it names the compute. Without it, any name of two labels does. */
  readonly domain?: string | undefined;
  readonly defaultTarget?: string | undefined;
}

export interface Route {
  /** Endpoint, branch, or `project/branch`. */
  readonly target: string;
  readonly user: string;
  readonly database: string;
  /** The startup packet for the compute, whole. */
  readonly startup: Uint8Array;
}

const TARGET = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(\/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?$/;

export function routeOf(
  packet: { readonly code: number; readonly body: Uint8Array },
  serverName: string | undefined,
  settings: RouteSettings,
): Route {
  const parameters = readParameters(packet.body);
  const words = splitOptions(parameters.get('options') ?? '');
  const byName = fromServerName(serverName, settings.domain);
  const byOption = words.map(targetOption).find(t => t !== undefined);
  if (byName !== undefined && byOption !== undefined && byName !== byOption) {
    throw new Fault('route-unknown', `the server name says '${byName}', the option '${byOption}'`, {
      hint: 'Name the compute once.',
    });
  }
  const user = parameters.get('user') ?? '';
  const named = parameters.get('database') ?? user;
  const at = named.lastIndexOf('@');
  const fromDatabase = byName === undefined && byOption === undefined && at > 0;
  const target = byName ?? byOption ?? (fromDatabase ? named.slice(at + 1) : settings.defaultTarget);
  if (target === undefined || !TARGET.test(target)) throw nowhere(target);
  const database = fromDatabase ? named.slice(0, at) : named;
  const kept = words.filter(word => targetOption(word) === undefined);
  if (kept.length > 0) parameters.set('options', kept.map(escapeWord).join(' '));
  else parameters.delete('options');
  if (fromDatabase) parameters.set('database', database);
  return { target, user, database, startup: startupOf(packet.code, parameters) };
}

const nowhere = (target: string | undefined): Fault =>
  new Fault(
    'route-unknown',
    target === undefined
      ? 'the connection does not say which compute it wants'
      : `'${target}' cannot be a compute or a branch`,
    {
      hint: "Connect with dbname=NAME@BRANCH, options='endpoint=ID', or by a server name that begins with it.",
    },
  );

function readParameters(body: Uint8Array): Map<string, string> {
  const parameters = new Map<string, string>();
  const c = new Cursor(body);
  while (c.left > 0) {
    const name = c.cstr();
    if (name === '') break;
    parameters.set(name, c.cstr());
  }
  return parameters;
}

function startupOf(code: number, parameters: ReadonlyMap<string, string>): Uint8Array {
  const b = new Builder(128);
  b.u32(0).u32(code);
  for (const [name, value] of parameters) b.cstr(name).cstr(value);
  b.u8(0);
  const packet = b.finish();
  new DataView(packet.buffer, packet.byteOffset).setUint32(0, packet.length);
  return packet;
}

function fromServerName(name: string | undefined, domain: string | undefined): string | undefined {
  if (name === undefined || name === '') return undefined;
  const dot = name.indexOf('.');
  if (dot <= 0) return undefined;
  if (domain !== undefined && name.slice(dot + 1) !== domain) return undefined;
  return name.slice(0, dot).replace(/-pooler$/, '');
}

const targetOption = (word: string): string | undefined => /^(?:endpoint|project)=(.+)$/.exec(word)?.[1];

const escapeWord = (word: string): string => word.replace(/[\\\s]/g, c => `\\${c}`);
