// The manager's figures, with the real processes around it: a branch made by the API beside 1,000 others, lists of
// 1,000, and a compute from asleep to its first row, with what the start is made of.
//
//   branch create   POST .../branches to its answer: the catalog, the safekeepers' commit LSN, the pageserver's new
//                   timeline with its index in the object store, and the catalog again
//   first row       a client comes for a suspended compute: POST /internal/wake, connect, SELECT of a row in a table

import pg from 'pg';
import { Installation, type Json } from '../manager/installation.ts';
import { neonMajors } from '../safekeeper/neon-postgres.ts';
import { type Bench, distribution, type Figure, unmeasured } from './harness.ts';

const BRANCHES = 1000;
const MEASURED = 200;
const AT_ONCE = 4;
const LISTS = 100;
const WAKES = 20;

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};

const fetched = async (url: string): Promise<ArrayBuffer> => (await fetch(url)).arrayBuffer();

async function makeBranches(lakebed: Installation, path: string): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < BRANCHES) await lakebed.api('POST', path, { branch: { name: `b${next++}` } });
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function branchFigures(lakebed: Installation, project: Json): Promise<Figure[]> {
  const path = `projects/${project.id}/branches`;
  await makeBranches(lakebed, path);
  const creates: number[] = [];
  for (let i = 0; i < MEASURED; i++) {
    creates.push(await timed(() => lakebed.api('POST', path, { branch: { name: `m${i}` } })));
  }
  const written: number[] = [];
  for (let i = 0; i < MEASURED; i++) {
    written.push(await timed(() => lakebed.api('POST', `${path}?wait=false`, { branch: { name: `w${i}` } })));
  }
  const lists: number[] = [];
  for (let i = 0; i < LISTS; i++)
    lists.push(await timed(() => fetched(`${lakebed.managerUrl}/api/v2/${path}?limit=1000`)));
  const operations: number[] = [];
  for (let i = 0; i < LISTS; i++) {
    const url = `${lakebed.managerUrl}/api/v2/projects/${project.id}/operations?limit=100`;
    operations.push(await timed(() => fetched(url)));
  }
  const [create, write, list, page] = [creates, written, lists, operations].map(distribution);
  const beside = `beside ${BRANCHES} branches`;
  return [
    { name: 'branch create p50', value: create!.p50, unit: 'ms', note: `${beside}, ready when answered` },
    { name: 'branch create p99', value: create!.p99, unit: 'ms', target: '< 20 ms', note: beside },
    {
      name: 'branch create written down p99',
      value: write!.p99,
      unit: 'ms',
      note: 'wait=false: answered before it is made',
    },
    { name: 'list of 1,000 branches p50', value: list!.p50, unit: 'ms', target: '< 10 ms' },
    { name: 'list of 1,000 branches p99', value: list!.p99, unit: 'ms' },
    { name: 'list of 100 operations p50', value: page!.p50, unit: 'ms', target: '< 10 ms' },
  ];
}

async function firstRow(lakebed: Installation, password: string): Promise<void> {
  const { body } = await lakebed.wake('main');
  const client = new pg.Client({
    host: body.host,
    port: body.port,
    user: 'neondb_owner',
    password,
    database: 'neondb',
  });
  await client.connect();
  await client.query('SELECT v FROM first LIMIT 1');
  await client.end();
}

async function wakeFigures(lakebed: Installation, project: Json, password: string): Promise<Figure[]> {
  const { endpoints } = await lakebed.api('GET', `projects/${project.id}/branches/main/endpoints`);
  const path = `projects/${project.id}/endpoints/${endpoints[0].id}`;
  await lakebed.query('main', 'CREATE TABLE first AS SELECT 1 AS v');
  const rows: number[] = [];
  const parts = new Map<string, number[]>();
  for (let i = 0; i < WAKES; i++) {
    await lakebed.api('POST', `${path}/suspend?wait=true`);
    rows.push(await timed(() => firstRow(lakebed, password)));
    const { operations } = await lakebed.api('GET', `projects/${project.id}/operations?limit=1`);
    for (const [name, ms] of Object.entries(operations[0].timings ?? {})) {
      parts.set(name, [...(parts.get(name) ?? []), ms as number]);
    }
  }
  const all = distribution(rows);
  const made = [...parts].map(
    ([name, ms]) => `${name.replace(/_ms$/, '')} ${distribution(ms).p50.toFixed(0)}`,
  );
  return [
    { name: 'asleep to first row p50', value: all.p50, unit: 'ms', target: '< 1 s', note: made.join(', ') },
    { name: 'asleep to first row p99', value: all.p99, unit: 'ms' },
  ];
}

async function run(): Promise<Figure[]> {
  const driver = neonMajors().includes(17) ? 'process' : 'stock';
  const lakebed = await Installation.start({ driver });
  try {
    const { project, roles } = await lakebed.api('POST', 'projects?wait=true', {
      project: { name: 'bench' },
    });
    const figures = await wakeFigures(lakebed, project, roles[0].password);
    if (driver === 'stock')
      figures.push(unmeasured('with computes of Neon', 'NEON_PG_DIR has no Postgres 17'));
    return [...figures, ...(await branchFigures(lakebed, project))];
  } finally {
    await lakebed.stop();
  }
}

const bench: Bench = { name: 'manager', run };
export default bench;
