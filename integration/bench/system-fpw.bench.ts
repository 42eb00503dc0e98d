// Full-page writes on, off without images made by the storage, and off with them: the same load on a branch of its own
// each, of one database, with a checkpoint a minute.
//
//   load     pgbench tpcb-like, accounts drawn evenly: WAL per transaction, transactions per second, GetPage as the
//            compute saw it (from the pageserver's histogram)
//   pile     updates of one account in 200, four neighbours at a time, so that edits pile up on their pages
//   reads    GetPage of pages as `pile` touched them, nine of ten among the piled, each asked for once, from a
//            pageserver that was started anew: nothing is in its page cache
//
// wal_log_hints is off in all three, as in Neon's own tests: hint bits need no log where pages are not torn.
//
//   LAKEBED_FPW_SCALE      of pgbench, 100
//   LAKEBED_FPW_SECONDS    of `load`, 90; `pile` takes a third of it

import { SimRandom } from '../sim/random.ts';
import { type Bench, distribution, type Figure, unmeasured } from './harness.ts';
import { PageClient } from './page-client.ts';
import { pgbench } from './system-pgbench.ts';
import {
  type Lakebed,
  lakebedServer,
  NO_BUILD,
  printTable,
  program,
  round,
  systemMajor,
} from './system-servers.ts';
import { WAITS, type Waits, watched } from './system-waits.ts';

const SCALE = Number(process.env['LAKEBED_FPW_SCALE'] ?? 100);
const SECONDS = Number(process.env['LAKEBED_FPW_SECONDS'] ?? 90);
const CLIENTS = 16;
const READS = 2000;
const HOT_PART = 200;

/** Small layers, so that minutes of load go through all of flush, compaction and image creation. */
const LAYERS = { checkpoint_distance: 4_194_304, compaction_threshold: 2 };
const NEVER = 1_000_000_000;

interface Arm {
  readonly name: string;
  readonly fullPageWrites: 'on' | 'off';
  readonly tenantConf: Readonly<Record<string, number>>;
}

const ARMS: readonly Arm[] = [
  { name: 'on', fullPageWrites: 'on', tenantConf: {} },
  {
    name: 'off, no images',
    fullPageWrites: 'off',
    tenantConf: { image_creation_edits: NEVER, image_creation_threshold: NEVER },
  },
  { name: 'off, images', fullPageWrites: 'off', tenantConf: {} },
];

interface Outcome {
  readonly walPerTransaction: number;
  readonly tps: number;
  readonly transactionP99: number;
  readonly waits: Waits;
  /** Of the safekeepers, while the load ran. */
  readonly syncP99: number;
  /** Ingest stood at one of its limits. */
  readonly heldBackSeconds: number;
  readonly loadP50: number;
  readonly loadP99: number;
  readonly readP50: number;
  readonly readP99: number;
  readonly deltasPerRead: number;
  readonly images: number;
}

/** The accounts at the beginning of the table; ascending, so that two never wait for each other in a circle. */
const PILE = (hot: number): string => `\\set aid random(1, ${hot})
update pgbench_accounts set abalance = abalance + 1 where aid in (:aid, :aid + 10, :aid + 20, :aid + 30);
`;

