// One run: safekeepers, computes, trouble. Everything is drawn from the seed: how many of each, how fast, how bad.
// First things go wrong for a few seconds of simulated time; then all is healed, and a compute must get through.
// The checker looks after every step.

import { isFault } from '../../src/base/fault.ts';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { formatLsn, type Lsn } from '../../src/base/lsn.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { REAL_RULES, type Rules } from '../../src/safekeeper/driver.ts';
import type { Timeline } from '../../src/safekeeper/timeline.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { Breach, Checker } from './checker.ts';
import { SimClock } from './clock.ts';
import { Compute } from './compute.ts';
import { SimFileKeys } from './file-keys.ts';
import { drawLuck, type Luck, type Mood } from './luck.ts';
import { SimNet } from './net.ts';
import { membersOf, OPERATOR_RULES, Operator, type OperatorRules, type OperatorWorld } from './operator.ts';
import { PROPOSER_RULES, type ProposerRules } from './proposer-options.ts';
import { SimRandom } from './random.ts';
import { SEGMENT_BYTES, SimSafekeeper } from './safekeeper.ts';
import type { Stage } from './stage.ts';
import { Trouble } from './trouble.ts';
import { Upkeep } from './upkeep.ts';

/** The rules of a run: the real ones, or all but one. */
export interface WorldRules {
  readonly safekeeper: Rules;
  readonly proposer: ProposerRules;
  readonly operator: OperatorRules;
  /** Off: disks forget what was synced, as with --no-sync. */
  readonly syncs: boolean;
}

export const REAL_WORLD: WorldRules = {
  safekeeper: REAL_RULES,
  proposer: PROPOSER_RULES,
  operator: OPERATOR_RULES,
  syncs: true,
};

export interface RunResult {
  readonly seed: number;
  /** Undefined: every promise was kept. */
  readonly breach: { readonly rule: string; readonly message: string; readonly atMs: number } | undefined;
  readonly steps: number;
  readonly endMs: number;
  /** The last number drawn: two runs of one seed must agree on it. */
  readonly lastDraw: number;
  readonly counts: Readonly<Record<string, number>>;
}

export class World implements Stage {
  readonly seed: number;
  readonly clock = new SimClock();
  readonly checker: Checker;
  readonly luck: Luck;
  readonly nodes: SimSafekeeper[];
  readonly net: SimNet;
  readonly operator: Operator;
  private readonly operatorWorld: OperatorWorld;
  readonly random: SimRandom;
  private readonly trouble: Trouble;
  private readonly upkeep: Upkeep;
  private readonly rules: WorldRules;
  readonly trace: (line: string) => void;
  private readonly key: TimelineKey;
  readonly computes: Compute[] = [];
  private computesMade = 0;
  private breach: { rule: string; message: string; atMs: number } | undefined;
  healed = false;
  readonly absentUntil = new Map<string, number>();
  created = false;

  constructor(
    seed: number,
    rules: WorldRules = REAL_WORLD,
    mood?: Mood,
    trace: (line: string) => void = () => {},
  ) {
    this.trace = line => trace(`${this.clock.monotonic().toFixed(1).padStart(9)} ${line}`);
    this.seed = seed;
    this.rules = rules;
    this.random = new SimRandom(seed);
    this.trouble = new Trouble(this, this.random.split('trouble'));
    this.upkeep = new Upkeep(this, this.random.split('upkeep'));
    const { dice } = this.trouble;
    this.luck = drawLuck(this.random.split('luck'), mood);
    const { luck, clock } = this;
    this.key = { tenantId: tenantId('1a'.repeat(16)), timelineId: timelineId('2b'.repeat(16)) };
    this.checker = new Checker(luck.startLsn, this.trace);
    const network = { clock, random: this.random.split('net'), delayMs: luck.delayMs, chaos: luck.chaos };
    this.net = new SimNet(network);
    const keys = new SimFileKeys(this.key.tenantId, this.random.split('kek'));
    this.nodes = Array.from(
      { length: luck.nodes },
      (_, i) =>
        new SimSafekeeper({
          id: i + 1,
          key: this.key,
          clock,
          random: this.random.split(`node ${i + 1}`),
          net: this.net,
          keys,
          checker: this.checker,
          rules: rules.safekeeper,
          syncs: rules.syncs,
          settings: {
            controlFileSaveIntervalMs: 300 + dice.below(2000),
            flushBytesMax: 20_000,
            restAfterMs: 400,
          },
          onBreach: error => this.onBreach(error),
        }),
    );
    const first = membersOf(this.nodes.slice(0, luck.members).map(node => node.id));
    this.operatorWorld = {
      key: this.key,
      clock,
      random: this.random.split('operator'),
      nodes: this.nodes,
      checker: this.checker,
      rules: rules.operator,
      configuration: luck.generations
        ? { generation: 1, members: first, newMembers: undefined }
        : NO_MEMBERSHIP,
      deaths: luck.deaths,
      excludes: luck.excludes,
    };
    this.operator = new Operator(this.operatorWorld);
  }

