// The pages, lengths and files of a cluster at any LSN of a timeline: Postgres's words in, keys out.
//
//   relation fork at LSN  -> its id (directory.ts; in memory for all but the distant past)
//   block at LSN          -> a page; zeros past the fork's length at that LSN, whatever its keys hold from before
//
// Reads at the newest LSN, which are nearly all, find id and length in memory and cost one page read. A read of
// the distant past asks the timeline for both, and a few of the answers are kept: who reads at a fixed old LSN
// asks the same again and again.
//
// Pages of a cluster with data checksums leave with the right one: redo does not keep it (Postgres computes it as
// a page is written out), so it is set on the way out.
//
// Answers to pgdatadir_mapping.rs of Neon's pageserver (get_rel_page_at_lsn, get_rel_size, get_db_size,
// get_slru_segment).

import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import {
  DEFAULTTABLESPACE_OID,
  type RelTag,
  relPath,
  SLRU_DIRECTORY,
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
} from '../base/rel.ts';
import { type CheckPoint, readCheckpoint } from '../xlog/checkpoint.ts';
import { setPageChecksum } from '../xlog/checksum.ts';
import { type ControlFile, readControlFile } from '../xlog/control-file.ts';
import type { Dialect } from '../xlog/dialect.ts';
import { BLCKSZ, pageOver } from '../xlog/page.ts';
import { DEFAULT_SEGMENT_SIZE } from '../xlog/segment.ts';
import { Directory, NOT_KNOWN, readRelationEntry, readSizeEntry, type SizeEntry } from './directory.ts';
import { BLK_SIZE, nameHash, REL_NAMES, REL_SIZES, relOfSlru } from './key.ts';
import { CHECKPOINT_NAME, CONTROL_FILE_NAME, findInBucket, Names, relationName } from './names.ts';
import { readSegments, SlruStore } from './slru-store.ts';
import { readSnapshot, type Snapshot } from './snapshot.ts';
import type { PageRequest, Timeline } from './timeline/timeline.ts';

/** A block and where its page goes: 8192 bytes of `into` from `at` on. */
export interface PageWanted {
  readonly rel: RelTag;
  readonly blkno: number;
  readonly lsn: number;
  readonly into: Uint8Array;
  readonly at: number;
}

/** Not an id: the fork has no such block at that LSN. */
const PAST_END = 0;
const PAST_ANSWERS_MAX = 4096;

export class PgData {
  readonly timeline: Timeline;
  readonly dialect: Dialect;
  /** The newest state; ingest changes it, and it may be ahead of what readers may see. */
  readonly names = new Names();
  readonly directory = new Directory(this.names);
  readonly slrus = new SlruStore();
  /** The newest commit's time, in microseconds since 2000-01-01; it never goes back. */
  commitTime: number | undefined;
  /** Pages carry checksums. */
  hasChecksums = false;
  /** Of the log: initdb --wal-segsize. */
  walSegmentSize = DEFAULT_SEGMENT_SIZE;

  private loading: Promise<void> | undefined;
  /** The newest state is here. */
  isLoaded = false;
  /** Ids (`name@lsn`) and lengths (`id@lsn`) of the past, the last ones asked for. */
  private readonly past = new Map<string, Promise<number | undefined>>();

  constructor(timeline: Timeline, dialect: Dialect) {
    this.timeline = timeline;
    this.dialect = dialect;
  }

  /** Load the newest state, once; everything else waits for this by itself. */
  ready(): Promise<void> {
    this.loading ??= this.load();
    return this.loading;
  }

  private async load(): Promise<void> {
    try {
      const { directory, timeline } = this;
      const dropped = (id: number, size: SizeEntry): void => directory.loadSize(id, size);
      this.take(await readSnapshot(timeline, timeline.lastRecordLsn, dropped));
    } catch (error) {
      this.loading = undefined;
      throw error;
    }
  }

  private take(snapshot: Snapshot): void {
    const { lsn } = snapshot;
    for (const [name, contents] of snapshot.names) this.names.load(name, contents);
    for (const relation of snapshot.relations) this.directory.loadRelation(relation, relation, lsn);
    for (const [id, size] of snapshot.sizes) this.directory.loadSize(id, size);
    for (const kind of SLRU_KINDS) this.slrus.load(kind, snapshot.slrus[kind]!);
    this.directory.loaded(lsn);
    this.commitTime = snapshot.commitTime;
    const control = this.names.get(CONTROL_FILE_NAME);
    if (control !== undefined) this.settle(readControlFile(control));
    this.isLoaded = true;
  }

