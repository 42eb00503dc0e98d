// The leanest client that can push WAL: one safekeeper, one election that it wins, then appends of prepared bytes.
// It does little beside writing to the socket, so that what is measured is the safekeeper.

import { randomBytes } from 'node:crypto';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { INVALID_LSN, type Lsn, lsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { type CopyStream, PqClient } from '../../src/protocol/pq-client.ts';
import type { AcceptorMessage, ProposerMessage } from '../../src/protocol/walproposer.ts';
import { readAcceptorMessage, writeProposerMessage } from '../../src/protocol/walproposer-v3.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';

export const START_LSN = lsn(0x14ebd08);
const SERVER = { pgVersion: 170005, systemId: 7_460_338_342_930_325_313n, walSegSize: 16 * 1024 * 1024 };

/** A log of so many bytes, in records with payloads of so many. */
export function preparedWal(bytes: number, payloadBytes: number): ModelWal {
  const wal = new ModelWal(START_LSN, { ...SERVER, segmentSize: SERVER.walSegSize });
  const payload = randomBytes(payloadBytes);
  while (wal.end < START_LSN + bytes) {
    payload.writeUInt32LE(wal.end >>> 0, 0);
    wal.add(payload);
  }
  return wal;
}

export const newKey = (): TimelineKey => ({
  tenantId: tenantId(randomBytes(16).toString('hex')),
  timelineId: timelineId(randomBytes(16).toString('hex')),
});

export class AppendClient {
  private readonly client: PqClient;
  private readonly copy: CopyStream;
  private readonly wal: ModelWal;
  private at: Lsn = START_LSN;
  private flushLsn: Lsn = START_LSN;
  commitLsn: Lsn = START_LSN;
  private heard: (() => void) | undefined;
  private failed: unknown;

  private constructor(client: PqClient, copy: CopyStream, wal: ModelWal) {
    this.client = client;
    this.copy = copy;
    this.wal = wal;
  }

  /** Elected, and ready to append. */
  static async open(port: number, key: TimelineKey, wal: ModelWal): Promise<AppendClient> {
    const client = await PqClient.connect(hostNet(), hostRandom, {
      host: '127.0.0.1',
      port,
      parameters: { user: 'x', options: `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId}` },
    });
    const copy = await client.copyBoth("START_WAL_PUSH (proto_version '3', allow_timeline_creation 'true')");
    const it = new AppendClient(client, copy, wal);
    await it.ask({ kind: 'greeting', ...key, membership: NO_MEMBERSHIP, ...SERVER });
    await it.ask({ kind: 'vote-request', generation: 0, term: 1 });
    const termHistory = [{ term: 1, lsn: START_LSN }];
    await it.tell({ kind: 'elected', generation: 0, term: 1, startStreamingAt: START_LSN, termHistory });
    void it.listen();
    return it;
  }

  private tell(message: ProposerMessage): Promise<void> {
    return this.copy.write(writeProposerMessage(message));
  }

  private async ask(message: ProposerMessage): Promise<AcceptorMessage> {
    await this.tell(message);
    return readAcceptorMessage((await this.copy.read())!);
  }

  private async listen(): Promise<void> {
    try {
      for (;;) {
        const bytes = await this.copy.read();
        if (!bytes) throw new Error('the safekeeper ended the copy');
        const reply = readAcceptorMessage(bytes);
        if (reply.kind !== 'append-response') continue;
        this.flushLsn = reply.flushLsn;
        this.heard?.();
      }
    } catch (error) {
      this.failed = error;
      this.heard?.();
    }
  }

  private async hear(): Promise<void> {
    await new Promise<void>(resolve => (this.heard = resolve));
    if (this.failed) throw this.failed;
  }

  /** Sends the next `length` bytes in messages of `messageBytes`; resolves when every whole record of them is durable. */
  async push(length: number, messageBytes: number, windowBytes: number): Promise<void> {
    const end = Math.min(this.wal.end, this.at + length) as Lsn;
    const told = lastBoundary(this.wal.boundaries, end);
    while (this.at < end) {
      if (this.at - this.flushLsn > windowBytes) {
        await this.hear();
        continue;
      }
      const [beginLsn, endLsn] = [this.at, Math.min(end, this.at + messageBytes) as Lsn];
      this.at = endLsn;
      // With a quorum of one, what is flushed is committed; others are told by whoever counts.
      this.commitLsn = Math.max(this.commitLsn, this.flushLsn) as Lsn;
      await this.tell({
        kind: 'append-request',
        generation: 0,
        term: 1,
        beginLsn,
        endLsn,
        commitLsn: this.commitLsn,
        truncateLsn: INVALID_LSN,
        wal: this.wal.bytes(beginLsn, endLsn),
      });
    }
    while (this.flushLsn < told) await this.hear();
  }

  get left(): number {
    return this.wal.end - this.at;
  }

  close(): void {
    this.client.destroy();
  }
}

/** What a safekeeper tells as flushed is the end of a record. */
function lastBoundary(boundaries: readonly Lsn[], end: Lsn): Lsn {
  let [low, high] = [0, boundaries.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (boundaries[middle]! <= end) low = middle;
    else high = middle - 1;
  }
  return boundaries[low]!;
}
