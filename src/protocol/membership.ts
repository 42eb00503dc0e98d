// Which safekeepers hold a timeline, and by whose majority it commits. A configuration has a generation: 0 means
// that generations are not used (quorum is then the proposer's own list), 1 is the first real one. While members
// are being replaced the configuration is joint: both `members` and `newMembers` must agree to everything.
//
// Answers to libs/safekeeper_api/src/membership.rs (Configuration, MemberSet) and MembershipConfiguration of
// pgxn/neon/walproposer.h. JSON form: {"generation":1,"members":[{"id":1,"host":"a","pg_port":5454}],
// "new_members":null}.

/** A membership generation: u32; 0 is "not used". */
export type Generation = number;

export const INVALID_GENERATION: Generation = 0;

export interface SafekeeperId {
  readonly id: number;
  readonly host: string;
  readonly pgPort: number;
}

export interface MembershipConfiguration {
  readonly generation: Generation;
  readonly members: readonly SafekeeperId[];
  /** Present in a joint configuration only; never empty. */
  readonly newMembers: readonly SafekeeperId[] | undefined;
}

export const NO_MEMBERSHIP: MembershipConfiguration = {
  generation: INVALID_GENERATION,
  members: [],
  newMembers: undefined,
};
