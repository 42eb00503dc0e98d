// Spans of time as people write them in Neon's settings: `10s`, `7 days`, `1h 30m`, `250ms`. In memory they are
// milliseconds. What is written is what is shortest and exact: `1day 2h`.
//
// Answers to the humantime crate: its units, its plural forms, parts in any order and number.

import { Fault } from './fault.ts';
import { type Schema, textual } from './schema.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  nsec: 1e-6,
  us: 1e-3,
  usec: 1e-3,
  ms: 1,
  msec: 1,
  millis: 1,
  s: SECOND,
  sec: SECOND,
  secs: SECOND,
  second: SECOND,
  seconds: SECOND,
  m: MINUTE,
  min: MINUTE,
  mins: MINUTE,
  minute: MINUTE,
  minutes: MINUTE,
  h: HOUR,
  hr: HOUR,
  hrs: HOUR,
  hour: HOUR,
  hours: HOUR,
  d: DAY,
  day: DAY,
  days: DAY,
  w: 7 * DAY,
  wk: 7 * DAY,
  week: 7 * DAY,
  weeks: 7 * DAY,
  M: 30.44 * DAY,
  month: 30.44 * DAY,
  months: 30.44 * DAY,
  y: 365.25 * DAY,
  yr: 365.25 * DAY,
  year: 365.25 * DAY,
  years: 365.25 * DAY,
};

const WHOLE = /^\s*(?:\d+\s*[a-zA-Z]+\s*)+$/;
const PART = /(\d+)\s*([a-zA-Z]+)/g;

/** Milliseconds; undefined when it is no span of time. */
export function tryParseDuration(text: string): number | undefined {
  if (text.trim() === '0') return 0;
  if (!WHOLE.test(text)) return undefined;
  let ms = 0;
  for (const [, count, unit] of text.matchAll(PART)) {
    const factor = UNITS[unit!];
    if (factor === undefined) return undefined;
    ms += Number(count) * factor;
  }
  return ms;
}

/** Milliseconds. */
export function parseDuration(text: string): number {
  const ms = tryParseDuration(text);
  if (ms !== undefined) return ms;
  throw new Fault('config-invalid', `not a span of time: "${text}"`, {
    hint: 'Write a number and a unit, such as 10s, 5m, 1h 30m or 7 days.',
  });
}

const WRITTEN: readonly (readonly [string, number])[] = [
  ['day', DAY],
  ['h', HOUR],
  ['m', MINUTE],
  ['s', SECOND],
  ['ms', 1],
];

export function formatDuration(ms: number): string {
  const parts: string[] = [];
  let left = Math.round(ms);
  for (const [unit, size] of WRITTEN) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count}${unit}${unit === 'day' && count > 1 ? 's' : ''}`);
  }
  return parts.length === 0 ? '0s' : parts.join(' ');
}

/** Of JSON and TOML. */
export const durationSchema: Schema<number> = textual(
  { title: 'Duration', examples: ['10s', '7 days'] },
  parseDuration,
);
