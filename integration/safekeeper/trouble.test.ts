// Trouble on one node: damaged files, a full disk, a peer that was away for long, idle timelines that lost their WAL.
// One timeline's trouble is named with its file and its cure, and no other timeline notices.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { lsn, parseLsn } from '../../src/base/lsn.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { mountSmallDisk, unmount } from '../small-disk.ts';
import { freePort } from './neon-postgres.ts';
import { type Cluster, SafekeeperProcess, startCluster, timelinePath, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

let next = 1;
const id = (): string => (next++).toString(16).padStart(32, '0');
const newKey = (): TimelineKey => ({ tenantId: id(), timelineId: id() }) as TimelineKey;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

async function cluster(count: number, args: readonly string[] = [], withRemote = false): Promise<Cluster> {
  const made = await startCluster(count, { args, withRemote });
  cleanups.push(() => made.remove());
  return made;
}

function pusherTo(sks: readonly { port: number }[], key: TimelineKey, log: ComputeLog): Pusher {
  const push = new Pusher({ targets: sks.map(sk => ({ host: '127.0.0.1', port: sk.port })), key, log });
  cleanups.push(() => push.close());
  return push;
}

/** Some WAL on all of these; the pusher is gone again. */
async function fill(sks: readonly SafekeeperProcess[], key: TimelineKey, bytes: number): Promise<ComputeLog> {
  const log = new ComputeLog(lsn(0x14ebd08));
  const push = pusherTo(sks, key, log);
  await push.elect();
  for (let i = 0; log.end < 0x14ebd08 + bytes; i++) {
    const end = push.write(ModelWal.payload('t', i, 8000));
    if (i % 500 === 0) await push.committed(end);
    // In two syncs at least, on each: what came first is then known to be durable by what follows.
    if (i === 0) await flushed(sks, key, end);
  }
  await push.committed(log.end);
  await flushed(sks, key, log.end);
  push.close();
  return log;
}

const flushed = (sks: readonly SafekeeperProcess[], key: TimelineKey, to: number): Promise<unknown> =>
  until(async () =>
    (await Promise.all(sks.map(sk => sk.status(key)))).every(s => parseLsn(s.flush_lsn) === to),
  );

/** A byte of a file behind its header, changed: in the first thing that was ever written to it. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  bytes[600]! ^= 0xff;
  writeFileSync(path, bytes);
}

const directory = (sk: SafekeeperProcess, key: TimelineKey): string =>
  join(sk.dataDir, key.tenantId, key.timelineId);

describe('damaged files', () => {
  test.each(['safekeeper.control', '000000010000000000000001'])('%s', async file => {
    const { sks } = await cluster(1);
    const [sk] = sks;
    const [bad, good] = [newKey(), newKey()];
    await fill(sks, bad, 1_000_000);
    await fill(sks, good, 1_000_000);
    await sk!.kill('SIGKILL');
    damage(join(directory(sk!, bad), file));
    await sk!.start();
    // Named, with its cure, in the log and in the answer; nobody may write to it or make it anew.
    const error = await sk!.status(bad).catch(e => e as Error);
    expect(String(error)).toMatch(/: 5\d\d .*pull_timeline/);
    expect(String(error)).toContain(file === 'safekeeper.control' ? file : '000000010000000000000001');
    expect(sk!.log).toMatch(/ERROR a timeline cannot be loaded.*pull_timeline/);
    await expect(pusherTo(sks, bad, new ComputeLog(lsn(0x14ebd08))).elect(1500)).rejects.toThrow();
    // The other one goes on.
    const again = pusherTo(sks, good, new ComputeLog(lsn(0x14ebd08)));
    await again.elect();
    // The cure: delete it here (and fetch it from a peer).
    expect(await sk!.call('DELETE', timelinePath(bad))).toEqual({ dir_existed: true });
    await expect(sk!.status(bad)).rejects.toMatchObject({ status: 404 });
  });

  test('a damaged copy is deleted and pulled from a peer', async () => {
    const { sks } = await cluster(3);
    const key = newKey();
    const log = await fill(sks, key, 3_000_000);
    const [sk, ...peers] = sks;
    await sk!.kill('SIGKILL');
    damage(join(directory(sk!, key), '000000010000000000000001'));
    await sk!.start();
    await expect(sk!.status(key)).rejects.toThrow(/500/);
    await sk!.call('DELETE', `${timelinePath(key)}?only_local=true`);
    // A compute must not make it anew meanwhile: this node has lost what it promised.
    await expect(pusherTo([sk!], key, new ComputeLog(lsn(0x14ebd08))).elect(500)).rejects.toThrow();
    const ids = { tenant_id: key.tenantId, timeline_id: key.timelineId };
    await sk!.call('POST', '/v1/pull_timeline', { ...ids, http_hosts: peers.map(p => p.host) });
    expect(parseLsn((await sk!.status(key)).flush_lsn)).toBe(log.end);
  });
});

describe('a full disk', () => {
  const asRoot = process.getuid?.() === 0;
  if (!asRoot) console.log('skipped: a full disk (a small file system can be mounted by root only)');
  test.runIf(asRoot)('holds the compute back with an error, and goes on when there is room', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-small-'));
    // The data directory alone: its log must not suffer with it.
    const small = join(dir, 'sk1');
    mkdirSync(small);
    if (!mountSmallDisk(small, '24m')) {
      console.log('skipped: a full disk (this machine mounts no tmpfs)');
      rmSync(dir, { recursive: true });
      return;
    }
    cleanups.push(() => {
      unmount(small);
      rmSync(dir, { recursive: true, force: true });
    });
    const ports = { pg: await freePort(), http: await freePort() };
    const sk = new SafekeeperProcess(1, dir, ports, ['--broker-endpoint', 'http://127.0.0.1:1']);
    cleanups.push(() => sk.kill('SIGKILL'));
    await sk.start();
    const key = newKey();
    const log = new ComputeLog(lsn(0x14ebd08));
    const push = pusherTo([sk], key, log);
    await push.elect();
    const ballast = join(small, 'ballast');
    writeFileSync(ballast, Buffer.alloc(12 * 1024 * 1024));
    for (let i = 0; log.end < 0x14ebd08 + 16_000_000; i++) push.write(ModelWal.payload('f', i, 8000));
    let done = false;
    push.committed(log.end).then(
      () => (done = true),
      () => {},
    );
    await until(() => /no space|ENOSPC|disk-full|disk is full/i.test(sk.log), 60_000);
    expect(done).toBe(false);
    const acknowledged = push.commitLsn;
    expect(acknowledged).toBeLessThan(log.end);
    expect((await sk.status(key)).flush_lsn).toBeDefined();
    rmSync(ballast);
    await until(() => push.commitLsn > acknowledged, 20_000).catch(async () => {
      // The connection may have been cut: a compute comes again.
      await push.elect();
    });
    expect(parseLsn((await sk.status(key)).flush_lsn)).toBeGreaterThanOrEqual(acknowledged);
  });
});

describe('a peer that was away', () => {
  const megabytes = Number(process.env['LAKEBED_AWAY_MB'] ?? 60);
  test(`for ${megabytes} MB of WAL is brought up to date by the compute`, async () => {
    const { sks } = await cluster(3);
    const key = newKey();
    const log = new ComputeLog(lsn(0x14ebd08));
    const push = pusherTo(sks, key, log);
    await push.elect();
    await push.committed(push.write(ModelWal.payload('a', 0, 100)));
    await sks[2]!.kill('SIGKILL');
    for (let i = 0; log.end < 0x14ebd08 + megabytes * 1e6; i++) {
      const end = push.write(ModelWal.payload('a', i, 60_000));
      if (i % 50 === 0) await push.committed(end);
    }
    await push.committed(log.end);
    await sks[2]!.start();
    await until(async () => parseLsn((await sks[2]!.status(key)).flush_lsn) === log.end, 120_000);
  }, 600_000);
});

describe('idle timelines', () => {
  test('lose their local WAL to the object store, and get it back when somebody comes', async () => {
    const made = await cluster(
      1,
      [
        ...['--enable-offload', '--delete-offloaded-wal', '--eviction-min-resident', '1s'],
        ...['--partial-backup-timeout', '1s', '--control-file-save-interval', '1s'],
      ],
      true,
    );
    const [sk] = made.sks;
    const key = newKey();
    const log = await fill(made.sks, key, 20_000_000);
    // A pageserver has it all.
    const remote_consistent_lsn = (await sk!.status(key)).flush_lsn;
    await sk!.call('POST', `/v1/record_safekeeper_info/${key.tenantId}/${key.timelineId}`, {
      remote_consistent_lsn,
    });
    const segments = (): string[] => readdirSync(directory(sk!, key)).filter(name => name.startsWith('0000'));
    await until(() => segments().length === 0, 60_000);
    expect(await sk!.metric('safekeeper_evicted_timelines')).toBe(1);
    await sk!.kill('SIGKILL');
    await sk!.start();
    expect((await sk!.status(key)).flush_lsn).toBe(remote_consistent_lsn);
    const push = pusherTo(made.sks, key, log);
    await push.elect();
    await push.committed(push.write(ModelWal.payload('e', 1, 100)));
    expect(segments().length).toBeGreaterThan(0);
    expect(parseLsn((await sk!.status(key)).flush_lsn)).toBe(log.end);
  });
});
