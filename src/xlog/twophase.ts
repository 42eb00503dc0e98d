// Two-phase state files, pg_twophase/*: what a prepared transaction needs to be finished after a restart. The
// file is the main data of the PREPARE record, followed by a checksum of it:
//
//   0  magic u32 0x57F94534 | 4  total_len u32 (the file's length, checksum counted) | 8  xid u32
//  12  database u32 | 16  prepared_at i64 | 24  owner u32 | 28  nsubxacts i32 | 32  ncommitrels i32
//  36  nabortrels i32 | 14: 40 ninvalmsgs, 44 initfileinval, 46 gidlen, 48 origin_lsn, 56 origin_timestamp
//                       15-: 40 ncommitstats, 44 nabortstats, 48 ninvalmsgs, 52 initfileinval, 54 gidlen, ...
//  ... GID and lists ...
//  total_len - 4  crc u32, CRC-32C of all before it
//
// Names: the xid in eight hex digits up to 16, the full xid (epoch first) in sixteen from 17 on.
//
// Mirrors ReadTwoPhaseFile, RecreateTwoPhaseFile and TwoPhaseFilePath of twophase.c.

import { Fault } from '../base/fault.ts';
import { crc32c } from './crc32c.ts';

export const TWOPHASE_DIR = 'pg_twophase';
const TWOPHASE_MAGIC = 0x57f94534;
const CRC_SIZE = 4;
/** The header up to what majors lay out differently. */
const COMMON_HEADER_SIZE = 40;

export interface TwophaseHeader {
  readonly xid: number;
  readonly database: number;
  /** Microseconds since 2000-01-01. */
  readonly preparedAt: number;
  readonly owner: number;
}

/** `fullXid` is the full xid; where majors name the file by xid alone its epoch is left out. */
export function twophaseFileName(fullXid: number, named: { readonly twophaseFullXid: boolean }): string {
  const hex = fullXid.toString(16).toUpperCase();
  return named.twophaseFullXid ? hex.padStart(16, '0') : hex.slice(-8).padStart(8, '0');
}

/** The xid, full where the name has it; undefined for what is no state file's name. */
export function parseTwophaseFileName(
  name: string,
  named: { readonly twophaseFullXid: boolean },
): number | undefined {
  const pattern = named.twophaseFullXid ? /^[0-9A-F]{16}$/ : /^[0-9A-F]{8}$/;
  if (!pattern.test(name)) return undefined;
  const xid = parseInt(name, 16);
  return Number.isSafeInteger(xid) ? xid : undefined;
}

/** RecreateTwoPhaseFile: the state file of a PREPARE record's main data. */
export function twophaseFile(prepare: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(prepare.length + CRC_SIZE);
  bytes.set(prepare);
  new DataView(bytes.buffer).setUint32(prepare.length, crc32c(bytes, 0, prepare.length), true);
  return bytes;
}

function badFile(reason: string): Fault {
  return new Fault('data-directory', `two-phase state file: ${reason}`, {
    hint: 'The file is damaged; without it the prepared transaction can be neither committed nor rolled back.',
  });
}

/** The main data of a state file, checked as Postgres checks it. */
export function prepareOfTwophaseFile(file: Uint8Array): Uint8Array {
  const crcAt = file.length - CRC_SIZE;
  if (crcAt < COMMON_HEADER_SIZE || crcAt % 8 !== 0) throw badFile(`incorrect size ${file.length}`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== TWOPHASE_MAGIC) throw badFile('invalid magic number');
  if (view.getUint32(4, true) !== file.length)
    throw badFile(`says ${view.getUint32(4, true)} bytes, has ${file.length}`);
  if (crc32c(file, 0, crcAt) !== view.getUint32(crcAt, true)) throw badFile('incorrect checksum');
  return file.subarray(0, crcAt);
}

/** What every major keeps at the same place; of a record's main data or a whole file. */
export function readTwophaseHeader(bytes: Uint8Array): TwophaseHeader {
  if (bytes.length < COMMON_HEADER_SIZE) throw badFile(`incorrect size ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== TWOPHASE_MAGIC) throw badFile('invalid magic number');
  return {
    xid: view.getUint32(8, true),
    database: view.getUint32(12, true),
    preparedAt: Number(view.getBigInt64(16, true)),
    owner: view.getUint32(24, true),
  };
}
