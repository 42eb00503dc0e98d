// Traces: a stand-in for a collector gets spans of page reads and of appends over HTTP, as OTLP says; and without a
// collector named, OpenTelemetry is not even loaded.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';
import { SimRandom } from '../sim/random.ts';
import { makeTimeline, pushRecords, readerOf, TENANT, TIMELINE } from '../upgrade/small-storage.ts';

const DOOR = resolve(import.meta.dirname, '../../src/host/traces-endpoint.ts');

interface Value {
  readonly stringValue?: string;
  readonly intValue?: number | string;
}
interface Attribute {
  readonly key: string;
  readonly value: Value;
}
interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}
interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

const plain = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]));

let dir: string;
let collector: Server;
const paths = new Set<string>();
const spans = new Map<string, Span[]>();
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-traces-'));
  collector = createServer((req, res) => {
    const pieces: Buffer[] = [];
    req.on('data', piece => pieces.push(piece));
    req.on('end', () => {
      paths.add(`${req.method} ${req.url}`);
      const body = JSON.parse(Buffer.concat(pieces).toString()) as Export;
      for (const { resource, scopeSpans } of body.resourceSpans) {
        const service = String(plain(resource.attributes)['service.name']);
        const known = spans.get(service) ?? [];
        spans.set(service, [...known, ...scopeSpans.flatMap(s => s.spans)]);
      }
      res.setHeader('content-type', 'application/json').end('{}');
    });
  });
  await new Promise<void>(done => collector.listen(0, '127.0.0.1', done));
});
afterAll(() => {
  collector.close();
  rmSync(dir, { recursive: true, force: true });
});

async function work(daemons: DaemonSet): Promise<{ pages: number }> {
  const at = await makeTimeline(daemons);
  const { log, end } = await pushRecords(daemons, at, 40, new SimRandom(1));
  const reader = readerOf(daemons);
  for (const { rel, blk } of log.begun)
    expect(Buffer.compare(await reader.page(rel, blk, end), log.model.page(rel, blk, end))).toBe(0);
  reader.close();
  return { pages: log.begun.length };
}

describe('with a collector', () => {
  test('page reads and appends become spans', async () => {
    const { port } = collector.address() as AddressInfo;
    const env = {
      NEON_OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/`,
      OTEL_BSP_SCHEDULE_DELAY: '50',
    };
    const began = Date.now();
    const daemons = await startDaemons(dir, { env });
    try {
      const { pages } = await work(daemons);
      const named = (service: string, name: string): Span[] =>
        (spans.get(service) ?? []).filter(s => s.name === name);
      for (const end = performance.now() + 20_000; performance.now() < end; ) {
        if (named('pageserver', 'GetPage').length >= pages && named('safekeeper', 'Append').length > 0) break;
        await new Promise(done => setTimeout(done, 20));
      }
      expect([...paths]).toEqual(['POST /v1/traces']);
      const read = named('pageserver', 'GetPage').map(s => plain(s.attributes));
      expect(read.reduce((sum, a) => sum + Number(a['pages']), 0)).toBe(pages);
      expect(read[0]).toMatchObject({ tenant: TENANT, timeline: TIMELINE, pages: 1 });
      expect(read[0]!['lsn']).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
      const appends = named('safekeeper', 'Append').map(s => plain(s.attributes));
      expect(appends.reduce((sum, a) => sum + Number(a['bytes']), 0)).toBeGreaterThan(8192);
      expect(appends[0]).toMatchObject({ tenant: TENANT, timeline: TIMELINE, term: 1 });
      for (const span of [...spans.values()].flat()) {
        const [start, end] = [Number(span.startTimeUnixNano) / 1e6, Number(span.endTimeUnixNano) / 1e6];
        expect(start).toBeGreaterThan(began - 1000);
        expect(end).toBeGreaterThanOrEqual(start);
        expect(end).toBeLessThan(Date.now() + 1000);
        expect(span.status.code ?? 0).toBe(0);
      }
    } finally {
      await daemons.stop();
    }
  });
});

describe('without one', () => {
  test.each([
    [{}, 'undefined 0'],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }, 'object many'],
  ])('with %j in the environment, packages are loaded as needed', (env, expected) => {
    const script = [
      "import Module from 'node:module';",
      `const { openTraces } = await import(${JSON.stringify(DOOR)});`,
      "const traces = await openTraces({ name: 'x', node: '1', version: '0' });",
      "const loaded = Object.keys(Module._cache).filter(path => path.includes('@opentelemetry')).length;",
      "console.log(typeof traces, loaded > 0 ? 'many' : 0);",
      'process.exit(0);',
    ].join('\n');
    const options = { env, encoding: 'utf8' } as const;
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], options);
    expect(said.trim()).toBe(expected);
  });

  test('a collector that is away holds nobody up', async () => {
    const place = mkdtempSync(join(dir, 'away-'));
    const daemons = await startDaemons(place, { env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' } });
    try {
      await work(daemons);
      expect(daemons.all.map(d => d.log).join()).not.toMatch(/ERROR/);
    } finally {
      await daemons.stop();
    }
  });
});
