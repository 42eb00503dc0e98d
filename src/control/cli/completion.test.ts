// The words a shell completes, judged by the shell.

import { execFileSync, spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import type { Verb, World } from '../../base/command.ts';
import { completionVerb } from './completion.ts';
import { verbs } from './verbs.ts';

async function script(shell: string): Promise<string> {
  let text = '';
  const world = { terminal: { write: (t: string) => (text += t) } } as unknown as World;
  const all: Verb[] = [...verbs];
  const verb = completionVerb(() => all);
  all.push(verb);
  await verb.run({ args: [shell], options: {} }, world);
  return text;
}

function completed(made: string, ...words: string[]): string[] {
  const asked = `COMP_WORDS=(${words.map(w => `'${w}'`).join(' ')}); COMP_CWORD=${words.length - 1}`;
  const out = execFileSync('bash', ['-c', `${made}\n${asked}; _lakebed; printf '%s\\n' "\${COMPREPLY[@]}"`], {
    encoding: 'utf8',
  });
  return out.split('\n').filter(w => w !== '');
}

test('bash completes commands, their words and their options', async () => {
  const made = await script('bash');
  expect(completed(made, 'lakebed', 'sta')).toEqual(['start', 'status']);
  expect(completed(made, 'lakebed', 'branch', 're')).toEqual(['reset', 'restore', 'rename']);
  expect(completed(made, 'lakebed', 'branch', 'create', 'dev', '--pa')).toEqual(['--parent']);
  expect(completed(made, 'lakebed', 'wal', '')).toContain('verify');
});

test('the others are whole, and an unknown shell is told', async () => {
  expect(await script('zsh')).toContain('bashcompinit');
  const fish = await script('fish');
  expect(fish).toMatch(
    /__fish_seen_subcommand_from branch; and __fish_seen_subcommand_from create' -l parent/,
  );
  expect(spawnSync('bash', ['-n'], { input: await script('zsh') }).status).toBe(0);
  await expect(script('tcsh')).rejects.toThrow(/none of bash, zsh, fish/);
});
