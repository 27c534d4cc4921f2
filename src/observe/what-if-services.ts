/**
 * What a change would do to conversations with services. Each host says it of the clients that it has, and of those that come in to it
 * from outside.
 *
 *   connections    those that are open end if their service does not have their backend any more, or no port that leads to it;
 *                  and UDP if the backend is out, and there is another one
 *   flow classes   conversations of the last days: those whose backend could not be chosen any more, and those that would take
 *                  another route of a VirtualService
 *
 * Who may be chosen is found out by what chooses, from the service as it is and as it would be (`table/candidates.ts`). Which one of
 * several that is cannot be known: balancing depends on what else is open then.
 */
import type { ProposedPolicies } from '../cluster/policies/proposed-policies.ts';
import type { ProposedServices } from '../cluster/services/proposed-services.ts';
import { isHere } from '../cluster/endpoint.ts';
import {
  INTERNAL,
  OUTSIDE,
  protocolName,
  type ConnectionRecords,
  type ConnectionTuples,
  type Place,
} from '../flow/connection.ts';
import { OVER } from '../flow/connection-state.ts';
import { formatIp, isIp4, sameBytes } from '../flow/types.ts';
import { MOST_JUDGED, MOST_TOLD, TURN_JUDGED, TURN_SCANNED } from '../control/judging-limits.ts';
import { idOf, nameOf } from '../model/name.ts';
import type { HostDiffReport, RerouteReport, UnbackedReport } from '../model/policy-report.ts';
import { peerAt } from '../pipeline/open-connections.ts';
import type { Tables } from '../pipeline/stage.ts';
import { isOut, isServedFamily } from '../table/balanced-port.ts';
import { candidatesOf, policyFor } from '../table/candidates.ts';
import { nodePortOffset } from '../table/node-ports.ts';
import { addressesOf, isPort, portOffset, type FoundPort } from '../table/service-addresses.ts';
import type { ClientOrigin } from '../table/service-keys.ts';
import { routedTo, routeOf, type RoutedClient } from '../table/service-routes.ts';
import type { Service, ServiceRoute } from '../table/service.ts';
import type { Services } from '../table/services.ts';
import { eachInTurns, nextTurn } from '../turns.ts';
import type { FlowClass } from './classes/flow-class.ts';
import { endReport } from './what-if-text.ts';

export interface ServiceWhatIfEnvironment {
  readonly tables: Pick<Tables, 'services' | 'topology' | 'policies'>;
  readonly records: ConnectionRecords;
}

/** A state: what is in force, or what is proposed. */
interface State {
  readonly serviceOf: (id: string) => Service | undefined;
  readonly policies: ProposedPolicies;
  /** By what they depend on. */
  readonly ways: Map<string, Ways>;
}

/** What a client asks for. */
interface Asked {
  readonly from: ClientOrigin;
  readonly client: string | undefined;
  readonly protocol: number;
  readonly address: Uint8Array;
  readonly l4Port: number;
  /** It is a port of the hosts, and not one of an address that the service has. */
  readonly isPublished: boolean;
}

interface Way {
  readonly address: Uint8Array;
  readonly l4Port: number;
  readonly endpoint: string | undefined;
}

/** Where what is asked for may lead. */
interface Ways {
  /** The route of a VirtualService; empty if it takes none. */
  readonly route: string;
  readonly backends: ReadonlyMap<string, Way>;
  /** Why there is none. */
  readonly why: string | undefined;
}

const TURN_CLASSES = 256;
/** How many of the backends are named that may be chosen. */
const MOST_NAMED = 8;

