// One test per claim that the protocol makes of an acceptor (greeting, vote, elected, append, membership), by the
// names those rules go by. What happens over several messages is in the traces (integration/fixtures/acceptor).

import { describe, expect, test } from 'vitest';
import { AcceptorTrace } from '../../integration/sim/acceptor-trace.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { step } from './acceptor.ts';
import { acceptorFrom, controlWithMemory, type Effect, flushLsnOf, lastLogTermOf } from './acceptor-state.ts';

/** A timeline after these commands. */
function given(...commands: string[]): AcceptorTrace {
  const trace = new AcceptorTrace();
  for (const command of commands) trace.run(command);
  return trace;
}

const kinds = (trace: AcceptorTrace): string => trace.effects.map((effect: Effect) => effect.do).join(' ');

const STARTED = [
  'create start=0/1000',
  'vote term=1',
  'elected term=1 start=0/1000 history=(0,0/1000)(1,0/1000)',
];

describe('greeting', () => {
  const greet = (args: string): string[] => given('create start=0/1000 system=5').run(`greet ${args}`);

  test('the tenant and the timeline must be these', () => {
    expect(greet('tenant=ff')[0]).toMatch(/refused: protocol-violation: greeting with tenant ffff/);
    expect(greet('timeline=ff')[0]).toMatch(/refused: protocol-violation: greeting with timeline ffff/);
  });

  test('the major must be the one known; minor versions may differ', () => {
    expect(greet('version=160004')[0]).toMatch(/Postgres version 160004, expected 170005/);
    expect(greet('version=170009')[0]).toMatch(/^reply/);
  });

  test('any major is taken where none is known', () => {
    const trace = given('create start=0/1000');
    const { server } = trace.state.control;
    trace.state = {
      ...trace.state,
      control: { ...trace.state.control, server: { ...server, pgVersion: 0 } },
    };
    expect(trace.run('greet version=150004 system=9')).toHaveLength(2);
    expect(trace.state.control.server.pgVersion).toBe(150004);
  });

  test('the segment size must be equal, unless the proposer cannot know it (sync)', () => {
    expect(greet('segment=16777216 system=5')[0]).toMatch(/WAL segment size 16777216, expected 1048576/);
    expect(greet('segment=16777216 system=0')[0]).toMatch(/^reply/);
  });

  test('a known system identifier is kept, persisted before the reply; 0 (sync) changes nothing', () => {
    const trace = given('create start=0/1000 system=5');
    trace.run('greet system=0');
    expect(kinds(trace)).toBe('reply');
    trace.run('greet system=5');
    expect(kinds(trace)).toBe('reply');
    trace.run('greet system=6 version=170009');
    expect(kinds(trace)).toBe('persist reply');
    expect(trace.state.control.server).toMatchObject({ systemId: 6n, pgVersion: 170009 });
  });

  test('a higher generation is adopted by a member and refused by others', () => {
    const trace = given('create node=2 start=0/1000 generation=1 members=1,2,3');
    expect(trace.run('greet generation=2 members=1,3,4')[0]).toMatch(/refused: not-a-member/);
    expect(trace.state.control.membership.generation).toBe(1);
    trace.run('greet generation=2 members=1,3 new=2,3,4');
    expect(kinds(trace)).toBe('persist reply');
    expect(trace.state.control.membership.generation).toBe(2);
  });

  test('a generation adopted by a greeting answers the appends of the old one first', () => {
    const trace = given(
      'create node=2 start=0/1000 generation=1 members=1,2,3',
      'vote term=1',
      'elected term=1 start=0/1000 history=(0,0/1000)(1,0/1000)',
      'append bytes=64',
    );
    trace.run('greet generation=2 members=1,2 session=9');
    expect(kinds(trace)).toBe('flush reply persist reply');
    expect(trace.effects[1]).toMatchObject({ to: { session: 1 }, answer: { message: { generation: 1 } } });
  });

  test("the compute's own greeting has no members, and changes none", () => {
    const trace = given('create start=0/1000 generation=7 members=1,2,3');
    expect(trace.run('greet')[0]).toBe('reply 1: greeting of node 1 term 0 generation 7: 1,2,3');
  });
});

