// All timelines of a safekeeper, by tenant and timeline: found on the disk at the start, made, deleted.
//
//   <tenant>/<timeline>/safekeeper.control, segments    a timeline; it is there or not, never half
//   tmp/<tenant>_<timeline>_<random>_temptli/           one being made or deleted; wiped at the start
//
// A timeline is made aside, whole and durable, then renamed into place and the directories synced; it is deleted
// the other way round. So after a crash it is there whole or not at all. One that cannot be read is kept as it is
// and remembered with its Fault: it can neither be used nor made anew, only deleted; all others are served. If the
// Fault is of a kind that passes (no key for now), loading is tried again.
//
// A deleted timeline leaves a tombstone (in memory, for a day): a compute that still runs must not make it again.
// One left by an exclusion carries a generation, and gives way to a higher one: the node may become a member again.
//
// Answers to GlobalTimelines of safekeeper/src/timelines_global_map.rs.

import { toHex } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { type TenantId, type TimelineId, tenantId, timelineId } from '../base/ids.ts';
import { INVALID_LSN } from '../base/lsn.ts';
import type { Disk, Random } from '../base/ports.ts';
import type { Generation, MembershipConfiguration } from '../protocol/membership.ts';
import type { SealScope, Vault } from '../seal/vault.ts';
import { segmentSizeIsValid } from '../xlog/segment.ts';
import { ControlFile } from './control-file.ts';
import { type ControlState, NO_PROPOSER_UUID } from './control-state.ts';
import { checkMembership, formatMembership } from './membership.ts';
import { Timeline, type TimelineDeps } from './timeline.ts';
import type { TimelineKey, TimelineSeed, WalArchive } from './timeline-handle.ts';

const TMP = 'tmp';
const TOMBSTONE_MS = 24 * 3600 * 1000;
const LOADS_AT_ONCE = 8;

export interface TimelinesDeps extends TimelineDeps {
  /** The data directory: for directories alone. What is in files passes the vault. */
  readonly disk: Disk;
  readonly random: Random;
  readonly vault: (directory: string, scope: SealScope) => Promise<Vault> | Vault;
  /** A timeline's WAL in the object store, where there is one. */
  readonly archive?: (key: TimelineKey, walSegSize: number) => WalArchive;
}

interface Tombstone {
  readonly madeMs: number;
  /** Undefined: for good. */
  readonly generation: Generation | undefined;
  /** A damaged copy was dropped to be fetched again from a peer: that alone may come here. */
  readonly toBePulled?: boolean;
}

type Entry =
  | { readonly kind: 'live'; readonly timeline: Timeline }
  | { readonly kind: 'making' }
  | { readonly kind: 'damaged'; readonly key: TimelineKey; readonly fault: Fault };

const nameOf = (key: TimelineKey): string => `${key.tenantId}/${key.timelineId}`;
const scopeOf = (key: TimelineKey): SealScope => ({ tenant: key.tenantId, timeline: key.timelineId });

export class Timelines {
  private readonly deps: TimelinesDeps;
  private readonly entries = new Map<string, Entry>();
  private readonly reloading = new Set<string>();
  private readonly tombstones = new Map<string, Tombstone>();
  private readonly tenantTombstones = new Map<TenantId, number>();

  private constructor(deps: TimelinesDeps) {
    this.deps = deps;
  }

