/**
 * What a policy is to the tables (`table/policy/policy.ts`), and whom it selects: the manifest with everything filled in that it
 * leaves out.
 */
import { protocolNumber } from '../../flow/connection.ts';
import {
  directionsOf,
  type NetworkPolicyPeerSpec,
  type NetworkPolicyResource,
} from '../../model/kinds/network-policy.ts';
import type {
  ClusterNetworkPolicyResource,
  ClusterPeerSpec,
  ClusterProtocolSpec,
  PolicySubjectSpec,
} from '../../model/kinds/cluster-network-policy.ts';
import type { IpBlock } from '../../model/kinds/ip-block.ts';
import { requirementsOf } from '../../model/kinds/label-selector.ts';
import { readPolicyAnnotations } from '../../model/policy-annotations.ts';
import { readPolicySource, SOURCE } from '../../model/policy-source.ts';
import type { PolicyPortSpec } from '../../model/kinds/policy-port.ts';
import { idOf } from '../../model/resource.ts';
import type { Policy, PolicyPeer, PolicyRule, PortMatch } from '../../table/policy/policy.ts';
import type { WorkloadSelector } from '../../table/policy/selectors.ts';
import { prefixOf } from '../routing.ts';

export interface SelectingPolicy {
  readonly selector: WorkloadSelector;
  readonly policy: Policy;
}

export function networkPolicyValue({ metadata, spec }: NetworkPolicyResource): SelectingPolicy {
  const { namespace } = metadata;
  const directions = directionsOf(spec);
  const source = readPolicySource(metadata.annotations?.[SOURCE]);
  const ingress = (): PolicyRule[] =>
    (spec.ingress ?? []).map((rule, at) => placed(ingressRuleValue(rule, namespace), source?.ingress[at]));
  const egress = (): PolicyRule[] =>
    (spec.egress ?? []).map((rule, at) => placed(egressRuleValue(rule, namespace), source?.egress[at]));
  return {
    selector: { namespaces: namespace, pods: requirementsOf(spec.podSelector) },
    policy: {
      name: { kind: 'NetworkPolicy', name: idOf(metadata), ...(source && { source: source.policy }) },
      tier: 'network',
      priority: 0,
      ingress: directions.ingress ? ingress() : undefined,
      egress: directions.egress ? egress() : undefined,
      ...readPolicyAnnotations(metadata.annotations),
    },
  };
}

/** @param source where it was written, if that is known */
function placed(rule: PolicyRule, source: string | undefined): PolicyRule {
  return source === undefined ? rule : { ...rule, source };
}

type IngressRuleSpec = NonNullable<NetworkPolicyResource['spec']['ingress']>[number];
type EgressRuleSpec = NonNullable<NetworkPolicyResource['spec']['egress']>[number];

/** @param namespace that of the policy */
export function ingressRuleValue({ from, ports }: IngressRuleSpec, namespace: string): PolicyRule {
  return networkRule(from, ports, namespace);
}

export function egressRuleValue({ to, ports }: EgressRuleSpec, namespace: string): PolicyRule {
  return networkRule(to, ports, namespace);
}

function networkRule(
  peers: readonly NetworkPolicyPeerSpec[] | null | undefined,
  ports: readonly PolicyPortSpec[] | null | undefined,
  namespace: string,
): PolicyRule {
  return {
    action: 'accept',
    // An empty list is as good as none: everybody, and everything.
    peers: peers && peers.length > 0 ? peers.map((peer) => networkPeer(peer, namespace)) : undefined,
    ports: ports && ports.length > 0 ? ports.map(networkPort) : undefined,
  };
}

function networkPeer(
  { podSelector, namespaceSelector, ipBlock }: NetworkPolicyPeerSpec,
  namespace: string,
): PolicyPeer {
  if (ipBlock) return blockPeer(ipBlock);
  return {
    kind: 'workloads',
    namespaces: namespaceSelector ? requirementsOf(namespaceSelector) : namespace,
    pods: podSelector ? requirementsOf(podSelector) : [],
  };
}

