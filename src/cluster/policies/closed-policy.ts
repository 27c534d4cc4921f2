/**
 * Policies that this version does not understand, such as those that a newer one has written, or that a defect keeps out of force:
 * what can be read of them holds, and the rest is closed.
 *
 *   a rule              accepts nothing; if it denies or passes, or nobody knows what it does, it denies everything
 *   a direction         isolates; of a ClusterNetworkPolicy, it denies everything
 *   whom it selects     everybody whom it could select: its namespace, or all of them
 *   tier and priority   those that are asked first
 */
import {
  clusterEgressRule,
  clusterIngressRule,
  policyPriority,
  policySubject,
  policyTier,
} from '../../model/kinds/cluster-network-policy.ts';
import { directionsOf, egressRule, ingressRule, policyTypes } from '../../model/kinds/network-policy.ts';
import { labelSelector, requirementsOf } from '../../model/kinds/label-selector.ts';
import { nameOf } from '../../model/name.ts';
import { ON_DENY, readPolicyAnnotations, STAGED, type PolicyAnnotations } from '../../model/policy-annotations.ts';
import { readPolicySource, SOURCE } from '../../model/policy-source.ts';
import { readIfValid } from '../../model/read-if-valid.ts';
import type { PolicyRule } from '../../table/policy/policy.ts';
import {
  actionValue,
  clusterEgressRuleValue,
  clusterIngressRuleValue,
  egressRuleValue,
  ingressRuleValue,
  subjectSelector,
  type SelectingPolicy,
} from './policy-value.ts';

/** What is in a field, if anything. */
type Fields = Readonly<Record<string, unknown>>;

/** @param name that of its key @param resource whatever the store has of it */
export function closedNetworkPolicy(name: string, resource: unknown): SelectingPolicy {
  const { namespace } = nameOf(name);
  const spec = fieldsOf(fieldsOf(resource)['spec']);
  const pods = readIfValid(labelSelector, spec['podSelector']);
  const directions = closedDirections(spec);
  const rules = (all: unknown, read: (rule: unknown) => PolicyRule | undefined): PolicyRule[] =>
    (listOf(all) ?? []).map((rule) => readable(rule, read) ?? unreadable('accept'));
  const readIngress = (value: unknown): PolicyRule | undefined => {
    const rule = readIfValid(ingressRule, value);
    return rule && ingressRuleValue(rule, namespace);
  };
  const readEgress = (value: unknown): PolicyRule | undefined => {
    const rule = readIfValid(egressRule, value);
    return rule && egressRuleValue(rule, namespace);
  };
  return {
    selector: { namespaces: namespace, pods: pods ? requirementsOf(pods) : [] },
    policy: {
      name: { kind: 'NetworkPolicy', name, ...sourceOf(resource) },
      tier: 'network',
      priority: 0,
      ingress: directions.ingress ? rules(spec['ingress'], readIngress) : undefined,
      egress: directions.egress ? rules(spec['egress'], readEgress) : undefined,
      ...annotationsOf(resource),
    },
  };
}

function closedDirections(spec: Fields): { readonly ingress: boolean; readonly egress: boolean } {
  const given = listOf(spec['policyTypes']);
  const types = readIfValid(policyTypes, given);
  if (!types || Object.keys(spec).length === 0) return { ingress: true, egress: true };
  // The rules themselves may be of a kind that is not known here.
  const count = listOf(spec['egress'])?.length ?? 1;
  return directionsOf({ policyTypes: types, egress: Array.from({ length: count }, () => ({})) });
}

/** @param name that of its key @param resource whatever the store has of it */
export function closedClusterPolicy(name: string, resource: unknown): SelectingPolicy {
  const spec = fieldsOf(fieldsOf(resource)['spec']);
  const isReadable = Object.keys(spec).length > 0;
  const subject = readIfValid(policySubject, spec['subject']);
  const tier = readIfValid(policyTier, spec['tier']) ?? 'Admin';
  const rules = (all: unknown, read: (rule: unknown) => PolicyRule | undefined): PolicyRule[] | undefined => {
    // Without rules it says nothing about a direction, unless nothing at all of it can be read.
    const list = isReadable ? listOf(all) : undefined;
    if (!list) return [unreadable('deny')];
    const found = list.map((rule) => readable(rule, read) ?? unreadable(actionOf(rule)));
    return found.length > 0 ? found : undefined;
  };
  return {
    selector: subject ? subjectSelector(subject) : { namespaces: [], pods: [] },
    policy: {
      name: { kind: 'ClusterNetworkPolicy', name, ...sourceOf(resource) },
      tier: tier === 'Admin' ? 'admin' : 'baseline',
      priority: readIfValid(policyPriority, spec['priority']) ?? 0,
      ingress: rules(spec['ingress'], readClusterIngress),
      egress: rules(spec['egress'], readClusterEgress),
      ...annotationsOf(resource),
    },
  };
}

function readClusterIngress(value: unknown): PolicyRule | undefined {
  const rule = readIfValid(clusterIngressRule, value);
  return rule && clusterIngressRuleValue(rule);
}

function readClusterEgress(value: unknown): PolicyRule | undefined {
  const rule = readIfValid(clusterEgressRule, value);
  return rule && clusterEgressRuleValue(rule);
}

/** Undefined also if a defect prevents it. */
function readable(rule: unknown, read: (rule: unknown) => PolicyRule | undefined): PolicyRule | undefined {
  try {
    return read(rule);
  } catch {
    return undefined;
  }
}

function unreadable(action: PolicyRule['action']): PolicyRule {
  return { action, peers: undefined, ports: undefined, isUnreadable: true };
}

function actionOf(rule: unknown): PolicyRule['action'] {
  const { action } = fieldsOf(rule);
  return action === 'Accept' || action === 'Pass' ? actionValue(action) : 'deny';
}

function sourceOf(resource: unknown): { readonly source?: string } {
  const text = annotationFields(resource)[SOURCE];
  const source = typeof text === 'string' ? readPolicySource(text) : undefined;
  return source ? { source: source.policy } : {};
}

function annotationFields(resource: unknown): Fields {
  return fieldsOf(fieldsOf(fieldsOf(resource)['metadata'])['annotations']);
}

function annotationsOf(resource: unknown): PolicyAnnotations {
  const annotations = annotationFields(resource);
  const text = (key: string): Readonly<Record<string, string>> => {
    const value = annotations[key];
    return typeof value === 'string' ? { [key]: value } : {};
  };
  return readPolicyAnnotations({ ...text(ON_DENY), ...text(STAGED) });
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

/** Undefined if it is no list. What is not there is an empty one. */
function listOf(value: unknown): readonly unknown[] | undefined {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : undefined;
}
