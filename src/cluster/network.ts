/** A network as it is in force on this host. */
import type { NetworkResource } from '../model/kinds/network.ts';
import type { Pool } from './addresses/pool.ts';
import type { Declared } from './reconciler.ts';

/** What the store has of a network. */
export interface NetworkRecord {
  readonly resource: NetworkResource;
  readonly vni: number;
  readonly mtu: number;
}

export interface Network extends NetworkRecord, Declared<NetworkResource> {
  /** One for each subnet. */
  readonly pools: readonly Pool[];
}
