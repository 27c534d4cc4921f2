/**
 * Network policy: who may begin a conversation with whom. (`policy/` has the parts.)
 *
 *   policies of a workload ──► rule set (shared by all workloads with the same ones) ──► judgement
 *   address ──► peer: the workload that has it as its own, if any
 *
 * The cluster says which policies select each workload of this host, and which workload each address of the cluster belongs
 * to. The pipeline asks once for each conversation, when it begins, on either side: for what its sender may send (`egress`),
 * and for what its receiver may receive (`ingress`). Whatever belongs to an open connection is not judged.
 *
 * The objects of this table (`changes.ts`) are what is in force for one workload in one direction, who has one address, and the
 * labels of one namespace. Whoever decides by `setOf` consults `policyObject`, also if there is no set; whoever needs the identity
 * of a peer, which is so if the set says that it asks for it, consults `identityObject`, and `namespaceObject` of the namespace that
 * the peer is in. Of all of these it is noted here, too, which have changed since the connections that are open were last judged
 * (`takeConcerned`).
 *
 * Owned by the thread of the switch.
 */
import { bytesId } from '../flow/key.ts';
import { formatIp, type Vni } from '../flow/types.ts';
import { IP_TCP, IP_UDP } from '../wire/ipv4.ts';
import type { Changes } from './changes.ts';
import type { Hooks } from './hooks.ts';
import type { PolicyJudgement } from './policy/judgement.ts';
import {
  policyDirections,
  type Identity,
  type OnDeny,
  type Policy,
  type PolicyDirection,
  type PolicyLabels,
} from './policy/policy.ts';
import type { PortsThatMatter } from './policy/ports.ts';
import { RuleSets, type SharedRuleSet } from './policy/rule-sets.ts';
import type { PolicyTie } from './policy/ties.ts';

/** Who is at the other end. */
export interface Peer {
  /** 16 bytes. */
  readonly address: Uint8Array;
  /** Undefined: the address is nobody's own, or its workload is not known here. */
  readonly identity: Identity | undefined;
  /** The name of the workload that is unique in the cluster (`idOf`), for people. */
  readonly endpoint: string | undefined;
}

/** Who has an address. */
export interface KnownWorkload {
  /** Its name that is unique in the cluster (`idOf`). */
  readonly endpoint: string;
  readonly identity: Identity;
}

/** A workload of this host, and the policies that select it. */
export interface PolicySubject {
  readonly identity: Identity;
  /** In any order. */
  readonly policies: readonly Policy[];
  /** What its namespace says, for policies that do not say it themselves. */
  readonly onDeny: OnDeny;
}

/** What is in force for a workload in one direction. */
export interface PolicySet {
  /** The object that a decision consults. */
  readonly object: string;
  /** False: only addresses matter. Then the identity of the peer need not be looked up, nor consulted. */
  readonly asksIdentity: boolean;
  /** If no port matters, the port need not be read: every port has the same judgement. */
  portsFor(peer: Peer, protocol: number): PortsThatMatter;
  /**
   * @param protocol its number in the IP header
   * @param l4Port the destination port; 0 for a protocol without ports
   */
  judge(peer: Peer, protocol: number, l4Port: number): PolicyJudgement;
}

/** What is asked to judge whole conversations, of policies that are in force, or of others. */
export interface PolicyLookup {
  /** Undefined: nothing selects it. */
  setOf(endpoint: string, direction: PolicyDirection): Pick<PolicySet, 'judge'> | undefined;
  peerAt(address: Uint8Array, vni: Vni): Peer;
  /** weft's DNS at the gateways, to which no address belongs. */
  readonly dns: Identity;
}

/** What connections that are open have to be judged for anew. */
export interface Concerned {
  /** Workloads of this host for which other policies are in force, by `idOf`. */
  readonly subjects: ReadonlySet<string>;
  /** Addresses that others have now, or whose workloads have other labels; as `bytesId` has them. */
  readonly addresses: ReadonlySet<string>;
  /** Namespaces that have other labels. */
  readonly namespaces: ReadonlySet<string>;
}

