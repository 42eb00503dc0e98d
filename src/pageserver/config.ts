// A pageserver's settings: three files in its work directory, as Neon's launchers write them.
//
//   identity.toml     id = 1234                                              mandatory
//   pageserver.toml   listen_pg_addr, remote_storage, control_plane_api ...  one row each in the table below
//   metadata.json     host, port, http_host, http_port ...                   told to the control plane at re-attach
//
// A key that is not known is noted and passed over (a deployment's file is often newer than its binary, and often
// older); a wrong value ends the start, and the message names the file, the key and what it takes.
//
// Three things are ours: without `control_plane_api` the node stands alone and hands out generations itself; the
// table `encryption` says where keys are; `memory_bytes_max` bounds what ingest may hold.
//
// Answers to ConfigToml and NodeMetadata of libs/pageserver_api/src/config.rs and to pageserver/src/config.rs.

import { durationSchema } from '../base/duration.ts';
import { Fault } from '../base/fault.ts';
import { type Address, parseAddress } from '../base/flags.ts';
import { parseJson } from '../base/json.ts';
import { type RemoteStorage, readRemoteStorage } from '../base/remote-storage.ts';
import {
  anything,
  boolean,
  integer,
  number,
  oneOf,
  parseAt,
  type Schema,
  string,
  textual,
} from '../base/schema.ts';
import { parseToml, type TomlTable } from '../base/toml.ts';
import { effectiveSettings, readSettings, TENANT_DEFAULTS, type TenantSettings } from './tenant-config.ts';

export type AuthType = 'Trust' | 'NeonJWT';

/** When and how layers leave a disk that fills up. */
export interface DiskUsageEviction {
  readonly enabled: boolean;
  readonly maxUsagePct: number;
  readonly minAvailBytes: number;
  readonly periodMs: number;
}

export interface EncryptionSettings {
  /** The key that tenants without one of their own are sealed under: `local:...`, `aws:...` */
  readonly defaultKey: string | undefined;
  /** Where keys of kind `local` lie. */
  readonly localKeys: string | undefined;
  readonly auditFile: string | undefined;
}

export interface PageserverConfig {
  readonly id: number;
  readonly listenPg: Address;
  readonly listenHttp: Address;
  readonly listenHttps: Address | undefined;
  readonly listenGrpc: Address | undefined;
  readonly pgAuth: AuthType;
  readonly httpAuth: AuthType;
  readonly grpcAuth: AuthType;
  readonly authKeyPath: string;
  readonly tlsKeyFile: string;
  readonly tlsCertFile: string;
  readonly tlsCaFile: string | undefined;
  readonly tlsReloadMs: number;
  readonly tlsPageService: boolean;
  readonly pgDistribDir: string | undefined;
  readonly superuser: string;
  readonly locale: string;
  readonly brokerEndpoint: string;
  readonly brokerKeepaliveMs: number;
  readonly remoteStorage: RemoteStorage;
  readonly controlPlaneApi: string | undefined;
  readonly controlPlaneToken: string | undefined;
  readonly emergencyMode: boolean;
  readonly availabilityZone: string | undefined;
  readonly waitLsnTimeoutMs: number;
  readonly logFormat: 'plain' | 'json';
  readonly noSync: boolean;
  readonly warmupMax: number;
  readonly pageCachePages: number | undefined;
  readonly maxBatchSize: number;
  readonly memoryBytesMax: number | undefined;
  readonly timelineOffloading: boolean;
  readonly eviction: DiskUsageEviction;
  readonly encryption: EncryptionSettings;
  readonly tenantDefaults: TenantSettings;
  /** What metadata.json says, sent as `register` at re-attach. */
  readonly metadata: NodeMetadata | undefined;
}

export interface NodeMetadata {
  readonly host: string;
  readonly port: number;
  readonly httpHost: string;
  readonly httpPort: number;
  readonly httpsPort: number | undefined;
  readonly grpcHost: string | undefined;
  readonly grpcPort: number | undefined;
  readonly availabilityZone: string | undefined;
  readonly nodeIpAddress: string | undefined;
}

export const PAGESERVER_TOML = 'pageserver.toml';
export const IDENTITY_TOML = 'identity.toml';
export const METADATA_JSON = 'metadata.json';

const address: Schema<Address> = textual({ examples: ['127.0.0.1:64000'] }, text => {
  const parsed = parseAddress(text);
  if (parsed) return parsed;
  throw new Fault('config-invalid', `"${text}" is not an address such as 127.0.0.1:64000`);
});
const url: Schema<string> = textual({ format: 'uri' }, text => {
  if (URL.canParse(text)) return text;
  throw new Fault('config-invalid', `"${text}" is not a URL`);
});
const authType = oneOf('Trust', 'NeonJWT');

