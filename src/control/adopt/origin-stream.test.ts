import { expect, test } from 'vitest';
import type { Lsn } from '../../base/lsn.ts';
import { hostClock } from '../../host/clock.ts';
import type { PqClient } from '../../protocol/pq-client.ts';
import { XLOG_BLCKSZ } from '../../xlog/segment.ts';
import { OriginStream, renameTimeline } from './origin-stream.ts';

test('the timeline is renamed in every page header and nowhere else, however the log is cut', () => {
  const start = 5 * XLOG_BLCKSZ;
  const log = new Uint8Array(3 * XLOG_BLCKSZ + 100).fill(0xaa);
  const wanted = log.slice();
  for (let page = 0; page < log.length; page += XLOG_BLCKSZ) {
    log.set([2, 0, 0, 0], page + 4);
    wanted.set([1, 0, 0, 0], page + 4);
  }
  for (const piece of [1, 3, 6, 4096, 8191, 8192, 131_072]) {
    const copy = log.slice();
    for (let at = 0; at < copy.length; at += piece) renameTimeline(copy.subarray(at, at + piece), start + at);
    expect(Buffer.compare(copy, wanted), `pieces of ${piece}`).toBe(0);
  }
});

test('a stream that nobody wants any more when it begins is cut at once', async () => {
  const enough = new AbortController();
  let isCut = false;
  const client = {
    query: async () => ({ rows: [['7', '1', '0/3000000']] }),
    copyBoth: async () => {
      enough.abort(new Error('caught up'));
      return { destroy: () => (isCut = true), read: async () => undefined, write: async () => undefined };
    },
  } as unknown as PqClient;
  const stream = new OriginStream(
    {
      ...{ systemIdentifier: '7', timelineId: 1, slot: 's', pgVersion: 170_000, walSegmentSize: 2 ** 24 },
      ...{ start: 0x300_0000 as Lsn, take: async () => undefined, commitLsn: () => 0x300_0000 as Lsn },
    },
    hostClock,
  );
  await expect(stream.run(client, enough.signal)).rejects.toThrow('caught up');
  expect(isCut).toBe(true);
});
