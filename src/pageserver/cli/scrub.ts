// `lakebed scrub`: does the object store have what the indexes name, and nothing else?

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { formatDuration, tryParseDuration } from '../../base/duration.ts';
import { Fault } from '../../base/fault.ts';
import { tenantId } from '../../base/ids.ts';
import { type Finding, isDamage, isGarbage, scrub } from '../scrub.ts';
import type { OpenStore, StoreDoor } from './vault-door.ts';

const AGE_MS = 24 * 3_600_000;
/** Younger objects may be on their way to being named, whatever was asked. */
const AGE_MIN_MS = 10 * 60_000;
const REMOVE_AT_ONCE = 1000;

export const scrubVerb = (door: StoreDoor): Verb => ({
  name: 'scrub',
  summary: 'compare the object store with what its indexes name: what is superfluous, missing, damaged',
  about:
    'Reads only, unless --delete is given, and may be run while pageservers do. Looks at what pageservers keep\n' +
    '(tenants/); WAL of safekeepers is not touched. With --deep every layer is fetched, unsealed and checked block by\n' +
    'block. What no index names is garbage once it is older than --age: a crash left it behind.',
  arguments: [{ name: 'tenant', help: 'only these tenants', optional: true, many: true }],
  options: [
    { flags: '--deep', help: 'open every layer and prove every block' },
    { flags: '--delete', help: 'delete garbage; never what an index names, nor what cannot be judged' },
    { flags: '--age SPAN', help: 'how old an object without a name must be; at least 10min', default: '24h' },
    ...door.options,
  ],
  examples: [
    { line: 'lakebed scrub', what: 'every tenant of the store' },
    { line: 'lakebed scrub TENANT --deep', what: 'one, every byte of it' },
    { line: 'lakebed scrub --delete --age 7d', what: 'clean up' },
    { line: 'lakebed scrub --json | jq -r .key', what: 'a line a finding, for other programs' },
  ],
  exitCodes: {
    1: 'something that an index names is missing or damaged, or could not be judged',
    3: 'nothing is wrong, but there are objects that nothing names',
  },
  run: (input, world) => run(door, input, world),
});

async function run(door: StoreDoor, input: VerbInput, world: World): Promise<number> {
  const ageMs = ageOf(input);
  const store = await door.open(input, world);
  try {
    const { terminal } = world;
    const json = flagOption(input, 'json');
    const tenants = input.args.length > 0 ? { tenants: input.args.map(tenantId) } : {};
    const total = { layers: 0, bytes: 0 };
    const findings: Finding[] = [];
    const progress = terminal.progress('layers', 0);
    const looked = (bytes: number): void => {
      total.layers++;
      total.bytes += bytes;
      progress.update(total.layers, `${findings.length} findings`);
    };
    try {
      for await (const finding of scrub(
        { ...store, looked },
        { deep: flagOption(input, 'deep'), ...tenants },
      )) {
        world.signal.throwIfAborted();
        findings.push(finding);
        terminal.write(json ? `${JSON.stringify(finding)}\n` : lineOf(finding, world.clock.now()));
        await terminal.drained();
      }
    } finally {
      progress.stop();
    }
    const garbage = findings.filter(finding => isGarbage(finding, world.clock.now(), ageMs));
    const deleted = flagOption(input, 'delete') ? await remove(store, garbage, world) : 0;
    if (!json) terminal.write(summary(findings, garbage, { ...total, deleted, ageMs }));
    if (findings.some(isDamage)) return 1;
    return findings.filter(({ problem }) => problem === 'unnamed').length > deleted ? 3 : 0;
  } finally {
    await store.drained();
  }
}

function ageOf(input: VerbInput): number {
  const text = textOption(input, 'age');
  const ms = text === undefined ? AGE_MS : tryParseDuration(text);
  if (ms !== undefined && ms >= AGE_MIN_MS) return ms;
  throw new Fault('config-invalid', `not an age of garbage: "${text}"`, {
    hint: 'Write it as 24h or 7d; at least 10min: what is younger may be on its way to being named.',
  });
}

async function remove({ blobs }: OpenStore, garbage: readonly Finding[], world: World): Promise<number> {
  const progress = world.terminal.progress('deleted', garbage.length);
  let deleted = 0;
  try {
    for (let at = 0; at < garbage.length; at += REMOVE_AT_ONCE) {
      world.signal.throwIfAborted();
      const keys = garbage.slice(at, at + REMOVE_AT_ONCE).map(({ key }) => key);
      await blobs.remove(keys);
      progress.update((deleted += keys.length));
    }
  } finally {
    progress.stop();
  }
  return deleted;
}

const lineOf = ({ problem, key, bytes, modifiedMs, detail }: Finding, nowMs: number): string => {
  const age =
    modifiedMs === 0 ? '' : `, ${formatDuration(Math.round((nowMs - modifiedMs) / 1000) * 1000)} old`;
  return `${problem.padEnd(10)}  ${key}  ${bytes} bytes${age}: ${detail}\n`;
};

function summary(
  findings: readonly Finding[],
  garbage: readonly Finding[],
  total: { layers: number; bytes: number; deleted: number; ageMs: number },
): string {
  const unnamed = findings.filter(({ problem }) => problem === 'unnamed');
  const bytes = unnamed.reduce((sum, finding) => sum + finding.bytes, 0);
  const lines = [
    `${total.layers} layers, ${total.bytes} bytes, are as their indexes say.`,
    `${findings.filter(isDamage).length} missing, damaged or not to be judged.`,
    `${unnamed.length} objects that nothing names, ${bytes} bytes; ${garbage.length} of them older than ${formatDuration(total.ageMs)}.`,
  ];
  if (total.deleted > 0) lines.push(`${total.deleted} deleted.`);
  return `${lines.join('\n')}\n`;
}
