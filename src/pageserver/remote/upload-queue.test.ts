import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UNSHARDED } from '../../base/ids.ts';
import { type IndexPart, newIndex } from './index-part.ts';
import { MAY_ALL, type UploadOp, UploadQueue } from './upload-queue.ts';

const first = (): IndexPart =>
  newIndex({ pgVersion: 17, diskConsistentLsn: 0, prevRecordLsn: 0, initdbLsn: 0 });

const newQueue = (layersMax = 2): UploadQueue =>
  new UploadQueue({
    index: first(),
    stored: false,
    generation: 1,
    shard: UNSHARDED,
    layersMax,
    may: MAY_ALL,
  });

const namesOf = (index: IndexPart): string => [...index.layers.keys()].sort().join(' ') || '(none)';

function show(op: UploadOp | undefined): string {
  if (!op) return 'nothing';
  if (op.do === 'put-layer') return `put ${op.layer}`;
  if (op.do === 'delete') return `delete ${op.layers.join(' ')}`;
  const { sequence, forgotten } = op.index;
  const tail = forgotten.length > 0 ? `, forgotten: ${forgotten.join(' ')}` : '';
  return `index ${sequence}: ${namesOf(op.index)}${tail}`;
}

/** A trace: a line is a command, the line after it with `=> ` what it must give. */
function replay(trace: string): string {
  const queue = newQueue();
  const running = new Map<string, UploadOp>();
  const out: string[] = [];
  const idOf = (op: UploadOp): string =>
    op.do === 'put-layer' ? op.layer : op.do === 'put-index' ? `index-${op.index.sequence}` : 'delete';
  for (const line of trace.split('\n')) {
    if (line.startsWith('=> ')) continue;
    out.push(line);
    const [word, ...args] = line.trim().split(/\s+/);
    if (!word || word.startsWith('#')) continue;
    if (word === 'add') for (const name of args) queue.addLayer(name, 100);
    else if (word === 'remove') queue.removeLayers(args);
    else if (word === 'commit') out.push(`=> ${queue.commit()}`);
    else if (word === 'may') queue.may = { upload: args.includes('upload'), delete: args.includes('delete') };
    else if (word === 'next') {
      const op = queue.next();
      if (op) running.set(idOf(op), op);
      out.push(`=> ${show(op)}`);
    } else if (word === 'done' || word === 'failed') {
      const op = running.get(args[0]!);
      if (!op) throw new Error(`${args[0]} is not running`);
      running.delete(args[0]!);
      queue[word](op);
    } else throw new Error(`no such command: ${word}`);
  }
  return out.join('\n');
}

const FIXTURE = new URL('../../../integration/fixtures/upload-queue.txt', import.meta.url);
const traces = readFileSync(FIXTURE, 'utf8').split(/^== /m).slice(1);

describe('golden traces', () => {
  test.each(traces.map(text => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1)]))(
    '%s',
    (_, trace) => {
      expect(replay(trace)).toBe(trace);
    },
  );
});

/** An object store as the rules see it: what happened, in whatever order, and never out of order. */
class Store {
  readonly objects = new Set<string>();
  index: IndexPart | undefined;

  carryOut(op: UploadOp): void {
    if (op.do === 'put-layer') this.objects.add(op.layer);
    else if (op.do === 'delete') for (const layer of op.layers) this.objects.delete(layer);
    else {
      if (this.index) expect(op.index.sequence).toBeGreaterThanOrEqual(this.index.sequence);
      this.index = op.index;
    }
  }

  check(): void {
    for (const name of this.index?.layers.keys() ?? []) {
      expect(this.objects.has(name), `the index names ${name}`).toBe(true);
    }
  }
}

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('add'), n: fc.constant(0) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('remove'), n: fc.nat(9) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('commit'), n: fc.constant(0) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('start'), n: fc.constant(0) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('finish'), n: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail-undone'), n: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail-done'), n: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('may'), n: fc.nat(3) }) },
);

test('whatever happens in whatever order, the index in the store names only what is there', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), steps => {
      const queue = newQueue(3);
      const store = new Store();
      const running: UploadOp[] = [];
      queue.addLayer('always', 1);
      let made = 0;
      for (const { do: what, n } of steps) {
        const removable = [...queue.dirty.layers.keys()].slice(1);
        if (what === 'add') queue.addLayer(`l${made++}`, 1);
        if (what === 'remove' && removable.length > 0) queue.removeLayers([removable[n % removable.length]!]);
        if (what === 'commit') queue.commit();
        if (what === 'may') queue.may = { upload: n > 0, delete: n > 1 };
        if (what === 'start') {
          const op = queue.next();
          if (op) running.push(op);
        }
        if (running.length === 0) continue;
        const op = running[n % running.length]!;
        if (what === 'finish' || what === 'fail-done') store.carryOut(op);
        if (what === 'finish') queue.done(op);
        if (what.startsWith('fail')) queue.failed(op);
        if (what === 'finish' || what.startsWith('fail')) running.splice(running.indexOf(op), 1);
        store.check();
      }
      // Left alone, all of it gets there, and nothing else stays.
      queue.may = MAY_ALL;
      for (const op of running.splice(0)) {
        store.carryOut(op);
        queue.done(op);
      }
      queue.commit();
      for (let op = queue.next(); op; op = queue.next()) {
        store.carryOut(op);
        queue.done(op);
        store.check();
      }
      expect(queue.idle).toBe(true);
      expect(store.index?.layers).toEqual(queue.dirty.layers);
      expect([...store.objects].sort()).toEqual([...queue.dirty.layers.keys()].sort());
      queue.change({ gcCutoffLsn: 0 });
      queue.commit();
      expect(queue.dirty.forgotten).toEqual([]);
    }),
    { numRuns: 3000 },
  );
});

test('what an earlier attachment forgot is deleted by the next', () => {
  const index = newIndex({
    ...first(),
    sequence: 9,
    layers: new Map([['a', { bytes: 1, generation: 1, shard: UNSHARDED }]]),
    forgotten: ['b'],
  });
  const queue = new UploadQueue({
    index,
    stored: true,
    generation: 2,
    shard: UNSHARDED,
    layersMax: 1,
    may: MAY_ALL,
  });
  expect(queue.next()).toBeUndefined();
  queue.commit();
  const own = queue.next();
  expect(own).toMatchObject({ do: 'put-index', index: { sequence: 10, forgotten: ['b'] } });
  queue.done(own!);
  const op = queue.next();
  expect(op).toEqual({ do: 'delete', layers: ['b'] });
  queue.done(op!);
  expect(queue.next()).toBeUndefined();
  queue.change({ gcCutoffLsn: 0 });
  queue.commit();
  expect(queue.dirty.forgotten).toEqual([]);
});

test("another shard's layer is named, and never deleted", () => {
  const parent = { number: 0, count: 2 };
  const queue = new UploadQueue({
    index: first(),
    stored: false,
    generation: 2,
    shard: { number: 1, count: 4 },
    layersMax: 1,
    may: MAY_ALL,
  });
  queue.adoptLayer('a', { bytes: 1, generation: 1, shard: parent });
  queue.adoptLayer('b', { bytes: 1, generation: 1, shard: parent });
  queue.commit();
  queue.done(queue.next()!);
  queue.removeLayers(['a']);
  queue.commit();
  const op = queue.next()!;
  expect(op.do === 'put-index' && namesOf(op.index)).toBe('b');
  queue.done(op);
  expect(queue.next()).toBeUndefined();
  expect(queue.dirty.forgotten).toEqual([]);
});
