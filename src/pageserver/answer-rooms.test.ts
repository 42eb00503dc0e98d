import { expect, test } from 'vitest';
import { AnswerRooms } from './answer-rooms.ts';

test('what comes back is taken again, by one at a time, and is large enough', () => {
  const rooms = new AnswerRooms();
  for (const pages of [1, 2, 3, 4, 5, 31, 32, 33]) {
    for (const echo of [0, 41]) {
      const bytes = pages * (8192 + 6 + echo);
      const first = rooms.take(bytes);
      const second = rooms.take(bytes);
      expect([first.length, second.length]).toEqual([bytes, bytes]);
      expect(first.buffer).not.toBe(second.buffer);
      rooms.giveBack(first);
      expect(rooms.take(bytes).buffer).toBe(first.buffer);
    }
  }
});

test('no more is kept than a few megabytes', () => {
  const rooms = new AnswerRooms();
  const taken = Array.from({ length: 2000 }, () => rooms.take(8000));
  const buffers = new Set(taken.map(room => room.buffer));
  for (const room of taken) rooms.giveBack(room);
  let again = 0;
  for (let i = 0; i < 2000; i++) if (buffers.has(rooms.take(8000).buffer)) again++;
  expect(again).toBeGreaterThan(900);
  expect(again).toBeLessThan(1100);
});
