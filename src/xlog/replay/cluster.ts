// A database cluster in memory: relations, SLRUs, relation maps and two-phase files, by the names they have in a
// data directory. Loaded from files, changed by replay (apply.ts), compared with files again (compare.ts).
//
// Relations are found by three numeric maps (tablespace, database, file and fork), with those found last kept at
// hand: replay asks for the same few over and over, and a string key per block would cost more than the redo.

import {
  DEFAULTTABLESPACE_OID,
  GLOBALTABLESPACE_OID,
  type RelFileLocator,
  type RelTag,
  SLRU_DIRECTORY,
  SLRU_PAGES_PER_SEGMENT,
  type SlruKind,
} from '../../base/rel.ts';
import { BLCKSZ, newPage, type Page, pageOver } from '../page.ts';
import { RelationFile } from './relation-file.ts';

const FORK_OF_SUFFIX: Readonly<Record<string, number>> = { '': 0, _fsm: 1, _vm: 2, _init: 3 };
/** A power of two. */
const RECENT_SIZE = 64;
const RELATION_FILE = /^(\d+)(_fsm|_vm|_init)?(?:\.(\d+))?$/;

export class Cluster {
  private readonly spaces = new Map<number, Map<number, Map<number, RelationFile>>>();
  /** Found lately, by the low bits of file and fork. */
  private readonly recent: (RelationFile | undefined)[] = new Array(RECENT_SIZE).fill(undefined);
  /** SLRU pages by page number. */
  readonly slrus: readonly Map<number, Page>[] = SLRU_DIRECTORY.map(() => new Map<number, Page>());
  /** pg_filenode.map by directory: `global`, `base/5`. */
  readonly relmaps = new Map<string, Uint8Array>();
  /** Prepared transactions' states by xid. */
  readonly twophase = new Map<number, Uint8Array>();
  controlFile: Uint8Array | undefined;
  backupLabel: string | undefined;
  /** The text of PG_VERSION. */
  version: string | undefined;

  find(spcOid: number, dbOid: number, relNumber: number, forkNum: number): RelationFile | undefined {
    const slot = ((relNumber << 2) | forkNum) & (RECENT_SIZE - 1);
    const last = this.recent[slot];
    if (last !== undefined) {
      const tag = last.tag;
      if (
        tag.relNumber === relNumber &&
        tag.forkNum === forkNum &&
        tag.dbOid === dbOid &&
        tag.spcOid === spcOid
      ) {
        return last;
      }
    }
    const found = this.spaces
      .get(spcOid)
      ?.get(dbOid)
      ?.get(relNumber * 4 + forkNum);
    if (found !== undefined) this.recent[slot] = found;
    return found;
  }

  findOrCreate(spcOid: number, dbOid: number, relNumber: number, forkNum: number): RelationFile {
    const found = this.find(spcOid, dbOid, relNumber, forkNum);
    if (found !== undefined) return found;
    const file = new RelationFile({ spcOid, dbOid, relNumber, forkNum });
    this.add(file);
    return file;
  }

  private add(file: RelationFile): void {
    const { spcOid, dbOid, relNumber, forkNum } = file.tag;
    let databases = this.spaces.get(spcOid);
    if (databases === undefined) this.spaces.set(spcOid, (databases = new Map()));
    let relations = databases.get(dbOid);
    if (relations === undefined) databases.set(dbOid, (relations = new Map()));
    relations.set(relNumber * 4 + forkNum, file);
  }

  /** Every fork there is. */
  *relations(): Iterable<RelationFile> {
    for (const databases of this.spaces.values()) {
      for (const relations of databases.values()) yield* relations.values();
    }
  }

  drop(rel: RelFileLocator): void {
    const relations = this.spaces.get(rel.spcOid)?.get(rel.dbOid);
    for (let fork = 0; fork < 4; fork++) relations?.delete(rel.relNumber * 4 + fork);
    this.recent.fill(undefined);
  }

  dropDatabase(spcOid: number, dbOid: number): void {
    this.spaces.get(spcOid)?.delete(dbOid);
    this.relmaps.delete(databaseDirectory(spcOid, dbOid));
    this.recent.fill(undefined);
  }

