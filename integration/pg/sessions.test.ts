// Sessions as people have them, by psql: scripts with variables and conditions, copies to and from files, large objects,
// prepared statements, cursors, notices, a listener, errors that end a transaction and do not end the session, users
// and databases of their own; and what a session leaves is there in the next compute.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const majors = majorsHere('psql sessions on Neon computes');

const SCRIPT = `
\\set rows 500
create schema shop;
set search_path = shop;
create table goods (id int generated always as identity primary key, name text unique, price numeric check (price > 0));
insert into goods (name, price) select 'thing ' || i, i * 1.25 from generate_series(1, :rows) i;
prepare cheaper (numeric) as select count(*) from goods where price < $1;
execute cheaper (100);
begin;
declare c cursor for select name from goods order by id;
fetch 2 from c;
move 100 in c;
fetch 1 from c;
commit;
\\set ON_ERROR_STOP off
insert into goods (name, price) values ('wrong', -1);
begin;
insert into goods (name, price) values ('gone', 1);
select 1 / 0;
select 'not run';
commit;
\\set ON_ERROR_STOP on
\\copy goods (name, price) to 'goods.csv' with (format csv, header)
create table copied (name text, price numeric);
\\copy copied from 'goods.csv' with (format csv, header)
select count(*), sum(price) from copied;
\\lo_import 'goods.csv' 'a list'
select length(lo_get(:LASTOID)) > 1000;
\\if true
select 'taken';
\\else
select 'passed over';
\\endif
listen news;
notify news, 'hello';
create view dear as select * from goods where price > 600;
create function twice(n int) returns int language plpgsql as $$ begin return n * 2; end $$;
select twice(21), count(*) from dear;
create role keeper login password 'secret';
grant usage on schema shop to keeper;
grant select on goods to keeper;
set role keeper;
select count(*) from goods;
\\set ON_ERROR_STOP off
delete from goods;
reset role;
explain (costs off) select * from goods where name = 'thing 7';
\\d goods
`;

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      compute = await storage.compute({ major, tenant, timeline });
    });
  });
  afterAll(() => storage.stop());

  const psql = (script: string): Promise<string> => {
    const file = join(compute.dir, 'script.sql');
    writeFileSync(file, script, { mode: 0o644 });
    return compute.program('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', file]);
  };

  test('a script, and what it left', { timeout: 120_000 }, () =>
    storage.during(async () => {
      const said = await psql(SCRIPT);
      for (const expected of [
        '79',
        'thing 1\nthing 2\n',
        'thing 103',
        'violates check constraint',
        'division by zero',
        'current transaction is aborted',
        '500|156562.50',
        'taken',
        'notification "news" with payload "hello"',
        '42|20',
        'permission denied for table goods',
        'goods_name_key',
      ])
        expect(said).toContain(expected);
      expect(said).not.toContain('not run\n');
      expect(said).not.toContain('passed over');
      await compute.stop('SIGKILL');
      await compute.start();
      const left = await psql(`
        set search_path = shop;
        select count(*), min(id), max(id) from goods;
        select count(*) from copied;
        select count(*) from pg_largeobject_metadata;
        select twice(4), count(*) from dear;
        select has_table_privilege('keeper', 'goods', 'select'), has_table_privilege('keeper', 'goods', 'delete');
        insert into goods (name, price) values ('next', 1) returning id > 500;`);
      expect(left.trim().split('\n')).toEqual(['500|1|500', '500', '1', '8|20', 't|f', 't']);
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
