// Who replaces members, as Neon's RFC 035 prescribes and its storage controller does: through a joint configuration,
// with compare-and-swap on one register of configurations. It may die between any two steps; whoever comes next
// finishes what was begun.
//
//   1  register: joint (generation + 1, members, new members)
//   2  a majority of the members takes it  -> the newest log among them, the highest term among them
//   3  the new ones that have nothing pull a copy from the members,
//   4  and a majority of the new set is raised to that term
//   5  a majority of the new set takes it, and has reached that log
//   6  register: generation + 1, the new set alone; told to the new set; who is not in it is excluded

import type { Lsn } from '../../src/base/lsn.ts';
import type { MembershipConfiguration, SafekeeperId } from '../../src/protocol/membership.ts';
import type { Term } from '../../src/protocol/walproposer.ts';
import { ControlFile } from '../../src/safekeeper/control-file.ts';
import { majority } from '../../src/safekeeper/membership.ts';
import { bestSource } from '../../src/safekeeper/recovery-plan.ts';
import type { MembershipSwitch, TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import type { Vault } from '../../src/seal/vault.ts';
import { segmentFileName } from '../../src/xlog/segment.ts';
import type { Checker } from './checker.ts';
import type { SimClock } from './clock.ts';
import type { SimRandom } from './random.ts';
import type { SimSafekeeper } from './safekeeper.ts';

export interface OperatorRules {
  /** The new set must have reached what the old one had. */
  readonly waitForPosition: boolean;
}

export const OPERATOR_RULES: OperatorRules = { waitForPosition: true };

export interface OperatorWorld {
  readonly key: TimelineKey;
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly nodes: readonly SimSafekeeper[];
  readonly checker: Checker;
  readonly rules: OperatorRules;
  /** The register. */
  configuration: MembershipConfiguration;
  /** Of the operator, to die after a step. */
  readonly deaths: number;
  /** Of a replaced member, to be told; the others keep their copy, and may be members again with it. */
  readonly excludes: number;
}

class Gone extends Error {}

const memberOf = (id: number): SafekeeperId => ({ id, host: `sk${id}`, pgPort: 5454 });

export const membersOf = (ids: readonly number[]): SafekeeperId[] => ids.map(memberOf);

export class Operator {
  private readonly world: OperatorWorld;
  busy = false;
  readonly counts = { begun: 0, finished: 0, died: 0, pulls: 0 };

  constructor(world: OperatorWorld) {
    this.world = world;
  }

  /** Replaces the members, or goes on with a replacement begun before. */
  async change(desired: readonly number[], deaths = this.world.deaths): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    try {
      await this.run(desired, deaths);
      this.counts.finished++;
      return true;
    } catch (error) {
      if (!(error instanceof Gone)) throw error;
      this.counts.died++;
      return false;
    } finally {
      this.busy = false;
    }
  }

  private async run(desired: readonly number[], deaths: number): Promise<void> {
    const { world } = this;
    const step = async (): Promise<void> => {
      await world.clock.sleep(world.random.below(60));
      if (world.random.chance(deaths)) throw new Gone('the operator died');
    };
    if (world.configuration.newMembers === undefined) {
      const { generation, members } = world.configuration;
      world.configuration = { generation: generation + 1, members, newMembers: membersOf(desired) };
      this.counts.begun++;
    }
    const joint = world.configuration;
    const next = joint.newMembers!;
    await step();
    const old = await this.untilMajority(joint.members, id => this.put(id, joint), deaths);
    if (old.some(result => result.current.generation > joint.generation))
      throw new Gone('another change was faster');
    const newest = bestSource(old.map(result => ({ ...result, commitLsn: 0 as Lsn })))!;
    const term = Math.max(...old.map(result => result.term));
    await step();
    await this.untilMajority(
      next,
      async id => {
        await this.pullIfMissing(id, joint);
        // A node that has a copy of its own, from former times, is raised as well as one that got it now.
        await this.bump(id, term);
        return true;
      },
      deaths,
    );
    await step();
    await this.untilMajority(
      next,
      async id => {
        const result = await this.put(id, joint);
        const { lastLogTerm, flushLsn } = result;
        const there =
          lastLogTerm > newest.lastLogTerm ||
          (lastLogTerm === newest.lastLogTerm && flushLsn >= newest.flushLsn);
        if (!there && world.rules.waitForPosition) throw new Error('not there yet');
        return result;
      },
      deaths,
    );
    await step();
    const final: MembershipConfiguration = {
      generation: joint.generation + 1,
      members: next,
      newMembers: undefined,
    };
    if (world.configuration !== joint) throw new Gone('another change was faster');
    world.configuration = final;
    await step();
    await this.untilMajority(next, id => this.put(id, final), deaths);
    for (const { id } of joint.members) {
      if (next.some(member => member.id === id) || !world.random.chance(world.excludes)) continue;
      await this.exclude(id, final).catch(() => {});
    }
  }

  /** A change that was decided and not told to all: tells them, and gives those that have nothing a copy. */
  async deliver(): Promise<void> {
    const { configuration } = this.world;
    for (const { id } of configuration.members) {
      await this.pullIfMissing(id, configuration);
      await this.put(id, configuration).catch(() => {});
    }
  }

  /** Asks all of a set again and again, until a majority has answered well. */
  private async untilMajority<T>(
    set: readonly SafekeeperId[],
    ask: (id: number) => Promise<T>,
    deaths: number,
  ): Promise<T[]> {
    const { clock, random } = this.world;
    const answers = new Map<number, T>();
    for (let round = 0; answers.size < majority(set.length); round++) {
      if (round > 0) await clock.sleep(100);
      if (round > 10 && random.chance(deaths)) throw new Gone('the operator gave up');
      for (const { id } of set) {
        if (answers.has(id)) continue;
        const answer = await ask(id).catch(() => undefined);
        if (answer !== undefined) answers.set(id, answer);
      }
    }
    return [...answers.values()];
  }

  /** A call to a node: it takes time, and may never be answered. */
  private async call<T>(id: number, work: (node: SimSafekeeper) => Promise<T>): Promise<T> {
    const { clock, random, nodes } = this.world;
    await clock.sleep(random.below(20));
    const node = nodes.find(node => node.id === id);
    if (node === undefined || !node.up) throw new Error(`sk${id} is down`);
    const late = clock.sleep(1000).then(() => {
      throw new Error(`sk${id} does not answer`);
    });
    late.catch(() => {});
    const result = await Promise.race([work(node), late]);
    await clock.sleep(random.below(20));
    return result;
  }

  private put(id: number, conf: MembershipConfiguration): Promise<MembershipSwitch> {
    return this.call(id, async node => {
      const { timeline } = node;
      if (timeline === undefined) throw new Error('no timeline');
      return timeline.switchMembership(conf);
    });
  }

  private bump(id: number, term: Term): Promise<unknown> {
    return this.call(id, async node => {
      if (node.timeline === undefined) throw new Error('no timeline');
      return node.timeline.termBump(term);
    });
  }

  private async exclude(id: number, conf: MembershipConfiguration): Promise<void> {
    await this.call(id, async node => {
      if (node.timeline === undefined) return;
      await node.all!.exclude(this.world.key, conf);
      this.world.checker.removed(id);
    });
  }

  /** A copy from the member with the newest log, taken while nothing changes. */
  private async pullIfMissing(id: number, conf: MembershipConfiguration): Promise<void> {
    const { nodes } = this.world;
    const target = nodes.find(node => node.id === id);
    if (target === undefined || !target.up || target.timeline !== undefined) return;
    const sources = nodes.filter(
      node => node.timeline !== undefined && conf.members.some(member => member.id === node.id),
    );
    if (sources.length < majority(conf.members.length)) return;
    const best = bestSource(
      sources.map(node => {
        const { control, memory, lastLogTerm, flushLsn } = node.timeline!.status();
        return { node, term: control.term, lastLogTerm, flushLsn, commitLsn: memory.commitLsn };
      }),
    )!.node;
    await this.pull(best, target, conf).catch(() => {});
  }

  private async pull(from: SimSafekeeper, to: SimSafekeeper, conf: MembershipConfiguration): Promise<void> {
    const copy = await this.call(from.id, async node => {
      const timeline = node.timeline!;
      await timeline.checkpoint();
      const { control, oldestLsn, flushLsn, lastLogTerm } = timeline.status();
      const pieces: { at: Lsn; bytes: Uint8Array }[] = [];
      for (let at = oldestLsn; at < flushLsn; ) {
        const bytes = await timeline.readWal(at, flushLsn - at, control.term);
        pieces.push({ at, bytes });
        at = (at + bytes.length) as Lsn;
      }
      const after = timeline.status();
      if (after.control.term !== control.term || after.lastLogTerm !== lastLogTerm)
        throw new Error('it changed');
      return { control, pieces };
    });
    if (copy.control.membership.generation > conf.generation) throw new Error('it is newer than this change');
    await this.call(to.id, async node => {
      const { key } = this.world;
      await node.all!.install(key, conf.generation, async vault => {
        await writeSegments(vault, copy.pieces, copy.control.server.walSegSize);
        await ControlFile.create(vault, copy.control);
      });
      await node.timeline!.switchMembership(conf);
      this.counts.pulls++;
    });
  }
}

async function writeSegments(
  vault: Vault,
  pieces: readonly { readonly at: Lsn; readonly bytes: Uint8Array }[],
  segmentSize: number,
): Promise<void> {
  for (const { at, bytes } of pieces) {
    const segno = Math.floor(at / segmentSize);
    const log = await vault.log(segmentFileName(1, segno, segmentSize), {
      create: true,
      origin: at % segmentSize,
    });
    log.append([bytes]);
    await log.flush();
    await log.close();
  }
}
