// Command lines of the drop-in daemons: a table of flags in, typed values out. They are read as launchers written
// for Neon's daemons send them: `--flag value`, `--flag=value`, `-f value`, `-fvalue`; the last occurrence of a
// repeated flag wins; a flag that is not known is noted, never fatal. A wrong value names the flag and what it takes.
//
//   const SPEC = { datadir: text('-D', '--datadir'), id: whole('--id'), noSync: flag('-n', '--no-sync') }
//   const { values, unknown } = parseFlags(SPEC, argv)

import { tryParseDuration } from './duration.ts';
import { Fault } from './fault.ts';

export interface FlagSpec<T> {
  readonly names: readonly string[];
  readonly help: string;
  /** `never`: a bare flag; `maybe`: `--flag` or `--flag=value`, also `--flag true`; `always`: with a value. */
  readonly takes: 'never' | 'maybe' | 'always';
  readonly what: string;
  parse(text: string | undefined): T | undefined;
}

type Names = readonly [...string[], string];

function spec<T>(
  names: readonly string[],
  help: string,
  what: string,
  takes: FlagSpec<T>['takes'],
  parse: (text: string | undefined) => T | undefined,
): FlagSpec<T> {
  return { names, help, what, takes, parse };
}

/** An empty text counts as not given: launchers pass empty paths for "off". */
export const textFlag = (help: string, ...names: Names): FlagSpec<string> =>
  spec(names, help, 'text', 'always', t => (t === '' ? undefined : t));

export const flagFlag = (help: string, ...names: Names): FlagSpec<boolean> =>
  spec(names, help, 'nothing', 'never', () => true);

export const boolFlag = (help: string, ...names: Names): FlagSpec<boolean> =>
  spec(names, help, 'true or false', 'maybe', t =>
    t === undefined || t === 'true' ? true : t === 'false' ? false : fail(),
  );

export const wholeFlag = (help: string, ...names: Names): FlagSpec<number> =>
  spec(names, help, 'a whole number', 'always', t => {
    const value = Number(t);
    return /^\d+$/.test(t ?? '') && Number.isSafeInteger(value) ? value : fail();
  });

export const numberFlag = (help: string, ...names: Names): FlagSpec<number> =>
  spec(names, help, 'a number', 'always', t => {
    const value = Number(t);
    return t !== '' && Number.isFinite(value) ? value : fail();
  });

/** Milliseconds, from `15m`, `5s`, `1h 30m`, `250ms`. */
export const durationFlag = (help: string, ...names: Names): FlagSpec<number> =>
  spec(names, help, 'a duration such as 5s or 15m', 'always', t => tryParseDuration(t ?? '') ?? fail());

export const wordFlag = <const W extends readonly string[]>(
  help: string,
  words: W,
  ...names: Names
): FlagSpec<W[number]> =>
  spec(names, help, `one of ${words.join(', ')}`, 'always', t => (words.includes(t ?? '') ? t : fail()));

/** `host:port`; an IPv6 host stands in brackets. */
export const addressFlag = (help: string, ...names: Names): FlagSpec<Address> =>
  spec(names, help, 'an address such as 127.0.0.1:5454', 'always', t => parseAddress(t ?? '') ?? fail());

export interface Address {
  readonly host: string;
  readonly port: number;
}

export const formatAddress = (a: Address): string =>
  `${a.host.includes(':') ? `[${a.host}]` : a.host}:${a.port}`;

export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const port = Number(match[3]);
  return port > 65535 ? undefined : { host: match[1] ?? match[2] ?? '', port };
}

class BadValue extends Error {}

function fail(): never {
  throw new BadValue();
}

// biome-ignore lint/suspicious/noExplicitAny: a table of flags of any type
export type FlagTable = Readonly<Record<string, FlagSpec<any>>>;
export type FlagValues<T extends FlagTable> = {
  readonly [K in keyof T]?: T[K] extends FlagSpec<infer V> ? V : never;
};

export interface ParsedFlags<T extends FlagTable> {
  readonly values: FlagValues<T>;
  /** What was not understood, as typed. */
  readonly unknown: readonly string[];
}

export function parseFlags<T extends FlagTable>(table: T, argv: readonly string[]): ParsedFlags<T> {
  const byName = new Map<string, [string, FlagSpec<unknown>]>();
  for (const [key, flag] of Object.entries(table))
    for (const name of flag.names) byName.set(name, [key, flag]);
  const values: Record<string, unknown> = {};
  const unknown: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const { name, attached } = split(argv[i]!, byName);
    const found = byName.get(name);
    if (!found) {
      unknown.push(argv[i]!);
      // Its value, if it looks like one.
      if (name.startsWith('-') && attached === undefined && argv[i + 1] && !argv[i + 1]!.startsWith('-')) i++;
      continue;
    }
    const [key, flag] = found;
    let value = attached;
    if (value === undefined && flag.takes === 'always') {
      value = argv[++i];
      if (value === undefined) throw wrong(name, flag, 'it has none');
    } else if (value === undefined && flag.takes === 'maybe' && /^(true|false)$/.test(argv[i + 1] ?? '')) {
      value = argv[++i];
    }
    values[key] = parseValue(flag, name, value);
  }
  return { values: values as FlagValues<T>, unknown };
}

function parseValue(flag: FlagSpec<unknown>, name: string, value: string | undefined): unknown {
  try {
    return flag.parse(value);
  } catch (error) {
    if (error instanceof BadValue)
      throw wrong(name, flag, `it is ${value === undefined ? 'missing' : `'${value}'`}`);
    throw error;
  }
}

const wrong = (name: string, flag: FlagSpec<unknown>, why: string): Fault =>
  new Fault('config-invalid', `${name} takes ${flag.what}, and ${why}`, { hint: flag.help });

/** `--name=value` and `-nvalue` in their parts. */
function split(
  word: string,
  known: ReadonlyMap<string, unknown>,
): { name: string; attached: string | undefined } {
  if (word.startsWith('--')) {
    const equals = word.indexOf('=');
    return equals < 0
      ? { name: word, attached: undefined }
      : { name: word.slice(0, equals), attached: word.slice(equals + 1) };
  }
  if (/^-[A-Za-z]./.test(word) && known.has(word.slice(0, 2))) {
    return { name: word.slice(0, 2), attached: word.slice(2).replace(/^=/, '') };
  }
  return { name: word, attached: undefined };
}

/** The help text: every flag, its value and what it does. */
export function describeFlags(table: FlagTable): string {
  const rows = Object.values(table).map(flag => {
    const value = flag.takes === 'always' ? ` <${flag.what}>` : '';
    return [`  ${flag.names.join(', ')}${value}`, flag.help] as const;
  });
  return rows.map(([left, help]) => `${left}\n        ${help}`).join('\n');
}
