// What goes wrong, and when: drawn one after the other from the seed. Machines lose power, between steps and in the
// middle of one; processes are killed; disks are slow, full, or fail to sync; links are clogged and cut; computes are
// replaced, doubled and isolated; members are replaced; operators raise terms.

import type { Compute } from './compute.ts';
import type { SimRandom } from './random.ts';
import type { SimSafekeeper } from './safekeeper.ts';
import type { Stage } from './stage.ts';

export class Trouble {
  private readonly stage: Stage;
  readonly dice: SimRandom;
  /** How much of each kind there was. */
  readonly counts: Record<string, number> = {};
  /** Of the last round: whom the leader still reached when it reached nobody else. */
  private friend: SimSafekeeper | undefined;

  constructor(stage: Stage, dice: SimRandom) {
    this.stage = stage;
    this.dice = dice;
  }

  /** From now on, until the world is healed. */
  start(): void {
    if (this.stage.luck.mood === 'rounds') this.nextRound();
    else this.nextTrouble();
  }

  private nextTrouble(): void {
    const { troubleEveryMs } = this.stage.luck;
    this.stage.clock.at(this.dice.unit() * 2 * troubleEveryMs, () => {
      if (this.stage.healed) return;
      this.causeTrouble();
      this.nextTrouble();
    });
  }

  /**
   * Round after round, the compute is replaced by one that cannot reach one of the nodes, and after a while reaches
   * a single one: so logs part again and again, and who is elected depends on who is there.
   */
  private nextRound(): void {
    const { dice } = this;
    const { clock } = this.stage;
    const ms = dice.chance(0.4) ? 30 + dice.below(90) : 100 + dice.below(300);
    for (const compute of this.stage.computes) compute.kill();
    // Most often it is the one that has WAL which nobody else has.
    this.absent(
      this.friend !== undefined && dice.chance(0.6) ? this.friend : dice.pick(this.stage.nodes),
      ms,
    );
    this.friend = undefined;
    const isolate = (): void => {
      if (!this.stage.healed && compute.alive && dice.chance(0.6)) this.friend = this.isolate(compute);
    };
    const compute = this.stage.launch(false, isolate);
    clock.at(40 + dice.below(200), isolate);
    this.counts['round'] = (this.counts['round'] ?? 0) + 1;
    if (dice.chance(0.2)) this.causeTrouble();
    clock.at(ms, () => {
      if (!this.stage.healed) this.nextRound();
    });
  }

