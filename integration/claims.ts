// A table of claims, and of the tests that would fail without each: every test it names must be there, by its words, in
// the file it is said to be in. `checkClaims` is the suite of such a table.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

type Row<File extends string> = readonly [claim: string, ...tests: (readonly [file: File, test: string])[]];
/** Rows by chapter. */
export type Claims<File extends string> = Readonly<Record<string, readonly Row<File>[]>>;

/** `files`: their paths from the repository's root, by the short names of the table. */
export function checkClaims<File extends string>(
  files: Readonly<Record<File, string>>,
  claims: Claims<File>,
): void {
  const texts = new Map<File, string>();
  const textOf = (file: File): string => {
    let text = texts.get(file);
    if (text === undefined) texts.set(file, (text = readFileSync(join(ROOT, files[file]), 'utf8')));
    return text;
  };

  describe('every claim has its test', () => {
    test.each(Object.entries<readonly Row<File>[]>(claims))('%s', (_, rows) => {
      const missing: string[] = [];
      for (const [claim, ...tests] of rows) {
        expect(tests, claim).not.toEqual([]);
        for (const [file, name] of tests) {
          if (!textOf(file).includes(name)) missing.push(`${claim}: ${files[file]} has no "${name}"`);
        }
      }
      expect(missing).toEqual([]);
    });
  });
}
