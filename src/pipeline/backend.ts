/**
 * Backend: the way of a packet to the backend of a service, and of what comes back to its client.
 *
 * 1. It is routed as if it had been sent to the backend itself: from the client's network, by its gateway here.
 * 2. A new connection is to be opened (`open.ts`). The next hop decides where its replies come in: from a port of
 *    this host, in the network of the backend. The host of any other backend routes them, so they come in the network of
 *    the client.
 * 3. If the backend has moved since, replies come in at the other place, where nobody knows the connection. So it ends, as
 *    soon as the service says so (`Services.moved`), or else with the next packet.
 */
import type { Vni } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { ServiceOpening } from '../table/openings.ts';
import { natOf, placeOf, toEndpoint, wayOf } from './conversation.ts';
import { follow } from './follow.ts';
import { isOtherOwn } from './seen-as.ts';
import { ofOneChoice, refuse, refuseWrongHeader, reject, routeTo } from './routed.ts';
import { locate, next, type Balanced, type Routed, type ServiceLeg, type StageResult, type Tables } from './stage.ts';
import { text } from './text.ts';

type Leg<Kind extends ServiceLeg['kind']> = Extract<ServiceLeg, { readonly kind: Kind }>;

type ToBackend = Exclude<ServiceLeg, Leg<'to_client'>>;

/** What a backend sends goes to the client. */
export function toClient(view: FlowView, known: Balanced, { subject, found }: Leg<'to_client'>): StageResult<Routed> {
  return refuseWrongHeader(view) ?? toEndpoint(view, known, placeOf(known.origin), subject, found);
}

export function toBackend(view: FlowView, known: Balanced, leg: ToBackend): StageResult<Routed> {
  const origin = leg.from;
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');
  const sent = routeToBackend(view, known, leg);
  if (sent.kind === 'drop' && leg.kind === 'to_chosen') ofOneChoice(view, leg.choice);
  if (sent.kind !== 'next' || sent.known.way.kind === 'link') return sent;

  const { tables } = known;
  const { vni } = origin.network;
  const replies = repliesIn(view, tables, sent.known, vni);
  if (leg.kind === 'to_backend') {
    const { subject, found } = leg;
    if (tables.connections.tuples(found.slot).places[1] !== replies) {
      const why = text`its backend has moved, so that its replies come in elsewhere`;
      return reject(view, origin, 'connection_gone', why);
    }
    const nat = natOf(vni, subject, found);
    return next(text`${sent.because}: ${nat.name}, ${wayOf(subject)}`, { ...sent.known, nat }, sent.effects);
  }
  const { subject } = leg;
  const choice = leg.kind === 'to_chosen' ? leg.choice : undefined;
  const { protocol, tuple } = subject;
  const isHairpin = choice !== undefined && isOtherOwn(tables, origin, tuple.source, choice.backend);
  const seenAs = isHairpin ? tuple.destination : undefined;
  const opening: ServiceOpening = { vni, protocol, original: tuple, choice, replies, seenAs };
  return { ...sent, known: { ...sent.known, begins: { opening, subject } } };
}

function routeToBackend(view: FlowView, known: Balanced, leg: ToBackend): StageResult<Routed> {
  const { from } = leg;
  const address = addressOf(leg);
  const route = routeTo(view, from.network, address);
  if (!route) return refuse(view, from, 'no_route', text`no route to ${address}`, 'net_unreachable');
  return follow(view, known, from, route, address);
}

function addressOf(leg: ToBackend): Uint8Array {
  if (leg.kind === 'to_backend') return leg.address;
  return leg.kind === 'to_chosen' ? leg.choice.backend.address : leg.subject.tuple.destination;
}

/** Where the replies of a backend come in that packets are sent to in this way. */
function repliesIn(view: FlowView, tables: Tables, { way }: Routed, client: Vni): Vni {
  if (way.kind === 'link') return client;
  const { vni } = way.network;
  if (vni === client || !way.macs) return client;
  return locate(view, tables, vni, way.macs.destination)?.where.kind === 'vtep' ? client : vni;
}
