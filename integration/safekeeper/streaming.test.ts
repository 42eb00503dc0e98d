// WAL out of a safekeeper, taken by receivers that are not ours: pg_receivewal and a standby of stock Postgres.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, lsn, parseLsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { NO_FEEDBACK } from '../../src/protocol/feedback.ts';
import { PqClient, type ServerError } from '../../src/protocol/pq-client.ts';
import {
  hotStandbyReply,
  pageserverReply,
  readWalSenderMessage,
  standbyReply,
} from '../../src/protocol/replication.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { StockPostgres } from '../pg/stock.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { type InProcess, startInProcess } from './in-process.ts';
import { NeonPostgres, neonBin, neonMajors } from './neon-postgres.ts';
import { ComputeLog, FileLog, type PushedLog, Pusher } from './pusher.ts';

let next = 1;
const newKey = (): TimelineKey =>
  ({ tenantId: hex(next++), timelineId: hex(next++) }) as unknown as TimelineKey;
const hex = (n: number): string => n.toString(16).padStart(32, '0');

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});
async function safekeeper(id = 1): Promise<InProcess> {
  const sk = await startInProcess(id);
  cleanups.push(() => sk.stop());
  return sk;
}
function pusher(sks: readonly InProcess[], key: TimelineKey, log: PushedLog): Pusher {
  const targets = sks.map(sk => ({ host: '127.0.0.1', port: sk.port }));
  const made = new Pusher({ targets, key, log });
  cleanups.push(() => made.close());
  return made;
}
const optionsOf = (key: TimelineKey, more = ''): string =>
  `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId}${more}`;
async function reader(sk: InProcess, key: TimelineKey, app: string, more = ''): Promise<PqClient> {
  const client = await PqClient.connect(hostNet(), hostRandom, {
    host: '127.0.0.1',
    port: sk.port,
    parameters: { user: 'x', replication: 'true', application_name: app, options: optionsOf(key, more) },
  });
  cleanups.push(() => client.destroy());
  return client;
}

const PG_VERSION: Readonly<Record<number, number>> = { 14: 140018, 15: 150013, 16: 160009, 17: 170005 };

/** A timeline with some WAL on one safekeeper. */
async function filled(
  bytes = 3_000_000,
  pgVersion = 170005,
  start = 0x14ebd08,
): Promise<{ sk: InProcess; key: TimelineKey; log: ComputeLog; push: Pusher }> {
  const sk = await safekeeper();
  const key = newKey();
  const log = new ComputeLog(lsn(start), { pgVersion });
  const push = pusher([sk], key, log);
  await push.elect();
  let end = log.end;
  for (let i = 0; log.end < start + bytes; i++) end = push.write(ModelWal.payload('a', i, 5000));
  await push.committed(end);
  // The compute knows first; the safekeeper is told with the next message.
  await sk.timelines.get(key).waitForCommit(end, AbortSignal.timeout(60_000));
  return { sk, key, log, push };
}

