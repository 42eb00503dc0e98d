// `lakebed inspect safekeeper` and `lakebed wal export` as a person runs them, on the directory of a safekeeper that
// took WAL: while it runs, after it was killed, after files were damaged, and when the WAL is in the object store.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, lsn, parseLsn } from '../../src/base/lsn.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { neonBin, neonMajors } from './neon-postgres.ts';
import { type Cluster, type SafekeeperProcess, startCluster, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

const BIN = resolve(import.meta.dirname, '../../bin/lakebed');
const MB = 1024 * 1024;
const START = 0x14ebd08;
const KEY = { tenantId: 'a'.repeat(32), timelineId: 'b'.repeat(32) } as TimelineKey;
const NAME = `${KEY.tenantId}/${KEY.timelineId}`;

if (!neonMajors().includes(17)) {
  console.log('skipped: pg_waldump on exported WAL, because NEON_PG_DIR names no build of Postgres 17');
}

let cluster: Cluster;
let sk: SafekeeperProcess;
let log: ComputeLog;
let push: Pusher;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly note: string;
}

const env = (): NodeJS.ProcessEnv => ({
  LAKEBED_STORE: join(cluster.dir, 'remote'),
  LAKEBED_LOCAL_KEYS: join(cluster.dir, 'lakebed-keys'),
  LAKEBED_AUDIT: join(cluster.dir, 'audit.jsonl'),
});

