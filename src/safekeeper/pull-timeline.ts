// Timelines that come from elsewhere: pulled whole from the most advanced of some peers, or copied from another
// timeline of this node.
//
//   pull   ask every peer for its status (all but one must answer), choose the newest log, take its snapshot into
//          a temporary vault, prove it, give it its name, switch to the membership that was asked for
//   copy   whole segments up to the end are copied inside the object store, the rest is read here
//
// Answers to safekeeper/src/pull_timeline.rs and copy_timeline.rs.

import { Fault, isFault } from '../base/fault.ts';
import { answerText, StatusError } from '../base/http.ts';
import { parseJson } from '../base/json.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import type { Http, HttpReply, Log } from '../base/ports.ts';
import { type PeerStatus, timelineStatusSchema } from '../protocol/http-safekeeper.ts';
import { INVALID_GENERATION, type MembershipConfiguration, NO_MEMBERSHIP } from '../protocol/membership.ts';
import { segmentFileName, segmentOf, segmentStart } from '../xlog/segment.ts';
import { CONTROL_FILE_NAME, type ControlState, encodeControlState } from './control-state.ts';
import { formatMembership, isMember } from './membership.ts';
import { bestSource } from './recovery-plan.ts';
import { checkSameLog, receiveSnapshot } from './snapshot.ts';
import type { Timeline } from './timeline.ts';
import type { TimelineKey } from './timeline-handle.ts';
import { controlOf, type Timelines } from './timelines.ts';
import type { WalRemote } from './wal-remote.ts';

const STATUS_BYTES_MAX = 4 * 1024 * 1024;
const STATUS_MS = 10_000;
const SNAPSHOT_MS = 30_000;
/** So much WAL may be copied from the local disk; more should be in the object store by now. */
const COPY_LAG_MAX = 16 * 1024 * 1024 * 10;
const PIECE_BYTES = 1024 * 1024;

export interface PullDeps {
  readonly nodeId: number;
  readonly http: Http;
  readonly timelines: Timelines;
  readonly log: Log;
  /** Shown to peers. */
  readonly token: string | undefined;
}

export interface PullRequest {
  readonly key: TimelineKey;
  readonly hosts: readonly string[];
  readonly membership: MembershipConfiguration | undefined;
}

/** The host it was pulled from; null when it is here already. */
export async function pullTimeline(request: PullRequest, deps: PullDeps): Promise<string | null> {
  const { key, membership } = request;
  if (membership && !isMember(membership, deps.nodeId)) {
    throw new StatusError(400, `node ${deps.nodeId} is no member of ${formatMembership(membership)}`);
  }
  const existing = deps.timelines.find(key);
  if (existing) {
    if (membership) await existing.switchMembership(membership);
    return null;
  }
  const { host, status } = await choose(request, deps);
  deps.log.info('pulling a timeline', {
    tenant: key.tenantId,
    timeline: key.timelineId,
    host,
    commitLsn: formatLsn(status.commit_lsn),
    flushLsn: formatLsn(status.flush_lsn),
    term: status.acceptor_state.term,
  });
  const generation = membership?.generation ?? INVALID_GENERATION;
  const timeline = await install(key, host, generation, deps);
  if (timeline === undefined) return null;
  if (membership) await timeline.switchMembership(membership);
  return host;
}

async function install(
  key: TimelineKey,
  host: string,
  generation: number,
  deps: PullDeps,
): Promise<Timeline | undefined> {
  try {
    return await deps.timelines.install(
      key,
      generation,
      async vault => {
        const control = await receiveSnapshot(key, await snapshotOf(key, host, deps), vault);
        const theirs = control.membership.generation;
        if (generation !== INVALID_GENERATION && theirs > generation) {
          throw new StatusError(409, `the snapshot is of generation ${theirs}, newer than ${generation}`);
        }
      },
      true,
    );
  } catch (error) {
    if (isFault(error, 'timeline-exists')) return undefined;
    if (isFault(error, 'timeline-deleted') || isFault(error, 'timeline-busy')) {
      throw new StatusError(409, error.message);
    }
    throw error;
  }
}

async function choose(
  { key, hosts, membership }: PullRequest,
  deps: PullDeps,
): Promise<{ host: string; status: PeerStatus }> {
  const asked = await Promise.all(
    hosts.map(async host => {
      try {
        return { host, status: await peerStatus(key, host, deps) };
      } catch (error) {
        deps.log.info('a peer did not tell its status', { host, error });
        return undefined;
      }
    }),
  );
  const answers = asked.filter(a => a !== undefined);
  for (const { host, status } of answers) {
    const { generation } = status.mconf;
    if (membership && generation > membership.generation) {
      throw new StatusError(409, `${host} has generation ${generation}, newer than ${membership.generation}`);
    }
  }
  const needed = Math.max(1, hosts.length - 1);
  if (answers.length < needed) {
    throw new StatusError(
      500,
      `${answers.length} of ${hosts.length} peers told their status, ${needed} must`,
    );
  }
  const best = bestSource(
    answers.map(a => ({
      ...a,
      lastLogTerm: a.status.acceptor_state.epoch,
      term: a.status.acceptor_state.term,
      flushLsn: a.status.flush_lsn,
      commitLsn: a.status.commit_lsn,
    })),
  );
  return best!;
}

