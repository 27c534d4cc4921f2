/** The files that etcd's credentials are in. They are read anew for each connection, so that they can be renewed. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';
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

/** @throws WeftError('invalid') if a file cannot be used */
export function openCredentials(files: TlsFiles | undefined): ChannelCredentials {
  if (!files) return credentials.createInsecure();
  const { ca, certificate, key } = files;
  const authorities = ca === undefined ? null : read('ca', ca);
  if (authorities) using('ca', ca!, 'a certificate', () => new X509Certificate(authorities));
  if (certificate === undefined || key === undefined) return credentials.createSsl(authorities);
  const [certificateBytes, keyBytes] = [read('certificate', certificate), read('key', key)];
  const parsed = using('certificate', certificate, 'a certificate', () => new X509Certificate(certificateBytes));
  const parsedKey = using('key', key, 'a private key', () => createPrivateKey(keyBytes));
  if (!parsed.checkPrivateKey(parsedKey)) {
    throw new WeftError('invalid', `store.tls.key: ${key} is not the key of the certificate in ${certificate}`);
  }
  return credentials.createSsl(authorities, keyBytes, certificateBytes);
}

/** The first line. @throws WeftError('invalid') */
export function passwordOf(path: string): string {
  const [line = ''] = contentOf('passwordFile', path).toString().split('\n');
  if (line === '') throw new WeftError('invalid', `store.passwordFile: ${path} has no password in its first line`);
  return line;
}

function read(field: string, path: string): Buffer {
  return contentOf(`tls.${field}`, path);
}

function contentOf(field: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new WeftError('invalid', `store.${field}: ${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function using<T>(field: string, path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const message = `store.tls.${field}: ${path} does not hold ${what} in PEM: ${(error as Error).message}`;
    throw new WeftError('invalid', message, { cause: error });
  }
}
