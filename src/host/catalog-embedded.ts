// The catalog in a directory: PGlite, Postgres compiled to run inside this process. The only import of it.
//
// PGlite writes through to files at each commit and asks for no fsync, so a commit outlives the process (kill -9) by
// itself and a loss of power only with what is done here: the WAL segments that changed are synced after every commit.
// Its data files are written when it closes (it has no checkpointer), and synced then, all of them.

import { type Dirent, existsSync, statSync } from 'node:fs';
import { mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { Fault } from '../base/fault.ts';
import type { Catalog, CatalogMigration } from '../base/ports.ts';
import { type Sql, sqlCatalog } from './catalog-sql.ts';

/** Its major, for a directory that another build made. */
const PG_VERSION_FILE = 'PG_VERSION';
/** WAL is given back by a checkpoint, which PGlite takes only when told. */
const COMMITS_PER_CHECKPOINT = 5000;

/** In memory without a directory. */
export async function embeddedCatalog(
  directory: string | undefined,
  migrations: readonly CatalogMigration[],
): Promise<Catalog> {
  if (directory !== undefined) await mkdir(directory, { recursive: true });
  const database = await openDatabase(directory);
  return sqlCatalog(sqlOf(database, directory), migrations);
}

async function openDatabase(directory: string | undefined): Promise<PGlite> {
  try {
    return await PGlite.create(directory === undefined ? {} : { dataDir: directory });
  } catch (error) {
    const there = directory !== undefined && existsSync(join(directory, PG_VERSION_FILE));
    throw new Fault(
      'catalog-unavailable',
      `the embedded catalog in ${directory} cannot be opened: ${(error as Error).message}`,
      {
        hint: there
          ? 'Another build may have made it; keep the directory, and start the version that did.'
          : 'Is the directory writable, and the disk not full?',
        cause: error,
      },
    );
  }
}

function sqlOf(database: PGlite, directory: string | undefined): Sql {
  let syncedMs = Date.now();
  let commits = 0;
  return {
    async query(text, values = []) {
      const { rows } = await database.query<Record<string, unknown>>(text, [...values]);
      return rows;
    },
    async transaction(work) {
      await database.transaction(tx =>
        work({
          query: async (text, values = []) =>
            (await tx.query<Record<string, unknown>>(text, [...values])).rows,
        }),
      );
    },
    async settle() {
      if (directory === undefined) return;
      const since = syncedMs;
      syncedMs = Date.now();
      await syncSegments(join(directory, 'pg_wal'), since);
      if (++commits % COMMITS_PER_CHECKPOINT !== 0) return;
      await database.query('CHECKPOINT');
      await syncTree(directory);
    },
    async close() {
      await database.close();
      if (directory !== undefined) await syncTree(directory);
    },
  };
}

/** Clocks of files are coarse: what changed shortly before counts as changed. */
const COARSE_MS = 2000;

async function syncSegments(directory: string, sinceMs: number): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.isFile() && found.mtimeMs >= sinceMs - COARSE_MS) await syncPath(path);
  }
}

async function syncTree(directory: string): Promise<void> {
  const entries: Dirent[] = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isFile() || entry.isDirectory()) await syncPath(join(entry.parentPath, entry.name));
  }
}

async function syncPath(path: string): Promise<void> {
  const directory = (await stat(path)).isDirectory();
  const handle = await open(path, directory ? 'r' : 'r+');
  try {
    await (directory ? handle.sync() : handle.datasync());
  } finally {
    await handle.close();
  }
}
