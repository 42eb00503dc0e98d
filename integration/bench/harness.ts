// What a benchmark is, and the few things all of them need. A bench file's default export is a Bench; run.ts runs
// each in a process of its own, prints its figures, and can store or compare a baseline. Never a timed test:
// figures are for reading, tests are for passing.

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the project aims at, as text: `>= 1 GB/s`. */
  readonly target?: string;
  readonly note?: string;
}

export interface Bench {
  readonly name: string;
  run(): Promise<Figure[]>;
}

/** Seconds that `work` takes, the best of `rounds`. */
export async function bestSeconds(rounds: number, work: () => void | Promise<void>): Promise<number> {
  let best = Infinity;
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    await work();
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  return best;
}

export interface Distribution {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export function distribution(samples: readonly number[]): Distribution {
  const sorted = Float64Array.from(samples).sort();
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
  const mean = sorted.reduce((sum, x) => sum + x, 0) / Math.max(1, sorted.length);
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

/** A figure that says in one line why it could not be measured is better than none. */
export const unmeasured = (name: string, why: string): Figure => ({
  name,
  value: Number.NaN,
  unit: '',
  note: why,
});
