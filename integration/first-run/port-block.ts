// Consecutive ports for a Lakebed of a test's own. Without them two tests that start one each, side by side, are given
// the same default block by turns: free while the other is down, and taken when it comes back.

import { randomInt } from 'node:crypto';
import { PORT_COUNT } from '../../src/control/local/layout.ts';
import { isFree } from '../safekeeper/neon-postgres.ts';

/** Above those of single daemons in tests, below those that systems hand out. */
const BLOCKS = { from: 30_000, count: 130, size: 20 };

/** The first of them, as `--ports` takes it. */
export async function portBlock(): Promise<string> {
  for (;;) {
    const first = BLOCKS.from + randomInt(BLOCKS.count) * BLOCKS.size;
    const free = await Promise.all(Array.from({ length: PORT_COUNT }, (_, i) => isFree(first + i)));
    if (free.every(Boolean)) return String(first);
  }
}
