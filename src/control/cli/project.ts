// `lakebed project ...` and `lakebed operations`: projects, and what was asked for, through the manager.

import { textOption, type Verb, type VerbInput } from '../../base/command.ts';
import { jsonOr } from './answers.ts';
import { MANAGER_OPTIONS, ManagerClient, PROJECT_OPTION } from './manager-client.ts';
import { age, paintFor, table } from './render.ts';

const EXIT_CODES = { 1: 'refused, or no manager answers; the reason is said' };
const NAME = { name: 'project', help: 'name or id of the project' };

interface Project {
  readonly id: string;
  readonly name: string;
  readonly pg_version: number;
  readonly key?: string;
  readonly key_state: string;
  readonly created_at: string;
}

const pathOf = (input: VerbInput): string => `/api/v2/projects/${encodeURIComponent(input.args[0]!)}`;

const list: Verb = {
  name: 'project list',
  summary: 'list the projects',
  options: MANAGER_OPTIONS,
  examples: [{ line: 'lakebed project list', what: 'with their Postgres and their key' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const answer = (await client.call('GET', '/api/v2/projects?limit=400&ask_keys=true')) as {
      projects: Project[];
    };
    const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
    const rows = answer.projects.map(p => [
      p.id,
      p.name,
      String(p.pg_version),
      p.key ?? 'default',
      p.key_state === 'unknown' ? 'no answer from its key service' : p.key_state,
      age(p.created_at, world.clock.now()),
    ]);
    jsonOr(input, world, answer, () =>
      table(['id', 'project', 'pg', 'key', 'key state', 'made'], rows, paint),
    );
    return 0;
  },
};

const create: Verb = {
  name: 'project create',
  summary: 'make a project: a database cluster of its own, with a branch and a compute',
  arguments: [{ name: 'name', help: 'what to call it', optional: true }],
  options: [
    { flags: '--pg-version MAJOR', help: 'Postgres major' },
    { flags: '--key CMK', help: 'the customer key to seal it under: local:NAME, an ARN, a vault URL' },
    { flags: '--branch NAME', help: 'name of its first branch' },
    ...MANAGER_OPTIONS,
  ],
  examples: [
    { line: 'lakebed project create shop', what: 'under the default key' },
    {
      line: 'lakebed project create ledger --key local:ledger --pg-version 16',
      what: 'under a key of its own',
    },
  ],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const [name] = input.args;
    const version = textOption(input, 'pgVersion');
    const key = textOption(input, 'key');
    const branch = textOption(input, 'branch');
    const answer = await client.done('POST', '/api/v2/projects', {
      project: {
        ...(name === undefined ? {} : { name }),
        ...(version === undefined ? {} : { pg_version: Number(version) }),
        ...(key === undefined ? {} : { key }),
        ...(branch === undefined ? {} : { branch: { name: branch } }),
      },
    });
    jsonOr(input, world, answer, () => {
      const uri = answer.connection_uris?.[0]?.connection_uri;
      return `Project ${answer.project.name} (${answer.project.id}), branch ${answer.branch.name}.\n${uri === undefined ? '' : `  connect  ${uri}\n`}`;
    });
    return 0;
  },
};

const remove: Verb = {
  name: 'project delete',
  summary: 'delete a project with all its branches',
  arguments: [NAME],
  options: MANAGER_OPTIONS,
  examples: [{ line: 'lakebed project delete shop', what: 'for good' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const answer = await client.done('DELETE', pathOf(input));
    jsonOr(input, world, answer, () => `Project ${answer.project.name} is deleted.\n`);
    return 0;
  },
};

const operations: Verb = {
  name: 'operations',
  summary: 'list what was asked for, and how far it is',
  options: [PROJECT_OPTION, ...MANAGER_OPTIONS],
  examples: [{ line: 'lakebed operations', what: 'the newest first' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const answer = await client.call('GET', `${await client.projectPath(input)}/operations?limit=50`);
    const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
    const rows = answer.operations.map((o: Record<string, string | number | string[] | undefined>) => [
      String(o['id']),
      String(o['action']).replaceAll('_', ' '),
      String(o['status']),
      `${o['steps_done']}/${(o['steps'] as string[]).length}`,
      age(o['created_at'] as string, world.clock.now()),
      String(o['error'] ?? '').replaceAll('\n', '. '),
    ]);
    jsonOr(input, world, answer, () =>
      table(['id', 'operation', 'status', 'step', 'asked', 'trouble'], rows, paint),
    );
    return 0;
  },
};

export const projectVerbs: readonly Verb[] = [list, create, remove, operations];
