// What a worker thread runs: the shell of host/worker.ts with the pageserver's table of jobs.

import { serveJobs } from './host/worker.ts';
import { JOBS } from './pageserver/jobs.ts';

serveJobs(JOBS);
