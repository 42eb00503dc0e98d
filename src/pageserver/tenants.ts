// All tenant shards of this pageserver: which are here and how, as the control plane wants it.
//
//   start    what the disk remembers (config-v1), what the control plane says (re-attach): exactly its answer is
//            attached, and what it does not name is removed from the disk, which is only a cache. A tenant whose
//            keys may not be used now is closed: it is tried again until they may, and holds up nobody else
//   upsert   location_config: attach, change, replace by a newer generation, keep as a secondary
//   detach   gone from here; the object store keeps it
//
// The configuration is on the disk before the attachment begins. One change of a shard at a time; different shards
// change side by side.
//
// Answers to pageserver/src/tenant/mgr.rs.

import { Fault, isFault } from '../base/fault.ts';
import { Semaphore } from '../base/flow.ts';
import { parseTenantShard, type TenantId, type TimelineId } from '../base/ids.ts';
import { decodeLocation, encodeLocation, isAttached, type LocationConf, planTransition } from './location.ts';
import type { NodeDeps } from './node.ts';
import { CONFIG_NAME, shardText, TENANTS, type TenantShard, tenantDirectory } from './remote/paths.ts';
import { mayPassInTime } from './remote/retry.ts';
import { Secondary } from './secondary.ts';
import type { ServedTimeline, ServedTimelines } from './served.ts';
import { DEFAULT_STRIPE_SIZE } from './shard.ts';
import { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { ReAttached } from './upcalls.ts';

/** Requests wait this long for a tenant or a timeline that is not active yet. */
export const ACTIVE_WAIT_MS = 5000;

/** A tenant without keys is looked at again this often. */
const REOPEN_MS = 5000;
/** Tenants whose configuration is read at once. */
const STARTS_AT_ONCE = 16;
/** A start waits so long for all of them; the rest goes on beside what is served. */
const START_MS = 5000;

interface Slot {
  readonly at: TenantShard;
  conf: LocationConf;
  /** Of an attached one. */
  tenant: Tenant | undefined;
  /** Of a warm one. */
  secondary: Secondary | undefined;
}

export interface UpsertOptions {
  /** Before it may not upload any more, this much time is given to upload what was received. */
  readonly flushMs?: number | undefined;
}

export class Tenants implements ServedTimelines {
  readonly deps: NodeDeps;
  private readonly slots = new Map<string, Slot>();
  private readonly changing = new Map<string, Semaphore>();
  /** Tenants that are to be here and cannot, for want of keys; and why. */
  private readonly closed = new Map<string, Fault>();
  private readonly stopping = new AbortController();

  constructor(deps: NodeDeps) {
    this.deps = deps;
  }

  // ------------------------------------------------------------------------------------------------------- start

  /** Resolves when the control plane has said what is ours; attaching goes on by itself. */
  async start(): Promise<void> {
    const { controlPlane, disk, log } = this.deps;
    const kept = await this.keptShards();
    const answer = await controlPlane.reAttach(kept.size === 0, this.stopping.signal);
    const wanted = answer ? saidOf(answer) : new Map([...kept].map(([name, at]) => [name, { at }]));
    for (const [name, at] of kept) if (!wanted.has(name)) await disk.removeTree(tenantDirectory(at));
    for (const [name, { at }] of wanted) this.closed.set(name, notYet(at));
    const turns = new Semaphore(STARTS_AT_ONCE);
    const all = Promise.all([...wanted.values()].map(one => turns.run(() => this.bringBack(one))));
    // A key service that does not answer holds up its tenants, not the node.
    await this.within(START_MS, all);
    log.info('tenants are being attached', { known: kept.size, attached: wanted.size });
  }

  private async within(ms: number, work: Promise<unknown>): Promise<void> {
    const done = new AbortController();
    const late = this.deps.clock.sleep(ms, done.signal).catch(() => undefined);
    work.catch(error => {
      if (!this.stopping.signal.aborted) throw error;
    });
    await Promise.race([work, late]);
    done.abort(new Error('no longer waited for'));
  }

  /** Every tenant directory. */
  private async keptShards(): Promise<Map<string, TenantShard>> {
    const { disk, log } = this.deps;
    const kept = new Map<string, TenantShard>();
    if (!(await disk.stat(TENANTS))) return kept;
    for (const name of await disk.list(TENANTS)) {
      const at = shardOf(name);
      if (at) kept.set(name, at);
      else log.info('not a tenant: left alone', { name });
    }
    return kept;
  }

  /** What this node kept of it; undefined when there is nothing that can be read, now or later. */
  private async readConfig(at: TenantShard): Promise<LocationConf | undefined> {
    const where = `${tenantDirectory(at)}/${CONFIG_NAME}`;
    try {
      return decodeLocation(await this.vaultOf(at).readFile(CONFIG_NAME), where);
    } catch (error) {
      if (!isFault(error) || mayPassInTime(error)) throw error;
      if (error.code !== 'file-missing')
        this.deps.log.warn('the configuration of a tenant cannot be read', { where, error: error.message });
      return undefined;
    }
  }

  private vaultOf(at: TenantShard): Tenant['vault'] {
    return this.deps.vault(tenantDirectory(at), { tenant: at.tenant });
  }

  /** As it was here, or as the control plane says; without keys it is closed, and tried again in the background. */
  private async bringBack(one: Said): Promise<void> {
    try {
      await this.place(one);
    } catch (error) {
      if (!isFault(error) || this.stopping.signal.aborted) throw error;
      const name = shardText(one.at);
      if (!this.closed.has(name)) return;
      this.deps.log.error('a tenant cannot be attached now; it is tried again', {
        tenant: name,
        error: error.message,
        hint: error.hint,
      });
      this.closed.set(name, error);
      void this.reopen(one).catch(later => {
        if (!this.stopping.signal.aborted)
          this.deps.log.error('a tenant stays closed', { tenant: name, error: later });
      });
    }
  }

  private async place({ at, said }: Said): Promise<void> {
    const kept = await this.readConfig(at);
    const raise = this.deps.controlPlane.standsAlone ? 1 : 0;
    const conf = said ? locationSaid(said, kept) : kept && raised(kept, raise);
    if (!this.closed.has(shardText(at))) return; // somebody said since how it is to be here
    if (conf) return this.upsert(at, conf);
    this.closed.delete(shardText(at));
    this.deps.log.error('a tenant is not attached: nobody says how', { tenant: shardText(at) });
  }

  private async reopen(one: Said): Promise<void> {
    const { clock } = this.deps;
    const name = shardText(one.at);
    for (;;) {
      await clock.sleep(REOPEN_MS, this.stopping.signal);
      if (!this.closed.has(name)) return;
      try {
        await this.place(one);
        this.closed.delete(name);
        return;
      } catch (error) {
        if (!isFault(error)) throw error;
        this.closed.set(name, error);
      }
    }
  }

  // ------------------------------------------------------------------------------------------------------ changes

  private exclusively<T>(at: TenantShard, work: () => Promise<T>): Promise<T> {
    const name = shardText(at);
    let gate = this.changing.get(name);
    if (!gate) this.changing.set(name, (gate = new Semaphore(1)));
    return gate.run(work);
  }

  /** The shard is here in this way from now on. */
  upsert(at: TenantShard, conf: LocationConf, options: UpsertOptions = {}): Promise<void> {
    return this.exclusively(at, async () => {
      this.checkOpen();
      const name = shardText(at);
      const slot = this.slots.get(name);
      const plan = planTransition(slot?.conf, conf);
      if (slot?.tenant && conf.mode === 'AttachedStale' && options.flushMs) {
        await slot.tenant.flush(options.flushMs);
      }
      await this.claim(at, conf);
      await this.vaultOf(at).writeFile(CONFIG_NAME, encodeLocation(conf));
      this.closed.delete(name);
      if (slot && plan.do === 'update') {
        slot.conf = conf;
        slot.tenant?.update(conf);
        return;
      }
      await this.stopSlot(slot);
      const attached = isAttached(conf);
      this.slots.set(name, {
        at,
        conf,
        tenant: attached ? new Tenant(this.deps, at, conf) : undefined,
        secondary: attached ? undefined : new Secondary(this.deps, at),
      });
    });
  }

  /** Nothing is written under keys of another CMK than the one that was named. */
  private async claim(at: TenantShard, conf: LocationConf): Promise<void> {
    try {
      await this.deps.claimKeys(at.tenant, conf.overrides.encryption_key);
    } catch (error) {
      this.releaseIfGone(at.tenant);
      throw error;
    }
  }

  private releaseIfGone(tenant: TenantId): void {
    const closed = [...this.closed.keys()].some(name => shardOf(name)?.tenant === tenant);
    if (this.shardsOf(tenant).length === 0 && !closed) this.deps.releaseKeys(tenant);
  }

  private async stopSlot(slot: Slot | undefined): Promise<void> {
    if (!slot) return;
    await slot.secondary?.stop(moved(slot.at));
    await slot.tenant?.stop(moved(slot.at));
  }

  /** Other settings for an attached tenant. */
  configure(at: TenantShard, change: (conf: LocationConf) => LocationConf): Promise<void> {
    return this.exclusively(at, async () => {
      const slot = this.slotOf(at);
      const conf = change(slot.conf);
      await this.claim(at, conf);
      await this.vaultOf(at).writeFile(CONFIG_NAME, encodeLocation(conf));
      slot.conf = conf;
      slot.tenant?.update(conf);
    });
  }

  /** Gone from here, files included; nothing to do when it is not here. */
  detach(at: TenantShard, options: UpsertOptions = {}): Promise<void> {
    return this.exclusively(at, async () => {
      const slot = this.slots.get(shardText(at));
      if (slot?.tenant && options.flushMs) await slot.tenant.flush(options.flushMs);
      await this.stopSlot(slot);
      this.slots.delete(shardText(at));
      this.closed.delete(shardText(at));
      await this.deps.disk.removeTree(tenantDirectory(at));
      this.releaseIfGone(at.tenant);
    });
  }

  /** Shut down and attached anew under the same generation; `between` runs while it is down. */
  reload(
    at: TenantShard,
    options: { dropCache?: boolean } = {},
    between?: () => Promise<void>,
  ): Promise<void> {
    return this.exclusively(at, async () => {
      const slot = this.slotOf(at);
      await slot.tenant?.stop(moved(at));
      await between?.();
      if (options.dropCache) await this.dropCache(at, slot.conf);
      if (isAttached(slot.conf)) slot.tenant = new Tenant(this.deps, at, slot.conf);
    });
  }

  private async dropCache(at: TenantShard, conf: LocationConf): Promise<void> {
    await this.deps.disk.removeTree(tenantDirectory(at));
    await this.vaultOf(at).writeFile(CONFIG_NAME, encodeLocation(conf));
  }

  // --------------------------------------------------------------------------------------------------------- look

  private slotOf(at: TenantShard): Slot {
    const slot = this.slots.get(shardText(at));
    if (slot) return slot;
    const closed = this.closed.get(shardText(at));
    if (closed) throw closed;
    throw new Fault('tenant-missing', `tenant ${shardText(at)} not found`, {
      hint: 'It is not attached to this pageserver.',
    });
  }

  /** The attached tenant, or the Fault that says why not. */
  get(at: TenantShard): Tenant {
    this.checkOpen();
    const { tenant } = this.slotOf(at);
    if (tenant) return tenant;
    throw new Fault('tenant-busy', `tenant ${shardText(at)} is here as a secondary only`);
  }

  /** Once it is active, waiting a while for it. */
  async active(at: TenantShard): Promise<Tenant> {
    const tenant = this.get(at);
    await tenant.waitActive(ACTIVE_WAIT_MS);
    return tenant;
  }

  secondary(at: TenantShard): Secondary | undefined {
    return this.slots.get(shardText(at))?.secondary;
  }

  secondaries(): Secondary[] {
    return [...this.slots.values()].flatMap(({ secondary }) => secondary ?? []);
  }

  location(at: TenantShard): LocationConf {
    return this.slotOf(at).conf;
  }

  locations(): readonly Pick<Slot, 'at' | 'conf'>[] {
    return [...this.slots.values()];
  }

  attached(): Tenant[] {
    return [...this.slots.values()].flatMap(({ tenant }) => tenant ?? []);
  }

  timelines(): TenantTimeline[] {
    return this.attached().flatMap(tenant => [...tenant.timelines.values()]);
  }

  shardsOf(tenant: TenantId): Pick<Slot, 'at' | 'conf' | 'tenant'>[] {
    return [...this.slots.values()].filter(slot => slot.at.tenant === tenant);
  }

  async find(tenantId: TenantId, timeline: TimelineId): Promise<readonly ServedTimeline[]> {
    this.checkOpen();
    const tenants = this.shardsOf(tenantId).flatMap(({ tenant }) => tenant ?? []);
    if (tenants.length === 0) {
      for (const [name, why] of this.closed) if (shardOf(name)?.tenant === tenantId) throw why;
      throw new Fault('tenant-missing', `tenant ${tenantId} not found`, {
        hint: 'It is not attached to this pageserver.',
      });
    }
    return Promise.all(tenants.map(tenant => tenant.activeTimeline(timeline, ACTIVE_WAIT_MS)));
  }

  // ---------------------------------------------------------------------------------------------------------- end

  private checkOpen(): void {
    if (this.stopping.signal.aborted) throw this.stopping.signal.reason;
  }

  /** What was received is uploaded, as far as that is possible within the time; then everything ends. */
  async close(flushMs: number): Promise<void> {
    const why = new Fault('shutting-down', 'the pageserver is shutting down');
    const tenants = this.attached();
    for (const timeline of this.timelines()) await timeline.stopReceiving(why);
    if (flushMs > 0) await Promise.all(tenants.map(tenant => tenant.flush(flushMs)));
    this.stopping.abort(why);
    await this.deps.remote.deletions.close();
    await this.deps.remote.validator.close();
    await Promise.all([...this.slots.values()].map(slot => this.endSlot(slot, why)));
  }

  private async endSlot({ tenant, secondary }: Slot, why: Fault): Promise<void> {
    await secondary?.stop(why);
    await tenant?.stop(why);
  }
}

/** A shard that is to be here: as the control plane says, or else as this node kept it. */
interface Said {
  readonly at: TenantShard;
  readonly said?: ReAttached;
}

function saidOf(answer: readonly ReAttached[]): Map<string, Said> {
  const here = answer.filter(({ mode }) => mode !== 'Detached');
  return new Map(here.map(said => [shardText(said.at), { at: said.at, said }]));
}

/** The control plane's word, with the settings that this node remembers. */
function locationSaid(said: ReAttached, kept: LocationConf | undefined): LocationConf {
  const { at, generation, stripeSize } = said;
  const mode = said.mode as LocationConf['mode'];
  const stripes = at.shard.count > 0 ? (stripeSize ?? kept?.stripeSize) : undefined;
  return {
    mode,
    generation: mode === 'Secondary' ? 0 : (generation ?? 0),
    warm: kept?.warm ?? true,
    stripeSize: stripes ?? DEFAULT_STRIPE_SIZE,
    overrides: kept?.overrides ?? {},
  };
}

const raised = (conf: LocationConf, by: number): LocationConf =>
  isAttached(conf) ? { ...conf, generation: conf.generation + by } : conf;

function shardOf(name: string): TenantShard | undefined {
  try {
    return parseTenantShard(name);
  } catch {
    return undefined;
  }
}

const notYet = (at: TenantShard): Fault =>
  new Fault('tenant-busy', `tenant ${shardText(at)} is not attached yet`, {
    hint: 'The node has just started; try again.',
  });

const moved = (at: TenantShard): Fault =>
  new Fault('reconnect-requested', `tenant ${shardText(at)} is no longer served here`, {
    hint: 'It was moved, split or reloaded: connect again.',
  });
