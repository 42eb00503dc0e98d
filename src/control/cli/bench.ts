// `lakebed bench`: the repository's benches, each with processes and a data directory of its own; a Lakebed that runs
// here is not touched, but shares the machine with them.

import { flagOption, type Verb } from '../../base/command.ts';

export const benchVerb: Verb = {
  name: 'bench',
  summary: 'measure this machine: the benches of the repository, beside their stored figures',
  about:
    'Runs every bench whose name contains one of the words: broker, manager, page-service, pageserver-growth, -ingest\n' +
    'and -read, safekeeper-append, seal, xlog; without a word all of those. `system` is the whole of it under pgbench,\n' +
    'beside a stock Postgres. Minutes each. What needs a build of Neon takes it from NEON_PG_DIR, and is left out\n' +
    'without. Figures are printed beside their aims, and beside those that `npm run bench -- NAME --save` stored.',
  arguments: [{ name: 'name', help: 'a part of its name', optional: true, many: true }],
  options: [{ flags: '--json', help: 'the figures as JSON' }],
  examples: [
    { line: 'lakebed bench manager', what: 'branches made, computes woken' },
    { line: 'lakebed bench seal xlog --json', what: 'two of them, for a program' },
  ],
  exitCodes: { 1: 'one of them failed' },
  run: (input, { programs }) =>
    programs.interactive(
      programs.own('bench'),
      [...input.args, ...(flagOption(input, 'json') ? ['--json'] : [])],
      {},
    ),
};
