// LogicalMessage (21): messages that extensions and users put into the log. Postgres's redo passes them over;
// Neon's computes send the files that must outlive them this way.
//
//   MESSAGE   0 dbId u32 | 4 transactional u8 | 8 prefix_size u64 | 16 message_size u64 | 24 prefix, message
//   the prefix's size counts the zero that ends it
//
// Mirrors logicalmsg_redo of message.c and logicalmsg_desc of logicalmsgdesc.c. Alike in 14 to 18.

import { badRecord, type WalRecord } from '../record.ts';
import type { Rmgr } from '../rmgr.ts';
import { arrayEnd, copyOf, mainAt, readText, readUint64 } from './main-data.ts';

export const RM_LOGICALMSG_ID = 21;
export const XLOG_LOGICAL_MESSAGE = 0x00;

const SIZE_OF_LOGICAL_MESSAGE = 24;

/** Where the message begins, once prefix and message are known to be there. */
function messageAt(record: WalRecord): number {
  const at = mainAt(record, SIZE_OF_LOGICAL_MESSAGE, 'xl_logical_message');
  const prefixSize = readUint64(record.view, at + 8);
  const prefixAt = at + SIZE_OF_LOGICAL_MESSAGE;
  const message = arrayEnd(record, prefixAt, prefixSize, 1, 'bytes of prefix');
  if (prefixSize === 0 || record.bytes[message - 1] !== 0) throw badRecord(record, 'a prefix without an end');
  arrayEnd(record, message, readUint64(record.view, at + 16), 1, 'bytes of message');
  return message;
}

const prefixOf = (record: WalRecord, message: number): string =>
  readText(record, record.mainOffset + SIZE_OF_LOGICAL_MESSAGE, message);

/** The message's bytes as a copy. */
const messageOf = (record: WalRecord, message: number): Uint8Array =>
  copyOf(record, message, message + readUint64(record.view, record.mainOffset + 16));

const isTransactional = (record: WalRecord): boolean => record.view.getUint8(record.mainOffset + 4) !== 0;

export const logicalmsg14: Rmgr = {
  id: RM_LOGICALMSG_ID,
  name: 'LogicalMessage',
  opMask: 0xf0,
  ops: {
    [XLOG_LOGICAL_MESSAGE]: {
      name: 'MESSAGE',
      effects: (record, emit) => {
        const message = messageAt(record);
        emit({
          kind: 'logical-message',
          dbOid: record.view.getUint32(record.mainOffset, true),
          transactional: isTransactional(record),
          prefix: prefixOf(record, message),
          message: messageOf(record, message),
        });
      },
      describe: record => {
        const message = messageAt(record);
        const bytes = messageOf(record, message);
        const hex = Array.from(bytes, byte => byte.toString(16).toUpperCase().padStart(2, '0')).join(' ');
        return (
          `${isTransactional(record) ? 'transactional' : 'non-transactional'}, ` +
          `prefix "${prefixOf(record, message)}"; payload (${bytes.length} bytes): ${hex}`
        );
      },
    },
  },
};
export const logicalmsg15 = logicalmsg14;
export const logicalmsg16 = logicalmsg15;
export const logicalmsg17 = logicalmsg16;
export const logicalmsg18 = logicalmsg17;
