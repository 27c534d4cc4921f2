/**
 * Ingress policy: whether the workloads behind the ports of this host that bridge has found may receive what begins a
 * conversation. Other hosts judge for their own.
 *
 * 1. Policies that select them for ingress are asked. If there are none, everything passes.
 * 2. The peer is who has sent it: in the network where it came in; if another host has routed it, in the one that its answers
 *    would be routed to. Behind a trusted port of this host, only its own addresses say who it is. A client outside is known by
 *    the address only by which the backend sees it (`seen-as.ts`), wherever it came in.
 * 3. The port is that of the container, after all translation.
 * 4. A frame for several ports, since it is for a group or its destination is unknown, leaves out those that may not receive it,
 *    also if it belongs to an open connection: the next one may reach others. Rules with selectors match nothing that is for a
 *    group.
 *
 * What weft's own sockets send, and weft itself, is not judged.
 */
import { isGroupMac, sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { choiceOf, lentBy, type Opening } from '../table/openings.ts';
import {
  anyIngressPoliciesObject,
  ingressPoliciesObject,
  policyObject,
  type Peer,
  type PolicySet,
} from '../table/policies.ts';
import type { JudgedEnd, PolicyJudgement } from '../table/policy/judgement.ts';
import type { AccessPort } from '../table/topology.ts';
import type { Destination } from './hop.ts';
import { asJudged, isOfLink, judge, notJudged, peerText, senderOf, stranger } from './policy.ts';
import { judgementText } from './policy-text.ts';
import { ofOneChoice } from './routed.ts';
import { drop, next, type Bridged, type StageResult } from './stage.ts';
import { countText, text } from './text.ts';

const toItself = text`from its own address`;

interface Receiver {
  readonly destination: Destination;
  readonly port: AccessPort;
  readonly set: PolicySet;
}

/** Undefined if no policy selects a workload that gets it. */
export function ingressPolicy(view: FlowView, known: Bridged): StageResult<Bridged> | undefined {
  const { tables, origin, hop } = known;
  if (origin.kind === 'internal' || origin.kind === 'weft') return undefined;
  if (hop.destinations.length > 1) {
    // A flood that the link needs is not decided again whenever the policies of one of its many receivers change.
    view.consultUntilOpen(anyIngressPoliciesObject);
    if (!tables.policies.selectsAny('ingress')) return undefined;
    if (isOfLink(view, origin)) return next(notJudged, known);
  }
  const receivers = receiversOf(view, known);
  const [first] = receivers;
  if (!first) return undefined;
  if (isOfLink(view, origin)) return next(notJudged, known);
  return hop.destinations.length === 1 ? toOne(view, known, first) : toMany(view, known, receivers);
}

/** Those that policies select. */
export function receiversOf(view: FlowView, { tables, hop }: Bridged): readonly Receiver[] {
  const { topology, policies } = tables;
  const isMany = hop.destinations.length > 1;
  if (isMany) view.consultUntilOpen(ingressPoliciesObject);
  return hop.destinations.flatMap((destination) => {
    // The links to the outside and to weft's own sockets are no workloads.
    const port = destination.kind === 'port' ? topology.port(destination.port) : undefined;
    if (!port) return [];
    if (!isMany) view.consultUntilOpen(policyObject(port.name, 'ingress'));
    const set = policies.setOf(port.name, 'ingress');
    return set ? [{ destination, port, set }] : [];
  });
}

function toOne(view: FlowView, known: Bridged, { port, set }: Receiver): StageResult<Bridged> {
  const { origin, begins } = known;
  const choice = begins && choiceOf(begins.opening);
  const isOwn = origin.kind === 'port' && origin.port.portNo === port.portNo && !choice;
  if (isOwn && port.addresses.some((ip) => sameBytes(ip, view.bytes('ip_src')))) return next(toItself, known);
  const peer = peerOf(view, known, set.asksIdentity);
  const target = targetOf(known);
  const judgement = judge(view, set, peer, target?.l4Port);
  const because = text`from ${peerText(peer)}: ${judgementText(judgement)}`;
  if (choice && judgement.verdict === 'deny') ofOneChoice(view, choice);
  return asJudged(view, origin, judgedOf(port, peer, target, judgement), because, known);
}

function toMany(view: FlowView, known: Bridged, receivers: readonly Receiver[]): StageResult<Bridged> {
  const { hop } = known;
  const peers = new Map<boolean, Peer>();
  const peerFor = ({ asksIdentity }: PolicySet): Peer => {
    const peer = peers.get(asksIdentity) ?? peerOf(view, known, asksIdentity);
    peers.set(asksIdentity, peer);
    return peer;
  };
  const target = targetOf(known);
  const denied = new Map<Destination, JudgedEnd>();
  for (const { destination, port, set } of receivers) {
    const peer = peerFor(set);
    const judgement = judge(view, set, peer, target?.l4Port);
    if (judgement.verdict === 'deny') denied.set(destination, judgedOf(port, peer, target, judgement));
  }
  const [first] = denied.values();
  if (!first) return next(text`all may receive it`, known);
  const destinations = hop.destinations.filter((destination) => !denied.has(destination));
  const because = text`not to ${countText(denied.size, 'port')}, the first: ${judgementText(first.judgement)}`;
  // Nobody is told that others may not receive what is for a group.
  if (destinations.length === 0) return { ...drop('policy_ingress', because), judged: first };
  return next(because, { ...known, hop: { ...hop, destinations } });
}

function judgedOf(
  { name }: AccessPort,
  { address, endpoint }: Peer,
  target: JudgedEnd['target'],
  judgement: PolicyJudgement,
): JudgedEnd {
  return { direction: 'ingress', subject: name, address, endpoint, target, judgement };
}

function peerOf(view: FlowView, { tables, origin, begins }: Bridged, asksIdentity: boolean): Peer {
  const address = (begins && lentBy(begins.opening)) ?? view.bytes('ip_src');
  const isKnown = origin.kind === 'port' || (origin.kind === 'tunnel' && !origin.isEntry);
  if (!asksIdentity || !isKnown || isGroupMac(view.bytes('eth_dst'))) return stranger(address);
  return senderOf(view, tables, origin, address);
}

/** The address and port of the container that gets it, where the packet has others: it begins a connection, or is translated. */
function targetOf({ tables, begins, nat }: Bridged): JudgedEnd['target'] {
  if (begins) return beginningOf(begins.opening);
  if (!nat) return undefined;
  const { original, translated } = tables.connections.tuples(nat.action.slot);
  return nat.action.reply
    ? { address: original.source, l4Port: original.sourcePort }
    : { address: translated.destination, l4Port: translated.destinationPort };
}

function beginningOf(opening: Opening): NonNullable<JudgedEnd['target']> {
  const choice = 'translated' in opening ? undefined : choiceOf(opening);
  if (choice) return { address: choice.backend.address, l4Port: choice.l4Port };
  const { destination, destinationPort } = 'translated' in opening ? opening.translated : opening.original;
  return { address: destination, l4Port: destinationPort };
}
