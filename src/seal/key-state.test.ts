import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  boundMs,
  COLD,
  KEY_TIMES,
  type KeyInput,
  type KeyLife,
  type KeyPhase,
  stepKeys,
} from './key-state.ts';

const times = KEY_TIMES;
const open: KeyLife = { ...COLD, phase: 'open', usableUntil: 300_000, askAt: 60_000 };
const shut: KeyLife = { ...COLD, phase: 'shut', trouble: 'disabled', askAt: 60_000, shutAt: 900 };
const gone: KeyLife = { ...COLD, phase: 'shredded', trouble: 'shredded', askAt: Infinity };

const used: KeyInput = { on: 'used', began: 1000, at: 1100 };
const refused: KeyInput = { on: 'refused', trouble: 'denied', at: 1100 };
const failed: KeyInput = { on: 'failed', at: 1100 };
const time: KeyInput = { on: 'time', at: 1100 };
const shred: KeyInput = { on: 'shredded', at: 1100 };

/** Every phase meets every input: phase after, wiped or not, news. */
const TABLE: [KeyLife, KeyInput, KeyPhase, boolean, string | undefined][] = [
  [COLD, used, 'open', false, 'opened'],
  [COLD, refused, 'shut', true, 'revoked'],
  [COLD, failed, 'shut', true, 'revoked'],
  [COLD, time, 'cold', false, undefined],
  [COLD, shred, 'shredded', true, 'shredded'],
  [open, used, 'open', false, undefined],
  [open, refused, 'shut', true, 'revoked'],
  [open, failed, 'open', false, 'waning'],
  [open, time, 'open', false, undefined],
  [open, shred, 'shredded', true, 'shredded'],
  [shut, used, 'open', false, 'restored'],
  [shut, refused, 'shut', true, 'revoked'], // for another reason
  [shut, { on: 'refused', trouble: 'disabled', at: 1100 }, 'shut', true, undefined],
  [shut, failed, 'shut', true, undefined],
  [shut, time, 'shut', false, undefined],
  [shut, shred, 'shredded', true, 'shredded'],
  [gone, used, 'shredded', false, undefined],
  [gone, refused, 'shredded', false, undefined],
  [gone, failed, 'shredded', false, undefined],
  [gone, time, 'shredded', false, undefined],
  [gone, shred, 'shredded', false, undefined],
];

describe('the table', () => {
  test.each(TABLE)('%j on %j', (life, input, phase, wipe, news) => {
    const step = stepKeys(life, input, times);
    expect([step.life.phase, step.wipe, step.news]).toEqual([phase, wipe, news]);
  });

  test('time past the last success plus lifetime shuts', () => {
    expect(stepKeys(open, { on: 'time', at: 299_999 }, times).life.phase).toBe('open');
    const step = stepKeys(open, { on: 'time', at: 300_000 }, times);
    expect(step.life).toMatchObject({ phase: 'shut', trouble: 'unreachable' });
    expect([step.wipe, step.news]).toEqual([true, 'revoked']);
  });

  test('the lifetime counts from the start of the request, however late the answer', () => {
    const step = stepKeys(COLD, { on: 'used', began: 1000, at: 9000 }, times);
    expect(step.life.usableUntil).toBe(301_000);
    const late = stepKeys(COLD, { on: 'used', began: 1000, at: 400_000 }, times);
    expect(late.life.phase).toBe('shut');
  });

  test('an answer to a use that began before the refusal opens nothing', () => {
    const late = stepKeys(shut, { on: 'used', began: 899, at: 1100 }, times);
    expect([late.life.phase, late.news]).toEqual(['shut', undefined]);
  });

  test('retries double up to the poll, and silence does not hide a refusal', () => {
    let life = open;
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      life = stepKeys(life, { on: 'failed', at: 100 }, times).life;
      waits.push(life.askAt - 100);
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    expect(stepKeys(shut, failed, times).life.trouble).toBe('disabled');
  });

  test('the bound is poll plus lifetime', () => {
    expect(boundMs(times)).toBe(360_000);
  });
});

describe('any history', () => {
  const eventAt = (kind: number, at: number): KeyInput => {
    if (kind === 0) return { on: 'used', began: at - 50, at };
    if (kind === 1) return { on: 'refused', trouble: 'disabled', at };
    return kind === 2 ? { on: 'failed', at } : { on: 'time', at };
  };

  test('open means a success within the lifetime; leaving it always wipes; the next ask is never far', () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 200_000 }), fc.nat({ max: 3 })), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(steps, list => {
        let life = COLD;
        let at = 0;
        let lastUse = -Infinity;
        for (const [wait, kind] of list) {
          at += wait;
          const event = eventAt(kind, at);
          if (event.on === 'used') lastUse = event.began;
          const step = stepKeys(life, event, times);
          if (life.phase === 'open' && step.life.phase !== 'open') expect(step.wipe).toBe(true);
          if (step.life.phase === 'open') {
            expect(step.life.usableUntil).toBeLessThanOrEqual(lastUse + times.lifetimeMs);
          }
          if (event.on !== 'time' && event.on !== 'used')
            expect(step.life.askAt - at).toBeLessThanOrEqual(times.pollMs);
          life = step.life;
        }
      }),
      { numRuns: 500 },
    );
  });
});
