// A layer map as a picture: keys to the right, LSNs upwards.
//
//   Each layer is a box over its keys and its LSNs, an image a line at its LSN. Keys are not to scale: every end of a
//   range is as far from the next as any other, so that a layer of one block can be seen beside one of a million.
//   LSNs are to scale. Lines across: where the timeline branched off, the GC cutoff, and its end.
//
// Pure: layers in, text out; each box tells its name and size when pointed at.

import { formatLsn, type Lsn } from '../../base/lsn.ts';
import { formatKey, unpackKey } from '../key.ts';
import type { LayerDesc } from '../layers/layer.ts';
import { rangeEnd, rangeStart } from '../layers/layer.ts';

const WIDTH = 1200;
const HEIGHT = 800;
const LEFT = 130;
const BOTTOM = 70;
const TOP = 40;
const RIGHT = 20;
/** A layer of a few records is still a box. */
const THICK_MIN = 3;
const TICKS = 8;

const COLOURS = { level0: '#e8a33d', level1: '#5b8def', dense: '#2f9e6e', sparse: '#9b6bd3' } as const;

export interface LineAcross {
  readonly lsn: number;
  readonly label: string;
}

const colourOf = (desc: LayerDesc): string =>
  desc.kind === 'image'
    ? desc.sparse
      ? COLOURS.sparse
      : COLOURS.dense
    : desc.isL0
      ? COLOURS.level0
      : COLOURS.level1;

export function layerMapSvg(
  title: string,
  layers: readonly LayerDesc[],
  lines: readonly LineAcross[],
): string {
  const ends = [...new Set(layers.flatMap(({ keys }) => [rangeStart(keys), rangeEnd(keys)]))].sort(
    (a, b) => a - b,
  );
  const place = new Map(ends.map((key, i) => [key, i]));
  const lsns = [
    ...layers.flatMap(({ lsnStart, lsnEnd }) => [lsnStart, lsnEnd]),
    ...lines.map(({ lsn }) => lsn),
  ];
  const low = Math.min(...lsns);
  const high = Math.max(...lsns, low + 1);
  const x = (key: number): number =>
    LEFT + ((WIDTH - LEFT - RIGHT) * place.get(key)!) / Math.max(1, ends.length - 1);
  const y = (lsn: number): number => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * (lsn - low)) / (high - low);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="monospace" font-size="11">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    `<text x="${LEFT}" y="20" font-size="14">${escaped(title)}</text>`,
    ...axis(ends, x, low, high, y),
    // Wide ones first, so that narrow ones lie on top of them.
    ...layers.toSorted((a, b) => width(b) - width(a)).map(desc => box(desc, x, y)),
    ...lines.map(line => across(line, y)),
    ...legend(),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

const width = ({ keys }: LayerDesc): number => rangeEnd(keys) - rangeStart(keys);

function box(desc: LayerDesc, x: (key: number) => number, y: (lsn: number) => number): string {
  const [from, to] = [x(rangeStart(desc.keys)), x(rangeEnd(desc.keys))];
  const isImage = desc.kind === 'image';
  const top = isImage ? y(desc.lsnStart) - THICK_MIN / 2 : y(desc.lsnEnd);
  const height = isImage ? THICK_MIN : Math.max(THICK_MIN, y(desc.lsnStart) - top);
  const colour = colourOf(desc);
  const told = `${desc.name} ${desc.bytes} bytes`;
  return (
    `<rect x="${from.toFixed(1)}" y="${top.toFixed(1)}" width="${Math.max(1, to - from).toFixed(1)}" height="${height.toFixed(1)}" ` +
    `fill="${colour}" fill-opacity="${isImage ? 0.9 : 0.35}" stroke="${colour}"><title>${escaped(told)}</title></rect>`
  );
}

function across({ lsn, label }: LineAcross, y: (lsn: number) => number): string {
  const at = y(lsn).toFixed(1);
  return (
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" stroke="#c0392b" stroke-dasharray="6 4"/>` +
    `<text x="${WIDTH - RIGHT}" y="${Number(at) - 3}" text-anchor="end" fill="#c0392b">${escaped(label)}</text>`
  );
}

function axis(
  ends: readonly number[],
  x: (key: number) => number,
  low: number,
  high: number,
  y: (lsn: number) => number,
): string[] {
  const parts = [
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}" stroke="black"/>`,
    `<line x1="${LEFT}" x2="${LEFT}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="black"/>`,
    `<text x="${LEFT}" y="${HEIGHT - 8}">keys (relation and block; not to scale)</text>`,
  ];
  for (let i = 0; i <= TICKS; i++) {
    const lsn = Math.floor(low + ((high - low) * i) / TICKS) as Lsn;
    const at = y(lsn).toFixed(1);
    parts.push(`<text x="${LEFT - 6}" y="${at}" text-anchor="end">${formatLsn(lsn)}</text>`);
  }
  const step = Math.max(1, Math.ceil(ends.length / TICKS));
  for (let i = 0; i < ends.length; i += step) {
    const { rel, blk } = unpackKey(ends[i]!);
    const at = x(ends[i]!).toFixed(1);
    const text = formatKey(rel, blk);
    const anchor = i === 0 ? 'start' : 'middle';
    parts.push(`<text x="${at}" y="${HEIGHT - BOTTOM + 16}" text-anchor="${anchor}">${text}</text>`);
  }
  return parts;
}

function legend(): string[] {
  const names = {
    level0: 'level 0',
    level1: 'level 1',
    dense: 'image',
    sparse: 'image of hot pages',
  } as const;
  return (Object.keys(COLOURS) as (keyof typeof COLOURS)[]).map((name, i) => {
    const x = WIDTH - RIGHT - 560 + i * 140;
    return `<rect x="${x}" y="10" width="12" height="12" fill="${COLOURS[name]}"/><text x="${x + 18}" y="20">${names[name]}</text>`;
  });
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
