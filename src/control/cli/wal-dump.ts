// `lakebed wal dump`: the records of a log as pg_waldump prints them, Neon's among them.

import {
  flagOption,
  listOption,
  textOption,
  type Verb,
  type VerbInput,
  type World,
} from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { type Lsn, parseLsn } from '../../base/lsn.ts';
import type { Dialect, Flavour } from '../../xlog/dialect.ts';
import { recordJson, recordLine, rmgrName, WalStats } from '../../xlog/inspect.ts';
import type { WalRecord } from '../../xlog/record.ts';
import { type LogEnd, LogScan } from './wal-log.ts';
import { openWal } from './wal-source.ts';

/** How long `--follow` waits before it looks again. */
const FOLLOW_INTERVAL_MS = 200;

export const walDump: Verb = {
  name: 'wal dump',
  summary: 'print the records of a WAL segment, a directory of segments or a tar of them',
  about:
    "Prints what pg_waldump prints, and decodes Neon's own records too. Majors 14 to 18, stock and Neon, are told\n" +
    'apart by the log itself. Damaged input is printed up to the damage, then explained.',
  arguments: [{ name: 'path', help: 'a segment file, a directory (or data directory), a .tar[.gz|.zst]' }],
  options: [
    { flags: '-s, --start LSN', help: 'begin at this record boundary' },
    { flags: '-e, --end LSN', help: 'stop before the first record that begins here or later' },
    { flags: '-n, --limit COUNT', help: 'stop after so many records' },
    { flags: '-r, --rmgr NAME', help: 'only this resource manager (repeatable; any case)', many: true },
    { flags: '-R, --relation SPC/DB/REL', help: 'only records that touch this relation' },
    { flags: '-B, --block BLKNO', help: 'with --relation: only records that touch this block' },
    { flags: '-x, --xid XID', help: 'only this transaction' },
    { flags: '-t, --timeline TLI', help: 'the timeline to follow to its end (default: the newest there is)' },
    { flags: '-b, --bkp-details', help: 'tell each block and image on a line of its own' },
    {
      flags: '-z, --stats [RECORD]',
      help: 'counts and bytes instead of records; "record" for each operation',
    },
    { flags: '-f, --follow', help: 'wait for more at the end of the log' },
    {
      flags: '--flavour NAME',
      help: 'whose heap records these are in 14 and 15',
      choices: ['stock', 'neon'],
    },
    { flags: '--json', help: 'one JSON value a record' },
  ],
  examples: [
    { line: 'lakebed wal dump pg_wal', what: 'everything in a directory' },
    {
      line: 'lakebed wal dump 000000010000000000000001 -r Heap -n 10',
      what: 'ten heap records of one segment',
    },
    { line: 'lakebed wal dump wal.tar.zst --stats=record', what: 'what a recorded log is made of' },
    { line: 'lakebed wal dump pg_wal --start 0/1528 --json | jq .desc', what: 'for other programs' },
  ],
  exitCodes: { 1: 'the log is damaged; what came before was printed' },
  run,
};

interface Filter {
  readonly rmgrs: ReadonlySet<string>;
  readonly relation: readonly [number, number, number] | undefined;
  readonly block: number | undefined;
  readonly xid: number | undefined;
}

function number(input: VerbInput, name: string): number | undefined {
  const text = textOption(input, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new Fault('config-invalid', `--${name}: not a number: ${text}`);
  return value;
}

function parseFilter(input: VerbInput): Filter {
  const relation = textOption(input, 'relation');
  const parts = relation?.split('/').map(Number);
  if (parts !== undefined && (parts.length !== 3 || parts.some(p => !Number.isInteger(p)))) {
    throw new Fault('config-invalid', `--relation: "${relation}" is not tablespace/database/relation`, {
      hint: 'For example 1663/5/16384, as in the blkref of a record.',
    });
  }
  return {
    rmgrs: new Set(listOption(input, 'rmgr').map(name => name.toLowerCase())),
    relation: parts as [number, number, number] | undefined,
    block: number(input, 'block'),
    xid: number(input, 'xid'),
  };
}

function accepts(filter: Filter, dialect: Dialect, record: WalRecord): boolean {
  if (filter.xid !== undefined && record.xid !== filter.xid) return false;
  if (filter.rmgrs.size > 0 && !filter.rmgrs.has(rmgrName(dialect, record).toLowerCase())) return false;
  return filter.relation === undefined || touches(filter, record);
}

function touches(filter: Filter, record: WalRecord): boolean {
  const [spcOid, dbOid, relNumber] = filter.relation!;
  for (let id = 0; id <= record.maxBlockId; id++) {
    const b = record.blocks[id]!;
    if (!b.inUse || b.relNumber !== relNumber || b.dbOid !== dbOid || b.spcOid !== spcOid) continue;
    if (filter.block === undefined || b.blkno === filter.block) return true;
  }
  return false;
}

/** Lines gathered and written in pieces: one system call a piece, with the reader's back pressure. */
class Output {
  private readonly world: World;
  private text = '';

  constructor(world: World) {
    this.world = world;
  }

  line(text: string): void {
    this.text += `${text}\n`;
    if (this.text.length > 256 * 1024) this.flush();
  }

  flush(): void {
    if (this.text !== '') this.world.terminal.write(this.text);
    this.text = '';
  }
}

async function run(input: VerbInput, world: World): Promise<number> {
  const filter = parseFilter(input);
  const limit = number(input, 'limit') ?? Infinity;
  const end = textOption(input, 'end');
  const flavour = textOption(input, 'flavour') as Flavour | undefined;
  const statsOption = input.options['stats'];
  const details = flagOption(input, 'bkpDetails');
  const json = flagOption(input, 'json');
  const out = new Output(world);
  let stats: WalStats | undefined;
  let shown = 0;
  const visit = (record: WalRecord, dialect: Dialect): boolean => {
    if (!accepts(filter, dialect, record)) return true;
    if (statsOption !== undefined && statsOption !== false) {
      stats ??= new WalStats(dialect, statsOption === 'record');
      stats.add(record);
    } else {
      out.line(json ? JSON.stringify(recordJson(dialect, record)) : recordLine(dialect, record, details));
    }
    return ++shown < limit;
  };

  const startText = textOption(input, 'start');
  let start: Lsn | undefined = startText === undefined ? undefined : parseLsn(startText);
  try {
    for (;;) {
      const source = await openWal(world, input.args[0]!, number(input, 'timeline'));
      const scan = new LogScan(source, {
        ...(start === undefined ? {} : { start }),
        ...(end === undefined ? {} : { end: parseLsn(end) }),
        ...(flavour === undefined ? {} : { flavour }),
        growing: flagOption(input, 'follow'),
      });
      const ended: LogEnd = await scan.run(visit, async () => {
        out.flush();
        await world.terminal.drained();
      });
      start = ended.lsn;
      if (!flagOption(input, 'follow') || shown >= limit || world.signal.aborted) break;
      await world.clock.sleep(FOLLOW_INTERVAL_MS, world.signal);
    }
  } catch (error) {
    out.flush();
    if (world.signal.aborted) return 0;
    if (!isFault(error)) throw error;
    world.terminal.note(`lakebed: ${error.message}\n${error.hint === undefined ? '' : `  ${error.hint}\n`}`);
    return 1;
  }
  out.flush();
  if (stats !== undefined) world.terminal.write(json ? `${JSON.stringify(stats.rows())}\n` : stats.text());
  return 0;
}
