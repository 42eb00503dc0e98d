// A tenant shard becomes several: each child begins with all of its parent's layers, read where they lie, and from then
// on writes its own. Compaction leaves out what is another shard's; the parent's objects stay as long as a child names
// them (the scrubber removes what none does).
//
//   parent n of c  ──►  children n, n + c, n + 2c ... of c·k          a child m descends from parent m mod c
//
// Nothing is copied but manifests and indexes. The parent is flushed and shut down first; until the children are
// attached, readers wait or connect again.
//
// Answers to shard_split of pageserver/src/tenant/mgr.rs and tenant.rs.

import { Fault } from '../base/fault.ts';
import type { ShardIndex } from '../base/ids.ts';
import type { LocationConf } from './location.ts';
import { encodeIndex, type IndexPart } from './remote/index-part.ts';
import { encodeManifest, type Manifest } from './remote/manifest.ts';
import {
  indexName,
  manifestName,
  shardText,
  type TenantShard,
  tenantDirectory,
  timelineDirectory,
} from './remote/paths.ts';
import { retrying } from './remote/retry.ts';
import { DEFAULT_STRIPE_SIZE } from './shard.ts';
import type { Tenant } from './tenant.ts';
import type { Tenants } from './tenants.ts';

/** At most so many shards, as the computes' connection strings have room for. */
const SHARDS_MAX = 128;
const FLUSH_MS = 300_000;

export interface SplitRequest {
  readonly count: number;
  readonly stripeSize: number | undefined;
}

/** The children, attached. */
export async function splitShard(
  tenants: Tenants,
  at: TenantShard,
  { count, stripeSize }: SplitRequest,
): Promise<string[]> {
  const tenant = await tenants.active(at);
  const children = childrenOf(at.shard, count);
  if (!tenant.permissions.upload) {
    throw new Fault('tenant-busy', `tenant ${tenant.id} is attached in mode ${tenant.conf.mode}`);
  }
  if (at.shard.count > 1 && stripeSize !== undefined && stripeSize !== tenant.conf.stripeSize) {
    throw new Fault('config-invalid', 'the stripe size cannot change once there is more than one shard');
  }
  const conf: LocationConf = {
    ...tenant.conf,
    stripeSize: at.shard.count > 1 ? tenant.conf.stripeSize : stripeSize || DEFAULT_STRIPE_SIZE,
  };
  await tenant.structure.run(() => settle(tenant));
  const manifest = await tenant.currentManifest();
  for (const shard of children) await writeChild(tenant, { tenant: at.tenant, shard }, conf, manifest);
  for (const shard of children) await tenants.upsert({ tenant: at.tenant, shard }, conf);
  await tenants.detach(at);
  return children.map(shard => shardText({ tenant: at.tenant, shard }));
}

function childrenOf(parent: ShardIndex, count: number): ShardIndex[] {
  const before = Math.max(1, parent.count);
  if (count > SHARDS_MAX || count <= before || count % before !== 0) {
    throw new Fault('config-invalid', `${before} shards cannot become ${count}`, {
      hint: `Give a multiple of ${before}, at most ${SHARDS_MAX}.`,
    });
  }
  const children: ShardIndex[] = [];
  for (let number = parent.number; number < count; number += before) children.push({ number, count });
  return children;
}

/** No more WAL comes in, and all of it is in the store. */
async function settle(tenant: Tenant): Promise<void> {
  const why = new Fault('reconnect-requested', `tenant ${tenant.id} is being split`);
  for (const timeline of tenant.timelines.values()) {
    await timeline.stopReceiving(why);
    await timeline.flushAndUpload(FLUSH_MS);
  }
}

async function writeChild(
  parent: Tenant,
  child: TenantShard,
  conf: LocationConf,
  manifest: Manifest,
): Promise<void> {
  const { clock, random, remote } = parent.deps;
  const { signal, generation } = parent;
  const put = (key: string, sealed: Uint8Array): Promise<void> =>
    remote.lasting.put(key, sealed, work => retrying({ clock, random, signal }, work), signal);
  const name = indexName(generation);
  for (const timeline of parent.timelines.values()) {
    const index = inherited(timeline.remote.queue.durable!);
    const sealed = await timeline.vault.seal(name, encodeIndex(index), { generation });
    await put(`${timelineDirectory(child, timeline.id)}/${name}`, sealed);
  }
  const bytes = encodeManifest({ ...manifest, stripeSize: conf.stripeSize });
  const sealed = await parent.vault.seal(manifestName(generation), bytes, { generation });
  await put(`${tenantDirectory(child)}/${manifestName(generation)}`, sealed);
}

/** The parent's index as a child's: it names every layer where it lies, and nothing there is the child's to delete. */
export const inherited = (index: IndexPart): IndexPart => ({ ...index, forgotten: [] });
