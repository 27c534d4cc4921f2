/**
 * The address by which a backend sees its client from outside: its own, unless every host has it. That is the host's end of
 * its link, from which a container comes that calls a node port, and an address that was given to a service, from which the
 * host itself comes. By two hosts, such clients may have the same port, and their backend would take both for one.
 *
 * So the host lends them an address: its own in the underlay, or else one that follows from its MAC (RFC 3927, RFC 4193).
 *
 * A client within keeps its own, too, unless it is the backend itself: nobody takes a packet from an address of its own. It
 * is seen by the address of the service.
 */
import { isIp4, sameBytes, type Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { isInPrefix } from '../table/routes.ts';
import type { Backend } from '../table/service.ts';
import type { Outside } from '../table/topology.ts';
import type { PortOrigin } from './origin.ts';
import { routeTo } from './routed.ts';
import type { Tables } from './stage.ts';

/** Undefined: its own. */
export function seenAs(
  view: FlowView,
  { topology, services }: Tables,
  { transit }: Outside,
  { vni, source }: { readonly vni: Vni; readonly source: Uint8Array },
): Uint8Array | undefined {
  const { vtep } = topology;
  const isV4 = isIp4(source);
  const onLink = transit.some((ip) => isInPrefix({ ip, length: isV4 ? 30 : 126 }, source));
  if (!vtep || (!onLink && !services.isVip(source))) return undefined;
  const lent = [vtep, isV4 ? linkLocal4(topology.hostMac) : unique6(topology.hostMac)];
  return lent.find(
    (ip) =>
      isIp4(ip) === isV4 &&
      !topology.networkWith(ip) &&
      routeTo(view, topology.network(vni)!, ip, 'open')?.kind === 'outside',
  );
}

/** True if the backend is the client itself, by another address than the one that this has sent from. */
export function isOtherOwn(
  { topology }: Tables,
  { port, network }: PortOrigin,
  source: Uint8Array,
  { address, vni }: Pick<Backend, 'address' | 'vni'>,
): boolean {
  const isOwn = vni === network.vni && port.addresses.some((ip) => sameBytes(ip, address));
  return isOwn && !sameBytes(source, address) && topology.maySendFrom(port.portNo, source);
}

/** 169.254.128.0/17. */
function linkLocal4(hostMac: Uint8Array): Uint8Array {
  const ip = new Uint8Array(16);
  ip.set([0xff, 0xff, 169, 254, 0x80 | hostMac[4]!, hostMac[5]!], 10);
  return ip;
}

/** fd77:6566:7433::/48; `77 65 66 74` is "weft". */
function unique6(hostMac: Uint8Array): Uint8Array {
  const ip = new Uint8Array(16);
  ip.set([0xfd, 0x77, 0x65, 0x66, 0x74, 0x33]);
  ip.set(hostMac, 10);
  return ip;
}
