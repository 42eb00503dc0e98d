// The record a timeline must not lose: term and term history, membership, how far its WAL is committed and where
// it went. The bytes are those of Neon's `safekeeper.control`, so that a snapshot passes between their safekeeper
// and ours either way; at rest they lie inside a sealed file.
//
//   0  magic u32 = 0xCAFECEEF
//   4  version u32                      9 while generations are not used, 10 with them; 1 to 8 are read
//   8  body                             the fields of VERSIONS[version], in order
//   n  CRC-32C u32 of all before it
//
//   little-endian throughout; text and lists are a u64 count and their items; an option is u8 0 or 1 and the
//   value; a variant is a u32; ids are text of 32 hex digits (raw bytes in versions 1 and 2)
//
// Whatever does not add up is a Fault `safekeeper-control` that says what. A version is a row of VERSIONS.
// Answers to TimelinePersistentState (safekeeper/src/state.rs) and control_file_upgrade.rs.

import { Builder, Cursor, utf8, viewOf } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { idFromBytes, type TenantId, type TimelineId, tenantId, timelineId } from '../base/ids.ts';
import { INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { type MembershipConfiguration, NO_MEMBERSHIP, type SafekeeperId } from '../protocol/membership.ts';
import type { Term, TermHistory, TermSwitch } from '../protocol/walproposer.ts';
import { crc32c } from '../xlog/crc32c.ts';

export const CONTROL_MAGIC = 0xcafeceef;
export const CONTROL_FILE_NAME = 'safekeeper.control';

export interface ServerInfo {
  /** PG_VERSION_NUM, such as 170005; 0 is unknown. */
  readonly pgVersion: number;
  /** 0 for a timeline that no real compute has greeted. */
  readonly systemId: bigint;
  readonly walSegSize: number;
}

/** A partial segment in the object store, or one that may be there. */
export interface PartialSegment {
  readonly status: 'in-progress' | 'uploaded' | 'deleting';
  readonly name: string;
  readonly commitLsn: Lsn;
  readonly flushLsn: Lsn;
  /** The term of the last entry in it, not the term voted for. */
  readonly term: Term;
}

/** Local WAL is here, or only in the object store up to `flushLsn`. */
export type EvictionState =
  | { readonly kind: 'present' }
  | { readonly kind: 'offloaded'; readonly flushLsn: Lsn };

export interface ControlState {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly membership: MembershipConfiguration;
  /** The highest term seen in a vote, an election or a bump. Never goes back. */
  readonly term: Term;
  /** Where each term's WAL begins. Often reaches past the WAL there is: it is adopted before it is filled. */
  readonly termHistory: TermHistory;
  readonly server: ServerInfo;
  /** 32 hex digits; for people only. */
  readonly proposerUuid: string;
  /** Where the timeline begins anywhere; 0 until known. */
  readonly timelineStartLsn: Lsn;
  /** Where this node's WAL begins (or began, before removal). */
  readonly localStartLsn: Lsn;
  /** Committed by a quorum and durable here. A record boundary: the search for the end of WAL begins here. */
  readonly commitLsn: Lsn;
  /** End of the last whole segment in the object store. */
  readonly backupLsn: Lsn;
  /** WAL from here on may be needed to bring a peer up to date; `truncate_lsn` on the wire. */
  readonly peerHorizonLsn: Lsn;
  /** A pageserver has all before this in the object store. */
  readonly remoteConsistentLsn: Lsn;
  readonly partialSegments: readonly PartialSegment[];
  readonly eviction: EvictionState;
  /** Milliseconds since 1970; 0 if older than the field. */
  readonly createdMs: number;
}

type Fields = { -readonly [K in keyof ControlState]?: ControlState[K] };
type Read = (cursor: Cursor, into: Fields) => void;

const u64 = (c: Cursor): number => {
  const value = c.u64le();
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(`a number past 2^53 at ${c.at - 8}`);
  return Number(value);
};
const text = (c: Cursor): string => new TextDecoder().decode(c.raw(u64(c)));
function list<T>(c: Cursor, item: () => T): T[] {
  const count = u64(c);
  if (count > c.left) throw damaged(`${count} items in ${c.left} bytes`);
  return Array.from({ length: count }, item);
}
const history = (c: Cursor): TermSwitch[] => list(c, () => ({ term: u64(c), lsn: c.lsnle() }));
const members = (c: Cursor): SafekeeperId[] =>
  list(c, () => ({ id: u64(c), host: text(c), pgPort: c.u16le() }));
const server = (c: Cursor): ServerInfo => ({
  pgVersion: c.u32le(),
  systemId: c.u64le(),
  walSegSize: c.u32le(),
});

const PARTIAL_STATUS = ['in-progress', 'uploaded', 'deleting'] as const;

function variant<T>(c: Cursor, names: readonly T[], what: string): T {
  const index = c.u32le();
  const name = names[index];
  if (name === undefined) throw damaged(`${what} ${index}`);
  return name;
}

const lsnOf =
  (
    name:
      | 'timelineStartLsn'
      | 'localStartLsn'
      | 'commitLsn'
      | 'backupLsn'
      | 'peerHorizonLsn'
      | 'remoteConsistentLsn',
  ): Read =>
  (c, into) => {
    into[name] = c.lsnle();
  };

/** How each field is read. */
const FIELD = {
  ids: (c, into) => {
    into.tenantId = tenantId(text(c));
    into.timelineId = timelineId(text(c));
  },
  membership: (c, into) => {
    const generation = c.u32le();
    const current = members(c);
    into.membership = { generation, members: current, newMembers: c.u8() === 0 ? undefined : members(c) };
  },
  /** Version 1: the term of the last entry in place of a history. */
  epoch: (c, into) => {
    into.term = u64(c);
    into.termHistory = [{ term: u64(c), lsn: INVALID_LSN }];
  },
  terms: (c, into) => {
    into.term = u64(c);
    into.termHistory = history(c);
  },
  server: (c, into) => {
    into.server = server(c);
  },
  /** Versions 1 to 3 kept the ids inside; raw, then as text. */
  serverRawIds: (c, into) => {
    const [pgVersion, systemId] = [c.u32le(), c.u64le()];
    into.tenantId = tenantId(idFromBytes(c.raw(16)));
    into.timelineId = timelineId(idFromBytes(c.raw(16)));
    into.server = { pgVersion, systemId, walSegSize: c.u32le() };
  },
  serverTextIds: (c, into) => {
    const [pgVersion, systemId] = [c.u32le(), c.u64le()];
    into.tenantId = tenantId(text(c));
    into.timelineId = timelineId(text(c));
    into.server = { pgVersion, systemId, walSegSize: c.u32le() };
  },
  uuid: (c, into) => {
    into.proposerUuid = text(c);
  },
  uuidRaw: (c, into) => {
    into.proposerUuid = idFromBytes(c.raw(16));
  },
  timelineStart: lsnOf('timelineStartLsn'),
  localStart: lsnOf('localStartLsn'),
  commit: lsnOf('commitLsn'),
  backup: lsnOf('backupLsn'),
  peerHorizon: lsnOf('peerHorizonLsn'),
  remoteConsistent: lsnOf('remoteConsistentLsn'),
  /** A position nobody uses any more. */
  unused: c => c.skip(8),
  /** Peers as they once were: u64 id, then backup, term, flush, commit. */
  peers: c => {
    list(c, () => c.skip(40));
  },
  partial: (c, into) => {
    into.partialSegments = list(c, () => ({
      status: variant(c, PARTIAL_STATUS, 'partial segment status'),
      name: text(c),
      commitLsn: c.lsnle(),
      flushLsn: c.lsnle(),
      term: u64(c),
    }));
  },
  eviction: (c, into) => {
    const kind = variant(c, ['present', 'offloaded'] as const, 'eviction state');
    into.eviction = kind === 'present' ? { kind } : { kind, flushLsn: c.lsnle() };
  },
  created: (c, into) => {
    into.createdMs = u64(c) * 1000 + Math.floor(c.u32le() / 1_000_000);
  },
} satisfies Record<string, Read>;

type FieldName = keyof typeof FIELD;

// biome-ignore format: rows
const POSITIONS: readonly FieldName[] = ['timelineStart', 'localStart', 'commit', 'backup', 'peerHorizon', 'remoteConsistent'];
// biome-ignore format: rows
const V7: readonly FieldName[] = ['ids', 'terms', 'server', 'uuid', ...POSITIONS, 'peers'];

/** The fields of each version, in order. */
// biome-ignore format: rows
export const VERSIONS: Readonly<Record<number, readonly FieldName[]>> = {
  1: ['epoch', 'serverRawIds', 'uuidRaw', 'commit', 'peerHorizon', 'unused'],
  2: ['terms', 'serverRawIds', 'uuidRaw', 'commit', 'peerHorizon', 'unused'],
  3: ['terms', 'serverTextIds', 'uuid', 'commit', 'peerHorizon', 'unused'],
  4: ['ids', 'terms', 'server', 'uuid', 'commit', 'unused', 'peerHorizon', 'remoteConsistent', 'peers'],
  5: V7,
  6: V7,
  7: V7,
  8: [...V7, 'partial'],
  9: [...V7, 'partial', 'eviction'],
  10: ['ids', 'membership', 'terms', 'server', 'uuid', ...POSITIONS, 'partial', 'eviction', 'created'],
};

const ABSENT: Fields = {
  membership: NO_MEMBERSHIP,
  timelineStartLsn: INVALID_LSN,
  localStartLsn: INVALID_LSN,
  commitLsn: INVALID_LSN,
  backupLsn: INVALID_LSN,
  peerHorizonLsn: INVALID_LSN,
  remoteConsistentLsn: INVALID_LSN,
  partialSegments: [],
  eviction: { kind: 'present' },
  createdMs: 0,
};

function damaged(reason: string, cause?: unknown): Fault {
  return new Fault('safekeeper-control', `safekeeper control record: ${reason}`, {
    hint: 'Restore the timeline from a peer (delete it here with only_local=true, then pull_timeline), or put back a copy of its directory.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The record in its bytes; `version` is told beside it. */
export function decodeControlState(bytes: Uint8Array): { version: number; state: ControlState } {
  if (bytes.length < 12) throw damaged(`${bytes.length} bytes are too few`);
  const end = bytes.length - 4;
  const stored = viewOf(bytes).getUint32(end, true);
  const computed = crc32c(bytes, 0, end);
  if (stored !== computed) {
    throw damaged(`checksum ${computed.toString(16)}, ${stored.toString(16)} is stored`);
  }
  const cursor = new Cursor(bytes, 0, end);
  const magic = cursor.u32le();
  if (magic !== CONTROL_MAGIC)
    throw damaged(`magic ${magic.toString(16)}, not ${CONTROL_MAGIC.toString(16)}`);
  const version = cursor.u32le();
  const row = VERSIONS[version];
  if (row === undefined) throw damaged(`version ${version} is not known; a newer build wrote it`);
  const fields: Fields = { ...ABSENT };
  try {
    for (const name of row) FIELD[name](cursor, fields);
  } catch (error) {
    if (isFault(error, 'safekeeper-control')) throw error;
    throw damaged(error instanceof Error ? error.message : 'unreadable', error);
  }
  if (cursor.left !== 0) throw damaged(`${cursor.left} bytes too many for version ${version}`);
  return { version, state: upgraded(version, fields as ControlState) };
}

/** What older versions could leave unsaid and later ones may not. */
function upgraded(version: number, state: ControlState): ControlState {
  if (version === 5 && state.timelineStartLsn === INVALID_LSN) {
    // The true start is not known; 1 is "known, and before everything".
    return { ...state, timelineStartLsn: 1 as Lsn, localStartLsn: 1 as Lsn };
  }
  if (version === 6 && state.server.pgVersion === 0) {
    return { ...state, server: { ...state.server, pgVersion: 140005 } };
  }
  return state;
}

const put = {
  u64: (b: Builder, v: number): Builder => b.u64le(BigInt(v)),
  text: (b: Builder, v: string): void => {
    const bytes = utf8(v);
    b.u64le(BigInt(bytes.length)).raw(bytes);
  },
  members: (b: Builder, set: readonly SafekeeperId[]): void => {
    put.u64(b, set.length);
    for (const member of set) {
      put.u64(b, member.id);
      put.text(b, member.host);
      b.u16le(member.pgPort);
    }
  },
};

/** The bytes of a record: version 9 while generations are not used, so that older peers can read it, else 10. */
export function encodeControlState(state: ControlState): Uint8Array {
  const generations = state.membership.generation !== 0;
  const b = new Builder(512);
  b.u32le(CONTROL_MAGIC).u32le(generations ? 10 : 9);
  put.text(b, state.tenantId);
  put.text(b, state.timelineId);
  if (generations) {
    b.u32le(state.membership.generation);
    put.members(b, state.membership.members);
    b.u8(state.membership.newMembers === undefined ? 0 : 1);
    if (state.membership.newMembers !== undefined) put.members(b, state.membership.newMembers);
  }
  put.u64(b, state.term);
  put.u64(b, state.termHistory.length);
  for (const entry of state.termHistory) put.u64(b, entry.term).lsnle(entry.lsn);
  b.u32le(state.server.pgVersion).u64le(state.server.systemId).u32le(state.server.walSegSize);
  put.text(b, state.proposerUuid);
  b.lsnle(state.timelineStartLsn).lsnle(state.localStartLsn).lsnle(state.commitLsn);
  b.lsnle(state.backupLsn).lsnle(state.peerHorizonLsn).lsnle(state.remoteConsistentLsn);
  if (!generations) put.u64(b, 0);
  put.u64(b, state.partialSegments.length);
  for (const segment of state.partialSegments) {
    b.u32le(PARTIAL_STATUS.indexOf(segment.status));
    put.text(b, segment.name);
    b.lsnle(segment.commitLsn).lsnle(segment.flushLsn);
    put.u64(b, segment.term);
  }
  if (state.eviction.kind === 'present') b.u32le(0);
  else b.u32le(1).lsnle(state.eviction.flushLsn);
  if (generations) {
    put.u64(b, Math.floor(state.createdMs / 1000));
    b.u32le((state.createdMs % 1000) * 1_000_000);
  }
  const body = b.finish();
  return new Builder(body.length + 4)
    .raw(body)
    .u32le(crc32c(body, 0, body.length))
    .finish();
}

export const NO_PROPOSER_UUID = idFromBytes(new Uint8Array(16));

/** Nothing to persist: field by field the same, the history entry by entry. */
export function sameControl(a: ControlState, b: ControlState): boolean {
  for (const key of Object.keys(a) as (keyof ControlState)[]) {
    if (key !== 'termHistory' && a[key] !== b[key]) return false;
  }
  return sameHistory(a.termHistory, b.termHistory);
}

export const sameHistory = (a: TermHistory, b: TermHistory): boolean =>
  a === b || (a.length === b.length && a.every((e, i) => e.term === b[i]!.term && e.lsn === b[i]!.lsn));
