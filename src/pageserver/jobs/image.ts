// The job of image creation: the blocks of all layers over a range of keys -> one section with what each key holds
// at one LSN: pages redone, plain bytes as they are. Dense: every key that holds anything, but for blocks that their
// fork no longer has then. Sparse: the wanted keys alone.

import type { Flavour } from '../../xlog/dialect.ts';
import { dialectOfMajor } from '../../xlog/dialects/all.ts';
import { BLCKSZ, newPage } from '../../xlog/page.ts';
import { applyEdit } from '../edit.ts';
import { isPageKey, type KeyRange, packKey } from '../key.ts';
import { IMAGE_BLOCK_BYTES } from '../layers/block.ts';
import { SectionBuilder } from '../layers/layer-builder.ts';
import { Reconstructor } from '../reconstruct.ts';
import { VALUE_BYTES, VALUE_IMAGE } from '../value.ts';
import { type ChainSource, walkChains } from './chains.ts';
import { openRun, packSection, type RunHeader } from './merge.ts';
import { asFloat64, openParcel } from './parcel.ts';

export interface ImageRunHeader extends RunHeader, Omit<ChainSource, 'run' | 'dense'> {
  readonly dense: { readonly start: number; readonly end: number } | null;
}

export interface ImageHeader {
  readonly range: KeyRange;
  readonly lsn: number;
  readonly major: number;
  readonly flavour: Flavour;
  /** In the order in which a read would ask them. */
  readonly runs: readonly ImageRunHeader[];
  /** The last piece lists the keys wanted, packed, ascending; otherwise every key is. */
  readonly sparse: boolean;
  /** Lengths of forks at the LSN: blocks from there on are not kept. A fork not listed is kept whole. */
  readonly lengths: readonly (readonly [rel: number, blocks: number])[];
}

export function imageJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<ImageHeader>(input);
  const sources = header.runs.map(
    (run, i): ChainSource => ({
      run: openRun(run, pieces[i]!, header.range),
      isImage: run.isImage,
      lsnEnd: run.lsnEnd,
      dense: run.dense ?? undefined,
    }),
  );
  const wanted = header.sparse ? asFloat64(pieces[header.runs.length]!) : undefined;
  const lengths = new Map(header.lengths);
  const dialect = dialectOfMajor(header.major, header.flavour);
  const reconstructor = new Reconstructor({ dialect, applyEdit });
  const builder = new SectionBuilder(IMAGE_BLOCK_BYTES);
  const page = newPage();
  let next = 0;
  const isWanted = (rel: number, blk: number): boolean => {
    if (isPageKey(rel, blk) && blk >= (lengths.get(rel) ?? Infinity)) return false;
    if (wanted === undefined) return true;
    const key = packKey(rel, blk);
    while (next < wanted.length && wanted[next]! < key) next++;
    return wanted[next] === key;
  };
  walkChains(sources, isWanted, (rel, blk, values) => {
    if (isPageKey(rel, blk)) {
      reconstructor.page(values, page);
      builder.visit(rel, blk, header.lsn, VALUE_IMAGE, 0, page.bytes, 0, BLCKSZ);
    } else {
      const bytes = values.newest()!;
      builder.visit(rel, blk, header.lsn, VALUE_BYTES, 0, bytes, 0, bytes.length);
    }
  });
  return packSection(builder.finish());
}
