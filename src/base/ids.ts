// Identities: tenant and timeline are sixteen bytes, written as 32 lower-case hex digits; a shard is a slice
// of a tenant's blocks; a node and a generation are numbers.

import { Fault } from './fault.ts';

export type TenantId = string & { readonly __brand: 'TenantId' };
export type TimelineId = string & { readonly __brand: 'TimelineId' };

const ID = /^[0-9a-f]{32}$/;

function parseId(text: string, what: string): string {
  const id = text.toLowerCase();
  if (!ID.test(id)) {
    throw new Fault('id-invalid', `not a ${what} id: "${text}"`, { hint: 'An id is 32 hex digits.' });
  }
  return id;
}

export const tenantId = (text: string): TenantId => parseId(text, 'tenant') as TenantId;
export const timelineId = (text: string): TimelineId => parseId(text, 'timeline') as TimelineId;

export function idToBytes(id: string): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) bytes[i] = parseInt(id.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export function idFromBytes(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new Fault('id-invalid', `an id is 16 bytes, not ${bytes.length}`);
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Shard `number` of `count`; count 0 means the tenant is not sharded. */
export interface ShardIndex {
  readonly number: number;
  readonly count: number;
}

export const UNSHARDED: ShardIndex = { number: 0, count: 0 };

const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

/** Neon's TenantShardId text: the bare tenant id, or `<tenant>-NNCC`. */
export function formatTenantShard(tenant: TenantId, shard: ShardIndex): string {
  return shard.count === 0 ? tenant : `${tenant}-${hex2(shard.number)}${hex2(shard.count)}`;
}

export function parseTenantShard(text: string): { tenant: TenantId; shard: ShardIndex } {
  const dash = text.indexOf('-');
  if (dash < 0) return { tenant: tenantId(text), shard: UNSHARDED };
  const suffix = /^([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text.slice(dash + 1));
  const number = suffix ? parseInt(suffix[1]!, 16) : 0;
  const count = suffix ? parseInt(suffix[2]!, 16) : 0;
  if (!suffix || number >= count) {
    throw new Fault('id-invalid', `not a tenant shard id: "${text}"`, {
      hint: 'A shard suffix is -NNCC: shard number and shard count, two hex digits each.',
    });
  }
  return { tenant: tenantId(text.slice(0, dash)), shard: { number, count } };
}
