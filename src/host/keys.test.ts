// One contract, every key service: a file, AWS KMS as moto serves it, Azure Key Vault and Google Cloud KMS as their
// stand-ins do, and the simulated one.

import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CreateKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  KMSClient,
  ScheduleKeyDeletionCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GOOGLE_KEY, type StandIn, startAzure, startGoogle, TOKEN } from '../../integration/kms-stand-ins.ts';
import { type Moto, startMoto } from '../../integration/moto.ts';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimKeys } from '../../integration/sim/keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import type { KeyState, Keys } from '../base/ports.ts';
import type { AuditLine } from '../seal/audit.ts';
import { openVault } from '../seal/disk-vault.ts';
import { KeyCalls } from '../seal/key-calls.ts';
import { KeyRing } from '../seal/key-ring.ts';
import { blobKeyStore } from '../seal/key-store.ts';
import { hostClock } from './clock.ts';
import { hostDisk } from './disk.ts';
import { AwsKeys } from './keys-aws.ts';
import { AzureKeys } from './keys-azure.ts';
import { crc32c, GoogleKeys } from './keys-google.ts';
import { LocalKeys } from './keys-local.ts';
import { hostRandom } from './random.ts';

let root: string;
let moto: Moto | string;
let azure: StandIn;
let google: StandIn;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-keys-'));
  [moto, azure, google] = await Promise.all([startMoto(), startAzure(), startGoogle()]);
  if (typeof moto === 'string') process.stderr.write(`AWS KMS suite skipped: ${moto}\n`);
}, 300_000);
afterAll(async () => {
  rmSync(root, { recursive: true, force: true });
  await Promise.all([azure.stop(), google.stop(), typeof moto === 'string' ? undefined : moto.stop()]);
});

/** A driver, a key, and the customer's hand on it. */
interface Service {
  readonly keys: Keys;
  readonly id: string;
  readonly unknownId: string;
  set(state: KeyState): Promise<void> | void;
  rotate?(): Promise<void> | void;
}

async function awsService(): Promise<Service | string> {
  if (typeof moto === 'string') return moto;
  const { endpoint, credentials } = moto;
  const client = new KMSClient({ region: 'eu-central-1', endpoint, credentials });
  const { Arn: id = '', KeyId } = (await client.send(new CreateKeyCommand({}))).KeyMetadata!;
  return {
    keys: new AwsKeys({ endpoint, credentials }),
    id,
    unknownId: id.replace(/[0-9a-f]{12}$/, '000000000000'),
    async set(state) {
      if (state === 'enabled') await client.send(new EnableKeyCommand({ KeyId }));
      if (state === 'disabled') await client.send(new DisableKeyCommand({ KeyId }));
      if (state === 'destroyed')
        await client.send(new ScheduleKeyDeletionCommand({ KeyId, PendingWindowInDays: 7 }));
    },
  };
}

const azureKeys = (): AzureKeys => new AzureKeys({ token: async () => TOKEN, hosts: [azure.host] });
const googleKeys = (): GoogleKeys => new GoogleKeys({ token: async () => TOKEN, endpoint: google.endpoint });

const SERVICES: Record<string, () => Promise<Service | string>> = {
  'a file': async () => {
    const directory = join(root, hostRandom.bytes(4).join('-'));
    const keys = new LocalKeys(directory);
    return {
      keys,
      id: 'default',
      unknownId: 'other',
      set: state =>
        state === 'destroyed' ? rmSync(join(directory, 'default.json')) : keys.setState('default', state),
      rotate: () => keys.rotate('default'),
    };
  },
  'AWS KMS (moto)': awsService,
  'Azure Key Vault (stand-in)': async () => ({
    keys: azureKeys(),
    id: `${azure.endpoint}/keys/cmk`,
    unknownId: `${azure.endpoint}/keys/other`,
    set: state => void (azure.state = state === 'destroyed' ? 'purged' : state),
    rotate: () => azure.rotate(),
  }),
  'Google Cloud KMS (stand-in)': async () => ({
    keys: googleKeys(),
    id: GOOGLE_KEY,
    unknownId: GOOGLE_KEY.replace('cmk', 'other'),
    set: state => void (google.state = state.toUpperCase()),
    rotate: () => google.rotate(),
  }),
  simulated: async () => {
    const keys = new SimKeys({ random: new SimRandom(1) });
    keys.make('a');
    return {
      keys,
      id: 'a',
      unknownId: 'b',
      set: state => keys.set('a', state),
      rotate: () => keys.rotate('a'),
    };
  },
};

