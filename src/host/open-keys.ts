// Every key service there is a driver for, each loaded when a key of its kind is first used: nobody waits for the
// client of a cloud that no tenant is in.

import type { Blobs, Keys } from '../base/ports.ts';
import { KeysInStore } from './keys-in-store.ts';
import { LocalKeys } from './keys-local.ts';

/** Keys of kind `local` lie in that directory, one file each; or in the object store, where none is named. */
export function hostKeys(localDirectory: string | undefined, store: Blobs): readonly Keys[] {
  return [
    localDirectory === undefined ? new KeysInStore(store) : new LocalKeys(localDirectory),
    later('aws', async () => new (await import('./keys-aws.ts')).AwsKeys()),
    later('azure', async () => new (await import('./keys-azure.ts')).AzureKeys()),
    later('google', async () => new (await import('./keys-google.ts')).GoogleKeys()),
  ];
}

function later(kind: string, load: () => Promise<Keys>): Keys {
  let loading: Promise<Keys> | undefined;
  const driver = (): Promise<Keys> => (loading ??= load());
  return {
    kind,
    generate: async (keyId, bytes, context) => (await driver()).generate(keyId, bytes, context),
    wrap: async (keyId, plaintext, context) => (await driver()).wrap(keyId, plaintext, context),
    unwrap: async (keyId, secret, context) => (await driver()).unwrap(keyId, secret, context),
    state: async keyId => (await driver()).state(keyId),
  };
}
