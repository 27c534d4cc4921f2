/** Random worlds: few names, labels, ports and prefixes, so that what is drawn has much to do with each other. */
import type { Random } from '../random.ts';
import {
  ICMP,
  protocolNumbers,
  type ClusterNetworkPolicy,
  type ClusterPeer,
  type ClusterProtocol,
  type LabelSelector,
  type Manifest,
  type Namespace,
  type NetworkPolicy,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  type Packet,
  type Pod,
  type ProtocolName,
  type World,
} from './world.ts';

const NAMES = ['a', 'b', 'c'];
/** Names of workloads are longer outside the first one. */
const NAMESPACES = ['default', 'b', 'c'];
const KEYS = ['app', 'tier', 'team'];
const VALUES = ['web', 'db', 'cache'];
const PORT_NAMES = ['http', 'admin', 'dns'];
/** The two ports that are probed, and what lies around them. */
const PORTS = [79, 80, 81, 443, 53, 1, 65_535, 8080];
const PROTOCOLS: readonly ProtocolName[] = ['TCP', 'UDP', 'SCTP'];
const BLOCKS = [
  ...['0.0.0.0/0', '10.0.0.0/8', '10.0.1.0/24', '10.0.1.0/28', '10.0.1.2/32', '10.0.2.0/25', '192.0.2.0/24'],
  ...['128.0.0.0/1', '10.0.1.3/31', '::/0', 'fd00::/8', 'fd00:0:0:1::/64', 'fd00:0:0:1::2/127', '2001:db8::/32'],
];
/** Addresses that no workload has. */
const STRANGERS = ['192.0.2.7', '10.0.2.200', '255.255.255.255', '224.0.0.251', '2001:db8::7', 'fd00:0:0:2::c8'];

/** Three workloads in each of three namespaces, with an address of each family. */
export function randomPlaces(random: Random): Omit<World, 'policies'> {
  const namespaces = NAMESPACES.map((name): Namespace => ({ name, labels: randomLabels(random) }));
  const pods = namespaces.flatMap(({ name: namespace }, n) =>
    NAMES.map(
      (name, m): Pod => ({
        ...{ name, namespace, labels: randomLabels(random) },
        addresses: [`10.0.${n + 1}.${m + 2}`, `fd00:0:0:${n + 1}::${m + 2}`],
        ports: PORT_NAMES.filter(() => random.chance(0.6)).map((port) => ({
          ...{ name: port, port: random.pick(PORTS), protocol: random.pick(PROTOCOLS) },
        })),
      }),
    ),
  );
  return { namespaces, pods };
}

export function randomPolicies(random: Random): Manifest[] {
  return Array.from({ length: 1 + random.int(6) }, (_, n) =>
    random.chance(0.6) ? randomNetworkPolicy(random, `p${n}`) : randomClusterPolicy(random, `c${n}`),
  );
}

export function randomPacket(random: Random, { pods }: Pick<World, 'pods'>): Packet {
  const at = random.int(2);
  const of = (v6: boolean): string =>
    random.chance(0.85)
      ? random.pick(pods).addresses[v6 ? 1 : 0]!
      : random.pick(STRANGERS.filter((address) => address.includes(':') === v6));
  const protocol = random.chance(0.1) ? ICMP : protocolNumbers[random.pick(PROTOCOLS)];
  const port = random.chance(0.9) ? random.pick(PORTS) : random.int(65_536);
  return { from: of(at === 1), to: of(at === 1), protocol, port: protocol === ICMP ? 0 : port };
}

function randomLabels(random: Random): Record<string, string> {
  return Object.fromEntries(KEYS.filter(() => random.chance(0.6)).map((key) => [key, random.pick(VALUES)]));
}

function randomSelector(random: Random): LabelSelector {
  if (random.chance(0.3)) return {};
  const expressions = random.chance(0.4)
    ? Array.from({ length: 1 + random.int(2) }, () => {
        const operator = random.pick(['In', 'NotIn', 'Exists', 'DoesNotExist'] as const);
        const values = operator.endsWith('In') ? VALUES.filter(() => random.chance(0.5)) : undefined;
        return { key: random.pick(KEYS), operator, ...(values && { values: values.length ? values : ['web'] }) };
      })
    : undefined;
  return {
    ...(random.chance(0.6) && { matchLabels: { [random.pick(KEYS)]: random.pick(VALUES) } }),
    ...(expressions && { matchExpressions: expressions }),
  };
}

/** Of namespaces: sometimes by the label that each of them has by itself. */
function randomNamespaceSelector(random: Random): LabelSelector {
  return random.chance(0.3)
    ? { matchLabels: { 'kubernetes.io/metadata.name': random.pick(NAMESPACES) } }
    : randomSelector(random);
}

function some<T>(random: Random, most: number, make: () => T): T[] {
  return Array.from({ length: random.int(most + 1) }, make);
}

