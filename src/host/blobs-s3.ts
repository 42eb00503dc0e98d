// An object store that speaks S3: AWS, or anything compatible behind an endpoint. The only S3 import.
//
// Credentials come as the AWS SDK finds them: environment, shared files, container or instance role. The SDK is
// told to try once: repeating is blobs-retry's. A put that must not replace is conditional at the store
// (If-None-Match: *), so two writers cannot both succeed. Checksums beyond what S3 demands are left off: every
// object is sealed, and authenticated when it is read.

import {
  CopyObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { Fault } from '../base/fault.ts';
import type { BlobHead, Blobs, BlobVersion } from '../base/ports.ts';

export interface S3Options {
  readonly bucket: string;
  readonly region?: string | undefined;
  /** Put before every key, with a slash between. */
  readonly prefix?: string | undefined;
  /** Another store than AWS's: `http://host:port`; buckets are then addressed by path. */
  readonly endpoint?: string | undefined;
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
  /** Sockets open at once. */
  readonly connectionsMax?: number;
}

/** S3's own limit on one DeleteObjects. */
const REMOVE_MAX = 1000;
const CONNECT_MS = 5_000;
/** Without a byte moving, not for the whole of a large object. */
const IDLE_MS = 60_000;

export const s3Blobs = (options: S3Options): Blobs => new S3Blobs(options);

class S3Blobs implements Blobs {
  private readonly client: S3Client;
  private readonly bucket: string;
  private readonly prefix: string;

  constructor(options: S3Options) {
    const { bucket, prefix = '', endpoint, region, credentials, connectionsMax = 64 } = options;
    this.bucket = bucket;
    this.prefix = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
    this.client = new S3Client({
      ...(region === undefined ? {} : { region }),
      ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
      ...(credentials === undefined ? {} : { credentials }),
      maxAttempts: 1,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        connectionTimeout: CONNECT_MS,
        socketTimeout: IDLE_MS,
        httpAgent: { maxSockets: connectionsMax, keepAlive: true },
        httpsAgent: { maxSockets: connectionsMax, keepAlive: true },
      },
    });
  }

  private async call<T>(verb: string, key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw s3Fault(error, `${verb} s3://${this.bucket}/${this.prefix}${key}`);
    }
  }

  async put(key: string, bytes: Uint8Array, options: { onlyIfAbsent?: boolean } = {}): Promise<void> {
    await this.call('put', key, () =>
      this.client.send(
        new PutObjectCommand({
          Bucket: this.bucket,
          Key: this.prefix + key,
          Body: bytes,
          ContentLength: bytes.length,
          ...(options.onlyIfAbsent === true ? { IfNoneMatch: '*' } : {}),
        }),
      ),
    );
  }

  async get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    if (range?.length === 0) return new Uint8Array(0);
    return this.call('get', key, async () => {
      const answer = await this.client.send(
        new GetObjectCommand({
          Bucket: this.bucket,
          Key: this.prefix + key,
          ...(range ? { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
        }),
      );
      const bytes = await answer.Body!.transformToByteArray();
      if (range && bytes.length !== range.length) {
        throw new Fault(
          'bytes-short',
          `${key}: ${range.length} bytes at ${range.offset} wanted, ${bytes.length} came`,
        );
      }
      return bytes;
    });
  }

  async head(key: string): Promise<BlobHead | undefined> {
    try {
      return await this.call('head', key, async () => {
        const head = await this.client.send(
          new HeadObjectCommand({ Bucket: this.bucket, Key: this.prefix + key }),
        );
        return { key, size: head.ContentLength ?? 0, modifiedMs: head.LastModified?.getTime() ?? 0 };
      });
    } catch (error) {
      if (error instanceof Fault && error.code === 'blob-missing') return undefined;
      throw error;
    }
  }

  async *list(prefix: string): AsyncIterable<BlobHead> {
    let token: string | undefined;
    do {
      const page = await this.call('list', prefix, () =>
        this.client.send(
          new ListObjectsV2Command({
            Bucket: this.bucket,
            Prefix: this.prefix + prefix,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        ),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined) continue;
        yield {
          key: Key.slice(this.prefix.length),
          size: Size ?? 0,
          modifiedMs: LastModified?.getTime() ?? 0,
        };
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (let i = 0; i < keys.length; i += REMOVE_MAX) {
      const some = keys.slice(i, i + REMOVE_MAX);
      const answer = await this.call('remove', some[0]!, () =>
        this.client.send(
          new DeleteObjectsCommand({
            Bucket: this.bucket,
            Delete: { Objects: some.map(key => ({ Key: this.prefix + key })), Quiet: true },
          }),
        ),
      );
      const [failed] = answer.Errors ?? [];
      if (failed) {
        throw new Fault('blob-unavailable', `remove ${failed.Key}: ${failed.Code} ${failed.Message}`);
      }
    }
  }

  async copy(from: string, to: string): Promise<void> {
    await this.copyFrom(this.sourceOf(from), from, to);
  }

  private sourceOf(key: string): string {
    return `${this.bucket}/${this.prefix}${key}`.split('/').map(encodeURIComponent).join('/');
  }

  private async copyFrom(source: string, from: string, to: string): Promise<void> {
    const command = { Bucket: this.bucket, Key: this.prefix + to, CopySource: source };
    await this.call('copy', from, () => this.client.send(new CopyObjectCommand(command)));
  }

  async *versions(prefix: string): AsyncIterable<BlobVersion> {
    let from: { KeyMarker?: string; VersionIdMarker?: string } | undefined = {};
    while (from !== undefined) {
      const command = new ListObjectVersionsCommand({
        Bucket: this.bucket,
        Prefix: this.prefix + prefix,
        ...from,
      });
      const page: ListObjectVersionsCommandOutput = await this.call('list versions', prefix, () =>
        this.client.send(command),
      );
      for (const version of page.Versions ?? []) yield this.version(version, false);
      for (const marker of page.DeleteMarkers ?? []) yield this.version(marker, true);
      const { IsTruncated, NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page;
      from =
        IsTruncated === true && KeyMarker !== undefined
          ? { KeyMarker, ...(VersionIdMarker === undefined ? {} : { VersionIdMarker }) }
          : undefined;
    }
  }

  private version(
    { Key, VersionId, LastModified, IsLatest }: ListedVersion,
    isRemoval: boolean,
  ): BlobVersion {
    const key = (Key ?? '').slice(this.prefix.length);
    if (VersionId === undefined || VersionId === 'null') {
      throw new Fault(
        'config-invalid',
        `the bucket ${this.bucket} kept no versions when ${key} was written`,
        {
          hint: 'Turn versioning on: it keeps what is replaced or removed from then on.',
        },
      );
    }
    return {
      key,
      version: VersionId,
      modifiedMs: LastModified?.getTime() ?? 0,
      isNewest: IsLatest ?? false,
      isRemoval,
    };
  }

  async restore(key: string, version: string): Promise<void> {
    await this.copyFrom(`${this.sourceOf(key)}?versionId=${encodeURIComponent(version)}`, key, key);
  }
}

interface ListedVersion {
  readonly Key?: string | undefined;
  readonly VersionId?: string | undefined;
  readonly LastModified?: Date | undefined;
  readonly IsLatest?: boolean | undefined;
}

interface ServiceError {
  readonly name?: string;
  readonly message?: string;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
}

function s3Fault(error: unknown, what: string): Fault {
  if (error instanceof Fault) return error;
  const { name = '', message = '', $metadata } = error as ServiceError;
  const status = $metadata?.httpStatusCode;
  const request = $metadata?.requestId === undefined ? '' : ` (request ${$metadata.requestId})`;
  const text = `${what}: ${name} ${message}${request}`;
  if (name === 'NoSuchBucket') {
    return new Fault('config-invalid', text, { cause: error, hint: 'Make the bucket, or correct its name.' });
  }
  if (name === 'NoSuchKey' || name === 'NotFound' || status === 404) {
    return new Fault('blob-missing', text, { cause: error });
  }
  if (name === 'PreconditionFailed' || status === 412)
    return new Fault('blob-exists', text, { cause: error });
  if (name === 'InvalidRange' || status === 416) return new Fault('bytes-short', text, { cause: error });
  if (status === 403 || status === 401) {
    return new Fault('auth-failed', text, {
      cause: error,
      hint: 'The store refused us: check the credentials, and the policy of the bucket.',
    });
  }
  return new Fault('blob-unavailable', text, {
    cause: error,
    hint: 'Check the network to the object store, its endpoint and its region.',
  });
}