const context = { service: 'lakebed', tenant: 'a', kek: '1' };

describe.each(Object.keys(SERVICES))('%s', name => {
  test('wraps and unwraps, bound to its context', async t => {
    const service = await SERVICES[name]!();
    if (typeof service === 'string') return t.skip(service);
    const { keys, id } = service;
    const made = await keys.generate(id, 32, context);
    expect(made.plaintext.length).toBe(32);
    const opened = await keys.unwrap(id, made.secret, context);
    expect(Buffer.compare(opened.plaintext, made.plaintext)).toBe(0);
    expect(Buffer.compare(made.secret.ciphertext, made.plaintext)).not.toBe(0);
    const wrapped = await keys.wrap(id, utf8('a secret of thirty-two bytes, yes'), context);
    expect(Buffer.from((await keys.unwrap(id, wrapped, context)).plaintext).toString()).toContain(
      'thirty-two',
    );
    // The names in another order are the same context.
    const turned = { kek: '1', tenant: 'a', service: 'lakebed' };
    if (name !== 'simulated') await keys.unwrap(id, wrapped, turned);
    await expect(keys.unwrap(id, wrapped, { ...context, tenant: 'b' })).rejects.toMatchObject({
      code: 'sealed-tampered',
    });
    const changed = wrapped.ciphertext.slice();
    changed[changed.length - 5]! ^= 1;
    await expect(keys.unwrap(id, { ...wrapped, ciphertext: changed }, context)).rejects.toMatchObject({
      code: 'sealed-tampered',
    });
    if (name !== 'a file') {
      expect([made.secret.requestId, opened.requestId, wrapped.requestId]).not.toContain(undefined);
    }
  });

  test('opens after a rotation what was wrapped before it', async t => {
    const service = await SERVICES[name]!();
    if (typeof service === 'string') return t.skip(service);
    if (!service.rotate) return t.skip('moto does not rotate keys on demand');
    const { keys, id } = service;
    const before = await keys.generate(id, 32, context);
    await service.rotate();
    const after = await keys.generate(id, 32, context);
    expect(after.secret.keyVersion).not.toBe(before.secret.keyVersion);
    for (const { plaintext, secret } of [before, after]) {
      expect((await keys.unwrap(id, secret, context)).plaintext).toEqual(plaintext);
    }
  });

  test('says what the key is doing', async t => {
    const service = await SERVICES[name]!();
    if (typeof service === 'string') return t.skip(service);
    const { keys, id, set } = service;
    const { secret } = await keys.generate(id, 32, context);
    expect(await keys.state(id)).toBe('enabled');
    await set('disabled');
    expect(await keys.state(id)).toBe('disabled');
    // moto unwraps under a disabled key, which is why the ring asks for the state as well.
    const enforces = name !== 'AWS KMS (moto)';
    if (enforces) {
      await expect(keys.unwrap(id, secret, context)).rejects.toMatchObject({
        code: 'key-disabled',
        kind: 'denied',
      });
      await expect(keys.generate(id, 32, context)).rejects.toMatchObject({ code: 'key-disabled' });
    }
    await set('enabled');
    await keys.unwrap(id, secret, context);
    await set('destroyed');
    // A key that waits for its deletion at AWS can be taken back: it counts as disabled.
    expect(await keys.state(id)).toBe(enforces ? 'destroyed' : 'disabled');
    if (enforces)
      await expect(keys.unwrap(id, secret, context)).rejects.toMatchObject({ code: 'key-destroyed' });
    if (name !== 'a file') {
      await expect(keys.wrap(service.unknownId, new Uint8Array(32), context)).rejects.toMatchObject({
        code: 'key-destroyed',
      });
    }
    if (name.includes('stand-in')) await set('enabled');
  });
});

