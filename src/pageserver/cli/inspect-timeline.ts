// `lakebed inspect timeline TENANT/TIMELINE`: what the newest index of a timeline says, as a table and as a picture.

import { utf8 } from '../../base/bytes.ts';
import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { formatTenantShard } from '../../base/ids.ts';
import { formatLsn, type Lsn } from '../../base/lsn.ts';
import { type LineAcross, layerMapSvg } from '../inspect/layer-map-svg.ts';
import { parseTimelineName, StoredTimeline } from '../inspect/stored-timeline.ts';
import { formatKey } from '../key.ts';
import type { LayerDesc } from '../layers/layer.ts';
import type { StoreDoor } from './vault-door.ts';

export const inspectTimeline = (door: StoreDoor): Verb => ({
  name: 'inspect timeline',
  summary: 'the layers of a timeline in the object store, as a table or as a picture of keys and LSNs',
  about:
    'Reads the newest index in the store, and no layer. What a pageserver has in memory, and has not uploaded yet, is\n' +
    'not here. Keys are 16 hex digits: 8 of the relation fork by its number here, 8 of the block.',
  arguments: [{ name: 'timeline', help: 'TENANT/TIMELINE; of a tenant in shards TENANT-NNCC/TIMELINE' }],
  options: [{ flags: '--svg FILE', help: 'the layer map as a picture, too' }, ...door.options],
  examples: [
    { line: 'lakebed inspect timeline TENANT/TIMELINE', what: 'where it stands, and its layers' },
    { line: 'lakebed inspect timeline TENANT/TIMELINE --svg map.svg', what: 'and the picture' },
    {
      line: 'lakebed inspect timeline TENANT/TIMELINE --json | jq .layers[].name',
      what: 'for other programs',
    },
  ],
  run: (input, world) => run(door, input, world),
});

async function run(door: StoreDoor, input: VerbInput, world: World): Promise<number> {
  const name = parseTimelineName(input.args[0]!);
  const store = await door.open(input, world);
  try {
    const timeline = await StoredTimeline.open({ ...world, ...store }, name);
    const svg = textOption(input, 'svg');
    if (svg !== undefined) await writePicture(world, svg, timeline);
    const { terminal } = world;
    if (flagOption(input, 'json')) terminal.write(`${JSON.stringify(jsonOf(timeline), undefined, 2)}\n`);
    else for (const line of describe(timeline)) terminal.write(`${line}\n`);
    await terminal.drained();
    return 0;
  } finally {
    await store.drained();
  }
}

async function writePicture(world: World, path: string, timeline: StoredTimeline): Promise<void> {
  const { index, name } = timeline;
  const lines: LineAcross[] = [{ lsn: index.diskConsistentLsn, label: 'end' }];
  if (index.gcCutoffLsn > 0) lines.push({ lsn: index.gcCutoffLsn, label: 'history begins (GC cutoff)' });
  if (index.ancestor)
    lines.push({ lsn: index.ancestor.lsn, label: `branched off ${index.ancestor.timeline}` });
  const title = `${formatTenantShard(name.at.tenant, name.at.shard)}/${name.timeline}: ${index.layers.size} layers`;
  const slash = path.lastIndexOf('/');
  const disk = world.disk(slash < 0 ? '.' : path.slice(0, Math.max(1, slash)));
  const file = await disk.open(path.slice(slash + 1), 'create');
  await file.truncate(0);
  await file.write(0, utf8(layerMapSvg(title, timeline.layers(), lines)));
  await file.close();
}

const kindOf = ({ kind, isL0, sparse }: LayerDesc): string =>
  kind === 'image' ? (sparse ? 'hot image' : 'image') : isL0 ? 'level 0' : 'level 1';

/** The newest on top. */
const ordered = (timeline: StoredTimeline): LayerDesc[] =>
  timeline.layers().sort((a, b) => b.lsnEnd - a.lsnEnd || (a.name < b.name ? -1 : 1));

