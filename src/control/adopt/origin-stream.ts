// The origin's log, as its walsender streams it: checked record by record, handed on, acknowledged as far as it is on a
// quorum of safekeepers. So the slot lets go of what is safe and of nothing else; and an origin that names us in
// synchronous_standby_names waits with each commit until it is.
//
//   XLogData -> WalReader (checks) -> take(bytes)        commits of the proposer -> standby status ('r')
//
// It may break off and be run again: the position and the record that was cut are kept.
//
// Answers to src/backend/replication/walsender.c and walreceiver.c.

import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import type { Clock } from '../../base/ports.ts';
import { type CopyStream, type PqClient, ServerError } from '../../protocol/pq-client.ts';
import { pgTime, readWalSenderMessage, standbyReply } from '../../protocol/replication.ts';
import { dialectOfVersionNumber } from '../../xlog/dialects/all.ts';
import { WalReader } from '../../xlog/reader.ts';
import { WalRecord } from '../../xlog/record.ts';
import { RM_TBLSPC_ID, XLOG_TBLSPC_CREATE } from '../../xlog/rmgr/tblspc.ts';
import { XLOG_BLCKSZ } from '../../xlog/segment.ts';
import { identify } from './origin.ts';

const STATUS_MS = 1000;
const RM_XLOG_ID = 0;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const UNDEFINED_FILE = '58P01';

export interface OriginStreamOptions {
  readonly systemIdentifier: string;
  /** Postgres's timeline when the adoption began. */
  readonly timelineId: number;
  readonly slot: string;
  readonly pgVersion: number;
  readonly walSegmentSize: number;
  /** A record boundary. */
  readonly start: Lsn;
  /** Takes the bytes, and resolves when more may come. */
  take(bytes: Uint8Array): Promise<void>;
  /** What is safe: on a quorum. */
  commitLsn(): Lsn;
}

/**
 * Storage knows one of Postgres's timelines, and a compute that takes over writes on it: a reader of the log stops where
 * page headers go back from 2 to 1. So an origin that was promoted once gets the number that it would have had if not:
 * in page headers, which no checksum covers.
 *
 *   page header: 0 magic u16 | 2 info u16 | 4 xlp_tli u32 | ...
 */
export function renameTimeline(wal: Uint8Array, startLsn: number): void {
  let page = Math.floor(startLsn / XLOG_BLCKSZ) * XLOG_BLCKSZ;
  for (; page < startLsn + wal.length; page += XLOG_BLCKSZ) {
    for (let i = 0; i < 4; i++) {
      const at = page + XLP_TLI_OFFSET + i - startLsn;
      if (at >= 0 && at < wal.length) wal[at] = i === 0 ? STORED_TIMELINE : 0;
    }
  }
}

const XLP_TLI_OFFSET = 4;
const STORED_TIMELINE = 1;

export class OriginStream {
  private readonly options: OriginStreamOptions;
  private readonly clock: Clock;
  private readonly reader: WalReader;
  private readonly record = new WalRecord();
  private copy: CopyStream | undefined;
  private lastWasShutdown = false;
  receivedLsn: Lsn;
  /** Flushed by the origin, as far as it said. */
  originLsn: Lsn;
  private readonly identified = Promise.withResolvers<Lsn>();

  constructor(options: OriginStreamOptions, clock: Clock) {
    this.options = options;
    this.clock = clock;
    this.receivedLsn = this.originLsn = options.start;
    const { start, walSegmentSize: segmentSize, pgVersion } = options;
    const dialect = dialectOfVersionNumber(pgVersion, 'stock');
    this.reader = new WalReader({ start, segmentSize, dialect, checkPrev: true });
  }

  /** The origin ended with a checkpoint, and nothing of its log is missing. */
  get isShutDown(): boolean {
    return this.lastWasShutdown && this.reader.recordEnd === this.receivedLsn;
  }

  /** Streams until the server shuts down in good order, or throws. The client is this stream's alone. */
  async run(client: PqClient, signal: AbortSignal): Promise<void> {
    await this.checkIdentity(client);
    const { slot } = this.options;
    try {
      const command = `START_REPLICATION SLOT "${slot}" PHYSICAL ${formatLsn(this.receivedLsn)}`;
      this.copy = await client.copyBoth(command);
    } catch (error) {
      throw this.explained(error);
    }
    const { copy } = this;
    // Whoever had enough before the stream began would never be heard of again.
    if (signal.aborted) copy.destroy();
    const cut = (): void => copy.destroy();
    const over = new AbortController();
    signal.addEventListener('abort', cut, { once: true });
    const telling = this.tellRegularly(over.signal);
    try {
      for (let bytes = await copy.read(); bytes !== undefined; bytes = await copy.read())
        await this.hear(bytes);
      if (!copy.shutDown) throw new Fault('connection-closed', 'the origin ended the stream');
    } catch (error) {
      signal.throwIfAborted();
      throw this.explained(error);
    } finally {
      signal.removeEventListener('abort', cut);
      this.copy = undefined;
      over.abort(new Fault('connection-closed', 'the stream is over'));
      await telling;
    }
  }

