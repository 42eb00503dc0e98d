// Roles and databases of a compute, brought to what is wanted by SQL: what is missing is made, what differs changed,
// what was deleted or renamed here dropped or renamed; what others made is left alone. One look first: a compute that
// has everything, which is any but the first start of a branch, is only looked at.
//
// Answers to compute_tools/src/spec_apply.rs and its sql/create_privileged_role.sql.

import type { Net, Random } from '../../../base/ports.ts';
import { PqClient, ServerError } from '../../../protocol/pq-client.ts';
import { ADMIN_ROLE } from '../model.ts';
import type { ComputeSpec, Delta } from './driver.ts';

/** What every role made here is a member of: as much as a customer may, short of a superuser. */
const PRIVILEGED = 'neon_superuser';
/** SQLSTATE of a role that is not there, too. */
const INVALID_AUTHORIZATION = '28000';
const RIGHTS = 'CREATEDB CREATEROLE BYPASSRLS REPLICATION';

export const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;
export const literal = (text: string): string =>
  text.includes('\\')
    ? `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`;

export class Admin {
  private readonly client: PqClient;

  private constructor(client: PqClient) {
    this.client = client;
  }

  /** By the Unix socket in `directory`, as the superuser. */
  static async connect(
    net: Net,
    random: Random,
    at: {
      readonly directory: string;
      readonly port: number;
      readonly user?: string;
      readonly database?: string;
    },
  ): Promise<Admin> {
    const parameters = {
      user: at.user ?? ADMIN_ROLE,
      database: at.database ?? 'postgres',
      application_name: 'lakebed_manager',
    };
    return new Admin(await PqClient.connect(net, random, { host: at.directory, port: at.port, parameters }));
  }

  /**
   * The manager's own superuser, made where there is none: in a cluster that came with an adopted origin, by that one's
   * first superuser. Nobody confirms this commit yet, and nobody need: it is made again if it is lost.
   */
  static async ensure(
    net: Net,
    random: Random,
    at: { readonly directory: string; readonly port: number; readonly originAdmin: string },
  ): Promise<void> {
    try {
      await (await Admin.connect(net, random, at)).end();
      return;
    } catch (error) {
      if (!(error instanceof ServerError) || error.sqlState !== INVALID_AUTHORIZATION) throw error;
    }
    const admin = await Admin.connect(net, random, { ...at, user: at.originAdmin });
    try {
      await admin.client.query('SET synchronous_commit TO local');
      await admin.client.query(
        `CREATE ROLE ${ADMIN_ROLE} SUPERUSER LOGIN REPLICATION BYPASSRLS CREATEDB CREATEROLE`,
      );
    } finally {
      await admin.end();
    }
  }

  end(): Promise<void> {
    return this.client.end();
  }

  private async rows(sql: string): Promise<readonly (string | null)[][]> {
    return (await this.client.query(sql)).rows;
  }

  async apply(spec: Pick<ComputeSpec, 'roles' | 'databases'>, deltas: readonly Delta[]): Promise<void> {
    for (const delta of deltas) if (delta.do !== 'drop-role') await this.changeDatabase(delta);
    await this.applyRoles(spec);
    await this.applyDatabases(spec);
    for (const delta of deltas) if (delta.do === 'drop-role') await this.dropRole(delta.name);
  }

  private async applyRoles({ roles }: Pick<ComputeSpec, 'roles'>): Promise<void> {
    const found = await this.rows('SELECT rolname, rolpassword FROM pg_catalog.pg_authid');
    const there = new Map(found.map(([name, password]) => [name!, password]));
    if (roles.length > 0 && !there.has(PRIVILEGED)) {
      const member = 'pg_read_all_data, pg_write_all_data, pg_monitor';
      await this.client.query(`CREATE ROLE ${PRIVILEGED} NOLOGIN ${RIGHTS} IN ROLE ${member}`);
    }
    for (const { name, verifier } of roles) {
      const password = verifier === undefined ? '' : ` PASSWORD ${literal(verifier)}`;
      if (!there.has(name)) {
        await this.client.query(
          `CREATE ROLE ${ident(name)} LOGIN ${RIGHTS}${password} IN ROLE ${PRIVILEGED}`,
        );
      } else if (verifier !== undefined && there.get(name) !== verifier) {
        await this.client.query(`ALTER ROLE ${ident(name)} LOGIN${password}`);
      }
    }
  }

  private async applyDatabases({ databases }: Pick<ComputeSpec, 'databases'>): Promise<void> {
    const found = await this.rows(
      'SELECT datname, pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database',
    );
    const there = new Map(found.map(([name, owner]) => [name!, owner]));
    for (const { name, owner } of databases) {
      if (!there.has(name)) {
        await this.client.query(`CREATE DATABASE ${ident(name)} OWNER ${ident(owner)}`);
      } else if (there.get(name) !== owner) {
        await this.client.query(`ALTER DATABASE ${ident(name)} OWNER TO ${ident(owner)}`);
      }
    }
  }

  private async changeDatabase(delta: Exclude<Delta, { do: 'drop-role' }>): Promise<void> {
    const found = await this.rows(
      `SELECT 1 FROM pg_catalog.pg_database WHERE datname = ${literal(delta.name)}`,
    );
    if (found.length === 0) return;
    const name = ident(delta.name);
    if (delta.do === 'drop-database') {
      await this.client.query(`DROP DATABASE ${name} WITH (FORCE)`);
      return;
    }
    await this.client.query(
      `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = ${literal(delta.name)}`,
    );
    await this.client.query(`ALTER DATABASE ${name} RENAME TO ${ident(delta.newName)}`);
  }

  /** What it owns in this database goes to the superuser; in others Postgres refuses, and says where. */
  private async dropRole(name: string): Promise<void> {
    const found = await this.rows(`SELECT 1 FROM pg_catalog.pg_authid WHERE rolname = ${literal(name)}`);
    if (found.length === 0) return;
    await this.client.query(`REASSIGN OWNED BY ${ident(name)} TO ${ADMIN_ROLE}`);
    await this.client.query(`DROP OWNED BY ${ident(name)}`);
    await this.client.query(`DROP ROLE ${ident(name)}`);
  }

  async reload(): Promise<void> {
    await this.client.query('SELECT pg_catalog.pg_reload_conf()');
  }

  /** A setting waits for a restart. */
  async pendingRestart(): Promise<boolean> {
    const [row] = await this.rows('SELECT count(*) FROM pg_catalog.pg_settings WHERE pending_restart');
    return row?.[0] !== '0';
  }

  async busy(): Promise<number> {
    const [row] = await this.rows(
      `SELECT count(*) FROM pg_catalog.pg_stat_activity
       WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() AND state <> 'idle'`,
    );
    return Number(row?.[0] ?? 0);
  }
}
