// The rules, each switched off in turn. A simulator that finds nothing may be blind: with any of these rules
// missing it must find a breach, and a test says within how many seeds (negative-controls.test.ts).
//
// A rule of the safekeeper is switched off around the real step function: its input, its state or its effects are
// bent, and nothing else. The audit is off as well, or it would notice first: what is on trial is the checker
// that looks from outside. Rules of the proposer and the operator are flags of the models.

import type { Lsn } from '../../src/base/lsn.ts';
import type { AppendRequest } from '../../src/protocol/walproposer.ts';
import { step } from '../../src/safekeeper/acceptor.ts';
import type {
  AcceptorState,
  Effect,
  Input,
  Step,
  StepFunction,
} from '../../src/safekeeper/acceptor-state.ts';
import type { Audit } from '../../src/safekeeper/audit.ts';
import type { ControlState } from '../../src/safekeeper/control-state.ts';
import { OPERATOR_RULES } from './operator.ts';
import { PROPOSER_RULES } from './proposer-options.ts';
import { REAL_WORLD, type WorldRules } from './world.ts';

const NO_AUDIT: Audit = { step() {}, told() {} };

const without = (stepFunction: StepFunction): WorldRules => ({
  ...REAL_WORLD,
  safekeeper: { step: stepFunction, audit: NO_AUDIT },
});

const isMessage = (input: Input, kind: string): boolean =>
  input.on === 'message' && input.message.kind === kind;

/** The real step on messages of one kind, then its effects bent. */
const bend =
  (kind: string, change: (result: Step, before: AcceptorState, input: Input) => Step): StepFunction =>
  (state, input) => {
    const result = step(state, input);
    return isMessage(input, kind) ? change(result, state, input) : result;
  };

const drop = (effects: readonly Effect[], which: (effect: Effect) => boolean): Effect[] =>
  effects.filter(effect => !which(effect));

function asOfTerm(input: Input & { on: 'message' }, term: number): Input {
  return { ...input, message: { ...(input.message as AppendRequest), term } };
}

/** The acceptor listens to a leader of a lower term as if nobody else had been voted for. */
const acceptLowerTerms: StepFunction = (state, input) => {
  if (!isMessage(input, 'append-request')) return step(state, input);
  const { term } = (input as Input & { on: 'message' }).message as AppendRequest;
  const own = state.control.term;
  const history = state.control.termHistory[state.control.termHistory.length - 1]?.term;
  if (term >= own || term !== history) return step(state, input);
  const result = step({ ...state, control: { ...state.control, term } }, input);
  return { ...result, state: { ...result.state, control: { ...result.state.control, term: own } } };
};

/** An append is taken in under a vote alone. */
const appendOnVote: StepFunction = (state, input) => {
  if (!isMessage(input, 'append-request')) return step(state, input);
  const last = state.control.termHistory[state.control.termHistory.length - 1]?.term ?? 0;
  const { term } = (input as Input & { on: 'message' }).message as AppendRequest;
  if (term !== state.control.term || last === term) return step(state, input);
  const result = step(
    { ...state, control: { ...state.control, term: last } },
    asOfTerm(input as never, last),
  );
  return { ...result, state: { ...result.state, control: { ...result.state.control, term } } };
};

/** Generations are not looked at, and answers are in the asker's. */
const anyGeneration: StepFunction = (state, input) => {
  if (input.on !== 'message' || !('generation' in input.message)) return step(state, input);
  const { membership } = state.control;
  const { generation } = input.message;
  const asked = { ...state.control, membership: { ...membership, generation } };
  const result = step({ ...state, control: asked }, input);
  const own = (control: ControlState): ControlState => ({ ...control, membership });
  return {
    state: { ...result.state, control: own(result.state.control) },
    effects: result.effects.map(e => (e.do === 'persist' ? { ...e, control: own(e.control) } : e)),
  };
};

