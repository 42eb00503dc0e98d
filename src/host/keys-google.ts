// Google Cloud KMS, a symmetric key by its name: projects/P/locations/L/keyRings/R/cryptoKeys/K. By the documented REST
// calls of v1, with a token from `google-auth-library` (optional package: application default credentials).
//
//   POST KEY:encrypt   { plaintext, additionalAuthenticatedData, …Crc32c }   the answer's `name` tells the version
//   POST KEY:decrypt   { ciphertext, additionalAuthenticatedData, …Crc32c }
//   GET  KEY           primary.state
//
// Both ways carry CRC32Cs, as Google asks: what arrived damaged is refused there, or here.
//
//   FAILED_PRECONDITION (a version disabled, or scheduled to be destroyed)   key-disabled
//   FAILED_PRECONDITION with DESTROYED, NOT_FOUND                            key-destroyed
//   PERMISSION_DENIED                                                        key-denied
//   INVALID_ARGUMENT of decrypt                                              sealed-tampered

import { KeyFault, type KeyFaultCode } from '../base/key-fault.ts';
import type { KeyContext, KeyState, Keys, UnwrappedSecret, WrappedSecret } from '../base/ports.ts';
import { optionalPackage, type RestAnswer, restCall, textField, tokenOf } from './keys-rest.ts';
import { hostRandom } from './random.ts';

const SCOPE = 'https://www.googleapis.com/auth/cloudkms';
const NAME = /^projects\/[\w.:-]+\/locations\/[\w-]+\/keyRings\/[\w-]+\/cryptoKeys\/[\w-]+$/;

/** What we use of google-auth-library. */
interface Auth {
  getAccessToken(): Promise<string | null | undefined>;
}

export interface GoogleKeysOptions {
  /** Without it, google-auth-library finds one. */
  readonly token?: () => Promise<string>;
  readonly endpoint?: string;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

/** Decimal text, as the API writes 64-bit numbers. */
export function crc32c(bytes: Uint8Array): string {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 0xff]!;
  return String((crc ^ 0xffffffff) >>> 0);
}

export class GoogleKeys implements Keys {
  readonly kind = 'google';
  private readonly options: GoogleKeysOptions;
  private auth: Auth | undefined;

  constructor(options: GoogleKeysOptions = {}) {
    this.options = options;
  }

  private token(): Promise<string> {
    const { token } = this.options;
    return tokenOf('Google Cloud KMS', async () => {
      if (token) return token();
      const library = optionalPackage('google-auth-library', 'a key in Google Cloud');
      const Auth = library['GoogleAuth'] as new (options: { scopes: string }) => Auth;
      const auth = (this.auth ??= new Auth({ scopes: SCOPE }));
      return (await auth.getAccessToken()) ?? undefined;
    });
  }

  private async call(
    keyId: string,
    verb: '' | ':encrypt' | ':decrypt',
    body?: Readonly<Record<string, unknown>>,
  ): Promise<RestAnswer> {
    if (!NAME.test(keyId)) {
      throw new KeyFault('key-missing', `not the name of a key in Google Cloud: "${keyId}"`, {
        hint: 'It looks like projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version.',
      });
    }
    const { endpoint = 'https://cloudkms.googleapis.com' } = this.options;
    const url = `${endpoint}/v1/${keyId}${verb}`;
    const token = await this.token();
    const method = body === undefined ? 'GET' : 'POST';
    const answer = await restCall({
      method,
      url,
      token,
      requestHeader: 'x-goog-request-id',
      ...(body ? { body } : {}),
    });
    if (answer.status === 200) return answer;
    throw googleFault(keyId, verb, answer);
  }

