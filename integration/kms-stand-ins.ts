// Stand-ins for Azure Key Vault and Google Cloud KMS: HTTP servers that answer the calls of the two drivers as the
// services' reference documentation says they do, with real cryptography behind them (RSA-OAEP-256; AES-256-GCM).
// They check what a service would check: the token, the API version, the checksums, the state of the key.

import {
  constants,
  createCipheriv,
  createDecipheriv,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export const TOKEN = 'a-token';

export interface StandIn {
  readonly host: string;
  readonly endpoint: string;
  /** Answers that instead of looking. */
  trouble: { status: number; body: unknown } | undefined;
  requests: number;
  state: string;
  rotate(): void;
  stop(): Promise<void>;
}

type Answer = { status: number; body: unknown };
type Handler = (method: string, url: URL, body: Record<string, string>) => Answer;

async function bodyOf(request: IncomingMessage): Promise<Record<string, string>> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  const text = Buffer.concat(pieces).toString();
  return text === '' ? {} : (JSON.parse(text) as Record<string, string>);
}

async function serve(
  standIn: StandIn & { handle: Handler; refused: Answer; header: string },
): Promise<Server> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    standIn.requests++;
    const body = await bodyOf(request);
    const known = request.headers.authorization === `Bearer ${TOKEN}`;
    const url = new URL(request.url!, standIn.endpoint);
    const found =
      standIn.trouble ?? (known ? standIn.handle(request.method ?? '', url, body) : standIn.refused);
    response.writeHead(found.status, {
      'content-type': 'application/json',
      [standIn.header]: `request-${standIn.requests}`,
    });
    response.end(JSON.stringify(found.body));
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return server;
}

async function start(make: {
  handle: (self: StandIn) => Handler;
  refused: Answer;
  header: string;
  rotate: () => void;
  state: string;
}): Promise<StandIn> {
  const self = {
    host: '',
    endpoint: 'http://127.0.0.1',
    trouble: undefined as Answer | undefined,
    requests: 0,
    state: make.state,
    rotate: make.rotate,
    refused: make.refused,
    header: make.header,
    handle: (() => ({ status: 500, body: {} })) as Handler,
    stop: async () => undefined,
  };
  self.handle = make.handle(self);
  const server = await serve(self);
  const { port } = server.address() as { port: number };
  self.host = `127.0.0.1:${port}`;
  self.endpoint = `http://${self.host}`;
  self.stop = () =>
    new Promise(resolve => {
      server.close(() => resolve(undefined));
      server.closeAllConnections();
    });
  return self;
}

const azureError = (status: number, code: string, message: string, inner?: string): Answer => ({
  status,
  body: { error: { code, message, ...(inner === undefined ? {} : { innererror: { code: inner } }) } },
});

/** One RSA key, `/keys/cmk`. State: enabled, disabled, deleted (recoverable), purged. */
export function startAzure(): Promise<StandIn> {
  const versions = new Map<string, { publicKey: KeyObject; privateKey: KeyObject }>();
  let newest = '';
  const rotate = (): void => {
    newest = randomBytes(16).toString('hex');
    versions.set(newest, generateKeyPairSync('rsa', { modulusLength: 2048 }));
  };
  rotate();
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  const handle =
    (self: StandIn): Handler =>
    (method, url, body) => {
      if (url.searchParams.get('api-version') !== '7.4')
        return azureError(400, 'BadParameter', 'api-version');
      const match = /^\/keys\/cmk(?:\/([0-9a-f]{32}))?(?:\/(wrapkey|unwrapkey))?$/.exec(url.pathname);
      if (!match || self.state === 'purged')
        return azureError(404, 'KeyNotFound', 'A key with this name was not found');
      if (self.state === 'deleted') {
        return azureError(409, 'Conflict', 'Key is deleted but recoverable', 'ObjectIsDeletedButRecoverable');
      }
      const [, version = newest, verb] = match;
      const kid = `${self.endpoint}/keys/cmk/${version}`;
      if (verb === undefined && method === 'GET') {
        return {
          status: 200,
          body: { key: { kid, kty: 'RSA' }, attributes: { enabled: self.state === 'enabled' } },
        };
      }
      if (self.state === 'disabled') {
        return azureError(
          403,
          'Forbidden',
          `Operation ${verb} is not allowed on a disabled key.`,
          'KeyDisabled',
        );
      }
      const key = versions.get(version);
      if (method !== 'POST' || !key || body['alg'] !== 'RSA-OAEP-256')
        return azureError(400, 'BadParameter', 'alg');
      const value = Buffer.from(body['value']!, 'base64url');
      try {
        const result =
          verb === 'wrapkey'
            ? publicEncrypt({ key: key.publicKey, ...oaep }, value)
            : privateDecrypt({ key: key.privateKey, ...oaep }, value);
        return { status: 200, body: { kid, value: result.toString('base64url') } };
      } catch {
        return azureError(400, 'BadParameter', 'The parameter is incorrect.');
      }
    };
  const refused = azureError(401, 'Unauthorized', 'AKV10000: Request is missing a Bearer or PoP token.');
  return start({ handle, refused, header: 'x-ms-request-id', rotate, state: 'enabled' });
}

