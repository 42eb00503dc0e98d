// One run: safekeepers, computes, trouble. Everything is drawn from the seed: how many of each, how fast, how bad.
// First things go wrong for a few seconds of simulated time; then all is healed, and a compute must get through.
// The checker looks after every step.

import { isFault } from '../../src/base/fault.ts';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../../src/base/lsn.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { REAL_RULES, type Rules } from '../../src/safekeeper/driver.ts';
import { firstSegmentToKeep } from '../../src/safekeeper/removal-plan.ts';
import type { PeerInfo, TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { Breach, Checker } from './checker.ts';
import { SimClock } from './clock.ts';
import { Compute } from './compute.ts';
import { SimFileKeys } from './file-keys.ts';
import { SimNet } from './net.ts';
import { membersOf, OPERATOR_RULES, Operator, type OperatorRules, type OperatorWorld } from './operator.ts';
import { recoverFromPeer } from './peer-recovery.ts';
import { PROPOSER_RULES, type ProposerRules } from './proposer.ts';
import { SimRandom } from './random.ts';
import { addressOf, SEGMENT_BYTES, SimSafekeeper } from './safekeeper.ts';

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

interface Luck {
  readonly nodes: number;
  readonly members: number;
  readonly generations: boolean;
  readonly pgVersion: number;
  readonly startLsn: Lsn;
  readonly troubleMs: number;
  readonly troubleEveryMs: number;
  readonly chaos: number;
  readonly writeMs: number;
  readonly recordBytesMax: number;
  readonly sendBytesMax: number;
  readonly windowBytes: number;
  readonly switches: number;
  readonly fetchBytes: number;
  readonly delayMs: number;
  /** Of the operator, to die after a step. */
  readonly deaths: number;
  /** Of a member that was replaced, to be told so. */
  readonly excludes: number;
  /** Safekeepers catch up with each other while no compute streams. */
  readonly peerRecovery: boolean;
  readonly mood: Mood;
}

/** What kind of trouble there is most of. */
export type Mood = 'all' | 'elections' | 'rounds' | 'members';

function drawLuck(random: SimRandom, wanted?: Mood): Luck {
  const drawn = random.pick<Mood>(['all', 'all', 'elections', 'rounds', 'members']);
  const mood = wanted ?? drawn;
  const generations = mood === 'members' || (mood === 'all' && random.chance(0.5));
  const members = mood === 'elections' || mood === 'rounds' ? 3 : random.pick([3, 3, 3, 3, 5, 1, 2]);
  // Shortly before the end of a segment, so that little WAL is enough to go from one to the next.
  const before = 8 * random.below(random.chance(0.5) ? 1500 : 30_000);
  const start = (2 + random.below(5)) * SEGMENT_BYTES - before;
  const inPage = start % 8192;
  return {
    generations,
    members,
    nodes: members + (generations ? 1 + random.below(3) : 0),
    pgVersion: random.pick([140005, 150004, 160003, 170005]),
    startLsn: (start + (inPage < 40 ? 40 - inPage : 0)) as Lsn,
    troubleMs: 1500 + random.below(4000),
    troubleEveryMs: mood === 'all' ? random.pick([60, 120, 250, 500]) : random.pick([60, 120]),
    chaos: random.chance(0.3) ? 0.002 + 0.04 * random.unit() : 0,
    writeMs: random.pick([15, 40, 100]),
    recordBytesMax: mood === 'rounds' ? 300 : random.pick([300, 1500, 9000]),
    sendBytesMax: mood === 'rounds' ? 400 : random.pick([100, 700, 2000, 8000, 131072]),
    windowBytes: random.pick([3000, 20_000, 200_000]),
    switches: random.chance(0.05) ? 0.01 : 0,
    delayMs: mood === 'rounds' ? random.pick([3, 10]) : random.pick([1, 3, 10]),
    fetchBytes: mood === 'rounds' ? 200 : random.pick([600, 3000, 32_768]),
    deaths: random.pick([0, 0.05, 0.15]),
    excludes: random.pick([0, 0.5, 1]),
    peerRecovery: random.chance(0.4),
    mood,
  };
}

export class World {
  readonly seed: number;
  readonly clock = new SimClock();
  readonly checker: Checker;
  readonly luck: Luck;
  readonly nodes: SimSafekeeper[];
  readonly net: SimNet;
  readonly operator: Operator;
  private readonly operatorWorld: OperatorWorld;
  readonly random: SimRandom;
  private peerRecoveries = 0;
  private readonly trouble: SimRandom;
  private readonly rules: WorldRules;
  private readonly trace: (line: string) => void;
  private readonly key: TimelineKey;
  private readonly computes: Compute[] = [];
  private computesMade = 0;
  private breach: { rule: string; message: string; atMs: number } | undefined;
  private healed = false;
  /** Of the last round: whom the leader still reached when it reached nobody else. */
  private friend: SimSafekeeper | undefined;
  private readonly absentUntil = new Map<string, number>();
  private created = false;
  readonly troubles: Record<string, number> = {};

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
    this.trouble = this.random.split('trouble');
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
            controlFileSaveIntervalMs: 300 + this.trouble.below(2000),
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
    this.upkeep();
    if (luck.mood === 'rounds') this.nextRound();
    else this.nextTrouble();
    await this.runUntil(luck.troubleMs);
    if (this.breach === undefined) await this.recover();
    const counts = this.counts();
    return {
      seed: this.seed,
      breach: this.breach,
      steps: clock.steps,
      endMs: clock.monotonic(),
      lastDraw:
        this.random.split('end').u32() ^ this.trouble.u32() ^ this.net.lastDraw() ^ this.checker.counts.told,
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
  private try(work: Promise<unknown>): void {
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

  private launch(sync: boolean, onElected?: () => void): Compute {
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

  /** The broker's news, the keeping of control files, removal of WAL: every now and then. */
  private upkeep(): void {
    const { clock, random } = this;
    clock.at(150 + random.below(200), () => {
      for (const node of this.nodes) {
        const { timeline } = node;
        if (node.up) this.try(node.all!.tick());
        if (timeline === undefined) continue;
        if (timeline.signal.aborted) {
          // Its disk failed: the process is started anew.
          node.kill();
          this.bootLater(node, 50);
          continue;
        }
        if (random.chance(0.7)) this.tellPeers(node.id);
        if (random.chance(0.1)) this.consume(node);
        if (this.luck.peerRecovery && random.chance(0.2)) this.recoverFromPeer(node);
      }
      this.upkeep();
    });
  }

  private tellPeers(id: number): void {
    const info = this.infoOf(this.nodes[id - 1]!);
    for (const peer of this.nodes) {
      if (peer.id === id || this.random.chance(0.2)) continue;
      this.clock.at(this.random.below(80), () => {
        const { timeline } = peer;
        if (timeline !== undefined && !timeline.signal.aborted) this.try(timeline.recordPeer(info));
      });
    }
  }

  /** With what the broker said a while ago. */
  private recoverFromPeer(node: SimSafekeeper): void {
    const peers = this.nodes.filter(other => other.timeline !== undefined).map(other => this.infoOf(other));
    const work = async (): Promise<void> => {
      await this.clock.sleep(this.random.below(100));
      const bytes = await recoverFromPeer(node, this, peers);
      if (bytes === 0) return;
      this.trace(`${node.address} has caught up by ${bytes} bytes`);
      this.peerRecoveries++;
    };
    this.try(work());
  }

  private infoOf(node: SimSafekeeper): PeerInfo {
    const { id } = node;
    const { control, memory, flushLsn, lastLogTerm } = node.timeline!.status();
    return {
      nodeId: id,
      term: control.term,
      lastLogTerm,
      flushLsn,
      ...memory,
      localStartLsn: control.localStartLsn,
      pgAddress: addressOf(id),
      httpAddress: addressOf(id),
    };
  }

  /** The pageserver and the object store have some WAL: it may go here. */
  private consume(node: SimSafekeeper): void {
    const { timeline } = node;
    const status = timeline!.status();
    const { commitLsn } = status.memory;
    if (commitLsn === INVALID_LSN) return;
    const backupLsn = (commitLsn - (commitLsn % SEGMENT_BYTES)) as Lsn;
    const work = async (): Promise<void> => {
      await timeline!.setBackupLsn(backupLsn);
      await timeline!.recordPeer({
        ...status.memory,
        nodeId: 99,
        term: 0,
        lastLogTerm: 0,
        flushLsn: INVALID_LSN,
        commitLsn: INVALID_LSN,
        backupLsn,
        remoteConsistentLsn: commitLsn,
        localStartLsn: INVALID_LSN,
        pgAddress: '',
        httpAddress: '',
      });
      await timeline!.checkpoint();
      const { control, flushLsn } = timeline!.status();
      await timeline!.removeSegmentsBelow(firstSegmentToKeep({ control, flushLsn, laggardLsn: undefined }));
    };
    this.try(work());
  }

  private bootLater(node: SimSafekeeper, ms: number): void {
    const work = async (): Promise<void> => {
      await node.boot();
      if (this.trouble.chance(0.5)) await this.compareNow(node);
    };
    this.clock.at(ms, () => this.try(work()));
  }

  /** What a node holds, while the run goes on: if it changed meanwhile, nothing is said. */
  private async compareNow(node: SimSafekeeper): Promise<void> {
    const { timeline } = node;
    if (timeline === undefined) return;
    const before = timeline.status();
    try {
      await this.checker.checkBytes(node.id, before, (from, length) => timeline.readWal(from, length));
    } catch (error) {
      if (timeline.signal.aborted || !(error instanceof Breach)) return;
      const { control, flushLsn, oldestLsn } = timeline.status();
      const same =
        control.termHistory === before.control.termHistory &&
        flushLsn >= before.flushLsn &&
        oldestLsn === before.oldestLsn;
      if (same) throw error;
    }
  }

  // --------------------------------------------------------------------------------------------------- trouble

  private nextTrouble(): void {
    const { troubleEveryMs } = this.luck;
    this.clock.at(this.trouble.unit() * 2 * troubleEveryMs, () => {
      if (this.healed) return;
      this.causeTrouble();
      this.nextTrouble();
    });
  }

  /**
   * Round after round, the compute is replaced by one that cannot reach one of the nodes, and after a while reaches
   * a single one: so logs part again and again, and who is elected depends on who is there.
   */
  private nextRound(): void {
    const dice = this.trouble;
    const { clock } = this;
    const ms = dice.chance(0.4) ? 30 + dice.below(90) : 100 + dice.below(300);
    for (const compute of this.computes) compute.kill();
    // Most often it is the one that has WAL which nobody else has.
    this.absent(this.friend !== undefined && dice.chance(0.6) ? this.friend : dice.pick(this.nodes), ms);
    this.friend = undefined;
    const isolate = (): void => {
      if (!this.healed && compute.alive && dice.chance(0.6)) this.friend = this.isolate(compute);
    };
    const compute = this.launch(false, isolate);
    clock.at(40 + dice.below(200), isolate);
    this.troubles['round'] = (this.troubles['round'] ?? 0) + 1;
    if (dice.chance(0.2)) this.causeTrouble();
    clock.at(ms, () => {
      if (!this.healed) this.nextRound();
    });
  }

  private causeTrouble(): void {
    const dice = this.trouble;
    const node = dice.pick(this.nodes);
    const compute = this.computes.filter(c => c.alive)[0];
    const { mood } = this.luck;
    const few = mood === 'all' ? 1 : 0.25;
    const kinds: [number, string, () => void][] = [
      [10 * few, 'crash', () => this.stopNode(node, () => node.crash())],
      [14 * few, 'crash in a step', () => this.crashInStep(node)],
      [6 * few, 'kill', () => this.stopNode(node, () => node.kill())],
      [2 * few, 'power failure', () => this.nodes.forEach(n => void this.stopNode(n, () => n.crash()))],
      [mood === 'elections' ? 20 : 10, 'clog', () => this.clog()],
      [mood === 'elections' ? 15 : 3, 'lonely leader', () => void this.isolate(compute)],
      [mood === 'elections' ? 10 : 2, 'absent node', () => this.absent(node)],
      [10, 'cut', () => this.net.cut(node.address, () => dice.chance(0.5))],
      [6, 'slow disk', () => this.slowDisk(node)],
      [3 * few, 'full disk', () => this.fullDisk(node)],
      [2 * few, 'failed sync', () => node.disk.failSyncs(1)],
      [mood === 'elections' ? 20 : 9, 'new compute', () => this.replaceCompute(compute)],
      [mood === 'elections' ? 10 : 5, 'second compute', () => void (this.alive() < 3 && this.launch(false))],
      [4, 'sync', () => void (this.alive() < 3 && this.launch(true))],
      [3, 'term bump', () => this.bump(node)],
      [mood === 'members' ? 40 : this.luck.generations ? 10 : 0, 'new members', () => this.changeMembers()],
    ];
    let draw = dice.unit() * kinds.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, name, cause] of kinds) {
      draw -= weight;
      if (draw >= 0) continue;
      this.troubles[name] = (this.troubles[name] ?? 0) + 1;
      this.trace(`trouble: ${name} (sk${node.id})`);
      cause();
      return;
    }
  }

  private alive(): number {
    return this.computes.filter(compute => compute.alive).length;
  }

  private stopNode(node: SimSafekeeper, stop: () => void): void {
    stop();
    this.bootLater(node, 20 + this.trouble.below(this.trouble.chance(0.2) ? 1500 : 250));
  }

  /** Power is lost in the middle of one of the next writes. */
  private crashInStep(node: SimSafekeeper): void {
    node.disk.crashAt(1 + this.trouble.below(8));
    const { clock } = this;
    // Whether it got that far or not: it is off, and comes back.
    clock.at(100 + this.trouble.below(100), () => this.stopNode(node, () => node.crash()));
  }

  private clog(): void {
    const names = [
      ...this.nodes.map(node => node.address),
      ...this.computes.filter(c => c.alive).map(c => c.name),
    ];
    const [a, b] = [this.trouble.pick(names), this.trouble.pick(names)];
    const ms = this.trouble.below(900);
    this.net.clog(a, b, ms);
    if (this.trouble.chance(0.5)) this.net.clog(b, a, ms);
  }

  /** A leader reaches one node only, and goes on writing to it. */
  private isolate(compute: Compute | undefined): SimSafekeeper | undefined {
    if (compute === undefined) return undefined;
    const now = this.clock.monotonic();
    const here = this.nodes.filter(node => (this.absentUntil.get(node.address) ?? 0) <= now);
    const friend = this.trouble.pick(here.length > 0 ? here : this.nodes);
    const ms = 100 + this.trouble.below(700);
    for (const node of this.nodes) if (node !== friend) this.net.clog(compute.name, node.address, ms);
    return friend;
  }

  /** A node is reached by nobody. */
  private absent(node: SimSafekeeper, ms = 100 + this.trouble.below(700)): void {
    for (const compute of this.computes) if (compute.alive) this.net.clog(compute.name, node.address, ms);
    this.net.cut(node.address);
    this.absentUntil.set(node.address, this.clock.monotonic() + ms);
  }

  private slowDisk(node: SimSafekeeper): void {
    const before = node.latencyMs;
    node.latencyMs = 20 + this.trouble.below(150);
    this.clock.at(this.trouble.below(800), () => {
      node.latencyMs = before;
    });
  }

  private fullDisk(node: SimSafekeeper): void {
    node.capacityBytes = 0;
    this.clock.at(this.trouble.below(500), () => {
      node.capacityBytes = Infinity;
    });
  }

  private replaceCompute(compute: Compute | undefined): void {
    compute?.kill();
    this.clock.at(
      this.trouble.below(300),
      () => void (this.alive() < 3 && !this.healed && this.launch(false)),
    );
  }

  private bump(node: SimSafekeeper): void {
    const { timeline } = node;
    if (timeline !== undefined && !timeline.signal.aborted) this.try(timeline.termBump());
  }

  private changeMembers(): void {
    if (!this.created) return;
    const ids = this.nodes.map(node => node.id);
    while (ids.length > this.luck.members) ids.splice(this.trouble.below(ids.length), 1);
    this.try(this.operator.change(ids));
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

  /** Every byte on every node, against what its leaders wrote. */
  private async compareAll(): Promise<void> {
    for (const node of this.nodes) {
      const { timeline } = node;
      if (timeline === undefined || timeline.signal.aborted || this.breach !== undefined) continue;
      let done = false;
      const status = timeline.status();
      this.checker
        .checkBytes(node.id, status, (from, length) => timeline.readWal(from, length))
        .catch((error: unknown) => {
          // A member that was replaced may be excluded meanwhile.
          if (!timeline.signal.aborted) this.onBreach(error);
        })
        .finally(() => {
          done = true;
        });
      await this.runUntil(this.clock.monotonic() + 20_000, () => done);
      if (!done) this.onBreach(new Breach('bytes', `node ${node.id} cannot be read`));
    }
  }

  private counts(): Record<string, number> {
    const counts: Record<string, number> = { ...this.checker.counts, ...this.net.counts };
    for (const [name, count] of Object.entries(this.troubles)) counts[`trouble: ${name}`] = count;
    for (const node of this.nodes) {
      for (const [name, count] of Object.entries(node.counts)) counts[name] = (counts[name] ?? 0) + count;
    }
    const { begun, finished, pulls } = this.operator.counts;
    counts['membership changes begun'] = begun;
    counts['membership changes finished'] = finished;
    counts['pulls'] = pulls;
    counts['peer recoveries'] = this.peerRecoveries;
    counts['computes'] = this.computesMade;
    counts['proposer restarts'] = this.computes.reduce((sum, compute) => sum + compute.restarts, 0);
    counts['committed bytes'] = this.checker.committedLsn - this.luck.startLsn;
    counts['synced'] = this.computes.filter(compute => compute.syncedAt !== undefined).length;
    return counts;
  }
}

export const runSeed = (seed: number, rules: WorldRules = REAL_WORLD, mood?: Mood): Promise<RunResult> =>
  new World(seed, rules, mood).run();
