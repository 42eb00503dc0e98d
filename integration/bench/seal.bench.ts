// What sealing costs: the same code with AES-256-GCM and with a cipher that does nothing (which exists here alone),
// taking turns on the same disk, beside the disk on its own. Then the numbers that are not measured but follow:
// how far each key is from the limits of its nonces, and the bound on revocation.

import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatBytes } from '../../src/base/bytes.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { hostRandom } from '../../src/host/random.ts';
import { IMAGE_BLOCK_BYTES } from '../../src/pageserver/layers/block.ts';
import { layerTail, SectionBuilder } from '../../src/pageserver/layers/layer-builder.ts';
import { LayerFile } from '../../src/pageserver/layers/layer-file.ts';
import { describeLayer, type LayerIdentity } from '../../src/pageserver/layers/layer-name.ts';
import { type Aead, aes256gcm, keyOf, type ReadyCipher, TAG_BYTES } from '../../src/seal/aead.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { KEK_WRAPS_MAX } from '../../src/seal/envelope.ts';
import { boundMs, KEY_TIMES } from '../../src/seal/key-state.ts';
import { CHUNK_BYTES, CHUNKS_MAX } from '../../src/seal/sealed-file.ts';
import { FRAME_PLAIN_MAX, FRAMES_PER_STRETCH_MAX } from '../../src/seal/sealed-log.ts';
import type { SealedSource, Vault } from '../../src/seal/vault.ts';
import { SimFileKeys } from '../sim/file-keys.ts';
import { SimRandom } from '../sim/random.ts';
import { type Bench, distribution, type Figure } from './harness.ts';
import { safekeeperAppendFigures } from './seal-append.ts';

const TENANT = '11'.repeat(16);
const MIB = 1024 * 1024;
const SEGMENT_BYTES = 16 * MIB;
/** What ranges are read out of. */
const BIG_BYTES = 128 * MIB;
/** What is written and read whole, often. */
const LAYER_BYTES = 32 * MIB;
const LAYER_ROUNDS = 40;
const SCANS = 2;
const RANGE_ROUNDS = 10;
const RANGE_READS = 1000;

/** Moves bytes and proves nothing. Sealing must copy, because its caller reuses the buffer; opening need not. */
const NULL_READY: ReadyCipher = {
  seal(_aad, pieces, out) {
    // Not the Buffer's own `slice`, which copies nothing.
    for (const piece of pieces) out.push(Uint8Array.prototype.slice.call(piece));
    out.push(new Uint8Array(TAG_BYTES));
  },
};
const NULL_CIPHER: Aead = {
  ready: () => NULL_READY,
  seal: (_key, _nonce, aad, pieces, out) => NULL_READY.seal(aad, pieces, out),
  open: (_key, _nonce, _aad, sealed) => sealed.subarray(0, sealed.length - TAG_BYTES),
};

const microseconds = (samples: readonly number[], q: 'p50' | 'p99'): number => distribution(samples)[q];

/**
 * What the cipher adds, in percent: the median of the differences of pairs taken one right after the other, each half
 * of them in either order, over the median without it. What the machine does meanwhile meets both alike.
 */
function addedPercent(sealed: readonly number[], plain: readonly number[]): number {
  const differences = sealed.map((us, i) => us - plain[i]!);
  return (100 * distribution(differences).p50) / distribution(plain).p50;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) * 1000;
}

function vaultOf(root: string, directory: string, aead: Aead): Vault {
  const keys = new SimFileKeys(TENANT, hostRandom);
  return openVault({
    disk: hostDisk(root),
    directory,
    scope: { tenant: TENANT },
    keys,
    random: hostRandom,
    aead,
  });
}

/** Write and fdatasync as a program without any of this would: two trips through the thread pool. */
function bareAppend(fd: number, bytes: Uint8Array, at: number): Promise<void> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, 0, bytes.length, at, error => {
      if (error) reject(error);
      else fdatasync(fd, failed => (failed ? reject(failed) : resolve()));
    });
  });
}

