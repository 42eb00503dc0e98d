import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex } from '../base/bytes.ts';
import { lsn } from '../base/lsn.ts';
import { NO_FEEDBACK } from './feedback.ts';
import {
  hotStandbyReply,
  interpretedHeader,
  keepalive,
  pageserverReply,
  pgTime,
  pgTimeToUnixMs,
  readWalReceiverMessage,
  readWalSenderMessage,
  standbyReply,
  xlogDataHeader,
} from './replication.ts';

const Y2000 = Date.UTC(2000, 0, 1);

test('times count from 2000 in microseconds', () => {
  expect(pgTime(Y2000)).toBe(0n);
  expect(pgTime(Y2000 + 1.5)).toBe(1500n);
  expect(pgTimeToUnixMs(1500n)).toBe(Y2000 + 1.5);
});

test('the sender’s messages', () => {
  const data = new Uint8Array([...xlogDataHeader(0x1000000, 0x2000000, Y2000 + 1), 7, 8]);
  expect(toHex(data)).toBe('77 0000000001000000 0000000002000000 00000000000003e8 0708'.replaceAll(' ', ''));
  expect(readWalSenderMessage(data)).toEqual({
    kind: 'wal',
    startLsn: 0x1000000,
    endLsn: 0x2000000,
    sentAt: 1000n,
    wal: new Uint8Array([7, 8]),
  });
  const k = keepalive(lsn(16), Y2000, true);
  expect(toHex(k)).toBe('6b 0000000000000010 0000000000000000 01'.replaceAll(' ', ''));
  expect(readWalSenderMessage(k)).toMatchObject({ kind: 'keepalive', endLsn: 16, replyRequested: true });
  expect(readWalSenderMessage(interpretedHeader(lsn(8), lsn(9)))).toMatchObject({
    kind: 'interpreted',
    streamingLsn: 8,
    commitLsn: 9,
  });
});

test('the receiver’s messages', () => {
  const reply = {
    writeLsn: lsn(3),
    flushLsn: lsn(2),
    applyLsn: lsn(1),
    replyTime: 5n,
    replyRequested: false,
  };
  expect(readWalReceiverMessage(standbyReply(reply))).toEqual({ kind: 'standby-reply', ...reply });
  const feedback = { ...NO_FEEDBACK, remoteConsistentLsn: lsn(77), shardNumber: 2 };
  expect(readWalReceiverMessage(pageserverReply(feedback))).toEqual({ kind: 'pageserver', feedback });
  expect(readWalReceiverMessage(fromHex('71'))).toBeUndefined();
});

test('a hot standby’s xmin travels as xid, epoch; zero xid is none', () => {
  const bytes = fromHex('68 0000000000000001 000002aa 00000005 00000000 00000005'.replaceAll(' ', ''));
  expect(readWalReceiverMessage(bytes)).toEqual({
    kind: 'hot-standby',
    ts: 1n,
    xmin: (5n << 32n) | 0x2aan,
    catalogXmin: 0n,
  });
  expect(toHex(hotStandbyReply({ ts: 1n, xmin: (5n << 32n) | 0x2aan, catalogXmin: 0n })).slice(0, 34)).toBe(
    toHex(bytes).slice(0, 34),
  );
});

test('any bytes give a message or a Fault', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), bytes => {
      for (const read of [readWalReceiverMessage, readWalSenderMessage]) {
        try {
          read(bytes);
        } catch (error) {
          expect((error as Error).name).toBe('Fault');
        }
      }
    }),
  );
});
