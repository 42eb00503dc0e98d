// `lakebed adopt`: a running stock Postgres becomes a branch, and is followed.

import {
  flagOption,
  type Progress,
  textOption,
  type Verb,
  type VerbInput,
  type World,
} from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn } from '../../base/lsn.ts';
import { adopt as adoptOrigin, endAdoption, majorOf } from '../adopt/adopt.ts';
import { MAX_RATE } from '../adopt/base-backup.ts';
import type { AdoptOptions, AdoptProgress, AdoptStore, Lag } from '../adopt/contract.ts';
import { accessOf, checkOrigin, connectOrigin, parseOrigin } from '../adopt/origin.ts';
import { adoptStore, branchName, PLACE_OPTIONS, type Place, placeOf } from '../adopt/place.ts';
import { adoptedBefore, projectForAdoption } from './local-branches.ts';

const TAKEN_OVER = 3;
const MB = 1_000_000;
/** In a pipe the lag is told when it changed, and not more often. */
const LAG_EVERY_MS = 10_000;

export const adopt: Verb = {
  name: 'adopt',
  summary: 'take a running stock Postgres into storage, and follow it',
  about:
    'Copies a running Postgres 14 to 18 by a base backup, streamed into the pageserver, and then streams its log into\n' +
    'the safekeepers: no patch, no dump, no downtime. The origin needs wal_level = replica, a role with REPLICATION and\n' +
    'a line for it in pg_hba.conf (database "replication"). A replication slot keeps its log until storage has it.\n' +
    'Killed at any point, the same command goes on where it was.',
  arguments: [{ name: 'origin', help: 'postgres://user:password@host:port/ (or PGPASSWORD)' }],
  options: [
    ...PLACE_OPTIONS,
    { flags: '--safekeepers LIST', help: 'with --pageserver: host:port,host:port,host:port' },
    { flags: '--branch NAME', help: 'what to call it', default: 'adopted' },
    { flags: '--timeline ID', help: 'the id of its timeline, for a new adoption' },
    { flags: '--max-rate KB', help: 'of the base backup, in kB a second' },
    { flags: '--once', help: 'end when storage has caught up; the slot stays' },
    { flags: '--follow', help: 'go on until interrupted (the default)' },
    { flags: '--switch-over', help: 'go on until the origin is shut down and its last record is in' },
    { flags: '--end', help: 'follow no more: drop the slot on the origin; the branch stays' },
    { flags: '--json', help: 'a line of JSON for each thing that happens' },
  ],
  examples: [
    {
      line: 'lakebed adopt postgres://postgres@127.0.0.1/',
      what: 'into .lakebed, followed until interrupted',
    },
    { line: 'lakebed adopt postgres://me@db.example/?sslmode=require --once', what: 'until caught up' },
    { line: 'lakebed adopt postgres://me@db.example/ --switch-over', what: 'until it is shut down for good' },
  ],
  exitCodes: {
    1: 'it cannot be adopted, or not any more',
    [TAKEN_OVER]: 'another writer took the branch over',
  },
  run,
};

function untilOf(input: VerbInput): AdoptOptions['until'] {
  const asked = ['once', 'follow', 'switchOver'].filter(name => flagOption(input, name));
  if (asked.length > 1) throw new Fault('config-invalid', 'only one of --once, --follow and --switch-over');
  if (asked[0] === 'once') return 'caught-up';
  return asked[0] === 'switchOver' ? 'origin-stopped' : 'interrupted';
}

function rateOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const { lower, upper } = MAX_RATE;
  const rate = Number(text);
  if (Number.isInteger(rate) && rate >= lower && rate <= upper) return rate;
  throw new Fault('config-invalid', `--max-rate: ${text} is no whole number from ${lower} to ${upper}`);
}