async function appendFigures(root: string, bytes: number, rounds: number): Promise<Figure[]> {
  const piece = hostRandom.bytes(bytes);
  const kib = `${bytes / 1024} KiB`;
  const growing = openSync(join(root, 'bare'), 'w+');
  const filled = openSync(join(root, 'bare-filled'), 'w+');
  for (let i = 0; i < rounds; i++) writeSync(filled, new Uint8Array(bytes), 0, bytes, i * bytes);
  fdatasyncSync(filled);
  const logOf = (name: string, aead: Aead, reserve: number) =>
    vaultOf(root, 'logs', aead).log(`${name}-${bytes}`, { create: true, reserve });
  const reserve = rounds * (bytes + 64) + MIB;
  const logs = {
    // `growing` makes room by steps, as every log does unless it is told its size.
    aes: await logOf('aes', aes256gcm, reserve),
    null: await logOf('null', NULL_CIPHER, reserve),
    growing: await logOf('growing', aes256gcm, 0),
  };
  const times = { bare: [], filled: [], aes: [], null: [], growing: [] } as Record<string, number[]>;
  const work: [string, (i: number) => Promise<void>][] = [
    ['bare', i => bareAppend(growing, piece, i * bytes)],
    ['filled', i => bareAppend(filled, piece, i * bytes)],
    ...Object.entries(logs).map(([name, log]): [string, () => Promise<void>] => [
      name,
      () => {
        log.append([piece]);
        return log.flush();
      },
    ]),
  ];
  // The two that are compared are neighbours, in either order as often.
  const one = async ([name, append]: (typeof work)[number], i: number): Promise<void> =>
    void times[name]!.push(await timed(() => append(i)));
  const others = work.filter(([name]) => name !== 'aes' && name !== 'null');
  const [aes, plain] = ['aes', 'null'].map(wanted => work.find(([name]) => name === wanted)!) as [
    (typeof work)[number],
    (typeof work)[number],
  ];
  for (let i = 0; i < rounds; i++) {
    for (const each of i % 2 === 0 ? [aes, plain] : [plain, aes]) await one(each, i);
    for (let k = 0; k < others.length; k++) await one(others[(k + i) % others.length]!, i);
  }
  closeSync(growing);
  closeSync(filled);
  for (const log of Object.values(logs)) await log.close();
  const p50 = (name: string): number => microseconds(times[name]!, 'p50');
  return [
    { name: `append ${kib}, bare write + fdatasync, growing`, value: p50('bare'), unit: 'us p50' },
    {
      name: `append ${kib}, bare write + fdatasync, room filled ahead`,
      value: p50('filled'),
      unit: 'us p50',
    },
    {
      name: `append ${kib}, sealed, growing`,
      value: p50('growing'),
      unit: 'us p50',
      target: '<= bare + 60 us',
    },
    {
      name: `append ${kib}, sealed, room reserved`,
      value: p50('aes'),
      unit: 'us p50',
      target: '<= bare + 60 us',
    },
    {
      name: `append ${kib}, sealed, room reserved, p99`,
      value: microseconds(times['aes']!, 'p99'),
      unit: 'us',
    },
    { name: `append ${kib}, null cipher, room reserved`, value: p50('null'), unit: 'us p50' },
    {
      name: `append ${kib}, cost of the cipher`,
      value: addedPercent(times['aes']!, times['null']!),
      unit: '%',
      target: '< 5',
      note: 'of one write to the log alone, with nothing to seal beside',
    },
  ];
}

/** Microseconds of the processor, ours and the kernel's: whoever else runs on the machine does not count. */
function processorTime(work: () => void): number {
  const rounds = 400;
  let best = Infinity;
  for (let tries = 0; tries < 15; tries++) {
    const before = process.cpuUsage();
    for (let i = 0; i < rounds; i++) work();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / rounds);
  }
  return best;
}

/** What the cipher itself takes of the processor: the rest of every figure is the disk and the runtime. */
function cipherFigures(): Figure[] {
  const key = keyOf(hostRandom.bytes(32));
  const nonce = new Uint8Array(12);
  const aad = new Uint8Array(56);
  const figures: Figure[] = [];
  for (const bytes of [8192, CHUNK_BYTES, 128 * 1024]) {
    const plain = [hostRandom.bytes(bytes)];
    const kib = `${bytes / 1024} KiB`;
    const sealing = processorTime(() => aes256gcm.seal(key, nonce, aad, plain, []));
    const out: Uint8Array[] = [];
    aes256gcm.seal(key, nonce, aad, plain, out);
    const sealed = concatBytes(out);
    const opening = processorTime(() => aes256gcm.open(key, nonce, aad, sealed));
    const note = 'AES-256-GCM alone, processor time, best of 15';
    figures.push(
      { name: `seal ${kib}`, value: sealing, unit: 'us', note },
      { name: `open ${kib}`, value: opening, unit: 'us' },
    );
  }
  return figures;
}

