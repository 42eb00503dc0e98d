// TOML: the only door to its parser. Tables and values come as plain objects; dates, which no setting of ours is,
// are refused where they are used. Neon's daemons take whole files and, on the command line, single inline values.

import { parse, stringify, TomlError } from 'smol-toml';
import { Fault } from './fault.ts';

export type TomlTable = Record<string, unknown>;

/** `where` names the file in errors. */
export function parseToml(text: string, where: string): TomlTable {
  try {
    return parse(text) as TomlTable;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what = 'it is not TOML'] = error.message.split('\n');
    throw new Fault('config-invalid', `${where}, line ${error.line}: ${what}`, { cause: error });
  }
}

/** One value as it stands right of the `=`: an inline table, a string, a number. */
export function parseTomlValue(text: string, where: string): unknown {
  return parseToml(`value = ${text.trim()}`, where)['value'];
}

export const toToml = (table: TomlTable): string => stringify(table);
