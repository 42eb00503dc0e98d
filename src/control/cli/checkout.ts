// `lakebed checkout`: a branch at one moment as a data directory that a stock Postgres starts.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn } from '../../base/lsn.ts';
import { checkout as checkoutTimeline } from '../adopt/checkout.ts';
import { findTimeline, PLACE_OPTIONS, placeOf } from '../adopt/place.ts';
import { findLocalBranch } from './local-branches.ts';
import { resolvePath } from './wal-source.ts';

const MB = 1_000_000;

export const checkout: Verb = {
  name: 'checkout',
  summary: 'a branch at one moment as a data directory for a stock Postgres',
  about:
    'Writes a full backup of a branch, at the newest LSN or at another moment, into a directory of its own; start it\n' +
    'with `postgres -D DIR` of the same major. What happens there stays there. Postgres does not run as root: what root\n' +
    'checks out is given to the owner of the directory around it, or to postgres, or to nobody, and that is said.',
  arguments: [
    { name: 'branch', help: 'a branch, PROJECT/BRANCH, an adopted project, or the id of a timeline' },
    { name: 'dir', help: 'empty, or not there yet' },
  ],
  options: [
    ...PLACE_OPTIONS,
    { flags: '--pages ADDRESS', help: 'with --pageserver: its page service, host:port (default port 6400)' },
    { flags: '--at MOMENT', help: 'an LSN (0/16B3748) or a time (2026-05-01T10:00:00Z)' },
    { flags: '--no-sync', help: 'do not wait until the files are safe on the disk' },
    { flags: '--json', help: 'the result as JSON' },
  ],
  examples: [
    { line: 'lakebed checkout adopted /tmp/now && postgres -D /tmp/now -p 5433', what: 'the newest state' },
    { line: "lakebed checkout adopted /tmp/then --at '2026-05-01 10:00:00+02'", what: 'as it was then' },
  ],
  exitCodes: { 1: 'it could not be checked out; nothing is left of it' },
  run,
};

async function run(input: VerbInput, world: World): Promise<number> {
  const [name, dir] = input.args;
  if (name === undefined || dir === undefined) throw new Fault('config-invalid', 'a branch and a directory');
  const place = await placeOf(input, world);
  const found = place.tenant === undefined ? await findLocalBranch(input, world, name) : undefined;
  const timeline = found?.timeline ?? (await findTimeline(place, name, world));
  const storage = place.storage(found?.tenant ?? place.tenant ?? '');
  const directory = `/${resolvePath(world, dir)}`;
  const startedMs = world.clock.monotonic();
  let bar: ReturnType<World['terminal']['progress']> | undefined;
  const onProgress = (doneBytes: number, totalBytes: number): void => {
    bar ??= world.terminal.progress('checkout', Math.ceil(totalBytes / MB), 'MB');
    bar.update(Math.floor(doneBytes / MB));
  };
  const sync = input.options['sync'] !== false;
  const at = textOption(input, 'at');
  const options = { storage, timeline, directory, sync, at };
  const result = await checkoutTimeline(options, world, onProgress)
    .catch((error: unknown) => {
      throw world.signal.aborted ? new Fault('shutting-down', 'interrupted: nothing is left of it') : error;
    })
    .finally(() => bar?.stop());
  const { lsn, files, bytes, pgVersion, owner } = result;
  const lsnText = formatLsn(lsn);
  if (flagOption(input, 'json')) {
    world.terminal.write(`${JSON.stringify({ ...result, lsn: lsnText, directory, timeline })}\n`);
    return 0;
  }
  const seconds = ((world.clock.monotonic() - startedMs) / 1000).toFixed(1);
  const given = owner === undefined ? '' : `\nIt belongs to ${owner} now: Postgres does not run as root.`;
  world.terminal.write(
    `${name} at ${lsnText}: ${files} files, ${(bytes / MB).toFixed(1)} MB in ${seconds} s.${given}\n` +
      `Start it with Postgres ${pgVersion}:  postgres -D ${directory}\n`,
  );
  return 0;
}
