// The shapes of Heap's and Heap2's records that redo and effects tell apart, and those that the work of
// heap-workload.ts makes each major write.

import type { WalRecord } from '../../src/xlog/record.ts';
import type { Shapes } from './judged.ts';

/** By operation, the bits of its flags that change what redo or effects do. */
const FLAGS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  INSERT: { 1: 'cleared' },
  MULTI_INSERT: { 1: 'cleared', 32: 'frozen' },
  DELETE: { 1: 'cleared', 8: 'super', 16: 'moved' },
  UPDATE: { 1: 'old-cleared', 2: 'new-cleared', 32: 'prefix', 64: 'suffix' },
  HOT_UPDATE: { 1: 'old-cleared', 32: 'prefix', 64: 'suffix' },
  LOCK: { 1: 'cleared' },
  VISIBLE: { 1: 'visible', 2: 'frozen' },
};

const PARTS: readonly [RegExp, string][] = [
  [/nplans:? [1-9]|ntuples [1-9]/, 'freeze'],
  [/nredirected:? [1-9]/, 'redirect'],
  [/ndead:? [1-9]/, 'dead'],
  [/nunused:? [1-9]/, 'unused'],
];

/** A record's name, its telling flags or parts, and its blocks. */
function shapeOf(name: string, record: WalRecord, describe: () => string): string {
  const text = describe();
  const op = name.replace(/^.*\//, '').replace('+INIT', '');
  const flags = Number(/flags:? (0x[0-9A-F]{2})/.exec(text)?.[1] ?? 0);
  const named = Object.entries(FLAGS[op] ?? {}).filter(([bit]) => (flags & Number(bit)) !== 0);
  const parts = /PRUNE|VACUUM|FREEZE/.test(op) ? PARTS.filter(([pattern]) => pattern.test(text)) : [];
  const blocks = record.blocks.filter(block => record.hasBlock(block.id)).map(block => block.id);
  return [name, ...named.map(([, word]) => word), ...parts.map(([, word]) => word), blocks.join(',')]
    .join(' ')
    .trimEnd();
}

const COMMON: readonly string[] = [
  'Heap/DELETE 0',
  'Heap/DELETE cleared 0',
  'Heap/DELETE moved 0',
  'Heap/DELETE super 0',
  'Heap/HEAP_CONFIRM 0',
  'Heap/HOT_UPDATE 0',
  'Heap/HOT_UPDATE old-cleared prefix suffix 0',
  'Heap/HOT_UPDATE prefix 0',
  'Heap/HOT_UPDATE prefix suffix 0',
  'Heap/HOT_UPDATE suffix 0',
  'Heap/INPLACE 0',
  'Heap/INSERT 0',
  'Heap/INSERT cleared 0',
  'Heap/INSERT+INIT 0',
  'Heap/LOCK 0',
  'Heap/LOCK cleared 0',
  'Heap/TRUNCATE',
  'Heap/UPDATE 0,1',
  'Heap/UPDATE new-cleared 0,1',
  'Heap/UPDATE old-cleared 0,1',
  'Heap/UPDATE old-cleared new-cleared 0,1',
  'Heap/UPDATE prefix suffix 0',
  'Heap/UPDATE suffix 0',
  'Heap/UPDATE+INIT 0,1',
  'Heap2/LOCK_UPDATED 0',
  'Heap2/MULTI_INSERT 0',
  'Heap2/MULTI_INSERT cleared 0',
  'Heap2/MULTI_INSERT+INIT 0',
  'Heap2/MULTI_INSERT+INIT frozen 0',
  'Heap2/NEW_CID',
  'Heap2/REWRITE',
  'Heap2/VISIBLE visible 0,1',
  'Heap2/VISIBLE visible frozen 0,1',
];

const SHAPES_14: readonly string[] = [
  ...COMMON,
  'Heap2/FREEZE_PAGE freeze 0',
  'Heap2/PRUNE dead 0',
  'Heap2/PRUNE redirect 0',
  'Heap2/VACUUM unused 0',
];

/** From 16 on descriptions say how many became unused. */
const SHAPES_16: readonly string[] = [...SHAPES_14, 'Heap2/PRUNE redirect unused 0'];

const SHAPES_17: readonly string[] = [
  ...COMMON,
  'Heap2/PRUNE_ON_ACCESS redirect 0',
  'Heap2/PRUNE_ON_ACCESS redirect unused 0',
  'Heap2/PRUNE_VACUUM_CLEANUP unused 0',
  'Heap2/PRUNE_VACUUM_SCAN dead 0',
  'Heap2/PRUNE_VACUUM_SCAN freeze 0',
];

export const heapShapes: Shapes = {
  managers: new Set(['Heap', 'Heap2']),
  shapeOf,
  expected: major => (major >= 17 ? SHAPES_17 : major === 16 ? SHAPES_16 : SHAPES_14),
};
