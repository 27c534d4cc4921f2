/**
 * Where a frame came from: one value, which ingress finds. Stages that treat frames differently by their
 * origin use this value, and none depends on what another stage did.
 */
import type { PortNo } from '../flow/types.ts';
import type { AccessPort, Internal, Outside, Segment, VirtualNetwork } from '../table/topology.ts';

export type FrameOrigin =
  /** A workload behind a port of this switch. */
  | { readonly kind: 'port'; readonly port: AccessPort; readonly network: VirtualNetwork }
  /** Another host, through the tunnel. */
  | {
      readonly kind: 'tunnel';
      readonly network: VirtualNetwork;
      readonly vtep: Uint8Array;
      /** True if it came in from outside there (`entry.ts`). */
      readonly isEntry: boolean;
    }
  /** Something beyond the host, through the link to it. */
  | { readonly kind: 'outside'; readonly link: Outside }
  /** A socket of weft's own. */
  | { readonly kind: 'internal'; readonly link: Internal }
  /** weft itself, which asks in this network. */
  | { readonly kind: 'weft'; readonly network: VirtualNetwork };

export type PortOrigin = Extract<FrameOrigin, { readonly kind: 'port' }>;
export type TunnelOrigin = Extract<FrameOrigin, { readonly kind: 'tunnel' }>;

/** The origins that are in a network. */
export type OriginInNetwork = Extract<FrameOrigin, { readonly network: VirtualNetwork }>;

/** A router as its neighbor knows it. */
export interface Gateway {
  readonly portNo: PortNo;
  readonly mac: Uint8Array;
  readonly addresses: readonly Uint8Array[];
}

/** The limit that the frame fitted into where it came from. */
export function segmentOf(origin: FrameOrigin): Segment {
  return origin.kind === 'outside' || origin.kind === 'internal' ? origin.link : origin.network;
}

/** The gateway that speaks for weft to the sender; undefined if there is none on this host. */
export function gatewayOf(origin: FrameOrigin): Gateway | undefined {
  switch (origin.kind) {
    case 'port': {
      const { port, network } = origin;
      return { portNo: port.portNo, mac: network.gatewayMac, addresses: network.gateways };
    }
    case 'outside': {
      const { portNo, mac, transit } = origin.link;
      return { portNo, mac, addresses: transit };
    }
    case 'internal': {
      const { portNo, mac, addresses } = origin.link;
      return { portNo, mac, addresses };
    }
    case 'tunnel':
    case 'weft':
      return undefined;
    default:
      return origin satisfies never;
  }
}

/**
 * True if the frame may be flooded to other hosts. One from another host never goes back (split horizon), and what comes
 * from outside, or from weft's own sockets, is for one container.
 */
export function mayEnterTunnel({ kind }: FrameOrigin): boolean {
  return kind === 'port' || kind === 'weft';
}
