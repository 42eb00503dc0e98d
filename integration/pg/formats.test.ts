// The formats that are not relation pages, and the checksums of those that are, judged by stock Postgres 14 to 18:
// what we read from its files must be what it says of them, and what we write must be the bytes it wrote.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, parseLsn } from '../../src/base/lsn.ts';
import {
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
} from '../../src/base/rel.ts';
import { epochFromFull, xidFromFull } from '../../src/xlog/checkpoint.ts';
import { pageChecksum, pageChecksumHolds, setPageChecksum } from '../../src/xlog/checksum.ts';
import { CONTROL_FILE_PATH, readControlFile, writeControlFile } from '../../src/xlog/control-file.ts';
import { controlFileText, WAL_LEVEL_NAMES } from '../../src/xlog/control-file-text.ts';
import { dialectOfCatalogVersion, dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { BLCKSZ, newPage, type Page, pageIsNew, pageOver } from '../../src/xlog/page.ts';
import { readRelmap, relmapPath, writeRelmap } from '../../src/xlog/relmap.ts';
import { parseSegmentFileName, segmentBefore, segmentFileName, segmentOf } from '../../src/xlog/segment.ts';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  clogStatus,
  commitTs,
  groupXidsByPage,
  setClogStatuses,
  setCommitTs,
  slruSegmentPath,
  XID_ABORTED,
  XID_COMMITTED,
  XID_IN_PROGRESS,
  type XidStatus,
} from '../../src/xlog/slru.ts';
import {
  groupMembersByPage,
  memberPageOf,
  multiXactMember,
  multiXactOffset,
  nextMemberOffset,
  nextMultiXactId,
  offsetPageOf,
  setMultiXactMembers,
  setMultiXactOffset,
} from '../../src/xlog/slru-multixact.ts';
import {
  parseTwophaseFileName,
  prepareOfTwophaseFile,
  readTwophaseHeader,
  TWOPHASE_DIR,
  twophaseFile,
  twophaseFileName,
} from '../../src/xlog/twophase.ts';
import { STOCK_MAJORS, StockPostgres } from './stock.ts';

const POSTGRES_EPOCH_US = 946_684_800_000_000;
const MULTIXACT_STATUS = ['keysh', 'sh', 'fornokeyupd', 'forupd', 'nokeyupd', 'upd'];

