/**
 * Egress policy: whether the workload behind a port may send what begins a conversation. It is judged on its own host, before it
 * is routed or answered.
 *
 * 1. Policies that select it for egress are asked. If there are none, everything passes.
 * 2. What it sends to its own address is allowed, but not always what it sends to itself through a service.
 * 3. The peer is the backend of a service, else who has the destination address: in its own network if the frame is bridged, in
 *    the one that the address is routed to if it is for the gateway. What is routed outside goes to nobody who is known.
 * 4. The gateway is nobody; but where weft's own sockets listen there, it is the cluster's DNS.
 */
import { sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { DNS_NAMESPACE, namespaceObject, policyObject, type Peer } from '../table/policies.ts';
import { internalObject, type VirtualNetwork } from '../table/topology.ts';
import type { PortOrigin } from './origin.ts';
import { asJudged, homeOf, isOfLink, judge, notJudged, peerIn, peerOfBackend, peerText, stranger } from './policy.ts';
import { judgementText } from './policy-text.ts';
import { ofOneChoice, routeTo } from './routed.ts';
import { next, type Balanced, type StageResult, type Tables } from './stage.ts';
import { text } from './text.ts';

const toItself = text`to its own address`;

/** Undefined if no policy selects its sender. */
export function egressPolicy(view: FlowView, known: Balanced): StageResult<Balanced> | undefined {
  const { tables, origin, leg } = known;
  if (origin.kind !== 'port') return undefined;
  const { port } = origin;
  view.consultUntilOpen(policyObject(port.name, 'egress'));
  const set = tables.policies.setOf(port.name, 'egress');
  if (!set) return undefined;
  if (isOfLink(view, origin)) return next(notJudged, known);
  const choice = leg?.kind === 'to_chosen' ? leg.choice : undefined;
  if (!choice && port.addresses.some((ip) => sameBytes(ip, view.bytes('ip_dst')))) return next(toItself, known);
  const peer = peerOf(view, known, origin, set.asksIdentity);
  const target = choice && { address: choice.backend.address, l4Port: choice.l4Port };
  const judgement = judge(view, set, peer, target?.l4Port);
  const because = text`to ${peerText(peer)}: ${judgementText(judgement)}`;
  if (choice && judgement.verdict === 'deny') ofOneChoice(view, choice);
  const { address, endpoint } = peer;
  const judged = { direction: 'egress', subject: port.name, address, endpoint, target, judgement } as const;
  return asJudged(view, origin, judged, because, known);
}

/** Who is to get it. @param asksIdentity false: only the address counts */
export function peerOf(
  view: FlowView,
  { tables, leg }: Balanced,
  { network }: PortOrigin,
  asksIdentity: boolean,
): Peer {
  if (leg?.kind === 'to_chosen') return peerOfBackend(view, tables, leg.choice.backend, asksIdentity);
  const address = view.bytes('ip_dst');
  if (!asksIdentity) return stranger(address);
  const isBridged = network.gateways.length === 0 || !sameBytes(view.bytes('eth_dst'), network.gatewayMac);
  if (isBridged) return peerIn(view, tables, network, address);
  const route = routeTo(view, network, address, 'open');
  if (route?.kind === 'outside') return stranger(address);
  const home = homeOf(view, tables, network, route);
  return isGatewayOf(home, address) ? gatewayAs(view, tables, address) : peerIn(view, tables, home, address);
}

function isGatewayOf({ gateways }: VirtualNetwork, address: Uint8Array): boolean {
  return gateways.some((gateway) => sameBytes(gateway, address));
}

function gatewayAs(view: FlowView, { topology, policies }: Tables, address: Uint8Array): Peer {
  view.consultUntilOpen(internalObject);
  const proto = view.number('ip_proto');
  const listening = topology.internal?.listening.filter(({ protocol }) => protocol === proto) ?? [];
  const isServed = view.isOneOf(
    'l4_dst',
    listening.map(({ l4Port }) => Uint8Array.of(l4Port >>> 8, l4Port)),
  );
  if (!isServed) return stranger(address);
  view.consultUntilOpen(namespaceObject(DNS_NAMESPACE));
  return { address, identity: policies.dns, endpoint: undefined };
}
