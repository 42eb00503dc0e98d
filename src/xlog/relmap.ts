// pg_filenode.map: which file a catalog lies in, for the few catalogs that pg_class cannot tell about. One per
// database, one in global/ for the shared catalogs. A RELMAP record carries the file whole.
//
//   0  magic u32 0x592717 | 4  num_mappings i32 | 8  mappings: a catalog's Oid u32, its file's number u32, ...
//   14, 15: 62 entries | 504 crc u32 | 508 padding    512 bytes
//   16-:    64 entries | 520 crc u32                  524 bytes
//
// The CRC-32C covers all before it. Entries are in no particular order. The size says which of the two it is.
//
// Mirrors RelMapFile, read_relmap_file and write_relmap_file of relmapper.c.

import { Fault } from '../base/fault.ts';
import { GLOBALTABLESPACE_OID } from '../base/rel.ts';
import { crc32c } from './crc32c.ts';

export const RELMAPPER_FILENAME = 'pg_filenode.map';
const RELMAPPER_FILEMAGIC = 0x592717;

const MAPPINGS_AT = 8;
const MAPPING_SIZE = 8;

/** Entries a file of this size has room for. */
const MAX_MAPPINGS: Readonly<Record<number, number>> = { 512: 62, 524: 64 };

export interface RelMapping {
  readonly mapOid: number;
  readonly relNumber: number;
}

/** Path inside a data directory: `global/pg_filenode.map`, `base/5/pg_filenode.map`. */
export const relmapPath = (spcOid: number, dbOid: number): string =>
  `${spcOid === GLOBALTABLESPACE_OID ? 'global' : `base/${dbOid}`}/${RELMAPPER_FILENAME}`;

function maxMappings(size: number): number {
  const max = MAX_MAPPINGS[size];
  if (max === undefined) {
    throw new Fault('relmap-file', `a relation map is 512 or 524 bytes, not ${size}`);
  }
  return max;
}

/** The entries of a file, checked as Postgres checks it. */
export function readRelmap(bytes: Uint8Array): RelMapping[] {
  const max = maxMappings(bytes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getInt32(4, true);
  if (view.getUint32(0, true) !== RELMAPPER_FILEMAGIC || count < 0 || count > max) {
    throw new Fault('relmap-file', 'the relation map contains invalid data');
  }
  const crcAt = MAPPINGS_AT + max * MAPPING_SIZE;
  if (crc32c(bytes, 0, crcAt) !== view.getUint32(crcAt, true)) {
    throw new Fault('relmap-file', 'the relation map contains an incorrect checksum');
  }
  const mappings: RelMapping[] = [];
  for (let at = MAPPINGS_AT; at < MAPPINGS_AT + count * MAPPING_SIZE; at += MAPPING_SIZE) {
    mappings.push({ mapOid: view.getUint32(at, true), relNumber: view.getUint32(at + 4, true) });
  }
  return mappings;
}

/** A file of 512 or 524 bytes with these entries. */
export function writeRelmap(mappings: readonly RelMapping[], size: number): Uint8Array {
  const max = maxMappings(size);
  if (mappings.length > max) {
    throw new Fault('relmap-file', `${mappings.length} entries do not fit into a relation map of ${max}`);
  }
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, RELMAPPER_FILEMAGIC, true);
  view.setInt32(4, mappings.length, true);
  mappings.forEach(({ mapOid, relNumber }, i) => {
    view.setUint32(MAPPINGS_AT + i * MAPPING_SIZE, mapOid, true);
    view.setUint32(MAPPINGS_AT + i * MAPPING_SIZE + 4, relNumber, true);
  });
  const crcAt = MAPPINGS_AT + max * MAPPING_SIZE;
  view.setUint32(crcAt, crc32c(bytes, 0, crcAt), true);
  return bytes;
}
