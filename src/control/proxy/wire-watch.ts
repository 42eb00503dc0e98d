// What a proxy must know of the frames that pass it, seen without holding any back: the key by which a session may be
// cancelled (replaced by one of ours on its way, for keys of several computes could be the same), and whether the
// session is at work.
//
// Both watches are fed each chunk as it passes, at any chunking; they look at headers and skip bodies. A session is
// at work while an answer is owed, or a transaction is open:
//
//   client   Query, FunctionCall, Sync   one ReadyForQuery more is owed
//            anything else, but Terminate   something is under way until the next ReadyForQuery
//   compute  CopyIn, CopyBoth            Syncs that came before are dropped by Postgres: nothing is owed for them
//            ReadyForQuery               one less; its status tells of the transaction
//
// Pure. Answers to the message flow of src/backend/tcop/postgres.c (PostgresMain).

import { TAG, tagOf } from '../../protocol/pq-frame.ts';

const FUNCTION_CALL = tagOf('F');
const IDLE = 'I'.charCodeAt(0);

interface FrameEyes {
  /** At the start of each frame; true to see its body. */
  header(tag: number): boolean;
  /** A byte of a body asked for; what it answers takes the byte's place. */
  byte(tag: number, at: number, value: number): number;
}

/** Walks over the frames of a stream that comes in chunks. */
class FrameWalk {
  private readonly eyes: FrameEyes;
  private headerFilled = 0;
  private tag = 0;
  private length = 0;
  private bodyAt = 0;
  private bodyLength = 0;
  private wanted = false;

  constructor(eyes: FrameEyes) {
    this.eyes = eyes;
  }

  pass(bytes: Uint8Array): void {
    let i = 0;
    while (i < bytes.length) {
      if (this.headerFilled < 5) {
        const value = bytes[i++]!;
        if (this.headerFilled === 0) this.tag = value;
        else this.length = ((this.length << 8) | value) >>> 0;
        if (++this.headerFilled < 5) continue;
        this.bodyAt = 0;
        this.bodyLength = Math.max(0, this.length - 4);
        this.wanted = this.eyes.header(this.tag);
      } else {
        const part = Math.min(bytes.length - i, this.bodyLength - this.bodyAt);
        if (this.wanted) {
          for (let k = 0; k < part; k++)
            bytes[i + k] = this.eyes.byte(this.tag, this.bodyAt + k, bytes[i + k]!);
        }
        i += part;
        this.bodyAt += part;
      }
      if (this.bodyAt === this.bodyLength) {
        this.headerFilled = 0;
        this.length = 0;
      }
    }
  }
}

/** One session, from the moment its startup packet is through. */
export class SessionWatch {
  /** The compute's own cancel key, once it has told it. */
  key: Uint8Array | undefined;
  /** The one that the client was given in its place; as long. */
  get ownKey(): Uint8Array {
    return this.spare.subarray(0, this.keyLength);
  }
  private readonly spare: Uint8Array;
  private readonly seenKey: number[] = [];
  private keyLength = 0;
  private owed = 1;
  private underWay = false;
  private status = IDLE;
  private readonly client: FrameWalk;
  private readonly compute: FrameWalk;

  /** `spare`: random bytes for our key, as many as a key may have (256 of protocol 3.2, and the process id). */
  constructor(spare: Uint8Array) {
    this.spare = spare;
    this.client = new FrameWalk({
      header: tag => this.onClientFrame(tag),
      byte: (_tag, _at, value) => value,
    });
    this.compute = new FrameWalk({
      header: tag => this.onComputeFrame(tag),
      byte: (tag, at, value) => this.onComputeByte(tag, at, value),
    });
  }

  /** Login not done, an answer owed, or a transaction open. */
  get isBusy(): boolean {
    return this.owed > 0 || this.underWay || this.status !== IDLE;
  }

  fromClient(bytes: Uint8Array): void {
    this.client.pass(bytes);
  }

  /** Changes the cancel key in place. */
  fromCompute(bytes: Uint8Array): void {
    this.compute.pass(bytes);
  }

  private onClientFrame(tag: number): boolean {
    if (tag === TAG.query || tag === TAG.sync || tag === FUNCTION_CALL) this.owed++;
    else if (tag !== TAG.terminate && tag !== TAG.password) this.underWay = true;
    return false;
  }

  private onComputeFrame(tag: number): boolean {
    if (tag === TAG.copyInResponse || tag === TAG.copyBothResponse) {
      this.owed = 0;
      this.underWay = true;
    }
    return tag === TAG.readyForQuery || (tag === TAG.backendKeyData && this.key === undefined);
  }

  private onComputeByte(tag: number, at: number, value: number): number {
    if (tag === TAG.readyForQuery) {
      if (this.seenKey.length > 0) this.key ??= Uint8Array.from(this.seenKey);
      this.owed = Math.max(0, this.owed - 1);
      if (this.owed === 0) this.underWay = false;
      this.status = value;
      return value;
    }
    this.seenKey.push(value);
    this.keyLength = at + 1;
    return this.spare[at] ?? 0;
  }
}
