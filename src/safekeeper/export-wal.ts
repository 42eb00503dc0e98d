// A timeline's WAL in the clear, as Postgres keeps it: whole segment files for pg_waldump, a restore, an archive. For
// a key holder; what it writes is sealed no more.
//
//   a safekeeper's directory   what lies there, up to where its frames end
//   the object store           whole segments, and the furthest partial one after them
//
// A segment is taken from the directory if it is there and whole, else from the store. Where neither is whole it is as
// much of the better one as can be proven, and the log ends there. Each comes out at its full size: zeros after the
// last byte; before the first one (a timeline may begin in the middle of a segment) page headers as a reader needs
// them to find it.

import { concatBytes } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Blobs, Disk, Source } from '../base/ports.ts';
import { sourceOf, sourceOfFile } from '../seal/sources.ts';
import type { SealedLogSource, Vault } from '../seal/vault.ts';
import {
  parseSegmentFileName,
  segmentFileName,
  segmentPrefix,
  segmentStart,
  XLOG_BLCKSZ,
} from '../xlog/segment.ts';
import { timelinePrefix } from './backup-plan.ts';
import type { TimelineKey } from './timeline-handle.ts';

export interface ExportFrom {
  readonly key: TimelineKey;
  readonly vault: Vault;
  /** A data directory. */
  readonly disk: Disk | undefined;
  readonly blobs: Blobs | undefined;
  readonly segmentSize: number;
}

/** One segment in the clear: its bytes from `origin` on, as far as they can be proven. */
export interface PlainSegment {
  readonly name: string;
  readonly segno: number;
  readonly origin: number;
  readonly bytes: Uint8Array;
  /** Why it ends where it does, if it should not. */
  readonly damage: unknown;
}

/** A segment, and the places it can be had from, best first. */
export interface FoundSegment {
  readonly segno: number;
  readonly copies: readonly { readonly where: string; open(): Promise<PlainSegment> }[];
}

/** A sealed file begins with no more than this. */
const HEADER_BYTES_MAX = 1024;
/** Frames are as long at most; what a damaged one holds is found piece by piece. */
const PIECE_BYTES = XLOG_BLCKSZ;

const PARTIAL = /^([0-9A-F]{24})_(\d+)_([0-9A-F]{16})_[0-9A-F]{16}_sk\d+\.partial$/;

/** In the order of the log. */
export async function findSegments(from: ExportFrom): Promise<FoundSegment[]> {
  const found = new Map<number, FoundSegment['copies'][number][]>();
  const add: Add = (segno, where, open) => {
    found.set(segno, [...(found.get(segno) ?? []), { where, open }]);
  };
  await findLocal(from, add);
  // What a safekeeper holds ends where it should: an incomplete segment of another one does not continue it.
  await findRemote(from, add, found.size === 0);
  return [...found].map(([segno, copies]) => ({ segno, copies })).sort((a, b) => a.segno - b.segno);
}

/** Where a segment stands among those that are exported: others follow it, others come before it. */
export interface Place {
  readonly first: boolean;
  readonly last: boolean;
}

/** The first copy that is whole; else the one of which most can be read. `note` is told of copies that are damaged. */
export async function readSegment(
  { segno, copies }: FoundSegment,
  segmentSize: number,
  place: Place,
  note: (problem: string) => void,
): Promise<PlainSegment> {
  const name = segmentFileName(1, segno, segmentSize);
  const nothing = { name, segno, origin: 0, bytes: new Uint8Array(0) };
  let best: PlainSegment | undefined;
  for (const { where, open } of copies) {
    const read = await open().catch((error: unknown): PlainSegment => {
      if (isAboutKeys(error)) throw error;
      return { ...nothing, damage: error };
    });
    const copy = { ...read, damage: read.damage ?? gapOf(read, segmentSize, place) };
    if (copy.damage === undefined) return copy;
    note(`${name} of ${where}: ${messageOf(copy.damage)}`);
    if (best === undefined || copy.bytes.length > best.bytes.length) best = copy;
  }
  return best!;
}

/** What lacks of a segment between others. */
function gapOf({ origin, bytes, segno }: PlainSegment, segmentSize: number, place: Place): Fault | undefined {
  const at = (offset: number): string => formatLsn((segmentStart(segno, segmentSize) + offset) as Lsn);
  const end = origin + bytes.length;
  if (origin > 0 && !place.first) return new Fault('wal-missing', `it begins at ${at(origin)} only`);
  if (end < segmentSize && !place.last) return new Fault('wal-missing', `it ends at ${at(end)} already`);
  return undefined;
}

/** No damage: without keys every copy looks the same. */
export const isAboutKeys = (error: unknown): boolean =>
  isFault(error) && (error.kind === 'denied' || error.kind === 'unavailable' || error.code === 'key-missing');

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

type Add = (segno: number, where: string, open: () => Promise<PlainSegment>) => void;

async function findLocal({ disk, key, vault, segmentSize }: ExportFrom, add: Add): Promise<void> {
  if (!disk) return;
  const directory = `${key.tenantId}/${key.timelineId}`;
  for (const name of await disk.list(directory)) {
    const parsed = parseSegmentFileName(name, segmentSize);
    if (parsed === undefined || parsed.partial) continue;
    add(parsed.segno, 'the directory', async () => {
      const file = await disk.open(`${directory}/${name}`, 'read');
      try {
        return await openLog(vault, name, parsed.segno, await sourceOfFile(file));
      } finally {
        await file.close();
      }
    });
  }
}

