/** Records of answers, as `message.ts` writes them, and what is found at a name. */
import type { SoaData, SrvData } from 'dns-packet';
import { formatIp, isIp4, type Vni } from '../flow/types.ts';

export interface ResourceRecord {
  /** In lower case, without a dot at its end. */
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'CNAME' | 'PTR' | 'SOA' | 'SRV' | 'TXT';
  /** In the form of dns-packet. */
  readonly data: string | readonly string[] | SrvData | SoaData;
  /** In seconds; that of weft's own names if it is missing. */
  readonly ttl?: number;
}

/** A record of the name that was asked for. */
export type OwnRecord = Omit<ResourceRecord, 'name'>;

/** What there is at a name. `none`: the name does not exist, and neither does any below it. */
export type NameFound = { readonly records: readonly OwnRecord[] } | 'none';

export const NO_NAME = 'none';
/** The name exists, and has no records. */
export const NOTHING: NameFound = { records: [] };

/**
 * What a wildcard means, whose owner is the closest ancestor of the name that exists (RFC 4592 section 3.3.1).
 *
 * @param labels of the name before those of the owner @param records those of the owner
 */
export function byWildcard(labels: readonly string[], records: readonly OwnRecord[]): NameFound {
  // The wildcard is a name itself, which has none below it.
  return labels.at(-1) === '*' && labels.length > 1 ? NO_NAME : { records };
}

/** Tells whether the client reaches an address in a network, given by its VNI or name; undefined: in none. */
export type Reachable = (ip: Uint8Array, of: Vni | string | undefined) => boolean;

/** @param ip of 16 bytes */
export function addressRecord(ip: Uint8Array): OwnRecord {
  return { type: isIp4(ip) ? 'A' : 'AAAA', data: formatIp(ip) };
}

/** @param addresses of 16 bytes */
export function addressRecords(addresses: readonly Uint8Array[]): OwnRecord[] {
  return addresses.map(addressRecord);
}
