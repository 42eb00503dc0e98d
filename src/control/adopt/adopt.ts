// Adoption: a running stock Postgres becomes a timeline, with no patch and no dump. The door and its promises are in
// contract.ts; here are the first three steps, the fourth is follow.ts.
//
//   state in the store?   no: a new timeline id and slot name, recorded        yes: go on with those
//   timeline there?       no: slot, then base backup -> import                 yes: the import is done
//   then                  follow
//
// Each question is asked of what is there, not of what was planned: a step that was cut short is done again, a step
// that was finished and not recorded is not. An import that broke off leaves no timeline (the pageserver publishes it
// when it is whole), so a timeline that answers is complete.
//
// Postgres 14 and 15 write heap records otherwise than Neon's builds of the same majors: their timelines are marked as
// stock, and only stock servers can be opened on them. From 16 on a Neon compute may take over.

import { toHex } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { timelineId } from '../../base/ids.ts';
import { baseBackup } from './base-backup.ts';
import type { AdoptOptions, AdoptProgress, AdoptResult, AdoptState, AdoptWorld } from './contract.ts';
import { follow } from './follow.ts';
import {
  checkOrigin,
  connectOrigin,
  dropSlot,
  ensureSlot,
  type Origin,
  type OriginFacts,
  originName,
  parseOrigin,
} from './origin.ts';
import { Pageserver } from './storage.ts';

const NEON_MAJOR_FIRST = 16;
const SLOT_ID_DIGITS = 12;
const IMPORT_TRIES = 10;
const RETRY_MS = 500;
/** After an adopter that was killed: the pageserver notices, and the origin lets go of its slot. */
const BUSY_FOR_MS = 120_000;

