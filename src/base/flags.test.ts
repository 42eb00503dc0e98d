import { describe, expect, test } from 'vitest';
import { tryParseDuration } from './duration.ts';
import {
  addressFlag,
  boolFlag,
  durationFlag,
  flagFlag,
  numberFlag,
  parseAddress,
  parseFlags,
  textFlag,
  wholeFlag,
  wordFlag,
} from './flags.ts';

const TABLE = {
  datadir: textFlag('where', '-D', '--datadir'),
  id: wholeFlag('who', '--id'),
  noSync: flagFlag('fast', '-n', '--no-sync'),
  peer: boolFlag('peers', '--peer-recovery'),
  wait: durationFlag('how long', '--wait'),
  format: wordFlag('how', ['plain', 'json'], '--log-format'),
  listen: addressFlag('where', '-l', '--listen-pg'),
  ratio: numberFlag('part', '--ratio'),
};
const parse = (...argv: string[]): ReturnType<typeof parseFlags<typeof TABLE>> => parseFlags(TABLE, argv);

describe('flags', () => {
  test('in every spelling, the last one wins', () => {
    expect(parse('-D', '/a', '--id', '1', '--id=2', '-n', '--peer-recovery', '--wait', '15m').values).toEqual(
      {
        datadir: '/a',
        id: 2,
        noSync: true,
        peer: true,
        wait: 900_000,
      },
    );
    expect(parse('-D/a', '-l=0.0.0.0:1', '--peer-recovery', 'false', '--ratio', '0.5').values).toEqual({
      datadir: '/a',
      listen: { host: '0.0.0.0', port: 1 },
      peer: false,
      ratio: 0.5,
    });
    expect(parse('--peer-recovery=true', '--no-sync').values).toEqual({ peer: true, noSync: true });
  });

  test('an empty text is as if it were not there', () => {
    expect(parse('--datadir', '').values).toEqual({ datadir: undefined });
  });

  test('unknown flags are noted, with what looks like their value', () => {
    const { values, unknown } = parse('--new-thing', '5', '--id', '3', '--other=1', '--bare', '-n', 'word');
    expect(values).toEqual({ id: 3, noSync: true });
    expect(unknown).toEqual(['--new-thing', '--other=1', '--bare', 'word']);
  });

  test.each([
    [['--id', 'x'], /--id takes a whole number, and it is 'x'/],
    [['--id'], /--id takes a whole number, and it has none/],
    [['--log-format', 'xml'], /one of plain, json/],
    [['--wait', '5 parsecs'], /duration/],
    [['--listen-pg', 'nohost'], /address/],
    [['--peer-recovery=maybe'], /true or false/],
  ])('%j is refused', (argv, message) => expect(() => parse(...argv)).toThrow(message));
});

test('durations', () => {
  expect(['5s', '250ms', '1h 30m', '2days', '0', '10 sec'].map(tryParseDuration)).toEqual([
    5000, 250, 5_400_000, 172_800_000, 0, 10_000,
  ]);
  expect(['', '5', 's', '5x', '-1s'].map(tryParseDuration)).toEqual(Array(5).fill(undefined));
});

test('addresses', () => {
  expect(parseAddress('[::1]:80')).toEqual({ host: '::1', port: 80 });
  expect(parseAddress(':80')).toEqual({ host: '', port: 80 });
  for (const bad of ['x', 'x:', 'x:99999', '::1:80', 'x:y']) expect(parseAddress(bad)).toBeUndefined();
});
