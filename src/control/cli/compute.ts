// `lakebed compute ...`: computes of branches, through the manager. A compute is an endpoint of a branch: it has an id
// that clients may name, and sleeps while nobody uses it.

import { listOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { jsonOr, pointOf } from './answers.ts';
import { connectionUri, MANAGER_OPTIONS, ManagerClient, PROJECT_OPTION } from './manager-client.ts';
import { age, paintFor, table } from './render.ts';

const OPTIONS = [PROJECT_OPTION, ...MANAGER_OPTIONS];
const EXIT_CODES = { 1: 'refused, or no manager answers; the reason is said' };
const COMPUTE = { name: 'compute', help: 'id of the compute (ep-...), or a branch that has one only' };

interface Endpoint {
  readonly id: string;
  readonly branch_id: string;
  readonly name?: string;
  readonly type: string;
  readonly current_state: string;
  readonly driver?: string;
  readonly static_lsn?: string;
  readonly suspend_timeout_seconds: number;
  readonly size: number;
  readonly last_active?: string;
  readonly disabled: boolean;
}

async function endpointPath(client: ManagerClient, input: VerbInput, named: string): Promise<string> {
  const project = await client.projectPath(input);
  if (named.startsWith('ep-')) return `${project}/endpoints/${encodeURIComponent(named)}`;
  const { endpoints } = await client.call(
    'GET',
    `${project}/branches/${encodeURIComponent(named)}/endpoints`,
  );
  if (endpoints.length === 1) return `${project}/endpoints/${endpoints[0].id}`;
  throw new Fault('route-unknown', `branch ${named} has ${endpoints.length} computes`, {
    hint:
      endpoints.length === 0
        ? 'Make one: lakebed compute create BRANCH.'
        : 'Name one by its id: lakebed compute list.',
  });
}

const list: Verb = {
  name: 'compute list',
  summary: 'list the computes of a project',
  options: OPTIONS,
  examples: [{ line: 'lakebed compute list', what: 'with their state and when they were used' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const project = await client.projectPath(input);
    const { endpoints } = (await client.call('GET', `${project}/endpoints`)) as { endpoints: Endpoint[] };
    const { branches } = await client.call('GET', `${project}/branches?limit=10000`);
    const names = new Map<string, string>(branches.map((b: { id: string; name: string }) => [b.id, b.name]));
    const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
    const now = world.clock.now();
    const rows = endpoints.map(e => [
      e.id,
      names.get(e.branch_id) ?? e.branch_id,
      e.type === 'read_only'
        ? `read only${e.static_lsn === undefined ? '' : ` at ${e.static_lsn}`}`
        : 'read write',
      e.disabled ? 'disabled' : e.current_state,
      String(e.size),
      e.suspend_timeout_seconds < 0 ? 'never' : `${e.suspend_timeout_seconds || 'default'}`,
      e.driver ?? '-',
      age(e.last_active, now),
    ]);
    const head = ['compute', 'branch', 'type', 'state', 'size', 'sleeps after', 'driver', 'used'];
    jsonOr(input, world, { endpoints }, () => table(head, rows, paint));
    return 0;
  },
};

const SETTINGS = [
  { flags: '--suspend-after SECONDS', help: 'sleep after so long without use; 0: the default, -1: never' },
  { flags: '--size UNITS', help: 'compute units: 1 is 1 CPU and 4 GiB' },
  { flags: '--set NAME=VALUE', help: 'a setting of postgresql.conf', many: true },
];

function settingsOf(input: VerbInput): Record<string, unknown> {
  const after = textOption(input, 'suspendAfter');
  const size = textOption(input, 'size');
  const pairs = listOption(input, 'set').map(pair => {
    const at = pair.indexOf('=');
    if (at <= 0) throw new Fault('command-unknown', `--set ${pair}: NAME=VALUE is wanted`);
    return [pair.slice(0, at), pair.slice(at + 1)] as const;
  });
  for (const [flag, value] of [
    ['--suspend-after', after],
    ['--size', size],
  ] as const) {
    if (value !== undefined && !Number.isFinite(Number(value))) {
      throw new Fault('command-unknown', `${flag} ${value} is no number`);
    }
  }
  return {
    ...(after === undefined ? {} : { suspend_timeout_seconds: Number(after) }),
    ...(size === undefined ? {} : { size: Number(size) }),
    ...(pairs.length === 0 ? {} : { settings: { pg_settings: Object.fromEntries(pairs) } }),
  };
}

const create: Verb = {
  name: 'compute create',
  summary: 'give a branch a compute',
  about:
    'A branch has at most one compute that writes, and any number that read: following it, or at one point for ever.',
  arguments: [{ name: 'branch', help: 'name or id of the branch' }],
  options: [
    { flags: '--read-only', help: 'a replica that follows the branch' },
    { flags: '--at POINT', help: "read only at one point for ever: an LSN, a time, or '15 min ago'" },
    ...SETTINGS,
    ...OPTIONS,
  ],
  examples: [
    { line: 'lakebed compute create main --read-only', what: 'a replica' },
    { line: 'lakebed compute create main --at yesterday', what: 'yesterday, to look at' },
    { line: 'lakebed compute create dev --size 2 --set work_mem=64MB', what: 'with settings' },
  ],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const project = await client.projectPath(input);
    const { branch } = await client.call('GET', `${project}/branches/${encodeURIComponent(input.args[0]!)}`);
    const point = pointOf(input, world, 'static');
    const reads = input.options['readOnly'] === true || Object.keys(point).length > 0;
    const answer = await client.done('POST', `${project}/endpoints`, {
      endpoint: {
        branch_id: branch.id,
        type: reads ? 'read_only' : 'read_write',
        ...point,
        ...settingsOf(input),
      },
    });
    jsonOr(
      input,
      world,
      answer,
      () => `Compute ${answer.endpoint.id}.\n  connect  lakebed psql ${answer.endpoint.id}\n`,
    );
    return 0;
  },
};

const verb = (word: string, summary: string, done: string): Verb => ({
  name: `compute ${word}`,
  summary,
  arguments: [COMPUTE],
  options: OPTIONS,
  examples: [{ line: `lakebed compute ${word} main`, what: summary }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const path = await endpointPath(client, input, input.args[0]!);
    const answer =
      word === 'delete'
        ? await client.done('DELETE', path)
        : await client.done('POST', `${path}/${word}`, {});
    jsonOr(input, world, answer, () => `Compute ${answer.endpoint.id} ${done}.\n`);
    return 0;
  },
});

const set: Verb = {
  name: 'compute set',
  summary: "change a compute's settings",
  arguments: [COMPUTE],
  options: [...SETTINGS, ...OPTIONS],
  examples: [{ line: 'lakebed compute set main --suspend-after 60', what: 'let it sleep after a minute' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const path = await endpointPath(client, input, input.args[0]!);
    const answer = await client.done('PATCH', path, { endpoint: settingsOf(input) });
    jsonOr(input, world, answer, () => `Compute ${answer.endpoint.id} is changed.\n`);
    return 0;
  },
};

export const computeVerbs: readonly Verb[] = [
  list,
  create,
  verb('start', 'wake a compute', 'runs'),
  verb('suspend', 'let a compute sleep now', 'sleeps'),
  verb('restart', 'stop a compute and start it again', 'runs again'),
  set,
  verb('delete', 'delete a compute; the branch stays', 'is deleted'),
];

export const uriVerb: Verb = {
  name: 'uri',
  summary: 'print the connection string of a branch or compute',
  arguments: [
    { name: 'target', help: 'a branch or a compute; without it the default branch', optional: true },
  ],
  options: [
    { flags: '-d, --database NAME', help: 'the database' },
    { flags: '-U, --user ROLE', help: "the role; without it the database's owner" },
    ...OPTIONS,
  ],
  examples: [{ line: 'psql "$(lakebed uri dev)"', what: 'with your own psql' }],
  exitCodes: EXIT_CODES,
  async run(input: VerbInput, world: World) {
    const client = await ManagerClient.find(input, world);
    const [database, role] = [textOption(input, 'database'), textOption(input, 'user')];
    const uri = await connectionUri(client, input, input.args[0], database, role);
    jsonOr(input, world, { uri }, () => `${uri}\n`);
    return 0;
  },
};
