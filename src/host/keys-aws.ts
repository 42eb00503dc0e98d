// AWS KMS, a key by its ARN. The only import of its client.
//
// Encrypt, Decrypt and GenerateDataKey with the encryption context (so that CloudTrail shows tenant and KEK of
// every use), DescribeKey for the state. What the key's policy must allow us is these four. Credentials come as
// the AWS SDK finds them; the region is the one in the ARN.
//
//   DisabledException, pending deletion          key-disabled: may be taken back
//   NotFoundException                            key-destroyed
//   AccessDeniedException                        key-denied: the customer took the grant or policy away
//   InvalidCiphertext, IncorrectKey              sealed-tampered
//   throttling, internal errors, credentials of ours that ran out, no answer      key-unavailable

import {
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  KMSClient,
} from '@aws-sdk/client-kms';
import { KeyFault, type KeyFaultCode } from '../base/key-fault.ts';
import type { KeyContext, KeyState, Keys, UnwrappedSecret, WrappedSecret } from '../base/ports.ts';

export interface AwsKeysOptions {
  /** For a key given without an ARN, and in front of another service that speaks KMS. */
  readonly region?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
}

const CONNECT_MS = 3_000;
const REQUEST_MS = 8_000;

const CODES: Readonly<Record<string, KeyFaultCode>> = {
  DisabledException: 'key-disabled',
  KMSInvalidStateException: 'key-disabled',
  NotFoundException: 'key-destroyed',
  AccessDeniedException: 'key-denied',
  KMSAccessDeniedException: 'key-denied',
  InvalidCiphertextException: 'sealed-tampered',
  IncorrectKeyException: 'sealed-tampered',
  InvalidArnException: 'key-missing',
};

const HINTS: Partial<Record<KeyFaultCode, string>> = {
  'key-disabled': 'Enable the key in AWS KMS, or cancel its deletion.',
  'key-destroyed': 'The key does not exist in this account and region: check the ARN.',
  'key-denied':
    'Allow kms:Encrypt, Decrypt, GenerateDataKey and DescribeKey on this key to the identity we run as.',
  'key-unavailable': 'Check the network to AWS KMS, our credentials, and the KMS request quota.',
};

interface ServiceError {
  readonly name?: string;
  readonly message?: string;
  readonly $metadata?: { readonly requestId?: string };
}

export class AwsKeys implements Keys {
  readonly kind = 'aws';
  private readonly options: AwsKeysOptions;
  private readonly clients = new Map<string, KMSClient>();

  constructor(options: AwsKeysOptions = {}) {
    this.options = options;
  }

  private client(keyId: string): KMSClient {
    const region = /^arn:[^:]+:kms:([^:]+):/.exec(keyId)?.[1] ?? this.options.region ?? '';
    let client = this.clients.get(region);
    if (!client) {
      const { endpoint, credentials } = this.options;
      client = new KMSClient({
        ...(region === '' ? {} : { region }),
        ...(endpoint === undefined ? {} : { endpoint }),
        ...(credentials === undefined ? {} : { credentials }),
        maxAttempts: 2,
        requestHandler: { connectionTimeout: CONNECT_MS, requestTimeout: REQUEST_MS },
      });
      this.clients.set(region, client);
    }
    return client;
  }

  private async call<T>(what: string, keyId: string, work: (client: KMSClient) => Promise<T>): Promise<T> {
    try {
      return await work(this.client(keyId));
    } catch (error) {
      const { name = '', message = '', $metadata } = error as ServiceError;
      const code = CODES[name] ?? 'key-unavailable';
      const hint = HINTS[code];
      throw new KeyFault(code, `AWS KMS ${what} with ${keyId}: ${name} ${message}`.trimEnd(), {
        cause: error,
        requestId: $metadata?.requestId,
        ...(hint === undefined ? {} : { hint }),
      });
    }
  }

  async generate(
    keyId: string,
    bytes: number,
    context: KeyContext,
  ): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }> {
    const input = { KeyId: keyId, NumberOfBytes: bytes, EncryptionContext: context };
    const answer = await this.call('GenerateDataKey', keyId, c => c.send(new GenerateDataKeyCommand(input)));
    const secret = {
      ciphertext: answer.CiphertextBlob!,
      keyVersion: answer.KeyMaterialId,
      requestId: answer.$metadata.requestId,
    };
    return { plaintext: answer.Plaintext!, secret };
  }

  async wrap(keyId: string, plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret> {
    const input = { KeyId: keyId, Plaintext: plaintext, EncryptionContext: context };
    const answer = await this.call('Encrypt', keyId, client => client.send(new EncryptCommand(input)));
    return {
      ciphertext: answer.CiphertextBlob!,
      keyVersion: undefined,
      requestId: answer.$metadata.requestId,
    };
  }

  async unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret> {
    const input = { KeyId: keyId, CiphertextBlob: secret.ciphertext, EncryptionContext: context };
    const answer = await this.call('Decrypt', keyId, client => client.send(new DecryptCommand(input)));
    return {
      plaintext: answer.Plaintext!,
      keyVersion: answer.KeyMaterialId,
      requestId: answer.$metadata.requestId,
    };
  }

  async state(keyId: string): Promise<KeyState> {
    try {
      const command = new DescribeKeyCommand({ KeyId: keyId });
      const answer = await this.call('DescribeKey', keyId, client => client.send(command));
      return answer.KeyMetadata?.KeyState === 'Enabled' ? 'enabled' : 'disabled';
    } catch (error) {
      if (error instanceof KeyFault && error.code === 'key-destroyed') return 'destroyed';
      throw error;
    }
  }
}
