// A timeline's WAL in the object store: put there, read back, copied, removed. Objects are sealed, each bound to its
// timeline and name; a whole segment goes up as the very bytes that lie on the disk.
//
//   <tenant>/<timeline>/000000010000000000000002                    a sealed log, whole
//   <tenant>/<timeline>/000000010000000000000003_<...>_sk1.partial   a sealed file: [origin, flush) of a segment
//
// A segment read back is fetched whole, once, and kept for the readers that come next: a few of them, for the whole
// process.
//
// Answers to safekeeper/src/wal_backup.rs.

import { Fault, isFault } from '../base/fault.ts';
import { SingleFlight } from '../base/flow.ts';
import type { Blobs, Source } from '../base/ports.ts';
import type { SealedLogSource, SealScope, Vault } from '../seal/vault.ts';
import { segmentFileName, segmentOffset } from '../xlog/segment.ts';
import { timelinePrefix } from './backup-plan.ts';
import type { PartialSegment } from './control-state.ts';
import type { TimelineHandle, TimelineKey, WalArchive } from './timeline-handle.ts';

/** Segments kept open after they were fetched. */
const KEPT_MAX = 4;
const REMOVE_AT_ONCE = 1000;
/** Pieces in which a partial segment is read for its upload. */
const READ_BYTES = 1024 * 1024;

const scopeOf = (key: TimelineKey): SealScope => ({ tenant: key.tenantId, timeline: key.timelineId });

const sourceOver = (bytes: Uint8Array): Source => ({
  size: bytes.length,
  read: async (offset, length) => bytes.subarray(offset, offset + length),
});

export class WalRemote {
  private readonly blobs: Blobs;
  private readonly vaultOf: (key: TimelineKey) => Promise<Vault> | Vault;
  private readonly kept = new Map<string, SealedLogSource>();
  private readonly fetches = new SingleFlight<SealedLogSource>();
  /** Objects on their way up, by timeline: whoever removes all waits for them. */
  private readonly puts = new Map<string, Set<Promise<unknown>>>();

  /** `vaultOf` gives the vault of a timeline's own directory. */
  constructor(blobs: Blobs, vaultOf: (key: TimelineKey) => Promise<Vault> | Vault) {
    this.blobs = blobs;
    this.vaultOf = vaultOf;
  }

  // --------------------------------------------------------------------------------------------------- put there

  private onItsWay<T>(key: TimelineKey, put: Promise<T>): Promise<T> {
    const prefix = timelinePrefix(key);
    const puts = this.puts.get(prefix) ?? new Set();
    this.puts.set(prefix, puts.add(put));
    const done = (): void => {
      puts.delete(put);
      if (puts.size === 0) this.puts.delete(prefix);
    };
    put.then(done, done);
    return put;
  }

  /** A whole segment, as it lies here. */
  putSegment(key: TimelineKey, name: string): Promise<void> {
    return this.onItsWay(key, this.putSegmentNow(key, name));
  }

  private async putSegmentNow(key: TimelineKey, name: string): Promise<void> {
    const vault = await this.vaultOf(key);
    const file = await vault.copyOut(name);
    try {
      await this.blobs.put(timelinePrefix(key) + name, await file.read(0, file.size));
    } finally {
      await file.close();
    }
  }

  /** What there is of the last segment, up to the partial's flush position; its bytes. */
  putPartial(timeline: TimelineHandle, partial: PartialSegment, term: number): Promise<number> {
    return this.onItsWay(timeline.key, this.putPartialNow(timeline, partial, term));
  }

