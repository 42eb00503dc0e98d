import { beforeEach, describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import { type Candidate, RECEIVER_DEFAULTS, ReceiverPlan } from './receiver-plan.ts';

const sk = (safekeeperId: number, commitLsn: number, availabilityZone?: string): Candidate => ({
  safekeeperId,
  commitLsn: commitLsn as Lsn,
  connstr: `sk${safekeeperId}:5454`,
  availabilityZone,
});

let plan: ReceiverPlan;
let now: number;
const next = (): [number, string] | undefined => {
  const found = plan.next(now, 100);
  return found && [found.to.safekeeperId, found.reason];
};
/** Connect to a safekeeper that is at `commit`, and has sent all of it. */
function stream(candidate: Candidate, commit: number): void {
  plan.heard(candidate, now);
  plan.started(candidate, now);
  plan.identified(commit as Lsn, now);
  plan.wal(commit, commit as Lsn, now);
}
function pass(ms: number, alive: readonly Candidate[]): void {
  now += ms;
  for (const c of alive) plan.heard(c, now);
}

beforeEach(() => {
  now = 1_000_000;
  plan = new ReceiverPlan({ ...RECEIVER_DEFAULTS, availabilityZone: 'a' });
});

describe('without a connection', () => {
  test('nobody known', () => {
    expect(next()).toBeUndefined();
    expect(plan.wakeInMs(now)).toBeUndefined();
    expect(plan.idle).toBe(true);
  });

  test('the one with the most WAL; empty and unreachable ones are none', () => {
    plan.heard(sk(1, 0), now);
    plan.heard({ ...sk(2, 900), connstr: '' }, now);
    expect(next()).toBeUndefined();
    plan.heard(sk(3, 200), now);
    plan.heard(sk(4, 300), now);
    expect(next()).toEqual([4, 'no-existing-connection']);
  });

  test('what was not heard of for long is forgotten', () => {
    plan.heard(sk(1, 300), now);
    pass(10_001, []);
    expect(next()).toBeUndefined();
    expect(plan.idle).toBe(true);
  });

  test('one that failed is left alone longer each time; of equals the other is taken', () => {
    plan.heard(sk(1, 300), now);
    const waits: number[] = [];
    for (let i = 0; i < 14; i++) {
      plan.started(sk(1, 300), now);
      plan.ended();
      expect(next()).toBeUndefined();
      const wait = plan.wakeInMs(now)!;
      waits.push(wait);
      while (!next()) pass(Math.min(1000, plan.wakeInMs(now)!), [sk(1, 300)]);
    }
    expect(waits.slice(0, 3)).toEqual([100, 150, 225]);
    expect(now - 1_000_000).toBeGreaterThan(15_000);
    plan.heard(sk(2, 300), now);
    expect(next()).toEqual([2, 'no-existing-connection']);
  });

  test('WAL received forgives', () => {
    plan.started(sk(1, 300), now);
    plan.ended();
    stream(sk(1, 300), 300);
    now += 5000;
    plan.heard(sk(1, 300), now);
    plan.ended();
    expect(next()).toEqual([1, 'no-existing-connection']);
  });
});

test('a stream that ended well begins again as soon as there is more, and not before', () => {
  stream(sk(1, 500), 500);
  plan.ended(true);
  plan.heard(sk(1, 500), now);
  plan.heard(sk(2, 500), now);
  expect(next()).toBeUndefined();
  plan.heard(sk(2, 508), now);
  expect(next()).toEqual([2, 'no-existing-connection']);
});

describe('with a connection', () => {
  test('all is well: stay', () => {
    stream(sk(1, 500), 500);
    plan.heard(sk(2, 500), now);
    expect(next()).toBeUndefined();
    plan.heard(sk(2, 600), now);
    expect(next()).toBeUndefined();
  });

  test('silence', () => {
    stream(sk(1, 500), 500);
    pass(10_001, [sk(1, 500)]);
    expect(next()).toBeUndefined();
    plan.heard(sk(2, 200), now);
    expect(next()).toEqual([2, 'no-keepalives']);
  });

  test('not yet connected: wait', () => {
    plan.started(sk(1, 500), now);
    plan.heard(sk(2, 2 ** 40), now);
    pass(9000, [sk(2, 2 ** 40)]);
    expect(next()).toBeUndefined();
    pass(1001, [sk(2, 2 ** 40)]);
    expect(next()).toEqual([2, 'no-keepalives']);
  });

  test('far behind', () => {
    stream(sk(1, 500), 500);
    plan.heard(sk(2, 500 + RECEIVER_DEFAULTS.maxLsnWalLag), now);
    expect(next()).toEqual([2, 'lagging-wal']);
  });

  test('one next door', () => {
    stream(sk(1, 500, 'b'), 500);
    plan.heard(sk(2, 499, 'a'), now);
    expect(next()).toBeUndefined();
    plan.heard(sk(2, 500, 'a'), now);
    expect(next()).toEqual([2, 'switch-availability-zone']);
  });

  test('stuck, while another has more', () => {
    stream(sk(1, 500), 500);
    plan.heard(sk(2, 600), now);
    expect(next()).toBeUndefined();
    for (let i = 0; i < 10; i++) {
      pass(1000, [sk(1, 500), sk(2, 600)]);
      plan.keepalive(500 as Lsn, now);
      expect(next()).toBeUndefined();
    }
    pass(1, []);
    expect(next()).toEqual([2, 'no-wal-timeout']);
  });

  test('it says it has more and sends nothing, while another has still more', () => {
    stream(sk(1, 500), 500);
    plan.keepalive(550 as Lsn, now);
    pass(10_001, [sk(2, 600)]);
    plan.keepalive(550 as Lsn, now);
    expect(next()).toEqual([2, 'no-wal-timeout']);
  });
});
