// A server that speaks S3, for tests: MinIO where there is one, else moto (moto.ts), which comes from PyPI in seconds.
//
//   LAKEBED_MINIO=/path/to/minio   that one
//   LAKEBED_MINIO=build            built with Go from its module, once, into the user's cache (minutes)
//   otherwise                      `minio` on the PATH, or one that was built before

import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import {
  CreateBucketCommand,
  PutBucketVersioningCommand,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3';
import { startMoto } from './moto.ts';
import { freePort } from './safekeeper/neon-postgres.ts';

const MODULE = 'github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c';
const BUILT = join(homedir(), '.cache', 'lakebed', 'bin');
const BUILD_MS = 30 * 60_000;
const START_MS = 60_000;

export interface S3Server {
  /** MinIO or moto. */
  readonly name: string;
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** SIGSTOP: it answers nobody; SIGCONT. */
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

async function findMinio(): Promise<string | undefined> {
  const asked = process.env['LAKEBED_MINIO'] ?? '';
  if (asked === 'build') {
    const built = join(BUILT, 'minio');
    const env = { ...process.env, GOBIN: BUILT };
    if (!existsSync(built)) await promisify(execFile)('go', ['install', MODULE], { env, timeout: BUILD_MS });
    return built;
  }
  if (asked !== '') return asked;
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), BUILT];
  return directories.map(directory => join(directory, 'minio')).find(path => existsSync(path));
}

async function startMinio(program: string): Promise<S3Server> {
  const data = mkdtempSync(join(tmpdir(), 'lakebed-minio-'));
  const address = `127.0.0.1:${await freePort()}`;
  const credentials = { accessKeyId: 'lakebed', secretAccessKey: 'lakebed-secret' };
  const env = {
    ...process.env,
    MINIO_ROOT_USER: credentials.accessKeyId,
    MINIO_ROOT_PASSWORD: credentials.secretAccessKey,
    MINIO_BROWSER: 'off',
  };
  const child = spawn(program, ['server', data, '--address', address, '--quiet'], { env, stdio: 'ignore' });
  const endpoint = `http://${address}`;
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise(resolve => child.once('exit', resolve));
      child.kill();
      await ended;
    }
    rmSync(data, { recursive: true, force: true });
  };
  const until = performance.now() + START_MS;
  for (;;) {
    const answer = await fetch(`${endpoint}/minio/health/ready`).catch(() => undefined);
    if (answer?.ok) return { name: 'MinIO', endpoint, credentials, signal: s => void child.kill(s), stop };
    if (child.exitCode !== null || performance.now() > until) {
      await stop();
      throw new Error(`${program} does not answer as MinIO does`);
    }
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

/** The server with an empty bucket, or in one line why there is none. */
export async function startS3(bucket: string): Promise<S3Server | string> {
  const minio = await findMinio();
  const server = minio === undefined ? await startMoto() : await startMinio(minio);
  if (typeof server === 'string') return server;
  await clientOf(server).send(new CreateBucketCommand({ Bucket: bucket }));
  return { name: 'moto', ...server };
}

function clientOf({ endpoint, credentials }: Pick<S3Server, 'endpoint' | 'credentials'>): S3Client {
  return new S3Client({ region: 'us-east-1', endpoint, credentials, forcePathStyle: true });
}

/** What is replaced or removed from now on is kept. */
export async function keepVersions(server: S3Server, bucket: string): Promise<void> {
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  await clientOf(server).send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration }));
}

export async function keysIn(server: S3Server, bucket: string, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  const pages = paginateListObjectsV2({ client: clientOf(server) }, { Bucket: bucket, Prefix: prefix });
  for await (const { Contents = [] } of pages) keys.push(...Contents.map(({ Key = '' }) => Key));
  return keys;
}

export const s3Env = ({ credentials }: S3Server): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
});
