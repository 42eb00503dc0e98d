// `lakebed wal verify`: replays a log over a base and compares whatever can be compared: each verification image
// (wal_consistency_checking) after masking what Postgres masks, and the cluster at the end, block by block.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import { relPath } from '../../base/rel.ts';
import { type ControlFile, readControlFile } from '../../xlog/control-file.ts';
import type { Flavour } from '../../xlog/dialect.ts';
import { Cluster } from '../../xlog/replay/cluster.ts';
import { ClusterComparison, type Comparison, describeDifference } from '../../xlog/replay/compare.ts';
import { type Mismatch, Replayer } from '../../xlog/replay/replayer.ts';
import type { Tally } from '../../xlog/replay/tally.ts';
import { Consistency, parseBackupLabel } from './wal-consistency.ts';
import { LogScan } from './wal-log.ts';
import { dataDirectoryFiles, openWal, type WalSource } from './wal-source.ts';

const MISMATCHES_SHOWN_MAX = 10;

export const walVerify: Verb = {
  name: 'wal verify',
  summary: 'replay a log over a base and compare every page that can be compared',
  about:
    'Pages are redone in memory, by the same code that serves them from storage. Where the log was written with\n' +
    'wal_consistency_checking, each record carries the page as Postgres left it, and the two are compared after\n' +
    'masking exactly what Postgres masks. With --final every block, SLRU page and relation map at the end is\n' +
    'compared as well. Nothing is written.\n' +
    'A base backup of a running server begins at its backup_label, and the log must reach its end. A log of several\n' +
    'timelines is followed through its promotions, by the history files beside the segments.',
  options: [
    {
      flags: '--base PATH',
      help: 'where replay begins: a data directory, base backup or .tar[.gz|.zst] of one',
    },
    { flags: '--wal PATH', help: 'the log: a directory of segments, or a .tar[.gz|.zst] of them' },
    { flags: '--final PATH', help: 'a data directory shut down at the end of the log, to compare with' },
    { flags: '-s, --start LSN', help: "first record to replay (default: the base's checkpoint)" },
    { flags: '-e, --end LSN', help: 'stop before the first record that begins here or later' },
    { flags: '-t, --timeline TLI', help: 'the timeline to follow to its end (default: the newest there is)' },
    {
      flags: '--flavour NAME',
      help: 'whose heap records these are in 14 and 15',
      choices: ['stock', 'neon'],
    },
    { flags: '--json', help: 'the result as JSON' },
  ],
  examples: [
    {
      line: 'lakebed wal verify --base backup/ --wal pg_wal/',
      what: 'is this log replayable over this backup?',
    },
    {
      line: 'lakebed wal verify --base base.tar.zst --wal wal.tar.zst --final final.tar.zst',
      what: 'and does it lead where it should?',
    },
  ],
  exitCodes: { 1: 'something differs, cannot be replayed, or the log is damaged' },
  run,
};

async function loadCluster(world: World, path: string, label: string): Promise<Cluster> {
  const cluster = new Cluster();
  let files = 0;
  const progress = world.terminal.progress(label, 1);
  for await (const file of dataDirectoryFiles(world, path)) {
    cluster.loadFile(file.path, file.bytes);
    progress.update(0, `${++files} files`);
  }
  progress.stop();
  if (cluster.controlFile === undefined) {
    throw new Fault(
      'data-directory',
      `${path} holds no Postgres data directory: global/pg_control is missing`,
      {
        hint: 'Give a data directory, an unpacked base backup, or a tar of one.',
      },
    );
  }
  return cluster;
}

interface Begin {
  readonly start: Lsn;
  readonly consistency: Consistency;
}

/** Where recovery of this base begins: at its backup label's start, else at its checkpoint's redo position. */
function beginOf(cluster: Cluster, control: ControlFile, given: string | undefined): Begin {
  const label = parseBackupLabel(cluster.backupLabel ?? '');
  const start = given === undefined ? (label?.start ?? control.checkPointCopy.redo) : parseLsn(given);
  return { start, consistency: new Consistency(label, control, start) };
}

/** The log must be of the base's timeline, or of one that left it no sooner than the base did. */
function checkLineage(source: WalSource, base: number, start: Lsn): void {
  if (source.ancestors === undefined || source.tli === base) return;
  if (source.ancestors.some(a => a.tli === base && a.switchpoint >= start)) return;
  throw new Fault(
    'data-directory',
    `timeline ${source.tli} of the log does not come from timeline ${base} at ${formatLsn(start)}, where the base is`,
    { hint: 'Name the timeline to follow with --timeline, or take a base backup of the one wanted.' },
  );
}

