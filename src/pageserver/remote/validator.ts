// Is this attachment still the one that may write? Only the control plane knows: it hands out generations, and a node
// that was cut off may have been replaced without hearing of it. Two things are done only after asking: objects are
// deleted, and safekeepers are told that WAL need not be kept (remote_consistent_lsn).
//
// Questions are gathered for a moment and asked in one call, of many tenants at once. An answer counts for what was
// done before the call began, so a question that comes while a call is under way waits for the next one. Nobody to
// answer means waiting: that is the price of never harming a newer attachment.
//
// Answers to deletion_queue/validator.rs.

import { Fault } from '../../base/fault.ts';
import type { Clock } from '../../base/ports.ts';

export interface Claim {
  /** Tenant shard id. */
  readonly id: string;
  readonly generation: number;
}

/** The control plane's word on claims (upcalls.ts); it tries until it is answered or the signal ends it. */
export type Validate = (claims: readonly Claim[], signal: AbortSignal) => Promise<readonly boolean[]>;

interface Question {
  readonly claim: Claim;
  readonly answer: (valid: boolean) => void;
  readonly fail: (error: unknown) => void;
}

/** Claims in one call. */
const CLAIMS_MAX = 128;

export interface ValidatorOptions {
  readonly clock: Clock;
  readonly validate: Validate;
  /** How long questions are gathered. */
  readonly gatherMs: number;
}

export class Validator {
  private readonly options: ValidatorOptions;
  private readonly stopping = new AbortController();
  private questions: Question[] = [];
  private running: Promise<void> | undefined;
  private hurry: (() => void) | undefined;
  /** Somebody does not want to wait for more questions. */
  private urgent = false;
  /** Claims that turned out to be of the past. */
  stale = 0;

  constructor(options: ValidatorOptions) {
    this.options = options;
  }

  /** Whether the claim holds for all that was done before this call. */
  confirm(claim: Claim, options: { soon?: boolean } = {}): Promise<boolean> {
    const { signal } = this.stopping;
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((answer, fail) => {
      this.questions.push({ claim, answer, fail });
      if (options.soon) this.flush();
      this.running ??= this.run();
    });
  }

  /** Asks what is gathered now, at once. */
  flush(): void {
    this.urgent = true;
    this.hurry?.();
  }

  private async run(): Promise<void> {
    while (this.questions.length > 0) {
      await this.gather();
      const asked = this.questions;
      this.questions = [];
      this.urgent = false;
      try {
        await this.ask(asked);
      } catch (error) {
        for (const question of asked) question.fail(error);
      }
    }
    this.running = undefined;
  }

  private async gather(): Promise<void> {
    const { clock, gatherMs } = this.options;
    if (gatherMs === 0 || this.urgent || this.stopping.signal.aborted) return;
    const hurried = new AbortController();
    this.hurry = () => hurried.abort();
    const signal = AbortSignal.any([hurried.signal, this.stopping.signal]);
    await clock.sleep(gatherMs, signal).catch(() => undefined);
    this.hurry = undefined;
  }

  private async ask(questions: readonly Question[]): Promise<void> {
    const byClaim = Map.groupBy(questions, ({ claim }) => `${claim.id} ${claim.generation}`);
    const groups = [...byClaim.values()];
    for (let at = 0; at < groups.length; at += CLAIMS_MAX) {
      const some = groups.slice(at, at + CLAIMS_MAX);
      const claims = some.map(group => group[0]!.claim);
      const valid = await this.options.validate(claims, this.stopping.signal);
      some.forEach((group, i) => {
        if (!valid[i]) this.stale++;
        for (const question of group) question.answer(valid[i] === true);
      });
    }
  }

  async close(): Promise<void> {
    this.stopping.abort(new Fault('shutting-down', 'the pageserver is shutting down'));
    for (const question of this.questions.splice(0)) question.fail(this.stopping.signal.reason);
    await this.running;
  }
}
