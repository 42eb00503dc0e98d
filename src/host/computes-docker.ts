// Docker's engine, as HTTP over its Unix socket (or over TCP, where DOCKER_HOST says so). Requests are made to
// `http://docker/...`; the name stands for the engine.
//
//   DOCKER_HOST   unix:///var/run/docker.sock (the default) | tcp://host:2375

import { existsSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { Fault } from '../base/fault.ts';
import type { Http, HttpReply } from '../base/ports.ts';

const SOCKET = '/var/run/docker.sock';
const TIMEOUT_MS = 30_000;

export interface DockerEngine {
  readonly http: Http;
  /** Something is there to be asked; whether it answers is found out by asking. */
  readonly there: boolean;
}

export function dockerEngine(dockerHost: string | undefined): DockerEngine {
  const where = dockerHost ?? `unix://${SOCKET}`;
  const unix = /^unix:\/\/(.+)$/.exec(where)?.[1];
  const tcp = /^(?:tcp|http):\/\/([^:/]+):(\d+)\/?$/.exec(where);
  if (unix === undefined && !tcp) {
    throw new Fault('config-invalid', `DOCKER_HOST cannot be read: ${where}`, {
      hint: 'Write unix:///var/run/docker.sock or tcp://host:2375.',
    });
  }
  const at = unix === undefined ? { host: tcp![1]!, port: Number(tcp![2]) } : { socketPath: unix };
  return {
    there: unix === undefined || existsSync(unix),
    http: {
      request: ({ method, url, headers, body, timeoutMs = TIMEOUT_MS, signal }) =>
        new Promise<HttpReply>((resolve, reject) => {
          const { pathname, search } = new URL(url);
          const req = plainRequest({
            ...at,
            method,
            path: `${pathname}${search}`,
            headers: { host: 'docker', ...headers, ...(body ? { 'content-length': body.length } : {}) },
            ...(signal ? { signal } : {}),
          });
          const late = new Fault('timeout', `${method} ${pathname}: no answer in ${timeoutMs} ms`);
          const timer = setTimeout(() => req.destroy(late), timeoutMs);
          req.on('error', error => {
            clearTimeout(timer);
            if (error instanceof Fault) reject(error);
            else reject(new Fault('connection-failed', `${where}: ${error.message}`, { cause: error }));
          });
          req.on('response', res => {
            clearTimeout(timer);
            const { statusCode = 0, headers: told } = res;
            resolve({ status: statusCode, headers: told as Record<string, string>, body: res });
          });
          req.end(body);
        }),
    },
  };
}