function required(input: VerbInput, name: string): string {
  const value = textOption(input, name);
  if (value === undefined) throw new Fault('config-invalid', `--${name} is missing`, { hint: 'See --help.' });
  return value;
}

interface Outcome {
  readonly tally: Tally | undefined;
  readonly mismatches: readonly Mismatch[];
  readonly dangling: readonly string[];
  readonly final: Comparison | undefined;
  readonly consistency: Consistency;
  readonly start: Lsn;
  readonly end: Lsn;
  readonly endReason: string | undefined;
}

const failed = (o: Outcome): boolean =>
  o.tally === undefined ||
  o.consistency.reached === undefined ||
  o.tally.mismatched + o.tally.unsupported + o.dangling.length + (o.final?.mismatched ?? 0) > 0;

async function replay(input: VerbInput, world: World): Promise<Outcome> {
  const base = await loadCluster(world, required(input, 'base'), 'Loading base');
  const control = readControlFile(base.controlFile!);
  const { start, consistency } = beginOf(base, control, textOption(input, 'start'));
  const endText = textOption(input, 'end');
  const flavour = textOption(input, 'flavour') as Flavour | undefined;
  const timeline = textOption(input, 'timeline');
  const source = await openWal(
    world,
    required(input, 'wal'),
    timeline === undefined ? undefined : Number(timeline),
  );
  checkLineage(source, control.checkPointCopy.thisTimeLineId, start);
  const scan = new LogScan(source, {
    start,
    ...(endText === undefined ? {} : { end: parseLsn(endText) }),
    ...(flavour === undefined ? {} : { flavour }),
  });
  const total = source.count * source.segmentSize;
  const progress = world.terminal.progress('Replaying', Math.max(1, total / 1_000_000), 'MB');
  let replayer: Replayer | undefined;
  /** Missing when all should have been there: what is dropped later is no excuse. */
  let missing: readonly string[] = [];
  const ended = await scan
    .run(
      (record, dialect) => {
        replayer ??= new Replayer(dialect, base, { trackCommitTimestamp: control.trackCommitTimestamp });
        replayer.replay(record);
        if (consistency.reachedBy(record)) missing = replayer.danglingPages();
        return !world.signal.aborted;
      },
      (bytes, lsn) => progress.update(bytes / 1_000_000, formatLsn(lsn)),
    )
    .finally(() => progress.stop());
  if (world.signal.aborted) throw world.signal.reason;
  const finalPath = textOption(input, 'final');
  const final =
    finalPath === undefined ? undefined : await compareFinal(world, finalPath, scan, base, ended.lsn);
  return {
    tally: replayer?.tally,
    mismatches: replayer?.mismatches ?? [],
    dangling: [...new Set([...missing, ...(replayer?.danglingPages() ?? [])])],
    final,
    consistency,
    start,
    end: ended.lsn,
    endReason: ended.reason,
  };
}

async function compareFinal(
  world: World,
  path: string,
  scan: LogScan,
  ours: Cluster,
  reached: Lsn,
): Promise<Comparison> {
  const theirs = await loadCluster(world, path, 'Loading final');
  const control = readControlFile(theirs.controlFile!);
  if (control.checkPoint >= reached) {
    throw new Fault(
      'data-directory',
      `the log ends at ${formatLsn(reached)}, before the checkpoint that ${path} ends with (${formatLsn(control.checkPoint)})`,
      {
        hint: 'WAL segments are missing at the end.',
      },
    );
  }
  return new ClusterComparison(scan.dialect, ours, theirs).run(control.checkPointCopy.nextMulti);
}

function json(o: Outcome): string {
  const t = o.tally;
  return JSON.stringify({
    start: formatLsn(o.start),
    end: formatLsn(o.end),
    consistent: o.consistency.reached === undefined ? null : formatLsn(o.consistency.reached),
    records: t?.records ?? 0,
    blocks: t?.blocks ?? 0,
    verified: t?.verified ?? 0,
    mismatched: t?.mismatched ?? 0,
    unsupported: t?.unsupported ?? 0,
    dangling: o.dangling,
    neverMet: t?.neverMet() ?? [],
    operations: t?.met() ?? [],
    mismatches: o.mismatches.map(m => ({
      lsn: formatLsn(m.lsn),
      rmgr: m.rmgr,
      op: m.op,
      relation: relPath(m.block),
      block: m.block.blkno,
      ...(m.error === undefined ? { bytes: describeDifference(m.ours, m.theirs) } : { error: m.error }),
    })),
    ...(o.final === undefined
      ? {}
      : {
          final: {
            compared: o.final.compared,
            mismatched: o.final.mismatched,
            leftOut: o.final.leftOut,
            differences: o.final.differences.map(d => ({ path: d.path, block: d.blkno, what: d.what })),
          },
        }),
  });
}