  private onBreach(error: unknown): void {
    if (this.breach !== undefined) return;
    const rule = error instanceof Breach ? error.rule : error instanceof Error ? error.name : 'unknown';
    const message = error instanceof Error ? error.message : String(error);
    this.breach = { rule, message, atMs: this.clock.monotonic() };
  }

  // --------------------------------------------------------------------------------------------------- the run

  async run(): Promise<RunResult> {
    const { luck, clock } = this;
    for (const node of this.nodes) this.try(node.boot());
    if (luck.generations) this.try(this.createAll());
    this.launch(false);
    this.upkeep.start();
    this.trouble.start();
    await this.runUntil(luck.troubleMs);
    if (this.breach === undefined) await this.recover();
    const counts = this.counts();
    return {
      seed: this.seed,
      breach: this.breach,
      steps: clock.steps,
      endMs: clock.monotonic(),
      lastDraw:
        this.random.split('end').u32() ^
        this.trouble.dice.u32() ^
        this.net.lastDraw() ^
        this.checker.counts.told,
      counts,
    };
  }

  private runUntil(ms: number, over: () => boolean = () => false): Promise<void> {
    return this.clock.run(ms, () => {
      try {
        for (const node of this.nodes) {
          const status = node.timeline?.status();
          if (status !== undefined) this.checker.node(node.id, status);
        }
      } catch (error) {
        this.onBreach(error);
      }
      return this.breach !== undefined || over();
    });
  }

