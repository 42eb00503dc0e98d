// `lakebed inspect safekeeper DIR`: the timelines of a data directory, their WAL and, with keys, their control records.

import { flagOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { toJson } from '../../base/json.ts';
import { formatLsn } from '../../base/lsn.ts';
import { controlToJson } from '../control-json.ts';
import type { ControlState } from '../control-state.ts';
import {
  chosenTimelines,
  type InspectedTimeline,
  inspectTimeline,
  inspectSafekeeper as lookAt,
} from '../inspect.ts';
import type { VaultDoor } from './vault-door.ts';

export const inspectSafekeeper = (door: VaultDoor): Verb => ({
  name: 'inspect safekeeper',
  summary: "a safekeeper's data directory: its timelines, their WAL, what is wrong with them",
  about:
    'Reads only, and may be run while the safekeeper does. Without keys it tells what files claim to be. With --keys\n' +
    'it opens the control records, proves every frame of WAL, and follows the records from the committed position on.',
  arguments: [
    { name: 'directory', help: 'the data directory (-D of the safekeeper)' },
    { name: 'timeline', help: 'only this TENANT or TENANT/TIMELINE', optional: true, many: true },
  ],
  options: [{ flags: '--keys', help: 'open with the keys of the tenants' }, ...door.options],
  examples: [
    { line: 'lakebed inspect safekeeper /data/sk1', what: 'without keys' },
    { line: 'lakebed inspect safekeeper /data/sk1 TENANT/TIMELINE --keys --json', what: 'one, proven' },
  ],
  exitCodes: { 1: 'something is wrong; it is told' },
  run: (input, world) => run(door, input, world),
});

async function run(door: VaultDoor, input: VerbInput, world: World): Promise<number> {
  const [directory, ...names] = input.args;
  const { terminal } = world;
  const json = flagOption(input, 'json');
  const disk = world.disk(directory!);
  const found = await lookAt(disk);
  const access = flagOption(input, 'keys') ? await door.open(input, world) : undefined;
  let wrong = found.problems.length > 0;
  const { nodeId, temporary, problems } = found;
  if (json) terminal.write(`${toJson({ node_id: nodeId ?? null, temporary, problems })}\n`);
  else terminal.write(`${[`safekeeper ${nodeId ?? 'without id'}`, ...problems.map(bang)].join('\n')}\n\n`);
  try {
    for (const key of chosenTimelines(found.timelines, names)) {
      const vault = access?.vault(directory!, key);
      const timeline = await inspectTimeline(disk, key, vault);
      wrong ||= timeline.problems.length > 0;
      terminal.write(json ? `${toJson(jsonOf(timeline))}\n` : `${describe(timeline).join('\n')}\n\n`);
      await terminal.drained();
    }
  } finally {
    await access?.drained();
  }
  return wrong ? 1 : 0;
}

const bang = (problem: string): string => `  ! ${problem}`;

function jsonOf({ key, control, segments, recordEnd, problems }: InspectedTimeline): unknown {
  return {
    tenant_id: key.tenantId,
    timeline_id: key.timelineId,
    control: control ? controlToJson(control) : null,
    segments: segments.map(({ name, from, to, sealedBytes, log, proven }) => ({
      name,
      from: formatLsn(from),
      to: formatLsn(to),
      sealed_bytes: sealedBytes,
      frames: log.frames,
      stretches: log.stretches,
      truncations: log.truncations,
      tail: log.tail,
      proven: proven ?? null,
    })),
    record_end: recordEnd === undefined ? null : formatLsn(recordEnd),
    problems,
  };
}

function describe({ key, control, segments, recordEnd, problems }: InspectedTimeline): string[] {
  const lines = [`${key.tenantId}/${key.timelineId}`];
  if (control) lines.push(...describeControl(control));
  for (const { name, from, to, sealedBytes, log, proven } of segments) {
    const known = proven === undefined ? 'claimed' : proven ? 'proven' : 'NOT PROVEN';
    const cuts = log.truncations > 0 ? `, cut ${log.truncations} times` : '';
    const range = `${formatLsn(from)} to ${formatLsn(to)}`;
    lines.push(`  ${name}  ${range}, ${known}, ${sealedBytes} bytes in ${log.frames} frames${cuts}`);
  }
  if (segments.length === 0) lines.push('  no WAL here');
  if (recordEnd !== undefined) lines.push(`  whole records end at ${formatLsn(recordEnd)}`);
  return [...lines, ...problems.map(bang)];
}

function describeControl(c: ControlState): string[] {
  const members = c.membership.members.map(m => m.id).join(', ') || 'none named';
  const last = c.termHistory.at(-1);
  return [
    `  Postgres     ${c.server.pgVersion}, system ${c.server.systemId}`,
    `  members      ${members}, generation ${c.membership.generation}`,
    `  term         ${c.term}${last ? `; WAL of term ${last.term} begins at ${formatLsn(last.lsn)}` : ''}`,
    `  began        ${formatLsn(c.timelineStartLsn)}, here from ${formatLsn(c.localStartLsn)}`,
    `  committed    ${formatLsn(c.commitLsn)}`,
    `  horizons     peers ${formatLsn(c.peerHorizonLsn)}, pageserver ${formatLsn(c.remoteConsistentLsn)}, object store ${formatLsn(c.backupLsn)}`,
    ...(c.eviction.kind === 'offloaded'
      ? [`  offloaded    WAL up to ${formatLsn(c.eviction.flushLsn)} is in the object store alone`]
      : []),
  ];
}
