// Version 2 of the messages between walproposer and safekeeper: little-endian, a tag of eight bytes (the letter
// as a u64), no generations: they read as 0 and only 0 can be written.
//
//   to the acceptor
//     greeting, 80 bytes  'g' u64 | version u32 = 2 | pg_version u32 | proposer_id 16 | system_id u64 |
//                         timeline 16 | tenant 16 | pg timeline u32 | wal_seg_size u32
//     vote                'v' u64 | term u64 | proposer_id 16
//     elected             'e' u64 | term u64 | start_streaming_at u64 | n u32 | n * ( term u64 | lsn u64 ) | start u64
//     append, 72 + WAL    'a' u64 | term u64 | epoch_start u64 | begin u64 | end u64 | commit u64 | truncate u64 |
//                         proposer_id 16 | WAL
//   to the proposer
//     greeting, 24        'g' u64 | term u64 | node_id u64
//     vote                'v' u64 | term u64 | given u64 | flush u64 | truncate u64 | n u32 | n * ( term, lsn ) | 0 u64
//     append              'a' u64 | term u64 | flush u64 | commit u64 | hs_ts i64 | hs_xmin u64 |
//                         hs_catalog_xmin u64 | feedback (big-endian) or nothing
//
// Answers to the proto_version 2 branches of safekeeper/src/safekeeper.rs and pgxn/neon/walproposer.c.