  /** Work that ends well, or by a Fault, or never. */
  try(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      if (!isFault(error)) this.onBreach(error);
    });
  }

  private async createAll(): Promise<void> {
    const { configuration } = this.operatorWorld;
    const { pgVersion, startLsn } = this.luck;
    for (let missing = true; missing; ) {
      missing = false;
      for (const { id } of configuration.members) {
        const node = this.nodes.find(other => other.id === id)!;
        if (node.timeline !== undefined) continue;
        missing = true;
        const seed = {
          key: this.key,
          membership: configuration,
          pgVersion,
          systemId: 1n,
          walSegSize: SEGMENT_BYTES,
          startLsn,
        };
        if (node.up) this.try(node.all!.create(seed));
      }
      await this.clock.sleep(50);
    }
    this.created = true;
  }

  launch(sync: boolean, onElected?: () => void): Compute {
    const { luck, clock, net, checker } = this;
    const number = ++this.computesMade;
    const random = this.random.split(`compute ${number}`);
    this.trace(`${sync ? 'sync' : 'compute'}${number} starts`);
    const addresses = luck.generations
      ? this.nodes.map(node => node.address)
      : this.nodes.slice(0, luck.members).map(node => node.address);
    const compute = new Compute({
      name: `${sync ? 'sync' : 'compute'}${number}`,
      key: this.key,
      clock,
      random,
      net,
      checker,
      rules: this.rules.proposer,
      nodes: addresses,
      useGenerations: luck.generations,
      sync,
      pgVersion: luck.pgVersion,
      segmentSize: SEGMENT_BYTES,
      redoLsn: luck.startLsn,
      sendBytesMax: luck.switches > 0 ? 131072 : luck.sendBytesMax,
      // What is longer than the window would never be through: a record, and what a switch leaves empty.
      windowBytes: Math.max(
        luck.windowBytes,
        luck.switches > 0 ? 2 * SEGMENT_BYTES : 4 * luck.recordBytesMax,
      ),
      reconnectMs: 100 + random.below(100),
      timeoutMs: 700 + random.below(600),
      restartMs: 50 + random.below(200),
      writeMs: luck.writeMs,
      recordBytesMax: luck.recordBytesMax,
      switches: luck.switches,
      fetchBytes: () => (this.healed ? 32_768 : luck.fetchBytes),
      fetch: (address, from, length, term) => this.fetch(address, from, length, term),
      onBreach: error => this.onBreach(error),
      ...(onElected === undefined ? {} : { onElected }),
    });
    this.computes.push(compute);
    for (const [address, untilMs] of this.absentUntil) {
      if (!this.healed) this.net.clog(compute.name, address, untilMs - clock.monotonic());
    }
    compute.start();
    return compute;
  }

  /** A compute reads WAL from a safekeeper, in its term. */
  private async fetch(address: string, from: Lsn, length: number, term: number): Promise<Uint8Array> {
    const { clock, random, luck } = this;
    await clock.sleep(random.unit() * luck.delayMs);
    const node = this.nodes.find(node => node.address === address);
    const late = clock.sleep(600).then(() => {
      throw new Error('no answer');
    });
    late.catch(() => {});
    const timeline = node?.timeline;
    if (timeline === undefined) throw new Error('not there');
    const bytes = await Promise.race([timeline.readWal(from, length, term), late]);
    await clock.sleep(random.unit() * luck.delayMs);
    return bytes;
  }

  // ---------------------------------------------------------------------------------- what goes on in any case

  bootLater(node: SimSafekeeper, ms: number): void {
    const work = async (): Promise<void> => {
      await node.boot();
      if (this.trouble.dice.chance(0.5)) await this.compareNow(node);
    };
    this.clock.at(ms, () => this.try(work()));
  }

  /** What a node holds, while the run goes on: if it changed meanwhile, nothing is said. */
  private async compareNow(node: SimSafekeeper): Promise<void> {
    const { timeline } = node;
    if (timeline === undefined) return;
    try {
      await this.compare(node.id, timeline);
    } catch (error) {
      if (error instanceof Breach && !timeline.signal.aborted) throw error;
    }
  }

  /** True when all bytes are as they should be, false when the log changed hands while they were read. */
  private async compare(id: number, timeline: Timeline): Promise<boolean> {
    const before = timeline.status();
    try {
      await this.checker.checkBytes(id, before, (from, length) => timeline.readWal(from, length));
      return true;
    } catch (error) {
      // It says so itself while it is being cut.
      if (isFault(error, 'term-changed')) return false;
      const { control, flushLsn, oldestLsn } = timeline.status();
      const same =
        control.termHistory === before.control.termHistory &&
        flushLsn >= before.flushLsn &&
        oldestLsn === before.oldestLsn;
      if (same) throw error;
      return false;
    }
  }

  // --------------------------------------------------------------------------------------- and then all is well

  /** Trouble ends: a new compute must be elected, and what it writes must be committed, in bounded time. */
  private async recover(): Promise<void> {
    this.healed = true;
    this.trace('all is healed');
    this.net.heal();
    for (const compute of this.computes) compute.kill();
    for (const node of this.nodes) {
      node.capacityBytes = Infinity;
      node.disk.failSyncs(0);
      node.latencyMs = Math.min(node.latencyMs, 5);
      node.disk.crashAt(Infinity);
      node.crashInCut = 0;
      if (!node.up) this.try(node.boot());
    }
    const { clock } = this;
    this.finishMembership();
    const compute = this.launch(false);
    const goal = this.checker.committedLsn + 2000;
    await this.runUntil(clock.monotonic() + 20_000, () => compute.elected && compute.commitLsn > goal);
    if (this.breach !== undefined) return;
    if (compute.commitLsn <= goal) {
      this.onBreach(
        new Breach('progress', `nothing is committed 20 s after all was healed: ${this.describe(compute)}`),
      );
      return;
    }
    compute.kill();
    await this.runUntil(clock.monotonic() + 300);
    await this.compareAll();
  }

  private finishMembership(): void {
    if (!this.luck.generations) return;
    const joint = this.operatorWorld.configuration.newMembers !== undefined;
    if (!this.operator.busy) this.try(joint ? this.operator.change([], 0) : this.operator.deliver());
    this.clock.at(300, () => this.finishMembership());
  }

  private describe(compute: Compute): string {
    const nodes = this.nodes.map(node => {
      const status = node.timeline?.status();
      if (status === undefined) return `${node.address} ${node.up ? 'without it' : 'down'}`;
      const { control, flushLsn, memory } = status;
      return `${node.address} generation ${control.membership.generation} term ${control.term} flush ${formatLsn(flushLsn)} commit ${formatLsn(memory.commitLsn)}`;
    });
    return `${compute.name} term ${compute.term} restarts ${compute.restarts} (${compute.lastRestart}) commit ${formatLsn(compute.commitLsn)}; ${nodes.join('; ')}`;
  }

  /**
   * Every byte on every node, against what its leaders wrote. A slow one may hear of its last election only now, and
   * one whose disk failed before may end only now: then it is read once more.
   */
  private async compareAll(): Promise<void> {
    const left = [...this.nodes];
    for (let node = left.shift(); node !== undefined; node = left.shift()) {
      if (!(await this.isCompared(node))) left.push(node);
    }
  }

  /** False when it ended meanwhile, and is to be read in its next life. */
  private async isCompared(node: SimSafekeeper): Promise<boolean> {
    const { timeline } = node;
    if (timeline === undefined || timeline.signal.aborted || this.breach !== undefined) return true;
    let done = false;
    const untilSame = async (): Promise<void> => {
      while (!(await this.compare(node.id, timeline))) await this.clock.sleep(50);
    };
    untilSame()
      .catch((error: unknown) => {
        // A member that was replaced may be excluded meanwhile.
        if (!timeline.signal.aborted) this.onBreach(error);
      })
      .finally(() => {
        done = true;
      });
    const ended = (): boolean => node.timeline !== timeline;
    await this.runUntil(this.clock.monotonic() + 20_000, () => done || ended());
    if (done) return true;
    if (!ended()) {
      this.onBreach(new Breach('bytes', `node ${node.id} cannot be read`));
      return true;
    }
    await this.runUntil(this.clock.monotonic() + 20_000, () => node.up);
    return !node.up;
  }

  private counts(): Record<string, number> {
    const counts: Record<string, number> = { ...this.checker.counts, ...this.net.counts };
    for (const [name, count] of Object.entries(this.trouble.counts)) counts[`trouble: ${name}`] = count;
    for (const node of this.nodes) {
      for (const [name, count] of Object.entries(node.counts)) counts[name] = (counts[name] ?? 0) + count;
    }
    const { begun, finished, pulls } = this.operator.counts;
    counts['membership changes begun'] = begun;
    counts['membership changes finished'] = finished;
    counts['pulls'] = pulls;
    counts['peer recoveries'] = this.upkeep.peerRecoveries;
    counts['computes'] = this.computesMade;
    counts['proposer restarts'] = this.computes.reduce((sum, compute) => sum + compute.restarts, 0);
    counts['committed bytes'] = this.checker.committedLsn - this.luck.startLsn;
    counts['synced'] = this.computes.filter(compute => compute.syncedAt !== undefined).length;
    return counts;
  }
}

export const runSeed = (seed: number, rules: WorldRules = REAL_WORLD, mood?: Mood): Promise<RunResult> =>
  new World(seed, rules, mood).run();
