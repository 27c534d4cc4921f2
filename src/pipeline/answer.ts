/**
 * Answers to ARP requests (RFC 826) and neighbor solicitations (RFC 4861 §7.2.4) for endpoints that
 * weft knows, so that they are never flooded.
 *
 * Only requests to group addresses, from local ports, are answered. A unicast request asks whether the
 * neighbor is still there (RFC 4861 §7.3.3), which only the neighbor can say. Announcements, and
 * detections of duplicates of the asker's own address, are flooded.
 */
import { isIp4, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { neighborObject } from '../table/neighbor.ts';
import { ARP_REQUEST, buildArpReply } from '../wire/arp.ts';
import { ETH_ARP, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_ICMPV6 } from '../wire/ipv4.ts';
import { buildNeighborReply, ND_NEIGHBOR_SOLICITATION } from '../wire/nd.ts';
import type { FrameOrigin, PortOrigin } from './origin.ts';
import type { Tables, Verdict } from './stage.ts';
import { text, type Text } from './text.ts';

type Answer = Extract<Verdict, { kind: 'decide' }>;

/** The decision to answer; undefined if this is not a request, or weft does not know the endpoint. */
export function answer(view: FlowView, tables: Tables, origin: FrameOrigin): Answer | undefined {
  if (origin.kind !== 'port') return undefined;
  switch (view.number('eth_type')) {
    case ETH_ARP:
      return view.number('ip_proto') === ARP_REQUEST ? answerArp(view, tables, origin) : undefined;
    case ETH_IPV6:
      return view.number('ip_proto') === IP_ICMPV6 && view.number('l4_src') === ND_NEIGHBOR_SOLICITATION
        ? answerSolicitation(view, tables, origin)
        : undefined;
    default:
      return undefined;
  }
}

function answerArp(view: FlowView, tables: Tables, asker: PortOrigin): Answer | undefined {
  const target = view.bytes('ip_dst');
  const mac = resolve(view, tables, asker, target);
  if (!mac || !isIp4(target)) return undefined;
  const frame = buildArpReply(
    {
      operation: ARP_REQUEST,
      senderMac: view.bytes('nd_lla'),
      senderIp: view.bytes('ip_src').subarray(12),
      targetMac: unknownMac,
      targetIp: target.subarray(12),
    },
    mac,
  );
  return reply(asker, frame, text`ARP: ${target} is at ${mac}`);
}

function answerSolicitation(view: FlowView, tables: Tables, asker: PortOrigin): Answer | undefined {
  const target = view.bytes('nd_target');
  const mac = resolve(view, tables, asker, target);
  if (!mac) return undefined;
  const frame = buildNeighborReply({
    mac,
    target,
    askerMac: view.bytes('eth_src'),
    askerIp: view.bytes('ip_src'),
    isRouter: asker.network.gateways.some((gateway) => sameBytes(gateway, target)),
  });
  return reply(asker, frame, text`neighbor discovery: ${target} is at ${mac}`);
}

/** The MAC of a known endpoint other than the asker. */
function resolve(view: FlowView, tables: Tables, { network }: PortOrigin, ip: Uint8Array): Uint8Array | undefined {
  const { vni } = network;
  view.consult(neighborObject(vni, ip));
  const mac = tables.neighbors.lookup(vni, ip);
  return mac && !sameBytes(mac, view.bytes('eth_src')) ? mac : undefined;
}

function reply({ port }: PortOrigin, frame: Uint8Array, because: Text): Answer {
  return {
    kind: 'decide',
    because,
    actions: [{ op: 'consume' }],
    effects: [{ kind: 'reply', port: port.portNo, frame }],
  };
}

/** The bytes that a request has in place of the address that it asks for. */
const unknownMac = new Uint8Array(6);
