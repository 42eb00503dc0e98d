// What each key of a range holds at an LSN, from several runs: the chain of its values, newest first, down to a base.
// Runs come in the order in which a read would ask them: newest first, an image before a delta that ends with it,
// ancestors last. A dense image ends the chains of all keys of its range, of those that it does not have, too.

import { ValueList } from '../value-list.ts';
import type { Run } from './merge-runs.ts';
import { walkKeys } from './merge-runs.ts';

export interface ChainSource {
  readonly run: Run;
  readonly isImage: boolean;
  /** Values from here on do not count. */
  readonly lsnEnd: number;
  /** The range of a dense image, in packed keys. */
  readonly dense: { readonly start: number; readonly end: number } | undefined;
}

/** The list is good during the call; keys without a value are not told of. */
export function walkChains(
  sources: readonly ChainSource[],
  isWanted: (rel: number, blk: number) => boolean,
  each: (rel: number, blk: number, values: ValueList) => void,
): void {
  const places = new Map(sources.map((source, i) => [source.run, i]));
  const dense = sources.map((source, i) => ({ i, dense: source.dense })).filter(s => s.dense !== undefined);
  const values = new ValueList();
  walkKeys(
    sources.map(source => source.run),
    (rel, blk, having) => {
      if (!isWanted(rel, blk)) return;
      const key = having[0]!.key;
      const last = dense.find(s => key >= s.dense!.start && key < s.dense!.end)?.i ?? Infinity;
      values.reset(-1);
      for (const run of having) {
        const place = places.get(run)!;
        if (place > last) break;
        const source = sources[place]!;
        values.fromImage = source.isImage;
        if (run.get(source.lsnEnd, values)) break;
      }
      if (values.count > 0) each(rel, blk, values);
    },
  );
}
