// Loaded before a daemon (node --import): where its processor time goes. A profile of the whole life of the process is
// written when it ends, as `node --cpu-prof` would; that flag cannot be given to a program of `bin` from outside.
// LAKEBED_TEST_PROFILE names the file; a browser's developer tools open it.

import { writeFileSync } from 'node:fs';
import { type Profiler, Session } from 'node:inspector';

const file = process.env['LAKEBED_TEST_PROFILE'];

if (file !== undefined) {
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.start');
  process.once('exit', () => {
    session.post('Profiler.stop', (error: Error | null, { profile }: Profiler.StopReturnType) => {
      if (!error) writeFileSync(file, JSON.stringify(profile));
    });
  });
}
