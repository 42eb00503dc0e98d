// A safekeeper on a simulated machine: the real timelines over the real vault on a disk that crashes, behind a
// network of model links. What a session does here is what wal-service.ts does over a socket: messages in,
// answers out in order, and nothing waits for anything but its own answer.
//
// A life is one run of the process. When it ends, by a crash of the machine or a kill, everything that belonged to
// it hangs for ever: no promise of a dead process is kept, no error handler of it runs.

import { Fault, isFault } from '../../src/base/fault.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import type { Disk, Log } from '../../src/base/ports.ts';
import type { ProposerMessage } from '../../src/protocol/walproposer.ts';
import { readProposerMessage, writeAcceptorMessage } from '../../src/protocol/walproposer-v3.ts';
import type { StepFunction } from '../../src/safekeeper/acceptor-state.ts';
import type { Rules } from '../../src/safekeeper/driver.ts';
import type { Timeline, TimelineSettings } from '../../src/safekeeper/timeline.ts';
import type { TimelineKey, WalArchive } from '../../src/safekeeper/timeline-handle.ts';
import { Timelines } from '../../src/safekeeper/timelines.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import type { FileKeys } from '../../src/seal/file-keys.ts';
import type { Checker } from './checker.ts';
import type { SimClock } from './clock.ts';
import { SimDisk, SimStopped } from './disk.ts';
import type { Link, SimNet } from './net.ts';
import { NonceLedger } from './nonces.ts';
import type { SimRandom } from './random.ts';

export interface SafekeeperOptions {
  readonly id: number;
  readonly key: TimelineKey;
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly net: SimNet;
  readonly keys: FileKeys;
  readonly checker: Checker;
  readonly rules: Rules;
  readonly syncs: boolean;
  readonly settings: Partial<TimelineSettings>;
  readonly onBreach: (error: unknown) => void;
}

/** The segment size of simulated timelines: the least there is. */
export const SEGMENT_BYTES = 1024 * 1024;

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };

export const addressOf = (id: number): string => `sk${id}`;

/** Whether a process still runs. */
class Life {
  over = false;
  /** Calls to the disk under way. A killed process is gone only when the kernel is done with them. */
  private calls = 0;
  private onIdle: (() => void) | undefined;

  /** A call of a process that may die while it waits: then it waits for ever. */
  async call<T>(work: () => Promise<T>, onStopped: () => void): Promise<T> {
    if (this.over) return forever();
    this.calls++;
    try {
      const result = await work();
      return this.over ? forever() : result;
    } catch (error) {
      if (!this.over && !(error instanceof SimStopped)) throw error;
      if (!this.over) onStopped();
      return forever();
    } finally {
      if (--this.calls === 0) this.onIdle?.();
    }
  }

  /** Resolves when no call is under way. */
  idle(): Promise<void> {
    if (this.calls === 0) return Promise.resolve();
    return new Promise(resolve => {
      this.onIdle = resolve;
    });
  }
}

const forever = <T>(): Promise<T> => new Promise(() => {});

export class SimSafekeeper {
  readonly id: number;
  readonly address: string;
  readonly disk: SimDisk;
  /** Changed by trouble: how slow the disk is, how much room it has. */
  latencyMs: number;
  capacityBytes = Infinity;
  /** How likely power is lost while WAL is cut. */
  crashInCut = 0.3;
  private readonly options: SafekeeperOptions;
  /** An object store that has all committed WAL. */
  private readonly archive: WalArchive = {
    read: async (segno, offset, length) => {
      const from = segno * SEGMENT_BYTES + offset;
      return this.options.checker.archived(from as Lsn, (from + length) as Lsn);
    },
    readPartial: async () => {
      throw new Fault('blob-missing', 'no partial segments here');
    },
  };
  /** Room that logs make ahead of themselves: little, because simulated logs are short. */
  private readonly growBytes: number;
  /** What waits to be sealed while the disk works: little, for the same reason. */
  private readonly aheadBytes: number;
  private life: Life | undefined;
  private former = new Life();
  private timelines: Timelines | undefined;
  private links = 0;
  readonly counts = { boots: 0, crashes: 0, kills: 0, poisoned: 0, suspended: 0 };