describe('vote', () => {
  test('of another generation is refused', () => {
    const trace = given('create start=0/1000 generation=3 members=1,2,3');
    for (const generation of [0, 2, 4]) {
      expect(trace.run(`vote term=5 generation=${generation}`)[0]).toMatch(/refused: generation-mismatch/);
    }
    expect(trace.state.control.term).toBe(0);
  });

  test('syncs what is written first, and tells where it ends', () => {
    const trace = given(...STARTED, 'append bytes=64');
    trace.run('vote term=2');
    expect(kinds(trace)).toBe('flush reply persist reply');
    expect(flushLsnOf(trace.state)).toBe(0x1040);
  });

  test('is given once a term, for a term higher than any voted for', () => {
    const trace = given('create start=0/1000');
    expect(trace.run('vote term=3')[1]).toMatch(/vote given term 3/);
    expect(trace.run('vote term=3')[0]).toMatch(/vote refused term 3/);
    expect(trace.run('vote term=2')[0]).toMatch(/vote refused term 3/);
  });

  test('is persisted before it is told; a refusal persists nothing', () => {
    const trace = given('create start=0/1000');
    trace.run('vote term=3');
    expect(kinds(trace)).toBe('persist reply');
    trace.run('vote term=3');
    expect(kinds(trace)).toBe('reply');
  });

  test('tells the peer horizon of memory as truncate_lsn', () => {
    const trace = given(...STARTED, 'append bytes=64 truncate=0/1020', 'flush');
    expect(trace.state.control.peerHorizonLsn).toBe(0x1000);
    expect(trace.run('vote term=2').at(-1)).toMatch(/truncate 0\/1020/);
  });

  test('tells the history of the WAL there is, not the one adopted ahead of it', () => {
    const trace = given('create start=0/1000', 'vote term=5');
    trace.run('elected term=5 start=0/1000 history=(0,0/1000)(1,0/1000)(4,0/2000)(5,0/3000)');
    expect(trace.run('vote term=6').at(-1)).toMatch(/history \[\(0, 0\/1000\) \(1, 0\/1000\)\]/);
    expect(lastLogTermOf(trace.state)).toBe(1);
  });
});

describe('elected', () => {
  test('of a higher term raises the term, persisted before anything else', () => {
    const trace = given('create start=0/1000');
    trace.run('elected term=4 start=0/1000 history=(0,0/1000)(4,0/1000)');
    expect(kinds(trace)).toBe('persist truncate persist reply');
    expect(trace.effects[0]).toMatchObject({ control: { term: 4, termHistory: [{ term: 0 }] } });
  });

  test('of a lower term is ignored without a word', () => {
    const trace = given('create start=0/1000', 'vote term=5');
    const before = trace.state;
    expect(trace.run('elected term=4 start=0/1000 history=(0,0/1000)(4,0/1000)')).toEqual([
      'reply 1: nothing',
    ]);
    expect(trace.state).toEqual(before);
  });

  test('must start where this node computes the logs to part', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'vote term=2');
    expect(trace.run('elected term=2 start=0/1000 history=(0,0/1000)(1,0/1000)(2,0/1040)')[0]).toMatch(
      /starts at 0\/1000, the logs agree up to 0\/1040/,
    );
    expect(trace.state.pendingTruncation).toBe(false);
  });

  test('never truncates committed WAL', () => {
    const trace = given(
      ...STARTED,
      'append bytes=64',
      'flush',
      'append commit=0/1040',
      'flush',
      'vote term=9',
    );
    expect(
      trace.run('elected term=9 start=0/1020 history=(0,0/1000)(1,0/1000)(8,0/1020)(9,0/1030)')[0],
    ).toMatch(/would truncate committed WAL: start 0\/1020, commit 0\/1040/);
  });

  test('cuts WAL first and persists the history second', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'vote term=2');
    trace.run('elected term=2 start=0/1020 history=(0,0/1000)(1,0/1000)(2,0/1020)');
    expect(kinds(trace)).toBe('truncate persist reply');
    expect(trace.effects[0]).toMatchObject({ to: 0x1020 });
  });

  test('on a timeline without a start sets all that begins there', () => {
    const trace = given('create', 'vote term=1', 'elected term=1 start=0/2000 history=(1,0/2000)');
    const at = 0x2000 as Lsn;
    expect(trace.state.control).toMatchObject({
      timelineStartLsn: at,
      localStartLsn: at,
      commitLsn: at,
      backupLsn: at,
      peerHorizonLsn: at,
      remoteConsistentLsn: at,
    });
    expect(trace.state.memory).toMatchObject({ commitLsn: at, peerHorizonLsn: at });
  });

  test('with an empty history, or one that is not its own, is refused', () => {
    const trace = given('create start=0/1000');
    expect(trace.run('elected term=1 start=0/1000 history=')[0]).toMatch(/it is empty/);
    expect(trace.run('elected term=2 start=0/1000 history=(0,0/1000)(1,0/1000)')[0]).toMatch(
      /last term is not 2/,
    );
  });

  test('again, by the same leader, cuts and persists nothing', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush');
    trace.run('elected term=1 start=0/1040 history=(0,0/1000)(1,0/1000)');
    expect(kinds(trace)).toBe('reply');
  });

  test('is not answered with a message', () => {
    const trace = given(...STARTED);
    expect(trace.effects.at(-1)).toMatchObject({ do: 'reply', answer: { kind: 'nothing' } });
  });
});

