/**
 * decide: the one place that decides what happens to a flow.
 *
 *   ingress      where does it come from, and may it be sent from there?
 *   connection   which connection does it belong to?
 *   service      is it for a service? a backend for a new connection
 *   hooks        if it begins a conversation: does a hook of the operator's deny it?
 *   egress policy    the same for the policies of its source: do they allow it?
 *   route        is it for the gateway, or from outside? the next hop, or an answer
 *   bridge       which port or VTEP is its destination behind? answer ARP and ND
 *   addressee    where policies select its source, or who gets it: does its IP address mean the same workload as its MAC?
 *   ingress policy   the same for those that get it
 *   open         does it begin a connection? the rest of the way once that is open
 *   send         encapsulate what goes to other hosts, and send
 *
 * Each stage adds what it has found to what is known, or ends with a verdict. Those for hooks, policies and open say nothing about a
 * packet that does not concern them. Hooks and policies are not asked about a packet of an open connection, if it goes where that
 * goes, and nobody else can have sent it (`borrowed.ts`): when policies change, it is the connections that are judged anew.
 *
 * Deciding has no side effects. The result contains everything that follows from it: the actions, the
 * mask of the fields that it used, the objects that it consulted, and the effects that `control/`
 * applies. So traffic, `weft trace` and the revalidation of cached flows all run exactly this code. The
 * result is kept with the flow for `weft why`, and so contains nothing of the key.
 */
import type { Action } from '../flow/action.ts';
import { ctState, type FieldName } from '../flow/fields.ts';
import type { FlowKey, FlowMask } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import { FlowView } from '../flow/view.ts';
import { addressee } from './addressee.ts';
import { isReceivedByBorrowed, isSentFromBorrowed } from './borrowed.ts';
import { bridge } from './bridge.ts';
import { connection } from './connection.ts';
import { egressPolicy } from './egress-policy.ts';
import { hooks } from './hooks.ts';
import { ingress } from './ingress.ts';
import { ingressPolicy } from './ingress-policy.ts';
import { route } from './route.ts';
import { open } from './open.ts';
import type { Opening } from '../table/openings.ts';
import type { JudgedEnd } from '../table/policy/judgement.ts';
import { send } from './send.ts';
import { service } from './service.ts';
import type {
  Balanced,
  Bridged,
  ConnectionUse,
  Drop,
  Effect,
  NeighborName,
  RefusedService,
  Stage,
  StageResult,
  Tables,
  Verdict,
} from './stage.ts';
import { text, type Text } from './text.ts';

export interface StageRecord {
  readonly stage: string;
  /** The fields that this stage read. */
  readonly read: readonly FieldName[];
  readonly because: Text;
}

export interface Decision {
  readonly actions: readonly Action[];
  readonly mask: FlowMask;
  /** Names of the objects that the decision depends on, whether they are present or absent. */
  readonly consulted: readonly string[];
  readonly effects: readonly Effect[];
  readonly stages: readonly StageRecord[];
  readonly verdict: 'forward' | 'drop' | 'consume' | 'wait' | 'connect';
  readonly reason: DropReason | undefined;
  /** For a drop for want of a backend. */
  readonly refused?: RefusedService | undefined;
  /** What policies say, those of its sender first; nothing if they were not asked. */
  readonly judged: readonly JudgedEnd[];
  /** For the verdict `wait`, which has no actions: decide again when this is known. */
  readonly neighbor: NeighborName | undefined;
  /** For the verdict `connect`, which has no actions: decide again when this is open. */
  readonly opening: Opening | undefined;
  /**
   * Goes on, once, where the connection was missing. Nothing else may have changed; then the
   * result is that of deciding all of it again, but that the stages before say what they said.
   */
  readonly opened: (() => Decision) | undefined;
  /**
   * For the verdict `connect`, if the decision holds for all such packets: how the datapath opens the connections of those
   * that differ only in their source port (`control/balanced.ts`). It may be called once the connection is open.
   */
  readonly balance: (() => Action | undefined) | undefined;
  /** For a packet that is translated: the connection that it belongs to. */
  readonly connection: ConnectionUse | undefined;
  /** False if every frame needs an answer of its own. */
  readonly cacheable: boolean;
}

/**
 * @param head the beginning of the frame, if there is one; some decisions look at more than the key
 * @param packetBytes size of the largest packet that this frame goes out as, to tell its sender if it is too large
 */
export function decide(key: FlowKey, tables: Tables, head?: Uint8Array, packetBytes?: number): Decision {
  const view = new FlowView(key, head, packetBytes);
  const trail = new Trail(view);
  const entered = trail.pass('ingress', ingress, { tables });
  const connected = entered && trail.pass('connection', connection, entered);
  const balanced = connected && trail.pass('service', service, connected);
  const isNew = connected !== undefined && !connected.connection && !connected.isKnown;
  const isKnown = connected?.isKnown === true && view.number('ct_state') === ctState.known;
  const isSentAnew = balanced && (isNew || (isKnown && isSentFromBorrowed(view, balanced)));
  const sent = balanced && isSentAnew ? askOfSender(trail, balanced) : balanced;
  const routed = sent && trail.pass('route', route, sent);
  const bridged = routed && trail.pass('bridge', bridge, routed);
  const addressed = bridged && trail.ask('addressee', addressee, bridged);
  const begins = addressed?.begins;
  const { nat, hop } = addressed ?? {};
  // It has the ends of a translated connection, or is an error about one, but does not go where that goes.
  const isBeside = connected?.connection !== undefined && hop !== undefined && !nat;
  // A container that has the ends of another one's connection to weft's own sockets opens its own.
  const late = (isBeside || begins) && !isNew ? sent : undefined;
  const asked = late ? askOfSender(trail, late) : sent;
  if (late && !asked) return trail.decision();
  // Each frame of a flood, which may reach others than the one before.
  const isFlood = hop !== undefined && hop.destinations.length > 1;
  const isJudged = isNew || begins || isBeside || isFlood;
  const isReceivedAnew = addressed && (isJudged || (isKnown && isReceivedByBorrowed(view, addressed)));
  const received = addressed && isReceivedAnew ? trail.ask('ingress policy', ingressPolicy, addressed) : addressed;
  const treated = received && asked?.treatment ? { ...received, treatment: asked.treatment } : received;
  const translated = treated && begins ? trail.pass('open', open, { ...treated, begins }) : treated;
  if (translated) trail.pass('send', send, translated);
  return trail.decision();
}

