// The fuzzer of the log: real records of every operation and the pages they edit, damaged at random, then decoded,
// described, asked for their effects and redone. Whatever the bytes, the answer is a change or a Fault: never
// another error, a hang, or a byte outside the page.
//
//   node integration/redo/fuzz.ts [--runs 1000000] [--seed 1]
//
// One seed gives one sequence of inputs; a failure prints the seed and the run that replay it.

import { Fault } from '../../src/base/fault.ts';
import { type Lsn, lsn } from '../../src/base/lsn.ts';
import { recordJson, recordLine } from '../../src/xlog/inspect.ts';
import { newPage, pageOver } from '../../src/xlog/page.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { redoBlock } from '../../src/xlog/redo.ts';
import { emitEffects, findOp, maskPage } from '../../src/xlog/rmgr.ts';
import { WalWriter } from '../../src/xlog/writer.ts';
import { loadSamples, type Sample } from './record-samples.ts';

/** No input may take longer than this: a hang by another name. */
const SLOW_MS = 1000;
const GUARD = 64;

/** xorshift32: small, fast, the same everywhere. */
export function makeRandom(seed: number): (limit: number) => number {
  let state = seed === 0 ? 0x9e3779b9 : seed >>> 0;
  return limit => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

type Random = ReturnType<typeof makeRandom>;

const HOSTILE = [
  0, 1, 2, 7, 8, 0x7f, 0x80, 0xfe, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
];

/** Damage `bytes` from `from` on, one to six times. */
function damage(random: Random, bytes: Uint8Array, from: number, to = bytes.length): void {
  if (to <= from) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let edits = 1 + random(6); edits > 0; edits--) {
    const at = from + random(to - from);
    switch (random(4)) {
      case 0:
        bytes[at] = bytes[at]! ^ (1 << random(8));
        break;
      case 1:
        bytes[at] = random(256);
        break;
      case 2:
        if (at + 2 <= to) view.setUint16(at, HOSTILE[random(HOSTILE.length)]!, true);
        break;
      default:
        if (at + 4 <= to) view.setUint32(at, HOSTILE[random(HOSTILE.length)]!, true);
    }
  }
}

export interface FuzzCounts {
  runs: number;
  refused: number;
  redone: number;
}

export class Fuzzer {
  private readonly samples: readonly Sample[];
  private readonly random: Random;
  private readonly record = new WalRecord();
  /** A page with guards on both sides: an edit that leaves the page is seen. */
  private readonly arena = new Uint8Array(GUARD + 8192 + GUARD);
  private readonly page = pageOver(this.arena.subarray(GUARD, GUARD + 8192));
  readonly counts: FuzzCounts = { runs: 0, refused: 0, redone: 0 };

  constructor(seed: number) {
    this.samples = loadSamples();
    this.random = makeRandom(seed);
  }

  run(): void {
    const sample = this.samples[this.random(this.samples.length)]!;
    this.counts.runs++;
    const start = performance.now();
    if (this.random(16) === 0) this.runReader(sample);
    else this.runRecord(sample);
    const took = performance.now() - start;
    if (took > SLOW_MS) throw new Error(`one input took ${took.toFixed(0)} ms`);
  }

  /** Run `work`; a Fault is an answer, anything else is thrown on. */
  private answers(work: () => unknown): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.counts.refused++;
      return false;
    }
  }

  private runRecord(sample: Sample): void {
    const { random, record } = this;
    const { dialect } = sample;
    const bytes = sample.record.slice();
    // Now and then the operation itself changes: a body that belongs to another one.
    if (random(8) === 0) bytes[16] = random(256);
    if (random(16) === 0) bytes[17] = random(24);
    if (random(4) > 0) damage(random, bytes, 24);
    const view = new DataView(bytes.buffer);
    const at = sample.end as Lsn;
    if (!this.answers(() => void decodeRecord(record, bytes, view, 0, at, at, dialect.imageBits))) return;
    this.answers(() => void recordLine(dialect, record, random(2) === 0));
    this.answers(() => void recordJson(dialect, record));
    const rmgr = dialect.rmgrs[record.rmid];
    const op = rmgr && findOp(rmgr, record.info);
    this.answers(() => op !== undefined && emitEffects(op, record, () => {}));
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      this.arena.fill(0xa5);
      this.page.bytes.set(sample.pages.get(id) ?? newPage().bytes);
      if (random(3) > 0)
        damage(random, this.page.bytes, random(3) === 0 ? 12 : 0, random(2) === 0 ? 64 : 8192);
      if (this.answers(() => void redoBlock(dialect, this.page, record, block))) this.counts.redone++;
      for (let i = 0; i < GUARD; i++) {
        if (this.arena[i] !== 0xa5 || this.arena[GUARD + 8192 + i] !== 0xa5)
          throw new Error('an edit left its page');
      }
      const mask = rmgr?.mask;
      if (mask !== undefined) this.answers(() => maskPage(mask, this.page, block.blkno));
    }
  }

  /** A log of a few records, damaged anywhere, cut into any pieces. */
  private runReader(sample: Sample): void {
    const { random } = this;
    const writer = new WalWriter({ start: lsn(0x1000000), dialect: sample.dialect });
    for (let i = 0; i < 12; i++)
      writer.appendRecord(this.samples[random(this.samples.length)]!.record.slice());
    const log = writer.take();
    if (random(4) > 0) damage(random, log, 0);
    const reader = new WalReader({ start: lsn(0x1000000), dialect: sample.dialect, resync: random(4) === 0 });
    this.answers(() => {
      for (let at = 0; at < log.length; ) {
        const size = 1 + random(9000);
        reader.push(log.subarray(at, Math.min(at + size, log.length)));
        at += size;
        while (reader.next(this.record)) recordLine(sample.dialect, this.record);
      }
    });
  }
}

if (import.meta.main) {
  const option = (name: string, otherwise: number): number => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? otherwise : Number(process.argv[at + 1]);
  };
  const runs = option('runs', 1_000_000);
  const seed = option('seed', 1);
  const fuzzer = new Fuzzer(seed);
  for (let i = 1; i <= runs; i++) {
    try {
      fuzzer.run();
    } catch (error) {
      console.error(`seed ${seed}, run ${i}:`, error);
      process.exit(1);
    }
    if (i % 100_000 === 0)
      console.log(
        `${i} of ${runs}: ${fuzzer.counts.redone} blocks redone, ${fuzzer.counts.refused} refusals`,
      );
  }
}