describe('append', () => {
  const refusal = (trace: AcceptorTrace, command: string): string => trace.run(command)[0]!;

  test('of a lower term is answered with our term and no positions', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'vote term=2');
    expect(trace.run('append term=1 bytes=8')).toEqual([
      'reply 1: appended term 2 flush 0/0 commit 0/0 generation 0',
    ]);
  });

  test('of a higher term is refused: nobody was elected here', () => {
    expect(refusal(given(...STARTED), 'append term=2 bytes=8')).toMatch(/before its election/);
  });

  test('needs the election of its own term, not just the vote', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'vote term=2');
    expect(refusal(trace, 'append term=2 bytes=8')).toMatch(/no election of term 2 here/);
  });

  test('needs an election since the start', () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'restart end=0/1040');
    expect(refusal(trace, 'append term=1 begin=0/1040 bytes=8')).toMatch(
      /no elected message since the start/,
    );
  });

  test('must begin where WAL ends: no gap, no overwrite, heartbeats included', () => {
    const trace = given(...STARTED, 'append bytes=64');
    for (const begin of ['0/1000', '0/1038', '0/1048']) {
      expect(refusal(trace, `append begin=${begin} bytes=8`)).toMatch(/WAL is written up to 0\/1040/);
      expect(refusal(trace, `append begin=${begin} bytes=0`)).toMatch(/WAL is written up to 0\/1040/);
    }
  });

  test('must be as long as it says, and no longer than 128 KiB', () => {
    const trace = given(...STARTED);
    expect(refusal(trace, 'append bytes=64 end=0/1048')).toMatch(/64 bytes do not end at 0\/1048/);
    expect(refusal(trace, 'append bytes=131080')).toMatch(/at most 131072/);
    expect(trace.run('append bytes=131072')).toEqual(['write 131072 bytes at 0/1000']);
  });

  test('of another generation is refused, whatever its term', () => {
    const trace = given('create start=0/1000 generation=2 members=1,2,3', 'vote term=1');
    for (const term of [0, 1, 2]) {
      expect(refusal(trace, `append generation=1 term=${term}`)).toMatch(/refused: generation-mismatch/);
    }
  });

  test('is answered after its sync, and heartbeats are answered', () => {
    const trace = given(...STARTED);
    trace.run('append bytes=64');
    expect(kinds(trace)).toBe('write');
    trace.run('flush');
    expect(kinds(trace)).toBe('flush reply');
    trace.run('append bytes=0');
    expect(kinds(trace)).toBe('');
    expect(trace.run('flush')).toEqual(['reply 1: appended term 1 flush 0/1040 commit 0/1000 generation 0']);
  });

  test('tells a record boundary as flushed, whatever was written past it', () => {
    const trace = given(...STARTED, 'append bytes=64 record=0/1028');
    expect(trace.run('flush')).toEqual([
      'flush',
      'reply 1: appended term 1 flush 0/1028 commit 0/1000 generation 0',
    ]);
    expect(trace.state.wal).toMatchObject({ writeLsn: 0x1040, recordLsn: 0x1028, flushLsn: 0x1028 });
  });

  test('raises commit to what is announced and durable, never back', () => {
    const trace = given(...STARTED, 'append bytes=64 commit=0/2000', 'flush');
    expect(trace.state.memory.commitLsn).toBe(0x1040);
    trace.run('append commit=0/1010');
    trace.run('flush');
    expect(trace.state.memory.commitLsn).toBe(0x1040);
  });

  test('tells the persisted commit, not the one of memory', () => {
    const trace = given(...STARTED, 'append bytes=64 commit=0/1040');
    expect(trace.run('flush').at(-1)).toMatch(/flush 0\/1040 commit 0\/1000/);
    trace.run('checkpoint');
    trace.run('append');
    expect(trace.run('flush').at(-1)).toMatch(/flush 0\/1040 commit 0\/1040/);
  });

  test("persists commit before the reply when it first reaches the term's start", () => {
    const trace = given(...STARTED, 'append bytes=64', 'flush', 'vote term=2');
    trace.run('elected term=2 start=0/1040 history=(0,0/1000)(1,0/1000)(2,0/1040)');
    trace.run('append term=2 commit=0/1040');
    trace.run('flush');
    expect(kinds(trace)).toBe('persist reply');
    expect(trace.effects[1]).toMatchObject({ answer: { message: { commitLsn: 0x1040 } } });
    trace.run('append term=2 commit=0/1040');
    trace.run('flush');
    expect(kinds(trace)).toBe('reply');
  });

  test('raises the peer horizon, never back', () => {
    const trace = given(...STARTED, 'append bytes=64 truncate=0/1030', 'append truncate=0/1010', 'flush');
    expect(trace.state.memory.peerHorizonLsn).toBe(0x1030);
  });

  test('positions that are no record boundaries are refused: a restart could not begin there', () => {
    const trace = given(...STARTED);
    expect(refusal(trace, 'append commit=0/1003')).toMatch(/commit 0\/1003 is no record boundary/);
    expect(refusal(trace, 'append truncate=FFFFFFFF/FFFFFFFF')).toMatch(/truncate .* is no record boundary/);
  });
});

