// Page requests and answers, versions 2 and 3; one in each CopyData, big-endian.
//
//   request    tag u8 | [v3: reqid u64] | request_lsn u64 | not_modified_since u64 | body
//     0 Exists, 1 Nblocks   rel = spc u32 | db u32 | rel u32 | fork u8
//     2 GetPage             rel | blkno u32
//     3 DbSize              db u32
//     4 GetSlruSegment      kind u8 | segno u32
//   response   tag u8 | [v3: reqid u64 | request_lsn u64 | not_modified_since u64 | the request's body] | answer
//     100 Exists u8   101 Nblocks u32   102 GetPage 8192 bytes   104 DbSize i64
//     103 Error  message NUL (v3: header echo without the body)
//     105 GetSlruSegment n_blocks u32 | n * 8192 bytes
//
// In v3 the client compares every echoed field, and a message must be consumed exactly. request_lsn of all ones is
// "the newest" and reads as MAX_LSN. Reading a request allocates one object; a page is answered with one copy.
//
// Answers to libs/pageserver_api/src/pagestream_api.rs and nm_pack_request, nm_unpack_response of pgxn/neon.

import { Builder, Cursor } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import type { RelTag } from '../base/rel.ts';

export type PagestreamVersion = 2 | 3;

export const PAGE_BYTES = 8192;

export interface RequestHeader {
  /** 0 in version 2. */
  readonly reqid: bigint;
  readonly requestLsn: Lsn;
  readonly notModifiedSince: Lsn;
}

export type PagestreamRequest = RequestHeader &
  (
    | { readonly kind: 'exists'; readonly rel: RelTag }
    | { readonly kind: 'nblocks'; readonly rel: RelTag }
    | { readonly kind: 'get-page'; readonly rel: RelTag; readonly blkno: number }
    | { readonly kind: 'db-size'; readonly dbOid: number }
    | { readonly kind: 'get-slru-segment'; readonly slru: number; readonly segno: number }
  );

const TAGS = ['exists', 'nblocks', 'get-page', 'db-size', 'get-slru-segment'] as const;
const RESPONSE_ERROR = 103;
const RESPONSE_TAG = { exists: 100, nblocks: 101, 'get-page': 102, 'db-size': 104, 'get-slru-segment': 105 };

export function readPagestreamRequest(bytes: Uint8Array, version: PagestreamVersion): PagestreamRequest {
  const c = new Cursor(bytes);
  const kind = TAGS[c.u8()];
  const reqid = version === 3 ? c.u64() : 0n;
  const header = { reqid, requestLsn: c.lsn(), notModifiedSince: c.lsn() };
  const request = readBody(c, kind, header);
  if (c.left > 0)
    throw new Fault('protocol-violation', `${c.left} bytes are left behind a ${request.kind} request`);
  return request;
}

function readBody(
  c: Cursor,
  kind: (typeof TAGS)[number] | undefined,
  header: RequestHeader,
): PagestreamRequest {
  switch (kind) {
    case 'exists':
      return { ...header, kind, rel: readRel(c) };
    case 'nblocks':
      return { ...header, kind, rel: readRel(c) };
    case 'get-page':
      return { ...header, kind, rel: readRel(c), blkno: c.u32() };
    case 'db-size':
      return { ...header, kind, dbOid: c.u32() };
    case 'get-slru-segment':
      return { ...header, kind, slru: c.u8(), segno: c.u32() };
    default:
      throw new Fault('protocol-violation', 'a page request with an unknown tag');
  }
}

function readRel(c: Cursor): RelTag {
  return { spcOid: c.u32(), dbOid: c.u32(), relNumber: c.u32(), forkNum: c.u8() };
}

function writeRel(b: Builder, rel: RelTag): void {
  b.u32(rel.spcOid).u32(rel.dbOid).u32(rel.relNumber).u8(rel.forkNum);
}

export function writePagestreamRequest(r: PagestreamRequest, version: PagestreamVersion): Uint8Array {
  const b = new Builder(64);
  b.u8(TAGS.indexOf(r.kind));
  writeHeader(b, r, version);
  writeRequestBody(b, r);
  return b.finish();
}

function writeHeader(b: Builder, r: RequestHeader, version: PagestreamVersion): void {
  if (version === 3) b.u64(r.reqid);
  b.lsn(r.requestLsn).lsn(r.notModifiedSince);
}

