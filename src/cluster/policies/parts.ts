/** The parts that put policies into force, and how they are connected. */
import type { Forwarding } from '../../forwarding.ts';
import { deniesConnection, judgePacket } from '../../forwarding/packet-judgement.ts';
import type { ClusterNetworkPolicyResource } from '../../model/kinds/cluster-network-policy.ts';
import type { NetworkPolicyResource } from '../../model/kinds/network-policy.ts';
import type { PolicyTestResource } from '../../model/kinds/policy-test.ts';
import type { Policy } from '../../table/policy/policy.ts';
import { Declarations, Namespaces } from '../declarations.ts';
import type { Endpoints } from '../endpoints.ts';
import type { Networks } from '../networks.ts';
import { closedClusterPolicy, closedNetworkPolicy } from './closed-policy.ts';
import { DeclaredPolicies } from './declared-policies.ts';
import { PolicyEnforcement } from './policy-enforcement.ts';
import { PolicyTests } from './policy-tests.ts';
import { clusterPolicyValue, networkPolicyValue, type SelectingPolicy } from './policy-value.ts';

export interface PolicyParts {
  readonly namespaces: Namespaces;
  readonly networkPolicies: DeclaredPolicies<NetworkPolicyResource>;
  readonly clusterPolicies: DeclaredPolicies<ClusterNetworkPolicyResource>;
  readonly policyTests: Declarations<PolicyTestResource>;
  readonly enforcement: PolicyEnforcement;
  /** The policy tests, at work. */
  readonly tests: PolicyTests;
}

export interface PolicyPartsEnvironment {
  readonly forwarding: Pick<Forwarding, 'tables' | 'controller' | 'outliers'>;
  readonly networks: () => Networks;
  readonly endpoints: () => Endpoints;
}

export function policyParts({ forwarding, networks, endpoints }: PolicyPartsEnvironment): PolicyParts {
  const { tables, controller, outliers } = forwarding;
  const { topology } = tables;
  const namespaces = new Namespaces((name) => enforcement.namespaceChanged(name));
  const enforcement: PolicyEnforcement = new PolicyEnforcement({
    tables: tables.policies,
    enforce: () => controller.enforce(),
    namespace: (name) => namespaces.metadataOf(name),
    ...{ networks, endpoints },
  });
  tables.policies.workloadsFrom((address, vni) => enforcement.workloadAt(address, vni));
  outliers.isDenied = (connection) => deniesConnection(connection, { policies: enforcement.everywhere(), topology });
  const of = (kind: Policy['name']['kind']) => ({
    onChange: (name: string, after: SelectingPolicy | undefined) => enforcement.policyChanged(kind, name, after),
  });
  const policyTests = new Declarations<PolicyTestResource>('PolicyTest');
  const tests = new PolicyTests({
    stored: () => policyTests.all(),
    propose: (change) => enforcement.propose(change),
    judge: (packet, policies) => judgePacket(packet, { policies, topology }),
    isVip: (address) => tables.services.isVip(address),
  });
  return {
    namespaces,
    enforcement,
    policyTests,
    tests,
    networkPolicies: new DeclaredPolicies<NetworkPolicyResource>('NetworkPolicy', {
      ...of('NetworkPolicy'),
      value: networkPolicyValue,
      closedValue: closedNetworkPolicy,
      // The last of the kinds that say what policies do: now everything of the change comes into force at once.
      onComplete: () => enforcement.settle(),
    }),
    clusterPolicies: new DeclaredPolicies<ClusterNetworkPolicyResource>('ClusterNetworkPolicy', {
      ...of('ClusterNetworkPolicy'),
      value: clusterPolicyValue,
      closedValue: closedClusterPolicy,
      onComplete: () => {},
    }),
  };
}
