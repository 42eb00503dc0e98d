// Our own small page edits: what a record does to a page that it does not name. A commit sets two bits of a page of
// pg_xact; storing the record there would keep its body for nothing, and storing the page would keep 8 KiB.
//
//   kind u8, then, little-endian and packed:
//    1 VM_CLEAR           flags u8 | heap block u16, once or twice         block numbers modulo those of a map page
//    2 VM_TRUNCATE        heap blocks u16                                  the first that the page forgets, modulo
//    3 FSM_TRUNCATE       heap blocks u16                                  likewise
//    4 CLOG_STATUS        status u8 | xid u16, once or more                modulo 32768
//    5 MULTIXACT_OFFSET   multixact u16 | offset u32                       modulo 2048
//    6 MULTIXACT_MEMBERS  slot u16 | (status u8 | xid u32), once or more   the first slot, modulo 1636
//    7 COMMIT_TS          xid u16, once or more | node u16 | time i64      modulo 819; microseconds since 2000
//
// Only what the page needs is kept: which page it is, the key says. An edit never moves pd_lsn, as in Postgres's
// redo (Neon's pageserver stamps visibility map pages; Postgres does not look there), so that a page is byte for
// byte what recovery would have made. Every edit may be applied twice.
//
// The encoders write into one scratch buffer and return its length: `editBytes` is good until the next of them.
// Bytes are made by xlog/derived.ts, slru.ts and slru-multixact.ts, which answer to Postgres.

import { Violation } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import {
  FSM_SLOTS_PER_PAGE,
  fsmTruncatePage,
  VM_HEAPBLOCKS_PER_PAGE,
  vmClear,
  vmTruncatePage,
} from '../xlog/derived.ts';
import type { MultiXactMember } from '../xlog/effects.ts';
import type { Page } from '../xlog/page.ts';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  MULTIXACT_MEMBERS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  setClogStatus,
  setCommitTsEntry,
  type XidStatus,
} from '../xlog/slru.ts';
import { setMultiXactMember, setMultiXactOffset } from '../xlog/slru-multixact.ts';

const VM_CLEAR = 1;
const VM_TRUNCATE = 2;
const FSM_TRUNCATE = 3;
const CLOG_STATUS = 4;
const MULTIXACT_OFFSET = 5;
const MULTIXACT_MEMBERS = 6;
const COMMIT_TS = 7;

const MEMBER_SIZE = 5;
const TWO_32 = 0x1_0000_0000;

// ---- encode -------------------------------------------------------------------------------------------------

let scratch = new Uint8Array(1024);
let view = new DataView(scratch.buffer);

/** What the last encoder wrote lies here, from 0 on. */
export const editBytes = (): Uint8Array => scratch;

function room(length: number): void {
  if (length <= scratch.length) return;
  scratch = new Uint8Array(length * 2);
  view = new DataView(scratch.buffer);
}

/** `heapBlk2` is a second block that the same map page covers, -1 for none. */
export function encodeVmClear(heapBlk: number, heapBlk2: number, flags: number): number {
  scratch[0] = VM_CLEAR;
  scratch[1] = flags;
  view.setUint16(2, heapBlk % VM_HEAPBLOCKS_PER_PAGE, true);
  if (heapBlk2 < 0) return 4;
  view.setUint16(4, heapBlk2 % VM_HEAPBLOCKS_PER_PAGE, true);
  return 6;
}

export function encodeVmTruncate(heapBlocks: number): number {
  scratch[0] = VM_TRUNCATE;
  view.setUint16(1, heapBlocks % VM_HEAPBLOCKS_PER_PAGE, true);
  return 3;
}

export function encodeFsmTruncate(heapBlocks: number): number {
  scratch[0] = FSM_TRUNCATE;
  view.setUint16(1, heapBlocks % FSM_SLOTS_PER_PAGE, true);
  return 3;
}

/** The transactions of one page of pg_xact. */
export function encodeClogStatus(xids: readonly number[], status: XidStatus): number {
  room(2 + xids.length * 2);
  scratch[0] = CLOG_STATUS;
  scratch[1] = status;
  for (let i = 0; i < xids.length; i++) view.setUint16(2 + i * 2, xids[i]! % CLOG_XACTS_PER_PAGE, true);
  return 2 + xids.length * 2;
}

export function encodeMultiXactOffset(multi: number, offset: number): number {
  scratch[0] = MULTIXACT_OFFSET;
  view.setUint16(1, multi % MULTIXACT_OFFSETS_PER_PAGE, true);
  view.setUint32(3, offset, true);
  return 7;
}

