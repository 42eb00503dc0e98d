// Which of a heap of segment files make up one log: a timeline's own, and before them those of the timelines it
// comes from.
//
//   00000003.history:   1 <tab> 0/5000060 <tab> no recovery target specified       parent, where it was left, why
//                       2 <tab> 0/7000098 <tab> ...                                one line each, the oldest first
//
// A promotion copies the segment that it happens in to the new timeline and goes on there. From that segment on the
// parent's files are of another history (or the same bytes again) and are left alone, whether or not the child has
// the segment: a hole is better than a log that never was. Without a history file every lower timeline counts as
// an ancestor, left where the next one's files begin.
//
// Mirrors readTimeLineHistory of timeline.c and XLogFileReadAnyTLI of xlogrecovery.c.

import { Fault } from '../../base/fault.ts';
import { type Lsn, parseLsn } from '../../base/lsn.ts';
import type { SegmentName } from '../../xlog/segment.ts';

/** A timeline that was left, and where. */
export interface Ancestor {
  readonly tli: number;
  readonly switchpoint: Lsn;
}

export const HISTORY_NAME = /^([0-9A-F]{8})\.history$/;

export function historyFileName(tli: number): string {
  return `${tli.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

/** The ancestors that a history file tells of, the oldest first. */
export function parseHistory(name: string, text: string): Ancestor[] {
  const ancestors: Ancestor[] = [];
  for (const line of text.split('\n')) {
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(\s|$)/.exec(line);
    const before = ancestors.at(-1);
    const ancestor = match && { tli: Number(match[1]), switchpoint: parseLsn(match[2]!) };
    if (
      ancestor === null ||
      (before !== undefined && (ancestor.tli <= before.tli || ancestor.switchpoint < before.switchpoint))
    ) {
      throw new Fault('wal-history', `${name}: not a line of a timeline history: ${line.slice(0, 80)}`, {
        hint: 'Each line is a timeline, where it was left and why; both ascend. Take another copy of the file.',
      });
    }
    ancestors.push(ancestor);
  }
  return ancestors;
}

/** The files that make up the log of `tli`, in its order. `ancestors` as its history file has them, if there is one. */
export function chooseSegments<F extends SegmentName>(
  files: readonly F[],
  tli: number,
  ancestors: readonly Ancestor[] | undefined,
  segmentSize: number,
): F[] {
  const chosen = new Map<number, F>();
  const take = (timeline: number, from: number, before: number): void => {
    for (const file of files) {
      if (file.tli !== timeline || file.segno < from || file.segno >= before) continue;
      // A segment that was archived half-written may be there as a whole one too.
      if (chosen.get(file.segno)?.partial !== false) chosen.set(file.segno, file);
    }
  };
  if (ancestors !== undefined) {
    let from = 0;
    for (const ancestor of ancestors) {
      const left = Math.floor(ancestor.switchpoint / segmentSize);
      take(ancestor.tli, from, left);
      from = left;
    }
    take(tli, from, Infinity);
  } else {
    let before = Infinity;
    const timelines = [...new Set(files.map(file => file.tli))].filter(t => t <= tli).sort((a, b) => b - a);
    for (const timeline of timelines) {
      take(timeline, 0, before);
      before = Math.min(...chosen.keys());
    }
  }
  return [...chosen.values()].sort((a, b) => a.segno - b.segno);
}
