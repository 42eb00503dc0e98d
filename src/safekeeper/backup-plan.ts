// What goes to the object store, and who takes it there. Whole segments are uploaded once, by one safekeeper of
// the timeline; the incomplete one after it by each for itself, now and then, under a name that says how far.
//
//   <tenant>/<timeline>/000000010000000000000002
//   <tenant>/<timeline>/000000010000000000000003_<term>_<flush lsn>_<commit lsn>_sk<node>.partial
//
// The uploader is chosen by each on its own from what the broker tells of the peers; for a moment two may think it
// is them, and then upload the same bytes. A partial segment is written down in the control file before it is
// uploaded, and forgotten after it was removed: so nothing is left in the store that nobody knows of.
//
// Answers to wal_backup.rs (determine_offloader, get_segments) and wal_backup_partial.rs of safekeeper/src.

import { assert } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { Term } from '../protocol/walproposer.ts';
import { segmentFileName, segmentOf, segmentStart } from '../xlog/segment.ts';
import type { PartialSegment } from './control-state.ts';
import type { PeerInfo, TimelineKey } from './timeline-handle.ts';

export interface UploadSegment {
  readonly segno: number;
  /** The object's name below the timeline's prefix. */
  readonly name: string;
  /** backup_lsn once this one, and all before it, are uploaded. */
  readonly endLsn: Lsn;
}

export const timelinePrefix = (key: TimelineKey): string => `${key.tenantId}/${key.timelineId}/`;

/** Should anybody be uploading? While a compute writes, so that the uploader is in place when a segment fills. */
export function backupNeeded(computes: number, commitLsn: Lsn, backupLsn: Lsn, segmentSize: number): boolean {
  return computes > 0 || segmentOf(commitLsn, segmentSize) > segmentOf(backupLsn, segmentSize);
}

/** Whole committed segments from backup_lsn on, in order. */
export function segmentsToUpload(backupLsn: Lsn, commitLsn: Lsn, segmentSize: number): UploadSegment[] {
  const found: UploadSegment[] = [];
  for (let segno = segmentOf(backupLsn, segmentSize); segno < segmentOf(commitLsn, segmentSize); segno++) {
    const name = segmentFileName(1, segno, segmentSize);
    found.push({ segno, name, endLsn: segmentStart(segno + 1, segmentSize) });
  }
  return found;
}

export interface UploaderChoice {
  readonly timelineId: TimelineId;
  readonly backupLsn: Lsn;
  readonly maxLagBytes: number;
}

/**
 * The one uploader among peers that were heard of lately (ourselves among them). Only those that have the WAL to
 * upload, and are not far behind; among them the timeline's id decides, which spreads the timelines.
 */
export function electUploader(peers: readonly PeerInfo[], choice: UploaderChoice): number | undefined {
  const capable = peers.filter(peer => peer.localStartLsn <= choice.backupLsn);
  const best = capable.reduce((most, peer) => Math.max(most, peer.commitLsn), 0);
  const ids = capable
    .filter(peer => peer.commitLsn >= best - choice.maxLagBytes)
    .map(peer => peer.nodeId)
    .sort((a, b) => a - b);
  if (ids.length === 0) return undefined;
  return ids[Number(idAsNumber(choice.timelineId) % BigInt(ids.length))];
}

/** Sixteen bytes as a little-endian number: all nodes, theirs and ours, must come to the same choice. */
const idAsNumber = (id: string): bigint => BigInt(`0x${id.match(/../g)!.reverse().join('')}`);

export interface LogEnd {
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly lastLogTerm: Term;
}

export function partialSegmentOf(end: LogEnd, nodeId: number, segmentSize: number): PartialSegment {
  const segment = segmentFileName(1, segmentOf(end.flushLsn, segmentSize), segmentSize);
  const position = (lsn: Lsn): string => lsn.toString(16).toUpperCase().padStart(16, '0');
  const { flushLsn, commitLsn, lastLogTerm } = end;
  return {
    status: 'in-progress',
    name: `${segment}_${lastLogTerm}_${position(flushLsn)}_${position(commitLsn)}_sk${nodeId}.partial`,
    commitLsn,
    flushLsn,
    term: lastLogTerm,
  };
}

export const uploadedPartial = (segments: readonly PartialSegment[]): PartialSegment | undefined =>
  segments.find(segment => segment.status === 'uploaded');

/** Is what was uploaded still all there is? */
export function partialUploadNeeded(segments: readonly PartialSegment[], end: LogEnd): boolean {
  const uploaded = uploadedPartial(segments);
  return (
    uploaded === undefined ||
    uploaded.flushLsn !== end.flushLsn ||
    uploaded.commitLsn !== end.commitLsn ||
    uploaded.term !== end.lastLogTerm
  );
}

/** First, before the upload: the control file knows of it. */
export const beginPartial = (segments: readonly PartialSegment[], next: PartialSegment): PartialSegment[] => [
  ...segments.filter(segment => segment.name !== next.name),
  { ...next, status: 'in-progress' },
];

/** Second, after it: it is the one, and all others are to go. */
export const finishPartial = (
  segments: readonly PartialSegment[],
  done: PartialSegment,
): PartialSegment[] => [
  ...segments
    .filter(segment => segment.name !== done.name)
    .map((segment): PartialSegment => ({ ...segment, status: 'deleting' })),
  { ...done, status: 'uploaded' },
];

/** Third: the objects to remove, and last, when they are gone, what the control file still knows. */
export function collectPartial(segments: readonly PartialSegment[]): {
  readonly remove: readonly string[];
  readonly keep: readonly PartialSegment[];
} {
  const keep = segments.filter(segment => segment.status === 'uploaded');
  assert(keep.length <= 1, 'more than one partial segment is the uploaded one');
  return {
    remove: segments.filter(segment => segment.status !== 'uploaded').map(segment => segment.name),
    keep,
  };
}

/** In a snapshot for another node the partial segment goes by that node's name; its object is copied to it. */
export function renamePartial(
  segments: readonly PartialSegment[],
  from: number,
  to: number,
): {
  readonly segments: PartialSegment[];
  readonly copy: { readonly from: string; readonly to: string } | undefined;
} {
  const uploaded = uploadedPartial(segments);
  if (uploaded === undefined) return { segments: [], copy: undefined };
  const suffix = `_sk${from}.partial`;
  if (!uploaded.name.endsWith(suffix)) {
    throw new Fault('safekeeper-control', `partial segment ${uploaded.name} is not of node ${from}`);
  }
  const name = `${uploaded.name.slice(0, -suffix.length)}_sk${to}.partial`;
  return { segments: [{ ...uploaded, name }], copy: { from: uploaded.name, to: name } };
}
