// What a key management service refused or failed to do: a Fault that remembers the service's id of the request,
// so that the audit can name it to the service's owner.

import { Fault, type FaultCode } from './fault.ts';

export type KeyFaultCode = Extract<
  FaultCode,
  'key-disabled' | 'key-destroyed' | 'key-denied' | 'key-unavailable' | 'key-missing' | 'sealed-tampered'
>;

export class KeyFault extends Fault {
  readonly requestId: string | undefined;

  constructor(
    code: KeyFaultCode,
    message: string,
    options: { hint?: string; cause?: unknown; requestId?: string | undefined } = {},
  ) {
    super(code, message, options);
    this.requestId = options.requestId;
  }
}
