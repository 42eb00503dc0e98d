// `lakebed start`: all of Lakebed on one machine. A broker, three safekeepers, a manager, a pageserver over a folder as
// object store, and a proxy, each a process of its own, supervised by this one; a first project with its branch `main`;
// and a compute on it by the best driver at hand.
//
// In the foreground (`--foreground`, npm start) it runs until it is interrupted. Without it, it starts itself once more
// in the background, waits until that one is up, and says the same words.

import { fromUtf8 } from '../../base/bytes.ts';
import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
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
import { beSupervisor, endRoles, forgetProcesses, supervisorOf } from '../local/processes.ts';
import { refuseWithoutRoom } from '../local/room.ts';
import { Supervisor } from '../local/supervisor.ts';
import { jsonOr } from './answers.ts';
import { DATA_DIR, DATA_DIR_DEFAULT, dataDirectory, ManagerClient } from './manager-client.ts';

const PG_VERSION_DEFAULT = 17;
const MAJORS = [14, 15, 16, 17, 18];
const FIRST_PROJECT = 'default';
const UP = 'Lakebed is up';
const UP_MS = 240_000;
const WAKE_MS = 120_000;
const SETTLE_MS = 60_000;
const POLL_MS = 50;
/** Blocks of ports tried for a new data directory. */
const PORT_BLOCKS = 20;
const PORT_BLOCK = 20;

export const start: Verb = {
  name: 'start',
  summary: 'run all of Lakebed on this machine',
  about:
    'Starts a broker, three safekeepers, a manager, a pageserver and a proxy, makes a project with a branch `main`, and\n' +
    "starts a compute on it: Neon's Postgres, if NEON_PG_DIR points at a build of it ($NEON_PG_DIR/v17/bin/postgres),\n" +
    'else a stock Postgres. Everything listens on 127.0.0.1. The next start finds all of it again.',
  options: [
    DATA_DIR,
    { flags: '--foreground', help: 'stay, until interrupted' },
    { flags: '--json', help: 'where it is and how to connect, as JSON' },
    {
      flags: '--pg-version MAJOR',
      help: 'Postgres major of the first project',
      default: String(PG_VERSION_DEFAULT),
    },
    {
      flags: '--ports FIRST',
      help: `first of ${PORT_COUNT} consecutive ports of a new data directory; without it ${PORT_FIRST}, or the next that are free`,
    },
  ],
  examples: [
    { line: 'lakebed start --json', what: 'where it is and how to connect, for a program' },
    { line: 'lakebed start', what: 'in ./.lakebed, in the background' },
    { line: 'lakebed start --foreground', what: 'until Ctrl-C' },
    { line: 'NEON_PG_DIR=/opt/neon lakebed start -D /data/lakebed', what: "with computes of Neon's build" },
  ],
  exitCodes: { 1: 'something could not be started; nothing is left running' },
  run,
};

function wholeNumber(text: string, flag: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new Fault('config-invalid', `${flag}: ${text} is no whole number from ${min} to ${max}`);
}

async function run(input: VerbInput, world: World): Promise<number> {
  const data = dataDirectory(input, world);
  const pid = await supervisorOf(world, data);
  if (pid !== undefined) {
    throw new Fault('config-invalid', `a Lakebed runs from ${data} already (process ${pid})`, {
      hint: 'Look at it with: lakebed status. End it with: lakebed stop.',
    });
  }
  const left = await endRoles(world, data);
  if (left.length > 0) {
    const names = left.map(role => role.name).join(', ');
    world.terminal.note(`What a Lakebed that was killed had left running was ended: ${names}.\n`);
  }
  await buildsOf(world);
  const state = await loadState(world, data, input);
  const tell = (up: Up): void => jsonOr(input, world, up, () => greeting(up));
  if (flagOption(input, 'foreground')) return foreground(world, data, state, tell);
  return background(world, data, state, flagOption(input, 'json') ? tell : undefined);
}

/** A build that is named is meant: without it computes would be others than were asked for. */
async function buildsOf(world: World): Promise<string | undefined> {
  const directory = world.environment('NEON_PG_DIR') || undefined;
  if (directory === undefined) return undefined;
  for (const major of MAJORS) {
    if (await world.disk('/').stat(`${directory.replace(/^\/|\/$/g, '')}/v${major}/bin/postgres`))
      return directory;
  }
  throw new Fault('config-invalid', `NEON_PG_DIR names ${directory}, where no vNN/bin/postgres is`, {
    hint: "Point it at a build of Neon's Postgres, or unset it: computes are stock Postgres then.",
  });
}

