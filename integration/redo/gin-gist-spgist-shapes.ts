// The shapes of GIN, GiST and SP-GiST records that redo tells apart; the work of gin-gist-spgist-workload.ts makes
// every major write all of them.

import type { WalRecord } from '../../src/xlog/record.ts';
import type { Shapes } from './judged.ts';

/** Shapes of records that redo tells apart, as `shapeOf` names them. */
const SHAPES: readonly string[] = [
  'Gin/INSERT isdata: F isleaf: F children: N/N isdelete: F',
  'Gin/INSERT isdata: F isleaf: T isdelete: F',
  'Gin/INSERT isdata: F isleaf: T isdelete: T',
  'Gin/INSERT isdata: T isleaf: F children: N/N pitem: N-N/N',
  'Gin/INSERT isdata: T isleaf: T (add)',
  'Gin/INSERT isdata: T isleaf: T (insert)',
  'Gin/INSERT isdata: T isleaf: T (insert) (replace)',
  'Gin/SPLIT isrootsplit: F isdata: F isleaf: F',
  'Gin/SPLIT isrootsplit: F isdata: F isleaf: T',
  'Gin/SPLIT isrootsplit: F isdata: T isleaf: T',
  'Gin/SPLIT isrootsplit: T isdata: F isleaf: F',
  'Gin/SPLIT isrootsplit: T isdata: F isleaf: T',
  'Gin/SPLIT isrootsplit: T isdata: T isleaf: T',
  'Gin/VACUUM_DATA_LEAF_PAGE (delete)',
  'Gin/VACUUM_DATA_LEAF_PAGE (replace)',
  'Gin/UPDATE_META_PAGE blocks 0',
  'Gin/UPDATE_META_PAGE blocks 0,1',
  'Gist/PAGE_SPLIT blocks 1,2',
  'Gist/PAGE_SPLIT blocks 0,1,2',
  'Gist/PAGE_SPLIT blocks 1,2,3',
  'Gist/PAGE_UPDATE blocks 0',
  'Gist/PAGE_UPDATE blocks 0,1',
  'SPGist/ADD_LEAF blocks 0',
  'SPGist/ADD_LEAF (newpage) blocks 0,1',
  'SPGist/ADD_LEAF (nulls) blocks 0',
  'SPGist/MOVE_LEAFS blocks 0,1,2',
  'SPGist/MOVE_LEAFS (newpage) blocks 0,1,2',
  'SPGist/ADD_NODE blocks 0',
  'SPGist/ADD_NODE blocks 0,1,2',
  'SPGist/ADD_NODE (newpage) blocks 0,1,2',
  'SPGist/SPLIT_TUPLE (same) blocks 0',
  'SPGist/PICKSPLIT blocks 0,1,2,3',
  'SPGist/PICKSPLIT (innerIsParent) blocks 0,1,2',
  'SPGist/PICKSPLIT (isRootSplit) blocks 1,2',
  'SPGist/PICKSPLIT (nulls) (isRootSplit) blocks 1,2',
];

/** A record's description without its numbers; for GIN's leaves the kinds of segment actions in it. */
function shapeOf(name: string, record: WalRecord, describe: () => string): string {
  const text = describeData(record, describe);
  if (name.startsWith('Gin/') && name !== 'Gin/UPDATE_META_PAGE') {
    const actions = text.indexOf(' segments:');
    if (actions < 0) return `${name} ${text.replace(/\d+/g, 'N')}`;
    const kinds = new Set(text.match(/\((?:add|insert|replace|delete)/g));
    const before = text.slice(0, actions).replace(/ *\d+$/, '');
    return `${name} ${before} ${[...kinds].sort().join(') ')})`.replace('  ', ' ');
  }
  const flags = text.match(/\(\w+\)/g) ?? [];
  const blocks = record.blocks.filter(block => record.hasBlock(block.id)).map(block => block.id);
  return [name, ...flags, `blocks ${blocks.join(',')}`].join(' ');
}

/** With its image out of sight a GIN insertion tells what it does. */
function describeData(record: WalRecord, describe: () => string): string {
  const block = record.blocks[0]!;
  const hasImage = block.hasImage;
  if (block.dataLength > 0) block.hasImage = false;
  const text = describe();
  block.hasImage = hasImage;
  return text;
}

export const ginGistSpgistShapes: Shapes = {
  managers: new Set(['Gin', 'Gist', 'SPGist']),
  shapeOf,
  expected: () => SHAPES,
};