export async function servicesAfter(
  { tables, records }: ServiceWhatIfEnvironment,
  proposed: ProposedServices,
  [before, after]: readonly [ProposedPolicies, ProposedPolicies],
  classes: readonly FlowClass[],
): Promise<HostDiffReport['services']> {
  if (!proposed.mayDiffer) return { ended: [], changed: [], more: 0 };
  const { ended, more } = await endedConnections(records, proposed, tables);
  const { services } = tables;
  const states = [
    { serviceOf: (id: string) => services.get(id), policies: before, ways: new Map<string, Ways>() },
    { serviceOf: (id: string) => proposed.of(id), policies: after, ways: new Map<string, Ways>() },
  ] as const;
  const changed: RerouteReport[] = [];
  await eachInTurns(classes, TURN_CLASSES, (one) => {
    const reroute = rerouteOf(one, services, states);
    if (reroute) changed.push(reroute);
  });
  return { ended, changed: changed.slice(0, MOST_TOLD), more: more + Math.max(0, changed.length - MOST_TOLD) };
}

// What is open

async function endedConnections(
  records: ConnectionRecords,
  proposed: ProposedServices,
  tables: ServiceWhatIfEnvironment['tables'],
): Promise<Pick<HostDiffReport['services'], 'ended' | 'more'>> {
  const { services } = tables;
  const judged = new Map<string, UnbackedReport | undefined>();
  const told = new Map<string, UnbackedReport>();
  let [more, judgedInTurn] = [0, 0];
  for (let slot = 0; slot < records.ready; slot++) {
    if (slot % TURN_SCANNED === TURN_SCANNED - 1 || judgedInTurn >= TURN_JUDGED) {
      judgedInTurn = 0;
      await nextTurn();
    }
    const generation = records.generation(slot);
    if (generation === 0 || generation % 2 !== 0 || records.pin(slot) === 0 || OVER.has(records.state(slot))) continue;
    const id = `${records.pin(slot)} ${records.classId(slot)}`;
    if (!judged.has(id)) {
      if (judged.size >= MOST_JUDGED) judged.clear();
      const connection = records.read(slot);
      // While it was read, a thread of the datapath may have closed it and opened another one there.
      if (records.generation(slot) !== generation) continue;
      judgedInTurn++;
      judged.set(id, unbacked(connection, services.pinned(connection.pin ?? 0)?.service, proposed, tables));
    }
    const report = judged.get(id);
    if (!report) continue;
    const alike = told.get(id);
    if (alike) alike.connections++;
    else if (told.size < MOST_TOLD) told.set(id, report);
    else more++;
  }
  return { ended: [...told.values()], more };
}

/** What is told of a connection that would end, and of one like it; undefined: it goes on. */
function unbacked(
  { places, protocol, original, translated }: ConnectionTuples,
  service: string | undefined,
  proposed: ProposedServices,
  tables: ServiceWhatIfEnvironment['tables'],
): UnbackedReport | undefined {
  if (service === undefined) return undefined;
  const { destination: address, destinationPort: l4Port } = translated;
  const after = proposed.of(service);
  const end = { protocol, address, l4Port };
  const because =
    whyEnded(tables.services.get(service), after, end) ??
    whyOut(after!, end, proposed, tables.services) ??
    whyDrained(after!, address, proposed, tables.services);
  if (because === undefined) return undefined;
  const report = (place: Place, at: Uint8Array): UnbackedReport['from'] =>
    endReport({ address: at, endpoint: peerAt(place, at, tables).endpoint });
  return {
    ...{ from: report(places[0], original.source), to: report(places[1], address) },
    ...{ protocol: protocolName(protocol), port: l4Port, service: idOf(nameOf(service)), because, connections: 1 },
  };
}

/** Undefined: it goes on. A connection stays where a port leads that is as far from its own one as before. */
function whyEnded(
  before: Service | undefined,
  after: Service | undefined,
  end: Readonly<Record<'protocol' | 'l4Port', number>> & { readonly address: Uint8Array },
): string | undefined {
  if (!after) return 'the service is not there any more';
  const at = placeOf(after, end.address);
  if (at < 0) return 'it is no backend of the service any more';
  const stays = distancesTo(after, end);
  if (before && !distancesTo(before, end).some((distance) => stays.includes(distance)))
    return 'no port of the service leads there any more';
  return undefined;
}

