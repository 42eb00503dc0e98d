// Recorded logs of Neon's Postgres taken in by one shard and by four, and a full backup of their end that a stock
// Postgres of that major starts from and finds nothing wrong with.

import { execFileSync } from 'node:child_process';
import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Lsn } from '../../src/base/lsn.ts';
import { relPath } from '../../src/base/rel.ts';
import { backupArchive } from '../../src/pageserver/basebackup.ts';
import { Ingest } from '../../src/pageserver/ingest.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { ONE_SHARD, type ShardIdentity, shardOfBlock } from '../../src/pageserver/shard.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { type StockMajor, StockPostgres, stockBin } from '../pg/stock.ts';
import { type Corpus, corpora, NO_CORPUS } from '../redo/corpus.ts';
import { loadBase, readLog } from './corpus-log.ts';
import { MemoryTimeline } from './memory-timeline.ts';
import { checkAll } from './stock-workload.ts';
import { unpack } from './unpack.ts';

const NOBODY = 65534;
const SHARDS = 4;
const STRIPE = 8;

interface Taken {
  readonly pgdata: PgData;
  readonly memory: MemoryTimeline;
}

/** Everything of a recording, on each of these shards. */
async function takeIn(corpus: Corpus, shards: readonly ShardIdentity[]): Promise<Taken[]> {
  const dialect = dialectOfMajor(corpus.major, 'neon');
  const ingests: Ingest[] = [];
  const taken: Taken[] = [];
  let start = 0 as Lsn;
  let size = 0;
  for (const shard of shards) {
    const memory = new MemoryTimeline(dialect);
    const pgdata = new PgData(memory.timeline, dialect);
    const control = readControlFile((await loadBase(corpus, pgdata)).controlFile!);
    const ingest = new Ingest(pgdata, shard);
    await ingest.load();
    ingests.push(ingest);
    taken.push({ pgdata, memory });
    start = control.checkPointCopy.redo;
    size = control.xlogSegSize;
  }
  let records = 0;
  await readLog(corpus, new WalReader({ start, dialect, segmentSize: size }), start, size, async record => {
    const advance = ++records % 100 === 0;
    for (const ingest of ingests) {
      if (advance) ingest.advance();
      await ingest.record(record);
    }
  });
  for (const ingest of ingests) ingest.advance();
  return taken;
}

/** Neon's clusters know no role `postgres`: a server for one user makes it. */
async function makeRole(major: StockMajor, directory: string): Promise<void> {
  const asNobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if (asNobody.uid !== undefined) execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, directory]);
  await chmod(directory, 0o700);
  execFileSync(join(stockBin(major), 'postgres'), ['--single', '-D', directory, 'postgres'], {
    ...asNobody,
    cwd: directory,
    input: 'create role postgres superuser login;\n',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
}

const found = corpora();
test.skipIf(found.length > 0)(`skipped: ${NO_CORPUS}`, () => {});

test.each(found.map(c => [c.name, c] as const))(
  '%s: a stock server starts from its full backup',
  async (_, corpus) => {
    const [{ pgdata }] = (await takeIn(corpus, [ONE_SHARD])) as [Taken];
    const postgres = await StockPostgres.create(corpus.major as StockMajor);
    try {
      const directory = join(postgres.home, 'restored');
      const options = { lsn: pgdata.timeline.lastRecordLsn, full: true, replica: false, nowMs: Date.now() };
      await unpack(backupArchive(pgdata, options), directory);
      await rm(postgres.dataDirectory, { recursive: true });
      await makeRole(corpus.major as StockMajor, directory);
      await postgres.runDirectory(directory, {}, async server => {
        const [counted] = await server.sql('select count(*)::int, sum(k)::int from h');
        expect(counted).toEqual({ count: 4092, sum: 196509 });
        await server.sql('create extension if not exists amcheck');
        expect(await checkAll(server)).toEqual([]);
      });
    } finally {
      await postgres.destroy();
    }
  },
  300_000,
);

test.each(found.slice(-1).map(c => [c.name, c] as const))(
  '%s: four shards hold what one does, each its own',
  async (_, corpus) => {
    const each = Array.from({ length: SHARDS }, (_, number) => ({
      number,
      count: SHARDS,
      stripeSize: STRIPE,
    }));
    const [whole, ...shards] = (await takeIn(corpus, [ONE_SHARD, ...each])) as [Taken, ...Taken[]];
    const lsn = whole.pgdata.timeline.lastRecordLsn;
    const { relations, sizes } = await whole.pgdata.snapshot(lsn);
    let pages = 0;
    const wrong: string[] = [];
    for (const rel of relations) {
      const nblocks = sizes.get(rel.id)!.nblocks;
      for (const { pgdata } of shards) {
        if ((await pgdata.relSize(rel, lsn)) !== nblocks) wrong.push(`${relPath(rel)}: length`);
      }
      for (let blkno = 0; blkno < nblocks; blkno++) {
        const owner = shards[shardOfBlock(rel.relNumber, rel.forkNum, blkno, SHARDS, STRIPE)]!;
        const [a, b] = [
          await whole.pgdata.getPage(rel, blkno, lsn),
          await owner.pgdata.getPage(rel, blkno, lsn),
        ];
        if (Buffer.compare(a, b) !== 0) wrong.push(`${relPath(rel)} block ${blkno}`);
        pages++;
      }
    }
    expect(wrong).toEqual([]);
    expect(pages).toBeGreaterThan(3000);
    expect((await shards[1]!.pgdata.snapshot(lsn)).slrus[0]!.size).toBe(1);
    const bytes = shards.map(s => s.memory.bytes);
    expect(Math.max(...bytes)).toBeLessThan(whole.memory.bytes * 0.7);
    console.info(
      `${corpus.name}: ${pages} pages; MB put: ${[whole.memory.bytes, ...bytes].map(b => Math.round(b / 1e6)).join(', ')}`,
    );
  },
  300_000,
);