  constructor(options: SafekeeperOptions) {
    this.options = options;
    this.id = options.id;
    this.address = addressOf(options.id);
    this.latencyMs = 1 + options.random.below(4);
    this.growBytes = options.random.pick([0, 1000, 8192]);
    this.aheadBytes = options.random.pick([1, 1000, 10_000]);
    const self = this;
    const nonces = new NonceLedger(path => this.disk.head(path));
    this.disk = new SimDisk({
      random: options.random.split('disk'),
      clock: options.clock,
      get latencyMs() {
        return self.latencyMs;
      },
      get capacityBytes() {
        return self.capacityBytes;
      },
      onWrite: (path, offset, bytes) => {
        try {
          options.checker.written(path, bytes);
          // A disk that does not keep what was synced takes headers away, too: nothing can be told of it.
          if (options.syncs) nonces.see(path, offset, bytes);
        } catch (error) {
          options.onBreach(error);
        }
      },
    });
  }

  get up(): boolean {
    return this.timelines !== undefined;
  }

  get timeline(): Timeline | undefined {
    const timeline = this.timelines?.find(this.options.key);
    timeline?.setArchive(this.archive);
    return timeline;
  }

  get all(): Timelines | undefined {
    return this.timelines;
  }

  /** The checker is told of truncations before they happen; and that is a good moment to lose power. */
  private observed(step: StepFunction): StepFunction {
    const random = this.options.random.split('in step');
    return (state, input) => {
      const result = step(state, input);
      for (const effect of result.effects) {
        if (effect.do !== 'truncate') continue;
        try {
          this.options.checker.truncates(this.id, state, effect.to);
        } catch (error) {
          this.options.onBreach(error);
        }
        if (effect.to < state.wal.writeLsn && random.chance(this.crashInCut))
          this.disk.crashAt(1 + random.below(8));
      }
      return result;
    };
  }

  // ----------------------------------------------------------------------------------------------- life and death

  async boot(): Promise<void> {
    if (this.life !== undefined) return;
    const life = new Life();
    const before = this.former;
    this.life = life;
    await before.idle();
    if (life.over) return;
    this.counts.boots++;
    this.options.checker.trace(`sk${this.id} starts`);
    const { id, key, clock, random, net, keys, rules, settings } = this.options;
    const { growBytes, aheadBytes } = this;
    const disk = this.gated(life);
    const timelines = await Timelines.load({
      nodeId: id,
      clock,
      log: SILENT,
      rules: { ...rules, step: this.observed(rules.step) },
      settings,
      disk,
      random,
      vault: (directory, scope) => openVault({ disk, directory, scope, keys, random, growBytes, aheadBytes }),
    });
    if (life.over) return;
    const damage = timelines.damaged()[0];
    if (damage?.fault.code === 'disk-failed') {
      // The disk failed while it was read: somebody starts the process again.
      this.kill();
      clock.at(50, () => void this.boot());
      return;
    }
    // A full disk is no damage: loading is tried again.
    if (damage !== undefined && damage.fault.code !== 'disk-full') {
      this.options.onBreach(new Error(`node ${id} cannot load ${key.timelineId}: ${damage.fault.message}`));
      return;
    }
    this.timelines = timelines;
    net.listen(this.address, link => {
      this.serve(link, life).catch(error => this.trouble(error, life));
    });
  }

  /** The machine loses power: what was not synced may be gone or torn. */
  crash(): void {
    if (!this.die()) return;
    this.counts.crashes++;
    this.disk.crash();
  }

  /** The process is killed; the machine goes on, and what was written stays written. */
  kill(): void {
    if (this.die()) this.counts.kills++;
  }