/** Transactions of all ends, multixacts over two offset pages and three member pages, a prepared transaction. */
const WORK = [
  'create extension pageinspect',
  'create table t (id int primary key, v int)',
  'insert into t select i, 0 from generate_series(1, 2200) i',
  `begin; insert into t values (-1, 0); savepoint a; insert into t values (-2, 0); rollback to a;
   savepoint b; insert into t values (-3, 0); commit`,
  'begin; insert into t values (-4, 0); rollback',
  `do $$ begin
     for i in 1..2200 loop
       perform 1 from t where id = i for share;
       begin update t set v = v + 1 where id = i; exception when others then null; end;
     end loop;
   end $$`,
  'vacuum full pg_class',
  `begin; insert into t values (-5, 0); prepare transaction 'half way'`,
  'checkpoint',
];

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  let postgres: StockPostgres;
  const dialect = dialectOfMajor(major, 'stock');
  const file = (path: string): Promise<Buffer> => readFile(join(postgres.dataDirectory, path));

  beforeAll(async () => {
    postgres = await StockPostgres.start(major, {
      initdb: ['-k', '--wal-segsize=4'],
      settings: {
        track_commit_timestamp: 'on',
        max_prepared_transactions: 4,
        wal_level: 'logical',
        autovacuum: 'off',
      },
    });
    for (const statement of WORK) await postgres.sql(statement);
  });
  afterAll(() => postgres?.destroy());

  async function slruPages(kind: 0 | 1 | 2 | 3): Promise<Page[]> {
    const bytes = new Uint8Array(await file(slruSegmentPath(kind, 0)));
    return Array.from({ length: bytes.length / BLCKSZ }, (_, i) =>
      pageOver(bytes.slice(i * BLCKSZ, (i + 1) * BLCKSZ)),
    );
  }

  test('the control file says what Postgres says of it', async () => {
    const [said] = await postgres.sql(`
      select s.*, c.*, i.*, extract(epoch from s.pg_control_last_modified) as modified,
        extract(epoch from c.checkpoint_time) as checkpointed
      from pg_control_system() s, pg_control_checkpoint() c, pg_control_init() i`);
    const bytes = await file(CONTROL_FILE_PATH);
    const control = readControlFile(bytes);
    const checkpoint = control.checkPointCopy;
    expect(dialectOfCatalogVersion(control.catalogVersionNo, 'stock')).toBe(dialect);
    expect(dialect.controlFile.pgControlVersion).toBe(control.pgControlVersion);
    expect({
      pg_control_version: control.pgControlVersion,
      catalog_version_no: control.catalogVersionNo,
      system_identifier: String(control.systemIdentifier),
      modified: control.time,
      checkpoint_lsn: formatLsn(control.checkPoint),
      redo_lsn: formatLsn(checkpoint.redo),
      redo_wal_file: segmentFileName(
        checkpoint.thisTimeLineId,
        segmentOf(checkpoint.redo, control.xlogSegSize),
        control.xlogSegSize,
      ),
      timeline_id: checkpoint.thisTimeLineId,
      prev_timeline_id: checkpoint.prevTimeLineId,
      full_page_writes: checkpoint.fullPageWrites,
      next_xid: `${epochFromFull(checkpoint.nextXid)}:${xidFromFull(checkpoint.nextXid)}`,
      next_oid: checkpoint.nextOid,
      next_multixact_id: String(checkpoint.nextMulti),
      next_multi_offset: String(checkpoint.nextMultiOffset),
      oldest_xid: String(checkpoint.oldestXid),
      oldest_xid_dbid: checkpoint.oldestXidDb,
      oldest_active_xid: String(checkpoint.oldestActiveXid),
      oldest_multi_xid: String(checkpoint.oldestMulti),
      oldest_multi_dbid: checkpoint.oldestMultiDb,
      oldest_commit_ts_xid: String(checkpoint.oldestCommitTsXid),
      newest_commit_ts_xid: String(checkpoint.newestCommitTsXid),
      checkpointed: checkpoint.time,
      max_data_alignment: control.maxAlign,
      database_block_size: control.blcksz,
      blocks_per_segment: control.relsegSize,
      wal_block_size: control.xlogBlcksz,
      bytes_per_wal_segment: control.xlogSegSize,
      max_identifier_length: control.nameDataLen,
      max_index_columns: control.indexMaxKeys,
      max_toast_chunk_size: control.toastMaxChunkSize,
      large_object_chunk_size: control.loblksize,
      float8_pass_by_value: control.float8ByVal,
      data_page_checksum_version: control.dataChecksumVersion,
      default_char_signedness: control.defaultCharSignedness,
    }).toEqual({
      ...pick(said, [
        'pg_control_version',
        'catalog_version_no',
        'system_identifier',
        'checkpoint_lsn',
        'redo_lsn',
        'redo_wal_file',
        'timeline_id',
        'prev_timeline_id',
        'full_page_writes',
        'next_xid',
        'next_oid',
        'next_multixact_id',
        'next_multi_offset',
        'oldest_xid',
        'oldest_xid_dbid',
        'oldest_active_xid',
        'oldest_multi_xid',
        'oldest_multi_dbid',
        'oldest_commit_ts_xid',
        'newest_commit_ts_xid',
        'max_data_alignment',
        'database_block_size',
        'blocks_per_segment',
        'wal_block_size',
        'bytes_per_wal_segment',
        'max_identifier_length',
        'max_index_columns',
        'max_toast_chunk_size',
        'large_object_chunk_size',
        'float8_pass_by_value',
        'data_page_checksum_version',
        'default_char_signedness',
      ]),
      modified: Number(said.modified),
      checkpointed: Number(said.checkpointed),
    });
    const settings = await postgres.sql(`select name, setting from pg_settings where name in
      ('wal_level', 'max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions',
       'max_locks_per_transaction', 'track_commit_timestamp', 'wal_log_hints')`);
    expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
      wal_level: WAL_LEVEL_NAMES[control.walLevel],
      max_connections: `${control.maxConnections}`,
      max_worker_processes: `${control.maxWorkerProcesses}`,
      max_wal_senders: `${control.maxWalSenders}`,
      max_prepared_transactions: `${control.maxPreparedXacts}`,
      max_locks_per_transaction: `${control.maxLocksPerXact}`,
      track_commit_timestamp: control.trackCommitTimestamp ? 'on' : 'off',
      wal_log_hints: control.walLogHints ? 'on' : 'off',
    });
    if (major >= 17) expect(checkpoint.walLevel).toBe(control.walLevel);
    else expect(checkpoint.walLevel).toBeUndefined();
    expect(Buffer.compare(writeControlFile(control), bytes)).toBe(0);
  });

  const controldata = join(process.env['NEON_PG_DIR'] ?? '', `v${major}/bin/pg_controldata`);
  test.skipIf(!existsSync(controldata))('pg_controldata (of NEON_PG_DIR) prints the same', async () => {
    const { stdout } = await promisify(execFile)(controldata, [postgres.dataDirectory], {
      env: { TZ: 'UTC', LC_ALL: 'C' },
    });
    expect(controlFileText(readControlFile(await file(CONTROL_FILE_PATH)))).toBe(stdout);
  });

  test('relation maps tell the files of mapped catalogs, and are written byte for byte', async () => {
    const rows = await postgres.sql(`select c.oid, pg_relation_filenode(c.oid) as file, c.relisshared,
      (select oid from pg_database where datname = 'postgres') as db
      from pg_class c where c.relfilenode = 0 and pg_relation_filenode(c.oid) is not null order by c.oid`);
    const pairs = (shared: boolean) => rows.filter(r => r.relisshared === shared).map(r => [r.oid, r.file]);
    for (const [shared, spcOid] of [
      [false, 1663],
      [true, 1664],
    ] as const) {
      const bytes = await file(relmapPath(spcOid, rows[0].db));
      expect(bytes.length).toBe(dialect.relmapFileSize);
      const mappings = readRelmap(bytes);
      const sorted = mappings.map(m => [m.mapOid, m.relNumber]).sort((a, b) => a[0]! - b[0]!);
      expect(sorted).toEqual(pairs(shared));
      expect(Buffer.compare(writeRelmap(mappings, bytes.length), bytes)).toBe(0);
    }
  });

  test('a prepared transaction has the file we would name and write', async () => {
    const [said] = await postgres.sql(`select p.transaction::text::int as xid, d.oid as db, r.oid as owner,
      (extract(epoch from p.prepared) * 1000000)::bigint - ${POSTGRES_EPOCH_US} as at
      from pg_prepared_xacts p join pg_database d on d.datname = p.database join pg_roles r on r.rolname = p.owner`);
    const names = await readdir(join(postgres.dataDirectory, TWOPHASE_DIR));
    expect(names).toEqual([twophaseFileName(said.xid, dialect)]);
    expect(parseTwophaseFileName(names[0]!, dialect)).toBe(said.xid);
    const bytes = await file(`${TWOPHASE_DIR}/${names[0]}`);
    const prepare = prepareOfTwophaseFile(bytes);
    expect(readTwophaseHeader(prepare)).toEqual({
      xid: said.xid,
      database: said.db,
      preparedAt: Number(said.at),
      owner: said.owner,
    });
    expect(Buffer.compare(twophaseFile(prepare), bytes)).toBe(0);
  });

  test('transaction status, read and rebuilt', async () => {
    const rows = await postgres.sql(`select x::int as xid, txid_status(x) as status
      from generate_series(3, txid_current() - 1) x`);
    await postgres.sql('checkpoint');
    const page = (await slruPages(SLRU_CLOG))[0]!;
    const names = ['in progress', 'committed', 'aborted'];
    // Postgres does not tell of xids that were frozen, nor here of the transaction that asked.
    const told = rows.filter(r => r.status !== null);
    const rebuilt = newPage();
    rebuilt.bytes.set(page.bytes);
    for (const { xid, status } of told) {
      expect([xid, names[clogStatus(page, xid)]]).toEqual([xid, status]);
      setClogStatuses(rebuilt, [xid], XID_IN_PROGRESS);
      expect(clogStatus(rebuilt, xid)).toBe(XID_IN_PROGRESS);
    }
    const xidsOf = (status: XidStatus) => told.filter(r => r.status === names[status]).map(r => r.xid);
    expect(xidsOf(XID_COMMITTED).length).toBeGreaterThan(2000);
    expect(xidsOf(XID_ABORTED).length).toBeGreaterThan(1);
    expect(xidsOf(XID_IN_PROGRESS).length).toBe(1);
    for (const status of [XID_COMMITTED, XID_ABORTED] as const) {
      for (const { pageno, xids } of groupXidsByPage(xidsOf(status), CLOG_XACTS_PER_PAGE)) {
        expect(pageno).toBe(0);
        setClogStatuses(rebuilt, xids, status);
      }
    }
    expectSamePages([rebuilt], [page]);
  });

  test('commit timestamps, read and rebuilt', async () => {
    await postgres.sql(`select pg_replication_origin_create('elsewhere')`);
    await postgres.session(async client => {
      await client.query(`select pg_replication_origin_session_setup('elsewhere')`);
      await client.query('begin');
      await client.query(`select pg_replication_origin_xact_setup('0/1234', '2021-02-03 04:05:06.789+00')`);
      await client.query('insert into t values (-6, 0)');
      await client.query('commit');
    });
    const rows = await postgres.sql(`select x::int as xid, o.roident as node,
      (extract(epoch from o.timestamp) * 1000000)::bigint - ${POSTGRES_EPOCH_US} as time
      from generate_series((select oldest_commit_ts_xid::text::int from pg_control_checkpoint()),
        (txid_current() - 1)::int) x, lateral pg_xact_commit_timestamp_origin(x::text::xid) o`);
    await postgres.sql('checkpoint');
    const pages = await slruPages(SLRU_COMMIT_TS);
    const known = rows.filter(r => r.time !== null);
    expect(known.length).toBeGreaterThan(4);
    expect(known.some(r => r.node !== 0)).toBe(true);
    const rebuilt = pages.map(() => newPage());
    for (const row of known) {
      const { pageno } = groupXidsByPage([row.xid], COMMIT_TS_XACTS_PER_PAGE)[0]!;
      expect(commitTs(pages[pageno]!, row.xid)).toEqual({ time: Number(row.time), nodeId: row.node });
      setCommitTs(rebuilt[pageno]!, [row.xid], Number(row.time), row.node);
    }
    for (const row of rows.filter(r => r.time === null)) {
      expect(commitTs(pages[Math.floor(row.xid / COMMIT_TS_XACTS_PER_PAGE)]!, row.xid).time).toBe(0);
    }
    // What committed after the question was asked is not in the answer.
    const last = rows.at(-1).xid + 1;
    setCommitTs(pages[Math.floor(last / COMMIT_TS_XACTS_PER_PAGE)]!, [last], 0, 0);
    expectSamePages(rebuilt, pages);
  });

  test('multixacts, read and rebuilt with the next offset', async () => {
    await postgres.sql('checkpoint');
    const [{ next, offset }] = await postgres.sql(`select next_multixact_id::text::int as next,
      next_multi_offset::text::bigint as offset from pg_control_checkpoint()`);
    expect(next).toBeGreaterThan(2048);
    const rows = await postgres.sql(`select m::int as multi, (select json_agg(json_build_array(g.xid, g.mode))
      from pg_get_multixact_members(m::text::xid) g) as members from generate_series(1, ${next - 1}) m`);
    const offsets = await slruPages(SLRU_MULTIXACT_OFFSETS);
    const members = await slruPages(SLRU_MULTIXACT_MEMBERS);
    const builtOffsets = offsets.map(() => newPage());
    const builtMembers = members.map(() => newPage());
    let at = 1;
    for (const { multi, members: said } of rows) {
      const list = said.map(([xid, mode]: [string, string]) => ({
        xid: Number(xid),
        status: MULTIXACT_STATUS.indexOf(mode),
      }));
      expect(multiXactOffset(offsets[offsetPageOf(multi)]!, multi)).toBe(at);
      expect(
        list.map((_: unknown, i: number) => multiXactMember(members[memberPageOf(at + i)]!, at + i)),
      ).toEqual(list);

      const after = nextMultiXactId(multi);
      setMultiXactOffset(builtOffsets[offsetPageOf(multi)]!, multi, at);
      setMultiXactOffset(builtOffsets[offsetPageOf(after)]!, after, nextMemberOffset(at, list.length));
      for (const { pageno, first, count } of groupMembersByPage(at, list.length)) {
        setMultiXactMembers(builtMembers[pageno]!, at, list, first, count);
      }
      at = nextMemberOffset(at, list.length);
    }
    expect(at).toBe(Number(offset));
    expect(members.length).toBeGreaterThan(2);
    expectSamePages(builtOffsets, offsets);
    expectSamePages(builtMembers, members);
  });

  test('segments are named as Postgres names them', async () => {
    const size = 4 * 1024 * 1024;
    for (const text of ['0/1', '0/400000', '0/7FFFFF', '1/23456789', 'FFFF/FFC00000', '1FFFFF/FFFFFFF8']) {
      const lsn = parseLsn(text);
      const [said] = await postgres.sql(`select pg_walfile_name('${text}') as name`);
      // Up to 16 it speaks of the byte before.
      const segno = major >= 17 ? segmentOf(lsn, size) : segmentBefore(lsn, size);
      expect(segmentFileName(1, segno, size)).toBe(said.name);
      expect(parseSegmentFileName(said.name, size)).toEqual({ tli: 1, segno, partial: false });
    }
  });

  test('page checksums are those that Postgres computes', async () => {
    const [{ sums }] = await postgres.sql(`select json_agg(page_checksum(get_raw_page('t', b), b)) as sums
      from generate_series(0, pg_relation_size('t') / 8192 - 1) b`);
    const raw = await postgres.sql(`select get_raw_page('t', b::int) as page
      from generate_series(0, pg_relation_size('t') / 8192 - 1) b`);
    raw.forEach(({ page: bytes }, blkno) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const signed = (pageChecksum(view, 0, blkno) << 16) >> 16;
      expect(signed).toBe(sums[blkno]);
    });
  });

  test('every page on disk bears its checksum; a control file of ours turns them off', async () => {
    await postgres.stop();
    let pages = 0;
    let fresh = 0;
    for (const directory of [
      'global',
      ...(await readdir(join(postgres.dataDirectory, 'base'))).map(d => `base/${d}`),
    ]) {
      for (const name of await readdir(join(postgres.dataDirectory, directory))) {
        if (!/^\d+(_[a-z]+)?$/.test(name)) continue;
        const bytes = new Uint8Array(await file(`${directory}/${name}`));
        for (let blkno = 0; blkno < bytes.length / BLCKSZ; blkno++) {
          const page = pageOver(bytes.slice(blkno * BLCKSZ, (blkno + 1) * BLCKSZ));
          expect(pageChecksumHolds(page, blkno), `${directory}/${name} ${blkno}`).toBe(true);
          pages++;
          if (pageIsNew(page)) {
            fresh++;
            continue;
          }
          expect(pageChecksumHolds(page, blkno + 1)).toBe(false);
          const stored = page.view.getUint16(8, true);
          page.view.setUint16(8, 0x5555, true);
          setPageChecksum(page, blkno);
          expect(page.view.getUint16(8, true)).toBe(stored);
        }
      }
    }
    expect(pages - fresh).toBeGreaterThan(500);

    const path = join(postgres.dataDirectory, CONTROL_FILE_PATH);
    const control = readControlFile(await readFile(path));
    expect(control.state).toBe(1);
    await writeFile(path, writeControlFile({ ...control, dataChecksumVersion: 0 }));
    await postgres.start();
    expect(await postgres.sql('show data_checksums')).toEqual([{ data_checksums: 'off' }]);
  });
});

function expectSamePages(ours: readonly Page[], theirs: readonly Page[]): void {
  expect(ours.length).toBe(theirs.length);
  for (const [i, page] of ours.entries()) expect(Buffer.compare(page.bytes, theirs[i]!.bytes)).toBe(0);
}

const pick = (row: Record<string, unknown>, names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(names.map(name => [name, row[name]]));
