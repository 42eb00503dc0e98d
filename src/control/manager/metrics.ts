// What a manager manages, told at each scrape: how many of each thing there are. Counted from its store, so that it is
// never told apart from what the API tells.

import type { Metrics } from '../../base/metrics.ts';
import type { Manager } from './manager.ts';

export function countsOf({ store }: Manager): Record<string, number> {
  const endpoints = [...store.all('endpoints').values()];
  return {
    projects: store.all('projects').size,
    branches: store.all('branches').size,
    endpoints: endpoints.length,
    endpoints_active: endpoints.filter(endpoint => endpoint.state === 'active').length,
    operations_open: store.openOperations().length,
  };
}

const HELP: Readonly<Record<string, string>> = {
  projects: 'Projects',
  branches: 'Branches, of all projects',
  endpoints: 'Endpoints, running or not',
  endpoints_active: 'Endpoints whose compute runs',
  operations_open: 'Operations that are not finished',
};

/** `manager` is asked for at a scrape alone. */
export function managerMetrics(metrics: Metrics, manager: () => Manager): void {
  for (const [name, help] of Object.entries(HELP)) {
    metrics.collected('gauge', `lakebed_manager_${name}`, help, [], emit =>
      emit([], countsOf(manager())[name]!),
    );
  }
}
