// Every action with its steps.

import type { OperationAction } from '../model.ts';
import { createBranch, deleteBranch, restoreBranch } from './branch.ts';
import { applyConfig, deleteCompute, startCompute, suspendCompute } from './compute.ts';
import { changeKey, createProject, deleteProject, tenantReattach } from './project.ts';
import type { ActionTable } from './step.ts';

export const ACTIONS: Readonly<Record<OperationAction, ActionTable>> = {
  create_project: createProject,
  delete_project: deleteProject,
  change_key: changeKey,
  create_branch: createBranch,
  delete_branch: deleteBranch,
  restore_branch: restoreBranch,
  start_compute: startCompute,
  suspend_compute: suspendCompute,
  apply_config: applyConfig,
  delete_compute: deleteCompute,
  tenant_reattach: tenantReattach,
};
