// The manager's keys: it reads the same key documents as the services, asks the same key services on the same clock
// (seal/key-state.ts), and so hears of a revocation within the same bound. It seals no file, so it is no holder of keys
// that a rotation would have to wait for. Of a project whose computes sleep nobody watches the key: who wants to know of
// it has it asked then, once a poll, and what was unwrapped to find out is wiped at once.
//
// A role's password is derived from 32 random bytes that the customer key wraps as it wraps a KEK, under KEK number 0,
// which no document has.

import { Fault } from '../../base/fault.ts';
import { Semaphore } from '../../base/flow.ts';
import type { Log, Random } from '../../base/ports.ts';
import type { KeyAdmin } from '../../seal/key-admin.ts';
import { formatCmk, parseCmk } from '../../seal/key-document.ts';
import { boundMs, type KeyPhase, type KeyTimes } from '../../seal/key-state.ts';
import { TenantKeys, type TenantKeysOptions } from '../../seal/tenant-keys.ts';
import type { KeyUse, ManagerKeys, SealedPassword } from './keys.ts';

const PASSWORD_KEK = 0;
const ALPHABET = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789';
const PASSWORD_CHARACTERS = 20;

/** 20 characters of 57: 116 bits. The bias of a remainder costs less than one of them. */
function passwordOf(secret: Uint8Array): string {
  let text = '';
  for (let i = 0; i < PASSWORD_CHARACTERS; i++) text += ALPHABET[secret[i]! % ALPHABET.length];
  return text;
}

export interface WatchedKeysOptions {
  readonly admin: KeyAdmin;
  readonly random: Random;
  readonly log: Log;
  readonly times: KeyTimes;
  readonly defaultCmk: string;
  /** A tenant's keys are usable no longer, or again. */
  readonly told: (tenantId: string) => void;
}

/** How long whoever looks at a project waits for its key service. */
const LOOK_MS = 2000;
const LOOKS_AT_ONCE = 8;

interface Looked {
  readonly at: number;
  readonly use: KeyUse;
}

interface Watched {
  readonly keys: TenantKeys;
  readonly stop: AbortController;
}

export class WatchedKeys implements ManagerKeys {
  readonly defaultCmk: string;
  private readonly options: WatchedKeysOptions;
  private readonly watched = new Map<string, Watched>();
  private readonly looked = new Map<string, Looked>();
  private readonly looks = new Semaphore(LOOKS_AT_ONCE);

  constructor(options: WatchedKeysOptions) {
    this.options = options;
    this.defaultCmk = formatCmk(parseCmk(options.defaultCmk));
  }

  /** Within this long after a key was switched off, no compute of it runs (without the time to stop one). */
  get boundMs(): number {
    return boundMs(this.options.times);
  }

  async bind(tenantId: string, cmk: string): Promise<void> {
    const wanted = formatCmk(parseCmk(cmk));
    const document = await this.options.admin.loadOrCreate(tenantId, wanted);
    if (document.cmk === wanted) return;
    throw new Fault('key-conflict', `tenant ${tenantId} is bound to another key already: ${document.cmk}`);
  }

  async watch(tenantId: string): Promise<KeyUse> {
    const there = this.watched.get(tenantId);
    const { keys } = there ?? this.begin(tenantId);
    // What was said a poll ago is not asked again; a refusal is.
    if (keys.life.phase !== 'open') await keys.ask();
    return this.use(tenantId);
  }

  private keysOf(tenant: string, told: TenantKeysOptions['told']): TenantKeys {
    const { admin, random, times } = this.options;
    const { calls, store } = admin;
    return new TenantKeys({ tenant, calls, store, random, times, load: () => admin.load(tenant), told });
  }

  private begin(tenantId: string): Watched {
    const { log, told } = this.options;
    const keys = this.keysOf(tenantId, (news, trouble, reason) => {
      log.info('the keys of a tenant', { tenant: tenantId, news, trouble, reason });
      told(tenantId);
    });
    const watched: Watched = { keys, stop: new AbortController() };
    this.watched.set(tenantId, watched);
    this.poll(watched).catch(error => {
      if (error !== watched.stop.signal.reason) throw error;
    });
    return watched;
  }

