// Counters, gauges and histograms, and their text for Prometheus (exposition format 0.0.4). One registry per
// process, handed to whoever counts; a child found once by its labels is a plain object with a number, so that
// counting on a hot path costs an addition.
//
// What can be asked for at any time (a timeline's LSNs, a pool's size) is not counted but collected: a function
// called at each scrape. The table of all metrics in the documentation is `describe()`.

import { assert } from './assert.ts';

export type Labels = Readonly<Record<string, string>>;

export type MetricKind = 'counter' | 'gauge' | 'histogram';

export interface MetricDescription {
  readonly name: string;
  readonly kind: MetricKind;
  readonly help: string;
  readonly labels: readonly string[];
}

export class Cell {
  value = 0;
  inc(by = 1): void {
    this.value += by;
  }
  dec(by = 1): void {
    this.value -= by;
  }
  set(value: number): void {
    this.value = value;
  }
}

export class HistogramCell {
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length);
  }

  observe(value: number): void {
    this.sum += value;
    this.count++;
    const { bounds } = this;
    for (let i = 0; i < bounds.length; i++) {
      if (value <= bounds[i]!) {
        this.counts[i]!++;
        return;
      }
    }
  }
}

class Family<C> {
  readonly description: MetricDescription;
  readonly children = new Map<string, { readonly values: readonly string[]; readonly cell: C }>();
  private readonly make: () => C;

  constructor(description: MetricDescription, make: () => C) {
    this.description = description;
    this.make = make;
    if (description.labels.length === 0) this.with();
  }

  /** The child of these label values, in the order the labels were declared. */
  with(...values: string[]): C {
    const { name, labels } = this.description;
    assert(values.length === labels.length, `${name} has ${labels.length} labels, not ${values.length}`);
    const key = values.join('\0');
    let child = this.children.get(key);
    if (!child) this.children.set(key, (child = { values, cell: this.make() }));
    return child.cell;
  }

  forget(...values: string[]): void {
    this.children.delete(values.join('\0'));
  }
}

export type Counter = Family<Cell>;
export type Gauge = Family<Cell>;
export type Histogram = Family<HistogramCell>;

/** One value told at a scrape. */
export type Emit = (values: readonly string[], value: number) => void;

interface Collected {
  readonly description: MetricDescription;
  readonly collect: (emit: Emit) => void;
}

/** Seconds, from 10 microseconds to 10 s: a page read, an append, a sync. */
export const SECONDS = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
  0.5, 1, 2.5, 5, 10,
];
/** Bytes, from 64 to 64 MiB by fours. */
export const BYTES = Array.from({ length: 11 }, (_, i) => 64 * 4 ** i);

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

export class Metrics {
  private readonly families = new Map<string, Family<Cell> | Family<HistogramCell> | Collected>();

  counter(name: string, help: string, labels: readonly string[] = []): Counter {
    return this.add(new Family({ name, kind: 'counter', help, labels }, () => new Cell()));
  }

  gauge(name: string, help: string, labels: readonly string[] = []): Gauge {
    return this.add(new Family({ name, kind: 'gauge', help, labels }, () => new Cell()));
  }

  histogram(
    name: string,
    help: string,
    labels: readonly string[] = [],
    bounds: readonly number[] = SECONDS,
  ): Histogram {
    return this.add(new Family({ name, kind: 'histogram', help, labels }, () => new HistogramCell(bounds)));
  }

  /** Values asked for at each scrape. */
  collected(
    kind: 'counter' | 'gauge',
    name: string,
    help: string,
    labels: readonly string[],
    collect: (emit: Emit) => void,
  ): void {
    this.add({ description: { name, kind, help, labels }, collect });
  }

  private add<F extends Family<Cell> | Family<HistogramCell> | Collected>(family: F): F {
    const { name, labels } = family.description;
    assert(NAME.test(name) && labels.every(l => NAME.test(l)), `not a metric name: ${name}`);
    assert(!this.families.has(name), `metric ${name} is declared twice`);
    this.families.set(name, family);
    return family;
  }

  describe(): MetricDescription[] {
    return [...this.families.values()].map(f => f.description).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** What a scrape answers. */
  exposition(): string {
    const out: string[] = [];
    for (const family of this.families.values()) {
      const { name, kind, help } = family.description;
      out.push(`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${kind}`);
      if ('collect' in family) {
        const { labels } = family.description;
        family.collect((values, value) => out.push(`${name}${labelText(labels, values)} ${number(value)}`));
      } else {
        for (const child of family.children.values())
          lines(out, family.description, child.values, child.cell);
      }
    }
    return `${out.join('\n')}\n`;
  }
}

function lines(
  out: string[],
  d: MetricDescription,
  values: readonly string[],
  cell: Cell | HistogramCell,
): void {
  if (cell instanceof Cell) {
    out.push(`${d.name}${labelText(d.labels, values)} ${number(cell.value)}`);
    return;
  }
  const labels = [...d.labels, 'le'];
  let cumulative = 0;
  cell.bounds.forEach((bound, i) => {
    cumulative += cell.counts[i]!;
    out.push(`${d.name}_bucket${labelText(labels, [...values, String(bound)])} ${cumulative}`);
  });
  out.push(`${d.name}_bucket${labelText(labels, [...values, '+Inf'])} ${cell.count}`);
  out.push(`${d.name}_sum${labelText(d.labels, values)} ${number(cell.sum)}`);
  out.push(`${d.name}_count${labelText(d.labels, values)} ${cell.count}`);
}

function labelText(names: readonly string[], values: readonly string[]): string {
  if (names.length === 0) return '';
  return `{${names.map((n, i) => `${n}="${escapeLabel(values[i] ?? '')}"`).join(',')}}`;
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

function number(value: number): string {
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  return String(value);
}
