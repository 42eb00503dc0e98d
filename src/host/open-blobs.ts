// An object store by its location, retrying:
//
//   some/path  /some/path  file:///some/path          a directory                              (blobs-local.ts)
//   s3://BUCKET/PREFIX?region=R&endpoint=URL          AWS S3, or what speaks it at the endpoint    (blobs-s3.ts)
//
// Drivers are loaded when asked for: the S3 client takes a tenth of a second to load.

import { fileURLToPath } from 'node:url';
import { Fault } from '../base/fault.ts';
import type { Blobs } from '../base/ports.ts';
import { localBlobs } from './blobs-local.ts';
import { retryingBlobs } from './blobs-retry.ts';
import type { S3Options } from './blobs-s3.ts';
import { hostClock } from './clock.ts';
import { hostRandom } from './random.ts';

export function s3Location(location: string): S3Options {
  const url = new URL(location);
  const bucket = url.hostname;
  const known = new Set(['region', 'endpoint']);
  const strange = [...url.searchParams.keys()].find(name => !known.has(name));
  if (bucket === '' || strange !== undefined) {
    throw new Fault('config-invalid', `not the location of a bucket: "${location}"`, {
      hint: 'It looks like s3://BUCKET/PREFIX?region=eu-central-1, and &endpoint=URL for a store that is not AWS.',
    });
  }
  return {
    bucket,
    prefix: decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, ''),
    region: url.searchParams.get('region') ?? undefined,
    endpoint: url.searchParams.get('endpoint') ?? undefined,
  };
}

export async function openBlobs(location: string): Promise<Blobs> {
  const options = { clock: hostClock, random: hostRandom };
  if (location.startsWith('s3://')) {
    const s3 = s3Location(location);
    const { s3Blobs } = await import('./blobs-s3.ts');
    return retryingBlobs(s3Blobs(s3), options);
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//.exec(location)?.[1];
  if (scheme !== undefined && scheme !== 'file') {
    throw new Fault('config-invalid', `no driver for the object store "${location}"`, {
      hint: 'Give a directory, or s3://BUCKET/PREFIX.',
    });
  }
  return retryingBlobs(localBlobs(scheme === 'file' ? fileURLToPath(location) : location), options);
}
