/** Where a frame goes next: one value, which route begins and bridge completes. */
import type { PortNo, Vni } from '../flow/types.ts';
import type { Segment, VirtualNetwork } from '../table/topology.ts';
import type { Text } from './text.ts';

/** What the MAC addresses of a routed frame become. */
export interface Macs {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Where route sends a frame. */
export type Way =
  /** To the port or VTEP of this network that has the destination MAC. Without `macs`, the frame keeps its own: it is not routed. */
  | { readonly kind: 'network'; readonly network: VirtualNetwork; readonly macs: Macs | undefined }
  /** To the one end of a link, which is in no network. */
  | {
      readonly kind: 'link';
      readonly port: PortNo;
      /** Who is there, for a person. */
      readonly end: string;
      readonly segment: Segment;
      readonly macs: Macs;
    };

/** A port of this switch, or a VTEP that gets the frame with the VNI of its network. */
export type Destination =
  | { readonly kind: 'port'; readonly port: PortNo }
  | { readonly kind: 'vtep'; readonly vtep: Uint8Array; readonly vni: Vni };

/** What bridge has found. */
export interface FoundDestinations {
  readonly because: Text;
  readonly destinations: readonly Destination[];
}

/** The next hop; of a frame that is flooded, all of them. */
export interface Hop {
  readonly destinations: readonly Destination[];
  readonly macs: Macs | undefined;
  /** What its packets have to fit into there; the path to a VTEP may take less. */
  readonly segment: Segment;
}
