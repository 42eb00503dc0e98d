// Who runs from a data directory, written down, so that processes which outlive their supervisor (kill -9) are found.
//
//   <data>/lakebed.pid     PID STARTED            the supervisor
//   <data>/roles.pid       PID STARTED NAME       a line for each role, in the order of their start
//
// STARTED is when the system says that the process began, in the system's own words (Programs.began). An id that was
// given to another process since then, or since the machine was started again, is not taken for ours.
//
// Roles without a supervisor go on serving. The next start, and stop, end them first, in good order.

import { fromUtf8, utf8 } from '../../base/bytes.ts';
import type { World } from '../../base/command.ts';
import { isFault } from '../../base/fault.ts';

const SUPERVISOR_FILE = 'lakebed.pid';
const ROLES_FILE = 'roles.pid';
/** What does not end after SIGTERM for so long is killed. */
const END_MS = 15_000;
const POLL_MS = 25;

export interface Process {
  readonly name: string;
  readonly pid: number;
}

async function readLines(world: World, path: string): Promise<string[]> {
  try {
    return fromUtf8(await world.disk('/').readFile(path.slice(1)))
      .split('\n')
      .filter(line => line !== '');
  } catch (error) {
    if (isFault(error, 'file-missing')) return [];
    throw error;
  }
}

async function writeLines(world: World, path: string, lines: readonly string[]): Promise<void> {
  const file = await world.disk('/').open(path.slice(1), 'create');
  try {
    await file.truncate(0);
    await file.write(0, utf8(lines.map(line => `${line}\n`).join('')));
  } finally {
    await file.close();
  }
}

/** The process of a line, if it is that one that lives. */
function living({ programs }: World, line: string): Process | undefined {
  const [, pid, began, name] = /^(\d+) (\S+) ?(.*)$/.exec(line) ?? [];
  if (pid === undefined || programs.began(Number(pid)) !== began) return undefined;
  return { name: name!, pid: Number(pid) };
}

const lineOf = ({ programs }: World, { pid, name }: Process): string =>
  `${pid} ${programs.began(pid) ?? 'gone'} ${name}`.trimEnd();

/** The process that supervises a data directory, if it lives. */
export async function supervisorOf(world: World, data: string): Promise<number | undefined> {
  const [line = ''] = await readLines(world, `${data}/${SUPERVISOR_FILE}`);
  return living(world, line)?.pid;
}

/** This process supervises from here on. */
export const beSupervisor = (world: World, data: string): Promise<void> =>
  writeLines(world, `${data}/${SUPERVISOR_FILE}`, [lineOf(world, { name: '', pid: world.programs.ownPid })]);

export const recordRoles = (world: World, data: string, roles: readonly Process[]): Promise<void> =>
  writeLines(
    world,
    `${data}/${ROLES_FILE}`,
    roles.map(role => lineOf(world, role)),
  );

/** Nothing runs any more; unless another supervisor has begun meanwhile, whose files these are. */
export async function forgetProcesses(world: World, data: string): Promise<void> {
  const supervisor = await supervisorOf(world, data);
  if (supervisor !== undefined && supervisor !== world.programs.ownPid) return;
  const disk = world.disk('/');
  for (const name of [ROLES_FILE, SUPERVISOR_FILE]) {
    try {
      await disk.remove(`${data.slice(1)}/${name}`);
    } catch (error) {
      if (!isFault(error, 'file-missing')) throw error;
    }
  }
}

/** Roles that live, in the order of their start. */
export async function livingRoles(world: World, data: string): Promise<Process[]> {
  const lines = await readLines(world, `${data}/${ROLES_FILE}`);
  return lines.flatMap(line => living(world, line) ?? []);
}

/** Ends the roles that a supervisor left behind, last started first; who they were. */
export async function endRoles(world: World, data: string): Promise<Process[]> {
  const left = await livingRoles(world, data);
  for (const { pid } of left.toReversed()) await endProcess(world, pid);
  return left;
}

async function endProcess({ programs, clock }: World, pid: number): Promise<void> {
  const began = programs.began(pid);
  const lives = (): boolean => began !== undefined && programs.began(pid) === began;
  if (lives()) programs.signal(pid, 'SIGTERM');
  const end = clock.monotonic() + END_MS;
  while (lives()) {
    if (clock.monotonic() > end) programs.signal(pid, 'SIGKILL');
    await clock.sleep(POLL_MS);
  }
}
