// The loop: what was seen, the plan, its actions. It runs after every change and every TICK_MS; operations run side by
// side, each step by step, one commit a step (operations/step.ts). A start after a crash finds the operations that are
// not finished and goes on with them: there is no other recovery.

import { Fault, type FaultKind, isFault } from '../../base/fault.ts';
import { wordsOf } from './intents/failure.ts';
import type { Change, Endpoint, Operation } from './model.ts';
import { asleep } from './operations/compute.ts';
import {
  type NewOperation,
  newOperation,
  type OperationDeps,
  type StepContext,
  type StepResult,
} from './operations/step.ts';
import { ACTIONS } from './operations/table.ts';
import { type Action, type Desired, locksOf, type PlanSettings, plan, planOperations } from './plan.ts';
import type { Sight } from './sight.ts';
import { type Changes, isOpen } from './store.ts';

const TICK_MS = 1000;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 30_000;
/** Finished operations kept for each project. */
export const OPERATIONS_KEPT = 200;
/** Swept of old ones when there are so many more. */
const OPERATIONS_SLACK = 50;

/** Tried again; all else is told to whoever asked. */
const PASSING: ReadonlySet<FaultKind> = new Set(['unavailable', 'closed', 'conflict']);

export interface ReconcileOptions extends PlanSettings {
  readonly deps: OperationDeps;
  readonly sight: Sight;
}

export class Reconciler {
  private readonly deps: OperationDeps;
  private readonly sight: Sight;
  private readonly settings: PlanSettings;
  private readonly running = new Map<string, AbortController>();
  /** Opened in this life, and not begun yet. */
  private readonly fresh = new Set<string>();
  private readonly waiting = new Map<string, ((operation: Operation) => void)[]>();
  private readonly stopped = new AbortController();
  private work = new Set<Promise<void>>();
  private wakeUp: () => void = () => undefined;
  private nudged = false;
  private loops: Promise<void>[] = [];

  constructor(options: ReconcileOptions) {
    this.deps = options.deps;
    this.sight = options.sight;
    this.settings = options;
  }

  start(): void {
    this.loops = [this.runOperations(), this.sweep()];
  }

  /** Nothing new is begun; steps under way are ended, not waited for. */
  async stop(): Promise<void> {
    this.stopped.abort(new Fault('shutting-down', 'the manager is shutting down'));
    for (const abort of this.running.values()) abort.abort(this.stopped.signal.reason);
    this.nudge();
    await Promise.all(this.loops);
    await Promise.all(this.work);
  }

  /** Something changed: look at what is to be done, now. */
  nudge(): void {
    this.nudged = true;
    this.wakeUp();
  }

  /** Operations, as soon as they may. */
  private async runOperations(): Promise<void> {
    const { clock, store } = this.deps;
    while (!this.stopped.signal.aborted) {
      this.nudged = false;
      const running = new Set(this.running.keys());
      for (const action of planOperations(store.openOperations(), { now: clock.now(), running })) {
        if (action.do === 'run') this.begin(action.operation);
      }
      if (this.nudged) continue;
      const woken = new Promise<void>(resolve => (this.wakeUp = resolve));
      const napping = new AbortController();
      await Promise.race([woken, clock.sleep(this.napMs(), napping.signal).catch(() => undefined)]);
      napping.abort(new Error('awake'));
    }
  }

  /** The rest of the plan, every second: a look at the world may take its time. */
  private async sweep(): Promise<void> {
    const { clock, log, keys } = this.deps;
    const { signal } = this.stopped;
    while (!signal.aborted) {
      try {
        await this.sight.look();
        const { endpoints, nodes } = this.sight;
        const running = new Set(this.running.keys());
        const seen = { now: clock.now(), endpoints, nodes, running };
        const actions = plan(this.desired(), { ...seen, keyUse: id => keys.use(id) }, this.settings);
        for (const action of actions) if (!signal.aborted) await this.perform(action);
      } catch (error) {
        if (!isFault(error)) throw error;
        log.warn('what was planned could not be written down; it is planned again', { error });
      }
      await clock.sleep(TICK_MS, signal).catch(() => undefined);
    }
  }

  /** Until the next tick, or until an operation's wait is over. */
  private napMs(): number {
    const now = this.deps.clock.now();
    const due = this.deps.store
      .openOperations()
      .filter(operation => !this.running.has(operation.id) && operation.retryAt > now)
      .map(operation => operation.retryAt - now);
    return Math.max(1, Math.min(TICK_MS, ...due));
  }

  private desired(): Desired {
    const { store } = this.deps;
    return {
      projects: store.all('projects'),
      branches: store.all('branches'),
      endpoints: store.all('endpoints'),
      placements: store.all('placements'),
      nodes: store.all('nodes'),
      open: store.openOperations(),
      stale: this.stale(),
    };
  }

