import { beforeEach, describe, expect, test } from 'vitest';
import { SMALL_CHECKPOINT, SMALL_CONTROL, SmallCluster } from '../../integration/pageserver/small-cluster.ts';
import { makeTwophase } from '../../integration/pageserver/twophase-spec.ts';
import { Builder, concatBytes, fromUtf8, utf8 } from '../base/bytes.ts';
import { lsn as asLsn, formatLsn } from '../base/lsn.ts';
import { readTar } from '../base/tar.ts';
import { checkpointBytes, readCheckpoint } from '../xlog/checkpoint.ts';
import { type ControlFile, readControlFile } from '../xlog/control-file.ts';
import { crc32c } from '../xlog/crc32c.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { pg14Neon, pg15Neon, pg17Neon } from '../xlog/dialects/neon.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';
import { type RecordSpec, WalWriter } from '../xlog/writer.ts';
import { readReplorigins } from './backup-files.ts';
import { type BackupOptions, backupArchive } from './basebackup.ts';
import type { PgData } from './pgdata.ts';

const SEGMENT = 16 * 1024 * 1024;

interface Archive {
  readonly names: string[];
  readonly files: Map<string, Uint8Array>;
  text(path: string): string;
  control(): ControlFile;
}

async function backup(pgdata: PgData, over: Partial<BackupOptions> = {}): Promise<Archive> {
  const lsn = pgdata.timeline.lastRecordLsn;
  const names: string[] = [];
  const files = new Map<string, Uint8Array>();
  const options = { lsn, full: false, replica: false, nowMs: 1_700_000_000_000, ...over };
  for await (const { name, bytes, isDirectory } of readTar(backupArchive(pgdata, options))) {
    names.push(isDirectory ? `${name}/` : name);
    if (!isDirectory) files.set(name, bytes);
  }
  return {
    names,
    files,
    text: path => fromUtf8(files.get(path)!),
    control: () => readControlFile(files.get('global/pg_control')!),
  };
}

/** A record of a manager whose main data is what the builder says. */
const spec = (rmid: number, info: number, main: Builder): RecordSpec => ({ rmid, info, main: main.finish() });

const create = (spcOid: number, dbOid: number, relNumber: number, forkNum: number): RecordSpec =>
  spec(2, 0x10, new Builder().u32le(spcOid).u32le(dbOid).u32le(relNumber).u32le(forkNum));

const relmap = (spcOid: number, dbOid: number): RecordSpec =>
  spec(7, 0x00, new Builder().u32le(dbOid).u32le(spcOid).u32le(524).raw(new Uint8Array(524).fill(dbOid)));

function message(path: string, contents: Uint8Array): RecordSpec {
  const prefix = utf8(`neon-file:${path}\0`);
  const main = new Builder().u32le(5).u32le(0).u64le(BigInt(prefix.length)).u64le(BigInt(contents.length));
  return spec(21, 0x00, main.raw(prefix).raw(contents));
}

const origin = (id: number, lsn: bigint): RecordSpec =>
  spec(19, 0x00, new Builder().u64le(lsn).u16le(id).u8(1));

function slot(restartLsn: number): Uint8Array {
  const bytes = new Uint8Array(200);
  new DataView(bytes.buffer).setBigUint64(96, BigInt(restartLsn), true);
  return bytes;
}

let cluster: SmallCluster;
let lsn: number;
/** The records one after the other, a hundred bytes apart. */
async function take(...specs: RecordSpec[]): Promise<void> {
  for (const s of specs) await cluster.take(s, (lsn += 104));
}

beforeEach(async () => {
  cluster = await SmallCluster.make(pg17Neon);
  lsn = 0x1500_0000;
});