function blockPeer({ cidr, except }: IpBlock): PolicyPeer {
  return { kind: 'block', block: prefixOf(cidr), except: (except ?? []).map(prefixOf) };
}

const LAST_PORT = 65_535;

function networkPort({ protocol, port, endPort }: PolicyPortSpec): PortMatch {
  const number = protocolNumber(protocol ?? 'TCP');
  if (typeof port === 'string') return { kind: 'name', protocol: number, name: port };
  if (port === undefined || port === null) return { kind: 'range', protocol: number, first: 0, last: LAST_PORT };
  return { kind: 'range', protocol: number, first: port, last: endPort ?? port };
}

export function clusterPolicyValue({ metadata, spec }: ClusterNetworkPolicyResource): SelectingPolicy {
  const source = readPolicySource(metadata.annotations?.[SOURCE]);
  return {
    selector: subjectSelector(spec.subject),
    policy: {
      name: { kind: 'ClusterNetworkPolicy', name: metadata.name, ...(source && { source: source.policy }) },
      tier: spec.tier === 'Admin' ? 'admin' : 'baseline',
      priority: spec.priority,
      ingress: rulesOrNone(spec.ingress?.map((rule, at) => placed(clusterIngressRuleValue(rule), source?.ingress[at]))),
      egress: rulesOrNone(spec.egress?.map((rule, at) => placed(clusterEgressRuleValue(rule), source?.egress[at]))),
      ...readPolicyAnnotations(metadata.annotations),
    },
  };
}

/** Without rules, it says nothing about a direction. */
function rulesOrNone(rules: readonly PolicyRule[] | undefined): readonly PolicyRule[] | undefined {
  return rules && rules.length > 0 ? rules : undefined;
}

export function subjectSelector({ namespaces, pods }: PolicySubjectSpec): WorkloadSelector {
  if (pods) return podsSelector(pods);
  return { namespaces: requirementsOf(namespaces!), pods: [] };
}

type PodsSpec = NonNullable<PolicySubjectSpec['pods']>;

function podsSelector({ namespaceSelector, podSelector }: PodsSpec): WorkloadSelector {
  return { namespaces: requirementsOf(namespaceSelector), pods: requirementsOf(podSelector) };
}

type ClusterIngressSpec = NonNullable<ClusterNetworkPolicyResource['spec']['ingress']>[number];
type ClusterEgressSpec = NonNullable<ClusterNetworkPolicyResource['spec']['egress']>[number];

export function clusterIngressRuleValue({ action, from, protocols }: ClusterIngressSpec): PolicyRule {
  return clusterRule(action, from, protocols);
}

export function clusterEgressRuleValue({ action, to, protocols }: ClusterEgressSpec): PolicyRule {
  return clusterRule(action, to, protocols);
}

const actions = { Accept: 'accept', Deny: 'deny', Pass: 'pass' } as const;

export function actionValue(action: keyof typeof actions): PolicyRule['action'] {
  return actions[action];
}

function clusterRule(
  action: keyof typeof actions,
  peers: readonly ClusterPeerSpec[],
  ports: readonly ClusterProtocolSpec[] | undefined,
): PolicyRule {
  return { action: actions[action], peers: peers.flatMap(clusterPeers), ports: ports?.map(clusterPort) };
}

function clusterPeers({ namespaces, pods, networks }: ClusterPeerSpec): PolicyPeer[] {
  if (networks) return networks.map((cidr) => blockPeer({ cidr }));
  return [{ kind: 'workloads', ...subjectSelector({ namespaces, pods }) }];
}

function clusterPort({ tcp, udp, sctp, destinationNamedPort }: ClusterProtocolSpec): PortMatch {
  if (destinationNamedPort !== undefined) return { kind: 'name', protocol: undefined, name: destinationNamedPort };
  const { number, range } = (tcp ?? udp ?? sctp)!.destinationPort;
  const protocol = protocolNumber(tcp ? 'TCP' : udp ? 'UDP' : 'SCTP');
  return { kind: 'range', protocol, first: number ?? range!.start, last: number ?? range!.end };
}
