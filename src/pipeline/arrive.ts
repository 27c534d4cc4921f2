/**
 * Arrive: what comes from outside to the transit address and belongs to no connection yet.
 *
 * 1. The transit address itself answers ping.
 * 2. A published port of an endpoint leads to that endpoint.
 * 3. A node port leads to its service: a backend is chosen, for the true client, which keeps its address. Requests for the
 *    addresses of a service from outside come to its node ports, too (src/outside). If there is no backend, the client is
 *    told at once, but not if only other hosts have one that the policy admits.
 * 4. Nothing else is open.
 */
import { OUTSIDE } from '../flow/connection.ts';
import { isIp4 } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { nodePortObject } from '../table/node-ports.ts';
import type { FoundPort } from '../table/service-addresses.ts';
import { networkObject, publishedId, publishedObject, type Outside } from '../table/topology.ts';
import { IP_ICMP, IP_ICMPV6, IP_TCP } from '../wire/ipv4.ts';
import { chosenText } from './choice-text.ts';
import { towards } from './conversation.ts';
import { refuseNone } from './no-backend.ts';
import { ofOneChoice, refuseMartian, reject, routeTo } from './routed.ts';
import { seenAs } from './seen-as.ts';
import { drop, type Conversation, type Entered, type Routed, type StageResult, type Subject } from './stage.ts';
import { text } from './text.ts';

const reached = text`is reached from outside`;

export function arrive(
  view: FlowView,
  known: Entered,
  outside: Outside,
  subject: Subject | undefined,
): StageResult<Routed> {
  if (subject?.kind === 'error') return drop('icmp_unrelated', text`it quotes no packet of a live connection`);
  if (!subject?.isRequest) return drop('no_connection', text`no connection, and nothing that could begin one`);
  const { protocol, tuple } = subject;
  if (protocol === IP_ICMP || protocol === IP_ICMPV6) {
    return {
      kind: 'decide',
      because: text`echo request for the transit address`,
      actions: [{ op: 'echo' }, { op: 'output', port: outside.portNo }],
    };
  }
  const id = publishedId(protocol, tuple.destinationPort);
  view.consultUntilOpen(publishedObject(id));
  const published = outside.published.get(id);
  const address = published?.addresses.find((ip) => isIp4(ip) === isIp4(tuple.destination));
  if (published && address) {
    const { vni, l4Port } = published;
    const translated = { ...tuple, destination: address, destinationPort: l4Port };
    const way = text`published by ${published.endpoint}: to ${address}, port ${l4Port}`;
    const opening = { vni, protocol, original: tuple, translated };
    return towards(view, known, { vni, endpoint: address, begins: { opening, subject } }, way);
  }
  view.consultUntilOpen(nodePortObject(protocol, tuple.destinationPort));
  const found = known.tables.services.findPublished(protocol, tuple.destinationPort);
  if (found) return toService(view, known, outside, { found, subject });
  return drop('no_connection', text`port ${tuple.destinationPort} is not published, and no connection uses it`);
}

function toService(
  view: FlowView,
  known: Entered,
  outside: Outside,
  { found, subject }: { readonly found: FoundPort; readonly subject: Conversation },
): StageResult<Routed> {
  const { tables, origin } = known;
  const { protocol, tuple } = subject;
  const { id } = found.service;
  const selection = tables.services.selection(found, OUTSIDE, isIp4(tuple.destination));
  for (const object of selection.consulted) view.consultUntilOpen(object);
  if (selection.refusal) {
    const { refusal: why, route } = selection;
    return refuseNone(view, origin, { id, why, selection, route, reached });
  }
  if (protocol === IP_TCP && view.beginsTcp() === false) {
    view.forThisFrame();
    return reject(view, origin, 'no_connection', text`service ${id}: its connection has ended`);
  }
  const within = tables.topology.networkWith(tuple.source);
  if (within) {
    view.consult(within.object);
    return drop('martian', text`${tuple.source} is in a subnet of network ${within.name}, and comes from outside`);
  }
  const choice = tables.services.choose(found, OUTSIDE, { protocol, ...tuple });
  if (choice.kind === 'none') return refuseNone(view, origin, { id, ...choice, reached });
  const { backend } = choice;
  // A backend in no network is not reached from outside.
  const vni = backend.vni!;
  view.consult(networkObject(vni));
  const network = tables.topology.network(vni)!;
  // Otherwise its answer would go another way.
  if (routeTo(view, network, tuple.source, 'open')?.kind !== 'outside') {
    view.forThisFrame();
    return refuseMartian(view, origin, tuple.source, tuple.destination);
  }
  const way = text`service ${id}: ${chosenText(choice)}`;
  const lent = seenAs(view, tables, outside, { vni, source: tuple.source });
  const opening = { vni, protocol, original: tuple, choice, replies: vni, isFromOutside: true, seenAs: lent };
  const begins = { opening, subject };
  const sent = towards(view, known, { vni, endpoint: backend.address, begins }, lent ? text`${way}, as ${lent}` : way);
  if (sent.kind === 'drop') ofOneChoice(view, choice);
  return sent;
}
