/**
 * The oracle: whether policies allow a packet, as the text of the specifications says it, sentence by sentence, and as slowly
 * as that takes. It is written from networking.k8s.io/v1 NetworkPolicy and policy.networking.k8s.io/v1alpha2
 * ClusterNetworkPolicy, and has nothing in common with the engine, not even how it reads addresses.
 */
import { BlockList, isIPv4 } from 'node:net';
import {
  protocolNumbers,
  type ClusterNetworkPolicy,
  type ClusterPeer,
  type ClusterProtocol,
  type LabelSelector,
  type NetworkPolicy,
  type NetworkPolicyPeer,
  type NetworkPolicyPort,
  type Packet,
  type Pod,
  type World,
} from './world.ts';

export type Verdict = 'allow' | 'deny';
export type Direction = 'ingress' | 'egress';

/** A connection is allowed only if both the egress policy of its source and the ingress policy of its destination allow it. */
export function oracle(world: World, packet: Packet): Verdict {
  const [source, destination] = [podAt(world, packet.from), podAt(world, packet.to)];
  // A pod cannot block access to itself.
  if (source && source === destination) return 'allow';
  if (source && judge(world, source, 'egress', packet) === 'deny') return 'deny';
  return destination ? judge(world, destination, 'ingress', packet) : 'allow';
}

/** What the policies that select a pod say, in one direction. Those that are staged say nothing. */
export function judge(world: World, pod: Pod, direction: Direction, packet: Packet): Verdict {
  const inForce = world.policies.filter(({ metadata }) => metadata.annotations?.['weft.dev/staged'] !== 'true');
  const ofCluster = inForce.filter((policy) => policy.kind === 'ClusterNetworkPolicy');
  const ofNamespaces = inForce.filter((policy) => policy.kind === 'NetworkPolicy');

  // "The Admin tier takes precedence over all other policies."
  const admin = judgeTier(world, tier(ofCluster, 'Admin'), pod, direction, packet);
  if (admin === 'Accept') return 'allow';
  if (admin === 'Deny') return 'deny';

  // "NetworkPolicy always makes a final decision for selected pods."
  const selecting = ofNamespaces.filter(
    (policy) =>
      policy.metadata.namespace === pod.namespace &&
      matches(policy.spec.podSelector, pod.labels) &&
      policyTypes(policy).includes(direction === 'ingress' ? 'Ingress' : 'Egress'),
  );
  if (selecting.length > 0) {
    return selecting.some((policy) => someRuleAllows(world, policy, direction, packet)) ? 'allow' : 'deny';
  }

  const baseline = judgeTier(world, tier(ofCluster, 'Baseline'), pod, direction, packet);
  return baseline === 'Deny' ? 'deny' : 'allow';
}

export function podAt(world: World, address: string): Pod | undefined {
  return world.pods.find(({ addresses }) => addresses.includes(address));
}

function namespaceLabels(world: World, name: string): Record<string, string> {
  const namespace = world.namespaces.find((one) => one.name === name);
  // The control plane sets it on all namespaces.
  return { ...namespace?.labels, 'kubernetes.io/metadata.name': name };
}

/** "matchLabels" and "matchExpressions" are ANDed; an empty selector matches everything. */
export function matches(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const isThere = key in labels;
    const isAmong = isThere && values.includes(labels[key]!);
    if (operator === 'In' && !isAmong) return false;
    if (operator === 'NotIn' && isAmong) return false;
    if (operator === 'Exists' && !isThere) return false;
    if (operator === 'DoesNotExist' && isThere) return false;
  }
  return true;
}

function isInBlock(cidr: string, address: string): boolean {
  const [network, length] = cidr.split('/') as [string, string];
  if (isIPv4(network) !== isIPv4(address)) return false;
  const list = new BlockList();
  const family = isIPv4(network) ? 'ipv4' : 'ipv6';
  list.addSubnet(network, Number(length), family);
  return list.check(address, family);
}

// NetworkPolicy

/** "If this field is not specified, it will default based on the existence of ingress or egress rules." */
function policyTypes({ spec }: NetworkPolicy): readonly ('Ingress' | 'Egress')[] {
  if (spec.policyTypes) return spec.policyTypes;
  return spec.egress && spec.egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
}

function someRuleAllows(world: World, policy: NetworkPolicy, direction: Direction, packet: Packet): boolean {
  const { namespace } = policy.metadata;
  if (direction === 'ingress') {
    return (policy.spec.ingress ?? []).some(({ from, ports }) =>
      // At ingress, a named port is one of the destination, which is the pod that is selected.
      isPeer(world, namespace, from, packet.from, (by) => isPort(world, ports, packet, by === 'block' ? 'pod' : by)),
    );
  }
  return (policy.spec.egress ?? []).some(({ to, ports }) =>
    isPeer(world, namespace, to, packet.to, (by) => isPort(world, ports, packet, by)),
  );
}

/** How a peer was found: a named port at egress needs a pod that was selected as one. */
type FoundBy = 'everybody' | 'pod' | 'block';

