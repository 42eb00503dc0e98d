// The work of the oracle suite on Neon's builds of 15 to 17, where they are at hand: heap records as Neon writes
// them, and images in every compression that Postgres knows, which the stock builds here lack (they have pglz alone).

import { afterAll, describe, expect, test } from 'vitest';
import { judge } from './judged.ts';
import { faults, NEON_MAJORS, neonWork, report } from './oracle.ts';

const TIMEOUT_MS = 900_000;
const compressionsMet = new Set<string>();

test.skipIf(NEON_MAJORS.length > 0)('Neon builds: skipped, none at hand (NEON_PG_DIR)', () => {});

describe.skipIf(NEON_MAJORS.length === 0)('Neon builds', () => {
  test.each(NEON_MAJORS)(
    'Neon Postgres %i: every page is as that build has it',
    async major => {
      const judgement = neonWork(major);
      const verdict = await judge(major, judgement);
      console.log(report(`Neon Postgres ${major}`, verdict));
      // Their minors are from before PREPARE told of dropped statistics.
      expect(faults(verdict).filter(fault => !/PREPARE .* dropped stats/.test(fault))).toEqual([]);
      expect(verdict.tally.verified).toBeGreaterThan(250_000);
      expect(verdict.recovered!.compared).toBeGreaterThan(5_000);
      expect(verdict.flavours).toEqual({ neon: expect.toSatisfy(count => count > 10_000) });
      for (const { expected } of judgement.shapes) {
        expect(expected(major).filter(shape => !verdict.shapes.has(shape))).toEqual([]);
      }
      for (const method of verdict.imagesCompressed.keys()) compressionsMet.add(method);
    },
    TIMEOUT_MS,
  );

  test('each compression was met', () => {
    expect([...compressionsMet].sort()).toEqual(['lz4', 'none', 'pglz', 'zstd']);
  });
});

afterAll(() => compressionsMet.clear());