async function arm(parent: Lakebed, { name, fullPageWrites, tenantConf }: Arm): Promise<Outcome> {
  const { storage, major } = parent;
  const { tenant, timeline: ancestor } = parent.compute.options;
  await storage.http('PUT', 'tenant/config', { tenant_id: tenant, ...LAYERS, ...tenantConf });
  const timeline = await storage.createTimeline(tenant, { ancestor });
  const settings = { ...parent.compute.options.settings, full_page_writes: fullPageWrites };
  const compute = await storage.compute({ major, tenant, timeline, settings });
  const server: Lakebed = {
    ...parent,
    compute,
    dir: compute.dir,
    env: { ...parent.env, PGPORT: String(compute.port) },
    query: sql => compute.query(sql),
  };
  process.stderr.write(`  ${name}: load\n`);
  await compute.query('checkpoint');
  const before = await metrics(storage.pageserverHttpPort);
  const syncsBefore = await safekeeperMetrics(storage);
  const from = await walPosition(server);
  const { ran, waits } = await watched(server, () => pgbench(server, { clients: CLIENTS, seconds: SECONDS }));
  const wal = (await walPosition(server)) - from;
  const after = await metrics(storage.pageserverHttpPort);
  const load = histogramSince(before, after, GET_PAGE);
  const syncs = histogramSince(syncsBefore, await safekeeperMetrics(storage), SYNC);
  process.stderr.write(`  ${name}: pile\n`);
  const hotAccounts = Math.floor((SCALE * 100_000) / HOT_PART);
  await pgbench(server, { clients: CLIENTS, seconds: Math.ceil(SECONDS / 3), script: PILE(hotAccounts) });
  const target = await accountsOf(server);
  await compute.stop('SIGINT');
  process.stderr.write(`  ${name}: reads\n`);
  await settled(parent, timeline);
  const detail = (await storage.timeline(tenant, timeline)) as unknown as { images_made: { pages: number } };
  await storage.pageserver.kill('SIGTERM');
  await storage.pageserver.start();
  const reads = await readPages(parent, timeline, target);
  for (const line of trouble(storage)) process.stderr.write(`  ${name}: ${line}\n`);
  return {
    walPerTransaction: wal / ran.transactions,
    tps: ran.tps,
    transactionP99: ran.latency.p99,
    waits,
    syncP99: syncs.quantile(0.99),
    heldBackSeconds: total(after, HELD_BACK) - total(before, HELD_BACK),
    loadP50: load.quantile(0.5),
    loadP99: load.quantile(0.99),
    ...reads,
    images: detail.images_made.pages,
  };
}

/** What the daemons complained of and was not told yet: a disk without room, say, and no figure means what it seems to. */
const told = new Set<string>();
function trouble(storage: Lakebed['storage']): string[] {
  const lines = storage.trouble().filter(line => !told.has(line));
  for (const line of lines) told.add(line);
  return [...lines.slice(0, 5), ...(lines.length > 5 ? [`... and ${lines.length - 5} more such lines`] : [])];
}

async function walPosition(server: Lakebed): Promise<number> {
  const [row] = await server.query<{ at: string }>(
    "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::text as at",
  );
  return Number(row!.at);
}

interface Accounts {
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
  readonly blocks: number;
}

async function accountsOf(server: Lakebed): Promise<Accounts> {
  const [row] = await server.query<{ db: number; node: number; blocks: number }>(
    `select d.oid::int as db, pg_relation_filenode('pgbench_accounts')::int as node,
            (pg_relation_size('pgbench_accounts') / 8192)::int as blocks
     from pg_database d where datname = current_database()`,
  );
  return { spcOid: 1663, dbOid: row!.db, relNumber: row!.node, blocks: row!.blocks };
}

/** Everything flushed and merged, and no image due: as it would be some minutes later. */
async function settled({ storage, compute }: Lakebed, timeline: string): Promise<void> {
  const { tenant } = compute.options;
  const last = async (): Promise<string> => (await storage.timeline(tenant, timeline)).last_record_lsn;
  for (let before = ''; before !== (await last()); ) {
    before = await last();
    await new Promise(done => setTimeout(done, 500));
  }
  await storage.http('PUT', `tenant/${tenant}/timeline/${timeline}/checkpoint`);
  await storage.http('PUT', `tenant/${tenant}/timeline/${timeline}/compact?force_l0_compaction=true`);
}

