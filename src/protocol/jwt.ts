// Tokens: who may touch which tenant. A token is a JWT signed with EdDSA (Ed25519), nothing else:
//
//   {"alg":"EdDSA"} . {"scope":"tenant","tenant_id":"<32 hex>"} . signature        exp and nbf are honoured if there
//
// It travels as `Authorization: Bearer <jwt>` over HTTP and as the password over the Postgres protocol. A service
// trusts a set of public keys (any of which may have signed), which can be replaced while it runs, so that keys
// rotate without downtime: add the new one, sign with it, take the old one away.
//
//   scope            safekeeper   pageserver
//   tenant           its tenant   its tenant
//   safekeeperdata   all          -
//   pageserverapi    -            all
//   others           -            -            a storage controller's and others' own
//
// Answers to libs/utils/src/auth.rs, safekeeper/src/auth.rs and pageserver/src/auth.rs.

import {
  exportJWK,
  generateKeyPair,
  importPKCS8,
  importSPKI,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from 'jose';
import { Fault } from '../base/fault.ts';
import { type TenantId, tenantId } from '../base/ids.ts';

export const SCOPES = [
  'tenant',
  'tenantendpoint',
  'pageserverapi',
  'safekeeperdata',
  'generations_api',
  'admin',
  'infra',
  'scrubber',
  'controller_peer',
] as const;
export type Scope = (typeof SCOPES)[number];

export interface Claims {
  readonly scope: Scope;
  readonly tenantId: TenantId | undefined;
}

const ALGORITHM = 'EdDSA';
/** A token is a few hundred bytes; nothing longer is looked at. */
const TOKEN_CHARACTERS_MAX = 16 * 1024;
const CLOCK_TOLERANCE_S = 60;

type PublicKey = Awaited<ReturnType<typeof importSPKI>>;

const untrusted = (why: string, cause?: unknown): Fault =>
  new Fault('token-invalid', `the token cannot be trusted: ${why}`, cause === undefined ? {} : { cause });

export class TokenVerifier {
  private keys: readonly PublicKey[];
  private readonly now: () => number;

  private constructor(keys: readonly PublicKey[], now: () => number) {
    this.keys = keys;
    this.now = now;
  }

  /** `now` is milliseconds since 1970. */
  static async of(pems: readonly string[], now: () => number): Promise<TokenVerifier> {
    return new TokenVerifier(await importKeys(pems), now);
  }

  /** Trust these keys from now on, and no others. */
  async replace(pems: readonly string[]): Promise<void> {
    this.keys = await importKeys(pems);
  }

  /** A Fault `token-invalid` unless one of the keys signed it and it is in force. */
  async verify(token: string): Promise<Claims> {
    if (token === '') throw untrusted('it is empty');
    if (token.length > TOKEN_CHARACTERS_MAX) throw untrusted('it is too long');
    let failure: unknown;
    for (const key of this.keys) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [ALGORITHM],
          currentDate: new Date(this.now()),
          clockTolerance: CLOCK_TOLERANCE_S,
        });
        return claimsOf(payload);
      } catch (error) {
        if (error instanceof Fault) throw error;
        failure = error;
      }
    }
    throw untrusted(failure instanceof Error ? failure.message : 'no key is known', failure);
  }
}

const PEM_BLOCK = /-----BEGIN PUBLIC KEY-----[\s\S]+?-----END PUBLIC KEY-----/g;

async function importKeys(pems: readonly string[]): Promise<PublicKey[]> {
  const keys: PublicKey[] = [];
  for (const pem of pems) {
    for (const block of pem.match(PEM_BLOCK) ?? []) {
      try {
        keys.push(await importSPKI(block, ALGORITHM));
      } catch (cause) {
        throw new Fault('config-invalid', 'a public key for tokens is not an Ed25519 key', {
          hint: 'Make one with: openssl genpkey -algorithm ed25519.',
          cause,
        });
      }
    }
  }
  if (keys.length === 0) {
    throw new Fault('config-invalid', 'no public key for tokens was found', {
      hint: 'Give a PEM file with a PUBLIC KEY block, or a directory of such files.',
    });
  }
  return keys;
}