/** Members `first` to `first + count - 1` of a list that begins at `offset`; they lie on one page. */
export function encodeMultiXactMembers(
  offset: number,
  members: readonly MultiXactMember[],
  first: number,
  count: number,
): number {
  const length = 3 + count * MEMBER_SIZE;
  room(length);
  scratch[0] = MULTIXACT_MEMBERS;
  view.setUint16(1, ((offset + first) % TWO_32) % MULTIXACT_MEMBERS_PER_PAGE, true);
  for (let i = 0; i < count; i++) {
    const at = 3 + i * MEMBER_SIZE;
    scratch[at] = members[first + i]!.status;
    view.setUint32(at + 1, members[first + i]!.xid, true);
  }
  return length;
}

/** The transactions of one page of pg_commit_ts. */
export function encodeCommitTs(xids: readonly number[], time: number, nodeId: number): number {
  const end = 1 + xids.length * 2;
  room(end + 10);
  scratch[0] = COMMIT_TS;
  for (let i = 0; i < xids.length; i++) view.setUint16(1 + i * 2, xids[i]! % COMMIT_TS_XACTS_PER_PAGE, true);
  view.setUint16(end, nodeId, true);
  const high = Math.floor(time / TWO_32);
  view.setUint32(end + 2, time - high * TWO_32, true);
  view.setInt32(end + 6, high, true);
  return end + 10;
}

// ---- apply --------------------------------------------------------------------------------------------------

const u16 = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
const i32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) | (u16(bytes, at + 2) << 16);
const u32 = (bytes: Uint8Array, at: number): number => i32(bytes, at) >>> 0;

/** Carry out the edit that lies at `offset`, on the page of the key that it is stored under. */
export function applyEdit(page: Page, bytes: Uint8Array, offset: number, length: number): void {
  const end = offset + length;
  const at = offset + 1;
  switch (bytes[offset]) {
    case VM_CLEAR:
      for (let i = at + 1; i + 2 <= end; i += 2) vmClear(page, u16(bytes, i), bytes[at]!);
      return;
    case VM_TRUNCATE:
      vmTruncatePage(page, u16(bytes, at));
      return;
    case FSM_TRUNCATE:
      fsmTruncatePage(page, u16(bytes, at));
      return;
    case CLOG_STATUS:
      for (let i = at + 1; i + 2 <= end; i += 2) setClogStatus(page, u16(bytes, i), bytes[at]! as XidStatus);
      return;
    case MULTIXACT_OFFSET:
      setMultiXactOffset(page, u16(bytes, at), u32(bytes, at + 2));
      return;
    case MULTIXACT_MEMBERS:
      applyMembers(page, bytes, at, end);
      return;
    case COMMIT_TS:
      applyCommitTs(page, bytes, at, end);
      return;
    default:
      throw new Fault('layer-corrupt', `an edit of unknown kind ${bytes[offset]}`, {
        hint: 'The layer was written by a newer build, or is damaged.',
      });
  }
}

const EDIT_NAMES: Readonly<Record<number, string>> = {
  [VM_CLEAR]: 'visibility bits cleared',
  [VM_TRUNCATE]: 'visibility map cut',
  [FSM_TRUNCATE]: 'free space map cut',
  [CLOG_STATUS]: 'status of transactions',
  [MULTIXACT_OFFSET]: 'offset of a multixact',
  [MULTIXACT_MEMBERS]: 'members of multixacts',
  [COMMIT_TS]: 'time of commits',
};

/** What an edit does, in words. */
export function describeEdit(bytes: Uint8Array): string {
  const name = EDIT_NAMES[bytes[0]!] ?? `unknown kind ${bytes[0]}`;
  return bytes[0] === CLOG_STATUS ? `${name}: ${Math.floor((bytes.length - 2) / 2)} to ${bytes[1]}` : name;
}

function applyMembers(page: Page, bytes: Uint8Array, at: number, end: number): void {
  let slot = u16(bytes, at);
  for (let i = at + 2; i + MEMBER_SIZE <= end; i += MEMBER_SIZE, slot++) {
    if (slot >= MULTIXACT_MEMBERS_PER_PAGE) throw new Violation('members past the end of their page');
    setMultiXactMember(page, slot, u32(bytes, i + 1), bytes[i]!);
  }
}

function applyCommitTs(page: Page, bytes: Uint8Array, at: number, end: number): void {
  const node = end - 10;
  const low = i32(bytes, node + 2);
  const high = i32(bytes, node + 6);
  for (let i = at; i + 2 <= node; i += 2) setCommitTsEntry(page, u16(bytes, i), low, high, u16(bytes, node));
}
