// The acceptor by hand: commands in, effects out, as text. A trace file is a list of commands, each followed by
// what it did; a test runs the commands anew and compares.
//
//   create node=1 start=0/1000 generation=1 members=1,2,3    a timeline; without start: as a compute creates it
//   restart end=0/1100                                       the process, with WAL found up to there
//   greet | vote | elected | append | flush                  messages of a proposer, and the end of a batch
//   peer | bump | members | checkpoint | backup | control    what others do
//   state                                                    what is true now
//
// An append says `bytes=` and may say `record=`, where the last whole record in it ends (its end, if not said).
// Below each command stand the effects in order, or `refused`.

import { isFault } from '../../src/base/fault.ts';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { type MembershipConfiguration, NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import type { ProposerMessage, TermHistory } from '../../src/protocol/walproposer.ts';
import { step } from '../../src/safekeeper/acceptor.ts';
import {
  type AcceptorState,
  type Answer,
  acceptorFrom,
  type Caller,
  type Effect,
  flushLsnOf,
  type Input,
  lastLogTermOf,
} from '../../src/safekeeper/acceptor-state.ts';
import { AUDIT } from '../../src/safekeeper/audit.ts';
import { formatMembership } from '../../src/safekeeper/membership.ts';
import { formatHistory } from '../../src/safekeeper/term-history.ts';
import { controlOf } from '../../src/safekeeper/timelines.ts';

const KEY = { tenantId: tenantId('1a'.repeat(16)), timelineId: timelineId('2b'.repeat(16)) };

type Arguments = ReadonlyMap<string, string>;

export class AcceptorTrace {
  state!: AcceptorState;
  /** Of the last command. */
  effects: readonly Effect[] = [];
  private requests = 0;

  /** One command; what it did, line by line. */
  run(line: string): string[] {
    const [name = '', ...rest] = line.trim().split(/\s+/);
    const args = new Map(
      rest.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
    );
    try {
      return this.command(name, args);
    } catch (error) {
      if (!isFault(error)) throw error;
      return [`refused: ${error.code}: ${error.message}`];
    }
  }

  private command(name: string, args: Arguments): string[] {
    switch (name) {
      case 'create':
        return this.create(args);
      case 'restart':
        this.state = acceptorFrom(
          this.state.nodeId,
          this.state.control,
          lsnOf(args, 'end', this.state.control.commitLsn),
        );
        return this.describe();
      case 'state':
        return this.describe();
      default:
        return this.input(this.inputOf(name, args), args);
    }
  }

  private create(args: Arguments): string[] {
    const seed = {
      key: KEY,
      membership: membershipOf(args),
      pgVersion: numberOf(args, 'version', 170005),
      systemId: BigInt(args.get('system') ?? 0),
      walSegSize: numberOf(args, 'segment', 1024 * 1024),
      startLsn: lsnOf(args, 'start', INVALID_LSN),
    };
    const control = controlOf(seed, 0);
    this.state = acceptorFrom(numberOf(args, 'node', 1), control, control.commitLsn);
    return this.describe();
  }

  private input(input: Input, args: Arguments): string[] {
    const before = this.state;
    const result = step(before, input);
    AUDIT.step(before, input, result);
    this.state = result.state;
    this.effects = result.effects;
    const lines = result.effects.map(describeEffect);
    const write = result.effects.find(effect => effect.do === 'write');
    if (write !== undefined) {
      const recordLsn = lsnOf(args, 'record', (write.at + write.bytes.length) as Lsn);
      this.state = step(this.state, { on: 'written', recordLsn }).state;
    }
    return lines.length > 0 ? lines : ['nothing'];
  }

  private inputOf(name: string, args: Arguments): Input {
    const from: Caller = { session: numberOf(args, 'session', 1), request: ++this.requests };
    switch (name) {
      case 'flush':
        return { on: 'flush' };
      case 'checkpoint':
        return { on: 'checkpoint' };
      case 'bump':
        return { on: 'term-bump', from, to: args.has('to') ? numberOf(args, 'to', 0) : undefined };
      case 'members':
        return { on: 'membership', from, to: membershipOf(args) };
      case 'backup':
        return { on: 'backed-up', backupLsn: lsnOf(args, 'lsn', INVALID_LSN) };
      case 'control':
        return {
          on: 'control',
          change: control => ({ ...control, term: numberOf(args, 'term', control.term) }),
        };
      case 'bad-wal':
        return { on: 'write-refused' };
      case 'peer':
        return peerOf(args);
      default:
        return { on: 'message', from, message: this.messageOf(name, args) };
    }
  }

  private messageOf(name: string, args: Arguments): ProposerMessage {
    const generation = numberOf(args, 'generation', this.state.control.membership.generation);
    const term = numberOf(args, 'term', this.state.control.term);
    switch (name) {
      case 'greet':
        return {
          kind: 'greeting',
          tenantId: args.has('tenant') ? tenantId(args.get('tenant')!.repeat(16)) : KEY.tenantId,
          timelineId: args.has('timeline') ? timelineId(args.get('timeline')!.repeat(16)) : KEY.timelineId,
          membership: args.has('members') ? membershipOf(args) : NO_MEMBERSHIP,
          pgVersion: numberOf(args, 'version', 170005),
          systemId: BigInt(args.get('system') ?? 0),
          walSegSize: numberOf(args, 'segment', 1024 * 1024),
        };
      case 'vote':
        return { kind: 'vote-request', generation, term };
      case 'elected': {
        const termHistory = historyOf(args.get('history') ?? '');
        const startStreamingAt = lsnOf(args, 'start', INVALID_LSN);
        return { kind: 'elected', generation, term, startStreamingAt, termHistory };
      }
      case 'append': {
        const beginLsn = lsnOf(args, 'begin', this.state.wal.writeLsn);
        const wal = new Uint8Array(numberOf(args, 'bytes', 0));
        const endLsn = lsnOf(args, 'end', (beginLsn + wal.length) as Lsn);
        const commitLsn = lsnOf(args, 'commit', INVALID_LSN);
        const truncateLsn = lsnOf(args, 'truncate', INVALID_LSN);
        return { kind: 'append-request', generation, term, beginLsn, endLsn, commitLsn, truncateLsn, wal };
      }
      default:
        throw new Error(`no such command: ${name}`);
    }
  }

  private describe(): string[] {
    const { control, memory, wal, pendingTruncation, termStartLsn } = this.state;
    const positions = (of: {
      commitLsn: Lsn;
      backupLsn: Lsn;
      peerHorizonLsn: Lsn;
      remoteConsistentLsn: Lsn;
    }): string =>
      `commit ${formatLsn(of.commitLsn)} backup ${formatLsn(of.backupLsn)} horizon ${formatLsn(of.peerHorizonLsn)} consistent ${formatLsn(of.remoteConsistentLsn)}`;
    return [
      `disk: term ${control.term} history ${formatHistory(control.termHistory)} start ${formatLsn(control.timelineStartLsn)} local ${formatLsn(control.localStartLsn)} ${positions(control)}`,
      `memory: ${positions(memory)}`,
      `WAL: written ${formatLsn(wal.writeLsn)} records ${formatLsn(wal.recordLsn)} flushed ${formatLsn(wal.flushLsn)}, told ${formatLsn(flushLsnOf(this.state))} of term ${lastLogTermOf(this.state)}`,
      `${pendingTruncation ? 'waits for an election' : `takes WAL of a term that begins at ${formatLsn(termStartLsn)}`}; ${formatMembership(control.membership)}`,
    ];
  }
}

const numberOf = (args: Arguments, name: string, otherwise: number): number => {
  const text = args.get(name);
  return text === undefined ? otherwise : Number(text);
};

const lsnOf = (args: Arguments, name: string, otherwise: Lsn): Lsn => {
  const text = args.get(name);
  return text === undefined ? otherwise : parseLsn(text);
};

function historyOf(text: string): TermHistory {
  return [...text.matchAll(/\((\d+),([^)]+)\)/g)].map(match => ({
    term: Number(match[1]),
    lsn: parseLsn(match[2]!),
  }));
}

