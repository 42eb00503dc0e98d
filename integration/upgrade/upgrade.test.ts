// What each released version wrote opens today: its WAL and its pages are what they were, more WAL is taken in, and
// what comes of it is there after another start.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';
import { SimRandom } from '../sim/random.ts';
import { answersOf, FIXTURES, sha256, unpackFixture, versions, walDigest, wrongPages } from './fixture.ts';
import { ok, positionOf, pushRecords, readerOf } from './small-storage.ts';

const FIXTURE_BYTES_MAX = 500_000;
/** What does not come is told, and not waited for until the test is over. */
const SETTINGS = { pageserver: "wait_lsn_timeout = '20s'" };

let dir: string;
let daemons: DaemonSet | undefined;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-upgrade-'));
});
afterEach(async () => {
  await daemons?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('there is a fixture of this version', async () => {
  const { packageVersion } = await import('../../src/host/daemon.ts');
  expect(versions()).toContain(`v${packageVersion()}`);
});

describe.each(versions())('data of %s', version => {
  const answers = answersOf(version);

  test('the fixture is small', () => {
    expect(statSync(join(FIXTURES, version, 'data.tar.zst')).size).toBeLessThan(FIXTURE_BYTES_MAX);
    expect(answers.pages.length).toBeGreaterThan(15);
  });

  test('opens, reads, and goes on', async () => {
    unpackFixture(version, dir);
    daemons = await startDaemons(dir, SETTINGS);
    expect(await walDigest(daemons, answers.start, answers.end)).toBe(answers.walSha256);
    expect(await wrongPages(daemons, answers.pages)).toEqual([]);
    const { log, end } = await pushRecords(daemons, await positionOf(daemons), 60, new SimRandom(1));
    expect(log.start).toBe(answers.end);
    const added = log.begun.map(({ rel, blk }) => {
      return { rel, blk, lsn: end, sha256: sha256(log.model.page(rel, blk, end)) };
    });
    expect(await wrongPages(daemons, added)).toEqual([]);
    const timeline = `${daemons.pageserverHttp}/v1/tenant/${answers.tenant}/timeline/${answers.timeline}`;
    const reader = readerOf(daemons);
    await reader.page(added[0]!.rel, added[0]!.blk, end);
    reader.close();
    await ok(`${timeline}/checkpoint?wait_until_uploaded=true`, 'PUT');
    expect(daemons.all.map(d => d.log).join('')).not.toMatch(/ERROR/);

    await daemons.stop('SIGTERM');
    daemons = await startDaemons(dir, SETTINGS);
    expect(await wrongPages(daemons, [...answers.pages, ...added])).toEqual([]);
    expect(await walDigest(daemons, answers.start, answers.end)).toBe(answers.walSha256);
  });
});
