// The end of a tenant shard: gone from here, and gone from the object store, the manifests last, so that an interrupted
// deletion can be asked for again until nothing is left. Its other shards are others' business.
//
// Answers to delete_tenant of pageserver/src/tenant/mgr.rs.

import { Fault } from '../base/fault.ts';
import { parseKey, shardText, type TenantShard, tenantDirectory } from './remote/paths.ts';
import { mayPassInTime, retrying } from './remote/retry.ts';
import type { Tenants } from './tenants.ts';

const KEYS_MAX = 1000;

export async function deleteTenant(tenants: Tenants, at: TenantShard): Promise<void> {
  const { remote, clock, random, log } = tenants.deps;
  await checkOurs(tenants, at);
  await tenants.detach(at);
  const patiently = <T>(work: () => Promise<T>): Promise<T> =>
    retrying({ clock, random, repeat: mayPassInTime }, work);
  const keys = await patiently(async () => {
    const found: string[] = [];
    for await (const { key } of remote.blobs.list(`${tenantDirectory(at)}/`)) found.push(key);
    return found;
  });
  const isManifest = (key: string): boolean => parseKey(key)?.kind === 'manifest';
  const ordered = [...keys.filter(key => !isManifest(key)), ...keys.filter(isManifest)];
  for (let from = 0; from < ordered.length; from += KEYS_MAX) {
    await patiently(() => remote.blobs.remove(ordered.slice(from, from + KEYS_MAX)));
  }
  log.info('tenant deleted', { tenant: shardText(at), objects: keys.length });
}

/** An attachment that was replaced does not delete what is another's by now. */
async function checkOurs(tenants: Tenants, at: TenantShard): Promise<void> {
  const here = tenants.shardsOf(at.tenant).find(slot => shardText(slot.at) === shardText(at));
  if (!here?.tenant) return;
  const { generation, conf } = here.tenant;
  if (conf.mode !== 'AttachedSingle') {
    throw new Fault(
      'tenant-busy',
      `tenant ${shardText(at)} is attached in mode ${conf.mode}: it is not deleted here`,
    );
  }
  const valid = await tenants.deps.remote.validator.confirm(
    { id: shardText(at), generation },
    { soon: true },
  );
  if (!valid) throw new Fault('generation-stale', `tenant ${shardText(at)} was attached elsewhere`);
}