  /** What pg_control says for the life of a cluster. */
  settle(control: ControlFile): void {
    this.hasChecksums = control.dataChecksumVersion !== 0;
    this.walSegmentSize = control.xlogSegSize;
  }

  /** Bytes of all relations, newest state. */
  get logicalSize(): number {
    return this.directory.blocks * BLCKSZ;
  }

  // ---- relations --------------------------------------------------------------------------------------------

  async relExists(rel: RelTag, lsn: number): Promise<boolean> {
    await this.ready();
    return (await this.idAt(rel, lsn)) !== undefined;
  }

  /** Blocks; undefined when there is no such fork. */
  async relSize(rel: RelTag, lsn: number): Promise<number | undefined> {
    await this.ready();
    const fork = this.directory.at(rel.spcOid, rel.dbOid, rel.relNumber, rel.forkNum, lsn);
    if (fork === undefined) return undefined;
    if (fork !== NOT_KNOWN) return lsn >= fork.sizeLsn ? fork.nblocks : this.sizeAt(fork.id, lsn);
    const id = await this.idAt(rel, lsn);
    return id === undefined ? undefined : this.sizeAt(id, lsn);
  }

  /** 8192 bytes, the caller's own. */
  async getPage(rel: RelTag, blkno: number, lsn: number): Promise<Uint8Array> {
    const page = new Uint8Array(BLCKSZ);
    await this.getPages([{ rel, blkno, lsn, into: page, at: 0 }]);
    return page;
  }

  /** Many pages at once. */
  async getPages(wanted: readonly PageWanted[]): Promise<void> {
    if (!this.isLoaded) await this.ready();
    const requests: PageRequest[] = [];
    for (const { rel, blkno, lsn, into, at } of wanted) {
      const found = this.locate(rel, blkno, lsn);
      const id = typeof found === 'number' ? found : await found;
      if (id === PAST_END) into.fill(0, at, at + BLCKSZ);
      else requests.push({ rel: id, blk: blkno, lsn, into, at });
    }
    if (requests.length > 0) await this.timeline.getPages(requests);
    if (!this.hasChecksums) return;
    for (const { blk, into, at } of requests) setPageChecksum(pageOver(into.subarray(at, at + BLCKSZ)), blk);
  }

  /** `count` blocks of a fork that is known to have them, one after the other. */
  async blocks(id: number, first: number, count: number, lsn: number): Promise<Uint8Array> {
    const into = new Uint8Array(count * BLCKSZ);
    const requests = Array.from({ length: count }, (_, i) => ({
      rel: id,
      blk: first + i,
      lsn,
      into,
      at: i * BLCKSZ,
    }));
    await this.timeline.getPages(requests);
    if (this.hasChecksums) {
      for (const { blk, at } of requests) setPageChecksum(pageOver(into.subarray(at, at + BLCKSZ)), blk);
    }
    return into;
  }

  /** Under which id to read a block, PAST_END when the fork is not that long. */
  private locate(rel: RelTag, blkno: number, lsn: number): number | Promise<number> {
    const fork = this.directory.at(rel.spcOid, rel.dbOid, rel.relNumber, rel.forkNum, lsn);
    if (fork === undefined) throw missing(rel, lsn);
    if (fork === NOT_KNOWN || fork.lengthMatters(blkno, lsn)) return this.locatePast(rel, blkno, lsn);
    return blkno < fork.nblocks ? fork.id : PAST_END;
  }

  private async locatePast(rel: RelTag, blkno: number, lsn: number): Promise<number> {
    const id = await this.idAt(rel, lsn);
    if (id === undefined) throw missing(rel, lsn);
    return blkno < ((await this.sizeAt(id, lsn)) ?? 0) ? id : PAST_END;
  }

  private idAt(rel: RelTag, lsn: number): Promise<number | undefined> | number | undefined {
    const fork = this.directory.at(rel.spcOid, rel.dbOid, rel.relNumber, rel.forkNum, lsn);
    if (fork !== NOT_KNOWN) return fork?.id;
    const name = relationName(rel.spcOid, rel.dbOid, rel.relNumber, rel.forkNum);
    return this.remembered(`${name}@${lsn}`, async () => {
      const entry = await this.getName(name, lsn);
      return entry === undefined ? undefined : readRelationEntry(entry).id;
    });
  }

