// The table of metrics is current, is what running daemons expose, and the dashboard asks for nothing else.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DaemonSet, type ProxySet, startDaemons, startProxy } from '../pg/one-of-each.ts';
import { DAEMONS, type DaemonName, metricsDocument, metricsOf } from './table.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** The manager is not among them: its catalog takes its time. */
const RUNNING = ['pageserver', 'safekeeper', 'storage_broker', 'proxy'] as const satisfies DaemonName[];

let dir: string;
let daemons: DaemonSet;
let proxy: ProxySet;
const exposed = new Map<DaemonName, Map<string, { kind: string; help: string }>>();

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-metrics-'));
  daemons = await startDaemons(dir);
  proxy = await startProxy(dir);
  const urls = {
    proxy: proxy.proxyHttp,
    pageserver: daemons.pageserverHttp,
    safekeeper: daemons.safekeeperHttp,
    storage_broker: daemons.brokerHttp,
  };
  for (const daemon of RUNNING) exposed.set(daemon, await scrape(`${urls[daemon]}/metrics`));
});
afterAll(async () => {
  await proxy?.stop();
  await daemons?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const texts: string[] = [];

/** The families of a scrape, read as a collector reads them. */
async function scrape(url: string): Promise<Map<string, { kind: string; help: string }>> {
  const reply = await fetch(url);
  expect(reply.headers.get('content-type')).toContain('text/plain; version=0.0.4');
  const text = await reply.text();
  texts.push(text);
  const families = new Map<string, { kind: string; help: string }>();
  for (const line of text.split('\n')) {
    const [, name, help] = /^# HELP (\S+) (.*)$/.exec(line) ?? [];
    if (name) families.set(name, { kind: '', help: help! });
    const [, typed, kind] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (typed) families.get(typed)!.kind = kind!;
  }
  return families;
}

test('docs/metrics.md is current', () => {
  const written = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
  expect(written === metricsDocument(), 'run: npm run docs').toBe(true);
});

test.each(RUNNING)('what the table says of %s is what it exposes', daemon => {
  const told = metricsOf(daemon).map(({ name, kind, help }) => [name, kind, help]);
  const seen = [...exposed.get(daemon)!].map(([name, { kind, help }]) => [name, kind, help]).sort();
  expect(seen).toEqual(told.sort());
});

test('every line of a scrape is a comment or a sample of a family declared before it', () => {
  for (const text of texts) {
    let family = '';
    for (const line of text.trimEnd().split('\n')) {
      const declared = /^# TYPE (\S+) /.exec(line);
      if (declared) family = declared[1]!;
      if (line.startsWith('#')) continue;
      const sample = /^([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$/.exec(line);
      expect(sample, line).not.toBeNull();
      expect([family, `${family}_bucket`, `${family}_sum`, `${family}_count`]).toContain(sample![1]);
      expect(Number.isNaN(Number(sample![3]!.replace('Inf', 'Infinity'))), line).toBe(false);
    }
  }
});

test('what launchers look for is there, and 0', () => {
  for (const name of ['tenant_manager', 'deletion_queue']) {
    expect(texts[RUNNING.indexOf('pageserver')]).toContain(
      `\npageserver_${name}_unexpected_errors_total 0\n`,
    );
  }
});

describe('docker/grafana/lakebed.json', () => {
  interface Panel {
    readonly id: number;
    readonly title: string;
    readonly targets?: readonly { readonly expr: string }[];
  }
  const dashboard = JSON.parse(readFileSync(join(ROOT, 'docker/grafana/lakebed.json'), 'utf8')) as {
    readonly panels: readonly Panel[];
  };
  const expressions = dashboard.panels.flatMap(p => (p.targets ?? []).map(t => [p.title, t.expr] as const));

  test.each(expressions)('%s: %s', (_, expression) => {
    const histograms = new Set<string>();
    const names = new Set<string>();
    for (const families of exposed.values()) {
      for (const [name, { kind }] of families) (kind === 'histogram' ? histograms : names).add(name);
    }
    const asked = expression
      .replace(/\b(by|on) \([^)]*\)/g, '')
      .match(/\b(pageserver|safekeeper|storage_broker|lakebed|process|nodejs|libmetrics)_\w+/g);
    expect(asked?.length).toBeGreaterThan(0);
    for (const name of asked!) {
      const family = name.replace(/_(bucket|sum|count)$/, '');
      expect(names.has(name) || (family !== name && histograms.has(family)), name).toBe(true);
    }
  });

  test('labels it sums by are labels of the metric', () => {
    const labels = new Map(DAEMONS.flatMap(d => metricsOf(d).map(m => [m.name, m.labels] as const)));
    for (const [title, expression] of expressions) {
      for (const [, by, name] of expression.matchAll(/by \(([^)]*)\) \((?:rate\()?([a-z_0-9]+)/g)) {
        const own = labels.get(name!) ?? labels.get(name!.replace(/_(bucket|sum|count)$/, ''));
        for (const label of by!.split(', '))
          expect(['le', 'instance', ...(own ?? [])], `${title}: ${name}`).toContain(label);
      }
    }
  });

  test('panels have ids of their own', () => {
    const ids = dashboard.panels.map(p => p.id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
