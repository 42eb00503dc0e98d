// `lakebed psql`: a session on a branch, with the psql at hand: that of Neon's build, or the one on the PATH. Where there
// is none, `--command` still works, by our own client.

import { textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { PqClient } from '../../protocol/pq-client.ts';
import { connectionUri, MANAGER_OPTIONS, ManagerClient, PROJECT_OPTION } from './manager-client.ts';
import { paintFor, table } from './render.ts';

const MAJORS = [18, 17, 16, 15, 14];

export const psqlVerb: Verb = {
  name: 'psql',
  summary: 'open psql on a branch; its compute wakes if it sleeps',
  about:
    'Passwords of roles made here are known. Those of an adopted server are its own: psql asks, or takes PGPASSWORD.',
  arguments: [
    { name: 'target', help: 'a branch or a compute; without it the default branch', optional: true },
  ],
  options: [
    { flags: '-d, --database NAME', help: 'the database' },
    { flags: '-U, --user ROLE', help: "the role; without it the database's owner" },
    { flags: '-c, --command SQL', help: 'run this and end' },
    PROJECT_OPTION,
    ...MANAGER_OPTIONS.filter(o => o.flags !== '--json'),
  ],
  examples: [
    { line: 'lakebed psql', what: 'the default branch' },
    { line: "lakebed psql dev -c 'select count(*) from orders'", what: 'one statement on another' },
  ],
  exitCodes: { 1: 'no compute, or psql says so' },
  run,
};

async function run(input: VerbInput, world: World): Promise<number> {
  const client = await ManagerClient.find(input, world);
  const [database, role] = [textOption(input, 'database'), textOption(input, 'user')];
  const uri = await connectionUri(client, input, input.args[0], database, role);
  const command = textOption(input, 'command');
  const builds = world.environment('NEON_PG_DIR');
  const places = builds === undefined ? [] : MAJORS.map(major => `${builds}/v${major}/bin`);
  const psql = world.programs.find('psql', places);
  if (psql !== undefined) {
    return world.programs.interactive(psql, [uri, ...(command === undefined ? [] : ['-c', command])], {});
  }
  if (command === undefined) {
    throw new Fault('file-missing', 'there is no psql on this machine', {
      hint: `Install Postgres's client programs, or give --command SQL. Any client can connect with:\n  ${uri}`,
    });
  }
  const session = await openSession(world, uri);
  try {
    const { columns, rows } = await session.query(command);
    const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
    if (columns.length > 0)
      world.terminal.write(
        table(
          columns,
          rows.map(row => row.map(v => v ?? '')),
          paint,
        ),
      );
    return 0;
  } finally {
    await session.end();
  }
}

/** A session by our own client, as a connection string says. */
export function openSession(world: World, uri: string): Promise<PqClient> {
  const url = new URL(uri);
  const options = url.searchParams.get('options');
  return PqClient.connect(world.net, world.random, {
    host: url.hostname,
    port: Number(url.port || 5432),
    password: decodeURIComponent(url.password) || world.environment('PGPASSWORD'),
    parameters: {
      user: decodeURIComponent(url.username),
      database: decodeURIComponent(url.pathname.slice(1)),
      ...(options === null ? {} : { options }),
    },
  });
}
