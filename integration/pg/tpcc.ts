// A load after TPC-C: an order entry business of warehouses, districts, customers, stock and orders, with its five
// transactions in their proportions and its consistency conditions (TPC-C 3.3.2), which hold at every LSN. Small
// tables, so that what is hot is hot and what grows grows.

import type pg from 'pg';
import type { Random } from '../../src/base/ports.ts';
import type { Compute } from './compute.ts';

export const DISTRICTS = 10;
export const CUSTOMERS = 60;
export const ITEMS = 1000;

const SETUP = `
  create table warehouse (w_id int primary key, w_tax numeric(4,4), w_ytd numeric(14,2)) with (fillfactor = 50);
  create table district (d_w_id int, d_id int, d_tax numeric(4,4), d_ytd numeric(14,2), d_next_o_id int,
    primary key (d_w_id, d_id)) with (fillfactor = 50);
  create table customer (c_w_id int, c_d_id int, c_id int, c_last text, c_balance numeric(14,2), c_ytd numeric(14,2),
    c_payments int, c_deliveries int, c_data text, primary key (c_w_id, c_d_id, c_id));
  create index on customer (c_w_id, c_d_id, c_last);
  create table history (h_c_id int, h_d_id int, h_w_id int, h_date timestamptz default now(), h_amount numeric(8,2));
  create table item (i_id int primary key, i_name text, i_price numeric(8,2));
  create table stock (s_w_id int, s_i_id int, s_quantity int, s_ytd bigint, s_orders int, s_data text,
    primary key (s_w_id, s_i_id));
  create table orders (o_w_id int, o_d_id int, o_id int, o_c_id int, o_entry timestamptz default now(), o_carrier int,
    o_lines int, primary key (o_w_id, o_d_id, o_id));
  create index on orders (o_w_id, o_d_id, o_c_id, o_id);
  create table new_order (no_w_id int, no_d_id int, no_o_id int, primary key (no_w_id, no_d_id, no_o_id));
  create table order_line (ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_delivered timestamptz,
    ol_quantity int, ol_amount numeric(8,2), primary key (ol_w_id, ol_d_id, ol_o_id, ol_number));
  insert into item select i, 'item ' || md5(i::text), 1 + i % 100 from generate_series(1, ${ITEMS}) i;`;

export async function setUp(compute: Compute, warehouses: number): Promise<void> {
  await compute.query(SETUP);
  await compute.query(`
    insert into warehouse select w, 0.05, 0 from generate_series(1, ${warehouses}) w;
    insert into district select w, d, 0.07, 0, 1 from generate_series(1, ${warehouses}) w, generate_series(1, ${DISTRICTS}) d;
    insert into customer select w, d, c, 'name' || c % 20, 0, 0, 0, 0, repeat(md5(c::text), 8)
      from generate_series(1, ${warehouses}) w, generate_series(1, ${DISTRICTS}) d, generate_series(1, ${CUSTOMERS}) c;
    insert into stock select w, i, 50, 0, 0, md5(i::text) from generate_series(1, ${warehouses}) w, generate_series(1, ${ITEMS}) i;`);
}

/** One client's transaction, drawn as TPC-C has it: 45 new orders, 43 payments, 4 of each other. */
export async function transact(client: pg.Client, warehouses: number, random: Random): Promise<void> {
  const draw = random.below(100);
  const w = 1 + random.below(warehouses);
  const d = 1 + random.below(DISTRICTS);
  const c = 1 + random.below(CUSTOMERS);
  if (draw < 45) await newOrder(client, w, d, c, random);
  else if (draw < 88) await payment(client, w, d, c, random);
  else if (draw < 92) await orderStatus(client, w, d, c);
  else if (draw < 96) await delivery(client, w, random);
  else await stockLevel(client, w, d);
}

async function within(client: pg.Client, body: () => Promise<boolean>): Promise<void> {
  await client.query('begin');
  try {
    await client.query((await body()) ? 'commit' : 'rollback');
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  }
}

function newOrder(client: pg.Client, w: number, d: number, c: number, random: Random): Promise<void> {
  return within(client, async () => {
    const { rows } = await client.query(
      'update district set d_next_o_id = d_next_o_id + 1 where d_w_id = $1 and d_id = $2 returning d_next_o_id - 1 as o',
      [w, d],
    );
    const o = rows[0].o as number;
    const lines = 5 + random.below(11);
    await client.query('insert into orders values ($1, $2, $3, $4, now(), null, $5)', [w, d, o, c, lines]);
    await client.query('insert into new_order values ($1, $2, $3)', [w, d, o]);
    // In order, so that two orders never wait for each other in a circle.
    const items = Array.from({ length: lines }, () => 1 + random.below(ITEMS)).sort((a, b) => a - b);
    for (const [n, i] of items.entries()) {
      const quantity = 1 + random.below(10);
      await client.query(
        `update stock set s_quantity = case when s_quantity >= $3 + 10 then s_quantity - $3 else s_quantity - $3 + 91 end,
           s_ytd = s_ytd + $3, s_orders = s_orders + 1 where s_w_id = $1 and s_i_id = $2`,
        [w, i, quantity],
      );
      await client.query(
        'insert into order_line select $1::int, $2::int, $3::int, $4::int, i_id, null, $6::int, i_price * $6::int from item where i_id = $5',
        [w, d, o, n + 1, i, quantity],
      );
    }
    // One order in a hundred names an item that is not there: all of it is taken back.
    return random.below(100) !== 0;
  });
}

