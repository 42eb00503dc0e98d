// Counts the bytes of one connection. Who is at the other end is known only after the first packet, so what came
// before is kept until `assign` says which counters it goes to; the counters may belong to many connections.

import type { Cell } from '../base/metrics.ts';
import type { Connection } from '../base/ports.ts';

export interface TrafficCells {
  readonly read: Cell;
  readonly written: Cell;
}

export class Traffic {
  private cells: TrafficCells | undefined;
  private readBefore = 0;
  private writtenBefore = 0;

  assign(cells: TrafficCells): void {
    if (this.cells) return;
    this.cells = cells;
    cells.read.inc(this.readBefore);
    cells.written.inc(this.writtenBefore);
  }

  read(bytes: number): void {
    if (this.cells) this.cells.read.inc(bytes);
    else this.readBefore += bytes;
  }

  written(bytes: number): void {
    if (this.cells) this.cells.written.inc(bytes);
    else this.writtenBefore += bytes;
  }
}

/** The same connection, counted. */
export function counted(connection: Connection, traffic: Traffic): Connection {
  return {
    peer: connection.peer,
    secure: connection.secure === true,
    async read() {
      const bytes = await connection.read();
      if (bytes) traffic.read(bytes.length);
      return bytes;
    },
    write(bytes) {
      traffic.written(bytes.length);
      return connection.write(bytes);
    },
    end: () => connection.end(),
    destroy: () => connection.destroy(),
    ...(connection.upgradeTls && {
      upgradeTls: async () => counted(await connection.upgradeTls!(), traffic),
    }),
  };
}
