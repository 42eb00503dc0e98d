// Expected trouble. A Fault's `kind` tells the caller what it may do about it; its `code` is one of a fixed
// table, so that logs, tests and clients can name it. Services map kinds to SQLSTATE and HTTP status in one
// place (`sqlState`, `httpStatus`). A broken promise of ours is a Violation (assert.ts), never a Fault.

/** What a caller may do: retry, fix the call, look elsewhere, reread, stop, take another copy. */
export type FaultKind = 'unavailable' | 'invalid' | 'missing' | 'conflict' | 'closed' | 'corrupt' | 'denied';

/** Every code there is, with its kind. Add a row here; never invent a code at a throw. */
export const FAULTS = {
  // bytes
  'bytes-short': 'corrupt',
  'lsn-invalid': 'invalid',
  'lsn-too-large': 'invalid',
  'id-invalid': 'invalid',
  // xlog
  'wal-page-header': 'corrupt',
  'wal-record': 'corrupt',
  'wal-crc': 'corrupt',
  'wal-end': 'missing',
  'wal-history': 'corrupt',
  'wal-image': 'corrupt',
  'wal-unsupported': 'invalid',
  'wal-redo': 'corrupt',
  'control-file': 'corrupt',
  'relmap-file': 'corrupt',
  'data-directory': 'invalid',
  // seal
  'sealed-tampered': 'corrupt',
  'sealed-format': 'corrupt',
  'key-revoked': 'denied',
  'key-unavailable': 'unavailable',
  'key-disabled': 'denied',
  'key-destroyed': 'denied',
  'key-denied': 'denied',
  'key-missing': 'missing',
  'key-conflict': 'conflict',
  // machine
  'file-missing': 'missing',
  'file-exists': 'conflict',
  'disk-full': 'unavailable',
  'disk-failed': 'closed',
  'blob-missing': 'missing',
  'blob-exists': 'conflict',
  'blob-unavailable': 'unavailable',
  'connection-closed': 'closed',
  'connection-failed': 'unavailable',
  timeout: 'unavailable',
  // wire
  'protocol-violation': 'invalid',
  'command-unknown': 'invalid',
  'reconnect-requested': 'conflict',
  'server-error': 'unavailable',
  'auth-failed': 'denied',
  'token-invalid': 'denied',
  'config-invalid': 'invalid',
  // safekeeper
  'safekeeper-control': 'corrupt',
  'safekeeper-wal': 'corrupt',
  'wal-missing': 'missing',
  'term-changed': 'conflict',
  'generation-mismatch': 'conflict',
  'not-a-member': 'denied',
  'timeline-deleted': 'missing',
  // pageserver
  'layer-corrupt': 'corrupt',
  'relation-missing': 'missing',
  'lsn-collected': 'missing',
  'ids-exhausted': 'closed',
  'worker-failed': 'unavailable',
  'index-part': 'corrupt',
  'layer-removed': 'conflict',
  'generation-stale': 'conflict',
  'tenant-busy': 'unavailable',
  'tenant-broken': 'closed',
  'branch-lsn-invalid': 'invalid',
  'lsn-garbage-collected': 'missing',
  'timeline-has-children': 'conflict',
  'timeline-archived': 'conflict',
  'upcall-failed': 'unavailable',
  'initdb-failed': 'unavailable',
  // services
  'tenant-missing': 'missing',
  'timeline-missing': 'missing',
  'timeline-exists': 'conflict',
  'timeline-poisoned': 'closed',
  'timeline-busy': 'unavailable',
  'shutting-down': 'closed',
  // one machine
  'role-failed': 'unavailable',
  'compute-failed': 'unavailable',
  'pageserver-refused': 'invalid',
  // adoption
  'origin-unfit': 'invalid',
  'origin-diverged': 'conflict',
  // manager
  'catalog-unavailable': 'unavailable',
  'catalog-newer': 'invalid',
  'catalog-locked': 'conflict',
  'project-missing': 'missing',
  'branch-missing': 'missing',
  'endpoint-missing': 'missing',
  'operation-missing': 'missing',
  'role-missing': 'missing',
  'database-missing': 'missing',
  'key-config-missing': 'missing',
  'name-taken': 'conflict',
  'branch-protected': 'conflict',
  'branch-has-children': 'conflict',
  'in-use': 'conflict',
  'request-invalid': 'invalid',
  'endpoint-disabled': 'denied',
  'driver-missing': 'unavailable',
  'node-missing': 'unavailable',
  'compute-refused': 'conflict',
  'route-unknown': 'missing',
} as const satisfies Record<string, FaultKind>;

export type FaultCode = keyof typeof FAULTS;

export class Fault extends Error {
  override readonly name = 'Fault';
  readonly code: FaultCode;
  readonly kind: FaultKind;
  /** What the reader may do about it, as a full sentence. */
  readonly hint: string | undefined;

  constructor(code: FaultCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.kind = FAULTS[code];
    this.hint = options.hint;
  }
}

export function isFault(error: unknown, code?: FaultCode): error is Fault {
  return error instanceof Fault && (code === undefined || error.code === code);
}

const SQLSTATE: Record<FaultKind, string> = {
  unavailable: '57P03',
  invalid: '22023',
  missing: '02000',
  conflict: '40001',
  closed: '57P01',
  corrupt: 'XX001',
  denied: '42501',
};

const HTTP_STATUS: Record<FaultKind, number> = {
  unavailable: 503,
  invalid: 400,
  missing: 404,
  conflict: 409,
  closed: 503,
  corrupt: 500,
  denied: 403,
};

export const sqlState = (fault: Fault): string => SQLSTATE[fault.kind];
export const httpStatus = (fault: Fault): number => HTTP_STATUS[fault.kind];
