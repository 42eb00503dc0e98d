// A cluster as replay made it at some LSNs, kept as digests, to be compared with what a timeline says of those LSNs
// once it has gone on: every block of every fork, lengths, SLRU pages, relation maps, prepared transactions.
//
// Left out: unlogged relations, of which a log promises nothing, and which an import leaves out too.

import { createHash } from 'node:crypto';
import { formatLsn } from '../../src/base/lsn.ts';
import {
  INIT_FORKNUM,
  type RelTag,
  relKey,
  relPath,
  SLRU_DIRECTORY,
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
} from '../../src/base/rel.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { parseTwophaseName, relmapName, TWOPHASE_PREFIX } from '../../src/pageserver/names.ts';
import type { PageWanted, PgData } from '../../src/pageserver/pgdata.ts';
import { xidFromFull } from '../../src/xlog/checkpoint.ts';
import { BLCKSZ } from '../../src/xlog/page.ts';
import { Cluster, databaseDirectory } from '../../src/xlog/replay/cluster.ts';
import { prepareOfTwophaseFile } from '../../src/xlog/twophase.ts';

const ZEROS = digest(new Uint8Array(BLCKSZ));
const DIFFERENCES_MAX = 20;
const BATCH = 128;

export function digest(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('base64');
}

export interface Moment {
  readonly lsn: number;
  readonly forks: readonly { readonly tag: RelTag; readonly pages: readonly string[] }[];
  readonly slrus: readonly ReadonlyMap<number, string>[];
  readonly relmaps: ReadonlyMap<string, string>;
  readonly twophase: ReadonlyMap<number, string>;
}

/** A data directory, without its log. */
export async function loadCluster(directory: string): Promise<Cluster> {
  const cluster = new Cluster();
  const disk = hostDisk(directory);
  const walk = async (path: string): Promise<void> => {
    for (const name of await disk.list(path)) {
      const inside = path === '' ? name : `${path}/${name}`;
      if (inside === 'pg_wal') continue;
      if ((await disk.stat(inside))?.isDirectory) await walk(inside);
      else cluster.loadFile(inside, await disk.readFile(inside));
    }
  };
  await walk('');
  return cluster;
}

/** A page without its checksum, which depends on where it lies. */
export const pageDigest = (page: Uint8Array): string => {
  const copy = page.slice();
  copy.fill(0, 8, 10);
  return digest(copy);
};

/** The cluster as it stands now, after the record that ends at `lsn`. */
export function moment(cluster: Cluster, lsn: number, ofPage: (page: Uint8Array) => string = digest): Moment {
  const forks = [];
  for (const file of cluster.relations()) {
    const { spcOid, dbOid, relNumber, forkNum } = file.tag;
    const unlogged = cluster.find(spcOid, dbOid, relNumber, INIT_FORKNUM) !== undefined;
    if (unlogged && forkNum !== INIT_FORKNUM) continue;
    const pages = Array.from({ length: file.nblocks }, (_, blk) => ofPage(file.page(blk)!.bytes));
    forks.push({ tag: file.tag, pages });
  }
  return {
    lsn,
    forks,
    slrus: cluster.slrus.map(
      pages => new Map([...pages].map(([pageno, page]) => [pageno, digest(page.bytes)])),
    ),
    relmaps: new Map([...cluster.relmaps].map(([directory, bytes]) => [directory, digest(bytes)])),
    twophase: new Map(
      [...cluster.twophase].map(([xid, bytes]) => [xid, digest(prepareOfTwophaseFile(bytes))]),
    ),
  };
}

export interface HistoryComparison {
  pages: number;
  readonly differences: string[];
}

