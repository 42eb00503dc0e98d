// `lakebed stop`: ends the process that supervises this machine's Lakebed, which ends everything else first; or, where
// that one was killed, what it left running.

import type { Verb } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { endRoles, forgetProcesses, supervisorOf } from '../local/processes.ts';
import { jsonOr } from './answers.ts';
import { DATA_DIR, dataDirectory } from './manager-client.ts';

const STOP_MS = 60_000;
const POLL_MS = 50;

export const stopVerb: Verb = {
  name: 'stop',
  summary: 'stop the Lakebed of this machine',
  about: 'Computes first, then the storage, in good order. The next start finds everything again.',
  options: [DATA_DIR, { flags: '--json', help: 'as JSON' }],
  examples: [{ line: 'lakebed stop', what: 'the one in ./.lakebed' }],
  exitCodes: { 1: 'it does not stop' },
  async run(input, world) {
    const data = dataDirectory(input, world);
    const pid = await supervisorOf(world, data);
    if (pid === undefined) {
      const left = await endRoles(world, data);
      if (left.length > 0) await forgetProcesses(world, data);
      const stopped = left.length > 0;
      jsonOr(input, world, { stopped, data }, () =>
        stopped ? 'Stopped.\n' : `No Lakebed runs in ${data}.\n`,
      );
      return 0;
    }
    world.programs.signal(pid, 'SIGTERM');
    const end = world.clock.monotonic() + STOP_MS;
    while (world.programs.signal(pid, 0)) {
      if (world.clock.monotonic() > end) {
        throw new Fault('timeout', `process ${pid} has not stopped after ${STOP_MS / 1000} s`, {
          hint: `Its log is ${data}/lakebed.log.`,
        });
      }
      await world.clock.sleep(POLL_MS);
    }
    jsonOr(input, world, { stopped: true, data }, () => 'Stopped.\n');
    return 0;
  },
};
