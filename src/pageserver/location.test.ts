import { expect, test } from 'vitest';
import { tenantId, UNSHARDED } from '../base/ids.ts';
import {
  decodeLocation,
  encodeLocation,
  type LocationConf,
  locationConfigSchema,
  locationOf,
  permissionsOf,
  planTransition,
  showLocation,
} from './location.ts';

const at = { tenant: tenantId('11'.repeat(16)), shard: UNSHARDED };
const slice = { ...at, shard: { number: 1, count: 4 } };
const parse = (body: unknown, where = at): LocationConf | undefined =>
  locationOf(locationConfigSchema.parse(body, 'body'), where);

const conf = (change: Partial<LocationConf> = {}): LocationConf => ({
  mode: 'AttachedSingle',
  generation: 5,
  warm: false,
  stripeSize: 2048,
  overrides: {},
  ...change,
});

test('what creates a tenant in the compose script', () => {
  const body = { mode: 'AttachedSingle', generation: 1, tenant_conf: {} };
  expect(parse(body)).toEqual(conf({ generation: 1 }));
  expect(showLocation(conf({ generation: 1 }), at.shard)).toEqual({
    ...body,
    secondary_conf: null,
    shard_number: 0,
    shard_count: 0,
    shard_stripe_size: 0,
  });
});

test('shards, secondaries and detached ones', () => {
  const sharded = {
    mode: 'AttachedMulti',
    generation: 7,
    shard_number: 1,
    shard_count: 4,
    shard_stripe_size: 16,
    tenant_conf: { pitr_interval: '1 day' },
  };
  expect(parse(sharded, slice)).toEqual(
    conf({
      mode: 'AttachedMulti',
      generation: 7,
      stripeSize: 16,
      overrides: { pitr_interval: 86_400_000 },
    }),
  );
  const secondary = { mode: 'Secondary', secondary_conf: { warm: true }, tenant_conf: {} };
  expect(parse(secondary)).toMatchObject({ mode: 'Secondary', generation: 0, warm: true });
  expect(parse({ mode: 'Detached', tenant_conf: {} })).toBeUndefined();
});

test.each<[string, unknown, RegExp]>([
  ['an attachment without a generation', { mode: 'AttachedSingle', tenant_conf: {} }, /takes a generation/],
  ['a secondary with one', { mode: 'Secondary', generation: 1, tenant_conf: {} }, /has no generation/],
  [
    'another shard',
    { mode: 'AttachedSingle', generation: 1, shard_count: 2, tenant_conf: {} },
    /not the one/,
  ],
  ['no tenant_conf', { mode: 'AttachedSingle', generation: 1 }, /tenant_conf/],
  ['an unknown field', { mode: 'AttachedSingle', generation: 1, tenant_conf: {}, x: 1 }, /not known: x/],
  ['an unknown setting', { mode: 'AttachedSingle', generation: 1, tenant_conf: { y: 1 } }, /not known: y/],
])('%s is refused', (_, body, error) => expect(() => parse(body)).toThrow(error));

test('what is kept is read back, and what a newer build kept as well', () => {
  const kept = conf({ mode: 'AttachedStale', overrides: { gc_horizon: 7, gc_period: 0 } });
  expect(decodeLocation(encodeLocation(kept), 'x')).toEqual(kept);
  const newer = new TextEncoder().encode(
    'mode="Secondary"\ngeneration=0\nwarm=true\nshard_stripe_size=2048\nnew=1\n[tenant_conf]\nnewer="x"\n',
  );
  expect(decodeLocation(newer, 'x')).toEqual(conf({ mode: 'Secondary', generation: 0, warm: true }));
});

test('transitions', () => {
  const secondary = conf({ mode: 'Secondary', generation: 0 });
  expect(planTransition(undefined, conf())).toEqual({ do: 'start' });
  expect(planTransition(conf(), conf({ mode: 'AttachedStale' }))).toEqual({ do: 'update' });
  expect(planTransition(conf(), conf({ generation: 6 }))).toEqual({ do: 'replace' });
  expect(planTransition(conf(), secondary)).toEqual({ do: 'replace' });
  expect(planTransition(secondary, conf())).toEqual({ do: 'replace' });
  expect(planTransition(secondary, secondary)).toEqual({ do: 'update' });
  expect(() => planTransition(conf(), conf({ generation: 4 }))).toThrow(/older than 5/);
  expect(() => planTransition(conf(), conf({ stripeSize: 1 }))).toThrow(/stripe size/);
});

test('who may write', () => {
  expect(permissionsOf('AttachedSingle')).toEqual({ upload: true, delete: true });
  expect(permissionsOf('AttachedMulti')).toEqual({ upload: true, delete: false });
  expect(permissionsOf('AttachedStale')).toEqual({ upload: false, delete: false });
});
