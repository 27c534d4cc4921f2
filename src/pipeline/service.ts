/**
 * Service: packets of a client to the address of a service, and what its backends send back.
 *
 *   client ─► service ─► [ its destination becomes a backend ] ─► backend
 *   backend ─► client ─► [ its source becomes the service ] ─► client
 *
 * The client keeps its address, so that a backend sees who has come. What comes back is addressed to the client, whether the
 * backend sends it to its gateway or, within one network, straight to the client: only its connection tells it apart.
 *
 * 1. A packet of a connection through a service goes on to its backend, or back to its client; so does an error about one.
 * 2. A container asks for the address of a service by its gateway. A backend is chosen, and route opens the connection on
 *    the way there (`backend.ts`).
 * 3. What no service has is refused, and so is a service without a backend: a router must not pass it on, and a client
 *    should know at once. TCP gets a reset, everything else an ICMP error.
 */
import { isToService } from '../table/connection-ways.ts';
import { vipObject, type FoundPort } from '../table/service-addresses.ts';
import { rangesObject, type Services } from '../table/services.ts';
import type { FlowView } from '../flow/view.ts';
import { isIp4, sameBytes } from '../flow/types.ts';
import { ETH_IPV4, ETH_IPV6 } from '../wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import { chosenText } from './choice-text.ts';
import { refuseStray, subjectOf } from './conversation.ts';
import { refuseOthersError } from './error-sender.ts';
import type { PortOrigin } from './origin.ts';
import { refuseNone } from './no-backend.ts';
import { refuse, refuseWrongHeader, reject } from './routed.ts';
import { drop, next, type Balanced, type Connected, type Stage, type StageResult } from './stage.ts';
import { text } from './text.ts';

const notOne = text`not of a service`;
const byItself = text`to the backend itself, from another port`;
const reached = text`this network reaches`;
const fromBackend = text`from a backend, back to its client`;

export const service: Stage<Connected, Balanced> = (view, known) => {
  const { tables, origin, connection } = known;
  if (connection) {
    const { original, translated, ...rest } = tables.connections.tuples(connection.found.slot);
    if (!isToService(rest)) return next(notOne, { ...known, leg: undefined });
    const isError = connection.subject.kind === 'error';
    if (connection.found.reply) {
      const refused = isError ? refuseOthersError(view, known, translated.destination) : undefined;
      if (refused) return refused;
      return next(fromBackend, { ...known, leg: { kind: 'to_client', ...connection } });
    }
    // One to the address of the backend itself is routed, too, whomever the frame is addressed to.
    const isToAddress = sameBytes(original.destination, translated.destination);
    if (origin.kind !== 'port' || !(isToAddress || isForGateway(view, origin)))
      return next(notOne, { ...known, leg: undefined });
    const refused = isError ? refuseOthersError(view, known, original.source) : undefined;
    if (refused) return refused;
    const address = translated.destination;
    return next(text`to backend ${address}`, {
      ...known,
      leg: { kind: 'to_backend', from: origin, address, ...connection },
    });
  }
  const subject = known.isTaken && origin.kind === 'port' ? subjectOf(view) : undefined;
  if (origin.kind === 'port' && subject?.kind === 'conversation')
    return next(byItself, { ...known, leg: { kind: 'to_named', from: origin, subject } });
  const asks = origin.kind === 'port' && isForGateway(view, origin) && isIp(view);
  return asks ? toService(view, known, origin) : next(notOne, { ...known, leg: undefined });
};

function isForGateway(view: FlowView, { network }: PortOrigin): boolean {
  return network.gateways.length > 0 && sameBytes(view.bytes('eth_dst'), network.gatewayMac);
}

function isIp(view: FlowView): boolean {
  const type = view.number('eth_type');
  return type === ETH_IPV4 || type === ETH_IPV6;
}

// 2. New connections, 3. refused

function toService(view: FlowView, known: Connected, origin: PortOrigin): StageResult<Balanced> {
  const { services } = known.tables;
  const address = view.bytes('ip_dst');
  if (!services.isVip(address)) {
    view.consultUntilOpen(vipObject(address));
    view.consultUntilOpen(rangesObject);
    if (!services.isInRange(address)) return next(notOne, { ...known, leg: undefined });
    return refuseWrongHeader(view) ?? reject(view, origin, 'service_unknown', text`no service has address ${address}`);
  }
  const wrong = refuseWrongHeader(view);
  if (wrong) return wrong;
  const found = findPort(view, services, address);
  if (!found) {
    view.consultUntilOpen(vipObject(address));
    for (const object of services.servicesAt(address)) view.consultUntilOpen(object);
    return reject(view, origin, 'service_unknown', text`no service has this port at ${address}`);
  }
  const { network } = origin;
  const { id } = found.service;
  const stray = refuseStray(view, network, view.bytes('ip_src'), 'open');
  if (stray) return stray;
  const selection = services.selection(found, network.vni, isIp4(address), origin.port.name);
  for (const object of selection.consulted) view.consultUntilOpen(object);
  if (selection.refusal) {
    const { refusal: why, route } = selection;
    return refuseNone(view, origin, { id, why, selection, route, reached });
  }
  return choose(view, known, origin, found);
}

/** A port of a service. If there is none, flows for many ports are refused alike. */
function findPort(view: FlowView, services: Services, address: Uint8Array): FoundPort | undefined {
  const protocol = view.number('ip_proto');
  if (protocol !== IP_TCP && protocol !== IP_UDP) return undefined;
  const ports = services.portsAt(address, protocol);
  const singles = ports.filter(({ l4Port, lastL4Port }) => l4Port === lastL4Port);
  const isSingle = view.isOneOf(
    'l4_dst',
    singles.map(({ l4Port }) => Uint8Array.of(l4Port >>> 8, l4Port)),
  );
  if (!isSingle && singles.length === ports.length) return undefined;
  return services.find(address, protocol, view.number('l4_dst'));
}

function choose(view: FlowView, known: Connected, origin: PortOrigin, found: FoundPort): StageResult<Balanced> {
  const { id } = found.service;
  const subject = subjectOf(view);
  if (subject?.kind !== 'conversation')
    return drop('no_connection', text`service ${id}: nothing that begins a connection`);
  const { protocol, tuple } = subject;
  if (protocol === IP_TCP && view.beginsTcp() === false) {
    view.forThisFrame();
    return reject(view, origin, 'no_connection', text`service ${id}: its connection has ended`);
  }
  // It does not depend on who would be chosen, nor on whether anybody has room now.
  if (view.number('ip_ttl') <= 1) return refuse(view, origin, 'ttl_exceeded', text`TTL 1 ends here`, 'time_exceeded');
  const choice = known.tables.services.choose(found, origin.network.vni, { protocol, ...tuple }, origin.port.name);
  if (choice.kind === 'none') return refuseNone(view, origin, { id, ...choice, reached });
  const because = text`service ${id}: ${chosenText(choice)}`;
  return next(because, { ...known, leg: { kind: 'to_chosen', from: origin, choice, subject } });
}
