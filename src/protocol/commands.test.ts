import { describe, expect, test } from 'vitest';
import {
  formatStreamProtocol,
  parsePageserverCommand,
  parseSafekeeperCommand,
  parseSafekeeperStartup,
} from './commands.ts';

const T = '00112233445566778899aabbccddeeff';
const L = 'ffeeddccbbaa99887766554433221100';

describe('safekeeper', () => {
  test.each([
    ['START_WAL_PUSH', { kind: 'start-wal-push', protoVersion: 2, allowTimelineCreation: true }],
    [
      "START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false')",
      { kind: 'start-wal-push', protoVersion: 3, allowTimelineCreation: false },
    ],
    [
      "START_WAL_PUSH (proto_version 3, other 'x', allow_timeline_creation true)",
      { kind: 'start-wal-push', protoVersion: 3, allowTimelineCreation: true },
    ],
    ['START_REPLICATION 0/16B3748', { kind: 'start-replication', startLsn: 0x16b3748, term: undefined }],
    [
      'START_REPLICATION SLOT "s_1" 1/0 TIMELINE 1',
      { kind: 'start-replication', startLsn: 0x100000000, term: undefined },
    ],
    ["START_REPLICATION PHYSICAL 0/10 (term='7')", { kind: 'start-replication', startLsn: 16, term: 7 }],
    ['IDENTIFY_SYSTEM', { kind: 'identify-system' }],
    ['TIMELINE_STATUS', { kind: 'timeline-status' }],
    ['SHOW data_directory_mode', { kind: 'show', name: 'data_directory_mode' }],
    ["set datestyle to 'ISO'", { kind: 'set' }],
    ['SET DateStyle TO ISO', { kind: 'set' }],
  ])('%s', (text, command) => expect(parseSafekeeperCommand(text)).toEqual(command));

  test.each([
    'select 1',
    'identify_system',
    'START_REPLICATION',
    "START_WAL_PUSH (proto_version 'x')",
    'START_WAL_PUSH (proto_version)',
    "START_WAL_PUSH (allow_timeline_creation 'yes')",
    'settle down',
  ])('refused: %s', text => expect(() => parseSafekeeperCommand(text)).toThrow());

  const startup = (...options: string[]): ReturnType<typeof parseSafekeeperStartup> =>
    parseSafekeeperStartup({ values: new Map([['application_name', 'pageserver-7']]), options });

  test('startup options', () => {
    expect(startup('-c', `timeline_id=${L}`, `tenant_id=${T}`)).toEqual({
      tenantId: T,
      timelineId: L,
      protocol: { type: 'vanilla' },
      shard: undefined,
      availabilityZone: undefined,
      applicationName: 'pageserver-7',
    });
    const protocol = '{"type":"interpreted","args":{"format":"protobuf","compression":{"zstd":{"level":1}}}}';
    const shard = ['shard_count=2', 'shard_number=1', 'shard_stripe_size=32768'];
    expect(startup(`ztenantid=${T}`, `ztimelineid=${L}`, `protocol=${protocol}`, ...shard)).toMatchObject({
      tenantId: T,
      protocol: { type: 'interpreted', format: 'protobuf', zstdLevel: 1 },
      shard: { count: 2, number: 1, stripeSize: 32768 },
    });
    expect(formatStreamProtocol({ type: 'interpreted', format: 'protobuf', zstdLevel: 1 })).toBe(protocol);
  });

  test('startup options that do not go together', () => {
    expect(() => startup('shard_count=1')).toThrow(/interpreted/);
    expect(() => startup('protocol={"type":"interpreted","args":{"format":"bincode"}}')).toThrow(/shard/);
    expect(() => startup('protocol={')).toThrow(/protocol/);
    expect(() => startup('tenant_id=xyz')).toThrow(/tenant id/);
  });
});

describe('pageserver', () => {
  const ids = { tenantId: T, timelineId: L };
  test.each([
    [`pagestream_v3 ${T} ${L}`, { kind: 'pagestream', version: 3, ...ids }],
    [`PageStream_V2 ${T} ${L} `, { kind: 'pagestream', version: 2, ...ids }],
    [`basebackup ${T} ${L}`, { kind: 'basebackup', ...ids, lsn: undefined, gzip: false, replica: false }],
    [
      `basebackup ${T} ${L} 0/10 --gzip --replica`,
      { kind: 'basebackup', ...ids, lsn: 16, gzip: true, replica: true },
    ],
    [
      `basebackup ${T} ${L} latest --gzip`,
      { kind: 'basebackup', ...ids, lsn: undefined, gzip: true, replica: false },
    ],
    [
      `basebackup ${T} ${L} --gzip`,
      { kind: 'basebackup', ...ids, lsn: undefined, gzip: true, replica: false },
    ],
    [`fullbackup ${T} ${L} 0/10 0/8`, { kind: 'fullbackup', ...ids, lsn: 16, prevLsn: 8 }],
    [
      `lease lsn ${T}-0102 ${L} 0/10 `,
      { kind: 'lease-lsn', ...ids, shard: { number: 1, count: 2 }, lsn: 16 },
    ],
    ['set x to y', { kind: 'set' }],
  ])('%s', (text, command) => expect(parsePageserverCommand(text)).toEqual(command));

  test.each([
    `pagestream ${T} ${L}`,
    `pagestream_v2 ${T}`,
    `basebackup ${T} ${L} --gzip --gzip`,
    `basebackup ${T} ${L} --gzip 0/10`,
    `basebackup ${T} ${L} 0/10 --zip`,
    `pagestream_v3 ${T}-0102 ${L}`,
    `lease ${T} ${L} 0/10`,
    '',
  ])('refused: %s', text => expect(() => parsePageserverCommand(text)).toThrow());
});
