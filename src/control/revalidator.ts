/**
 * Revalidation: cached flows are decided again when an object that they consulted has changed, and only then. A flow stays
 * if the new decision uses the same fields, with its actions replaced if they differ. Otherwise it goes, and its next frame
 * is a miss.
 *
 * No turn of the event loop takes long, however many flows there are. Yet a change that may take something away is in force
 * when `revalidate` returns: flows beyond REDECIDE_LIMIT are withdrawn from the datapath at once, so they are never stale, and
 * put back as they are decided, some in each turn. A change that only adds something leaves cached flows harmless, so they
 * stay in place in the meantime.
 *
 * A flood has as many outputs as its network has ports, and takes as long to decide. So of many floods that a
 * change concerns, only the most used are decided again. The others are removed, and each that is still
 * needed is decided with its next frame. Therefore a port that joins a large network costs the same however
 * many floods are cached there.
 *
 * Owned by the thread of the switch.
 */
import { emptyKey, type FlowKey } from '../flow/key.ts';
import type { FlowId } from '../flow/types.ts';
import { isCurrent } from '../pipeline/ct-state.ts';
import { decide, type Decision } from '../pipeline/decide.ts';
import type { Effect, Tables } from '../pipeline/stage.ts';
import type { Fdb } from '../table/fdb.ts';
import { balancedDecision } from './balanced.ts';
import type { CachedFlow, Flows } from './flows.ts';
import { inTurns, type Later } from './turns.ts';

export interface RevalidatorOptions {
  readonly tables: Tables;
  readonly flows: Flows;
  /** Is told of flows that another decision has now. */
  readonly redecided: (key: FlowKey, decision: Decision, then: Decision, nowMs: number) => void;
  readonly clock: () => number;
  readonly later: Later | undefined;
  /** Puts a flow that is of no connection in both directions; undefined if there is no room for it. */
  readonly put: (key: FlowKey, decision: Decision, nowMs: number) => CachedFlow | undefined;
}

/** How many flows one change decides again at once. If there are more, the rest is withdrawn first. */
export const REDECIDE_LIMIT = 2000;
/** How many flows are decided again in one turn: takes some milliseconds. */
export const TURN_REDECIDED = 500;
/** A flow with more actions than this is a flood that takes much longer to decide than other flows. */
const FLOOD_ACTIONS = 32;
/** How many actions the floods may have together that one change decides again: takes some milliseconds. */
export const REDECIDE_FLOOD_ACTIONS = 16_384;
/** How many floods one change decides again although no frame has hit them. */
const MOST_UNUSED_FLOODS = 16;

export class Revalidator {
  readonly #options: RevalidatorOptions;
  /** The key of the flow that is being decided again. */
  readonly #key = emptyKey();
  /** How many changes are still reaching cached flows, and who waits for them. */
  #unsettled = 0;
  readonly #onSettled = new Set<() => void>();
  #redecided = 0;
  #withdrawn = 0;

  constructor(options: RevalidatorOptions) {
    this.#options = options;
  }

