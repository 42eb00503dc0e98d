// Everything of a cluster that is not a page, as it stood at one LSN: read in two scans and a few lookups. What a
// start loads, and what a base backup is made from.

import { SLRU_DIRECTORY, type SlruKind } from '../base/rel.ts';
import { type RelationEntry, readRelationEntry, readSizeEntry, type SizeEntry } from './directory.ts';
import { BLK_SIZE, REL_NAMES, REL_SIZES, relOfSlru } from './key.ts';
import { parseRelationName, RELATION_PREFIX, readBucket } from './names.ts';
import { readSegments, type Segments } from './slru-store.ts';
import type { Timeline } from './timeline/timeline.ts';

export interface RelationAt extends RelationEntry {
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
  readonly forkNum: number;
}

export interface Snapshot {
  readonly lsn: number;
  /** All but the relations. */
  readonly names: ReadonlyMap<string, Uint8Array>;
  readonly relations: readonly RelationAt[];
  /** By id. */
  readonly sizes: ReadonlyMap<number, SizeEntry>;
  /** By kind. */
  readonly slrus: readonly Segments[];
  /** The newest commit's time, in microseconds since 2000-01-01; undefined before the first. */
  readonly commitTime: number | undefined;
}

const KEY = { blk: 0 } as const;

/** `visitDropped` is told the ids of forks that are no more. */
export async function readSnapshot(
  timeline: Timeline,
  lsn: number,
  visitDropped?: (id: number, size: SizeEntry) => void,
): Promise<Snapshot> {
  const names = new Map<string, Uint8Array>();
  const relations: RelationAt[] = [];
  const sizes = new Map<number, SizeEntry>();
  let commitTime: number | undefined;
  await timeline.scan(
    { start: { rel: REL_NAMES, ...KEY }, end: { rel: REL_NAMES + 1, ...KEY } },
    lsn,
    (_rel, blk, bytes) => {
      if (blk === BLK_SIZE) commitTime = readCommitTime(bytes).time;
      else readBucket(bytes, (name, contents) => sort(name, contents, names, relations));
    },
  );
  await timeline.scan(
    { start: { rel: REL_SIZES, ...KEY }, end: { rel: REL_SIZES + 1, ...KEY } },
    lsn,
    (_rel, blk, bytes) => {
      const size = readSizeEntry(bytes);
      if (!size.dropped) sizes.set(blk, size);
      else visitDropped?.(blk, size);
    },
  );
  const lists = SLRU_DIRECTORY.map((_, kind) =>
    timeline.getBytes(relOfSlru(kind as SlruKind), BLK_SIZE, lsn),
  );
  const slrus = (await Promise.all(lists)).map(readSegments);
  return { lsn, names, relations, sizes, slrus, commitTime };
}

function sort(
  name: string,
  contents: Uint8Array,
  names: Map<string, Uint8Array>,
  relations: RelationAt[],
): void {
  if (!name.startsWith(RELATION_PREFIX)) {
    names.set(name, contents);
    return;
  }
  const [spcOid, dbOid, relNumber, forkNum] = parseRelationName(name);
  relations.push({ spcOid, dbOid, relNumber, forkNum, ...readRelationEntry(contents) });
}

// ---- the newest commit, under (REL_NAMES, BLK_SIZE) ----------------------------------------------------------------
//
//   0 time f64, microseconds since 2000-01-01 | 8 u32: how far before the value's LSN the commit's record begins

export const COMMIT_TIME_SIZE = 12;

export interface CommitTime {
  readonly time: number;
  readonly back: number;
}

export function readCommitTime(bytes: Uint8Array): CommitTime {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { time: view.getFloat64(0, true), back: view.getUint32(8, true) };
}

export function writeCommitTime(view: DataView, { time, back }: CommitTime): void {
  view.setFloat64(0, time, true);
  view.setUint32(8, back, true);
}