/** Pages somewhat like a heap's: a header, items, text that repeats, and some noise. */
function pagesOf(count: number): Uint8Array[] {
  const random = new SimRandom(7);
  return Array.from({ length: count }, () => {
    const page = new Uint8Array(8192);
    for (let at = 64; at < 8192; at += 64) {
      page.set(random.bytes(16), at);
      page.fill(65 + random.below(20), at + 16, at + 16 + random.below(40));
    }
    return page;
  });
}

const IDENTITY: LayerIdentity = {
  kind: 'image',
  sparse: false,
  keys: { start: { rel: 1, blk: 0 }, end: { rel: 2, blk: 0 } },
  lsnStart: 0x1000,
  lsnEnd: 0x1008,
  generation: 1,
};

/** Builds a layer of pages and writes it through a vault, as a flush does. */
async function writeLayer(vault: Vault, name: string, pages: readonly Uint8Array[]): Promise<number> {
  const writer = await vault.create(name);
  const sections = [];
  let bytes = 0;
  const perSection = 512;
  for (let from = 0; from * 8192 < LAYER_BYTES; from += perSection) {
    const builder = new SectionBuilder(IMAGE_BLOCK_BYTES);
    for (let i = 0; i < perSection; i++) {
      const page = pages[(from + i) % pages.length]!;
      builder.visit(1, from + i, 0x1000, 0, 0, page, 0, page.length);
    }
    const { data, ...section } = builder.finish();
    for (const piece of data) await writer.write(piece);
    bytes += section.dataBytes;
    sections.push(section);
  }
  const tail = layerTail(IDENTITY, sections);
  await writer.write(tail);
  await writer.finish();
  return bytes + tail.length;
}

async function scanLayer(vault: Vault, name: string, bytes: number): Promise<void> {
  const layer = await LayerFile.open(describeLayer(IDENTITY, 0, bytes), await vault.open(name));
  const { count } = layer.index;
  const ahead = 32;
  for (let from = 0; from < count; from += ahead) {
    const to = Math.min(count, from + ahead) - 1;
    const stored = await layer.readStored(from, to);
    for (let block = from; block <= to; block++) layer.rawOf(block, stored, from);
  }
  await layer.close();
}

async function layerFigures(root: string): Promise<Figure[]> {
  const pages = pagesOf(512);
  const vaults = { aes: vaultOf(root, 'aes', aes256gcm), null: vaultOf(root, 'null', NULL_CIPHER) };
  const writes = { aes: [] as number[], null: [] as number[] };
  const scans = { aes: [] as number[], null: [] as number[] };
  const ciphers = ['aes', 'null'] as const;
  for (let round = 0; round < LAYER_ROUNDS; round++) {
    const order = round % 2 === 0 ? ciphers : ciphers.toReversed();
    const bytes = { aes: 0, null: 0 };
    for (const cipher of order) {
      const write = async () => (bytes[cipher] = await writeLayer(vaults[cipher], 'layer', pages));
      writes[cipher].push(await timed(write));
    }
    // Several scans in turns: short ones meet the same moods of the machine.
    for (let turn = 0; turn < SCANS; turn++) {
      for (const cipher of turn % 2 === 0 ? order : order.toReversed())
        scans[cipher].push(await timed(() => scanLayer(vaults[cipher], 'layer', bytes[cipher])));
    }
  }
  const best = (list: readonly number[]): number => Math.min(...list);
  const rate = (us: number): number => LAYER_BYTES / MIB / (us / 1e6);
  const note = `${LAYER_BYTES / MIB} MiB of pages in zstd blocks, synced; best of ${LAYER_ROUNDS}`;
  const pairs = (count: number): string => `median of ${count} pairs`;
  return [
    { name: 'layer write, sealed', value: rate(best(writes.aes)), unit: 'MiB/s', note },
    { name: 'layer write, null cipher', value: rate(best(writes.null)), unit: 'MiB/s' },
    {
      name: 'layer write, cost of the cipher',
      value: addedPercent(writes.aes, writes.null),
      unit: '%',
      target: '< 5',
      note: pairs(writes.aes.length),
    },
    { name: 'layer read, sealed', value: rate(best(scans.aes)), unit: 'MiB/s', note: 'all blocks, unpacked' },
    { name: 'layer read, null cipher', value: rate(best(scans.null)), unit: 'MiB/s' },
    {
      name: 'layer read, cost of the cipher',
      value: addedPercent(scans.aes, scans.null),
      unit: '%',
      target: '< 5',
      note: pairs(scans.aes.length),
    },
  ];
}

interface RangeTimes {
  readonly what: string;
  readonly file: SealedSource;
  readonly writeUs: number;
  readonly opening: number[];
  readonly reads: number[];
  /** Median of the best round. */
  best: number;
}