/** A log that is refused as a whole is opened as far as it is not: as if what follows had never been written. */
async function openLog(vault: Vault, name: string, segno: number, source: Source): Promise<PlainSegment> {
  try {
    return await plain(name, segno, await vault.openLogSource(name, source));
  } catch (error) {
    if (isAboutKeys(error)) throw error;
    const log = await longestBeginning(vault, name, await source.read(0, source.size));
    if (log === undefined) throw error;
    return { ...(await plain(name, segno, log)), damage: error };
  }
}

async function longestBeginning(
  vault: Vault,
  name: string,
  bytes: Uint8Array,
): Promise<SealedLogSource | undefined> {
  let found: SealedLogSource | undefined;
  for (let known = 0, refused = bytes.length; refused - known > 1; ) {
    const length = (known + refused) >> 1;
    const log = await vault.openLogSource(name, sourceOf(bytes.subarray(0, length))).catch(() => undefined);
    if (log === undefined) refused = length;
    else [known, found] = [length, log];
    // Too short for its own beginning looks refused as well: a beginning is longer than that.
    if (found === undefined && refused < HEADER_BYTES_MAX) return undefined;
  }
  return found;
}

async function plain(name: string, segno: number, log: SealedLogSource): Promise<PlainSegment> {
  const { origin, length } = log;
  try {
    return { name, segno, origin, bytes: await log.read(origin, length - origin), damage: undefined };
  } catch (error) {
    return { name, segno, origin, bytes: await readable(log), damage: error };
  }
}

/** Up to the first piece that cannot be proven. */
async function readable(log: SealedLogSource): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  try {
    for (let at = log.origin; at < log.length; at += PIECE_BYTES) {
      pieces.push(await log.read(at, Math.min(PIECE_BYTES, log.length - at)));
    }
  } catch {
    // It was told of already.
  }
  return concatBytes(pieces);
}

async function findRemote(
  { blobs, key, vault, segmentSize }: ExportFrom,
  add: Add,
  withPartial: boolean,
): Promise<void> {
  if (!blobs) return;
  const prefix = timelinePrefix(key);
  const partials: { object: string; segno: number; rank: string; flush: Lsn }[] = [];
  for await (const { key: object } of blobs.list(prefix)) {
    const name = object.slice(prefix.length);
    const parsed = parseSegmentFileName(name, segmentSize);
    if (parsed !== undefined && !parsed.partial) {
      add(parsed.segno, 'the object store', async () => {
        return openLog(vault, name, parsed.segno, sourceOf(await blobs.get(object)));
      });
      continue;
    }
    const [, segment, term, flush] = PARTIAL.exec(name) ?? [];
    if (segment === undefined) continue;
    const { segno } = parseSegmentFileName(segment, segmentSize)!;
    partials.push({
      object,
      segno,
      rank: `${term!.padStart(20, '0')}_${flush}`,
      flush: Number.parseInt(flush!, 16) as Lsn,
    });
  }
  // The one of the latest term that reaches furthest: others may have taken another way.
  const [last] = partials.sort((a, b) => (a.rank < b.rank ? 1 : -1));
  if (!last || !withPartial) return;
  add(last.segno, 'the object store', async () => {
    const bytes = await vault.unseal(last.object.slice(prefix.length), await blobs.get(last.object));
    const origin = last.flush - segmentStart(last.segno, segmentSize) - bytes.length;
    const name = segmentFileName(1, last.segno, segmentSize);
    return { name, segno: last.segno, origin, bytes, damage: undefined };
  });
}

/** Of the first page that lies in it whole. */
export function pageMagicOf({ origin, bytes }: PlainSegment): number | undefined {
  const at = Math.ceil(origin / XLOG_BLCKSZ) * XLOG_BLCKSZ - origin;
  return at + 2 <= bytes.length ? bytes[at]! | (bytes[at + 1]! << 8) : undefined;
}

/** A file of `segmentSize` bytes. */
export function wholeSegment(
  segment: PlainSegment,
  log: { segmentSize: number; systemId: bigint; magic: number },
): Uint8Array {
  const { origin, bytes, segno } = segment;
  const whole = new Uint8Array(log.segmentSize);
  if (origin > 0) {
    const lsn = (segmentStart(segno, log.segmentSize) + origin) as Lsn;
    const identity = { magic: log.magic, tli: 1, sysid: log.systemId, segmentSize: log.segmentSize };
    whole.set(segmentPrefix(identity, lsn).subarray(0, origin));
  }
  whole.set(bytes, origin);
  return whole;
}

/** Those that follow each other from the first on. */
export function leadingRun<T extends { readonly segno: number }>(segments: readonly T[]): readonly T[] {
  const gap = segments.findIndex((segment, i) => i > 0 && segment.segno !== segments[i - 1]!.segno + 1);
  return gap < 0 ? segments : segments.slice(0, gap);
}

export function gapAfter(
  run: readonly { readonly segno: number }[],
  segments: readonly { readonly segno: number }[],
  segmentSize: number,
): Fault {
  const from = formatLsn(segmentStart(run.at(-1)!.segno + 1, segmentSize));
  const to = formatLsn(segmentStart(segments[run.length]!.segno, segmentSize));
  return new Fault('wal-missing', `WAL from ${from} to ${to} is neither here nor in the object store`, {
    hint: `What comes before was written. Name another safekeeper with --safekeeper, or export what follows with --start ${to}.`,
  });
}
