// A timeline's WAL in the clear, as Postgres keeps it: whole segment files for pg_waldump, a restore, an archive. For
// a key holder; what it writes is sealed no more.
//
//   a safekeeper's directory   what lies there, up to where its frames end
//   the object store           whole segments, and the furthest partial one after them
//
// A segment is taken from the directory if it is there, else from the store. Each comes out at its full size: zeros
// after the last byte; before the first one (a timeline may begin in the middle of a segment) page headers as a
// reader needs them to find it.

import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Blobs, Disk } from '../base/ports.ts';
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

/** One segment in the clear: its bytes at `origin`, for `from` to `to`. */
export interface PlainSegment {
  readonly name: string;
  readonly segno: number;
  readonly origin: number;
  readonly bytes: Uint8Array;
}

const PARTIAL = /^([0-9A-F]{24})_(\d+)_([0-9A-F]{16})_[0-9A-F]{16}_sk\d+\.partial$/;

type Found = { readonly segno: number; open(): Promise<PlainSegment> };

/** In the order of the log. */
export async function findSegments(from: ExportFrom): Promise<Found[]> {
  const found = new Map<number, Found>();
  const add = (segno: number, open: () => Promise<PlainSegment>): void => {
    if (!found.has(segno)) found.set(segno, { segno, open });
  };
  await findLocal(from, add);
  // What a safekeeper holds ends where it should: an incomplete segment of another one does not continue it.
  await findRemote(from, add, found.size === 0);
  return [...found.values()].sort((a, b) => a.segno - b.segno);
}

type Add = (segno: number, open: () => Promise<PlainSegment>) => void;

async function findLocal({ disk, key, vault, segmentSize }: ExportFrom, add: Add): Promise<void> {
  if (!disk) return;
  const directory = `${key.tenantId}/${key.timelineId}`;
  for (const name of await disk.list(directory)) {
    const parsed = parseSegmentFileName(name, segmentSize);
    if (parsed === undefined || parsed.partial) continue;
    add(parsed.segno, async () => {
      const file = await disk.open(`${directory}/${name}`, 'read');
      try {
        const log = await vault.openLogSource(name, await sourceOfFile(file));
        return await plain(name, parsed.segno, log);
      } finally {
        await file.close();
      }
    });
  }
}

async function plain(name: string, segno: number, log: SealedLogSource): Promise<PlainSegment> {
  const { origin, length } = log;
  return { name, segno, origin, bytes: await log.read(origin, length - origin) };
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
      add(parsed.segno, async () => {
        const log = await vault.openLogSource(name, sourceOf(await blobs.get(object)));
        return plain(name, parsed.segno, log);
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
  add(last.segno, async () => {
    const bytes = await vault.unseal(last.object.slice(prefix.length), await blobs.get(last.object));
    const origin = last.flush - segmentStart(last.segno, segmentSize) - bytes.length;
    return { name: segmentFileName(1, last.segno, segmentSize), segno: last.segno, origin, bytes };
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

/** Only those that follow each other; a gap is a Fault that says where. */
export function checkSequence(segments: readonly { readonly segno: number }[], segmentSize: number): void {
  for (let i = 1; i < segments.length; i++) {
    const [before, after] = [segments[i - 1]!.segno, segments[i]!.segno];
    if (after === before + 1) continue;
    throw new Fault(
      'wal-missing',
      `WAL from ${formatLsn(segmentStart(before + 1, segmentSize))} to ${formatLsn(segmentStart(after, segmentSize))} is neither here nor in the object store`,
      { hint: 'Name the part you want with --start and --end, or another safekeeper with --safekeeper.' },
    );
  }
}