/**
 * Undefined: the backend does not terminate, or clients who have asked for the service get nobody else. Those who still do are known by
 * what they have asked for.
 */
function whyDrained(
  after: Service,
  address: Uint8Array,
  proposed: ProposedServices,
  services: Services,
): string | undefined {
  const at = placeOf(after, address);
  if (!after.backends[at]!.terminating || !isServedFamily(after, isIp4(address))) return undefined;
  const isNeeded = chosenFrom(after, isIp4(address), proposed, services).some(({ chosen }) => chosen.includes(at));
  return isNeeded ? undefined : `it has ${after.drainMs / 1000} s to drain`;
}

/** Undefined: clients go on with it, or there is no other one for them. */
function whyOut(
  after: Service,
  { protocol, address }: Parameters<typeof whyEnded>[2],
  proposed: ProposedServices,
  services: Services,
): string | undefined {
  const backend = after.backends[placeOf(after, address)]!;
  if (!isOut(protocol, backend, services.hasFault(after.id, backend, 'check_failed'))) return undefined;
  const all = chosenFrom(after, isIp4(address), proposed, services).filter(({ port }) => port.protocol === protocol);
  return all.some(({ chosen }) => chosen.length > 0) ? 'it is not ready, and others are' : undefined;
}

/** Who may be chosen for clients that have asked for the service, and for which of its ports. */
function chosenFrom(after: Service, isV4: boolean, proposed: ProposedServices, services: Services) {
  return services.askedBy(after.id).flatMap(([{ protocol, l4Port }, { from, subset, ...clients }]) => {
    const port = after.ports.find((one) => isPort(one, protocol, l4Port));
    if (!port || clients.isV4 !== isV4) return [];
    if (subset !== undefined && !services.isLedTo(after.id, subset, ({ id }) => proposed.of(id))) return [];
    const asked = { isV4, subset, policy: policyFor(after, from) };
    return { port, chosen: candidatesOf(after, port, asked, services.surroundings(after.id, from)).chosen };
  });
}

function distancesTo(service: Service, { protocol, address, l4Port }: Parameters<typeof whyEnded>[2]): number[] {
  const at = placeOf(service, address);
  return service.ports.flatMap((port) => {
    const target = port.targets[at] ?? 0;
    const last = target + port.lastL4Port - port.l4Port;
    const leads = port.protocol === protocol && target !== 0 && target <= l4Port && l4Port <= last;
    return leads ? target - port.l4Port : [];
  });
}

function placeOf({ backends }: Service, address: Uint8Array): number {
  return backends.findIndex((backend) => sameBytes(backend.address, address));
}

// What may come again

function rerouteOf(
  { from, to, places, protocol, l4Port, meant, meantPort, level, opened, lastSeenMs }: FlowClass,
  services: Services,
  [before, after]: readonly [State, State],
): RerouteReport | undefined {
  const [place] = places;
  if (meantPort === undefined || place === INTERNAL || (place !== OUTSIDE && from.subject === undefined))
    return undefined;
  const found =
    services.find(meant, protocol, meantPort) ??
    (place === OUTSIDE ? services.findPublished(protocol, meantPort) : undefined);
  if (!found) return undefined;
  const { id } = found.service;
  const asked: Asked = {
    ...{ from: place, client: from.subject, protocol, address: meant, l4Port: meantPort },
    isPublished: !services.isVip(meant),
  };
  const [then, now] = [waysOf(id, asked, before, services), waysOf(id, asked, after, services)];
  const backend = keyOf(to.address, l4Port);
  const isLost = then.backends.has(backend) && !now.backends.has(backend);
  const isRerouted = then.route !== now.route;
  if (!isLost && !isRerouted) return undefined;
  const route = `route: ${then.route || 'none'} → ${now.route || 'none'}`;
  const because = now.why ?? (isRerouted ? route : 'its backend cannot be chosen any more');
  const all = [...now.backends.values()];
  return {
    ...{ from: endReport(from), to: endReport(to), protocol: protocolName(protocol), port: l4Port },
    ...{ service: idOf(nameOf(id)), because, covers: level, opened },
    then: all.slice(0, MOST_NAMED).map((way) => ({
      address: formatIp(way.address),
      ...(way.endpoint !== undefined && { endpoint: idOf(nameOf(way.endpoint)) }),
      port: way.l4Port,
    })),
    thenMore: Math.max(0, all.length - MOST_NAMED),
    lastSeen: new Date(lastSeenMs).toISOString(),
  };
}

