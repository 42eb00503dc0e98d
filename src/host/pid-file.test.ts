import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

let dir: string;
beforeAll(() => (dir = mkdtempSync(join(tmpdir(), 'lakebed-pid-'))));
afterAll(() => rmSync(dir, { recursive: true }));

const locked = (path: string): boolean =>
  spawnSync('/usr/bin/flock', ['-x', '-n', path, '/bin/true']).status !== 0;

test('the process holds the lock for life, its children do not', async () => {
  const path = join(dir, 'x.pid');
  writeFileSync(path, '99999999999');
  expect(locked(path)).toBe(false);
  const code = `
    import { spawn } from 'node:child_process';
    import { lockPidFile } from ${JSON.stringify(join(import.meta.dirname, 'pid-file.ts'))};
    lockPidFile(${JSON.stringify(path)});
    const child = spawn('/bin/sleep', ['60'], { detached: true, stdio: 'ignore' });
    console.log(child.pid);
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module-typescript', '-e', code], { env: {} });
  const said = await new Promise<string>(done => holder.stdout.once('data', d => done(d.toString())));
  expect(readFileSync(path, 'utf8')).toBe(String(holder.pid));
  expect(locked(path)).toBe(true);
  const second = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', code], {
    encoding: 'utf8',
  });
  expect(second.status).not.toBe(0);
  expect(second.stderr).toContain(`another process (${holder.pid}) holds`);
  holder.kill('SIGKILL');
  await new Promise(done => holder.once('close', done));
  expect(locked(path)).toBe(false);
  execFileSync('/bin/kill', [said.trim()]);
});

test('a launcher that asks while we start does not turn us away', async () => {
  const path = join(dir, 'asked.pid');
  writeFileSync(path, '');
  // Whoever asks holds the lock while it does: here for long, where a launcher takes a blink.
  const asking = spawn('/usr/bin/flock', ['-x', path, '/bin/sleep', '0.4']);
  while (!locked(path)) await new Promise(done => setTimeout(done, 5));
  const code = `
    import { lockPidFile } from ${JSON.stringify(join(import.meta.dirname, 'pid-file.ts'))};
    lockPidFile(${JSON.stringify(path)});`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', code], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  asking.kill();
});