/** What has a say on the host of its sender. */
function askOfSender(trail: Trail, balanced: Balanced): Balanced | undefined {
  const passed = trail.ask('hooks', hooks, balanced);
  return passed && trail.ask('egress policy', egressPolicy, passed);
}

/** The path of one flow through the stages, up to the verdict. */
class Trail {
  readonly #view: FlowView;
  #records: StageRecord[] = [];
  #judged: readonly JudgedEnd[] = notAsked;
  readonly #effects: Effect[] = [];
  #verdict: Verdict | undefined;
  /** True once the connection is open that it lacked. */
  #isOpened = false;

  constructor(view: FlowView) {
    this.#view = view;
  }

  /** Returns what is known after this stage; undefined if it ended with a verdict. */
  pass<Given, Found>(name: string, stage: Stage<Given, Found>, known: Given): Found | undefined {
    const result = stage(this.#view, known);
    this.#records.push({ stage: name, read: this.#view.takeRead(), because: result.because });
    if ('judged' in result && result.judged) this.#judged = [...this.#judged, result.judged];
    if (result.kind !== 'next') {
      this.#verdict = result;
      return undefined;
    }
    if (result.effects.length > 0) this.#effects.push(...result.effects);
    return result.known;
  }

  /** The same for a stage that may have nothing to say about the packet. */
  ask<Known>(
    name: string,
    stage: (view: FlowView, known: Known) => StageResult<Known> | undefined,
    known: Known,
  ): Known | undefined {
    const result = stage(this.#view, known);
    return result ? this.pass(name, () => result, undefined) : known;
  }

  /** The stage `open` has another result now, and the packet is sent. */
  #goOn(opened: () => StageResult<Bridged>): Decision {
    this.#isOpened = true;
    this.#records = this.#records
      .filter(({ stage }) => stage !== 'open')
      .map((record) => (record.stage === 'connection' ? { ...record, because: justOpened } : record));
    const translated = this.pass('open', opened, undefined);
    if (translated) this.pass('send', send, translated);
    return this.decision();
  }

  decision(): Decision {
    const verdict = this.#verdict!;
    const view = this.#view;
    const actions = actionsOf(verdict);
    const effects = this.#effectsOf(verdict);
    // What was so for this frame alone may be otherwise for the next one of its connection.
    const opened = verdict.kind === 'connect' && !view.isOfOneFrame ? verdict.opened : undefined;
    const isForAll = !view.isOfOneFrame && effects.every(({ kind }) => kind === 'learn');
    return {
      actions,
      mask: view.mask,
      consulted: this.#consulted(),
      effects: [...effects],
      stages: this.#records,
      verdict: verdict.kind === 'decide' ? (isConsumed(actions) ? 'consume' : 'forward') : verdict.kind,
      reason: verdict.kind === 'drop' ? verdict.reason : undefined,
      refused: verdict.kind === 'drop' ? verdict.refused : undefined,
      judged: this.#judged,
      neighbor: verdict.kind === 'wait' ? verdict.neighbor : undefined,
      opening: verdict.kind === 'connect' ? verdict.opening : undefined,
      opened: opened && (() => this.#goOn(opened)),
      balance: verdict.kind === 'connect' && isForAll ? verdict.balance : undefined,
      connection: verdict.kind === 'decide' ? verdict.connection : undefined,
      cacheable: (verdict.kind === 'decide' || verdict.kind === 'drop') && isForAll,
    };
  }

  #consulted(): readonly string[] {
    const { consulted, consultedUntilOpen } = this.#view;
    if (this.#isOpened || consultedUntilOpen.length === 0) return consulted;
    return [...new Set([...consulted, ...consultedUntilOpen])];
  }

  #effectsOf(verdict: Verdict): readonly Effect[] {
    // The claims of a refused frame are not believed, so its effects are left out.
    if (verdict.kind === 'drop') return [];
    return verdict.kind === 'decide' && verdict.effects?.length
      ? [...this.#effects, ...verdict.effects]
      : this.#effects;
  }
}

const notAsked: readonly JudgedEnd[] = [];
const justOpened = text`a new one`;

function actionsOf(verdict: Verdict): readonly Action[] {
  switch (verdict.kind) {
    case 'decide':
      return verdict.actions;
    case 'drop':
      return [dropping(verdict)];
    case 'wait':
    case 'connect':
      return [];
    default:
      return verdict satisfies never;
  }
}

function dropping({ reason, answer }: Drop): Action {
  return answer ? { op: 'refuse', reason, answer } : { op: 'drop', reason };
}

function isConsumed(actions: readonly Action[]): boolean {
  return actions.length === 1 && actions[0]!.op === 'consume';
}