async function run(input: VerbInput, world: World): Promise<number> {
  const branch = branchName(textOption(input, 'branch') ?? 'adopted');
  if (flagOption(input, 'end')) return end(input, world, branch);
  const until = untilOf(input);
  const place = await placeOf(input, world);
  const store = adoptStore(place, branch, world);
  const { tenant, timeline } = await timelineOf(input, world, place, store, branch);
  const storage = place.storage(tenant);
  const teller = flagOption(input, 'json')
    ? new Lines(world)
    : new Words(world, branch, place.tenant === undefined);
  try {
    const maxRateKbPerSecond = rateOf(textOption(input, 'maxRate'));
    const options = { origin: input.args[0]!, storage, store, until, timeline, maxRateKbPerSecond };
    const result = await adoptOrigin(options, world, progress => teller.tell(progress));
    teller.end(result.ended, formatLsn(result.commitLsn), result.timeline);
    return result.ended === 'taken-over' ? TAKEN_OVER : 0;
  } catch (error) {
    if (!world.signal.aborted) throw error;
    teller.end('interrupted', '', '');
    return 0;
  } finally {
    teller.close();
  }
}

/** Which timeline it becomes: on this machine, that of a project which the manager makes for it. */
async function timelineOf(
  input: VerbInput,
  world: World,
  place: Place,
  store: AdoptStore,
  branch: string,
): Promise<{ tenant: string; timeline: string | undefined }> {
  if (place.tenant !== undefined) return { tenant: place.tenant, timeline: textOption(input, 'timeline') };
  const before = await store.load();
  if (before !== undefined) return adoptedBefore(input, world, before.timeline);
  const origin = parseOrigin(input.args[0]!, world);
  const client = await connectOrigin(origin, world);
  try {
    const { pgVersion } = await checkOrigin(client);
    return await projectForAdoption(input, world, branch, majorOf(pgVersion), await accessOf(origin, world));
  } finally {
    await client.end();
  }
}

async function end(input: VerbInput, world: World, branch: string): Promise<number> {
  const store = adoptStore(await placeOf(input, world), branch, world);
  const { slot, timeline } = await endAdoption({ origin: input.args[0]!, store }, world);
  const text = flagOption(input, 'json')
    ? JSON.stringify({ step: 'ended', ended: 'let-go', slot, timeline })
    : `Slot ${slot} is gone from the origin; branch ${branch} stays as it is.`;
  world.terminal.write(`${text}\n`);
  return 0;
}

/** For programs. */
class Lines {
  private readonly world: World;
  private percentTold = -1;

  constructor(world: World) {
    this.world = world;
  }

  tell(progress: AdoptProgress): void {
    if (progress.step === 'base-backup') {
      const percent = Math.floor((100 * progress.doneBytes) / progress.totalBytes);
      if (percent === this.percentTold) return;
      this.percentTold = percent;
    }
    this.line(progress);
  }

  end(ended: string, commitLsn: string, timeline: string): void {
    this.line({ step: 'ended', ended, ...(timeline === '' ? {} : { commitLsn, timeline }) });
  }

  private line(value: object): void {
    const text = JSON.stringify(value, (key, v: unknown) => {
      if (key === 'safekeepers') return (v as number[]).map(formatLsn);
      return typeof v === 'number' && (key === 'lsn' || key.endsWith('Lsn')) ? formatLsn(v) : v;
    });
    this.world.terminal.write(`${text}\n`);
  }

  close(): void {
    // Every line is written already.
  }
}

/** For people: one line for each step, a bar for the base backup. */
class Words {
  private readonly world: World;
  private readonly branch: string;
  private readonly here: boolean;
  private bar: Progress | undefined;
  private startedMs = 0;
  private copiedBytes = 0;
  private lagToldMs = -Infinity;
  private lagTold = '';
  private trouble = '';

  /** `here`: on this machine's Lakebed, as a project of its manager. */
  constructor(world: World, branch: string, here: boolean) {
    this.world = world;
    this.branch = branch;
    this.here = here;
  }

  private say(text: string): void {
    this.world.terminal.write(`${text}\n`);
  }

