// The catalog's schema, as numbered steps: a step that was taken anywhere is never changed, a change is a new step.
// The same SQL for a Postgres server and for the embedded one. Columns are the fields of model.ts in snake case.

import type { CatalogMigration } from '../../base/ports.ts';

const later = (table: string): string => `REFERENCES ${table} (id) DEFERRABLE INITIALLY DEFERRED`;

export const MIGRATIONS: readonly CatalogMigration[] = [
  {
    number: 1,
    name: 'projects, branches, endpoints, roles, databases, keys, nodes, placements, operations',
    sql: `
      CREATE TABLE keys (
        id text PRIMARY KEY, name text NOT NULL UNIQUE, cmk text NOT NULL,
        created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE nodes (
        id text PRIMARY KEY, pg_host text NOT NULL, pg_port integer NOT NULL,
        http_host text NOT NULL, http_port integer NOT NULL, schedulable boolean NOT NULL,
        created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE projects (
        id text PRIMARY KEY, name text NOT NULL, pg_version integer NOT NULL, tenant_id text NOT NULL UNIQUE,
        key_id text ${later('keys')}, history_retention_seconds bigint NOT NULL, compute_settings jsonb NOT NULL,
        stage text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE placements (
        id text PRIMARY KEY, project_id text NOT NULL ${later('projects')}, node_id text NOT NULL,
        generation bigint NOT NULL, attached_generation bigint NOT NULL
      );
      CREATE TABLE branches (
        id text PRIMARY KEY, project_id text NOT NULL ${later('projects')}, name text NOT NULL,
        timeline_id text NOT NULL UNIQUE, parent_id text ${later('branches')}, parent_lsn text,
        parent_timestamp bigint, is_default boolean NOT NULL, is_protected boolean NOT NULL, expires_at bigint,
        stage text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE endpoints (
        id text PRIMARY KEY, project_id text NOT NULL ${later('projects')},
        branch_id text NOT NULL ${later('branches')}, name text, type text NOT NULL, static_lsn text,
        settings jsonb NOT NULL, disabled boolean NOT NULL, wanted text NOT NULL, state text NOT NULL,
        host text, port integer, driver text, started_at bigint, suspended_at bigint, last_active_at bigint,
        stage text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE roles (
        id text PRIMARY KEY, branch_id text NOT NULL ${later('branches')}, name text NOT NULL,
        verifier text, sealed_password text, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE databases (
        id text PRIMARY KEY, branch_id text NOT NULL ${later('branches')}, name text NOT NULL,
        owner_name text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE TABLE operations (
        id text PRIMARY KEY, project_id text NOT NULL, branch_id text, endpoint_id text, action text NOT NULL,
        status text NOT NULL, step integer NOT NULL, details jsonb NOT NULL, failures integer NOT NULL, error text,
        retry_at bigint NOT NULL, sequence bigint NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
      );
      CREATE INDEX operations_project ON operations (project_id, sequence)
    `,
  },
  {
    number: 2,
    name: 'superusers of adopted origins',
    sql: 'ALTER TABLE projects ADD COLUMN origin_admin text',
  },
];
