// `lakebed inspect page TENANT/TIMELINE RELATION [BLOCK]`: a page as it was at an LSN, and what it was made of.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import type { Log } from '../../base/ports.ts';
import { FORK_NAMES, relKey } from '../../base/rel.ts';
import { newPage, type Page } from '../../xlog/page.ts';
import { readRelationEntry } from '../directory.ts';
import { applyEdit } from '../edit.ts';
import { type Chain, chainOf } from '../inspect/chain.ts';
import { describeKey, describePage, describeValue, hexDump, isRelationPage } from '../inspect/describe.ts';
import { parseTimelineName, StoredTimeline } from '../inspect/stored-timeline.ts';
import { isPageKey } from '../key.ts';
import { relationName } from '../names.ts';
import { PgData } from '../pgdata.ts';
import { Reconstructor } from '../reconstruct.ts';
import { ValueList } from '../value-list.ts';
import type { StoreDoor } from './vault-door.ts';

export const inspectPage = (door: StoreDoor): Verb => ({
  name: 'inspect page',
  summary: 'a page at an LSN: its header, and the image and records it was made of, each with its layer',
  about:
    'Reads layers of the object store, without a pageserver. A layer that cannot be read is told, and what is left is\n' +
    'printed. RELATION is SPC/DB/FILENODE, as pg_relation_filepath and pg_tablespace tell, with .fsm or .vm for a map;\n' +
    'or a key of 16 hex digits.',
  arguments: [
    { name: 'timeline', help: 'TENANT/TIMELINE; of a tenant in shards TENANT-NNCC/TIMELINE' },
    { name: 'relation', help: '1663/5/16384, 1663/5/16384.vm, or a key' },
    { name: 'block', help: 'its number, after a relation', optional: true },
  ],
  options: [
    { flags: '--lsn LSN', help: 'as of there; the end of what is in the store, unless told' },
    { flags: '--hex', help: 'the bytes of the page, too' },
    { flags: '--out FILE', help: 'write the 8192 bytes of the page to a new file' },
    ...door.options,
  ],
  examples: [
    { line: 'lakebed inspect page TENANT/TIMELINE 1663/5/1259 0', what: 'the first page of pg_class' },
    {
      line: 'lakebed inspect page TENANT/TIMELINE 1663/5/16384 7 --lsn 0/16B3748 --hex',
      what: 'as it was, with its bytes',
    },
  ],
  exitCodes: { 1: 'a layer could not be read: the page may be another' },
  run: (input, world) => run(door, input, world),
});

async function run(door: StoreDoor, input: VerbInput, world: World): Promise<number> {
  const [timelineText, relation, block] = input.args;
  const store = await door.open(input, world);
  try {
    const timeline = await StoredTimeline.open({ ...world, ...store }, parseTimelineName(timelineText!));
    const end = timeline.index.diskConsistentLsn as Lsn;
    const asked = textOption(input, 'lsn');
    const lsn = asked === undefined ? end : parseLsn(asked);
    if (lsn > end) {
      throw new Fault(
        'lsn-invalid',
        `the store has the timeline up to ${formatLsn(end)}, not to ${formatLsn(lsn)}`,
        {
          hint: 'What is newer is in the memory of its pageserver; ask that by GET …/getpage, or for a checkpoint.',
        },
      );
    }
    const { rel, blk } = await keyOf(timeline, relation!, block, lsn);
    const chain = await chainOf(timeline, rel, blk, lsn);
    const made = isPageKey(rel, blk) ? reconstruct(timeline, chain) : undefined;
    await print(input, world, { timeline, rel, blk, lsn, chain, made });
    const out = textOption(input, 'out');
    if (out !== undefined && made?.page) await writePage(world, out, made.page.bytes);
    return chain.problems.length > 0 || made?.problem !== undefined ? 1 : 0;
  } finally {
    await store.drained();
  }
}

const KEY = /^([0-9a-f]{8})([0-9a-f]{8})$/i;
const RELATION = /^(\d+)\/(\d+)\/(\d+)(?:\.(main|fsm|vm|init))?$/;

