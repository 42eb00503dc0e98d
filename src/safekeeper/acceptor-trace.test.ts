// Golden traces of the acceptor: the commands are in the files, and below each what it did. Changed on purpose,
// they are written anew by `npx vitest run src/safekeeper/acceptor-trace.test.ts -u`.

import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AcceptorTrace } from '../../integration/sim/acceptor-trace.ts';

const FOLDER = join(import.meta.dirname, '../../integration/fixtures/acceptor');

function rendered(text: string): string {
  const trace = new AcceptorTrace();
  const lines: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('    ')) continue;
    lines.push(line);
    if (line === '' || line.startsWith('#')) continue;
    lines.push(...trace.run(line).map(result => `    ${result}`));
  }
  return lines.join('\n');
}

describe('traces', () => {
  const files = globSync('*.txt', { cwd: FOLDER }).sort();

  test('there are those of votes, truncation, membership and commit', () => {
    expect(files).toEqual(['commit.txt', 'membership.txt', 'truncation.txt', 'votes.txt']);
  });

  test.each(files)('%s', async file => {
    const path = join(FOLDER, basename(file));
    await expect(rendered(readFileSync(path, 'utf8'))).toMatchFileSnapshot(path);
  });
});
