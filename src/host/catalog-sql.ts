// The catalog over SQL, whichever Postgres carries it: migrations at the start, whole tables read, rows put and
// removed in one transaction. Rows travel as JSON (`json_populate_recordset`), so that no driver's idea of types comes
// between; the columns are what the migrations made them. A commit is one text of several statements, one way there and
// one back: that is what a branch waits for.
//
//   lakebed_migrations (number integer primary key, name text, taken_at timestamptz)
//
// A catalog that a newer build has migrated is refused, not guessed at. The order of changes in a commit does not
// matter to foreign keys: the migrations declare them deferred.

import { Fault, isFault } from '../base/fault.ts';
import type { Catalog, CatalogChange, CatalogMigration } from '../base/ports.ts';

/** What a driver must be able to do. */
export interface Sql {
  query(text: string, values?: readonly unknown[]): Promise<Readonly<Record<string, unknown>>[]>;
  /** Statements without parameters, all or none of them. */
  together(statements: readonly string[]): Promise<void>;
  /** Runs `work` in a transaction; a rejection of `work` rolls it back. */
  transaction(work: (sql: Pick<Sql, 'query'>) => Promise<void>): Promise<void>;
  /** After a commit: what it takes for it to last. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

const NAME = /^[a-z][a-z_]*$/;

export async function sqlCatalog(sql: Sql, migrations: readonly CatalogMigration[]): Promise<Catalog> {
  await unavailable(() => migrate(sql, migrations));
  const assignments = new Map<string, string>();
  return {
    load: table =>
      unavailable(async () => {
        const rows = await sql.query(`SELECT row_to_json(t) AS row FROM ${quoted(table)} t`);
        return rows.map(({ row }) => withoutNulls(row as Record<string, unknown>));
      }),
    commit: changes =>
      unavailable(async () => {
        const statements: string[] = [];
        for (const batch of batchesOf(changes)) statements.push(await statementOf(sql, batch, assignments));
        await sql.together(statements);
        await sql.settle();
      }),
    close: () => sql.close(),
  };
}

type Put = Extract<CatalogChange, { readonly put: string }>;
type Remove = Extract<CatalogChange, { readonly remove: string }>;
type Batch = readonly [Put, ...Put[]] | readonly [Remove, ...Remove[]];

/** Changes of one kind and table next to each other are one statement; to put an id twice is not allowed to it. */
function batchesOf(changes: readonly CatalogChange[]): Batch[] {
  const batches: [CatalogChange, ...CatalogChange[]][] = [];
  for (const change of changes) {
    const last = batches.at(-1);
    if (last && goesWith(change, last)) last.push(change);
    else batches.push([change]);
  }
  return batches as unknown as Batch[];
}

function goesWith(change: CatalogChange, batch: readonly CatalogChange[]): boolean {
  const first = batch[0]!;
  if ('remove' in change) return 'remove' in first && first.remove === change.remove;
  if (!('put' in first) || first.put !== change.put) return false;
  return (batch as readonly Put[]).every(other => other.row['id'] !== change.row['id']);
}

async function statementOf(
  sql: Pick<Sql, 'query'>,
  batch: Batch,
  assignments: Map<string, string>,
): Promise<string> {
  const first = batch[0];
  if ('remove' in first) {
    const ids = (batch as readonly Remove[]).map(({ id }) => literal(id));
    return `DELETE FROM ${quoted(first.remove)} WHERE id IN (${ids.join(', ')})`;
  }
  const table = quoted(first.put);
  const set = assignments.get(first.put) ?? (await assignmentsOf(sql, first.put));
  assignments.set(first.put, set);
  const rows = literal(JSON.stringify((batch as readonly Put[]).map(({ row }) => row)));
  return `INSERT INTO ${table} SELECT * FROM json_populate_recordset(null::${table}, ${rows}::json) ON CONFLICT (id) DO UPDATE SET ${set}`;
}

async function assignmentsOf(sql: Pick<Sql, 'query'>, table: string): Promise<string> {
  const columns = await sql.query(
    "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 AND column_name <> 'id'",
    [table],
  );
  return columns.map(({ column_name: name }) => `"${name}" = excluded."${name}"`).join(', ');
}

/** Means the same whatever standard_conforming_strings is. */
const literal = (text: string): string => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;

async function migrate(sql: Sql, migrations: readonly CatalogMigration[]): Promise<void> {
  await sql.query(
    'CREATE TABLE IF NOT EXISTS lakebed_migrations (number integer PRIMARY KEY, name text NOT NULL, taken_at timestamptz NOT NULL DEFAULT now())',
  );
  const taken = await sql.query('SELECT max(number) AS number FROM lakebed_migrations');
  const at = Number(taken[0]?.['number'] ?? 0);
  const newest = migrations.at(-1)?.number ?? 0;
  if (at > newest) {
    throw new Fault(
      'catalog-newer',
      `the catalog is of a newer Lakebed: it has migration ${at}, this one knows ${newest}`,
      {
        hint: 'Start the version that wrote it, or name another catalog.',
      },
    );
  }
  for (const { number, name, sql: text } of migrations) {
    if (number <= at) continue;
    await sql.transaction(async inside => {
      for (const statement of statementsOf(text)) await inside.query(statement);
      await inside.query('INSERT INTO lakebed_migrations (number, name) VALUES ($1, $2)', [number, name]);
    });
  }
  await sql.settle();
}

/** Migrations hold no semicolon within a statement. */
const statementsOf = (text: string): string[] =>
  text
    .split(';')
    .map(statement => statement.trim())
    .filter(statement => statement !== '');

function quoted(table: string): string {
  if (!NAME.test(table)) throw new Fault('config-invalid', `not a table's name: ${table}`);
  return `"${table}"`;
}

/** SQL's null is a field that is not there. */
function withoutNulls(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
}

async function unavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isFault(error)) throw error;
    throw new Fault('catalog-unavailable', `the catalog: ${(error as Error).message}`, { cause: error });
  }
}