function waysOf(id: string, asked: Asked, state: State, services: Services): Ways {
  const { from, client = '', protocol, address, l4Port, isPublished } = asked;
  const key = [id, from, client, protocol, isPublished || formatIp(address), l4Port].join(' ');
  let ways = state.ways.get(key);
  if (!ways) state.ways.set(key, (ways = makeWays(id, asked, state, services)));
  return ways;
}

function makeWays(id: string, asked: Asked, { serviceOf, policies }: State, services: Services): Ways {
  const service = serviceOf(id);
  const found = service && portAsked(service, asked);
  if (!found)
    return {
      route: '',
      backends: new Map(),
      why: service ? 'the service is not there any more at that port' : 'the service is not there any more',
    };
  const { from, client, protocol, address } = asked;
  const endpoint = client === undefined ? undefined : policies.endpoint(client);
  const routed: RoutedClient | undefined = endpoint && isHere(endpoint) ? endpoint.resource.metadata : undefined;
  const l4Port = found.port.l4Port + found.offset;
  const route = routeOf(found.service, protocol, l4Port, routed);
  const isV4 = isIp4(address);
  const backends = new Map<string, Way>();
  const refusals = new Set<string>();
  for (const destination of route?.destinations ?? [undefined]) {
    const to = destination ? routedTo(destination, serviceOf(destination.service), l4Port) : found;
    if ('missing' in to) {
      refusals.add(`service ${destination!.service} ${to.missing}`);
      continue;
    }
    const policy = policyFor(to.service, from);
    const asks = { isV4, policy, subset: destination?.subset };
    const { chosen, refusal } = candidatesOf(to.service, to.port, asks, services.surroundings(to.service.id, from));
    if (refusal) refusals.add(refusal === 'local' ? 'only other hosts have a backend' : 'no backend is ready');
    for (const at of chosen) {
      const backend = to.service.backends[at]!;
      const way = { address: backend.address, l4Port: to.port.targets[at]! + to.offset, endpoint: backend.endpoint };
      backends.set(keyOf(way.address, way.l4Port), way);
    }
  }
  const why = backends.size === 0 ? [...refusals].join(', ') : undefined;
  return { route: route ? routeText(found.service, route) : '', backends, why };
}

function portAsked(service: Service, { address, protocol, l4Port, isPublished }: Asked): FoundPort | undefined {
  if (!isPublished && !addressesOf(service).some((one) => sameBytes(one, address))) return undefined;
  for (const port of service.ports) {
    const offset = (isPublished ? nodePortOffset : portOffset)(port, protocol, l4Port);
    if (offset !== undefined) return { service, port, offset, object: service.id };
  }
  return undefined;
}

/** `shop/canary: shop/web v1 (90), shop/web v2 (10)` */
function routeText({ routing }: Service, { destinations }: ServiceRoute): string {
  const ways = destinations.map(({ service, subset, l4Port, weight }) => {
    const port = l4Port === undefined ? '' : `:${l4Port}`;
    const share = destinations.length === 1 ? '' : ` (${weight})`;
    return `${idOf(nameOf(service))}${port}${subset === undefined ? '' : ` ${subset}`}${share}`;
  });
  return `${idOf(nameOf(routing!.rule))}: ${ways.join(', ')}`;
}

function keyOf(address: Uint8Array, l4Port: number): string {
  return `${formatIp(address)} ${l4Port}`;
}
