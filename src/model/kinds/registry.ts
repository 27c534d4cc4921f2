/**
 * All kinds of resources, in the order in which they are created: whatever others refer to comes first. A new kind is
 * one file next to this one, and one line here.
 */
import { didYouMean } from '../nearest.ts';
import { clusterNetworkPolicyKind } from './cluster-network-policy.ts';
import { destinationRuleKind } from './destination-rule.ts';
import { endpointSliceKind } from './endpoint-slice.ts';
import { endpointKind } from './endpoint.ts';
import { hookKind } from './hook.ts';
import { hostKind } from './host.ts';
import type { KindDefinition } from './kind.ts';
import { namespaceKind } from './namespace.ts';
import { networkPolicyKind } from './network-policy.ts';
import { networkKind } from './network.ts';
import { policyTestKind } from './policy-test.ts';
import { serviceKind } from './service.ts';
import { virtualServiceKind } from './virtual-service.ts';

export const kinds: KindDefinition[] = [
  namespaceKind, //
  networkKind,
  hostKind,
  // Before the endpoints that they are about: no port opens without them.
  hookKind,
  clusterNetworkPolicyKind,
  networkPolicyKind,
  endpointKind,
  serviceKind,
  endpointSliceKind,
  destinationRuleKind,
  virtualServiceKind,
  // What it is about need not be there; but in one file, it may be.
  policyTestKind,
];

/** @param kind of a validated resource, as in its manifest */
export function kindOf({ kind }: { readonly kind: string }): KindDefinition {
  return kinds.find((known) => known.kind === kind)!;
}

/** Finds a kind by its name, plural or a short name, ignoring case. */
export function findKind(text: string): KindDefinition | undefined {
  const wanted = text.toLowerCase();
  return kinds.find(({ kind, plural, shortNames }) => [kind.toLowerCase(), plural, ...shortNames].includes(wanted));
}

/** Explains why `findKind` finds nothing. */
export function unknownKindText(text: string): string {
  const names = kinds.map(({ kind }) => kind);
  return `"${text}" is not a kind${didYouMean(text, names) || ';'} there are ${names.join(', ')}`;
}

/** Sorts resources in the order of creation; they are deleted in reverse order. */
export function compareKinds(a: { readonly kind: string }, b: { readonly kind: string }): number {
  return kinds.indexOf(kindOf(a)) - kinds.indexOf(kindOf(b));
}
