// What fills and cuts SLRUs, and what moves the counters of a checkpoint: a million transactions and two thousand
// multixacts frozen away, commit timestamps turned off and on, origins, other parameters. Segments and their pages must
// be those of the server's own directory, and the checkpoint must say what its control file does.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SLRU_CLOG, SLRU_DIRECTORY, SLRU_MULTIXACT_OFFSETS, type SlruKind } from '../../src/base/rel.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { importDirectory } from '../../src/pageserver/import-log.ts';
import { originName } from '../../src/pageserver/names.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { newPage, pageOver } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { segmentFileName, segmentOf } from '../../src/xlog/segment.ts';
import { slruSegmentPath } from '../../src/xlog/slru.ts';
import { setMultiXactOffset } from '../../src/xlog/slru-multixact.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import { MemoryTimeline } from './memory-timeline.ts';

const SETTINGS = {
  wal_level: 'replica',
  track_commit_timestamp: 'on',
  max_prepared_transactions: 4,
  autovacuum: 'off',
  wal_keep_size: '4GB',
  max_wal_size: '4GB',
  checkpoint_timeout: '1h',
  vacuum_freeze_min_age: 0,
  vacuum_multixact_freeze_min_age: 0,
};

/** Each of them with an xid of its own, and next to nothing in the log. */
const subtransactions = (count: number): string =>
  `do $$ begin for i in 1..${count} loop begin insert into scratch values (1); exception when others then null; end; end loop; end $$`;

/** A multixact per row: one transaction shares each, and then updates some. */
const MULTIXACTS = `do $$ begin
  for i in 1..2200 loop
    perform 1 from m where id = i for share;
    begin update m set v = v + 1 where id = i; exception when others then null; end;
  end loop; end $$`;

async function frozenAway(postgres: StockPostgres): Promise<void> {
  await postgres.sql('update pg_database set datallowconn = true');
  for (const database of ['template0', 'template1', 'postgres'])
    await postgres.sql('vacuum (freeze)', database);
  await postgres.sql('checkpoint');
}

async function work(postgres: StockPostgres): Promise<void> {
  await postgres.start(SETTINGS);
  await postgres.sql('create unlogged table scratch (i int)');
  await postgres.sql('create table m (id int primary key, v int)');
  await postgres.sql('insert into m select i, 0 from generate_series(1, 2200) i');
  await postgres.sql(MULTIXACTS);
  await postgres.sql(`select pg_replication_origin_create('o')`);
  await postgres.sql(`select pg_replication_origin_advance('o', 'FFFFFFFF/FFFFFFF0')`);
  await postgres.sql(subtransactions(1_060_000));
  await postgres.sql('truncate scratch');
  await frozenAway(postgres);
  await postgres.stop();
  await postgres.start({ ...SETTINGS, track_commit_timestamp: 'off', max_connections: 55 });
  await postgres.sql(subtransactions(3000));
  await postgres.stop();
  await postgres.start({ ...SETTINGS, max_connections: 66, wal_level: 'logical' });
  await postgres.sql('insert into m select i, 0 from generate_series(5000, 5010) i');
  await postgres.sql(MULTIXACTS.replace('2200', '20'));
  await postgres.sql(`begin; insert into m values (-1, 0); prepare transaction 'p'`);
  await postgres.stop();
}

async function takeIn(pgdata: PgData, postgres: StockPostgres): Promise<void> {
  const {
    ingest,
    endLsn: start,
    segmentSize: size,
  } = await importDirectory(pgdata, hostDisk(postgres.dataDirectory), '');
  await work(postgres);
  const reader = new WalReader({ start, dialect: pgdata.dialect, segmentSize: size, checkPrev: true });
  const record = new WalRecord();
  try {
    for (let segno = segmentOf(start, size), skip = start % size; ; segno++, skip = 0) {
      const path = join(postgres.dataDirectory, 'pg_wal', segmentFileName(1, segno, size));
      reader.push(new Uint8Array(await readFile(path)).subarray(skip));
      while (reader.next(record)) await ingest.record(record);
      ingest.advance();
    }
  } catch (error) {
    if (!['wal-end', 'ENOENT'].includes((error as { code?: string }).code ?? '')) throw error;
  }
  ingest.advance();
}