  private async putPartialNow(
    timeline: TimelineHandle,
    partial: PartialSegment,
    term: number,
  ): Promise<number> {
    const { control } = timeline.status();
    const { walSegSize } = control.server;
    const start = partial.flushLsn - segmentOffset(partial.flushLsn, walSegSize);
    const pieces: Uint8Array[] = [];
    for (let at = Math.max(start, control.timelineStartLsn); at < partial.flushLsn; ) {
      const piece = await timeline.readWal(
        at as typeof partial.flushLsn,
        Math.min(READ_BYTES, partial.flushLsn - at),
        term,
      );
      pieces.push(piece);
      at += piece.length;
    }
    const vault = await this.vaultOf(timeline.key);
    const sealed = await vault.seal(partial.name, Buffer.concat(pieces));
    await this.blobs.put(timelinePrefix(timeline.key) + partial.name, sealed);
    return sealed.length;
  }

  // -------------------------------------------------------------------------------------------------- read back

  archive(key: TimelineKey, walSegSize: number): WalArchive {
    return {
      read: async (segno, offset, length) => {
        const log = await this.segment(key, segmentFileName(1, segno, walSegSize));
        return log.read(offset, length);
      },
      readPartial: async (partial, segno, offset, length) => {
        const vault = await this.vaultOf(key);
        const sealed = await this.blobs.get(timelinePrefix(key) + partial.name);
        const bytes = await vault.unseal(partial.name, sealed);
        // It begins where the segment's WAL does, and ends where it was flushed.
        const origin = segmentOffset(partial.flushLsn, walSegSize) - bytes.length;
        if (offset < origin || offset + length > origin + bytes.length) {
          throw new Fault(
            'wal-missing',
            `${partial.name} does not hold ${offset}..${offset + length} of ${segno}`,
          );
        }
        return bytes.subarray(offset - origin, offset - origin + length);
      },
    };
  }

  private async segment(key: TimelineKey, name: string): Promise<SealedLogSource> {
    const object = timelinePrefix(key) + name;
    const kept = this.kept.get(object);
    if (kept) {
      this.kept.delete(object);
      this.kept.set(object, kept);
      return kept;
    }
    return this.fetches.run(object, async () => {
      const vault = await this.vaultOf(key);
      const log = await vault.openLogSource(name, sourceOver(await this.blobs.get(object)));
      this.kept.set(object, log);
      while (this.kept.size > KEPT_MAX) await this.letGo(this.kept.keys().next().value!);
      return log;
    });
  }

  private async letGo(object: string): Promise<void> {
    const log = this.kept.get(object);
    this.kept.delete(object);
    await log?.close();
  }

  // ------------------------------------------------------------------------------------------- copied and removed

  /** The object under another name or another timeline of the tenant; its bytes stay sealed. */
  async copy(
    from: { key: TimelineKey; name: string },
    to: { key: TimelineKey; name: string },
  ): Promise<void> {
    const vault = await this.vaultOf(to.key);
    const sealed = sourceOver(await this.blobs.get(timelinePrefix(from.key) + from.name));
    const bound = await vault.rebind(to.name, sealed, { scope: scopeOf(from.key), name: from.name });
    await this.blobs.put(timelinePrefix(to.key) + to.name, await bound.read(0, bound.size));
  }

  async remove(key: TimelineKey, names: readonly string[]): Promise<void> {
    await this.blobs.remove(names.map(name => timelinePrefix(key) + name));
    for (const name of names) await this.letGo(timelinePrefix(key) + name);
  }

  /** Every object of a timeline that is closed, those included that are on their way up. */
  async removeAll(key: TimelineKey): Promise<void> {
    await Promise.allSettled(this.puts.get(timelinePrefix(key)) ?? []);
    let batch: string[] = [];
    for await (const { key: object } of this.blobs.list(timelinePrefix(key))) {
      batch.push(object);
      await this.letGo(object);
      if (batch.length === REMOVE_AT_ONCE) {
        await this.blobs.remove(batch);
        batch = [];
      }
    }
    if (batch.length > 0) await this.blobs.remove(batch);
  }
}

/** Trouble of the object store that may pass. */
export const mayPass = (error: unknown): boolean =>
  isFault(error) && (error.kind === 'unavailable' || error.kind === 'missing');