  private stale(): string[] {
    const { store } = this.deps;
    const stale: string[] = [];
    const orphans = new Set<string>();
    for (const operation of store.all('operations').values()) {
      if (!isOpen(operation) && !store.get('projects', operation.projectId)) orphans.add(operation.projectId);
    }
    for (const id of [...store.all('projects').keys(), ...orphans]) {
      const all = store.operationsOf(id);
      if (all.length < OPERATIONS_KEPT + OPERATIONS_SLACK) continue;
      const finished = all.filter(operation => !isOpen(operation));
      stale.push(...finished.slice(0, Math.max(0, finished.length - OPERATIONS_KEPT)).map(({ id }) => id));
    }
    return stale;
  }

  private async perform(action: Action): Promise<void> {
    const { store, clock } = this.deps;
    const now = clock.now();
    switch (action.do) {
      case 'run':
        return; // runOperations does
      case 'abort':
        this.running.get(action.operation)?.abort(new Fault('key-revoked', 'the customer key was revoked'));
        return;
      case 'suspend':
      case 'restart':
        // Another may have been asked for since the plan was made.
        if (this.isTaken(action.endpoint) && !(action.do === 'suspend' && action.reason === 'key')) return;
        await this.openFor(action, store.must('endpoints', action.endpoint), now);
        return;
      case 'rest': {
        if (this.isTaken(action.endpoint)) return;
        const endpoint = store.must('endpoints', action.endpoint);
        await store.commit([asleep(endpoint, now, { wanted: 'idle' })]);
        return;
      }
      case 'expire': {
        const branch = store.must('branches', action.branch);
        await this.open({ projectId: branch.projectId, branchId: branch.id, action: 'delete_branch' }, [
          { patch: 'branches', id: branch.id, set: { stage: 'deleting', updatedAt: now } },
        ]);
        return;
      }
      case 'move': {
        const placement = store.must('placements', action.tenant);
        const details = { from: placement.nodeId, to: action.to };
        const raised = (): Change[] => {
          const { generation } = store.must('placements', action.tenant);
          const set = { nodeId: action.to, generation: generation + 1 };
          return [{ patch: 'placements', id: placement.id, set }];
        };
        const operation = { projectId: placement.projectId, action: 'tenant_reattach', details } as const;
        await this.open(operation, raised);
        return;
      }
      case 'lease':
        await this.sight.renewLease(store.must('endpoints', action.endpoint));
        return;
      case 'forget':
        await store.commit(action.operations.map((id): Change => ({ remove: 'operations', id })));
        return;
    }
  }

  private isTaken(id: string): boolean {
    return this.deps.store.openOperations().some(operation => locksOf(operation).alone.includes(id));
  }

  private async openFor(
    action: Extract<Action, { do: 'suspend' | 'restart' }>,
    endpoint: Endpoint,
    now: number,
  ): Promise<void> {
    const { projectId, branchId, id: endpointId } = endpoint;
    const suspend = action.do === 'suspend';
    const lastActiveAt = this.sight.endpoints.get(endpointId)?.lastActiveAt ?? endpoint.lastActiveAt;
    const set: Partial<Endpoint> = { wanted: suspend ? 'idle' : 'active', lastActiveAt, updatedAt: now };
    await this.open(
      {
        projectId,
        branchId,
        endpointId,
        action: suspend ? 'suspend_compute' : 'start_compute',
        details: { reason: suspend ? action.reason : 'ended' },
      },
      [{ patch: 'endpoints', id: endpointId, set }],
    );
  }

  /** An operation written down, with what it changes at once; it begins when its turn has come. */
  async open(what: NewOperation, changes: Changes = []): Promise<Operation> {
    const [operation] = await this.openAll([what], changes);
    return operation!;
  }

  async openAll(what: readonly NewOperation[], changes: Changes = []): Promise<Operation[]> {
    const { store, random, clock } = this.deps;
    const operations = what.map(one => newOperation(store, random, clock.now(), one));
    const rows = operations.map((row): Change => ({ put: 'operations', row }));
    for (const { id } of operations) this.fresh.add(id);
    try {
      await store.commit(() => [...(typeof changes === 'function' ? changes() : changes), ...rows]);
    } catch (error) {
      for (const { id } of operations) this.fresh.delete(id);
      throw error;
    }
    this.nudge();
    return operations;
  }

  /** Resolves when it is finished or failed. */
  finished(id: string): Promise<Operation> {
    const operation = this.deps.store.get('operations', id);
    if (!operation) throw new Fault('operation-missing', `there is no operation ${id}`);
    if (!isOpen(operation)) return Promise.resolve(operation);
    return new Promise(resolve => this.waiting.set(id, [...(this.waiting.get(id) ?? []), resolve]));
  }

