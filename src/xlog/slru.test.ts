import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SLRU_CLOG, SLRU_COMMIT_TS, SLRU_MULTIXACT_MEMBERS, SLRU_MULTIXACT_OFFSETS } from '../base/rel.ts';
import { newPage } from './page.ts';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  clogStatus,
  commitTs,
  groupXidsByPage,
  MULTIXACT_OFFSETS_PER_PAGE,
  parseSlruSegmentName,
  setClogStatus,
  setCommitTs,
  slruPagePrecedes,
  slruSegmentName,
  slruSegmentOf,
  slruSegmentPath,
  slruSegmentsToDelete,
  XID_ABORTED,
  XID_COMMITTED,
  XID_SUB_COMMITTED,
  type XidStatus,
} from './slru.ts';
import {
  groupMembersByPage,
  memberPageOf,
  memberSegmentsToDelete,
  multiXactMember,
  nextMemberOffset,
  nextMultiXactId,
  offsetsCutoffPage,
  previousMultiXactId,
  setMultiXactMembers,
} from './slru-multixact.ts';

const anyXid = fc.integer({ min: 3, max: 0xffffffff });
const MAX = 0xffffffff;

describe('names', () => {
  test('at least four digits, as many as it takes', () => {
    expect([0, 0xfff, 0x14078].map(slruSegmentName)).toEqual(['0000', '0FFF', '14078']);
    expect(slruSegmentPath(SLRU_MULTIXACT_MEMBERS, slruSegmentOf(memberPageOf(MAX)))).toBe(
      'pg_multixact/members/14078',
    );
    expect(['0000', '14078', '123', '000g', '0000.tmp', '000000000000000'].map(parseSlruSegmentName)).toEqual(
      [0, 0x14078, undefined, undefined, undefined, undefined],
    );
  });
});

describe('transaction status', () => {
  test('each xid has its own two bits', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(CLOG_XACTS_PER_PAGE - 1), fc.constantFrom(1, 2, 3))), entries => {
        const page = newPage();
        const expected = new Map<number, number>();
        for (const [xid, status] of entries) {
          const kept = status === XID_SUB_COMMITTED && expected.get(xid) === XID_COMMITTED;
          setClogStatus(page, xid + CLOG_XACTS_PER_PAGE, status as XidStatus);
          if (!kept) expected.set(xid, status);
        }
        for (const [xid, status] of expected) expect(clogStatus(page, xid)).toBe(status);
        const bits = page.bytes.reduce(
          (sum, byte) => sum + [0, 1, 2, 3].filter(i => (byte >> (2 * i)) & 3).length,
          0,
        );
        expect(bits).toBe(expected.size);
      }),
    );
  });

  test('the first half of a commit does not undo the second', () => {
    const page = newPage();
    setClogStatus(page, 5, XID_SUB_COMMITTED);
    expect(clogStatus(page, 5)).toBe(XID_SUB_COMMITTED);
    setClogStatus(page, 5, XID_COMMITTED);
    setClogStatus(page, 5, XID_SUB_COMMITTED);
    expect(clogStatus(page, 5)).toBe(XID_COMMITTED);
    setClogStatus(page, 6, XID_ABORTED);
    expect([5, 6, 7].map(xid => clogStatus(page, xid))).toEqual([XID_COMMITTED, XID_ABORTED, 0]);
  });

  test('a tree of xids falls apart by page', () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyXid), xids => {
        const groups = groupXidsByPage(xids, CLOG_XACTS_PER_PAGE);
        expect(groups.flatMap(g => g.xids).sort()).toEqual([...xids].sort());
        for (const { pageno, xids: members } of groups) {
          for (const xid of members) expect(Math.floor(xid / CLOG_XACTS_PER_PAGE)).toBe(pageno);
        }
        expect(new Set(groups.map(g => g.pageno)).size).toBe(groups.length);
      }),
    );
  });
});

test('commit timestamps keep 64 bits and the origin', () => {
  fc.assert(
    fc.property(
      anyXid,
      fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
      fc.nat(0xffff),
      (xid, time, nodeId) => {
        const page = newPage();
        setCommitTs(page, [xid], time, nodeId);
        expect(commitTs(page, xid)).toEqual({ time, nodeId });
        const at = (xid % COMMIT_TS_XACTS_PER_PAGE) * 10;
        expect(page.view.getBigInt64(at, true)).toBe(BigInt(time));
      },
    ),
  );
});

