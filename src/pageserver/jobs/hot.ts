// The job of finding pages worth an image: from the counts of layers alone, without their values. For each key of
// the newest layer, edits are added up through the older ones until a base is met.
//
// Runs come newest first; the first one's keys are the candidates. A key is hot when more edits than `edits` are
// to be redone on it, or when they lie in more than `layers` layers.

import { packKey } from '../key.ts';
import { decodeCounts, type KeyCounts } from '../layers/layer-format.ts';
import { asFloat64, openParcel, Parcel } from './parcel.ts';

export interface HotHeader {
  readonly edits: number;
  readonly layers: number;
  readonly runs: readonly { readonly name: string; readonly keyCount: number }[];
}

export function hotJob(input: Uint8Array): Uint8Array {
  const { header, pieces } = openParcel<HotHeader>(input);
  const counts = header.runs.map((run, i) => decodeCounts(pieces[i]!, run.keyCount, run.name));
  const hot = hotKeys(counts, header.edits, header.layers);
  return Parcel.of({}, [Float64Array.from(hot)]);
}

/** Packed keys, ascending. */
export const hotKeysOf = (output: Uint8Array): Float64Array =>
  asFloat64(openParcel<unknown>(output).pieces[0]!);

export function hotKeys(counts: readonly KeyCounts[], editsMax: number, layersMax: number): number[] {
  const [newest, ...older] = counts;
  const hot: number[] = [];
  if (newest === undefined) return hot;
  const places = older.map(() => 0);
  for (let i = 0; i < newest.count; i++) {
    const key = packKey(newest.rel[i]!, newest.blk[i]!);
    let edits = newest.edits[i]! >>> 1;
    let layers = 1;
    let based = (newest.edits[i]! & 1) === 1;
    for (let r = 0; r < older.length && !based; r++) {
      const run = older[r]!;
      let at = places[r]!;
      while (at < run.count && packKey(run.rel[at]!, run.blk[at]!) < key) at++;
      places[r] = at;
      if (at === run.count || packKey(run.rel[at]!, run.blk[at]!) !== key) continue;
      edits += run.edits[at]! >>> 1;
      layers++;
      based = (run.edits[at]! & 1) === 1;
    }
    if (edits > editsMax || layers > layersMax) hot.push(key);
  }
  return hot;
}
