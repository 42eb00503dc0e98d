// All tenant shards of this pageserver: which are here and how, as the control plane wants it.
//
//   start    what the disk remembers (config-v1), what the control plane says (re-attach): exactly its answer is
//            attached, and what it does not name is removed from the disk, which is only a cache
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
import { Secondary } from './secondary.ts';
import type { ServedTimeline, ServedTimelines } from './served.ts';
import { DEFAULT_STRIPE_SIZE } from './shard.ts';
import { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { ReAttached } from './upcalls.ts';

/** Requests wait this long for a tenant or a timeline that is not active yet. */
export const ACTIVE_WAIT_MS = 5000;

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
  private readonly stopping = new AbortController();

  constructor(deps: NodeDeps) {
    this.deps = deps;
  }

  // ------------------------------------------------------------------------------------------------------- start

  /** Resolves when the control plane has said what is ours; attaching goes on by itself. */
  async start(): Promise<void> {
    const { controlPlane, log } = this.deps;
    const kept = await this.readKept();
    const answer = await controlPlane.reAttach(kept.size === 0, this.stopping.signal);
    const wanted = answer ? wantedOf(answer, kept) : this.keptLocations(kept);
    for (const { at } of kept.values()) {
      if (!wanted.has(shardText(at))) await this.deps.disk.removeTree(tenantDirectory(at));
    }
    for (const { at, conf } of wanted.values()) await this.upsert(at, conf);
    log.info('tenants are being attached', { known: kept.size, attached: wanted.size });
  }

  /** Every tenant directory, with its configuration where that can be read. */
  private async readKept(): Promise<Map<string, Kept>> {
    const { disk, log } = this.deps;
    const kept = new Map<string, Kept>();
    if (!(await disk.stat(TENANTS))) return kept;
    for (const name of await disk.list(TENANTS)) {
      const at = shardOf(name);
      if (!at) {
        log.info('not a tenant: left alone', { name });
        continue;
      }
      kept.set(name, { at, conf: await this.readConfig(at) });
    }
    return kept;
  }

  private async readConfig(at: TenantShard): Promise<LocationConf | undefined> {
    const where = `${tenantDirectory(at)}/${CONFIG_NAME}`;
    try {
      return decodeLocation(await this.vaultOf(at).readFile(CONFIG_NAME), where);
    } catch (error) {
      if (!isFault(error)) throw error;
      this.deps.log.warn('the configuration of a tenant cannot be read', { where, error: error.message });
      return undefined;
    }
  }

  private vaultOf(at: TenantShard): Tenant['vault'] {
    return this.deps.vault(tenantDirectory(at), { tenant: at.tenant });
  }

  /** Without a control plane to ask: what was here is here again. */
  private keptLocations(kept: ReadonlyMap<string, Kept>): Map<string, Wanted> {
    const raise = this.deps.controlPlane.standsAlone ? 1 : 0;
    const wanted = new Map<string, Wanted>();
    for (const [name, { at, conf }] of kept) {
      if (!conf) {
        this.deps.log.error('a tenant is not attached: nobody says how', { tenant: name });
        continue;
      }
      const generation = isAttached(conf) ? conf.generation + raise : conf.generation;
      wanted.set(name, { at, conf: { ...conf, generation } });
    }
    return wanted;
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
      await this.vaultOf(at).writeFile(CONFIG_NAME, encodeLocation(conf));
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
      await this.deps.disk.removeTree(tenantDirectory(at));
      if (!this.shardsOf(at.tenant).length) this.deps.releaseKeys(at.tenant);
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

interface Kept {
  readonly at: TenantShard;
  readonly conf: LocationConf | undefined;
}

interface Wanted {
  readonly at: TenantShard;
  readonly conf: LocationConf;
}

/** The control plane's answer, with the settings that this node remembers. */
function wantedOf(answer: readonly ReAttached[], kept: ReadonlyMap<string, Kept>): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>();
  for (const { at, mode, generation, stripeSize } of answer) {
    if (mode === 'Detached') continue;
    const name = shardText(at);
    const before = kept.get(name)?.conf;
    const stripes = at.shard.count > 0 ? (stripeSize ?? before?.stripeSize) : undefined;
    wanted.set(name, {
      at,
      conf: {
        mode,
        generation: mode === 'Secondary' ? 0 : (generation ?? 0),
        warm: before?.warm ?? true,
        stripeSize: stripes ?? DEFAULT_STRIPE_SIZE,
        overrides: before?.overrides ?? {},
      },
    });
  }
  return wanted;
}

function shardOf(name: string): TenantShard | undefined {
  try {
    return parseTenantShard(name);
  } catch {
    return undefined;
  }
}

const moved = (at: TenantShard): Fault =>
  new Fault('reconnect-requested', `tenant ${shardText(at)} is no longer served here`, {
    hint: 'It was moved, split or reloaded: connect again.',
  });
