/** Services for random tests: whatever declarations may lead to, of given backends. */
import type { Backend, BalancingMethod, Service, ServicePort } from '../../src/table/service.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import type { Random } from './random.ts';
import { service, servicePort } from './services.ts';

const methods: readonly BalancingMethod[] = ['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'];

/** Ports that services may have: single ones, which may be published, and a range. */
const ports: readonly Partial<ServicePort>[] = [
  { protocol: IP_TCP, l4Port: 80 },
  { protocol: IP_UDP, l4Port: 53 },
  { protocol: IP_UDP, l4Port: 80, lastL4Port: 81 },
];

/** Where they may be published. */
const nodePorts = [80, 81];

/**
 * @param possible its backends are some of these, in any condition
 * @param share how many of them, on average
 * @param maxConnections undefined: any number
 */
export function randomService(
  random: Random,
  {
    id,
    vips,
    possible,
    share = random.pick([0.2, 0.9]),
    maxConnections = random.chance(0.5) ? 1 + random.int(2) : undefined,
  }: {
    readonly id: string;
    readonly vips: readonly Uint8Array[];
    readonly possible: readonly Backend[];
    readonly share?: number;
    readonly maxConnections?: number;
  },
): Service {
  const backends = possible.filter(() => random.chance(share)).map((backend) => ({ ...backend, ...condition(random) }));
  return service({
    id,
    vips,
    backends,
    ports: ports
      .filter(() => random.chance(0.8))
      .map((port) => {
        const target = random.pick([port.l4Port!, 8080]);
        const isSingle = port.lastL4Port === undefined;
        const nodePort = isSingle && random.chance(0.7) ? random.pick(nodePorts) : undefined;
        return servicePort(0, { ...port, nodePort, targets: backends.map(() => (random.chance(0.1) ? 0 : target)) });
      }),
    affinityMs: random.chance(0.3) ? 5000 : undefined,
    internalPolicy: random.chance(0.2) ? 'local' : 'cluster',
    externalPolicy: random.chance(0.2) ? 'local' : 'cluster',
    distribution: random.pick(['none', 'none', 'same-node', 'same-zone']),
    balancing: random.pick(methods),
    maxConnections,
    drainMs: random.pick([0, 3000]),
  });
}

function condition(random: Random): Partial<Backend> {
  const isTerminating = random.chance(0.2);
  const ready = !isTerminating && random.chance(0.8);
  return {
    ready,
    serving: ready || random.chance(0.5),
    terminating: isTerminating,
    weight: random.pick([0, 1, 1, 1, 3]),
  };
}
