// Loaded before a daemon (node --import): a wall clock that a test can step. The file that LAKEBED_TEST_CLOCK names
// holds how many milliseconds it is off; it is looked at again every 100 ms. The steady clock stays as it is, as it
// does when an administrator or NTP steps the time of a machine.

import { readFileSync } from 'node:fs';

const file = process.env['LAKEBED_TEST_CLOCK'];
let offMs = 0;

function look(): void {
  try {
    offMs = Number(readFileSync(file!, 'utf8')) || 0;
  } catch {
    offMs = 0;
  }
}

if (file !== undefined) {
  const RealDate = Date;
  const realNow = Date.now.bind(Date);
  class SteppedDate extends RealDate {
    constructor(...args: []) {
      if (args.length === 0) super(realNow() + offMs);
      else super(...args);
    }

    static override now(): number {
      return realNow() + offMs;
    }
  }
  globalThis.Date = SteppedDate as DateConstructor;
  look();
  setInterval(look, 100).unref();
}
