// Where storage is, from a command line: the machine's own Lakebed below a data directory, or addresses; and what lies
// beside it: the state of each adoption, by the name of its branch.
//
//   <data>/lakebed.json               ports (lakebed start)
//   <data>/adopted/<branch>.json      AdoptState, written aside and renamed

import { fromUtf8, utf8 } from '../../base/bytes.ts';
import type { OptionSpec, VerbInput, World } from '../../base/command.ts';
import { textOption } from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { tenantId, timelineId } from '../../base/ids.ts';
import type { Disk } from '../../base/ports.ts';
import { type LocalState, portsFrom, readState } from '../local/layout.ts';
import type { AdoptState, AdoptStore, HostPort, StorageAt } from './contract.ts';

const BRANCH = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const TIMELINE = /^[0-9a-f]{32}$/i;
const PAGES_PORT = 6400;

export const PLACE_OPTIONS: readonly OptionSpec[] = [
  { flags: '-D, --data-dir PATH', help: 'of lakebed start, on this machine', default: '.lakebed' },
  { flags: '--pageserver URL', help: 'management API of a pageserver elsewhere: http://host:9898' },
  { flags: '--tenant ID', help: 'with --pageserver: 32 hex digits' },
];

export interface Place {
  readonly storage: (tenant: string) => StorageAt;
  /** Of storage elsewhere; on this machine the manager knows. */
  readonly tenant: string | undefined;
  /** Below it adoptions are recorded; without the first slash. */
  readonly data: string;
}

export async function placeOf(input: VerbInput, world: World): Promise<Place> {
  const path = textOption(input, 'dataDir') ?? '.lakebed';
  const absolute = path.startsWith('/') ? path : `${world.environment('PWD') ?? ''}/${path}`;
  const data = absolute.replace(/^\/+/, '').replace(/\/+$/, '');
  const url = textOption(input, 'pageserver');
  const token = world.environment('NEON_AUTH_TOKEN');
  if (url !== undefined) {
    const at = elsewhere(input, url);
    return { data, tenant: at.tenant, storage: tenant => ({ ...at, tenant, token }) };
  }
  const ports = portsFrom((await localState(world.disk('/'), data)).portFirst);
  const here = (port: number): HostPort => ({ host: '127.0.0.1', port });
  const at = {
    pageserverHttp: `http://127.0.0.1:${ports.pageserverHttp}`,
    pageserver: here(ports.pageserver),
    safekeepers: ports.safekeepers.map(s => here(s.pg)),
  };
  return { data, tenant: undefined, storage: tenant => ({ ...at, tenant, token }) };
}

function elsewhere(input: VerbInput, url: string): StorageAt {
  if (!URL.canParse(url)) throw new Fault('config-invalid', `--pageserver: "${url}" is no URL`);
  const tenant = textOption(input, 'tenant');
  if (tenant === undefined)
    throw new Fault('config-invalid', 'with --pageserver, a --tenant must be given', {
      hint: 'A new tenant is 32 hex digits of your choice: openssl rand -hex 16.',
    });
  const pages = textOption(input, 'pages') ?? `${new URL(url).hostname}:${PAGES_PORT}`;
  return {
    pageserverHttp: url,
    pageserver: hostPort(pages, '--pages'),
    safekeepers: (textOption(input, 'safekeepers') ?? '')
      .split(',')
      .filter(text => text !== '')
      .map(text => hostPort(text, '--safekeepers')),
    tenant: tenantId(tenant),
  };
}

function hostPort(text: string, flag: string): HostPort {
  const [, host, port] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(text.trim()) ?? [];
  if (host === undefined) throw new Fault('config-invalid', `${flag}: "${text}" is no host:port`);
  return { host, port: Number(port) };
}

async function localState(disk: Disk, data: string): Promise<LocalState> {
  const state = await readState(disk, `/${data}`);
  if (state !== undefined) return state;
  throw new Fault('config-invalid', `there is no Lakebed in /${data}`, {
    hint: 'Start one (lakebed start), or say where it is: --data-dir, or --pageserver, --safekeepers and --tenant.',
  });
}

async function readJson<T>(disk: Disk, path: string): Promise<T | undefined> {
  try {
    return JSON.parse(fromUtf8(await disk.readFile(path))) as T;
  } catch (error) {
    if (isFault(error, 'file-missing')) return undefined;
    if (error instanceof SyntaxError)
      throw new Fault('config-invalid', `/${path} is damaged: ${error.message}`);
    throw error;
  }
}

// --------------------------------------------------------------------------------------------------------- branches

export function branchName(text: string): string {
  if (BRANCH.test(text) && !TIMELINE.test(text)) return text;
  throw new Fault('config-invalid', `"${text}" cannot be the name of an adopted branch`, {
    hint: 'Letters, digits, dots, dashes and underscores, at most 63.',
  });
}

const stateFile = ({ data }: Place, branch: string): string => `${data}/adopted/${branch}.json`;

/** The timeline of a name, or of an id. */
export async function findTimeline(place: Place, name: string, world: World): Promise<string> {
  if (TIMELINE.test(name)) return timelineId(name);
  const state = BRANCH.test(name)
    ? await readJson<AdoptState>(world.disk('/'), stateFile(place, name))
    : undefined;
  if (state !== undefined) return state.timeline;
  throw new Fault('timeline-missing', `there is no branch "${name}"`, {
    hint: 'Give the name of an adopted branch, or the id of a timeline.',
  });
}

/** What is kept of an adoption, in a file. */
export function adoptStore(place: Place, branch: string, world: World): AdoptStore {
  const disk = world.disk('/');
  const path = stateFile(place, branch);
  const directory = path.slice(0, path.lastIndexOf('/'));
  return {
    async load() {
      const state = await readJson<AdoptState>(disk, path);
      if (state === undefined || state.version === 1) return state;
      throw new Fault('config-invalid', `/${path} was written by another version of Lakebed`);
    },
    async save(state) {
      await disk.makeDirectory(directory);
      const aside = `${path}.new`;
      const file = await disk.open(aside, 'create');
      await file.truncate(0);
      await file.write(0, utf8(`${JSON.stringify(state, null, 2)}\n`));
      await file.sync();
      await file.close();
      await disk.rename(aside, path);
      await disk.syncDirectory(directory);
    },
  };
}
