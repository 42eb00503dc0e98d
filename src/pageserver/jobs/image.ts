// The job of image creation: the blocks of all layers over a range of keys -> one section with what each key holds
// at one LSN: pages redone, plain bytes as they are. Dense: every key that holds anything, but for blocks that their
// fork no longer has then. Sparse: the wanted keys alone.
//
// Runs come newest first, an image before a delta that ends with it; each says below which LSN it counts (layers
// of an ancestor end at the branch point).

import type { Flavour } from '../../xlog/dialect.ts';
import { dialectOfMajor } from '../../xlog/dialects/all.ts';
import { BLCKSZ, newPage } from '../../xlog/page.ts';
import { applyEdit } from '../edit.ts';
import { isPageKey, type KeyRange, packKey } from '../key.ts';
import { SectionBuilder } from '../layers/layer-builder.ts';
import { Reconstructor } from '../reconstruct.ts';
import { VALUE_BYTES, VALUE_IMAGE } from '../value.ts';
import { ValueList } from '../value-list.ts';
import { openRun, packSection, type RunHeader } from './merge.ts';
import type { BlockRun } from './merge-runs.ts';
import { walkKeys } from './merge-runs.ts';
import { asFloat64, openParcel } from './parcel.ts';

export interface ImageRunHeader extends RunHeader {
  readonly isImage: boolean;
  readonly isDense: boolean;
  /** Values from here on do not count. */
  readonly lsnEnd: number;
}

export interface ImageHeader {
  readonly range: KeyRange;
  readonly lsn: number;
  readonly major: number;
  readonly flavour: Flavour;
  readonly runs: readonly ImageRunHeader[];
  /** The last piece lists the keys wanted, packed, ascending; otherwise every key is. */
  readonly sparse: boolean;
  /** Lengths of forks at the LSN: blocks from there on are not kept. A fork not listed is kept whole. */
  readonly lengths: readonly (readonly [rel: number, blocks: number])[];
}

export function imageJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<ImageHeader>(input);
  const flags = new Map<BlockRun, ImageRunHeader>();
  const runs = header.runs.map((run, i) => {
    const opened = openRun(run, pieces[i]!, header.range);
    flags.set(opened, run);
    return opened;
  });
  const wanted = header.sparse ? asFloat64(pieces[header.runs.length]!) : undefined;
  const lengths = new Map(header.lengths);
  const reconstructor = new Reconstructor({
    dialect: dialectOfMajor(header.major, header.flavour),
    applyEdit,
  });
  const builder = new SectionBuilder();
  const values = new ValueList();
  const page = newPage();
  let next = 0;
  walkKeys(runs, (rel, blk, having) => {
    if (wanted !== undefined) {
      const key = packKey(rel, blk);
      while (next < wanted.length && wanted[next]! < key) next++;
      if (wanted[next] !== key) return;
    }
    if (isPageKey(rel, blk) && blk >= (lengths.get(rel) ?? Infinity)) return;
    values.reset(-1);
    for (const run of having as readonly BlockRun[]) {
      const { isImage, lsnEnd } = flags.get(run)!;
      values.fromImage = isImage;
      if (run.get(lsnEnd, values)) break;
    }
    if (values.count === 0) return;
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
