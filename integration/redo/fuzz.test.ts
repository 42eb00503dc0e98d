import { expect, test } from 'vitest';
import { Fuzzer } from './fuzz.ts';
import { loadSamples } from './record-samples.ts';

test('damaged records and pages are refused with a Fault or redone, never anything else', () => {
  const fuzzer = new Fuzzer(20);
  for (let i = 0; i < 40_000; i++) fuzzer.run();
  // Both happen, or the fuzzer proves nothing.
  expect(fuzzer.counts.refused).toBeGreaterThan(5_000);
  expect(fuzzer.counts.redone).toBeGreaterThan(5_000);
});

test('the stored samples are of every manager that edits pages', () => {
  const managers = new Set(loadSamples().flatMap(s => (s.pages.size > 0 ? [s.record[17]!] : [])));
  expect([...managers].sort((a, b) => a - b)).toEqual([0, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 134]);
});
