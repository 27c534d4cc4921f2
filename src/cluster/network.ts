/** A network as this host has it in force. */
import type { NetworkResource } from '../model/resource.ts';
import type { AddressPool } from './ipam.ts';

/** What the store has of it. */
export interface NetworkRecord {
  readonly resource: NetworkResource;
  readonly vni: number;
  readonly mtu: number;
}

export interface Network extends NetworkRecord {
  readonly name: string;
  /** One a subnet. */
  readonly pools: readonly AddressPool[];
}
