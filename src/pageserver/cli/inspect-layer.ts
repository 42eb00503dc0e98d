// `lakebed inspect layer TENANT/TIMELINE LAYER`: what is in a layer of the object store: its blocks, keys or values.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import type { Dialect } from '../../xlog/dialect.ts';
import { describeKey, describeValue } from '../inspect/describe.ts';
import { parseTimelineName, StoredTimeline } from '../inspect/stored-timeline.ts';
import { formatKey } from '../key.ts';
import { Block } from '../layers/block.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import type { StoreDoor } from './vault-door.ts';

export const inspectLayer = (door: StoreDoor): Verb => ({
  name: 'inspect layer',
  summary: 'what is in a layer: its blocks, its keys with how often each changed, its values',
  about:
    'Fetches the layer from the object store, unseals it, and checks every block that it prints. A damaged block is told\n' +
    'and passed over. Keys are 16 hex digits: 8 of the relation fork by its number here, 8 of the block.',
  arguments: [
    { name: 'timeline', help: 'TENANT/TIMELINE; of a tenant in shards TENANT-NNCC/TIMELINE' },
    { name: 'layer', help: 'its name, or what it begins with, as inspect timeline lists it' },
  ],
  options: [
    { flags: '--keys', help: 'every key, with its edits since its newest base' },
    { flags: '--values', help: 'every value, records decoded' },
    { flags: '-n, --limit COUNT', help: 'so many lines of them' },
    ...door.options,
  ],
  examples: [
    { line: 'lakebed inspect layer TENANT/TIMELINE LAYER', what: 'what it is, and its blocks' },
    { line: 'lakebed inspect layer TENANT/TIMELINE LAYER --values -n 100', what: 'its first hundred values' },
  ],
  exitCodes: { 1: 'the layer is damaged; what could be read was printed' },
  run: (input, world) => run(door, input, world),
});

type Row = Readonly<Record<string, unknown>>;

async function run(door: StoreDoor, input: VerbInput, world: World): Promise<number> {
  const [timelineText, layerText] = input.args;
  const limit = limitOf(input);
  const store = await door.open(input, world);
  try {
    const timeline = await StoredTimeline.open({ ...world, ...store }, parseTimelineName(timelineText!));
    const file = await timeline.openLayer(oneLayer(timeline, layerText!));
    try {
      const print = printer(input, world);
      await print({ layer: file.desc.name, ...factsOf(file) });
      const problems: string[] = [];
      let left = limit;
      for await (const row of rowsOf(input, file, timeline.dialect, problems)) {
        if (left-- <= 0) break;
        await print(row);
      }
      for (const problem of problems) world.terminal.note(`! ${problem}\n`);
      return problems.length > 0 ? 1 : 0;
    } finally {
      await file.close();
    }
  } finally {
    await store.drained();
  }
}

function limitOf(input: VerbInput): number {
  const text = textOption(input, 'limit');
  if (text === undefined) return Infinity;
  if (/^\d+$/.test(text)) return Number(text);
  throw new Fault('config-invalid', `--limit: not a number: ${text}`);
}

function oneLayer(timeline: StoredTimeline, text: string): string {
  const names = [...timeline.index.layers.keys()].filter(name => name.startsWith(text));
  if (names.length === 1) return names[0]!;
  throw new Fault('layer-removed', `${names.length} layers of the timeline begin with "${text}"`, {
    hint: 'lakebed inspect timeline lists their names.',
  });
}

/** A line a row: JSON, or words. */
function printer({ options }: VerbInput, { terminal }: World): (row: Row) => Promise<void> {
  const json = options['json'] === true;
  return async row => {
    const words = Object.entries(row).map(([name, value]) => `${name} ${String(value)}`);
    terminal.write(json ? `${JSON.stringify(row)}\n` : `${words.join('  ')}\n`);
    await terminal.drained();
  };
}

const lsnText = (lsn: number): string => formatLsn(lsn as Lsn);

function factsOf({ desc, footer }: LayerFile): Row {
  return {
    kind: footer.kind,
    from: lsnText(desc.lsnStart),
    to: lsnText(desc.lsnEnd),
    bytes: desc.bytes,
    generation: desc.generation,
    blocks: footer.blocks,
    keys: footer.keyCount,
    values: footer.valueCount,
  };
}

async function* rowsOf(
  input: VerbInput,
  file: LayerFile,
  dialect: Dialect,
  problems: string[],
): AsyncGenerator<Row> {
  if (flagOption(input, 'values')) yield* valueRows(file, dialect, problems);
  else if (flagOption(input, 'keys')) yield* keyRows(file);
  else yield* blockRows(file);
}

function* blockRows({ index }: LayerFile): Generator<Row> {
  for (let i = 0; i < index.count; i++) {
    yield {
      block: i,
      offset: index.offset[i],
      stored: index.stored[i],
      key: formatKey(index.rel[i]!, index.blk[i]!),
      lsn: lsnText(index.lsn[i]!),
    };
  }
}

async function* keyRows(file: LayerFile): AsyncGenerator<Row> {
  const { count, rel, blk, edits } = await file.counts();
  for (let i = 0; i < count; i++) {
    yield { key: describeKey(rel[i]!, blk[i]!), edits: edits[i]! >>> 1, base: (edits[i]! & 1) === 1 };
  }
}

async function* valueRows(file: LayerFile, dialect: Dialect, problems: string[]): AsyncGenerator<Row> {
  for (let number = 0; number < file.index.count; number++) {
    let block: Block;
    try {
      const raw = file.rawOf(number, await file.readStored(number, number), number);
      block = new Block(raw, file.desc.name);
    } catch (error) {
      problems.push(`block ${number}: ${(error as Error).message}`);
      continue;
    }
    for (let key = 0; key < block.keyCount; key++) {
      const name = describeKey(block.relOf(key), block.blkOf(key));
      for (let v = block.firstValue(key); v < block.firstValue(key + 1); v++) {
        const meta = block.metaOf(v);
        const from = block.offsetOf(v);
        const bytes = block.bytes.subarray(from, from + block.lengthOf(v));
        yield { key: name, ...describeValue(dialect, block.lsnOf(v), meta >> 8, meta & 0xff, bytes) };
      }
    }
  }
}
