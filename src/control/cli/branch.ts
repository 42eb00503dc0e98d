// `lakebed branch ...`: what a user does with branches, through the manager.

import { textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { jsonOr, pointOf } from './answers.ts';
import { connectionUri, MANAGER_OPTIONS, ManagerClient, PROJECT_OPTION } from './manager-client.ts';
import { age, paintFor, tree } from './render.ts';

const OPTIONS = [PROJECT_OPTION, ...MANAGER_OPTIONS];
const NAME = { name: 'branch', help: 'name or id of the branch' };
const EXIT_CODES = { 1: 'refused, or no manager answers; the reason is said' };

interface Branch {
  readonly id: string;
  readonly name: string;
  readonly parent_id?: string;
  readonly parent_lsn?: string;
  readonly parent_timestamp?: string;
  readonly default: boolean;
  readonly protected: boolean;
  readonly expires_at?: string;
  readonly current_state: string;
  readonly created_at: string;
}

interface Endpoint {
  readonly id: string;
  readonly branch_id: string;
  readonly type: string;
  readonly current_state: string;
  readonly static_lsn?: string;
}

const branchPath = async (client: ManagerClient, input: VerbInput, name: string): Promise<string> =>
  `${await client.projectPath(input)}/branches/${encodeURIComponent(name)}`;

async function find(client: ManagerClient, input: VerbInput, name: string): Promise<Branch> {
  return (await client.call('GET', await branchPath(client, input, name))).branch;
}

const list: Verb = {
  name: 'branch list',
  summary: 'draw the branches of a project as a tree',
  options: OPTIONS,
  examples: [
    { line: 'lakebed branch list', what: 'who came from whom, and which computes run' },
    { line: 'lakebed branch list --json | jq ".branches[].name"', what: 'for scripts' },
  ],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const project = await client.projectPath(input);
    const { branches } = (await client.call('GET', `${project}/branches?limit=10000`)) as {
      branches: Branch[];
    };
    const { endpoints } = (await client.call('GET', `${project}/endpoints`)) as { endpoints: Endpoint[] };
    const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
    const now = world.clock.now();
    jsonOr(input, world, { branches, endpoints }, () =>
      tree(
        branches.map(b => ({ id: b.id, parent: b.parent_id, name: b.name, note: noteOf(b, endpoints, now) })),
        paint,
      ),
    );
    return 0;
  },
};

function noteOf(branch: Branch, endpoints: readonly Endpoint[], nowMs: number): string {
  const notes = [branch.id];
  if (branch.parent_lsn !== undefined) notes.push(`at ${branch.parent_lsn}`);
  notes.push(age(branch.created_at, nowMs));
  if (branch.default) notes.push('default');
  if (branch.protected) notes.push('protected');
  if (branch.expires_at !== undefined) notes.push(`expires ${branch.expires_at}`);
  if (branch.current_state !== 'ready') notes.push(branch.current_state);
  for (const e of endpoints.filter(e => e.branch_id === branch.id)) {
    const point = e.static_lsn === undefined ? '' : ` at ${e.static_lsn}`;
    notes.push(`${e.id}${e.type === 'read_only' ? ` (read only${point})` : ''} ${e.current_state}`);
  }
  return notes.join(', ');
}

const create: Verb = {
  name: 'branch create',
  summary: 'make a branch: at once, whatever the size',
  about:
    'A branch begins as its parent was at a point: now, an LSN, or a time. Nothing is copied; what is written on one\n' +
    'is not seen on the other. It comes with a compute that sleeps until somebody connects.',
  arguments: [{ name: 'name', help: 'what to call it; without it the manager finds a name', optional: true }],
  options: [
    { flags: '--parent BRANCH', help: "the branch to begin from; without it the project's default" },
    { flags: '--at POINT', help: "an LSN, a time, or '15 min ago'; without it now" },
    { flags: '--expires POINT', help: 'when to delete it again: a time' },
    { flags: '--no-compute', help: 'without a compute' },
    ...OPTIONS,
  ],
  examples: [
    { line: 'lakebed branch create dev', what: 'as main is now' },
    { line: "lakebed branch create before-the-mistake --at '1 hour ago'", what: 'as main was' },
    { line: 'lakebed branch create fix --parent dev --at 0/16B3748', what: 'from an LSN of another' },
  ],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const parent = textOption(input, 'parent');
    const expires = textOption(input, 'expires');
    const [name] = input.args;
    const answer = await client.done('POST', `${await client.projectPath(input)}/branches`, {
      branch: {
        ...(name === undefined ? {} : { name }),
        ...(parent === undefined ? {} : { parent_id: (await find(client, input, parent)).id }),
        ...pointOf(input, world, 'parent'),
        ...(expires === undefined ? {} : { expires_at: new Date(expires).toISOString() }),
      },
      ...(input.options['compute'] === false ? {} : { endpoints: [{ type: 'read_write' }] }),
    });
    const branch = await find(client, input, answer.branch.id);
    const withCompute = input.options['compute'] !== false;
    const uri = withCompute ? await connectionUri(client, input, branch.id, undefined) : undefined;
    jsonOr(input, world, { ...answer, branch }, () => {
      const from = branch.parent_lsn === undefined ? '' : ` at ${branch.parent_lsn}`;
      const project = textOption(input, 'project');
      const where = project === undefined ? '' : ` -p ${project}`;
      const connect =
        uri === undefined ? '' : `  connect  lakebed psql ${branch.name}${where}\n           ${uri}\n`;
      return `Branch ${branch.name} (${branch.id})${from}.\n${connect}`;
    });
    return 0;
  },
};

