// Settings of a tenant: Neon's names, types and defaults. A tenant has overrides, a few usually; what it runs with
// (`effective`) is these over the node's own `[tenant_config]` over the defaults. One table: a row is a setting.
//
//   JSON and TOML   durations are text ("7 days"), sizes and counts numbers
//   in memory       durations are milliseconds
//   unknown names   refused over HTTP (a misspelt override that does nothing is worse than an error), noted in files
//   null            in a PATCH, and only there, takes an override back
//
// Rows marked `kept` are taken, kept and shown, and change nothing here: they steer what this engine does otherwise.
//
// Answers to TenantConfigToml, TenantConfig and TenantConfigPatch of libs/pageserver_api.

import { durationSchema, formatDuration } from '../base/duration.ts';
import { Fault } from '../base/fault.ts';
import {
  anything,
  boolean,
  type Fields,
  integer,
  nullable,
  object,
  oneOf,
  optional,
  parseAt,
  type Schema,
  textual,
} from '../base/schema.ts';
import { formatCmk, parseCmk } from '../seal/key-document.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from './engine-settings.ts';

interface Setting<T> {
  readonly schema: Schema<T>;
  readonly default: T;
  show(value: T): unknown;
  /** It steers something of this engine. */
  readonly used: boolean;
}

const same = (value: unknown): unknown => value;
const minutes = (n: number): number => n * 60_000;
const hours = (n: number): number => minutes(60 * n);
const days = (n: number): number => hours(24 * n);

const whole = (value: number, min = 0): Setting<number> => ({
  schema: integer(min),
  default: value,
  show: same,
  used: true,
});
const duration = (ms: number): Setting<number> => ({
  schema: durationSchema,
  default: ms,
  show: value => formatDuration(value),
  used: true,
});
const bool = (value: boolean): Setting<boolean> => ({
  schema: boolean(),
  default: value,
  show: same,
  used: true,
});
/** May be unset. */
const maybe = <T>({ schema, show, used }: Setting<T>): Setting<T | undefined> => ({
  schema,
  default: undefined,
  show: value => (value === undefined ? undefined : show(value)),
  used,
});
const json = (value: unknown): Setting<unknown> => ({
  schema: anything(),
  default: value,
  show: same,
  used: false,
});
/** A customer key, in one of the ways it may be written. */
const key: Setting<string> = {
  schema: textual({ examples: ['local:acme', 'arn:aws:kms:...'] }, text => formatCmk(parseCmk(text))),
  default: '',
  show: same,
  used: true,
};
const kept = <T>(setting: Setting<T>): Setting<T> => ({ ...setting, used: false });

/** When layers that nobody reads leave the local disk. */
export interface EvictionPolicy {
  readonly kind: 'NoEviction' | 'LayerAccessThreshold' | 'OnlyImitiate';
  readonly period?: number | undefined;
  readonly threshold?: number | undefined;
}

const evictionPolicySchema = object(
  {
    kind: oneOf('NoEviction', 'LayerAccessThreshold', 'OnlyImitiate'),
    period: optional(durationSchema),
    threshold: optional(durationSchema),
  },
  { strict: true },
);

const evictionPolicy: Setting<EvictionPolicy> = {
  schema: {
    json: evictionPolicySchema.json,
    parse: (value, at) => {
      const policy = evictionPolicySchema.parse(value, at);
      if (policy.kind === 'NoEviction') return { kind: policy.kind };
      if (policy.period !== undefined && policy.threshold !== undefined) return policy;
      throw new Fault('config-invalid', `${at} of kind ${policy.kind} takes period and threshold`, {
        hint: 'For example {"kind": "LayerAccessThreshold", "period": "10m", "threshold": "24h"}.',
      });
    },
  },
  default: { kind: 'NoEviction' },
  show: ({ kind, period, threshold }) =>
    period === undefined || threshold === undefined
      ? { kind }
      : { kind, period: formatDuration(period), threshold: formatDuration(threshold) },
  used: true,
};

export const TENANT_SETTINGS = {
  checkpoint_distance: whole(ENGINE_DEFAULTS.checkpointDistance, 1),
  checkpoint_timeout: duration(ENGINE_DEFAULTS.checkpointTimeoutMs),
  compaction_target_size: whole(ENGINE_DEFAULTS.compactionTargetSize, 1),
  compaction_period: duration(20_000),
  compaction_threshold: whole(ENGINE_DEFAULTS.compactionThreshold, 1),
  compaction_upper_limit: whole(ENGINE_DEFAULTS.compactionUpperLimit, 1),
  compaction_algorithm: json({ kind: 'legacy' }),
  compaction_shard_ancestor: kept(bool(true)),
  compaction_l0_first: kept(bool(true)),
  compaction_l0_semaphore: kept(bool(true)),
  l0_flush_delay_threshold: kept(maybe(whole(0))),
  l0_flush_stall_threshold: maybe(whole(0)),
  gc_horizon: whole(64 * 1024 * 1024),
  gc_period: duration(hours(1)),
  image_creation_threshold: whole(ENGINE_DEFAULTS.imageLayersThreshold, 1),
  // Ours: edits on a page that earn it an image.
  image_creation_edits: maybe(whole(ENGINE_DEFAULTS.imageCreationThreshold, 1)),
  image_layer_force_creation_period: maybe(duration(0)),
  pitr_interval: duration(days(7)),
  walreceiver_connect_timeout: duration(10_000),
  lagging_wal_timeout: duration(10_000),
  max_lsn_wal_lag: whole(1024 * 1024 * 1024, 1),
  eviction_policy: evictionPolicy,
  min_resident_size_override: maybe(whole(0)),
  evictions_low_residence_duration_metric_threshold: kept(duration(hours(24))),
  heatmap_period: duration(0),
  lazy_slru_download: bool(false),
  timeline_get_throttle: json({
    task_kinds: [],
    initial: 0,
    refill_interval: '1ms',
    refill_amount: 1,
    max: 1,
  }),
  image_layer_creation_check_threshold: kept(whole(2)),
  image_creation_preempt_threshold: kept(whole(3)),
  lsn_lease_length: duration(minutes(10)),
  lsn_lease_length_for_ts: duration(minutes(1)),
  timeline_offloading: bool(true),
  rel_size_v2_enabled: kept(bool(false)),
  gc_compaction_enabled: kept(bool(true)),
  gc_compaction_verification: kept(bool(true)),
  gc_compaction_initial_threshold_kb: kept(whole(5 * 1024 * 1024)),
  gc_compaction_ratio_percent: kept(whole(100)),
  sampling_ratio: json(null),
  relsize_snapshot_cache_capacity: kept(whole(1000)),
  basebackup_cache_enabled: kept(bool(false)),
  // Ours: the customer key the tenant is under. A new tenant is put under it, another must be under it already.
  encryption_key: maybe(key),
} satisfies Record<string, Setting<unknown>>;

