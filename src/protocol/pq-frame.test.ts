import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { utf8 } from '../base/bytes.ts';
import { copyData, FrameReader, frame, startupPacket, TAG } from './pq-frame.ts';

function readAll(reader: FrameReader): { tag: number; body: Uint8Array }[] {
  const frames = [];
  for (let f = reader.next(); f; f = reader.next()) frames.push({ tag: f.tag, body: f.body.slice() });
  return frames;
}

describe('FrameReader', () => {
  test('gives back the same frames at any chunking', () => {
    const piece = fc.record({
      tag: fc.integer({ min: 1, max: 255 }),
      body: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 97 })),
        (frames, cuts) => {
          const whole = Buffer.concat(frames.map(f => frame(f.tag, f.body)));
          const reader = new FrameReader(1000);
          const found = [];
          let at = 0;
          for (let i = 0; at < whole.length; i++) {
            const length = cuts.length > 0 ? cuts[i % cuts.length]! : whole.length;
            reader.push(whole.subarray(at, at + length));
            at += length;
            if (i % 3 !== 1) found.push(...readAll(reader));
          }
          found.push(...readAll(reader));
          expect(found.map(f => [f.tag, [...f.body]])).toEqual(frames.map(f => [f.tag, [...f.body]]));
          expect(reader.buffered).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a large body in socket-sized chunks is whole', () => {
    const body = new Uint8Array(131117).map((_, i) => i * 7);
    const bytes = copyData(body.subarray(0, 45), body.subarray(45));
    const reader = new FrameReader(200_000);
    const seen: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += 65536) {
      reader.push(bytes.subarray(at, at + 65536));
      for (const f of readAll(reader)) seen.push(f.body);
    }
    expect(seen).toHaveLength(1);
    expect(Buffer.compare(seen[0]!, body)).toBe(0);
  });

  test('a body that was taken back makes room for the next; chunks go once all of them was copied', () => {
    const bodies = [40_000, 39_000, 41_000, 12].map((length, n) =>
      new Uint8Array(length).map((_, i) => i * 7 + n),
    );
    const bytes = Buffer.concat(bodies.map(body => copyData(body)));
    const reader = new FrameReader(200_000, true);
    const chunks: Uint8Array[] = [];
    const seen: Uint8Array[] = [];
    const buffers = new Set<ArrayBufferLike>();
    for (let at = 0; at < bytes.length; at += 10_000) {
      chunks.push(new Uint8Array(bytes.subarray(at, at + 10_000)));
      reader.push(chunks.at(-1)!);
      for (let f = reader.next(); f; f = reader.next()) {
        seen.push(f.body.slice());
        buffers.add(f.body.buffer);
        reader.takeBack(f.body);
      }
    }
    expect(seen.map((body, i) => Buffer.compare(body, bodies[i]!))).toEqual([0, 0, 0, 0]);
    // Those of 40,000 and 39,000 lay in one buffer, the longer one needed another, the last is a view of a chunk.
    expect(buffers.size).toBe(3);
    const whole = chunks.filter(chunk => chunk.length > 0);
    expect(whole).toEqual([chunks.at(-1)]);
  });

  test('a chunk that a body is a view of stays', () => {
    const reader = new FrameReader(200_000, true);
    const chunk = new Uint8Array(Buffer.concat([copyData(new Uint8Array(9000).fill(5))]));
    reader.push(chunk);
    const { body } = reader.next()!;
    reader.takeBack(body);
    reader.push(new Uint8Array(copyData(new Uint8Array(9000).fill(6))));
    reader.next();
    expect(body.every(byte => byte === 5) && body.length === 9000).toBe(true);
  });

  test('a length past the limit is refused before its body comes', () => {
    const reader = new FrameReader(100);
    reader.push(new Uint8Array([TAG.copyData, 0x7f, 0xff, 0xff, 0xff]));
    expect(() => reader.next()).toThrow(/not acceptable here/);
  });

  test('a length below itself is refused', () => {
    for (const length of [0, 1, 2, 3]) {
      const reader = new FrameReader(100);
      reader.push(new Uint8Array([TAG.query, 0, 0, 0, length]));
      expect(() => reader.next()).toThrow(/not acceptable here/);
    }
  });

  test('a claimed body costs what has arrived, not what is claimed', () => {
    const reader = new FrameReader(1 << 30);
    const before = process.memoryUsage().arrayBuffers;
    reader.push(new Uint8Array([TAG.copyData, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3]));
    expect(reader.next()).toBeUndefined();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  test('startup packets: 8 to 10000 bytes', () => {
    const ok = startupPacket(196608, ['user', 'a']);
    const reader = new FrameReader(0);
    for (const byte of ok) reader.push(new Uint8Array([byte]));
    expect(reader.nextStartup()).toEqual({ code: 196608, body: utf8('user\0a\0\0') });
    for (const length of [0, 7, 10_001, 0x16030100]) {
      const r = new FrameReader(0);
      const head = new Uint8Array(4);
      new DataView(head.buffer).setUint32(0, length);
      r.push(head);
      expect(() => r.nextStartup()).toThrow(/not acceptable here/);
    }
  });
});