describe('multixacts', () => {
  test('ids and offsets skip zero where they wrap', () => {
    expect([1, MAX].map(nextMultiXactId)).toEqual([2, 1]);
    expect([1, 2].map(previousMultiXactId)).toEqual([MAX, 1]);
    expect(nextMemberOffset(MAX, 1)).toBe(1);
    expect(nextMemberOffset(MAX - 1, 4)).toBe(2);
    expect(nextMemberOffset(10, 4)).toBe(14);
  });

  test('members lie where they are looked for, over pages and past the wrap', () => {
    const offsets = fc.oneof(fc.nat(MAX), fc.integer({ min: MAX - 3000, max: MAX }), fc.nat(3000));
    fc.assert(
      fc.property(offsets, fc.integer({ min: 1, max: 4000 }), (offset, count) => {
        const members = Array.from({ length: count }, (_, i) => ({ xid: 1000 + i, status: i % 6 }));
        const pages = new Map<number, ReturnType<typeof newPage>>();
        for (const group of groupMembersByPage(offset, count)) {
          expect(pages.has(group.pageno)).toBe(false);
          const page = newPage();
          pages.set(group.pageno, page);
          setMultiXactMembers(page, offset, members, group.first, group.count);
        }
        const read = members.map((_, i) => {
          const at = (offset + i) % 2 ** 32;
          return multiXactMember(pages.get(memberPageOf(at))!, at);
        });
        expect(read).toEqual(members);
        let used = 0;
        for (const page of pages.values()) for (const byte of page.bytes.subarray(8180)) used += byte;
        expect(used).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  test('members go up to the new oldest, past the wrap', () => {
    expect(memberSegmentsToDelete(1, 100)).toEqual([]);
    const segment = 1636 * 32;
    expect(memberSegmentsToDelete(segment - 1, 3 * segment)).toEqual([0, 1, 2]);
    expect(memberSegmentsToDelete(MAX, segment)).toEqual([0x14078, 0]);
  });

  test('the cutoff of offsets is a page that was made', () => {
    expect(offsetsCutoffPage(MULTIXACT_OFFSETS_PER_PAGE)).toBe(0);
    expect(offsetsCutoffPage(MULTIXACT_OFFSETS_PER_PAGE + 1)).toBe(1);
    expect(offsetsCutoffPage(1)).toBe(Math.floor(MAX / MULTIXACT_OFFSETS_PER_PAGE));
  });
});

describe('truncation', () => {
  /** What SlruPagePrecedesTestOffset of slru.c asserts, at offsets all around the circle. */
  test.each([
    ['clog', SLRU_CLOG, CLOG_XACTS_PER_PAGE],
    ['commit timestamps', SLRU_COMMIT_TS, COMMIT_TS_XACTS_PER_PAGE],
    ['multixact offsets', SLRU_MULTIXACT_OFFSETS, MULTIXACT_OFFSETS_PER_PAGE],
  ] as const)('%s: pages precede as the ids on them do', (_name, kind, perPage) => {
    for (const offset of [0, perPage / 2, perPage - 1, 5 * perPage, 2 ** 31 - perPage].map(Math.floor)) {
      const page = (id: number): number => Math.floor((id % 2 ** 32) / perPage);
      const lhs = 3 + offset;
      const newest = lhs + 2 ** 31 - 1;
      expect(slruPagePrecedes(kind, page(lhs), page(lhs))).toBe(false);
      expect(slruPagePrecedes(kind, page(lhs), page(lhs + perPage))).toBe(true);
      // Half the circle ahead, and the page that straddles the opposite point: neither precedes.
      expect(slruPagePrecedes(kind, page(newest), page(lhs))).toBe(false);
      expect(slruPagePrecedes(kind, page(newest + 1 + 2 * perPage), page(lhs))).toBe(true);
    }
  });

  test('segments go when all their xids are old, also past the wrap', () => {
    const all = Array.from({ length: 0x1000 }, (_, segno) => segno);
    const perSegment = CLOG_XACTS_PER_PAGE * 32;
    const cutoff = (xid: number): number => Math.floor(xid / CLOG_XACTS_PER_PAGE);
    expect(slruSegmentsToDelete(SLRU_CLOG, [0, 1, 2, 3], cutoff(2.5 * perSegment))).toEqual([0, 1]);
    expect(slruSegmentsToDelete(SLRU_CLOG, [0, 1, 0xfff], cutoff(perSegment))).toEqual([0, 0xfff]);
    const gone = slruSegmentsToDelete(SLRU_CLOG, all, cutoff(0x100 * perSegment));
    expect(gone).toEqual(all.filter(segno => segno < 0x100 || segno > 0x900));
  });

  test('nothing goes when the page in use lies before the cutoff', () => {
    expect(slruSegmentsToDelete(SLRU_CLOG, [0, 1], 64, 10)).toEqual([]);
    expect(slruSegmentsToDelete(SLRU_CLOG, [0, 1], 64, 70)).toEqual([0, 1]);
  });
});
