// One tenant's keys in a process: the key document, the KEKs that are unwrapped now, and who holds what came of
// them. Files use it as FileKeys; key-ring.ts asks the CMK on its behalf and steps its life (key-state.ts).
//
// A KEK is unwrapped when it is first needed, kept as bytes, and overwritten when the keys are wiped; with it go
// the DEKs of all open files. Every use of a KEK, and every `check` before bytes are sealed or opened, compares
// the clock with `usableUntil`: the bound does not rest on any timer being on time.
//
// Three ways to a DEK, in this order: its KEK's own wrapped bytes; a bag, if that KEK was retired; a newer key
// document, if this one does not know the KEK.

import { toHex } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { KeyFault } from '../base/key-fault.ts';
import type { Random } from '../base/ports.ts';
import type { AuditEvent } from './audit.ts';
import { DEK_BYTES, DEK_ID_BYTES, type Kek, unwrapDek, type WrappedDek, wrapDek } from './envelope.ts';
import type { FileKeys, KeyHolder } from './file-keys.ts';
import { deksOf, type KeyBag, proveBag, signBag } from './key-bag.ts';
import type { KeyCalls } from './key-calls.ts';
import {
  currentKek,
  isShredded,
  type KeyDocument,
  kekEntry,
  proveDocument,
  wrappedOf,
} from './key-document.ts';
import {
  COLD,
  type KeyInput,
  type KeyLife,
  type KeyNews,
  type KeyTimes,
  type KeyTrouble,
  stepKeys,
} from './key-state.ts';
import type { KeyStore } from './key-store.ts';

export interface TenantKeysOptions {
  readonly tenant: string;
  readonly calls: KeyCalls;
  readonly store: KeyStore;
  readonly random: Random;
  readonly times: KeyTimes;
  /** The document, made if the tenant is new. */
  load(): Promise<KeyDocument>;
  told(news: KeyNews, trouble: KeyTrouble | undefined, reason: string): void;
}

/** How long a file may take from the making of its DEK until it lies where a walk finds it. */
const LATELY_MS = 3_600_000;
/** More are not remembered: thirty files a second. */
const LATELY_MAX = 100_000;
/** Forgotten so many at a time. */
const LATELY_MANY = 1000;

const WHY: Readonly<Record<KeyTrouble, string>> = {
  disabled: 'its customer key is switched off',
  destroyed: 'its customer key is gone',
  denied: 'the key service does not let us use its customer key',
  tampered: 'its key document or its wrapped keys were changed',
  unreachable: 'the key service has not answered for longer than keys may be kept',
  shredded: 'its keys were shredded',
};

export class TenantKeys implements FileKeys {
  readonly tenant: string;
  life: KeyLife = COLD;
  document: KeyDocument | undefined;
  /** The last refusal or failure, in words. */
  reason = '';
  private readonly options: TenantKeysOptions;
  private readonly keks = new Map<number, Kek>();
  private readonly unwrapping = new Map<number, Promise<void>>();
  private readonly holders = new Set<KeyHolder>();
  /** DEKs out of bags, by id. They are wrapped: nothing secret. */
  private bagged = new Map<string, WrappedDek>();
  private baggedUnder = 0;
  private readonly lately: { wrapped: WrappedDek; at: number }[] = [];
  private asking: Promise<void> | undefined;
  private detached = false;
  /** DEKs made and opened, for the metrics. */
  made = 0;
  opened = 0;
  /** Uses that were refused, and how many of them the audit was told of. */
  denied = 0;
  private deniedTold = 0;

  constructor(options: TenantKeysOptions) {
    this.options = options;
    this.tenant = options.tenant;
  }

  check(): void {
    const { phase, usableUntil } = this.life;
    if (phase === 'open' && this.options.calls.clock.monotonic() < usableUntil) return;
    if (phase === 'cold' && !this.detached) return; // nothing is unwrapped: the first use asks the CMK
    this.step({ on: 'time', at: this.options.calls.clock.monotonic() });
    if (!this.detached) this.denied++;
    throw this.refusal();
  }

  /** A line of the audit for all that was refused since the last one. */
  tellDenied(): void {
    const count = this.denied - this.deniedTold;
    if (count === 0) return;
    this.deniedTold = this.denied;
    const why = this.life.trouble ?? 'unreachable';
    this.note('deny', 'use of the keys', why, `${count} ${count === 1 ? 'use' : 'uses'} refused`);
  }

  note(event: AuditEvent, purpose: string, result: string, message: string | undefined): void {
    const { document, tenant } = this;
    const kek = document?.keks.find(entry => entry.state === 'current')?.version ?? 0;
    this.options.calls.note(event, { tenant, kek, cmk: document?.cmk ?? '', purpose }, result, message);
  }

