// A whole timeline on its way from one safekeeper to another: a tar archive, in the form that Neon's safekeepers
// give and take.
//
//   safekeeper.control                  the control record, its partial segment by the name it will have there
//   000000010000000000000002            whole segments, as plain WAL
//   000000010000000000000003.partial    the last one, filled up with zeros
//
// It begins at the oldest segment that the object store or the pageserver still lacks, and ends at flush_lsn. If the
// term or its history changes on the way the archive is cut off, for it may mix two histories. Who takes it in writes what he gets
// into an empty vault, checks every record past the committed position, and keeps no byte behind the last whole one.
//
// Answers to stream_snapshot and validate_temp_timeline of safekeeper/src/pull_timeline.rs.

import { Fault, isFault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { readTar, tarEnd, tarHeader, tarPadding } from '../base/tar.ts';
import type { SealedLog, Vault } from '../seal/vault.ts';
import { parseSegmentFileName, segmentFileName, segmentOf, segmentStart } from '../xlog/segment.ts';
import { renamePartial } from './backup-plan.ts';
import {
  CONTROL_FILE_NAME,
  type ControlState,
  decodeControlState,
  encodeControlState,
  sameHistory,
} from './control-state.ts';
import { formatHistory } from './term-history.ts';
import type { Timeline } from './timeline.ts';
import type { TimelineKey } from './timeline-handle.ts';
import type { WalRemote } from './wal-remote.ts';
import { isBadWal, WalScan } from './wal-scan.ts';

const SEGMENTS_MAX = 1000;
const PIECE_BYTES = 1024 * 1024;
/** So much of a segment is sealed in one frame. */
const FLUSH_BYTES = 4 * 1024 * 1024;

export interface SnapshotPlan {
  readonly control: ControlState;
  /** Inclusive; undefined when there is no WAL to send. */
  readonly segments: { readonly from: number; readonly to: number } | undefined;
  readonly flushLsn: Lsn;
}

/** What is to be sent; the partial segment's object is copied to the name it will have at the destination. */
export async function planSnapshot(
  timeline: Timeline,
  source: number,
  destination: number,
  remote: WalRemote | undefined,
): Promise<SnapshotPlan> {
  const { control, flushLsn, offloaded } = timeline.status();
  const { segments, copy } = renamePartial(remote ? control.partialSegments : [], source, destination);
  if (offloaded && !copy) {
    throw new Fault(
      'wal-missing',
      'the WAL of this timeline is in the object store, which is not configured',
    );
  }
  if (copy && remote) {
    const { key } = timeline;
    await remote.copy({ key, name: copy.from }, { key, name: copy.to });
  }
  const sent: ControlState = { ...control, partialSegments: segments };
  if (offloaded || flushLsn === 0 || control.timelineStartLsn === 0) {
    return { control: sent, segments: undefined, flushLsn };
  }
  const size = control.server.walSegSize;
  const needed = Math.min(control.remoteConsistentLsn, control.backupLsn);
  const from = Math.max(segmentOf(needed, size), segmentOf(timeline.status().oldestLsn, size));
  const to = segmentOf(Math.max(flushLsn - 1, 0), size);
  if (to - from + 1 > SEGMENTS_MAX) {
    throw new Fault(
      'config-invalid',
      `the timeline has ${to - from + 1} segments to send, ${SEGMENTS_MAX} at most`,
    );
  }
  return { control: sent, segments: { from, to }, flushLsn };
}

/** The archive, piece by piece; WAL is not removed while it is being sent. */
export async function* sendSnapshot(timeline: Timeline, plan: SnapshotPlan): AsyncGenerator<Uint8Array> {
  const release = timeline.holdRemoval();
  try {
    const record = encodeControlState(plan.control);
    yield tarHeader(CONTROL_FILE_NAME, record.length);
    yield record;
    yield tarPadding(record.length);
    if (plan.segments) {
      for (let segno = plan.segments.from; segno <= plan.segments.to; segno++) {
        yield* sendSegment(timeline, plan, segno);
      }
    }
    checkSameLog(timeline, plan.control, 'the snapshot');
    yield tarEnd();
  } finally {
    release();
  }
}

/**
 * What was read since `before` is one log. A term alone does not tell: whoever was voted for before may be elected
 * now, in the term there is, and put other WAL where we read.
 */
export function checkSameLog(timeline: Timeline, before: ControlState, during: string): void {
  const { term, termHistory } = timeline.status().control;
  if (term === before.term && sameHistory(termHistory, before.termHistory)) return;
  throw new Fault(
    'term-changed',
    `the log changed hands during ${during}: term ${before.term} ${formatHistory(before.termHistory)}, ` +
      `now ${term} ${formatHistory(termHistory)}`,
    { hint: 'Try again.' },
  );
}

async function* sendSegment(
  timeline: Timeline,
  plan: SnapshotPlan,
  segno: number,
): AsyncGenerator<Uint8Array> {
  const { server, timelineStartLsn, localStartLsn } = plan.control;
  const size = server.walSegSize;
  const start = segmentStart(segno, size);
  const end = Math.min(start + size, plan.flushLsn);
  const whole = end === start + size;
  yield tarHeader(segmentFileName(1, segno, size) + (whole ? '' : '.partial'), size);
  // What this node never had, and what lies behind the end, is zeros; before the timeline it is made up.
  const known = start < timelineStartLsn ? start : Math.max(start, localStartLsn);
  if (known > start) yield new Uint8Array(known - start);
  for (let at = known; at < end; ) {
    const piece = await timeline.readWal(at as Lsn, Math.min(PIECE_BYTES, end - at), plan.control.term);
    yield piece;
    at += piece.length;
  }
  if (end < start + size) yield new Uint8Array(start + size - end);
  yield tarPadding(size);
}

/** Takes an archive in: fills `vault`, and gives the control record that it came with. */
export async function receiveSnapshot(
  key: TimelineKey,
  archive: AsyncIterable<Uint8Array>,
  vault: Vault,
): Promise<ControlState> {
  let control: ControlState | undefined;
  let intake: SegmentIntake | undefined;
  for await (const entry of readTar(archive, () => true, PIECE_BYTES)) {
    if (entry.name === CONTROL_FILE_NAME) {
      control = decodeControlState(entry.bytes).state;
      if (control.tenantId !== key.tenantId || control.timelineId !== key.timelineId) {
        throw new Fault('safekeeper-control', 'the snapshot is of another timeline');
      }
      intake = new SegmentIntake(vault, control);
      continue;
    }
    if (!intake) throw new Fault('safekeeper-control', `${entry.name} comes before ${CONTROL_FILE_NAME}`);
    await intake.take(entry.name, entry.offset, entry.bytes);
  }
  if (!control || !intake) throw new Fault('safekeeper-control', 'the snapshot has no control record');
  await intake.finish();
  await vault.writeFile(CONTROL_FILE_NAME, encodeControlState(control));
  return control;
}

/** Segments of an archive into the logs of a vault. */
class SegmentIntake {
  private readonly vault: Vault;
  private readonly control: ControlState;
  private readonly scan: WalScan | undefined;
  private log: SealedLog | undefined;
  private segno = -1;
  private unflushed = 0;
  /** Behind the last whole record: the rest is dropped. */
  private ended = false;

  constructor(vault: Vault, control: ControlState) {
    this.vault = vault;
    this.control = control;
    const { commitLsn, server } = control;
    if (commitLsn > 0) this.scan = new WalScan(commitLsn, server.walSegSize, server.pgVersion);
  }

  async take(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const { walSegSize } = this.control.server;
    const segment = parseSegmentFileName(name.replace(/\.partial$/, ''), walSegSize);
    if (!segment || offset + bytes.length > walSegSize) {
      throw new Fault('safekeeper-wal', `the snapshot holds a file that is no segment: ${name}`);
    }
    if (this.ended) return;
    if (segment.segno !== this.segno) await this.open(segment.segno);
    const start = segmentStart(segment.segno, walSegSize);
    const skip = Math.max(0, this.log!.length - offset);
    if (skip >= bytes.length) return;
    const kept = this.examine(start + offset + skip, bytes.subarray(skip));
    if (kept.length > 0) this.log!.append([kept]);
    this.unflushed += kept.length;
    if (this.unflushed >= FLUSH_BYTES || this.ended) await this.flush();
  }

  private async open(segno: number): Promise<void> {
    await this.close();
    const { localStartLsn, server } = this.control;
    const start = segmentStart(segno, server.walSegSize);
    const origin = localStartLsn > start ? Math.min(localStartLsn - start, server.walSegSize) : 0;
    this.segno = segno;
    this.log = await this.vault.log(segmentFileName(1, segno, server.walSegSize), { create: true, origin });
  }

  /** As much of these bytes as is WAL; what was committed is, or the archive is refused. */
  private examine(lsn: number, bytes: Uint8Array): Uint8Array {
    const { scan } = this;
    const { commitLsn } = this.control;
    if (!scan || lsn + bytes.length <= commitLsn) return bytes;
    const before = Math.max(0, commitLsn - lsn);
    try {
      scan.push(bytes.subarray(before));
      return bytes;
    } catch (error) {
      if (!isBadWal(error)) throw error;
      // Zeros, or what a segment held in an earlier life: WAL ends with the last whole record before.
      this.ended = true;
      return bytes.subarray(0, Math.max(before, scan.boundary - lsn));
    }
  }

  private async flush(): Promise<void> {
    await this.log?.flush();
    this.unflushed = 0;
  }

  private async close(): Promise<void> {
    if (!this.log) return;
    await this.flush();
    await this.log.close();
    this.log = undefined;
  }

  async finish(): Promise<void> {
    await this.close();
    const { commitLsn, localStartLsn } = this.control;
    const reached = this.scan?.position ?? 0;
    if (commitLsn > localStartLsn && this.segno >= 0 && reached < commitLsn) {
      throw new Fault(
        'safekeeper-wal',
        `the snapshot ends before ${formatLsn(commitLsn)}, which is committed`,
      );
    }
  }
}

/** A Fault that says the archive itself is at fault. */
export const isBadSnapshot = (error: unknown): boolean =>
  isFault(error, 'safekeeper-control') || isFault(error, 'safekeeper-wal') || isFault(error, 'bytes-short');
