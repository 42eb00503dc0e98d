// SCRAM-SHA-256 as a client: how we show a real Postgres that we know a password without sending it.
//
//   client-first   n,,n=,r=<client nonce>
//   server-first   r=<client nonce><server nonce>,s=<salt, base64>,i=<iterations>
//   client-final   c=biws,r=<both nonces>,p=<proof, base64>
//   server-final   v=<server signature, base64>        checked: the server must know the password, too
//
// The password is used as its UTF-8 bytes after NFKC normalisation (SASLprep without its tables of forbidden
// characters, which Postgres also skips when they occur). No channel binding.
//
// Answers to src/common/scram-common.c and src/interfaces/libpq/fe-auth-scram.c; RFC 5802 and 7677.

import { createHash, createHmac, pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { Fault } from '../base/fault.ts';

export const SCRAM_SHA_256 = 'SCRAM-SHA-256';
const ITERATIONS_MAX = 1_000_000;

const refused = (why: string): Fault => new Fault('auth-failed', `SCRAM: ${why}`);

const hmac = (key: Uint8Array, text: string): Buffer => createHmac('sha256', key).update(text).digest();

export class ScramClient {
  private readonly password: string;
  private readonly nonce: string;
  private serverSignature: Buffer | undefined;

  /** `nonce` is random: 18 bytes or more. */
  constructor(password: string, nonce: Uint8Array) {
    this.password = password.normalize('NFKC');
    this.nonce = Buffer.from(nonce).toString('base64');
  }

  first(): string {
    return `n,,${this.firstBare()}`;
  }

  private firstBare(): string {
    return `n=,r=${this.nonce}`;
  }

  /** The answer to server-first. */
  final(serverFirst: string): string {
    const match = /^r=([^,]+),s=([A-Za-z0-9+/=]+),i=(\d+)/.exec(serverFirst);
    if (!match) throw refused('the server’s first message cannot be read');
    const [, nonce, salt, count] = match as unknown as [string, string, string, string];
    const iterations = Number(count);
    if (!nonce.startsWith(this.nonce) || nonce.length === this.nonce.length) {
      throw refused('the server did not answer our nonce');
    }
    if (iterations < 1 || iterations > ITERATIONS_MAX) throw refused(`${iterations} iterations`);
    const salted = pbkdf2Sync(this.password, Buffer.from(salt, 'base64'), iterations, 32, 'sha256');
    const clientKey = hmac(salted, 'Client Key');
    const storedKey = createHash('sha256').update(clientKey).digest();
    const withoutProof = `c=biws,r=${nonce}`;
    const message = `${this.firstBare()},${serverFirst},${withoutProof}`;
    const signature = hmac(storedKey, message);
    this.serverSignature = hmac(hmac(salted, 'Server Key'), message);
    const proof = clientKey.map((byte, i) => byte ^ signature[i]!);
    return `${withoutProof},p=${Buffer.from(proof).toString('base64')}`;
  }

  /** Throws unless the server proved that it knows the password. */
  verify(serverFinal: string): void {
    const signature = Buffer.from(/^v=([A-Za-z0-9+/=]+)/.exec(serverFinal)?.[1] ?? '', 'base64');
    const wanted = this.serverSignature;
    if (!wanted || signature.length !== wanted.length || !timingSafeEqual(signature, wanted)) {
      throw refused('the server does not know the password');
    }
  }
}
