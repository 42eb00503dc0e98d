// `lakebed logs`: what the roles and computes of this machine's Lakebed have said. Each role keeps its log in its own
// directory, the manager keeps those of computes.

import { fromUtf8 } from '../../base/bytes.ts';
import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import type { Disk } from '../../base/ports.ts';
import { DATA_DIR, dataDirectory } from './manager-client.ts';

const FOLLOW_MS = 200;

export const logsVerb: Verb = {
  name: 'logs',
  summary: 'print the log of a role or a compute',
  arguments: [
    { name: 'name', help: 'such as pageserver, safekeeper-1, ep-...; without it a list', optional: true },
  ],
  options: [
    DATA_DIR,
    { flags: '-n, --lines COUNT', help: 'how many of the last lines', default: '50' },
    { flags: '-f, --follow', help: 'go on with what comes' },
  ],
  examples: [
    { line: 'lakebed logs pageserver -f', what: 'and what comes' },
    { line: 'lakebed logs', what: 'which logs there are' },
  ],
  exitCodes: { 1: 'there is no such log' },
  run: logs,
};

async function logs(input: VerbInput, world: World): Promise<number> {
  const data = dataDirectory(input, world);
  const disk = world.disk(data);
  const found = await logFiles(disk);
  const [name] = input.args;
  if (name === undefined) {
    for (const [role, path] of found) world.terminal.write(`${role}  ${data}/${path}\n`);
    return 0;
  }
  const path = found.get(name);
  if (path === undefined) {
    throw new Fault('file-missing', `there is no log of ${name} in ${data}`, {
      hint: found.size === 0 ? 'Nothing has run here yet.' : `There is: ${[...found.keys()].join(', ')}.`,
    });
  }
  const lines = Number(textOption(input, 'lines'));
  if (!Number.isInteger(lines) || lines < 0)
    throw new Fault('command-unknown', '--lines wants a whole number');
  let at = await tail(disk, path, lines, world);
  while (flagOption(input, 'follow') && !world.signal.aborted) {
    at = await copyFrom(disk, path, at, world);
    await world.clock.sleep(FOLLOW_MS, world.signal).catch(() => {});
  }
  return 0;
}

/** `<role>/<role>.log` of every role, and the computes' own. */
async function logFiles(disk: Disk): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const listed = async (path: string): Promise<string[]> => {
    const stat = path === '' ? { isDirectory: true } : await disk.stat(path);
    return stat?.isDirectory === true ? disk.list(path).catch(() => []) : [];
  };
  for (const name of await listed('')) {
    if (name === 'lakebed.log') found.set('lakebed', name);
    for (const inside of await listed(name)) {
      if (inside === `${name}.log`) found.set(name, `${name}/${inside}`);
    }
  }
  for (const name of await listed('manager/computes')) {
    const path = `manager/computes/${name}`;
    if (name.endsWith('.log')) found.set(name.slice(0, -4), path);
    else if ((await listed(path)).includes('log')) found.set(name, `${path}/log`);
  }
  return found;
}

const TAIL_BYTES = 256 * 1024;

/** The last lines; where the file ended. */
async function tail(disk: Disk, path: string, lines: number, world: World): Promise<number> {
  const file = await disk.open(path, 'read');
  try {
    const size = await file.size();
    const from = Math.max(0, size - TAIL_BYTES);
    const text = fromUtf8(await file.read(from, size - from));
    const all = text.split('\n');
    if (all.at(-1) === '') all.pop();
    for (const line of lines === 0 ? [] : all.slice(-lines)) world.terminal.write(`${line}\n`);
    return size;
  } finally {
    await file.close();
  }
}

/** What came since; a file that was begun anew is read from its start. */
async function copyFrom(disk: Disk, path: string, at: number, world: World): Promise<number> {
  const file = await disk.open(path, 'read');
  try {
    const size = await file.size();
    const from = size < at ? 0 : at;
    if (size > from) world.terminal.write(fromUtf8(await file.read(from, size - from)));
    return size;
  } finally {
    await file.close();
  }
}
