// Proposers of our own against safekeepers of the test's process, all of one timeline.

import { tenantId, timelineId } from '../../src/base/ids.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import { Proposer, type ProposerOptions } from '../../src/control/adopt/proposer.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import type { InProcess } from './in-process.ts';

export const KEY = { tenantId: tenantId('a'.repeat(32)), timelineId: timelineId('b'.repeat(32)) };
export const START = 0x200_0000 as Lsn;
export const SERVER = { pgVersion: 170010, segmentSize: 16 * 1024 * 1024, systemId: 77n };

export const addressOf = ({ port }: InProcess): { host: string; port: number } => ({
  host: '127.0.0.1',
  port,
});

/** One that these hear; its terms are recorded nowhere unless the options say. */
export function proposerTo(
  safekeepers: readonly InProcess[],
  options: Partial<ProposerOptions> = {},
): Proposer {
  const { pgVersion, systemId, segmentSize: walSegSize } = SERVER;
  return new Proposer(
    {
      targets: safekeepers.map(addressOf),
      greeting: { ...KEY, pgVersion, systemId, walSegSize },
      freshLsn: START,
      lastTerm: 0,
      saveTerm: async () => undefined,
      ...options,
    },
    { clock: hostClock, net: hostNet(), random: hostRandom, token: undefined },
  );
}
