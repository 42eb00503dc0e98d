// SLRUs: the small tables of transaction status, commit timestamps and multixacts, as pages of 8192 bytes
// without a header, 32 of them to a segment file.
//
//   pg_xact                2 bits per xid, four to a byte from the low bits up           32768 xids per page
//   pg_commit_ts           10 bytes per xid: timestamp i64, origin id u16                 819
//   pg_multixact/offsets   u32 per multixact: where its members begin                    2048 multixacts
//   pg_multixact/members   groups of 4: four status bytes, then four xids u32            1636 members (409 groups)
//
//   segment file names: at least four hex digits (0000 ... 0FFF ... 14078). The fifteen-digit names of 17 and
//   later are for SLRUs that never leave their cluster.
//
// Page numbers are plain numbers; xids, multixacts and member offsets wrap at 2^32 and so do their comparisons.
// Edits take the page and nothing else; which pages a change touches is told by the grouping functions.
//
// Mirrors clog.c, commit_ts.c and slru.c of access/transam. Multixacts are in slru-multixact.ts.

import {
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_DIRECTORY,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
} from '../base/rel.ts';
import type { Page } from './page.ts';
import { transactionIdPrecedes } from './page-items.ts';

export const CLOG_XACTS_PER_PAGE = 32768;
export const COMMIT_TS_XACTS_PER_PAGE = 819;
export const MULTIXACT_OFFSETS_PER_PAGE = 2048;
export const MULTIXACT_MEMBERS_PER_PAGE = 1636;

/** XidStatus */
export const XID_IN_PROGRESS = 0;
export const XID_COMMITTED = 1;
export const XID_ABORTED = 2;
export const XID_SUB_COMMITTED = 3;
export type XidStatus = 0 | 1 | 2 | 3;

// ---- names --------------------------------------------------------------------------------------------------

export const slruSegmentOf = (pageno: number): number => Math.floor(pageno / SLRU_PAGES_PER_SEGMENT);

/** SlruFileName, without the directory. */
export const slruSegmentName = (segno: number): string => segno.toString(16).toUpperCase().padStart(4, '0');

/** The segment number of a file name, as SlruScanDirectory takes them; undefined for anything else. */
export const parseSlruSegmentName = (name: string): number | undefined =>
  /^[0-9A-F]{4,6}$/.test(name) ? parseInt(name, 16) : undefined;

/** Path inside a data directory: `pg_xact/0000`. */
export const slruSegmentPath = (kind: SlruKind, segno: number): string =>
  `${SLRU_DIRECTORY[kind]}/${slruSegmentName(segno)}`;

// ---- pages of xids ------------------------------------------------------------------------------------------

export interface XidsOfPage {
  readonly pageno: number;
  readonly xids: readonly number[];
}

/** An xid and its subtransactions by page, in the order in which their pages come up. */
export function groupXidsByPage(xids: readonly number[], xactsPerPage: number): XidsOfPage[] {
  const groups = new Map<number, number[]>();
  for (const xid of xids) {
    const pageno = Math.floor(xid / xactsPerPage);
    const group = groups.get(pageno);
    if (group === undefined) groups.set(pageno, [xid]);
    else group.push(xid);
  }
  return Array.from(groups, ([pageno, members]) => ({ pageno, xids: members }));
}

// ---- transaction status -------------------------------------------------------------------------------------

export function clogStatus(page: Page, xid: number): XidStatus {
  const index = xid % CLOG_XACTS_PER_PAGE;
  return ((page.view.getUint8(index >> 2) >> ((index & 3) * 2)) & 3) as XidStatus;
}

/**
 * TransactionIdSetStatusBit as replay does it: what is committed stays so when the first half of a commit that
 * spans pages (SUB_COMMITTED, so that no reader sees half a tree) is replayed once more.
 */
export function setClogStatus(page: Page, xid: number, status: XidStatus): void {
  const index = xid % CLOG_XACTS_PER_PAGE;
  const at = index >> 2;
  const shift = (index & 3) * 2;
  const byte = page.view.getUint8(at);
  if (status === XID_SUB_COMMITTED && ((byte >> shift) & 3) === XID_COMMITTED) return;
  page.view.setUint8(at, (byte & ~(3 << shift)) | (status << shift));
}

/** One clog page's part of a commit or abort. Replay sees whole records, so the final state is set at once. */
export function setClogStatuses(page: Page, xids: readonly number[], status: XidStatus): void {
  for (let i = 0; i < xids.length; i++) setClogStatus(page, xids[i]!, status);
}

// ---- commit timestamps --------------------------------------------------------------------------------------

const COMMIT_TS_ENTRY_SIZE = 10;
const TWO_32 = 0x1_0000_0000;

