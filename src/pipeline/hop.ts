/** Where a frame goes next: one value, which route creates and bridge completes. */
import type { PortNo, Vni } from '../flow/types.ts';
import type { Segment, VirtualNetwork } from '../table/topology.ts';
import type { Text } from './text.ts';

/** The new MAC addresses of a routed frame. */
export interface Macs {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Where route sends a frame. */
export type Way =
  /**
   * To the port or VTEP of this network with the destination MAC. Without `macs`, the frame is not routed and keeps its
   * own.
   */
  | { readonly kind: 'network'; readonly network: VirtualNetwork; readonly macs: Macs | undefined }
  /** To the host with this VTEP itself, in the VNI of this network. */
  | { readonly kind: 'host'; readonly network: VirtualNetwork; readonly vtep: Uint8Array; readonly macs: Macs }
  /** To the only other end of a link, which is in no network. */
  | {
      readonly kind: 'link';
      readonly port: PortNo;
      /** Describes that end for people. */
      readonly end: string;
      readonly segment: Segment;
      readonly macs: Macs;
    };

/** A port of this switch, or a VTEP that gets the frame with the VNI of its network. */
export type Destination =
  | { readonly kind: 'port'; readonly port: PortNo }
  | { readonly kind: 'vtep'; readonly vtep: Uint8Array; readonly vni: Vni };

/** One object for each port, because a flood has as many destinations as its network has ports. */
const ports: Destination[] = [];

export function toPort(port: PortNo): Destination {
  return (ports[port] ??= { kind: 'port', port });
}

/** The result of bridge. */
export interface FoundDestinations {
  readonly because: Text;
  readonly destinations: readonly Destination[];
}

/** The next hop; for a flooded frame, all of them. */
export interface Hop {
  readonly destinations: readonly Destination[];
  readonly macs: Macs | undefined;
  /** The limit that its packets must fit into there. The path to a VTEP may have a smaller one. */
  readonly segment: Segment;
  /** Where replies to its packet come in, if that is in a network; undefined if it is for a group, to which nobody replies. */
  readonly replies?: Vni;
}
