// The server's process of page-service.bench.ts: an engine over sealed files with a base imported, its page service,
// and, when told to, a receiver that streams the log from a process that stands for a safekeeper.
//   page-server.ts BASE SEGMENT...            sends { port, tenant, timeline, target }; on 'ingest' sends { bytes, seconds }
//   page-server.ts --safekeeper START FILE... sends its port

import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { formatLsn, type Lsn } from '../../src/base/lsn.ts';
import { Metrics } from '../../src/base/metrics.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { listenPages } from '../../src/pageserver/page-port.ts';
import type { PgData } from '../../src/pageserver/pgdata.ts';
import type { ServedTimeline } from '../../src/pageserver/served.ts';
import { ServiceMetrics } from '../../src/pageserver/service-metrics.ts';
import { ONE_SHARD } from '../../src/pageserver/shard.ts';
import { TimelineSink } from '../../src/pageserver/timeline-sink.ts';
import { receiveWal } from '../../src/pageserver/wal-connection.ts';
import { parseSafekeeperCommand } from '../../src/protocol/commands.ts';
import { commandComplete, dataRow, rowDescription, textColumn } from '../../src/protocol/pq-messages.ts';
import { type PqConnection, servePq } from '../../src/protocol/pq-serve.ts';
import { xlogDataHeader } from '../../src/protocol/replication.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { silentLog } from '../sim/engine.ts';
import { BenchEngine, importBase, newIngest } from './pageserver-engine.ts';

const TENANT = tenantId('11'.repeat(16));
const TIMELINE = timelineId('22'.repeat(16));
const CHUNK = 128 * 1024;
const SEGMENT = 0x1000000;

if (process.argv[2] === '--safekeeper') await safekeeper(Number(process.argv[3]), process.argv.slice(4));
else await server(process.argv[2]!, process.argv.slice(3));

async function safekeeper(first: number, files: readonly string[]): Promise<void> {
  const log = Buffer.concat(files.map(file => readFileSync(file)));
  const end = (first + log.length) as Lsn;
  const query = async (text: string, pq: PqConnection): Promise<void> => {
    const command = parseSafekeeperCommand(text);
    if (command.kind !== 'start-replication') {
      await pq.send(rowDescription([textColumn('systemid'), textColumn('timeline'), textColumn('xlogpos')]));
      await pq.send(dataRow(['1', '1', formatLsn(end)]));
      return pq.send(commandComplete('IDENTIFY_SYSTEM'));
    }
    await pq.startCopyBoth(CHUNK);
    void (async () => {
      for (;;) await pq.readCopyData();
    })().catch(() => {});
    for (let at: number = command.startLsn; at < end; ) {
      const to = Math.min(end, at + CHUNK - (at % 8192));
      await pq.sendCopyData(xlogDataHeader(at, end, Date.now()), log.subarray(at - first, to - first));
      at = to;
    }
    await new Promise(() => {});
  };
  const listener = await hostNet().listen(
    { host: '127.0.0.1', port: 0 },
    c => void servePq(c, { startup() {}, query }, { tls: false, password: false }),
  );
  process.send!(listener.port);
}

async function largestRelation(pgdata: PgData): Promise<object> {
  const lsn = pgdata.timeline.lastRecordLsn;
  let largest = { blocks: 0 };
  for (const { spcOid, dbOid, relNumber, forkNum } of (await pgdata.snapshot(lsn)).relations) {
    const blocks = (await pgdata.relSize({ spcOid, dbOid, relNumber, forkNum }, lsn)) ?? 0;
    if (forkNum === 0 && blocks > largest.blocks)
      largest = { spcOid, dbOid, relNumber, blocks } as typeof largest;
  }
  return largest;
}

async function server(base: string, segments: readonly string[]): Promise<void> {
  const bench = new BenchEngine();
  const timeline = bench.open();
  const { pgdata, ingest } = await newIngest(timeline);
  await importBase(pgdata, base);
  await timeline.freezeAndFlush();
  await timeline.compact({ forceLevel0: true, forceImages: true });
  await ingest.load();
  const served: ServedTimeline = {
    shard: ONE_SHARD,
    timeline,
    pgdata,
    isArchived: false,
    lazySlruDownload: false,
    signal: new AbortController().signal,
    leased: () => false,
    lease: () => 0,
    checkKeys: () => undefined,
  };
  const metrics = new ServiceMetrics(new Metrics());
  const pages = await listenPages(
    { net: hostNet(), host: '127.0.0.1', port: 0, tls: false },
    {
      clock: hostClock,
      log: silentLog,
      metrics,
      timelines: { find: async () => [served] },
      waitLsnTimeoutMs: 60_000,
      maxBatchSize: 32,
      tokens: undefined,
      backup: () => {
        throw new Error('no backups here');
      },
    },
  );
  const target = await largestRelation(pgdata);
  process.send!({ port: pages.port, tenant: TENANT, timeline: TIMELINE, target });
  process.once('message', async () => {
    const first = Math.floor(
      readControlFile(readFileSync(`${base}/global/pg_control`)).checkPointCopy.redo / SEGMENT,
    );
    const source = fork(import.meta.filename, ['--safekeeper', String(first * SEGMENT), ...segments]);
    const port = await new Promise<number>(done => source.once('message', m => done(m as number)));
    const from = timeline.lastRecordLsn;
    const start = performance.now();
    // Whoever ends the log's last segment early has it end in zeros: the receiver then says so.
    await receive(port, new TimelineSink({ ingest, log: silentLog, remoteConsistentLsn: () => 0 }));
    const seconds = (performance.now() - start) / 1000;
    await timeline.freezeAndFlush();
    source.kill();
    process.send!({ bytes: timeline.lastRecordLsn - from, seconds });
  });
  process.once('SIGTERM', () => void bench.destroy().finally(() => process.exit(0)));
}

async function receive(port: number, sink: TimelineSink): Promise<void> {
  const nothing = (): void => {};
  const events = { identified: nothing, keepalive: nothing, wal: nothing, ingested: nothing };
  const deps = {
    clock: hostClock,
    net: hostNet(),
    random: hostRandom,
    tenantId: TENANT,
    timelineId: TIMELINE,
    nodeId: 1,
    token: undefined,
    tls: false,
    availabilityZone: undefined,
    connectTimeoutMs: 10_000,
  };
  const from = { safekeeperId: 1, host: '127.0.0.1', port };
  await receiveWal(from, sink, events, deps, new AbortController().signal).catch(
    (error: { code?: string }) => {
      if (error.code !== 'wal-end' && error.code !== 'wal-page-header') throw error;
    },
  );
}
