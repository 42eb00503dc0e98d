// Whole safekeepers and brokers as processes of `bin`, with the calls their suites make.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJson } from '../../src/base/json.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from './neon-postgres.ts';

export class SafekeeperProcess extends Daemon {
  readonly id: number;
  readonly port: number;
  readonly httpPort: number;
  readonly dataDir: string;

  constructor(id: number, dir: string, ports: { pg: number; http: number }, args: readonly string[]) {
    const dataDir = join(dir, `sk${id}`);
    mkdirSync(dataDir, { recursive: true });
    super({
      name: `sk${id}`,
      program: 'safekeeper',
      dir,
      statusUrl: `http://127.0.0.1:${ports.http}/v1/status`,
      args: [
        ...['-D', dataDir, '--id', String(id)],
        ...['--listen-pg', `127.0.0.1:${ports.pg}`, '--listen-http', `127.0.0.1:${ports.http}`],
        ...args,
      ],
    });
    this.id = id;
    this.port = ports.pg;
    this.httpPort = ports.http;
    this.dataDir = dataDir;
  }

  get host(): string {
    return `http://127.0.0.1:${this.httpPort}`;
  }

  /** A management call; the answer's JSON, or an error that names status and text. */
  // biome-ignore lint/suspicious/noExplicitAny: answers are whatever the call says
  async call(method: string, path: string, body?: unknown, token?: string): Promise<any> {
    const reply = await fetch(this.host + path, {
      method,
      headers: token ? { authorization: `Bearer ${token}` } : {},
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await reply.text();
    if (!reply.ok)
      throw Object.assign(new Error(`${method} ${path}: ${reply.status} ${text}`), { status: reply.status });
    return text === '' ? undefined : parseJson(text);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as the API says
  status(key: TimelineKey): Promise<any> {
    return this.call('GET', timelinePath(key));
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.host}/metrics`)).text();
    const line = text.split('\n').find(l => l.startsWith(`${name} `) || l.startsWith(`${name}{`));
    return Number(line?.split(' ').at(-1) ?? Number.NaN);
  }
}

export const timelinePath = (key: TimelineKey): string =>
  `/v1/tenant/${key.tenantId}/timeline/${key.timelineId}`;

export interface Cluster {
  readonly dir: string;
  readonly broker: Daemon;
  readonly sks: SafekeeperProcess[];
  remove(): Promise<void>;
}

/** A broker and some safekeepers, all started. */
export async function startCluster(
  count: number,
  options: { args?: readonly string[]; withRemote?: boolean; start?: boolean } = {},
): Promise<Cluster> {
  const dir = mkdtempSync(join(tmpdir(), 'lakebed-cluster-'));
  const brokerPort = await freePort();
  const broker = new Daemon({
    name: 'broker',
    program: 'storage_broker',
    dir,
    statusUrl: `http://127.0.0.1:${brokerPort}/status`,
    args: ['-l', `127.0.0.1:${brokerPort}`],
  });
  const sks: SafekeeperProcess[] = [];
  for (let id = 1; id <= count; id++) {
    const ports = { pg: await freePort(), http: await freePort() };
    const remote = options.withRemote ? ['--remote-storage', `{local_path='${join(dir, 'remote')}'}`] : [];
    const args = ['--broker-endpoint', `http://127.0.0.1:${brokerPort}`, ...remote, ...(options.args ?? [])];
    sks.push(new SafekeeperProcess(id, dir, ports, args));
  }
  await Promise.all([broker, ...sks].map(d => d.start()));
  return {
    dir,
    broker,
    sks,
    async remove() {
      await Promise.all([broker, ...sks].map(d => d.kill('SIGKILL')));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Waits for something to be so. A 503 on the way is an answer too: a timeline that opens says "ask again". */
export async function until(what: () => Promise<boolean> | boolean, timeoutMs = 60_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  const isSo = async () => {
    try {
      return await what();
    } catch (e) {
      if ((e as { status?: number }).status === 503) return false;
      throw e;
    }
  };
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error('waited in vain');
    await new Promise(done => setTimeout(done, 20));
  }
}
