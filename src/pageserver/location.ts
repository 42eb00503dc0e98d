// How a tenant shard is to be here: attached under a generation, kept warm as a secondary, or not at all. The control
// plane says it (location_config), the node keeps it (config-v1), and what a change of it takes is decided here.
//
//                     uploads   deletes   serves, receives WAL
//   AttachedSingle      yes       yes       yes        the only attachment
//   AttachedMulti       yes       no        yes        another, older one may still be read from
//   AttachedStale       no        no        yes        replaced; serves until the computes have moved
//   Secondary                                no        layers in the cache, for a quick start
//   Detached                                           nothing
//
//   config-v1: TOML, sealed
//     mode = "AttachedSingle"  generation = 5  shard_number, shard_count, shard_stripe_size  warm  [tenant_conf] ...
//
// Answers to LocationConf of pageserver/src/tenant/config.rs and to TenantManager::upsert_location.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { ShardIndex } from '../base/ids.ts';
import {
  boolean,
  type InferFields,
  nullable,
  object,
  oneOf,
  optional,
  type Schema,
  u8,
  u32,
} from '../base/schema.ts';
import { parseToml, toToml } from '../base/toml.ts';
import type { TenantShard } from './remote/paths.ts';
import { MAY_ALL, type Permissions } from './remote/upload-queue.ts';
import { DEFAULT_STRIPE_SIZE, type ShardIdentity } from './shard.ts';
import { overridesSchema, readSettings, showSettings, type TenantOverrides } from './tenant-config.ts';
import { LOCATION_MODES, type LocationMode } from './upcalls.ts';

export interface LocationConf {
  readonly mode: Exclude<LocationMode, 'Detached'>;
  /** Of an attachment; 0 for a secondary. */
  readonly generation: number;
  readonly warm: boolean;
  readonly stripeSize: number;
  readonly overrides: TenantOverrides;
}

export const isAttached = (conf: LocationConf): boolean => conf.mode !== 'Secondary';

export function permissionsOf(mode: LocationMode): Permissions {
  if (mode === 'AttachedSingle') return MAY_ALL;
  return { upload: mode === 'AttachedMulti', delete: false };
}

export const shardIdentity = (at: TenantShard, conf: LocationConf): ShardIdentity => ({
  ...at.shard,
  stripeSize: conf.stripeSize,
});

// -------------------------------------------------------------------------------------------------- over the wire

const FIELDS = {
  mode: oneOf(...LOCATION_MODES),
  generation: optional(nullable(u32())),
  secondary_conf: optional(nullable(object({ warm: boolean() }))),
  shard_number: optional(u8()),
  shard_count: optional(u8()),
  shard_stripe_size: optional(u32()),
  tenant_conf: overridesSchema,
};

export type LocationConfigBody = InferFields<typeof FIELDS>;
export const locationConfigSchema: Schema<LocationConfigBody> = object(FIELDS, { strict: true });

/** A request for `at`; undefined means detached. */
export function locationOf(body: LocationConfigBody, at: TenantShard): LocationConf | undefined {
  const { mode, generation, shard_number = 0, shard_count = 0, shard_stripe_size } = body;
  if (mode === 'Detached') return undefined;
  const { shard } = at;
  // A request that says nothing of shards leaves them to the path.
  const said = shard_count !== 0 || shard_number !== 0;
  if (said && (shard.count !== shard_count || shard.number !== shard_number)) {
    throw invalid(`the shard in the body, ${shard_number} of ${shard_count}, is not the one in the path`);
  }
  if (mode === 'Secondary' && typeof generation === 'number') {
    throw invalid('a secondary location has no generation');
  }
  if (mode !== 'Secondary' && typeof generation !== 'number') {
    throw invalid(`mode ${mode} takes a generation`);
  }
  return {
    mode,
    generation: generation ?? 0,
    warm: body.secondary_conf?.warm ?? false,
    // It says nothing while there is one shard, and is chosen anew when that is split.
    stripeSize: (shard.count > 0 && shard_stripe_size) || DEFAULT_STRIPE_SIZE,
    overrides: body.tenant_conf,
  };
}

const invalid = (what: string): Fault => new Fault('config-invalid', `location config: ${what}`);

/** As an answer shows it. */
export function showLocation(conf: LocationConf, shard: ShardIndex): unknown {
  const attached = isAttached(conf);
  return {
    mode: conf.mode,
    generation: attached ? conf.generation : null,
    secondary_conf: attached ? null : { warm: conf.warm },
    shard_number: shard.number,
    shard_count: shard.count,
    shard_stripe_size: shard.count === 0 ? 0 : conf.stripeSize,
    tenant_conf: showSettings(conf.overrides),
  };
}

// ---------------------------------------------------------------------------------------------------- on the disk

const savedSchema = object({
  mode: oneOf('AttachedSingle', 'AttachedMulti', 'AttachedStale', 'Secondary'),
  generation: u32(),
  warm: boolean(),
  shard_stripe_size: u32(),
});

export function encodeLocation(conf: LocationConf): Uint8Array {
  return utf8(
    toToml({
      mode: conf.mode,
      generation: conf.generation,
      warm: conf.warm,
      shard_stripe_size: conf.stripeSize,
      tenant_conf: showSettings(conf.overrides),
    }),
  );
}

/** Settings that a newer build added to the file are passed over. */
export function decodeLocation(bytes: Uint8Array, where: string): LocationConf {
  const table = parseToml(fromUtf8(bytes), where);
  const { mode, generation, warm, shard_stripe_size } = savedSchema.parse(table, where);
  const overrides = readSettings((table['tenant_conf'] ?? {}) as Record<string, unknown>, where, () => {});
  return { mode, generation, warm, stripeSize: shard_stripe_size, overrides };
}

// ------------------------------------------------------------------------------------------------------ transitions

/** What a new location takes. */
export type Transition =
  /** Nothing is here: attach, or keep a secondary. */
  | { readonly do: 'start' }
  /** The same attachment under other settings or another mode. */
  | { readonly do: 'update' }
  /** Another attachment: the one that is here is shut down first. */
  | { readonly do: 'replace' };

export function planTransition(current: LocationConf | undefined, wanted: LocationConf): Transition {
  if (!current) return { do: 'start' };
  if (isAttached(current) !== isAttached(wanted)) return { do: 'replace' };
  if (!isAttached(current)) return { do: 'update' };
  if (wanted.stripeSize !== current.stripeSize) {
    throw invalid(`the stripe size of an attached tenant is ${current.stripeSize} and cannot change`);
  }
  if (wanted.generation < current.generation) {
    throw new Fault(
      'config-invalid',
      `generation ${wanted.generation} is older than ${current.generation}, which is attached here`,
      { hint: 'The request is late, or the control plane lost its state: ask it for the newest generation.' },
    );
  }
  return wanted.generation === current.generation ? { do: 'update' } : { do: 'replace' };
}