describe('a tenant whose key is in AWS KMS (moto)', () => {
  test('is served; shut within the bound once the key is disabled; and served again by itself', async t => {
    const service = await awsService();
    if (typeof service === 'string') return t.skip(service);
    const times = { pollMs: 150, lifetimeMs: 1500, requestMs: 1000, retryMs: 50 };
    const lines: AuditLine[] = [];
    const calls = new KeyCalls({
      services: [service.keys],
      clock: hostClock,
      audit: { line: line => lines.push(line) },
      who: 'node-1',
      requestMs: times.requestMs,
    });
    const store = blobKeyStore(new SimBlobs({ random: new SimRandom(1) }));
    const ring = new KeyRing({
      store,
      calls,
      random: hostRandom,
      times,
      defaultCmk: service.id,
      node: 'node-1',
    });
    const tenant = 'ef'.repeat(16);
    const disk = hostDisk(join(root, 'served'));
    const keys = ring.attach(tenant);
    const vault = openVault({ disk, directory: 'v', scope: { tenant }, keys, random: hostRandom });
    const works = (): Promise<boolean> =>
      vault.writeFile('f', utf8('x')).then(
        () => true,
        error => {
          expect(error).toMatchObject({ code: 'key-revoked' });
          return false;
        },
      );
    const becomes = async (wanted: boolean): Promise<void> => {
      const until = performance.now() + ring.boundMs + times.requestMs;
      while ((await works()) !== wanted) {
        expect(performance.now()).toBeLessThan(until);
        await hostClock.sleep(20);
      }
    };
    await disk.makeDirectory('.');
    expect(await works()).toBe(true);
    await service.set('disabled');
    await becomes(false);
    expect(ring.status()[0]).toMatchObject({ phase: 'shut', trouble: 'disabled', keksHeld: 0 });
    await service.set('enabled');
    await becomes(true);
    expect(lines.find(line => line.event === 'generate')).toMatchObject({
      tenant,
      cmk: `aws:${service.id}`,
      result: 'ok',
      requestId: expect.stringMatching(/./),
    });
    expect(lines.map(line => line.event)).toEqual(expect.arrayContaining(['unwrap', 'revoke', 'restore']));
    ring.close();
  });
});

describe('a file', () => {
  test('is made at first use, mode 0600, once, and refused when others may read it', async () => {
    const directory = join(root, 'first');
    const keys = new LocalKeys(directory);
    expect(await keys.state('default')).toBe('destroyed');
    const made = await Promise.all(
      [1, 2, 3, 4].map(() => new LocalKeys(directory).generate('default', 32, context)),
    );
    for (const { plaintext, secret } of made) {
      expect((await keys.unwrap('default', secret, context)).plaintext).toEqual(plaintext);
    }
    const path = join(directory, 'default.json');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    chmodSync(path, 0o644);
    await expect(keys.unwrap('default', made[0]!.secret, context)).rejects.toMatchObject({
      code: 'key-unavailable',
      hint: `Run: chmod 600 ${path}`,
    });
    chmodSync(path, 0o600);
    writeFileSync(path, readFileSync(path, 'utf8').slice(0, 50));
    await expect(keys.state('default')).rejects.toMatchObject({ code: 'key-unavailable' });
    await expect(keys.state('../x')).rejects.toMatchObject({ code: 'key-missing' });
  });
});