async function rangeFileOf(root: string, what: string, aead: Aead): Promise<RangeTimes> {
  const vault = vaultOf(root, `range-${what}`, aead);
  const writer = await vault.create('big');
  const piece = hostRandom.bytes(MIB);
  const writeUs = await timed(async () => {
    for (let i = 0; i < BIG_BYTES / MIB; i++) await writer.write(piece);
    await writer.finish();
  });
  const opening: number[] = [];
  for (let i = 0; i < 200; i++) opening.push(await timed(async () => (await vault.open('big')).close()));
  return { what, file: await vault.open('big'), writeUs, opening, reads: [], best: Infinity };
}

/** Both take turns: a read is a trip through the thread pool, and what that costs depends on the machine's mood. */
async function rangeFigures(root: string): Promise<Figure[]> {
  const random = new SimRandom(1);
  const both = [
    await rangeFileOf(root, 'sealed', aes256gcm),
    await rangeFileOf(root, 'null cipher', NULL_CIPHER),
  ];
  for (let round = 0; round < RANGE_ROUNDS; round++) {
    for (const each of round % 2 === 0 ? both : both.toReversed()) {
      const reads: number[] = [];
      for (let i = 0; i < RANGE_READS; i++) {
        const offset = random.below(BIG_BYTES / 8192) * 8192;
        reads.push(await timed(() => each.file.read(offset, 8192)));
      }
      each.reads.push(...reads);
      each.best = Math.min(each.best, microseconds(reads, 'p50'));
    }
  }
  const figures: Figure[] = [];
  for (const { what, file, writeUs, opening, reads, best } of both) {
    await file.close();
    const target = { target: '<= 40' };
    const rounds = `best of ${RANGE_ROUNDS} rounds ${best.toFixed(1)}`;
    figures.push(
      {
        name: `8 KiB out of 128 MiB, ${what}`,
        value: microseconds(reads, 'p50'),
        unit: 'us p50',
        ...(what === 'sealed' ? target : {}),
        note: `read from the page cache, chunk proven; ${rounds}`,
      },
      { name: `8 KiB out of 128 MiB, ${what}, p99`, value: microseconds(reads, 'p99'), unit: 'us' },
      {
        name: `open a file, ${what}`,
        value: microseconds(opening, 'p50'),
        unit: 'us p50',
        note: 'header and end proven',
      },
      {
        name: `raw file write, ${what}`,
        value: BIG_BYTES / MIB / (writeUs / 1e6),
        unit: 'MiB/s',
        note: '128 MiB of noise, synced',
      },
    );
  }
  return figures;
}

/** Not measured: what follows from the formats. */
function limits(): Figure[] {
  const frames = SEGMENT_BYTES / 8192;
  return [
    {
      name: 'nonces of a file key, used by a 128 MiB layer',
      value: BIG_BYTES / CHUNK_BYTES,
      unit: `of ${CHUNKS_MAX}`,
      note: 'counter; one key a file',
    },
    {
      name: 'nonces of a log key, used by a 16 MiB segment of 8 KiB flushes',
      value: frames,
      unit: `of ${FRAMES_PER_STRETCH_MAX}`,
      note: 'counter; one key an opening',
    },
    {
      name: 'bytes under one nonce, at most',
      value: Math.max(CHUNK_BYTES, FRAME_PLAIN_MAX),
      unit: 'of 2^36 - 32',
    },
    {
      name: 'DEKs under one KEK, at most',
      value: KEK_WRAPS_MAX,
      unit: '',
      note: 'random 96-bit nonces; two meet with p < 2^-32',
    },
    {
      name: 'revocation: a KEK lives after the last use of its CMK',
      value: KEY_TIMES.lifetimeMs / 1000,
      unit: 's',
    },
    { name: 'revocation: bound, poll + lifetime', value: boundMs(KEY_TIMES) / 1000, unit: 's' },
  ];
}

const bench: Bench = {
  name: 'seal',
  async run() {
    const root = mkdtempSync(join(tmpdir(), 'lakebed-seal-bench-'));
    try {
      return [
        ...cipherFigures(),
        ...(await appendFigures(root, 8192, 4000)),
        ...(await appendFigures(root, 128 * 1024, 400)),
        ...(await safekeeperAppendFigures(root, aes256gcm, NULL_CIPHER)),
        ...(await rangeFigures(root)),
        ...(await layerFigures(root)),
        ...limits(),
      ];
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  },
};

export default bench;
