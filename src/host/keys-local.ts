// A key management service that is a file: the default, so that there is one path for everyone and no unencrypted
// mode. A key is `<directory>/<name>.json`, made when first asked for a secret, mode 0600:
//
//   { "format": 1, "id": "default", "state": "enabled" | "disabled",
//     "versions": [ { "version": 1, "createdAt": ISO time, "key": base64 of 32 bytes } … ] }
//
// The newest version wraps, all of them unwrap. The file is read at every call: who disables, rotates or deletes
// it (also by hand) is obeyed at the next. Deleting it shreds what it wrapped.
//
// A wrapped secret is  version u32 | nonce 12 | AES-256-GCM ciphertext | tag 16,  bound to the context's names and
// values in order. Nonces are random: a key wraps a KEK now and then, far from the 2^32 that would be too many.
//
// It protects data that leaves the machine without the file: a disk, a bucket, a backup. Whoever has the file and
// the data has everything; that is what a real service is for.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { KeyFault } from '../base/key-fault.ts';
import type { KeyContext, KeyState, Keys, UnwrappedSecret, WrappedSecret } from '../base/ports.ts';

export interface KeyFile {
  readonly format: 1;
  readonly id: string;
  readonly state: Exclude<KeyState, 'destroyed'>;
  readonly versions: readonly {
    readonly version: number;
    readonly createdAt: string;
    readonly key: string;
  }[];
}

const HEADER = 4 + 12;
const TAG = 16;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

const contextBytes = (context: KeyContext): Uint8Array =>
  Buffer.from(JSON.stringify(Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1))));

export class LocalKeys implements Keys {
  readonly kind = 'local';
  private readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  protected path(id: string): string {
    if (NAME.test(id)) return join(this.directory, `${id}.json`);
    throw new KeyFault('key-missing', `"${id}" is no name for a local key`, {
      hint: 'Letters, digits, dots, dashes and underscores; it becomes a file name.',
    });
  }

  protected async load(id: string): Promise<KeyFile | undefined> {
    const path = this.path(id);
    let file: fs.FileHandle;
    try {
      file = await fs.open(path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw unreadable(path, error);
    }
    try {
      const { mode } = await file.stat();
      if ((mode & 0o077) !== 0) {
        throw new KeyFault('key-unavailable', `the key file ${path} may be read by others`, {
          hint: `Run: chmod 600 ${path}`,
        });
      }
      const parsed = JSON.parse(await file.readFile('utf8')) as KeyFile;
      if (parsed.format !== 1 || !Array.isArray(parsed.versions)) throw new Error(`format ${parsed.format}`);
      return parsed;
    } catch (error) {
      throw error instanceof KeyFault ? error : unreadable(path, error);
    } finally {
      await file.close();
    }
  }

  private async usable(id: string): Promise<KeyFile> {
    const file = await this.load(id);
    if (!file) {
      throw new KeyFault('key-destroyed', `the key file ${this.path(id)} is gone`, {
        hint: 'Put it back from a copy. Without it nothing it wrapped can be read again.',
      });
    }
    if (file.state === 'enabled') return file;
    throw new KeyFault('key-disabled', `the local key "${id}" is disabled`, {
      hint: `Set "state" to "enabled" in ${this.path(id)}.`,
    });
  }

  protected async save(file: KeyFile, create: boolean): Promise<void> {
    const path = this.path(file.id);
    const aside = `${path}.${randomBytes(6).toString('hex')}`;
    await fs.mkdir(this.directory, { recursive: true, mode: 0o700 });
    try {
      const handle = await fs.open(aside, 'wx', 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(file, undefined, 2)}\n`);
        await handle.sync();
      } finally {
        await handle.close();
      }
      if (create) await fs.link(aside, path);
      else await fs.rename(aside, path);
      const directory = await fs.open(this.directory, 'r');
      await directory.sync().finally(() => directory.close());
    } finally {
      await fs.unlink(aside).catch(() => undefined);
    }
  }

  /** The key, made if it is not there; of two who make it, both use the first. */
  private async loadOrMake(id: string): Promise<KeyFile> {
    if (!(await this.load(id))) {
      try {
        await this.save({ format: 1, id, state: 'enabled', versions: [newVersion(1)] }, true);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw unreadable(this.path(id), error);
      }
    }
    return this.usable(id);
  }

  async generate(
    keyId: string,
    bytes: number,
    context: KeyContext,
  ): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }> {
    const file = await this.loadOrMake(keyId);
    const plaintext = new Uint8Array(randomBytes(bytes));
    return { plaintext, secret: seal(file, plaintext, context) };
  }

  async wrap(keyId: string, plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret> {
    return seal(await this.loadOrMake(keyId), plaintext, context);
  }

  async unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret> {
    const file = await this.usable(keyId);
    const bytes = Buffer.from(secret.ciphertext);
    const version = bytes.length > HEADER + TAG ? bytes.readUInt32BE(0) : 0;
    const key = file.versions.find(v => v.version === version);
    const wrong = (cause?: unknown): KeyFault =>
      new KeyFault('sealed-tampered', `the local key "${keyId}" did not wrap this, or not for this purpose`, {
        cause,
        hint: 'The wrapped bytes were changed, or the key file is another one than the one that wrapped them.',
      });
    if (!key) throw wrong();
    try {
      const decipher = createDecipheriv(
        'aes-256-gcm',
        Buffer.from(key.key, 'base64'),
        bytes.subarray(4, HEADER),
      );
      decipher.setAAD(contextBytes(context));
      decipher.setAuthTag(bytes.subarray(-TAG));
      const plain = Buffer.concat([decipher.update(bytes.subarray(HEADER, -TAG)), decipher.final()]);
      const plaintext = new Uint8Array(plain);
      plain.fill(0);
      return { plaintext, keyVersion: String(version), requestId: undefined };
    } catch (error) {
      throw wrong(error);
    }
  }

  async state(keyId: string): Promise<KeyState> {
    return (await this.load(keyId))?.state ?? 'destroyed';
  }

  async rotate(keyId: string): Promise<void> {
    const file = await this.usable(keyId);
    const next = Math.max(...file.versions.map(v => v.version)) + 1;
    await this.save({ ...file, versions: [...file.versions, newVersion(next)] }, false);
  }

  async setState(keyId: string, state: KeyFile['state']): Promise<void> {
    const file = await this.load(keyId);
    if (!file) throw new KeyFault('key-missing', `there is no local key "${keyId}"`);
    await this.save({ ...file, state }, false);
  }
}

const newVersion = (version: number): KeyFile['versions'][number] => ({
  version,
  createdAt: new Date().toISOString(),
  key: randomBytes(32).toString('base64'),
});

function seal(file: KeyFile, plaintext: Uint8Array, context: KeyContext): WrappedSecret {
  const { version, key } = file.versions.reduce((a, b) => (b.version > a.version ? b : a));
  const header = Buffer.alloc(HEADER);
  header.writeUInt32BE(version, 0);
  randomBytes(12).copy(header, 4);
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(key, 'base64'), header.subarray(4));
  cipher.setAAD(contextBytes(context));
  const sealed = Buffer.concat([header, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { ciphertext: new Uint8Array(sealed), keyVersion: String(version), requestId: undefined };
}

const unreadable = (path: string, cause: unknown): KeyFault =>
  new KeyFault('key-unavailable', `the key file ${path} cannot be used: ${(cause as Error).message}`, {
    cause,
    hint: 'Check that it exists, belongs to the user that runs this process, and is whole.',
  });
