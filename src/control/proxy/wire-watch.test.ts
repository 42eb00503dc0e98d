// What is seen of frames that pass: the key, and whether a session is at work; at any chunking.

import { describe, expect, test } from 'vitest';
import { concatBytes, utf8 } from '../../base/bytes.ts';
import { frame, TAG, tagOf } from '../../protocol/pq-frame.ts';
import { SessionWatch } from './wire-watch.ts';

const KEY = new Uint8Array([0, 0, 1, 2, 9, 8, 7, 6]);
const SPARE = Uint8Array.from({ length: 260 }, (_, i) => 100 + (i % 100));
const ready = (status = 'I'): Uint8Array => frame(TAG.readyForQuery, utf8(status));
const query = frame(TAG.query, utf8('select 1\0'));
const sync = frame(TAG.sync);

function loggedIn(): SessionWatch {
  const watch = new SessionWatch(SPARE);
  watch.fromClient(frame(TAG.password, utf8('secret\0')));
  watch.fromCompute(concatBytes([frame(TAG.authentication, new Uint8Array(4)), ready()]));
  expect(watch.isBusy).toBe(false);
  return watch;
}

describe('the cancel key', () => {
  for (const size of [1, 2, 3, 7, 1000]) {
    test(`is replaced by ours in chunks of ${size}, and nothing else is changed`, () => {
      const watch = new SessionWatch(SPARE);
      const said = (key: Uint8Array): Uint8Array =>
        concatBytes([
          frame(TAG.authentication, new Uint8Array(4)),
          frame(TAG.parameterStatus, utf8('K\0Z\0')),
          frame(TAG.backendKeyData, key),
          ready(),
          frame(TAG.dataRow, utf8('K....')),
        ]);
      const passed = said(KEY);
      for (let at = 0; at < passed.length; at += size) watch.fromCompute(passed.subarray(at, at + size));
      expect(watch.key).toEqual(KEY);
      expect(watch.ownKey).toEqual(SPARE.subarray(0, KEY.length));
      expect(passed).toEqual(said(SPARE.subarray(0, KEY.length)));
    });
  }
});

describe('a session is at work', () => {
  test('until it has logged in', () => {
    expect(new SessionWatch(SPARE).isBusy).toBe(true);
    loggedIn();
  });

  test('from a query to its end', () => {
    const watch = loggedIn();
    watch.fromClient(query.slice(0, 3));
    watch.fromClient(query.slice(3));
    expect(watch.isBusy).toBe(true);
    watch.fromCompute(frame(TAG.dataRow, new Uint8Array(100)));
    expect(watch.isBusy).toBe(true);
    watch.fromCompute(ready());
    expect(watch.isBusy).toBe(false);
  });

  test('until the last of several queries sent ahead', () => {
    const watch = loggedIn();
    watch.fromClient(concatBytes([query, frame(tagOf('P'), utf8('\0\0\0')), sync, query]));
    watch.fromCompute(concatBytes([ready(), ready()]));
    expect(watch.isBusy).toBe(true);
    watch.fromCompute(ready());
    expect(watch.isBusy).toBe(false);
  });

  test('while a transaction is open, failed or not', () => {
    const watch = loggedIn();
    for (const status of ['T', 'E']) {
      watch.fromClient(query);
      watch.fromCompute(ready(status));
      expect(watch.isBusy).toBe(true);
    }
    watch.fromClient(query);
    watch.fromCompute(ready());
    expect(watch.isBusy).toBe(false);
  });

  test('through a COPY of the extended protocol, whose first Sync Postgres drops', () => {
    const watch = loggedIn();
    watch.fromClient(concatBytes([frame(tagOf('P')), frame(tagOf('B')), frame(tagOf('E')), sync]));
    watch.fromCompute(frame(TAG.copyInResponse, new Uint8Array(3)));
    expect(watch.isBusy).toBe(true);
    watch.fromClient(concatBytes([frame(TAG.copyData, new Uint8Array(9)), frame(TAG.copyDone), sync]));
    watch.fromCompute(ready());
    expect(watch.isBusy).toBe(false);
  });

  test('through a COPY of the simple protocol', () => {
    const watch = loggedIn();
    watch.fromClient(query);
    watch.fromCompute(frame(TAG.copyInResponse, new Uint8Array(3)));
    watch.fromClient(concatBytes([frame(TAG.copyData, new Uint8Array(9)), frame(TAG.copyDone)]));
    expect(watch.isBusy).toBe(true);
    watch.fromCompute(ready());
    expect(watch.isBusy).toBe(false);
  });
});