  private die(): boolean {
    if (this.life === undefined) return false;
    this.life.over = true;
    this.former = this.life;
    this.options.checker.trace(`sk${this.id} stops`);
    this.life = undefined;
    this.timelines = undefined;
    this.options.net.stop(this.address);
    this.options.checker.forgotMemory(this.id);
    return true;
  }

  private gated(life: Life): Disk {
    const stopped = (): void => {
      if (!life.over) this.crash();
    };
    const wrap = <T extends object>(target: T): T =>
      new Proxy(target, {
        get: (_, property) => {
          const member = Reflect.get(target, property);
          if (typeof member !== 'function') return member;
          if (!this.options.syncs && property === 'sync') return async () => {};
          if (!this.options.syncs && property === 'writeDurably') return Reflect.get(wrap(target), 'writev');
          return (...args: unknown[]) =>
            life.call(async () => {
              const result: unknown = await Reflect.apply(member, target, args);
              return property === 'open' ? wrap(result as object) : result;
            }, stopped);
        },
      });
    return wrap<Disk>(this.disk);
  }

  private trouble(error: unknown, life: Life): void {
    if (life.over || isFault(error)) return;
    this.options.onBreach(error);
  }

  // -------------------------------------------------------------------------------------------------- sessions

  private async serve(link: Link, life: Life): Promise<void> {
    const first = await link.receive();
    if (first === undefined || life.over) return;
    const greeting = readProposerMessage(first);
    if (greeting.kind !== 'greeting') {
      link.close();
      return;
    }
    try {
      const timeline =
        this.timeline ??
        (link.purpose === 'push-and-create'
          ? await this.timelines!.create({
              key: this.options.key,
              membership: { generation: 0, members: [], newMembers: undefined },
              pgVersion: greeting.pgVersion,
              systemId: greeting.systemId,
              walSegSize: greeting.walSegSize,
              startLsn: 0 as never,
            })
          : undefined);
      if (timeline === undefined || life.over) throw new Fault('timeline-missing', 'may not be created');
      await this.session(link, life, timeline, greeting);
    } catch (error) {
      link.close();
      throw error;
    }
  }

  private async session(
    link: Link,
    life: Life,
    timeline: Timeline,
    greeting: ProposerMessage,
  ): Promise<void> {
    const name = `${link.peer} link ${++this.links}`;
    const session = timeline.connectProposer();
    let last: Promise<void> = Promise.resolve();
    const answer = (message: ProposerMessage): void => {
      const reply = session.process(message);
      const before = last;
      last = (async () => {
        const [value] = await Promise.all([reply, before]);
        if (value === undefined || life.over) return;
        const history = timeline.status().control.termHistory;
        try {
          this.options.checker.told(this.id, name, value, history[history.length - 1]?.term ?? 0);
        } catch (error) {
          this.options.onBreach(error);
        }
        link.send(writeAcceptorMessage(value));
      })();
      last.catch((error: unknown) => {
        link.close();
        this.noteTrouble(error, timeline, life);
      });
    };
    answer(greeting);
    for (;;) {
      const bytes = await link.receive();
      if (bytes === undefined || life.over) break;
      try {
        answer(readProposerMessage(bytes));
      } catch (error) {
        link.close();
        this.trouble(error, life);
        break;
      }
    }
    await session.close();
  }

  private noteTrouble(error: unknown, timeline: Timeline, life: Life): void {
    if (life.over) return;
    if (!isFault(error)) {
      this.options.onBreach(error);
      return;
    }
    if (error.code === 'disk-full') this.counts.suspended++;
    const poisoned = timeline.signal.aborted && error.code === 'timeline-poisoned';
    // A failed sync is trouble of the disk; anything else that poisons is trouble of ours.
    if (poisoned && !isFault(error.cause, 'disk-failed')) this.options.onBreach(error.cause ?? error);
    if (timeline.signal.aborted) this.counts.poisoned++;
  }
}
