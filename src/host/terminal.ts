// The terminal behind its door: results on standard output, notes on standard error, a progress bar where a
// person watches. The only import of cli-progress.

import cliProgress from 'cli-progress';
import type { Progress, Terminal } from '../base/command.ts';

/** Nothing is drawn where nobody watches. */
const SILENT: Progress = { update: () => {}, stop: () => {} };

export function hostTerminal(): Terminal {
  const out = process.stdout;
  // A reader that has gone away (`| head`) ends the program as a signal would, without a stack trace.
  out.on('error', error => process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1));
  return {
    isTerminal: out.isTTY === true,
    columns: out.columns ?? 80,
    write: text => void out.write(text),
    note: text => void process.stderr.write(text),
    drained: () =>
      new Promise(resolve => {
        if (out.writableNeedDrain) out.once('drain', resolve);
        else resolve();
      }),
    progress: (label, total, unit = '') => (process.stderr.isTTY ? bar(label, total, unit) : SILENT),
  };
}

function bar(label: string, total: number, unit: string): Progress {
  const drawn = new cliProgress.SingleBar({
    format: `${label} [{bar}] {percentage}% {value}/{total} ${unit} {note} ({eta_formatted} left)`,
    barCompleteChar: '#',
    barIncompleteChar: '-',
    hideCursor: true,
    clearOnComplete: true,
    stream: process.stderr,
  });
  drawn.start(total, 0, { note: '' });
  return {
    update: (done, note = '') => drawn.update(Math.min(done, total), { note }),
    stop: () => drawn.stop(),
  };
}
