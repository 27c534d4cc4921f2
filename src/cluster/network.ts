/** A network as this host has it in force. */
import type { NetworkResource } from '../model/kinds/network.ts';
import type { AddressPool } from './ipam.ts';
import type { Declared } from './reconciler.ts';

/** What the store has of it. */
export interface NetworkRecord {
  readonly resource: NetworkResource;
  readonly vni: number;
  readonly mtu: number;
}

export interface Network extends NetworkRecord, Declared<NetworkResource> {
  /** One a subnet. */
  readonly pools: readonly AddressPool[];
}
