/** Services for tests of the tables: what is not given is as for a plain ClusterIP service of one TCP port. */
import { routing } from '../../src/cluster/routing.ts';
import type { ProtocolTuple } from '../../src/flow/connection.ts';
import { formatIp, parseIp, parseMac, type Vni } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import type { Backend, Service, ServicePort } from '../../src/table/service.ts';
import type { ClientOrigin } from '../../src/table/service-keys.ts';
import type { Choice, NoChoice } from '../../src/table/service-choices.ts';
import { Services } from '../../src/table/services.ts';
import { Topology } from '../../src/table/topology.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';

export interface ServiceTable {
  readonly services: Services;
  readonly topology: Topology;
  readonly changes: Changes;
}

/**
 * A table with a network for backends and clients. Unless `isLoaded` is false, no services are expected that were there
 * before a restart.
 */
export function serviceTable({
  scopesBytes,
  isLoaded = true,
}: {
  scopesBytes?: number;
  isLoaded?: boolean;
} = {}): ServiceTable {
  const changes = new Changes();
  const topology = new Topology(parseMac('02:00:00:00:00:ff'), changes);
  topology.setNetwork({ name: 'blue', vni: BLUE, ...routing('blue', ['10.0.0.0/16', 'fd00::/64'], []) });
  const services = new Services(topology, changes, scopesBytes);
  if (isLoaded) services.loaded(0);
  changes.drain();
  return { services, topology, changes };
}

/** The decision about a connection, which is not opened. */
export function chosenFor(services: Services, of: ProtocolTuple, from: ClientOrigin = BLUE): Choice | NoChoice {
  return services.choose(services.find(of.destination, of.protocol, of.destinationPort)!, from, of);
}

/** Opens a connection in that slot. @returns its backend, as text, or why there is none */
export function connect(
  services: Services,
  slot: number,
  { of = tuple(slot), from = BLUE, nowMs = 0 }: { of?: ProtocolTuple; from?: ClientOrigin; nowMs?: number } = {},
): string {
  const choice = chosenFor(services, of, from);
  if (choice.kind === 'none') return choice.why;
  services.opened(slot, choice, from, of, nowMs);
  return formatIp(choice.backend.address);
}

export const VIP = parseIp('10.96.0.1');
export const VIP6 = parseIp('fd77:6566:7460::1');
export const BLUE = 100 as Vni;

export function service(given: Partial<Service> = {}): Service {
  const { backends = [], ports = [servicePort(backends.length)] } = given;
  return {
    id: 'default/web',
    vips: [VIP],
    externalAddresses: [],
    ports,
    backends,
    affinityMs: undefined,
    internalPolicy: 'cluster',
    externalPolicy: 'cluster',
    distribution: 'none',
    balancing: 'maglev',
    maxConnections: undefined,
    rule: undefined,
    portSpreads: new Map(),
    subsets: [],
    routing: undefined,
    outlier: undefined,
    check: undefined,
    drainMs: 0,
    externalName: undefined,
    hasWildcard: false,
    ...given,
  };
}

/** Port 80, which is port 8080 of all backends. */
export function servicePort(backends: number, given: Partial<ServicePort> = {}): ServicePort {
  const l4Port = given.l4Port ?? 80;
  const targets = Array.from({ length: backends }, () => 8080);
  return { name: '', protocol: IP_TCP, l4Port, lastL4Port: l4Port, nodePort: undefined, targets, ...given };
}

export function backend(address: string, given: Partial<Backend> = {}): Backend {
  return {
    endpoint: undefined,
    address: parseIp(address),
    vni: BLUE,
    host: undefined,
    zone: undefined,
    hostname: undefined,
    ready: true,
    serving: true,
    terminating: false,
    weight: 1,
    subsets: [],
    ...given,
  };
}

/** `10.0.1.1`, `10.0.1.2` … */
export function backends(count: number, given: (at: number) => Partial<Backend> = () => ({})): Backend[] {
  return Array.from({ length: count }, (_, at) =>
    backend(`10.0.${1 + Math.floor(at / 250)}.${1 + (at % 250)}`, given(at)),
  );
}

/** The nth connection of a client to the service. */
export function tuple(nth: number, given: Partial<ProtocolTuple> = {}): ProtocolTuple {
  const [source, destination] = [parseIp(`10.0.0.${2 + (Math.floor(nth / 60_000) % 200)}`), VIP];
  return { protocol: IP_TCP, source, sourcePort: 1024 + (nth % 60_000), destination, destinationPort: 80, ...given };
}
