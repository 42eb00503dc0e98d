// Tables, trees, ages and points in time, as a person types and reads them.

import { expect, test } from 'vitest';
import { age, paintFor, parsePoint, table, tree } from './render.ts';

const plain = paintFor(false, undefined);
const NOW = Date.parse('2026-03-01T12:00:00Z');

test('columns are aligned, and nothing trails', () => {
  const drawn = table(
    ['name', 'state'],
    [
      ['main', 'active'],
      ['a-long-name', ''],
    ],
    plain,
  );
  expect(drawn).toBe('name         state\nmain         active\na-long-name\n');
});

test('a tree shows who came from whom', () => {
  const nodes = [
    { id: '1', parent: undefined, name: 'main', note: 'default' },
    { id: '2', parent: '1', name: 'dev', note: 'x' },
    { id: '3', parent: '2', name: 'try', note: '' },
    { id: '4', parent: '1', name: 'old', note: 'y' },
    { id: '5', parent: 'gone', name: 'orphan', note: '' },
  ];
  expect(tree(nodes, plain).split('\n')).toEqual([
    'main       default',
    '├─ dev     x',
    '│  └─ try',
    '└─ old     y',
    'orphan',
    '',
  ]);
});

test('colours come on a terminal alone', () => {
  expect(paintFor(true, undefined).good('x')).toBe('\u001b[32mx\u001b[0m');
  expect(paintFor(true, '1').good('x')).toBe('x');
  expect(paintFor(false, undefined).good('x')).toBe('x');
});

test('points are LSNs or times, given as people give them', () => {
  expect(parsePoint('0/16B3748', NOW)).toEqual({ lsn: '0/16B3748' });
  const at = (text: string): unknown => parsePoint(text, NOW);
  expect(at('2026-02-28T12:00:00Z')).toEqual({ timestamp: '2026-02-28T12:00:00.000Z' });
  expect(at('yesterday')).toEqual({ timestamp: '2026-02-28T12:00:00.000Z' });
  expect(at('15 min ago')).toEqual({ timestamp: '2026-03-01T11:45:00.000Z' });
  expect(at('2h')).toEqual({ timestamp: '2026-03-01T10:00:00.000Z' });
  expect(at('1.5 hours ago')).toEqual({ timestamp: '2026-03-01T10:30:00.000Z' });
  expect(at('soon')).toBeUndefined();
});

test('ages', () => {
  const ago = (ms: number): string => age(new Date(NOW - ms).toISOString(), NOW);
  expect([ago(5000), ago(130_000), ago(7_300_000), ago(200_000_000)]).toEqual([
    '5 s ago',
    '2 min ago',
    '2 h ago',
    '2 d ago',
  ]);
  expect(age(undefined, NOW)).toBe('-');
});
