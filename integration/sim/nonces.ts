// The ledger of nonces: handed every byte that is ever written to a disk (SimDisk's `onWrite`), it finds each
// sealed chunk, frame and wrapped key in it and refuses to see one (key, nonce) pair twice. Bytes that were cut
// off, torn or overwritten later count as well: an attacker may have kept a copy.
//
// It reads the formats by their drawings (src/seal/sealed-*.ts), not by their code.

import { createHash } from 'node:crypto';

const HEADER = 512;
const TAG = 16;
const FRAME_HEADER = 48;

interface Known {
  readonly kind: number;
  readonly chunkBytes: number;
  readonly dek: string;
}

const hex = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('hex');

const knownBy = (header: Uint8Array): Known => ({
  kind: header[10]!,
  chunkBytes: new DataView(header.buffer, header.byteOffset).getUint32(12),
  dek: hex(header, 80, 96),
});

export class NonceLedger {
  private readonly files = new Map<string, Known>();
  /** With what was sealed under it, where the same bytes may be written again: a log's tail, after a start. */
  private readonly seen = new Map<string, string>();
  /** The first bytes of a file that came under its name by that of a directory around it. */
  private readonly headOf: (path: string) => Uint8Array | undefined;

  constructor(headOf: (path: string) => Uint8Array | undefined = () => undefined) {
    this.headOf = headOf;
  }

  /** Pairs seen so far. */
  get count(): number {
    return this.seen.size;
  }

  /** For `onWrite`: one call of the disk, which carries whole chunks and frames unless the disk was full. */
  see(path: string, offset: number, bytes: Uint8Array): void {
    const name = path.replace(/\.partial-.*/, '');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    if (offset === 0) {
      const magic = Buffer.from('LAKESEAL').subarray(0, bytes.length);
      if (!magic.equals(bytes.subarray(0, 8))) throw new Error(`${path}: written without a sealed header`);
      if (bytes.length < HEADER) return; // the disk was full: nothing of it is sealed under the new key
      this.files.set(name, knownBy(bytes));
      this.add(`kek ${hex(bytes, 16, 32)} ${view.getUint32(64)}`, hex(bytes, 68, 80), path);
      at = HEADER;
    }
    const head = this.files.has(name) ? undefined : this.headOf(path);
    if (head) this.files.set(name, knownBy(head));
    const known = this.files.get(name);
    if (!known) throw new Error(`${path}: written to before its header`);
    if (known.kind === 1) this.seeChunks(known, path, offset, bytes, at);
    else this.seeFrames(known, path, bytes, at, view);
  }

  /** For an object store: sealed objects, and the bags of re-wrapped keys. */
  seeObject(key: string, bytes: Uint8Array): void {
    if (!key.startsWith('keys/')) {
      this.see(key, 0, bytes);
      return;
    }
    if (!key.includes('/bags/')) return;
    const bag = JSON.parse(Buffer.from(bytes).toString()) as {
      tenant: string;
      kek: number;
      deks: [string, string, string][];
    };
    for (const [, nonce] of bag.deks) this.add(`kek ${bag.tenant} ${bag.kek}`, nonce, key);
  }

  private seeChunks(known: Known, path: string, offset: number, bytes: Uint8Array, from: number): void {
    const step = known.chunkBytes + TAG;
    for (let at = from; at < bytes.length; at += step) {
      const place = offset + at - HEADER;
      if (place % step !== 0) throw new Error(`${path}: a write begins within a chunk, at ${offset + at}`);
      this.add(`file ${known.dek}`, String(place / step), path);
    }
  }

  private seeFrames(known: Known, path: string, bytes: Uint8Array, from: number, view: DataView): void {
    for (let at = from; at + FRAME_HEADER <= bytes.length; ) {
      if (view.getUint32(at) === 0) return; // room reserved ahead
      if (hex(bytes, at, at + 4) !== Buffer.from('LBFR').toString('hex')) {
        throw new Error(`${path}: no frame where one must begin`);
      }
      const end = at + FRAME_HEADER + view.getUint32(at + 4) + TAG;
      const sealed = createHash('sha256').update(bytes.subarray(at, end)).digest('hex');
      const key = `log ${known.dek} ${hex(bytes, at + 32, at + 48)}`;
      this.add(key, String(view.getUint32(at + 24)), path, sealed);
      at = end;
    }
  }

  private add(key: string, nonce: string, path: string, sealed = ''): void {
    const pair = `${key} | ${nonce}`;
    const before = this.seen.get(pair);
    if (before !== undefined && (sealed === '' || before !== sealed)) {
      throw new Error(`${path}: a nonce was used twice: ${pair}`);
    }
    this.seen.set(pair, sealed);
  }
}
