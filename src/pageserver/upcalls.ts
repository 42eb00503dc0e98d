// What a pageserver asks of the control plane: which tenants are its own and under which generation (re-attach, at
// the start), and whether it still may write (validate). Asked for ever: a start without an answer would be a guess.
//
//   POST <control_plane_api>/re-attach   {"node_id","register"?,"empty_local_disk"}  ->  {"tenants":[{id,gen,mode,stripe_size}]}
//   POST <control_plane_api>/validate    {"tenants":[{id,gen}]}                      ->  {"tenants":[{id,valid}]}
//
// A tenant that an answer to `validate` leaves out is not known there any more: its claim does not hold.
//
// A node without a control plane stands alone: nobody else attaches its tenants, so every claim holds, and each start
// raises the generations it kept (tenants.ts), as a control plane would.
//
// Answers to controller_upcall_client.rs and libs/pageserver_api/src/upcall_api.rs.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { collect } from '../base/http.ts';
import { parseTenantShard } from '../base/ids.ts';
import { parseJson, toJson } from '../base/json.ts';
import type { Clock, Http, Log, Random } from '../base/ports.ts';
import {
  array,
  boolean,
  nullable,
  object,
  oneOf,
  optional,
  type Schema,
  string,
  u32,
} from '../base/schema.ts';
import type { NodeMetadata } from './config.ts';
import type { TenantShard } from './remote/paths.ts';
import { retrying } from './remote/retry.ts';
import type { Validate } from './remote/validator.ts';

export const LOCATION_MODES = [
  'AttachedSingle',
  'AttachedMulti',
  'AttachedStale',
  'Secondary',
  'Detached',
] as const;
export type LocationMode = (typeof LOCATION_MODES)[number];

/** What the control plane wants of this node for one tenant shard. */
export interface ReAttached {
  readonly at: TenantShard;
  readonly mode: LocationMode;
  readonly generation: number | undefined;
  readonly stripeSize: number | undefined;
}

export interface ControlPlane {
  /** `undefined`: there is nobody to ask; go by what this node kept. */
  reAttach(emptyLocalDisk: boolean, signal: AbortSignal): Promise<readonly ReAttached[] | undefined>;
  readonly validate: Validate;
  /** Nobody else hands out generations: those kept are raised at each start. */
  readonly standsAlone: boolean;
}

/** No control plane: every claim holds. */
export const standAlone: ControlPlane = {
  standsAlone: true,
  reAttach: async () => undefined,
  validate: async claims => claims.map(() => true),
};

export interface UpcallOptions {
  readonly http: Http;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly url: string;
  readonly token: string | undefined;
  readonly nodeId: number;
  readonly metadata: NodeMetadata | undefined;
  readonly availabilityZone: string | undefined;
  /** Do not ask at the start; go by what this node kept, under the generations it had. */
  readonly emergencyMode: boolean;
}

const reAttachSchema = object({
  tenants: array(
    object({
      id: string(),
      gen: optional(nullable(u32())),
      mode: optional(oneOf(...LOCATION_MODES)),
      stripe_size: optional(nullable(u32())),
    }),
  ),
});
const validateSchema = object({ tenants: array(object({ id: string(), valid: boolean() })) });

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const TIMEOUT_MS = 20_000;

export function upcalls(options: UpcallOptions): ControlPlane {
  const { nodeId, emergencyMode } = options;
  return {
    standsAlone: false,

    async reAttach(emptyLocalDisk, signal) {
      if (emergencyMode) return undefined;
      const register = registration(options);
      const body = {
        node_id: nodeId,
        ...(register ? { register } : {}),
        empty_local_disk: emptyLocalDisk,
      };
      const { tenants } = await post(options, 're-attach', body, reAttachSchema, signal);
      return tenants.map(({ id, gen, mode, stripe_size }) => ({
        at: parseTenantShard(id),
        mode: mode ?? 'AttachedSingle',
        generation: gen ?? undefined,
        stripeSize: stripe_size ?? undefined,
      }));
    },

    async validate(claims, signal) {
      const body = { tenants: claims.map(({ id, generation }) => ({ id, gen: generation })) };
      const { tenants } = await post(options, 'validate', body, validateSchema, signal);
      const valid = new Map(tenants.map(({ id, valid }) => [id, valid]));
      return claims.map(({ id }) => valid.get(id) === true);
    },
  };
}

function registration({ nodeId, metadata, availabilityZone }: UpcallOptions): unknown {
  if (!metadata) return undefined;
  const { host, port, httpHost, httpPort, httpsPort, grpcHost, grpcPort, nodeIpAddress } = metadata;
  return {
    node_id: nodeId,
    listen_pg_addr: host,
    listen_pg_port: port,
    listen_grpc_addr: grpcHost ?? null,
    listen_grpc_port: grpcPort ?? null,
    listen_http_addr: httpHost,
    listen_http_port: httpPort,
    listen_https_port: httpsPort ?? null,
    availability_zone_id: metadata.availabilityZone ?? availabilityZone ?? '',
    node_ip_addr: nodeIpAddress ?? null,
  };
}

function post<T>(
  options: UpcallOptions,
  path: string,
  body: unknown,
  schema: Schema<T>,
  signal: AbortSignal,
): Promise<T> {
  const { clock, random, log } = options;
  const failed = (error: unknown, tries: number): void => {
    const fields = { call: path, tries, error: String(error) };
    if (tries === 1 || tries % 10 === 0) log.warn('the control plane does not answer as it should', fields);
  };
  return retrying({ clock, random, signal, failed }, () => postOnce(options, path, body, schema, signal));
}

async function postOnce<T>(
  { http, url, token }: UpcallOptions,
  path: string,
  body: unknown,
  schema: Schema<T>,
  signal: AbortSignal,
): Promise<T> {
  const reply = await http.request({
    method: 'POST',
    url: url.endsWith('/') ? url + path : `${url}/${path}`,
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: utf8(toJson(body)),
    timeoutMs: TIMEOUT_MS,
    signal,
  });
  const bytes = await collect(reply.body, ANSWER_BYTES_MAX);
  if (reply.status !== 200) {
    const said = fromUtf8(bytes.subarray(0, 200));
    throw new Fault('upcall-failed', `${path} was answered with status ${reply.status}: ${said}`);
  }
  try {
    return schema.parse(parseJson(fromUtf8(bytes)), path);
  } catch (error) {
    throw new Fault('upcall-failed', `${path} was not answered as agreed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