  private begin(id: string): void {
    const operation = this.deps.store.get('operations', id);
    if (!operation || !isOpen(operation) || this.running.has(id)) return;
    const abort = new AbortController();
    this.running.set(id, abort);
    const work = this.advance(operation, abort).finally(() => {
      this.running.delete(id);
      this.work.delete(work);
      this.nudge();
    });
    this.work.add(work);
  }

  /** Step after step, until the last, or trouble. */
  private async advance(first: Operation, abort: AbortController): Promise<void> {
    let isFirstTry = this.fresh.delete(first.id);
    // What may be settled in the catalog already is not begun once more: what it did would be nobody's.
    if (this.deps.store.isDoubtful && (await this.happened(first))) return;
    let operation = this.deps.store.get('operations', first.id) ?? first;
    while (isOpen(operation) && !this.stopped.signal.aborted) {
      const context = { ...this.contextOf(operation, abort.signal), isFirstTry };
      try {
        const { steps } = ACTIONS[operation.action];
        const result = await steps[operation.step]!.run(context);
        operation = await this.record(context, steps.length, result);
        isFirstTry = true;
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        await this.trouble(context, abort.signal.aborted ? abort.signal.reason : error);
        return;
      }
    }
  }

  private contextOf(operation: Operation, signal: AbortSignal): Omit<StepContext, 'isFirstTry'> {
    return { ...this.deps, operation, signal, now: this.deps.clock.now() };
  }

  /** The step and what it changed, in one commit. */
  private async record({ operation }: StepContext, count: number, result: StepResult): Promise<Operation> {
    const { store, clock } = this.deps;
    const step = result.done ? count : operation.step + 1;
    const row: Operation = {
      ...operation,
      step,
      status: step >= count ? 'finished' : 'running',
      details: { ...operation.details, ...result.details },
      failures: 0,
      error: undefined,
      retryAt: 0,
      updatedAt: clock.now(),
    };
    await store.commit([...(result.changes ?? []), { put: 'operations', row }]);
    if (!isOpen(row)) this.tell(row);
    return row;
  }

  private tell(operation: Operation): void {
    const waiting = this.waiting.get(operation.id) ?? [];
    this.waiting.delete(operation.id);
    for (const resolve of waiting) resolve(operation);
  }

  /** The step was recorded after all: what failed was to hear of it. */
  private async happened({ id, step }: Operation): Promise<boolean> {
    const { store, clock } = this.deps;
    try {
      await store.refresh();
    } catch (error) {
      if (!isFault(error)) throw error;
      // Not to be known now. It is taken up again, and then it is.
      await clock.sleep(RETRY_FIRST_MS, this.stopped.signal).catch(() => undefined);
      return true;
    }
    const operation = store.get('operations', id);
    if (operation && !isOpen(operation)) this.tell(operation);
    return operation === undefined || !isOpen(operation) || operation.step !== step;
  }

  /** Tried again later, or failed for good. */
  private async trouble(context: StepContext, error: unknown): Promise<void> {
    const { store, clock, log } = this.deps;
    const { operation } = context;
    if (await this.happened(operation)) return;
    const table = ACTIONS[operation.action];
    const failures = operation.failures + 1;
    const passing = isFault(error) && PASSING.has(error.kind) && failures < (table.triesMax ?? Infinity);
    const step = table.steps[operation.step]?.name;
    const fields = {
      operation: operation.id,
      action: operation.action,
      step,
      project: operation.projectId,
      error,
    };
    const now = clock.now();
    const base = { ...operation, failures, error: wordsOf(error), updatedAt: now };
    try {
      if (passing) {
        if (failures === 1 || failures % 10 === 0)
          log.warn('a step of an operation failed; it is tried again', fields);
        const waitMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 20));
        const row: Operation = { ...base, status: 'running', retryAt: now + waitMs };
        await store.commit([{ put: 'operations', row }]);
        return;
      }
      log.error('an operation failed', fields);
      await table.undo?.(context);
      const row: Operation = { ...base, status: 'failed' };
      await store.commit([...(table.onFailed?.(context) ?? []), { put: 'operations', row }]);
      this.tell(row);
    } catch (again) {
      if (!isFault(again)) throw again;
      // Neither the step nor its failure could be settled: the operation stays open, and is taken up again.
      log.warn('trouble with an operation could not be settled; it is taken up again', { ...fields, again });
      await clock.sleep(RETRY_FIRST_MS, this.stopped.signal).catch(() => undefined);
    }
  }
}