/**
 * One page's part of TransactionTreeSetCommitTsData. `time` is in microseconds since 2000-01-01: the origin's
 * where the commit record has one, else the record's own.
 */
export function setCommitTs(page: Page, xids: readonly number[], time: number, nodeId: number): void {
  const high = Math.floor(time / TWO_32);
  const low = time - high * TWO_32;
  for (let i = 0; i < xids.length; i++) setCommitTsEntry(page, xids[i]!, low, high, nodeId);
}

/** One entry; `low` and `high` are the halves of the time. */
export function setCommitTsEntry(page: Page, xid: number, low: number, high: number, nodeId: number): void {
  const at = (xid % COMMIT_TS_XACTS_PER_PAGE) * COMMIT_TS_ENTRY_SIZE;
  page.view.setUint32(at, low, true);
  page.view.setInt32(at + 4, high, true);
  page.view.setUint16(at + 8, nodeId, true);
}

/** Time 0 means that none was recorded. */
export function commitTs(page: Page, xid: number): { time: number; nodeId: number } {
  const at = (xid % COMMIT_TS_XACTS_PER_PAGE) * COMMIT_TS_ENTRY_SIZE;
  const time = page.view.getInt32(at + 4, true) * TWO_32 + page.view.getUint32(at, true);
  return { time, nodeId: page.view.getUint16(at + 8, true) };
}

// ---- truncation ---------------------------------------------------------------------------------------------

const FIRST_NORMAL_XID = 3;
const FIRST_MULTIXACT_ID = 1;

/** Modular comparison of multixact ids and member offsets, which know no permanent values. */
const precedesModulo = (a: number, b: number): boolean => ((a - b) | 0) < 0;

/** CLOGPagePrecedes and CommitTsPagePrecedes: both ends of page 2 must lie ahead of page 1. */
function xidPagePrecedes(page1: number, page2: number, xactsPerPage: number): boolean {
  const xid1 = (page1 * xactsPerPage + FIRST_NORMAL_XID + 1) % TWO_32;
  const xid2 = (page2 * xactsPerPage + FIRST_NORMAL_XID + 1) % TWO_32;
  const last2 = (xid2 + xactsPerPage - 1) % TWO_32;
  return transactionIdPrecedes(xid1, xid2) && transactionIdPrecedes(xid1, last2);
}

/** MultiXactOffsetPagePrecedes (from the first multixact on) and MultiXactMemberPagePrecedes. */
function modularPagePrecedes(page1: number, page2: number, perPage: number, first: number): boolean {
  const one = (page1 * perPage + first) % TWO_32;
  const two = (page2 * perPage + first) % TWO_32;
  return precedesModulo(one, two) && precedesModulo(one, two + perPage - 1);
}

/** PagePrecedes of each SLRU. */
export function slruPagePrecedes(kind: SlruKind, page1: number, page2: number): boolean {
  switch (kind) {
    case SLRU_CLOG:
      return xidPagePrecedes(page1, page2, CLOG_XACTS_PER_PAGE);
    case SLRU_COMMIT_TS:
      return xidPagePrecedes(page1, page2, COMMIT_TS_XACTS_PER_PAGE);
    case SLRU_MULTIXACT_OFFSETS:
      return modularPagePrecedes(page1, page2, MULTIXACT_OFFSETS_PER_PAGE, FIRST_MULTIXACT_ID + 1);
    case SLRU_MULTIXACT_MEMBERS:
      return modularPagePrecedes(page1, page2, MULTIXACT_MEMBERS_PER_PAGE, 0);
  }
}

/** SlruMayDeleteSegment: a segment goes when its first and last page both precede the cutoff. */
export function slruMayDeleteSegment(kind: SlruKind, segno: number, cutoffPage: number): boolean {
  const first = segno * SLRU_PAGES_PER_SEGMENT;
  return (
    slruPagePrecedes(kind, first, cutoffPage) &&
    slruPagePrecedes(kind, first + SLRU_PAGES_PER_SEGMENT - 1, cutoffPage)
  );
}

/**
 * SimpleLruTruncate: which of the segments at hand go. With `latestPage`, the page in use now, nothing goes when
 * that page itself lies before the cutoff ("apparent wraparound").
 */
export function slruSegmentsToDelete(
  kind: SlruKind,
  segments: Iterable<number>,
  cutoffPage: number,
  latestPage?: number,
): number[] {
  if (latestPage !== undefined && slruPagePrecedes(kind, latestPage, cutoffPage)) return [];
  const gone: number[] = [];
  for (const segno of segments) if (slruMayDeleteSegment(kind, segno, cutoffPage)) gone.push(segno);
  return gone;
}
