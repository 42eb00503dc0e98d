// Management calls, the broker, backup, pulling and recovery: whole processes, WAL pushed by a client of our own.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, lsn, parseLsn } from '../../src/base/lsn.ts';
import { grpcChannel } from '../../src/host/grpc.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import * as wire from '../../src/protocol/broker.ts';
import { NO_FEEDBACK } from '../../src/protocol/feedback.ts';
import { PqClient } from '../../src/protocol/pq-client.ts';
import { pageserverReply } from '../../src/protocol/replication.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { type Cluster, startCluster, timelinePath, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

let next = 1;
const id = (): string => (next++).toString(16).padStart(32, '0');
const newKey = (): TimelineKey => ({ tenantId: id(), timelineId: id() }) as TimelineKey;

let cluster: Cluster;
const pushers: Pusher[] = [];
beforeAll(async () => {
  cluster = await startCluster(4, {
    withRemote: true,
    args: ['--peer-recovery=true', '--partial-backup-timeout', '1s'],
  });
});
afterAll(async () => {
  for (const p of pushers) p.close();
  await cluster.remove();
});

/** WAL on the first `count` safekeepers. */
async function filled(
  bytes: number,
  count = 3,
): Promise<{ key: TimelineKey; log: ComputeLog; push: Pusher }> {
  const key = newKey();
  const log = new ComputeLog(lsn(0x14ebd08));
  const targets = cluster.sks.slice(0, count).map(sk => ({ host: '127.0.0.1', port: sk.port }));
  const push = new Pusher({ targets, key, log });
  pushers.push(push);
  await push.elect();
  for (let i = 0, end = log.end; log.end < 0x14ebd08 + bytes; i++) {
    end = push.write(ModelWal.payload('a', i, 8000));
    if (i % 500 === 0) await push.committed(end);
  }
  await push.committed(log.end);
  // A commit waits for a majority; what follows looks at each.
  for (const sk of cluster.sks.slice(0, count)) {
    await until(async () => {
      const status = await sk.status(key).catch(() => undefined);
      return status !== undefined && parseLsn(status.commit_lsn) >= push.commitLsn;
    });
  }
  return { key, log, push };
}

describe('status', () => {
  test('tells terms, positions, who writes and who reads', async () => {
    const { key, push, log } = await filled(100_000);
    const status = await cluster.sks[0]!.status(key);
    expect(status).toMatchObject({
      tenant_id: key.tenantId,
      timeline_id: key.timelineId,
      mconf: { generation: 0, members: [], new_members: null },
      acceptor_state: { term: 1, epoch: 1, term_history: [{ term: 1, lsn: '0/14EBD08' }] },
      pg_info: { pg_version: 170005, system_id: 7460338342930325313n, wal_seg_size: 16777216 },
      timeline_start_lsn: '0/14EBD08',
      commit_lsn: formatLsn(push.commitLsn),
      flush_lsn: formatLsn(log.end),
      walsenders: [],
      walreceivers: [{ status: 'Streaming' }],
    });
    await until(async () => (await cluster.sks[0]!.status(key)).peers.length === 3);
  });

  test('lists, utilization, a missing timeline, the document', async () => {
    const [sk] = cluster.sks;
    const { key } = await filled(10_000);
    expect(await sk!.call('GET', '/v1/tenant/timeline')).toContainEqual({
      tenant_id: key.tenantId,
      timeline_id: key.timelineId,
    });
    expect((await sk!.call('GET', '/v1/utilization')).timeline_count).toBeGreaterThan(0);
    await expect(sk!.status(newKey())).rejects.toMatchObject({ status: 404 });
    const usage = await sk!.call('GET', '/v1/debug/filesystem_usage');
    expect(usage.capacity_bytes).toBeGreaterThan(usage.usage_bytes);
    expect(Object.keys((await sk!.call('GET', '/openapi.json')).paths).length).toBeGreaterThan(15);
    const dump = await sk!.call('GET', `/v1/debug_dump?dump_all=true&timeline_id=${key.timelineId}`);
    expect(dump.timelines).toMatchObject([
      { control_file: { acceptor_state: { term: 1 } }, memory: { num_computes: 1 } },
    ]);
    expect(await sk!.metric('safekeeper_commit_lsn')).toBeGreaterThan(0);
    const metrics = await (await fetch(`${sk!.host}/metrics`)).text();
    const value = (series: string): number =>
      Number(
        metrics
          .split('\n')
          .find(l => l.startsWith(`${series} `))
          ?.slice(series.length),
      );
    expect(value('safekeeper_write_wal_bytes_sum')).toBeGreaterThan(10_000);
    expect(value('safekeeper_flush_wal_seconds_count')).toBeGreaterThan(0);
    expect(value('safekeeper_flush_wal_seconds_sum')).toBeGreaterThan(0);
    expect(value('safekeeper_persist_control_file_seconds_count')).toBeGreaterThan(0);
    const io = 'client_az="unknown",sk_az="unknown",app_name="unknown"';
    for (const dir of ['read', 'write'])
      expect(value(`safekeeper_pg_io_bytes_total{${io},dir="${dir}",same_az="unknown"}`)).toBeGreaterThan(
        100,
      );
  });
});

