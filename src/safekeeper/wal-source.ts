// WAL for readers, from wherever it is: the local segments; the object store, for what was removed here or never
// was here; and made up, for the stretch of the first segment that lies before the timeline's beginning (a
// reader that takes whole segments, such as pg_waldump or a standby, wants it as a base backup would have it).
//
//   | first segment                          | ...           |            |
//     made up ........ | timelineStartLsn      archive         local ... flushLsn
//
// Answers to WalReader of safekeeper/src/wal_storage.rs.

import { EMPTY_BYTES } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { dialectOfVersionNumber } from '../xlog/dialects/all.ts';
import { segmentOf, segmentOffset, segmentPrefix } from '../xlog/segment.ts';
import type { ControlState } from './control-state.ts';
import type { WalArchive } from './timeline-handle.ts';
import type { WalStore } from './wal-store.ts';

export interface WalPlaces {
  readonly control: ControlState;
  readonly flushLsn: Lsn;
  readonly store: WalStore;
  readonly archive: WalArchive | undefined;
}

/** At most `length` bytes from `from`: fewer at the end of a segment, of a place, or of WAL. */
export async function readThrough(places: WalPlaces, from: Lsn, length: number): Promise<Uint8Array> {
  const { control, store, archive, flushLsn } = places;
  const { walSegSize } = control.server;
  const start = control.timelineStartLsn;
  if (from > flushLsn) {
    throw new Fault(
      'wal-missing',
      `WAL at ${formatLsn(from)} was asked for, it ends at ${formatLsn(flushLsn)}`,
    );
  }
  const count = Math.min(length, flushLsn - from, walSegSize - segmentOffset(from, walSegSize));
  if (count <= 0) return EMPTY_BYTES;
  if (from < start) {
    if (segmentOf(from, walSegSize) < segmentOf(start, walSegSize)) {
      throw new Fault(
        'wal-missing',
        `WAL at ${formatLsn(from)} is before the timeline, which begins at ${formatLsn(start)}`,
      );
    }
    return madeUp(control, from, Math.min(count, start - from));
  }
  if (store.holds(from)) return store.read(from, count);
  if (archive === undefined) {
    throw new Fault('wal-missing', `WAL at ${formatLsn(from)} is not kept here any more`, {
      hint: 'It was removed after it had been uploaded: configure the object store, or ask a peer.',
    });
  }
  // Only whole segments are in the archive under their own name; the first one may begin in its middle.
  const toLocal = store.oldestLsn > from ? store.oldestLsn - from : count;
  return archive.read(segmentOf(from, walSegSize), segmentOffset(from, walSegSize), Math.min(count, toLocal));
}

/** Page headers and zeros, up to the first byte that was ever written. */
function madeUp(control: ControlState, from: Lsn, length: number): Uint8Array {
  const { pgVersion, systemId, walSegSize } = control.server;
  const magic = dialectOfVersionNumber(pgVersion, 'neon').xlogPageMagic;
  const log = { magic, tli: 1, sysid: systemId, segmentSize: walSegSize };
  const prefix = segmentPrefix(log, control.timelineStartLsn);
  const bytes = new Uint8Array(length);
  bytes.set(prefix.subarray(segmentOffset(from, walSegSize)).subarray(0, length));
  return bytes;
}
