import { expect, test } from 'vitest';
import { ENGINE_DEFAULTS } from './engine-settings.ts';
import {
  applyPatch,
  effectiveSettings,
  engineSettingsOf,
  overridesSchema,
  patchOf,
  readSettings,
  showSettings,
  TENANT_DEFAULTS,
  TENANT_SETTINGS,
} from './tenant-config.ts';

test("the defaults are Neon's, as Neon writes them", () => {
  expect(showSettings(TENANT_DEFAULTS)).toMatchObject({
    checkpoint_distance: 268435456,
    checkpoint_timeout: '10m',
    compaction_target_size: 134217728,
    compaction_period: '20s',
    compaction_threshold: 10,
    gc_horizon: 67108864,
    gc_period: '1h',
    pitr_interval: '7days',
    lsn_lease_length: '10m',
    lsn_lease_length_for_ts: '1m',
    eviction_policy: { kind: 'NoEviction' },
  });
});

test('overrides come in as JSON and go out as they came', () => {
  const body = {
    gc_period: '0s',
    pitr_interval: '2 days 3h',
    checkpoint_distance: 1048576,
    eviction_policy: { kind: 'LayerAccessThreshold', period: '10m', threshold: '24h' },
    lazy_slru_download: true,
    compaction_algorithm: { kind: 'tiered' },
  };
  const overrides = overridesSchema.parse(body, 'tenant_conf');
  expect(overrides).toMatchObject({ gc_period: 0, pitr_interval: 51 * 3_600_000 });
  expect(showSettings(overrides)).toEqual({
    ...body,
    pitr_interval: '2days 3h',
    eviction_policy: { kind: 'LayerAccessThreshold', period: '10m', threshold: '1day' },
  });
  const effective = effectiveSettings(TENANT_DEFAULTS, overrides);
  expect(effective.gc_period).toBe(0);
  expect(effective.gc_horizon).toBe(TENANT_DEFAULTS.gc_horizon);
});

test('what is misspelt or wrong is refused by its name', () => {
  const parse = (value: unknown) => () => overridesSchema.parse(value, 'tenant_conf');
  expect(parse({ gc_periot: '1h' })).toThrow(/gc_periot/);
  expect(parse({ gc_period: 17 })).toThrow(/tenant_conf\.gc_period/);
  expect(parse({ gc_period: '17 parsecs' })).toThrow(/17 parsecs/);
  expect(parse({ compaction_threshold: -1 })).toThrow(/compaction_threshold/);
  expect(parse({ eviction_policy: { kind: 'LayerAccessThreshold' } })).toThrow(/period and threshold/);
  expect(overridesSchema.parse({ gc_period: null }, 'x')).toEqual({});
});

test('a patch sets, takes back, and leaves alone', () => {
  const before = overridesSchema.parse({ gc_period: '1m', gc_horizon: 5, compaction_threshold: 3 }, 'x');
  const after = applyPatch(before, patchOf({ gc_period: null, gc_horizon: 6, tenant_id: 'ignored' }));
  expect(after).toEqual({ gc_horizon: 6, compaction_threshold: 3 });
});

test('in a file, unknown names are told and wrong values are not let pass', () => {
  const unknown: string[] = [];
  const read = readSettings(
    { gc_horizon: 7, trace_read_requests: true },
    'pageserver.toml: tenant_config',
    name => unknown.push(name),
  );
  expect(read).toEqual({ gc_horizon: 7 });
  expect(unknown).toEqual(['trace_read_requests']);
  expect(() => readSettings({ gc_horizon: 'x' }, 'pageserver.toml: tenant_config', () => undefined)).toThrow(
    /^pageserver\.toml: tenant_config\.gc_horizon/,
  );
});

test('the engine hears of what concerns it', () => {
  const settings = effectiveSettings(TENANT_DEFAULTS, { checkpoint_distance: 4096, compaction_threshold: 2 });
  expect(engineSettingsOf(ENGINE_DEFAULTS, settings)).toMatchObject({
    checkpointDistance: 4096,
    compactionThreshold: 2,
    l0CountMax: ENGINE_DEFAULTS.l0CountMax,
  });
  expect(engineSettingsOf(ENGINE_DEFAULTS, TENANT_DEFAULTS)).toEqual(ENGINE_DEFAULTS);
  expect(Object.keys(TENANT_SETTINGS)).toContain('image_creation_threshold');
});
