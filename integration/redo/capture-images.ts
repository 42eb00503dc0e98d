// Makes `integration/fixtures/images-*.json.zst`: records with packed full-page images in every compression, as a
// Postgres that knows them all wrote them, and what that Postgres itself unpacks from each (pg_walinspect's
// pg_get_wal_block_info, 16 and later). The stock builds among the packages know pglz alone, so these come from
// Neon's builds. Run: NEON_PG_DIR=... node integration/redo/capture-images.ts

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import type { Client } from 'pg';
import { type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import type { StoredImage } from './image-samples.ts';
import { readLog } from './log.ts';
import { NEON_MAJORS, neonWork } from './oracle.ts';
import { all, sqlOf } from './statements.ts';

const METHODS = ['pglz', 'lz4', 'zstd'];
const FIRST_MAJOR_TOLD = 16;
/** Of each kind of record and image, the first so many. */
const SAMPLES_EACH = 1;
const RECORD_BYTES_MAX = 6000;

const WORK = (method: string): string[] => [
  `set wal_compression = ${method}`,
  `create table ${method} (id int primary key, v text, p point, n int[])`,
  `insert into ${method} select i, repeat(chr(97 + i % 26), i % 90), point(i, i % 7), array[i % 50, i % 7] from generate_series(1, 3000) i`,
  `create index on ${method} using hash (id)`,
  `create index on ${method} using gin (n)`,
  `create index on ${method} using gist (p)`,
  `create index on ${method} using spgist (v)`,
  `create index on ${method} using brin (id)`,
  'checkpoint',
  `update ${method} set v = v || 'x' where id % 9 = 0`,
  `delete from ${method} where id % 11 = 0`,
  `vacuum ${method}`,
  `insert into ${method} select i, md5(i::text), point(i, 1), array[i] from generate_series(3001, 3300) i`,
];

interface Told {
  readonly start: Lsn;
  readonly block: number;
  readonly page: Uint8Array;
}

/** What Postgres says of the images between two positions: some of each kind. */
async function told(client: Client, from: string, to: string): Promise<Told[]> {
  const { rows } = await client.query(
    `select * from (
       select start_lsn, block_id, block_fpi_data, row_number() over (
                partition by resource_manager, record_type, block_id, block_fpi_info order by start_lsn) as nth
         from pg_get_wal_block_info($1, $2)
        where record_length < ${RECORD_BYTES_MAX} and array_to_string(block_fpi_info, ' ') like '%COMPRESS%') as images
      where nth <= ${SAMPLES_EACH}`,
    [from, to],
  );
  return rows.map(row => ({
    start: parseLsn(row.start_lsn),
    block: row.block_id,
    page: row.block_fpi_data,
  }));
}

async function capture(major: StockMajor): Promise<void> {
  const { bin } = neonWork(major).build!;
  const settings = {
    autovacuum: 'off',
    shared_preload_libraries: 'neon_rmgr',
    wal_consistency_checking: 'all,neon',
    wal_keep_size: '1GB',
  };
  const postgres = await StockPostgres.create(major, { bin });
  try {
    await postgres.start(settings);
    const images: Told[] = [];
    await postgres.session(async client => {
      await client.query('create extension pg_walinspect');
      for (const method of METHODS) {
        const position = async (): Promise<string> =>
          (await client.query('select pg_current_wal_flush_lsn() as lsn')).rows[0].lsn;
        await client.query('select pg_switch_wal()');
        const from = await position();
        await all(sqlOf(client), WORK(method));
        images.push(...(await told(client, from, await position())));
      }
    });
    await postgres.stop();
    store(major, postgres, images);
  } finally {
    await postgres.destroy();
  }
}

function store(major: StockMajor, postgres: StockPostgres, images: readonly Told[]): void {
  const dialect = dialectOfMajor(major, 'neon');
  const samples: StoredImage[] = [];
  readLog(join(postgres.dataDirectory, 'pg_wal'), dialect, 0x1000000 as Lsn, record => {
    for (const { block, page } of images.filter(image => image.start === record.lsn)) {
      const bytes = record.bytes.subarray(record.offset, record.offset + record.totalLength);
      samples.push({
        record: Buffer.from(bytes).toString('base64'),
        block,
        sha256: createHash('sha256').update(page).digest('hex'),
      });
    }
  });
  if (samples.length !== images.length)
    throw new Error(`${images.length - samples.length} records not found`);
  const file = join(import.meta.dirname, `../fixtures/images-${major}.json.zst`);
  const packed = zstdCompressSync(JSON.stringify({ major, samples }), { params: { 100: 19 } });
  writeFileSync(file, packed);
  console.log(`${file}: ${samples.length} images, ${packed.length} bytes`);
}

for (const major of NEON_MAJORS) if (major >= FIRST_MAJOR_TOLD) await capture(major);
