import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, toHex } from '../base/bytes.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import { type Lsn, lsn } from '../base/lsn.ts';
import { NO_FEEDBACK } from './feedback.ts';
import type { AcceptorMessage, ProposerMessage } from './walproposer.ts';
import * as v2 from './walproposer-v2.ts';
import * as v3 from './walproposer-v3.ts';

const TENANT = '00112233445566778899aabbccddeeff' as TenantId;
const TIMELINE = 'ffeeddccbbaa99887766554433221100' as TimelineId;
const cstr = (text: string): string => `${toHex(new TextEncoder().encode(text))}00`;
const hex = (text: string): Uint8Array => fromHex(text.replace(/\s+/g, ''));

// Bytes written by hand from the field tables of the protocol.
const GOLDEN_PROPOSER: [string, string, ProposerMessage, 2 | 3][] = [
  [
    'v3 greeting of a compute: an empty configuration',
    `67 ${cstr(TENANT)} ${cstr(TIMELINE)} 00000000 00000000 00000000 00029815 0102030405060708 01000000`,
    {
      kind: 'greeting',
      tenantId: TENANT,
      timelineId: TIMELINE,
      membership: { generation: 0, members: [], newMembers: undefined },
      pgVersion: 170005,
      systemId: 0x0102030405060708n,
      walSegSize: 16777216,
    },
    3,
  ],
  [
    'v3 greeting with a joint configuration',
    `67 ${cstr(TENANT)} ${cstr(TIMELINE)} 00000002
     00000001 0000000000000001 ${cstr('a')} 1538
     00000002 0000000000000001 ${cstr('a')} 1538 0000000000000002 ${cstr('host2')} 0001
     00000000 0000000000000000 01000000`,
    {
      kind: 'greeting',
      tenantId: TENANT,
      timelineId: TIMELINE,
      membership: {
        generation: 2,
        members: [{ id: 1, host: 'a', pgPort: 5432 }],
        newMembers: [
          { id: 1, host: 'a', pgPort: 5432 },
          { id: 2, host: 'host2', pgPort: 1 },
        ],
      },
      pgVersion: 0,
      systemId: 0n,
      walSegSize: 16777216,
    },
    3,
  ],
  ['v3 vote request', '76 00000007 0000000000000009', { kind: 'vote-request', generation: 7, term: 9 }, 3],
  [
    'v3 elected',
    '65 00000001 0000000000000002 00000001 00000008 00000001 0000000000000002 0000000001000000',
    {
      kind: 'elected',
      generation: 1,
      term: 2,
      startStreamingAt: lsn(0x1_0000_0008),
      termHistory: [{ term: 2, lsn: lsn(0x1000000) }],
    },
    3,
  ],
  [
    'v3 append',
    `61 00000001 0000000000000002 0000000001000000 0000000001000003 0000000000ffffff 0000000000fffff0 aabbcc`,
    {
      kind: 'append-request',
      generation: 1,
      term: 2,
      beginLsn: lsn(0x1000000),
      endLsn: lsn(0x1000003),
      commitLsn: lsn(0xffffff),
      truncateLsn: lsn(0xfffff0),
      wal: hex('aabbcc'),
    },
    3,
  ],
  [
    'v2 greeting',
    `6700000000000000 02000000 15980200 ${'00'.repeat(16)} 0807060504030201 ${TIMELINE} ${TENANT} 01000000 00000001`,
    {
      kind: 'greeting',
      tenantId: TENANT,
      timelineId: TIMELINE,
      membership: { generation: 0, members: [], newMembers: undefined },
      pgVersion: 170005,
      systemId: 0x0102030405060708n,
      walSegSize: 16777216,
    },
    2,
  ],
  [
    'v2 append',
    `6100000000000000 0200000000000000 0000000000000000 0000000100000000 0100000100000000
     ffffff0000000000 f0ffff0000000000 ${'00'.repeat(16)} aa`,
    {
      kind: 'append-request',
      generation: 0,
      term: 2,
      beginLsn: lsn(0x1000000),
      endLsn: lsn(0x1000001),
      commitLsn: lsn(0xffffff),
      truncateLsn: lsn(0xfffff0),
      wal: hex('aa'),
    },
    2,
  ],
];