describe('a base backup', () => {
  test('holds directories first, the control file nearly last, and no relations', async () => {
    await take(
      relmap(1664, 0),
      relmap(1663, 1),
      relmap(1663, 5),
      create(1663, 5, 16384, 0),
      create(1663, 5, 16384, 1),
    );
    const { names, text } = await backup(cluster.pgdata);
    expect(names.slice(0, 4)).toEqual([
      'global/',
      'pg_wal/archive_status/',
      'pg_wal/summaries/',
      'pg_commit_ts/',
    ]);
    expect(names.filter(n => n.endsWith('/')).length).toBe(24);
    expect(names.slice(23, 26)).toEqual(['pg_hba.conf', 'pg_ident.conf', 'postgresql.auto.conf']);
    expect(names.slice(26)).toEqual([
      'base/1/PG_VERSION',
      'base/1/pg_filenode.map',
      'base/5/',
      'base/5/PG_VERSION',
      'base/5/pg_filenode.map',
      'PG_VERSION',
      'global/pg_filenode.map',
      'neon.signal',
      'zenith.signal',
      'global/pg_control',
      'pg_wal/000000010000000000000015',
    ]);
    expect(text('PG_VERSION')).toBe('17\n');
    expect(text('pg_hba.conf')).toContain('trust');
  });

  test('names the record before where it is known, and says so where it is not', async () => {
    await take(create(1663, 5, 16384, 0), create(1663, 5, 16385, 0));
    const { pgdata, memory } = cluster;
    expect((await backup(pgdata)).text('neon.signal')).toBe(`PREV LSN: ${formatLsn(lsn - 104)}`);
    expect((await backup(pgdata)).text('zenith.signal')).toBe(`PREV LSN: ${formatLsn(lsn - 104)}`);
    expect((await backup(pgdata, { lsn: lsn - 104 })).text('neon.signal')).toBe('PREV LSN: invalid');
    expect((await backup(pgdata, { lsn: lsn - 104, prevLsn: 0x1234 })).text('neon.signal')).toBe(
      'PREV LSN: 0/1234',
    );
    await expect(backup(pgdata, { prevLsn: 0x1234 })).rejects.toThrow('prev_lsn');
    Object.assign(memory, { ancestorLsn: lsn - 104 });
    expect((await backup(pgdata, { lsn: lsn - 104 })).text('neon.signal')).toBe('PREV LSN: none');
  });

  test('has a control file of a cluster shut down, that goes on at this LSN', async () => {
    await take(create(1663, 5, 16384, 0));
    const { control } = await backup(cluster.pgdata);
    expect(control()).toMatchObject({
      state: 1,
      checkPoint: 0,
      maxConnections: 100,
      systemIdentifier: SMALL_CONTROL.systemIdentifier,
    });
    expect(control().checkPointCopy).toEqual({ ...SMALL_CHECKPOINT, redo: lsn });
  });

  test.each([
    ['inside a page', 0x1500_2100, 0x1500_2100],
    ['at a page', 0x1500_4000, 0x1500_4018],
    ['at a segment', 0x1600_0000, 0x1600_0028],
  ])('has a segment in which a reader finds the LSN: %s', async (_, end, at) => {
    await cluster.take(create(1663, 5, 16384, 0), end);
    const { files, control, names } = await backup(cluster.pgdata);
    expect(control().checkPointCopy.redo).toBe(at);
    const segment = files.get(names[names.length - 1]!)!;
    expect(segment.length).toBe(SEGMENT);
    // What a compute writes there next is read from the segment's or the page's start.
    const writer = new WalWriter({
      start: asLsn(at),
      dialect: pg17,
      systemId: SMALL_CONTROL.systemIdentifier,
    });
    writer.append({ rmid: 0, info: 0x20, main: new Uint8Array(40) });
    segment.set(writer.take(), at % SEGMENT);
    const page = Math.floor(at / 8192) * 8192;
    const reader = new WalReader({ start: asLsn(page), dialect: pg17, resync: true });
    reader.push(segment.subarray(page % SEGMENT));
    const record = new WalRecord();
    expect(reader.next(record)).toBe(true);
    expect(record.lsn).toBe(at);
  });

  test('gives unlogged relations their init fork, under its name and the main one', async () => {
    await take(create(1663, 5, 16384, 0), create(1663, 5, 16384, 3), create(1663, 5, 16390, 0));
    const { names } = await backup(cluster.pgdata);
    expect(names.filter(n => n.startsWith('base/5/'))).toEqual([
      'base/5/',
      'base/5/16384_init',
      'base/5/16384',
    ]);
  });

  test('hands back files of computes, but not those that a replica or a crash must not see', async () => {
    await take(
      message('pg_replslot/s1/state', slot(0x2000)),
      message('pg_replslot/s2/state', slot(0x1000)),
      message('pg_logical/mappings/map-1', utf8('m')),
      message('pg_logical/replorigin_checkpoint', utf8('old')),
      message('pg_stat/pgstat.stat', utf8('stats')),
      message('gone', utf8('x')),
      message('gone', new Uint8Array(0)),
      message('../escape', utf8('x')),
      message('/etc/passwd', utf8('x')),
    );
    const { files } = await backup(cluster.pgdata);
    const known = [
      'pg_logical/mappings/map-1',
      'pg_replslot/s1/state',
      'pg_replslot/s2/state',
      'restart.lsn',
    ];
    for (const path of known) expect(files.has(path), path).toBe(true);
    for (const path of [
      'pg_logical/replorigin_checkpoint',
      'pg_stat/pgstat.stat',
      'gone',
      '../escape',
      '/etc/passwd',
    ])
      expect(files.has(path), path).toBe(false);
    expect(new DataView(files.get('restart.lsn')!.buffer).getBigUint64(0, true)).toBe(0x1000n);
    const replica = await backup(cluster.pgdata, { replica: true });
    expect(
      [...replica.files.keys()].filter(path => path.startsWith('pg_replslot') || path === 'restart.lsn'),
    ).toEqual([]);
    expect(replica.files.has('pg_logical/mappings/map-1')).toBe(true);
  });

  test('has statistics at the very end of a shutdown checkpoint, and nowhere else', async () => {
    await take(message('pg_stat/pgstat.stat', utf8('stats')));
    await take({ rmid: 0, info: 0x00, main: checkpointBytes(pg17.controlFile, SMALL_CHECKPOINT) });
    const atShutdown = lsn;
    expect((await backup(cluster.pgdata)).files.has('pg_stat/pgstat.stat')).toBe(true);
    await take(create(1663, 5, 16384, 0));
    expect((await backup(cluster.pgdata)).files.has('pg_stat/pgstat.stat')).toBe(false);
    expect((await backup(cluster.pgdata, { lsn: atShutdown })).files.has('pg_stat/pgstat.stat')).toBe(true);
    await take({ rmid: 0, info: 0x10, main: checkpointBytes(pg17.controlFile, SMALL_CHECKPOINT) });
    expect((await backup(cluster.pgdata)).files.has('pg_stat/pgstat.stat')).toBe(false);
  });

  test('knows how far replication came', async () => {
    await take(origin(2, 0x77n), origin(1, 2n ** 63n), spec(19, 0x10, new Builder().u16le(2)), origin(9, 5n));
    const { files } = await backup(cluster.pgdata);
    expect(readReplorigins(files.get('pg_logical/replorigin_checkpoint')!)).toEqual(
      new Map([
        [1, 2n ** 63n],
        [9, 5n],
      ]),
    );
  });

  test('leaves SLRUs to be asked for when it is told to, but never commit timestamps', async () => {
    await take(spec(3, 0x00, new Builder().u64le(0n)), spec(18, 0x00, new Builder().u64le(3n)));
    expect((await backup(cluster.pgdata)).files.get('pg_xact/0000')!.length).toBe(8192);
    const lazy = await backup(cluster.pgdata, { lazySlruDownload: true });
    expect(lazy.files.has('pg_xact/0000')).toBe(false);
    expect(lazy.files.get('pg_commit_ts/0000')!.length).toBe(4 * 8192);
    expect(
      (await backup(cluster.pgdata, { lazySlruDownload: true, full: true })).files.has('pg_xact/0000'),
    ).toBe(true);
  });

  test('is refused when relations lie outside the data directory', async () => {
    await take(create(17000, 5, 16384, 0));
    await expect(backup(cluster.pgdata)).rejects.toThrow('tablespace 17000');
    await take(spec(4, 0x20, new Builder().u32le(5).u32le(1).u32le(17000)));
    expect((await backup(cluster.pgdata)).files.has('PG_VERSION')).toBe(false);
  });
});

