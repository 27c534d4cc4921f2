/**
 * NetworkPolicy (`networking.k8s.io/v1`): whom the endpoints that it selects may talk to. An endpoint that a policy selects is
 * isolated in the directions of that policy: what no policy allows is denied.
 *
 * What is accepted, and what is refused, is as Kubernetes has it. What weft adds are annotations (`policy-annotations.ts`).
 */
import * as z from 'zod';
import { labelSelector, labelSelectorText } from './label-selector.ts';
import { ipBlock } from './ip-block.ts';
import { checkedBy } from '../annotations.ts';
import { readPolicyAnnotations } from '../policy-annotations.ts';
import { withPolicySource } from '../policy-source.ts';
import { policyPort } from './policy-port.ts';
import { foreignObject } from './foreign.ts';
import { defineKind } from './kind.ts';
import { dnsSubdomain, upstreamMetadata } from './upstream.ts';

export const KUBERNETES_NETWORKING_V1 = 'networking.k8s.io/v1';

export const networkPolicyPeer = foreignObject({
  podSelector: labelSelector.nullable().optional(),
  namespaceSelector: labelSelector.nullable().optional(),
  ipBlock: ipBlock.nullable().optional(),
}).superRefine((peer, context) => {
  const selects = isGiven(peer.podSelector) || isGiven(peer.namespaceSelector);
  if (!selects && !isGiven(peer.ipBlock))
    context.addIssue({
      code: 'custom',
      message: 'must specify a peer: give podSelector, namespaceSelector, both of them, or ipBlock',
    });
  if (selects && isGiven(peer.ipBlock))
    context.addIssue({ code: 'custom', path: ['ipBlock'], message: 'may not specify both ipBlock and another peer' });
});

/** Null is what a field that is left out has. */
function isGiven<V>(value: V | null | undefined): value is V {
  return value !== null && value !== undefined;
}

const peers = z.array(networkPolicyPeer).nullable().optional();
const ports = z.array(policyPort).nullable().optional();

export const ingressRule = foreignObject(
  { from: peers, ports },
  { to: 'an ingress rule says who may come in, write `from`' },
);
export const egressRule = foreignObject({ to: peers, ports }, { from: 'an egress rule says where to, write `to`' });

const MOST_TYPES = 2;

export const policyTypes = z
  .array(z.enum(['Ingress', 'Egress']))
  .max(MOST_TYPES, 'may not specify more than two policyTypes');

const networkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(KUBERNETES_NETWORKING_V1),
    kind: z.literal('NetworkPolicy'),
    metadata: upstreamMetadata(dnsSubdomain),
    spec: foreignObject({
      /** Whom it selects in its own namespace; everybody if it is empty. */
      podSelector: labelSelector.default({}),
      policyTypes: policyTypes.nullable().optional(),
      ingress: z.array(ingressRule).nullable().optional(),
      egress: z.array(egressRule).nullable().optional(),
    }),
  })
  .superRefine(checkedBy(readPolicyAnnotations));

export type NetworkPolicyResource = z.output<typeof networkPolicySchema>;
/** The spec as it is written: what has a default may be missing. */
export type NetworkPolicyFields = z.input<typeof networkPolicySchema>['spec'];
export type NetworkPolicyPeerSpec = z.output<typeof networkPolicyPeer>;

/** The directions that it is about: if it does not say so, ingress, and egress if it has rules for that. */
export function directionsOf({
  policyTypes: types,
  egress,
}: Pick<NetworkPolicyResource['spec'], 'policyTypes' | 'egress'>): {
  readonly ingress: boolean;
  readonly egress: boolean;
} {
  if (types && types.length > 0) return { ingress: types.includes('Ingress'), egress: types.includes('Egress') };
  return { ingress: true, egress: (egress?.length ?? 0) > 0 };
}

export const networkPolicyKind = defineKind({
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  shortNames: ['netpol'],
  apiVersion: KUBERNETES_NETWORKING_V1,
  isNamespaced: true,
  isLeaf: true,
  schema: networkPolicySchema,
  references: () => [],
  placed: withPolicySource,
  columns: { heads: ['POD-SELECTOR'], cells: ({ spec }) => [labelSelectorText(spec.podSelector)] },
  wideColumns: {
    heads: ['TYPES', 'RULES', 'STAGED'],
    cells: ({ metadata, spec }) => {
      const directions = directionsOf(spec);
      const types = [...(directions.ingress ? ['Ingress'] : []), ...(directions.egress ? ['Egress'] : [])];
      const count =
        (directions.ingress ? (spec.ingress?.length ?? 0) : 0) + (directions.egress ? (spec.egress?.length ?? 0) : 0);
      return [types.join(','), count, readPolicyAnnotations(metadata.annotations).isStaged ? 'yes' : ''];
    },
  },
});
