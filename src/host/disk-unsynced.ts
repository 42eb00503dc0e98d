// A disk that does not sync: for tests and trials that were started with --no-sync, where a crash of the machine may
// take what was written. A crash of the process alone takes nothing.

import type { Disk, DiskFile } from '../base/ports.ts';

export function unsyncedDisk(disk: Disk): Disk {
  return {
    open: async (path, mode) => unsyncedFile(await disk.open(path, mode)),
    readFile: path => disk.readFile(path),
    list: path => disk.list(path),
    stat: path => disk.stat(path),
    makeDirectory: path => disk.makeDirectory(path),
    rename: (from, to) => disk.rename(from, to),
    remove: path => disk.remove(path),
    removeTree: path => disk.removeTree(path),
    syncDirectory: async () => {},
    usage: () => disk.usage(),
  };
}

const unsyncedFile = (file: DiskFile): DiskFile => ({
  path: file.path,
  size: () => file.size(),
  read: (offset, length) => file.read(offset, length),
  write: (offset, bytes) => file.write(offset, bytes),
  writev: (offset, pieces) => file.writev(offset, pieces),
  writeDurably: (offset, pieces) => file.writev(offset, pieces),
  truncate: length => file.truncate(length),
  sync: async () => {},
  close: () => file.close(),
});
