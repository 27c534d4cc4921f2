/**
 * Who talks to whom, as flows, drops and the policy log report it, with the filters that they have in common; and what policies say
 * about it.
 */
import * as z from 'zod';

const direction = z.enum(['ingress', 'egress']);
const tier = z.enum(['admin', 'network', 'baseline']);

const policyNameReport = z.object({
  kind: z.enum(['NetworkPolicy', 'ClusterNetworkPolicy']),
  /** NAMESPACE/NAME of a NetworkPolicy, NAME of a ClusterNetworkPolicy. */
  name: z.string(),
  /** Where it was written, FILE:LINE, if that is known. */
  source: z.string().optional(),
});

const ruleNameReport = z.object({
  tier,
  policy: policyNameReport,
  /** Such as `spec.ingress[0]`. */
  rule: z.string(),
  /** Where the rule was written, FILE:LINE, if that is known. */
  source: z.string().optional(),
});

/** What decides: a rule, the policies that isolate, or that no rule is about it. */
const becauseReport = z.discriminatedUnion('kind', [
  ruleNameReport.extend({ kind: z.literal('rule'), action: z.enum(['accept', 'deny']) }),
  z.object({ kind: z.literal('isolated'), policies: z.array(policyNameReport), more: z.number() }),
  z.object({ kind: z.literal('no_rule') }),
]);

const verdict = z.enum(['allow', 'deny']);

/** What the policies of one workload say about a packet that begins a conversation. */
export const judgementReport = z.object({
  direction,
  verdict,
  /** All of it in words. */
  text: z.string(),
  because: becauseReport,
  /** For what is denied: the rule that comes nearest to allowing it, and in what the packet differs; null if there is none. */
  nearest: ruleNameReport
    .extend({ differsIn: z.enum(['port', 'peer']), ports: z.array(z.string()).optional() })
    .nullable()
    .optional(),
  /** True if whoever sent it is told that it is denied. */
  rejects: z.boolean(),
  /** What would be said if staged policies were in force; missing if that has the same verdict. */
  staged: z.object({ verdict, because: becauseReport }).optional(),
});

/** The ends of a packet or connection, in the direction in which it was opened. Ends are ADDRESS, or ADDRESS:PORT. */
export const talkReport = z.object({
  protocol: z.string(),
  network: z.string().nullable(),
  source: z.string(),
  destination: z.string(),
  /** NAMESPACE/NAME of the endpoints at both ends; null if it is none. */
  from: z.string().nullable(),
  to: z.string().nullable(),
});

/** An event of `weft policy log`. */
export const policyEventReport = talkReport.extend({
  at: z.string(),
  /**
   * `denied`: a packet. `cut`: connections that were open. `staged`: a packet or connections that are allowed, and would be
   * denied if staged policies were in force.
   */
  event: z.enum(['denied', 'cut', 'staged']),
  reason: z.enum(['policy_egress', 'policy_ingress']),
  judgement: judgementReport,
  /** How many connections were cut, or would be. */
  connections: z.number().optional(),
  /** `d7`, of a packet whose decision was kept: `weft why d7`. */
  id: z.string().optional(),
  /** How many events of the same port were left out before this one, because there were too many. */
  leftOut: z.number().optional(),
});

/** All of what is given has to be so. Ends are given as NAME or NAMESPACE/NAME of an endpoint, as an address, or as a prefix. */
export interface TalkFilter {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** Either end. */
  readonly endpoint?: string | undefined;
  readonly network?: string | undefined;
  readonly reason?: string | undefined;
  /** Not longer ago than this: `30s`, `5m`. */
  readonly since?: string | undefined;
}

export type JudgementReport = z.infer<typeof judgementReport>;
export type TalkReport = z.infer<typeof talkReport>;
export type PolicyEventReport = z.infer<typeof policyEventReport>;
