import { expect, test } from 'vitest';
import { readRemoteStorage } from '../base/remote-storage.ts';
import { parseTomlValue } from '../base/toml.ts';
import { readConfig } from './config.ts';

const IDENTITY = 'id=1234\n';
const read = (pageserver: string, metadata?: string) =>
  readConfig({ pageserver, identity: IDENTITY, metadata });

test("the file of Neon's compose stack", () => {
  const { config, unknown } = read(`
broker_endpoint='http://storage_broker:50051'
pg_distrib_dir='/usr/local/'
listen_pg_addr='0.0.0.0:6400'
listen_http_addr='0.0.0.0:9898'
remote_storage={ endpoint='http://minio:9000', bucket_name='neon', bucket_region='eu-north-1', prefix_in_bucket='/pageserver' }
control_plane_api='http://0.0.0.0:6666' # No storage controller in docker compose, specify a junk address
control_plane_emergency_mode=true
virtual_file_io_mode="buffered"
`);
  expect(unknown).toEqual([]);
  expect(config).toMatchObject({
    id: 1234,
    listenPg: { host: '0.0.0.0', port: 6400 },
    listenHttp: { host: '0.0.0.0', port: 9898 },
    pgDistribDir: '/usr/local/',
    emergencyMode: true,
    controlPlaneApi: 'http://0.0.0.0:6666',
    remoteStorage: {
      kind: 's3',
      bucket: 'neon',
      region: 'eu-north-1',
      prefix: 'pageserver',
      endpoint: 'http://minio:9000',
    },
    pgAuth: 'Trust',
    waitLsnTimeoutMs: 300_000,
    eviction: { enabled: true, maxUsagePct: 80 },
  });
  expect(config.tenantDefaults.gc_horizon).toBe(67108864);
});

test("the file of Neon's launcher, with tables and metadata", () => {
  const { config, unknown } = read(
    `
listen_pg_addr = "127.0.0.1:64000"
http_auth_type = "NeonJWT"
auth_validation_public_key_path = "../auth_public_key.pem"
no_sync = true
control_plane_api_token = "secret"
remote_storage = { local_path = "../local_fs_remote_storage/pageserver" }
some_new_thing = 1
[tenant_config]
gc_period = "0s"
trace_read_requests = true
[disk_usage_based_eviction]
enabled = false
period = "10 s"
[page_service_pipelining]
mode = "pipelined"
max_batch_size = 16
execution = "tasks"
`,
    `{"host":"h","port":64000,"http_host":"h","http_port":9898,"https_port":null,"other":{"a":1},
      "availability_zone_id":"local"}`,
  );
  expect(unknown).toEqual([
    'pageserver.toml: some_new_thing',
    'pageserver.toml: tenant_config.trace_read_requests',
  ]);
  expect(config).toMatchObject({
    httpAuth: 'NeonJWT',
    noSync: true,
    remoteStorage: { kind: 'local', path: '../local_fs_remote_storage/pageserver' },
    eviction: { enabled: false, periodMs: 10_000 },
    maxBatchSize: 16,
    metadata: { host: 'h', port: 64000, httpPort: 9898, httpsPort: undefined, availabilityZone: 'local' },
  });
  expect(config.tenantDefaults.gc_period).toBe(0);
});

const STORE = 'remote_storage={local_path="/x"}\n';

test.each<[string, string, RegExp]>([
  [
    'an address',
    `${STORE}listen_pg_addr = "6400"`,
    /^pageserver\.toml: listen_pg_addr: "6400" is not an addr/,
  ],
  [
    'a word',
    `${STORE}pg_auth_type = "trust"`,
    /^pageserver\.toml: pg_auth_type is not one of Trust, NeonJWT/,
  ],
  ['a type', `${STORE}no_sync = "yes"`, /^pageserver\.toml: no_sync is not true or false: "yes"/],
  ['a span of time', `${STORE}wait_lsn_timeout = "5 x"`, /^pageserver\.toml: wait_lsn_timeout: not a span/],
  ['a setting of tenants', `${STORE}[tenant_config]\ngc_horizon = -1`, /tenant_config\.gc_horizon/],
  ['no store', 'no_sync = true', /^pageserver\.toml: remote_storage is missing/],
  [
    'a store unknown',
    'remote_storage = {container = "x"}',
    /^pageserver\.toml: remote_storage names no object/,
  ],
  ['no TOML', `${STORE}a = = 1`, /^pageserver\.toml, line 2/],
])('%s that is wrong is told with file, key and what it takes', (_, text, error) => {
  expect(() => read(text)).toThrow(error);
});

test('an identity and metadata that are wrong are told as well', () => {
  expect(() => readConfig({ pageserver: STORE, identity: '' })).toThrow(/^identity\.toml: id is missing/);
  expect(() => readConfig({ pageserver: STORE, identity: 'id = "x"' })).toThrow(/^identity\.toml: id is not/);
  expect(() => read(STORE, '{"host":"h"}')).toThrow(/^metadata\.json: port is not/);
  expect(() => read(STORE, '{')).toThrow(/^metadata\.json is not JSON/);
});

test('a store as the command line gives it', () => {
  const unknown: string[] = [];
  const value = parseTomlValue("{bucket_name='b', bucket_region='r', foo=1}", '--remote-storage');
  expect(readRemoteStorage(value, '--remote-storage', name => unknown.push(name))).toEqual({
    kind: 's3',
    bucket: 'b',
    region: 'r',
    prefix: '',
    endpoint: undefined,
    concurrency: 100,
  });
  expect(unknown).toEqual(['foo']);
});
