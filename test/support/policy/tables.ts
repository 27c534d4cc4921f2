/** Gives the policies of a world to the tables of a switch, as the cluster does. */
import { bytesId } from '../../../src/flow/key.ts';
import type { LabelSelector as TableSelector } from '../../../src/labels.ts';
import { parseIp } from '../../../src/flow/types.ts';
import { idOf } from '../../../src/model/name.ts';
import type { Policies } from '../../../src/table/policies.ts';
import type { Prefix } from '../../../src/table/routes.ts';
import type { Identity, OnDeny, Policy, PolicyPeer, PolicyRule, PortMatch } from '../../../src/table/policy/policy.ts';
import { matches } from './oracle.ts';
import {
  protocolNumbers,
  type ClusterNetworkPolicy,
  type ClusterPeer,
  type ClusterProtocol,
  type LabelSelector,
  type Manifest,
  type NetworkPolicy,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  type Pod,
  type World,
} from './world.ts';

/** @param isLocal the workloads that this switch has */
export function putWorld(policies: Policies, world: World, isLocal: (pod: Pod) => boolean = () => true): void {
  const workloads = new Map(
    world.pods.flatMap((pod) => {
      const workload = { endpoint: endpointName(pod), identity: identityOf(world, pod) };
      return pod.addresses.map((address) => [bytesId(parseIp(address)), workload] as const);
    }),
  );
  policies.workloadsFrom((address) => workloads.get(bytesId(address)));
  const read = world.policies.map((manifest) => [manifest, valueOf(manifest)] as const);
  for (const pod of world.pods) {
    if (!isLocal(pod)) continue;
    policies.setSubject(endpointName(pod), {
      identity: identityOf(world, pod),
      policies: read.filter(([manifest]) => isSelected(world, manifest, pod)).map(([, policy]) => policy),
      onDeny: onDenyOf(world.namespaces.find(({ name }) => name === pod.namespace)?.annotations) ?? 'drop',
    });
  }
}

/** As in a cluster, a policy that stays as it was is the same object. */
function valueOf(manifest: Manifest): Policy {
  let value = values.get(manifest);
  if (!value) values.set(manifest, (value = policyOf(manifest)));
  return value;
}

const values = new WeakMap<Manifest, Policy>();

/** As ports and policies know it. */
export function endpointName({ namespace, name }: Pick<Pod, 'namespace' | 'name'>): string {
  return idOf({ namespace, name });
}

/** As services know it. */
export function backendName({ namespace, name }: Pick<Pod, 'namespace' | 'name'>): string {
  return `${namespace}/${name}`;
}

export function identityOf(world: World, { namespace, labels, ports }: Pod): Identity {
  return {
    namespace,
    labels,
    namespaceLabels: namespaceLabels(world, namespace),
    ports: ports.map(({ name, port, protocol }) => ({ name, l4Port: port, protocol: protocolNumbers[protocol] })),
  };
}

function namespaceLabels(world: World, name: string): Record<string, string> {
  const { labels } = world.namespaces.find((namespace) => namespace.name === name)!;
  return { ...labels, 'kubernetes.io/metadata.name': name };
}

export function isSelected(world: World, manifest: Manifest, pod: Pod): boolean {
  if (manifest.kind === 'NetworkPolicy') {
    return manifest.metadata.namespace === pod.namespace && matches(manifest.spec.podSelector, pod.labels);
  }
  const { namespaces, pods } = manifest.spec.subject;
  const labels = namespaceLabels(world, pod.namespace);
  if (namespaces) return matches(namespaces, labels);
  return matches(pods!.namespaceSelector, labels) && matches(pods!.podSelector, pod.labels);
}

export function policyOf(manifest: Manifest): Policy {
  return manifest.kind === 'NetworkPolicy' ? ofNamespace(manifest) : ofCluster(manifest);
}

function ofNamespace({ metadata, spec }: NetworkPolicy): Policy {
  const { ingress, egress } = spec;
  const types = spec.policyTypes ?? (egress?.length ? ['Ingress', 'Egress'] : ['Ingress']);
  const rule = (peers: NetworkPolicyPeer[] | undefined, ports: NetworkPolicyPort[] | undefined): PolicyRule => ({
    action: 'accept',
    peers: peers?.length ? peers.map((peer) => peerOf(peer, metadata.namespace)) : undefined,
    ports: ports?.length ? ports.map(portOf) : undefined,
  });
  return {
    name: { kind: 'NetworkPolicy', name: `${metadata.namespace}/${metadata.name}` },
    ...{ tier: 'network', priority: 0, ...annotationsOf(metadata.annotations) },
    ingress: types.includes('Ingress') ? (ingress ?? []).map(({ from, ports }) => rule(from, ports)) : undefined,
    egress: types.includes('Egress') ? (egress ?? []).map(({ to, ports }) => rule(to, ports)) : undefined,
  };
}

