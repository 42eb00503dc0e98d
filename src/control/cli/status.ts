// `lakebed status`: which roles answer, which computes run, where to connect, how much room the disk has.

import type { Verb, VerbInput, World } from '../../base/command.ts';
import { type LocalState, portsFrom, readState, roles } from '../local/layout.ts';
import { livingRoles, supervisorOf } from '../local/processes.ts';
import { isLow, roomAt, roomText } from '../local/room.ts';
import { jsonOr } from './answers.ts';
import { DATA_DIR, dataDirectory, ManagerClient } from './manager-client.ts';
import { type Paint, paintFor, table } from './render.ts';

const ASK_MS = 2000;

export const statusVerb: Verb = {
  name: 'status',
  summary: 'say what of Lakebed runs on this machine',
  options: [DATA_DIR, { flags: '--json', help: 'as JSON' }],
  examples: [{ line: 'lakebed status', what: 'roles, computes, and where to connect' }],
  exitCodes: { 1: 'it does not run, or a role does not answer' },
  run,
};

async function run(input: VerbInput, world: World): Promise<number> {
  const data = dataDirectory(input, world);
  const state = await readState(world.disk('/'), data);
  const pid = await supervisorOf(world, data);
  if (state === undefined || pid === undefined) {
    const left = (await livingRoles(world, data)).map(role => role.name);
    jsonOr(input, world, { running: false, data, left }, () =>
      left.length === 0
        ? `No Lakebed runs in ${data}.\n`
        : `The Lakebed in ${data} was killed. These still run, and nobody starts them again: ${left.join(', ')}.\n` +
          'Take it up again with: lakebed start. End it with: lakebed stop.\n',
    );
    return 1;
  }
  const seen = await Promise.all(
    roles({ data, portFirst: state.portFirst, pgDistribDir: undefined }).map(async role => ({
      name: role.name,
      answers: await answers(world, role.statusUrl),
    })),
  );
  const proxy = `127.0.0.1:${portsFrom(state.portFirst).proxy}`;
  const computes = await running(world, state);
  const room = await roomAt(world, data);
  const disk = { free_bytes: room.freeBytes, capacity_bytes: room.capacityBytes };
  const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
  jsonOr(
    input,
    world,
    { running: true, pid, data, proxy, roles: seen, computes: computes ?? null, disk },
    () => {
      const rows = seen.map(r => [r.name, r.answers ? paint.good('answers') : paint.warn('does not answer')]);
      return [
        `Lakebed runs in ${data} (process ${pid}); clients connect to ${proxy}.\n\n`,
        table(['role', 'state'], rows, paint),
        `\n${computesText(computes, paint)}`,
        `\n${roomText(room)} are free on its disk.\n`,
        isLow(room) ? paint.warn('Commits wait, and nothing is lost, when it is full: free some.\n') : '',
      ].join('');
    },
  );
  return seen.every(r => r.answers) ? 0 : 1;
}

function computesText(computes: readonly Running[] | undefined, paint: Paint): string {
  if (computes === undefined) return 'Which computes run, the manager does not say.\n';
  if (computes.length === 0) return 'Every compute sleeps.\n';
  const up = computes.map(c => [c.id, c.driver ?? '-', c.branch_id]);
  return table(['compute', 'driver', 'branch'], up, paint);
}

async function answers(world: World, url: string): Promise<boolean> {
  try {
    const reply = await world.http.request({ method: 'GET', url, timeoutMs: ASK_MS });
    for await (const _ of reply.body);
    return reply.status < 300;
  } catch {
    return false;
  }
}

interface Running {
  readonly id: string;
  readonly branch_id: string;
  readonly driver?: string;
  readonly current_state: string;
}

/** Computes that run, of every project; undefined when the manager does not answer. */
async function running(world: World, state: LocalState): Promise<Running[] | undefined> {
  const manager = new ManagerClient(world, `http://127.0.0.1:${portsFrom(state.portFirst).manager}`);
  try {
    const { projects } = await manager.call('GET', '/api/v2/projects?limit=400');
    const lists = await Promise.all(
      projects.map((p: { id: string }) => manager.call('GET', `/api/v2/projects/${p.id}/endpoints`)),
    );
    return lists.flatMap(l => l.endpoints as Running[]).filter(e => e.current_state === 'active');
  } catch {
    return undefined;
  }
}
