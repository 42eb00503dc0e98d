// Azure Key Vault and Managed HSM, an RSA key by its URL: https://VAULT.vault.azure.net/keys/NAME. By the documented
// REST calls (api-version 7.4), with a token from `@azure/identity` (optional package: DefaultAzureCredential).
//
//   POST KEY/wrapkey             { alg: RSA-OAEP-256, value }   newest version; the answer's `kid` tells which
//   POST KEY/VERSION/unwrapkey   { alg, value }
//   GET  KEY                     attributes.enabled
//
// RSA-OAEP has nothing like an encryption context: what is wrapped is the secret with the SHA-256 of the context
// behind it, and unwrapping compares. It is not the SDK's CryptographyClient because that wraps RSA by itself
// with the public key, past the vault's access rules and its log.
//
// Whoever knows the public key can wrap, as with any RSA key: it proves nothing about who did. That a key document
// is ours is proven by its MAC, and by the documents seen before (key-document.ts).
//
// The token goes to Microsoft's hosts alone (`hosts`), whatever a key document says the URL is.

import { createHash, timingSafeEqual } from 'node:crypto';
import { KeyFault, type KeyFaultCode } from '../base/key-fault.ts';
import type { KeyContext, KeyState, Keys, UnwrappedSecret, WrappedSecret } from '../base/ports.ts';
import { optionalPackage, type RestAnswer, restCall, textField, tokenOf } from './keys-rest.ts';
import { hostRandom } from './random.ts';

const API = 'api-version=7.4';
const ALGORITHM = 'RSA-OAEP-256';
const DIGEST_BYTES = 32;

const HOSTS = [
  'vault.azure.net',
  'vault.azure.cn',
  'vault.usgovcloudapi.net',
  'managedhsm.azure.net',
  'managedhsm.azure.cn',
  'managedhsm.usgovcloudapi.net',
];

/** What we use of @azure/identity. */
interface Credential {
  getToken(scope: string): Promise<{ token: string } | null>;
}

export interface AzureKeysOptions {
  /** A token for a scope; without it, @azure/identity finds one. */
  readonly token?: (scope: string) => Promise<string>;
  /** Other hosts that may be given the token, e.g. of a private cloud; `http` for those alone. */
  readonly hosts?: readonly string[];
}

export class AzureKeys implements Keys {
  readonly kind = 'azure';
  private readonly options: AzureKeysOptions;
  private credential: Credential | undefined;

  constructor(options: AzureKeysOptions = {}) {
    this.options = options;
  }

  /** The key's URL without a version, and the host family that tells the token's scope. */
  private keyUrl(keyId: string): { url: string; scope: string } {
    let url: URL;
    try {
      url = new URL(keyId);
    } catch (error) {
      throw badUrl(keyId, error);
    }
    const match = /^\/keys\/([0-9a-zA-Z-]{1,127})$/.exec(url.pathname);
    const own = (this.options.hosts ?? []).includes(url.host);
    const family = HOSTS.find(host => url.hostname.endsWith(`.${host}`));
    if (!match || (!own && (url.protocol !== 'https:' || family === undefined))) throw badUrl(keyId);
    return {
      url: `${url.origin}${url.pathname}`,
      scope: `https://${family ?? url.hostname}/.default`,
    };
  }

  private token(scope: string): Promise<string> {
    const { token } = this.options;
    return tokenOf('Azure Key Vault', async () => {
      if (token) return token(scope);
      const identity = optionalPackage('@azure/identity', 'a key in Azure');
      const credential = (this.credential ??= new (
        identity['DefaultAzureCredential'] as new () => Credential
      )());
      return (await credential.getToken(scope))?.token;
    });
  }