function ofCluster({ metadata, spec }: ClusterNetworkPolicy): Policy {
  const actions = { Accept: 'accept', Deny: 'deny', Pass: 'pass' } as const;
  const rule = (
    { action, protocols }: { action: keyof typeof actions; protocols?: ClusterProtocol[] },
    peers: readonly ClusterPeer[],
  ): PolicyRule => ({
    action: actions[action],
    peers: peers.flatMap(clusterPeersOf),
    ports: protocols?.map(protocolOf),
    isUnreadable: peers.some((peer) => Object.keys(peer).length === 0),
  });
  return {
    name: { kind: 'ClusterNetworkPolicy', name: metadata.name },
    tier: spec.tier === 'Admin' ? 'admin' : 'baseline',
    priority: spec.priority,
    ...annotationsOf(metadata.annotations),
    ingress: spec.ingress?.map((one) => rule(one, one.from)),
    egress: spec.egress?.map((one) => rule(one, one.to)),
  };
}

function annotationsOf(annotations?: Readonly<Record<string, string>>): Pick<Policy, 'onDeny' | 'isStaged'> {
  return { onDeny: onDenyOf(annotations), isStaged: annotations?.['weft.dev/staged'] === 'true' };
}

function onDenyOf(annotations?: Readonly<Record<string, string>>): OnDeny | undefined {
  return annotations?.['weft.dev/on-deny'] as OnDeny | undefined;
}

function peerOf({ ipBlock, namespaceSelector, podSelector }: NetworkPolicyPeer, namespace: string): PolicyPeer {
  if (ipBlock) {
    return { kind: 'block', block: prefixOf(ipBlock.cidr), except: (ipBlock.except ?? []).map(prefixOf) };
  }
  return {
    kind: 'workloads',
    namespaces: namespaceSelector ? selectorOf(namespaceSelector) : namespace,
    pods: selectorOf(podSelector ?? {}),
  };
}

function clusterPeersOf({ namespaces, pods, networks = [] }: ClusterPeer): readonly PolicyPeer[] {
  if (namespaces) return [{ kind: 'workloads', namespaces: selectorOf(namespaces), pods: [] }];
  if (pods) {
    const { namespaceSelector, podSelector } = pods;
    return [{ kind: 'workloads', namespaces: selectorOf(namespaceSelector), pods: selectorOf(podSelector) }];
  }
  return networks.map((cidr) => ({ kind: 'block', block: prefixOf(cidr), except: [] }));
}

function portOf({ protocol = 'TCP', port = 0, endPort }: NetworkPolicyPort): PortMatch {
  const number = protocolNumbers[protocol];
  if (typeof port === 'string') return { kind: 'name', protocol: number, name: port };
  return { kind: 'range', protocol: number, first: port, last: endPort ?? (port || 65_535) };
}

function protocolOf({ tcp, udp, sctp, destinationNamedPort }: ClusterProtocol): PortMatch {
  if (destinationNamedPort !== undefined) return { kind: 'name', protocol: undefined, name: destinationNamedPort };
  const { destinationPort } = (tcp ?? udp ?? sctp)!;
  const { number = 0, range } = destinationPort ?? {};
  return {
    kind: 'range',
    protocol: protocolNumbers[tcp ? 'TCP' : udp ? 'UDP' : 'SCTP'],
    first: range?.start ?? number,
    last: range?.end ?? (number || 65_535),
  };
}

export function selectorOf({ matchLabels = {}, matchExpressions = [] }: LabelSelector): TableSelector {
  const operators = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: 'missing' } as const;
  return [
    ...Object.entries(matchLabels).map(([key, value]) => ({ key, operator: 'in' as const, values: [value] })),
    ...matchExpressions.map(({ key, operator, values = [] }) => ({ key, operator: operators[operator], values })),
  ];
}

export function prefixOf(cidr: string): Prefix {
  const [ip, length] = cidr.split('/') as [string, string];
  return { ip: parseIp(ip), length: Number(length) };
}
