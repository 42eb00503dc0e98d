import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fromUtf8 } from '../base/bytes.ts';
import { readControlFile } from '../xlog/control-file.ts';
import { hostInitdb } from './initdb.ts';

test.each([14, 15, 16, 17, 18])('a cluster of Postgres %i, and nothing of it stays', async major => {
  const temporary = await mkdtemp(join(tmpdir(), 'initdb-test-'));
  await chmod(temporary, 0o755);
  try {
    const initdb = hostInitdb({ distribDir: undefined, temporary });
    const cluster = await initdb.run({ major, superuser: 'cloud_admin', locale: 'C.UTF-8' });
    expect(fromUtf8(await cluster.disk.readFile('PG_VERSION'))).toBe(`${major}\n`);
    const control = readControlFile(await cluster.disk.readFile('global/pg_control'));
    expect(control.dataChecksumVersion).toBe(0);
    await cluster.remove();
    expect(await readdir(temporary)).toEqual([]);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
});

test('a major without a build is told where one was looked for', async () => {
  const initdb = hostInitdb({ distribDir: '/opt/nowhere' });
  const run = initdb.run({ major: 11, superuser: 'x', locale: 'C' });
  await expect(run).rejects.toThrow(/no initdb of Postgres 11/);
  await expect(run).rejects.toMatchObject({ hint: expect.stringContaining('/opt/nowhere/v11/bin/initdb') });
});

test('what initdb says when it fails is told', async () => {
  const initdb = hostInitdb({ distribDir: undefined });
  await expect(initdb.run({ major: 17, superuser: 'x', locale: 'no_SUCH.locale' })).rejects.toThrow(/locale/);
});
