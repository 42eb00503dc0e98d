// A network between two processes that can be cut: a port of its own that forwards to another, both ways.
//
//   through     bytes flow
//   silent      as behind a firewall that drops: connections stay, new ones are taken, no byte arrives until healed
//   refused     as with a cable pulled and the other end told: connections are reset, new ones too
//
// What was sent while it was silent arrives after the healing, in order, as TCP would have it sent again.

import { createServer, type Server, Socket } from 'node:net';

export type WireState = 'through' | 'silent' | 'refused';

export class Wire {
  readonly name: string;
  readonly port: number;
  state: WireState = 'through';
  private readonly server: Server;
  private readonly target: number;
  private readonly ends = new Set<Socket>();
  /** Taken while silent: connected onwards when healed. */
  private waiting: Socket[] = [];

  private constructor(name: string, server: Server, target: number) {
    this.name = name;
    this.server = server;
    this.target = target;
    this.port = (server.address() as { port: number }).port;
    server.on('connection', near => this.accept(near));
  }

  static async to(name: string, target: number): Promise<Wire> {
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    await new Promise<void>((done, failed) => {
      server.once('error', failed);
      server.listen(0, '127.0.0.1', done);
    });
    return new Wire(name, server, target);
  }

  private accept(near: Socket): void {
    this.watch(near);
    if (this.state === 'refused') near.resetAndDestroy();
    else if (this.state === 'silent') this.waiting.push(near);
    else this.join(near);
  }

  private watch(end: Socket): void {
    this.ends.add(end);
    end.on('error', () => {});
    end.on('close', () => this.ends.delete(end));
  }

  private join(near: Socket): void {
    if (near.destroyed) return;
    const far = new Socket();
    this.watch(far);
    far.setNoDelay(true);
    far.connect(this.target, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', piece => {
        if (!to.write(piece)) from.pause();
      });
      to.on('drain', () => {
        if (this.state === 'through') from.resume();
      });
      from.on('end', () => to.end());
      from.on('close', () => to.destroy());
    }
    near.resume();
  }

  cut(state: Exclude<WireState, 'through'>): void {
    this.state = state;
    for (const end of this.ends) {
      if (state === 'silent') end.pause();
      else end.resetAndDestroy();
    }
  }

  heal(): void {
    this.state = 'through';
    const waiting = this.waiting;
    this.waiting = [];
    for (const near of waiting) this.join(near);
    for (const end of this.ends) end.resume();
  }

  async close(): Promise<void> {
    for (const end of this.ends) end.destroy();
    await new Promise(done => this.server.close(done));
  }
}
