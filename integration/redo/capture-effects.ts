// Makes integration/fixtures/effects-<major>.json: records of the managers that edit no pages, as stock Postgres
// wrote them, each with Postgres's own description. Run by hand when a row or a major is added:
//
//   node integration/redo/capture-effects.ts [14 15 16 17 18]
//
// 15 and later describe their log through pg_walinspect. 14 has none: a hot standby of it replays the same log
// with debug messages on, whose context names and describes the record at hand, where it has an xid. From each
// operation a few records are kept whose descriptions differ in more than their numbers.
//
// A row: op, lsn, record (hex), desc (null where 14 said nothing). Times are UTC, as the backend prints them.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '../../src/base/bytes.ts';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { CONTROL_FILE_PATH, readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { recordOpName, rmgrName } from '../../src/xlog/inspect.ts';
import type { WalRecord } from '../../src/xlog/record.ts';
import { STOCK_MAJORS, type StockMajor, StockPostgres } from '../pg/stock.ts';
import { effectsWorkload, SETTINGS } from './effects-workload.ts';
import { readLog } from './log.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures');
const MANAGERS = new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 18, 19, 21]);
const PER_OP = 8;
const RECORD_BYTES_MAX = 2048;

interface Row {
  readonly op: string;
  readonly lsn: string;
  readonly record: string;
  readonly desc: string | null;
}

type Descriptions = Map<string, string>;

/** LSN to description, for 15 and later. */
async function inspected(postgres: StockPostgres, from: string): Promise<Descriptions> {
  const names = [...MANAGERS].map(id => `'${dialectOfMajor(postgres.major, 'stock').rmgrs[id]!.name}'`);
  const rows = await postgres.sql(
    `create extension if not exists pg_walinspect;
     select start_lsn, description from pg_get_wal_records_info('${from}', pg_current_wal_flush_lsn())
      where resource_manager in (${names.join(', ')})`,
  );
  return new Map(rows.map(row => [formatLsn(parseLsn(row.start_lsn)), row.description ?? '']));
}

/** LSN to description, out of a standby's log. */
async function overheard(postgres: StockPostgres, base: string, until: string): Promise<Descriptions> {
  cpSync(join(postgres.dataDirectory, 'pg_wal'), join(base, 'pg_wal'), { recursive: true });
  writeFileSync(join(base, 'standby.signal'), '');
  const settings = {
    ...SETTINGS,
    max_connections: 100,
    log_min_messages: 'debug4',
    recovery_target_lsn: until,
  };
  const log = await postgres.runDirectory(base, settings, async standby => {
    for (;;) {
      const [row] = await standby.sql(`select pg_last_wal_replay_lsn() >= '${until}' as done`);
      if (row.done) return;
      await sleep(100);
    }
  });
  const found: Descriptions = new Map();
  for (const match of log.matchAll(/WAL redo at ([0-9A-F]+\/[0-9A-F]+) for \w+\/[^:]+: (.*)/g))
    found.set(match[1]!, match[2]!.replace(/; blkref #.*/, ''));
  return found;
}

/** What stays of a description when its numbers go, and whether there are images. */
function shapeOf(record: WalRecord, desc: string): string {
  const images = record.blocks.filter(b => b.id <= record.maxBlockId && b.inUse && b.hasImage).length;
  const words = desc
    .replaceAll('FFFFFFFF', 'max')
    .replace(/\b[0-9A-F]+\b/g, '0')
    .replace(/( (catcache|catalog|relcache|snapshot) 0| 0)+/g, ' 0');
  return `${words} ${record.maxBlockId} ${images}`;
}

function select(walDirectory: string, from: Lsn, major: number, descriptions: Descriptions): Row[] {
  const dialect = dialectOfMajor(major, 'stock');
  const kept = new Map<string, Row>();
  const perOp = new Map<string, number>();
  readLog(walDirectory, dialect, from, record => {
    if (!MANAGERS.has(record.rmid) || record.totalLength > RECORD_BYTES_MAX) return;
    const op = `${rmgrName(dialect, record)}/${recordOpName(dialect, record)}`;
    const lsn = formatLsn(record.lsn);
    const desc = descriptions.get(lsn) ?? null;
    if (desc === null && major > 14) return;
    const skeleton = `${op} ${desc === null} ${shapeOf(record, desc ?? '')}`;
    const count = perOp.get(op) ?? 0;
    if (kept.has(skeleton) || count >= PER_OP) return;
    if (desc !== null) perOp.set(op, count + 1);
    const bytes = record.bytes.subarray(record.offset, record.offset + record.totalLength);
    kept.set(skeleton, { op, lsn, record: toHex(bytes), desc });
  });
  return [...kept.values()]
    .filter(row => row.desc !== null || !perOp.has(row.op) || row.op.startsWith('XLOG/FPI'))
    .sort((a, b) => (a.op < b.op ? -1 : a.op > b.op ? 1 : 0));
}

async function capture(major: StockMajor): Promise<void> {
  const postgres = await StockPostgres.create(major, { settings: { ...SETTINGS, max_connections: 50 } });
  try {
    const base = join(postgres.home, 'base');
    cpSync(postgres.dataDirectory, base, { recursive: true });
    await postgres.start();
    const { from, beforeTruncations } = await effectsWorkload(postgres);
    const descriptions = major === 14 ? undefined : await inspected(postgres, from);
    await postgres.stop();
    const rows = select(
      join(postgres.dataDirectory, 'pg_wal'),
      readControlFile(readFileSync(join(base, CONTROL_FILE_PATH))).checkPointCopy.redo,
      major,
      descriptions ?? (await overheard(postgres, base, beforeTruncations)),
    );
    const lines = rows.map(row => JSON.stringify(row)).join(',\n');
    mkdirSync(FIXTURES, { recursive: true });
    writeFileSync(join(FIXTURES, `effects-${major}.json`), `[\n${lines}\n]\n`);
    const operations = new Set(rows.map(row => row.op)).size;
    process.stdout.write(`${major}: ${rows.length} records, ${operations} operations\n`);
  } finally {
    await postgres.destroy();
  }
}

const asked = process.argv.slice(2).map(Number);
for (const major of STOCK_MAJORS) if (asked.length === 0 || asked.includes(major)) await capture(major);