  async generate(
    keyId: string,
    bytes: number,
    context: KeyContext,
  ): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }> {
    const plaintext = hostRandom.bytes(bytes);
    return { plaintext, secret: await this.wrap(keyId, plaintext, context) };
  }

  async wrap(keyId: string, plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret> {
    const aad = aadOf(context);
    const answer = await this.call(keyId, ':encrypt', {
      plaintext: Buffer.from(plaintext).toString('base64'),
      plaintextCrc32c: crc32c(plaintext),
      additionalAuthenticatedData: aad.toString('base64'),
      additionalAuthenticatedDataCrc32c: crc32c(aad),
    });
    const ciphertext = new Uint8Array(Buffer.from(textField(answer, 'ciphertext', 'encrypt'), 'base64'));
    const whole =
      answer.body['verifiedPlaintextCrc32c'] === true &&
      answer.body['verifiedAdditionalAuthenticatedDataCrc32c'] === true &&
      answer.body['ciphertextCrc32c'] === crc32c(ciphertext);
    if (!whole) throw damaged(keyId, ':encrypt', answer);
    const name = textField(answer, 'name', 'encrypt');
    return { ciphertext, keyVersion: name.slice(name.lastIndexOf('/') + 1), requestId: answer.requestId };
  }

  async unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret> {
    const aad = aadOf(context);
    const answer = await this.call(keyId, ':decrypt', {
      ciphertext: Buffer.from(secret.ciphertext).toString('base64'),
      ciphertextCrc32c: crc32c(secret.ciphertext),
      additionalAuthenticatedData: aad.toString('base64'),
      additionalAuthenticatedDataCrc32c: crc32c(aad),
    });
    const plaintext = new Uint8Array(Buffer.from(textField(answer, 'plaintext', 'decrypt'), 'base64'));
    if (answer.body['plaintextCrc32c'] !== crc32c(plaintext)) throw damaged(keyId, ':decrypt', answer);
    return { plaintext, keyVersion: secret.keyVersion, requestId: answer.requestId };
  }

  async state(keyId: string): Promise<KeyState> {
    try {
      const { body } = await this.call(keyId, '');
      const state = (body['primary'] as { state?: string } | undefined)?.state;
      if (state === 'ENABLED') return 'enabled';
      return state === 'DESTROYED' ? 'destroyed' : 'disabled';
    } catch (error) {
      if (error instanceof KeyFault && error.code === 'key-destroyed') return 'destroyed';
      throw error;
    }
  }
}

const aadOf = (context: KeyContext): Buffer =>
  Buffer.from(JSON.stringify(Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1))));

const damaged = (keyId: string, verb: string, answer: RestAnswer): KeyFault =>
  new KeyFault(
    'key-unavailable',
    `Google Cloud KMS ${verb} with ${keyId}: the bytes were damaged on the way`,
    {
      requestId: answer.requestId,
    },
  );

function googleFault(keyId: string, verb: string, answer: RestAnswer): KeyFault {
  const error = (answer.body['error'] ?? {}) as { status?: string; message?: string };
  const { status = '', message = '' } = error;
  const code = codeOf(answer.status, status, message, verb);
  const text = `${answer.status} ${status} ${message}`.trimEnd();
  return new KeyFault(
    code,
    `Google Cloud KMS ${verb === '' ? 'get' : verb.slice(1)} with ${keyId}: ${text}`,
    {
      requestId: answer.requestId,
      ...(code === 'key-denied'
        ? {
            hint: 'Give roles/cloudkms.cryptoKeyEncrypterDecrypter and cloudkms.viewer on this key to the identity we run as.',
          }
        : {}),
    },
  );
}

function codeOf(http: number, status: string, message: string, verb: string): KeyFaultCode {
  if (status === 'FAILED_PRECONDITION') return /DESTROYED/.test(message) ? 'key-destroyed' : 'key-disabled';
  if (status === 'NOT_FOUND' || http === 404) return 'key-destroyed';
  if (status === 'PERMISSION_DENIED' || http === 403) return 'key-denied';
  if (status === 'INVALID_ARGUMENT' && verb === ':decrypt') return 'sealed-tampered';
  return 'key-unavailable';
}
