// Where traces go, if anywhere, as the environment says; and the door to them, opened only then (traces.ts).

import type { HostTraces } from './traces.ts';

function endpoint(): string | undefined {
  const whole = process.env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'];
  if (whole) return whole;
  const base =
    process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] ||
    process.env['NEON_OTEL_EXPORTER_OTLP_ENDPOINT'] ||
    undefined;
  return base && `${base.replace(/\/+$/, '')}/v1/traces`;
}

/** Undefined where no collector is named. */
export async function openTraces(service: {
  readonly name: string;
  readonly node: string;
  readonly version: string;
}): Promise<HostTraces | undefined> {
  const url = endpoint();
  return url === undefined ? undefined : (await import('./traces.ts')).hostTraces(url, service);
}
