// The life of one tenant's keys, as a table of what may happen and what follows. Pure: time comes in, effects
// come out; key-ring.ts carries them out.
//
//   cold      nothing unwrapped yet; the first use asks the CMK
//   open      usable until `usableUntil` = the start of the last successful use of the CMK + lifetime
//   shut      wiped; the CMK is asked again every poll, and one success opens again
//   shredded  wiped for good: the tenant's key document says so
//
//   while   | used      | refused (disabled, destroyed, denied, tampered) | failed (no answer, throttled) | time
//   --------+-----------+-------------------------------------------------+-------------------------------+------------------
//   cold    | open      | shut, wipe, "revoked"                           | shut, "revoked": nothing held | -
//   open    | open      | shut, wipe, "revoked"                           | "waning"; retry with backoff  | past usableUntil:
//           |           |                                                 |                               | shut, wipe, "revoked"
//   shut    | open,     | shut; another reason is told                    | shut                          | -
//           | "restored"|                                                 |                               |
//
// THE BOUND. The CMK is asked every `poll`, and a request is given up after `request` (both in key-calls.ts). A
// refusal wipes at once: so a key that was switched off is out of use within poll + request. If nobody answers,
// what was unwrapped lives `lifetime` from the start of the last success and no longer: within lifetime of the
// switch, answered or not. `boundMs` = poll + lifetime covers both, with the wipe of memory.

import { tryParseDuration } from '../base/duration.ts';
import { Fault } from '../base/fault.ts';

export interface KeyTimes {
  /** How often the CMK is asked. */
  readonly pollMs: number;
  /** How long what was unwrapped may be used after the last successful use of the CMK. */
  readonly lifetimeMs: number;
  /** How long one request to the key service may take. */
  readonly requestMs: number;
  /** The first wait after a failure; doubles up to `pollMs`. */
  readonly retryMs: number;
}

export const KEY_TIMES: KeyTimes = { pollMs: 60_000, lifetimeMs: 300_000, requestMs: 10_000, retryMs: 1_000 };

/** Shorter ones would ask a key service more often than it likes; longer ones are no bound any more. */
const TIMES_MIN_MS = 100;
const TIMES_MAX_MS = 24 * 3_600_000;

/** The times of a deployment: its own poll and lifetime where the environment names them. */
export function keyTimes(environment: (name: string) => string | undefined): KeyTimes {
  const pollMs = timeOf('LAKEBED_KEY_POLL', environment, KEY_TIMES.pollMs);
  const lifetimeMs = timeOf('LAKEBED_KEY_LIFETIME', environment, KEY_TIMES.lifetimeMs);
  if (lifetimeMs >= pollMs) return { ...KEY_TIMES, pollMs, lifetimeMs };
  throw new Fault('config-invalid', 'keys would live shorter than until the next poll of the key service', {
    hint: 'Give a LAKEBED_KEY_LIFETIME of several LAKEBED_KEY_POLL.',
  });
}

function timeOf(name: string, environment: (name: string) => string | undefined, otherwise: number): number {
  const text = environment(name) || environment(`NEON_${name}`) || '';
  if (text === '') return otherwise;
  const ms = tryParseDuration(text);
  if (ms !== undefined && ms >= TIMES_MIN_MS && ms <= TIMES_MAX_MS) return ms;
  throw new Fault('config-invalid', `${name} is not a span of time: "${text}"`, {
    hint: 'Write it as 60s or 5min; from 100ms to 24h.',
  });
}

export const boundMs = (times: KeyTimes): number => times.pollMs + times.lifetimeMs;

/** Why keys are shut. */
export type KeyTrouble = 'disabled' | 'destroyed' | 'denied' | 'tampered' | 'unreachable' | 'shredded';

export type KeyPhase = 'cold' | 'open' | 'shut' | 'shredded';

export interface KeyLife {
  readonly phase: KeyPhase;
  readonly trouble: KeyTrouble | undefined;
  /** Monotonic time. */
  readonly usableUntil: number;
  /** When the CMK is to be asked next. */
  readonly askAt: number;
  /** In a row. */
  readonly failures: number;
  /** When it was shut: a use that began before does not open it again, however late its answer. */
  readonly shutAt: number;
}

export const COLD: KeyLife = {
  phase: 'cold',
  trouble: undefined,
  usableUntil: 0,
  askAt: 0,
  failures: 0,
  shutAt: -Infinity,
};

export type KeyInput =
  /** The CMK did what it was asked; the request began at `began`. */
  | { readonly on: 'used'; readonly began: number; readonly at: number }
  | {
      readonly on: 'refused';
      readonly trouble: Exclude<KeyTrouble, 'unreachable' | 'shredded'>;
      readonly at: number;
    }
  | { readonly on: 'failed'; readonly at: number }
  | { readonly on: 'time'; readonly at: number }
  | { readonly on: 'shredded'; readonly at: number };

/** What the control plane hears: at `revoked` and `shredded` it stops the tenant's computes. */
export type KeyNews = 'opened' | 'waning' | 'revoked' | 'restored' | 'shredded';

export interface KeyStep {
  readonly life: KeyLife;
  readonly wipe: boolean;
  readonly news: KeyNews | undefined;
}

export function stepKeys(life: KeyLife, input: KeyInput, times: KeyTimes): KeyStep {
  if (life.phase === 'shredded') return { life, wipe: false, news: undefined };
  switch (input.on) {
    case 'used': {
      if (input.began < life.shutAt) return { life, wipe: false, news: undefined };
      const usableUntil = Math.max(life.usableUntil, input.began + times.lifetimeMs);
      if (usableUntil <= input.at) return stepKeys(life, { on: 'failed', at: input.at }, times);
      const news = life.phase === 'cold' ? 'opened' : life.phase === 'shut' ? 'restored' : undefined;
      const askAt = input.began + times.pollMs;
      return {
        life: { ...COLD, phase: 'open', usableUntil, askAt },
        wipe: false,
        news,
      };
    }
    case 'refused':
      return shut(life, input.trouble, input.at, input.at + times.pollMs, 0);
    case 'failed': {
      const failures = life.failures + 1;
      const wait = Math.min(times.pollMs, times.retryMs * 2 ** Math.min(failures - 1, 20));
      const askAt = input.at + wait;
      if (life.phase !== 'open' || life.usableUntil <= input.at) {
        // A refusal already known says more than silence.
        const trouble = life.phase === 'shut' ? (life.trouble ?? 'unreachable') : 'unreachable';
        return shut(life, trouble, input.at, askAt, failures);
      }
      return { life: { ...life, askAt, failures }, wipe: false, news: failures === 1 ? 'waning' : undefined };
    }
    case 'time':
      if (life.phase !== 'open' || input.at < life.usableUntil) return { life, wipe: false, news: undefined };
      return shut(life, 'unreachable', input.at, life.askAt, life.failures);
    case 'shredded': {
      const gone: KeyLife = { ...COLD, phase: 'shredded', trouble: 'shredded', askAt: Infinity };
      return { life: gone, wipe: true, news: 'shredded' };
    }
  }
}

function shut(life: KeyLife, trouble: KeyTrouble, shutAt: number, askAt: number, failures: number): KeyStep {
  return {
    life: { phase: 'shut', trouble, usableUntil: 0, askAt, failures, shutAt },
    wipe: true,
    news: life.phase === 'shut' && life.trouble === trouble ? undefined : 'revoked',
  };
}
