// Older files of a timeline put back while its safekeeper is down: each alone, as it was at an earlier moment, whole
// and sealed under the right key. A control record older than what WAL was written under is refused by name, for it may
// have forgotten a vote; so is WAL that ends before what the control record says is committed. Other timelines go on.

import { describe, expect, test } from 'vitest';
import {
  append,
  Bench,
  elect,
  HISTORY,
  keyOf,
  START,
  walOf,
} from '../../integration/safekeeper/timeline-bench.ts';

const DIRECTORY = `${keyOf(1).tenantId}/${keyOf(1).timelineId}`;
const CONTROL = `${DIRECTORY}/safekeeper.control`;
const SEGMENT = `${DIRECTORY}/000000010000000000000003`;

/** Since the last vote: what is put back of then has forgotten none. */
const LATER = ['the election of term 3', 'WAL of term 3', 'the checkpoint of term 3', 'the end'];

/** Two timelines, the first through three terms; what its files were after each step. */
async function history() {
  const bench = new Bench();
  const wal = walOf(40, 400);
  const moments: { after: string; files: Map<string, Uint8Array> }[] = [];
  const note = (after: string): void => {
    const files = bench.disk.files().map(([path, bytes]) => [path, bytes.slice()] as const);
    moments.push({ after, files: new Map(files) });
  };
  const other = await elect(await bench.create(2));
  await append(other, wal, wal.start, wal.end);
  const timeline = await bench.create(1);
  note('creation');
  let from = wal.start as number;
  let terms = HISTORY;
  for (const term of [1, 2, 3]) {
    if (term > 1) terms = [...terms, { term, lsn: timeline.flushLsn }];
    const session = timeline.connectProposer();
    await session.process({ kind: 'vote-request', generation: 0, term });
    note(`the vote of term ${term}`);
    await session.process({
      kind: 'elected',
      generation: 0,
      term,
      startStreamingAt: timeline.flushLsn === 0 ? START : timeline.flushLsn,
      termHistory: terms,
    });
    note(`the election of term ${term}`);
    const to = wal.boundaries[term * 12]!;
    await append(session, wal, from, to, 0, term);
    note(`WAL of term ${term}`);
    await append(session, wal, to, to, to, term);
    await timeline.checkpoint();
    note(`the checkpoint of term ${term}`);
    from = to;
    await session.close();
  }
  await bench.timelines.close();
  note('the end');
  return { bench, moments, end: from };
}

describe('a file put back while nobody looks', () => {
  test('the files as they were last are taken', async () => {
    const { bench, end } = await history();
    const again = await bench.load();
    expect(again.damaged()).toEqual([]);
    expect(again.get(keyOf(1)).flushLsn).toBe(end);
  });

  /** What becomes of the first timeline with these files as they were after each step; the second must not notice. */
  async function fates(paths: readonly string[]) {
    const { bench, moments, end } = await history();
    const newest = moments.at(-1)!.files;
    const told = new Map<string, { refused: string } | { term: number; short: number }>();
    for (const { after, files } of moments) {
      for (const path of [CONTROL, SEGMENT]) bench.disk.plant(path, newest.get(path)!);
      for (const path of paths) {
        const older = files.get(path);
        if (older === undefined) await bench.disk.remove(path);
        else bench.disk.plant(path, older);
      }
      const again = await bench.load();
      expect(again.get(keyOf(2)).flushLsn, after).toBeGreaterThan(START);
      const [damaged] = again.damaged();
      if (damaged !== undefined) told.set(after, { refused: damaged.fault.message });
      else {
        const { control, flushLsn } = again.get(keyOf(1)).status();
        told.set(after, { term: control.term, short: end - flushLsn });
      }
      await again.close();
    }
    return told;
  }

  test('a control record older than WAL is refused by name; a younger one has forgotten no vote', async () => {
    for (const [after, fate] of await fates([CONTROL])) {
      if (LATER.includes(after)) expect(fate, after).toEqual({ term: 3, short: 0 });
      else {
        expect(fate, after).toEqual({
          refused: expect.stringMatching(
            /safekeeper\.control: it is record \d, and WAL was written under record 9: an older one was put back/,
          ),
        });
      }
    }
  });

  test('WAL that ends before what was committed is refused by name', async () => {
    for (const [after, fate] of await fates([SEGMENT])) {
      if (LATER.includes(after) && after !== 'the election of term 3') {
        expect(fate, after).toEqual({ term: 3, short: 0 });
      } else {
        const refused = /000000010000000000000003 is (missing|damaged: .* its end was cut off)/;
        expect(fate, after).toEqual({ refused: expect.stringMatching(refused) });
      }
    }
  });

  test('all of them together are the past, which no node can tell from the present alone', async () => {
    const told = await fates([CONTROL, SEGMENT]);
    expect(told.get('the checkpoint of term 2')).toMatchObject({ term: 2 });
    expect(told.get('the end')).toEqual({ term: 3, short: 0 });
  });
});
