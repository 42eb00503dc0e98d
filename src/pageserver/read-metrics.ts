// What reads of pages cost, and what is done so that they cost less: records redone for a page, and the images that
// the storage made. Answers to pageserver_deltas_per_read_global of Neon's metrics.rs; the rest is ours.

import type { Metrics } from '../base/metrics.ts';
import { DELTA_COUNTS, type Engine } from './engine.ts';

export function readMetrics(metrics: Metrics, engine: Engine): void {
  const { deltasPerRead } = engine;
  metrics
    .histogram(
      'pageserver_deltas_per_read_global',
      'Records redone for a page that was read',
      [],
      DELTA_COUNTS,
    )
    .children.set('', { values: [], cell: deltasPerRead });
  const images = (name: string, help: string, what: 'hotPages' | 'denseLayers'): void =>
    metrics.collected('counter', name, help, [], emit => {
      let count = 0;
      for (const timeline of engine.timelines) count += timeline.upkeep.totals[what];
      emit([], count);
    });
  images('lakebed_images_made_pages_total', 'Hot pages that were given an image', 'hotPages');
  images('lakebed_images_made_layers_total', 'Dense image layers made', 'denseLayers');
}
