import { describe, expect, test } from 'vitest';
import { BLCKSZ } from '../page.ts';
import { Cluster, databaseDirectory, parseRelationPath } from './cluster.ts';

const page = (byte: number): Uint8Array => new Uint8Array(BLCKSZ).fill(byte);

describe('paths of a data directory', () => {
  test.each([
    ['base/5/16384', { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 0, segno: 0 }],
    ['base/5/16384_fsm', { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 1, segno: 0 }],
    ['base/5/16384_vm.2', { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 2, segno: 2 }],
    ['base/5/16384_init', { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 3, segno: 0 }],
    ['global/1262', { spcOid: 1664, dbOid: 0, relNumber: 1262, forkNum: 0, segno: 0 }],
    [
      'pg_tblspc/16400/PG_17_202406281/5/16401.1',
      { spcOid: 16400, dbOid: 5, relNumber: 16401, forkNum: 0, segno: 1 },
    ],
    ['pg_tblspc/16400/5/16401', { spcOid: 16400, dbOid: 5, relNumber: 16401, forkNum: 0, segno: 0 }],
  ])('%s is a relation', (path, tag) => {
    expect(parseRelationPath(path)).toEqual(tag);
  });

  test.each([
    'base/5/PG_VERSION',
    'base/5/pg_internal.init',
    'base/5/t3_16384',
    'base/5/16384_old',
    'base/16384',
    'global/pg_control',
    'pg_xact/0000',
    '16384',
  ])('%s is none', path => {
    expect(parseRelationPath(path)).toBeUndefined();
  });

  test('of databases', () => {
    expect([databaseDirectory(1664, 0), databaseDirectory(1663, 5), databaseDirectory(16400, 5)]).toEqual([
      'global',
      'base/5',
      'pg_tblspc/16400/5',
    ]);
  });
});

describe('a cluster', () => {
  test('takes over what replay has a use for, and says what it has none for', () => {
    const cluster = new Cluster();
    const text = (s: string): Uint8Array => new TextEncoder().encode(s);
    expect(cluster.loadFile('PG_VERSION', text('17\n'))).toBe(true);
    expect(cluster.loadFile('backup_label', text('START WAL LOCATION: 0/2000028'))).toBe(true);
    expect(cluster.loadFile('global/pg_control', page(1))).toBe(true);
    expect(cluster.loadFile('base/5/pg_filenode.map', page(2))).toBe(true);
    expect(cluster.loadFile('pg_twophase/000002F1', text('state'))).toBe(true);
    expect(cluster.loadFile('pg_twophase/00000001000002F2', text('state'))).toBe(true);
    expect(cluster.loadFile('base/5/16384', page(3))).toBe(true);
    for (const name of [
      'postmaster.opts',
      'pg_xact/junk',
      'base/5/pg_internal.init',
      'pg_stat/global.stat',
    ]) {
      expect([name, cluster.loadFile(name, page(0))]).toEqual([name, false]);
    }
    expect(cluster.version).toBe('17');
    expect(cluster.backupLabel).toContain('0/2000028');
    expect([...cluster.relmaps.keys()]).toEqual(['base/5']);
    expect([...cluster.twophase.keys()]).toEqual([0x2f1, 0x2f2]);
  });

  test('keeps SLRU pages by their number, over segments', () => {
    const cluster = new Cluster();
    cluster.loadFile('pg_xact/0001', Uint8Array.from([...page(7), ...page(8)]));
    cluster.loadFile('pg_multixact/offsets/0000', page(9));
    expect([...cluster.slrus[0]!.keys()]).toEqual([32, 33]);
    expect(cluster.slruPage(0, 33).bytes[0]).toBe(8);
    expect(cluster.slruPage(2, 0).bytes[0]).toBe(9);
    expect(cluster.slruPage(0, 99).bytes).toEqual(page(0));
  });

  test('tells relations apart by tablespace, database, number and fork, however often they are asked for', () => {
    const cluster = new Cluster();
    const places: [number, number, number, number][] = [
      [1663, 5, 16384, 0],
      [1663, 5, 16384, 1],
      [1663, 5, 16384 + 64, 0],
      [1663, 5, 16384 + (1 << 30), 0],
      [1663, 6, 16384, 0],
      [16400, 5, 16384, 0],
    ];
    const files = places.map(place => cluster.findOrCreate(...place));
    expect(new Set(files).size).toBe(places.length);
    for (let round = 0; round < 3; round++) {
      for (const [i, place] of places.entries()) expect(cluster.find(...place)).toBe(files[i]);
    }
    expect(cluster.find(1663, 5, 16385, 0)).toBeUndefined();
    expect([...cluster.relations()]).toHaveLength(places.length);
  });

  test('forgets dropped relations at once, all their forks', () => {
    const cluster = new Cluster();
    for (const fork of [0, 1, 2, 3]) cluster.findOrCreate(1663, 5, 16384, fork);
    const other = cluster.findOrCreate(1663, 5, 16385, 0);
    expect(cluster.find(1663, 5, 16384, 0)).toBeDefined();
    cluster.drop({ spcOid: 1663, dbOid: 5, relNumber: 16384 });
    for (const fork of [0, 1, 2, 3]) expect(cluster.find(1663, 5, 16384, fork)).toBeUndefined();
    expect(cluster.find(1663, 5, 16385, 0)).toBe(other);
    cluster.dropDatabase(1663, 5);
    expect(cluster.find(1663, 5, 16385, 0)).toBeUndefined();
  });

  test('copies a database as it stands, over whatever was there', () => {
    const cluster = new Cluster();
    cluster.loadFile('base/5/16384', page(1));
    cluster.loadFile('base/5/pg_filenode.map', page(2));
    cluster.loadFile('base/6/999', page(3));
    cluster.copyDatabase({ spcOid: 1663, dbOid: 5 }, { spcOid: 1663, dbOid: 6 });
    cluster.find(1663, 5, 16384, 0)!.page(0)!.bytes[0] = 99;
    cluster.relmaps.get('base/5')![0] = 99;
    expect(cluster.find(1663, 6, 16384, 0)!.page(0)!.bytes[0]).toBe(1);
    expect(cluster.relmaps.get('base/6')![0]).toBe(2);
    expect(cluster.find(1663, 6, 999, 0)).toBeUndefined();
  });
});
