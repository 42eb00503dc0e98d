// What the cipher adds to an append as a safekeeper does it: a timeline on a real disk, without the network. An append
// is checked, sealed, written, synced and answered; one alone pays for its sealing before its write, of many in flight
// most are sealed while the disk syncs those before. The same with a cipher that does nothing, turn by turn.

import { mkdirSync } from 'node:fs';
import { hostClock } from '../../src/host/clock.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { hostRandom } from '../../src/host/random.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import type { ProposerHandle } from '../../src/safekeeper/timeline-handle.ts';
import { Timelines } from '../../src/safekeeper/timelines.ts';
import type { Aead } from '../../src/seal/aead.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { append, elect, SILENT } from '../safekeeper/timeline-bench.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import type { ModelWal } from '../sim/model-wal.ts';
import { newKey, preparedWal, START_LSN } from './append-client.ts';
import { distribution, type Figure } from './harness.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** As many bytes of 128 KiB appends are on their way at once, as a compute that is ahead has them. */
const WINDOW_BYTES = 4 * MIB;
const STREAM_BYTES = 8 * MIB;
const STREAM_ROUNDS = 60;

/** One timeline, elected, and where its WAL has come to. */
class Writer {
  private readonly session: ProposerHandle;
  private readonly wal: ModelWal;
  private at: number = START_LSN;

  private constructor(session: ProposerHandle, wal: ModelWal) {
    this.session = session;
    this.wal = wal;
  }

  static async open(root: string, aead: Aead, wal: ModelWal): Promise<Writer> {
    mkdirSync(root);
    const key = newKey();
    const keys = new SimFileKeys(key.tenantId, hostRandom);
    const disk = hostDisk(root);
    const timelines = await Timelines.load({
      nodeId: 1,
      clock: hostClock,
      log: SILENT,
      disk,
      random: hostRandom,
      vault: (directory, scope) => openVault({ disk, directory, scope, keys, random: hostRandom, aead }),
    });
    const timeline = await timelines.create({
      key,
      membership: NO_MEMBERSHIP,
      pgVersion: 170005,
      systemId: 42n,
      walSegSize: 16 * MIB,
      startLsn: START_LSN,
    });
    const history = [0, 1].map(term => ({ term, lsn: START_LSN }));
    return new Writer(await elect(timeline, 1, history, START_LSN), wal);
  }

  next(bytes: number): Promise<unknown> {
    const from = this.at;
    this.at += bytes;
    return append(this.session, this.wal, from, this.at);
  }

  /** So many bytes with a window of them in flight. */
  async stream(bytes: number, each: number): Promise<void> {
    let sent = 0;
    const one = async (): Promise<void> => {
      while (sent < bytes) {
        sent += each;
        await this.next(each);
      }
    };
    await Promise.all(Array.from({ length: WINDOW_BYTES / each }, one));
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) * 1000;
}

/** The two take turns, each first as often: what the machine does meanwhile meets both alike. */
async function turns(rounds: number, aes: () => Promise<unknown>, none: () => Promise<unknown>) {
  const times = { aes: [] as number[], none: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    const both = [
      ['aes', aes],
      ['none', none],
    ] as const;
    for (const [name, work] of i % 2 === 0 ? both : both.toReversed()) times[name].push(await timed(work));
  }
  return times;
}

export async function safekeeperAppendFigures(root: string, aes: Aead, none: Aead): Promise<Figure[]> {
  const figures: Figure[] = [];
  const add = (what: string, rounds: number, times: { aes: number[]; none: number[] }, scale: number) => {
    const [sealed, plain] = [distribution(times.aes).p50, distribution(times.none).p50];
    const differences = times.aes.map((us, i) => us - times.none[i]!);
    figures.push(
      { name: `${what}, sealed`, value: sealed / scale, unit: 'us p50' },
      { name: `${what}, null cipher`, value: plain / scale, unit: 'us p50' },
      {
        name: `${what}, cost of the cipher`,
        value: (100 * distribution(differences).p50) / plain,
        unit: '%',
        target: '< 5',
        note: `median of ${rounds} pairs`,
      },
    );
  };
  for (const [bytes, rounds] of [
    [8 * KIB, 4000],
    [128 * KIB, 500],
  ] as const) {
    const wal = preparedWal((rounds + 4) * bytes, 400);
    const [a, b] = [
      await Writer.open(`${root}/a${bytes}`, aes, wal),
      await Writer.open(`${root}/b${bytes}`, none, wal),
    ];
    const times = await turns(
      rounds,
      () => a.next(bytes),
      () => b.next(bytes),
    );
    add(`safekeeper append ${bytes / KIB} KiB, alone`, rounds, times, 1);
  }
  const each = 128 * KIB;
  const wal = preparedWal((STREAM_ROUNDS + 1) * STREAM_BYTES, 8000);
  const [a, b] = [await Writer.open(`${root}/a`, aes, wal), await Writer.open(`${root}/b`, none, wal)];
  const times = await turns(
    STREAM_ROUNDS,
    () => a.stream(STREAM_BYTES, each),
    () => b.stream(STREAM_BYTES, each),
  );
  add('safekeeper append 128 KiB, of a stream', STREAM_ROUNDS, times, STREAM_BYTES / each);
  return figures;
}
