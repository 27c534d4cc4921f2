/**
 * Flow hooks: programs of the operator's own that have a say in who begins a conversation with whom.
 *
 *   flow ──► first hook ──► second hook … ──► nobody denies it
 *                └─► the first one that denies has the say
 *
 * A hook is a function of what it reads, and it reads whole groups of what there is to know of a flow. So what it has said is
 * remembered by what it had read, as a tree:
 *
 *   protocol? ─tcp─► labels of the source? ─{"app":"web"}─► allow
 *        └─udp─► deny
 *
 * Whoever decides a flow goes down the tree, and reads of the flow only what the hook would. Where the tree ends, the hook is asked,
 * which takes far longer. So flows that are decided again cost nothing of that.
 *
 * What allows it may set something for the connection that begins: a mark, which the hooks after it read, a DSCP, a rate
 * (flow/treatment.ts). For each of these, the first hook has the say.
 *
 * Each decision that hooks have a say in consults `hooksObject`, also if there are none.
 *
 * Owned by the thread of the switch.
 */
import { MOST_DSCP, MOST_MARK, treatmentOf, type MeterName, type Treatment } from '../flow/treatment.ts';
import type { Changes } from './changes.ts';

/** What a hook reads at once. Their places are their numbers in `hooks/inside.ts`. */
export const hookGroups = [
  /** JSON of the name of the protocol, and of 4 or 6. */
  'protocol',
  'source_address',
  'source_port',
  /** Of the workload: its name, its namespace, and of the source its network, or null for each. */
  'source_endpoint',
  /** Its labels, and those of its namespace. */
  'source_labels',
  'destination_address',
  'destination_port',
  'destination_endpoint',
  'destination_labels',
  'service',
  /** The backends of the service that may be chosen. */
  'backends',
  /** What a hook before has set; 0 if none has. */
  'mark',
] as const;

export type HookGroup = (typeof hookGroups)[number];

/** A flow, as hooks see it. Values are JSON. */
export interface HookQuestion {
  /** The value of a group, on which the decision depends from now on. */
  read(group: HookGroup): string;
  /** The values of all groups, on which nothing depends. */
  all(): string;
  /** Another backend is chosen, by a weight for each of those that may be. Whoever is asked next is asked about that one. */
  balance(weights: readonly number[]): void;
  /** That is what the hooks up to here have set. */
  treat(treatment: Treatment): void;
}

/** What a hook sets for a connection that it allows. */
export interface WantedTreatment {
  /** 0: none. */
  readonly mark: number;
  readonly dscp?: number;
  /** What all together may send for whom the hook says the same: 1000 bits, and packets, a second; 0 is no limit. */
  readonly rate?: { readonly by: string; readonly kbits: number; readonly packets: number };
}