/** The state of the data directory, made at the first start. */
async function loadState(world: World, data: string, input: VerbInput): Promise<LocalState> {
  const disk = world.disk('/');
  const known = await readState(disk, data);
  if (known !== undefined) {
    const taken = await takenPort(world, known.portFirst);
    if (taken === undefined) return known;
    throw new Fault('config-invalid', `port ${taken} is taken`, {
      hint: `${data} was made for ports ${known.portFirst} to ${known.portFirst + PORT_COUNT - 1}: end what uses it, or start with another --data-dir.`,
    });
  }
  await refuseWithoutRoom(world, data);
  const pgVersion = wholeNumber(textOption(input, 'pgVersion') ?? '', '--pg-version', 14, 18);
  const state = newState(await freePorts(world, textOption(input, 'ports')), pgVersion);
  await writeState(disk, data, state);
  return state;
}

async function freePorts(world: World, given: string | undefined): Promise<number> {
  if (given !== undefined) {
    const first = wholeNumber(given, '--ports', 1024, 65535 - PORT_COUNT);
    const taken = await takenPort(world, first);
    if (taken === undefined) return first;
    throw new Fault('config-invalid', `port ${taken} is taken`, { hint: 'Give another --ports, or none.' });
  }
  for (let block = 0; block < PORT_BLOCKS; block++) {
    const first = PORT_FIRST + block * PORT_BLOCK;
    if ((await takenPort(world, first)) === undefined) return first;
  }
  throw new Fault('config-invalid', `no ${PORT_COUNT} consecutive ports are free from ${PORT_FIRST} on`, {
    hint: 'Give the first of them with --ports.',
  });
}

/** Each port is tried before anything is started: one sentence instead of a daemon's log. */
async function takenPort(world: World, first: number): Promise<number | undefined> {
  for (let port = first; port < first + PORT_COUNT; port++) {
    try {
      await (await world.net.listen({ host: '127.0.0.1', port }, connection => connection.destroy())).close();
    } catch {
      return port;
    }
  }
  return undefined;
}

/** Start ourselves once more, and wait until that one is up or has ended; what it says is said here, unless `tell` does. */
async function background(
  world: World,
  data: string,
  state: LocalState,
  tell: ((up: Up) => void) | undefined,
): Promise<number> {
  const { clock, programs, terminal } = world;
  const disk = world.disk('/');
  const log = `${data}/lakebed.log`;
  const before = (await disk.stat(log.slice(1)))?.size ?? 0;
  const child = programs.start('lakebed', ['start', '--foreground', '-D', data], { directory: data, log });
  let ended: string | undefined;
  void child.ended.then(how => (ended = how));
  const startedMs = clock.monotonic();
  const end = startedMs + UP_MS;
  let told = 0;
  for (;;) {
    const said = fromUtf8((await disk.readFile(log.slice(1))).subarray(before));
    const up = said.indexOf(UP);
    if (up >= 0 && said.endsWith('\n\n')) {
      if (up > told) terminal.note(said.slice(told, up));
      if (tell) tell(await upOf(world, data, state, child.pid, clock.monotonic() - startedMs));
      else terminal.write(said.slice(up));
      child.release();
      return 0;
    }
    // What it says on its way is the user's to know, a line at a time.
    const lines = up >= 0 ? up : said.lastIndexOf('\n') + 1;
    if (lines > told) terminal.note(said.slice(told, lines));
    told = Math.max(told, lines);
    if (ended !== undefined || clock.monotonic() > end) {
      if (ended === undefined) child.kill('SIGTERM');
      const how = ended === undefined ? `is not up after ${UP_MS / 1000} s` : `ended (${ended})`;
      if (ended === undefined || told === 0) terminal.note(`lakebed: it ${how}\n  Its log is ${log}.\n`);
      return 1;
    }
    await clock.sleep(POLL_MS);
  }
}

async function foreground(
  world: World,
  data: string,
  state: LocalState,
  tell: (up: Up) => void,
): Promise<number> {
  const { terminal } = world;
  const startedMs = world.clock.monotonic();
  const supervisor = new Supervisor(world, data, (name, what) => terminal.note(`${name} ${what}\n`));
  const stopped = new Promise<void>(resolve =>
    world.signal.addEventListener('abort', () => resolve(), { once: true }),
  );
  await beSupervisor(world, data);
  try {
    await startRoles(world, supervisor, data, state);
    const trouble = await ensureProject(world, state);
    if (trouble) terminal.note(`The compute of main sleeps: ${trouble.message}. ${trouble.hint ?? ''}\n`);
    tell(await upOf(world, data, state, world.programs.ownPid, world.clock.monotonic() - startedMs));
    await stopped;
    terminal.note('Stopping.\n');
    return 0;
  } catch (error) {
    if (world.signal.aborted) return 0;
    throw error;
  } finally {
    await supervisor.stop();
    await forgetProcesses(world, data);
  }
}