  /** Finds and loads what is on the disk. A timeline that cannot be loaded harms no other. */
  static async load(deps: TimelinesDeps): Promise<Timelines> {
    const all = new Timelines(deps);
    if (await deps.disk.stat(TMP)) await deps.disk.removeTree(TMP);
    const keys = await all.findKeys();
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < keys.length) await all.loadOne(keys[next++]!);
    };
    await Promise.all(Array.from({ length: Math.min(LOADS_AT_ONCE, keys.length) }, worker));
    return all;
  }

  /**
   * What an earlier process renamed and did not live to sync is seen here and could still be gone after a crash of
   * the machine: every directory is synced before anything in it is believed.
   */
  private async findKeys(): Promise<TimelineKey[]> {
    const { disk } = this.deps;
    const keys: TimelineKey[] = [];
    await disk.syncDirectory('');
    for (const tenant of await disk.list('')) {
      if (!isId(tenant)) continue;
      await disk.syncDirectory(tenant);
      for (const timeline of await disk.list(tenant)) {
        if (isId(timeline)) keys.push({ tenantId: tenantId(tenant), timelineId: timelineId(timeline) });
      }
    }
    return keys;
  }

  private async loadOne(key: TimelineKey): Promise<void> {
    const name = nameOf(key);
    try {
      this.entries.set(name, { kind: 'live', timeline: await this.open(key) });
    } catch (error) {
      if (!isFault(error)) throw error;
      this.deps.log.error('a timeline cannot be loaded', {
        tenant: key.tenantId,
        timeline: key.timelineId,
        error: error.message,
        hint: error.hint,
      });
      this.entries.set(name, { kind: 'damaged', key, fault: error });
    }
  }

  private async open(key: TimelineKey): Promise<Timeline> {
    const vault = await this.deps.vault(nameOf(key), scopeOf(key));
    await vault.sweep();
    await this.deps.disk.syncDirectory(nameOf(key));
    const timeline = await Timeline.load(this.deps, vault);
    // From the first moment on: it may be of WAL that is nowhere else.
    timeline.setArchive(this.deps.archive?.(key, timeline.status().control.server.walSegSize));
    return timeline;
  }

  // ------------------------------------------------------------------------------------------------------ look

  find(key: TimelineKey): Timeline | undefined {
    const entry = this.entries.get(nameOf(key));
    return entry?.kind === 'live' ? entry.timeline : undefined;
  }

  /** The timeline, or the Fault that says why not. */
  get(key: TimelineKey): Timeline {
    const entry = this.entries.get(nameOf(key));
    if (entry?.kind === 'live') return entry.timeline;
    if (entry?.kind === 'damaged') throw entry.fault;
    if (entry?.kind === 'making') throw new Fault('timeline-busy', `timeline ${nameOf(key)} is being made`);
    if (this.tombstones.has(nameOf(key)) || this.tenantTombstones.has(key.tenantId)) throw deleted(key);
    throw new Fault('timeline-missing', `timeline ${nameOf(key)} is not here`);
  }

  all(): Timeline[] {
    return [...this.entries.values()].flatMap(entry => (entry.kind === 'live' ? [entry.timeline] : []));
  }

  damaged(): { readonly key: TimelineKey; readonly fault: Fault }[] {
    return [...this.entries.values()].flatMap(entry => (entry.kind === 'damaged' ? [entry] : []));
  }

  // ------------------------------------------------------------------------------------------------------ make

  /** Makes a timeline, or gives the one there is. */
  async create(seed: TimelineSeed): Promise<Timeline> {
    const { key } = seed;
    if (this.entries.get(nameOf(key))?.kind === 'live') return this.get(key);
    const control = controlOf(seed, this.deps.clock.now());
    return this.install(key, seed.membership.generation, async vault => {
      await ControlFile.create(vault, control);
    });
  }

  /**
   * Makes a timeline of what `fill` writes into an empty vault (a control record and, for one pulled from a peer,
   * its segments): it appears whole or not at all. In its place but not to be opened (the disk failed meanwhile) it
   * is remembered as one found damaged at a start would be: it can be deleted, or is opened when its trouble passes.
   */
  async install(
    key: TimelineKey,
    generation: Generation,
    fill: (vault: Vault) => Promise<void>,
    pulled = false,
  ): Promise<Timeline> {
    const name = nameOf(key);
    this.refuseIfTaken(key, generation, pulled);
    this.entries.set(name, { kind: 'making' });
    let inPlace = false;
    try {
      const temporary = await this.fillAside(key, fill);
      await this.moveIntoPlace(key, temporary, () => {
        inPlace = true;
      });
      const timeline = await this.open(key);
      this.tombstones.delete(name);
      this.entries.set(name, { kind: 'live', timeline });
      return timeline;
    } catch (error) {
      if (inPlace && isFault(error)) this.entries.set(name, { kind: 'damaged', key, fault: error });
      else this.entries.delete(name);
      throw error;
    }
  }

  private refuseIfTaken(key: TimelineKey, generation: Generation, pulled: boolean): void {
    const entry = this.entries.get(nameOf(key));
    if (entry?.kind === 'live') throw new Fault('timeline-exists', `timeline ${nameOf(key)} is here already`);
    if (entry?.kind === 'damaged') throw entry.fault;
    if (entry?.kind === 'making') throw new Fault('timeline-busy', `timeline ${nameOf(key)} is being made`);
    const tombstone = this.tombstones.get(nameOf(key));
    const buried =
      tombstone !== undefined &&
      !(pulled && tombstone.toBePulled) &&
      (tombstone.generation === undefined || tombstone.generation >= generation);
    if (buried || this.tenantTombstones.has(key.tenantId)) throw deleted(key);
  }

  private async fillAside(key: TimelineKey, fill: (vault: Vault) => Promise<void>): Promise<string> {
    const directory = this.temporaryFor(key);
    try {
      await fill(await this.deps.vault(directory, scopeOf(key)));
      return directory;
    } catch (error) {
      // What stays is wiped at the next start.
      await this.deps.disk.removeTree(directory).catch(() => {});
      throw error;
    }
  }

  private temporaryFor(key: TimelineKey): string {
    return `${TMP}/${key.tenantId}_${key.timelineId}_${toHex(this.deps.random.bytes(4))}_temptli`;
  }

  private async moveIntoPlace(key: TimelineKey, temporary: string, onThere: () => void): Promise<void> {
    const { disk } = this.deps;
    // In the map it is not; on the disk it may be, damaged or foreign. Nothing is ever written over it.
    if (await disk.stat(nameOf(key))) {
      throw new Fault('timeline-exists', `the directory of timeline ${nameOf(key)} exists`, {
        hint: 'It was not there at the start: look what put it there, or delete the timeline.',
      });
    }
    await disk.makeDirectory(key.tenantId);
    await disk.syncDirectory('');
    await disk.rename(temporary, nameOf(key));
    onThere();
    await disk.syncDirectory(key.tenantId);
    await disk.syncDirectory(TMP);
  }

  // ---------------------------------------------------------------------------------------------------- delete

  /**
   * Deletes a timeline. `removeRemote` comes before the local removal, so that a failure can be tried again.
   * Deleted before, there is nothing to do.
   */
  async delete(
    key: TimelineKey,
    removeRemote?: () => Promise<void>,
  ): Promise<{ readonly dirExisted: boolean }> {
    if (this.tombstones.has(nameOf(key))) return { dirExisted: false };
    return this.bury(key, undefined, removeRemote);
  }

  /** This node is no member any more: its copy goes, unless it knows a newer configuration than we are told of. */
  async exclude(key: TimelineKey, to: MembershipConfiguration): Promise<{ readonly dirExisted: boolean }> {
    const tombstone = this.tombstones.get(nameOf(key));
    if (tombstone !== undefined && (tombstone.generation ?? Infinity) >= to.generation)
      return { dirExisted: false };
    const current = this.find(key)?.status().control.membership;
    if (current !== undefined && current.generation > to.generation) {
      throw new Fault(
        'generation-mismatch',
        `exclusion by ${formatMembership(to)} is refused, here is ${formatMembership(current)}`,
      );
    }
    return this.bury(key, to.generation);
  }

  private async bury(
    key: TimelineKey,
    generation: Generation | undefined,
    removeRemote?: () => Promise<void>,
  ): Promise<{ readonly dirExisted: boolean }> {
    const { disk } = this.deps;
    const name = nameOf(key);
    const entry = this.entries.get(name);
    if (entry?.kind === 'making') throw new Fault('timeline-busy', `timeline ${name} is being made`);
    if (entry?.kind === 'live') await entry.timeline.close();
    await removeRemote?.();
    const dirExisted = (await disk.stat(name)) !== undefined;
    if (dirExisted) await this.removeDirectory(key);
    this.entries.delete(name);
    const toBePulled = entry?.kind === 'damaged' && removeRemote === undefined;
    this.tombstones.set(name, { madeMs: this.deps.clock.now(), generation, toBePulled });
    return { dirExisted };
  }

  private async removeDirectory(key: TimelineKey): Promise<void> {
    const { disk } = this.deps;
    const temporary = this.temporaryFor(key);
    await disk.makeDirectory(TMP);
    await disk.syncDirectory('');
    await disk.rename(nameOf(key), temporary);
    await disk.syncDirectory(TMP);
    await disk.syncDirectory(key.tenantId);
    await disk.removeTree(temporary);
  }

  /** Every timeline of a tenant. No new one can be made while this goes on, nor after. */
  async deleteTenant(
    tenant: TenantId,
    removeRemote?: (key: TimelineKey) => Promise<void>,
  ): Promise<Map<TimelineId, { readonly dirExisted: boolean }>> {
    this.tenantTombstones.set(tenant, this.deps.clock.now());
    const deletions = new Map<TimelineId, { readonly dirExisted: boolean }>();
    const keys = [...this.entries.values()].flatMap(entry =>
      entry.kind === 'making' ? [] : [entry.kind === 'live' ? entry.timeline.key : entry.key],
    );
    for (const key of keys.filter(key => key.tenantId === tenant)) {
      deletions.set(key.timelineId, await this.delete(key, removeRemote && (() => removeRemote(key))));
    }
    if (await this.deps.disk.stat(tenant)) {
      await this.deps.disk.removeTree(tenant);
      await this.deps.disk.syncDirectory('');
    }
    return deletions;
  }

  /** To be called now and then, a few times a second at most. */
  async tick(): Promise<void> {
    const now = this.deps.clock.now();
    for (const [name, { madeMs }] of this.tombstones) {
      if (now - madeMs >= TOMBSTONE_MS) this.tombstones.delete(name);
    }
    for (const [tenant, madeMs] of this.tenantTombstones) {
      if (now - madeMs >= TOMBSTONE_MS) this.tenantTombstones.delete(tenant);
    }
    for (const { key, fault } of this.damaged()) {
      if (fault.kind !== 'unavailable' && fault.kind !== 'denied') continue;
      // Loaded twice at a time it would be two timelines over one directory.
      if (this.reloading.has(nameOf(key))) continue;
      this.reloading.add(nameOf(key));
      await this.loadOne(key).finally(() => this.reloading.delete(nameOf(key)));
    }
    for (const timeline of this.all()) {
      await timeline.tick().catch((error: unknown) => {
        this.deps.log.warn('upkeep of a timeline failed', {
          timeline: timeline.key.timelineId,
          error: String(error),
        });
      });
    }
  }

  async close(): Promise<void> {
    for (const timeline of this.all()) await timeline.close();
  }
}

