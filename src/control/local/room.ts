// Room on the disk of a data directory: asked before a new one is made there, and told by `lakebed status`.
//
// A disk that fills under a running Lakebed loses nothing: commits wait in the safekeepers until there is room again.
// But a new one that cannot even make its first project is better refused in one sentence than begun.

import type { World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';

export interface Room {
  readonly freeBytes: number;
  readonly capacityBytes: number;
}

const MIB = 2 ** 20;
/** A new one takes 100 MiB with its first project and a compute; the rest is for the first work. */
const NEW_BYTES_MIN = 256 * MIB;
/** Less than this, and commits will soon wait for room. */
const LOW_BYTES = 128 * MIB;

export const isLow = (room: Room): boolean => room.freeBytes < LOW_BYTES;

/** `93 MiB of 40 GiB`. */
export const roomText = ({ freeBytes, capacityBytes }: Room): string =>
  `${bytesText(freeBytes)} of ${bytesText(capacityBytes)}`;

function bytesText(bytes: number): string {
  const gib = bytes / 2 ** 30;
  return gib >= 10
    ? `${Math.floor(gib)} GiB`
    : gib >= 1
      ? `${gib.toFixed(1)} GiB`
      : `${Math.floor(bytes / MIB)} MiB`;
}

/** Of the disk that holds a directory that may not be there yet. */
export async function roomAt(world: World, directory: string): Promise<Room> {
  const root = world.disk('/');
  let at = directory.slice(1);
  while (at !== '' && (await root.stat(at)) === undefined) at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
  return world.disk(`/${at}`).usage();
}

export async function refuseWithoutRoom(world: World, directory: string): Promise<void> {
  const room = await roomAt(world, directory);
  if (room.freeBytes >= NEW_BYTES_MIN) return;
  throw new Fault('disk-full', `only ${roomText(room)} are free for ${directory}`, {
    hint: `A new Lakebed needs ${bytesText(NEW_BYTES_MIN)}: free some, or give another --data-dir.`,
  });
}
