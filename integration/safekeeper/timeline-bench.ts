// Timelines of one safekeeper on a disk in memory, and what tests do with them: elect a proposer, append, wait.

import { isFault } from '../../src/base/fault.ts';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import type { Log } from '../../src/base/ports.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import type { AcceptorMessage, AppendResponse, TermHistory } from '../../src/protocol/walproposer.ts';
import type { Timeline } from '../../src/safekeeper/timeline.ts';
import type { ProposerHandle, TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { Timelines } from '../../src/safekeeper/timelines.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { SimClock } from '../sim/clock.ts';
import { SimDisk } from '../sim/disk.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { SimRandom } from '../sim/random.ts';

export const MIB = 1024 * 1024;
export const PG = 160003;
export const L = (n: number): Lsn => n as Lsn;
export const START = L(3 * MIB + 0x128);
export const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };
export const keyOf = (n: number): TimelineKey => ({
  tenantId: tenantId('1a'.repeat(16)),
  timelineId: timelineId(n.toString(16).padStart(32, '0')),
});

/** A safekeeper's timelines on a disk in memory that counts what is done to it. */
export class Bench {
  readonly random = new SimRandom(7);
  readonly clock = new SimClock();
  /** Paths of durable writes: one a flush. */
  readonly flushes: string[] = [];
  capacityBytes = Infinity;
  readonly disk: SimDisk;
  readonly keys = new SimFileKeys('1a'.repeat(16), this.random.split('kek'));
  timelines!: Timelines;

  constructor() {
    const self = this;
    this.disk = new SimDisk({
      random: this.random.split('disk'),
      get capacityBytes() {
        return self.capacityBytes;
      },
    });
    const writeTo = this.disk.writeTo.bind(this.disk);
    this.disk.writeTo = (inode, path, offset, pieces, durably) => {
      if (durably) this.flushes.push(path);
      writeTo(inode, path, offset, pieces, durably);
    };
  }

  async load(settings = {}): Promise<Timelines> {
    const { disk, random, keys, clock } = this;
    this.timelines = await Timelines.load({
      nodeId: 1,
      clock,
      log: SILENT,
      settings,
      disk,
      random,
      vault: (directory, scope) => openVault({ disk, directory, scope, keys, random }),
    });
    return this.timelines;
  }

  async create(n = 1, startLsn: Lsn = START): Promise<Timeline> {
    if (this.timelines === undefined) await this.load();
    return this.timelines.create({
      key: keyOf(n),
      membership: NO_MEMBERSHIP,
      pgVersion: PG,
      systemId: 42n,
      walSegSize: MIB,
      startLsn,
    });
  }
}

export const HISTORY: TermHistory = [
  { term: 0, lsn: START },
  { term: 1, lsn: START },
];

export function walOf(records: number, size: number, start: Lsn = START): ModelWal {
  const wal = new ModelWal(start, { pgVersion: PG, segmentSize: MIB });
  for (let i = 0; i < records; i++) wal.add(ModelWal.payload('w', i, size));
  return wal;
}

export async function elect(
  timeline: Timeline,
  term = 1,
  termHistory: TermHistory = HISTORY,
  startStreamingAt: Lsn = timeline.flushLsn,
): Promise<ProposerHandle> {
  const session = timeline.connectProposer();
  await session.process({ kind: 'vote-request', generation: 0, term });
  await session.process({ kind: 'elected', generation: 0, term, startStreamingAt, termHistory });
  return session;
}

export function append(
  session: ProposerHandle,
  wal: ModelWal,
  from: number,
  to: number,
  commitLsn = 0,
  term = 1,
) {
  return session.process({
    kind: 'append-request',
    generation: 0,
    term,
    beginLsn: L(from),
    endLsn: L(to),
    commitLsn: L(commitLsn),
    truncateLsn: L(0),
    wal: wal.bytes(from, to),
  });
}

export const response = (message: AcceptorMessage | undefined): AppendResponse => {
  if (message?.kind !== 'append-response') throw new Error(`no append response: ${message?.kind}`);
  return message;
};

export async function faultOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    e => e,
  );
  if (!isFault(error)) throw error ?? new Error('no fault');
  return `${error.code}: ${error.message}`;
}

export async function wait(clock: SimClock, ms: number): Promise<void> {
  clock.at(ms, () => {});
  await clock.run(clock.monotonic() + ms);
}
