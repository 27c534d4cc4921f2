/**
 * The controller joins pipeline and datapath: it answers upcalls, applies the
 * effects of decisions, and keeps the flow cache true.
 *
 * An upcall is answered in this order:
 *   1. translate
 *   2. apply what was learned; if that changed a table, flows that consulted
 *      the entry are decided anew, and this one once more
 *   3. put the flow
 *   4. execute, which releases the parked frames behind it
 *   5. send the reply, where the decision is one
 *
 * A cached flow is decided anew when an object that it consulted changes
 * (`changed`). It stays if the decision uses the same fields, with its actions
 * replaced if they differ; otherwise it goes, and its next frame is a miss.
 * Beyond REDECIDE_LIMIT flows at once they are deleted instead: never stale.
 *
 * Owned by the thread of the switch; time comes from the clock passed in.
 */
import type { Datapath, Upcall } from '../datapath/datapath.ts';
import type { Action } from '../flow/action.ts';
import { emptyKey, type FlowKey } from '../flow/key.ts';
import type { FlowId, PortNo } from '../flow/types.ts';
import type { Effect, Tables } from '../pipeline/stage.ts';
import { translate, type Translation } from '../pipeline/translate.ts';
import { DropLog } from './drop-log.ts';
import { Flows, type CachedFlow } from './flows.ts';

export interface ControllerOptions {
  readonly tables: Tables;
  readonly flowLimit: number;
  /** Milliseconds without a frame after which a flow goes. */
  readonly flowIdleMs: number;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** A decision threw: a defect in weft; the frames were dropped as `upcall_lost`. */
  readonly onError: (error: unknown, upcall: Upcall) => void;
}

/** Flows that one change decides anew; beyond it they are deleted. */
export const REDECIDE_LIMIT = 2000;

export class Controller {
  readonly flows: Flows;
  readonly drops = new DropLog();
  readonly #options: ControllerOptions;
  readonly #datapath: Datapath;
  readonly #listeners = new Set<(flow: CachedFlow) => void>();
  /** Of the flow that is decided anew. */
  readonly #key = emptyKey();

  constructor(datapath: Datapath, options: ControllerOptions) {
    this.#datapath = datapath;
    this.#options = options;
    this.flows = new Flows(datapath, options.flowLimit);
  }

  /** Calls `listener` with every flow that is put. Returns how to stop. */
  onFlow(listener: (flow: CachedFlow) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Answers a batch of misses. */
  handle(batch: readonly Upcall[]): void {
    for (const upcall of batch) {
      try {
        this.#decide(upcall);
      } catch (error) {
        this.#datapath.execute(upcall.token, [{ op: 'drop', reason: 'upcall_lost' }]);
        this.#options.onError(error, upcall);
      }
    }
  }

  /** Decides without any effect. */
  translate(key: FlowKey): Translation {
    return translate(key, this.#options.tables);
  }

  /** Table entries have changed: decides the flows that consulted them anew. */
  changed(objects: readonly string[]): void {
    if (objects.length === 0) return;
    const ids = this.flows.consulting(objects);
    const now = this.#options.clock();
    let left = REDECIDE_LIMIT;
    for (const id of ids) {
      if (left-- > 0) this.#redecide(id, now);
      else this.flows.delete(id);
    }
  }

  /** To be called about once a second: drops idle flows, keeps learned entries of live ones, ages the rest. */
  tick(): void {
    const { tables, clock, flowIdleMs } = this.#options;
    const now = clock();
    const learning: { readonly flow: CachedFlow; readonly lastUsedMs: number }[] = [];
    for (const { flow, statistics } of [...this.flows.dump()]) {
      const { lastUsedMs } = statistics;
      if (now - lastUsedMs >= flowIdleMs) this.flows.delete(flow.id);
      else if (flow.decision.effects.length > 0) learning.push({ flow, lastUsedMs });
    }
    // A dump has no order, and the forwarding database keeps what was seen last the longest.
    learning.sort((a, b) => a.lastUsedMs - b.lastUsedMs || a.flow.id - b.flow.id);
    for (const { flow, lastUsedMs } of learning) this.#learn(flow.decision.effects, lastUsedMs);
    this.changed(tables.fdb.expire(now));
  }

  #decide(upcall: Upcall): void {
    const { clock } = this.#options;
    const now = clock();
    let decision = this.translate(upcall.key);
    if (this.#learn(decision.effects, now)) decision = this.translate(upcall.key);

    if (decision.cacheable) {
      const flow = this.flows.put(upcall.key, decision, now);
      if (flow) for (const listener of this.#listeners) listener(flow);
    }
    if (decision.reason) this.drops.add(upcall.key, decision, now);
    this.#datapath.execute(upcall.token, decision.actions);
    for (const effect of decision.effects) {
      if (effect.kind === 'reply') this.#send(effect.frame, effect.port);
    }
  }

  /** Applies what was learned. True if a table changed. */
  #learn(effects: readonly Effect[], seenAtMs: number): boolean {
    let news = false;
    for (const effect of effects) {
      if (effect.kind !== 'learn') continue;
      const changed = this.#options.tables.fdb.learn(effect.vni, effect.mac, effect.where, seenAtMs);
      if (changed.length > 0) {
        news = true;
        this.changed(changed);
      }
    }
    return news;
  }

  #redecide(id: FlowId, nowMs: number): void {
    const flow = this.flows.get(id);
    if (!flow) return;
    const then = flow.decision;
    const key = this.flows.readKey(id, this.#key);
    const decision = this.translate(key);
    const { fdb } = this.#options.tables;
    const hasNews = decision.effects.some(
      (effect) => effect.kind === 'reply' || !fdb.isKnownAt(effect.vni, effect.mac, effect.where),
    );
    if (hasNews || decision.mask !== then.mask) {
      this.flows.delete(id);
      return;
    }
    this.flows.put(key, decision, nowMs);
    if (decision.reason && decision.reason !== then.reason) this.drops.add(key, decision, nowMs);
  }

  #send(frame: Uint8Array, port: PortNo): void {
    const actions: readonly Action[] = [{ op: 'output', port }];
    this.#datapath.execute({ frame }, actions);
  }
}
