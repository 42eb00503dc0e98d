// The table of all metrics, made from the code that declares them: docs/metrics.md. `npm run docs` writes it,
// metrics.test.ts finds it stale, and compares it with what running daemons expose.
//
// Declaring needs no running service: values that are asked for at a scrape are asked for by functions, which are not
// called here. What they would look into is stood in for by an object that answers every question with itself.

import { type MetricDescription, Metrics } from '../../src/base/metrics.ts';
import { Broker } from '../../src/control/broker.ts';
import { managerMetrics } from '../../src/control/manager/metrics.ts';
import { ComputeProxy } from '../../src/control/proxy/proxy.ts';
import { MeteredBlobs } from '../../src/host/blobs-metered.ts';
import { processMetrics } from '../../src/host/process-metrics.ts';
import { nodeMetrics } from '../../src/pageserver/node-metrics.ts';
import { ServiceMetrics } from '../../src/pageserver/service-metrics.ts';
import { SafekeeperMetrics } from '../../src/safekeeper/metrics.ts';
import { keyMetrics } from '../../src/seal/key-metrics.ts';

// biome-ignore lint/suspicious/noExplicitAny: it stands in for anything
export const anything: any = new Proxy(() => undefined, { get: () => anything, apply: () => anything });

export type DaemonName = 'pageserver' | 'safekeeper' | 'storage_broker' | 'manager' | 'proxy';

function shared(metrics: Metrics): void {
  processMetrics(metrics);
  keyMetrics(metrics).watch(anything);
  new MeteredBlobs(anything, metrics, anything);
}

const DECLARE: Readonly<Record<DaemonName, () => Metrics>> = {
  pageserver() {
    const metrics = new Metrics();
    shared(metrics);
    new ServiceMetrics(metrics);
    nodeMetrics(metrics, anything, anything);
    return metrics;
  },
  safekeeper() {
    const metrics = new Metrics();
    shared(metrics);
    new SafekeeperMetrics(metrics).observe(anything);
    return metrics;
  },
  storage_broker() {
    const { metrics } = new Broker();
    processMetrics(metrics);
    return metrics;
  },
  manager() {
    const metrics = new Metrics();
    processMetrics(metrics);
    managerMetrics(metrics, anything);
    return metrics;
  },
  proxy() {
    const { metrics } = new ComputeProxy(anything, anything);
    processMetrics(metrics);
    return metrics;
  },
};

export const DAEMONS = Object.keys(DECLARE) as DaemonName[];

export const metricsOf = (daemon: DaemonName): MetricDescription[] => DECLARE[daemon]().describe();

const SECTIONS: readonly (readonly [title: string, of: (names: ReadonlySet<DaemonName>) => boolean])[] = [
  ['Pageserver', names => names.size === 1 && names.has('pageserver')],
  ['Safekeeper', names => names.size === 1 && names.has('safekeeper')],
  ['Broker', names => names.size === 1 && names.has('storage_broker')],
  ['Manager', names => names.size === 1 && names.has('manager')],
  ['Proxy', names => names.size === 1 && names.has('proxy')],
  ['Shared by several', names => names.size > 1],
];

/** The document as it should be. */
export function metricsDocument(): string {
  const found = new Map<string, { metric: MetricDescription; daemons: Set<DaemonName> }>();
  for (const daemon of DAEMONS) {
    for (const metric of metricsOf(daemon)) {
      const row = found.get(metric.name) ?? { metric, daemons: new Set() };
      row.daemons.add(daemon);
      found.set(metric.name, row);
    }
  }
  const rows = [...found.values()].sort((a, b) => (a.metric.name < b.metric.name ? -1 : 1));
  const sections = SECTIONS.map(([title, of]) => {
    const own = rows.filter(({ daemons }) => of(daemons));
    const lines = own.map(({ metric: { name, kind, labels, help }, daemons }) => {
      const where = daemons.size > 1 ? ` (${[...daemons].join(', ')})` : '';
      const labelText = labels.map(label => `\`${label}\``).join(' ');
      return `| \`${name}\` | ${kind} | ${labelText} | ${help.replace(/\.$/, '')}${where} |`;
    });
    return [
      `## ${title}`,
      '',
      '| Name | Kind | Labels | What it is |',
      '| --- | --- | --- | --- |',
      ...lines,
    ];
  });
  return `${[
    '# Metrics',
    '',
    'Every daemon tells them at `/metrics`, in the text format of Prometheus. Names that begin with `pageserver_`,',
    "`safekeeper_`, `storage_broker_` and `libmetrics_` are Neon's wherever Neon has the thing, with its labels; what",
    'begins with `lakebed_` is ours alone. This file is made from the code: `npm run docs`.',
    '',
    ...sections.flatMap(section => [...section, '']),
  ].join('\n')}`;
}
