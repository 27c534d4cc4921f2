/**
 * What policies say about a packet that begins a conversation, and why. It is plain data that is kept with the decision, and
 * small whatever the policies are. Judgements that are equal are one object for as long as the policies stay.
 */
import type { PolicyDirection, PolicyName, PolicyPeer, PolicyTier, PortMatch } from './policy.ts';

/** A rule of a policy: `spec.DIRECTION[INDEX]`. */
export interface RuleName {
  readonly tier: PolicyTier;
  readonly policy: PolicyName;
  readonly direction: PolicyDirection;
  /** From 0 on. */
  readonly index: number;
  /** Where it was written, if that is known: `FILE:LINE`. */
  readonly source?: string | undefined;
}

/** A rule that accepts something like it, and in what the packet differs from that. */
export interface NearestRule extends RuleName {
  /** It accepts this peer at other ports, or others as peers. */
  readonly differsIn: 'port' | 'peer';
  /** The first of what it accepts instead; undefined: all. */
  readonly ports: readonly PortMatch[] | undefined;
  readonly peers: readonly PolicyPeer[] | undefined;
}

export type Because =
  /** That rule says so. */
  | ({ readonly kind: 'rule'; readonly action: 'accept' | 'deny' } & RuleName)
  /** NetworkPolicies select the workload, and none of their rules accepts it. */
  | {
      readonly kind: 'isolated';
      readonly direction: PolicyDirection;
      /** The first of these policies. */
      readonly policies: readonly PolicyName[];
      /** How many more there are. */
      readonly more: number;
    }
  /** Policies select the workload, but nothing that they say is about such a packet: it is allowed. */
  | { readonly kind: 'no_rule'; readonly direction: PolicyDirection };

/** What some policies say, with why. */
export interface Outcome {
  readonly verdict: 'allow' | 'deny';
  readonly because: Because;
}

/** What the policies of one workload say about a packet that begins a conversation: whose they are, and who is at the other end. */
export interface JudgedEnd {
  readonly direction: PolicyDirection;
  /** The name (`idOf`) of the workload that has the policies. Of several, the first one that may not receive it. */
  readonly subject: string;
  /** The address of the other end (16 bytes), and the name of its workload if rules ask for that. */
  readonly address: Uint8Array;
  readonly endpoint: string | undefined;
  /** Where the packet goes instead of its own destination, if it is translated. */
  readonly target: { readonly address: Uint8Array; readonly l4Port: number } | undefined;
  readonly judgement: PolicyJudgement;
}

export interface PolicyJudgement extends Outcome {
  /** True if the sender is to be told that it is denied. */
  readonly rejects: boolean;
  /** For what is denied: the rule that is the nearest to allowing it, if there is one. */
  readonly nearest?: NearestRule;
  /** What would be said if staged policies were in force; undefined if that has the same verdict. */
  readonly staged?: Outcome;
}
