/**
 * ClusterNetworkPolicy (`policy.networking.k8s.io/v1alpha2`): what holds for endpoints of all namespaces, before what their
 * NetworkPolicies say (tier Admin) or where these say nothing (tier Baseline). Its rules are ordered: the first one that matches
 * decides, and `Pass` leaves it to the next tier. It isolates nobody: what no rule matches is not its matter.
 */
import * as z from 'zod';
import { policyCidr } from './ip-block.ts';
import { labelSelector } from './label-selector.ts';
import { portName } from '../named-port.ts';
import { checkedBy } from '../annotations.ts';
import { readPolicyAnnotations } from '../policy-annotations.ts';
import { withPolicySource } from '../policy-source.ts';
import { l4Port } from '../publish.ts';
import { foreignObject } from './foreign.ts';
import { defineKind } from './kind.ts';
import { clusterMetadata, dnsSubdomain } from './upstream.ts';

export const POLICY_V1ALPHA2 = 'policy.networking.k8s.io/v1alpha2';

const MOST_RULES = 25;
const MOST_ITEMS = 25;
const LONGEST_RULE_NAME = 100;
const HIGHEST_PRIORITY = 1000;

/** Exactly one field of an object is given. */
const exactlyOne =
  (names: string) =>
  (value: Readonly<Record<string, unknown>>, context: z.core.$RefinementCtx): void => {
    const given = Object.values(value).filter((field) => field !== undefined).length;
    if (given !== 1) context.addIssue({ code: 'custom', message: `give exactly one of ${names}` });
  };

const items = <S extends z.ZodType>(item: S, what: string) =>
  z.array(item).min(1, `must have at least 1 item: ${what}`).max(MOST_ITEMS, `must have at most ${MOST_ITEMS} items`);

const namespacedPods = foreignObject({ namespaceSelector: labelSelector, podSelector: labelSelector });

export const policySubject = foreignObject({
  namespaces: labelSelector.optional(),
  pods: namespacedPods.optional(),
}).superRefine(exactlyOne('namespaces and pods'));

const range = foreignObject({ start: l4Port, end: l4Port }).superRefine(({ start, end }, context) => {
  if (start < end) return;
  const message = `Start port must be less than End port, which is ${end}`;
  context.addIssue({ code: 'custom', path: ['start'], input: start, message });
});

const destinationPort = foreignObject({ number: l4Port.optional(), range: range.optional() }).superRefine(
  exactlyOne('number and range'),
);

const protocolPorts = foreignObject({ destinationPort });

const protocol = foreignObject({
  tcp: protocolPorts.optional(),
  udp: protocolPorts.optional(),
  sctp: protocolPorts.optional(),
  destinationNamedPort: portName.optional(),
}).superRefine(exactlyOne('tcp, udp, sctp and destinationNamedPort'));

const protocols = items(protocol, 'leave it out for all protocols').optional();

const ONLY_EGRESS = 'upstream has it in egress rules only';
const ingressPeer = foreignObject(
  { namespaces: labelSelector.optional(), pods: namespacedPods.optional() },
  { networks: ONLY_EGRESS, nodes: ONLY_EGRESS, domainNames: ONLY_EGRESS },
).superRefine(exactlyOne('namespaces and pods'));

const networks = items(policyCidr, 'give a CIDR').superRefine((all, context) => {
  for (const [index, input] of all.entries()) {
    if (all.indexOf(input) < index)
      context.addIssue({ code: 'custom', path: [index], input, message: `${input} is given twice` });
  }
});

const egressPeer = foreignObject(
  { namespaces: labelSelector.optional(), pods: namespacedPods.optional(), networks: networks.optional() },
  {
    nodes: 'write the addresses of the hosts as networks',
    domainNames: 'policies are about addresses, write those of the name as networks',
  },
).superRefine(exactlyOne('namespaces, pods and networks'));

const ruleName = z
  .string()
  .max(LONGEST_RULE_NAME, `a rule has a name of at most ${LONGEST_RULE_NAME} characters`)
  .optional();

const action = z.enum(['Accept', 'Deny', 'Pass']);

const ofSomebody = 'a selector that is empty ({}) means everybody';

export const clusterIngressRule = foreignObject({
  name: ruleName,
  action,
  from: items(ingressPeer, ofSomebody),
  protocols,
});

export const clusterEgressRule = foreignObject({
  name: ruleName,
  action,
  to: items(egressPeer, ofSomebody),
  protocols,
}).superRefine(({ to, protocols: given = [] }, context) => {
  const index = given.findIndex(({ destinationNamedPort }) => destinationNamedPort !== undefined);
  if (index < 0 || to.every((peer) => peer.networks === undefined)) return;
  context.addIssue({
    code: 'custom',
    path: ['protocols', index, 'destinationNamedPort'],
    input: given[index]!.destinationNamedPort,
    message: 'networks have no named ports: give the number of the port, or a rule of its own',
  });
});

export const policyTier = z.enum(['Admin', 'Baseline']);
const PRIORITY = `a priority is a whole number, 0 to ${HIGHEST_PRIORITY}; 0 goes first`;
export const policyPriority = z
  .int({
    error: ({ input }) => (input === undefined ? `is missing: ${PRIORITY}` : PRIORITY),
  })
  .min(0, PRIORITY)
  .max(HIGHEST_PRIORITY, PRIORITY);

const mostRules = `must have at most ${MOST_RULES} items: write further rules in another policy`;

const clusterNetworkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(POLICY_V1ALPHA2),
    kind: z.literal('ClusterNetworkPolicy'),
    metadata: clusterMetadata(dnsSubdomain),
    spec: foreignObject({
      tier: policyTier,
      priority: policyPriority,
      subject: policySubject,
      ingress: z.array(clusterIngressRule).max(MOST_RULES, mostRules).optional(),
      egress: z.array(clusterEgressRule).max(MOST_RULES, mostRules).optional(),
    }),
  })
  .superRefine(checkedBy(readPolicyAnnotations));

export type ClusterNetworkPolicyResource = z.output<typeof clusterNetworkPolicySchema>;
export type ClusterPeerSpec = z.output<typeof egressPeer>;
export type ClusterProtocolSpec = z.output<typeof protocol>;
export type PolicySubjectSpec = z.output<typeof policySubject>;

export const clusterNetworkPolicyKind = defineKind({
  kind: 'ClusterNetworkPolicy',
  plural: 'clusternetworkpolicies',
  shortNames: ['cnp'],
  apiVersion: POLICY_V1ALPHA2,
  isNamespaced: false,
  isLeaf: true,
  schema: clusterNetworkPolicySchema,
  references: () => [],
  placed: withPolicySource,
  columns: { heads: ['TIER', 'PRIORITY'], cells: ({ spec: { tier, priority } }) => [tier, priority] },
  wideColumns: {
    heads: ['RULES', 'STAGED'],
    cells: ({ metadata, spec: { ingress = [], egress = [] } }) => [
      ingress.length + egress.length,
      readPolicyAnnotations(metadata.annotations).isStaged ? 'yes' : '',
    ],
  },
});