function table(tally: Tally): string {
  const head = ['Manager', 'Operation', 'records', 'blocks', 'verified', 'mismatched', 'unsupported'];
  const rows = tally
    .met()
    .map(r => [
      r.rmgr,
      r.op,
      `${r.records}`,
      `${r.applied}`,
      `${r.verified}`,
      `${r.mismatched}`,
      `${r.unsupported}`,
    ]);
  const total = [
    'Total',
    '',
    tally.records,
    tally.blocks,
    tally.verified,
    tally.mismatched,
    tally.unsupported,
  ].map(String);
  const all = [head, ...rows, total];
  const width = head.map((_, i) => Math.max(...all.map(row => row[i]!.length)));
  const line = (row: string[]): string =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(width[i]!) : cell.padStart(width[i]!)))
      .join('  ')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

function explain(o: Outcome): string {
  const lines: string[] = [];
  for (const m of o.mismatches.slice(0, MISMATCHES_SHOWN_MAX)) {
    const what = m.error ?? 'page differs (byte: ours | theirs)';
    lines.push(`${formatLsn(m.lsn)} ${m.rmgr} ${m.op}: ${relPath(m.block)} block ${m.block.blkno}: ${what}`);
    if (m.error === undefined) lines.push(...describeDifference(m.ours, m.theirs).map(d => `    ${d}`));
  }
  if (o.mismatches.length > MISMATCHES_SHOWN_MAX) lines.push('... and more; --json lists up to a hundred');
  lines.push(...o.dangling.map(d => `a record edits a page that was never there: ${d}`));
  for (const d of (o.final?.differences ?? []).slice(0, MISMATCHES_SHOWN_MAX)) {
    lines.push(`at the end: ${d.path}${d.blkno === undefined ? '' : ` block ${d.blkno}`}: ${d.what}`);
    if (d.ours !== undefined) lines.push(...describeDifference(d.ours, d.theirs!).map(x => `    ${x}`));
  }
  return lines.map(line => `${line}\n`).join('');
}

function consistencyLine({ consistency, start }: Outcome): string {
  const { reached, awaited } = consistency;
  if (reached === start) return '';
  if (reached !== undefined) return `Consistent from ${formatLsn(reached)} on: ${awaited}.\n`;
  return `NOT consistent: the log ends before ${awaited}. WAL is missing at its end.\n`;
}

function verdict(o: Outcome): string {
  if (failed(o)) return 'NOT the same.';
  if (o.final !== undefined || o.tally!.verified > 0) return 'Every page that can be compared matches.';
  return 'Replayed whole. Nothing was compared: the log has no verification images (wal_consistency_checking), and no --final was given.';
}

async function run(input: VerbInput, world: World): Promise<number> {
  const outcome = await replay(input, world);
  const { terminal } = world;
  if (flagOption(input, 'json')) {
    terminal.write(`${json(outcome)}\n`);
    return failed(outcome) ? 1 : 0;
  }
  if (outcome.tally === undefined) {
    terminal.write(`No record begins at ${formatLsn(outcome.start)} or later.\n`);
    return 1;
  }
  terminal.write(table(outcome.tally));
  terminal.write(`\nNever met: ${outcome.tally.neverMet().join(', ') || 'nothing'}\n`);
  terminal.write(`Replayed ${formatLsn(outcome.start)} to ${formatLsn(outcome.end)}.\n`);
  if (outcome.endReason !== undefined) terminal.write(`The log ends there: ${outcome.endReason}\n`);
  terminal.write(consistencyLine(outcome));
  if (outcome.final !== undefined) {
    const { compared, mismatched, leftOut } = outcome.final;
    terminal.write(
      `At the end: ${compared} blocks compared, ${mismatched} differ (${leftOut} that no log promises left out).\n`,
    );
  }
  terminal.write(explain(outcome));
  terminal.write(`\n${verdict(outcome)}\n`);
  return failed(outcome) ? 1 : 0;
}
