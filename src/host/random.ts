// Real chance: the system's cryptographic generator. Keys and nonces are made of it.

import { randomFillSync, randomInt } from 'node:crypto';
import type { Random } from '../base/ports.ts';

export const hostRandom: Random = {
  // Memory of its own, never a slice of Node's pool: a key is wiped where it lies.
  bytes: count => randomFillSync(new Uint8Array(count)),
  below: limit => randomInt(limit),
};