type Table = typeof TENANT_SETTINGS;
export type TenantSettingName = keyof Table;
type Value<K extends TenantSettingName> = Table[K] extends Setting<infer T> ? T : never;

/** Everything a tenant runs with. */
export type TenantSettings = { readonly [K in TenantSettingName]: Value<K> };
/** What a tenant sets itself. */
export type TenantOverrides = { readonly [K in TenantSettingName]?: Value<K> };
/** `undefined` takes an override back. */
export type TenantPatch = ReadonlyMap<TenantSettingName, unknown>;

const NAMES = Object.keys(TENANT_SETTINGS) as TenantSettingName[];
const settingOf = (name: TenantSettingName): Setting<unknown> =>
  TENANT_SETTINGS[name] as unknown as Setting<unknown>;

export const TENANT_DEFAULTS = Object.fromEntries(
  NAMES.map(name => [name, settingOf(name).default]),
) as TenantSettings;

const fieldsOf = (wrap: (schema: Schema<unknown>) => Schema<unknown>): Fields =>
  Object.fromEntries(NAMES.map(name => [name, optional(wrap(settingOf(name).schema))]));

/** The fields of overrides in a JSON body: null is as good as absent, as for Neon's. */
export const OVERRIDE_FIELDS: Fields = fieldsOf(schema => nullable(schema));

/** Overrides out of an object that was checked by OVERRIDE_FIELDS, whatever else it has. */
export function overridesOf(body: Readonly<Record<string, unknown>>): TenantOverrides {
  const found = NAMES.filter(name => body[name] !== undefined && body[name] !== null);
  return Object.fromEntries(found.map(name => [name, body[name]])) as TenantOverrides;
}

export const overridesSchema: Schema<TenantOverrides> = {
  json: object(OVERRIDE_FIELDS, { strict: true }).json,
  parse: (value, at) => overridesOf(object(OVERRIDE_FIELDS, { strict: true }).parse(value, at)),
};

/** A patch out of a body checked by OVERRIDE_FIELDS; which fields are there matters. */
export function patchOf(body: Readonly<Record<string, unknown>>): TenantPatch {
  const named = NAMES.filter(name => Object.hasOwn(body, name));
  return new Map(named.map(name => [name, body[name] === null ? undefined : body[name]]));
}

export function applyPatch(overrides: TenantOverrides, patch: TenantPatch): TenantOverrides {
  const merged: Record<string, unknown> = { ...overrides };
  for (const [name, value] of patch) {
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return merged as TenantOverrides;
}

export const effectiveSettings = (node: TenantSettings, overrides: TenantOverrides): TenantSettings => ({
  ...node,
  ...overrides,
});

/** As JSON and TOML have it. */
export function showSettings(settings: TenantOverrides): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const name of NAMES) {
    const value = (settings as Record<string, unknown>)[name];
    if (value === undefined) continue;
    const text = settingOf(name).show(value);
    if (text !== undefined) shown[name] = text;
  }
  return shown;
}

/** `[tenant_config]` of a file: what is not known is told to `unknown`, what is wrong is a Fault with its key. */
export function readSettings(
  table: Readonly<Record<string, unknown>>,
  where: string,
  unknown: (name: string) => void,
): TenantOverrides {
  const found: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(table)) {
    if (!Object.hasOwn(TENANT_SETTINGS, name)) unknown(name);
    else found[name] = parseAt(settingOf(name as TenantSettingName).schema, value, `${where}.${name}`);
  }
  return found as TenantOverrides;
}

/** The engine's settings for a tenant. */
export function engineSettingsOf(base: EngineSettings, settings: TenantSettings): EngineSettings {
  const stall = settings.l0_flush_stall_threshold;
  const compacts = settings.compaction_period > 0;
  return {
    ...base,
    checkpointDistance: settings.checkpoint_distance,
    checkpointTimeoutMs: settings.checkpoint_timeout,
    compactionThreshold: settings.compaction_threshold,
    compactionUpperLimit: Math.max(settings.compaction_threshold, settings.compaction_upper_limit),
    compactionTargetSize: settings.compaction_target_size,
    imageLayersThreshold: settings.image_creation_threshold,
    imageCreationThreshold: settings.image_creation_edits ?? base.imageCreationThreshold,
    l0CountMax: compacts
      ? stall
        ? Math.max(stall, settings.compaction_threshold + 1)
        : base.l0CountMax
      : Infinity,
    compactInBackground: compacts,
  };
}
