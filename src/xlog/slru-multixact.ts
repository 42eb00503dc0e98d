// Multixacts on their SLRU pages: CREATE_ID's edits, and what TRUNCATE_ID takes away. The formats are drawn in
// slru.ts.
//
// A multixact's members lie from its own offset to the next multixact's. Late minors of every major write that
// next offset together with the multixact itself, so that a reader need not wait for the next one; earlier ones
// leave it zero until the next is made. Writing it is right for a log of either kind, since offsets are handed
// out in order; in an older log the next page may not be there yet, and its own record zeroes it later.
//
// Mirrors RecordNewMultiXact, PerformMembersTruncation and PerformOffsetsTruncation of multixact.c.

import type { MultiXactMember } from './effects.ts';
import type { Page } from './page.ts';
import { MULTIXACT_MEMBERS_PER_PAGE, MULTIXACT_OFFSETS_PER_PAGE, slruSegmentOf } from './slru.ts';

const FIRST_MULTIXACT_ID = 1;
const MAX_U32 = 0xffff_ffff;
const TWO_32 = 0x1_0000_0000;

const MEMBERS_PER_GROUP = 4;
const GROUP_SIZE = 20;

// ---- ids and pages ------------------------------------------------------------------------------------------

/** NextMultiXactId */
export const nextMultiXactId = (multi: number): number =>
  multi === MAX_U32 ? FIRST_MULTIXACT_ID : multi + 1;

/** PreviousMultiXactId */
export const previousMultiXactId = (multi: number): number =>
  multi <= FIRST_MULTIXACT_ID ? MAX_U32 : multi - 1;

/** MultiXactIdToOffsetPage */
export const offsetPageOf = (multi: number): number => Math.floor(multi / MULTIXACT_OFFSETS_PER_PAGE);

/** MXOffsetToMemberPage */
export const memberPageOf = (offset: number): number => Math.floor(offset / MULTIXACT_MEMBERS_PER_PAGE);

/** The offset after a multixact's members, where the next one's begin; 0 means "none" and is skipped. */
export function nextMemberOffset(offset: number, memberCount: number): number {
  const next = (offset + memberCount) % TWO_32;
  return next === 0 ? 1 : next;
}

// ---- offsets ------------------------------------------------------------------------------------------------

export const multiXactOffset = (page: Page, multi: number): number =>
  page.view.getUint32((multi % MULTIXACT_OFFSETS_PER_PAGE) * 4, true);

export function setMultiXactOffset(page: Page, multi: number, offset: number): void {
  page.view.setUint32((multi % MULTIXACT_OFFSETS_PER_PAGE) * 4, offset, true);
}

// ---- members ------------------------------------------------------------------------------------------------

export interface MembersOfPage {
  readonly pageno: number;
  /** Index of the first of `count` members that lie on the page. */
  readonly first: number;
  readonly count: number;
}

/** Which pages the members from `offset` on lie on; offsets wrap at 2^32, so do pages. */
export function groupMembersByPage(offset: number, memberCount: number): MembersOfPage[] {
  const groups: MembersOfPage[] = [];
  for (let first = 0; first < memberCount; ) {
    const at = (offset + first) % TWO_32;
    const room = Math.min(MULTIXACT_MEMBERS_PER_PAGE - (at % MULTIXACT_MEMBERS_PER_PAGE), TWO_32 - at);
    const count = Math.min(memberCount - first, room);
    groups.push({ pageno: memberPageOf(at), first, count });
    first += count;
  }
  return groups;
}

/** MXOffsetToFlagsOffset, with the member's own byte among the group's flags. */
const statusAt = (slot: number): number =>
  Math.floor(slot / MEMBERS_PER_GROUP) * GROUP_SIZE + (slot % MEMBERS_PER_GROUP);

/** MXOffsetToMemberOffset */
const xidAt = (slot: number): number =>
  Math.floor(slot / MEMBERS_PER_GROUP) * GROUP_SIZE + MEMBERS_PER_GROUP + (slot % MEMBERS_PER_GROUP) * 4;

/** One page's part of a multixact: members `first` to `first + count - 1`, the list beginning at `offset`. */
export function setMultiXactMembers(
  page: Page,
  offset: number,
  members: readonly MultiXactMember[],
  first: number,
  count: number,
): void {
  for (let i = first; i < first + count; i++) {
    const slot = ((offset + i) % TWO_32) % MULTIXACT_MEMBERS_PER_PAGE;
    setMultiXactMember(page, slot, members[i]!.xid, members[i]!.status);
  }
}

/** One member, by its place on the page. */
export function setMultiXactMember(page: Page, slot: number, xid: number, status: number): void {
  page.view.setUint32(xidAt(slot), xid, true);
  page.view.setUint8(statusAt(slot), status);
}

/** The member at an offset. */
export function multiXactMember(page: Page, offset: number): MultiXactMember {
  const slot = offset % MULTIXACT_MEMBERS_PER_PAGE;
  return { xid: page.view.getUint32(xidAt(slot), true), status: page.view.getUint8(statusAt(slot)) };
}

// ---- truncation ---------------------------------------------------------------------------------------------

/** MXOffsetToMemberSegment(MaxMultiXactOffset) */
const LAST_MEMBER_SEGMENT = slruSegmentOf(memberPageOf(MAX_U32));

/** PerformMembersTruncation: every segment from the old oldest offset's up to, not including, the new one's. */
export function memberSegmentsToDelete(oldestOffset: number, newOldestOffset: number): number[] {
  const end = slruSegmentOf(memberPageOf(newOldestOffset));
  const gone: number[] = [];
  let segno = slruSegmentOf(memberPageOf(oldestOffset));
  while (segno !== end) {
    gone.push(segno);
    segno = segno === LAST_MEMBER_SEGMENT ? 0 : segno + 1;
  }
  return gone;
}

/**
 * PerformOffsetsTruncation: the cutoff page for `slruSegmentsToDelete`, one multixact back so that it is a page
 * that has been made.
 */
export const offsetsCutoffPage = (newOldestMulti: number): number =>
  offsetPageOf(previousMultiXactId(newOldestMulti));
