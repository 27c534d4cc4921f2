/** Certificates for tests, made by openssl: an authority, a server's and a client's. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface KeyPair {
  /** Paths of PEM files. */
  readonly certificate: string;
  readonly key: string;
}

export interface Certificates {
  /** Path of the authority's certificate. */
  readonly ca: string;
  readonly server: KeyPair;
  readonly client: KeyPair;
  /** Makes another certificate of this authority. @param days negative for one that has expired */
  readonly issue: (
    name: string,
    options?: { readonly addresses?: readonly string[]; readonly days?: number },
  ) => KeyPair;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** @param addresses of the servers */
export function certificates(directory: string, addresses: readonly string[]): Certificates {
  const path = (name: string): string => join(directory, name);
  const openssl = (...words: readonly string[]): void => {
    execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const ca = path('ca.pem');
  openssl('req', '-x509', ...KEY, '-keyout', path('ca.key'), '-out', ca, '-subj', '/CN=authority', '-days', '2');
  const issue: Certificates['issue'] = (name, { addresses: at = [], days = 2 } = {}) => {
    const pair = { certificate: path(`${name}.pem`), key: path(`${name}.key`) };
    const [request, extensions] = [path(`${name}.csr`), path(`${name}.ext`)];
    openssl('req', ...KEY, '-keyout', pair.key, '-out', request, '-subj', `/CN=${name}`);
    writeFileSync(
      extensions,
      `extendedKeyUsage=serverAuth,clientAuth\n${at.length > 0 ? `subjectAltName=${at.map((one) => `IP:${one}`).join(',')}\n` : ''}`,
    );
    const signed = ['-CA', ca, '-CAkey', path('ca.key'), '-CAcreateserial', '-days', String(days)];
    openssl('x509', '-req', '-in', request, ...signed, '-extfile', extensions, '-out', pair.certificate);
    return pair;
  };
  return { ca, server: issue('server', { addresses }), client: issue('client'), issue };
}