/** The rows that are read here; everything else is in SEEN or unknown. */
const ROWS = {
  listen_pg_addr: address,
  listen_http_addr: address,
  listen_https_addr: address,
  listen_grpc_addr: address,
  pg_auth_type: authType,
  http_auth_type: authType,
  grpc_auth_type: authType,
  auth_validation_public_key_path: string(),
  ssl_key_file: string(),
  ssl_cert_file: string(),
  ssl_ca_file: string(),
  ssl_cert_reload_period: durationSchema,
  enable_tls_page_service_api: boolean(),
  pg_distrib_dir: string(),
  superuser: string(),
  locale: string(),
  broker_endpoint: url,
  broker_keepalive_interval: durationSchema,
  control_plane_api: url,
  control_plane_api_token: string(),
  control_plane_emergency_mode: boolean(),
  availability_zone: string(),
  wait_lsn_timeout: durationSchema,
  log_format: oneOf('plain', 'json'),
  no_sync: boolean(),
  concurrent_tenant_warmup: integer(1),
  page_cache_size: integer(0),
  memory_bytes_max: integer(1),
  timeline_offloading: boolean(),
  remote_storage: anything(),
  tenant_config: anything(),
  disk_usage_based_eviction: anything(),
  page_service_pipelining: anything(),
  encryption: anything(),
} satisfies Record<string, Schema<unknown>>;

/** Neon's, and without a meaning here: passed over in silence. */
const SEEN = new Set([
  'wal_redo_timeout',
  'max_file_descriptors',
  'concurrent_tenant_size_logical_size_queries',
  'metric_collection_interval',
  'metric_collection_endpoint',
  'metric_collection_bucket',
  'synthetic_size_calculation_interval',
  'test_remote_failures',
  'test_remote_failures_probability',
  'ondemand_download_behavior_treat_error_as_warn',
  'background_task_maximum_delay',
  'import_pgdata_upcall_api',
  'import_pgdata_upcall_api_token',
  'import_pgdata_aws_endpoint_url',
  'heatmap_upload_concurrency',
  'secondary_download_concurrency',
  'virtual_file_io_engine',
  'virtual_file_io_mode',
  'ingest_batch_size',
  'max_vectored_read_bytes',
  'max_get_vectored_keys',
  'image_compression',
  'ephemeral_bytes_per_memory_kb',
  'l0_flush',
  'get_vectored_concurrent_io',
  'enable_read_path_debugging',
  'validate_wal_contiguity',
  'load_previous_heatmap',
  'generate_unarchival_heatmap',
  'tracing',
  'dev_mode',
  'posthog_config',
  'timeline_import_config',
  'basebackup_cache_config',
  'image_layer_generation_large_timeline_threshold',
  'force_metric_collection_on_scrape',
]);

type Rows = typeof ROWS;
type Read = { [K in keyof Rows]?: Rows[K] extends Schema<infer T> ? T : never };

export interface ConfigFiles {
  readonly pageserver: string;
  readonly identity: string;
  readonly metadata?: string | undefined;
}

export interface ReadConfig {
  readonly config: PageserverConfig;
  /** Keys that are not known, with their file. */
  readonly unknown: readonly string[];
}

export function readConfig(files: ConfigFiles): ReadConfig {
  const unknown: string[] = [];
  const note = (name: string): void => void unknown.push(`${PAGESERVER_TOML}: ${name}`);
  const table = parseToml(files.pageserver, PAGESERVER_TOML);
  const read = readRows(table, note);
  if (read.remote_storage === undefined) {
    throw new Fault('config-invalid', `${PAGESERVER_TOML}: remote_storage is missing`, {
      hint: 'Write remote_storage = {local_path = "/some/directory"}: the object store is where data lives.',
    });
  }
  const remoteStorage = readRemoteStorage(read.remote_storage, `${PAGESERVER_TOML}: remote_storage`, name =>
    note(`remote_storage.${name}`),
  );
  const tenantTable = tableOf(read.tenant_config, 'tenant_config');
  const tenantDefaults = effectiveSettings(
    TENANT_DEFAULTS,
    readSettings(tenantTable, `${PAGESERVER_TOML}: tenant_config`, name => note(`tenant_config.${name}`)),
  );
  return {
    config: {
      id: readIdentity(files.identity),
      ...plainSettings(read),
      remoteStorage,
      eviction: evictionOf(tableOf(read.disk_usage_based_eviction, 'disk_usage_based_eviction')),
      encryption: encryptionOf(tableOf(read.encryption, 'encryption'), note),
      maxBatchSize: batchSizeOf(tableOf(read.page_service_pipelining, 'page_service_pipelining')),
      tenantDefaults,
      metadata: files.metadata === undefined ? undefined : readMetadata(files.metadata),
    },
    unknown,
  };
}

function readRows(table: TomlTable, unknown: (name: string) => void): Read {
  const read: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(table)) {
    if (!Object.hasOwn(ROWS, name)) {
      if (!SEEN.has(name)) unknown(name);
      continue;
    }
    read[name] = parseAt(ROWS[name as keyof Rows], value, `${PAGESERVER_TOML}: ${name}`);
  }
  return read as Read;
}

type Plain = Omit<
  PageserverConfig,
  'id' | 'remoteStorage' | 'eviction' | 'encryption' | 'maxBatchSize' | 'tenantDefaults' | 'metadata'
>;

