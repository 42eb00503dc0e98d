// Quorum rules: who is asked, and when enough have said yes. In a joint configuration (members being replaced)
// a decision needs a majority of the old set and a majority of the new one, so that no two decisions can be
// taken by disjoint groups while some nodes know only one of the sets.
//
// Answers to MsetHasQuorum, GetCommittedMset and VotesCollected of pgxn/neon/walproposer.c, and to
// Configuration of libs/safekeeper_api/src/membership.rs.

import { Fault } from '../base/fault.ts';
import { INVALID_LSN, type Lsn } from '../base/lsn.ts';
import {
  INVALID_GENERATION,
  type MembershipConfiguration,
  type SafekeeperId,
} from '../protocol/membership.ts';

export const majority = (count: number): number => Math.floor(count / 2) + 1;

/** The sets that must each agree: one, or two in a joint configuration. */
export function quorumSets(conf: MembershipConfiguration): readonly (readonly SafekeeperId[])[] {
  return conf.newMembers === undefined ? [conf.members] : [conf.members, conf.newMembers];
}

export const isMember = (conf: MembershipConfiguration, nodeId: number): boolean =>
  quorumSets(conf).some(set => set.some(member => member.id === nodeId));

/** Did a majority of every set agree? */
export function hasQuorum(conf: MembershipConfiguration, agreed: (nodeId: number) => boolean): boolean {
  return quorumSets(conf).every(
    set => set.filter(member => agreed(member.id)).length >= majority(set.length),
  );
}

/** The highest position that a majority of every set has reached; `reached` gives 0 for a node that must not count. */
export function quorumLsn(conf: MembershipConfiguration, reached: (nodeId: number) => Lsn): Lsn {
  let lowest: Lsn | undefined;
  for (const set of quorumSets(conf)) {
    const lsn = majorityLsn(set.map(member => reached(member.id)));
    if (lowest === undefined || lsn < lowest) lowest = lsn;
  }
  return lowest ?? INVALID_LSN;
}

/** The highest position that a majority of these has reached. */
export function majorityLsn(positions: readonly Lsn[]): Lsn {
  if (positions.length === 0) return INVALID_LSN;
  const sorted = [...positions].sort((a, b) => a - b);
  return sorted[positions.length - majority(positions.length)]!;
}

/** A configuration that could not be: nobody in it, or somebody twice. */
export function checkMembership(conf: MembershipConfiguration): void {
  if (conf.generation === INVALID_GENERATION && conf.members.length === 0 && conf.newMembers === undefined)
    return;
  for (const set of quorumSets(conf)) {
    if (set.length === 0) throw invalid(conf, 'an empty set of members');
    const ids = new Set(set.map(member => member.id));
    if (ids.size !== set.length) throw invalid(conf, 'a member twice in one set');
    if (ids.has(0)) throw invalid(conf, 'a member without an id');
  }
}

const invalid = (conf: MembershipConfiguration, what: string): Fault =>
  new Fault('config-invalid', `membership generation ${conf.generation}: ${what}`);

/** For logs and messages: `generation 3: 1,2,3 -> 2,3,4`. */
export function formatMembership(conf: MembershipConfiguration): string {
  const ids = (set: readonly SafekeeperId[]): string => set.map(member => member.id).join(',') || 'nobody';
  return `generation ${conf.generation}: ${quorumSets(conf).map(ids).join(' -> ')}`;
}

export const notMember = (nodeId: number, conf: MembershipConfiguration): Fault =>
  new Fault('not-a-member', `node ${nodeId} is not a member of ${formatMembership(conf)}`);