/** Which rule is off, and the rules that are left. */
export const MUTANTS: Readonly<Record<string, WorldRules>> = {
  'the term is persisted before the vote is told': without(
    bend('vote-request', result => ({ ...result, effects: drop(result.effects, e => e.do === 'persist') })),
  ),
  'one vote a term': without(
    bend('vote-request', (result, before, input) => ({
      ...result,
      effects: result.effects.map(effect => {
        if (effect.do !== 'reply' || effect.answer.kind !== 'message') return effect;
        const { message } = effect.answer;
        const asked = (input as Input & { on: 'message' }).message as { term: number };
        if (message.kind !== 'vote-response' || asked.term !== before.control.term) return effect;
        return { ...effect, answer: { kind: 'message', message: { ...message, voteGiven: true } } };
      }),
    })),
  ),
  'a vote is told after a sync': without(
    bend('vote-request', result => ({ ...result, effects: drop(result.effects, e => e.do === 'flush') })),
  ),
  'an append is told after its sync': without((state, input) => {
    const result = step(state, input);
    if (input.on !== 'written') return result;
    const { state: after, effects } = step(result.state, { on: 'flush' });
    const replies = effects.filter(effect => effect.do === 'reply');
    return { state: after, effects: [...replies, ...drop(effects, effect => effect.do === 'reply')] };
  }),
  'an append is told after its own sync, not the one before': without((state, input) => {
    if (input.on !== 'flush' || input.upTo === undefined) return step(state, input);
    const { recordLsn } = input.upTo;
    const result = step(state, { on: 'flush' });
    const effects = result.effects.map(effect =>
      effect.do === 'flush' ? { ...effect, to: recordLsn } : effect,
    );
    return { ...result, effects };
  }),
  'an elected leader truncates': without(
    bend('elected', (result, before) => ({
      state: { ...result.state, wal: { ...before.wal, flushLsn: before.wal.recordLsn } },
      effects: drop(result.effects, e => e.do === 'truncate'),
    })),
  ),
  'WAL is cut before its new history is persisted': without(
    bend('elected', result => ({
      ...result,
      effects: [
        ...result.effects.filter(effect => effect.do === 'persist'),
        ...drop(result.effects, effect => effect.do === 'persist'),
      ],
    })),
  ),
  'the history is persisted at the election': without(
    bend('elected', (result, before) => ({
      ...result,
      effects: drop(
        result.effects,
        e => e.do === 'persist' && e.control.termHistory !== before.control.termHistory,
      ),
    })),
  ),
  'an append of a lower term is refused': without(acceptLowerTerms),
  'an append waits for the election of its term': without(appendOnVote),
  'a message of another generation is refused': {
    ...without(anyGeneration),
    proposer: { ...PROPOSER_RULES, ownGenerationOnly: false },
  },
  'commit is no further than what is durable here': without((state, input) => {
    const result = step(state, input);
    if (input.on !== 'flush') return result;
    const commitLsn = Math.max(result.state.memory.commitLsn, state.announcedCommitLsn) as Lsn;
    return { ...result, state: { ...result.state, memory: { ...result.state.memory, commitLsn } } };
  }),
  'a leader may not commit by entries of previous terms alone': {
    ...REAL_WORLD,
    proposer: { ...PROPOSER_RULES, commitOwnTermOnly: false },
  },
  'the donor has the newest log by term': {
    ...REAL_WORLD,
    proposer: { ...PROPOSER_RULES, donorByTermFirst: false },
  },
  'a majority votes and acknowledges': { ...REAL_WORLD, proposer: { ...PROPOSER_RULES, majority: false } },
  'a joint configuration needs both majorities': {
    ...REAL_WORLD,
    proposer: { ...PROPOSER_RULES, bothSets: false },
  },
  'new members have what the old ones had before they take over': {
    ...REAL_WORLD,
    operator: { ...OPERATOR_RULES, waitForPosition: false },
  },
  'a sync keeps': { ...REAL_WORLD, syncs: false },
};