function plainSettings(read: Read): Plain {
  return {
    listenPg: read.listen_pg_addr ?? { host: '127.0.0.1', port: 64000 },
    listenHttp: read.listen_http_addr ?? { host: '127.0.0.1', port: 9898 },
    listenHttps: read.listen_https_addr,
    listenGrpc: read.listen_grpc_addr,
    pgAuth: read.pg_auth_type ?? 'Trust',
    httpAuth: read.http_auth_type ?? 'Trust',
    grpcAuth: read.grpc_auth_type ?? 'Trust',
    authKeyPath: read.auth_validation_public_key_path ?? 'auth_public_key.pem',
    tlsKeyFile: read.ssl_key_file ?? 'server.key',
    tlsCertFile: read.ssl_cert_file ?? 'server.crt',
    tlsCaFile: read.ssl_ca_file,
    tlsReloadMs: read.ssl_cert_reload_period ?? 60_000,
    tlsPageService: read.enable_tls_page_service_api ?? false,
    pgDistribDir: read.pg_distrib_dir,
    superuser: read.superuser ?? 'cloud_admin',
    locale: read.locale ?? 'C.UTF-8',
    brokerEndpoint: read.broker_endpoint ?? 'http://127.0.0.1:50051',
    brokerKeepaliveMs: read.broker_keepalive_interval ?? 5000,
    controlPlaneApi: read.control_plane_api,
    controlPlaneToken: read.control_plane_api_token,
    emergencyMode: read.control_plane_emergency_mode ?? false,
    availabilityZone: read.availability_zone,
    waitLsnTimeoutMs: read.wait_lsn_timeout ?? 300_000,
    logFormat: read.log_format ?? 'plain',
    noSync: read.no_sync ?? false,
    warmupMax: read.concurrent_tenant_warmup ?? 8,
    pageCachePages: read.page_cache_size,
    memoryBytesMax: read.memory_bytes_max,
    timelineOffloading: read.timeline_offloading ?? true,
  };
}

function tableOf(value: unknown, name: string): TomlTable {
  if (value === undefined) return {};
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as TomlTable;
  throw new Fault('config-invalid', `${PAGESERVER_TOML}: ${name} is not a table`);
}

const optionalAt = <T>(table: TomlTable, name: string, schema: Schema<T>, section: string): T | undefined =>
  table[name] === undefined
    ? undefined
    : parseAt(schema, table[name], `${PAGESERVER_TOML}: ${section}.${name}`);

function evictionOf(table: TomlTable): DiskUsageEviction {
  const section = 'disk_usage_based_eviction';
  return {
    enabled: optionalAt(table, 'enabled', boolean(), section) ?? true,
    maxUsagePct: optionalAt(table, 'max_usage_pct', number(), section) ?? 80,
    minAvailBytes: optionalAt(table, 'min_avail_bytes', integer(0), section) ?? 2_000_000_000,
    periodMs: optionalAt(table, 'period', durationSchema, section) ?? 60_000,
  };
}

function batchSizeOf(table: TomlTable): number {
  if (table['mode'] === 'serial') return 1;
  return optionalAt(table, 'max_batch_size', integer(1), 'page_service_pipelining') ?? 32;
}

function encryptionOf(table: TomlTable, unknown: (name: string) => void): EncryptionSettings {
  const known = ['default_key', 'local_keys', 'audit_file'];
  for (const name of Object.keys(table)) if (!known.includes(name)) unknown(`encryption.${name}`);
  return {
    defaultKey: optionalAt(table, 'default_key', string(), 'encryption'),
    localKeys: optionalAt(table, 'local_keys', string(), 'encryption'),
    auditFile: optionalAt(table, 'audit_file', string(), 'encryption'),
  };
}

/** Nodes are numbered in 64 bits; ours stop at what JSON tells exactly. */
function readIdentity(text: string): number {
  const { id } = parseToml(text, IDENTITY_TOML);
  if (id === undefined) {
    throw new Fault('config-invalid', `${IDENTITY_TOML}: id is missing`, {
      hint: 'Write id = N, a number of its own for each pageserver.',
    });
  }
  return parseAt(integer(0), id, `${IDENTITY_TOML}: id`);
}

function readMetadata(text: string): NodeMetadata {
  let json: unknown;
  try {
    json = parseJson(text);
  } catch (error) {
    throw new Fault('config-invalid', `${METADATA_JSON} is not JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const table = (typeof json === 'object' && json !== null ? json : {}) as TomlTable;
  const take = <T>(name: string, schema: Schema<T>): T =>
    parseAt(schema, table[name], `${METADATA_JSON}: ${name}`);
  const maybe = <T>(name: string, schema: Schema<T>): T | undefined =>
    table[name] === undefined || table[name] === null ? undefined : take(name, schema);
  const port = integer(0, 65535);
  return {
    host: take('host', string()),
    port: take('port', port),
    httpHost: take('http_host', string()),
    httpPort: take('http_port', port),
    httpsPort: maybe('https_port', port),
    grpcHost: maybe('grpc_host', string()),
    grpcPort: maybe('grpc_port', port),
    availabilityZone: maybe('availability_zone_id', string()),
    nodeIpAddress: maybe('node_ip_addr', string()),
  };
}