/** What a timeline says of that LSN, against what replay made. */
export async function compareMoment(pgdata: PgData, then: Moment): Promise<HistoryComparison> {
  const result: HistoryComparison = { pages: 0, differences: [] };
  const differ = (what: string): void => {
    if (result.differences.length < DIFFERENCES_MAX)
      result.differences.push(`${formatLsn(then.lsn)} ${what}`);
  };
  const snapshot = await pgdata.snapshot(then.lsn);
  const there = new Set(snapshot.relations.map(r => relKey(r.spcOid, r.dbOid, r.relNumber, r.forkNum)));
  for (const { tag, pages } of then.forks) {
    there.delete(relKey(tag.spcOid, tag.dbOid, tag.relNumber, tag.forkNum));
    await compareFork(pgdata, tag, pages, then.lsn, result, differ);
  }
  const unlogged = snapshot.relations.filter(r => r.forkNum === INIT_FORKNUM).map(r => r.relNumber);
  for (const r of snapshot.relations) {
    if (there.has(relKey(r.spcOid, r.dbOid, r.relNumber, r.forkNum)) && !unlogged.includes(r.relNumber))
      differ(`${relPath(r)} is not in the cluster`);
  }
  await compareSlrus(pgdata, then, result, differ);
  for (const [directory, map] of then.relmaps) {
    const found = [...snapshot.names].find(
      ([name]) => name.startsWith('relmap/') && nameOfDirectory(name) === directory,
    );
    if (found === undefined || digest(found[1]) !== map) differ(`${directory}/pg_filenode.map differs`);
  }
  const prepared = [...snapshot.names].filter(([name]) => name.startsWith(TWOPHASE_PREFIX));
  if (prepared.length !== then.twophase.size)
    differ(`${prepared.length} prepared transactions, not ${then.twophase.size}`);
  for (const [name, bytes] of prepared) {
    if (digest(bytes) !== then.twophase.get(xidFromFull(parseTwophaseName(name)))) differ(`${name} differs`);
  }
  return result;
}

function nameOfDirectory(name: string): string {
  const [spcOid, dbOid] = name.slice('relmap/'.length).split('/').map(Number);
  if (relmapName(spcOid!, dbOid!) !== name) throw new Error(name);
  return databaseDirectory(spcOid!, dbOid!);
}

async function compareFork(
  pgdata: PgData,
  rel: RelTag,
  pages: readonly string[],
  lsn: number,
  result: HistoryComparison,
  differ: (what: string) => void,
): Promise<void> {
  const size = await pgdata.relSize(rel, lsn);
  if (size !== pages.length) differ(`${relPath(rel)} has ${size} blocks, not ${pages.length}`);
  if (size === undefined) return;
  // One block past the end as well: it must read as zeros.
  for (let first = 0; first <= pages.length; first += BATCH) {
    const count = Math.min(BATCH, pages.length + 1 - first);
    const into = new Uint8Array(count * BLCKSZ);
    const wanted: PageWanted[] = [];
    for (let i = 0; i < count; i++) wanted.push({ rel, blkno: first + i, lsn, into, at: i * BLCKSZ });
    await pgdata.getPages(wanted);
    for (let i = 0; i < count; i++) {
      result.pages++;
      const page = into.subarray(i * BLCKSZ, (i + 1) * BLCKSZ);
      if (digest(page) !== (pages[first + i] ?? ZEROS)) differ(`${relPath(rel)} block ${first + i} differs`);
    }
  }
}

async function compareSlrus(
  pgdata: PgData,
  then: Moment,
  result: HistoryComparison,
  differ: (what: string) => void,
): Promise<void> {
  for (const [kind, pages] of then.slrus.entries()) {
    const left = new Map(pages);
    for (const segno of (await pgdata.slruSegments(kind as SlruKind, then.lsn)).keys()) {
      const bytes = (await pgdata.slruSegment(kind as SlruKind, segno, then.lsn))!;
      for (let i = 0; i * BLCKSZ < bytes.length; i++) {
        const pageno = segno * SLRU_PAGES_PER_SEGMENT + i;
        const page = bytes.subarray(i * BLCKSZ, (i + 1) * BLCKSZ);
        result.pages++;
        if (digest(page) !== (left.get(pageno) ?? ZEROS))
          differ(`${SLRU_DIRECTORY[kind]} page ${pageno} differs`);
        left.delete(pageno);
      }
    }
    for (const pageno of left.keys()) differ(`${SLRU_DIRECTORY[kind]} page ${pageno} is missing`);
  }
}