export interface PeerCallDeps {
  readonly http: Http;
  readonly token: string | undefined;
}

async function get(url: string, timeoutMs: number, { http, token }: PeerCallDeps): Promise<HttpReply> {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const reply = await http.request({ method: 'GET', url, headers, timeoutMs });
  if (reply.status === 200) return reply;
  const said = await answerText(reply, 64 * 1024);
  throw new Fault('server-error', `${url} answered ${reply.status}: ${said.slice(0, 300)}`);
}

const timelineUrl = (host: string, key: TimelineKey): string =>
  `${host.replace(/\/$/, '')}/v1/tenant/${key.tenantId}/timeline/${key.timelineId}`;

/** What a peer says of a timeline. */
export async function peerStatus(key: TimelineKey, host: string, deps: PeerCallDeps): Promise<PeerStatus> {
  const reply = await get(timelineUrl(host, key), STATUS_MS, deps);
  const text = await answerText(reply, STATUS_BYTES_MAX);
  return timelineStatusSchema.parse(parseJson(text), `the status from ${host}`);
}

async function snapshotOf(
  key: TimelineKey,
  host: string,
  deps: PullDeps,
): Promise<AsyncIterable<Uint8Array>> {
  const reply = await get(`${timelineUrl(host, key)}/snapshot/${deps.nodeId}`, SNAPSHOT_MS, deps);
  return reply.body;
}

export interface CopyDeps {
  readonly timelines: Timelines;
  readonly remote: WalRemote | undefined;
  readonly now: () => number;
}

/** A new timeline with the WAL of `from` up to `until`. */
export async function copyTimeline(
  from: TimelineKey,
  to: TimelineKey,
  until: Lsn,
  { timelines, remote, now }: CopyDeps,
): Promise<void> {
  if (!remote) throw new Fault('config-invalid', 'Remote Storage is not configured');
  if (timelines.find(to)) return;
  const source = timelines.get(from);
  if (source.offloaded) await source.restore();
  const control = copiedControl(source, to, until, now());
  const { control: before } = source.status();
  const size = control.server.walSegSize;
  const firstLocal = segmentOf(control.backupLsn, size);
  for (let segno = segmentOf(control.timelineStartLsn, size); segno < firstLocal; segno++) {
    const name = segmentFileName(1, segno, size);
    await remote.copy({ key: from, name }, { key: to, name });
  }
  const release = source.holdRemoval();
  try {
    await timelines.install(to, INVALID_GENERATION, async vault => {
      for (let at = control.localStartLsn as number; at < until; ) {
        const start = segmentStart(segmentOf(at as Lsn, size), size);
        const end = Math.min(start + size, until);
        const name = segmentFileName(1, segmentOf(at as Lsn, size), size);
        const log = await vault.log(name, { create: true, origin: at - start });
        for (; at < end; ) {
          const piece = await source.readWal(at as Lsn, Math.min(PIECE_BYTES, end - at), before.term);
          log.append([piece]);
          at += piece.length;
        }
        await log.flush();
        await log.close();
      }
      checkSameLog(source, before, 'the copy');
      await vault.writeFile(CONTROL_FILE_NAME, encodeControlState(control));
    });
  } finally {
    release();
  }
}

function copiedControl(source: Timeline, to: TimelineKey, until: Lsn, nowMs: number): ControlState {
  const { control, memory, flushLsn } = source.status();
  const { timelineStartLsn, server } = control;
  if (timelineStartLsn === INVALID_LSN) throw new Fault('config-invalid', 'the timeline has no WAL yet');
  if (until > flushLsn || until < timelineStartLsn) {
    const range = `${formatLsn(timelineStartLsn)} to ${formatLsn(flushLsn)}`;
    throw new Fault('config-invalid', `${formatLsn(until)} is outside of the timeline's WAL, ${range}`);
  }
  if (until - memory.backupLsn > COPY_LAG_MAX) {
    throw new Fault('timeline-busy', 'too many segments are not backed up', {
      hint: 'Try again in a while.',
    });
  }
  const lastStart = segmentStart(segmentOf(until, server.walSegSize), server.walSegSize);
  const backedUp = Math.min(memory.backupLsn, lastStart);
  const backupLsn = Math.max(backedUp, timelineStartLsn) as Lsn;
  const seed = {
    key: to,
    membership: NO_MEMBERSHIP,
    ...server,
    startLsn: timelineStartLsn,
    commitLsn: until,
  };
  return { ...controlOf(seed, nowMs), localStartLsn: backupLsn, backupLsn, peerHorizonLsn: until };
}
