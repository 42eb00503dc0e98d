// A client of the page service as thin as it can be, so that what is measured is the server: requests are written as
// bytes made beforehand, answers are counted by their length and not read.

import { connect, type Socket } from 'node:net';
import { PAGE_BYTES } from '../../src/protocol/pagestream.ts';
import { frame, PROTOCOL_3_0, startupPacket, TAG } from '../../src/protocol/pq-frame.ts';

export interface PageTarget {
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
  readonly blocks: number;
}

const REQUEST_BYTES = 5 + 42;
const ANSWER_BYTES = 5 + 42 + PAGE_BYTES;

export class PageClient {
  private readonly socket: Socket;
  private readonly target: PageTarget;
  private readonly random: () => number;
  private received = 0;
  private wanted = 0;
  private wake: () => void = () => {};

  private constructor(socket: Socket, target: PageTarget, random: () => number) {
    this.socket = socket;
    this.target = target;
    this.random = random;
    socket.on('data', bytes => {
      this.received += bytes.length;
      if (this.received >= this.wanted) this.wake();
    });
  }

  static async open(
    port: number,
    ids: { tenant: string; timeline: string },
    target: PageTarget,
    random: () => number,
  ): Promise<PageClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const until = async (tag: string): Promise<void> => {
      for (let seen = ''; !seen.includes(tag); ) {
        seen += (await new Promise<Buffer>(done => socket.once('data', done))).toString('latin1');
      }
    };
    socket.write(startupPacket(PROTOCOL_3_0, ['user', 'bench']));
    await until('Z\0\0\0\x05I');
    socket.write(frame(TAG.query, Buffer.from(`pagestream_v3 ${ids.tenant} ${ids.timeline}\0`)));
    await until('W');
    return new PageClient(socket, target, random);
  }

  /** Resolves when the server has everything up to an LSN: it answers with a page then. */
  reached(lsn: number): Promise<void> {
    return this.pages(1, lsn);
  }

  /**
   * Ask for `count` pages at once, anywhere in the relation, as new as `since` at least; resolves when all are there.
   */
  pages(count: number, since = 8): Promise<void> {
    const { spcOid, dbOid, relNumber, blocks } = this.target;
    const bytes = Buffer.alloc(REQUEST_BYTES * count);
    for (let i = 0; i < count; i++) {
      const at = i * REQUEST_BYTES;
      bytes[at] = TAG.copyData;
      bytes.writeUInt32BE(REQUEST_BYTES - 1, at + 1);
      bytes[at + 5] = 2;
      bytes.fill(0xff, at + 14, at + 22);
      bytes.writeUInt32BE(Math.floor(since / 2 ** 32), at + 22);
      bytes.writeUInt32BE(since % 2 ** 32, at + 26);
      bytes.writeUInt32BE(spcOid, at + 30);
      bytes.writeUInt32BE(dbOid, at + 34);
      bytes.writeUInt32BE(relNumber, at + 38);
      bytes.writeUInt32BE(Math.floor(this.random() * blocks), at + 43);
    }
    this.received = 0;
    this.wanted = ANSWER_BYTES * count;
    return new Promise(done => {
      this.wake = done;
      this.socket.write(bytes);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