  private refusal(): Fault {
    if (this.detached) return new Fault('shutting-down', `tenant ${this.tenant} was detached`);
    const trouble = this.life.trouble ?? 'unreachable';
    const message = `tenant ${this.tenant} cannot be read or written: ${WHY[trouble]}`;
    return new Fault('key-revoked', this.reason === '' ? message : `${message} (${this.reason})`, {
      hint:
        trouble === 'shredded'
          ? 'This cannot be undone. Delete the tenant.'
          : `Enable ${this.document?.cmk ?? 'the key'} and our access to it; service resumes by itself within ${this.options.times.pollMs / 1000} s.`,
    });
  }

  /** Resolves when the keys may be used; asks the CMK if that was never done. */
  async ready(): Promise<void> {
    if (this.life.phase === 'cold') await this.ask();
    this.check();
  }

  /** Uses the CMK once: proves the document, and that the customer still lets us. Never rejects for a Fault. */
  ask(): Promise<void> {
    this.asking ??= this.askNow().finally(() => (this.asking = undefined));
    return this.asking;
  }

  private async askNow(): Promise<void> {
    if (this.detached || this.life.phase === 'shredded') return;
    const { clock } = this.options.calls;
    const began = clock.monotonic();
    try {
      const document = await this.newestDocument();
      if (isShredded(document)) {
        this.document = document;
        this.step({ on: 'shredded', at: clock.monotonic() });
        return;
      }
      this.adopt(document, await this.useCmk(document));
      this.reason = '';
      this.step({ on: 'used', began, at: clock.monotonic() });
    } catch (error) {
      if (!isFault(error)) throw error;
      this.reason = error.message;
      this.step(inputOf(error, clock.monotonic()));
    }
  }

  /**
   * Unwraps the current KEK, which is the proof that we may; and asks for the key's state beside it, because a
   * service may go on unwrapping for a while after its key was switched off. Whoever may not ask is not told.
   */
  private async useCmk(document: KeyDocument): Promise<Kek> {
    const asked = this.options.calls.state(document.cmk).catch(error => {
      if (isFault(error)) return undefined;
      throw error;
    });
    const { version } = currentKek(document);
    const [state, kek] = await Promise.all([asked, this.unwrapKek(document, version, 'use of the CMK')]);
    if (state === undefined || state === 'enabled') return kek;
    kek.secret.fill(0);
    throw new KeyFault(
      state === 'disabled' ? 'key-disabled' : 'key-destroyed',
      `${document.cmk} is ${state}`,
    );
  }

  /** What the store has, or what we have while it cannot be reached; never an older one than we have seen. */
  private async newestDocument(): Promise<KeyDocument> {
    const known = this.document;
    let found: KeyDocument;
    try {
      found = await this.options.load();
    } catch (error) {
      if (known && isFault(error) && error.kind === 'unavailable') return known;
      throw error;
    }
    if (!known || found.sequence >= known.sequence) return found;
    throw new Fault('sealed-tampered', `key document ${found.sequence} was put back over ${known.sequence}`);
  }

  private adopt(document: KeyDocument, kek: Kek): void {
    try {
      proveDocument(document, kek);
    } catch (error) {
      kek.secret.fill(0);
      throw error;
    }
    this.document = document;
    this.keep(kek);
    for (const { version, state } of document.keks) {
      if (state !== 'retired') continue;
      this.keks.get(version)?.secret.fill(0);
      this.keks.delete(version);
    }
  }

  /** One copy of a KEK at a time, and none for a tenant that left while we waited. */
  private keep(kek: Kek): void {
    if (this.keks.has(kek.version) || this.detached) kek.secret.fill(0);
    else this.keks.set(kek.version, kek);
  }

  private async unwrapKek(document: KeyDocument, version: number, purpose: string): Promise<Kek> {
    const entry = kekEntry(document, version);
    const wrapped = entry && wrappedOf(entry);
    if (!wrapped)
      throw new Fault('sealed-format', `KEK ${version} of tenant ${this.tenant} is not in its key document`);
    const call = { tenant: this.tenant, kek: version, cmk: document.cmk, purpose };
    return { version, secret: await this.options.calls.unwrap(call, wrapped) };
  }

  step(input: KeyInput): void {
    const { life, wipe, news } = stepKeys(this.life, input, this.options.times);
    this.life = life;
    if (wipe) this.wipe();
    if (news) this.options.told(news, life.trouble, this.reason);
  }

  private wipe(): void {
    for (const kek of this.keks.values()) kek.secret.fill(0);
    this.keks.clear();
    for (const holder of this.holders) holder.wipe();
  }

  detach(): void {
    this.detached = true;
    this.life = { ...COLD, askAt: Infinity };
    this.wipe();
  }

  hold(holder: KeyHolder): () => void {
    this.holders.add(holder);
    return () => void this.holders.delete(holder);
  }

  /** KEKs and files whose keys are in memory now. */
  get held(): { keks: number; files: number } {
    return { keks: this.keks.size, files: this.holders.size };
  }

  async make(): Promise<{ dek: Uint8Array; wrapped: WrappedDek }> {
    const { random } = this.options;
    const dek = random.bytes(DEK_BYTES);
    const wrapped = await this.wrap(random.bytes(DEK_ID_BYTES), dek);
    this.made++;
    this.remember(wrapped);
    return { dek, wrapped };
  }

