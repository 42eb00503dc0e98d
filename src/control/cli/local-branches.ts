// Branches of the machine's own Lakebed, as adoption and checkout name them: through the manager, which knows the tenants.
//
//   PROJECT/BRANCH   a branch of a project
//   NAME             a branch of the oldest project, or else a project: its default branch
//   32 hex digits    a timeline, whoever has it
//
// An adoption is a project of its own: its branch `main` is the origin's timeline. The project is made first, so that the
// manager holds the tenant from its first byte on, and is ready when the base backup is in.

import type { VerbInput, World } from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { OriginAccess } from '../adopt/origin.ts';
import { ManagerClient } from './manager-client.ts';

export interface LocalBranch {
  readonly tenant: string;
  readonly timeline: string;
}

interface Project {
  readonly id: string;
  readonly name: string;
  readonly tenant_id: string;
  readonly created_at: string;
}

interface Branch {
  readonly name: string;
  readonly default: boolean;
  readonly timeline_id: string;
  readonly current_state: string;
}

const TIMELINE = /^[0-9a-f]{32}$/i;

async function projectsOf(client: ManagerClient): Promise<Project[]> {
  const { projects } = (await client.call('GET', '/api/v2/projects?limit=400')) as { projects: Project[] };
  return projects.toSorted((a, b) => (a.created_at < b.created_at ? -1 : 1));
}

async function branchesOf(client: ManagerClient, project: Project): Promise<Branch[]> {
  return (await client.call('GET', `/api/v2/projects/${project.id}/branches?limit=10000`)).branches;
}

export async function findLocalBranch(input: VerbInput, world: World, name: string): Promise<LocalBranch> {
  const client = await ManagerClient.find(input, world);
  const projects = await projectsOf(client);
  const pick = async (
    project: Project | undefined,
    wanted: (b: Branch) => boolean,
  ): Promise<LocalBranch | undefined> => {
    const branch = project && (await branchesOf(client, project)).find(wanted);
    return project && branch && { tenant: project.tenant_id, timeline: branch.timeline_id };
  };
  const called = (word: string): Project | undefined => projects.find(p => p.name === word || p.id === word);
  const [first, second] = name.split('/');
  let found: LocalBranch | undefined;
  if (TIMELINE.test(name)) {
    for (const project of projects) found ??= await pick(project, b => b.timeline_id === name.toLowerCase());
  } else if (second !== undefined) {
    found = await pick(called(first!), b => b.name === second);
  } else {
    found = (await pick(projects[0], b => b.name === name)) ?? (await pick(called(name), b => b.default));
  }
  if (found) return found;
  throw new Fault('timeline-missing', `there is no branch "${name}"`, {
    hint: 'Give a branch, PROJECT/BRANCH, or the name of an adopted project: lakebed project list.',
  });
}

/** The project of an adoption, made if there is none that waits for its base backup. */
export async function projectForAdoption(
  input: VerbInput,
  world: World,
  name: string,
  pgVersion: number,
  origin: OriginAccess | undefined,
): Promise<LocalBranch> {
  const client = await ManagerClient.find(input, world);
  const there = (await projectsOf(client)).find(project => project.name === name);
  if (there === undefined) {
    const project = { name, pg_version: pgVersion, adopt: true, ...(origin ? { origin } : {}) };
    const made = await client.call('POST', '/api/v2/projects', { project });
    return { tenant: made.project.tenant_id, timeline: made.branch.timeline_id };
  }
  const branch = (await branchesOf(client, there)).find(b => b.default);
  if (branch?.current_state === 'init') return { tenant: there.tenant_id, timeline: branch.timeline_id };
  throw new Fault('config-invalid', `there is a project "${name}" already`, {
    hint: 'Call the adopted one otherwise: --branch NAME.',
  });
}

/** That of an adoption that goes on; a Fault when it was deleted meanwhile. */
export async function adoptedBefore(input: VerbInput, world: World, timeline: string): Promise<LocalBranch> {
  try {
    return await findLocalBranch(input, world, timeline);
  } catch (error) {
    if (!isFault(error, 'timeline-missing')) throw error;
    throw new Fault('timeline-missing', 'what was adopted before is no longer here', {
      hint: 'Adopt it anew under another --branch.',
      cause: error,
    });
  }
}