async function readPages(
  { storage, compute }: Lakebed,
  timeline: string,
  accounts: Accounts,
): Promise<Pick<Outcome, 'readP50' | 'readP99' | 'deltasPerRead'>> {
  const ids = { tenant: compute.options.tenant, timeline };
  const random = new SimRandom(1);
  const hot = Math.floor(accounts.blocks / HOT_PART);
  // Each block once: nine of ten reads among the piled as far as there are so many.
  const hotReads = Math.min(hot, Math.floor(READS * 0.9));
  const cold = new Set<number>();
  while (cold.size < Math.max(1, Math.floor(hotReads / 9)))
    cold.add(hot + random.below(accounts.blocks - hot));
  const blocks = [...Array.from({ length: hotReads }, (_, i) => i), ...cold];
  for (let i = blocks.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [blocks[i], blocks[j]] = [blocks[j]!, blocks[i]!];
  }
  let at = 0;
  // The client multiplies what it draws by the relation's length.
  const client = await PageClient.open(
    storage.pageserverPort,
    ids,
    accounts,
    () => (blocks[at++ % blocks.length]! + 0.5) / accounts.blocks,
  );
  // Layers are opened and sockets warm once some other pages were asked for.
  at = 0;
  const warm = [...cold].slice(0, 20);
  const asked = blocks.splice(0, blocks.length, ...warm);
  for (let i = 0; i < warm.length; i++) await client.pages(1);
  blocks.splice(0, blocks.length, ...asked);
  at = 0;
  const before = await metrics(storage.pageserverHttpPort);
  const samples: number[] = [];
  for (let i = 0; i < asked.length; i++) {
    const start = performance.now();
    await client.pages(1);
    samples.push(performance.now() - start);
  }
  const after = await metrics(storage.pageserverHttpPort);
  client.close();
  const deltas = histogramSince(before, after, DELTAS);
  const { p50, p99 } = distribution(samples);
  return { readP50: p50, readP99: p99, deltasPerRead: deltas.mean };
}

// ---- the pageserver's metrics -------------------------------------------------------------------------------

const GET_PAGE = ['pageserver_smgr_query_seconds', 'smgr_query_type="get_page_at_lsn"'] as const;
const DELTAS = ['pageserver_deltas_per_read_global', ''] as const;

/** One flush of a safekeeper, written and synced. */
const SYNC = ['safekeeper_flush_wal_seconds', ''] as const;
const HELD_BACK = 'lakebed_ingest_wait_seconds_total';

async function safekeeperMetrics({ safekeepers }: Lakebed['storage']): Promise<string> {
  return (await Promise.all(safekeepers.map(s => metrics(s.httpPort)))).join('\n');
}

/** Of a counter, over all its labels. */
function total(text: string, name: string): number {
  const lines = text.split('\n').filter(line => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

async function metrics(port: number): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}

interface Counts {
  readonly bounds: readonly number[];
  /** Up to each bound. */
  readonly below: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** Several processes' are added up. */
function readHistogram(text: string, [name, label]: readonly [string, string]): Counts {
  const below = new Map<number, number>();
  let sum = 0;
  let count = 0;
  for (const line of text.split('\n')) {
    if (!line.startsWith(name) || !line.includes(label)) continue;
    const value = Number(line.slice(line.lastIndexOf(' ') + 1));
    const rest = line.slice(name.length);
    const le = /le="([^"]+)"/.exec(rest)?.[1];
    if (rest.startsWith('_bucket') && le !== undefined) {
      const bound = le === '+Inf' ? Infinity : Number(le);
      below.set(bound, (below.get(bound) ?? 0) + value);
    } else if (rest.startsWith('_sum')) sum += value;
    else if (rest.startsWith('_count')) count += value;
  }
  return { bounds: [...below.keys()], below: [...below.values()], sum, count };
}

