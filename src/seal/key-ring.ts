// The keys of all tenants of a process: who is attached, when each CMK is asked again, and who hears what
// happened. One per process; the only holder of plaintext KEKs.
//
//   attach   the tenant's keys are asked for, and its CMK is asked again every poll from then on
//   detach   its keys are wiped and it is asked no more
//   told     every `revoked`, `restored`, `waning`, `shredded`: for the log, the metrics, the audit, and the
//            control plane, which stops a revoked tenant's computes
//
// Tenants do not touch each other: each has its own document, KEKs, life and loop. A tenth of the poll is dealt by
// chance, so that a thousand tenants do not ask in one second.

import { Fault, isFault } from '../base/fault.ts';
import type { Random } from '../base/ports.ts';
import { KeyAdmin } from './key-admin.ts';
import type { KeyCalls } from './key-calls.ts';
import { boundMs, type KeyNews, type KeyPhase, type KeyTimes, type KeyTrouble } from './key-state.ts';
import type { KeyStore } from './key-store.ts';
import { TenantKeys } from './tenant-keys.ts';

export interface KeyEvent {
  readonly tenant: string;
  readonly news: KeyNews;
  readonly trouble: KeyTrouble | undefined;
  readonly reason: string;
  readonly cmk: string | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

export interface KeyRingOptions {
  readonly store: KeyStore;
  readonly calls: KeyCalls;
  readonly random: Random;
  readonly times: KeyTimes;
  /** For tenants that come without one of their own. */
  readonly defaultCmk: string;
  /** This process, among those that hold the tenant's keys. */
  readonly node: string;
  readonly told?: (event: KeyEvent) => void;
}

/** One tenant's keys as an operator sees them. */
export interface KeyStatus {
  readonly tenant: string;
  readonly phase: KeyPhase;
  readonly trouble: KeyTrouble | undefined;
  readonly reason: string;
  readonly cmk: string | undefined;
  readonly sequence: number | undefined;
  /** Milliseconds what is unwrapped may still be used. */
  readonly usableMs: number;
  readonly keksHeld: number;
  readonly filesOpen: number;
}

interface Attached {
  readonly keys: TenantKeys;
  readonly stop: AbortController;
  cmk: string;
  /** The document sequence last reported to the store. */
  reported: number;
}

export class KeyRing {
  readonly admin: KeyAdmin;
  private readonly options: KeyRingOptions;
  private readonly tenants = new Map<string, Attached>();

  constructor(options: KeyRingOptions) {
    this.options = options;
    this.admin = new KeyAdmin(options);
  }

  get boundMs(): number {
    return boundMs(this.options.times);
  }

  /** The tenant's keys, for its files. Asked for at first use, or by `ready`. */
  attach(tenant: string, cmk?: string): TenantKeys {
    const there = this.tenants.get(tenant);
    if (there) {
      if (cmk !== undefined) there.cmk = cmk;
      return there.keys;
    }
    const { calls, store, random, times, defaultCmk } = this.options;
    const keys = new TenantKeys({
      tenant,
      calls,
      store,
      random,
      times,
      load: () => this.admin.loadOrCreate(tenant, attached.cmk),
      told: (news, trouble, reason) => this.told(keys, news, trouble, reason),
    });
    const attached: Attached = { keys, stop: new AbortController(), cmk: cmk ?? defaultCmk, reported: 0 };
    this.tenants.set(tenant, attached);
    this.poll(attached).catch(error => {
      if (error !== attached.stop.signal.reason) throw error;
    });
    return keys;
  }

  keysOf(tenant: string): TenantKeys | undefined {
    return this.tenants.get(tenant)?.keys;
  }

  detach(tenant: string): void {
    const attached = this.tenants.get(tenant);
    if (!attached) return;
    this.tenants.delete(tenant);
    attached.stop.abort(new Error('detached'));
    attached.keys.detach();
  }

  close(): void {
    for (const tenant of [...this.tenants.keys()]) this.detach(tenant);
  }

  /** Asks the CMK now: after a change that should not wait for the poll. */
  async refresh(tenant: string): Promise<void> {
    const attached = this.tenants.get(tenant);
    if (!attached) return;
    await attached.keys.ask();
    await this.report(attached);
  }

  status(): KeyStatus[] {
    const now = this.options.calls.clock.monotonic();
    return [...this.tenants.values()].map(({ keys }) => {
      const { phase, trouble, usableUntil } = keys.life;
      const { keks, files } = keys.held;
      return {
        tenant: keys.tenant,
        phase,
        trouble,
        reason: keys.reason,
        cmk: keys.document?.cmk,
        sequence: keys.document?.sequence,
        usableMs: Math.max(0, usableUntil - now),
        keksHeld: keks,
        filesOpen: files,
      };
    });
  }

  private async poll(attached: Attached): Promise<void> {
    const { clock } = this.options.calls;
    const { pollMs } = this.options.times;
    const { keys, stop } = attached;
    for (;;) {
      await keys.ask();
      stop.signal.throwIfAborted();
      if (keys.life.phase === 'shredded') return;
      await this.report(attached);
      stop.signal.throwIfAborted();
      // Until the CMK is asked again; but what was unwrapped is wiped in time even if nobody asks.
      const early = this.options.random.below(Math.floor(pollMs / 10) + 1);
      const askIn = keys.life.askAt - clock.monotonic() - (keys.life.failures === 0 ? early : 0);
      const expireIn = keys.life.phase === 'open' ? keys.life.usableUntil - clock.monotonic() : Infinity;
      await clock.sleep(Math.max(1, Math.min(askIn, expireIn)), stop.signal);
      keys.step({ on: 'time', at: clock.monotonic() });
    }
  }

  /** Tells the store which document we know, so that nobody retires a KEK under us. */
  private async report(attached: Attached): Promise<void> {
    const { keys } = attached;
    const sequence = keys.document?.sequence ?? 0;
    if (sequence === attached.reported || keys.life.phase !== 'open') return;
    try {
      await this.reportHolder(keys.tenant, sequence);
      attached.reported = sequence;
    } catch (error) {
      if (!isFault(error)) throw error; // the next poll tries again
    }
  }

  private async reportHolder(tenant: string, sequence: number): Promise<void> {
    const { store, node, calls } = this.options;
    const before = (await store.holders(tenant)).find(holder => holder.node === node);
    const rewrapped = before?.rewrapped ?? 0;
    await store.putHolder(tenant, {
      node,
      sequence,
      rewrapped,
      at: new Date(calls.clock.now()).toISOString(),
    });
  }

  private told(keys: TenantKeys, news: KeyNews, trouble: KeyTrouble | undefined, reason: string): void {
    const { calls, told } = this.options;
    const cmk = keys.document?.cmk;
    if (news === 'revoked' || news === 'restored' || news === 'shredded') {
      const kek = keys.document?.keks.find(entry => entry.state === 'current')?.version ?? 0;
      const call = { tenant: keys.tenant, kek, cmk: cmk ?? '', purpose: 'life of the key' };
      const event = news === 'restored' ? 'restore' : 'revoke';
      calls.note(event, call, trouble ?? 'ok', reason === '' ? undefined : reason);
    }
    told?.({ tenant: keys.tenant, news, trouble, reason, cmk, at: calls.clock.now() });
  }
}

/** The keys, usable: the error says why not. For whoever starts a compute or attaches a tenant. */
export async function requireKeys(ring: KeyRing, tenant: string): Promise<TenantKeys> {
  const keys = ring.keysOf(tenant);
  if (!keys) throw new Fault('tenant-missing', `tenant ${tenant} is not attached here`);
  await keys.ready();
  return keys;
}
