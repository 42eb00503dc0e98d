// Where the object store is, as Neon's daemons are told: an inline TOML table, in a file or on the command line.
// The kind is inferred from the keys:
//
//   {local_path = "/data/remote"}
//   {bucket_name = "b", bucket_region = "eu-north-1", prefix_in_bucket = "/pageserver/", endpoint = "http://minio:9000"}
//
// What tunes requests (timeout, concurrency_limit ...) is taken; unknown keys are told, not refused.
//
// Answers to RemoteStorageConfig of libs/remote_storage.

import { durationSchema } from './duration.ts';
import { Fault } from './fault.ts';
import { type Fields, integer, object, optional, type Schema, string } from './schema.ts';

export type RemoteStorage =
  | { readonly kind: 'local'; readonly path: string }
  | {
      readonly kind: 's3';
      readonly bucket: string;
      readonly region: string | undefined;
      /** Without slashes at its ends. */
      readonly prefix: string;
      readonly endpoint: string | undefined;
      /** Requests at once. */
      readonly concurrency: number;
    };

const TUNING: Fields = {
  timeout: optional(durationSchema),
  small_timeout: optional(durationSchema),
  concurrency_limit: optional(integer(1)),
  max_keys_per_list_response: optional(integer(1)),
  upload_storage_class: optional(string()),
};

const LOCAL = { local_path: string(), ...TUNING };
const S3 = {
  bucket_name: string(),
  bucket_region: optional(string()),
  prefix_in_bucket: optional(string()),
  endpoint: optional(string()),
  ...TUNING,
};

const CONCURRENCY = 100;

/** `where` names file and key; `unknown` is told of keys that say nothing to us. */
export function readRemoteStorage(
  value: unknown,
  where: string,
  unknown: (name: string) => void,
): RemoteStorage {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Fault('config-invalid', `${where} is not a table`, {
      hint: 'Write {local_path = "/some/directory"} or {bucket_name = "...", bucket_region = "..."}.',
    });
  }
  const known = new Set(Object.keys('local_path' in value ? LOCAL : S3));
  for (const name of Object.keys(value)) if (!known.has(name)) unknown(name);
  if ('local_path' in value) {
    const { local_path } = (object(LOCAL) as Schema<{ local_path: string }>).parse(value, where);
    return { kind: 'local', path: local_path };
  }
  if (!('bucket_name' in value)) {
    throw new Fault('config-invalid', `${where} names no object store that there is a driver for`, {
      hint: 'Write {local_path = "/some/directory"} or {bucket_name = "...", bucket_region = "..."}.',
    });
  }
  const s3 = object(S3).parse(value, where) as {
    bucket_name: string;
    bucket_region?: string;
    prefix_in_bucket?: string;
    endpoint?: string;
    concurrency_limit?: number;
  };
  return {
    kind: 's3',
    bucket: s3.bucket_name,
    region: s3.bucket_region,
    prefix: (s3.prefix_in_bucket ?? '').replace(/^\/+|\/+$/g, ''),
    endpoint: s3.endpoint,
    concurrency: s3.concurrency_limit ?? CONCURRENCY,
  };
}
