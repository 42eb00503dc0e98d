// Changes to a tenant's keys. Each reads the key document, prepares everything the next one needs, and puts that
// one: a single step, only if nobody else took it. Before the put nothing has changed, after it everything has;
// a crash anywhere leaves the old keys or the new ones, and running the command again is safe.
//
//   create      the first document: KEK 1 under a CMK
//   rotateKek   a new KEK seals what is written from now on; the older ones still open what they wrapped
//   rewrapKeks  the same KEKs wrapped anew by the same CMK: after the CMK itself was rotated in its service
//   changeCmk   the same KEKs wrapped by another CMK. Files and branches are not touched: they name KEKs
//   retireKek   drops a KEK's wrapped bytes, once every DEK it wrapped lies in a bag (rewrap.ts)
//   shred       drops all of them: the tenant's data cannot be read by anybody again
//
// Services learn of a change when they ask next (within a poll). None of this touches a file of data.

import { Fault } from '../base/fault.ts';
import type { WrappedSecret } from '../base/ports.ts';
import type { AuditEvent } from './audit.ts';
import type { Kek } from './envelope.ts';
import type { CallFor, KeyCalls, Told } from './key-calls.ts';
import {
  currentKek,
  entryOf,
  formatCmk,
  isShredded,
  type KekEntry,
  type KeyChange,
  type KeyDocument,
  kekEntry,
  parseCmk,
  proveDocument,
  signDocument,
  wrappedOf,
} from './key-document.ts';
import type { KeyStore } from './key-store.ts';

export interface AdminOptions {
  readonly store: KeyStore;
  readonly calls: KeyCalls;
}

/** Told after each of the steps of a change that takes several. */
export type Steps = (done: number, of: number) => void;

export class KeyAdmin {
  readonly store: KeyStore;
  readonly calls: KeyCalls;

  constructor(options: AdminOptions) {
    this.store = options.store;
    this.calls = options.calls;
  }

  /** The tenant's document, made if there is none. */
  async loadOrCreate(tenant: string, cmk: string): Promise<KeyDocument> {
    const there = await this.store.load(tenant);
    if (there) return there;
    try {
      return await this.create(tenant, cmk);
    } catch (error) {
      if (!(error instanceof Fault && error.code === 'key-conflict')) throw error;
      return this.load(tenant); // two services met the tenant at once
    }
  }

  async load(tenant: string): Promise<KeyDocument> {
    const document = await this.store.load(tenant);
    if (document) return document;
    throw new Fault('key-missing', `tenant ${tenant} has no keys in this store`, {
      hint: 'Check that the store is the one this tenant is kept in.',
    });
  }

  private async create(tenant: string, cmk: string): Promise<KeyDocument> {
    const kek = 1;
    const call = { tenant, kek, cmk: formatCmk(parseCmk(cmk)), purpose: 'first KEK' };
    const { plaintext, secret } = await this.calls.generate(call);
    const now = this.now();
    const entry = entryOf(kek, 'current', now, 1, secret);
    const document = this.next(undefined, { tenant, change: 'created', cmk: call.cmk, keks: [entry] });
    return this.put('create', call, document, { version: kek, secret: plaintext }, secret);
  }

  async rotateKek(tenant: string): Promise<KeyDocument> {
    const { document, current } = await this.open(tenant, 'rotate KEK');
    current.secret.fill(0);
    const version = Math.max(...document.keks.map(kek => kek.version)) + 1;
    const call = { tenant, kek: version, cmk: document.cmk, purpose: 'rotate KEK' };
    const { plaintext, secret } = await this.calls.generate(call);
    const entry = entryOf(version, 'current', this.now(), document.sequence + 1, secret);
    const older = document.keks.map(kek =>
      kek.state === 'current' ? { ...kek, state: 'old' as const } : kek,
    );
    const next = this.next(document, { change: 'kek-rotated', keks: [...older, entry] });
    return this.put('rotate', call, next, { version, secret: plaintext }, secret);
  }

  rewrapKeks(tenant: string, steps?: Steps): Promise<KeyDocument> {
    return this.wrapAll(tenant, undefined, steps);
  }

  changeCmk(tenant: string, cmk: string, steps?: Steps): Promise<KeyDocument> {
    return this.wrapAll(tenant, formatCmk(parseCmk(cmk)), steps);
  }

