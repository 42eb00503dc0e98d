// The catalog in memory, with what is asked of it most at hand. Read whole at the start; afterwards every change goes
// to the catalog first and is seen here when it is durable there. One commit at a time, in the order of asking.
//
// After a commit of which nobody knows whether it happened (the catalog's connection broke) the store reads everything
// again, and refuses the next commit, which was made of what it showed before: what it shows is what lasts.

import { Fault } from '../../base/fault.ts';
import type { Catalog, CatalogChange } from '../../base/ports.ts';
import {
  type Branch,
  type Change,
  type Database,
  type Endpoint,
  type Operation,
  type Project,
  type Role,
  TABLE_NAMES,
  type TableName,
  type Tables,
} from './model.ts';

/** A function is asked when its turn has come: for what must be decided by what is so then. */
export type Changes = readonly Change[] | (() => readonly Change[]);

type WholeChange = Exclude<Change, { readonly patch: TableName }>;
type Rows<T extends TableName> = ReadonlyMap<string, Tables[T]>;

/** Rows of a table by what they belong to, in the order of their making. */
class Index<T> {
  private readonly of = new Map<string, Map<string, T>>();

  put(owner: string, id: string, row: T): void {
    let rows = this.of.get(owner);
    if (!rows) this.of.set(owner, (rows = new Map()));
    rows.set(id, row);
  }

  remove(owner: string, id: string): void {
    const rows = this.of.get(owner);
    rows?.delete(id);
    if (rows?.size === 0) this.of.delete(owner);
  }

  get(owner: string): T[] {
    return [...(this.of.get(owner)?.values() ?? [])];
  }

  find(owner: string, is: (row: T) => boolean): T | undefined {
    for (const row of this.of.get(owner)?.values() ?? []) if (is(row)) return row;
    return undefined;
  }
}

/** Which field of a row says whose it is. */
const OWNER: Partial<Record<TableName, string>> = {
  branches: 'projectId',
  endpoints: 'branchId',
  roles: 'branchId',
  databases: 'branchId',
  operations: 'projectId',
};

export const isOpen = (operation: Operation): boolean =>
  operation.status === 'scheduling' || operation.status === 'running';

export class Store {
  private readonly catalog: Catalog;
  private tables = emptyTables();
  private indexes = emptyIndexes();
  private open = new Map<string, Operation>();
  private tail: Promise<void> = Promise.resolve();
  private doubtful = false;
  private lastSequence = 0;

  private constructor(catalog: Catalog) {
    this.catalog = catalog;
  }

  static async load(catalog: Catalog): Promise<Store> {
    const store = new Store(catalog);
    await store.reload();
    return store;
  }

  private async reload(): Promise<void> {
    const found = await Promise.all(
      TABLE_NAMES.map(async table => [table, await this.catalog.load(table)] as const),
    );
    this.tables = emptyTables();
    this.indexes = emptyIndexes();
    this.open = new Map();
    for (const [table, rows] of found) {
      const named = rows.map(
        row => fromColumns(row) as unknown as { id: string; createdAt?: number; sequence?: number },
      );
      named.sort(
        (a, b) =>
          (a.sequence ?? a.createdAt ?? 0) - (b.sequence ?? b.createdAt ?? 0) || (a.id < b.id ? -1 : 1),
      );
      for (const row of named) this.see({ put: table, row } as unknown as WholeChange);
    }
    this.doubtful = false;
  }

  /** Durable and seen, or a Fault and nothing seen. */
  commit(changes: Changes): Promise<void> {
    const work = this.tail.then(() => this.commitNow(changes));
    this.tail = work.catch(() => undefined);
    return work;
  }

  /** A commit may have happened that is not shown. */
  get isDoubtful(): boolean {
    return this.doubtful;
  }

  /** Makes sure that what is shown is what lasts. */
  refresh(): Promise<void> {
    const work = this.tail.then(() => (this.doubtful ? this.reload() : undefined));
    this.tail = work.catch(() => undefined);
    return work;
  }

  private async commitNow(asked: Changes): Promise<void> {
    if (this.doubtful) {
      await this.reload();
      // What the caller saw when it asked may not be so.
      throw new Fault('catalog-unavailable', 'the catalog had to be read again', { hint: 'Try again.' });
    }
    const changes = (typeof asked === 'function' ? asked() : asked).flatMap(change => this.whole(change));
    try {
      await this.catalog.commit(changes.map(toColumns));
    } catch (error) {
      this.doubtful = true;
      throw error;
    }
    for (const change of changes) this.see(change);
  }