const GOLDEN_ACCEPTOR: [string, string, AcceptorMessage, 2 | 3][] = [
  [
    'v3 greeting',
    `67 0000000000000003 00000000 00000000 00000000 0000000000000005`,
    {
      kind: 'greeting-reply',
      nodeId: 3,
      membership: { generation: 0, members: [], newMembers: undefined },
      term: 5,
    },
    3,
  ],
  [
    'v3 vote',
    '76 00000000 0000000000000005 01 0000000001000000 0000000000800000 00000001 0000000000000004 0000000000000100',
    {
      kind: 'vote-response',
      generation: 0,
      term: 5,
      voteGiven: true,
      flushLsn: lsn(0x1000000),
      truncateLsn: lsn(0x800000),
      termHistory: [{ term: 4, lsn: lsn(0x100) }],
    },
    3,
  ],
  [
    'v3 append response with feedback',
    `61 00000000 0000000000000005 0000000001000000 0000000000ffff00 0000000000000001 0000000200000003 0000000000000000
     06 ${cstr('current_timeline_size')} 00000008 0000000000010000 ${cstr('ps_writelsn')} 00000008 0000000000000010
     ${cstr('ps_flushlsn')} 00000008 0000000000000008 ${cstr('ps_applylsn')} 00000008 0000000000000004
     ${cstr('ps_replytime')} 00000008 0000000000000064 ${cstr('shard_number')} 00000004 00000003`,
    {
      kind: 'append-response',
      generation: 0,
      term: 5,
      flushLsn: lsn(0x1000000),
      commitLsn: lsn(0xffff00),
      hotStandby: { ts: 1n, xmin: 0x200000003n, catalogXmin: 0n },
      pageserverFeedback: {
        currentTimelineSize: 65536n,
        lastReceivedLsn: lsn(16),
        diskConsistentLsn: lsn(8),
        remoteConsistentLsn: lsn(4),
        replyTime: 100n,
        shardNumber: 3,
        corruptionDetected: false,
      },
    },
    3,
  ],
  [
    'v2 greeting',
    '6700000000000000 0500000000000000 0300000000000000',
    {
      kind: 'greeting-reply',
      nodeId: 3,
      membership: { generation: 0, members: [], newMembers: undefined },
      term: 5,
    },
    2,
  ],
];

describe('golden bytes', () => {
  test.each(GOLDEN_PROPOSER)('%s', (_, bytes, message, version) => {
    const codec = version === 3 ? v3 : v2;
    expect(codec.readProposerMessage(hex(bytes))).toEqual(message);
    expect(toHex(codec.writeProposerMessage(message))).toBe(toHex(hex(bytes)));
  });
  test.each(GOLDEN_ACCEPTOR)('%s', (_, bytes, message, version) => {
    const codec = version === 3 ? v3 : v2;
    expect(codec.readAcceptorMessage(hex(bytes))).toEqual(message);
    expect(toHex(codec.writeAcceptorMessage(message))).toBe(toHex(hex(bytes)));
  });
});

const anyLsn = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<Lsn>;
const term = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const history = fc.array(fc.record({ term, lsn: anyLsn }), { maxLength: 6 });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const feedback = fc.record({
  currentTimelineSize: u64,
  lastReceivedLsn: anyLsn,
  diskConsistentLsn: anyLsn,
  remoteConsistentLsn: anyLsn,
  replyTime: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  shardNumber: fc.integer({ min: 0, max: 255 }),
  corruptionDetected: fc.boolean(),
});
const acceptor = (generation: fc.Arbitrary<number>): fc.Arbitrary<AcceptorMessage> =>
  fc.oneof(
    fc.record({
      kind: fc.constant('vote-response' as const),
      generation,
      term,
      voteGiven: fc.boolean(),
      flushLsn: anyLsn,
      truncateLsn: anyLsn,
      termHistory: history,
    }),
    fc.record({
      kind: fc.constant('append-response' as const),
      generation,
      term,
      flushLsn: anyLsn,
      commitLsn: anyLsn,
      hotStandby: fc.record({ ts: fc.bigInt({ min: 0n, max: 1n << 60n }), xmin: u64, catalogXmin: u64 }),
      pageserverFeedback: fc.option(feedback, { nil: undefined }),
    }),
  );

