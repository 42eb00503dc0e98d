// The shell of a worker thread: takes jobs by name from the pool (pool.ts), runs them one after the other, sends the
// result back. It knows no job itself; the composition root's worker.ts hands it the table.
//
//   in    { id, job, input }            the input's buffer was transferred: it is ours
//   out   { id, output, input }         transferred back, the input where its giver wants it again (`back`)
//         { id, error }                 what was thrown, taken apart (an Error's class does not travel)
//
// Bulk work steps back for the event loop where the two want the same core: on Linux each thread has a priority of its
// own. Elsewhere, and where it may not be changed, all threads are alike.

import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { giveBackBuffer } from '../base/bytes.ts';
import { Fault, type FaultCode } from '../base/fault.ts';

export interface WorkOrder {
  readonly id: number;
  readonly job: string;
  readonly input: Uint8Array;
  readonly back: boolean;
}

export interface TravellingError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: FaultCode | undefined;
  readonly hint: string | undefined;
}

export type WorkResult =
  | {
      readonly id: number;
      readonly output: Uint8Array<ArrayBuffer>;
      readonly input: Uint8Array | undefined;
    }
  | { readonly id: number; readonly error: TravellingError };

/** A tenth of the event loop's share. */
const NICE = 10;

function stepBack(): void {
  try {
    // PID/task/TID
    setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), NICE);
  } catch {
    // Not Linux, or not allowed.
  }
}

export function serveJobs(jobs: Readonly<Record<string, (input: Uint8Array) => Uint8Array>>): void {
  const port = parentPort;
  if (port === null) throw new Error('a worker is started by the pool');
  stepBack();
  port.on('message', ({ id, job, input, back }: WorkOrder) => {
    try {
      const run = jobs[job];
      if (run === undefined) throw new Error(`no job ${job}`);
      const output = owned(run(input));
      const isApart = output.buffer !== input.buffer;
      const spare = back && isApart ? owned(input) : undefined;
      if (isApart && spare === undefined) giveBackBuffer(input);
      const buffers = spare === undefined ? [output.buffer] : [output.buffer, spare.buffer];
      port.postMessage({ id, output, input: spare } satisfies WorkResult, buffers);
    } catch (error) {
      port.postMessage({ id, error: takeApart(error) } satisfies WorkResult);
    }
  });
}

/** Bytes that are the whole of their buffer: another's are not to be transferred with them. */
export function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length
    ? new Uint8Array(buffer)
    : new Uint8Array(bytes);
}

function takeApart(error: unknown): TravellingError {
  if (!(error instanceof Error))
    return { name: 'Error', message: String(error), stack: undefined, code: undefined, hint: undefined };
  const { name, message, stack } = error;
  const fault = error instanceof Fault ? error : undefined;
  return { name, message, stack, code: fault?.code, hint: fault?.hint };
}
