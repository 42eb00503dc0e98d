import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatDuration, parseDuration } from './duration.ts';

test.each([
  ['10s', 10_000],
  ['7 days', 7 * 86_400_000],
  ['300 s', 300_000],
  ['1 hr', 3_600_000],
  ['10 min', 600_000],
  ['1h 30m', 5_400_000],
  ['1day2h', 93_600_000],
  ['250ms', 250],
  ['0s', 0],
  ['0', 0],
  ['2 weeks', 1_209_600_000],
])('%s is %i ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

test.each(['', '10', 's', '10 parsecs', '-1s', '1.5h', '1h foo'])('"%s" is none', text => {
  expect(() => parseDuration(text)).toThrow(/not a span of time/);
});

test('what is written is read back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 40 }), ms => {
      expect(parseDuration(formatDuration(ms))).toBe(ms);
    }),
  );
  expect(formatDuration(7 * 86_400_000)).toBe('7days');
  expect(formatDuration(86_400_000)).toBe('1day');
  expect(formatDuration(0)).toBe('0s');
  expect(formatDuration(90_500)).toBe('1m 30s 500ms');
});
