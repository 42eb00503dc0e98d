// The recordings of Neon's builds told record by record, every line as pg_waldump of that build prints it (but for
// Neon's own manager, which it does not know), and effects for every kind that the work of the recordings has.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import type { EffectKind } from '../../src/xlog/effects.ts';
import { recordLine } from '../../src/xlog/inspect.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import { findOp } from '../../src/xlog/rmgr.ts';
import { DEFAULT_SEGMENT_SIZE, parseSegmentFileName, segmentStart } from '../../src/xlog/segment.ts';
import { corpora, NO_CORPUS, tarMembers } from './corpus.ts';

const RM_NEON_ID = 134;
const EFFECTS_MET: readonly EffectKind[] = [
  'xact-commit',
  'xact-abort',
  'xact-prepare',
  'multixact-create',
  'smgr-create',
  'smgr-truncate',
  'drop-relations',
  'database-copy',
  'relmap',
  'checkpoint',
];

const recordings = corpora();
const tools = process.env['NEON_PG_DIR'];
const toolOf = (major: number): string => join(tools ?? '', `v${major}/bin/pg_waldump`);
const missing =
  recordings.length === 0
    ? NO_CORPUS
    : tools === undefined || !recordings.every(r => existsSync(toolOf(r.major)))
      ? 'no Neon builds at hand (NEON_PG_DIR)'
      : undefined;

/** Two hundred thousand lines of two programs each, on a machine that may be busy. */
const TIMEOUT_MS = 900_000;

interface Told {
  readonly lines: string[];
  readonly effects: Set<EffectKind>;
}

/** Our lines, and a copy of each segment in `directory` for pg_waldump. */
async function told(dialect: Dialect, path: string, directory: string): Promise<Told> {
  const lines: string[] = [];
  const effects = new Set<EffectKind>();
  const record = new WalRecord();
  let reader: WalReader | undefined;
  try {
    for await (const { name, bytes } of tarMembers(join(path, 'wal.tar.zst'))) {
      const fileName = name.split('/').at(-1)!;
      const parsed = parseSegmentFileName(fileName, DEFAULT_SEGMENT_SIZE);
      if (parsed === undefined) continue;
      await writeFile(join(directory, fileName), bytes);
      const start = segmentStart(parsed.segno, DEFAULT_SEGMENT_SIZE);
      reader ??= new WalReader({ start, dialect, resync: true });
      reader.push(bytes);
      while (reader.next(record)) {
        const op = findOp(dialect.rmgrs[record.rmid]!, record.info)!;
        op.effects?.(record, ({ kind }) => effects.add(kind));
        if (record.rmid !== RM_NEON_ID) lines.push(recordLine(dialect, record));
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  return { lines, effects };
}

async function dumped(dialect: Dialect, directory: string, first: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(toolOf(dialect.major), ['-p', directory, '-s', first], {
    maxBuffer: 1 << 29,
    env: { ...process.env, TZ: 'UTC' },
  }).catch(error => error as { stdout: string }); // it complains of the log's end
  return stdout.split('\n').filter(line => line !== '' && !line.startsWith('rmgr: custom'));
}

const lsnOf = (line: string): string => /lsn: (\S+),/.exec(line)![1]!;

describe.skipIf(missing !== undefined)(missing ?? 'recordings', () => {
  test.each(recordings)(
    '$name is told as pg_waldump tells it',
    async ({ major, path }) => {
      const dialect = dialectOfMajor(major, 'neon');
      const directory = await mkdtemp(join(tmpdir(), 'recordings-'));
      try {
        const { lines, effects } = await told(dialect, path, directory);
        const theirs = await dumped(dialect, directory, lsnOf(lines[0]!));
        expect(lines.length).toBeGreaterThan(100_000);
        const wrong = lines.flatMap((line, i) => (line === theirs[i] ? [] : [{ line, theirs: theirs[i] }]));
        expect(wrong.slice(0, 5)).toEqual([]);
        expect(theirs.length).toBe(lines.length);
        expect(EFFECTS_MET.filter(kind => !effects.has(kind))).toEqual([]);
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
    TIMEOUT_MS,
  );
});
