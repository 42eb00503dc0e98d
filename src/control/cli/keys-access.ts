// What the `keys` verbs work on: the key store of a deployment, the key services, and the audit, opened from the
// options and the environment; and the sealed objects of a tenant.
//
//   --store LOCATION     LAKEBED_STORE          .lakebed/store              where objects and key documents are
//   --local-keys DIR     LAKEBED_LOCAL_KEYS     as services find them       keys kept in files (kind local): beside a
//                                                                           store that is a directory, or in the bucket
//   --audit FILE         LAKEBED_AUDIT          .lakebed/audit/keys.jsonl   one line per use of a key
//
// The verbs change documents and bags in the store; running services see it when they next ask (within a poll).

import { type OptionSpec, textOption, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { type TenantId, type TimelineId, tenantId } from '../../base/ids.ts';
import type { Blobs } from '../../base/ports.ts';
import { AuditFile } from '../../seal/audit.ts';
import { openVault } from '../../seal/disk-vault.ts';
import { KeyAdmin } from '../../seal/key-admin.ts';
import { KeyCalls } from '../../seal/key-calls.ts';
import { KEY_TIMES } from '../../seal/key-state.ts';
import { blobKeyStore } from '../../seal/key-store.ts';
import { filesInBlobs, type SealedFiles } from '../../seal/rewrap.ts';
import { TenantKeys } from '../../seal/tenant-keys.ts';
import type { SealScope, Vault } from '../../seal/vault.ts';

export const ACCESS_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--store LOCATION',
    help: 'where objects and key documents are (LAKEBED_STORE, else .lakebed/store)',
  },
  {
    flags: '--local-keys DIR',
    help: 'keys kept in files (LAKEBED_LOCAL_KEYS, else where services keep them)',
  },
  { flags: '--audit FILE', help: 'the audit (LAKEBED_AUDIT, else .lakebed/audit/keys.jsonl)' },
  { flags: '--json', help: 'the result as JSON' },
];

export interface Access {
  readonly admin: KeyAdmin;
  readonly blobs: Blobs;
  /** Resolves when the audit is on the disk. */
  drained(): Promise<void>;
}

function setting(
  input: VerbInput,
  world: World,
  option: string,
  variable: string,
  otherwise: string,
): string {
  return textOption(input, option) ?? world.environment(variable) ?? otherwise;
}

/** Where keys of kind local are; undefined: in the object store, as services without a setting keep them. */
export function localKeysOf(input: VerbInput, world: World): string | undefined {
  const named = textOption(input, 'localKeys') ?? world.environment('LAKEBED_LOCAL_KEYS');
  if (named !== undefined) return named;
  const store = setting(input, world, 'store', 'LAKEBED_STORE', '.lakebed/store').replace(/^file:\/\//, '');
  if (/^[a-z][a-z0-9+.-]*:\/\//.test(store)) return undefined;
  const parent = /^(.*)\/[^/]+\/*$/.exec(store)?.[1];
  return parent === undefined ? 'lakebed-keys' : `${parent}/lakebed-keys`;
}

export async function openAccess(input: VerbInput, world: World): Promise<Access> {
  const store = setting(input, world, 'store', 'LAKEBED_STORE', '.lakebed/store');
  const blobs = await world.blobs(store);
  const path = setting(input, world, 'audit', 'LAKEBED_AUDIT', '.lakebed/audit/keys.jsonl');
  const slash = path.lastIndexOf('/');
  const directory = slash < 0 ? '.' : path.slice(0, Math.max(1, slash));
  const auditDisk = world.disk(directory);
  await auditDisk.makeDirectory('.');
  const audit = new AuditFile(auditDisk, path.slice(slash + 1), error => {
    world.terminal.note(`lakebed: the audit ${path} could not be written: ${(error as Error).message}\n`);
  });
  const user = world.environment('SUDO_USER') ?? world.environment('USER') ?? world.user?.();
  const who = `cli:${user ?? 'unknown'}`;
  const { clock } = world;
  const services = world.keyServices(localKeysOf(input, world), blobs);
  const calls = new KeyCalls({ services, clock, audit, who, requestMs: KEY_TIMES.requestMs });
  const admin = new KeyAdmin({ store: blobKeyStore(blobs), calls });
  return { admin, blobs, drained: () => audit.drained() };
}

/** The tenants named, or all that have keys in the store. */
export async function tenantsOf(access: Access, input: VerbInput): Promise<TenantId[]> {
  if (input.args.length > 0) return input.args.map(tenantId);
  return (await access.admin.store.tenants()).map(tenantId);
}

export function oneTenant(input: VerbInput): TenantId {
  const [name] = input.args;
  if (name === undefined) {
    throw new Fault('config-invalid', 'no tenant was named', { hint: 'lakebed keys status lists them.' });
  }
  return tenantId(name);
}

/** A tenant's keys for this command: no service, so no holder in the store. */
export function keysFor(access: Access, world: World, tenant: TenantId): TenantKeys {
  const { admin } = access;
  return new TenantKeys({
    tenant,
    calls: admin.calls,
    store: admin.store,
    random: world.random,
    times: KEY_TIMES,
    load: () => admin.load(tenant),
    told: () => undefined,
  });
}

/** For verbs of other rooms, which know their directories and not where keys are. */
export const vaultDoor = {
  options: ACCESS_OPTIONS,
  async open(input: VerbInput, world: World) {
    const access = await openAccess(input, world);
    return {
      blobs: access.blobs,
      drained: () => access.drained(),
      vault: (
        root: string,
        { tenantId, timelineId }: { tenantId: TenantId; timelineId: TimelineId },
      ): Vault =>
        openVault({
          disk: world.disk(root),
          directory: `${tenantId}/${timelineId}`,
          scope: { tenant: tenantId, timeline: timelineId },
          keys: keysFor(access, world, tenantId),
          random: world.random,
        }),
    };
  },
};

/** The same for who reads layers: any directory, any scope; the keys of a tenant are asked for once. */
export const pageVaultDoor = {
  options: ACCESS_OPTIONS,
  async open(input: VerbInput, world: World) {
    const access = await openAccess(input, world);
    const held = new Map<string, TenantKeys>();
    return {
      blobs: access.blobs,
      drained: () => access.drained(),
      vault(directory: string, scope: SealScope): Vault {
        let keys = held.get(scope.tenant);
        if (!keys) held.set(scope.tenant, (keys = keysFor(access, world, tenantId(scope.tenant))));
        return openVault({ disk: world.disk('.'), directory, scope, keys, random: world.random });
      },
    };
  },
};

/** WAL segments lie under the tenant's id, layers and indexes under `tenants/`, its shards' beside. */
export function objectsOf(blobs: Blobs, tenant: TenantId): SealedFiles {
  const parts = [`${tenant}/`, `tenants/${tenant}`].map(prefix => filesInBlobs(blobs, prefix, 'objects'));
  return {
    domain: 'objects',
    async *names(after) {
      for (const part of parts) yield* part.names(after);
    },
    head: name => parts[0]!.head(name),
  };
}
