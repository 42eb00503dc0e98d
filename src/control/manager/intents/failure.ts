// Why an operation failed, as its caller is told: the Fault that ended it, where it says what the caller may do.
//
//   error   <code>: <message>[ <hint>]        as reconcile.ts keeps it

import { Fault, type FaultCode } from '../../../base/fault.ts';
import type { Operation } from '../model.ts';

const ERROR = /^([a-z-]+): ([\s\S]*)$/;
/** Told as they are; all else is trouble of ours. */
const REFUSALS: ReadonlySet<string> = new Set<FaultCode>([
  'key-revoked',
  'key-disabled',
  'key-destroyed',
  'key-denied',
  'branch-lsn-invalid',
  'request-invalid',
  'pageserver-refused',
  'driver-missing',
]);

export function failureOf({ action, error = '' }: Operation): Fault {
  const [, code = '', words = error] = ERROR.exec(error) ?? [];
  if (REFUSALS.has(code)) return new Fault(code as FaultCode, words);
  return new Fault('compute-failed', `${action} failed: ${words}`);
}
