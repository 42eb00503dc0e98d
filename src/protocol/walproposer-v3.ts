// Version 3 of the messages between walproposer and safekeeper: big-endian, a one-byte tag, generations.
//
//   to the acceptor
//     greeting    'g' | tenant cstr | timeline cstr | mconf | pg_version u32 | system_id u64 | wal_seg_size u32
//     vote        'v' | generation u32 | term u64
//     elected     'e' | generation u32 | term u64 | start_streaming_at u64 | n u32 | n * ( term u64 | lsn u64 )
//     append      'a' | generation u32 | term u64 | begin u64 | end u64 | commit u64 | truncate u64 | WAL
//   to the proposer
//     greeting    'g' | node_id u64 | mconf | term u64
//     vote        'v' | generation u32 | term u64 | given u8 | flush u64 | truncate u64 | n u32 | n * ( term, lsn )
//     append      'a' | generation u32 | term u64 | flush u64 | commit u64 | hs_ts i64 | hs_xmin u64 |
//                 hs_catalog_xmin u64 | feedback or nothing
//   mconf         generation u32 | n u32 | n * member | m u32 | m * member     member: id u64 | host cstr | port u16
//
// A message is consumed exactly; anything left over is a violation, as the compute also holds.
//
// Answers to ProposerAcceptorMessage::parse, AcceptorProposerMessage::serialize of safekeeper/src/safekeeper.rs and
// PAMessageSerialize, AsyncReadMessage of pgxn/neon/walproposer.c.