  tell(progress: AdoptProgress): void {
    if (progress.step !== 'base-backup') this.close();
    switch (progress.step) {
      case 'checked':
        this.checked(progress);
        break;
      case 'slot':
        this.say(`slot ${progress.slot} keeps the log on the origin`);
        break;
      case 'base-backup':
        this.copied(progress.doneBytes, progress.totalBytes);
        break;
      case 'imported':
        this.say(this.imported(formatLsn(progress.lsn)));
        break;
      case 'elected':
        this.say(`safekeepers follow in term ${progress.term}, from ${formatLsn(progress.lsn)}`);
        break;
      case 'following':
        this.lag(progress);
        break;
      case 'caught-up':
        this.say(`caught up: ${describe(progress)}`);
        break;
      case 'waiting':
        this.wait(progress.why);
        break;
      case 'origin-stopped':
        this.say(`the origin was shut down; its last record ends at ${formatLsn(progress.lsn)}`);
    }
  }

  private checked(progress: Extract<AdoptProgress, { step: 'checked' }>): void {
    const { pgVersion, systemIdentifier, walSegmentSize, checksums, timeline, resumed } = progress;
    const version = `${Math.floor(pgVersion / 10_000)}.${pgVersion % 10_000}`;
    const segments = `segments of ${walSegmentSize / 2 ** 20} MiB`;
    this.say(
      `Postgres ${version}, system ${systemIdentifier}, ${segments}, checksums ${checksums ? 'on' : 'off'}`,
    );
    this.say(`branch ${this.branch} ${resumed ? 'goes on: timeline' : 'is timeline'} ${timeline}`);
  }

  private copied(doneBytes: number, totalBytes: number): void {
    if (this.bar === undefined) {
      this.startedMs = this.world.clock.monotonic();
      this.bar = this.world.terminal.progress('base backup', Math.ceil(totalBytes / MB), 'MB');
    }
    this.copiedBytes = doneBytes;
    this.bar.update(Math.floor(doneBytes / MB));
  }

  private imported(lsn: string): string {
    if (this.copiedBytes === 0) return `imported before; the pageserver stands at ${lsn}`;
    const seconds = ((this.world.clock.monotonic() - this.startedMs) / 1000).toFixed(1);
    return `imported at ${lsn}: ${(this.copiedBytes / MB).toFixed(1)} MB in ${seconds} s`;
  }

  private lag(lag: Lag): void {
    this.trouble = '';
    const text = describe(lag);
    const now = this.world.clock.monotonic();
    if (text === this.lagTold || now - this.lagToldMs < LAG_EVERY_MS) return;
    this.lagTold = text;
    this.lagToldMs = now;
    this.say(`following: ${text}`);
  }

  private wait(why: string): void {
    if (why !== this.trouble) this.world.terminal.note(`lakebed: waiting for ${why}\n`);
    this.trouble = why;
  }

  end(ended: string, commitLsn: string, timeline: string): void {
    this.close();
    const compute = this.here
      ? `lakebed compute create main --project ${this.branch}`
      : `start a compute on timeline ${timeline}`;
    const how: Readonly<Record<string, string>> = {
      'caught-up': `Done: ${commitLsn} is on a quorum and in the pageserver. The slot stays: the same command follows on.`,
      'origin-stopped': `Ready to switch over, at ${commitLsn}: ${compute}`,
      'taken-over': `Another writer has taken the branch over, after ${commitLsn}.`,
      interrupted: 'Stopped; the same command goes on from here.',
    };
    this.say(how[ended] ?? ended);
  }

  close(): void {
    this.bar?.stop();
    this.bar = undefined;
  }
}

const size = (bytes: number): string =>
  bytes >= MB ? `${(bytes / MB).toFixed(1)} MB` : `${Math.max(0, bytes)} B`;

/** Where everybody is, the laggards by what they lack. */
function describe({ originLsn, commitLsn, safekeepers, pageserverLsn }: Lag): string {
  const behind = (lsn: number): string => {
    if (lsn === 0) return 'unknown';
    return lsn >= originLsn ? '0 B' : `${size(originLsn - lsn)}`;
  };
  const each = safekeepers.map(behind).join(' ');
  return `origin at ${formatLsn(originLsn)}; behind it: quorum ${behind(commitLsn)}, safekeepers ${each}, pageserver ${behind(pageserverLsn)}`;
}
