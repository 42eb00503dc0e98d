// WAL that is no longer in memory, for a safekeeper that was away: read from another one that has it, as long as that
// one stands in our term.
//
// Answers to pgxn/neon/neon_walreader.c.

import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import { PqClient } from '../../protocol/pq-client.ts';
import { readWalSenderMessage } from '../../protocol/replication.ts';
import type { ProposerGreeting } from '../../protocol/walproposer.ts';
import { type LinkDeps, timelineOptions } from './acceptor-link.ts';
import type { HostPort } from './contract.ts';

export interface DonorRequest {
  readonly from: HostPort;
  readonly greeting: ProposerGreeting;
  readonly term: number;
  readonly start: Lsn;
}

/** Pieces of at most 128 KiB, one after the other, without end: whoever has enough stops. */
export async function* readDonor(request: DonorRequest, deps: LinkDeps): AsyncGenerator<Uint8Array> {
  const { from, greeting, term, start } = request;
  const client = await PqClient.connect(deps.net, deps.random, {
    ...from,
    password: deps.token,
    parameters: {
      user: 'lakebed',
      database: 'replication',
      replication: 'true',
      options: timelineOptions(greeting),
    },
  });
  try {
    const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(start)} (term='${term}')`);
    let at: number = start;
    for (let bytes = await copy.read(); bytes !== undefined; bytes = await copy.read()) {
      const message = readWalSenderMessage(bytes);
      if (message.kind === 'keepalive' && message.endLsn < at) {
        throw new Fault('wal-missing', `the donor ends at ${formatLsn(message.endLsn)}`);
      }
      if (message.kind !== 'wal') continue;
      if (message.startLsn !== at)
        throw new Fault('protocol-violation', `WAL of ${formatLsn(message.startLsn)}, not ${formatLsn(at)}`);
      at += message.wal.length;
      yield message.wal;
    }
  } finally {
    client.destroy();
  }
}
