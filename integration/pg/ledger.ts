// Clients that write and know what was acknowledged. Each transaction books one amount twice, once off and once on, and
// is known by (client, seq). Afterwards: everything acknowledged is there, nothing is half there, and what was in
// flight when the connection broke is there whole or not at all.
//
// Clients go on through failures: they connect again, to whatever compute `target` names, until told to stop.

import type pg from 'pg';
import type { Compute } from './compute.ts';

export interface LedgerReport {
  readonly acknowledged: number;
  readonly found: number;
  /** Acknowledged and not there. */
  readonly lost: readonly string[];
  /** One side of a booking without the other, or a seq that was never sent. */
  readonly strange: readonly string[];
}

export class Ledger {
  /** The compute that clients write through; may be changed while they run. */
  target: Compute;
  private readonly clients: LedgerClient[] = [];

  constructor(target: Compute) {
    this.target = target;
  }

  static async create(compute: Compute, clients: number): Promise<Ledger> {
    await compute.query(`
      create table booking (client int, seq int, side int, amount int, pad text, primary key (client, seq, side));
      create index on booking (amount);
      create table balance (account int primary key, amount bigint) with (fillfactor = 50);
      insert into balance select i, 0 from generate_series(1, 100) i;`);
    const ledger = new Ledger(compute);
    for (let i = 0; i < clients; i++) ledger.clients.push(new LedgerClient(i, () => ledger.target));
    return ledger;
  }

  start(): void {
    for (const client of this.clients) client.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.clients.map(c => c.stop()));
  }

  get acknowledged(): number {
    return this.clients.reduce((sum, c) => sum + c.acknowledged.size, 0);
  }

  /** The longest time between two acknowledgements of any client since the last call. */
  longestGapMs(): number {
    return Math.max(...this.clients.map(c => c.takeLongestGap()));
  }

  /** Resolves when every client was acknowledged something sent after now. */
  async allProgress(timeoutMs: number): Promise<void> {
    const from = this.clients.map(c => c.seq);
    const end = performance.now() + timeoutMs;
    for (const [i, client] of this.clients.entries()) {
      while (client.lastAcknowledged <= from[i]!) {
        if (performance.now() > end)
          throw new Error(`client ${i} was not acknowledged anything for ${timeoutMs} ms`);
        await new Promise(done => setTimeout(done, 20));
      }
    }
  }

  /** With the clients stopped. */
  async check(compute: Compute): Promise<LedgerReport> {
    const rows = await compute.query<{ client: number; seq: number; sides: number; sum: number }>(
      'select client, seq, count(*)::int as sides, sum(amount)::int as sum from booking group by 1, 2',
    );
    const there = new Set(rows.map(r => `${r.client}/${r.seq}`));
    const strange = rows
      .filter(r => r.sides !== 2 || r.sum !== 0 || r.seq > (this.clients[r.client]?.seq ?? -1))
      .map(r => `${r.client}/${r.seq}: ${r.sides} sides, sum ${r.sum}`);
    const lost: string[] = [];
    for (const client of this.clients) {
      for (const seq of client.acknowledged)
        if (!there.has(`${client.id}/${seq}`)) lost.push(`${client.id}/${seq}`);
    }
    const [total] = await compute.query<{ sum: string }>('select sum(amount)::text as sum from balance');
    if (total!.sum !== '0') strange.push(`the balances sum up to ${total!.sum}`);
    return { acknowledged: this.acknowledged, found: rows.length, lost, strange };
  }
}

class LedgerClient {
  readonly id: number;
  readonly acknowledged = new Set<number>();
  /** The last one sent. */
  seq = 0;
  lastAcknowledged = 0;
  private readonly target: () => Compute;
  private running: Promise<void> | undefined;
  private stopping = false;
  private lastAckMs = 0;
  private longestGap = 0;

  constructor(id: number, target: () => Compute) {
    this.id = id;
    this.target = target;
  }

  start(): void {
    this.stopping = false;
    this.lastAckMs = performance.now();
    this.running = this.run();
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.running;
  }

  takeLongestGap(): number {
    const gap = Math.max(this.longestGap, performance.now() - this.lastAckMs);
    this.longestGap = 0;
    return gap;
  }

  private async run(): Promise<void> {
    let client: pg.Client | undefined;
    while (!this.stopping) {
      try {
        client ??= await this.target().connect();
        await this.book(client);
      } catch {
        if (client) void client.end().catch(() => {});
        client = undefined;
        await new Promise(done => setTimeout(done, 20));
      }
    }
    if (client) await client.end().catch(() => {});
  }

  private async book(client: pg.Client): Promise<void> {
    const seq = ++this.seq;
    const amount = (seq % 1000) + 1;
    const [from, to] = [(seq % 100) + 1, ((seq * 7 + this.id) % 100) + 1].sort((a, b) => a - b);
    await client.query('begin');
    try {
      await client.query(
        `insert into booking values (${this.id}, ${seq}, 0, ${-amount}, repeat('x', ${seq % 200})), (${this.id}, ${seq}, 1, ${amount}, '')`,
      );
      await client.query(`update balance set amount = amount - ${amount} where account = ${from}`);
      await client.query(`update balance set amount = amount + ${amount} where account = ${to}`);
      await client.query('commit');
    } catch (error) {
      await client.query('rollback').catch(() => {});
      throw error;
    }
    this.acknowledged.add(seq);
    this.lastAcknowledged = seq;
    const now = performance.now();
    this.longestGap = Math.max(this.longestGap, now - this.lastAckMs);
    this.lastAckMs = now;
  }
}
