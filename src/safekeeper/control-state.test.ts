import { describe, expect, test } from 'vitest';
import { Builder, fromHex } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import { tenantId, timelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import { crc32c } from '../xlog/crc32c.ts';
import { CONTROL_MAGIC, type ControlState, decodeControlState, encodeControlState } from './control-state.ts';

const TENANT = tenantId('cf0480929707ee75372337efaa5ecf96');
const TIMELINE = timelineId('112ded66422aa5e953e5440fa5427ac4');
const UUID = 'c47a42a50f44e553e9a52a4266ed2d11';
const L = (n: number): Lsn => n as Lsn;

const STATE: ControlState = {
  tenantId: TENANT,
  timelineId: TIMELINE,
  membership: {
    generation: 7,
    members: [
      { id: 1, host: 'one.example', pgPort: 5454 },
      { id: 2, host: 'two.example', pgPort: 6454 },
    ],
    newMembers: [{ id: 3, host: 'three.example', pgPort: 7454 }],
  },
  term: 42,
  termHistory: [
    { term: 0, lsn: L(0x1000) },
    { term: 41, lsn: L(0x1_0000_2000) },
  ],
  server: { pgVersion: 170005, systemId: 0x1234567887654321n, walSegSize: 16 << 20 },
  proposerUuid: UUID,
  timelineStartLsn: L(0x1000),
  localStartLsn: L(0x1000),
  commitLsn: L(0x1_0000_3000),
  backupLsn: L(0x1_0000_0000),
  peerHorizonLsn: L(0x1_0000_1000),
  remoteConsistentLsn: L(0x2000),
  partialSegments: [
    { status: 'deleting', name: 'old', commitLsn: L(8), flushLsn: L(16), term: 3 },
    { status: 'uploaded', name: 'new', commitLsn: L(24), flushLsn: L(32), term: 41 },
  ],
  eviction: { kind: 'offloaded', flushLsn: L(0x1_0000_3000) },
  createdMs: 1_700_000_000_123,
};

/** A body as some version wrote it, with header and checksum around it. */
function file(version: number, body: Uint8Array): Uint8Array {
  const bytes = new Builder().u32le(CONTROL_MAGIC).u32le(version).raw(body).finish();
  return new Builder().raw(bytes).u32le(crc32c(bytes)).finish();
}

function faultOf(bytes: Uint8Array): string {
  try {
    decodeControlState(bytes);
  } catch (error) {
    if (isFault(error, 'safekeeper-control')) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('the record as written', () => {
  test('comes back as it went, with generations in version 10', () => {
    expect(decodeControlState(encodeControlState(STATE))).toEqual({ version: 10, state: STATE });
  });

  test('is version 9 while generations are not used, which does not know when it was made', () => {
    const plain: ControlState = {
      ...STATE,
      membership: { generation: 0, members: [], newMembers: undefined },
      eviction: { kind: 'present' },
    };
    expect(decodeControlState(encodeControlState(plain))).toEqual({
      version: 9,
      state: { ...plain, createdMs: 0 },
    });
  });

  test('any changed byte is found', () => {
    const bytes = encodeControlState(STATE);
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 0x10;
      expect(faultOf(changed)).toMatch(/checksum/);
    }
  });

  test('any cut is found', () => {
    const bytes = encodeControlState(STATE);
    for (let length = 0; length < bytes.length; length++) {
      expect(faultOf(bytes.slice(0, length))).not.toBe('accepted');
    }
  });

  test('a wrong magic, a version from the future, and leftover bytes are told apart', () => {
    expect(faultOf(file(11, new Uint8Array(100)))).toMatch(/version 11 is not known/);
    const bytes = encodeControlState(STATE);
    const body = bytes.slice(8, -4);
    expect(faultOf(file(10, new Builder().raw(body).u8(0).finish()))).toMatch(/1 bytes too many/);
    const other = new Builder().u32le(1).u32le(10).raw(body).finish();
    expect(faultOf(new Builder().raw(other).u32le(crc32c(other)).finish())).toMatch(/magic 1/);
  });

  test('a count that cannot be is refused before memory is set aside', () => {
    const body = new Builder().u64le(0x0fff_ffff_ffffn).finish();
    expect(faultOf(file(10, body))).not.toBe('accepted');
    const many = new Builder()
      .u64le(32n)
      .text(TENANT)
      .u64le(32n)
      .text(TIMELINE)
      .u64le(1n)
      .u64le(0x10_0000_0000n);
    expect(faultOf(file(9, many.finish()))).toMatch(/items in/);
  });
});

// The bytes that Neon's own tests expect of versions 1 to 4 (control_file_upgrade.rs).
const NEON_BODIES: Record<number, string> = {
  1: '2a000000000000002b00000000000000e02202002143658778563412cf0480929707ee75372337efaa5ecf96112ded66422aa5e953e5440fa5427ac478563412c47a42a50f44e553e9a52a4266ed2d1178029649000000000ccd5b07000000007002964900000000',
  2: '2a00000000000000010000000000000029000000000000000100000000000000e02202002143658778563412cf0480929707ee75372337efaa5ecf96112ded66422aa5e953e5440fa5427ac478563412c47a42a50f44e553e9a52a4266ed2d1178029649000000000ccd5b07000000007002964900000000',
  3: '2a00000000000000010000000000000029000000000000000100000000000000e022020021436587785634122000000000000000636630343830393239373037656537353337323333376566616135656366393620000000000000003131326465643636343232616135653935336535343430666135343237616334785634122000000000000000633437613432613530663434653535336539613532613432363665643264313178029649000000000ccd5b07000000007002964900000000',
  4: '20000000000000006366303438303932393730376565373533373233333765666161356563663936200000000000000031313264656436363432326161356539353365353434306661353432376163342a00000000000000010000000000000029000000000000000100000000000000e022020021436587785634127856341220000000000000006334376134326135306634346535353365396135326134323636656432643131780296490000000084009649000000007f9698000000000000e49549000000000100000000000000010000000000000058ff9549000000002a000000000000007002964900000000b001964900000000',
};

describe('what older safekeepers wrote', () => {
  test.each([1, 2, 3, 4])('version %i', version => {
    const { state } = decodeControlState(file(version, fromHex(NEON_BODIES[version]!)));
    expect(state).toMatchObject({
      tenantId: TENANT,
      timelineId: TIMELINE,
      term: 42,
      termHistory: version === 1 ? [{ term: 43, lsn: 0 }] : [{ term: 41, lsn: 1 }],
      server: { pgVersion: 140000, systemId: 0x1234567887654321n, walSegSize: 0x12345678 },
      proposerUuid: UUID,
      commitLsn: 1234567800,
      peerHorizonLsn: version === 4 ? 9999999 : 123456780,
      remoteConsistentLsn: version === 4 ? 1234560000 : 0,
      membership: { generation: 0 },
      eviction: { kind: 'present' },
      partialSegments: [],
    });
  });

  /** The fields that 5, 6 and 7 share. */
  function body7(pgVersion: number, start: number): Builder {
    const b = new Builder().u64le(32n).text(TENANT).u64le(32n).text(TIMELINE);
    b.u64le(5n).u64le(1n).u64le(5n).lsnle(0x100);
    b.u32le(pgVersion)
      .u64le(9n)
      .u32le(16 << 20);
    b.u64le(32n).text(UUID);
    b.lsnle(start).lsnle(start).lsnle(0x300).lsnle(0x200).lsnle(0x280).lsnle(0x180);
    return b.u64le(1n).zeros(40);
  }

  test('version 5 with no start: 1 stands for "known, before everything"', () => {
    const { state } = decodeControlState(file(5, body7(140005, 0).finish()));
    expect(state).toMatchObject({ timelineStartLsn: 1, localStartLsn: 1, commitLsn: 0x300 });
  });

  test('version 6 with no server version: 14', () => {
    expect(decodeControlState(file(6, body7(0, 0x100).finish())).state.server.pgVersion).toBe(140005);
  });

  test('version 7 and 8', () => {
    expect(decodeControlState(file(7, body7(150002, 0x100).finish())).state).toMatchObject({
      timelineStartLsn: 0x100,
      peerHorizonLsn: 0x280,
      remoteConsistentLsn: 0x180,
    });
    const partial = body7(150002, 0x100).u64le(1n).u32le(1).u64le(4n).text('part');
    partial.lsnle(0x300).lsnle(0x308).u64le(5n);
    expect(decodeControlState(file(8, partial.finish())).state.partialSegments).toEqual([
      { status: 'uploaded', name: 'part', commitLsn: 0x300, flushLsn: 0x308, term: 5 },
    ]);
  });
});