describe.each([
  ['v3', v3, fc.integer({ min: 0, max: 0xffffffff })],
  ['v2', v2, fc.constant(0)],
] as const)('%s', (_, codec, generation) => {
  test('what an acceptor writes is read back the same', () => {
    fc.assert(
      fc.property(acceptor(generation), m => {
        expect(codec.readAcceptorMessage(codec.writeAcceptorMessage(m))).toEqual(m);
      }),
    );
  });

  test('what a proposer writes is read back the same', () => {
    const message = fc.oneof(
      fc.record({ kind: fc.constant('vote-request' as const), generation, term }),
      fc.record({
        kind: fc.constant('elected' as const),
        generation,
        term,
        startStreamingAt: anyLsn,
        termHistory: history,
      }),
      fc
        .record({
          generation,
          term,
          at: fc.nat(),
          commitLsn: anyLsn,
          truncateLsn: anyLsn,
          wal: fc.uint8Array(),
        })
        .map(({ at, ...m }) => ({
          kind: 'append-request' as const,
          beginLsn: lsn(at),
          endLsn: lsn(at + m.wal.length),
          ...m,
        })),
    );
    fc.assert(
      fc.property(message, m => {
        expect(codec.readProposerMessage(codec.writeProposerMessage(m))).toEqual(m);
      }),
    );
  });

  test('any bytes give a message or a Fault, nothing else', () => {
    const tags = fc.constantFrom(0x67, 0x76, 0x65, 0x61, 0x00);
    fc.assert(
      fc.property(tags, fc.uint8Array({ maxLength: 200 }), (tag, rest) => {
        const bytes = new Uint8Array([
          tag,
          ...(codec === (v2 as unknown) ? [0, 0, 0, 0, 0, 0, 0] : []),
          ...rest,
        ]);
        for (const read of [codec.readProposerMessage, codec.readAcceptorMessage]) {
          try {
            read(bytes);
          } catch (error) {
            expect((error as Error).name).toBe('Fault');
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('refusals', () => {
  test('a term past 2^53', () => {
    expect(() => v3.readProposerMessage(hex('76 00000000 0020000000000000'))).toThrow(/past 2\^53/);
  });
  test('bytes left over', () => {
    expect(() => v3.readProposerMessage(hex('76 00000000 0000000000000001 00'))).toThrow(/left behind/);
  });
  test('an append whose length is not its range, or too long', () => {
    const append = (begin: number, end: number, wal: Uint8Array): ProposerMessage => ({
      kind: 'append-request',
      generation: 0,
      term: 1,
      beginLsn: lsn(begin),
      endLsn: lsn(end),
      commitLsn: lsn(0),
      truncateLsn: lsn(0),
      wal,
    });
    for (const codec of [v2, v3]) {
      const short = codec.writeProposerMessage(append(100, 104, new Uint8Array(3)));
      expect(() => codec.readProposerMessage(short)).toThrow(/carries 3/);
      const long = codec.writeProposerMessage(append(0, 131073, new Uint8Array(131073)));
      expect(() => codec.readProposerMessage(long)).toThrow(/carries 131073/);
    }
  });
  test('a configuration with a generation and no members, or a member twice', () => {
    const greeting = (mconf: string): Uint8Array =>
      hex(`67 ${cstr(TENANT)} ${cstr(TIMELINE)} ${mconf} 00000000 0000000000000000 01000000`);
    expect(() => v3.readProposerMessage(greeting('00000001 00000000 00000000'))).toThrow(/no members/);
    const twice = `00000001 00000002 ${`0000000000000001 ${cstr('a')} 0001`.repeat(2)} 00000000`;
    expect(() => v3.readProposerMessage(greeting(twice))).toThrow(/comes twice/);
  });
  test('version 2 cannot carry a generation', () => {
    expect(() => v2.writeProposerMessage({ kind: 'vote-request', generation: 1, term: 1 })).toThrow(
      /generation 1/,
    );
  });
  test('unknown feedback names are skipped by their length', () => {
    const bytes = `61 00000000 ${'0000000000000001'.repeat(6)} 02 ${cstr('new_thing')} 00000003 aabbcc
      ${cstr('last_received_lsn')} 00000008 0000000000000010`;
    const m = v3.readAcceptorMessage(hex(bytes));
    expect(m).toMatchObject({ pageserverFeedback: { ...NO_FEEDBACK, lastReceivedLsn: 16 } });
  });
});