const lakebed = (args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  new Promise(done => {
    execFile(BIN, [...args], { env: { ...env(), ...more }, maxBuffer: 64 * MB }, (error, out, note) =>
      done({ code: error ? Number(error.code) : 0, out, note }),
    );
  });

/** Names, sizes and contents of everything in the data directory. */
function fingerprint(dir: string): string {
  const hash = createHash('sha256');
  for (const name of (readdirSync(dir, { recursive: true }) as string[]).sort()) {
    const path = join(dir, name);
    if (!statSync(path).isFile()) continue;
    hash.update(name).update(readFileSync(path));
  }
  return hash.digest('hex');
}

beforeAll(async () => {
  cluster = await startCluster(1, { withRemote: true, args: ['--partial-backup-timeout', '1s'] });
  sk = cluster.sks[0]!;
  log = new ComputeLog(lsn(START));
  push = new Pusher({ targets: [{ host: '127.0.0.1', port: sk.port }], key: KEY, log });
  await push.elect();
  for (let i = 0; log.end < START + 40 * MB; i++) {
    const end = push.write(ModelWal.payload('x', i, 8000));
    if (i % 500 === 0) await push.committed(end);
  }
  await push.committed(log.end);
});
afterAll(async () => {
  push?.close();
  await cluster?.remove();
});

const directory = (): string => join(sk.dataDir, NAME);
const names = (): string[] => readdirSync(directory()).filter(n => /^[0-9A-F]{24}$/.test(n));

/** The log as it should come out: positions from START on. */
function expectExported(out: string, from: number, to: number): void {
  const files = readdirSync(out).sort();
  expect(files.every(f => statSync(join(out, f)).size === 16 * MB)).toBe(true);
  const first = Number.parseInt(files[0]!.slice(16), 16) * 16 * MB;
  const all = Buffer.concat(files.map(f => readFileSync(join(out, f))));
  expect(Buffer.compare(all.subarray(from - first, to - first), log.bytes(from, to))).toBe(0);
}

describe('inspect safekeeper', () => {
  test('while it runs, without keys and with them', async () => {
    const claims = await lakebed(['inspect', 'safekeeper', sk.dataDir]);
    expect(claims.out).toContain(NAME);
    expect(claims.out).toMatch(/000000010000000000000002 {2}0\/2000000 to 0\/3000000, claimed/);
    await lakebed(['inspect', 'safekeeper', sk.dataDir, NAME, '--keys']);
    expect(parseLsn((await sk.status(KEY)).flush_lsn)).toBe(log.end);
  });

  test('after a kill: all is proven, and nothing was touched', async () => {
    await sk.kill('SIGKILL');
    const before = fingerprint(sk.dataDir);
    const ran = await lakebed(['inspect', 'safekeeper', sk.dataDir, '--keys', '--json']);
    const [head, timeline] = ran.out
      .trim()
      .split('\n')
      .map(l => JSON.parse(l));
    expect(head).toMatchObject({ node_id: '1', problems: [] });
    expect(timeline).toMatchObject({
      tenant_id: KEY.tenantId,
      control: { timeline_start_lsn: formatLsn(lsn(START)), acceptor_state: { term: 1 } },
      record_end: formatLsn(log.end),
    });
    expect(timeline.segments.map((s: { name: string; proven: boolean }) => [s.name, s.proven])).toEqual(
      names().map(n => [n, true]),
    );
    expect(timeline.segments.at(-1).to).toBe(formatLsn(log.end));
    const people = await lakebed(['inspect', 'safekeeper', sk.dataDir, '--keys']);
    expect(people.out).toContain(`whole records end at ${formatLsn(log.end)}`);
    expect(fingerprint(sk.dataDir)).toBe(before);
    expect(readFileSync(join(cluster.dir, 'audit.jsonl'), 'utf8')).toContain('unwrap');
  });

  test('without the right keys it says so, and tells what it can', async () => {
    const ran = await lakebed(['inspect', 'safekeeper', sk.dataDir, '--keys'], {
      LAKEBED_LOCAL_KEYS: join(cluster.dir, 'no-keys'),
    });
    expect(ran.code).toBe(1);
    expect(ran.out).toMatch(/! safekeeper\.control: /);
    expect(ran.out).toContain('NOT PROVEN');
  });

  test('damage is named, and what is whole is told', async () => {
    const changed = [`${names()[1]}`, 'safekeeper.control'];
    for (const name of changed) {
      const path = join(directory(), name);
      const kept = readFileSync(path);
      const bytes = Buffer.from(kept);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(path, bytes);
      const ran = await lakebed(['inspect', 'safekeeper', sk.dataDir, '--keys']);
      expect(ran.code).toBe(1);
      expect(ran.out).toMatch(new RegExp(`! ${name}: `));
      expect(ran.out).toMatch(/000000010000000000000001 {2}0\/14EBD08 to 0\/2000000, proven/);
      writeFileSync(path, kept);
    }
    const missing = join(directory(), names()[1]!);
    const kept = readFileSync(missing);
    rmSync(missing);
    const ran = await lakebed(['inspect', 'safekeeper', sk.dataDir]);
    expect(ran.code).toBe(1);
    expect(ran.out).toMatch(/! between 000000010000000000000001 and 000000010000000000000003/);
    writeFileSync(missing, kept);
    expect((await lakebed(['inspect', 'safekeeper', sk.dataDir])).code).toBe(0);
  });

  test('a directory that is none', async () => {
    const ran = await lakebed(['inspect', 'safekeeper', cluster.dir]);
    expect(ran.code).toBe(1);
    expect(ran.out).toContain('is this a data directory?');
    const nowhere = await lakebed(['inspect', 'safekeeper', join(cluster.dir, 'nowhere')]);
    expect(nowhere.code).toBe(1);
    expect(nowhere.note).toMatch(/the data directory cannot be read.*\n.*-D/);
  });

  test('files where directories should be, and the other way round', async () => {
    const odd = join(cluster.dir, 'odd');
    cpSync(sk.dataDir, odd, { recursive: true });
    writeFileSync(join(odd, 'c'.repeat(32)), 'x');
    writeFileSync(join(odd, KEY.tenantId, 'd'.repeat(32)), 'x');
    writeFileSync(join(odd, NAME, 'README'), 'x');
    rmSync(join(odd, NAME, names()[1]!));
    mkdirSync(join(odd, NAME, names()[1]!));
    rmSync(join(odd, 'safekeeper.id'));
    mkdirSync(join(odd, 'safekeeper.id'));
    const ran = await lakebed(['inspect', 'safekeeper', odd, '--keys']);
    expect(ran.code).toBe(1);
    for (const what of ['c'.repeat(32), 'd'.repeat(32), 'README', names()[1]!, 'safekeeper.id']) {
      expect(ran.out).toMatch(new RegExp(`! .*${what}: `));
    }
    expect(ran.out).toContain(`whole records end at ${formatLsn(log.end)}`);
  });
});

describe('wal export', () => {
  test('from a directory: the bytes that were pushed', async () => {
    const out = join(cluster.dir, 'from-directory');
    const ran = await lakebed(['wal', 'export', NAME, out, '--safekeeper', sk.dataDir]);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.note).toContain('pg_waldump --start 0/14EBD08');
    expectExported(out, START, log.end);
    const dumped = await lakebed(['wal', 'dump', out, '--start', '0/14EBD08', '--stats=record']);
    expect(dumped.out).toMatch(/XLOG\/NOOP/);
    expect(dumped.code).toBe(0);
    // What is there is not written over.
    const again = await lakebed(['wal', 'export', NAME, out, '--safekeeper', sk.dataDir]);
    expect(again.note).toMatch(/000000010000000000000001 is there already/);
  });

  test.skipIf(!neonMajors().includes(17))('pg_waldump reads it', async () => {
    const out = join(cluster.dir, 'from-directory');
    const ran = await new Promise<string>((done, fail) =>
      execFile(
        neonBin(17, 'pg_waldump'),
        ['-p', out, '--start', '0/14EBD08', '--end', formatLsn(log.end), '--stats'],
        (error, text) => (error ? fail(error) : done(text)),
      ),
    );
    expect(ran).toMatch(/XLOG +\d{4}/);
  });

  test('from the object store alone: whole segments and the incomplete one', async () => {
    await sk.start();
    push.close();
    push = new Pusher({ targets: [{ host: '127.0.0.1', port: sk.port }], key: KEY, log });
    await push.elect();
    const remote = join(cluster.dir, 'remote', NAME);
    await until(
      // Not what is still being put: `<name>.partial-<random>`.
      () =>
        existsSync(remote) &&
        readdirSync(remote).filter(n => /^[0-9A-F]{24}(_|$)/.test(n) && !n.includes('.partial-')).length >= 3,
      30_000,
    );
    const out = join(cluster.dir, 'from-store');
    expect(await lakebed(['wal', 'export', NAME, out])).toMatchObject({ code: 0 });
    expectExported(out, START, Math.floor(log.end / (16 * MB)) * 16 * MB);
    const part = join(cluster.dir, 'part');
    const ran = await lakebed(['wal', 'export', NAME, part, '--start', '0/2000010', '--end', '0/3000000']);
    expect(ran.out).toBe('000000010000000000000002\n');
  });

  describe('from a damaged directory', () => {
    const second = '000000010000000000000002';
    let copies = 0;
    /** A copy of the data directory, to come to harm; and an object store that has the keys alone. */
    const damagedCopy = (harm: (dir: string) => void): { dir: string; out: string; keysAlone: string } => {
      const base = join(cluster.dir, `damaged-${++copies}`);
      const [dir, keysAlone] = [join(base, 'sk1'), join(base, 'store')];
      cpSync(sk.dataDir, dir, { recursive: true });
      cpSync(join(cluster.dir, 'remote', 'keys'), join(keysAlone, 'keys'), { recursive: true });
      harm(join(dir, NAME));
      return { dir, keysAlone, out: join(base, 'out') };
    };
    const flip = (dir: string): void => {
      const bytes = readFileSync(join(dir, second));
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(join(dir, second), bytes);
    };

    test('a segment that is damaged there is taken from the object store', async () => {
      const { dir, out } = damagedCopy(flip);
      const ran = await lakebed(['wal', 'export', NAME, out, '--safekeeper', dir]);
      expect(ran.note).toMatch(new RegExp(`${second} of the directory: .*damaged`));
      expect(ran.code).toBe(0);
      expectExported(out, START, 0x3000000);
    });

    test('where no other copy is the log is written as far as it is proven', async () => {
      const { dir, out, keysAlone } = damagedCopy(flip);
      const ran = await lakebed(['wal', 'export', NAME, out, '--safekeeper', dir], {
        LAKEBED_STORE: keysAlone,
      });
      expect(ran.code).toBe(1);
      const [, end] = /is not whole, it can be read up to ([0-9A-F/]+):/.exec(ran.note) ?? [];
      expect(parseLsn(end!)).toBeGreaterThan(0x2600000);
      expectExported(out, START, parseLsn(end!));
      expect(ran.note).toContain('--start 0/3000000');
      const rest = await lakebed(
        ['wal', 'export', NAME, join(out, 'rest'), '--safekeeper', dir, '-s', '0/3000000'],
        { LAKEBED_STORE: keysAlone },
      );
      expect(rest).toMatchObject({ code: 0 });
      expectExported(join(out, 'rest'), 0x3000000, log.end - 1000);
    });

    test('a segment that ends early, or is gone, ends the log', async () => {
      const short = damagedCopy(dir => truncateSync(join(dir, second), 3 * MB));
      const gone = damagedCopy(dir => rmSync(join(dir, second)));
      for (const { dir, out, keysAlone } of [short, gone]) {
        const store = { LAKEBED_STORE: keysAlone };
        const ran = await lakebed(['wal', 'export', NAME, out, '--safekeeper', dir], store);
        expect(ran.code).toBe(1);
        expect(ran.note).toMatch(
          /it ends at 0\/2[0-9A-F]+ already|WAL from 0\/2000000 to 0\/3000000 is neither here/,
        );
        expectExported(out, START, 0x2000000);
        // The object store has it still.
        rmSync(out, { recursive: true });
        expect(await lakebed(['wal', 'export', NAME, out, '--safekeeper', dir])).toMatchObject({ code: 0 });
        expectExported(out, START, 0x3000000);
      }
    });

    test('without a control record, but not without keys', async () => {
      const { dir, out } = damagedCopy(dir => truncateSync(join(dir, 'safekeeper.control'), 0));
      const ran = await lakebed(['wal', 'export', NAME, out, '--safekeeper', dir]);
      expect(ran).toMatchObject({ code: 0 });
      expect(ran.note).toContain('Going on without the control record');
      expectExported(out, START, 0x3000000);
      const none = { LAKEBED_LOCAL_KEYS: join(cluster.dir, 'no-keys') };
      const locked = await lakebed(['wal', 'export', NAME, join(out, 'x'), '--safekeeper', sk.dataDir], none);
      expect(locked.code).toBe(1);
      expect(locked.note).not.toMatch(/Going on|damaged/);
      const strange = await lakebed(['wal', 'export', NAME, join(out, 'x'), '--safekeeper', cluster.dir]);
      expect(strange.note).toMatch(/has no timeline/);
    });
  });

  test('what is not there', async () => {
    const nobody = `${'c'.repeat(32)}/${'d'.repeat(32)}`;
    expect((await lakebed(['wal', 'export', nobody, join(cluster.dir, 'x')])).code).toBe(1);
    expect((await lakebed(['wal', 'export', 'nonsense', join(cluster.dir, 'x')])).note).toContain(
      'TENANT/TIMELINE',
    );
  });
});