function payment(client: pg.Client, w: number, d: number, c: number, random: Random): Promise<void> {
  const amount = 1 + random.below(5000);
  return within(client, async () => {
    await client.query('update district set d_ytd = d_ytd + $3 where d_w_id = $1 and d_id = $2', [
      w,
      d,
      amount,
    ]);
    await client.query('update warehouse set w_ytd = w_ytd + $2 where w_id = $1', [w, amount]);
    await client.query(
      `update customer set c_balance = c_balance - $4, c_ytd = c_ytd + $4, c_payments = c_payments + 1
       where c_w_id = $1 and c_d_id = $2 and c_id = $3`,
      [w, d, c, amount],
    );
    await client.query('insert into history values ($1, $2, $3, now(), $4)', [c, d, w, amount]);
    return true;
  });
}

async function orderStatus(client: pg.Client, w: number, d: number, c: number): Promise<void> {
  await client.query(
    `select ol.* from order_line ol join (select max(o_id) as o from orders where o_w_id = $1 and o_d_id = $2 and o_c_id = $3) m
       on ol_w_id = $1 and ol_d_id = $2 and ol_o_id = m.o`,
    [w, d, c],
  );
}

function delivery(client: pg.Client, w: number, random: Random): Promise<void> {
  return within(client, async () => {
    for (let d = 1; d <= DISTRICTS; d++) {
      const { rows } = await client.query(
        `delete from new_order where (no_w_id, no_d_id, no_o_id) in
           (select no_w_id, no_d_id, no_o_id from new_order where no_w_id = $1 and no_d_id = $2 order by no_o_id limit 1 for update skip locked)
         returning no_o_id as o`,
        [w, d],
      );
      if (rows.length === 0) continue;
      const o = rows[0].o as number;
      await client.query('update orders set o_carrier = $4 where o_w_id = $1 and o_d_id = $2 and o_id = $3', [
        w,
        d,
        o,
        1 + random.below(10),
      ]);
      await client.query(
        'update order_line set ol_delivered = now() where ol_w_id = $1 and ol_d_id = $2 and ol_o_id = $3',
        [w, d, o],
      );
      await client.query(
        `update customer set c_deliveries = c_deliveries + 1, c_balance = c_balance +
           (select sum(ol_amount) from order_line where ol_w_id = $1 and ol_d_id = $2 and ol_o_id = $3)
         where c_w_id = $1 and c_d_id = $2 and c_id = (select o_c_id from orders where o_w_id = $1 and o_d_id = $2 and o_id = $3)`,
        [w, d, o],
      );
    }
    return true;
  });
}

async function stockLevel(client: pg.Client, w: number, d: number): Promise<void> {
  await client.query(
    `select count(distinct s_i_id) from order_line join stock on s_w_id = ol_w_id and s_i_id = ol_i_id
     where ol_w_id = $1 and ol_d_id = $2 and s_quantity < 15
       and ol_o_id >= (select d_next_o_id - 20 from district where d_w_id = $1 and d_id = $2)`,
    [w, d],
  );
}

/** Each counts what breaks one of the conditions. */
const CONDITIONS: Readonly<Record<string, string>> = {
  'a warehouse has what its districts have': `
    select count(*) from warehouse where w_ytd <> (select sum(d_ytd) from district where d_w_id = w_id)`,
  'a district has what its history says': `
    select count(*) from district where d_ytd <>
      (select coalesce(sum(h_amount), 0) from history where h_w_id = d_w_id and h_d_id = d_id)`,
  'the next order follows the last one': `
    select count(*) from district where d_next_o_id - 1 <>
      (select coalesce(max(o_id), 0) from orders where o_w_id = d_w_id and o_d_id = d_id)`,
  'no order between the first and the last is missing': `
    select count(*) from district where d_next_o_id - 1 <>
      (select count(*) from orders where o_w_id = d_w_id and o_d_id = d_id)`,
  'every order has its lines': `
    select count(*) from orders where o_lines <>
      (select count(*) from order_line where ol_w_id = o_w_id and ol_d_id = o_d_id and ol_o_id = o_id)`,
  'what has no carrier is new': `
    select count(*) from orders where (o_carrier is null) <> exists
      (select from new_order where no_w_id = o_w_id and no_d_id = o_d_id and no_o_id = o_id)`,
  'a line is delivered when its order is': `
    select count(*) from order_line join orders on o_w_id = ol_w_id and o_d_id = ol_d_id and o_id = ol_o_id
    where (ol_delivered is null) <> (o_carrier is null)`,
  'a balance is what was delivered without what was paid': `
    select count(*) from customer where c_balance + c_ytd <> (select coalesce(sum(ol_amount), 0) from orders
      join order_line on ol_w_id = o_w_id and ol_d_id = o_d_id and ol_o_id = o_id
      where o_w_id = c_w_id and o_d_id = c_d_id and o_c_id = c_id and o_carrier is not null)`,
  'stock went where order lines say': `
    select count(*) from stock where s_ytd <>
      (select coalesce(sum(ol_quantity), 0) from order_line where ol_w_id = s_w_id and ol_i_id = s_i_id)`,
};

/** The conditions that do not hold. */
export async function violations(compute: Compute): Promise<string[]> {
  const broken: string[] = [];
  // Hash joins instead of a walk per row.
  await compute.query('analyze').catch(() => {});
  for (const [name, sql] of Object.entries(CONDITIONS)) {
    const [row] = await compute.query<{ count: string }>(sql);
    if (row!.count !== '0') broken.push(`${name}: not so ${row!.count} times`);
  }
  return broken;
}
