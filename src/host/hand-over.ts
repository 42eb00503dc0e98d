// Files that root made, given to somebody who may run Postgres on them: it refuses to run as root.

import { lchown, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const NOBODY = { name: 'nobody', uid: 65534, gid: 65534 };

interface Owner {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** The new owner's name; undefined when we are not root and all is ours. */
export async function handOver(path: string): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const owner = await ownerFor(path);
  await own(path, owner);
  return owner.name;
}

/** The owner of the directory around it, unless that is root; `postgres` where there is one; else nobody. */
async function ownerFor(path: string): Promise<Owner> {
  const users = await usersHere();
  const around = await stat(dirname(path));
  const neighbour = users.find(user => user.uid === around.uid);
  if (around.uid !== 0)
    return { name: neighbour?.name ?? String(around.uid), uid: around.uid, gid: around.gid };
  return users.find(user => user.name === 'postgres') ?? NOBODY;
}

async function usersHere(): Promise<Owner[]> {
  const text = await readFile('/etc/passwd', 'utf8').catch(() => '');
  return text.split('\n').flatMap(line => {
    const [name, , uid, gid] = line.split(':');
    return name && uid && gid ? [{ name, uid: Number(uid), gid: Number(gid) }] : [];
  });
}

async function own(path: string, owner: Owner): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    await lchown(join(entry.parentPath, entry.name), owner.uid, owner.gid);
  }
  await lchown(path, owner.uid, owner.gid);
}
