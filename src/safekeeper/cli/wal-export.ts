// `lakebed wal export`: a timeline's WAL as plain segment files, from a safekeeper's directory and the object store.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import { dialectOfVersionNumber } from '../../xlog/dialects/all.ts';
import { segmentOf } from '../../xlog/segment.ts';
import { ControlFile } from '../control-file.ts';
import type { ControlState } from '../control-state.ts';
import { checkSequence, findSegments, type PlainSegment, pageMagicOf, wholeSegment } from '../export-wal.ts';
import { parseTimelineKey } from '../inspect.ts';
import type { VaultDoor } from './vault-door.ts';

const SEGMENT_SIZE = 16 * 1024 * 1024;

export const walExport = (door: VaultDoor): Verb => ({
  name: 'wal export',
  summary: "a timeline's WAL in the clear: segment files for pg_waldump, a restore, an archive",
  about:
    'Needs the keys of the tenant. Segments are taken from the directory of --safekeeper if they are there, and from\n' +
    'the object store otherwise. What is written is plain WAL: keep it where your data may lie in the clear.',
  arguments: [
    { name: 'timeline', help: 'TENANT/TIMELINE' },
    { name: 'out', help: 'the directory to write to; made if missing, must hold none of the files' },
  ],
  options: [
    { flags: '--safekeeper DIR', help: "a safekeeper's data directory" },
    { flags: '-s, --start LSN', help: 'only segments from the one that holds this position on' },
    { flags: '-e, --end LSN', help: 'only segments up to the one that holds the byte before this position' },
    ...door.options,
  ],
  examples: [
    { line: 'lakebed wal export TENANT/TIMELINE wal --safekeeper /data/sk1', what: 'all that one has' },
    { line: 'lakebed wal export TENANT/TIMELINE wal --start 0/5000000', what: 'from the object store' },
    { line: 'pg_waldump -p wal 000000010000000000000002', what: 'then read it' },
  ],
  exitCodes: { 1: 'a segment is missing or damaged; those before it were written' },
  run: (input, world) => run(door, input, world),
});

async function run(door: VaultDoor, input: VerbInput, world: World): Promise<number> {
  const key = parseTimelineKey(input.args[0]!);
  const directory = textOption(input, 'safekeeper');
  const access = await door.open(input, world);
  try {
    const vault = access.vault(directory ?? '.', key);
    const control = directory === undefined ? undefined : (await ControlFile.load(vault)).state;
    const segmentSize = control?.server.walSegSize ?? SEGMENT_SIZE;
    const disk = directory === undefined ? undefined : world.disk(directory);
    const all = await findSegments({ key, vault, disk, blobs: access.blobs, segmentSize });
    const [from, to] = range(input, segmentSize);
    const wanted = all.filter(({ segno }) => segno >= from && segno <= to);
    if (wanted.length === 0) {
      throw new Fault('wal-missing', `no WAL of ${input.args[0]} was found`, {
        hint:
          directory === undefined
            ? 'WAL that is in no object store yet is in a safekeeper: name its directory with --safekeeper.'
            : 'Is --store the object store of this safekeeper?',
      });
    }
    checkSequence(wanted, segmentSize);
    const out = world.disk(input.args[1]!);
    await out.makeDirectory('');
    const progress = world.terminal.progress('segments', wanted.length);
    const names: string[] = [];
    try {
      for (const { open } of wanted) {
        const segment = await open();
        const log = {
          segmentSize,
          systemId: control?.server.systemId ?? 0n,
          magic: magicOf(segment, control),
        };
        const file = await out.open(segment.name, 'create-new');
        await file.write(0, wholeSegment(segment, log));
        await file.sync();
        await file.close();
        names.push(segment.name);
        progress.update(names.length, segment.name);
        if (names.length === 1) noteStart(world, segment, segmentSize);
      }
    } finally {
      progress.stop();
    }
    await out.syncDirectory('');
    world.terminal.write(
      flagOption(input, 'json') ? `${JSON.stringify({ segments: names })}\n` : `${names.join('\n')}\n`,
    );
    return 0;
  } finally {
    await access.drained();
  }
}

function range(input: VerbInput, segmentSize: number): [number, number] {
  const [start, end] = [textOption(input, 'start'), textOption(input, 'end')];
  return [
    start === undefined ? 0 : segmentOf(parseLsn(start), segmentSize),
    end === undefined ? Infinity : segmentOf((parseLsn(end) - 1) as Lsn, segmentSize),
  ];
}

/** A log that begins in the middle of its first segment is read from there. */
function noteStart({ terminal }: World, { origin, segno }: PlainSegment, segmentSize: number): void {
  if (origin === 0) return;
  const start = formatLsn((segno * segmentSize + origin) as Lsn);
  terminal.note(`The log begins within the first segment: pg_waldump --start ${start}\n`);
}

function magicOf(segment: PlainSegment, control: ControlState | undefined): number {
  if (control && control.server.pgVersion > 0) {
    return dialectOfVersionNumber(control.server.pgVersion, 'neon').xlogPageMagic;
  }
  const magic = pageMagicOf(segment);
  if (magic !== undefined) return magic;
  throw new Fault('wal-missing', `${segment.name} holds too little to tell which Postgres it is of`, {
    hint: 'Name a safekeeper that has the timeline with --safekeeper.',
  });
}
