// A disk that is soon full: a file system in memory of a given size, mounted on a directory. Root alone may, and not on
// every machine.

import { spawnSync } from 'node:child_process';

/** Whether it could be mounted; `unmount` takes it away again. */
export const mountSmallDisk = (directory: string, size: string): boolean =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory]).status === 0;

export const unmount = (directory: string): void => void spawnSync('umount', ['-l', directory]);
