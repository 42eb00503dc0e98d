// Values that are found by name: everything of a cluster that is neither a page nor a length.
//
//   control-file                      pg_control as it was imported (its first 512 bytes)
//   checkpoint                        the CheckPoint struct, kept up by checkpoint-tracker.ts
//   parameters                        the newest PARAMETER_CHANGE (backup-control.ts)
//   full-page-writes                  on u8 | since which LSN u64
//   next-relation-id                  u32, directory.ts
//   rel/<spc>/<db>/<relNumber>.<fork> a relation fork: id u32 | created at LSN u64
//   relmap/<spc>/<db>                 pg_filenode.map
//   twophase/<full xid, 16 hex>       what a PREPARE record said
//   origin/<id>                       remote LSN u64
//   file/<path>                       a file that a compute sent as a logical message (Neon's "aux files")
//
// All are stored under REL_NAMES by the hash of their name; names of one hash share a bucket, stored as one value:
//
//   { name length u16 | contents length u32 | name | contents } ...     little-endian; no bytes: nothing is there
//
// In memory a bucket is a list of what it holds, so that a bucket can be written without reading it. Contents are
// taken as they are: whoever hands them over does not change them afterwards.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { nameHash, REL_NAMES } from './key.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_BYTES } from './value.ts';

export const CONTROL_FILE_NAME = 'control-file';
export const CHECKPOINT_NAME = 'checkpoint';
export const PARAMETERS_NAME = 'parameters';
export const FULL_PAGE_WRITES_NAME = 'full-page-writes';
export const NEXT_RELATION_ID_NAME = 'next-relation-id';
export const RELATION_PREFIX = 'rel/';
export const RELMAP_PREFIX = 'relmap/';
export const TWOPHASE_PREFIX = 'twophase/';
export const ORIGIN_PREFIX = 'origin/';
export const FILE_PREFIX = 'file/';

export const relationName = (spcOid: number, dbOid: number, relNumber: number, forkNum: number): string =>
  `${RELATION_PREFIX}${spcOid}/${dbOid}/${relNumber}.${forkNum}`;
export const relmapName = (spcOid: number, dbOid: number): string => `${RELMAP_PREFIX}${spcOid}/${dbOid}`;
export const twophaseName = (fullXid: number): string =>
  TWOPHASE_PREFIX + fullXid.toString(16).toUpperCase().padStart(16, '0');
export const originName = (id: number): string => ORIGIN_PREFIX + id;

/** The numbers of `rel/1663/5/16384.0`: tablespace, database, file and fork. */
export function parseRelationName(name: string): [number, number, number, number] {
  const match = /^rel\/(\d+)\/(\d+)\/(\d+)\.(\d+)$/.exec(name);
  if (!match) throw badName(name);
  return [Number(match[1]), Number(match[2]), Number(match[3]), Number(match[4])];
}

/** The tablespace and database of `relmap/1663/5`. */
export function parseRelmapName(name: string): [number, number] {
  const match = /^relmap\/(\d+)\/(\d+)$/.exec(name);
  if (!match) throw badName(name);
  return [Number(match[1]), Number(match[2])];
}

export const parseTwophaseName = (name: string): number => parseInt(name.slice(TWOPHASE_PREFIX.length), 16);
export const parseOriginName = (name: string): number => Number(name.slice(ORIGIN_PREFIX.length));

const badName = (name: string): Fault => new Fault('layer-corrupt', `a value has the name "${name}"`);

// ---- buckets --------------------------------------------------------------------------------------------------

const ITEM_HEADER_SIZE = 6;

/** Something with a name, in the list of its bucket. */
export interface Named {
  name(): string;
  contents(): Uint8Array;
  /** The next one of the same bucket. */
  nextNamed: Named | undefined;
}

class PlainName implements Named {
  private readonly text: string;
  bytes: Uint8Array;
  nextNamed: Named | undefined;

  constructor(text: string, bytes: Uint8Array) {
    this.text = text;
    this.bytes = bytes;
  }

  name(): string {
    return this.text;
  }

  contents(): Uint8Array {
    return this.bytes;
  }
}