  private async call(
    keyId: string,
    path: string,
    body?: Readonly<Record<string, unknown>>,
  ): Promise<RestAnswer> {
    const { url, scope } = this.keyUrl(keyId);
    const token = await this.token(scope);
    const method = body === undefined ? 'GET' : 'POST';
    const requestHeader = 'x-ms-request-id';
    const full = `${url}${path}?${API}`;
    const answer = await restCall({ method, url: full, token, requestHeader, ...(body ? { body } : {}) });
    if (answer.status === 200) return answer;
    throw azureFault(keyId, path, answer);
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
    const bound = Buffer.concat([plaintext, digestOf(context)]);
    const value = bound.toString('base64url');
    bound.fill(0);
    const answer = await this.call(keyId, '/wrapkey', { alg: ALGORITHM, value });
    return {
      ciphertext: new Uint8Array(Buffer.from(textField(answer, 'value', 'wrapkey'), 'base64url')),
      keyVersion: versionOf(textField(answer, 'kid', 'wrapkey')),
      requestId: answer.requestId,
    };
  }

  async unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret> {
    const { keyVersion, ciphertext } = secret;
    if (keyVersion === undefined || !/^[0-9a-zA-Z]{1,64}$/.test(keyVersion)) {
      throw new KeyFault('sealed-tampered', `the secret wrapped by ${keyId} does not name the key's version`);
    }
    const value = Buffer.from(ciphertext).toString('base64url');
    const answer = await this.call(keyId, `/${keyVersion}/unwrapkey`, { alg: ALGORITHM, value });
    const bound = Buffer.from(textField(answer, 'value', 'unwrapkey'), 'base64url');
    const at = bound.length - DIGEST_BYTES;
    const plaintext = new Uint8Array(bound.subarray(0, Math.max(0, at)));
    const same = at > 0 && timingSafeEqual(bound.subarray(at), digestOf(context));
    bound.fill(0);
    if (same) return { plaintext, keyVersion, requestId: answer.requestId };
    throw new KeyFault('sealed-tampered', `${keyId} did not wrap this for this purpose`, {
      requestId: answer.requestId,
    });
  }

  async state(keyId: string): Promise<KeyState> {
    try {
      const { body } = await this.call(keyId, '');
      const attributes = body['attributes'] as { enabled?: boolean } | undefined;
      return attributes?.enabled === true ? 'enabled' : 'disabled';
    } catch (error) {
      if (error instanceof KeyFault && error.code === 'key-destroyed') return 'destroyed';
      if (error instanceof KeyFault && error.code === 'key-disabled') return 'disabled';
      throw error;
    }
  }
}

const digestOf = (context: KeyContext): Buffer =>
  createHash('sha256')
    .update(JSON.stringify(Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1))))
    .digest();

const versionOf = (kid: string): string => kid.slice(kid.lastIndexOf('/') + 1);

const badUrl = (keyId: string, cause?: unknown): KeyFault =>
  new KeyFault('key-missing', `not the URL of a key in Azure: "${keyId}"`, {
    cause,
    hint: 'It looks like https://VAULT.vault.azure.net/keys/NAME, without a version.',
  });

function azureFault(keyId: string, path: string, answer: RestAnswer): KeyFault {
  const error = (answer.body['error'] ?? {}) as {
    code?: string;
    message?: string;
    innererror?: { code?: string };
  };
  const inner = error.innererror?.code ?? '';
  const { status, requestId } = answer;
  const code = codeOf(status, error.code ?? '', inner);
  const text = [status, error.code, inner, error.message].filter(Boolean).join(' ');
  return new KeyFault(
    code,
    `Azure Key Vault ${path === '' ? 'get' : path.split('/').at(-1)} with ${keyId}: ${text}`,
    {
      requestId,
      ...(code === 'key-denied'
        ? { hint: 'Allow get, wrapKey and unwrapKey on this key to the identity we run as.' }
        : {}),
    },
  );
}

function codeOf(status: number, code: string, inner: string): KeyFaultCode {
  if (status === 403) return inner === 'KeyDisabled' ? 'key-disabled' : 'key-denied';
  if (status === 409 && inner === 'ObjectIsDeletedButRecoverable') return 'key-disabled';
  if (status === 404) return 'key-destroyed';
  if (status === 400 && code === 'BadParameter') return 'sealed-tampered';
  return 'key-unavailable';
}
