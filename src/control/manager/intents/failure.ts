// Why an operation failed, as its caller is told: the Fault that ended it, where it says what the caller may do.
//
//   error   <code>: <message>[\n<hint>]       as an operation keeps it

import { Fault, type FaultCode, isFault } from '../../../base/fault.ts';
import type { Operation } from '../model.ts';

const ERROR = /^([a-z-]+): ([^\n]*)(?:\n([\s\S]*))?$/;
/** Told as they are; all else is trouble of ours. */
const REFUSALS: ReadonlySet<string> = new Set<FaultCode>([
  'key-revoked',
  'key-unavailable',
  'key-disabled',
  'key-destroyed',
  'key-denied',
  'branch-lsn-invalid',
  'request-invalid',
  'pageserver-refused',
  'driver-missing',
]);

export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message.replaceAll('\n', ' ');
  if (!isFault(error)) return message;
  return `${error.code}: ${message}${error.hint === undefined ? '' : `\n${error.hint}`}`;
}

export function failureOf({ action, error = '' }: Operation): Fault {
  const [, code = '', words = error, hint] = ERROR.exec(error) ?? [];
  const options = hint === undefined ? {} : { hint };
  if (REFUSALS.has(code)) return new Fault(code as FaultCode, words, options);
  return new Fault('compute-failed', `${action} failed: ${words}`, options);
}