describe('what others rely on', () => {
  test('every path that Neon has', async () => {
    const { paths } = await cluster.sks[0]!.call('GET', '/openapi.json');
    const served = Object.entries(paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map(method => `${method.toUpperCase()} ${path.replace(/\{\w+\}/g, '*')}`),
    );
    const one = '/v1/tenant/*/timeline/*';
    expect(served).toEqual(
      expect.arrayContaining([
        ...['GET /v1/status', 'GET /v1/utilization', 'GET /v1/debug/filesystem_usage', 'GET /v1/debug_dump'],
        ...['POST /v1/tenant/timeline', 'GET /v1/tenant/timeline', 'DELETE /v1/tenant/*'],
        ...[`GET ${one}`, `DELETE ${one}`, `PUT ${one}/membership`, `PUT ${one}/exclude`],
        ...[`GET ${one}/snapshot/*`, `POST ${one}/copy`, `PATCH ${one}/control_file`],
        ...[`POST ${one}/checkpoint`, `GET ${one}/digest`, `POST ${one}/backup_partial_reset`],
        ...[`POST ${one}/term_bump`, 'POST /v1/record_safekeeper_info/*/*', 'POST /v1/pull_timeline'],
      ]),
    );
  });

  test('the metrics that others rely on', async () => {
    const { key } = await filled(10_000);
    const metrics = await (await fetch(`${cluster.sks[0]!.host}/metrics`)).text();
    const labels = `{tenant_id="${key.tenantId}",timeline_id="${key.timelineId}"}`;
    const ofTimeline = [
      ...['commit_lsn', 'flush_lsn', 'backup_lsn', 'epoch_start_lsn', 'peer_horizon_lsn'],
      ...['remote_consistent_lsn', 'ps_last_received_lsn', 'feedback_last_time_seconds'],
      ...['ps_feedback_count_total', 'timeline_active', 'wal_backup_active', 'connected_computes'],
      ...['disk_usage_bytes', 'acceptor_term', 'written_wal_bytes_total', 'written_wal_seconds_total'],
      'flushed_wal_seconds_total',
    ];
    for (const name of ofTimeline) expect(metrics).toContain(`\nsafekeeper_${name}${labels} `);
    const ofNode = [
      ...['timelines', 'active_timelines', 'evicted_timelines', 'wal_receivers', 'wal_readers'],
      ...['write_wal_bytes', 'flush_wal_seconds', 'persist_control_file_seconds', 'pg_io_bytes_total'],
      ...['proposer_acceptor_messages_total', 'removed_wal_segments_total', 'backed_up_segments_total'],
      ...['backup_errors_total', 'partial_backup_uploads_total', 'broker_pushed_updates_total'],
      'broker_pulled_updates_total',
    ];
    for (const name of ofNode) expect(metrics).toContain(`# TYPE safekeeper_${name} `);
  });
});

