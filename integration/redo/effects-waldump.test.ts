// The managers that edit no pages over the recordings of Neon's builds: every line as pg_waldump of that build
// prints it, and effects for every record that should have some.

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

const MANAGERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 18, 19, 21];

const recordings = corpora();
const tools = process.env['NEON_PG_DIR'];
const toolOf = (major: number): string => join(tools ?? '', `v${major}/bin/pg_waldump`);
const missing =
  recordings.length === 0
    ? NO_CORPUS
    : tools === undefined || !recordings.every(r => existsSync(toolOf(r.major)))
      ? 'no Neon builds at hand (NEON_PG_DIR)'
      : undefined;

interface Told {
  readonly lines: string[];
  readonly effects: Map<EffectKind, number>;
}

/** Our lines for the managers at hand, and a copy of each segment in `directory` for pg_waldump. */
async function told(dialect: Dialect, path: string, directory: string): Promise<Told> {
  const lines: string[] = [];
  const effects = new Map<EffectKind, number>();
  const record = new WalRecord();
  let reader: WalReader | undefined;
  try {
    for await (const { name, bytes } of tarMembers(join(path, 'wal.tar.zst'))) {
      const fileName = name.split('/').at(-1)!;
      const parsed = parseSegmentFileName(fileName, DEFAULT_SEGMENT_SIZE);
      if (parsed === undefined) continue;
      await writeFile(join(directory, fileName), bytes);
      reader ??= new WalReader({
        start: segmentStart(parsed.segno, DEFAULT_SEGMENT_SIZE),
        dialect,
        resync: true,
      });
      reader.push(bytes);
      while (reader.next(record)) {
        if (!MANAGERS.includes(record.rmid)) continue;
        lines.push(recordLine(dialect, record));
        findOp(dialect.rmgrs[record.rmid]!, record.info)?.effects?.(record, ({ kind }) =>
          effects.set(kind, (effects.get(kind) ?? 0) + 1),
        );
      }
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'wal-end') throw error;
  }
  return { lines, effects };
}

async function dumped(dialect: Dialect, directory: string, first: string): Promise<string[]> {
  const managers = MANAGERS.flatMap(id => ['-r', dialect.rmgrs[id]!.name]);
  const { stdout } = await promisify(execFile)(
    toolOf(dialect.major),
    ['-p', directory, ...managers, '-s', first],
    { maxBuffer: 1 << 28, env: { ...process.env, TZ: 'UTC' } },
  ).catch(error => error as { stdout: string }); // it complains of the log's end
  return stdout.split('\n').filter(line => line !== '');
}

const lsnOf = (line: string): string => /lsn: (\S+),/.exec(line)![1]!;

describe.skipIf(missing !== undefined)(missing ?? 'recordings', () => {
  test.each(recordings)('$name is told as pg_waldump tells it', async ({ major, path }) => {
    const dialect = dialectOfMajor(major, 'neon');
    const directory = await mkdtemp(join(tmpdir(), 'effects-waldump-'));
    try {
      const { lines, effects } = await told(dialect, path, directory);
      expect(lines.length).toBeGreaterThan(4000);
      expect(lines).toEqual(await dumped(dialect, directory, lsnOf(lines[0]!)));
      for (const kind of [
        'xact-commit',
        'xact-abort',
        'xact-prepare',
        'multixact-create',
        'smgr-create',
      ] as const)
        expect(effects.get(kind), kind).toBeGreaterThan(0);
      for (const kind of [
        'smgr-truncate',
        'drop-relations',
        'database-copy',
        'relmap',
        'checkpoint',
      ] as const)
        expect(effects.get(kind), kind).toBeGreaterThan(0);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
