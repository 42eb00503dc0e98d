// Names of stored things in Postgres's words: a relation fork, a block of one, an SLRU.
//
// A relation file is named by (spcOid, dbOid, relNumber) and a fork. Keys for maps are strings made once per
// relation (`relKey`), never once per record: hot paths keep the relation's object or small id instead.

export const MAIN_FORKNUM = 0;
export const FSM_FORKNUM = 1;
export const VISIBILITYMAP_FORKNUM = 2;
export const INIT_FORKNUM = 3;

export const FORK_NAMES = ['main', 'fsm', 'vm', 'init'] as const;
const FORK_SUFFIX = ['', '_fsm', '_vm', '_init'] as const;

export const DEFAULTTABLESPACE_OID = 1663;
export const GLOBALTABLESPACE_OID = 1664;

/** A relation file without its fork: Postgres's RelFileLocator. */
export interface RelFileLocator {
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
}

/** One fork of a relation file: Neon's RelTag. */
export interface RelTag extends RelFileLocator {
  readonly forkNum: number;
}

export const relKey = (spcOid: number, dbOid: number, relNumber: number, forkNum: number): string =>
  `${spcOid}/${dbOid}/${relNumber}.${forkNum}`;

/** Path inside a data directory, as Postgres's relpath: `base/5/16384_fsm`. */
export function relPath(rel: RelTag): string {
  const file = `${rel.relNumber}${FORK_SUFFIX[rel.forkNum] ?? `_fork${rel.forkNum}`}`;
  if (rel.spcOid === GLOBALTABLESPACE_OID) return `global/${file}`;
  if (rel.spcOid === DEFAULTTABLESPACE_OID) return `base/${rel.dbOid}/${file}`;
  return `pg_tblspc/${rel.spcOid}/${rel.dbOid}/${file}`;
}

/** The SLRUs that travel: numbers as in Neon's page requests; commit timestamps are ours to add. */
export const SLRU_CLOG = 0;
export const SLRU_MULTIXACT_MEMBERS = 1;
export const SLRU_MULTIXACT_OFFSETS = 2;
export const SLRU_COMMIT_TS = 3;
export type SlruKind = 0 | 1 | 2 | 3;

export const SLRU_DIRECTORY = [
  'pg_xact',
  'pg_multixact/members',
  'pg_multixact/offsets',
  'pg_commit_ts',
] as const;

export const SLRU_PAGES_PER_SEGMENT = 32;
