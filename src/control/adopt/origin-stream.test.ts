import { expect, test } from 'vitest';
import { XLOG_BLCKSZ } from '../../xlog/segment.ts';
import { renameTimeline } from './origin-stream.ts';

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
