// `lakebed branch diff`: what differs between two branches, as Postgres itself tells it: one line for each table, column,
// index, constraint, view, function, type, sequence and extension of every schema that is not the system's, and with
// --rows the number of rows and a digest of every table. Lines of one side alone are printed with their side's sign.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { jsonOr } from './answers.ts';
import { connectionUri, MANAGER_OPTIONS, ManagerClient, PROJECT_OPTION } from './manager-client.ts';
import { openSession } from './psql.ts';
import { paintFor } from './render.ts';

const USER_SCHEMAS = `n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'neon', 'neon_migration')`;

/** One text column: a line for each thing there is. */
const SCHEMA_SQL = `
select format('%s %I.%I', case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
                          when 'f' then 'foreign table' else 'table' end, n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and ${USER_SCHEMAS}
union all
select format('column %I.%I.%I %s%s%s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              case when a.attnotnull then ' not null' else '' end,
              coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where c.relkind in ('r', 'p', 'f') and a.attnum > 0 and not a.attisdropped and ${USER_SCHEMAS}
union all
select 'index ' || pg_get_indexdef(i.indexrelid)
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace where ${USER_SCHEMAS}
union all
select format('constraint %I on %I.%I %s', o.conname, n.nspname, c.relname, pg_get_constraintdef(o.oid))
  from pg_constraint o join pg_class c on c.oid = o.conrelid join pg_namespace n on n.oid = c.relnamespace where ${USER_SCHEMAS}
union all
select format('definition of %I.%I %s', n.nspname, c.relname, regexp_replace(pg_get_viewdef(c.oid), '\\s+', ' ', 'g'))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and ${USER_SCHEMAS}
union all
select regexp_replace(pg_get_functiondef(p.oid), '\\s+', ' ', 'g')
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where p.prokind in ('f', 'p') and ${USER_SCHEMAS}
   and not exists (select from pg_depend x where x.objid = p.oid and x.deptype = 'e')
union all
select format('enum %I.%I (%s)', n.nspname, t.typname, string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder))
  from pg_type t join pg_enum e on e.enumtypid = t.oid join pg_namespace n on n.oid = t.typnamespace
 where ${USER_SCHEMAS} group by n.nspname, t.typname
union all
select format('extension %I %s', e.extname, e.extversion) from pg_extension e where e.extname not in ('plpgsql', 'neon')
order by 1`;

const TABLES_SQL = `
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and ${USER_SCHEMAS} order by 1`;

async function linesOf(world: World, uri: string, withRows: boolean): Promise<string[]> {
  const session = await openSession(world, uri);
  try {
    const first = async (sql: string): Promise<string[]> =>
      (await session.query(sql)).rows.map(row => row[0] ?? '');
    const lines = await first(SCHEMA_SQL);
    if (!withRows) return lines;
    for (const table of await first(TABLES_SQL)) {
      const digest = `count(*) || ' rows, digest ' || coalesce(sum(hashtextextended(t::text, 0)), 0)`;
      const [line] = await first(`select ${digest} from ${table} t`);
      lines.push(`rows of ${table}: ${line}`);
    }
    return lines;
  } finally {
    await session.end();
  }
}

/** Lines of one side alone, in the order of text, the left side's first where they meet. */
export function difference(
  left: readonly string[],
  right: readonly string[],
): { side: '-' | '+'; line: string }[] {
  const [inLeft, inRight] = [new Set(left), new Set(right)];
  const only = [
    ...left.filter(line => !inRight.has(line)).map(line => ({ side: '-' as const, line })),
    ...right.filter(line => !inLeft.has(line)).map(line => ({ side: '+' as const, line })),
  ];
  // `rows of t: 10 ...` and `rows of t: 12 ...` are about one thing: the left side's first.
  const about = (line: string): string => line.split(': ')[0]!;
  return only.toSorted((a, b) => {
    const [x, y] = [about(a.line), about(b.line)];
    return x < y ? -1 : x > y ? 1 : a.side === b.side ? 0 : a.side === '-' ? -1 : 1;
  });
}

export const branchDiff: Verb = {
  name: 'branch diff',
  summary: 'say what differs between two branches',
  arguments: [
    { name: 'left', help: 'a branch or a compute' },
    { name: 'right', help: 'another; without it the default branch', optional: true },
  ],
  options: [
    { flags: '-d, --database NAME', help: 'the database' },
    { flags: '--rows', help: 'compare the rows of every table, too: reads all of them' },
    PROJECT_OPTION,
    ...MANAGER_OPTIONS,
  ],
  examples: [
    { line: 'lakebed branch diff dev main', what: 'schema alone' },
    { line: 'lakebed branch diff dev main --rows', what: 'and which tables hold other rows' },
  ],
  exitCodes: { 1: 'one of them cannot be asked', 3: 'they differ' },
  run: diff,
};

async function diff(input: VerbInput, world: World): Promise<number> {
  const client = await ManagerClient.find(input, world);
  const database = textOption(input, 'database');
  const [left, right] = await Promise.all(
    [input.args[0], input.args[1]].map(async target =>
      linesOf(world, await connectionUri(client, input, target, database), flagOption(input, 'rows')),
    ),
  );
  const found = difference(left!, right!);
  const paint = paintFor(world.terminal.isTerminal, world.environment('NO_COLOR'));
  jsonOr(input, world, { differences: found }, () =>
    found.length === 0
      ? 'No difference.\n'
      : found
          .map(({ side, line }) => `${(side === '-' ? paint.warn : paint.good)(`${side} ${line}`)}\n`)
          .join(''),
  );
  return found.length === 0 ? 0 : 3;
}
