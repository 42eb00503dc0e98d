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
import { currentKek, formatCmk, parseCmk } from './key-document.ts';
import { boundMs, type KeyNews, type KeyPhase, type KeyTimes, type KeyTrouble } from './key-state.ts';
import type { KeyHolder, KeyStore } from './key-store.ts';
import { noFiles, type RewrapProgress, rewrapPass, type SealedFiles } from './rewrap.ts';
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
  /** The tenant's files on this node's own disks: rewrapped in the background after a rotation. */
  readonly localFiles?: (tenant: string) => readonly SealedFiles[];
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
  /** Since it was attached. */
  readonly deksMade: number;
  readonly deksOpened: number;
  /** Uses refused since it was attached. */
  readonly denied: number;
  /** Of this node's own files, after a rotation. */
  readonly rewrap:
    | { readonly seen: number; readonly rewrapped: number; readonly running: boolean }
    | undefined;
}

interface Attached {
  readonly keys: TenantKeys;
  readonly stop: AbortController;
  cmk: string;
  /** What was last reported to the store. */
  reported: KeyHolder | undefined;
  rewrapping: Promise<void> | undefined;
  progress: RewrapProgress | undefined;
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
    const attached: Attached = {
      keys,
      stop: new AbortController(),
      cmk: cmk ?? defaultCmk,
      reported: undefined,
      rewrapping: undefined,
      progress: undefined,
    };
    this.tenants.set(tenant, attached);
    this.poll(attached).catch(error => {
      if (error !== attached.stop.signal.reason) throw error;
    });
    return keys;
  }

  /**
   * The tenant's keys under the CMK that its configuration names. If its key document names another one, somebody
   * changed either without the other, or put a foreign document into the store: it is refused before a byte is
   * sealed under it.
   */
  async claim(tenant: string, cmk: string | undefined): Promise<void> {
    const named = cmk === undefined ? undefined : formatCmk(parseCmk(cmk));
    const keys = this.attach(tenant, named);
    await keys.ready();
    if (named === undefined || named === keys.document!.cmk) return;
    await keys.ask(); // changed since we looked
    keys.check();
    const found = keys.document!.cmk;
    if (named === found) return;
    throw new Fault(
      'key-conflict',
      `tenant ${tenant} is to be under ${named}; its key document names ${found}`,
      {
        hint: `To move it: lakebed keys change ${tenant} --to ${named}, and then name that key. If nobody did, ask who can write to the store.`,
      },
    );
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
    return [...this.tenants.values()].map(({ keys, progress, rewrapping }) => {
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
        deksMade: keys.made,
        deksOpened: keys.opened,
        denied: keys.denied,
        rewrap: progress && {
          seen: progress.seen,
          rewrapped: progress.rewrapped,
          running: rewrapping !== undefined,
        },
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
      keys.tellDenied();
    }
  }

  /** Tells the store which document we know and how far our files are, so that nobody retires a KEK under us. */
  private async report(attached: Attached): Promise<void> {
    const { keys, stop } = attached;
    if (keys.life.phase !== 'open') return;
    const { sequence } = keys.document!;
    const current = currentKek(keys.document!).version;
    try {
      const { store, node } = this.options;
      attached.reported ??= (await store.holders(keys.tenant)).find(holder => holder.node === node);
      const rewrapped = attached.reported?.rewrapped ?? 0;
      if (attached.reported?.sequence !== sequence) await this.putHolder(attached, sequence, rewrapped);
      if (rewrapped >= current || attached.rewrapping) return;
      if (keys.document!.keks.length === 1) {
        await this.putHolder(attached, sequence, current); // nothing can be under an older one
        return;
      }
      attached.rewrapping = this.rewrapLocal(attached, sequence, current)
        .catch(error => {
          if (!isFault(error) && error !== stop.signal.reason) throw error; // the next poll tries again
        })
        .finally(() => (attached.rewrapping = undefined));
    } catch (error) {
      if (!isFault(error)) throw error;
    }
  }

  private async putHolder(attached: Attached, sequence: number, rewrapped: number): Promise<void> {
    const { store, node, calls } = this.options;
    const holder = { node, sequence, rewrapped, at: new Date(calls.clock.now()).toISOString() };
    await store.putHolder(attached.keys.tenant, holder);
    attached.reported = holder;
  }

  /** After `sequence` was taken up no file of ours begins under an older KEK: what is there now is all there is. */
  private async rewrapLocal(attached: Attached, sequence: number, current: number): Promise<void> {
    const { keys, stop } = attached;
    const { store, localFiles, node } = this.options;
    const local = localFiles?.(keys.tenant) ?? [];
    // Without a disk of its own a node still has files on their way to the store.
    for (const files of local.length > 0 ? local : [noFiles(node)]) {
      const progress = (now: RewrapProgress): void => void (attached.progress = { ...now });
      const { refused } = await rewrapPass({
        keys,
        store,
        files,
        fromStart: true,
        also: keys.madeLately,
        signal: stop.signal,
        progress,
      });
      if (refused.length > 0) return; // said by whoever reads them; the old KEK stays until they are gone
    }
    await this.putHolder(attached, sequence, current);
  }

  private told(keys: TenantKeys, news: KeyNews, trouble: KeyTrouble | undefined, reason: string): void {
    const { calls, told } = this.options;
    if (news === 'revoked' || news === 'restored' || news === 'shredded') {
      const event = news === 'restored' ? 'restore' : 'revoke';
      keys.note(event, 'life of the key', trouble ?? 'ok', reason === '' ? undefined : reason);
    }
    const cmk = keys.document?.cmk;
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