export class Policies implements PolicyLookup {
  readonly #changes: Changes;
  readonly #hooks: Pick<Hooks, 'isEmpty'>;
  readonly #ruleSets = new RuleSets();
  /** What is in force, by endpoint. */
  readonly #inForce: Readonly<Record<PolicyDirection, Map<string, InForce>>> = {
    ingress: new Map(),
    egress: new Map(),
  };
  #workloadAt: (address: Uint8Array, vni: Vni) => KnownWorkload | undefined = () => undefined;
  #subjects = new Set<string>();
  #addresses = new Set<string>();
  #namespaces = new Set<string>();
  #dns = dnsIdentity();

  /** @param hooks which ask who has an address, too */
  constructor(changes: Changes, hooks: Pick<Hooks, 'isEmpty'> = { isEmpty: true }) {
    this.#changes = changes;
    this.#hooks = hooks;
  }

  /** True if a decision may have consulted who has an address. */
  get asksIdentities(): boolean {
    return this.#ruleSets.askIdentities || !this.#hooks.isEmpty;
  }

  /** @param endpoint by `idOf`, as its port is called @returns what is in force for a workload of this host; undefined: nothing selects it, and everything passes. */
  setOf(endpoint: string, direction: PolicyDirection): PolicySet | undefined {
    return this.#inForce[direction].get(endpoint);
  }

  /** True if something is in force for any workload of this host. */
  selectsAny(direction: PolicyDirection): boolean {
    return this.#inForce[direction].size > 0;
  }

  /** Who has an address as its own in a network: 16 bytes. */
  peerAt(address: Uint8Array, vni: Vni): Peer {
    const workload = this.#workloadAt(address, vni);
    return { address, identity: workload?.identity, endpoint: workload?.endpoint };
  }

  /** Puts into force what a workload of this host has: its policies take the place of those that it had, all at once. */
  setSubject(endpoint: string, subject: PolicySubject | undefined): void {
    const hadAny = this.selectsAny('ingress');
    for (const direction of policyDirections) {
      const inForce = this.#inForce[direction];
      const before = inForce.get(endpoint);
      const shared = subject && this.#ruleSets.take(direction, subject, before?.shared);
      if (!shared && !before) continue;
      const object = policyObject(endpoint, direction);
      if (shared) inForce.set(endpoint, new InForce(object, shared));
      else inForce.delete(endpoint);
      if (before) this.#ruleSets.release(before.shared);
      if (shared === before?.shared) continue;
      this.#changes.changed(object);
      if (direction === 'ingress') this.#ingressChanged(hadAny);
      this.#subjects.add(endpoint);
    }
  }

  /**
   * Puts a policy into force in place of another one that selects the same workloads, for all of them at once. Their other policies stay.
   * @returns false: nothing is done (`RuleSets.replace`). Then each of its workloads is set.
   */
  replacePolicy(before: Policy, after: Policy): boolean {
    const changed = this.#ruleSets.replace(before, after);
    if (!changed) return false;
    if (changed.size === 0) return true;
    for (const direction of policyDirections) {
      for (const [endpoint, { object, shared }] of this.#inForce[direction]) {
        if (!changed.has(shared)) continue;
        this.#changes.changed(object);
        if (direction === 'ingress') this.#changes.changed(ingressPoliciesObject);
        this.#subjects.add(endpoint);
      }
    }
    return true;
  }

  #ingressChanged(hadAny: boolean): void {
    this.#changes.changed(ingressPoliciesObject);
    if (this.selectsAny('ingress') !== hadAny) this.#changes.changed(anyIngressPoliciesObject);
  }

  /**
   * Says whom to ask who has an address as its own in a network: the cluster knows, and nothing is kept here of 100,000
   * workloads. Until then, it is nobody's.
   */
  workloadsFrom(at: (address: Uint8Array, vni: Vni) => KnownWorkload | undefined): void {
    this.#workloadAt = at;
  }

  /** Others have these addresses now, or the workloads that have them are others to policies. */
  workloadsChanged(addresses: Iterable<Uint8Array>): void {
    // If nobody asks who has an address, no decision has consulted that.
    if (!this.asksIdentities) return;
    for (const address of addresses) {
      this.#changes.changed(identityObject(address));
      if (this.#ruleSets.askIdentities) this.#addresses.add(bytesId(address));
    }
  }

  /** A namespace has these labels now: all workloads that are in it are others to policies, however many there are. */
  namespaceChanged(name: string, labels: PolicyLabels | undefined): void {
    if (name === DNS_NAMESPACE) this.#dns = dnsIdentity(labels);
    if (!this.asksIdentities) return;
    this.#changes.changed(namespaceObject(name));
    if (this.#ruleSets.askIdentities) this.#namespaces.add(name);
  }

  get dns(): Identity {
    return this.#dns;
  }

  /** What has changed since this was last called. */
  takeConcerned(): Concerned {
    const concerned = { subjects: this.#subjects, addresses: this.#addresses, namespaces: this.#namespaces };
    this.#subjects = new Set();
    this.#addresses = new Set();
    this.#namespaces = new Set();
    return concerned;
  }

  /** True if `takeConcerned` has something. */
  get hasConcerned(): boolean {
    return this.#subjects.size > 0 || this.#addresses.size > 0 || this.#namespaces.size > 0;
  }

  /** ClusterNetworkPolicies whose order only their names determine, though they may contradict each other. */
  ties(): readonly PolicyTie[] {
    return this.#ruleSets.ties();
  }
}

/** The set of one workload; the rules are shared with others. */
class InForce implements PolicySet {
  readonly object: string;
  readonly shared: SharedRuleSet;

  constructor(object: string, shared: SharedRuleSet) {
    this.object = object;
    this.shared = shared;
  }

  get asksIdentity(): boolean {
    return this.shared.rules.asksIdentity;
  }

  portsFor(peer: Peer, protocol: number): PortsThatMatter {
    return this.shared.rules.portsFor(peer, protocol);
  }

  judge(peer: Peer, protocol: number, l4Port: number): PolicyJudgement {
    return this.shared.rules.judge(peer, protocol, l4Port);
  }
}

/** What is in force for a workload of this host in one direction, also if that is nothing. @param endpoint by `idOf` */
export function policyObject(endpoint: string, direction: PolicyDirection): string {
  return `policy/${direction}/${endpoint}`;
}

/** What is in force for all workloads of this host that receive: for a decision about many of them, such as a flood. */
export const ingressPoliciesObject = 'policy/ingress';

/** Whether there is anything of that at all: for a decision about many to which it does not matter what it is. */
export const anyIngressPoliciesObject = 'any-policy/ingress';

/** Which workload has an address, and what selectors match of it. */
export function identityObject(address: Uint8Array): string {
  return `identity/${formatIp(address)}`;
}

/** The labels of a namespace, for decisions about who is in it. */
export function namespaceObject(name: string): string {
  return `identity/namespace/${name}`;
}

/** Where Kubernetes has its DNS. */
export const DNS_NAMESPACE = 'kube-system';

/**
 * weft's DNS at the gateways, as Kubernetes has it: so policies that allow it there allow it here.
 * @param labels what its namespace declares
 */
export function dnsIdentity(labels: PolicyLabels = {}): Identity {
  return {
    namespace: DNS_NAMESPACE,
    labels: { 'k8s-app': 'kube-dns' },
    namespaceLabels: { ...labels, 'kubernetes.io/metadata.name': DNS_NAMESPACE },
    ports: [
      { name: 'dns', protocol: IP_UDP, l4Port: 53 },
      { name: 'dns-tcp', protocol: IP_TCP, l4Port: 53 },
    ],
  };
}
