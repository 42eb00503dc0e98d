// `lakebed wal export`: a timeline's WAL as plain segment files, from a safekeeper's directory and the object store.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import type { Disk } from '../../base/ports.ts';
import type { Vault } from '../../seal/vault.ts';
import { dialectOfVersionNumber } from '../../xlog/dialects/all.ts';
import { segmentOf, segmentStart } from '../../xlog/segment.ts';
import { ControlFile } from '../control-file.ts';
import type { ControlState } from '../control-state.ts';
import {
  type FoundSegment,
  findSegments,
  gapAfter,
  isAboutKeys,
  leadingRun,
  messageOf,
  type PlainSegment,
  pageMagicOf,
  readSegment,
  wholeSegment,
} from '../export-wal.ts';
import { parseTimelineKey } from '../inspect.ts';
import type { TimelineKey } from '../timeline-handle.ts';
import type { VaultDoor } from './vault-door.ts';

const SEGMENT_SIZE = 16 * 1024 * 1024;

export const walExport = (door: VaultDoor): Verb => ({
  name: 'wal export',
  summary: "a timeline's WAL in the clear: segment files for pg_waldump, a restore, an archive",
  about:
    'Needs the keys of the tenant. Segments are taken from the directory of --safekeeper if they are there and whole,\n' +
    'and from the object store otherwise. Where both are damaged the log is written as far as it can be proven. What\n' +
    'is written is plain WAL: keep it where your data may lie in the clear.',
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
  exitCodes: { 1: 'a segment is missing or damaged; what comes before it was written' },
  run: (input, world) => run(door, input, world),
});

async function run(door: VaultDoor, input: VerbInput, world: World): Promise<number> {
  const key = parseTimelineKey(input.args[0]!);
  const directory = textOption(input, 'safekeeper');
  const access = await door.open(input, world);
  try {
    const vault = access.vault(directory ?? '.', key);
    const disk = directory === undefined ? undefined : await directoryOf(world, directory, key);
    const control = disk && (await controlOf(vault, world));
    const segmentSize = control?.server.walSegSize ?? SEGMENT_SIZE;
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
    const run = leadingRun(wanted);
    const names = await writeAll(world, input.args[1]!, { wanted: run, all, segmentSize, control });
    if (run.length < wanted.length) throw gapAfter(run, wanted, segmentSize);
    world.terminal.write(
      flagOption(input, 'json') ? `${JSON.stringify({ segments: names })}\n` : `${names.join('\n')}\n`,
    );
    return 0;
  } finally {
    await access.drained();
  }
}

async function directoryOf(world: World, directory: string, key: TimelineKey): Promise<Disk> {
  const disk = world.disk(directory);
  if (await disk.stat(`${key.tenantId}/${key.timelineId}`).catch(() => undefined)) return disk;
  throw new Fault('timeline-missing', `${directory} has no timeline ${key.tenantId}/${key.timelineId}`, {
    hint: '`lakebed inspect safekeeper DIR` lists what there is; without --safekeeper the object store is read alone.',
  });
}

/** A damaged record is no reason to give up the WAL beside it. */
async function controlOf(vault: Vault, world: World): Promise<ControlState | undefined> {
  try {
    return (await ControlFile.load(vault)).state;
  } catch (error) {
    if (isAboutKeys(error)) throw error;
    world.terminal.note(`Going on without the control record: ${messageOf(error)}\n`);
    return undefined;
  }
}

interface Export {
  readonly wanted: readonly FoundSegment[];
  /** Those that were not asked for as well. */
  readonly all: readonly FoundSegment[];
  readonly segmentSize: number;
  readonly control: ControlState | undefined;
}

/** One file after the other; at the first that is not whole the log ends, and so does this. */
async function writeAll(
  world: World,
  to: string,
  { wanted, all, segmentSize, control }: Export,
): Promise<string[]> {
  const { terminal } = world;
  const out = world.disk(to);
  await out.makeDirectory('');
  const progress = terminal.progress('segments', wanted.length);
  const names: string[] = [];
  try {
    for (const found of wanted) {
      const place = { first: found === all[0], last: found === all.at(-1) };
      const segment = await readSegment(found, segmentSize, place, problem => terminal.note(`${problem}\n`));
      if (segment.bytes.length > 0) {
        const systemId = control?.server.systemId ?? 0n;
        await write(out, segment, { segmentSize, systemId, magic: magicOf(segment, control) });
        names.push(segment.name);
        progress.update(names.length, segment.name);
        if (names.length === 1) noteStart(world, segment, segmentSize);
      }
      if (segment.damage !== undefined) throw endsEarly(segment, segmentSize);
    }
  } finally {
    progress.stop();
  }
  await out.syncDirectory('');
  return names;
}

async function write(
  out: Disk,
  segment: PlainSegment,
  log: { segmentSize: number; systemId: bigint; magic: number },
): Promise<void> {
  const file = await out.open(segment.name, 'create-new').catch((error: unknown) => {
    if (!isFault(error, 'file-exists')) throw error;
    throw new Fault('file-exists', `${segment.name} is there already`, {
      hint: 'Nothing is written over: name an empty directory, or a new one.',
    });
  });
  try {
    await file.write(0, wholeSegment(segment, log));
    await file.sync();
  } finally {
    await file.close();
  }
}

function endsEarly({ name, segno, origin, bytes, damage }: PlainSegment, segmentSize: number): Fault {
  const start = segmentStart(segno, segmentSize);
  const next = formatLsn((start + segmentSize) as Lsn);
  const end =
    bytes.length === 0
      ? 'it cannot be read at all'
      : `it can be read up to ${formatLsn((start + origin + bytes.length) as Lsn)}`;
  return new Fault('safekeeper-wal', `${name} is not whole, ${end}: ${messageOf(damage)}`, {
    hint: `What comes before was written. Name another safekeeper with --safekeeper, or export what follows with --start ${next}.`,
    cause: damage,
  });
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
