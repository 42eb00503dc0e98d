// `lakebed stop`, and who runs: the process that supervises this machine's Lakebed says in `<data>/lakebed.pid` who it is.

import { fromUtf8 } from '../../base/bytes.ts';
import type { Verb, World } from '../../base/command.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { DATA_DIR, dataDirectory } from './manager-client.ts';

export const PID_FILE = 'lakebed.pid';
const STOP_MS = 60_000;
const POLL_MS = 50;

/** The process that supervises a data directory, if it lives. */
export async function runningPid(world: World, data: string): Promise<number | undefined> {
  try {
    const pid = Number(fromUtf8(await world.disk('/').readFile(`${data.slice(1)}/${PID_FILE}`)));
    return Number.isSafeInteger(pid) && pid > 1 && world.programs.signal(pid, 0) ? pid : undefined;
  } catch (error) {
    if (isFault(error, 'file-missing')) return undefined;
    throw error;
  }
}

export const stopVerb: Verb = {
  name: 'stop',
  summary: 'stop the Lakebed of this machine',
  about: 'Computes first, then the storage, in good order. The next start finds everything again.',
  options: [DATA_DIR],
  examples: [{ line: 'lakebed stop', what: 'the one in ./.lakebed' }],
  exitCodes: { 1: 'it does not stop' },
  async run(input, world) {
    const data = dataDirectory(input, world);
    const pid = await runningPid(world, data);
    if (pid === undefined) {
      world.terminal.write(`No Lakebed runs in ${data}.\n`);
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
    world.terminal.write('Stopped.\n');
    return 0;
  },
};
