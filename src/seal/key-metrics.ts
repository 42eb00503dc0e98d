// What the keys of a process are doing, in numbers: the audit's lines counted, and at each scrape the state of every
// tenant's keys.

import type { Metrics } from '../base/metrics.ts';
import type { Audit } from './audit.ts';
import type { KeyRing, KeyStatus } from './key-ring.ts';
import type { KeyPhase } from './key-state.ts';

const PHASES: readonly KeyPhase[] = ['cold', 'open', 'shut', 'shredded'];

export interface KeyMetrics {
  /** One of the audits the ring writes to. */
  readonly audit: Audit;
  /** For the audit file: lines it could not keep. */
  lost(lines: number): void;
  /** Call once the ring is there. */
  watch(ring: KeyRing): void;
}

export function keyMetrics(metrics: Metrics): KeyMetrics {
  const lines = metrics.counter(
    'lakebed_key_events_total',
    'Uses of customer keys and decisions about keys, as in the audit',
    ['event', 'result'],
  );
  const seconds = metrics.histogram('lakebed_key_service_seconds', 'How long calls of key services took', [
    'event',
  ]);
  const lost = metrics.counter('lakebed_key_audit_lost_total', 'Audit lines that could not be written');
  return {
    audit: {
      line({ event, result, ms }) {
        lines.with(event, result).inc();
        if (ms !== undefined) seconds.with(event).observe(ms / 1000);
      },
    },
    lost: count => lost.with().inc(count),
    watch: ring => watch(metrics, ring),
  };
}

function watch(metrics: Metrics, ring: KeyRing): void {
  const perTenant = (name: string, help: string, value: (status: KeyStatus) => number): void =>
    metrics.collected('gauge', name, help, ['tenant'], emit => {
      for (const status of ring.status()) emit([status.tenant], value(status));
    });
  metrics.collected('gauge', 'lakebed_key_tenants', 'Tenants by the state of their keys', ['phase'], emit => {
    const all = ring.status();
    for (const phase of PHASES) emit([phase], all.filter(status => status.phase === phase).length);
  });
  perTenant(
    'lakebed_key_usable_seconds',
    'How long the keys may still be used without the CMK',
    s => s.usableMs / 1000,
  );
  perTenant('lakebed_key_files_open', 'Files whose keys are held', s => s.filesOpen);
  perTenant('lakebed_key_deks_made', 'Files begun since the tenant was attached', s => s.deksMade);
  perTenant(
    'lakebed_key_deks_opened',
    'File keys unwrapped since the tenant was attached',
    s => s.deksOpened,
  );
  perTenant(
    'lakebed_key_uses_denied',
    'Uses of its keys refused since the tenant was attached',
    s => s.denied,
  );
  metrics.collected(
    'gauge',
    'lakebed_key_bound_seconds',
    'A key that is switched off is out of use by then',
    [],
    emit => emit([], ring.boundMs / 1000),
  );
}
