// Segments of several timelines: which of them make up one log.

import { describe, expect, test } from 'vitest';
import { lsn } from '../../base/lsn.ts';
import type { SegmentName } from '../../xlog/segment.ts';
import { type Ancestor, chooseSegments, historyFileName, parseHistory } from './wal-timelines.ts';

const MiB = 1024 * 1024;

describe('a history file', () => {
  test('tells who was left where', () => {
    const text = '1\t0/5000060\tno recovery target specified\n\n# a remark\n2\tA/7000098\tbefore 2026\n';
    expect(parseHistory('00000003.history', text)).toEqual([
      { tli: 1, switchpoint: 0x5000060 },
      { tli: 2, switchpoint: 0xa_0700_0098 },
    ]);
    expect(historyFileName(27)).toBe('0000001B.history');
  });

  test.each([
    'one 0/5000060',
    '1',
    '1 5000060',
    '2 0/5000060\n1 0/6000000',
    '1 0/6000000\n2 0/5000000',
    '1 0/50000600000000',
  ])('%j is none', text => {
    expect(() => parseHistory('00000003.history', text)).toThrow(/00000003.history: not a line/);
  });
});

const file = (tli: number, segno: number, partial = false): SegmentName => ({ tli, segno, partial });
const names = (files: readonly SegmentName[]): string[] =>
  files.map(f => `${f.tli}:${f.segno}${f.partial ? 'p' : ''}`);
const left = (tli: number, segment: number): Ancestor => ({ tli, switchpoint: lsn(segment * MiB + 96) });

describe('segments', () => {
  const files = [
    ...[7, 6, 5, 4, 3].map(segno => file(1, segno)),
    file(1, 5, true),
    ...[5, 6, 7].map(segno => file(2, segno)),
    ...[6, 8, 7].map(segno => file(3, segno)),
  ];

  test('of a timeline, after those it comes from up to where it left them', () => {
    const history = [left(1, 5), left(2, 7)];
    expect(names(chooseSegments(files, 3, history, MiB))).toEqual(['1:3', '1:4', '2:5', '2:6', '3:7', '3:8']);
    expect(names(chooseSegments(files, 2, [left(1, 5)], MiB))).toEqual(['1:3', '1:4', '2:5', '2:6', '2:7']);
    expect(names(chooseSegments(files, 1, [], MiB))).toEqual(['1:3', '1:4', '1:5', '1:6', '1:7']);
  });

  test('of a timeline that is no ancestor are left out', () => {
    expect(names(chooseSegments(files, 3, [left(1, 6)], MiB))).toEqual([
      '1:3',
      '1:4',
      '1:5',
      '3:6',
      '3:7',
      '3:8',
    ]);
  });

  test('that the timeline lost are not taken from its parent, where they are of another history', () => {
    const lost = files.filter(f => !(f.tli === 2 && f.segno === 5));
    expect(names(chooseSegments(lost, 2, [left(1, 5)], MiB))).toEqual(['1:3', '1:4', '2:6', '2:7']);
  });

  test('without a history file, a timeline begins with its first file', () => {
    expect(names(chooseSegments(files, 3, undefined, MiB))).toEqual([
      '1:3',
      '1:4',
      '2:5',
      '3:6',
      '3:7',
      '3:8',
    ]);
  });

  test('half-written ones serve where there is no whole one', () => {
    expect(names(chooseSegments([file(1, 1), file(1, 2, true)], 1, [], MiB))).toEqual(['1:1', '1:2p']);
    expect(names(chooseSegments([file(1, 2, true), file(1, 2)], 1, undefined, MiB))).toEqual(['1:2']);
    expect(names(chooseSegments([file(1, 2), file(1, 2, true)], 1, undefined, MiB))).toEqual(['1:2']);
  });
});