function randomNetworkPolicy(random: Random, name: string): NetworkPolicy {
  const peers = (): NetworkPolicyPeer[] | undefined =>
    random.chance(0.15) ? undefined : some(random, 3, () => randomPeer(random));
  const ports = (): NetworkPolicyPort[] | undefined =>
    random.chance(0.4) ? undefined : some(random, 3, () => randomPort(random));
  const types = random.pick([undefined, ['Ingress'], ['Egress'], ['Ingress', 'Egress']] as const);
  return {
    kind: 'NetworkPolicy',
    metadata: { name, namespace: random.pick(NAMESPACES), ...randomStage(random) },
    spec: {
      podSelector: randomSelector(random),
      ...(types && { policyTypes: [...types] }),
      ...(random.chance(0.8) && {
        ingress: some(random, 3, () => defined({ from: peers(), ports: ports() })),
      }),
      ...(random.chance(0.7) && { egress: some(random, 3, () => defined({ to: peers(), ports: ports() })) }),
    },
  };
}

function randomPeer(random: Random): NetworkPolicyPeer {
  if (random.chance(0.35)) {
    const cidr = random.pick(BLOCKS);
    const except = BLOCKS.filter((other) => other !== cidr && isWithin(other, cidr) && random.chance(0.5));
    return { ipBlock: { cidr, ...(except.length > 0 && { except }) } };
  }
  const [ofPods, ofNamespaces] = random.pick([
    [true, false],
    [false, true],
    [true, true],
  ]);
  return {
    ...(ofPods && { podSelector: randomSelector(random) }),
    ...(ofNamespaces && { namespaceSelector: randomNamespaceSelector(random) }),
  };
}

/** By what is known of these prefixes. */
function isWithin(inner: string, outer: string): boolean {
  const [a, b] = [inner, outer].map((cidr) => ({ v6: cidr.includes(':'), length: Number(cidr.split('/')[1]) }));
  if (a!.v6 !== b!.v6 || a!.length <= b!.length) return false;
  const start = outer.split('/')[0]!.replace(/(\.0)+$|::.*$/, '');
  return b!.length === 0 || (outer !== '128.0.0.0/1' && inner.startsWith(start) && b!.length % 8 === 0);
}

function randomPort(random: Random): NetworkPolicyPort {
  const protocol = random.chance(0.3) ? {} : { protocol: random.pick(PROTOCOLS) };
  const port = random.pick(PORTS);
  switch (random.int(4)) {
    case 0:
      return protocol;
    case 1:
      return { ...protocol, port: random.pick(PORT_NAMES) };
    case 2:
      return { ...protocol, port, endPort: Math.min(65_535, port + random.int(3) ** 6) };
    default:
      return { ...protocol, port };
  }
}

function randomClusterPolicy(random: Random, name: string): ClusterNetworkPolicy {
  const rule = (): { action: 'Accept' | 'Deny' | 'Pass'; protocols?: ClusterProtocol[] } => ({
    action: random.pick(['Accept', 'Deny', 'Pass']),
    ...(random.chance(0.6) && { protocols: [0, ...some(random, 2, () => 0)].map(() => randomProtocol(random)) }),
  });
  const peers = (isEgress: boolean): ClusterPeer[] =>
    [0, ...some(random, 2, () => 0)].map(() => randomClusterPeer(random, isEgress));
  return {
    kind: 'ClusterNetworkPolicy',
    metadata: { name, ...randomStage(random) },
    spec: {
      tier: random.pick(['Admin', 'Baseline']),
      priority: random.int(3),
      subject: random.chance(0.5)
        ? { namespaces: randomNamespaceSelector(random) }
        : { pods: { namespaceSelector: randomNamespaceSelector(random), podSelector: randomSelector(random) } },
      ...(random.chance(0.8) && { ingress: some(random, 4, () => ({ ...rule(), from: peers(false) })) }),
      ...(random.chance(0.8) && { egress: some(random, 4, () => ({ ...rule(), to: peers(true) })) }),
    },
  };
}

function randomClusterPeer(random: Random, isEgress: boolean): ClusterPeer {
  if (random.chance(0.02)) return {};
  if (isEgress && random.chance(0.4)) return { networks: [random.pick(BLOCKS), random.pick(BLOCKS)] };
  return random.chance(0.5)
    ? { namespaces: randomNamespaceSelector(random) }
    : { pods: { namespaceSelector: randomNamespaceSelector(random), podSelector: randomSelector(random) } };
}

function randomProtocol(random: Random): ClusterProtocol {
  if (random.chance(0.2)) return { destinationNamedPort: random.pick(PORT_NAMES) };
  const port = random.pick(PORTS.slice(0, 5));
  const destinationPort = random.pick([
    undefined,
    { number: port },
    { number: port },
    { range: { start: port, end: port + 1 + random.int(400) } },
  ]);
  return { [random.pick(['tcp', 'udp', 'sctp'])]: destinationPort ? { destinationPort } : {} };
}

function randomStage(random: Random): { annotations?: Record<string, string> } {
  return random.chance(0.05) ? { annotations: { 'weft.dev/staged': 'true' } } : {};
}

/** Without the fields that are undefined, as a manifest has it. */
function defined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
