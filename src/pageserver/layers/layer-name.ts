// Names of layer files:
//
//   delta   <start>-<end>__<lsn start>-<lsn end>-d<generation>-<tail>
//   image   <start>-<end>__<lsn>-i<generation>-<tail>                    dense
//           <start>-<end>__<lsn>-s<generation>-<tail>                    sparse
//
// Keys are 16 hex digits (rel and block), `end` excluded; LSNs are 16; the generation and the tail are 8. The tail
// is drawn for each file, so that no name is ever used twice: a layer that is being deleted is never one that has
// just been written.
//
// Level 0 is the delta layer whose range is all keys; level 1 never claims so much (plan/compact.ts).
//
// Answers to: layer_name.rs of Neon's pageserver (whose keys are longer, and which has no tail).

import { Fault } from '../../base/fault.ts';
import { formatKey, type KeyRange } from '../key.ts';
import { coversAllKeys, type LayerDesc } from './layer.ts';

const HIGH = 0x1_0000_0000;

const hex16 = (n: number): string => n.toString(16).toUpperCase().padStart(16, '0');
const hex8 = (n: number): string => n.toString(16).padStart(8, '0');

export type LayerIdentity = Omit<LayerDesc, 'name' | 'bytes' | 'isL0'>;

/** The whole description of a layer about to be written; `tail` is any 32 bits. */
export function describeLayer(layer: LayerIdentity, tail: number, bytes: number): LayerDesc {
  return {
    ...layer,
    name: layerName(layer, tail),
    bytes,
    isL0: layer.kind === 'delta' && coversAllKeys(layer.keys),
  };
}

function layerName(layer: LayerIdentity, tail: number): string {
  const { keys, lsnStart, lsnEnd, generation } = layer;
  const range = `${formatKey(keys.start.rel, keys.start.blk)}-${formatKey(keys.end.rel, keys.end.blk)}`;
  const lsns = layer.kind === 'delta' ? `${hex16(lsnStart)}-${hex16(lsnEnd)}` : hex16(lsnStart);
  const letter = layer.kind === 'delta' ? 'd' : layer.sparse ? 's' : 'i';
  return `${range}__${lsns}-${letter}${hex8(generation)}-${hex8(tail >>> 0)}`;
}

const PATTERN =
  /^([0-9a-f]{16})-([0-9a-f]{16})__([0-9A-F]{16})(?:-([0-9A-F]{16}))?-([dis])([0-9a-f]{8,})-[0-9a-f]{8}$/;

/** Is this how layer files are called? */
export const isLayerName = (name: string): boolean => PATTERN.test(name);

/** What a name says; the size of the file has to come from elsewhere. */
export function parseLayerName(name: string, bytes: number): LayerDesc {
  const match = PATTERN.exec(name);
  if (match === null) throw badName(name);
  const [, start, end, low, high, letter, generation] = match;
  const kind = letter === 'd' ? 'delta' : 'image';
  if ((kind === 'delta') !== (high !== undefined)) throw badName(name);
  const keys: KeyRange = { start: keyAt(start!), end: keyAt(end!) };
  const lsnStart = lsnAt(low!);
  const lsnEnd = high === undefined ? lsnStart + 1 : lsnAt(high);
  return {
    name,
    kind,
    sparse: letter === 's',
    keys,
    lsnStart,
    lsnEnd,
    bytes,
    generation: parseInt(generation!, 16),
    isL0: kind === 'delta' && coversAllKeys(keys),
  };
}

const keyAt = (text: string): { rel: number; blk: number } => ({
  rel: parseInt(text.slice(0, 8), 16),
  blk: parseInt(text.slice(8), 16),
});

const lsnAt = (text: string): number => parseInt(text.slice(0, 8), 16) * HIGH + parseInt(text.slice(8), 16);

const badName = (name: string): Fault =>
  new Fault('layer-corrupt', `not the name of a layer: "${name}"`, {
    hint: 'A file that does not belong here, or one of a newer build.',
  });
