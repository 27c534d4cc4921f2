/** Keys of what is known of the ports of services: of their backends, of the scopes of their clients, and of single clients. */
import type { OUTSIDE } from '../flow/connection.ts';
import { addressId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';
import type { BackendIndex } from './candidates.ts';
import type { Backend, ServicePort } from './service.ts';

/** Where clients come from: a network, or outside. */
export type ClientOrigin = Vni | typeof OUTSIDE;

/** Everything about a service, whether it is present or absent: the object of decisions. @param id `NAMESPACE/NAME` */
export function serviceObject(id: string): string {
  return `service/${id}`;
}

/** Clients that have the same candidates for a port. */
export interface AskingClients {
  readonly from: ClientOrigin;
  /** The family of the address that they ask for. */
  readonly isV4: boolean;
  /** The subset that a route leads them to; undefined: all backends. */
  readonly subset: string | undefined;
}

/** A port at work. */
interface NumberedPort {
  readonly id: number;
}

/** The same for all ports of a service whose numbers are as far from those of the backend: they could be one range. */
export function backendId({ targets, l4Port }: ServicePort, { vni, address }: Backend, at: BackendIndex): string {
  return `${addressId(vni ?? (0 as Vni), address)}${targets[at]! - l4Port}`;
}

export function scopeId({ id }: NumberedPort, { from, isV4, subset }: AskingClients): string {
  return `${id}/${from}/${isV4 ? 4 : 6}${subset === undefined ? '' : `/${subset}`}`;
}

export function clientId({ id }: NumberedPort, from: ClientOrigin, source: Uint8Array): string {
  return `${addressId(from as Vni, source)}${id}`;
}
