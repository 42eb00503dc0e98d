import { expect, test } from 'vitest';
import { isoTime } from './checkout.ts';

test.each([
  ['2026-05-01T10:00:00Z', '2026-05-01T10:00:00Z'],
  ['2026-05-01 10:00', '2026-05-01T10:00:00Z'],
  ['2026-05-01 10:00:00.123456+02', '2026-05-01T10:00:00.123456+02:00'],
  ['2026-05-01 10:00:00-0530', '2026-05-01T10:00:00-05:30'],
  [' 2026-05-01T10:00:00.5-05:30 ', '2026-05-01T10:00:00.5-05:30'],
])('%s', (text, iso) => {
  expect(isoTime(text)).toBe(iso);
  expect(Date.parse(iso)).not.toBeNaN();
});

test.each(['yesterday', '2026-05-01', '10:00', ''])('no time: "%s"', text => {
  expect(() => isoTime(text)).toThrow('neither an LSN nor a time');
});
