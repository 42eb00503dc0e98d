// postgresql.conf and pg_hba.conf of a compute that the manager runs itself. Pure.
//
// The manager's own way in is a Unix socket in a directory of the compute's user; the superuser does not come in by
// network, and whoever does shows a password.
//
// Answers to compute_tools/src/config.rs (write_postgres_conf).

import { ADMIN_ROLE } from '../model.ts';
import type { ComputeSpec } from './driver.ts';

const MIB = 1024 * 1024;
/** Of a compute unit: an eighth of its 4 GiB. */
const SHARED_BUFFERS_PER_UNIT_MIB = 512;
const SHARED_BUFFERS_MAX_MIB = 16 * 1024;
const CONNECTIONS_MIN = 112;
const CONNECTIONS_PER_UNIT = 450;
const CONNECTIONS_MAX = 4000;

/** Decided by the size: what a compute may use. */
export function sizeSettings(size: number): Record<string, string> {
  const buffers = Math.min(SHARED_BUFFERS_MAX_MIB, Math.round(size * SHARED_BUFFERS_PER_UNIT_MIB));
  const connections = Math.min(
    CONNECTIONS_MAX,
    Math.max(CONNECTIONS_MIN, Math.round(size * CONNECTIONS_PER_UNIT)),
  );
  return { shared_buffers: `${buffers}MB`, max_connections: String(connections) };
}

export const memoryBytes = (size: number): number => Math.round(size * 4096) * MIB;

/** A compute of Neon's build. */
export function neonSettings(spec: ComputeSpec, at: { host: string; port: number; sockets: string }): string {
  const { mode, settings } = spec;
  const isPrimary = mode === 'primary';
  return confText({
    listen_addresses: at.host,
    port: String(at.port),
    unix_socket_directories: at.sockets,
    unix_socket_permissions: '0700',
    shared_preload_libraries: 'neon',
    'neon.tenant_id': spec.tenantId,
    'neon.timeline_id': spec.timelineId,
    'neon.project_id': spec.projectId,
    'neon.branch_id': spec.branchId,
    'neon.endpoint_id': spec.endpointId,
    'neon.pageserver_connstring': `host=${spec.pageserver.host} port=${spec.pageserver.port}`,
    // Durability is the safekeepers' quorum; the compute's own files are thrown away.
    fsync: 'off',
    wal_level: 'logical',
    wal_keep_size: '0',
    max_wal_senders: '10',
    max_replication_slots: '10',
    max_replication_write_lag: '500MB',
    max_replication_flush_lag: '10GB',
    restart_after_crash: 'off',
    password_encryption: 'scram-sha-256',
    ...sizeSettings(settings.size),
    ...(isPrimary
      ? {
          synchronous_standby_names: 'walproposer',
          'neon.safekeepers': spec.safekeepers.map(({ host, port }) => `${host}:${port}`).join(','),
        }
      : standbySettings(spec)),
    ...settings.pgSettings,
  });
}

/** Who must have the log of a stock compute before a commit is told: the follower, once a quorum has it. */
export const FOLLOWER = 'lakebed';

/** A stock Postgres on a full backup: it knows nothing of the storage, which follows its log. */
export function stockSettings(
  spec: ComputeSpec,
  at: { host: string; port: number; sockets: string },
): string {
  const { mode, settings } = spec;
  return confText({
    listen_addresses: at.host,
    port: String(at.port),
    unix_socket_directories: at.sockets,
    unix_socket_permissions: '0700',
    // Durability is the safekeepers' quorum; the directory is thrown away.
    fsync: 'off',
    wal_level: 'logical',
    max_wal_senders: '10',
    max_replication_slots: '10',
    restart_after_crash: 'off',
    password_encryption: 'scram-sha-256',
    ...sizeSettings(settings.size),
    // An adopted origin may have prepared some: with less room than they take Postgres does not start.
    max_prepared_transactions: sizeSettings(settings.size)['max_connections']!,
    ...(mode === 'primary'
      ? { synchronous_standby_names: FOLLOWER }
      : { default_transaction_read_only: 'on' }),
    ...settings.pgSettings,
  });
}

/** Of one that follows a primary, or stands at an LSN. */
export function standbySettings(spec: ComputeSpec): Record<string, string> {
  const { mode, safekeepers, tenantId, timelineId } = spec;
  if (typeof mode === 'object') {
    return { 'neon.compute_mode': 'static', hot_standby: 'on', recovery_target_lsn: mode.staticLsn };
  }
  const hosts = safekeepers.map(({ host }) => host).join(',');
  const ports = safekeepers.map(({ port }) => port).join(',');
  return {
    'neon.compute_mode': 'replica',
    hot_standby: 'on',
    primary_conninfo: `host=${hosts} port=${ports} options='-c timeline_id=${timelineId} tenant_id=${tenantId}' application_name=replica replication=true`,
    primary_slot_name: `repl_${timelineId}_`,
    ...(spec.pgVersion >= 15 ? { recovery_prefetch: 'off' } : {}),
  };
}

/** Quotes doubled: nothing ends a value but its own end. */
export const confText = (settings: Readonly<Record<string, string>>): string =>
  `${Object.entries(settings)
    .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`)
    .join('\n')}\n`;

/** `originAdmin` is let in where the manager is: where a cluster was adopted it makes the manager's superuser. */
export const hbaText = (originAdmin: string | undefined): string => {
  const admins = [
    ADMIN_ROLE,
    ...(originAdmin === undefined ? [] : [`"${originAdmin.replaceAll('"', '""')}"`]),
  ];
  return `# Written by the manager.
local all         ${admins.join(',')}  trust
local replication ${ADMIN_ROLE}  trust
host  all         ${ADMIN_ROLE}  0.0.0.0/0  reject
host  all         ${ADMIN_ROLE}  ::/0       reject
host  all         all          0.0.0.0/0  scram-sha-256
host  all         all          ::/0       scram-sha-256
host  replication all          0.0.0.0/0  scram-sha-256
host  replication all          ::/0       scram-sha-256
`;
};
