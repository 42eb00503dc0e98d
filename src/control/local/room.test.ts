import { expect, test } from 'vitest';
import type { World } from '../../base/command.ts';
import { isLow, refuseWithoutRoom, roomAt, roomText } from './room.ts';

const MIB = 2 ** 20;

/** A world whose disk has these directories, and so much room below each that is asked. */
const worldWith = (there: readonly string[], freeBytes: number, asked: string[] = []): World =>
  ({
    disk: (root: string) => ({
      stat: async (path: string) => (there.includes(path) ? { size: 0 } : undefined),
      usage: async () => {
        asked.push(root);
        return { freeBytes, capacityBytes: 400 * MIB };
      },
    }),
  }) as unknown as World;

test('the disk is that of the nearest directory that is there', async () => {
  const asked: string[] = [];
  await roomAt(worldWith(['home', 'home/you'], MIB, asked), '/home/you/lakebed/.lakebed');
  await roomAt(worldWith([], MIB, asked), '/new');
  expect(asked).toEqual(['/home/you', '/']);
});

test('without room for a first project nothing is begun', async () => {
  await expect(refuseWithoutRoom(worldWith([], 40 * MIB), '/data')).rejects.toMatchObject({
    code: 'disk-full',
    message: 'only 40 MiB of 400 MiB are free for /data',
    hint: 'A new Lakebed needs 256 MiB: free some, or give another --data-dir.',
  });
  await refuseWithoutRoom(worldWith([], 256 * MIB), '/data');
});

test('told in units that read well', () => {
  expect(roomText({ freeBytes: 1.25 * 1024 * MIB, capacityBytes: 252.7 * 1024 * MIB })).toBe(
    '1.3 GiB of 252 GiB',
  );
  expect(isLow({ freeBytes: 128 * MIB, capacityBytes: 1 })).toBe(false);
  expect(isLow({ freeBytes: 128 * MIB - 1, capacityBytes: 1 })).toBe(true);
});
