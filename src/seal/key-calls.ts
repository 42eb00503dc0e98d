// Every call of a key service goes through here: to the right driver, no more than a few at once, none for ever,
// each with a line in the audit. A KEK is bound at the service to its tenant and version (`contextOf`): AWS calls
// it the encryption context, Google the additional authenticated data; the Azure driver wraps a digest of it with
// the secret.

import { Fault, isFault } from '../base/fault.ts';
import { KeyFault } from '../base/key-fault.ts';
import type { Clock, KeyContext, KeyState, Keys, WrappedSecret } from '../base/ports.ts';
import type { Audit, AuditEvent } from './audit.ts';
import { KEK_BYTES } from './envelope.ts';
import { type Cmk, formatCmk, parseCmk } from './key-document.ts';

/** Calls under way at once in one process: key services throttle. */
const CALLS_MAX = 16;

export interface KeyCallsOptions {
  readonly services: readonly Keys[];
  readonly clock: Clock;
  readonly audit: Audit;
  /** The node, or the person, for the audit. */
  readonly who: string;
  readonly requestMs: number;
}

/** What a call is for: the audit's columns. */
export interface CallFor {
  readonly tenant: string;
  readonly kek: number;
  readonly cmk: string;
  readonly purpose: string;
}

/** What a key service says besides the secret. */
export interface Told {
  readonly keyVersion: string | undefined;
  readonly requestId: string | undefined;
}

const contextOf = (call: CallFor): KeyContext => ({
  service: 'lakebed',
  tenant: call.tenant,
  kek: String(call.kek),
});

export class KeyCalls {
  readonly who: string;
  readonly clock: Clock;
  readonly audit: Audit;
  private readonly services: ReadonlyMap<string, Keys>;
  private readonly requestMs: number;
  private running = 0;
  private readonly queue: (() => void)[] = [];

  constructor(options: KeyCallsOptions) {
    this.who = options.who;
    this.clock = options.clock;
    this.audit = options.audit;
    this.requestMs = options.requestMs;
    this.services = new Map(options.services.map(service => [service.kind, service]));
  }

  private service(cmk: Cmk): Keys {
    const service = this.services.get(cmk.kind);
    if (service) return service;
    throw new KeyFault('key-unavailable', `no driver for keys of kind "${cmk.kind}" is set up`, {
      hint: `Configure it, or change the tenant to another key. Set up here: ${[...this.services.keys()].join(', ') || 'none'}.`,
    });
  }

  /** A new KEK, plain and wrapped. */
  async generate(call: CallFor): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }> {
    const cmk = parseCmk(call.cmk);
    return this.call('generate', call, async () => {
      const made = await this.service(cmk).generate(cmk.id, KEK_BYTES, contextOf(call));
      checkLength(made.plaintext, call);
      return { result: made, told: made.secret };
    });
  }

  async wrap(call: CallFor, plaintext: Uint8Array): Promise<WrappedSecret> {
    const cmk = parseCmk(call.cmk);
    return this.call('wrap', call, async () => {
      const secret = await this.service(cmk).wrap(cmk.id, plaintext, contextOf(call));
      return { result: secret, told: secret };
    });
  }

  async unwrap(call: CallFor, secret: WrappedSecret): Promise<Uint8Array> {
    const cmk = parseCmk(call.cmk);
    return this.call('unwrap', call, async () => {
      const opened = await this.service(cmk).unwrap(cmk.id, secret, contextOf(call));
      checkLength(opened.plaintext, call);
      return { result: opened.plaintext, told: opened };
    });
  }

  async state(cmk: string): Promise<KeyState> {
    const { kind, id } = parseCmk(cmk);
    return this.limited(() => this.service({ kind, id }).state(id));
  }

  /** A line that is no call: a decision, or its consequence. */
  note(event: AuditEvent, call: CallFor, result: string, message?: string, told?: Told): void {
    const at = new Date(this.clock.now()).toISOString();
    const { keyVersion, requestId } = told ?? {};
    this.audit.line({ at, event, who: this.who, ...call, keyVersion, result, requestId, message });
  }

  private async call<T>(
    event: AuditEvent,
    call: CallFor,
    work: () => Promise<{ result: T; told: Told }>,
  ): Promise<T> {
    const began = this.clock.monotonic();
    const at = new Date(this.clock.now()).toISOString();
    const base = { at, event, who: this.who, ...call, cmk: formatCmk(parseCmk(call.cmk)) };
    const ms = (): number => Math.round(this.clock.monotonic() - began);
    try {
      const { result, told } = await this.limited(work);
      const { keyVersion, requestId } = told;
      this.audit.line({ ...base, keyVersion, result: 'ok', requestId, ms: ms() });
      return result;
    } catch (error) {
      if (isFault(error)) {
        const requestId = error instanceof KeyFault ? error.requestId : undefined;
        this.audit.line({ ...base, result: error.code, requestId, ms: ms(), message: error.message });
      }
      throw error;
    }
  }

  private async limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= CALLS_MAX) await new Promise<void>(resolve => this.queue.push(resolve));
    else this.running++;
    try {
      return await this.timed(work());
    } finally {
      const next = this.queue.shift();
      if (next) next();
      else this.running--;
    }
  }

  /** Given up after `requestMs`; what the service answers later is dropped. */
  private async timed<T>(work: Promise<T>): Promise<T> {
    const done = new AbortController();
    const tooLate = this.clock.sleep(this.requestMs, done.signal).then(
      (): never => {
        throw new KeyFault('key-unavailable', `the key service gave no answer within ${this.requestMs} ms`, {
          hint: 'Check the network to the key service, and its status page.',
        });
      },
      () => work,
    );
    try {
      return await Promise.race([work, tooLate]);
    } finally {
      done.abort(new Error('answered'));
    }
  }
}

function checkLength(secret: Uint8Array, call: CallFor): void {
  if (secret.length === KEK_BYTES) return;
  throw new Fault('sealed-tampered', `KEK ${call.kek} of tenant ${call.tenant} has ${secret.length} bytes`, {
    hint: 'The key service opened something that is no KEK: check the key document against a copy.',
  });
}