describe('trouble', () => {
  test('at Azure is told apart, and the token goes to no stranger', async () => {
    const id = `${azure.endpoint}/keys/cmk`;
    const error = (code: string, inner?: string) => ({
      error: { code, message: 'm', innererror: { code: inner } },
    });
    const cases: [number, unknown, string][] = [
      [429, error('Throttled'), 'key-unavailable'],
      [503, 'not json', 'key-unavailable'],
      [401, error('Unauthorized'), 'key-unavailable'],
      [403, error('Forbidden', 'ForbiddenByRbac'), 'key-denied'],
      [403, error('Forbidden', 'AccessDenied'), 'key-denied'],
      [409, error('Conflict', 'ObjectIsDeletedButRecoverable'), 'key-disabled'],
    ];
    for (const [status, body, code] of cases) {
      azure.trouble = { status, body };
      await expect(azureKeys().wrap(id, new Uint8Array(32), context)).rejects.toMatchObject({ code });
    }
    azure.trouble = undefined;
    const strict = new AzureKeys({ token: async () => TOKEN });
    const before = azure.requests;
    for (const url of [
      id,
      'https://vault.azure.net.evil.example/keys/cmk',
      'http://v.vault.azure.net/keys/cmk',
      'cmk',
    ]) {
      await expect(strict.state(url)).rejects.toMatchObject({ code: 'key-missing' });
    }
    const version = 'https://evil.example/keys/cmk/1';
    const secret = { ciphertext: new Uint8Array(256), keyVersion: version, requestId: undefined };
    await expect(azureKeys().unwrap(id, secret, context)).rejects.toMatchObject({ code: 'sealed-tampered' });
    expect(azure.requests).toBe(before);
  });

  test('at Google is told apart, and damage on the way is seen', async () => {
    const keys = googleKeys();
    const error = (status: string, message = 'm') => ({ error: { status, message } });
    const cases: [number, unknown, string][] = [
      [429, error('RESOURCE_EXHAUSTED'), 'key-unavailable'],
      [503, error('UNAVAILABLE'), 'key-unavailable'],
      [401, error('UNAUTHENTICATED'), 'key-unavailable'],
      [403, error('PERMISSION_DENIED'), 'key-denied'],
      [400, error('FAILED_PRECONDITION', 'current state is: DESTROYED.'), 'key-destroyed'],
      [
        200,
        { name: 'x/1', ciphertext: 'AAAA', ciphertextCrc32c: '1', verifiedPlaintextCrc32c: true },
        'key-unavailable',
      ],
    ];
    for (const [status, body, code] of cases) {
      google.trouble = { status, body };
      await expect(keys.wrap(GOOGLE_KEY, new Uint8Array(32), context)).rejects.toMatchObject({ code });
    }
    google.trouble = undefined;
    await expect(keys.state('cmk')).rejects.toMatchObject({ code: 'key-missing' });
    expect(crc32c(utf8('123456789'))).toBe(String(0xe3069283)); // the check value of the algorithm
  });

  test('nobody there, and no credentials, is our trouble: key-unavailable', async () => {
    const id = 'arn:aws:kms:eu-central-1:123456789012:key/4dba1c13-8e86-4c77-9160-e6640e021a19';
    const credentials = { accessKeyId: 'x', secretAccessKey: 'y' };
    const nowhere = 'http://127.0.0.1:1';
    const away: [Keys, string][] = [
      [new AwsKeys({ endpoint: nowhere, credentials }), id],
      [new AzureKeys({ token: async () => TOKEN, hosts: ['127.0.0.1:1'] }), `${nowhere}/keys/cmk`],
      [new GoogleKeys({ token: async () => TOKEN, endpoint: nowhere }), GOOGLE_KEY],
      [new GoogleKeys({ token: () => Promise.reject(new Error('no metadata server')) }), GOOGLE_KEY],
    ];
    for (const [keys, key] of away) {
      await expect(keys.generate(key, 32, context)).rejects.toMatchObject({ code: 'key-unavailable' });
    }
  });

  test('an optional package that is not installed is named', async () => {
    const why = { code: 'key-unavailable', hint: expect.stringMatching(/^Run: npm install /) };
    await expect(new AzureKeys().state('https://v.vault.azure.net/keys/cmk')).rejects.toMatchObject(why);
    await expect(new GoogleKeys().state(GOOGLE_KEY)).rejects.toMatchObject(why);
  });
});