  /** How many flows were decided again, and how many were withdrawn from the datapath for that. */
  statistics(): { readonly redecided: number; readonly withdrawn: number } {
    return { redecided: this.#redecided, withdrawn: this.#withdrawn };
  }

  /**
   * Decides flows again that have consulted any of these objects. When this returns, none that consulted a changed object is
   * stale. Added objects reach cached flows in this turn and the next ones.
   */
  revalidate(changed: readonly string[], added: readonly string[]): void {
    const { flows, clock } = this.#options;
    const ids = this.#shed(flows.consulting(changed));
    const rest = ids.splice(REDECIDE_LIMIT);
    for (const id of rest) flows.withdraw(id);
    this.#withdrawn += rest.length;
    const now = clock();
    for (const id of ids) this.#redecide(id, now);
    if (rest.length > 0) this.#redecideInTurns(rest);
    if (added.length > 0) this.#redecideInTurns(this.#shed(flows.consulting(added)));
  }

  /** True if what has changed has reached all cached flows. */
  get isSettled(): boolean {
    return this.#unsettled === 0;
  }

  /** Resolves when also what was added has reached all cached flows. */
  async settled(): Promise<void> {
    while (this.#unsettled > 0) await new Promise<void>((resolve) => this.#onSettled.add(resolve));
  }

  /**
   * If there are many floods, removes those that are not worth deciding again now: the ones that no frame had hit, as each
   * container that starts leaves some behind, and the least used ones. @returns the other flows
   */
  #shed(ids: FlowId[]): FlowId[] {
    let actions = 0;
    const floods: CachedFlow[] = [];
    for (const id of ids) {
      const flow = this.#options.flows.get(id)!;
      if (!isFlood(flow.decision)) continue;
      floods.push(flow);
      actions += flow.decision.actions.length;
    }
    const isMany = floods.filter(({ packets }) => packets === 0).length > MOST_UNUSED_FLOODS;
    if (actions <= REDECIDE_FLOOD_ACTIONS && !isMany) return ids;
    const shed = new Set<FlowId>();
    for (const flow of floods.sort((a, b) => a.packets - b.packets)) {
      if (actions <= REDECIDE_FLOOD_ACTIONS && flow.packets > 0) break;
      actions -= flow.decision.actions.length;
      shed.add(flow.id);
      this.#drop(flow);
    }
    return ids.filter((id) => !shed.has(id));
  }

  #redecideInTurns(ids: readonly FlowId[]): void {
    let at = 0;
    this.#unsettled++;
    inTurns(this.#options.later, () => {
      const now = this.#options.clock();
      const end = Math.min(at + TURN_REDECIDED, ids.length);
      while (at < end) this.#redecide(ids[at++]!, now);
      if (at < ids.length) return true;
      this.#unsettled--;
      for (const resolve of this.#onSettled) resolve();
      this.#onSettled.clear();
      return false;
    });
  }

  #redecide(id: FlowId, nowMs: number): void {
    const { tables, flows, redecided, put } = this.#options;
    const flow = flows.get(id);
    if (!flow) return;
    this.#redecided++;
    const then = flow.decision;
    const [first] = then.actions;
    // Flows of connections do not know their tuples, so each connection is decided again with its next packet.
    if (flow.isOfConnections) return this.#drop(flow);
    // If its connection has ended, the next frame opens another one or is refused.
    if (first?.op === 'nat' && !tables.connections.isOpen(first)) return this.#drop(flow);
    const key = flows.readKey(id, this.#key);
    if (!isCurrent(key, tables)) return this.#drop(flow);
    const decision = decideAgain(key, tables);
    if (!decision) return this.#drop(flow);
    const isAlike = decision.cacheable && decision.mask === then.mask && !hasNews(decision.effects, tables.fdb);
    if (!isAlike || !put(key, decision, nowMs)) return this.#drop(flow);
    redecided(key, decision, then, nowMs);
  }

  /** Removes the flow, so that its next frame is a miss. */
  #drop({ id, isInForce }: CachedFlow): void {
    if (isInForce) this.#withdrawn++;
    this.#options.flows.delete(id);
  }
}

/** Undefined if a defect prevents it: that is told, and the frame dropped, when the next one is a miss. */
export function decideAgain(key: FlowKey, tables: Tables): Decision | undefined {
  try {
    const decided = decide(key, tables);
    return balancedDecision(decided) ?? decided;
  } catch {
    return undefined;
  }
}

/** True if it takes much longer to decide than others. */
export function isFlood({ actions }: Decision): boolean {
  return actions.length > FLOOD_ACTIONS;
}

/** True if there is an effect that has not been applied. */
export function hasNews(effects: readonly Effect[], fdb: Fdb): boolean {
  return effects.some((effect) => effect.kind !== 'learn' || !fdb.isKnownAt(effect.vni, effect.mac, effect.where));
}
