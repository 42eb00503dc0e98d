// The table of jobs that a worker may run: pure functions, bytes in and bytes out (jobs/parcel.ts). The composition
// root hands it to the worker's shell; tests and the simulator run them in place.

import { Violation } from '../base/assert.ts';
import type { Pool } from '../base/ports.ts';
import { flushJob, tailJob } from './jobs/flush.ts';
import { hotJob } from './jobs/hot.ts';
import { imageJob } from './jobs/image.ts';
import { mergeJob } from './jobs/merge.ts';

export type Job = (input: Uint8Array) => Uint8Array;

export const JOBS = {
  flush: flushJob,
  tail: tailJob,
  merge: mergeJob,
  image: imageJob,
  hot: hotJob,
} as const satisfies Record<string, Job>;

export type JobName = keyof typeof JOBS;

/** A pool without threads: each job runs where it is asked for, one turn later. */
export const inlinePool: Pool = {
  async run(job, input) {
    const run = (JOBS as Record<string, Job>)[job];
    if (run === undefined) throw new Violation(`no job ${job}`);
    await undefined;
    return run(input);
  },
};
