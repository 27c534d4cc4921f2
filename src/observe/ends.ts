/** Who is at both ends of a packet or a connection, for reports and their filters. */
import { formatEnd, INTERNAL, OUTSIDE, protocolName, type Place } from '../flow/connection.ts';
import { fields } from '../flow/fields.ts';
import { readBytes, readNumber, type FlowKey } from '../flow/key.ts';
import { formatIp, isZero, type PortNo } from '../flow/types.ts';
import type { TalkReport } from '../model/talk-report.ts';
import { peerAt, placeOfPacket, type Denial } from '../pipeline/open-connections.ts';
import type { Tables } from '../pipeline/stage.ts';
import { hasPorts } from '../wire/ipv4.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { fullName } from './judgement.ts';

type EndTables = Pick<Tables, 'topology' | 'policies'>;

/**
 * The ends of a packet, by the addresses that it has: what is behind the address of a service is not known yet. Of what is no
 * IP, the sender alone.
 */
export function endsOfPacket(key: FlowKey, tables: EndTables): TalkReport {
  const place = placeOfPacket(key, tables);
  const isIp = [ETH_IPV4, ETH_IPV6].includes(readNumber(key, fields.eth_type));
  const protocol = isIp ? readNumber(key, fields.ip_proto) : undefined;
  const isPorted = protocol !== undefined && hasPorts(protocol);
  const at = (address: Uint8Array, l4Port: number): string =>
    isZero(address) ? '' : isPorted ? formatEnd(address, l4Port) : formatIp(address);
  const who = (address: Uint8Array): string | undefined =>
    place === undefined || isZero(address) ? undefined : peerAt(place, address, tables).endpoint;
  const [source, destination] = [readBytes(key, fields.ip_src), readBytes(key, fields.ip_dst)];
  const sender = tables.topology.port(readNumber(key, fields.in_port) as PortNo)?.name;
  return {
    protocol: protocol === undefined ? '' : protocolName(protocol),
    network: networkAt(place, tables),
    source: at(source, readNumber(key, fields.l4_src)),
    destination: at(destination, readNumber(key, fields.l4_dst)),
    from: nameOrNull(sender ?? who(source)),
    to: nameOrNull(who(destination)),
  };
}

/** The ends of what policies deny: the workloads that are meant, whatever stands between them. @param network of the workload that has the policies */
export function endsOfDenial({ protocol, l4Port, from, to }: Denial, network: string | null): TalkReport {
  return {
    protocol: protocolName(protocol),
    network,
    source: formatIp(from.address),
    destination: hasPorts(protocol) ? formatEnd(to.address, l4Port) : formatIp(to.address),
    from: nameOrNull(from.endpoint),
    to: nameOrNull(to.endpoint),
  };
}

function networkAt(place: Place | undefined, { topology }: EndTables): string | null {
  if (place === undefined || place === OUTSIDE || place === INTERNAL) return null;
  return topology.network(place)?.name ?? null;
}

function nameOrNull(id: string | undefined): string | null {
  return id === undefined ? null : fullName(id);
}