  /** A patch as the row it makes. */
  private whole(change: Change): WholeChange[] {
    if (!('patch' in change)) return [change];
    const before = this.tables[change.patch].get(change.id);
    return before ? [{ put: change.patch, row: { ...before, ...change.set } } as WholeChange] : [];
  }

  private see(change: WholeChange): void {
    if ('remove' in change) {
      const rows = this.tables[change.remove] as Map<string, Tables[TableName]>;
      const before = rows.get(change.id);
      if (before) this.index(change.remove, before, 'remove');
      rows.delete(change.id);
      if (change.remove === 'operations') this.open.delete(change.id);
      return;
    }
    const rows = this.tables[change.put] as Map<string, Tables[TableName]>;
    const before = rows.get(change.row.id);
    const owner = OWNER[change.put];
    if (before && owner && field(before, owner) !== field(change.row, owner))
      this.index(change.put, before, 'remove');
    rows.set(change.row.id, change.row);
    this.index(change.put, change.row, 'put');
    if (change.put !== 'operations') return;
    this.lastSequence = Math.max(this.lastSequence, change.row.sequence);
    if (isOpen(change.row)) this.open.set(change.row.id, change.row);
    else this.open.delete(change.row.id);
  }

  private index(table: TableName, row: Tables[TableName], how: 'put' | 'remove'): void {
    const owner = OWNER[table];
    if (owner === undefined) return;
    const index = this.indexes[table as keyof Indexes] as Index<unknown>;
    if (how === 'put') index.put(field(row, owner), row.id, row);
    else index.remove(field(row, owner), row.id);
  }

  /** For a new operation: grows without end. */
  nextSequence(): number {
    return ++this.lastSequence;
  }

  all<T extends TableName>(table: T): Rows<T> {
    return this.tables[table] as Rows<T>;
  }

  get<T extends TableName>(table: T, id: string | undefined): Tables[T] | undefined {
    return id === undefined ? undefined : (this.tables[table] as Rows<T>).get(id);
  }

  branchesOf = (projectId: string): Branch[] => this.indexes.branches.get(projectId);
  branchWhere = (projectId: string, is: (branch: Branch) => boolean): Branch | undefined =>
    this.indexes.branches.find(projectId, is);
  endpointsOf = (branchId: string): Endpoint[] => this.indexes.endpoints.get(branchId);
  rolesOf = (branchId: string): Role[] => this.indexes.roles.get(branchId);
  databasesOf = (branchId: string): Database[] => this.indexes.databases.get(branchId);
  operationsOf = (projectId: string): Operation[] => this.indexes.operations.get(projectId);
  childrenOf = (branch: Branch): Branch[] =>
    this.branchesOf(branch.projectId).filter(other => other.parentId === branch.id);
  projectOf = (row: { readonly projectId: string }): Project => this.must('projects', row.projectId);

  /** Those not finished, in the order of asking. */
  openOperations(): Operation[] {
    return [...this.open.values()].sort((a, b) => a.sequence - b.sequence);
  }

  must<T extends TableName>(table: T, id: string): Tables[T] {
    const row = this.get(table, id);
    if (row) return row;
    throw new Fault('request-invalid', `${id} is not among the ${table} any more`);
  }
}

interface Indexes {
  branches: Index<Branch>;
  endpoints: Index<Endpoint>;
  roles: Index<Role>;
  databases: Index<Database>;
  operations: Index<Operation>;
}

const emptyIndexes = (): Indexes => ({
  branches: new Index(),
  endpoints: new Index(),
  roles: new Index(),
  databases: new Index(),
  operations: new Index(),
});

const emptyTables = (): { [T in TableName]: Map<string, Tables[T]> } =>
  Object.fromEntries(TABLE_NAMES.map(table => [table, new Map()])) as never;

const field = (row: object, name: string): string => (row as Record<string, string>)[name] ?? '';

const snake = (name: string): string => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
const camel = (name: string): string =>
  name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

const fromColumns = (row: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(row).map(([name, value]) => [camel(name), value]));

function toColumns(change: WholeChange): CatalogChange {
  if ('remove' in change) return change;
  const row = Object.entries(change.row).map(([name, value]) => [snake(name), value ?? null] as const);
  return { put: change.put, row: Object.fromEntries(row) };
}