function writeRequestBody(b: Builder, r: PagestreamRequest): void {
  switch (r.kind) {
    case 'exists':
    case 'nblocks':
      writeRel(b, r.rel);
      break;
    case 'get-page':
      writeRel(b, r.rel);
      b.u32(r.blkno);
      break;
    case 'db-size':
      b.u32(r.dbOid);
      break;
    case 'get-slru-segment':
      b.u8(r.slru).u32(r.segno);
  }
}

/** Tag and, in version 3, everything of the request again. */
function openAnswer(r: PagestreamRequest, version: PagestreamVersion, answerBytes: number): Builder {
  const b = new Builder(48 + answerBytes);
  b.u8(RESPONSE_TAG[r.kind]);
  if (version === 3) {
    writeHeader(b, r, 3);
    writeRequestBody(b, r);
  }
  return b;
}

type Of<K extends PagestreamRequest['kind']> = Extract<PagestreamRequest, { kind: K }>;

export const existsAnswer = (r: Of<'exists'>, version: PagestreamVersion, exists: boolean): Uint8Array =>
  openAnswer(r, version, 1)
    .u8(exists ? 1 : 0)
    .finish();

export const nblocksAnswer = (r: Of<'nblocks'>, version: PagestreamVersion, blocks: number): Uint8Array =>
  openAnswer(r, version, 4).u32(blocks).finish();

export const getPageAnswer = (r: Of<'get-page'>, version: PagestreamVersion, page: Uint8Array): Uint8Array =>
  openAnswer(r, version, PAGE_BYTES).raw(page).finish();

export const dbSizeAnswer = (r: Of<'db-size'>, version: PagestreamVersion, bytes: bigint): Uint8Array =>
  openAnswer(r, version, 8).i64(bytes).finish();

/** `segment` is whole blocks of 8192 bytes. */
export const slruSegmentAnswer = (
  r: Of<'get-slru-segment'>,
  version: PagestreamVersion,
  segment: Uint8Array,
): Uint8Array =>
  openAnswer(r, version, 4 + segment.length)
    .u32(segment.length / PAGE_BYTES)
    .raw(segment)
    .finish();

/** An error about one request; the stream goes on. */
export function errorAnswer(r: PagestreamRequest, version: PagestreamVersion, message: string): Uint8Array {
  const b = new Builder(128).u8(RESPONSE_ERROR);
  if (version === 3) writeHeader(b, r, 3);
  return b.cstr(message.replaceAll('\0', ' ')).finish();
}

export type PagestreamAnswer =
  | { readonly kind: 'error'; readonly message: string }
  | { readonly kind: 'exists'; readonly exists: boolean }
  | { readonly kind: 'nblocks'; readonly blocks: number }
  | { readonly kind: 'get-page'; readonly page: Uint8Array }
  | { readonly kind: 'db-size'; readonly bytes: bigint }
  | { readonly kind: 'get-slru-segment'; readonly segment: Uint8Array };

/** The answer to `r`, checked to be its own; a page is a view of `bytes`. */
export function readPagestreamAnswer(
  bytes: Uint8Array,
  r: PagestreamRequest,
  version: PagestreamVersion,
): PagestreamAnswer {
  const c = new Cursor(bytes);
  const tag = c.u8();
  const isError = tag === RESPONSE_ERROR;
  if (!isError && tag !== RESPONSE_TAG[r.kind]) {
    throw new Fault('protocol-violation', `answer ${tag} to a ${r.kind} request`);
  }
  if (version === 3) checkEcho(c, r, isError);
  const answer: PagestreamAnswer = isError ? { kind: 'error', message: c.cstr() } : readAnswer(c, r.kind);
  if (c.left > 0) throw new Fault('protocol-violation', `${c.left} bytes are left behind an answer`);
  return answer;
}

function checkEcho(c: Cursor, r: PagestreamRequest, isError: boolean): void {
  const b = new Builder(64);
  writeHeader(b, r, 3);
  if (!isError) writeRequestBody(b, r);
  const wanted = b.finish();
  const echoed = c.raw(wanted.length);
  if (Buffer.compare(wanted, echoed) !== 0) {
    throw new Fault('protocol-violation', `the answer is not to request ${r.reqid}`);
  }
}

function readAnswer(c: Cursor, kind: PagestreamRequest['kind']): PagestreamAnswer {
  switch (kind) {
    case 'exists':
      return { kind, exists: c.u8() !== 0 };
    case 'nblocks':
      return { kind, blocks: c.u32() };
    case 'get-page':
      return { kind, page: c.raw(PAGE_BYTES) };
    case 'db-size':
      return { kind, bytes: c.i64() };
    case 'get-slru-segment':
      return { kind, segment: c.raw(c.u32() * PAGE_BYTES) };
  }
}