function membershipOf(args: Arguments): MembershipConfiguration {
  const set = (text: string) =>
    text.split(',').map(id => ({ id: Number(id), host: `sk${id}`, pgPort: 5454 }));
  const members = args.has('members') ? set(args.get('members')!) : [];
  const newMembers = args.has('new') ? set(args.get('new')!) : undefined;
  return { generation: numberOf(args, 'generation', 0), members, newMembers };
}

function peerOf(args: Arguments): Input {
  const lsn = (name: string): Lsn => lsnOf(args, name, INVALID_LSN);
  return {
    on: 'peer',
    info: {
      nodeId: numberOf(args, 'node', 2),
      term: numberOf(args, 'term', 0),
      lastLogTerm: numberOf(args, 'log', 0),
      flushLsn: lsn('flush'),
      commitLsn: lsn('commit'),
      backupLsn: lsn('backup'),
      remoteConsistentLsn: lsn('consistent'),
      peerHorizonLsn: lsn('horizon'),
      localStartLsn: lsn('local'),
      pgAddress: '',
      httpAddress: '',
    },
  };
}

function describeEffect(effect: Effect): string {
  switch (effect.do) {
    case 'write':
      return `write ${effect.bytes.length} bytes at ${formatLsn(effect.at)}`;
    case 'truncate':
      return `truncate to ${formatLsn(effect.to)}`;
    case 'flush':
      return 'flush';
    case 'persist': {
      const { term, termHistory, commitLsn, membership } = effect.control;
      return `persist term ${term} history ${formatHistory(termHistory)} commit ${formatLsn(commitLsn)} generation ${membership.generation}`;
    }
    case 'reply':
      return `reply ${effect.to.session}: ${describeAnswer(effect.answer)}`;
  }
}

function describeAnswer(answer: Answer): string {
  if (answer.kind === 'nothing') return 'nothing';
  if (answer.kind === 'term') return `term ${answer.previous} -> ${answer.current}`;
  if (answer.kind === 'membership') {
    const { previous, current, switched, term, lastLogTerm, flushLsn } = answer.result;
    return `${switched ? 'switched' : 'kept'} ${formatMembership(previous)} / ${formatMembership(current)}, term ${term} log ${lastLogTerm} flush ${formatLsn(flushLsn)}`;
  }
  const { message } = answer;
  switch (message.kind) {
    case 'greeting-reply':
      return `greeting of node ${message.nodeId} term ${message.term} ${formatMembership(message.membership)}`;
    case 'vote-response':
      return `vote ${message.voteGiven ? 'given' : 'refused'} term ${message.term} flush ${formatLsn(message.flushLsn)} truncate ${formatLsn(message.truncateLsn)} history ${formatHistory(message.termHistory)} generation ${message.generation}`;
    case 'append-response':
      return `appended term ${message.term} flush ${formatLsn(message.flushLsn)} commit ${formatLsn(message.commitLsn)} generation ${message.generation}`;
  }
}