function claimsOf(payload: JWTPayload): Claims {
  const scope = payload['scope'];
  if (!SCOPES.includes(scope as Scope)) throw untrusted('its scope is not known');
  const tenant = payload['tenant_id'];
  if (tenant !== undefined && tenant !== null && typeof tenant !== 'string') {
    throw untrusted('its tenant is not text');
  }
  const claims: Claims = { scope: scope as Scope, tenantId: tenant ? tenantOf(tenant) : undefined };
  if (claims.scope === 'tenant' && !claims.tenantId)
    throw untrusted('its scope is tenant, but it names none');
  return claims;
}

function tenantOf(text: string): TenantId {
  try {
    return tenantId(text);
  } catch (error) {
    throw untrusted('its tenant is no id', error);
  }
}

/** Which scope opens everything on a service. */
const MASTER_SCOPE = { safekeeper: 'safekeeperdata', pageserver: 'pageserverapi' } as const;

/**
 * Refuses unless the claims allow this tenant (or, without one, the whole node). It is asked before anything is
 * looked up, so that the answer about another's tenant does not tell whether it exists.
 */
export function checkPermission(
  service: keyof typeof MASTER_SCOPE,
  claims: Claims,
  tenant: TenantId | undefined,
): void {
  if (claims.scope === MASTER_SCOPE[service]) return;
  if (claims.scope === 'tenant' && tenant !== undefined && claims.tenantId === tenant) return;
  const why =
    claims.scope !== 'tenant'
      ? `a token of scope ${claims.scope} opens nothing on a ${service}`
      : tenant === undefined
        ? 'a token of one tenant does not open the whole node'
        : 'the token is for another tenant';
  throw new Fault('auth-failed', `permission denied: ${why}`);
}

/** The token in an Authorization header; a Fault `token-invalid` when there is none. */
export function bearerToken(header: string | undefined): string {
  const match = /^Bearer\s+(\S+)$/i.exec(header ?? '');
  if (!match) {
    throw new Fault(
      'token-invalid',
      header ? 'the Authorization header has no bearer token' : 'a token is required',
      {
        hint: 'Send it as: Authorization: Bearer <token>.',
      },
    );
  }
  return match[1]!;
}

export interface SigningOptions {
  /** Seconds since 1970; without it the token never ends. */
  readonly expiresAt?: number;
}

/** A new token, signed with an Ed25519 private key in PEM (PKCS #8). */
export async function signToken(
  claims: { readonly scope: Scope; readonly tenantId?: TenantId },
  privateKeyPem: string,
  options: SigningOptions = {},
): Promise<string> {
  const key = await importPKCS8(privateKeyPem, ALGORITHM);
  const payload = { scope: claims.scope, ...(claims.tenantId ? { tenant_id: claims.tenantId } : {}) };
  const jwt = new SignJWT(payload).setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' });
  if (options.expiresAt !== undefined) jwt.setExpirationTime(options.expiresAt);
  return jwt.sign(key);
}

/** A key pair of its own for one compute_ctl: the public half as it is configured, and tokens of any claims. */
export interface ComputeTokens {
  readonly jwk: Readonly<Record<string, unknown>>;
  sign(claims: Readonly<Record<string, unknown>>): Promise<string>;
}

export async function newComputeTokens(): Promise<ComputeTokens> {
  const { publicKey, privateKey } = await generateKeyPair(ALGORITHM, { crv: 'Ed25519' });
  // compute_ctl names the key, by its id, when it complains.
  const jwk = { ...(await exportJWK(publicKey)), alg: ALGORITHM, use: 'sig', kid: 'lakebed' };
  return {
    jwk,
    sign: claims =>
      new SignJWT({ ...claims }).setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' }).sign(privateKey),
  };
}
