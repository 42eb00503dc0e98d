// A self-signed certificate for a test: key and certificate as PEM files, good for two days.

import { execFileSync } from 'node:child_process';

export interface CertificateFiles {
  readonly key: string;
  readonly cert: string;
}

/** `name` is its common name; clients that look reach it as localhost, 127.0.0.1 and by the other names. */
export function selfSigned({ key, cert }: CertificateFiles, name = 'localhost', ...others: string[]): void {
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const names = ['DNS:localhost', 'IP:127.0.0.1', ...others.map(other => `DNS:${other}`)].join(',');
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names}`];
  execFileSync('openssl', ['req', '-x509', ...ec, ...subject, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
}
