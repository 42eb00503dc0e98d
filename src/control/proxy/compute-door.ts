// The proxy's way to computes: who a client means is asked of the manager, who wakes the compute when it sleeps and
// answers when it takes connections; and the manager is told who is at work, so that it knows whom to let sleep.
//
//   POST /internal/wake      {"target": "main"}  ->  {"endpoint_id": "ep-...", "host": "127.0.0.1", "port": 40123}
//   POST /internal/activity  {"endpoints": [{"endpoint_id": "ep-...", "connections": 2, "busy": 1, "idle_ms": 120}]}
//
// Several clients that come for one target at once are one question.

import { utf8 } from '../../base/bytes.ts';
import { Fault } from '../../base/fault.ts';
import { SingleFlight } from '../../base/flow.ts';
import { answerText } from '../../base/http.ts';
import type { Http } from '../../base/ports.ts';

export interface ComputeAddress {
  readonly endpointId: string;
  readonly host: string;
  readonly port: number;
}

export interface EndpointActivity {
  readonly endpointId: string;
  readonly connections: number;
  /** Of them, at work: an answer is owed or a transaction open. */
  readonly busy: number;
  /** Since the last byte in either direction. */
  readonly idleMs: number;
}

export interface ComputeDoor {
  /** Resolves when the compute takes connections. */
  wake(target: string): Promise<ComputeAddress>;
  report(activity: readonly EndpointActivity[]): Promise<void>;
}

export interface ManagerDoorOptions {
  readonly url: string;
  readonly token?: string | undefined;
  /** How long a compute may take to wake. */
  readonly wakeTimeoutMs: number;
}

const REPORT_MS = 5000;

export function managerDoor(http: Http, options: ManagerDoorOptions): ComputeDoor {
  const flights = new SingleFlight<ComputeAddress>();
  const post = async (path: string, body: unknown, timeoutMs: number): Promise<unknown> => {
    const reply = await http.request({
      method: 'POST',
      url: `${options.url}${path}`,
      timeoutMs,
      headers: {
        'content-type': 'application/json',
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
      },
      body: utf8(JSON.stringify(body)),
    });
    const text = await answerText(reply);
    if (reply.status >= 200 && reply.status < 300) return text === '' ? undefined : JSON.parse(text);
    throw refusal(reply.status, text);
  };
  return {
    wake: target =>
      flights.run(target, async () => {
        const answer = await post('/internal/wake', { target }, options.wakeTimeoutMs);
        const { endpoint_id, host, port } = answer as { endpoint_id: string; host: string; port: number };
        return { endpointId: endpoint_id, host, port };
      }),
    async report(activity) {
      const endpoints = activity.map(a => ({
        endpoint_id: a.endpointId,
        connections: a.connections,
        busy: a.busy,
        idle_ms: Math.round(a.idleMs),
      }));
      await post('/internal/activity', { endpoints }, REPORT_MS);
    },
  };
}

/** What the manager answered, as the client shall read it. */
function refusal(status: number, text: string): Fault {
  const { message, msg, hint } = wordsOf(text);
  const said = message ?? msg ?? `the manager answers ${status}`;
  const how = hint === undefined ? {} : { hint };
  if (status === 404) return new Fault('route-unknown', said, how);
  if (status === 403) return new Fault('key-revoked', said, how);
  return new Fault(status < 500 ? 'compute-refused' : 'compute-failed', said, how);
}

function wordsOf(text: string): { message?: string; msg?: string; hint?: string } {
  try {
    return JSON.parse(text) as { message?: string; msg?: string; hint?: string };
  } catch {
    return {};
  }
}