/** What a bucket holds; contents are copies. */
export function readBucket(bytes: Uint8Array, visit: (name: string, contents: Uint8Array) => void): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const nameEnd =
      at + ITEM_HEADER_SIZE <= bytes.length ? at + ITEM_HEADER_SIZE + view.getUint16(at, true) : Infinity;
    const end = nameEnd <= bytes.length ? nameEnd + view.getUint32(at + 2, true) : Infinity;
    if (end > bytes.length) throw new Fault('layer-corrupt', 'a bucket of names is cut short');
    visit(fromUtf8(bytes.subarray(at + ITEM_HEADER_SIZE, nameEnd)), bytes.slice(nameEnd, end));
    at = end;
  }
}

/** The contents under a name in its bucket. */
export function findInBucket(bytes: Uint8Array | undefined, name: string): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  if (bytes !== undefined) readBucket(bytes, (n, contents) => n === name && (found = contents));
  return found;
}

function writeBucket(first: Named | undefined): Uint8Array {
  const items: { name: Uint8Array; contents: Uint8Array }[] = [];
  let length = 0;
  for (let named = first; named !== undefined; named = named.nextNamed) {
    const item = { name: utf8(named.name()), contents: named.contents() };
    if (item.name.length > 0xffff) throw new Fault('wal-record', `a name of ${item.name.length} bytes`);
    items.push(item);
    length += ITEM_HEADER_SIZE + item.name.length + item.contents.length;
  }
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { name, contents } of items) {
    view.setUint16(at, name.length, true);
    view.setUint32(at + 2, contents.length, true);
    bytes.set(name, at + ITEM_HEADER_SIZE);
    bytes.set(contents, at + ITEM_HEADER_SIZE + name.length);
    at += ITEM_HEADER_SIZE + name.length + contents.length;
  }
  return bytes;
}

/** Every name there is now; what was there before is asked of the timeline. */
export class Names {
  private readonly buckets = new Map<number, Named>();

  get(name: string): Uint8Array | undefined {
    return this.find(name)?.contents();
  }

  /** Of one kind; relations are asked of the directory. */
  *list(prefix: string): Iterable<[name: string, contents: Uint8Array]> {
    for (const first of this.buckets.values()) {
      for (let named: Named | undefined = first; named !== undefined; named = named.nextNamed) {
        if (named instanceof PlainName && named.name().startsWith(prefix)) yield [named.name(), named.bytes];
      }
    }
  }

  put(writer: TimelineWriter, lsn: number, name: string, bytes: Uint8Array): void {
    // It may lie in a buffer of the log, which is used again.
    const contents = bytes.slice();
    const there = this.find(name);
    if (there instanceof PlainName) there.bytes = contents;
    else this.add(new PlainName(name, contents));
    this.store(writer, lsn, nameHash(name));
  }

  /** Nothing is written when there is no such name. */
  remove(writer: TimelineWriter, lsn: number, name: string): void {
    if (this.takeOut(name)) this.store(writer, lsn, nameHash(name));
  }

  /** As `put`, for something that keeps its own contents. */
  putNamed(writer: TimelineWriter, lsn: number, named: Named): void {
    this.takeOut(named.name());
    this.add(named);
    this.store(writer, lsn, nameHash(named.name()));
  }

  /** Take in what is stored already. */
  load(name: string, contents: Uint8Array): void {
    this.add(new PlainName(name, contents));
  }

  loadNamed(named: Named): void {
    this.add(named);
  }

  private find(name: string): Named | undefined {
    let named = this.buckets.get(nameHash(name));
    while (named !== undefined && named.name() !== name) named = named.nextNamed;
    return named;
  }

  private add(named: Named): void {
    const hash = nameHash(named.name());
    named.nextNamed = this.buckets.get(hash);
    this.buckets.set(hash, named);
  }

  private takeOut(name: string): boolean {
    const hash = nameHash(name);
    let before: Named | undefined;
    for (let named = this.buckets.get(hash); named !== undefined; before = named, named = named.nextNamed) {
      if (named.name() !== name) continue;
      if (before !== undefined) before.nextNamed = named.nextNamed;
      else if (named.nextNamed !== undefined) this.buckets.set(hash, named.nextNamed);
      else this.buckets.delete(hash);
      named.nextNamed = undefined;
      return true;
    }
    return false;
  }

  private store(writer: TimelineWriter, lsn: number, hash: number): void {
    const bytes = writeBucket(this.buckets.get(hash));
    writer.put(REL_NAMES, hash, lsn, VALUE_BYTES, 0, bytes, 0, bytes.length);
  }
}
