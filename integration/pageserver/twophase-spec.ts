// The main data of a PREPARE record that prepares nothing much.

import { Builder } from '../../src/base/bytes.ts';

/** `hasStats`: 15 and later count dropped statistics. */
export function makeTwophase(xid: number, hasStats: boolean): Uint8Array {
  const gid = 'gid';
  const header = new Builder().u32le(0x57f94534).u32le(0).u32le(xid).u32le(5).u64le(0n).u32le(10);
  header.zeros(12);
  if (hasStats) header.zeros(8);
  header
    .u32le(0)
    .u8(0)
    .zeros(1)
    .u16le(gid.length + 1)
    .u64le(0n)
    .u64le(0n);
  return header.cstr(gid).zeros(4).finish();
}
