// The catalog in a Postgres server, by its URL. The only import of `pg`.
//
// One connection carries everything and holds an advisory lock, so that two managers never work on one catalog. A
// connection that breaks is opened again by the next call, which takes the lock anew; what was under way is a Fault,
// and the manager reads the catalog again.

import pg from 'pg';
import { Fault } from '../base/fault.ts';
import type { Catalog, CatalogMigration } from '../base/ports.ts';
import { type Sql, sqlCatalog } from './catalog-sql.ts';

/** "lakebed" as a number: the lock of whoever manages. */
const LOCK = 0x6c616b65;
const CONNECT_MS = 10_000;

export async function pgCatalog(url: string, migrations: readonly CatalogMigration[]): Promise<Catalog> {
  const server = new Server(url);
  try {
    return await sqlCatalog(server, migrations);
  } catch (error) {
    await server.close();
    throw error;
  }
}

class Server implements Sql {
  private readonly url: string;
  private client: Promise<pg.Client> | undefined;

  constructor(url: string) {
    this.url = url;
  }

  private connected(): Promise<pg.Client> {
    if (this.client) return this.client;
    const opening = this.open();
    this.client = opening;
    opening.catch(() => this.forget(opening));
    return opening;
  }

  private forget(which: Promise<pg.Client>): void {
    if (this.client === which) this.client = undefined;
  }

  private async open(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url, connectionTimeoutMillis: CONNECT_MS });
    try {
      await client.connect();
    } catch (error) {
      throw new Fault('catalog-unavailable', `the catalog's server refuses: ${(error as Error).message}`, {
        hint: 'Check the URL given with --catalog, and that the server runs.',
        cause: error,
      });
    }
    const mine = this.client;
    client.on('error', () => mine && this.forget(mine));
    const { rows } = await client.query<{ free: boolean }>('SELECT pg_try_advisory_lock($1) AS free', [LOCK]);
    if (rows[0]?.free) return client;
    await client.end();
    throw new Fault('catalog-locked', 'another manager works on this catalog', {
      hint: 'Stop it first, or give this one a catalog (a database) of its own.',
    });
  }

  async query(text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
    const client = await this.connected();
    return (await client.query<Record<string, unknown>>(text, [...values])).rows;
  }

  async together(statements: readonly string[]): Promise<void> {
    const client = await this.connected();
    await client.query(statements.join(';'));
  }

  async transaction(work: (sql: Pick<Sql, 'query'>) => Promise<void>): Promise<void> {
    await this.query('BEGIN');
    try {
      await work(this);
      await this.query('COMMIT');
    } catch (error) {
      await this.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  async settle(): Promise<void> {}

  async close(): Promise<void> {
    const client = await this.client?.catch(() => undefined);
    await client?.end().catch(() => undefined);
  }
}