  private remember(wrapped: WrappedDek): void {
    const now = this.options.calls.clock.monotonic();
    this.lately.push({ wrapped, at: now });
    let old = Math.max(0, this.lately.length - LATELY_MAX);
    while (this.lately[old]!.at < now - LATELY_MS) old++;
    if (old >= LATELY_MANY) this.lately.splice(0, old);
  }

  /** DEKs whose files may still be on their way to a disk or a store. */
  get madeLately(): WrappedDek[] {
    return this.lately.map(({ wrapped }) => wrapped);
  }

  /** Wraps a DEK under the current KEK. */
  async wrap(id: Uint8Array, dek: Uint8Array): Promise<WrappedDek> {
    await this.ready();
    const { version } = currentKek(this.document!);
    return this.withKek(version, kek => wrapDek(kek, this.tenant, id, dek, this.options.random));
  }

  async open(wrapped: WrappedDek): Promise<Uint8Array | undefined> {
    await this.ready();
    this.opened++;
    if (!kekEntry(this.document!, wrapped.kekVersion)) await this.ask(); // rotated since we looked
    this.check();
    const entry = kekEntry(this.document!, wrapped.kekVersion);
    if (entry && entry.state !== 'retired') return this.unwrap(wrapped);
    const found = await this.fromBag(wrapped.id);
    if (found) return this.unwrap(found);
    const what = entry ? 'retired' : 'unknown';
    throw new Fault(
      'key-missing',
      `KEK ${wrapped.kekVersion} of tenant ${this.tenant}, which a file needs, is ${what}`,
      {
        hint: 'The file is of another store, or its header was changed, or the key store lost a document or a bag: put that back.',
      },
    );
  }

  private unwrap(wrapped: WrappedDek): Promise<Uint8Array | undefined> {
    return this.withKek(wrapped.kekVersion, kek => unwrapDek(kek, this.tenant, wrapped));
  }

  /** `use` runs at once, before anything can overwrite the KEK, and must not keep it. */
  private async withKek<T>(version: number, use: (kek: Kek) => T): Promise<T> {
    for (;;) {
      this.check();
      const there = this.keks.get(version);
      if (there) return use(there);
      let coming = this.unwrapping.get(version);
      if (!coming) {
        coming = this.unwrapOld(version).finally(() => this.unwrapping.delete(version));
        this.unwrapping.set(version, coming);
      }
      await coming;
    }
  }

  private async unwrapOld(version: number): Promise<void> {
    const { clock } = this.options.calls;
    const began = clock.monotonic();
    try {
      const kek = await this.unwrapKek(this.document!, version, 'open an older file');
      this.step({ on: 'used', began, at: clock.monotonic() });
      if (this.life.phase === 'open') this.keep(kek);
      else kek.secret.fill(0); // refused while we waited
    } catch (error) {
      if (isFault(error) && error.code !== 'key-revoked' && error.code !== 'shutting-down') {
        const input = inputOf(error, clock.monotonic());
        if (input.on === 'refused' && input.trouble !== 'tampered') this.step(input);
      }
      throw error;
    }
  }

  private async fromBag(id: Uint8Array): Promise<WrappedDek | undefined> {
    const version = currentKek(this.document!).version;
    const name = toHex(id);
    if (!this.bagged.has(name) || this.baggedUnder !== version) await this.loadBags();
    return this.bagged.get(name);
  }

  /** The bags of every KEK that still opens, the newest last so that it wins. */
  private async loadBags(): Promise<void> {
    const document = this.document!;
    const bagged = new Map<string, WrappedDek>();
    for (const entry of document.keks) {
      if (entry.state === 'retired') continue;
      for (const bag of await this.provenBags(entry.version)) {
        for (const [name, dek] of deksOf(bag)) bagged.set(name, dek);
      }
    }
    this.bagged = bagged;
    this.baggedUnder = currentKek(document).version;
  }

  /** The bags of a KEK, each proven by it. */
  async provenBags(version: number): Promise<KeyBag[]> {
    const bags = await this.options.store.bags(this.tenant, version);
    if (bags.length === 0) return bags;
    await this.withKek(version, kek => {
      for (const bag of bags) proveBag(bag, kek);
    });
    return bags;
  }

  signedBag(bag: KeyBag): Promise<KeyBag> {
    return this.withKek(bag.kek, kek => signBag(bag, kek));
  }
}

/** What a fault of the key service or the store says about the CMK. */
function inputOf(fault: Fault, at: number): KeyInput {
  switch (fault.code) {
    case 'key-disabled':
      return { on: 'refused', trouble: 'disabled', at };
    case 'key-destroyed':
    case 'key-missing':
      return { on: 'refused', trouble: 'destroyed', at };
    case 'key-denied':
      return { on: 'refused', trouble: 'denied', at };
    case 'sealed-tampered':
    case 'sealed-format':
      return { on: 'refused', trouble: 'tampered', at };
    default:
      return { on: 'failed', at };
  }
}
