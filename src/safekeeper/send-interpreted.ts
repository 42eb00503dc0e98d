// START_REPLICATION in the interpreted protocol: WAL is decoded here, and a pageserver is sent what its shard needs
// of each record, in batches of as much WAL as one read gives. An empty batch tells no news and is not sent, but
// for shard 0, which must hear of every record.
//
// Answers to InterpretedWalReader and InterpretedWalSender of safekeeper/src/send_interpreted_wal.rs.

import type { Lsn } from '../base/lsn.ts';
import type { ShardIdentity } from '../base/shard.ts';
import {
  encodeBatch,
  type InterpretedBatch,
  type InterpretedFormat,
  type InterpretedRecord,
} from '../protocol/interpreted-wal.ts';
import type { PqConnection } from '../protocol/pq-serve.ts';
import { interpretedHeader, keepalive } from '../protocol/replication.ts';
import type { Dialect } from '../xlog/dialect.ts';
import { dialectOfVersionNumber } from '../xlog/dialects/all.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';
import { interpretRecord, isEmpty } from './interpret.ts';
import { chunkLength, endIfDone, type SendDeps, sideBySide, type WalStream } from './send-wal.ts';
import type { ReaderHandle, TimelineHandle } from './timeline-handle.ts';
import { WalEnd } from './wal-end.ts';

/** WAL in, batches for one shard out. */
export class WalInterpreter {
  private readonly reader: WalReader;
  private readonly record = new WalRecord();
  private readonly dialect: Dialect;
  private readonly shard: ShardIdentity;
  private batchStart: Lsn;

  constructor(startLsn: Lsn, pgVersion: number, segmentSize: number, shard: ShardIdentity) {
    this.dialect = dialectOfVersionNumber(pgVersion, 'neon');
    this.reader = new WalReader({ start: startLsn, segmentSize, dialect: this.dialect });
    this.shard = shard;
    this.batchStart = startLsn;
  }

  /** Undefined when no record was completed by these bytes. */
  push(wal: Uint8Array): InterpretedBatch | undefined {
    this.reader.push(wal);
    const records: InterpretedRecord[] = [];
    let nextRecordLsn: Lsn | undefined;
    while (this.reader.next(this.record)) {
      nextRecordLsn = this.record.endLsn;
      const interpreted = interpretRecord(this.record, this.dialect, this.shard);
      if (this.shard.number === 0 || !isEmpty(interpreted)) records.push(interpreted);
    }
    if (nextRecordLsn === undefined) return undefined;
    const batch = { records, nextRecordLsn, rawWalStartLsn: this.batchStart };
    this.batchStart = nextRecordLsn;
    return batch;
  }
}

/** Streams until one side ends it; throws as PqHandler.query does. */
export function sendInterpreted(
  pq: PqConnection,
  timeline: TimelineHandle,
  stream: WalStream & { readonly format: InterpretedFormat; readonly shard: ShardIdentity },
  reader: ReaderHandle,
  deps: SendDeps,
): Promise<never> {
  return sideBySide(pq, timeline, reader, deps, async signal => {
    const { startLsn, term, applicationName, format, shard } = stream;
    const { pgVersion, walSegSize } = timeline.status().control.server;
    const interpreter = new WalInterpreter(startLsn, pgVersion, walSegSize, shard);
    const end = new WalEnd(timeline, term, deps.clock);
    for (let at = startLsn; ; ) {
      if (!(await end.past(at, signal))) {
        endIfDone(timeline, reader, term, at, applicationName);
        await pq.sendCopyData(keepalive(end.now, deps.clock.now(), true));
        continue;
      }
      const available = end.now;
      const wal = await timeline.readWal(at, chunkLength(at, available), term);
      signal.throwIfAborted();
      at = (at + wal.length) as Lsn;
      const batch = interpreter.push(wal);
      if (batch) await pq.sendCopyData(interpretedHeader(at, available), encodeBatch(batch, format));
      reader.position(at);
    }
  });
}
