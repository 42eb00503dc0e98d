// Data directories of released versions, kept for ever: what this version writes, the next must open.
//
//   integration/fixtures/upgrade/<version>/data.tar.zst     safekeeper/ pageserver/ store/ lakebed-keys/
//   integration/fixtures/upgrade/<version>/answers.json     what is in them: pages by LSN, the digest of the WAL
//
// The state is that of a crash: some of the log is in layers and in the object store, the rest on the safekeeper alone.
// `node integration/upgrade/write-fixture.ts v1.2.3` makes one, before that version is released.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { formatLsn, type Lsn } from '../../src/base/lsn.ts';
import type { ModelLog } from '../pageserver/model-log.ts';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';
import { SimRandom } from '../sim/random.ts';
import {
  makeTimeline,
  ok,
  positionOf,
  pushRecords,
  readerOf,
  sizeBelow,
  TENANT,
  TIMELINE,
} from './small-storage.ts';

export const FIXTURES = resolve(import.meta.dirname, '../fixtures/upgrade');
const DIRECTORIES = ['safekeeper', 'pageserver', 'store', 'lakebed-keys'];
const FIRST_RECORDS = 20;
const LAST_RECORDS = 8;
/** A layer in the cache and its object are the same bytes: they are found far apart, and kept once. */
const LONG = {
  [constants.ZSTD_c_compressionLevel]: 19,
  [constants.ZSTD_c_enableLongDistanceMatching]: 1,
  [constants.ZSTD_c_windowLog]: 26,
};

export interface PageAnswer {
  readonly rel: number;
  readonly blk: number;
  readonly lsn: Lsn;
  readonly sha256: string;
}

export interface Answers {
  readonly tenant: string;
  readonly timeline: string;
  readonly start: Lsn;
  readonly end: Lsn;
  /** Of the WAL from start to end. */
  readonly walSha256: string;
  readonly pages: readonly PageAnswer[];
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export const versions = (): string[] => readdirSync(FIXTURES).sort();

export const answersOf = (version: string): Answers =>
  JSON.parse(readFileSync(join(FIXTURES, version, 'answers.json'), 'utf8')) as Answers;

export function unpackFixture(version: string, into: string): void {
  const tar = zstdDecompressSync(readFileSync(join(FIXTURES, version, 'data.tar.zst')), {
    params: { [constants.ZSTD_d_windowLogMax]: 26 },
  });
  execFileSync('tar', ['-C', into, '-xpf', '-'], { input: tar });
}

const pagesAt = (log: ModelLog, lsn: Lsn): PageAnswer[] =>
  log.begun
    .filter(page => page.lsn < lsn)
    .map(({ rel, blk }) => ({ rel, blk, lsn, sha256: sha256(log.model.page(rel, blk, lsn)) }));

/** The digest of a piece of the log, as the safekeeper computes it from what it keeps. */
export async function walDigest(daemons: DaemonSet, from: Lsn, until: Lsn): Promise<string> {
  const url = `${daemons.safekeeperHttp}/v1/tenant/${TENANT}/timeline/${TIMELINE}/digest`;
  return (await ok(`${url}?from_lsn=${formatLsn(from)}&until_lsn=${formatLsn(until)}`)).sha256;
}

/** Pages that are not what they should be. */
export async function wrongPages(daemons: DaemonSet, pages: readonly PageAnswer[]): Promise<PageAnswer[]> {
  const reader = readerOf(daemons);
  const wrong: PageAnswer[] = [];
  for (const page of pages) {
    if (sha256(await reader.page(page.rel, page.blk, page.lsn)) !== page.sha256) wrong.push(page);
  }
  reader.close();
  return wrong;
}

/** Makes the data in `dir`, and the fixture in `into`. */
export async function writeFixture(dir: string, into: string): Promise<number> {
  const daemons = await startDaemons(dir);
  try {
    const start = await makeTimeline(daemons);
    const random = new SimRandom(20_26);
    const first = await pushRecords(daemons, start, FIRST_RECORDS, random);
    const reader = readerOf(daemons);
    await reader.page(first.log.begun[0]!.rel, first.log.begun[0]!.blk, first.end);
    const timeline = `${daemons.pageserverHttp}/v1/tenant/${TENANT}/timeline/${TIMELINE}`;
    await ok(`${timeline}/checkpoint?wait_until_uploaded=true`, 'PUT');
    const second = await pushRecords(daemons, await positionOf(daemons), LAST_RECORDS, random);
    await reader.page(second.log.begun[0]!.rel, second.log.begun[0]!.blk, second.end);
    reader.close();
    const bytes = Buffer.concat([
      first.log.bytes(first.log.start, first.end),
      second.log.bytes(first.end, second.end),
    ]);
    const answers: Answers = {
      tenant: TENANT,
      timeline: TIMELINE,
      start: start.last,
      end: second.end,
      walSha256: sha256(bytes),
      pages: [...pagesAt(first.log, first.end), ...pagesAt(second.log, second.end)],
    };
    // How far a quorum has the log is known in memory alone until the control file is saved, now and then.
    await ok(`${daemons.safekeeperHttp}/v1/tenant/${TENANT}/timeline/${TIMELINE}/checkpoint`, 'POST');
    await daemons.stop('SIGKILL');
    console.log(DIRECTORIES.map(name => `${name} ${sizeBelow(join(dir, name))} bytes`).join(', '));
    const tar = execFileSync(
      'tar',
      ['-C', dir, '--owner=0', '--group=0', '--exclude=*.pid', '--exclude=*.log', '-cf', '-', ...DIRECTORIES],
      { maxBuffer: 2 ** 30 },
    );
    const packed = zstdCompressSync(tar, { params: LONG });
    writeFileSync(join(into, 'data.tar.zst'), packed);
    writeFileSync(join(into, 'answers.json'), `${JSON.stringify(answers, null, 1)}\n`);
    return packed.length;
  } finally {
    await daemons.stop();
  }
}