/** The least and the most of each number. */
export const treatmentLimits = {
  mark: [1, MOST_MARK],
  dscp: [0, MOST_DSCP],
  bitsPerSecond: [1000, 1_000_000_000_000],
  packetsPerSecond: [1, 1_000_000_000],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;
export type TreatmentLimits = { readonly [name in keyof typeof treatmentLimits]: readonly [number, number] };

type Said =
  | { readonly kind: 'verdict'; readonly verdict: 'deny' | 'reject'; readonly reason: string }
  | {
      readonly kind: 'verdict';
      readonly verdict: 'allow';
      readonly reason: string;
      readonly treatment?: WantedTreatment | undefined;
    }
  /** It allows it, to one of the backends. */
  | {
      readonly kind: 'verdict';
      readonly verdict: 'balance';
      readonly weights: readonly number[];
      readonly treatment?: WantedTreatment | undefined;
    }
  /** It has thrown. */
  | { readonly kind: 'failed'; readonly why: string };

export type HookAnswer =
  | (Said & { readonly read: readonly HookGroup[] })
  /** It is not asked, or does not answer. That says nothing about the flow. */
  | { readonly kind: 'unavailable'; readonly why: string };

export interface FlowHook {
  readonly name: string;
  /** What becomes of a flow about which it has no answer. */
  readonly onError: 'deny' | 'allow';
  /** @param question `HookQuestion.all` */
  ask(question: string): HookAnswer;
}

/** What hooks say of a flow. */
export type HookJudgement =
  | {
      readonly kind: 'allow';
      readonly by: readonly string[];
      readonly failed: readonly HookFailure[];
      /** The first that has chosen among the backends of a service. */
      readonly balancedBy: string | undefined;
      /** What they set for the connection. */
      readonly treatment: Treatment | undefined;
    }
  | { readonly kind: 'deny' | 'reject'; readonly hook: string; readonly reason: string }
  | ({ readonly kind: 'failed' } & HookFailure);

export interface HookFailure {
  readonly hook: string;
  readonly why: string;
}

/** All hooks that are in force, also if there are none. */
export const hooksObject = 'hooks';
/** Whether there are any. */
export const anyHooksObject = 'hooks/any';

/** A hook chooses among so many backends of a service. */
export const MOST_BACKENDS = 64;

/** How much is remembered of what one hook has said, in characters, and what an answer counts beside its text. Beyond that, it is forgotten. */
const MOST_REMEMBERED = 4 * 1024 * 1024;
const ANSWER_CHARACTERS = 512;

export class Hooks {
  readonly #changes: Changes;
  #hooks: readonly Remembering[] = [];
  #names: readonly string[] = [];

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  get isEmpty(): boolean {
    return this.#hooks.length === 0;
  }

  /** Puts these into force, all at once, in the place of those that there were. What is not new keeps what is remembered. */
  set(hooks: readonly FlowHook[]): void {
    const isSame = hooks.length === this.#hooks.length && hooks.every((hook, at) => hook === this.#hooks[at]!.hook);
    if (isSame) return;
    const wasEmpty = this.isEmpty;
    const known = new Map(this.#hooks.map((one) => [one.hook, one]));
    this.#hooks = hooks.map((hook) => known.get(hook) ?? new Remembering(hook));
    this.#names = hooks.map(({ name }) => name);
    this.#changes.changed(hooksObject);
    if (wasEmpty !== this.isEmpty) this.#changes.changed(anyHooksObject);
  }

  /** What was not available may have answers now. */
  available(): void {
    this.#changes.changed(hooksObject);
  }

  /** There are some: asks them in turn. */
  judge(question: HookQuestion): HookJudgement {
    const failed: HookFailure[] = [];
    let balancedBy: string | undefined;
    let treatment: Treatment | undefined;
    for (const one of this.#hooks) {
      const { name, onError } = one.hook;
      const said = one.judge(question);
      if (said.kind === 'verdict') {
        if (said.verdict !== 'allow' && said.verdict !== 'balance')
          return { kind: said.verdict, hook: name, reason: said.reason };
        if (said.verdict === 'balance') {
          if (balancedBy === undefined) question.balance(said.weights);
          balancedBy ??= name;
        }
        if (said.treatment) {
          treatment = withMore(treatment, name, said.treatment);
          if (treatment) question.treat(treatment);
        }
      } else if (onError === 'deny') return { kind: 'failed', hook: name, why: said.why };
      else failed.push({ hook: name, why: said.why });
    }
    return { kind: 'allow', by: this.#names, failed, balancedBy, treatment };
  }
}

/** What is set, and what this hook sets of the rest. @returns undefined if nothing is set */
function withMore(
  set: Treatment | undefined,
  hook: string,
  { mark, dscp, rate }: WantedTreatment,
): Treatment | undefined {
  return treatmentOf(set?.mark || mark, set?.dscp ?? dscp, set?.meter ?? (rate && meterOf(hook, rate)));
}

/**
 * The meter of all for whom this hook says the same. It has the same name after a restart, when connections still have it in their
 * records. Two limits of one rate would have one meter in one of 2³² cases.
 */
function meterOf(hook: string, { by, kbits, packets }: NonNullable<WantedTreatment['rate']>): MeterName {
  // FNV-1a, mixed so that each bit of it counts (murmur3).
  let id = 0x811c9dc5;
  for (const character of `${hook}\0${by}`) id = Math.imul(id ^ character.codePointAt(0)!, 0x01000193);
  id = Math.imul(id ^ (id >>> 16), 0x85ebca6b);
  id = Math.imul(id ^ (id >>> 13), 0xc2b2ae35);
  return { id: (id ^ (id >>> 16)) >>> 0 || 1, kbits, packets };
}

/** A question that a hook asks first, or next, and what follows from each value. */
interface Branch {
  readonly group: HookGroup;
  readonly next: Map<string, Branch | Said>;
}

/** A hook, and what it has said. */
class Remembering {
  readonly hook: FlowHook;
  #root: Branch | Said | undefined;
  #size = 0;

  constructor(hook: FlowHook) {
    this.hook = hook;
  }

  judge(question: HookQuestion): HookAnswer | Said {
    let at = this.#root;
    while (at && 'group' in at) at = at.next.get(question.read(at.group));
    if (at) return at;
    const answer = this.hook.ask(question.all());
    if (answer.kind === 'unavailable') return answer;
    const path = answer.read.map((group) => ({ group, value: question.read(group) }));
    this.#remember(path, answer);
    return answer;
  }

  #remember(
    path: readonly { readonly group: HookGroup; readonly value: string }[],
    { read: _, ...said }: Answered,
  ): void {
    if (this.#size >= MOST_REMEMBERED) this.#forget();
    let put = (value: Branch | Said): void => void (this.#root = value);
    let at = this.#root;
    for (const { group, value } of path) {
      // It has read something else than the last time, as only one does that keeps something: nothing else holds then.
      if (at && !('group' in at && at.group === group)) return this.#forget();
      const branch = at ?? { group, next: new Map() };
      if (!at) put(branch);
      put = (next) => void branch.next.set(value, next);
      at = branch.next.get(value);
    }
    if (at) return this.#forget();
    put(said);
    this.#size += path.reduce((sum, { value }) => sum + value.length, ANSWER_CHARACTERS);
  }

  #forget(): void {
    this.#root = undefined;
    this.#size = 0;
  }
}

type Answered = Exclude<HookAnswer, { readonly kind: 'unavailable' }>;
