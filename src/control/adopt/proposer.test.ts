// The proposer against safekeepers of this process, on a real disk and real sockets.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { type InProcess, startInProcess } from '../../../integration/safekeeper/in-process.ts';
import { KEY, proposerTo, SERVER, START } from '../../../integration/safekeeper/proposers.ts';
import { ModelWal } from '../../../integration/sim/model-wal.ts';
import type { Lsn } from '../../base/lsn.ts';
import { hostClock } from '../../host/clock.ts';
import type { MembershipConfiguration } from '../../protocol/membership.ts';
import { type Proposer, type ProposerOptions, TakenOver } from './proposer.ts';

let safekeepers: InProcess[];
let proposers: Proposer[];
let wal: ModelWal;
let pushed: number;

beforeEach(async () => {
  safekeepers = await Promise.all([1, 2, 3].map(id => startInProcess(id)));
  proposers = [];
  wal = new ModelWal(START, SERVER);
  pushed = START;
});

afterEach(async () => {
  for (const proposer of proposers) proposer.close();
  for (const safekeeper of safekeepers) await safekeeper.stop();
});

/** Terms that were recorded, in order. */
const terms: number[] = [];

function newProposer(options: Partial<ProposerOptions> = {}): Proposer {
  const proposer = proposerTo(safekeepers, { saveTerm: async term => void terms.push(term), ...options });
  proposers.push(proposer);
  return proposer;
}

/** So many records more, into the proposer; where they end. */
function write(proposer: Proposer, count: number, bytes = 1000): Lsn {
  for (let i = 0; i < count; i++) wal.add(new Uint8Array(bytes).fill(i));
  proposer.push(wal.bytes(pushed, wal.end).slice());
  pushed = wal.end;
  return wal.end;
}

async function until(check: () => boolean): Promise<void> {
  while (!check()) await hostClock.sleep(5);
}

const flushed = (i: number): number => safekeepers[i]!.timelines.find(KEY)?.status().flushLsn ?? 0;

test('a log that nobody has: begun, committed, gone on with in the next term', async () => {
  terms.length = 0;
  const first = newProposer();
  expect(await first.start()).toBe(START);
  expect(terms).toEqual([1]);
  const end = write(first, 500);
  await first.committed(end);
  expect(first.flushed.filter(lsn => lsn === end).length).toBeGreaterThanOrEqual(2);
  first.close();

  const next = newProposer({ lastTerm: 1 });
  expect(await next.start()).toBe(end);
  const after = write(next, 10);
  await next.committed(after);
  await until(() => [0, 1, 2].every(i => flushed(i) === after));
  const { control } = safekeepers[0]!.timelines.find(KEY)!.status();
  expect(control.termHistory).toEqual([
    { term: 1, lsn: START },
    { term: 2, lsn: end },
  ]);
});

test('a term that somebody else stood for: ended before anybody was voted down', async () => {
  const first = newProposer({ lastTerm: 4 });
  await first.start();
  await first.committed(write(first, 10));
  const stale = newProposer({ lastTerm: 3 });
  await expect(stale.start()).rejects.toThrow(TakenOver);
  expect(safekeepers.map(s => s.timelines.find(KEY)!.status().control.term)).toEqual([5, 5, 5]);
  await first.committed(write(first, 10));

  const later = newProposer({ lastTerm: 5 });
  await later.start();
  // Whether it hears of the new term by an answer or by a connection that it makes again.
  write(first, 10);
  await expect(first.ended).rejects.toThrow('another writer took the timeline over, in term 6');
});

test('a safekeeper that was away for longer than the buffer reaches is given the rest by another', async () => {
  const targets = safekeepers.map(s => ({ host: '127.0.0.1', port: s.port }));
  const [one, two] = targets;
  const first = newProposer({ targets: [one!, two!, { host: '127.0.0.1', port: 1 }] });
  await first.start();
  for (let i = 0; i < 10; i++) await first.committed(write(first, 100, 2000));
  expect(first.trouble).toContain('127.0.0.1:1');
  first.close();
  // Its buffer begins where the first two end.
  const next = newProposer({ lastTerm: 1, keepBytes: 100_000 });
  await next.start();
  for (let i = 0; i < 10; i++) await next.committed(write(next, 100, 2000));
  await until(() => [0, 1, 2].every(i => flushed(i) === wal.end));
  const third = safekeepers[2]!.timelines.get(KEY);
  for (let at: number = START; at < wal.end; ) {
    const bytes = await third.readWal(at as Lsn, wal.end - at);
    expect(Buffer.compare(bytes, wal.bytes(at, at + bytes.length))).toBe(0);
    at += bytes.length;
  }
});

const members = (generation: number): MembershipConfiguration => ({
  generation,
  members: safekeepers.map(s => ({ id: s.id, host: '127.0.0.1', pgPort: s.port })),
  newMembers: undefined,
});

test('safekeepers that count generations: theirs is taken, and a change of it while streaming', async () => {
  for (const safekeeper of safekeepers) {
    await safekeeper.timelines.create({
      key: KEY,
      membership: members(2),
      pgVersion: SERVER.pgVersion,
      systemId: SERVER.systemId,
      walSegSize: SERVER.segmentSize,
      startLsn: START,
    });
  }
  const proposer = newProposer();
  expect(await proposer.start()).toBe(START);
  await proposer.committed(write(proposer, 100));
  for (const safekeeper of safekeepers) await safekeeper.timelines.get(KEY).switchMembership(members(3));
  await proposer.committed(write(proposer, 100));
  await until(() => [0, 1, 2].every(i => flushed(i) === wal.end));
  expect(proposer.term).toBeGreaterThan(1);
});
