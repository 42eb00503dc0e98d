// One machine's Lakebed: which processes there are, where each keeps its things, which port is whose, and what their
// settings say: a data directory and a first port in, texts out. Only the state of the directory is read and written.
//
//   <data>/lakebed.json            what must be the same at the next start: ports, major of the first project
//   <data>/broker/                 log
//   <data>/safekeeper-1..3/        WAL, sealed
//   <data>/pageserver/             cache of layers, sealed
//   <data>/store/                  the object store: the truth
//   <data>/lakebed-keys/           the local master key (mode 0600): whoever has it reads everything
//   <data>/manager/                catalog of projects, branches and computes; what the computes keep while they run
//   <data>/proxy/                  log
//   <data>/*.pid                   which processes run (processes.ts)

import { fromUtf8, utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { Disk } from '../../base/ports.ts';

export const SAFEKEEPERS = 3;
/** Below the ports that systems hand out to whoever connects. */
export const PORT_FIRST = 25400;
/** How many consecutive ports are taken. */
export const PORT_COUNT = 12;
const STATE_VERSION = 2;

export interface Ports {
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
}

export const newState = (portFirst: number, pgVersion: number): LocalState => ({
  version: STATE_VERSION,
  portFirst,
  pgVersion,
});

/** Why a stored state cannot be used; undefined when it can. */
export function stateProblem(state: Partial<LocalState>): string | undefined {
  if (typeof state.version !== 'number') return 'it has no version';
  if (state.version > STATE_VERSION)
    return `it was written by a newer Lakebed (version ${state.version} of the file)`;
  if (state.version < STATE_VERSION) return 'it was written before the first release';
  return [state.portFirst, state.pgVersion].every(Number.isInteger) ? undefined : 'a field is missing';
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
      throw new Fault('config-invalid', `${data}/${STATE_FILE} is damaged: ${error.message}`, {
        hint: `Write it anew, ${JSON.stringify(newState(PORT_FIRST, 17))} with the first port and the major that it had; everything else is found again.`,
      });
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

/** The processes, in the order of their start; they stop in the opposite order. */
export function roles(options: LayoutOptions): RoleSpec[] {
  return [
    brokerRole(options),
    ...safekeeperRoles(options),
    pageserverRole(options),
    managerRole(options),
    proxyRole(options),
  ];
}

const local = (port: number): string => `127.0.0.1:${port}`;
const store = (data: string): string => `{local_path = '${data}/store'}`;
const brokerUrl = (portFirst: number): string => `http://${local(portsFrom(portFirst).broker)}`;

function brokerRole({ data, portFirst }: LayoutOptions): RoleSpec {
  return {
    name: 'broker',
    program: 'storage_broker',
    args: [`--listen-addr=${local(portsFrom(portFirst).broker)}`],
    directory: `${data}/broker`,
    statusUrl: `${brokerUrl(portFirst)}/status`,
    files: {},
  };
}

function safekeeperRoles({ data, portFirst }: LayoutOptions): RoleSpec[] {
  return portsFrom(portFirst).safekeepers.map(({ pg, http }, i) => ({
    name: `safekeeper-${i + 1}`,
    program: 'safekeeper',
    args: [
      '-D',
      `${data}/safekeeper-${i + 1}`,
      `--id=${i + 1}`,
      `--listen-pg=${local(pg)}`,
      `--listen-http=${local(http)}`,
      `--broker-endpoint=${brokerUrl(portFirst)}`,
      `--remote-storage=${store(data)}`,
    ],
    directory: `${data}/safekeeper-${i + 1}`,
    statusUrl: `http://${local(http)}/v1/status`,
    files: {},
  }));
}

function managerRole({ data, portFirst, pgDistribDir }: LayoutOptions): RoleSpec {
  const ports = portsFrom(portFirst);
  const safekeepers = ports.safekeepers.map(({ pg, http }) => `${local(pg)}/${http}`).join(',');
  return {
    name: 'manager',
    program: 'manager',
    args: [
      '-D',
      `${data}/manager`,
      `--listen-http=${local(ports.manager)}`,
      `--pageservers=1=${local(ports.pageserver)}/${ports.pageserverHttp}`,
      `--safekeepers=${safekeepers}`,
      `--remote-storage=${store(data)}`,
      `--proxy=${local(ports.proxy)}`,
      ...(pgDistribDir === undefined ? [] : [`--pg-distrib-dir=${pgDistribDir}`]),
    ],
    directory: `${data}/manager`,
    statusUrl: `http://${local(ports.manager)}/status`,
    files: {},
  };
}

function pageserverRole({ data, portFirst, pgDistribDir }: LayoutOptions): RoleSpec {
  const ports = portsFrom(portFirst);
  return {
    name: 'pageserver',
    program: 'pageserver',
    args: ['-D', `${data}/pageserver`],
    directory: `${data}/pageserver`,
    statusUrl: `http://${local(ports.pageserverHttp)}/v1/status`,
    files: {
      'identity.toml': 'id = 1\n',
      'pageserver.toml': [
        `listen_pg_addr = '${local(ports.pageserver)}'`,
        `listen_http_addr = '${local(ports.pageserverHttp)}'`,
        `broker_endpoint = '${brokerUrl(portFirst)}'`,
        `control_plane_api = 'http://${local(ports.manager)}/upcall/v1'`,
        ...(pgDistribDir === undefined ? [] : [`pg_distrib_dir = '${pgDistribDir}'`]),
        `remote_storage = ${store(data)}`,
        '',
      ].join('\n'),
    },
  };
}

function proxyRole({ data, portFirst }: LayoutOptions): RoleSpec {
  const ports = portsFrom(portFirst);
  return {
    name: 'proxy',
    program: 'proxy',
    args: [
      `--listen-addr=${local(ports.proxy)}`,
      `--listen-http=${local(ports.proxyHttp)}`,
      `--manager=http://${local(ports.manager)}`,
      '--default-target=main',
    ],
    directory: `${data}/proxy`,
    statusUrl: `http://${local(ports.proxyHttp)}/status`,
    files: {},
  };
}