/** What was observed between two scrapes. */
function histogramSince(
  before: string,
  after: string,
  which: readonly [string, string],
): { mean: number; quantile: (q: number) => number } {
  const [a, b] = [readHistogram(before, which), readHistogram(after, which)];
  const below = b.below.map((n, i) => n - (a.below[i] ?? 0));
  const count = b.count - a.count;
  const quantile = (q: number): number => {
    const wanted = q * count;
    const i = below.findIndex(n => n >= wanted);
    if (i < 0 || count === 0) return Number.NaN;
    const low = i === 0 ? 0 : b.bounds[i - 1]!;
    const high = Number.isFinite(b.bounds[i]!) ? b.bounds[i]! : low;
    const inside = below[i]! - (below[i - 1] ?? 0);
    return 1000 * (low + ((high - low) * (wanted - (below[i - 1] ?? 0))) / Math.max(1, inside));
  };
  return { mean: (b.sum - a.sum) / Math.max(1, count), quantile };
}

// ---- what is told -------------------------------------------------------------------------------------------

const COLUMNS: readonly (readonly [title: string, of: (o: Outcome) => number, unit: string])[] = [
  ['WAL per transaction', o => o.walPerTransaction, 'bytes'],
  ['transactions per second', o => o.tps, 'tps'],
  ['transaction, p99', o => o.transactionP99, 'ms'],
  ['sync of a safekeeper, p99', o => o.syncP99, 'ms'],
  ['ingest held back', o => o.heldBackSeconds, 's'],
  ...[...WAITS, 'running' as const].map(
    wait => [`sessions: ${wait}`, (o: Outcome) => 100 * o.waits[wait], '%'] as const,
  ),
  ['GetPage under load, p50', o => o.loadP50, 'ms'],
  ['GetPage under load, p99', o => o.loadP99, 'ms'],
  ['GetPage of piled pages, p50', o => o.readP50, 'ms'],
  ['GetPage of piled pages, p99', o => o.readP99, 'ms'],
  ['deltas per read of them', o => o.deltasPerRead, 'records'],
  ['pages given an image', o => o.images, 'pages'],
];

function report(major: number, outcomes: readonly Outcome[]): Figure[] {
  printTable(
    `Full-page writes, Postgres ${major}, pgbench scale ${SCALE}, ${CLIENTS} clients, ${SECONDS} s, a checkpoint a minute`,
    ['', 'unit', ...ARMS.map(a => a.name)],
    COLUMNS.map(([title, of, unit]) => [title, unit, ...outcomes.map(o => round(of(o)))]),
  );
  const [on, without, images] = outcomes as [Outcome, Outcome, Outcome];
  const figures = COLUMNS.flatMap(([title, of, unit]) =>
    outcomes.map((o, i) => ({ name: `${title}, ${ARMS[i]!.name}`, value: of(o), unit })),
  );
  const less = (a: number, b: number): number => 100 * (1 - a / b);
  return [
    ...figures,
    {
      name: 'less WAL with full-page writes off',
      value: less(images.walPerTransaction, on.walPerTransaction),
      unit: '%',
      target: '>= 90',
    },
    {
      name: 'lower p99 of piled pages with images',
      value: less(images.readP99, without.readP99),
      unit: '%',
      target: '>= 30',
    },
  ];
}

const bench: Bench = {
  name: 'full-page writes off, images by the storage',
  async run() {
    const major = systemMajor();
    if (major === undefined) return [unmeasured('WAL per transaction', NO_BUILD)];
    const settings = {
      checkpoint_timeout: '60s',
      wal_log_hints: 'off',
      shared_buffers: '64MB',
      max_wal_size: '16GB',
    };
    const server = await lakebedServer(major, { settings });
    try {
      process.stderr.write(`  pgbench -i -s ${SCALE}\n`);
      await program(server, 'pgbench', ['-i', '-q', '-I', 'dtGvp', '-s', String(SCALE)]);
      await server.compute.stop('SIGINT');
      await settled(server, server.compute.options.timeline);
      const outcomes: Outcome[] = [];
      for (const each of ARMS) outcomes.push(await arm(server, each));
      return report(major, outcomes);
    } finally {
      await server.stop();
    }
  },
};

export default bench;
