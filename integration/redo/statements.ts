// How workloads speak to a server: statements in order, in one session.

import type { Client } from 'pg';

/** One session: the order of the statements is the point. */
export type Sql = (text: string) => Promise<unknown>;

export const sqlOf =
  (client: Client): Sql =>
  text =>
    client.query(text);

export async function all(sql: Sql, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await sql(statement);
}

/** Loads that only prepare the ground run without verification images, which keeps the log small. */
export async function quietly(sql: Sql, statements: readonly string[]): Promise<void> {
  await sql(`set wal_consistency_checking = ''`);
  await all(sql, statements);
  await sql('reset wal_consistency_checking');
}

/** Work on indexes: rows are deleted quietly, for an index hears of it from vacuum alone. */
export async function onIndexes(sql: Sql, statements: readonly string[]): Promise<void> {
  for (const statement of statements) {
    await (statement.startsWith('delete') ? quietly(sql, [statement]) : sql(statement));
  }
}

export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