  private async checkIdentity(client: PqClient): Promise<void> {
    const { systemIdentifier, timelineId, lsn } = await identify(client);
    const { options } = this;
    const diverged = (why: string): Fault =>
      new Fault('origin-diverged', why, {
        hint: 'What was adopted stays as it is and readable. To follow this server, adopt it anew under another --branch.',
      });
    if (systemIdentifier !== options.systemIdentifier)
      throw diverged('another server answers at the address of the origin');
    if (timelineId !== options.timelineId)
      throw diverged(`the origin went over to timeline ${timelineId}: it was promoted or restored`);
    if (lsn < this.receivedLsn) {
      const [has, had] = [formatLsn(lsn), formatLsn(this.receivedLsn)];
      throw diverged(`the origin's log ends at ${has}, and storage has it up to ${had} already`);
    }
    if (lsn > this.originLsn) this.originLsn = lsn;
    this.identified.resolve(lsn);
  }

  /** What the origin had when it was first asked. */
  get firstLsn(): Promise<Lsn> {
    return this.identified.promise;
  }

  private explained(error: unknown): unknown {
    if (!(error instanceof ServerError)) return error;
    const gone = error.sqlState === UNDEFINED_FILE || /invalidated|can no longer/.test(error.message);
    if (!gone) return error;
    return new Fault(
      'wal-missing',
      `the origin no longer has the log that is to come next: ${error.message}`,
      {
        hint: 'Its slot was dropped, or max_slot_wal_keep_size was passed. Adopt it anew under another --branch.',
        cause: error,
      },
    );
  }

  private async hear(bytes: Uint8Array): Promise<void> {
    const message = readWalSenderMessage(bytes);
    if (message.kind === 'interpreted') throw new Fault('protocol-violation', 'the origin is no Postgres');
    if (message.endLsn > this.originLsn) this.originLsn = message.endLsn;
    if (message.kind === 'keepalive') {
      if (message.replyRequested) await this.tell();
      return;
    }
    const { startLsn, wal } = message;
    if (startLsn !== this.receivedLsn) {
      const [came, due] = [formatLsn(startLsn), formatLsn(this.receivedLsn)];
      throw new Fault('protocol-violation', `the origin sent its log from ${came}, not from ${due}`);
    }
    if (this.options.timelineId !== STORED_TIMELINE) renameTimeline(wal, startLsn);
    const unfit = this.check(wal);
    const good = unfit === undefined ? wal : wal.subarray(0, Math.max(0, unfit - startLsn));
    this.receivedLsn = (startLsn + good.length) as Lsn;
    await this.options.take(good);
    if (unfit === undefined) return;
    throw new Fault('origin-unfit', `the origin made a tablespace, at ${formatLsn(unfit)}`, {
      hint: 'Storage keeps one data directory. The branch stays as it was before; drop the tablespace and adopt anew.',
    });
  }

  /**
   * Damage is found here, where it comes from, and not by a quorum of safekeepers. So is a tablespace: where the record
   * begins that a pageserver would stop at.
   */
  private check(wal: Uint8Array): Lsn | undefined {
    const { reader, record } = this;
    reader.push(wal);
    while (reader.next(record)) {
      const operation = record.info & 0xf0;
      this.lastWasShutdown = record.rmid === RM_XLOG_ID && operation === XLOG_CHECKPOINT_SHUTDOWN;
      if (record.rmid === RM_TBLSPC_ID && operation === XLOG_TBLSPC_CREATE) return record.lsn;
    }
    return undefined;
  }

  /** How far we are, now: after each commit, so that nobody waits for the next regular one. */
  async tell(): Promise<void> {
    const commitLsn = this.options.commitLsn();
    const reply = { writeLsn: this.receivedLsn, flushLsn: commitLsn, applyLsn: commitLsn };
    const replyTime = pgTime(this.clock.now());
    try {
      await this.copy?.write(standbyReply({ ...reply, replyTime, replyRequested: false }));
    } catch (error) {
      if (!(error instanceof Fault)) throw error; // the reading side finds out
    }
  }

  private async tellRegularly(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.tell();
      await this.clock.sleep(STATUS_MS, signal).catch(() => {});
    }
  }
}
