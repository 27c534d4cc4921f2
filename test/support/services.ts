/** Services for tests of the tables: what is not given is as for a plain ClusterIP service of one TCP port. */
import { parseIp, type Vni } from '../../src/flow/types.ts';
import type { ProtocolTuple } from '../../src/flow/connection.ts';
import type { Backend, Service, ServicePort } from '../../src/table/service.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';

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
