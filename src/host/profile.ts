// Profiles of the running process: where the main thread spends its time, what the heap's memory was allocated for. As
// Chrome's DevTools and speedscope read them. Costs nothing while none is being taken.

import { Session } from 'node:inspector/promises';

/** Samples every so many bytes allocated. */
const HEAP_SAMPLE_BYTES = 32 * 1024;

export async function hostProfile(kind: 'cpu' | 'heap', durationMs: number): Promise<unknown> {
  const session = new Session();
  session.connect();
  try {
    const wait = (): Promise<void> => new Promise(done => setTimeout(done, durationMs));
    if (kind === 'cpu') {
      await session.post('Profiler.enable');
      await session.post('Profiler.start');
      await wait();
      return (await session.post('Profiler.stop')).profile;
    }
    await session.post('HeapProfiler.startSampling', { samplingInterval: HEAP_SAMPLE_BYTES });
    await wait();
    return (await session.post('HeapProfiler.stopSampling')).profile;
  } finally {
    session.disconnect();
  }
}
