// One machine's Lakebed: which processes there are, where each keeps its things, which port is whose, and what their
// settings say: a data directory and a first port in, texts out. Only the state of the directory is read and written.
//
//   <data>/lakebed.json            what must be the same at the next start: ports, tenant, timeline, major
//   <data>/broker/                 log
//   <data>/safekeeper-1..3/        WAL, sealed
//   <data>/pageserver/             cache of layers, sealed
//   <data>/store/                  the object store: the truth
//   <data>/lakebed-keys/           the local master key (mode 0600): whoever has it reads everything
//   <data>/manager/                catalog of projects, branches and computes; what the computes keep while they run
//   <data>/proxy/                  log
//   <data>/lakebed.pid             the process that supervises all of it

import { fromUtf8, utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { Disk } from '../../base/ports.ts';

export const SAFEKEEPERS = 3;
export const PORT_FIRST = 55400;
/** How many consecutive ports are taken. */
export const PORT_COUNT = 12;
const STATE_VERSION = 1;

export interface Ports {
  readonly compute: number;
  /** The proxy: where clients of every compute connect. */
  readonly proxy: number;
  readonly proxyHttp: number;
  readonly manager: number;
  readonly broker: number;
  readonly pageserver: number;
  readonly pageserverHttp: number;
  readonly safekeepers: readonly { readonly pg: number; readonly http: number }[];
}

export function portsFrom(first: number): Ports {
  return {
    compute: first,
    proxy: first,
    broker: first + 1,
    pageserver: first + 2,
    pageserverHttp: first + 3,
    safekeepers: Array.from({ length: SAFEKEEPERS }, (_, i) => ({
      pg: first + 4 + 2 * i,
      http: first + 5 + 2 * i,
    })),
    manager: first + 10,
    proxyHttp: first + 11,
  };
}

/** What lasts from start to start. */
export interface LocalState {
  readonly version: typeof STATE_VERSION;
  readonly portFirst: number;
  readonly pgVersion: number;
  readonly tenant: string;
  readonly timeline: string;
}

export const newState = (
  portFirst: number,
  pgVersion: number,
  tenant: string,
  timeline: string,
): LocalState => ({
  version: STATE_VERSION,
  portFirst,
  pgVersion,
  tenant,
  timeline,
});

/** Why a stored state cannot be used; undefined when it can. */
export function stateProblem(state: Partial<LocalState>): string | undefined {
  if (typeof state.version !== 'number') return 'it has no version';
  if (state.version > STATE_VERSION)
    return `it was written by a newer Lakebed (version ${state.version} of the file)`;
  const whole = [state.portFirst, state.pgVersion].every(Number.isInteger) && state.tenant && state.timeline;
  return whole ? undefined : 'a field is missing';
}

const STATE_FILE = 'lakebed.json';

/** What an earlier start left in the data directory; undefined when there was none. */
export async function readState(disk: Disk, data: string): Promise<LocalState | undefined> {
  const path = `${data.slice(1)}/${STATE_FILE}`;
  try {
    const state = JSON.parse(fromUtf8(await disk.readFile(path))) as LocalState;
    const problem = stateProblem(state);
    if (problem === undefined) return state;
    throw new Fault('config-invalid', `${data}/${STATE_FILE} cannot be used: ${problem}`, {
      hint: 'Start with the version that wrote it, or with another --data-dir.',
    });
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new Fault('config-invalid', `${data}/${STATE_FILE} is damaged: ${error.message}`);
    if (isFault(error, 'file-missing')) return undefined;
    throw error;
  }
}

/** At the first start; it is there whole or not at all. */
export async function writeState(disk: Disk, data: string, state: LocalState): Promise<void> {
  await disk.makeDirectory(data.slice(1));
  const path = `${data.slice(1)}/${STATE_FILE}`;
  const file = await disk.open(`${path}.partial`, 'create');
  await file.truncate(0);
  await file.write(0, utf8(`${JSON.stringify(state, null, 2)}\n`));
  await file.sync();
  await file.close();
  await disk.rename(`${path}.partial`, path);
  await disk.syncDirectory(data.slice(1));
}

export interface RoleSpec {
  readonly name: string;
  /** Of `bin`. */
  readonly program: string;
  readonly args: readonly string[];
  readonly directory: string;
  /** Answers 2xx when the role is ready. */
  readonly statusUrl: string;
  /** Files the role wants in its directory. */
  readonly files: Readonly<Record<string, string>>;
}

export interface LayoutOptions {
  readonly data: string;
  readonly portFirst: number;
  /** Holds `v17/bin` and so on, where there is one. */
  readonly pgDistribDir: string | undefined;
}

/** The processes, in the order of their start. */
export function roles({ data, portFirst, pgDistribDir }: LayoutOptions): RoleSpec[] {
  const ports = portsFrom(portFirst);
  const broker = `http://127.0.0.1:${ports.broker}`;
  const store = `{local_path = '${data}/store'}`;
  return [
    {
      name: 'broker',
      program: 'storage_broker',
      args: [`--listen-addr=127.0.0.1:${ports.broker}`],
      directory: `${data}/broker`,
      statusUrl: `${broker}/status`,
      files: {},
    },
    ...ports.safekeepers.map(({ pg, http }, i) => ({
      name: `safekeeper-${i + 1}`,
      program: 'safekeeper',
      args: [
        '-D',
        `${data}/safekeeper-${i + 1}`,
        `--id=${i + 1}`,
        `--listen-pg=127.0.0.1:${pg}`,
        `--listen-http=127.0.0.1:${http}`,
        `--broker-endpoint=${broker}`,
        `--remote-storage=${store}`,
      ],
      directory: `${data}/safekeeper-${i + 1}`,
      statusUrl: `http://127.0.0.1:${http}/v1/status`,
      files: {},
    })),
    {
      name: 'pageserver',
      program: 'pageserver',
      args: ['-D', `${data}/pageserver`],
      directory: `${data}/pageserver`,
      statusUrl: `http://127.0.0.1:${ports.pageserverHttp}/v1/status`,
      files: {
        'identity.toml': 'id = 1\n',
        'pageserver.toml': [
          `listen_pg_addr = '127.0.0.1:${ports.pageserver}'`,
          `listen_http_addr = '127.0.0.1:${ports.pageserverHttp}'`,
          `broker_endpoint = '${broker}'`,
          ...(pgDistribDir === undefined ? [] : [`pg_distrib_dir = '${pgDistribDir}'`]),
          `remote_storage = ${store}`,
          '',
        ].join('\n'),
      },
    },
  ];
}

/** postgresql.conf of a primary compute. */
export function computeSettings(state: LocalState): string {
  const ports = portsFrom(state.portFirst);
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(ports.compute),
    unix_socket_directories: '',
    shared_preload_libraries: 'neon',
    'neon.tenant_id': state.tenant,
    'neon.timeline_id': state.timeline,
    'neon.pageserver_connstring': `host=127.0.0.1 port=${ports.pageserver}`,
    'neon.safekeepers': ports.safekeepers.map(s => `127.0.0.1:${s.pg}`).join(','),
    synchronous_standby_names: 'walproposer',
    // Durability is the safekeepers' quorum; the compute's own files are thrown away.
    fsync: 'off',
    wal_level: 'logical',
    wal_keep_size: '0',
    max_wal_senders: '10',
    max_replication_slots: '10',
    max_replication_write_lag: '500MB',
    max_replication_flush_lag: '10GB',
    restart_after_crash: 'off',
    shared_buffers: '128MB',
  };
  return `${Object.entries(settings)
    .map(([name, value]) => `${name} = '${value}'`)
    .join('\n')}\n`;
}
