// Which session a cancel key of ours belongs to. Keys of two computes may be alike, so a client is given a random key
// of the proxy's own, and a request that names it is sent on with the compute's. A session that ends is forgotten, and
// a key that nobody holds cancels nothing, as in Postgres. Pure.
//
// Answers to proxy/src/cancellation.rs.

import { toHex } from '../../base/bytes.ts';

export interface CancelPlace {
  readonly host: string;
  readonly port: number;
  /** Process id and secret, as the compute told them. */
  readonly key: Uint8Array;
}

export class CancelKeys {
  private readonly places = new Map<string, CancelPlace>();

  get count(): number {
    return this.places.size;
  }

  /** Until the function returned is called. */
  remember(ownKey: Uint8Array, place: CancelPlace): () => void {
    const name = toHex(ownKey);
    this.places.set(name, place);
    return () => {
      if (this.places.get(name) === place) this.places.delete(name);
    };
  }

  find(ownKey: Uint8Array): CancelPlace | undefined {
    return this.places.get(toHex(ownKey));
  }
}
