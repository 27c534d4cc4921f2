/** The files that etcd's credentials are in. They are read anew for each connection, so that they can be renewed. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity as tlsCheck, type PeerCertificate } from 'node:tls';
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

/**
 * @param host of the member @param now milliseconds since the epoch @throws WeftError('invalid') if a file cannot be used,
 * or the own certificate is not valid now
 */
export function openCredentials(files: TlsFiles | undefined, host: string, now: number): ChannelCredentials {
  if (!files) return credentials.createInsecure();
  const { ca, certificate, key } = readCredentials(files);
  const expired = certificate && new X509Certificate(certificate).validTo;
  if (expired !== undefined && Date.parse(expired) < now) {
    throw new WeftError('invalid', `store.tls.certificate: ${files.certificate} has expired on ${expired}`);
  }
  // OpenSSL's name of the server is none for an address (`serverNameOptions`), so the address is compared here.
  const checkServerIdentity = (_: string, peer: PeerCertificate): Error | undefined => tlsCheck(host, peer);
  return credentials.createSsl(ca ?? null, key ?? null, certificate ?? null, { checkServerIdentity });
}

/** Options of a channel to this host. */
export function serverNameOptions(host: string): Readonly<Record<string, string>> {
  // Servers need no name, and a name of a server must not be an address (RFC 6066 section 3).
  return isIP(host) === 0 ? {} : { 'grpc.ssl_target_name_override': 'etcd' };
}

interface Credentials {
  readonly ca?: Buffer;
  readonly certificate?: Buffer;
  readonly key?: Buffer;
}

/** @throws WeftError('invalid') if a file cannot be used */
export function readCredentials(files: TlsFiles): Credentials {
  const ca = files.ca === undefined ? undefined : read('ca', files.ca);
  if (ca) using('ca', files.ca!, 'a certificate', () => new X509Certificate(ca));
  if (files.certificate === undefined || files.key === undefined) return { ...(ca && { ca }) };
  const [certificate, key] = [read('certificate', files.certificate), read('key', files.key)];
  const parsed = using('certificate', files.certificate, 'a certificate', () => new X509Certificate(certificate));
  const parsedKey = using('key', files.key, 'a private key', () => createPrivateKey(key));
  if (!parsed.checkPrivateKey(parsedKey)) {
    throw new WeftError(
      'invalid',
      `store.tls.key: ${files.key} is not the key of the certificate in ${files.certificate}`,
    );
  }
  return { ...(ca && { ca }), certificate, key };
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