test.each([14, 18] as const)(
  "Postgres %i: segments, pages and counters are the server's own",
  async major => {
    const dialect = dialectOfMajor(major, 'stock');
    const pgdata = new PgData(new MemoryTimeline(dialect).timeline, dialect);
    const postgres = await StockPostgres.create(major as StockMajor);
    try {
      await takeIn(pgdata, postgres);
      const disk = hostDisk(postgres.dataDirectory);
      const { lastRecordLsn: lsn } = pgdata.timeline;
      const control = readControlFile(await disk.readFile('global/pg_control'));
      const last = control.checkPointCopy;
      for (let kind = 0; kind < SLRU_DIRECTORY.length; kind++) {
        const segments = [...(await pgdata.slruSegments(kind as SlruKind, lsn)).keys()].sort((a, b) => a - b);
        const names = (await disk.list(SLRU_DIRECTORY[kind]!)).filter(name => /^[0-9A-F]{4}$/.test(name));
        expect(segments, SLRU_DIRECTORY[kind]).toEqual(names.map(name => parseInt(name, 16)));
        for (const segno of segments) {
          const ours = (await pgdata.slruSegment(kind as SlruKind, segno, lsn))!;
          const theirs = await disk.readFile(slruSegmentPath(kind as SlruKind, segno));
          expect(
            differingPages(kind as SlruKind, ours, theirs, last.nextMulti),
            `${SLRU_DIRECTORY[kind]} ${segno}`,
          ).toEqual([]);
        }
      }
      const clog = await pgdata.slruSegments(SLRU_CLOG, lsn);
      expect(Math.min(...clog.keys())).toBeGreaterThan(0);
      const { nextXid, nextOid, ...checkpoint } = await pgdata.checkpoint(lsn);
      expect(nextXid - last.nextXid).toBeGreaterThanOrEqual(0);
      expect(nextXid - last.nextXid).toBeLessThan(1024);
      expect(nextOid).toBeGreaterThanOrEqual(last.nextOid);
      expect(checkpoint).toMatchObject({
        redo: lsn,
        nextMulti: last.nextMulti,
        nextMultiOffset: last.nextMultiOffset,
        oldestXid: last.oldestXid,
        oldestXidDb: last.oldestXidDb,
        oldestMulti: last.oldestMulti,
        oldestMultiDb: last.oldestMultiDb,
        oldestCommitTsXid: last.oldestCommitTsXid,
        ...(last.walLevel === undefined ? {} : { walLevel: last.walLevel }),
      });
      // The prepared transaction holds back the oldest xid that a standby must know of.
      expect(checkpoint.oldestActiveXid).toBeLessThan(nextXid);
      const [name] = [...(await pgdata.snapshot(lsn)).names.keys()].filter(n => n.startsWith('twophase/'));
      expect(parseInt(name!.slice(9), 16)).toBe(checkpoint.oldestActiveXid);
      const progress = (await pgdata.getName(originName(1), lsn))!;
      expect(new DataView(progress.buffer).getBigUint64(0, true)).toBe(0xffff_ffff_ffff_fff0n);
    } finally {
      await postgres.destroy();
    }
  },
  400_000,
);

/** Pages that were made and never written are zeros, whether a file reaches that far or not. */
function differingPages(kind: SlruKind, ours: Uint8Array, theirs: Uint8Array, nextMulti: number): number[] {
  const wrong: number[] = [];
  const zeros = newPage().bytes;
  for (let at = 0; at < Math.max(ours.length, theirs.length); at += zeros.length) {
    const a = pageOver(at < ours.length ? ours.slice(at, at + zeros.length) : zeros.slice());
    const b = pageOver(at < theirs.length ? theirs.slice(at, at + zeros.length) : zeros.slice());
    // Late minors write the entry of the next multixact in advance.
    if (kind === SLRU_MULTIXACT_OFFSETS) for (const page of [a, b]) setMultiXactOffset(page, nextMulti, 0);
    if (Buffer.compare(a.bytes, b.bytes) !== 0) wrong.push(at / zeros.length);
  }
  return wrong;
}