describe('peers and operators', () => {
  const WRITTEN = [...STARTED, 'append bytes=64', 'flush'];

  test("a peer's commit counts only when it ends in our last term", () => {
    const trace = given(...WRITTEN, 'peer log=0 commit=0/1040', 'peer log=2 commit=0/1040');
    expect(trace.state.memory.commitLsn).toBe(0x1000);
    trace.run('peer log=1 commit=0/9000');
    expect(trace.state.memory.commitLsn).toBe(0x1040);
  });

  test('positions of peers are raised, never lowered, and saved once a segment ahead', () => {
    const trace = given(...WRITTEN, 'peer backup=0/2000 consistent=0/3000 horizon=0/4000');
    expect(kinds(trace)).toBe('');
    trace.run('peer backup=0/1000 consistent=0/1000 horizon=0/1000');
    expect(trace.state.memory).toMatchObject({
      backupLsn: 0x2000,
      remoteConsistentLsn: 0x3000,
      peerHorizonLsn: 0x4000,
    });
    trace.run('backup lsn=0/101000');
    expect(kinds(trace)).toBe('persist');
  });

  test('commit that ran a whole segment ahead of the control file is saved after the answer', () => {
    const trace = given(...WRITTEN);
    for (let i = 0; i < 7; i++) trace.run('append bytes=131072');
    trace.run('flush');
    trace.run('append bytes=131072 commit=0/E1040');
    trace.run('flush');
    expect(kinds(trace)).toBe('flush reply');
    trace.run('append commit=0/101040');
    trace.run('flush');
    expect(kinds(trace)).toBe('reply persist');
    expect(trace.state.control.commitLsn).toBe(0x101040);
  });

  test('a term bump makes the term at least as high, and one higher without a number', () => {
    const trace = given(...WRITTEN);
    expect(trace.run('bump to=7').at(-1)).toBe('reply 1: term 1 -> 7');
    expect(trace.run('bump to=3')).toEqual(['reply 1: term 7 -> 7']);
    expect(trace.run('bump').at(-1)).toBe('reply 1: term 7 -> 8');
  });

  test('whatever is persisted takes the newer values of memory with it', () => {
    const trace = given(...WRITTEN, 'peer backup=0/2000', 'append commit=0/1040', 'flush');
    expect(trace.state.control.backupLsn).toBe(0x1000);
    trace.run('bump');
    expect(trace.state.control).toMatchObject({ backupLsn: 0x2000, commitLsn: 0x1040 });
    expect(controlWithMemory(trace.state)).toEqual(trace.state.control);
  });

  test('a change of the control file may not break a promise', () => {
    const trace = given(...WRITTEN, 'bump to=5');
    expect(trace.run('control term=4')[0]).toMatch(/refused: config-invalid: .*term 4 is below 5/);
    const change = (commitLsn: number) => () =>
      step(trace.state, { on: 'control', change: control => ({ ...control, commitLsn: commitLsn as Lsn }) });
    expect(change(0x2000)).toThrow(/past the end of WAL/);
    expect(change(0x800)).toThrow(/below what is acknowledged/);
    const patch = (values: object) => () =>
      step(trace.state, { on: 'control', change: control => ({ ...control, ...values }) });
    expect(patch({ termHistory: [{ term: 0, lsn: 0x1000 }] })).toThrow(
      /the term history is what the WAL here is/,
    );
    const { termHistory } = trace.state.control;
    expect(patch({ termHistory: termHistory.map(entry => ({ ...entry })) })().effects).toEqual([]);
    expect(patch({ tenantId: trace.state.control.timelineId })).toThrow(/another timeline/);
  });

  test('"no limit" is taken for no position', () => {
    const trace = given(...WRITTEN, 'peer backup=FFFFFFFF/FFFFFFFF horizon=FFFFFFFF/FFFFFFFF');
    expect(trace.state.memory).toMatchObject({ backupLsn: 0x1000, peerHorizonLsn: 0x1000 });
  });

  test('a membership switch answers the old generation first, and no append of it afterwards', () => {
    const trace = given(
      'create start=0/1000 generation=1 members=1,2,3',
      'vote term=1',
      'elected term=1 start=0/1000 history=(0,0/1000)(1,0/1000)',
      'append bytes=64',
    );
    trace.run('members generation=2 members=1,2,4');
    expect(kinds(trace)).toBe('flush reply persist reply');
    expect(trace.effects[1]).toMatchObject({ answer: { message: { generation: 1, flushLsn: 0x1040 } } });
    expect(trace.effects[3]).toMatchObject({
      answer: { result: { switched: true, term: 1, flushLsn: 0x1040 } },
    });
    expect(trace.run('append generation=1 bytes=8')[0]).toMatch(/refused: generation-mismatch/);
  });
});

describe('the state', () => {
  test('tells the start of the timeline as flushed where there is no WAL yet', () => {
    const trace = given('create start=0/1000');
    expect(formatLsn(flushLsnOf(trace.state))).toBe('0/1000');
    expect(flushLsnOf(given('create').state)).toBe(0);
  });

  test('a log shorter than commit is a broken promise, not a state', () => {
    const { control } = given(
      ...STARTED,
      'append bytes=64',
      'flush',
      'append commit=0/1040',
      'flush',
      'checkpoint',
    ).state;
    expect(() => acceptorFrom(1, control, 0x1020 as Lsn)).toThrow(/below commit/);
  });
});