export async function adopt(
  options: AdoptOptions,
  world: AdoptWorld,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptResult> {
  const origin = parseOrigin(options.origin, world);
  if (options.storage.safekeepers.length === 0)
    throw new Fault('config-invalid', 'no safekeepers are given to take the log');
  const pageserver = new Pageserver(options.storage, world);
  await pageserver.check();
  const client = await connectOrigin(origin, world);
  let facts: OriginFacts;
  let state: AdoptState;
  try {
    facts = await checkOrigin(client);
    state = await settle(options, origin, facts, world, onProgress);
    await ensureSlot(client, state.slot);
    onProgress({ step: 'slot', slot: state.slot });
  } finally {
    await client.end();
  }
  await pageserver.ensureTenant();
  const imported =
    (await pageserver.timeline(state.timeline)) ??
    (await importOrigin({ origin, state, pageserver, options }, world, onProgress).catch(async error => {
      // Nothing came of it: the origin must not keep its log for us. An interrupted one is to go on.
      if (!world.signal.aborted) await letGo(origin, state.slot, world).catch(() => {});
      throw error;
    }));
  onProgress({ step: 'imported', lsn: imported.lastRecordLsn });
  const { storage, store, until } = options;
  const adoption = { origin, state, storage, store, until, freshLsn: imported.lastRecordLsn };
  return follow(adoption, pageserver, world, onProgress);
}

/** The end of an adoption: the origin need not keep its log any longer. The branch stays as it is. */
export async function endAdoption(
  { origin: url, store }: Pick<AdoptOptions, 'origin' | 'store'>,
  world: AdoptWorld,
): Promise<AdoptState> {
  const state = await store.load();
  if (state === undefined)
    throw new Fault('config-invalid', 'nothing was adopted under this name', {
      hint: 'Give the --branch and the --data-dir that it was adopted with.',
    });
  await letGo(parseOrigin(url, world), state.slot, world);
  return state;
}

async function letGo(origin: Origin, slot: string, world: AdoptWorld): Promise<void> {
  const client = await connectOrigin(origin, world);
  try {
    await dropSlot(client, slot);
  } finally {
    await client.end();
  }
}

/** What is recorded of this adoption; recorded now if it begins. */
async function settle(
  { store, storage, timeline }: AdoptOptions,
  origin: Origin,
  facts: OriginFacts,
  world: AdoptWorld,
  onProgress: (progress: AdoptProgress) => void,
): Promise<AdoptState> {
  const { pgVersion, systemIdentifier, walSegmentSize, checksums } = facts;
  const before = await store.load();
  if (before !== undefined) checkSame(before, facts, storage.tenant, origin);
  const id = timelineId(before?.timeline ?? timeline ?? toHex(world.random.bytes(16)));
  const state: AdoptState = before ?? {
    version: 1,
    origin: originName(origin),
    systemIdentifier,
    originTimeline: facts.timelineId,
    tenant: storage.tenant,
    timeline: id,
    slot: `lakebed_${id.slice(0, SLOT_ID_DIGITS)}`,
    pgVersion,
    walSegmentSize,
    term: 0,
  };
  if (before === undefined) await store.save(state);
  const server = { pgVersion, systemIdentifier, walSegmentSize, checksums };
  onProgress({ step: 'checked', ...server, resumed: before !== undefined, timeline: id });
  return state;
}

function checkSame(state: AdoptState, facts: OriginFacts, tenant: string, origin: Origin): void {
  const other = (what: string): Fault =>
    new Fault('origin-diverged', `${originName(origin)} is not what was adopted before: ${what}`, {
      hint: 'Adopt it under another --branch.',
    });
  if (state.systemIdentifier !== facts.systemIdentifier)
    throw other(`its system identifier is ${facts.systemIdentifier}, not ${state.systemIdentifier}`);
  const [before, now] = [majorOf(state.pgVersion), majorOf(facts.pgVersion)];
  if (before !== now) throw other(`it is Postgres ${now}, not ${before}`);
  if (state.originTimeline !== facts.timelineId)
    throw other(
      `it is on timeline ${facts.timelineId} now, not ${state.originTimeline}: it was promoted or restored`,
    );
  if (state.tenant !== tenant) throw other(`it belongs to tenant ${state.tenant}`);
}

export const majorOf = (pgVersion: number): number => Math.floor(pgVersion / 10_000);

interface Import {
  readonly origin: Origin;
  readonly state: AdoptState;
  readonly pageserver: Pageserver;
  readonly options: Pick<AdoptOptions, 'maxRateKbPerSecond'>;
}

/** As often as it takes: an import that breaks off leaves nothing behind. */
async function importOrigin(
  it: Import,
  world: AdoptWorld,
  onProgress: (progress: AdoptProgress) => void,
): Promise<NonNullable<Awaited<ReturnType<Pageserver['timeline']>>>> {
  const { pageserver, state } = it;
  const { clock, signal } = world;
  const busyUntil = clock.monotonic() + BUSY_FOR_MS;
  for (let tries = 1; ; tries++) {
    try {
      await importOnce(it, world, onProgress);
    } catch (error) {
      signal.throwIfAborted();
      const isBusy = isFault(error, 'timeline-busy') && clock.monotonic() < busyUntil;
      const mayPass = isFault(error) && (error.kind === 'unavailable' || error.kind === 'closed');
      if (!isBusy && (!mayPass || tries >= IMPORT_TRIES)) throw error;
      onProgress({ step: 'waiting', why: (error as Fault).message });
      if (isBusy) tries--;
    }
    const made = await pageserver.timeline(state.timeline);
    if (made !== undefined) return made;
    await clock.sleep(RETRY_MS, signal);
  }
}

async function importOnce(
  { origin, state, pageserver, options }: Import,
  world: AdoptWorld,
  onProgress: (progress: AdoptProgress) => void,
): Promise<void> {
  const major = majorOf(state.pgVersion);
  const { maxRateKbPerSecond } = options;
  const flavour = major >= NEON_MAJOR_FIRST ? 'neon' : 'stock';
  const client = await connectOrigin(origin, world);
  const cut = (): void => client.destroy();
  world.signal.addEventListener('abort', cut, { once: true });
  try {
    const copy = baseBackup(client, { major, maxRateKbPerSecond }, (doneBytes, totalBytes) =>
      onProgress({ step: 'base-backup', doneBytes, totalBytes }),
    );
    await pageserver.importBackup(state.timeline, { major, flavour }, await begun(copy));
  } finally {
    world.signal.removeEventListener('abort', cut);
    client.destroy();
  }
}

/** The same, once its first piece is there: before it comes a checkpoint, which takes minutes on a busy server. */
async function begun(pieces: AsyncGenerator<Uint8Array>): Promise<AsyncGenerator<Uint8Array>> {
  const first = await pieces.next();
  return (async function* () {
    if (!first.done) yield first.value;
    yield* pieces;
  })();
}