test.each([
  { dialect: pg14Neon, path: 'pg_twophase/00000320' },
  { dialect: pg15Neon, path: 'pg_twophase/00000320' },
  { dialect: pg17Neon, path: 'pg_twophase/0000000000000320' },
])('prepared transactions are named as the major wants them: $path', async ({ dialect, path }) => {
  cluster = await SmallCluster.make(dialect);
  const prepare = makeTwophase(800, dialect.major >= 15);
  await cluster.take({ rmid: 1, info: 0x10, xid: 800, main: prepare }, 0x1500_1000);
  const { files } = await backup(cluster.pgdata);
  const file = files.get(path)!;
  expect(file.subarray(0, -4)).toEqual(prepare);
  expect(new DataView(file.buffer, file.byteOffset).getUint32(prepare.length, true)).toBe(crc32c(prepare));
});

describe('a full backup', () => {
  test.each([
    ['inside a page', 0x1500_2100, 1],
    ['where the record crosses a page', 0x1500_3fb0, 1],
    ['where the record crosses a segment', 0x15ff_ffb0, 2],
    ['at a segment', 0x1600_0000, 1],
  ])('ends in the checkpoint that its control file names: %s', async (_, end, segments) => {
    await cluster.take(create(1663, 5, 16384, 0), end);
    const { names, files, control } = await backup(cluster.pgdata, { full: true });
    const wal = names.filter(n => n.startsWith('pg_wal/0'));
    expect(wal.length).toBe(segments);
    const { checkPoint, checkPointCopy, state } = control();
    expect(state).toBe(1);
    expect(checkPointCopy.redo).toBe(checkPoint);
    const reader = new WalReader({ start: checkPoint, dialect: pg17 });
    reader.push(concatBytes(wal.map(name => files.get(name)!)).subarray(checkPoint % SEGMENT));
    const record = new WalRecord();
    expect(reader.next(record)).toBe(true);
    expect(record).toMatchObject({ lsn: checkPoint, rmid: 0, info: 0 });
    expect(readCheckpoint(record.view, record.mainOffset, pg17.controlFile)).toEqual(checkPointCopy);
    expect(() => reader.next(record)).toThrow('zeros');
  });

  test('holds every fork, unlogged ones from their init fork', async () => {
    await take(
      create(1663, 5, 16384, 0),
      create(1663, 5, 16384, 1),
      create(1663, 5, 16385, 0),
      create(1663, 5, 16385, 3),
    );
    const { names } = await backup(cluster.pgdata, { full: true });
    expect(names.filter(n => n.startsWith('base/5/1'))).toEqual([
      'base/5/16384',
      'base/5/16384_fsm',
      'base/5/16385_init',
      'base/5/16385',
    ]);
    expect(names).toContain('postgresql.conf');
  });

  test('has the parameters of the last server', async () => {
    const main = new Builder().u32le(77).u32le(9).u32le(11).u32le(13).u32le(65).u32le(2).u8(1).u8(1).zeros(2);
    await take({ rmid: 0, info: 0x60, main: main.finish() });
    const full = (await backup(cluster.pgdata, { full: true })).control();
    expect(full).toMatchObject({
      maxConnections: 77,
      maxPreparedXacts: 13,
      walLevel: 2,
      trackCommitTimestamp: true,
    });
    expect((await backup(cluster.pgdata)).control()).toMatchObject({
      maxConnections: 100,
      trackCommitTimestamp: false,
    });
  });
});
