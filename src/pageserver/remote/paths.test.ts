import { expect, test } from 'vitest';
import { tenantId, timelineId, UNSHARDED } from '../../base/ids.ts';
import {
  indexName,
  manifestName,
  parseIndexName,
  parseKey,
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
  const layer = '0000000100000000-0020000000000000__00000000016B3748-00000000016B3800-d0000001f-89abcdef';
  expect(parseKey(`${base}/${layer}`)).toEqual({
    kind: 'layer',
    at: slice,
    timeline,
    layer,
    generation: 0x1f,
  });
  expect(parseKey(`${base}/initdb.tar.zst`)?.kind).toBe('initdb');
  expect(parseKey(`${tenantDirectory(whole)}/${manifestName(3)}`)).toEqual({
    kind: 'manifest',
    at: whole,
    generation: 3,
  });
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
