// Compressors for the tests of the decompressors: the plainest that make valid streams with every feature the
// format has (literals, matches near and far, overlapping ones, long lengths). Nobody else packs pages.

/** The longest match for what begins at `at`: how far back, how long; the last candidate of the same three bytes. */
class Matcher {
  private readonly seen = new Map<number, number>();
  private readonly bytes: Uint8Array;
  private readonly backMax: number;

  constructor(bytes: Uint8Array, backMax: number) {
    this.bytes = bytes;
    this.backMax = backMax;
  }

  find(at: number, lengthMax: number): { back: number; length: number } {
    const { bytes } = this;
    const key = this.key(at);
    const candidate = key === undefined ? undefined : this.seen.get(key);
    if (candidate === undefined || at - candidate > this.backMax) return { back: 0, length: 0 };
    let length = 0;
    while (
      length < lengthMax &&
      at + length < bytes.length &&
      bytes[candidate + length] === bytes[at + length]
    )
      length++;
    return { back: at - candidate, length };
  }

  learn(from: number, to: number): void {
    for (let at = from; at < to; at++) {
      const key = this.key(at);
      if (key !== undefined) this.seen.set(key, at);
    }
  }

  private key(at: number): number | undefined {
    const { bytes } = this;
    return at + 4 > bytes.length
      ? undefined
      : bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  }
}

/** pg_lzcompress.c's format, whatever comes of it: Postgres itself gives up where nothing is gained. */
export function pglzEncode(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  const matcher = new Matcher(bytes, 4095);
  let control = 0;
  let items = 8;
  for (let at = 0; at < bytes.length; ) {
    if (items === 8) {
      control = out.length;
      out.push(0);
      items = 0;
    }
    const { back, length } = matcher.find(at, 273);
    if (length >= 4) {
      out[control]! |= 1 << items;
      const stored = Math.min(length - 3, 15);
      out.push(((back >> 8) << 4) | stored, back & 0xff);
      if (stored === 15) out.push(length - 18);
      matcher.learn(at, at + length);
      at += length;
    } else {
      matcher.learn(at, at + 1);
      out.push(bytes[at++]!);
    }
    items++;
  }
  return Uint8Array.from(out);
}

/** An LZ4 block: sequences of literals and a match, the last one of literals alone. */
export function lz4Encode(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  const matcher = new Matcher(bytes, 65535);
  const more = (length: number): void => {
    let rest = length - 15;
    for (; rest >= 255; rest -= 255) out.push(255);
    if (rest >= 0) out.push(rest);
  };
  const sequence = (from: number, to: number, back: number, length: number): void => {
    const literals = to - from;
    const stored = Math.max(0, length - 4);
    out.push((Math.min(literals, 15) << 4) | Math.min(stored, 15));
    more(literals);
    for (let at = from; at < to; at++) out.push(bytes[at]!);
    if (length === 0) return;
    out.push(back & 0xff, back >> 8);
    more(stored);
  };
  let from = 0;
  for (let at = 0; at < bytes.length; ) {
    const { back, length } = matcher.find(at, bytes.length - at - 5);
    if (length >= 4) {
      sequence(from, at, back, length);
      matcher.learn(at, at + length);
      at += length;
      from = at;
    } else {
      matcher.learn(at, ++at);
    }
  }
  sequence(from, bytes.length, 0, 0);
  return Uint8Array.from(out);
}
