// Traces: spans of page reads and of appends, sent to a collector as OTLP over HTTP. The only door to OpenTelemetry,
// and one that is loaded only where a collector is named: nobody pays for traces that nobody reads.
//
//   OTEL_EXPORTER_OTLP_ENDPOINT          http://collector:4318; or NEON_OTEL_EXPORTER_OTLP_ENDPOINT, which launchers
//                                        pass on; /v1/traces is added to it
//   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   the whole address
//   OTEL_EXPORTER_OTLP_HEADERS           a=b,c=d: for the collector's token
//   OTEL_TRACES_SAMPLER(_ARG)            always_on unless told; traceidratio and 0.01 keeps one in a hundred
//   OTEL_SERVICE_NAME                    the daemon's name unless told
//
// Spans wait in a bounded queue; a collector that does not keep up, or is away, loses spans and holds nobody up.

import { SpanStatusCode } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Traces } from '../base/ports.ts';

export interface HostTraces extends Traces {
  /** Sends what waits. */
  close(): Promise<void>;
}

const QUEUE_MAX = 8192;
const EXPORT_TIMEOUT_MS = 5000;

export function hostTraces(
  url: string,
  service: { name: string; node: string; version: string },
): HostTraces {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({
      'service.name': process.env['OTEL_SERVICE_NAME'] || service.name,
      'service.instance.id': service.node,
      'service.version': service.version,
    }),
    spanProcessors: [
      new BatchSpanProcessor(new OTLPTraceExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS }), {
        maxQueueSize: QUEUE_MAX,
      }),
    ],
  });
  const tracer = provider.getTracer('lakebed', service.version);
  return {
    span(name, ms, attributes, error) {
      const endTime = performance.timeOrigin + performance.now();
      const span = tracer.startSpan(name, { startTime: endTime - ms, attributes, root: true });
      if (error !== undefined) {
        const message = error instanceof Error ? error.message : String(error);
        span.setStatus({ code: SpanStatusCode.ERROR, message });
      }
      span.end(endTime);
    },
    close: () => provider.shutdown().catch(() => undefined),
  };
}
