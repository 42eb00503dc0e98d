// How a command reaches the manager: where it is, its calls, and waiting for what was asked for.
//
// The manager's address is --manager, LAKEBED_MANAGER, or that of the machine's own Lakebed (its data directory says
// which ports are whose); a token, where it asks for one, is in LAKEBED_TOKEN. Trouble it answers with becomes a Fault
// that says its words and its hint; nobody there becomes one that says how to start it.

import { utf8 } from '../../base/bytes.ts';
import { type OptionSpec, textOption, type VerbInput, type World } from '../../base/command.ts';
import { Fault, type FaultCode, isFault } from '../../base/fault.ts';
import { answerText } from '../../base/http.ts';
import { portsFrom, readState } from '../local/layout.ts';
import { resolvePath } from './wal-source.ts';

export const DATA_DIR_DEFAULT = '.lakebed';
const CALL_MS = 30_000;
/** An operation is asked about this often. */
const POLL_MS = 50;
/** initdb of a new project on a slow machine takes the longest. */
const WAIT_MS = 300_000;

/** Of commands about this machine's own. */
export const DATA_DIR: OptionSpec = {
  flags: '-D, --data-dir PATH',
  help: 'where everything is kept',
  default: DATA_DIR_DEFAULT,
};

/** Options of every command that speaks with the manager. */
export const MANAGER_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '-D, --data-dir PATH',
    help: 'data directory of the Lakebed on this machine',
    default: DATA_DIR_DEFAULT,
  },
  { flags: '--manager URL', help: 'a manager elsewhere (LAKEBED_MANAGER)' },
  { flags: '--json', help: 'print what the manager answers, as JSON' },
];

export const PROJECT_OPTION: OptionSpec = {
  flags: '-p, --project NAME',
  help: 'the project, by id or name; without it the only one, or the oldest',
};

export const dataDirectory = (input: VerbInput, world: World): string =>
  `/${resolvePath(world, textOption(input, 'dataDir') ?? DATA_DIR_DEFAULT)}`;

export interface Operation {
  readonly id: string;
  readonly project_id: string;
  readonly action: string;
  readonly status: 'scheduling' | 'running' | 'finished' | 'failed';
  readonly error?: string;
  /** What is under way. */
  readonly step?: string;
  readonly steps: readonly string[];
  readonly steps_done: number;
}

export class ManagerClient {
  readonly url: string;
  private readonly world: World;
  private readonly token: string | undefined;

  constructor(world: World, url: string) {
    this.world = world;
    this.url = url.replace(/\/$/, '');
    this.token = world.environment('LAKEBED_TOKEN');
  }

