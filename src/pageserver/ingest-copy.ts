// CREATE DATABASE by copied files (and, in 14, any): the source's forks, block by block, as they stand before this
// record, under the new database's names. The one thing that ingest waits for: pages have to be read.
//
// The new blocks are images. A page of zeros is not stored: that is how a block without values reads. The copy is one
// record's work and so must fit into memory: nothing is flushed in the middle of a record.
//
// Mirrors dbase_redo (copydir) of dbcommands.c.

import type { EffectOf } from '../xlog/effects.ts';
import { BLCKSZ } from '../xlog/page.ts';
import type { RelFork } from './directory.ts';
import type { Ingest } from './ingest.ts';
import { relmapName } from './names.ts';
import { VALUE_IMAGE } from './value.ts';

/** Pages read at a time. */
const BATCH = 64;

export async function copyDatabase(
  ingest: Ingest,
  effect: EffectOf<'database-copy'>,
  lsn: number,
): Promise<void> {
  const { writer } = ingest;
  const { directory, names } = ingest.pgdata;
  const { dbOid, spcOid, srcDbOid, srcSpcOid } = effect;
  for (const fork of directory.forksOf(spcOid, dbOid)) directory.drop(writer, lsn, fork);
  for (const source of directory.forksOf(srcSpcOid, srcDbOid)) {
    const target = directory.create(writer, lsn, spcOid, dbOid, source.relNumber, source.forkNum);
    await copyFork(ingest, source, target, lsn);
  }
  const map = names.get(relmapName(srcSpcOid, srcDbOid));
  if (map === undefined) names.remove(writer, lsn, relmapName(spcOid, dbOid));
  else names.put(writer, lsn, relmapName(spcOid, dbOid), map);
}

async function copyFork(ingest: Ingest, source: RelFork, target: RelFork, lsn: number): Promise<void> {
  const { writer, lastRecordLsn } = ingest;
  for (let first = 0; first < source.nblocks; first += BATCH) {
    const blocks: number[] = [];
    for (let blk = first; blk < Math.min(first + BATCH, source.nblocks); blk++) {
      if (ingest.holds(source, blk)) blocks.push(blk);
    }
    const pages = await Promise.all(blocks.map(blk => writer.getPage(source.id, blk, lastRecordLsn)));
    pages.forEach((page, i) => {
      if (!isZero(page)) writer.put(target.id, blocks[i]!, lsn, VALUE_IMAGE, 0, page, 0, BLCKSZ);
    });
  }
  ingest.pgdata.directory.resize(target, lsn, source.nblocks);
  ingest.pgdata.directory.storeSize(writer, lsn, target);
}

export function isZero(page: Uint8Array): boolean {
  for (let at = 0; at < page.length; at++) if (page[at] !== 0) return false;
  return true;
}
