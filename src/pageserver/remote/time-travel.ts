// A tenant's objects as they were at a time, in a store that keeps what is replaced or removed: the last way back when
// history itself was lost. For a tenant that nobody has attached: what an attachment writes meanwhile would be mixed
// with the past.
//
//   versions of one object    ──A──────B──────×──────C──▶        A, B, C puts, × a removal
//   at this time                    ▲ A comes back                    ▲ it is removed again
//
// The state of an object at a time is its newest version from before it. Layers come back first, then the indexes and
// manifests that name them, and what did not exist is removed last: interrupted at any point, it is done by doing it
// again. An object that was changed after `doneIfAfterMs` was brought back by a try before and is left alone.
//
// Answers to time_travel_recover_tenant of remote_timeline_client/upload.rs and time_travel_recover of s3_bucket.rs.

import { Fault } from '../../base/fault.ts';
import type { Blobs, BlobVersion } from '../../base/ports.ts';
import { parseKey, type TenantShard, tenantDirectory } from './paths.ts';

/** Versions looked at: they are all in memory at once. */
const VERSIONS_MAX = 100_000;
/** Objects on their way at once. */
const AT_ONCE = 16;

export type TravelStep =
  | { readonly do: 'restore'; readonly key: string; readonly version: string }
  | { readonly do: 'remove'; readonly key: string };

/** What is to be done, in order; versions in any order, of equal times as the store lists them. */
export function planTravel(
  versions: readonly BlobVersion[],
  toMs: number,
  doneIfAfterMs: number,
): TravelStep[] {
  const steps: TravelStep[] = [];
  for (const [key, listed] of Map.groupBy(versions, version => version.key)) {
    const history = listed.toReversed().sort(oldestFirst);
    const newest = history.at(-1)!;
    if (newest.modifiedMs > doneIfAfterMs) continue;
    const since = history.findIndex(version => version.modifiedMs >= toMs);
    if (since < 0) continue; // as it was then
    const then = history[since - 1];
    if (then !== undefined && !then.isRemoval) steps.push({ do: 'restore', key, version: then.version });
    else if (!newest.isRemoval) steps.push({ do: 'remove', key });
  }
  return steps.sort((a, b) => turnOf(a) - turnOf(b));
}

const oldestFirst = (a: BlobVersion, b: BlobVersion): number =>
  a.modifiedMs - b.modifiedMs || Number(a.isNewest) - Number(b.isNewest);

function turnOf(step: TravelStep): number {
  if (step.do === 'remove') return 2;
  const kind = parseKey(step.key)?.kind;
  return kind === 'index' || kind === 'manifest' ? 1 : 0;
}

/** Objects that changed. */
export async function travel(
  blobs: Blobs,
  at: TenantShard,
  toMs: number,
  doneIfAfterMs: number,
): Promise<number> {
  const { versions: list, restore } = blobs;
  if (list === undefined || restore === undefined) {
    throw new Fault('config-invalid', 'this object store keeps no versions that could be gone back to', {
      hint: 'A bucket does, once its versioning is turned on.',
    });
  }
  const versions: BlobVersion[] = [];
  for await (const version of list.call(blobs, `${tenantDirectory(at)}/`)) {
    if (parseKey(version.key) === undefined) continue;
    if (versions.push(version) > VERSIONS_MAX)
      throw new Fault('config-invalid', `there are more than ${VERSIONS_MAX} versions to look at`);
  }
  const steps = planTravel(versions, toMs, doneIfAfterMs);
  for (const [, some] of Map.groupBy(steps, turnOf)) {
    for (let i = 0; i < some.length; i += AT_ONCE) {
      await Promise.all(
        some
          .slice(i, i + AT_ONCE)
          .map(step =>
            step.do === 'remove' ? blobs.remove([step.key]) : restore.call(blobs, step.key, step.version),
          ),
      );
    }
  }
  return steps.length;
}
