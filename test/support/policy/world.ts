/**
 * A small cluster for tests of network policy: namespaces, workloads, and policies as they are written in manifests. The
 * oracle (`oracle.ts`) reads them as they are, and `tables.ts` gives them to the switch.
 */
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'; values?: string[] }[];
}

export type ProtocolName = 'TCP' | 'UDP' | 'SCTP';

export interface NetworkPolicyPeer {
  podSelector?: LabelSelector;
  namespaceSelector?: LabelSelector;
  ipBlock?: { cidr: string; except?: string[] };
}

export interface NetworkPolicyPort {
  protocol?: ProtocolName;
  port?: number | string;
  endPort?: number;
}

export interface NetworkPolicy {
  kind: 'NetworkPolicy';
  metadata: { name: string; namespace: string; annotations?: Record<string, string> };
  spec: {
    podSelector: LabelSelector;
    policyTypes?: ('Ingress' | 'Egress')[];
    ingress?: { from?: NetworkPolicyPeer[]; ports?: NetworkPolicyPort[] }[];
    egress?: { to?: NetworkPolicyPeer[]; ports?: NetworkPolicyPort[] }[];
  };
}

/** One of these fields is set; if none is, the manifest is of a version with others. */
export interface ClusterPeer {
  namespaces?: LabelSelector;
  pods?: { namespaceSelector: LabelSelector; podSelector: LabelSelector };
  /** Of egress only. */
  networks?: string[];
}

interface DestinationPort {
  destinationPort?: { number?: number; range?: { start: number; end: number } };
}

/** One of these fields is set. */
export interface ClusterProtocol {
  tcp?: DestinationPort;
  udp?: DestinationPort;
  sctp?: DestinationPort;
  destinationNamedPort?: string;
}

interface ClusterRule {
  name?: string;
  action: 'Accept' | 'Deny' | 'Pass';
  protocols?: ClusterProtocol[];
}

export interface ClusterNetworkPolicy {
  kind: 'ClusterNetworkPolicy';
  metadata: { name: string; annotations?: Record<string, string> };
  spec: {
    tier: 'Admin' | 'Baseline';
    priority: number;
    subject: Pick<ClusterPeer, 'namespaces' | 'pods'>;
    ingress?: (ClusterRule & { from: ClusterPeer[] })[];
    egress?: (ClusterRule & { to: ClusterPeer[] })[];
  };
}

export type Manifest = NetworkPolicy | ClusterNetworkPolicy;

export interface Namespace {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Pod {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: ProtocolName }[];
}

export interface World {
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
  readonly policies: readonly Manifest[];
}

/** Begins a conversation. */
export interface Packet {
  readonly from: string;
  readonly to: string;
  /** Its number in the IP header. */
  readonly protocol: number;
  /** 0 for a protocol without ports. */
  readonly port: number;
}

export const protocolNumbers: Readonly<Record<ProtocolName, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
export const ICMP = 1;
