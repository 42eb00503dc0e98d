// A way to run computes. Each driver takes a specification and answers with an address; what happens in between is its
// own. Computes keep nothing that must last, outlive the manager, and are found again by their endpoint's id.
//
// start     what runs under the id already is replaced, unless it runs what is asked for; resolves when it takes
//           connections; a signal that is aborted ends it
// stop      `fast` ends sessions in order, `immediate` at once; in both cases the data directory is gone afterwards.
//           Of one that does not run: nothing
// configure settings, roles and databases of one that runs; true when it must be restarted to take all of them

import { Fault, isFault } from '../../../base/fault.ts';
import type { ComputeSettings, DriverKind } from '../model.ts';

export type ComputeMode = 'primary' | 'replica' | { readonly staticLsn: string };

export interface RoleSpec {
  readonly name: string;
  readonly verifier: string | undefined;
}

export interface DatabaseSpec {
  readonly name: string;
  readonly owner: string;
}

export interface SafekeeperAt {
  readonly host: string;
  readonly port: number;
  readonly httpPort: number;
}

export interface ComputeSpec {
  readonly endpointId: string;
  readonly projectId: string;
  readonly branchId: string;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly pgVersion: number;
  readonly mode: ComputeMode;
  readonly pageserver: { readonly host: string; readonly port: number; readonly http: string };
  readonly safekeepers: readonly SafekeeperAt[];
  readonly roles: readonly RoleSpec[];
  readonly databases: readonly DatabaseSpec[];
  readonly settings: ComputeSettings;
  /** Of a cluster that was adopted: its first superuser, who makes the manager's. */
  readonly originAdmin: string | undefined;
}

/** What is to go or to be renamed in a compute's databases. */
export type Delta =
  | { readonly do: 'drop-role'; readonly name: string }
  | { readonly do: 'drop-database'; readonly name: string }
  | { readonly do: 'rename-database'; readonly name: string; readonly newName: string };

export interface ComputeAddress {
  readonly host: string;
  readonly port: number;
}

export interface Started extends ComputeAddress {
  /** What the start was made of, in milliseconds by name. */
  readonly timings: Readonly<Record<string, number>>;
}

/** Too few safekeepers gave an answer, and why, as far as one reason explains it. */
export function tooFew(answers: number, of: number, told: readonly PromiseSettledResult<unknown>[]): Fault {
  if (told.some(one => one.status === 'rejected' && isFault(one.reason, 'key-revoked'))) {
    return new Fault('key-unavailable', 'the storage still takes the customer key for switched off', {
      hint: 'It asks for the key again within a minute: try again then.',
    });
  }
  return new Fault('connection-failed', `only ${answers} of ${of} safekeepers answer`, {
    hint: 'A majority must; look at their logs.',
  });
}

export interface ComputeDriver {
  readonly kind: DriverKind;
  /** Why it cannot run this major here; undefined when it can. */
  problem(pgVersion: number): string | undefined;
  start(spec: ComputeSpec, signal: AbortSignal): Promise<Started>;
  configure(spec: ComputeSpec, deltas: readonly Delta[]): Promise<boolean>;
  stop(endpointId: string, how: 'fast' | 'immediate'): Promise<void>;
  /** Where it answers; undefined when nothing runs. */
  find(endpointId: string): Promise<ComputeAddress | undefined>;
  /** Sessions of clients that are at work. */
  busy(endpointId: string): Promise<number>;
  /** One that runs since before the manager did: what must be done beside it goes on. */
  adopt?(spec: ComputeSpec): Promise<void>;
  /** Endpoints whose computes run. */
  list(): Promise<readonly string[]>;
}
