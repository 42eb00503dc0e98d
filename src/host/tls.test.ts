// A pair of TLS files while it is renewed: whatever the files hold in between, the pair before stays in use.

import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { selfSigned } from '../../integration/certificate.ts';
import { hostLog } from './log.ts';
import { ReloadingCertificate } from './tls.ts';

let dir: string;
const [keyFile, certFile] = ['key.pem', 'cert.pem'];
const at = (name: string): string => join(dir, name);
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-tls-'));
  for (const name of ['one', 'two']) {
    selfSigned({ key: at(`${name}.key`), cert: at(`${name}.crt`) }, name);
  }
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const put = (key: string, cert: string): void => {
  copyFileSync(at(key), at(keyFile));
  copyFileSync(at(cert), at(certFile));
};

test('half a renewal changes nothing, a whole one does', () => {
  put('one.key', 'one.crt');
  const lines: string[] = [];
  const log = hostLog({ format: 'plain', write: line => lines.push(line) });
  const tls = new ReloadingCertificate({ keyFile: at(keyFile), certFile: at(certFile) }, 60_000, log);
  const told: string[] = [];
  tls.onChange(({ cert }) => told.push(cert));
  const [first, context] = [tls.pem, tls.current];
  const halves: readonly (() => void)[] = [
    () => writeFileSync(at(certFile), ''),
    () => writeFileSync(at(keyFile), ''),
    () => put('two.key', 'one.crt'),
    () => put('one.key', 'two.crt'),
    () => writeFileSync(at(certFile), 'damaged'),
    () => rmSync(at(keyFile)),
  ];
  for (const half of halves) {
    put('one.key', 'one.crt');
    half();
    tls.reload();
    expect([tls.pem, tls.current]).toEqual([first, context]);
  }
  expect(told).toEqual([]);
  expect(lines.every(line => line.includes('the one before stays in use'))).toBe(true);
  put('two.key', 'two.crt');
  tls.reload();
  expect(told).toEqual([tls.pem.cert]);
  expect(tls.pem.cert).not.toBe(first.cert);
  tls.close();
});