  copyDatabase(from: { spcOid: number; dbOid: number }, to: { spcOid: number; dbOid: number }): void {
    this.dropDatabase(to.spcOid, to.dbOid);
    for (const file of this.spaces.get(from.spcOid)?.get(from.dbOid)?.values() ?? []) {
      this.add(file.copyAs({ ...file.tag, spcOid: to.spcOid, dbOid: to.dbOid }));
    }
    const map = this.relmaps.get(databaseDirectory(from.spcOid, from.dbOid));
    if (map !== undefined) this.relmaps.set(databaseDirectory(to.spcOid, to.dbOid), map.slice());
  }

  /** The SLRU page of a number, made of zeros if it is not there. */
  slruPage(kind: SlruKind, pageno: number): Page {
    const pages = this.slrus[kind]!;
    let page = pages.get(pageno);
    if (page === undefined) pages.set(pageno, (page = newPage()));
    return page;
  }

  /** Take over one file of a data directory, by its path in it; false for a file that replay has no use for. */
  loadFile(path: string, bytes: Uint8Array): boolean {
    if (path === 'global/pg_control') this.controlFile = bytes;
    else if (path === 'backup_label') this.backupLabel = new TextDecoder().decode(bytes);
    else if (path === 'PG_VERSION') this.version = new TextDecoder().decode(bytes).trim();
    else if (path.endsWith('/pg_filenode.map')) this.relmaps.set(mapDirectory(path), bytes);
    else
      return this.loadSlru(path, bytes) || this.loadTwophase(path, bytes) || this.loadRelation(path, bytes);
    return true;
  }

  private loadSlru(path: string, bytes: Uint8Array): boolean {
    const kind = SLRU_DIRECTORY.findIndex(directory => path.startsWith(`${directory}/`));
    if (kind < 0) return false;
    const name = path.slice(SLRU_DIRECTORY[kind]!.length + 1);
    if (!/^[0-9A-F]{4,15}$/.test(name)) return false;
    const first = parseInt(name, 16) * SLRU_PAGES_PER_SEGMENT;
    for (let at = 0; at + BLCKSZ <= bytes.length; at += BLCKSZ) {
      this.slrus[kind]!.set(first + at / BLCKSZ, pageOver(bytes.subarray(at, at + BLCKSZ)));
    }
    return true;
  }

  private loadTwophase(path: string, bytes: Uint8Array): boolean {
    const match = /^pg_twophase\/([0-9A-F]{8}|[0-9A-F]{16})$/.exec(path);
    if (match === null) return false;
    this.twophase.set(parseInt(match[1]!.slice(-8), 16), bytes);
    return true;
  }

  private loadRelation(path: string, bytes: Uint8Array): boolean {
    const tag = parseRelationPath(path);
    if (tag === undefined) return false;
    this.findOrCreate(tag.spcOid, tag.dbOid, tag.relNumber, tag.forkNum).loadSegment(tag.segno, bytes);
    return true;
  }
}

/** `base/5/16384_fsm.1` and its like, told apart; undefined for anything else. */
export function parseRelationPath(path: string): (RelTag & { segno: number }) | undefined {
  const slash = path.lastIndexOf('/');
  const file = RELATION_FILE.exec(path.slice(slash + 1));
  const home = parseDatabaseDirectory(path.slice(0, slash));
  if (file === null || home === undefined) return undefined;
  return {
    ...home,
    relNumber: Number(file[1]),
    forkNum: FORK_OF_SUFFIX[file[2] ?? '']!,
    segno: Number(file[3] ?? 0),
  };
}

function parseDatabaseDirectory(path: string): { spcOid: number; dbOid: number } | undefined {
  if (path === 'global') return { spcOid: GLOBALTABLESPACE_OID, dbOid: 0 };
  const base = /^base\/(\d+)$/.exec(path);
  if (base !== null) return { spcOid: DEFAULTTABLESPACE_OID, dbOid: Number(base[1]) };
  const space = /^pg_tblspc\/(\d+)\/(?:[^/]+\/)?(\d+)$/.exec(path);
  if (space !== null) return { spcOid: Number(space[1]), dbOid: Number(space[2]) };
  return undefined;
}

export function databaseDirectory(spcOid: number, dbOid: number): string {
  if (spcOid === GLOBALTABLESPACE_OID) return 'global';
  return spcOid === DEFAULTTABLESPACE_OID ? `base/${dbOid}` : `pg_tblspc/${spcOid}/${dbOid}`;
}

function mapDirectory(path: string): string {
  const home = parseDatabaseDirectory(path.slice(0, path.lastIndexOf('/')));
  return home === undefined ? path : databaseDirectory(home.spcOid, home.dbOid);
}
