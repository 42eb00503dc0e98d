// The process itself, by the names every Prometheus client uses, and the event loop's delay: what tells an overloaded
// process of ours from a busy one. The two that begin with libmetrics_ are there because every daemon of Neon has them.

import { readdirSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Metrics } from '../base/metrics.ts';
import { commit, packageVersion } from './daemon.ts';

const LOOP_RESOLUTION_MS = 20;

export function processMetrics(metrics: Metrics): void {
  const startedS = Date.now() / 1000 - process.uptime();
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  metrics
    .gauge('libmetrics_build_info', 'The version, as labels; always 1', ['revision', 'build_tag'])
    .with(commit(), packageVersion())
    .set(1);
  const gauge = (name: string, help: string, value: () => number): void =>
    metrics.collected('gauge', name, help, [], emit => emit([], value()));
  metrics.collected('counter', 'process_cpu_seconds_total', 'Processor time used.', [], emit => {
    const { user, system } = process.cpuUsage();
    emit([], (user + system) / 1e6);
  });
  gauge('process_start_time_seconds', 'When the process began.', () => startedS);
  gauge('libmetrics_launch_timestamp', 'When the process began, in milliseconds since 1970.', () =>
    Math.round(startedS * 1000),
  );
  gauge('process_resident_memory_bytes', 'Memory held.', () => process.memoryUsage.rss());
  gauge('nodejs_heap_size_used_bytes', 'Memory of objects.', () => process.memoryUsage().heapUsed);
  gauge('nodejs_external_memory_bytes', 'Memory of buffers.', () => process.memoryUsage().external);
  gauge('process_open_fds', 'Files and sockets open.', openDescriptors);
  gauge('nodejs_eventloop_lag_p99_seconds', 'Delay of the event loop since the last scrape.', () => {
    const seconds = loop.percentile(99) / 1e9;
    loop.reset();
    return seconds;
  });
}

function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}
