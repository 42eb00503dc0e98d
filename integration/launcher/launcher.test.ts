// Starting and stopping the daemons as Neon's launcher does: a cleared environment, a pid file probed with flock,
// readiness by polling, SIGTERM and SIGQUIT; none leaves a process, a lock or a port behind.
// LAKEBED_LAUNCHES sets how often each is started.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../safekeeper/neon-postgres.ts';

const BIN = resolve(import.meta.dirname, '../../bin');
const LAUNCHES = Number(process.env['LAKEBED_LAUNCHES'] ?? 6);
/** Longer than any launcher waits: a machine may be busy with other things. */
const READY_MS = 60_000;
const FLOCK = '/usr/bin/flock';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-launcher-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Is the pid file locked by a living process? As the launcher asks: by trying. */
const locked = (path: string): boolean =>
  existsSync(path) && spawnSync(FLOCK, ['-x', '-n', path, '/bin/true']).status !== 0;

const refuses = (port: number): Promise<boolean> =>
  new Promise(done => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      done(false);
    });
    socket.once('error', () => done(true));
  });

interface Program {
  readonly name: string;
  readonly pidFile: string | undefined;
  readonly status: string;
  prepare(): Promise<{ args: string[]; cwd: string; port: number; ports: number[] }>;
}

const PROGRAMS: Program[] = [
  {
    name: 'storage_broker',
    pidFile: undefined,
    status: '/status',
    async prepare() {
      const port = await freePort();
      return { args: ['--listen-addr', `127.0.0.1:${port}`], cwd: dir, port, ports: [port] };
    },
  },
  {
    name: 'safekeeper',
    pidFile: 'safekeeper.pid',
    status: '/v1/status',
    async prepare() {
      const cwd = mkdtempSync(join(dir, 'sk-'));
      const [pg, tenantPg, http] = [await freePort(), await freePort(), await freePort()];
      const args = [
        ...['-D', cwd, '--id', '1', '--listen-pg', `127.0.0.1:${pg}`],
        ...['--listen-pg-tenant-only', `127.0.0.1:${tenantPg}`],
        ...['--listen-http', `127.0.0.1:${http}`, '--availability-zone', 'sk-1'],
        ...['--broker-endpoint', 'http://127.0.0.1:1', '--no-sync', '--pg-auth-public-key-path', ''],
        ...['--a-flag-of-next-year', 'value'],
      ];
      return { args, cwd, port: http, ports: [pg, tenantPg, http] };
    },
  },
  {
    name: 'pageserver',
    pidFile: 'pageserver.pid',
    status: '/v1/status',
    async prepare() {
      const cwd = mkdtempSync(join(dir, 'ps-'));
      const [pg, http] = [await freePort(), await freePort()];
      writeFileSync(join(cwd, 'identity.toml'), 'id = 1\n');
      const metadata = { host: '127.0.0.1', port: pg, http_host: '127.0.0.1', http_port: http };
      writeFileSync(join(cwd, 'metadata.json'), JSON.stringify(metadata));
      const toml = [
        `listen_pg_addr = '127.0.0.1:${pg}'`,
        `listen_http_addr = '127.0.0.1:${http}'`,
        "broker_endpoint = 'http://127.0.0.1:1'",
        `remote_storage = { local_path = '${join(cwd, 'store')}' }`,
        'a_setting_of_next_year = true',
      ];
      writeFileSync(join(cwd, 'pageserver.toml'), `${toml.join('\n')}\n`);
      return { args: ['-D', cwd, '--a-flag-of-next-year=1'], cwd, port: http, ports: [pg, http] };
    },
  },
];

/** Processor time of a process so far, in ms: what it costs on a machine that does nothing else. */
function cpuMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return Number.NaN;
  }
}

const median = (of: readonly number[]): number =>
  Math.round([...of].sort((a, b) => a - b)[Math.floor(of.length / 2)]!);

const exited = (child: ChildProcess): Promise<number | NodeJS.Signals | null> =>
  new Promise(done => child.once('exit', (code, signal) => done(code ?? signal)));

/** Waits for what a daemon does while it starts, and no longer than it lives. */
async function until(child: ChildProcess, holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) {
    if (child.exitCode !== null) throw new Error(`it ended with exit code ${child.exitCode}`);
    await new Promise(done => setTimeout(done, 20));
  }
}

