// What a server says in the Postgres protocol, as bytes; and the errors in it, written and read.
//
//   ErrorResponse   E | ( field u8 | text NUL )* | 0        S severity  C SQLSTATE  M message  H hint
//   RowDescription  T | columns i16 | ( name NUL | table u32 | column i16 | type u32 | size i16 | mod i32 | format i16 )*
//   DataRow         D | columns i16 | ( length i32, -1 for NULL | bytes )*
//
// Answers to BeMessage::write of libs/pq_proto/src/lib.rs.

import { Builder, Cursor, fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault, sqlState } from '../base/fault.ts';
import { closeFrame, frame, openFrame, TAG } from './pq-frame.ts';

export const SQLSTATE = {
  success: '00000',
  connectionFailure: '08006',
  protocolViolation: '08P01',
  invalidPassword: '28P01',
  adminShutdown: '57P01',
  internalError: 'XX000',
} as const;

export const TEXT_OID = 25;
export const INT4_OID = 23;
export const INT8_OID = 20;

export interface Column {
  readonly name: string;
  readonly typeOid: number;
  /** Bytes of the type, -1 for a variable one. */
  readonly typeSize: number;
}

export const textColumn = (name: string): Column => ({ name, typeOid: TEXT_OID, typeSize: -1 });
export const int4Column = (name: string): Column => ({ name, typeOid: INT4_OID, typeSize: 4 });

export const authenticationOk = (): Uint8Array => frame(TAG.authentication, new Uint8Array([0, 0, 0, 0]));
export const authenticationCleartext = (): Uint8Array =>
  frame(TAG.authentication, new Uint8Array([0, 0, 0, 3]));
export const readyForQuery = (): Uint8Array => frame(TAG.readyForQuery, utf8('I'));
export const parameterStatus = (name: string, value: string): Uint8Array =>
  frame(TAG.parameterStatus, utf8(`${name}\0${value}\0`));
export const commandComplete = (tag: string): Uint8Array => frame(TAG.commandComplete, utf8(`${tag}\0`));
export const emptyQueryResponse = (): Uint8Array => frame(TAG.emptyQuery);

export const parseComplete = (): Uint8Array => frame(0x31);
export const bindComplete = (): Uint8Array => frame(0x32);
export const closeComplete = (): Uint8Array => frame(0x33);
/** ParameterDescription of a statement without parameters. */
export const noParameters = (): Uint8Array => frame(0x74, new Uint8Array([0, 0]));
export const noData = (): Uint8Array => frame(0x6e);

const NO_COLUMNS = new Uint8Array([0, 0, 0]);
/** Binary or text makes no difference without columns: format 0, no columns. */
export const copyBothResponse = (): Uint8Array => frame(TAG.copyBothResponse, NO_COLUMNS);
export const copyOutResponse = (): Uint8Array => frame(TAG.copyOutResponse, NO_COLUMNS);
export const copyInResponse = (): Uint8Array => frame(TAG.copyInResponse, NO_COLUMNS);

export function rowDescription(columns: readonly Column[]): Uint8Array {
  const b = new Builder(64);
  const at = openFrame(b, TAG.rowDescription);
  b.u16(columns.length);
  for (const c of columns) {
    b.cstr(c.name).u32(0).u16(0).u32(c.typeOid);
    b.u16(c.typeSize & 0xffff)
      .i32(-1)
      .u16(0);
  }
  closeFrame(b, at);
  return b.finish();
}

export function dataRow(values: readonly (string | null)[]): Uint8Array {
  const b = new Builder(64);
  const at = openFrame(b, TAG.dataRow);
  b.u16(values.length);
  for (const value of values) {
    if (value === null) {
      b.i32(-1);
    } else {
      const bytes = utf8(value);
      b.i32(bytes.length).raw(bytes);
    }
  }
  closeFrame(b, at);
  return b.finish();
}

export interface ErrorFields {
  readonly severity: string;
  readonly sqlState: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

export function errorResponse(fields: ErrorFields): Uint8Array {
  const b = new Builder(128);
  const at = openFrame(b, TAG.errorResponse);
  b.text('S').cstr(fields.severity).text('C').cstr(fields.sqlState);
  b.text('M').cstr(clean(fields.message));
  if (fields.hint) b.text('H').cstr(clean(fields.hint));
  b.u8(0);
  closeFrame(b, at);
  return b.finish();
}

const clean = (text: string): string => text.replaceAll('\0', ' ');

/**
 * The answer to an error of ours. Neon's clients know three SQLSTATEs: 57P01 (we are going down), 08006 (come
 * back) and XX000 (all else); a Fault that says more says it in its message and hint. A customer's key that may not be
 * used is 42501: not ours to mend, and not worth another try.
 */
export function errorOf(error: unknown): ErrorFields {
  if (error instanceof Fault) {
    const code = error.code === 'shutting-down' ? SQLSTATE.adminShutdown : codeOf(error);
    return { severity: 'ERROR', sqlState: code, message: error.message, hint: error.hint };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { severity: 'ERROR', sqlState: SQLSTATE.internalError, message };
}

function codeOf(fault: Fault): string {
  if (fault.code === 'reconnect-requested') return SQLSTATE.connectionFailure;
  return fault.kind === 'unavailable' || isKeyRefusal(fault) ? sqlState(fault) : SQLSTATE.internalError;
}

const isKeyRefusal = ({ code, kind }: Fault): boolean => kind === 'denied' && code.startsWith('key-');

/** Fields of an ErrorResponse or NoticeResponse body. */
export function readError(body: Uint8Array): ErrorFields {
  const c = new Cursor(body);
  const fields = new Map<string, string>();
  while (c.left > 0) {
    const letter = c.u8();
    if (letter === 0) break;
    fields.set(String.fromCharCode(letter), c.cstr());
  }
  return {
    severity: fields.get('V') ?? fields.get('S') ?? 'ERROR',
    sqlState: fields.get('C') ?? SQLSTATE.internalError,
    message: fields.get('M') ?? 'the server gave no message',
    hint: fields.get('H'),
  };
}

/** Column names and values, all as text. */
export function readRowDescription(body: Uint8Array): string[] {
  const c = new Cursor(body);
  const names: string[] = [];
  const count = c.u16();
  for (let i = 0; i < count; i++) {
    names.push(c.cstr());
    c.skip(18);
  }
  return names;
}

export function readDataRow(body: Uint8Array): (string | null)[] {
  const c = new Cursor(body);
  const values: (string | null)[] = [];
  const count = c.u16();
  for (let i = 0; i < count; i++) {
    const length = c.i32();
    values.push(length < 0 ? null : fromUtf8(c.raw(length)));
  }
  return values;
}
