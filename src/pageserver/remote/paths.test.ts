import { expect, test } from 'vitest';
import { tenantId, timelineId, UNSHARDED } from '../../base/ids.ts';
import {
  indexName,
  layerFileName,
  manifestName,
  parseIndexName,
  parseKey,
  parseLayerFileName,
  tenantDirectory,
  timelineDirectory,
} from './paths.ts';

const tenant = tenantId('11223344556677889900aabbccddeeff');
const timeline = timelineId('ffeeddccbbaa00998877665544332211');
const whole = { tenant, shard: UNSHARDED };
const slice = { tenant, shard: { number: 1, count: 4 } };

test("names are Neon's", () => {
  expect(`${timelineDirectory(whole, timeline)}/${indexName(10)}`).toBe(
    'tenants/11223344556677889900aabbccddeeff/timelines/ffeeddccbbaa00998877665544332211/index_part.json-0000000a',
  );
  expect(tenantDirectory(slice)).toBe('tenants/11223344556677889900aabbccddeeff-0104');
  expect(manifestName(0xffffffff)).toBe('tenant-manifest-ffffffff.json');
});

test('what is written is read back', () => {
  const base = timelineDirectory(slice, timeline);
  expect(parseKey(`${base}/${indexName(7)}`)).toEqual({ kind: 'index', at: slice, timeline, generation: 7 });
  expect(parseKey(`${base}/${layerFileName('a-b__c', 0x1f)}`)).toEqual({
    kind: 'layer',
    at: slice,
    timeline,
    layer: 'a-b__c',
    generation: 0x1f,
  });
  expect(parseKey(`${base}/initdb.tar.zst`)?.kind).toBe('initdb');
  expect(parseKey(`${tenantDirectory(whole)}/${manifestName(3)}`)).toEqual({
    kind: 'manifest',
    at: whole,
    generation: 3,
  });
  expect(parseLayerFileName('a-0000001f')).toEqual({ layer: 'a', generation: 31 });
  expect(parseIndexName('a-0000001f')).toBeUndefined();
});

test('what is not ours is told apart', () => {
  for (const key of [
    'tenants',
    'tenants/xyz/heatmap-v1.json',
    'safekeeper/11223344556677889900aabbccddeeff',
    `${timelineDirectory(whole, timeline)}/layer-without-generation`,
    `${timelineDirectory(whole, timeline)}/a/b-00000001`,
    `${tenantDirectory(whole)}/wal/ffeeddccbbaa00998877665544332211/a-00000001`,
    'tenants/11223344556677889900aabbccddeeff-0404/heatmap-v1.json',
  ]) {
    expect(parseKey(key), key).toBeUndefined();
  }
});