describe.each(PROGRAMS)('$name', program => {
  test(`${LAUNCHES} starts and stops`, async () => {
    const ready: number[] = [];
    const processor: number[] = [];
    for (let i = 0; i < LAUNCHES; i++) {
      const { args, cwd, port, ports } = await program.prepare();
      const pidFile = program.pidFile && join(cwd, program.pidFile);
      // What an earlier life left behind, unlocked.
      if (pidFile && i % 2 === 0) writeFileSync(pidFile, '4194304');
      const began = performance.now();
      const child = spawn(join(BIN, program.name), args, { cwd, env: {}, stdio: ['ignore', 'pipe', 'pipe'] });
      let log = '';
      child.stdout.on('data', piece => (log += piece));
      child.stderr.on('data', piece => (log += piece));
      const gone = exited(child);
      for (;;) {
        const status = await fetch(`http://127.0.0.1:${port}${program.status}`)
          .then(r => r.status)
          .catch(() => 0);
        if (status !== 0) {
          expect(status).toBe(200);
          break;
        }
        if (child.exitCode !== null || performance.now() - began > READY_MS) {
          child.kill('SIGKILL');
          throw new Error(`not ready:\n${log}`);
        }
        await new Promise(done => setTimeout(done, 10));
      }
      ready.push(performance.now() - began);
      processor.push(cpuMs(child.pid!));
      if (pidFile) {
        expect(readFileSync(pidFile, 'utf8')).toBe(String(child.pid));
        expect(locked(pidFile)).toBe(true);
      }
      child.kill(i % 3 === 2 ? 'SIGQUIT' : 'SIGTERM');
      expect(await gone).toBe(0);
      if (pidFile) expect(locked(pidFile)).toBe(false);
      for (const p of ports) expect(await refuses(p)).toBe(true);
      expect(log).not.toMatch(/ERROR|WARN/);
    }
    const figures = `ready in ${median(ready)} ms, ${median(processor)} ms of them processor time (medians)`;
    console.log(`${program.name}: ${figures}`);
    // A launcher waits for 10 s. What other work on the machine adds is not ours; what the start itself takes is.
    expect(median(processor)).toBeLessThan(1000);
  }, 600_000);

  test('--version names the features a launcher looks for', () => {
    const line = execFileSync(join(BIN, program.name), ['--version'], { env: {} }).toString();
    expect(line).toMatch(
      /^Lakebed \d+\.\d+\.\d+ git:[0-9a-f]{40} failpoints: false, features: \["testing"\]\n$/,
    );
  });

  test('through a symbolic link', () => {
    const link = join(dir, `link-to-${program.name}`);
    symlinkSync(join(BIN, program.name), link);
    expect(execFileSync(link, ['--version'], { env: {}, cwd: '/' }).toString()).toContain('Lakebed');
  });

  test('a wrong flag is one sentence with a way out, exit code 1', context => {
    // The pageserver's only flag with a value is a directory; its settings are judged where they are read.
    if (program.name === 'pageserver') return context.skip();
    const bad = program.name === 'safekeeper' ? ['--listen-pg', 'nowhere'] : ['--listen-addr', 'nowhere'];
    const { status, stderr } = spawnSync(join(BIN, program.name), bad, { env: {}, encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/takes an address such as 127\.0\.0\.1:5454, and it is 'nowhere'/);
    expect(stderr.split('\n').length).toBeLessThan(5);
  });
});

describe('pageserver', () => {
  const run = (...args: string[]): ReturnType<typeof spawnSync> =>
    spawnSync(join(BIN, 'pageserver'), args, { env: {}, encoding: 'utf8', timeout: 15_000 });

  test('what is missing or wrong in its files is one sentence with a way out', () => {
    const cwd = mkdtempSync(join(dir, 'bad-'));
    const says = (): string => {
      const { status, stderr } = run('-D', cwd);
      expect(status).toBe(1);
      expect(String(stderr).split('\n').length).toBeLessThan(5);
      return String(stderr);
    };
    expect(says()).toMatch(/there is no identity\.toml in .*\n.*-D/);
    writeFileSync(join(cwd, 'identity.toml'), 'id = 7\n');
    expect(says()).toMatch(/there is no pageserver\.toml/);
    writeFileSync(join(cwd, 'pageserver.toml'), "listen_pg_addr = 'nowhere'\n");
    expect(says()).toMatch(/pageserver\.toml: listen_pg_addr.*nowhere/);
    expect(run('--enabled-features').stdout).toBe('{"features":["testing"]}\n');
  });
});

describe('safekeeper', () => {
  const run = (...args: string[]): ReturnType<typeof spawnSync> =>
    spawnSync(join(BIN, 'safekeeper'), args, { env: {}, encoding: 'utf8', timeout: 15_000 });

  test('the id is for life; --init only writes it; two on one directory are refused', async () => {
    const data = mkdtempSync(join(dir, 'id-'));
    expect(run('-D', data).stderr).toContain('no id yet');
    expect(run('-D', data, '--id', '5', '--init').status).toBe(0);
    expect(readFileSync(join(data, 'safekeeper.id'), 'utf8')).toBe('5');
    expect(run('-D', data, '--id', '6').stderr).toContain(
      '--id 6 is not the id of this data directory, which is 5',
    );
    const [pg, http] = [await freePort(), await freePort()];
    const args = ['-D', data, '-l', `127.0.0.1:${pg}`, '--listen-http', `127.0.0.1:${http}`];
    const first = spawn(join(BIN, 'safekeeper'), args, { env: {}, stdio: 'ignore' });
    const gone = exited(first);
    await until(first, () => locked(join(data, 'safekeeper.pid')));
    const second = run(...args);
    expect(second.status).toBe(1);
    expect(second.stderr).toContain(`another process (${first.pid}) holds safekeeper.pid`);
    first.kill('SIGKILL');
    await gone;
    const taken = spawn(join(BIN, 'safekeeper'), args, { env: {}, stdio: 'ignore' });
    const ended = exited(taken);
    await until(taken, async () => !(await refuses(http)));
    const other = mkdtempSync(join(dir, 'port-'));
    const clash = run(
      '-D',
      other,
      '--id',
      '1',
      '-l',
      `127.0.0.1:${pg}`,
      '--listen-http',
      `127.0.0.1:${await freePort()}`,
    );
    expect(clash.status).toBe(1);
    expect(clash.stderr).toContain(`cannot listen on 127.0.0.1:${pg}`);
    taken.kill('SIGTERM');
    await ended;
  }, 60_000);

  test('the last occurrence of a flag wins', async () => {
    const data = mkdtempSync(join(dir, 'last-'));
    expect(run('-D', '/nowhere/at/all', '--id', '1', '--id', '9', '--init', '-D', data).status).toBe(0);
    expect(readFileSync(join(data, 'safekeeper.id'), 'utf8')).toBe('9');
  });
});
