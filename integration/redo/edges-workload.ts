// Records that only a cluster out of the ordinary writes, on segments of 1 MiB: GiST's own LSNs, which take
// wal_level minimal, and the mark over a record that a crash has cut short, which takes a crash and a lost segment.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { StockPostgres } from '../pg/stock.ts';
import { all, sqlOf } from './statements.ts';

export const SEGMENT_MIB = 1;
/** Bytes of a message that no segment holds whole. */
const MESSAGE_BYTES = 1_500_000;

/**
 * Under wal_level minimal what a transaction has made is not logged but at its end: page splits of a GiST index
 * take their LSNs from records of their own. wal_skip_threshold has the relations themselves logged then.
 */
export async function minimalWorkload(postgres: StockPostgres): Promise<void> {
  await postgres.session(client =>
    all(sqlOf(client), [
      'begin',
      'create table g (id int, p point)',
      'create index on g using gist (p)',
      'insert into g select i, point(i % 71, i % 97) from generate_series(1, 2000) i',
      'commit',
      'insert into g select i, point(i % 71, i % 97) from generate_series(1, 500) i',
    ]),
  );
}

/** A record begun in one segment, its rest lost with the next: what follows says so and goes on. */
export async function crashWorkload(postgres: StockPostgres): Promise<void> {
  const segment = async (): Promise<string> => {
    const [row] = await postgres.sql('select pg_walfile_name(pg_current_wal_insert_lsn()) as name');
    return row.name;
  };
  await postgres.sql('create table kept as select generate_series(1, 2000) as i');
  await postgres.sql('checkpoint');
  const before = await segment();
  await postgres.sql(`select pg_logical_emit_message(true, 'cut', repeat('x', ${MESSAGE_BYTES}))`);
  const after = await segment();
  if (before === after) throw new Error(`a message of ${MESSAGE_BYTES} bytes fits in segment ${before}`);
  await postgres.stop('SIGQUIT');
  rmSync(join(postgres.dataDirectory, 'pg_wal', after));
  await postgres.start();
  await postgres.sql('insert into kept select generate_series(1, 2000)');
  await postgres.sql('delete from kept where i % 3 = 0');
}