describe('create and delete', () => {
  const body = (key: TimelineKey): unknown => ({
    tenant_id: key.tenantId,
    timeline_id: key.timelineId,
    mconf: { generation: 1, members: [{ id: 1, host: 'a', pg_port: 1 }], new_members: null },
    pg_version: 170005,
    start_lsn: '0/14EBD08',
  });

  test('made by a controller, with members; again is nothing; deleted stays deleted', async () => {
    const [sk] = cluster.sks;
    const key = newKey();
    expect(await sk!.call('POST', '/v1/tenant/timeline', body(key))).toBeNull();
    expect(await sk!.call('POST', '/v1/tenant/timeline', body(key))).toBeNull();
    expect(await sk!.status(key)).toMatchObject({ mconf: { generation: 1 }, flush_lsn: '0/14EBD08' });
    expect(await sk!.call('DELETE', timelinePath(key))).toEqual({ dir_existed: true });
    expect(await sk!.call('DELETE', timelinePath(key))).toEqual({ dir_existed: false });
    await expect(sk!.status(key)).rejects.toMatchObject({ status: 404 });
    const push = new Pusher({
      targets: [{ host: '127.0.0.1', port: sk!.port }],
      key,
      log: new ComputeLog(lsn(0x14ebd08)),
    });
    await expect(push.elect(500)).rejects.toThrow();
    push.close();
  });

  test('bad requests say what is wrong', async () => {
    const [sk] = cluster.sks;
    const key = newKey();
    const call = (change: object): Promise<unknown> =>
      sk!.call('POST', '/v1/tenant/timeline', { ...(body(key) as object), ...change });
    await expect(call({ mconf: undefined })).rejects.toThrow(/400.*mconf/);
    await expect(call({ start_lsn: 'x' })).rejects.toThrow(/400.*LSN/);
    await expect(call({ wal_seg_size: 3 })).rejects.toThrow(/400.*segment size/);
    await expect(sk!.call('POST', '/v1/tenant/timeline', '{')).rejects.toThrow(/400.*JSON/);
  });

  test('a whole tenant', async () => {
    const [sk] = cluster.sks;
    const [a, b] = [newKey(), newKey()];
    const second = { tenantId: a.tenantId, timelineId: b.timelineId };
    await sk!.call('POST', '/v1/tenant/timeline', body(a));
    await sk!.call('POST', '/v1/tenant/timeline', body(second));
    expect(await sk!.call('DELETE', `/v1/tenant/${a.tenantId}?only_local=true`)).toEqual({
      [a.timelineId]: { dir_existed: true },
      [b.timelineId]: { dir_existed: true },
    });
  });
});

describe('terms, membership, digests, control record', () => {
  test('a bumped term stops the compute of the older one', async () => {
    const { key } = await filled(10_000, 1);
    const [sk] = cluster.sks;
    const bump = (term: number | null): Promise<unknown> =>
      sk!.call('POST', `${timelinePath(key)}/term_bump`, { term });
    expect(await bump(null)).toEqual({ previous_term: 1, current_term: 2 });
    expect(await bump(9)).toEqual({ previous_term: 2, current_term: 9 });
    expect(await bump(3)).toEqual({ previous_term: 9, current_term: 9 });
    expect(await sk!.call('POST', `${timelinePath(key)}/checkpoint`)).toBeNull();
  });

  test('membership switches to higher generations only, exclusion removes the copy', async () => {
    const { key } = await filled(10_000, 1);
    const [sk] = cluster.sks;
    const conf = (generation: number, ...ids: number[]): unknown => ({
      generation,
      members: ids.map(n => ({ id: n, host: 'h', pg_port: 1 })),
      new_members: null,
    });
    const put = (what: string, c: unknown): Promise<unknown> =>
      sk!.call('PUT', `${timelinePath(key)}/${what}`, c);
    expect(await put('membership', conf(2, 1, 2))).toMatchObject({
      previous_conf: { generation: 0 },
      current_conf: { generation: 2 },
      last_log_term: 1,
    });
    await expect(put('membership', conf(1, 1))).rejects.toMatchObject({ status: 409 });
    await expect(put('membership', conf(3, 2))).rejects.toMatchObject({ status: 403 });
    await expect(put('exclude', conf(3, 1))).rejects.toMatchObject({ status: 403 });
    await expect(put('exclude', conf(1, 2))).rejects.toMatchObject({ status: 409 });
    expect(await put('exclude', conf(3, 2))).toEqual({ dir_existed: true });
    await expect(sk!.status(key)).rejects.toMatchObject({ status: 404 });
  });

  test('digests agree over all nodes', async () => {
    const { key, push, log } = await filled(2_000_000);
    const range = `from_lsn=${formatLsn(log.start)}&until_lsn=${formatLsn(push.commitLsn)}`;
    const sks = cluster.sks.slice(0, 3);
    await until(async () =>
      (await Promise.all(sks.map(sk => sk.status(key)))).every(s => parseLsn(s.flush_lsn) >= push.commitLsn),
    );
    const digests = await Promise.all(sks.map(sk => sk.call('GET', `${timelinePath(key)}/digest?${range}`)));
    expect(new Set(digests.map(d => d.sha256)).size).toBe(1);
    const { createHash } = await import('node:crypto');
    expect(digests[0].sha256).toBe(
      createHash('sha256').update(log.bytes(log.start, push.commitLsn)).digest('hex'),
    );
    await expect(sks[0]!.call('GET', `${timelinePath(key)}/digest?from_lsn=0/8`)).rejects.toMatchObject({
      status: 400,
    });
  });

  test('the control record can be patched by name', async () => {
    const { key } = await filled(10_000, 1);
    const [sk] = cluster.sks;
    const patch = (body: unknown): Promise<unknown> =>
      sk!.call('PATCH', `${timelinePath(key)}/control_file`, body);
    const reply = await patch({
      updates: { remote_consistent_lsn: '0/14EBD10' },
      apply_fields: ['remote_consistent_lsn'],
    });
    expect(reply).toMatchObject({ new_control_file: { remote_consistent_lsn: '0/14EBD10' } });
    await expect(patch({ updates: {}, apply_fields: ['acceptor_state'] })).rejects.toThrow(
      /cannot be patched/,
    );
  });
});

