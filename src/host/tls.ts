// Certificate and key of a server from two PEM files, read again every so often, so that a renewed certificate
// is used without a restart. A pair that does not load leaves the one before in place and is told to the log.
//
// Answers to libs/http-utils/src/tls_certs.rs (ReloadingCertificateResolver).

import { readFileSync, statSync } from 'node:fs';
import type net from 'node:net';
import tls from 'node:tls';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/ports.ts';

export interface TlsFiles {
  readonly keyFile: string;
  readonly certFile: string;
}

export class ReloadingCertificate {
  current: tls.SecureContext;
  private readonly files: TlsFiles;
  private readonly log: Log;
  private readonly listeners: ((pem: { key: string; cert: string }) => void)[] = [];
  private readonly timer: NodeJS.Timeout;
  private seen: string;
  pem: { key: string; cert: string };

  constructor(files: TlsFiles, periodMs: number, log: Log) {
    this.files = files;
    this.log = log;
    this.pem = readPair(files);
    this.current = contextOf(this.pem, files);
    this.seen = this.stamp();
    this.timer = setInterval(() => this.reload(), periodMs);
    this.timer.unref();
  }

  /** For servers that keep a context of their own. */
  onChange(listener: (pem: { key: string; cert: string }) => void): void {
    this.listeners.push(listener);
  }

  reload(): void {
    try {
      const stamp = this.stamp();
      if (stamp === this.seen) return;
      const pem = readPair(this.files);
      this.current = contextOf(pem, this.files);
      this.pem = pem;
      this.seen = stamp;
      for (const listener of this.listeners) listener(pem);
      this.log.info('certificate reloaded', { certFile: this.files.certFile });
    } catch (error) {
      this.log.warn('certificate not reloaded; the one before stays in use', { error: String(error) });
    }
  }

  close(): void {
    clearInterval(this.timer);
  }

  private stamp(): string {
    const of = (path: string): string => {
      const { mtimeMs, size, ino } = statSync(path);
      return `${mtimeMs}/${size}/${ino}`;
    };
    return `${of(this.files.keyFile)} ${of(this.files.certFile)}`;
  }
}

/** A handshake that is not done by then is cut. */
const HANDSHAKE_MS = 15_000;

/** Node's own limit counts from the last byte: a handshake that is dribbled would never meet it. */
export function cutSlowHandshakes(server: tls.Server): void {
  const timers = new Map<string, NodeJS.Timeout>();
  const nameOf = (socket: net.Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;
  const over = (name: string): void => {
    clearTimeout(timers.get(name));
    timers.delete(name);
  };
  server.on('connection', (socket: net.Socket) => {
    const name = nameOf(socket);
    timers.set(
      name,
      setTimeout(() => socket.destroy(), HANDSHAKE_MS),
    );
    socket.once('close', () => over(name));
  });
  server.on('secureConnection', socket => over(nameOf(socket)));
}

function readPair(files: TlsFiles): { key: string; cert: string } {
  try {
    return { key: readFileSync(files.keyFile, 'utf8'), cert: readFileSync(files.certFile, 'utf8') };
  } catch (error) {
    throw new Fault('config-invalid', `cannot read the TLS files: ${(error as Error).message}`, {
      hint: `Key: ${files.keyFile}; certificate: ${files.certFile}; both PEM.`,
      cause: error,
    });
  }
}

function contextOf(pem: { key: string; cert: string }, files: TlsFiles): tls.SecureContext {
  try {
    // A file that is being written is empty for a moment, and Node makes a context of what is left: one without a
    // certificate, which refuses everybody.
    if (!pem.key.includes('-----BEGIN')) throw new Error('there is no key in the file');
    if (!pem.cert.includes('-----BEGIN')) throw new Error('there is no certificate in the file');
    return tls.createSecureContext({ ...pem, minVersion: 'TLSv1.2' });
  } catch (error) {
    throw new Fault('config-invalid', `the TLS key or certificate is damaged: ${(error as Error).message}`, {
      hint: `Key: ${files.keyFile}; certificate: ${files.certFile}; do they belong together?`,
      cause: error,
    });
  }
}
