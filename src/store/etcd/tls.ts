/** How a channel to a member of etcd is encrypted. The files are read anew for each connection, so that they can be renewed. */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { checkServerIdentity as tlsCheck, type PeerCertificate } from 'node:tls';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';
import { WeftError } from '../../error.ts';
import { readCredentials, type TlsFiles } from './credential-files.ts';

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
