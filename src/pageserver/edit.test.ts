import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  FSM_SLOTS_PER_PAGE,
  fsmRebuildPage,
  fsmTruncatePage,
  VM_HEAPBLOCKS_PER_PAGE,
  vmClear,
  vmTruncatePage,
} from '../xlog/derived.ts';
import { BLCKSZ, newPage, type Page, pageOver, setPageLsn } from '../xlog/page.ts';
import { setClogStatuses, setCommitTs, type XidStatus } from '../xlog/slru.ts';
import { groupMembersByPage, setMultiXactMembers, setMultiXactOffset } from '../xlog/slru-multixact.ts';
import {
  applyEdit,
  editBytes,
  encodeClogStatus,
  encodeCommitTs,
  encodeFsmTruncate,
  encodeMultiXactMembers,
  encodeMultiXactOffset,
  encodeVmClear,
  encodeVmTruncate,
} from './edit.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const page = u32.map(seed => {
  const bytes = new Uint8Array(BLCKSZ);
  for (let i = 0, x = seed | 1; i < BLCKSZ; i++) {
    x = Math.imul(x, 1664525) + 1013904223;
    bytes[i] = x >>> 24;
  }
  return bytes;
});
const RUNS = { numRuns: 40 };

/** The edit as it was written, applied from the middle of another buffer, twice. */
function applied(before: Uint8Array, length: number): Uint8Array {
  const stored = new Uint8Array(length + 20).fill(0xee);
  stored.set(editBytes().subarray(0, length), 7);
  const edited = pageOver(before.slice());
  applyEdit(edited, stored, 7, length);
  const once = edited.bytes.slice();
  applyEdit(edited, stored, 7, length);
  expect(Buffer.compare(edited.bytes, once)).toBe(0);
  return once;
}

function directly(before: Uint8Array, edit: (page: Page) => void): Uint8Array {
  const edited = pageOver(before.slice());
  edit(edited);
  return edited.bytes;
}

/** Of two pages; vitest's own comparison takes its time over 8192 elements. */
const expectSame = (a: Uint8Array, b: Uint8Array): void => expect(Buffer.compare(a, b)).toBe(0);

describe('an edit does what redo does', () => {
  test('visibility bits cleared, of one block and of two', () => {
    fc.assert(
      fc.property(
        page,
        u32,
        fc.integer({ min: 0, max: 5000 }),
        fc.constantFrom(2, 3),
        (before, blk, gap, flags) => {
          const other = blk - (blk % VM_HEAPBLOCKS_PER_PAGE) + ((blk + gap) % VM_HEAPBLOCKS_PER_PAGE);
          expectSame(
            applied(before, encodeVmClear(blk, -1, flags)),
            directly(before, p => vmClear(p, blk, flags)),
          );
          expectSame(
            applied(before, encodeVmClear(blk, other, flags)),
            directly(before, p => {
              vmClear(p, blk, flags);
              vmClear(p, other, flags);
            }),
          );
        },
      ),
      RUNS,
    );
  });

  test('maps cut with their relation', () => {
    fc.assert(
      fc.property(page, u32, (before, blocks) => {
        expectSame(
          applied(before, encodeVmTruncate(blocks)),
          directly(before, p => vmTruncatePage(p, blocks)),
        );
        const fsm = directly(before, fsmRebuildPage);
        expectSame(
          applied(fsm, encodeFsmTruncate(blocks)),
          directly(fsm, p => fsmTruncatePage(p, blocks)),
        );
      }),
      RUNS,
    );
    expect(FSM_SLOTS_PER_PAGE).toBeLessThan(0x1_0000);
  });

  test('transactions ended', () => {
    const status = fc.constantFrom<XidStatus>(1, 2, 3);
    fc.assert(
      fc.property(page, fc.array(u32, { minLength: 1, maxLength: 2000 }), status, (before, xids, to) => {
        expectSame(
          applied(before, encodeClogStatus(xids, to)),
          directly(before, p => setClogStatuses(p, xids, to)),
        );
      }),
      RUNS,
    );
  });

  test('commit timestamps, of times before and after 2000', () => {
    const time = fc.integer({ min: -(2 ** 50), max: 2 ** 53 - 1 });
    const xids = fc.array(u32, { minLength: 1, maxLength: 800 });
    fc.assert(
      fc.property(page, xids, time, fc.integer({ min: 0, max: 0xffff }), (before, list, at, node) => {
        expectSame(
          applied(before, encodeCommitTs(list, at, node)),
          directly(before, p => setCommitTs(p, list, at, node)),
        );
      }),
      RUNS,
    );
  });

  test('multixacts, over as many pages as their members take', () => {
    const member = fc.record({ xid: u32, status: fc.integer({ min: 0, max: 5 }) });
    fc.assert(
      fc.property(
        page,
        u32,
        u32,
        fc.array(member, { minLength: 1, maxLength: 3000 }),
        (before, mid, moff, members) => {
          expectSame(
            applied(before, encodeMultiXactOffset(mid, moff)),
            directly(before, p => setMultiXactOffset(p, mid, moff)),
          );
          for (const { first, count } of groupMembersByPage(moff, members.length)) {
            expectSame(
              applied(before, encodeMultiXactMembers(moff, members, first, count)),
              directly(before, p => setMultiXactMembers(p, moff, members, first, count)),
            );
          }
        },
      ),
      { numRuns: 20 },
    );
  });
});

test('pd_lsn stays, and a page never written stays zeros', () => {
  const edited = newPage();
  setPageLsn(edited, 0x1234_5678);
  edited.bytes.fill(0xff, 24);
  const before = edited.bytes.slice(0, 24);
  applyEdit(edited, editBytes(), 0, encodeVmClear(9, -1, 3));
  expect(edited.bytes.slice(0, 24)).toEqual(before);
  expect(edited.bytes[24 + 2]).toBe(0xf3);
  const fresh = newPage();
  for (const length of [encodeVmClear(9, 10, 3)]) applyEdit(fresh, editBytes(), 0, length);
  applyEdit(fresh, editBytes(), 0, encodeFsmTruncate(7));
  expect(fresh.bytes).toEqual(new Uint8Array(BLCKSZ));
});

test('bytes that are no edit are refused', () => {
  expect(() => applyEdit(newPage(), new Uint8Array([0, 1, 2]), 0, 3)).toThrow('unknown kind 0');
});
