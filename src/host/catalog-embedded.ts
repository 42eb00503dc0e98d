// The catalog in a directory: PGlite, Postgres compiled to run inside this process. The only import of it.
//
// PGlite writes through to files at each commit and asks for no fsync, so a commit outlives the process (kill -9) by
// itself and a loss of power only with what is done here: the WAL segments that changed are synced after every commit.
// Its data files are written when it closes (it has no checkpointer), and synced then, all of them.

import { type Dirent, existsSync, readdirSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, stat } from 'node:fs/promises';
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
  let commits = 0;
  const segments = directory === undefined ? undefined : new Segments(join(directory, 'pg_wal'));
  return {
    async query(text, values = []) {
      const { rows } = await database.query<Record<string, unknown>>(text, [...values]);
      return rows;
    },
    async together(statements) {
      await database.exec(statements.join(';'));
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
      await segments!.sync();
      if (++commits % COMMITS_PER_CHECKPOINT !== 0) return;
      await database.query('CHECKPOINT');
      await syncTree(directory);
    },
    async close() {
      await database.close();
      await segments?.close();
      if (directory !== undefined) await syncTree(directory);
    },
  };
}

/** The WAL segments, held open: a commit writes into one, now and then into the next. */
class Segments {
  private readonly directory: string;
  private readonly open = new Map<string, { handle: FileHandle; changedMs: number }>();

  constructor(directory: string) {
    this.directory = directory;
  }

  async sync(): Promise<void> {
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (!found?.isFile()) continue;
      const known = this.open.get(name);
      // Clocks of files are coarse: what changed a moment ago may have changed again.
      if (known && known.changedMs === found.mtimeMs && Date.now() - found.mtimeMs > COARSE_MS) continue;
      const handle = known?.handle ?? (await open(path, 'r+'));
      await handle.datasync();
      this.open.set(name, { handle, changedMs: found.mtimeMs });
    }
    if (this.open.size > SEGMENTS_OPEN_MAX) await this.close();
  }

  async close(): Promise<void> {
    for (const { handle } of this.open.values()) await handle.close();
    this.open.clear();
  }
}

const COARSE_MS = 2000;
const SEGMENTS_OPEN_MAX = 8;

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