  /** Every KEK unwrapped by the CMK that holds it and wrapped by `to`, or by the same again. */
  private async wrapAll(tenant: string, to: string | undefined, steps?: Steps): Promise<KeyDocument> {
    const purpose = to === undefined ? 'rewrap KEKs' : 'change CMK';
    const { document, current } = await this.open(tenant, purpose);
    const cmk = to ?? document.cmk;
    const live = document.keks.filter(kek => kek.state !== 'retired');
    const keks: KekEntry[] = document.keks.filter(kek => kek.state === 'retired');
    let told: Told | undefined;
    try {
      for (const [i, entry] of live.entries()) {
        const wrapped = await this.wrapOne(document, entry, cmk, purpose);
        keks.push(entryOf(entry.version, entry.state, entry.createdAt, entry.since, wrapped));
        if (entry.version === current.version) told = wrapped;
        steps?.(i + 1, live.length);
      }
    } catch (error) {
      current.secret.fill(0);
      throw error;
    }
    keks.sort((a, b) => a.version - b.version);
    const next = this.next(document, { change: to === undefined ? 'cmk-rotated' : 'cmk-changed', cmk, keks });
    const call = { tenant, kek: current.version, cmk, purpose };
    return this.put(to === undefined ? 'rewrap-keks' : 'change', call, next, current, told);
  }

  private async wrapOne(
    document: KeyDocument,
    entry: KekEntry,
    cmk: string,
    purpose: string,
  ): Promise<WrappedSecret> {
    const { tenant } = document;
    const kek = entry.version;
    const secret = await this.calls.unwrap({ tenant, kek, cmk: document.cmk, purpose }, wrappedOf(entry)!);
    try {
      return await this.calls.wrap({ tenant, kek, cmk, purpose }, secret);
    } finally {
      secret.fill(0);
    }
  }

  /** The caller has made sure that no file needs it any more (rewrap.ts). */
  async retireKek(tenant: string, version: number): Promise<KeyDocument> {
    const { document, current } = await this.open(tenant, 'retire KEK');
    const entry = kekEntry(document, version);
    if (!entry || entry.state === 'current') {
      current.secret.fill(0);
      throw new Fault('key-missing', `tenant ${tenant} has no old KEK ${version}`, {
        hint: `Its KEKs: ${document.keks.map(kek => `${kek.version} ${kek.state}`).join(', ')}.`,
      });
    }
    const { createdAt, since } = entry;
    const retired: KekEntry = { version, state: 'retired', createdAt, since };
    const keks = document.keks.map(kek => (kek.version === version ? retired : kek));
    const call = { tenant, kek: version, cmk: document.cmk, purpose: 'retire KEK' };
    return this.put('retire', call, this.next(document, { change: 'kek-retired', keks }), current);
  }

  async shred(tenant: string): Promise<KeyDocument> {
    const document = await this.load(tenant);
    const again = isShredded(document);
    const kek = again ? 0 : currentKek(document).version;
    const call = { tenant, kek, cmk: document.cmk, purpose: 'shred' };
    try {
      const shredded = again ? document : this.next(document, { change: 'shredded', keks: [] });
      if (!again) await this.store.put(shredded);
      await this.store.prune(tenant);
      await this.store.removeBags(tenant, Infinity);
      this.calls.note('shred', call, 'ok', `${document.keks.length} KEKs dropped`);
      return shredded;
    } catch (error) {
      if (error instanceof Fault) this.calls.note('shred', call, error.code, error.message);
      throw error;
    }
  }

  /** The document and its current KEK, proven by each other. */
  async open(tenant: string, purpose: string): Promise<{ document: KeyDocument; current: Kek }> {
    const document = await this.load(tenant);
    if (isShredded(document)) throw shredded(tenant);
    const entry = currentKek(document);
    const call = { tenant, kek: entry.version, cmk: document.cmk, purpose };
    const secret = await this.calls.unwrap(call, wrappedOf(entry)!);
    const current = { version: entry.version, secret };
    proveDocument(document, current);
    return { document, current };
  }

  private next(
    before: KeyDocument | undefined,
    fields: { change: KeyChange; keks: readonly KekEntry[]; tenant?: string; cmk?: string },
  ): KeyDocument {
    return {
      format: 1,
      tenant: fields.tenant ?? before!.tenant,
      sequence: (before?.sequence ?? 0) + 1,
      change: fields.change,
      who: this.calls.who,
      changedAt: this.now(),
      cmk: fields.cmk ?? before!.cmk,
      keks: fields.keks,
    };
  }

  /** Signs with the current KEK, which is overwritten, and puts. */
  private async put(
    event: AuditEvent,
    call: CallFor,
    next: KeyDocument,
    current: Kek,
    told?: Told,
  ): Promise<KeyDocument> {
    try {
      const signed = signDocument(next, current);
      await this.store.put(signed);
      this.calls.note(event, call, 'ok', `key document ${signed.sequence}`, told);
      return signed;
    } catch (error) {
      if (error instanceof Fault) this.calls.note(event, call, error.code, error.message, told);
      throw error;
    } finally {
      current.secret.fill(0);
    }
  }

  private now(): string {
    return new Date(this.calls.clock.now()).toISOString();
  }
}

export const shredded = (tenant: string): Fault =>
  new Fault('key-destroyed', `tenant ${tenant} was shredded: its keys are gone and its data cannot be read`, {
    hint: 'This cannot be undone. Delete the tenant.',
  });
