/**
 * What a policy is to the tables: a NetworkPolicy or a ClusterNetworkPolicy as the cluster has read it, with everything
 * resolved that the one who reads manifests knows (`policyTypes`, defaults, prefixes), and nothing that depends on who asks.
 *
 * It is a value. Who changes a policy builds another one, and gives the same object to all workloads that it selects.
 */
import type { LabelSelector } from '../../labels.ts';
import type { Prefix } from '../routes.ts';

/** Of the workload that a policy selects: what it receives, or what it sends. */
export type PolicyDirection = 'ingress' | 'egress';
export const policyDirections: readonly PolicyDirection[] = ['ingress', 'egress'];

export type PolicyLabels = Readonly<Record<string, string>>;

/** A port of a workload that has a name. */
export interface PolicyPort {
  readonly name: string;
  /** Its number in the IP header. */
  readonly protocol: number;
  readonly l4Port: number;
}

/** A workload as policies see it: what selectors match. Workloads that are the same in all this best share one object. */
export interface Identity {
  readonly namespace: string;
  readonly labels: PolicyLabels;
  /** With `kubernetes.io/metadata.name`, which every namespace has by itself. */
  readonly namespaceLabels: PolicyLabels;
  readonly ports: readonly PolicyPort[];
}

/** One item of `from` or `to`. */
export type PolicyPeer =
  /** Workloads of these namespaces: the one of that name, or all whose labels match. */
  | {
      readonly kind: 'workloads';
      readonly namespaces: string | LabelSelector;
      readonly pods: LabelSelector;
    }
  /** Whoever has such an address, workloads as well. A prefix matches its own address family only. */
  | { readonly kind: 'block'; readonly block: Prefix; readonly except: readonly Prefix[] };

/** One item of `ports` or `protocols`. */
export type PortMatch =
  /** Destination ports from `first` to `last`; 0 and 65535 for all ports of that protocol. */
  | { readonly kind: 'range'; readonly protocol: number; readonly first: number; readonly last: number }
  /** The port that has that name at the destination; `protocol` undefined: whichever protocol it has there. */
  | { readonly kind: 'name'; readonly protocol: number | undefined; readonly name: string };

export interface PolicyRule {
  /** Of a NetworkPolicy it is always `accept`. */
  readonly action: 'accept' | 'deny' | 'pass';
  /** Undefined: everybody. Empty: nobody. */
  readonly peers: readonly PolicyPeer[] | undefined;
  /** Undefined: all ports, and all protocols, also those without ports. */
  readonly ports: readonly PortMatch[] | undefined;
  /**
   * True if something in it is not known here, as in a record that a newer weft has stored. Then it fails closed: it
   * accepts nothing, and if it would deny or pass, it denies everything.
   */
  readonly isUnreadable?: boolean;
  /** Where it was written, if that is known: `FILE:LINE`. */
  readonly source?: string | undefined;
}

/** Tiers in the order in which they are asked. */
export type PolicyTier = 'admin' | 'network' | 'baseline';

/** Which policy it is, for people. */
export interface PolicyName {
  readonly kind: 'NetworkPolicy' | 'ClusterNetworkPolicy';
  /** `NAMESPACE/NAME` of a NetworkPolicy, `NAME` of a ClusterNetworkPolicy. */
  readonly name: string;
  /** Where it was written, if that is known: `FILE:LINE`. */
  readonly source?: string | undefined;
}

/** What happens to a packet that is denied: nobody is told, or its sender is. */
export type OnDeny = 'drop' | 'reject';

export interface Policy {
  readonly name: PolicyName;
  /** That of every NetworkPolicy is `network`. */
  readonly tier: PolicyTier;
  /** Of a ClusterNetworkPolicy: the smallest number is asked first. A NetworkPolicy has 0. */
  readonly priority: number;
  /**
   * The rules for what its workloads receive, in order. Undefined: it says nothing about that. A NetworkPolicy that has
   * them isolates, also if there are none; a ClusterNetworkPolicy does not.
   */
  readonly ingress: readonly PolicyRule[] | undefined;
  /** The same for what they send. */
  readonly egress: readonly PolicyRule[] | undefined;
  /** Undefined: as the namespace of the workload has it. */
  readonly onDeny: OnDeny | undefined;
  /** True if it is judged and reported, but not enforced. */
  readonly isStaged: boolean;
}
