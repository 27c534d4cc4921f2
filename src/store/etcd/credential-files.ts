/** The files that etcd's credentials are in, and whether they can be used. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { WeftError } from '../../error.ts';

/** Paths of PEM files. */
export interface TlsFiles {
  /** Certificates of the authorities; the system's if it is undefined. */
  readonly ca?: string | undefined;
  /** This client's certificate. */
  readonly certificate?: string | undefined;
  /** Of the certificate. */
  readonly key?: string | undefined;
}

export interface CredentialFiles {
  readonly tls?: TlsFiles | undefined;
  readonly user?: { readonly passwordFile: string } | undefined;
}

interface Credentials {
  readonly ca?: Buffer;
  readonly certificate?: Buffer;
  readonly key?: Buffer;
}

/** How a message names a field of the store's configuration, such as `tls.ca`. */
type FieldName = (field: string) => string;

const inStore: FieldName = (field) => `store.${field}`;

/** @throws WeftError('invalid') if a file cannot be used */
export function checkCredentials({ tls, user }: CredentialFiles, nameOf = inStore): void {
  if (tls) readCredentials(tls, nameOf);
  if (user) passwordOf(user.passwordFile, nameOf);
}

/** @throws WeftError('invalid') if a file cannot be used */
export function readCredentials(files: TlsFiles, nameOf = inStore): Credentials {
  const [caName, certificateName, keyName] = [nameOf('tls.ca'), nameOf('tls.certificate'), nameOf('tls.key')];
  const ca = files.ca === undefined ? undefined : read(caName, files.ca);
  if (ca) using(caName, files.ca!, 'a certificate', () => new X509Certificate(ca));
  if (files.certificate === undefined || files.key === undefined) return { ...(ca && { ca }) };
  const [certificate, key] = [read(certificateName, files.certificate), read(keyName, files.key)];
  const parsed = using(certificateName, files.certificate, 'a certificate', () => new X509Certificate(certificate));
  const parsedKey = using(keyName, files.key, 'a private key', () => createPrivateKey(key));
  if (!parsed.checkPrivateKey(parsedKey)) {
    throw new WeftError(
      'invalid',
      `${keyName}: ${files.key} is not the key of the certificate in ${files.certificate}`,
    );
  }
  return { ...(ca && { ca }), certificate, key };
}

/** The first line. @throws WeftError('invalid') */
export function passwordOf(path: string, nameOf = inStore): string {
  const name = nameOf('passwordFile');
  const [line = ''] = read(name, path).toString().split('\n');
  if (line === '') throw new WeftError('invalid', `${name}: ${path} has no password in its first line`);
  return line;
}

function read(name: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new WeftError('invalid', `${name}: ${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function using<T>(name: string, path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const message = `${name}: ${path} does not hold ${what} in PEM: ${(error as Error).message}`;
    throw new WeftError('invalid', message, { cause: error });
  }
}