async function keyOf(
  timeline: StoredTimeline,
  text: string,
  block: string | undefined,
  lsn: Lsn,
): Promise<{ rel: number; blk: number }> {
  const key = KEY.exec(text);
  if (key && block === undefined) return { rel: parseInt(key[1]!, 16), blk: parseInt(key[2]!, 16) };
  const match = RELATION.exec(text);
  if (!match || block === undefined || !/^\d+$/.test(block)) {
    throw new Fault('config-invalid', `not a page: "${[text, block].filter(Boolean).join(' ')}"`, {
      hint: 'Write SPC/DB/FILENODE and a block, such as 1663/5/16384 7, or a key of 16 hex digits.',
    });
  }
  const [spc, db, file] = match.slice(1, 4).map(Number) as [number, number, number];
  const fork = FORK_NAMES.indexOf((match[4] ?? 'main') as (typeof FORK_NAMES)[number]);
  const pgdata = new PgData(timeline.engine(silent), timeline.dialect);
  const entry = await pgdata.getName(relationName(spc, db, file, fork), lsn);
  if (entry) return { rel: readRelationEntry(entry).id, blk: Number(block) };
  throw new Fault(
    'relation-missing',
    `there is no relation ${relKey(spc, db, file, fork)} at ${formatLsn(lsn)}`,
    {
      hint: 'pg_relation_filepath() tells the file; it changes with VACUUM FULL, TRUNCATE and the like.',
    },
  );
}

const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silent,
};

interface Made {
  readonly page: Page | undefined;
  readonly problem: string | undefined;
}

function reconstruct({ dialect }: StoredTimeline, { values }: Chain): Made {
  const list = new ValueList();
  list.reset(-1);
  for (const { lsn, kind, blockId, bytes } of values)
    list.add(lsn, kind, blockId, bytes, 0, bytes.length, true);
  const page = newPage();
  try {
    new Reconstructor({ dialect, applyEdit }).page(list, page);
    return { page, problem: undefined };
  } catch (error) {
    return { page: undefined, problem: (error as Error).message };
  }
}

interface Told {
  readonly timeline: StoredTimeline;
  readonly rel: number;
  readonly blk: number;
  readonly lsn: Lsn;
  readonly chain: Chain;
  readonly made: Made | undefined;
}

async function print(input: VerbInput, { terminal }: World, told: Told): Promise<void> {
  const { timeline, rel, blk, lsn, chain, made } = told;
  const values = chain.values.map(({ lsn: at, kind, blockId, bytes, layer, timeline: of }) => ({
    ...describeValue(timeline.dialect, at, kind, blockId, bytes),
    layer,
    timeline: of,
  }));
  const header = made?.page && isRelationPage(rel, blk) ? describePage(made.page, blk) : undefined;
  const problems = [...chain.problems, ...(made?.problem === undefined ? [] : [`redo: ${made.problem}`])];
  const hex = made?.page && flagOption(input, 'hex') ? hexDump(made.page.bytes) : undefined;
  if (flagOption(input, 'json')) {
    const json = {
      key: describeKey(rel, blk),
      lsn: formatLsn(lsn),
      complete: chain.complete,
      page: header ?? null,
    };
    terminal.write(
      `${JSON.stringify({ ...json, values, problems, ...(hex ? { hex } : {}) }, undefined, 2)}\n`,
    );
    return;
  }
  const lines = [`${describeKey(rel, blk)} at ${formatLsn(lsn)}`];
  if (header) {
    const { items, flags, ...fields } = header;
    lines.push(
      `  ${Object.entries(fields)
        .map(([name, value]) => `${name} ${value}`)
        .join('  ')}`,
    );
    if (flags.length > 0) lines.push(`  flags: ${flags.join(', ')}`);
    if (items)
      lines.push(
        `  items: ${Object.entries(items)
          .map(([name, n]) => `${n} ${name}`)
          .join(', ')}`,
      );
  }
  lines.push(`made of ${values.length} values, newest first${chain.complete ? '' : '; no base was found'}:`);
  for (const value of values) {
    const from = value.timeline === timeline.name.timeline ? '' : ` of ${value.timeline}`;
    lines.push(`  ${value.lsn.padEnd(12)} ${value.kind}, ${value.bytes} bytes  ${value.what}`.trimEnd());
    lines.push(`  ${''.padEnd(12)} in ${value.layer}${from}`);
  }
  lines.push(...problems.map(problem => `! ${problem}`), ...(hex ?? []));
  terminal.write(`${lines.join('\n')}\n`);
  await terminal.drained();
}

async function writePage(world: World, path: string, bytes: Uint8Array): Promise<void> {
  const slash = path.lastIndexOf('/');
  const disk = world.disk(slash < 0 ? '.' : path.slice(0, Math.max(1, slash)));
  const file = await disk.open(path.slice(slash + 1), 'create-new');
  await file.write(0, bytes);
  await file.close();
}
