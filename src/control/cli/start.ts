// `lakebed start`: all of Lakebed on one machine, in the foreground. A broker, three safekeepers and a pageserver over
// a folder as object store, a tenant with a first branch, and a compute on it where Neon's Postgres is at hand.

import { toHex } from '../../base/bytes.ts';
import { textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { ensureCluster, startCompute } from '../local/cluster.ts';
import {
  type LocalState,
  newState,
  PORT_COUNT,
  PORT_FIRST,
  portsFrom,
  readState,
  roles,
  writeState,
} from '../local/layout.ts';
import { Supervisor } from '../local/supervisor.ts';
import { resolvePath } from './wal-source.ts';

const PG_VERSION_DEFAULT = 17;

export const start: Verb = {
  name: 'start',
  summary: 'run all of Lakebed on this machine, in the foreground',
  about:
    'Starts a broker, three safekeepers and a pageserver, makes a tenant with a first branch, and starts a compute\n' +
    "on it if NEON_PG_DIR points at a build of Neon's Postgres ($NEON_PG_DIR/v17/bin/postgres). Everything listens on\n" +
    '127.0.0.1. Interrupt to stop; the next start finds all of it again.',
  options: [
    { flags: '-D, --data-dir PATH', help: 'where everything is kept', default: '.lakebed' },
    {
      flags: '--pg-version MAJOR',
      help: 'Postgres major of a new data directory',
      default: String(PG_VERSION_DEFAULT),
    },
    {
      flags: '--ports FIRST',
      help: `first of ${PORT_COUNT} consecutive ports of a new data directory`,
      default: String(PORT_FIRST),
    },
  ],
  examples: [
    { line: 'lakebed start', what: 'in ./.lakebed' },
    { line: 'NEON_PG_DIR=/opt/neon lakebed start -D /data/lakebed', what: 'with a compute' },
  ],
  exitCodes: { 1: 'something could not be started; nothing is left running' },
  run,
};

function wholeNumber(input: VerbInput, name: string, flag: string, min: number, max: number): number {
  const text = textOption(input, name) ?? '';
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Fault('config-invalid', `${flag}: ${text} is no whole number from ${min} to ${max}`);
}

/** The state of the data directory, made at the first start. */
async function loadState(world: World, data: string, input: VerbInput): Promise<LocalState> {
  const disk = world.disk('/');
  const known = await readState(disk, data);
  if (known !== undefined) return known;
  const portFirst = wholeNumber(input, 'ports', '--ports', 1024, 65535 - PORT_COUNT);
  const pgVersion = wholeNumber(input, 'pgVersion', '--pg-version', 14, 18);
  const state = newState(portFirst, pgVersion, toHex(world.random.bytes(16)), toHex(world.random.bytes(16)));
  await writeState(disk, data, state);
  return state;
}

/** Each port is tried before anything is started: one sentence instead of a daemon's log. */
async function checkPorts(world: World, first: number, data: string): Promise<void> {
  for (let port = first; port < first + PORT_COUNT; port++) {
    try {
      await (await world.net.listen({ host: '127.0.0.1', port }, connection => connection.destroy())).close();
    } catch (error) {
      throw new Fault('config-invalid', `port ${port} is taken`, {
        hint: `Is another Lakebed running from ${data}? Otherwise start with another --data-dir and --ports.`,
        cause: error,
      });
    }
  }
}

async function run(input: VerbInput, world: World): Promise<number> {
  const data = `/${resolvePath(world, textOption(input, 'dataDir') ?? '.lakebed')}`;
  const { terminal } = world;
  const state = await loadState(world, data, input);
  await checkPorts(world, state.portFirst, data);
  const startedMs = world.clock.monotonic();
  const supervisor = new Supervisor(world, (name, what) => terminal.note(`${name} ${what}\n`));
  const stopped = new Promise<void>(resolve =>
    world.signal.addEventListener('abort', () => resolve(), { once: true }),
  );
  let compute: Awaited<ReturnType<typeof startCompute>> | undefined;
  try {
    const [broker, ...others] = roles({
      data,
      portFirst: state.portFirst,
      pgDistribDir: world.environment('NEON_PG_DIR'),
    });
    await world.disk('/').makeDirectory(`${data.slice(1)}/store`);
    await supervisor.start(broker!);
    await Promise.all(others.map(role => supervisor.start(role)));
    await ensureCluster(world, state);
    if (world.computes.majors().includes(state.pgVersion)) {
      compute = await startCompute(world, state, `${data}/compute.log`);
    }
    const seconds = ((world.clock.monotonic() - startedMs) / 1000).toFixed(1);
    terminal.write(greeting(state, data, compute !== undefined, seconds));
    await stopped;
    terminal.note('Stopping.\n');
    return 0;
  } catch (error) {
    if (world.signal.aborted) return 0;
    throw error;
  } finally {
    await compute?.stop();
    await supervisor.stop();
  }
}

function greeting(state: LocalState, data: string, hasCompute: boolean, seconds: string): string {
  const ports = portsFrom(state.portFirst);
  const lines = [
    `Lakebed is up (${seconds} s). Tenant ${state.tenant}, branch main ${state.timeline}, Postgres ${state.pgVersion}.`,
    '',
  ];
  if (hasCompute) {
    lines.push(`  connect     psql 'host=127.0.0.1 port=${ports.compute} user=cloud_admin dbname=postgres'`);
  } else {
    lines.push(
      `  compute     none: NEON_PG_DIR points at no build of Neon's Postgres ${state.pgVersion}. The storage is ready for one:`,
      `              neon.pageserver_connstring = 'host=127.0.0.1 port=${ports.pageserver}'`,
      `              neon.safekeepers = '${ports.safekeepers.map(s => `127.0.0.1:${s.pg}`).join(',')}'`,
      `              neon.tenant_id = '${state.tenant}'  neon.timeline_id = '${state.timeline}'`,
    );
  }
  const api = `http://127.0.0.1:${ports.pageserverHttp}/v1/tenant/${state.tenant}/timeline`;
  lines.push(
    `  branch      curl -X POST ${api} -d '{"new_timeline_id": "<32 hex digits>", "ancestor_timeline_id": "${state.timeline}"}'`,
    `  data        ${data}  (lakebed-keys/ holds the master key: keep it, and keep it safe)`,
    '  stop        Ctrl-C; the next start finds everything again',
    '',
  );
  return `${lines.join('\n')}\n`;
}
