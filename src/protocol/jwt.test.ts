import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { TenantId } from '../base/ids.ts';
import { bearerToken, type Claims, checkPermission, type Scope, signToken, TokenVerifier } from './jwt.ts';

const T = '00112233445566778899aabbccddeeff' as TenantId;
const U = 'ffeeddccbbaa99887766554433221100' as TenantId;
const pair = (): { publicKey: string; privateKey: string } =>
  generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
const [a, b] = [pair(), pair()];
const NOW = Date.UTC(2026, 0, 1);
const verifier = (...pems: string[]): Promise<TokenVerifier> => TokenVerifier.of(pems, () => NOW);

/** A token put together by hand, as another implementation would. */
function byHand(payload: object, header: object = { alg: 'EdDSA' }, key = a.privateKey): string {
  const part = (o: object): string => Buffer.from(JSON.stringify(o)).toString('base64url');
  const text = `${part(header)}.${part(payload)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
}

describe('verify', () => {
  test('tokens of ours and tokens made by hand', async () => {
    const v = await verifier(a.publicKey);
    expect(await v.verify(await signToken({ scope: 'tenant', tenantId: T }, a.privateKey))).toEqual({
      scope: 'tenant',
      tenantId: T,
    });
    expect(await v.verify(byHand({ scope: 'pageserverapi', endpoint_id: '' }))).toEqual({
      scope: 'pageserverapi',
      tenantId: undefined,
    });
  });

  test('any of several keys, and keys replaced while running', async () => {
    const token = await signToken({ scope: 'safekeeperdata' }, b.privateKey);
    const v = await verifier(a.publicKey, b.publicKey);
    await v.verify(token);
    await v.replace([a.publicKey]);
    await expect(v.verify(token)).rejects.toMatchObject({ code: 'token-invalid' });
    await v.replace([`${a.publicKey}\n${b.publicKey}`]);
    await v.verify(token);
  });

  test.each([
    ['empty', ''],
    ['no token', 'hello'],
    ['another key', byHand({ scope: 'tenant', tenant_id: T }, { alg: 'EdDSA' }, b.privateKey)],
    ['ended', byHand({ scope: 'safekeeperdata', exp: NOW / 1000 - 3600 })],
    ['not yet', byHand({ scope: 'safekeeperdata', nbf: NOW / 1000 + 3600 })],
    ['unknown scope', byHand({ scope: 'everything' })],
    ['no scope', byHand({})],
    ['tenant scope without a tenant', byHand({ scope: 'tenant' })],
    ['a tenant that is no id', byHand({ scope: 'tenant', tenant_id: '../x' })],
    ['a tenant that is no text', byHand({ scope: 'tenant', tenant_id: 7 })],
    ['unsigned', `${byHand({ scope: 'safekeeperdata' }, { alg: 'none' }).split('.').slice(0, 2).join('.')}.`],
    ['too long', 'a'.repeat(20_000)],
  ])('refused: %s', async (_, token) => {
    const v = await verifier(a.publicKey);
    await expect(v.verify(token)).rejects.toMatchObject({ code: 'token-invalid' });
  });

  test('a public key is no secret: HMAC with it is refused', async () => {
    const part = (o: object): string => Buffer.from(JSON.stringify(o)).toString('base64url');
    const text = `${part({ alg: 'HS256' })}.${part({ scope: 'safekeeperdata' })}`;
    const forged = `${text}.${createHmac('sha256', a.publicKey).update(text).digest('base64url')}`;
    await expect((await verifier(a.publicKey)).verify(forged)).rejects.toMatchObject({
      code: 'token-invalid',
    });
  });

  test('keys that are none are told at the start', async () => {
    await expect(verifier('hello')).rejects.toThrow(/no public key/);
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({
      type: 'spki',
      format: 'pem',
    });
    await expect(verifier(rsa as string)).rejects.toThrow(/Ed25519/);
  });
});

describe('permission', () => {
  const claims = (scope: Scope, tenantId?: TenantId): Claims => ({ scope, tenantId });
  const table: [Claims, TenantId | undefined, boolean, boolean][] = [
    // claims, asked for, safekeeper, pageserver
    [claims('tenant', T), T, true, true],
    [claims('tenant', T), U, false, false],
    [claims('tenant', T), undefined, false, false],
    [claims('safekeeperdata'), T, true, false],
    [claims('safekeeperdata'), undefined, true, false],
    [claims('pageserverapi'), T, false, true],
    [claims('pageserverapi'), undefined, false, true],
    [claims('admin'), T, false, false],
    [claims('generations_api', T), T, false, false],
    [claims('tenantendpoint', T), T, false, false],
  ];
  test.each(table)('%j on %s', (who, what, safekeeper, pageserver) => {
    const allowed = (service: 'safekeeper' | 'pageserver'): boolean => {
      try {
        checkPermission(service, who, what);
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'auth-failed' });
        return false;
      }
    };
    expect([allowed('safekeeper'), allowed('pageserver')]).toEqual([safekeeper, pageserver]);
  });
});

test('bearer tokens', () => {
  expect(bearerToken('Bearer abc')).toBe('abc');
  for (const bad of [undefined, '', 'abc', 'Basic abc', 'Bearer a b']) {
    expect(() => bearerToken(bad)).toThrow(expect.objectContaining({ code: 'token-invalid' }));
  }
});
