// Messages between machines, as late as the dice say. A link is what TCP gives: messages of one direction arrive in
// order, until it breaks; then the one end may go on for a while in the belief that it stands, and what is under
// way may still arrive, also after the same two have met on a new link.
//
//   delay     every message, and every connect
//   clog      nothing passes from one machine to another for a while; then all of it
//   cut       a link breaks; the ends notice at different times
//   stop      a machine is gone: its links go silent, and break for the others later
//   chaos     worse than TCP: on a link messages are lost, repeated and overtaken as well
//
// What is sent is bytes: no value is shared by two machines.

import type { SimClock } from './clock.ts';
import type { SimRandom } from './random.ts';

export interface NetOptions {
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly delayMs: number;
  /** Of a message on a link, to be lost, repeated or overtaken. */
  readonly chaos: number;
}

export class LinkBroken extends Error {
  override readonly name = 'LinkBroken';
}

/** One end of a link. */
export interface Link {
  readonly peer: string;
  /** What the one who connected said it wants. */
  readonly purpose: string;
  readonly open: boolean;
  send(bytes: Uint8Array): void;
  /** The next message; undefined when the link has broken. */
  receive(): Promise<Uint8Array | undefined>;
  close(): void;
}

class End implements Link {
  readonly net: SimNet;
  readonly self: string;
  readonly peer: string;
  readonly purpose: string;
  other!: End;
  open = true;
  /** The machine it belongs to has stopped: it says nothing and hears nothing. */
  dead = false;
  private readonly inbox: Uint8Array[] = [];
  private waiting: ((bytes: Uint8Array | undefined) => void) | undefined;
  /** When the last message in order arrives at the other end. */
  lastAtMs = 0;

  constructor(net: SimNet, self: string, peer: string, purpose: string) {
    this.net = net;
    this.self = self;
    this.peer = peer;
    this.purpose = purpose;
  }

  send(bytes: Uint8Array): void {
    if (this.open && !this.dead) this.net.carry(this, bytes.slice());
  }

  deliver(bytes: Uint8Array): void {
    if (!this.open || this.dead) return;
    if (this.waiting === undefined) {
      this.inbox.push(bytes);
      return;
    }
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting(bytes);
  }

  receive(): Promise<Uint8Array | undefined> {
    if (this.dead) return new Promise(() => {});
    const next = this.inbox.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (!this.open) return Promise.resolve(undefined);
    return new Promise(resolve => {
      this.waiting = resolve;
    });
  }

  close(): void {
    if (!this.open || this.dead) return;
    this.broken();
    this.net.tellBroken(this);
  }

  /** This end learns that the link is no more. */
  broken(): void {
    if (!this.open || this.dead) return;
    this.open = false;
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting?.(undefined);
  }
}

export class SimNet {
  private readonly options: NetOptions;
  private readonly listeners = new Map<string, (link: Link) => void>();
  private readonly ends = new Set<End>();
  private readonly clogs = new Map<string, number>();
  private chaos: number;
  /** Messages carried so far, and what became of them. */
  readonly counts = { sent: 0, lost: 0, repeated: 0, overtaken: 0, cut: 0 };

  constructor(options: NetOptions) {
    this.options = options;
    this.chaos = options.chaos;
  }

  listen(address: string, accept: (link: Link) => void): void {
    this.listeners.set(address, accept);
  }

  /** Resolves when the other side has accepted; fails when nobody listens. */
  connect(from: string, to: string, purpose: string): Promise<Link> {
    return new Promise((resolve, reject) => {
      this.after(from, to, () => {
        const accept = this.listeners.get(to);
        if (accept === undefined) {
          this.after(to, from, () => reject(new LinkBroken(`${to} does not listen`)));
          return;
        }
        const near = new End(this, from, to, purpose);
        const far = new End(this, to, from, purpose);
        near.other = far;
        far.other = near;
        this.ends.add(near).add(far);
        accept(far);
        this.after(to, from, () => resolve(near));
      });
    });
  }

  /** Nothing passes from `a` to `b` for so long. */
  clog(a: string, b: string, ms: number): void {
    this.clogs.set(`${a}>${b}`, this.options.clock.monotonic() + ms);
  }

  /** Breaks links of a machine, or some of them. */
  cut(address: string, which: () => boolean = () => true): void {
    for (const end of [...this.ends]) {
      if (end.self !== address || !end.open || end.dead || !which()) continue;
      this.counts.cut++;
      end.broken();
      this.tellBroken(end);
    }
  }

  /** A machine stops: nothing of it is heard again on the links it had. */
  stop(address: string): void {
    this.listeners.delete(address);
    for (const end of [...this.ends]) {
      if (end.self !== address) continue;
      end.dead = true;
      this.tellBroken(end);
    }
  }

  lastDraw(): number {
    return this.options.random.u32();
  }

  /** The end of all trouble. */
  heal(): void {
    this.clogs.clear();
    this.chaos = 0;
  }

  carry(from: End, bytes: Uint8Array): void {
    const { random } = this.options;
    this.counts.sent++;
    if (this.chaos > 0 && random.chance(this.chaos)) {
      const what = random.below(3);
      if (what === 0) {
        this.counts.lost++;
        return;
      }
      if (what === 1) {
        this.counts.repeated++;
        this.after(from.self, from.peer, () => from.other.deliver(bytes.slice()), random.below(20));
      } else {
        this.counts.overtaken++;
        this.after(from.self, from.peer, () => from.other.deliver(bytes), random.below(5));
        return;
      }
    }
    const at = Math.max(from.lastAtMs, this.arrival(from.self, from.peer));
    from.lastAtMs = at;
    this.options.clock.at(at - this.options.clock.monotonic(), () => from.other.deliver(bytes));
  }

  /** The other end learns later that this one broke; what is under way comes before. */
  tellBroken(end: End): void {
    this.ends.delete(end);
    const { random } = this.options;
    const late = random.chance(0.2) ? random.below(400) : 0;
    const at = Math.max(end.lastAtMs, this.arrival(end.self, end.peer)) + late;
    this.options.clock.at(at - this.options.clock.monotonic(), () => {
      end.other.broken();
      this.ends.delete(end.other);
    });
  }

  private after(from: string, to: string, work: () => void, factor = 0): void {
    const at = this.arrival(from, to) + factor * this.options.delayMs;
    this.options.clock.at(at - this.options.clock.monotonic(), work);
  }

  private arrival(from: string, to: string): number {
    const { clock, random, delayMs } = this.options;
    const start = Math.max(clock.monotonic(), this.clogs.get(`${from}>${to}`) ?? 0);
    // Most messages are quick, some are slow.
    const factor = random.chance(0.05) ? 10 : 1;
    return start + random.unit() * delayMs * factor;
  }
}
