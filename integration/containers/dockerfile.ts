// A Dockerfile read without an engine: its stages, and which files of the checkout its COPY lines would put where,
// after .dockerignore. Enough of the language for ours; a line that is not understood is an error, not a guess.

import { globSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';

export interface Instruction {
  readonly word: string;
  readonly rest: string;
}

export interface Stage {
  readonly from: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

const WORDS = new Set([
  ...[
    'ARG',
    'FROM',
    'WORKDIR',
    'COPY',
    'RUN',
    'LABEL',
    'ENV',
    'USER',
    'VOLUME',
    'EXPOSE',
    'HEALTHCHECK',
    'CMD',
  ],
]);

export function readDockerfile(path: string): { args: Map<string, string>; stages: Stage[] } {
  const text = readFileSync(path, 'utf8')
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n/g, ' ');
  const args = new Map<string, string>();
  const stages: { from: string; name: string | undefined; instructions: Instruction[] }[] = [];
  for (const line of text
    .split('\n')
    .map(l => l.trim())
    .filter(l => l !== '')) {
    const [, word, rest] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (!word || rest === undefined || !WORDS.has(word)) throw new Error(`not understood: ${line}`);
    if (word === 'ARG' && stages.length === 0) {
      const [name, value = ''] = rest.split('=');
      args.set(name!, value);
    } else if (word === 'FROM') {
      const [, from, name] = /^(\S+)(?:\s+AS\s+(\S+))?$/.exec(rest) ?? [];
      stages.push({
        from: from!.replace(/\$\{(\w+)\}/g, (_, n) => args.get(n) ?? ''),
        name,
        instructions: [],
      });
    } else {
      stages.at(-1)!.instructions.push({ word, rest });
    }
  }
  return { args, stages };
}

/** What .dockerignore leaves of a context: the last line that fits a path, or a directory above it, decides. */
export function contextFiles(root: string): string[] {
  const rules = readFileSync(join(root, '.dockerignore'), 'utf8')
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => ({ keep: line.startsWith('!'), like: patternOf(line.replace(/^!/, '')) }));
  const kept = (path: string): boolean => {
    const parts = path.split('/');
    const ancestors = parts.map((_, i) => parts.slice(0, i + 1).join('/'));
    return rules.reduce((keep, rule) => (ancestors.some(a => rule.like.test(a)) ? rule.keep : keep), true);
  };
  const outside = (path: string): boolean => /(^|\/)(node_modules|\.git)$/.test(path);
  return globSync('**', { cwd: root, exclude: outside })
    .filter(path => statSync(join(root, path)).isFile() && kept(path))
    .sort();
}

/** `*` within a name, `**` over names. */
function patternOf(pattern: string): RegExp {
  const escaped = pattern.replace(/\/$/, '').replace(/[.+^${}()|[\]\\]/g, '\\$&');
  const source = escaped.replace(/\*\*\/?|\*/g, stars => (stars === '*' ? '[^/]*' : '(?:.*/)?'));
  return new RegExp(`^${source}$`);
}

export interface Copied {
  /** In the context. */
  readonly from: string;
  /** In the image. */
  readonly to: string;
}

export interface Copies {
  readonly files: Copied[];
  /** COPY --from=STAGE path path. */
  readonly fromStages: { readonly stage: string; readonly from: string; readonly to: string }[];
}

/** What the COPY lines of a stage do, given the files of the context. */
export function copiesOf(stage: Stage, context: readonly string[]): Copies {
  let workdir = '/';
  const copies: Copies = { files: [], fromStages: [] };
  for (const { word, rest } of stage.instructions) {
    if (word === 'WORKDIR') workdir = posix.resolve(workdir, rest);
    if (word !== 'COPY') continue;
    const words = rest.split(/\s+/);
    const flags = words.filter(w => w.startsWith('--'));
    const [target, ...sources] = words.filter(w => !w.startsWith('--')).reverse();
    const from = flags.find(f => f.startsWith('--from='))?.slice('--from='.length);
    const place = posix.resolve(workdir, target!);
    for (const source of sources.reverse()) {
      if (from) copies.fromStages.push({ stage: from, from: source, to: place });
      else copies.files.push(...copied(source, place, sources.length > 1 || target!.endsWith('/'), context));
    }
  }
  return copies;
}

function copied(source: string, place: string, intoDirectory: boolean, context: readonly string[]): Copied[] {
  if (context.includes(source)) return [{ from: source, to: intoDirectory ? join(place, source) : place }];
  const inside = context.filter(path => path.startsWith(`${source}/`));
  if (inside.length === 0) throw new Error(`COPY ${source}: nothing of that name is in the context`);
  return inside.map(path => ({ from: path, to: join(place, path.slice(source.length + 1)) }));
}
