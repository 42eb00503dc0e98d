import { describe, expect, test } from 'vitest';
import { Metrics } from './metrics.ts';

describe('exposition', () => {
  test('counters, gauges and what is collected', () => {
    const m = new Metrics();
    const sent = m.counter('sent_total', 'Messages sent.', ['kind']);
    sent.with('a').inc();
    sent.with('a').inc(2);
    sent.with('say "hi"\n\\').inc();
    m.gauge('open', 'Open\nones').with().set(-1.5);
    m.collected('gauge', 'lsn', 'Where', ['id'], emit => {
      emit(['x'], 5);
      emit(['y'], Infinity);
    });
    expect(m.exposition()).toBe(
      [
        '# HELP sent_total Messages sent.',
        '# TYPE sent_total counter',
        'sent_total{kind="a"} 3',
        'sent_total{kind="say \\"hi\\"\\n\\\\"} 1',
        '# HELP open Open\\nones',
        '# TYPE open gauge',
        'open -1.5',
        '# HELP lsn Where',
        '# TYPE lsn gauge',
        'lsn{id="x"} 5',
        'lsn{id="y"} +Inf',
        '',
      ].join('\n'),
    );
  });

  test('histograms count up, the last bucket holds all', () => {
    const m = new Metrics();
    const h = m.histogram('took_seconds', 'How long.', [], [0.1, 1]).with();
    for (const value of [0.05, 0.1, 0.5, 7]) h.observe(value);
    expect(m.exposition().split('\n').slice(2, 7)).toEqual([
      'took_seconds_bucket{le="0.1"} 2',
      'took_seconds_bucket{le="1"} 3',
      'took_seconds_bucket{le="+Inf"} 4',
      'took_seconds_sum 7.65',
      'took_seconds_count 4',
    ]);
  });

  test('a name is declared once, with its labels', () => {
    const m = new Metrics();
    const c = m.counter('a_total', '', ['x']);
    expect(() => m.gauge('a_total', '')).toThrow(/twice/);
    expect(() => m.gauge('bad name', '')).toThrow(/not a metric name/);
    expect(() => c.with()).toThrow(/1 labels/);
    c.with('1').inc();
    c.forget('1');
    expect(m.exposition()).not.toContain('x=');
  });
});
