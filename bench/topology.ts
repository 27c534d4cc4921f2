/**
 * The networks that are measured. Every system builds the same ones, with the same addresses,
 * so that a load needs to know only the two endpoints.
 *
 *   one host     client ── switch ── server
 *   two hosts    client ── switch ═ underlay ═ switch ── server
 *
 * The underlay is a veth cable. Such a cable carries superframes and unfinished checksums that
 * no wire would: the kernel's VXLAN sends 64 KB through it without segmenting. So it comes in
 * two modes: unchanged, and "wiregro", where the sending end segments everything into frames of
 * the MTU and the receiving end may merge them, as network cards do.
 */
import { underlay as cabled, underlayLink, type Underlay } from '../test/support/topology.ts';
import type { Lab, Namespace } from '../test/support/lab.ts';

export interface Topology {
  readonly title: string;
  readonly hosts: 1 | 2;
  /** MTU of the underlay; of the containers if there is only one host. */
  readonly mtu: 1500 | 9000;
  readonly wiregro: boolean;
}

export const topologies = {
  'one-host': { title: 'One host', hosts: 1, mtu: 1500, wiregro: false },
  overlay: { title: 'Two hosts, VXLAN, MTU 1500', hosts: 2, mtu: 1500, wiregro: false },
  'overlay-wiregro': { title: 'Two hosts, VXLAN, MTU 1500, wiregro', hosts: 2, mtu: 1500, wiregro: true },
  'overlay-9000': { title: 'Two hosts, VXLAN, MTU 9000', hosts: 2, mtu: 9000, wiregro: false },
  'overlay-9000-wiregro': { title: 'Two hosts, VXLAN, MTU 9000, wiregro', hosts: 2, mtu: 9000, wiregro: true },
} as const satisfies Record<string, Topology>;
export type TopologyName = keyof typeof topologies;

/** Bytes of a packet that VXLAN over IPv4 takes. */
export const ENCAPSULATION_BYTES = 50;

/** The largest packet that the containers of a topology may send. */
export function containerMtu({ hosts, mtu }: Topology): number {
  return hosts === 1 ? mtu : mtu - ENCAPSULATION_BYTES;
}

/** Two containers that reach each other through a system, set up and answering. */
export interface Endpoints {
  readonly client: Namespace;
  readonly server: Namespace;
  readonly serverIp: string;
  /** The processes that forward; none if the kernel does. */
  readonly pids: readonly number[];
}

/** Two hosts on a cable. */
export async function layUnderlay(lab: Lab, { mtu, wiregro }: Topology): Promise<Underlay> {
  const under = await cabled(lab, 'ipv4');
  for (const host of [under.left, under.right]) {
    await host.ip(`link set ${underlayLink} mtu ${mtu}`);
    if (wiregro) await host.run(['ethtool', '-K', underlayLink, ...wiregroFeatures]);
  }
  return under;
}

const wiregroFeatures = [
  ...['tso', 'off', 'gso', 'off', 'tx-udp_tnl-segmentation', 'off', 'tx-udp-segmentation', 'off'],
  ...['gro', 'on'],
];