export const GOOGLE_KEY = 'projects/p/locations/europe/keyRings/r/cryptoKeys/cmk';

const googleError = (code: number, status: string, message: string): Answer => ({
  status: code,
  body: { error: { code, status, message } },
});

/** CRC-32C, bit by bit: not the driver's way of computing it. */
function crc32c(bytes: Uint8Array): string {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  return String(~crc >>> 0);
}

/** One symmetric key. State: ENABLED, DISABLED, DESTROY_SCHEDULED, DESTROYED. */
export function startGoogle(): Promise<StandIn> {
  const versions: Buffer[] = [randomBytes(32)];
  const sums = (body: Record<string, string>, name: string): boolean =>
    crc32c(Buffer.from(body[name]!, 'base64')) === body[`${name}Crc32c`];
  const encrypt = (body: Record<string, string>): Answer => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', versions.at(-1)!, nonce);
    cipher.setAAD(Buffer.from(body['additionalAuthenticatedData']!, 'base64'));
    const sealed = [cipher.update(Buffer.from(body['plaintext']!, 'base64')), cipher.final()];
    const ciphertext = Buffer.concat([Buffer.from([versions.length]), nonce, ...sealed, cipher.getAuthTag()]);
    return {
      status: 200,
      body: {
        name: `${GOOGLE_KEY}/cryptoKeyVersions/${versions.length}`,
        ciphertext: ciphertext.toString('base64'),
        ciphertextCrc32c: crc32c(ciphertext),
        verifiedPlaintextCrc32c: sums(body, 'plaintext'),
        verifiedAdditionalAuthenticatedDataCrc32c: sums(body, 'additionalAuthenticatedData'),
        protectionLevel: 'SOFTWARE',
      },
    };
  };
  const decrypt = (body: Record<string, string>): Answer => {
    if (!sums(body, 'ciphertext')) return googleError(400, 'INVALID_ARGUMENT', 'crc32c mismatch');
    const bytes = Buffer.from(body['ciphertext']!, 'base64');
    try {
      const decipher = createDecipheriv('aes-256-gcm', versions[bytes[0]! - 1]!, bytes.subarray(1, 13));
      decipher.setAAD(Buffer.from(body['additionalAuthenticatedData']!, 'base64'));
      decipher.setAuthTag(bytes.subarray(-16));
      const plaintext = Buffer.concat([decipher.update(bytes.subarray(13, -16)), decipher.final()]);
      return {
        status: 200,
        body: {
          plaintext: plaintext.toString('base64'),
          plaintextCrc32c: crc32c(plaintext),
          usedPrimary: true,
        },
      };
    } catch {
      return googleError(400, 'INVALID_ARGUMENT', 'Decryption failed: the ciphertext is invalid.');
    }
  };
  const handle =
    (self: StandIn): Handler =>
    (method, url, body) => {
      const match = /^\/v1\/(.+?)(?::(encrypt|decrypt))?$/.exec(url.pathname);
      if (match?.[1] !== GOOGLE_KEY) return googleError(404, 'NOT_FOUND', 'CryptoKey not found.');
      const name = `${GOOGLE_KEY}/cryptoKeyVersions/${versions.length}`;
      if (method === 'GET')
        return { status: 200, body: { name: GOOGLE_KEY, primary: { name, state: self.state } } };
      if (self.state !== 'ENABLED') {
        return googleError(
          400,
          'FAILED_PRECONDITION',
          `${name} is not enabled, current state is: ${self.state}.`,
        );
      }
      return match[2] === 'encrypt' ? encrypt(body) : decrypt(body);
    };
  const refused = googleError(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.');
  const rotate = (): void => void versions.push(randomBytes(32));
  return start({ handle, refused, header: 'x-goog-request-id', rotate, state: 'ENABLED' });
}