const lsnText = (lsn: number): string => formatLsn(lsn as Lsn);

function describe(timeline: StoredTimeline): string[] {
  const { index, name, generation } = timeline;
  const layers = ordered(timeline);
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const { ancestor, fullPageWrites: full } = index;
  const facts: [string, string | undefined][] = [
    ['Postgres', `${index.pgVersion} (${index.flavour})`],
    ['index', `number ${index.sequence} of generation ${generation}`],
    ['ends at', lsnText(index.diskConsistentLsn)],
    [
      'history from',
      `${lsnText(index.gcCutoffLsn)}${index.gcBlocking.length > 0 ? '; collection is stopped' : ''}`,
    ],
    ['kept below', index.retainedLsns.length > 0 ? index.retainedLsns.map(lsnText).join(', ') : undefined],
    ['branched off', ancestor && `${ancestor.timeline} at ${lsnText(ancestor.lsn)}`],
    ['full pages', full && `${full.on ? 'in the log' : 'made by the storage'} since ${lsnText(full.lsn)}`],
    ['archived', index.archivedAt === undefined ? undefined : new Date(index.archivedAt).toISOString()],
    ['deleted', index.deletedAt === undefined ? undefined : new Date(index.deletedAt).toISOString()],
    ['to be deleted', index.forgotten.length > 0 ? `${index.forgotten.length} objects` : undefined],
    ['layers', `${layers.length}, ${bytes} bytes`],
  ];
  const lines = [`${formatTenantShard(name.at.tenant, name.at.shard)}/${name.timeline}`];
  for (const [what, said] of facts) if (said !== undefined) lines.push(`  ${what.padEnd(14)}${said}`);
  lines.push(
    '',
    `${'kind'.padEnd(10)}${'keys'.padEnd(34)}${'LSNs'.padEnd(36)}${'bytes'.padStart(11)}  gen  name`,
  );
  for (const layer of layers) lines.push(lineOf(layer));
  return lines;
}

function lineOf(layer: LayerDesc): string {
  const { start, end } = layer.keys;
  const keys = layer.isL0 ? 'all' : `${formatKey(start.rel, start.blk)}-${formatKey(end.rel, end.blk)}`;
  const lsns =
    layer.kind === 'image'
      ? lsnText(layer.lsnStart)
      : `${lsnText(layer.lsnStart)} to ${lsnText(layer.lsnEnd)}`;
  const numbers = `${String(layer.bytes).padStart(11)}  ${String(layer.generation).padStart(3)}`;
  return `${kindOf(layer).padEnd(10)}${keys.padEnd(34)}${lsns.padEnd(36)}${numbers}  ${layer.name}`;
}

function jsonOf(timeline: StoredTimeline): unknown {
  const { index, name, generation } = timeline;
  return {
    tenant_shard_id: formatTenantShard(name.at.tenant, name.at.shard),
    timeline_id: name.timeline,
    generation,
    sequence: index.sequence,
    pg_version: index.pgVersion,
    flavour: index.flavour,
    disk_consistent_lsn: lsnText(index.diskConsistentLsn),
    gc_cutoff_lsn: lsnText(index.gcCutoffLsn),
    ancestor: index.ancestor
      ? { timeline_id: index.ancestor.timeline, lsn: lsnText(index.ancestor.lsn) }
      : null,
    forgotten: index.forgotten,
    layers: ordered(timeline).map(layer => ({
      name: layer.name,
      kind: kindOf(layer),
      key_start: formatKey(layer.keys.start.rel, layer.keys.start.blk),
      key_end: formatKey(layer.keys.end.rel, layer.keys.end.blk),
      lsn_start: lsnText(layer.lsnStart),
      lsn_end: lsnText(layer.lsnEnd),
      bytes: layer.bytes,
      generation: layer.generation,
    })),
  };
}
