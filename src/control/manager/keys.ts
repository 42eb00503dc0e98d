// The keys of tenants, as the manager sees them: bound when a project is made, watched while computes run, looked at when a project is, changed,
// shredded with the project. What is wrapped here beside KEKs are passwords of roles: whoever switches the customer
// key off switches off their reading, too. An implementation over a key ring is keys-ring.ts.

/** `unknown`: nobody has asked yet, or nobody answers. */
export type KeyUse = 'usable' | 'revoked' | 'shredded' | 'unknown';

export interface SealedPassword {
  readonly password: string;
  /** Base64 of what the customer key wrapped. */
  readonly sealed: string;
}

export interface ManagerKeys {
  readonly defaultCmk: string;
  /** The tenant's key document, made if there is none. Refused when the key cannot be used. */
  bind(tenantId: string, cmk: string): Promise<void>;
  /** Asks the key service now, and again every poll until `release`. */
  watch(tenantId: string): Promise<KeyUse>;
  release(tenantId: string): void;
  /** As last heard of one that is watched. */
  use(tenantId: string): KeyUse;
  /** For who looks on: as heard within the last poll, watched or not. */
  heard(tenantId: string): KeyUse;
  /** The same, and asks the key service where nobody has. Never rejects for a Fault, and waits briefly. */
  look(tenantId: string): Promise<KeyUse>;
  change(tenantId: string, cmk: string): Promise<void>;
  shred(tenantId: string): Promise<void>;
  /** A new password. */
  newPassword(tenantId: string, cmk: string): Promise<SealedPassword>;
  openPassword(tenantId: string, cmk: string, sealed: string): Promise<string>;
  /** The same password wrapped by another key. */
  rewrapPassword(tenantId: string, from: string, to: string, sealed: string): Promise<string>;
}
