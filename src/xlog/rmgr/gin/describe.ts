// GIN's records in words, as pg_waldump prints them. Mirrors gindesc.c; 14 to 18 agree.

import { readTidBlock } from '../../index-tuple.ts';
import type { WalRecord } from '../../record.ts';
import {
  actionEnd,
  GIN_SEGMENT_ADDITEMS,
  GIN_SEGMENT_DELETE,
  GIN_SEGMENT_INSERT,
  GIN_SEGMENT_REPLACE,
} from './recompress.ts';
import {
  GIN_INSERT_ISDATA,
  GIN_INSERT_ISLEAF,
  GIN_SPLIT_ROOT,
  INSERT_LEFT_CHILD,
  INSERT_RIGHT_CHILD,
} from './redo.ts';

const SPLIT_FLAGS = 24;
const DELETE_LIST_NDELETED = 56;

const yes = (flag: boolean): string => (flag ? 'T' : 'F');

/** The operations of which pg_waldump says nothing more. */
export const describeNothing = (): string => '';

const describeFlags = (flags: number): string =>
  `isdata: ${yes((flags & GIN_INSERT_ISDATA) !== 0)} isleaf: ${yes((flags & GIN_INSERT_ISLEAF) !== 0)}`;

export function describeInsert(record: WalRecord): string {
  const { view, mainOffset } = record;
  const flags = view.getUint16(mainOffset, true);
  const isLeaf = (flags & GIN_INSERT_ISLEAF) !== 0;
  let text = describeFlags(flags);
  if (!isLeaf) {
    const left = readTidBlock(view, mainOffset + INSERT_LEFT_CHILD);
    text += ` children: ${left}/${readTidBlock(view, mainOffset + INSERT_RIGHT_CHILD)}`;
  }
  const block = record.block(0);
  if (block.hasImage) return text + describeImage(record);
  const data = block.dataOffset;
  if ((flags & GIN_INSERT_ISDATA) === 0) return `${text} isdelete: ${yes(view.getUint8(data + 2) !== 0)}`;
  if (isLeaf) return text + describeActions(record);
  const key = data + 6;
  const child = readTidBlock(view, data + 2);
  return `${text} pitem: ${child}-${readTidBlock(view, key)}/${view.getUint16(key + 4, true)}`;
}

export function describeSplit(record: WalRecord): string {
  const flags = record.view.getUint16(record.mainOffset + SPLIT_FLAGS, true);
  return `isrootsplit: ${yes((flags & GIN_SPLIT_ROOT) !== 0)} ${describeFlags(flags)}`;
}

export const describeVacuumDataLeaf = (record: WalRecord): string =>
  record.block(0).hasImage ? describeImage(record) : describeActions(record);

export const describeDeleteListPages = (record: WalRecord): string =>
  `ndeleted: ${record.view.getInt32(record.mainOffset + DELETE_LIST_NDELETED, true)}`;

const describeImage = (record: WalRecord): string =>
  record.block(0).applyImage ? ' (full page image)' : ' (full page image, for WAL verification)';

/** desc_recompress_leaf */
function describeActions(record: WalRecord): string {
  const view = record.view;
  let at = record.block(0).dataOffset;
  const count = view.getUint16(at, true);
  let text = ` ${count} segments:`;
  at += 2;
  for (let i = 0; i < count; i++) {
    const segno = view.getUint8(at);
    const action = view.getUint8(at + 1);
    switch (action) {
      case GIN_SEGMENT_ADDITEMS:
        text += ` ${segno} (add ${view.getUint16(at + 2, true)} items)`;
        break;
      case GIN_SEGMENT_DELETE:
        text += ` ${segno} (delete)`;
        break;
      case GIN_SEGMENT_INSERT:
        text += ` ${segno} (insert)`;
        break;
      case GIN_SEGMENT_REPLACE:
        text += ` ${segno} (replace)`;
        break;
      default:
        return `${text} ${segno} unknown action ${action} ???`;
    }
    at = actionEnd(view, at);
  }
  return text;
}