const reset: Verb = {
  name: 'branch reset',
  summary: 'make a branch again what its parent is now',
  about: 'What was written on the branch is given up, unless it is kept under another name.',
  arguments: [NAME],
  options: [
    { flags: '--keep-as NAME', help: 'keep what the branch was as a branch of this name' },
    ...OPTIONS,
  ],
  examples: [{ line: 'lakebed branch reset dev --keep-as dev-old', what: 'and keep what was there' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const keep = textOption(input, 'keepAs');
    const path = `${await branchPath(client, input, input.args[0]!)}/reset_to_parent`;
    const answer = await client.done('POST', path, keep === undefined ? {} : { preserve_under_name: keep });
    jsonOr(input, world, answer, () => `Branch ${answer.branch.name} is as its parent is.\n`);
    return 0;
  },
};

const restore: Verb = {
  name: 'branch restore',
  summary: 'put a branch back to what it was, or to what another is',
  about:
    'Connections are cut; the branch keeps its name and its computes. What it was is kept where asked for.',
  arguments: [NAME],
  options: [
    { flags: '--at POINT', help: "an LSN, a time, or '15 min ago'" },
    { flags: '--from BRANCH', help: 'as this branch was; without it, the branch itself' },
    { flags: '--keep-as NAME', help: 'keep what the branch was as a branch of this name' },
    ...OPTIONS,
  ],
  examples: [
    {
      line: "lakebed branch restore main --at '15 min ago' --keep-as main-broken",
      what: 'undo, with a way back',
    },
  ],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const branch = await find(client, input, input.args[0]!);
    const from = textOption(input, 'from');
    const keep = textOption(input, 'keepAs');
    const source = from === undefined ? branch : await find(client, input, from);
    const path = `${await branchPath(client, input, branch.id)}/restore`;
    const answer = await client.done('POST', path, {
      source_branch_id: source.id,
      ...pointOf(input, world, 'source'),
      // A branch that is restored from itself must be kept under a name: its new self reads through it.
      ...(keep === undefined
        ? source.id === branch.id
          ? { preserve_under_name: keptName(branch, world) }
          : {}
        : { preserve_under_name: keep }),
    });
    jsonOr(input, world, answer, () => `Branch ${answer.branch.name} is restored.\n`);
    return 0;
  },
};

const keptName = (branch: Branch, world: World): string =>
  `${branch.name}_old_${new Date(world.clock.now()).toISOString().replace(/[-:]|\.\d+Z$/g, '')}`;

const change = (
  word: string,
  summary: string,
  example: string,
  extra: { name: string; help: string } | undefined,
  fields: (input: VerbInput) => Record<string, unknown>,
): Verb => ({
  name: `branch ${word}`,
  summary,
  arguments: extra === undefined ? [NAME] : [NAME, extra],
  options: OPTIONS,
  examples: [{ line: example, what: summary }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const path = await branchPath(client, input, input.args[0]!);
    const answer = await client.done('PATCH', path, { branch: fields(input) });
    jsonOr(input, world, answer, () => `Branch ${answer.branch.name} is changed.\n`);
    return 0;
  },
});

const remove: Verb = {
  name: 'branch delete',
  summary: 'delete a branch and its computes',
  arguments: [NAME],
  options: OPTIONS,
  examples: [{ line: 'lakebed branch delete dev', what: 'refused while it is protected or has children' }],
  exitCodes: EXIT_CODES,
  async run(input, world) {
    const client = await ManagerClient.find(input, world);
    const answer = await client.done('DELETE', await branchPath(client, input, input.args[0]!));
    jsonOr(input, world, answer, () => `Branch ${input.args[0]} is deleted.\n`);
    return 0;
  },
};

export const branchVerbs: readonly Verb[] = [
  list,
  create,
  reset,
  restore,
  change(
    'rename',
    'call a branch otherwise',
    'lakebed branch rename dev trial',
    { name: 'name', help: 'the new name' },
    input => ({
      name: input.args[1],
    }),
  ),
  change(
    'protect',
    'a protected branch is neither deleted nor reset',
    'lakebed branch protect main',
    undefined,
    () => ({
      protected: true,
    }),
  ),
  change(
    'unprotect',
    'let a branch be deleted and reset again',
    'lakebed branch unprotect main',
    undefined,
    () => ({
      protected: false,
    }),
  ),
  change(
    'expire',
    'delete a branch at a time, or `never`',
    'lakebed branch expire trial 2026-12-31T00:00Z',
    { name: 'when', help: 'a time, or never' },
    input => {
      const [, when] = input.args;
      const at = Date.parse(when ?? '');
      if (when !== 'never' && Number.isNaN(at)) throw new Fault('command-unknown', `${when} is no time`);
      return { expires_at: when === 'never' ? null : new Date(at).toISOString() };
    },
  ),
  remove,
];