  private sizeAt(id: number, lsn: number): Promise<number | undefined> {
    return this.remembered(`${id}@${lsn}`, async () => {
      const bytes = await this.timeline.getBytes(REL_SIZES, id, lsn);
      const size = bytes === undefined ? undefined : readSizeEntry(bytes);
      return size === undefined || size.dropped ? undefined : size.nblocks;
    });
  }

  private remembered(key: string, ask: () => Promise<number | undefined>): Promise<number | undefined> {
    let answer = this.past.get(key);
    if (answer !== undefined) return answer;
    if (this.past.size >= PAST_ANSWERS_MAX) this.past.delete(this.past.keys().next().value!);
    answer = ask();
    answer.catch(() => this.past.delete(key));
    this.past.set(key, answer);
    return answer;
  }

  /** Bytes of a database's relations in the default tablespace. */
  async dbSize(dbOid: number, lsn: number): Promise<number> {
    await this.ready();
    let blocks = 0;
    if (lsn < this.directory.exactFrom) {
      const { relations, sizes } = await readSnapshot(this.timeline, lsn);
      for (const { spcOid, dbOid: db, id } of relations) {
        if (spcOid === DEFAULTTABLESPACE_OID && db === dbOid) blocks += sizes.get(id)?.nblocks ?? 0;
      }
      return blocks * BLCKSZ;
    }
    for (const fork of this.directory.forksAt(DEFAULTTABLESPACE_OID, dbOid, lsn)) {
      blocks += lsn >= fork.sizeLsn ? fork.nblocks : ((await this.sizeAt(fork.id, lsn)) ?? 0);
    }
    return blocks * BLCKSZ;
  }

  // ---- SLRUs ------------------------------------------------------------------------------------------------

  /** The pages of a segment one after the other; undefined when there is no such segment. */
  async slruSegment(kind: SlruKind, segno: number, lsn: number): Promise<Uint8Array | undefined> {
    const list = await this.timeline.getBytes(relOfSlru(kind), BLK_SIZE, lsn);
    const pages = readSegments(list).get(segno);
    return pages === undefined ? undefined : this.slruPages(kind, segno, pages, lsn);
  }

  /** The first `pages` pages of a segment that is known to have as many. */
  async slruPages(kind: SlruKind, segno: number, pages: number, lsn: number): Promise<Uint8Array> {
    const into = new Uint8Array(pages * BLCKSZ);
    const first = segno * SLRU_PAGES_PER_SEGMENT;
    const rel = relOfSlru(kind);
    await this.timeline.getPages(
      Array.from({ length: pages }, (_, i) => ({ rel, blk: first + i, lsn, into, at: i * BLCKSZ })),
    );
    return into;
  }

  /** Segments of an SLRU and their lengths in pages. */
  async slruSegments(kind: SlruKind, lsn: number): Promise<ReadonlyMap<number, number>> {
    return readSegments(await this.timeline.getBytes(relOfSlru(kind), BLK_SIZE, lsn));
  }

  // ---- names ------------------------------------------------------------------------------------------------

  async getName(name: string, lsn: number): Promise<Uint8Array | undefined> {
    return findInBucket(await this.timeline.getBytes(REL_NAMES, nameHash(name), lsn), name);
  }

  /** Everything but pages as of an LSN. */
  snapshot(lsn: number): Promise<Snapshot> {
    return readSnapshot(this.timeline, lsn);
  }

  /** pg_control as it was imported. */
  async controlFile(lsn: number): Promise<ControlFile> {
    return readControlFile(await this.required(CONTROL_FILE_NAME, lsn));
  }

  /** The CheckPoint struct as checkpoint-tracker.ts keeps it. */
  async checkpoint(lsn: number): Promise<CheckPoint> {
    const bytes = await this.required(CHECKPOINT_NAME, lsn);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return readCheckpoint(view, 0, this.dialect.controlFile);
  }

  private async required(name: string, lsn: number): Promise<Uint8Array> {
    const bytes = await this.getName(name, lsn);
    if (bytes === undefined) throw noSuchName(name, lsn);
    return bytes;
  }
}

export const noSuchName = (name: string, lsn: number): Fault =>
  new Fault('timeline-missing', `the timeline has no ${name} at ${formatLsn(lsn)}`, {
    hint: 'Nothing was imported into it yet, or the LSN lies before its beginning.',
  });

const missing = (rel: RelTag, lsn: number): Fault =>
  new Fault('relation-missing', `relation ${relPath(rel)} does not exist at ${formatLsn(lsn)}`);

/** Every SLRU. */
const SLRU_KINDS: readonly SlruKind[] = SLRU_DIRECTORY.map((_, kind) => kind as SlruKind);
