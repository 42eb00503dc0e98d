// A server of AWS's S3 and KMS for tests: moto, started on a port of its own. Found as `moto_server` on the PATH, or
// installed from PyPI into a virtual environment under the temporary directory; where neither is possible, the
// reason is told, for the suite to say it was skipped.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const INSTALL_MS = 240_000;
const START_MS = 30_000;

export interface Moto {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** SIGSTOP: it answers nobody; SIGCONT. */
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

function onPath(program: string): string | undefined {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, program);
    if (directory !== '' && existsSync(path)) return path;
  }
  return undefined;
}

async function works(program: string): Promise<boolean> {
  try {
    await run(program, ['--help'], { timeout: START_MS });
    return true;
  } catch {
    return false;
  }
}

async function findOrInstall(): Promise<string> {
  const there = onPath('moto_server');
  if (there !== undefined && (await works(there))) return there;
  const home = join(tmpdir(), 'lakebed-moto-venv');
  const installed = join(home, 'bin', 'moto_server');
  if (existsSync(installed) && (await works(installed))) return installed;
  const python = onPath('python3');
  if (python === undefined) throw new Error('there is no python3');
  await run(python, ['-m', 'venv', home], { timeout: INSTALL_MS });
  await run(join(home, 'bin', 'pip'), ['install', '--quiet', 'moto[server,s3,kms]>=5'], {
    timeout: INSTALL_MS,
  });
  return installed;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise(resolve => server.close(resolve));
  return port;
}

async function answers(endpoint: string, child: ChildProcess): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`moto_server ended with code ${child.exitCode}`);
    const answer = await fetch(`${endpoint}/moto-api/`).catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > until) throw new Error('moto_server did not answer');
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

/** The server, or in one line why there is none. */
export async function startMoto(): Promise<Moto | string> {
  try {
    const program = await findOrInstall();
    const port = await freePort();
    const child = spawn(program, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
    const endpoint = `http://127.0.0.1:${port}`;
    const stop = async (): Promise<void> => {
      if (child.exitCode !== null) return;
      const ended = new Promise(resolve => child.once('exit', resolve));
      child.kill();
      await ended;
    };
    try {
      await answers(endpoint, child);
    } catch (error) {
      await stop();
      throw error;
    }
    return {
      endpoint,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      signal: s => void child.kill(s),
      stop,
    };
  } catch (error) {
    return `no moto server (pip install 'moto[server]'): ${(error as Error).message.split('\n')[0]}`;
  }
}
