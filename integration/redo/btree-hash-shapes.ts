// The shapes of B-tree and hash records that redo tells apart; the work of btree-hash-workload.ts makes every major
// write all of them. Two shapes of hash records are beyond it: a new bitmap page takes 32,768 overflow pages, and
// the freed page of a squeeze is always its chain's last.

import type { WalRecord } from '../../src/xlog/record.ts';
import type { Shapes } from './judged.ts';

/** Shapes of records that redo tells apart, as `shapeOf` names them. */
const SHAPES: readonly string[] = [
  'Btree/DEDUP 0',
  'Btree/DELETE deletes 0',
  'Btree/DELETE deletes updates 0',
  'Btree/DELETE updates 0',
  'Btree/INSERT_LEAF 0',
  'Btree/INSERT_LEAF 0*',
  'Btree/INSERT_META 0*,1,2',
  'Btree/INSERT_META 0,1,2',
  'Btree/INSERT_POST 0',
  'Btree/INSERT_UPPER 0*,1',
  'Btree/INSERT_UPPER 0,1',
  'Btree/MARK_PAGE_HALFDEAD 0,1',
  'Btree/MARK_PAGE_HALFDEAD 0,1*',
  'Btree/META_CLEANUP 0',
  'Btree/NEWROOT leaf 0,2',
  'Btree/NEWROOT upper 0,1,2',
  'Btree/REUSE_PAGE',
  'Btree/SPLIT_L 0,1',
  'Btree/SPLIT_L 0,1,2',
  'Btree/SPLIT_L posting 0,1,2',
  'Btree/SPLIT_L upper 0,1,2,3',
  'Btree/SPLIT_L upper 0,1,3',
  'Btree/SPLIT_R 0,1',
  'Btree/SPLIT_R 0,1,2',
  'Btree/SPLIT_R 0,1,2*',
  'Btree/SPLIT_R upper 0*,1,3',
  'Btree/SPLIT_R upper 0,1,2,3',
  'Btree/SPLIT_R upper 0,1,3',
  'Btree/UNLINK_PAGE 0,1,2',
  'Btree/UNLINK_PAGE 0,1,2*',
  'Btree/UNLINK_PAGE 0,2',
  'Btree/UNLINK_PAGE upper 0,1*,2*,3',
  'Btree/UNLINK_PAGE upper 0,1,2*,3',
  'Btree/UNLINK_PAGE upper 0,1,2,3',
  'Btree/UNLINK_PAGE upper 0,2,3',
  'Btree/UNLINK_PAGE_META 0,2,4',
  'Btree/UNLINK_PAGE_META upper 0,2,3,4',
  'Btree/VACUUM deletes 0',
  'Btree/VACUUM deletes 0*',
  'Btree/VACUUM deletes updates 0',
  'Btree/VACUUM deletes updates 0*',
  'Btree/VACUUM updates 0',
  'Hash/ADD_OVFL_PAGE 0,1,4',
  'Hash/ADD_OVFL_PAGE found 0,1,2*,4',
  'Hash/ADD_OVFL_PAGE found 0,1,2,4',
  'Hash/DELETE 0,1',
  'Hash/DELETE 0,1*',
  'Hash/DELETE primary 1',
  'Hash/DELETE primary 1*',
  'Hash/INIT_BITMAP_PAGE 0,1',
  'Hash/INIT_META_PAGE 0',
  'Hash/INSERT 0*,1',
  'Hash/INSERT 0*,1*',
  'Hash/INSERT 0,1',
  'Hash/MOVE_PAGE_CONTENTS moves 0,1,2',
  'Hash/MOVE_PAGE_CONTENTS moves primary 1,2',
  'Hash/SPLIT_ALLOCATE_PAGE 0,1,2',
  'Hash/SPLIT_ALLOCATE_PAGE masks splitpoint 0,1,2',
  'Hash/SPLIT_ALLOCATE_PAGE splitpoint 0,1,2',
  'Hash/SPLIT_CLEANUP 0',
  'Hash/SPLIT_COMPLETE 0,1',
  'Hash/SPLIT_PAGE 0*',
  'Hash/SQUEEZE_PAGE moves 0,1,2,3,5,6',
  'Hash/SQUEEZE_PAGE moves 0,1,2,5',
  'Hash/SQUEEZE_PAGE moves primary 1,2*,3,5*,6*',
  'Hash/SQUEEZE_PAGE moves primary 1,2*,3,5,6',
  'Hash/SQUEEZE_PAGE moves primary 1,2,3,5,6',
  'Hash/SQUEEZE_PAGE moves primary 1,2,5',
  'Hash/SQUEEZE_PAGE moves primary 1,2,5,6',
  'Hash/SQUEEZE_PAGE primary 1,2,3,5,6',
  'Hash/SQUEEZE_PAGE primary 1,2,5',
  'Hash/SQUEEZE_PAGE primary 1,2,5,6',
  'Hash/UPDATE_META_PAGE 0',
  'Hash/VACUUM_ONE_PAGE 0,1',
];

const FLAGS: readonly [RegExp, string][] = [
  [/\blev(?:el)?:? [1-9]/, 'upper'],
  [/\blev(?:el)?:? 0$/, 'leaf'],
  [/postingoff:? [1-9]/, 'posting'],
  [/ndeleted:? [1-9]/, 'deletes'],
  [/nupdated:? [1-9]/, 'updates'],
  [/ntups [1-9]/, 'moves'],
  [/is_primary T/, 'primary'],
  [/clear_dead_marking T/, 'clears'],
  [/bmpage_found T/, 'found'],
  [/masks_updated T/, 'masks'],
  [/issplitpoint_changed T/, 'splitpoint'],
];

/** A record's name, what stands out in its description, its blocks; `*` behind a block restored from an image. */
function shapeOf(name: string, record: WalRecord, describe: () => string): string {
  const text = describe();
  const flags = FLAGS.filter(([pattern]) => pattern.test(text)).map(([, flag]) => flag);
  const blocks = record.blocks
    .filter(block => record.hasBlock(block.id))
    .map(block => `${block.id}${block.hasImage && block.applyImage ? '*' : ''}`);
  return [name, ...flags, blocks.join(',')].join(' ').trimEnd();
}

export const btreeHashShapes: Shapes = {
  managers: new Set(['Btree', 'Hash']),
  shapeOf,
  expected: () => SHAPES,
};