/** "If this field is empty or missing, this rule matches all sources." @param then is asked for each item that matches */
function isPeer(
  world: World,
  ownNamespace: string,
  peers: readonly NetworkPolicyPeer[] | undefined,
  address: string,
  then: (by: FoundBy) => boolean,
): boolean {
  if (!peers || peers.length === 0) return then('everybody');
  return peers.some((peer) => {
    if (peer.ipBlock) {
      const { cidr, except = [] } = peer.ipBlock;
      return isInBlock(cidr, address) && !except.some((other) => isInBlock(other, address)) && then('block');
    }
    const pod = podAt(world, address);
    if (!pod) return false;
    // "If NamespaceSelector is also set, then the PodSelector as a whole selects the pods matching PodSelector in the
    // namespaces selected by NamespaceSelector. Otherwise it selects the pods in the policy's own namespace."
    const isNamespace = peer.namespaceSelector
      ? matches(peer.namespaceSelector, namespaceLabels(world, pod.namespace))
      : pod.namespace === ownNamespace;
    return isNamespace && (!peer.podSelector || matches(peer.podSelector, pod.labels)) && then('pod');
  });
}

/** "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)." */
function isPort(world: World, ports: readonly NetworkPolicyPort[] | undefined, packet: Packet, by: FoundBy): boolean {
  if (!ports || ports.length === 0) return true;
  return ports.some(({ protocol = 'TCP', port, endPort }) => {
    if (protocolNumbers[protocol] !== packet.protocol) return false;
    // "If this field is not provided, this matches all port names and numbers."
    if (port === undefined) return true;
    if (typeof port === 'number') return port <= packet.port && packet.port <= (endPort ?? port);
    return by !== 'block' && hasNamedPort(podAt(world, packet.to), port, packet);
  });
}

function hasNamedPort(pod: Pod | undefined, name: string, packet: Packet): boolean {
  return (pod?.ports ?? []).some(
    (port) => port.name === name && port.port === packet.port && protocolNumbers[port.protocol] === packet.protocol,
  );
}

// ClusterNetworkPolicy

function tier(policies: readonly ClusterNetworkPolicy[], name: 'Admin' | 'Baseline'): readonly ClusterNetworkPolicy[] {
  // Of equal priorities, weft takes them by their names.
  return policies
    .filter(({ spec }) => spec.tier === name)
    .sort((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** The action of the first rule that matches; undefined if none does. */
function judgeTier(
  world: World,
  policies: readonly ClusterNetworkPolicy[],
  pod: Pod,
  direction: Direction,
  packet: Packet,
): 'Accept' | 'Deny' | 'Pass' | undefined {
  for (const { spec } of policies) {
    if (!isClusterPeer(world, spec.subject, pod, undefined)) continue;
    const rules =
      direction === 'ingress'
        ? (spec.ingress ?? []).map((rule) => ({ ...rule, peers: rule.from }))
        : (spec.egress ?? []).map((rule) => ({ ...rule, peers: rule.to }));
    const address = direction === 'ingress' ? packet.from : packet.to;
    for (const { action, peers, protocols } of rules) {
      // "If an implementation sees no fields are set … it should fail closed": an Accept matches nothing, others deny all.
      if (peers.some((peer) => Object.keys(peer).length === 0)) {
        if (action === 'Accept') continue;
        return 'Deny';
      }
      const matching = peers.filter((peer) => isClusterPeer(world, peer, podAt(world, address), address));
      if (
        matching.some((peer) => isClusterProtocol(world, protocols, packet, direction === 'egress' && !!peer.networks))
      )
        return action;
    }
  }
  return undefined;
}

function isClusterPeer(world: World, peer: ClusterPeer, pod: Pod | undefined, address: string | undefined): boolean {
  if (peer.networks) return address !== undefined && peer.networks.some((cidr) => isInBlock(cidr, address));
  if (!pod) return false;
  const labels = namespaceLabels(world, pod.namespace);
  if (peer.namespaces) return matches(peer.namespaces, labels);
  return (
    peer.pods !== undefined &&
    matches(peer.pods.namespaceSelector, labels) &&
    matches(peer.pods.podSelector, pod.labels)
  );
}

/** "If unspecified, protocol-specific attributes will not be used to match traffic." */
function isClusterProtocol(
  world: World,
  protocols: readonly ClusterProtocol[] | undefined,
  packet: Packet,
  isNetwork: boolean,
): boolean {
  if (!protocols) return true;
  return protocols.some(({ tcp, udp, sctp, destinationNamedPort }) => {
    if (destinationNamedPort !== undefined)
      return !isNetwork && hasNamedPort(podAt(world, packet.to), destinationNamedPort, packet);
    const [number, match] = tcp ? [6, tcp] : udp ? [17, udp] : [132, sctp!];
    if (number !== packet.protocol) return false;
    const { destinationPort } = match;
    if (!destinationPort) return true;
    const { number: single, range } = destinationPort;
    return range ? range.start <= packet.port && packet.port <= range.end : single === packet.port;
  });
}