describe('the broker', () => {
  test('positions travel: a subscriber hears of every safekeeper, and discovery is answered', async () => {
    const { key } = await filled(10_000);
    const channel = grpcChannel(cluster.broker.options.statusUrl.replace('/status', ''));
    const heard = new Set<number>();
    const call = channel.call(`${wire.BROKER_SERVICE}/SubscribeByFilter`);
    const { info, discoveryRequest, discoveryResponse } = wire.MESSAGE_TYPE;
    await call.send(
      wire.writeSubscribeByFilter({ types: [info, discoveryResponse], enabled: true, id: key }),
    );
    call.end();
    let discovered = 0;
    const reading = (async () => {
      for await (const bytes of call.messages) {
        const m = wire.readTypedMessage(bytes);
        if (m.info) {
          heard.add(m.info.safekeeperId);
          expect(m.info).toMatchObject({ id: key, term: 1, lastLogTerm: 1 });
          expect(m.info.safekeeperConnstr).toBe(`127.0.0.1:${cluster.sks[m.info.safekeeperId - 1]!.port}`);
        }
        if (m.discoveryResponse) discovered++;
      }
    })().catch(() => {});
    await until(() => heard.size === 3);
    const { unary } = await import('../../src/base/grpc.ts');
    const request = wire.writeTypedMessage({ type: discoveryRequest, discoveryRequest: { id: key } });
    await unary(channel.call(`${wire.BROKER_SERVICE}/PublishOne`), request);
    await until(() => discovered === 3);
    channel.close();
    await reading;
  });
});

