// What the Postgres port says to the letter: the words of the greeting, when a copy ends without a word, who is sent
// home and who is not, which answers come unasked. Claims of the protocol that no other suite looks at.

import { afterEach, describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, lsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { NO_FEEDBACK } from '../../src/protocol/feedback.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { type CopyStream, PqClient, ServerError } from '../../src/protocol/pq-client.ts';
import { pageserverReply, readWalSenderMessage, standbyReply } from '../../src/protocol/replication.ts';
import type { ProposerMessage } from '../../src/protocol/walproposer.ts';
import * as v2 from '../../src/protocol/walproposer-v2.ts';
import * as v3 from '../../src/protocol/walproposer-v3.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { type InProcess, startInProcess } from './in-process.ts';
import { ComputeLog, Pusher } from './pusher.ts';

let next = 1;
const id = (): string => (next++).toString(16).padStart(32, '0');
const newKey = (): TimelineKey => ({ tenantId: id(), timelineId: id() }) as TimelineKey;
const START = lsn(0x14ebd08);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

async function safekeeper(): Promise<InProcess> {
  const sk = await startInProcess(1);
  cleanups.push(() => sk.stop());
  return sk;
}

async function client(sk: InProcess, key: TimelineKey, app = ''): Promise<PqClient> {
  const made = await PqClient.connect(hostNet(), hostRandom, {
    host: '127.0.0.1',
    port: sk.port,
    parameters: {
      user: 'x',
      application_name: app,
      options: `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId}`,
    },
  });
  cleanups.push(() => made.destroy());
  return made;
}

const create = (sk: InProcess, key: TimelineKey, generation = 0, startLsn: Lsn = START) =>
  sk.timelines.create({
    key,
    membership: generation === 0 ? NO_MEMBERSHIP : { generation, members: [MEMBER], newMembers: undefined },
    pgVersion: 170005,
    systemId: 0n,
    walSegSize: 16 * 1024 * 1024,
    startLsn,
  });
const MEMBER = { id: 1, host: 'h', pgPort: 1 };

const greeting = (key: TimelineKey, systemId = 7n): ProposerMessage => ({
  kind: 'greeting',
  ...key,
  membership: NO_MEMBERSHIP,
  pgVersion: 170005,
  systemId,
  walSegSize: 16 * 1024 * 1024,
});

/** A timeline with a little WAL, and the compute that wrote it. */
async function filled(sk: InProcess): Promise<{ key: TimelineKey; log: ComputeLog; push: Pusher }> {
  const key = newKey();
  const log = new ComputeLog(START);
  const push = new Pusher({ targets: [{ host: '127.0.0.1', port: sk.port }], key, log });
  cleanups.push(() => push.close());
  await push.elect();
  await push.committed(push.write(ModelWal.payload('p', 0, 5000)));
  await sk.timelines.get(key).waitForCommit(log.end, AbortSignal.timeout(60_000));
  return { key, log, push };
}

/** Reads until the copy ends; with what it ended. */
async function endOf(copy: CopyStream): Promise<Error> {
  try {
    for (;;) if ((await copy.read()) === undefined) throw new Error('the server said that the copy is done');
  } catch (error) {
    return error as Error;
  }
}

const isSilent = (error: Error): boolean => !(error instanceof ServerError) && /closed/.test(error.message);

describe('the greeting of the port', () => {
  test('parameters that clients look for, and none besides', async () => {
    const c = await client(await safekeeper(), newKey());
    expect([...c.serverParameters].sort()).toEqual([
      ['client_encoding', 'UTF8'],
      ['integer_datetimes', 'on'],
      ['server_version', '14.1'],
      ['standard_conforming_strings', 'on'],
    ]);
  });

  test('an unknown command is an error with SQLSTATE XX000, and the connection goes on', async () => {
    const c = await client(await safekeeper(), newKey());
    for (let i = 0; i < 2; i++) await expect(c.query('VACUUM')).rejects.toMatchObject({ sqlState: 'XX000' });
    await expect(c.query("set datestyle to 'ISO'")).resolves.toMatchObject({ rows: [] });
  });

  test('without tenant and timeline a command is refused, with the options to give', async () => {
    const sk = await safekeeper();
    const c = await PqClient.connect(hostNet(), hostRandom, {
      host: '127.0.0.1',
      port: sk.port,
      parameters: { user: 'x' },
    });
    cleanups.push(() => c.destroy());
    await expect(c.query('IDENTIFY_SYSTEM')).rejects.toThrow(/names no tenant and timeline/);
  });
});

describe('START_WAL_PUSH', () => {
  const push = async (sk: InProcess, key: TimelineKey, options: string): Promise<CopyStream> =>
    (await client(sk, key)).copyBoth(`START_WAL_PUSH (${options})`);

  test('a missing timeline is made by the greeting, with all positions 0 and no members', async () => {
    const sk = await safekeeper();
    const key = newKey();
    const copy = await push(sk, key, "proto_version '3', allow_timeline_creation 'true'");
    await copy.write(v3.writeProposerMessage(greeting(key, 0n)));
    const reply = v3.readAcceptorMessage((await copy.read())!);
    expect(reply).toEqual({ kind: 'greeting-reply', nodeId: 1, membership: NO_MEMBERSHIP, term: 0 });
    const { control, flushLsn } = sk.timelines.get(key).status();
    expect(control).toMatchObject({ timelineStartLsn: 0, commitLsn: 0, termHistory: [] });
    expect(flushLsn).toBe(0);
    // Sync mode does not know the system identifier: whoever asks is told 0.
    expect((await (await client(sk, key)).query('IDENTIFY_SYSTEM')).rows[0]![0]).toBe('0');
  });

  test('that may not make the timeline ends without a word', async () => {
    const sk = await safekeeper();
    const key = newKey();
    const copy = await push(sk, key, "proto_version '3', allow_timeline_creation 'false'");
    await copy.write(v3.writeProposerMessage(greeting(key)));
    expect(isSilent(await endOf(copy))).toBe(true);
    expect(sk.timelines.all()).toEqual([]);
  });

  test('of a deleted timeline is refused: it is not made again', async () => {
    const sk = await safekeeper();
    const key = newKey();
    await create(sk, key);
    await sk.timelines.delete(key);
    const copy = await push(sk, key, "proto_version '3'");
    await copy.write(v3.writeProposerMessage(greeting(key)));
    expect((await endOf(copy)).message).toMatch(/deleted/);
    expect(sk.timelines.all()).toEqual([]);
  });

  test('begins with a greeting, for the timeline of the connection, in a version that is known', async () => {
    const sk = await safekeeper();
    const key = newKey();
    const vote = v3.writeProposerMessage({ kind: 'vote-request', generation: 0, term: 1 });
    const early = await push(sk, key, "proto_version '3'");
    await early.write(vote);
    expect((await endOf(early)).message).toMatch(/where a greeting was due/);
    const other = await push(sk, key, "proto_version '3'");
    await other.write(v3.writeProposerMessage(greeting(newKey())));
    expect((await endOf(other)).message).toMatch(/for another timeline than the connection/);
    await expect(push(sk, key, "proto_version '4'")).rejects.toThrow(/protocol 4 is not known/);
  });

  test('protocol 2 knows no generations: a timeline that uses them refuses its greeting', async () => {
    const sk = await safekeeper();
    const [key, old] = [newKey(), newKey()];
    await create(sk, key, 1);
    await create(sk, old);
    const refused = await push(sk, key, "proto_version '2'");
    await refused.write(v2.writeProposerMessage(greeting(key)));
    expect((await endOf(refused)).message).toMatch(/protocol 2 cannot carry generation 1/);
    const copy = await push(sk, old, "proto_version '2'");
    await copy.write(v2.writeProposerMessage(greeting(old)));
    expect(v2.readAcceptorMessage((await copy.read())!)).toMatchObject({ kind: 'greeting-reply', term: 0 });
    await copy.write(v2.writeProposerMessage({ kind: 'vote-request', generation: 0, term: 1 }));
    expect(v2.readAcceptorMessage((await copy.read())!)).toMatchObject({ voteGiven: true, term: 1 });
  });

  test('ends without a word when the timeline is closed', async () => {
    const sk = await safekeeper();
    const { key } = await filled(sk);
    const copy = await push(sk, key, "proto_version '3'");
    await copy.write(v3.writeProposerMessage(greeting(key)));
    await copy.read();
    await sk.timelines.delete(key);
    expect(isSilent(await endOf(copy))).toBe(true);
  });

  test('feedback of a pageserver comes unasked, on the last AppendResponse', async () => {
    const sk = await safekeeper();
    const key = newKey();
    const copy = await push(sk, key, "proto_version '3'");
    const wal = new ModelWal(START, { pgVersion: 170005, segmentSize: 16 * 1024 * 1024 });
    wal.add(ModelWal.payload('f', 0, 500));
    const termHistory = [{ term: 1, lsn: START }];
    for (const message of [
      greeting(key),
      { kind: 'vote-request', generation: 0, term: 1 },
      { kind: 'elected', generation: 0, term: 1, startStreamingAt: START, termHistory },
      {
        kind: 'append-request',
        ...{ generation: 0, term: 1, beginLsn: START, endLsn: wal.end, commitLsn: START, truncateLsn: START },
        wal: wal.bytes(START, wal.end),
      },
    ] as ProposerMessage[]) {
      await copy.write(v3.writeProposerMessage(message));
    }
    const heard = async () => v3.readAcceptorMessage((await copy.read())!);
    expect([(await heard()).kind, (await heard()).kind]).toEqual(['greeting-reply', 'vote-response']);
    const answer = await heard();
    expect(answer).toMatchObject({
      kind: 'append-response',
      flushLsn: wal.end,
      pageserverFeedback: undefined,
    });
    const pageserver = await client(sk, key, 'pageserver-1');
    const stream = await pageserver.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(START)}`);
    const feedback = { ...NO_FEEDBACK, currentTimelineSize: 8192n, lastReceivedLsn: START };
    await stream.write(pageserverReply(feedback));
    expect(await heard()).toEqual({ ...answer, pageserverFeedback: feedback });
  });
});

describe('who is sent home', () => {
  test('a pageserver where nothing was ever committed', async () => {
    const sk = await safekeeper();
    const key = newKey();
    await create(sk, key, 0, lsn(0));
    const copy = await (await client(sk, key, 'pageserver-1')).copyBoth('START_REPLICATION PHYSICAL 0/0');
    const error = await endOf(copy);
    expect(error).toMatchObject({ sqlState: '00000' });
    expect(error.message).toContain('ending streaming to');
  });

  test('not a replica, whatever it has; and nobody who streams in a term', async () => {
    const sk = await safekeeper();
    const { key, push } = await filled(sk);
    push.close();
    const at = push.commitLsn;
    const replica = await (await client(sk, key, 'replica')).copyBoth(`START_REPLICATION ${formatLsn(at)}`);
    const said = { writeLsn: at, flushLsn: at, applyLsn: at, replyTime: 1n, replyRequested: false };
    await replica.write(standbyReply(said));
    const donor = await client(sk, key, 'wal_proposer_recovery');
    const inTerm = await donor.copyBoth(`START_REPLICATION ${formatLsn(at)} (term='${push.term}')`);
    const pageserver = await client(sk, key, 'pageserver-1');
    const home = await pageserver.copyBoth(`START_REPLICATION ${formatLsn(at)}`);
    await home.write(pageserverReply({ ...NO_FEEDBACK, remoteConsistentLsn: at }));
    expect((await endOf(home)).message).toContain('ending streaming');
    // The pageserver is gone since; these two are still told that nothing is new.
    for (const copy of [replica, inTerm]) {
      for (let i = 0; i < 2; i++) {
        expect(readWalSenderMessage((await copy.read())!)).toMatchObject({ kind: 'keepalive', endLsn: at });
      }
    }
  });

  test('readers of a timeline that is deleted, without a word', async () => {
    const sk = await safekeeper();
    const { key, push } = await filled(sk);
    const copy = await (await client(sk, key, 'x')).copyBoth(
      `START_REPLICATION ${formatLsn(push.commitLsn)}`,
    );
    await sk.timelines.delete(key);
    expect(isSilent(await endOf(copy))).toBe(true);
  });
});

test('a connection that is silent for too long is cut', async () => {
  const net = hostNet({ idleMs: 300 });
  const ended = new Promise<unknown>((resolve, reject) => {
    net
      .listen({ host: '127.0.0.1', port: 0 }, async connection => {
        // The end of input, or an error that says so: no byte ever came.
        resolve(await connection.read().catch(() => undefined));
      })
      .then(async listener => {
        cleanups.push(() => listener.close());
        const peer = await hostNet().connect({ host: '127.0.0.1', port: listener.port });
        cleanups.push(() => peer.destroy());
      }, reject);
  });
  expect(await ended).toBeUndefined();
});
