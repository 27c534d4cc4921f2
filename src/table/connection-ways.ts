/** What the tuples and places of a connection say: who opened it to whom, and whose it is. */
import {
  formatEnd,
  INTERNAL,
  isInternal,
  OUTSIDE,
  protocolName,
  turned,
  type ConnectionTuples,
  type Place,
  type Tuple,
} from '../flow/connection.ts';
import { clientOfAddress } from './clients.ts';

/** True if its endpoint opened it to the outside, so that the endpoint's source is hidden. */
export function isFromInside({ places }: Pick<ConnectionTuples, 'places'>): boolean {
  return places[1] === OUTSIDE;
}

/** True if a client within opened it to a service. */
export function isToService({ places, kind, via }: Pick<ConnectionTuples, 'places' | 'kind' | 'via'>): boolean {
  return kind !== 'tracked' && !via && !places.includes(OUTSIDE) && !places.includes(INTERNAL);
}

/** True if somebody outside opened it, by this host or by another one. */
export function isFromOutside({ places, via }: Pick<ConnectionTuples, 'places' | 'via'>): boolean {
  return places[0] === OUTSIDE || via !== undefined;
}

/** True if somebody outside opened it, by this host, to a backend of a service: that may be on another host. */
export function isEnteredToBackend({ places, pin }: Pick<ConnectionTuples, 'places' | 'pin'>): boolean {
  return places[0] === OUTSIDE && pin !== undefined;
}

/** True if a socket of weft opened it to a container. */
export function isFromWeft({ places }: Pick<ConnectionTuples, 'places'>): boolean {
  return places[0] === INTERNAL;
}

/** The client of a connection to a socket of weft, or from one; 0 for any other connection. */
export function clientOf({ places, original, translated }: ConnectionTuples): number {
  if (!isInternal({ places })) return 0;
  return clientOfAddress(isFromWeft({ places }) ? original.destination : translated.source);
}

/** The tuple with which its packets leave, whoever opened it. */
export function sentOutside(connection: ConnectionTuples): Tuple {
  return isFromInside(connection) ? connection.translated : turned(connection.original);
}

/** The address of the container that it belongs to: of who opened it, or of whom somebody else opened it to. */
export function endpointOf({ places, original, translated, via }: ConnectionTuples): Uint8Array {
  return via || places[0] === OUTSIDE || places[0] === INTERNAL ? translated.destination : original.source;
}

/** The object that a decision consults when it looks for a connection by its tuple. */
export function connectionObject(place: Place, protocol: number, tuple: Tuple): string {
  const { source, sourcePort, destination, destinationPort } = tuple;
  const ends = `${formatEnd(source, sourcePort)}-${formatEnd(destination, destinationPort)}`;
  return `connection/${place}/${protocolName(protocol)}/${ends}`;
}

/** The objects that decisions about its packets consult. */
export function objectsOf({ places, protocol, original, translated }: ConnectionTuples): string[] {
  return [connectionObject(places[0], protocol, original), connectionObject(places[1], protocol, turned(translated))];
}