describe('backup', () => {
  const objects = (key: TimelineKey): string[] => {
    try {
      return readdirSync(join(cluster.dir, 'remote', key.tenantId, key.timelineId)).sort();
    } catch {
      return [];
    }
  };

  test('whole segments go up once, the partial one after a while; WAL that was removed is read back', async () => {
    const { key, push, log } = await filled(40_000_000);
    await until(() => objects(key).filter(o => !o.includes('partial')).length === 2, 60_000);
    const [sk] = cluster.sks;
    await until(async () => (await sk!.status(key)).backup_lsn === '0/3000000', 30_000);
    push.close();
    await until(() => objects(key).filter(o => o.includes('partial')).length === 3, 60_000);
    // A pageserver has it all: what lies before may go.
    for (const node of cluster.sks.slice(0, 3)) {
      const reader = await PqClient.connect(hostNet(), hostRandom, {
        host: '127.0.0.1',
        port: node.port,
        parameters: {
          user: 'x',
          application_name: 'pageserver-1',
          options: `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId}`,
        },
      });
      const copy = await reader.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(push.commitLsn)}`);
      await copy.write(pageserverReply({ ...NO_FEEDBACK, remoteConsistentLsn: push.commitLsn }));
      await until(async () => (await node.status(key)).remote_consistent_lsn === formatLsn(push.commitLsn));
      reader.destroy();
      await node.call('POST', `${timelinePath(key)}/checkpoint`);
    }
    await until(
      async () =>
        (await sk!.call('GET', `/v1/debug_dump?dump_all=true&timeline_id=${key.timelineId}`)).timelines[0]
          .disk_content.files.length === 1,
      30_000,
    );
    const range = `from_lsn=${formatLsn(log.start)}&until_lsn=${formatLsn(push.commitLsn)}`;
    const { sha256 } = await sk!.call('GET', `${timelinePath(key)}/digest?${range}`);
    const { createHash } = await import('node:crypto');
    expect(sha256).toBe(createHash('sha256').update(log.bytes(log.start, push.commitLsn)).digest('hex'));
    // Deleting takes the objects along.
    for (const node of cluster.sks.slice(0, 3)) await node.call('DELETE', timelinePath(key));
    expect(objects(key)).toEqual([]);
  });
});

describe('timelines from elsewhere', () => {
  test('pulled from the most advanced peer, it is the same log', async () => {
    const { key, push, log } = await filled(20_000_000);
    await until(async () => parseLsn((await cluster.sks[0]!.status(key)).commit_lsn) >= push.commitLsn);
    const fourth = cluster.sks[3]!;
    const hosts = cluster.sks.slice(0, 3).map(sk => sk.host);
    const pulled = await fourth.call('POST', '/v1/pull_timeline', {
      tenant_id: key.tenantId,
      timeline_id: key.timelineId,
      http_hosts: hosts,
    });
    expect(hosts).toContain(pulled.safekeeper_host);
    const status = await fourth.status(key);
    expect(parseLsn(status.flush_lsn)).toBeGreaterThanOrEqual(push.commitLsn);
    expect(status.acceptor_state).toMatchObject({ term: 1, epoch: 1 });
    const range = `from_lsn=${formatLsn(log.start)}&until_lsn=${formatLsn(push.commitLsn)}`;
    const { sha256 } = await fourth.call('GET', `${timelinePath(key)}/digest?${range}`);
    const { createHash } = await import('node:crypto');
    expect(sha256).toBe(createHash('sha256').update(log.bytes(log.start, push.commitLsn)).digest('hex'));
    expect(
      await fourth.call('POST', '/v1/pull_timeline', {
        tenant_id: key.tenantId,
        timeline_id: key.timelineId,
        http_hosts: hosts,
      }),
    ).toEqual({ safekeeper_host: null });
    // And it takes part from now on.
    push.close();
    const four = new Pusher({
      targets: cluster.sks.map(sk => ({ host: '127.0.0.1', port: sk.port })),
      key,
      log,
    });
    pushers.push(four);
    await four.elect();
    const end = four.write(ModelWal.payload('b', 1, 100));
    await four.committed(end);
    await until(async () => parseLsn((await fourth.status(key)).flush_lsn) >= end);
  });

  test('pulling refuses when too few peers answer, or when we are no member', async () => {
    const { key } = await filled(10_000);
    const fourth = cluster.sks[3]!;
    const ids = { tenant_id: key.tenantId, timeline_id: key.timelineId };
    const gone = ['http://127.0.0.1:1', 'http://127.0.0.1:2', cluster.sks[0]!.host];
    await expect(fourth.call('POST', '/v1/pull_timeline', { ...ids, http_hosts: gone })).rejects.toThrow(
      /1 of 3/,
    );
    const mconf = { generation: 5, members: [{ id: 1, host: 'h', pg_port: 1 }], new_members: null };
    await expect(
      fourth.call('POST', '/v1/pull_timeline', { ...ids, http_hosts: [cluster.sks[0]!.host], mconf }),
    ).rejects.toMatchObject({ status: 400 });
  });

  test('copied up to an LSN', async () => {
    const { key, log, push } = await filled(20_000_000);
    const [sk] = cluster.sks;
    const target = id();
    // The copy then has its beginning in the object store alone, and must know the way there at once.
    await until(async () => parseLsn((await sk!.status(key)).backup_lsn) > log.start);
    const until_lsn = formatLsn(log.start + 18_000_000 - ((log.start + 18_000_000) % 8));
    // Any record boundary will do: the pusher knows some.
    await sk!.call('POST', `${timelinePath(key)}/copy`, { target_timeline_id: target, until_lsn });
    const copy = { tenantId: key.tenantId, timelineId: target } as TimelineKey;
    const status = await sk!.status(copy);
    expect(status).toMatchObject({ timeline_start_lsn: '0/14EBD08', commit_lsn: until_lsn });
    const range = `from_lsn=${formatLsn(log.start)}&until_lsn=${until_lsn}`;
    const [a, b] = await Promise.all(
      [key, copy].map(k => sk!.call('GET', `${timelinePath(k)}/digest?${range}`)),
    );
    expect(a).toEqual(b);
    expect(push.commitLsn).toBeGreaterThan(parseLsn(until_lsn));
  });

  test('a safekeeper that was away catches up from its peers when no compute is there', async () => {
    const away = cluster.sks[2]!;
    const { key, log, push } = await filled(1_000_000);
    await until(async () => parseLsn((await away.status(key)).flush_lsn) >= push.commitLsn);
    await away.kill('SIGKILL');
    for (let i = 0; i < 200; i++) push.write(ModelWal.payload('c', i, 8000));
    await push.committed(log.end);
    push.close();
    await away.start();
    await until(async () => parseLsn((await away.status(key)).flush_lsn) >= push.commitLsn, 60_000);
  });
});