describe('START_REPLICATION', () => {
  test('is contiguous, ends chunks at pages, and equals what was pushed', async () => {
    const { sk, key, log, push } = await filled();
    const client = await reader(sk, key, 'x');
    const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(log.start)}`);
    const pieces: Uint8Array[] = [];
    for (let at: number = log.start; at < push.commitLsn; ) {
      const m = readWalSenderMessage((await copy.read())!);
      if (m.kind !== 'wal') continue;
      expect(m.startLsn).toBe(at);
      expect(m.wal.length).toBeLessThanOrEqual(131072);
      at += m.wal.length;
      expect(at % 8192 === 0 || at === m.endLsn).toBe(true);
      pieces.push(m.wal);
    }
    expect(Buffer.compare(Buffer.concat(pieces), log.bytes(log.start, push.commitLsn))).toBe(0);
  });

  test('from the beginning of the first segment: page headers are made up before the timeline', async () => {
    const { sk, key } = await filled(100_000);
    const client = await reader(sk, key, 'x');
    const copy = await client.copyBoth('START_REPLICATION 0/1000000');
    const m = readWalSenderMessage((await copy.read())!);
    if (m.kind !== 'wal') throw new Error('no WAL');
    expect(Buffer.from(m.wal.buffer, m.wal.byteOffset).readUInt16LE(0)).toBe(0xd116);
    const before = await reader(sk, key, 'x');
    const early = await before.copyBoth('START_REPLICATION 0/800000');
    await expect(early.read()).rejects.toThrow(/before the timeline/);
  });

  test('keepalives ask for a reply after a second without WAL', async () => {
    const { sk, key, push } = await filled(10_000);
    const client = await reader(sk, key, 'x');
    const copy = await client.copyBoth(`START_REPLICATION ${formatLsn(push.commitLsn)}`);
    expect(readWalSenderMessage((await copy.read())!)).toMatchObject({
      kind: 'keepalive',
      endLsn: push.commitLsn,
      replyRequested: true,
    });
  });

  test('with a term it streams what is flushed, and ends when the term changes', async () => {
    const { sk, key, log, push } = await filled(10_000);
    const client = await reader(sk, key, 'wal_proposer_recovery');
    const copy = await client.copyBoth(
      `START_REPLICATION PHYSICAL ${formatLsn(log.start)} (term='${push.term}')`,
    );
    const m = readWalSenderMessage((await copy.read())!);
    expect(m.kind).toBe('wal');
    await sk.timelines.get(key).termBump();
    await expect(
      (async () => {
        for (;;) await copy.read();
      })(),
    ).rejects.toThrow(/term/);
    const late = await reader(sk, key, 'wal_proposer_recovery');
    const none = await late.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(log.start)} (term='1')`);
    await expect(none.read()).rejects.toThrow(/term/);
  });

  test('a pageserver that has everything is sent home once no compute is left', async () => {
    const { sk, key, push } = await filled(10_000);
    const client = await reader(sk, key, 'pageserver-1');
    const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(push.commitLsn)}`);
    await copy.write(pageserverReply({ ...NO_FEEDBACK, remoteConsistentLsn: push.commitLsn }));
    const first = readWalSenderMessage((await copy.read())!);
    expect(first.kind).toBe('keepalive');
    push.close();
    const error = (await (async () => {
      for (;;) await copy.read();
    })().catch(e => e)) as ServerError;
    expect(error.sqlState).toBe('00000');
    expect(error.message).toContain('ending streaming');
    expect(sk.timelines.get(key).status().memory.remoteConsistentLsn).toBe(push.commitLsn);
  });

  test('an unknown timeline is an error before the copy; the connection goes on', async () => {
    const sk = await safekeeper();
    const key = newKey();
    const client = await reader(sk, key, 'x');
    await expect(client.copyBoth('START_REPLICATION 0/1000000')).rejects.toThrow(/not here/);
    expect((await client.query('TIMELINE_STATUS')).rows).toEqual([]);
    await expect(client.query('IDENTIFY_SYSTEM')).rejects.toThrow(/not here/);
    await expect(client.query('select 1')).rejects.toThrow(/unsupported/);
  });

  test('IDENTIFY_SYSTEM and TIMELINE_STATUS', async () => {
    const { sk, key, log } = await filled(10_000);
    const timeline = sk.timelines.get(key);
    const app = async (name: string): Promise<(string | null)[]> =>
      (await (await reader(sk, key, name)).query('IDENTIFY_SYSTEM')).rows[0]!;
    const id = log.systemId.toString();
    expect(await app('walreceiver')).toEqual([id, '1', formatLsn(timeline.commitLsn), null]);
    expect(await app('wal_proposer_recovery')).toEqual([id, '1', formatLsn(timeline.flushLsn), null]);
    expect(await app('safekeeper_2')).toEqual([id, '1', formatLsn(timeline.flushLsn), null]);
    const status = await (await reader(sk, key, 'x')).query('TIMELINE_STATUS');
    expect(status.rows).toEqual([[formatLsn(timeline.flushLsn), formatLsn(timeline.commitLsn)]]);
  });

  test('what standbys say reaches the compute’s answers', async () => {
    const { sk, key, push } = await filled(10_000);
    const standby = await reader(sk, key, 'replica');
    const copy = await standby.copyBoth(`START_REPLICATION ${formatLsn(push.commitLsn)}`);
    const at = {
      writeLsn: lsn(80),
      flushLsn: lsn(80),
      applyLsn: lsn(72),
      replyTime: 1n,
      replyRequested: false,
    };
    await copy.write(standbyReply(at));
    await copy.write(hotStandbyReply({ ts: 5n, xmin: (1n << 32n) | 700n, catalogXmin: 0n }));
    const timeline = sk.timelines.get(key);
    while (timeline.standbyHorizon() !== 72) await new Promise(done => setTimeout(done, 5));
    while (timeline.hotStandby().xmin === 0n) await new Promise(done => setTimeout(done, 5));
    expect(timeline.hotStandby()).toEqual({ ts: 5n, xmin: (1n << 32n) | 700n, catalogXmin: 0n });
    copy.destroy();
    while (timeline.hotStandby().xmin !== 0n) await new Promise(done => setTimeout(done, 5));
  });
});

const majors = neonMajors();
if (majors.length === 0)
  console.log('skipped: pg_receivewal and replicas (NEON_PG_DIR does not point at a build of them)');

describe.each(majors)('receivers of Postgres %i', major => {
  test('pg_receivewal takes the log, and pg_waldump reads what it wrote', async () => {
    const { sk, key, log, push } = await filled(20_000_000, PG_VERSION[major], 0x24ebd08);
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-receivewal-'));
    cleanups.push(() => rmSync(dir, { recursive: true }));
    // It goes on behind the last whole segment it finds; into an empty directory it would take the newest only.
    const before = join(dir, '000000010000000000000001');
    writeFileSync(before, Buffer.alloc(16 * 1024 * 1024));
    const conninfo = `host=127.0.0.1 port=${sk.port} user=x options='${optionsOf(key)}'`;
    const end = formatLsn(push.commitLsn - 8);
    const receive = spawn(neonBin(major, 'pg_receivewal'), [
      '-D',
      dir,
      '-d',
      conninfo,
      '--endpos',
      end,
      '-n',
      '-v',
    ]);
    let said = '';
    receive.stderr.on('data', piece => (said += piece));
    const code = await exited(receive);
    expect(code, said).toBe(0);
    rmSync(before);
    const names = readdirSync(dir).sort();
    expect(names).toEqual(['000000010000000000000002', '000000010000000000000003.partial']);
    const bytes = Buffer.concat(names.map(name => readFileSync(join(dir, name))));
    const from = log.start - 0x2000000;
    expect(
      Buffer.compare(bytes.subarray(from, push.commitLsn - 0x2000000), log.bytes(log.start, push.commitLsn)),
    ).toBe(0);
    const first = join(dir, '000000010000000000000002');
    const dump = execFileSync(neonBin(major, 'pg_waldump'), ['-s', formatLsn(log.start), '-n', '500', first]);
    expect(dump.toString().match(/NOOP/g)).toHaveLength(500);
  });

  test('a hot standby follows a compute through the safekeepers alone', async () => {
    const sks = [await safekeeper(1), await safekeeper(2), await safekeeper(3)];
    const key = newKey();
    const compute = await NeonPostgres.create({
      major,
      safekeepers: sks,
      tenant: key.tenantId,
      timeline: key.timelineId,
      settings: { hot_standby: 'on' },
    });
    cleanups.push(() => compute.remove());
    await compute.start();
    const client = await compute.connect();
    await client.query('create table t (a int)');
    await client.query('insert into t select generate_series(1, 1000)');
    const standby = await startStandby(major, compute, sks[1]!, key);
    await client.query('insert into t select generate_series(1, 5000)');
    const { rows } = await client.query('select pg_current_wal_flush_lsn()::text as lsn');
    const follower = await standby.connect();
    const end = performance.now() + 90_000;
    for (;;) {
      const replayed = await follower.query('select pg_last_wal_replay_lsn()::text as lsn');
      if (parseLsn(replayed.rows[0].lsn) >= parseLsn(rows[0].lsn)) break;
      if (performance.now() > end)
        throw new Error(`the standby does not follow:\n${standby.log.slice(-2000)}`);
      await new Promise(done => setTimeout(done, 50));
    }
    expect((await follower.query('select count(*)::int as n from t')).rows[0].n).toBe(6000);
    // Its feedback arrives at the compute by way of a safekeeper.
    const timeline = sks[1]!.timelines.get(key);
    while ((timeline.standbyHorizon() as Lsn) === 0) await new Promise(done => setTimeout(done, 50));
    await follower.end();
    await client.end();
  });
});

test('a standby of stock Postgres follows a log that was pushed', async () => {
  const settings = { wal_level: 'replica', wal_keep_size: '1GB' };
  const primary = await StockPostgres.start(17, { settings });
  cleanups.push(() => primary.destroy());
  await primary.sql('create table t (a int)');
  await primary.stop();
  const copy = join(primary.home, 'standby');
  cpSync(primary.dataDirectory, copy, { recursive: true });
  // The copy's checkpoint is where its replay begins; the log is pushed from there.
  const control = readControlFile(readFileSync(join(copy, 'global/pg_control')));
  await primary.start();
  await primary.sql('insert into t select generate_series(1, 100000)');
  const [{ lsn: end }] = await primary.sql('select pg_current_wal_flush_lsn()::text as lsn');
  await primary.stop();

  const sk = await safekeeper();
  const key = newKey();
  const wal = join(primary.dataDirectory, 'pg_wal');
  const push = pusher(
    [sk],
    key,
    new FileLog(wal, control.checkPointCopy.redo, parseLsn(end), control.systemIdentifier),
  );
  await push.elect();
  await push.committed(lsn(parseLsn(end) - 8192));

  writeFileSync(join(copy, 'standby.signal'), '');
  const conninfo = `host=127.0.0.1 port=${sk.port} user=x application_name=replica options='${optionsOf(key)}'`;
  await primary.runDirectory(copy, { primary_conninfo: conninfo, hot_standby: 'on' }, async standby => {
    for (let tries = 0; ; tries++) {
      const [{ n }] = await standby.sql('select count(*)::int as n from t');
      if (n === 100000) break;
      if (tries > 1800) throw new Error(`the standby has ${n} rows only`);
      await new Promise(done => setTimeout(done, 50));
    }
    const [row] = await standby.sql('select status, sender_port from pg_stat_wal_receiver');
    expect(row).toEqual({ status: 'streaming', sender_port: sk.port });
  });
});

const exited = (child: ChildProcess): Promise<number | null> =>
  new Promise(done => child.once('close', done));

/** A copy of the compute's directory, made while it is stopped, that follows a safekeeper. */
async function startStandby(
  major: number,
  compute: NeonPostgres,
  sk: InProcess,
  key: TimelineKey,
): Promise<NeonPostgres> {
  const dir = mkdtempSync(join(tmpdir(), 'lakebed-standby-'));
  chmodSync(dir, 0o777);
  await compute.baseBackup(join(dir, 'data'));
  const standby = await NeonPostgres.adopt(major, dir, compute.options);
  cleanups.push(() => standby.remove());
  standby.configure({
    port: String(standby.port),
    'neon.safekeepers': '',
    synchronous_standby_names: '',
    hot_standby_feedback: 'on',
    wal_receiver_status_interval: '1s',
    primary_conninfo: `host=127.0.0.1 port=${sk.port} user=x application_name=replica options='${optionsOf(key)}'`,
  });
  standby.signalStandby();
  await standby.start();
  return standby;
}
