// Names in calls: projects and branches by id or by name, and what a client of the proxy may call a compute.

import { Fault } from '../../../base/fault.ts';
import type { Branch, Endpoint, Project } from '../model.ts';
import type { Store } from '../store.ts';

export function findProject(store: Store, name: string): Project {
  const byId = store.get('projects', name);
  if (byId) return byId;
  const named = [...store.all('projects').values()].filter(project => project.name === name);
  if (named.length === 1) return named[0]!;
  if (named.length === 0) {
    throw new Fault('project-missing', `there is no project "${name}"`, {
      hint: 'Those there are: lakebed project list, or GET /api/v2/projects.',
    });
  }
  throw new Fault('request-invalid', `${named.length} projects are called "${name}"`, {
    hint: `Name it by its id: ${named.map(project => project.id).join(', ')}.`,
  });
}

export function findBranch(store: Store, project: Project, name: string): Branch {
  const byId = store.get('branches', name);
  if (byId?.projectId === project.id) return byId;
  const named = store.branchWhere(project.id, branch => branch.name === name);
  if (named) return named;
  throw new Fault('branch-missing', `project ${project.name} has no branch "${name}"`, {
    hint: `Those there are: lakebed branch list, or GET /api/v2/projects/${project.id}/branches.`,
  });
}

export function defaultBranch(store: Store, project: Project): Branch {
  const branch = store.branchWhere(project.id, one => one.isDefault);
  if (branch) return branch;
  throw new Fault('branch-missing', `project ${project.name} has no default branch`);
}

export function findEndpoint(store: Store, project: Project, id: string): Endpoint {
  const endpoint = store.get('endpoints', id);
  if (endpoint?.projectId === project.id) return endpoint;
  throw new Fault('endpoint-missing', `project ${project.name} has no endpoint "${id}"`, {
    hint: `Those there are: lakebed compute list, or GET /api/v2/projects/${project.id}/endpoints.`,
  });
}

/** The oldest: the one a first start makes. */
export function defaultProject(store: Store): Project {
  for (const project of store.all('projects').values()) if (project.stage !== 'deleting') return project;
  throw new Fault('project-missing', 'there is no project yet', { hint: 'POST /api/v2/projects makes one.' });
}

/** What a client of the proxy named: an endpoint, a branch of the default project, or PROJECT/BRANCH. */
export function findTarget(store: Store, target: string): { branch: Branch; endpoint: Endpoint | undefined } {
  const endpoint = store.get('endpoints', target);
  if (endpoint) return { branch: store.must('branches', endpoint.branchId), endpoint };
  const slash = target.indexOf('/');
  let branch: Branch;
  if (slash > 0) {
    const project = findProject(store, target.slice(0, slash));
    branch = findBranch(store, project, target.slice(slash + 1));
  } else {
    branch = findAnywhere(store, target);
  }
  return { branch, endpoint: primaryOf(store, branch) };
}

function findAnywhere(store: Store, target: string): Branch {
  const byId = store.get('branches', target);
  if (byId) return byId;
  const project = store.get('projects', target);
  return project ? defaultBranch(store, project) : findBranch(store, defaultProject(store), target);
}

export const primaryOf = (store: Store, branch: Branch): Endpoint | undefined =>
  store
    .endpointsOf(branch.id)
    .find(endpoint => endpoint.type === 'read_write' && endpoint.stage !== 'deleting');
