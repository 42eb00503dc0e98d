// Keys, values and pages in words: what the inspect verbs print of them.

import { toHex } from '../../base/bytes.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import { SLRU_DIRECTORY } from '../../base/rel.ts';
import type { Dialect } from '../../xlog/dialect.ts';
import { recordDescription, recordOpName, rmgrName } from '../../xlog/inspect.ts';
import {
  BLCKSZ,
  PAGE_HEADER_SIZE,
  type Page,
  PD_ALL_VISIBLE,
  PD_CHECKSUM,
  PD_HAS_FREE_LINES,
  PD_PAGE_FULL,
  PD_PAGESIZE_VERSION,
  PD_PRUNE_XID,
  pageIsNew,
  pageLsn,
  pdFlags,
  pdLower,
  pdSpecial,
  pdUpper,
} from '../../xlog/page.ts';
import {
  itemIdFlags,
  LP_DEAD,
  LP_NORMAL,
  LP_REDIRECT,
  LP_UNUSED,
  pageGetMaxOffsetNumber,
} from '../../xlog/page-items.ts';
import { pageKind } from '../../xlog/page-kind.ts';
import { decodeRecord, WalRecord } from '../../xlog/record.ts';
import { describeEdit } from '../edit.ts';
import { BLK_SIZE, formatKey, isPageKey, isSlruRel, REL_NAMES, REL_SIZES, slruOfRel } from '../key.ts';
import { VALUE_BYTES, VALUE_EDIT, VALUE_IMAGE, VALUE_RECORD_INIT } from '../value.ts';

/** What a key is, beside its 16 digits. */
export function describeKey(rel: number, blk: number): string {
  const digits = formatKey(rel, blk);
  if (rel === REL_NAMES)
    return `${digits} ${blk === BLK_SIZE ? 'time of the newest commit' : 'names of a hash'}`;
  if (rel === REL_SIZES) return `${digits} length of fork ${blk}`;
  if (isSlruRel(rel)) {
    const name = SLRU_DIRECTORY[slruOfRel(rel)];
    return `${digits} ${name} ${blk === BLK_SIZE ? 'segments' : `page ${blk}`}`;
  }
  return `${digits} fork ${rel} block ${blk}`;
}

export interface DescribedValue {
  readonly lsn: string;
  readonly kind: string;
  readonly bytes: number;
  readonly what: string;
}

/** One value, decoded as far as it can be. */
export function describeValue(
  dialect: Dialect,
  lsn: number,
  kind: number,
  blockId: number,
  bytes: Uint8Array,
): DescribedValue {
  const base = { lsn: formatLsn(lsn as Lsn), bytes: bytes.length };
  if (kind === VALUE_IMAGE) return { ...base, kind: 'image', what: 'the page' };
  if (kind === VALUE_BYTES) return { ...base, kind: 'bytes', what: '' };
  if (kind === VALUE_EDIT) return { ...base, kind: 'edit', what: describeEdit(bytes) };
  return {
    ...base,
    kind: kind === VALUE_RECORD_INIT ? 'record, makes the page' : 'record',
    what: describeRecord(dialect, lsn as Lsn, blockId, bytes),
  };
}

function describeRecord(dialect: Dialect, lsn: Lsn, blockId: number, bytes: Uint8Array): string {
  const record = new WalRecord();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    decodeRecord(record, bytes, view, 0, lsn, lsn, dialect.imageBits);
    const said = recordDescription(dialect, record);
    const name = `${rmgrName(dialect, record)}/${recordOpName(dialect, record)}`;
    return `${name} ${said} (xid ${record.xid}, block #${blockId})`;
  } catch (error) {
    return `cannot be decoded: ${(error as Error).message}`;
  }
}

export interface DescribedPage {
  readonly kind: string;
  readonly lsn: string;
  readonly checksum: number;
  readonly flags: readonly string[];
  readonly lower: number;
  readonly upper: number;
  readonly special: number;
  readonly pageSize: number;
  readonly layoutVersion: number;
  readonly pruneXid: number;
  readonly items?: Readonly<Record<string, number>>;
}

/** The header of a relation's page. */
export function describePage(page: Page, blkno: number): DescribedPage {
  const { view } = page;
  const flags = pdFlags(page);
  const names: [number, string][] = [
    [PD_HAS_FREE_LINES, 'free lines'],
    [PD_PAGE_FULL, 'full'],
    [PD_ALL_VISIBLE, 'all visible'],
  ];
  const sizeAndVersion = view.getUint16(PD_PAGESIZE_VERSION, true);
  return {
    kind: pageKind(page, blkno),
    lsn: formatLsn(pageLsn(page)),
    checksum: view.getUint16(PD_CHECKSUM, true),
    flags: names.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name),
    lower: pdLower(page),
    upper: pdUpper(page),
    special: pdSpecial(page),
    pageSize: sizeAndVersion & 0xff00,
    layoutVersion: sizeAndVersion & 0xff,
    pruneXid: view.getUint32(PD_PRUNE_XID, true),
    ...(hasItems(page) ? { items: countItems(page) } : {}),
  };
}

const hasItems = (page: Page): boolean =>
  !pageIsNew(page) &&
  pdLower(page) >= PAGE_HEADER_SIZE &&
  pdLower(page) <= pdUpper(page) &&
  pdUpper(page) <= BLCKSZ;

const ITEM_NAMES: Readonly<Record<number, string>> = {
  [LP_UNUSED]: 'unused',
  [LP_NORMAL]: 'normal',
  [LP_REDIRECT]: 'redirect',
  [LP_DEAD]: 'dead',
};

function countItems(page: Page): Record<string, number> {
  const counts: Record<string, number> = { normal: 0, dead: 0, redirect: 0, unused: 0 };
  for (let offnum = 1; offnum <= pageGetMaxOffsetNumber(page); offnum++) {
    const name = ITEM_NAMES[itemIdFlags(page, offnum)]!;
    counts[name] = counts[name]! + 1;
  }
  return counts;
}

export const isRelationPage = (rel: number, blk: number): boolean => isPageKey(rel, blk) && !isSlruRel(rel);

/** Lines of 16 bytes with their offsets; runs of equal lines as `*`, as hexdump prints them. */
export function hexDump(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  let before = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = toHex(row).replace(/..(?!$)/g, '$& ');
    if (hex === before) {
      if (lines.at(-1) !== '*') lines.push('*');
      continue;
    }
    before = hex;
    const text = Array.from(row, b => (b >= 32 && b < 127 ? String.fromCharCode(b) : '.')).join('');
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines;
}
