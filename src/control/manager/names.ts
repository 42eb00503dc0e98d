// New ids and names, from chance: `calm-sea-07312255`, `br-calm-sea-07312255`, `ep-...`, uuids of operations; and what
// a person may call things.

import { toHex } from '../../base/bytes.ts';
import { Fault } from '../../base/fault.ts';
import type { Random } from '../../base/ports.ts';

const FIRST =
  'amber ancient autumn bitter blue bold broad calm clear cold cool crimson damp dark dawn deep divine dry fancy flat frosty gentle green hidden jolly late lingering little lively long lucky misty morning muddy nameless noisy odd old orange patient plain polished proud purple quiet rapid red restless rough round royal shiny shy silent small snowy soft solitary sparkling spring square still summer super sweet twilight wandering weathered white wild winter wispy withered yellow young'.split(
    ' ',
  );
const SECOND =
  'art bar base bird block boat bonus bread breeze brook bush butterfly cake cell cherry cloud credit darkness dawn dew disk dream dust feather field fire firefly flower fog forest frog frost glade glitter grass hall hat haze heart hill king lab lake leaf limit math meadow mode moon morning mountain mouse mud night paper pine poetry pond queen rain recipe resonance rice river salad scene sea shadow shape silence sky smoke snow snowflake sound star sun sunset surf term thunder tooth tree truth union unit violet voice water waterfall wave wildflower wind wood'.split(
    ' ',
  );

export function petName(random: Random): string {
  const digits = String(random.below(100_000_000)).padStart(8, '0');
  return `${FIRST[random.below(FIRST.length)]}-${SECOND[random.below(SECOND.length)]}-${digits}`;
}

export const branchName = (random: Random): string => `br-${petName(random)}`;
export const endpointName = (random: Random): string => `ep-${petName(random)}`;
export const hexId = (random: Random): string => toHex(random.bytes(16));

export function uuid(random: Random): string {
  const hex = hexId(random);
  const variant = '89ab'[random.below(4)];
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20),
  ].join('-');
}

const NAME_MAX = 256;
/** Slash parts a project from its branch where a client names both. */
const NAME = /^[^\s/\0@][^/\0@]*$/;

/** What a project or a branch may be called. */
export function checkName(name: string, what: string): string {
  if (name.length <= NAME_MAX && NAME.test(name)) return name;
  throw new Fault('request-invalid', `"${name.slice(0, 60)}" cannot be the name of a ${what}`, {
    hint: `A name has 1 to ${NAME_MAX} characters, no slash and no @, and does not begin with a space.`,
  });
}

/** NAMEDATALEN - 1. */
const IDENTIFIER_MAX = 63;

/** What a role or a database may be called in Postgres. */
export function checkIdentifier(name: string, what: string): string {
  const bytes = new TextEncoder().encode(name).length;
  if (bytes >= 1 && bytes <= IDENTIFIER_MAX && !name.includes('\0') && !/^pg_/.test(name)) return name;
  throw new Fault('request-invalid', `"${name.slice(0, 60)}" cannot be the name of a ${what}`, {
    hint: `Postgres takes 1 to ${IDENTIFIER_MAX} bytes, and keeps names that begin with pg_ for itself.`,
  });
}