import { Builder, Cursor, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { tenantId, timelineId } from '../base/ids.ts';
import { readLsnBE } from '../base/lsn.ts';
import { readFeedback, writeFeedback } from './feedback.ts';
import type { MembershipConfiguration, SafekeeperId } from './membership.ts';
import {
  type AcceptorMessage,
  APPEND_BYTES_MAX,
  type AppendRequest,
  type AppendResponse,
  type ProposerMessage,
  type TermHistory,
  type TermSwitch,
} from './walproposer.ts';

const GREETING = 0x67; // g
const VOTE = 0x76; // v
const ELECTED = 0x65; // e
const APPEND = 0x61; // a

/** Bytes before the WAL of an append. */
export const APPEND_HEADER_BYTES = 45;

const HIGH = 0x1_0000_0000;

/** A u64 that is small in practice: a term, a node id. */
export function smallU64(high: number, low: number, what: string): number {
  if (high >= 0x20_0000) throw new Fault('protocol-violation', `${what} is past 2^53`);
  return high * HIGH + low;
}

const readSmall = (c: Cursor, what: string): number => smallU64(c.u32(), c.u32(), what);

export function writeSmall(b: Builder, value: number): void {
  b.u32(Math.floor(value / HIGH)).u32(value % HIGH);
}

export function readMembership(c: Cursor): MembershipConfiguration {
  const generation = c.u32();
  const members = readMembers(c);
  const joining = readMembers(c);
  if (generation !== 0 && members.length === 0) {
    throw new Fault('protocol-violation', `membership configuration ${generation} has no members`);
  }
  return { generation, members, newMembers: joining.length > 0 ? joining : undefined };
}

function readMembers(c: Cursor): SafekeeperId[] {
  const count = c.u32();
  const members: SafekeeperId[] = [];
  for (let i = 0; i < count; i++) {
    const id = readSmall(c, 'a node id');
    if (members.some(m => m.id === id)) throw new Fault('protocol-violation', `member ${id} comes twice`);
    members.push({ id, host: c.cstr(), pgPort: c.u16() });
  }
  return members;
}

export function writeMembership(b: Builder, m: MembershipConfiguration): void {
  b.u32(m.generation);
  writeMembers(b, m.members);
  writeMembers(b, m.newMembers ?? []);
}

function writeMembers(b: Builder, members: readonly SafekeeperId[]): void {
  b.u32(members.length);
  for (const m of members) {
    writeSmall(b, m.id);
    b.cstr(m.host).u16(m.pgPort);
  }
}

function readHistory(c: Cursor): TermHistory {
  const count = c.u32();
  const history: TermSwitch[] = [];
  for (let i = 0; i < count; i++) history.push({ term: readSmall(c, 'a term'), lsn: c.lsn() });
  return history;
}

function writeHistory(b: Builder, history: TermHistory): void {
  b.u32(history.length);
  for (const { term, lsn } of history) {
    writeSmall(b, term);
    b.lsn(lsn);
  }
}

function finished(c: Cursor, what: string): void {
  if (c.left > 0) throw new Fault('protocol-violation', `${c.left} bytes are left behind ${what}`);
}

const unknownTag = (tag: number): Fault =>
  new Fault('protocol-violation', `a message with the unknown tag ${tag}`, {
    hint: 'Does the other end speak this version of the protocol? Check neon.safekeeper_proto_version.',
  });

/** A message of a proposer; the WAL of an append is a view of `bytes`. */
export function readProposerMessage(bytes: Uint8Array): ProposerMessage {
  const tag = bytes[0];
  if (tag === APPEND) return readAppend(bytes);
  const c = new Cursor(bytes, 1);
  switch (tag) {
    case GREETING: {
      const message: ProposerMessage = {
        kind: 'greeting',
        tenantId: tenantId(c.cstr()),
        timelineId: timelineId(c.cstr()),
        membership: readMembership(c),
        pgVersion: c.u32(),
        systemId: c.u64(),
        walSegSize: c.u32(),
      };
      finished(c, 'a greeting');
      return message;
    }
    case VOTE: {
      const message: ProposerMessage = {
        kind: 'vote-request',
        generation: c.u32(),
        term: readSmall(c, 'a term'),
      };
      finished(c, 'a vote request');
      return message;
    }
    case ELECTED: {
      const message: ProposerMessage = {
        kind: 'elected',
        generation: c.u32(),
        term: readSmall(c, 'a term'),
        startStreamingAt: c.lsn(),
        termHistory: readHistory(c),
      };
      finished(c, 'an elected message');
      return message;
    }
    case undefined:
      throw new Fault('protocol-violation', 'an empty message');
    default:
      throw unknownTag(tag);
  }
}

function readAppend(bytes: Uint8Array): AppendRequest {
  if (bytes.length < APPEND_HEADER_BYTES) {
    throw new Fault('bytes-short', `an append of ${bytes.length} bytes`);
  }
  const view = viewOf(bytes);
  const beginLsn = readLsnBE(view, 13);
  const endLsn = readLsnBE(view, 21);
  const length = bytes.length - APPEND_HEADER_BYTES;
  checkAppendLength(beginLsn, endLsn, length);
  return {
    kind: 'append-request',
    generation: view.getUint32(1),
    term: smallU64(view.getUint32(5), view.getUint32(9), 'a term'),
    beginLsn,
    endLsn,
    commitLsn: readLsnBE(view, 29),
    truncateLsn: readLsnBE(view, 37),
    wal: bytes.subarray(APPEND_HEADER_BYTES),
  };
}

export function checkAppendLength(beginLsn: number, endLsn: number, length: number): void {
  if (endLsn - beginLsn !== length || length > APPEND_BYTES_MAX) {
    throw new Fault('protocol-violation', `an append of ${endLsn - beginLsn} bytes carries ${length}`, {
      hint: `At most ${APPEND_BYTES_MAX} bytes travel in one append.`,
    });
  }
}

export function writeProposerMessage(m: ProposerMessage): Uint8Array {
  const b = new Builder(m.kind === 'append-request' ? APPEND_HEADER_BYTES + m.wal.length : 128);
  switch (m.kind) {
    case 'greeting':
      b.u8(GREETING).cstr(m.tenantId).cstr(m.timelineId);
      writeMembership(b, m.membership);
      b.u32(m.pgVersion).u64(m.systemId).u32(m.walSegSize);
      break;
    case 'vote-request':
      b.u8(VOTE).u32(m.generation);
      writeSmall(b, m.term);
      break;
    case 'elected':
      b.u8(ELECTED).u32(m.generation);
      writeSmall(b, m.term);
      b.lsn(m.startStreamingAt);
      writeHistory(b, m.termHistory);
      break;
    case 'append-request':
      b.u8(APPEND).u32(m.generation);
      writeSmall(b, m.term);
      b.lsn(m.beginLsn).lsn(m.endLsn).lsn(m.commitLsn).lsn(m.truncateLsn).raw(m.wal);
  }
  return b.finish();
}

export function readAcceptorMessage(bytes: Uint8Array): AcceptorMessage {
  const c = new Cursor(bytes);
  const tag = c.u8();
  switch (tag) {
    case GREETING: {
      const message: AcceptorMessage = {
        kind: 'greeting-reply',
        nodeId: readSmall(c, 'a node id'),
        membership: readMembership(c),
        term: readSmall(c, 'a term'),
      };
      finished(c, 'a greeting');
      return message;
    }
    case VOTE: {
      const message: AcceptorMessage = {
        kind: 'vote-response',
        generation: c.u32(),
        term: readSmall(c, 'a term'),
        voteGiven: c.u8() !== 0,
        flushLsn: c.lsn(),
        truncateLsn: c.lsn(),
        termHistory: readHistory(c),
      };
      finished(c, 'a vote');
      return message;
    }
    case APPEND:
      return readAppendResponse(c);
    default:
      throw unknownTag(tag);
  }
}

function readAppendResponse(c: Cursor): AppendResponse {
  const message: AppendResponse = {
    kind: 'append-response',
    generation: c.u32(),
    term: readSmall(c, 'a term'),
    flushLsn: c.lsn(),
    commitLsn: c.lsn(),
    hotStandby: { ts: c.i64(), xmin: c.u64(), catalogXmin: c.u64() },
    pageserverFeedback: c.left > 0 ? readFeedback(c) : undefined,
  };
  finished(c, 'an append response');
  return message;
}

export function writeAcceptorMessage(m: AcceptorMessage): Uint8Array {
  const b = new Builder(256);
  switch (m.kind) {
    case 'greeting-reply':
      b.u8(GREETING);
      writeSmall(b, m.nodeId);
      writeMembership(b, m.membership);
      writeSmall(b, m.term);
      break;
    case 'vote-response':
      b.u8(VOTE).u32(m.generation);
      writeSmall(b, m.term);
      b.u8(m.voteGiven ? 1 : 0)
        .lsn(m.flushLsn)
        .lsn(m.truncateLsn);
      writeHistory(b, m.termHistory);
      break;
    case 'append-response':
      b.u8(APPEND).u32(m.generation);
      writeSmall(b, m.term);
      b.lsn(m.flushLsn).lsn(m.commitLsn);
      b.i64(m.hotStandby.ts).u64(m.hotStandby.xmin).u64(m.hotStandby.catalogXmin);
      if (m.pageserverFeedback) writeFeedback(b, m.pageserverFeedback);
  }
  return b.finish();
}