  private causeTrouble(): void {
    const { dice } = this;
    const node = dice.pick(this.stage.nodes);
    const compute = this.stage.computes.filter(c => c.alive)[0];
    const { mood } = this.stage.luck;
    const few = mood === 'all' ? 1 : 0.25;
    const kinds: [number, string, () => void][] = [
      [10 * few, 'crash', () => this.stopNode(node, () => node.crash())],
      [14 * few, 'crash in a step', () => this.crashInStep(node)],
      [6 * few, 'kill', () => this.stopNode(node, () => node.kill())],
      [2 * few, 'power failure', () => this.stage.nodes.forEach(n => void this.stopNode(n, () => n.crash()))],
      [mood === 'elections' ? 20 : 10, 'clog', () => this.clog()],
      [mood === 'elections' ? 15 : 3, 'lonely leader', () => void this.isolate(compute)],
      [mood === 'elections' ? 10 : 2, 'absent node', () => this.absent(node)],
      [10, 'cut', () => this.stage.net.cut(node.address, () => dice.chance(0.5))],
      [6, 'slow disk', () => this.slowDisk(node)],
      [3 * few, 'full disk', () => this.fullDisk(node)],
      [2 * few, 'failed sync', () => node.disk.failSyncs(1)],
      [mood === 'elections' ? 20 : 9, 'new compute', () => this.replaceCompute(compute)],
      [
        mood === 'elections' ? 10 : 5,
        'second compute',
        () => void (this.alive() < 3 && this.stage.launch(false)),
      ],
      [4, 'sync', () => void (this.alive() < 3 && this.stage.launch(true))],
      [3, 'term bump', () => this.bump(node)],
      [
        mood === 'members' ? 40 : this.stage.luck.generations ? 10 : 0,
        'new members',
        () => this.changeMembers(),
      ],
    ];
    let draw = dice.unit() * kinds.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, name, cause] of kinds) {
      draw -= weight;
      if (draw >= 0) continue;
      this.counts[name] = (this.counts[name] ?? 0) + 1;
      this.stage.trace(`trouble: ${name} (sk${node.id})`);
      cause();
      return;
    }
  }

  private alive(): number {
    return this.stage.computes.filter(compute => compute.alive).length;
  }

  private stopNode(node: SimSafekeeper, stop: () => void): void {
    stop();
    this.stage.bootLater(node, 20 + this.dice.below(this.dice.chance(0.2) ? 1500 : 250));
  }

  /** Power is lost in the middle of one of the next writes. */
  private crashInStep(node: SimSafekeeper): void {
    node.disk.crashAt(1 + this.dice.below(8));
    const { clock } = this.stage;
    // Whether it got that far or not: it is off, and comes back.
    clock.at(100 + this.dice.below(100), () => this.stopNode(node, () => node.crash()));
  }

  private clog(): void {
    const names = [
      ...this.stage.nodes.map(node => node.address),
      ...this.stage.computes.filter(c => c.alive).map(c => c.name),
    ];
    const [a, b] = [this.dice.pick(names), this.dice.pick(names)];
    const ms = this.dice.below(900);
    this.stage.net.clog(a, b, ms);
    if (this.dice.chance(0.5)) this.stage.net.clog(b, a, ms);
  }

  /** A leader reaches one node only, and goes on writing to it. */
  private isolate(compute: Compute | undefined): SimSafekeeper | undefined {
    if (compute === undefined) return undefined;
    const now = this.stage.clock.monotonic();
    const here = this.stage.nodes.filter(node => (this.stage.absentUntil.get(node.address) ?? 0) <= now);
    const friend = this.dice.pick(here.length > 0 ? here : this.stage.nodes);
    const ms = 100 + this.dice.below(700);
    for (const node of this.stage.nodes)
      if (node !== friend) this.stage.net.clog(compute.name, node.address, ms);
    return friend;
  }

  /** A node is reached by nobody. */
  private absent(node: SimSafekeeper, ms = 100 + this.dice.below(700)): void {
    for (const compute of this.stage.computes)
      if (compute.alive) this.stage.net.clog(compute.name, node.address, ms);
    this.stage.net.cut(node.address);
    this.stage.absentUntil.set(node.address, this.stage.clock.monotonic() + ms);
  }

  private slowDisk(node: SimSafekeeper): void {
    const before = node.latencyMs;
    node.latencyMs = 20 + this.dice.below(150);
    this.stage.clock.at(this.dice.below(800), () => {
      node.latencyMs = before;
    });
  }

  private fullDisk(node: SimSafekeeper): void {
    node.capacityBytes = 0;
    this.stage.clock.at(this.dice.below(500), () => {
      node.capacityBytes = Infinity;
    });
  }

  private replaceCompute(compute: Compute | undefined): void {
    compute?.kill();
    this.stage.clock.at(
      this.dice.below(300),
      () => void (this.alive() < 3 && !this.stage.healed && this.stage.launch(false)),
    );
  }

  private bump(node: SimSafekeeper): void {
    const { timeline } = node;
    if (timeline !== undefined && !timeline.signal.aborted) this.stage.try(timeline.termBump());
  }

  private changeMembers(): void {
    if (!this.stage.created) return;
    const ids = this.stage.nodes.map(node => node.id);
    while (ids.length > this.stage.luck.members) ids.splice(this.dice.below(ids.length), 1);
    this.stage.try(this.stage.operator.change(ids));
  }
}