/** The broker first, for everybody speaks with it; the proxy last, for it lets clients in. */
async function startRoles(
  world: World,
  supervisor: Supervisor,
  data: string,
  state: LocalState,
): Promise<void> {
  const pgDistribDir = await buildsOf(world);
  const specs = roles({ data, portFirst: state.portFirst, pgDistribDir });
  await world.disk('/').makeDirectory(`${data.slice(1)}/store`);
  const [broker, ...others] = specs;
  await supervisor.start(broker!);
  // The pageserver asks the manager what is its own before it answers: both come up together.
  await Promise.all(others.map(role => supervisor.start(role)));
}

const managerOf = (world: World, { portFirst }: LocalState): ManagerClient =>
  new ManagerClient(world, `http://127.0.0.1:${portsFrom(portFirst).manager}`);

/** The first project, made once; its compute awake. Why it is not, where there are others to be served as well. */
async function ensureProject(world: World, state: LocalState): Promise<Fault | undefined> {
  const manager = managerOf(world, state);
  await untilPlaced(world, manager);
  const { projects } = await manager.call('GET', '/api/v2/projects?limit=1');
  if (projects.length === 0) {
    const project = { name: FIRST_PROJECT, pg_version: state.pgVersion, branch: { name: 'main' } };
    await manager.done('POST', '/api/v2/projects', { project });
  }
  try {
    await manager.call('POST', '/internal/wake', { target: 'main' }, WAKE_MS);
    return undefined;
  } catch (error) {
    if (projects.length === 0 || !isFault(error)) throw error;
    return error;
  }
}

/** One that is up, as `--json` says it. */
interface Up {
  readonly pid: number;
  readonly data: string;
  /** Not while the key that its password is sealed under cannot be used. */
  readonly uri: string | undefined;
  readonly driver: string;
  readonly pg_version: number;
  readonly seconds: number;
}

async function upOf(world: World, data: string, state: LocalState, pid: number, ms: number): Promise<Up> {
  const manager = managerOf(world, state);
  const path = await manager.projectPath({ args: [], options: {} });
  const uri = await manager.call('GET', `${path}/connection_uri`).then(
    answer => answer.uri as string,
    error => {
      if (isFault(error)) return undefined;
      throw error;
    },
  );
  const { driver } = await manager.call('GET', '/status');
  return { pid, data, uri, driver, pg_version: state.pgVersion, seconds: Math.round(ms / 100) / 10 };
}

/** A manager that has just started has not seen its pageserver yet. */
async function untilPlaced(world: World, manager: ManagerClient): Promise<void> {
  const end = world.clock.monotonic() + SETTLE_MS;
  while (world.clock.monotonic() < end) {
    const { nodes } = await manager.call('GET', '/api/v2/nodes');
    if (nodes.some((node: { alive: boolean }) => node.alive)) return;
    await world.clock.sleep(POLL_MS, world.signal);
  }
}

const DRIVERS: Readonly<Record<string, string>> = {
  process: "Neon's build of Postgres",
  docker: "Neon's compute images",
  stock: 'stock Postgres over base backups of the storage',
};

function greeting({ data, uri, driver, pg_version: major, seconds }: Up): string {
  const own = data.endsWith(`/${DATA_DIR_DEFAULT}`) ? '' : ` -D ${data}`;
  return [
    `${UP} (${seconds.toFixed(1)} s). Postgres ${major}; computes are ${DRIVERS[driver] ?? driver}.`,
    '',
    uri === undefined ? '  connect   bin/lakebed uri, once its key can be used' : `  connect   psql '${uri}'`,
    `  branch    bin/lakebed branch create dev${own} && bin/lakebed psql dev${own}`,
    `  the past  bin/lakebed branch create before --at '10 min ago'${own}`,
    `  look      bin/lakebed status${own}; bin/lakebed branch list${own}; bin/lakebed --help`,
    `  data      ${data}  (lakebed-keys/ holds the master key: keep it, and keep it safe)`,
    `  stop      Ctrl-C, or bin/lakebed stop${own}; the next start finds everything again`,
    '',
    '',
  ].join('\n');
}
