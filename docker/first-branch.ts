// The first tenant and branch of compose.yml, and the settings of the compute on it: made at the first `up`, found
// again at every later one. It asks the manager what is there before it makes anything, so it may run at any time.
//
//   MANAGER      http://host:port of its API
//   PG_VERSION   major of a new branch
//   SETTINGS     where the compute's config.json goes: /data/config.json, a volume that the compute mounts too
//
// What compute_ctl reads is described by libs/compute_api/src/spec.rs of Neon; cloud_admin's password is its name.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';

const MANAGER = process.env['MANAGER'] ?? 'http://manager:55420';
const MAJOR = Number(process.env['PG_VERSION'] || 17);
const SETTINGS = process.env['SETTINGS'] ?? '/data/config.json';
const COMPUTE_PORT = '55433';
/** Services that have just started, and an initdb on a slow machine. */
const PATIENCE_MS = 120_000;
const CALL_MS = 120_000;

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const end = Date.now() + PATIENCE_MS;
  let why = 'no answer';
  for (;;) {
    try {
      const reply = await fetch(`${MANAGER}/api/v2/${path}`, {
        method,
        signal: AbortSignal.timeout(CALL_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await reply.text();
      if (reply.ok) return JSON.parse(text || 'null') as T;
      why = `${reply.status} ${text}`;
      if (reply.status !== 503) break;
    } catch (error) {
      // No connection yet, or no answer: what was asked for is asked again, it does nothing twice.
      if (!(error instanceof TypeError) && (error as Error).name !== 'TimeoutError') throw error;
    }
    if (Date.now() > end) break;
    await new Promise(done => setTimeout(done, 500));
  }
  throw new Error(`${MANAGER}: ${method} ${path}: ${why}`);
}

const newId = (): string => randomBytes(16).toString('hex');

interface Named {
  readonly id: string;
  readonly current_state: string;
}
type Project = Named & { readonly tenant_id: string };
type Branch = Named & { readonly timeline_id: string; readonly default: boolean };

/** The oldest project and its default branch; they are made when there are none. */
async function tenantAndBranch(): Promise<{ tenant: string; timeline: string }> {
  const { projects } = await call<{ projects: Project[] }>('GET', 'projects');
  const body = { project: { name: 'main', pg_version: MAJOR } };
  const { id } = projects[0] ?? (await call<{ project: Project }>('POST', 'projects', body)).project;
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const { project } = await call<{ project: Project }>('GET', `projects/${id}`);
    const { branches } = await call<{ branches: Branch[] }>('GET', `projects/${id}/branches`);
    const branch = branches.find(b => b.default);
    if (project.current_state === 'ready' && branch?.current_state === 'ready') {
      return { tenant: project.tenant_id, timeline: branch.timeline_id };
    }
    if (Date.now() > end) throw new Error(`project ${id} is ${project.current_state}, and not ready`);
    await new Promise(done => setTimeout(done, 500));
  }
}

function computeConfig(tenant: string, timeline: string): unknown {
  const settings: Record<string, readonly [value: string, type: string]> = {
    port: [COMPUTE_PORT, 'integer'],
    listen_addresses: ['0.0.0.0', 'string'],
    shared_preload_libraries: ['neon,pg_stat_statements', 'string'],
    'neon.tenant_id': [tenant, 'string'],
    'neon.timeline_id': [timeline, 'string'],
    'neon.pageserver_connstring': ['host=pageserver port=6400', 'string'],
    'neon.safekeepers': ['safekeeper1:5454,safekeeper2:5454,safekeeper3:5454', 'string'],
    synchronous_standby_names: ['walproposer', 'string'],
    // Durability is the safekeepers' quorum; the compute's own files are thrown away.
    fsync: ['off', 'bool'],
    wal_level: ['logical', 'enum'],
    wal_keep_size: ['0', 'integer'],
    max_wal_senders: ['10', 'integer'],
    max_replication_slots: ['10', 'integer'],
    max_replication_write_lag: ['500MB', 'string'],
    max_replication_flush_lag: ['10GB', 'string'],
    restart_after_crash: ['off', 'bool'],
    password_encryption: ['md5', 'enum'],
    shared_buffers: ['128MB', 'string'],
  };
  const admin = {
    name: 'cloud_admin',
    encrypted_password: 'b093c0d3b281ba6da1eacc608620abd8',
    options: null,
  };
  return {
    spec: {
      format_version: 1.0,
      suspend_timeout_seconds: -1,
      cluster: {
        cluster_id: 'lakebed',
        name: 'lakebed',
        state: 'restarted',
        roles: [admin],
        databases: [],
        settings: Object.entries(settings).map(([name, [value, vartype]]) => ({ name, value, vartype })),
      },
      delta_operations: [],
    },
    // compute_ctl wants to know whose calls to trust. Nobody holds the other half of this key.
    compute_ctl_config: { jwks: { keys: [strangersKey()] } },
  };
}

function strangersKey(): unknown {
  const key = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
  return { ...key, use: 'sig', key_ops: ['verify'], alg: 'EdDSA', kid: newId() };
}

const { tenant, timeline } = await tenantAndBranch();
writeFileSync(`${SETTINGS}.partial`, `${JSON.stringify(computeConfig(tenant, timeline), null, 2)}\n`);
renameSync(`${SETTINGS}.partial`, SETTINGS);
process.stdout.write(`tenant ${tenant}, branch ${timeline}: settings of the compute in ${SETTINGS}\n`);
