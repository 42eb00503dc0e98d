// A program of `bin` as a process of its own: started, watched, killed, started again on the same directory. Its log
// is kept in a file, which the harness shows when a test fails.

import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const BIN = resolve(import.meta.dirname, '../../bin');
const READY_MS = 60_000;
const STOP_MS = 15_000;

export interface DaemonOptions {
  readonly name: string;
  /** Of `bin`. */
  readonly program: string;
  readonly args: readonly string[];
  /** Its working directory. */
  readonly dir: string;
  /** Answers 2xx when it is ready. */
  readonly statusUrl: string;
  readonly env?: Readonly<Record<string, string>>;
}

export class Daemon {
  readonly options: DaemonOptions;
  readonly logPath: string;
  private child: ChildProcess | undefined;
  /** Bytes of the log that were there before this start. */
  private startedAt = 0;

  constructor(options: DaemonOptions) {
    this.options = options;
    this.logPath = join(options.dir, `${options.name}.log`);
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  get running(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  get log(): string {
    try {
      return readFileSync(this.logPath, 'utf8');
    } catch {
      return '';
    }
  }

  /** Started with an almost empty environment, as launchers do; resolves when it answers. */
  async start(): Promise<void> {
    const { name, program, args, dir, env } = this.options;
    this.startedAt = this.log.length;
    const log = openSync(this.logPath, 'a');
    this.child = spawn(join(BIN, program), [...args], {
      cwd: dir,
      env: { RUST_LOG: process.env['LAKEBED_TEST_LOG'] ?? 'info', ...env },
      stdio: ['ignore', log, log],
    });
    const end = performance.now() + READY_MS;
    while (!(await this.answers())) {
      if (!this.running || performance.now() > end) {
        await this.kill('SIGKILL');
        throw new Error(`${name} did not become ready:\n${this.log.slice(this.startedAt).slice(-4000)}`);
      }
      await new Promise(done => setTimeout(done, 20));
    }
  }

  private async answers(): Promise<boolean> {
    try {
      const response = await fetch(this.options.statusUrl, { signal: AbortSignal.timeout(2000) });
      await response.arrayBuffer();
      return response.ok;
    } catch {
      return false;
    }
  }

  /** Resolves when it is gone, and with what it ended. */
  async kill(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    const { child } = this;
    if (!child || !this.running) return child?.exitCode ?? null;
    const gone = new Promise<void>(done => child.once('exit', () => done()));
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(timer);
    return child.exitCode ?? child.signalCode;
  }

  /** For SIGSTOP and SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  stop(): Promise<number | NodeJS.Signals | null> {
    return this.kill('SIGTERM');
  }
}