  static async find(input: VerbInput, world: World): Promise<ManagerClient> {
    const given = textOption(input, 'manager') ?? world.environment('LAKEBED_MANAGER');
    if (given !== undefined) return new ManagerClient(world, given);
    const data = dataDirectory(input, world);
    const state = await readState(world.disk('/'), data);
    if (state === undefined) {
      throw new Fault('file-missing', `there is no Lakebed in ${data}`, {
        hint: 'Start one with: lakebed start. Or name its place: --data-dir PATH, --manager URL.',
      });
    }
    return new ManagerClient(world, `http://127.0.0.1:${portsFrom(state.portFirst).manager}`);
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers are whatever the call says
  async call(method: string, path: string, body?: unknown, timeoutMs = CALL_MS): Promise<any> {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (this.token !== undefined) headers['authorization'] = `Bearer ${this.token}`;
    let reply: Awaited<ReturnType<World['http']['request']>>;
    try {
      reply = await this.world.http.request({
        method,
        url: `${this.url}${path}`,
        headers,
        timeoutMs,
        ...(body === undefined ? {} : { body: utf8(JSON.stringify(body)) }),
      });
    } catch (error) {
      if (!isFault(error, 'connection-failed')) throw error;
      throw new Fault('connection-failed', `nobody answers at ${this.url}`, {
        hint: 'Start it with: lakebed start.',
        cause: error,
      });
    }
    const text = await answerText(reply);
    if (reply.status >= 200 && reply.status < 300) return text === '' ? undefined : JSON.parse(text);
    throw refusal(reply.status, text);
  }

  /** The project's path, by what the user called it. */
  async projectPath(input: VerbInput): Promise<string> {
    const named = textOption(input, 'project');
    if (named !== undefined) return `/api/v2/projects/${encodeURIComponent(named)}`;
    const { projects } = await this.call('GET', '/api/v2/projects?limit=400');
    const oldest = [...projects].sort((a, b) => (a.created_at < b.created_at ? -1 : 1))[0];
    if (oldest) return `/api/v2/projects/${oldest.id}`;
    throw new Fault('file-missing', 'there is no project yet', {
      hint: 'Make one: lakebed project create NAME.',
    });
  }

  /** Until all of them are finished; a bar for a person meanwhile, and what keeps them from it, each trouble once. */
  async finished(operations: readonly Operation[]): Promise<void> {
    const { clock, terminal } = this.world;
    const end = clock.monotonic() + WAIT_MS;
    for (const operation of operations) {
      let now = operation;
      let told: string | undefined;
      const bar = terminal.progress(
        operation.action.replaceAll('_', ' '),
        Math.max(1, operation.steps.length),
      );
      try {
        while (now.status !== 'finished') {
          bar.update(now.steps_done, now.step?.replaceAll('_', ' '));
          if (now.status === 'failed') {
            const [why = 'no reason given', hint] = now.error?.split('\n') ?? [];
            const options = hint === undefined ? {} : { hint };
            throw new Fault('compute-refused', `${now.action} failed: ${why}`, options);
          }
          if (now.error !== undefined && now.error !== told) {
            told = now.error;
            terminal.note(
              `${now.action.replaceAll('_', ' ')} is tried again: ${told.replaceAll('\n', '. ')}\n`,
            );
          }
          if (clock.monotonic() > end) {
            throw new Fault(
              'timeout',
              `${now.action} is not done after ${WAIT_MS / 1000} s: ${now.error ?? now.status}`,
              {
                hint: 'It goes on; look at it with: lakebed operations.',
              },
            );
          }
          await clock.sleep(POLL_MS, this.world.signal);
          const path = `/api/v2/projects/${operation.project_id}/operations/${operation.id}`;
          now = (await this.call('GET', path)).operation;
        }
      } finally {
        bar.stop();
      }
    }
  }

  /** A call whose work goes on after the answer: both. */
  // biome-ignore lint/suspicious/noExplicitAny: answers are whatever the call says
  async done(method: string, path: string, body?: unknown): Promise<any> {
    const answer = await this.call(method, path, body);
    await this.finished(answer?.operations ?? []);
    return answer;
  }
}

/** What a branch's or a compute's connection string is. */
export async function connectionUri(
  client: ManagerClient,
  input: VerbInput,
  target: string | undefined,
  database: string | undefined,
  role?: string | undefined,
): Promise<string> {
  const project = await client.projectPath(input);
  const query = new URLSearchParams();
  if (target?.startsWith('ep-')) query.set('endpoint_id', target);
  else if (target !== undefined) {
    const { branch } = await client.call('GET', `${project}/branches/${encodeURIComponent(target)}`);
    query.set('branch_id', branch.id);
  }
  if (database !== undefined) query.set('database_name', database);
  if (role !== undefined) query.set('role_name', role);
  return (await client.call('GET', `${project}/connection_uri?${query}`)).uri;
}

function refusal(status: number, text: string): Fault {
  let said: { msg?: string; message?: string; hint?: string } = {};
  try {
    said = JSON.parse(text);
  } catch {
    // Not the manager's own words.
  }
  const message = said.msg ?? said.message ?? `the manager answers ${status}: ${text.slice(0, 200)}`;
  const code: FaultCode =
    status === 404
      ? 'route-unknown'
      : status === 401 || status === 403
        ? 'auth-failed'
        : status === 409
          ? 'compute-refused'
          : status < 500
            ? 'command-unknown'
            : 'server-error';
  const hint = said.hint ?? (status === 401 ? 'Put a token into LAKEBED_TOKEN.' : undefined);
  return new Fault(code, message, hint === undefined ? {} : { hint });
}
