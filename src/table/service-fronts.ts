/** Fronts: what clients outside and within send to, to get to a service: `nodePortId`, or `bytesId` of an address. */
import { OUTSIDE, type ConnectionTuples } from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import { nodePortId, nodePortIds } from './node-ports.ts';
import { addressesOf } from './service-addresses.ts';
import type { Service } from './service.ts';

/** What the client of a connection through a service has sent to. */
export function frontOf({
  places,
  protocol,
  original,
}: Pick<ConnectionTuples, 'places' | 'protocol' | 'original'>): string {
  const { destination, destinationPort } = original;
  return places[0] === OUTSIDE ? nodePortId(protocol, destinationPort) : bytesId(destination);
}

/** All that a service has. */
export function frontsOf(service: Service): string[] {
  return [...addressesOf(service).map(bytesId), ...nodePortIds(service)];
}
