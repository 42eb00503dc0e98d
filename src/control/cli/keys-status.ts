// `lakebed keys status`: each tenant's customer key, what its service says of it, the KEKs and how far old ones are
// replaced; and the bound on revocation. As a table, or as JSON.

import { flagOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { isFault } from '../../base/fault.ts';
import type { KeyState } from '../../base/ports.ts';
import { isShredded, type KekEntry, type KeyDocument } from '../../seal/key-document.ts';
import { boundMs, keyTimes } from '../../seal/key-state.ts';
import type { KeyHolder } from '../../seal/key-store.ts';
import { ACCESS_OPTIONS, type Access, openAccess, tenantsOf } from './keys-access.ts';

/** How far one walk over a domain's files has come under the current KEK. */
interface Walk {
  readonly domain: string;
  readonly seen: number;
  readonly rewrapped: number;
  readonly done: boolean;
}

interface TenantStatus {
  readonly tenant: string;
  readonly cmk: string;
  readonly state: KeyState | 'unreachable' | 'shredded';
  readonly reason?: string;
  readonly sequence: number;
  readonly change: string;
  readonly changedAt: string;
  readonly who: string;
  readonly keks: readonly Omit<KekEntry, 'wrapped'>[];
  readonly walks: readonly Walk[];
  readonly holders: readonly KeyHolder[];
}

export const keysStatus: Verb = {
  name: 'keys status',
  summary: 'customer keys, their state, versions, progress of rewrapping, and the bound on revocation',
  arguments: [{ name: 'tenant', help: 'only these tenants', optional: true, many: true }],
  options: ACCESS_OPTIONS,
  examples: [
    { line: 'lakebed keys status', what: 'every tenant with keys in the store' },
    { line: 'lakebed keys status --json | jq .boundSeconds', what: 'how long a revoked key may live' },
  ],
  exitCodes: { 1: "some tenant's key cannot be used now" },
  run,
};

async function run(input: VerbInput, world: World): Promise<number> {
  const access = await openAccess(input, world);
  const tenants: TenantStatus[] = [];
  for (const tenant of await tenantsOf(access, input)) {
    tenants.push(await statusOf(access, await access.admin.load(tenant)));
  }
  // As of this environment; a service tells its own in its metrics.
  const times = keyTimes(world.environment);
  const { pollMs, lifetimeMs } = times;
  const bound = {
    pollSeconds: pollMs / 1000,
    lifetimeSeconds: lifetimeMs / 1000,
    boundSeconds: boundMs(times) / 1000,
  };
  const { terminal } = world;
  if (flagOption(input, 'json')) terminal.write(`${JSON.stringify({ ...bound, tenants }, undefined, 2)}\n`);
  else {
    for (const tenant of tenants) terminal.write(describe(tenant));
    if (tenants.length === 0) terminal.write('No tenant has keys in this store.\n');
    terminal.write(
      `A key that is switched off is out of use within ${bound.boundSeconds} s:` +
        ` asked every ${bound.pollSeconds} s (poll), kept at most ${bound.lifetimeSeconds} s after its last use (lifetime).\n`,
    );
  }
  return tenants.every(({ state }) => state === 'enabled' || state === 'shredded') ? 0 : 1;
}

async function statusOf(access: Access, document: KeyDocument): Promise<TenantStatus> {
  const { tenant, cmk, sequence, change, changedAt, who } = document;
  const { store } = access.admin;
  const base = { tenant, cmk, sequence, change, changedAt, who };
  const keks = document.keks.map(({ wrapped: _, ...rest }) => rest);
  const current = keks.find(kek => kek.state === 'current');
  const walks = new Map<string, Walk>();
  for (const bag of current ? await store.bags(tenant, current.version) : []) {
    const rewrapped = (walks.get(bag.domain)?.rewrapped ?? 0) + bag.deks.length;
    walks.set(bag.domain, { domain: bag.domain, seen: bag.seen, rewrapped, done: bag.done });
  }
  const holders = await store.holders(tenant);
  return { ...base, ...(await stateOf(access, document)), keks, walks: [...walks.values()], holders };
}

async function stateOf(
  access: Access,
  document: KeyDocument,
): Promise<Pick<TenantStatus, 'state'> & { reason?: string }> {
  if (isShredded(document)) return { state: 'shredded' };
  try {
    return { state: await access.admin.calls.state(document.cmk) };
  } catch (error) {
    if (!isFault(error)) throw error;
    return { state: 'unreachable', reason: error.message };
  }
}

function describe(status: TenantStatus): string {
  const { tenant, cmk, state, reason, keks, walks, holders } = status;
  const lines = [
    tenant,
    `  customer key  ${cmk}  ${state}${reason === undefined ? '' : `: ${reason}`}`,
    `  document      ${status.sequence}, ${status.change} at ${status.changedAt} by ${status.who}`,
  ];
  for (const kek of keks) {
    const version =
      kek.keyVersion === undefined ? '' : `, under version ${kek.keyVersion} of the customer key`;
    lines.push(`  KEK ${String(kek.version).padEnd(10)}${kek.state}, made ${kek.createdAt}${version}`);
  }
  for (const walk of walks) {
    const how = walk.done ? 'all seen' : 'under way';
    lines.push(
      `  rewrap        ${walk.domain}: ${walk.seen} files seen, ${walk.rewrapped} rewrapped, ${how}`,
    );
  }
  const current = keks.find(kek => kek.state === 'current');
  for (const holder of holders) {
    const behind = current && (holder.sequence < current.since || holder.rewrapped < current.version);
    lines.push(
      `  held by       ${holder.node}: document ${holder.sequence}${behind ? ', not caught up yet' : ''}`,
    );
  }
  return `${lines.join('\n')}\n\n`;
}