import { Builder, Cursor, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { idFromBytes, idToBytes, tenantId, timelineId } from '../base/ids.ts';
import { INVALID_LSN, readLsnLE } from '../base/lsn.ts';
import { readFeedback, writeFeedback } from './feedback.ts';
import { NO_MEMBERSHIP } from './membership.ts';
import type { AcceptorMessage, ProposerMessage, TermHistory, TermSwitch } from './walproposer.ts';
import { checkAppendLength, smallU64 } from './walproposer-v3.ts';

const GREETING = 0x67;
const VOTE = 0x76;
const ELECTED = 0x65;
const APPEND = 0x61;
const VERSION = 2;
const GREETING_BYTES = 80;
const APPEND_HEADER_BYTES = 72;
const PROPOSER_ID_BYTES = 16;
const HIGH = 0x1_0000_0000;

function readSmall(c: Cursor, what: string): number {
  const low = c.u32le();
  return smallU64(c.u32le(), low, what);
}

function writeSmall(b: Builder, value: number): void {
  b.u32le(value % HIGH).u32le(Math.floor(value / HIGH));
}

const writeTag = (b: Builder, tag: number): Builder => b.u32le(tag).u32le(0);

function readHistory(c: Cursor): TermHistory {
  const count = c.u32le();
  const history: TermSwitch[] = [];
  for (let i = 0; i < count; i++) history.push({ term: readSmall(c, 'a term'), lsn: c.lsnle() });
  return history;
}

function writeHistory(b: Builder, history: TermHistory): void {
  b.u32le(history.length);
  for (const { term, lsn } of history) {
    writeSmall(b, term);
    b.lsnle(lsn);
  }
}

function readTag(c: Cursor): number {
  const tag = c.u32le();
  if (c.u32le() !== 0) throw unknownTag(tag);
  return tag;
}

const unknownTag = (tag: number): Fault =>
  new Fault('protocol-violation', `a message with the unknown tag ${tag}`, {
    hint: 'Does the other end speak version 2? Check neon.safekeeper_proto_version.',
  });

export function readProposerMessage(bytes: Uint8Array): ProposerMessage {
  const c = new Cursor(bytes);
  const tag = readTag(c);
  switch (tag) {
    case GREETING:
      return readGreeting(c);
    case VOTE:
      return { kind: 'vote-request', generation: 0, term: readSmall(c, 'a term') };
    case ELECTED:
      return {
        kind: 'elected',
        generation: 0,
        term: readSmall(c, 'a term'),
        startStreamingAt: c.lsnle(),
        termHistory: readHistory(c),
      };
    case APPEND:
      return readAppend(bytes);
    default:
      throw unknownTag(tag);
  }
}

function readGreeting(c: Cursor): ProposerMessage {
  if (c.end !== GREETING_BYTES) throw new Fault('protocol-violation', `a greeting of ${c.end} bytes`);
  const version = c.u32le();
  if (version !== VERSION) {
    throw new Fault('protocol-violation', `the proposer greets with protocol ${version}, not ${VERSION}`);
  }
  const pgVersion = c.u32le();
  c.skip(PROPOSER_ID_BYTES);
  const systemId = c.u64le();
  const timeline = timelineId(idFromBytes(c.raw(16)));
  const tenant = tenantId(idFromBytes(c.raw(16)));
  c.skip(4);
  return {
    kind: 'greeting',
    tenantId: tenant,
    timelineId: timeline,
    membership: NO_MEMBERSHIP,
    pgVersion,
    systemId,
    walSegSize: c.u32le(),
  };
}

function readAppend(bytes: Uint8Array): ProposerMessage {
  if (bytes.length < APPEND_HEADER_BYTES) {
    throw new Fault('bytes-short', `an append of ${bytes.length} bytes`);
  }
  const view = viewOf(bytes);
  const beginLsn = readLsnLE(view, 24);
  const endLsn = readLsnLE(view, 32);
  checkAppendLength(beginLsn, endLsn, bytes.length - APPEND_HEADER_BYTES);
  return {
    kind: 'append-request',
    generation: 0,
    term: smallU64(view.getUint32(12, true), view.getUint32(8, true), 'a term'),
    beginLsn,
    endLsn,
    commitLsn: readLsnLE(view, 40),
    truncateLsn: readLsnLE(view, 48),
    wal: bytes.subarray(APPEND_HEADER_BYTES),
  };
}

function noGeneration(generation: number): void {
  if (generation !== 0) {
    throw new Fault('protocol-violation', `protocol 2 cannot carry generation ${generation}`, {
      hint: 'Set neon.safekeeper_proto_version = 3 in the compute.',
    });
  }
}

export function writeProposerMessage(m: ProposerMessage): Uint8Array {
  const b = new Builder(m.kind === 'append-request' ? APPEND_HEADER_BYTES + m.wal.length : 128);
  noGeneration(m.kind === 'greeting' ? m.membership.generation : m.generation);
  switch (m.kind) {
    case 'greeting':
      writeTag(b, GREETING).u32le(VERSION).u32le(m.pgVersion).zeros(PROPOSER_ID_BYTES).u64le(m.systemId);
      b.raw(idToBytes(m.timelineId)).raw(idToBytes(m.tenantId)).u32le(1).u32le(m.walSegSize);
      break;
    case 'vote-request':
      writeSmall(writeTag(b, VOTE), m.term);
      b.zeros(PROPOSER_ID_BYTES);
      break;
    case 'elected':
      writeSmall(writeTag(b, ELECTED), m.term);
      b.lsnle(m.startStreamingAt);
      writeHistory(b, m.termHistory);
      b.lsnle(m.termHistory[0]?.lsn ?? INVALID_LSN);
      break;
    case 'append-request':
      writeSmall(writeTag(b, APPEND), m.term);
      b.lsnle(INVALID_LSN).lsnle(m.beginLsn).lsnle(m.endLsn).lsnle(m.commitLsn).lsnle(m.truncateLsn);
      b.zeros(PROPOSER_ID_BYTES).raw(m.wal);
  }
  return b.finish();
}

export function readAcceptorMessage(bytes: Uint8Array): AcceptorMessage {
  const c = new Cursor(bytes);
  const tag = readTag(c);
  const term = readSmall(c, 'a term');
  switch (tag) {
    case GREETING:
      return { kind: 'greeting-reply', term, nodeId: readSmall(c, 'a node id'), membership: NO_MEMBERSHIP };
    case VOTE:
      return {
        kind: 'vote-response',
        generation: 0,
        term,
        voteGiven: readSmall(c, 'a vote') !== 0,
        flushLsn: c.lsnle(),
        truncateLsn: c.lsnle(),
        termHistory: readHistory(c),
      };
    case APPEND:
      return {
        kind: 'append-response',
        generation: 0,
        term,
        flushLsn: c.lsnle(),
        commitLsn: c.lsnle(),
        hotStandby: { ts: c.i64le(), xmin: c.u64le(), catalogXmin: c.u64le() },
        pageserverFeedback: c.left > 0 ? readFeedback(c) : undefined,
      };
    default:
      throw unknownTag(tag);
  }
}

export function writeAcceptorMessage(m: AcceptorMessage): Uint8Array {
  const b = new Builder(256);
  noGeneration(m.kind === 'greeting-reply' ? m.membership.generation : m.generation);
  switch (m.kind) {
    case 'greeting-reply':
      writeSmall(writeTag(b, GREETING), m.term);
      writeSmall(b, m.nodeId);
      break;
    case 'vote-response':
      writeSmall(writeTag(b, VOTE), m.term);
      writeSmall(b, m.voteGiven ? 1 : 0);
      b.lsnle(m.flushLsn).lsnle(m.truncateLsn);
      writeHistory(b, m.termHistory);
      b.lsnle(INVALID_LSN);
      break;
    case 'append-response':
      writeSmall(writeTag(b, APPEND), m.term);
      b.lsnle(m.flushLsn).lsnle(m.commitLsn);
      b.u64le(BigInt.asUintN(64, m.hotStandby.ts)).u64le(m.hotStandby.xmin).u64le(m.hotStandby.catalogXmin);
      if (m.pageserverFeedback) writeFeedback(b, m.pageserverFeedback);
  }
  return b.finish();
}
