/** A shop: five workloads in three namespaces, and short ways to write their policies and packets. */
import { parseIp, type Vni } from '../../../src/flow/types.ts';
import { Changes } from '../../../src/table/changes.ts';
import { Policies } from '../../../src/table/policies.ts';
import { podAt } from './oracle.ts';
import { endpointName, putWorld } from './tables.ts';
import {
  ICMP,
  type ClusterNetworkPolicy,
  type LabelSelector,
  type Manifest,
  type Namespace,
  type NetworkPolicy,
  type Packet,
  type Pod,
  type ProtocolName,
  type World,
} from './world.ts';

export const NETWORK = 1 as Vni;
export const TCP = 6;
export const UDP = 17;
export const SCTP = 132;

export const namespaces: readonly Namespace[] = [
  { name: 'shop', labels: { env: 'prod' } },
  { name: 'lab', labels: { env: 'test' } },
  { name: 'ops', labels: {} },
];
export const pods: readonly Pod[] = [
  pod('shop/web', '10.0.1.2', { app: 'web' }, [['http', 8080]]),
  pod('shop/api', '10.0.1.3', { app: 'api', tier: 'back' }, [['http', 8081]]),
  pod('shop/db', '10.0.1.4', { app: 'db', tier: 'back' }, [['http', 80, 'UDP']]),
  pod('lab/web', '10.0.2.2', { app: 'web' }),
  pod('ops/probe', '10.0.3.2', {}),
];
export const OUTSIDER = '192.0.2.9';

export function pod(
  name: string,
  address: string,
  labels: Record<string, string>,
  ports: readonly (readonly [string, number, ProtocolName?])[] = [],
): Pod {
  const [namespace, own] = name.split('/') as [string, string];
  return {
    ...{ name: own, namespace, labels, addresses: [address, `fd00::${address.split('.').slice(2).join(':')}`] },
    ports: ports.map(([port, number, protocol = 'TCP']) => ({ name: port, port: number, protocol })),
  };
}

export function policy(spec: Partial<NetworkPolicy['spec']>, name = 'p', namespace = 'shop'): NetworkPolicy {
  return { kind: 'NetworkPolicy', metadata: { name, namespace }, spec: { podSelector: app('web'), ...spec } };
}

export function clusterPolicy(spec: Partial<ClusterNetworkPolicy['spec']>, name = 'c'): ClusterNetworkPolicy {
  const subject = { namespaces: namespace('shop') };
  return { kind: 'ClusterNetworkPolicy', metadata: { name }, spec: { tier: 'Admin', priority: 0, subject, ...spec } };
}

export function app(name: string): LabelSelector {
  return { matchLabels: { app: name } };
}

export function namespace(name: string): LabelSelector {
  return { matchLabels: { 'kubernetes.io/metadata.name': name } };
}

/** `shop/web > shop/api tcp 80`, also with addresses, and `6` behind the names for IPv6. */
export function packetOf(text: string): Packet {
  const [from, , to, protocol, port = '0'] = text.split(' ') as [string, string, string, string, string?];
  const numbers: Record<string, number> = { tcp: TCP, udp: UDP, sctp: SCTP, icmp: ICMP, gre: 47 };
  const addressOf = (end: string): string => {
    const known = pods.find((one) => endpointName(one) === end.replace(/6$/, ''));
    return known ? known.addresses[end.endsWith('6') ? 1 : 0]! : end;
  };
  return { from: addressOf(from), to: addressOf(to), protocol: numbers[protocol]!, port: Number(port) };
}

export function worldOf(policies: readonly Manifest[]): World {
  return { namespaces, pods, policies };
}

export function tablesOf(policies: readonly Manifest[]): Policies {
  const tables = new Policies(new Changes());
  putWorld(tables, worldOf(policies));
  return tables;
}

/** As the two stages of the pipeline ask. */
export function verdictOf(tables: Policies, packet: Packet): 'allow' | 'deny' {
  const [source, destination] = [podAt(worldOf([]), packet.from), podAt(worldOf([]), packet.to)];
  const verdict = (subject: Pod | undefined, direction: 'ingress' | 'egress', peer: string): string | undefined =>
    subject &&
    tables
      .setOf(endpointName(subject), direction)
      ?.judge(tables.peerAt(parseIp(peer), NETWORK), packet.protocol, packet.port).verdict;
  const verdicts = [verdict(source, 'egress', packet.to), verdict(destination, 'ingress', packet.from)];
  return verdicts.includes('deny') ? 'deny' : 'allow';
}