const isId = (text: string): boolean => /^[0-9a-f]{32}$/.test(text);

const deleted = (key: TimelineKey): Fault =>
  new Fault('timeline-deleted', `timeline ${nameOf(key)} was deleted here`);

/** The first record of a timeline. */
export function controlOf(seed: TimelineSeed, nowMs: number): ControlState {
  const { startLsn, commitLsn = startLsn } = seed;
  const invalid = (what: string): never => {
    throw new Fault('config-invalid', `timeline ${nameOf(seed.key)} cannot be made: ${what}`);
  };
  if (!segmentSizeIsValid(seed.walSegSize)) invalid(`a WAL segment size of ${seed.walSegSize}`);
  if (seed.pgVersion === 0) invalid('its Postgres version is not known');
  if (commitLsn < startLsn) invalid('it is committed to before its start');
  if (startLsn % 8 !== 0 || commitLsn % 8 !== 0) invalid('its start is no record boundary');
  checkMembership(seed.membership);
  return {
    ...seed.key,
    membership: seed.membership,
    term: 0,
    // A common beginning: whoever is elected finds a point where all logs agree. Without a start (the first
    // elected proposer will say) there is none.
    termHistory: commitLsn === INVALID_LSN ? [] : [{ term: 0, lsn: startLsn }],
    server: { pgVersion: seed.pgVersion, systemId: seed.systemId, walSegSize: seed.walSegSize },
    proposerUuid: NO_PROPOSER_UUID,
    timelineStartLsn: startLsn,
    // WAL before a commit position given by hand is in the object store, not here.
    localStartLsn: commitLsn,
    commitLsn,
    backupLsn: startLsn,
    peerHorizonLsn: startLsn,
    remoteConsistentLsn: INVALID_LSN,
    partialSegments: [],
    eviction: { kind: 'present' },
    createdMs: nowMs,
  };
}