  private async poll({ keys, stop }: Watched): Promise<void> {
    const { clock } = this.options.admin.calls;
    for (;;) {
      const { life } = keys;
      if (life.phase === 'shredded') return;
      const now = clock.monotonic();
      const expireIn = life.phase === 'open' ? life.usableUntil - now : Infinity;
      const askIn = life.phase === 'cold' ? this.options.times.retryMs : life.askAt - now;
      await clock.sleep(Math.max(1, Math.min(askIn, expireIn)), stop.signal);
      if (keys.life.askAt <= clock.monotonic()) await keys.ask();
      stop.signal.throwIfAborted();
      keys.step({ on: 'time', at: clock.monotonic() });
    }
  }

  release(tenantId: string): void {
    const watched = this.watched.get(tenantId);
    if (!watched) return;
    this.note(tenantId, this.use(tenantId));
    this.watched.delete(tenantId);
    watched.stop.abort(new Error('released'));
    watched.keys.detach();
  }

  close(): void {
    for (const tenantId of [...this.watched.keys()]) this.release(tenantId);
  }

  use(tenantId: string): KeyUse {
    return useOf(this.watched.get(tenantId)?.keys.life.phase);
  }

  heard(tenantId: string): KeyUse {
    const use = this.use(tenantId);
    if (use !== 'unknown') return use;
    const looked = this.looked.get(tenantId);
    const { pollMs } = this.options.times;
    return looked && this.options.admin.calls.clock.monotonic() - looked.at < pollMs ? looked.use : 'unknown';
  }

  async look(tenantId: string): Promise<KeyUse> {
    const heard = this.heard(tenantId);
    if (heard !== 'unknown') return heard;
    const { clock } = this.options.admin.calls;
    const done = new AbortController();
    const late = clock.sleep(LOOK_MS, done.signal).then(
      () => 'unknown' as const,
      () => 'unknown' as const,
    );
    const asked = this.looks.run(() => this.askOnce(tenantId));
    return Promise.race([asked, late]).finally(() => done.abort(new Error('answered')));
  }

  private async askOnce(tenantId: string): Promise<KeyUse> {
    const keys = this.keysOf(tenantId, () => undefined);
    await keys.ask();
    const { phase, trouble } = keys.life;
    keys.detach();
    const use = trouble === 'unreachable' ? 'unknown' : useOf(phase);
    this.note(tenantId, use);
    return use;
  }

  private note(tenantId: string, use: KeyUse): void {
    if (use === 'unknown') this.looked.delete(tenantId);
    else this.looked.set(tenantId, { at: this.options.admin.calls.clock.monotonic(), use });
  }

  async change(tenantId: string, cmk: string): Promise<void> {
    this.looked.delete(tenantId);
    await this.options.admin.changeCmk(tenantId, cmk);
    await this.watched.get(tenantId)?.keys.ask();
  }

  async shred(tenantId: string): Promise<void> {
    this.looked.delete(tenantId);
    const { admin } = this.options;
    if ((await admin.store.load(tenantId)) !== undefined) await admin.shred(tenantId);
  }

  async newPassword(tenantId: string, cmk: string): Promise<SealedPassword> {
    const { calls } = this.options.admin;
    const { plaintext, secret } = await calls.generate(callOf(tenantId, cmk, 'new role password'));
    const password = passwordOf(plaintext);
    plaintext.fill(0);
    return { password, sealed: Buffer.from(secret.ciphertext).toString('base64') };
  }

  async openPassword(tenantId: string, cmk: string, sealed: string): Promise<string> {
    const secret = await this.unwrap(tenantId, cmk, sealed, 'role password');
    const password = passwordOf(secret);
    secret.fill(0);
    return password;
  }

  async rewrapPassword(tenantId: string, from: string, to: string, sealed: string): Promise<string> {
    const secret = await this.unwrap(tenantId, from, sealed, 'rewrap role password');
    const wrapped = await this.options.admin.calls.wrap(callOf(tenantId, to, 'rewrap role password'), secret);
    secret.fill(0);
    return Buffer.from(wrapped.ciphertext).toString('base64');
  }

  private unwrap(tenantId: string, cmk: string, sealed: string, purpose: string): Promise<Uint8Array> {
    const ciphertext = new Uint8Array(Buffer.from(sealed, 'base64'));
    const secret = { ciphertext, keyVersion: undefined, requestId: undefined };
    return this.options.admin.calls.unwrap(callOf(tenantId, cmk, purpose), secret);
  }
}

function useOf(phase: KeyPhase | undefined): KeyUse {
  if (phase === 'open') return 'usable';
  if (phase === 'shut') return 'revoked';
  return phase === 'shredded' ? 'shredded' : 'unknown';
}

const callOf = (tenant: string, cmk: string, purpose: string) => ({
  tenant,
  kek: PASSWORD_KEK,
  cmk,
  purpose,
});
