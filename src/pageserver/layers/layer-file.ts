// A layer, open: footer, index and filter in memory, blocks read by range from its Source. Nothing here caches
// blocks (block-cache.ts does) or knows where the bytes come from.

import type { Source } from '../../base/ports.ts';
import { crc32c } from '../../xlog/crc32c.ts';
import type { KeyRange } from '../key.ts';
import { loadBlock } from './block.ts';
import { KeyFilter } from './key-filter.ts';
import type { LayerDesc } from './layer.ts';
import { rangeEnd, rangeStart } from './layer.ts';
import {
  type BlockIndex,
  badLayer,
  decodeCounts,
  decodeFooter,
  decodeIndex,
  FOOTER_BYTES,
  type Footer,
  footerKind,
  type KeyCounts,
  type SectionPlace,
} from './layer-format.ts';

export interface ClosableSource extends Source {
  close(): Promise<void>;
}

export class LayerFile {
  readonly desc: LayerDesc;
  readonly footer: Footer;
  readonly index: BlockIndex;
  readonly filter: KeyFilter;
  private readonly source: ClosableSource;

  private constructor(
    desc: LayerDesc,
    footer: Footer,
    index: BlockIndex,
    filter: KeyFilter,
    source: ClosableSource,
  ) {
    this.desc = desc;
    this.footer = footer;
    this.index = index;
    this.filter = filter;
    this.source = source;
  }

  /** Reads and checks all but the blocks; closes the source if it is not the layer it should be. */
  static async open(desc: LayerDesc, source: ClosableSource): Promise<LayerFile> {
    try {
      const { name } = desc;
      if (source.size < FOOTER_BYTES) throw badLayer(name, 'it is too short for a layer');
      const footer = decodeFooter(await source.read(source.size - FOOTER_BYTES, FOOTER_BYTES), name);
      expectSame(desc, footer, source.size);
      // Filter and index lie side by side.
      const from = footer.filter.offset;
      const bytes = await source.read(from, footer.index.offset + footer.index.length - from);
      const filter = KeyFilter.from(section(bytes, from, footer.filter, name, 'filter'));
      const index = decodeIndex(section(bytes, from, footer.index, name, 'index'), footer.blocks, name);
      if (index.offset[index.count] !== footer.dataEnd) throw badLayer(name, 'its index does not add up');
      return new LayerFile(desc, footer, index, filter, source);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  get memoryBytes(): number {
    return this.index.memoryBytes + this.filter.bytes.length;
  }

  /** Blocks `from` to `to`, both included, as they are stored: one read. */
  readStored(from: number, to: number): Promise<Uint8Array> {
    const { offset } = this.index;
    return this.source.read(offset[from]!, offset[to + 1]! - offset[from]!);
  }

  /** One block's raw bytes out of what `readStored(from, ...)` gave. */
  rawOf(block: number, stored: Uint8Array, from: number): Uint8Array {
    const { offset } = this.index;
    const at = offset[block]! - offset[from]!;
    return loadBlock(stored.subarray(at, at + this.index.stored[block]!), this.desc.name);
  }

  /** The blocks that may hold keys of a range: [from, to), empty when from = to. */
  blocksOf(range: KeyRange): { from: number; to: number } {
    const { index } = this;
    const { start, end } = range;
    const last = index.lastBefore(end.rel, end.blk, 0);
    if (last < 0) return { from: 0, to: 0 };
    // The block before the first that begins in the range may reach into it.
    const from = Math.max(0, index.lastBefore(start.rel, start.blk, 0));
    return { from, to: last + 1 };
  }

  /** The counts as they are stored; decodeCounts unpacks them. */
  async countsStored(): Promise<Uint8Array> {
    const { counts } = this.footer;
    const bytes = await this.source.read(counts.offset, counts.length);
    return section(bytes, counts.offset, counts, this.desc.name, 'counts');
  }

  async counts(): Promise<KeyCounts> {
    return decodeCounts(await this.countsStored(), this.footer.keyCount, this.desc.name);
  }

  close(): Promise<void> {
    return this.source.close();
  }
}

function section(
  bytes: Uint8Array,
  base: number,
  place: SectionPlace,
  name: string,
  what: string,
): Uint8Array {
  const at = place.offset - base;
  const part = bytes.subarray(at, at + place.length);
  if (crc32c(part) !== place.crc) throw badLayer(name, `the checksum of its ${what} differs`);
  return part;
}

/** The name and the contents must agree: a layer is not to be found under another one's name. */
function expectSame(desc: LayerDesc, footer: Footer, size: number): void {
  const same =
    footer.kind === footerKind(desc) &&
    footer.lsnStart === desc.lsnStart &&
    footer.lsnEnd === desc.lsnEnd &&
    rangeStart(footer.keys) === rangeStart(desc.keys) &&
    rangeEnd(footer.keys) === rangeEnd(desc.keys);
  if (!same) throw badLayer(desc.name, 'its contents are those of another layer');
  if (footer.index.offset + footer.index.length + FOOTER_BYTES !== size)
    throw badLayer(desc.name, `it has ${size} bytes, not what its footer says`);
}
