/**
 * The flows that were decided and are cached in the datapath, with the decision
 * behind each: what `weft flows` and `weft why` show, and what is decided anew
 * when something changes.
 *
 * Each flow is indexed by the objects that its decision consulted. The datapath
 * holds the same flows by the same ids; only this class puts and deletes them
 * there. At the limit the port with the most flows gives up its longest unused
 * ones, so one workload's flood of flows costs the others nothing.
 *
 * Owned by the thread of the switch.
 */
import type { Datapath, FlowEntry } from '../datapath/datapath.ts';
import { fields } from '../flow/fields.ts';
import { applyMask, bytesId, readNumber, type FlowKey } from '../flow/key.ts';
import type { FlowId } from '../flow/types.ts';
import type { Translation } from '../pipeline/translate.ts';

export interface CachedFlow {
  readonly id: FlowId;
  /** Of the frame that it was decided for, every field. */
  readonly key: FlowKey;
  readonly decision: Translation;
  /** Of the switch's clock. */
  readonly decidedAtMs: number;
}

interface Entry extends CachedFlow {
  readonly megaflowId: string;
}

/** Part of the limit that is given up at once when it is reached. */
const EVICT_SHARE = 0.05;

export class Flows {
  readonly #datapath: Datapath;
  readonly #limit: number;
  readonly #entries = new Map<FlowId, Entry>();
  readonly #byMegaflow = new Map<string, FlowId>();
  readonly #byObject = new Map<string, Set<FlowId>>();
  #lastId = 0;
  #evicted = 0;

  constructor(datapath: Datapath, limit: number) {
    this.#datapath = datapath;
    this.#limit = limit;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Flows that went because the limit was reached. */
  get evicted(): number {
    return this.#evicted;
  }

  get(id: FlowId): CachedFlow | undefined {
    return this.#entries.get(id);
  }

  /**
   * Caches a decision; a flow with the same megaflow is replaced and keeps its
   * statistics. Undefined when the datapath refuses it (too many masks).
   */
  put(key: FlowKey, decision: Translation, nowMs: number): CachedFlow | undefined {
    const megaflow = applyMask(key, decision.mask);
    const megaflowId = bytesId(megaflow) + bytesId(decision.mask);
    const known = this.#byMegaflow.get(megaflowId);
    if (known === undefined && this.#entries.size >= this.#limit) this.#makeRoom();

    const id = known ?? (this.#nextId() as FlowId);
    if (!this.#datapath.flowPut({ id, key: megaflow, mask: decision.mask, actions: decision.actions })) {
      if (known !== undefined) this.delete(known);
      return undefined;
    }
    if (known !== undefined) this.#unindex(this.#entries.get(known)!);
    const entry: Entry = { id, key: key.slice(), decision, decidedAtMs: nowMs, megaflowId };
    this.#entries.set(id, entry);
    this.#byMegaflow.set(megaflowId, id);
    for (const object of decision.consulted) {
      const ids = this.#byObject.get(object);
      if (ids) ids.add(id);
      else this.#byObject.set(object, new Set([id]));
    }
    return entry;
  }

  delete(id: FlowId): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#datapath.flowDel(id);
    this.#unindex(entry);
    this.#entries.delete(id);
    this.#byMegaflow.delete(entry.megaflowId);
  }

  /** The flows whose decision consulted any of `objects`. */
  consulting(objects: Iterable<string>): Set<FlowId> {
    const ids = new Set<FlowId>();
    for (const object of objects) for (const id of this.#byObject.get(object) ?? []) ids.add(id);
    return ids;
  }

  /** Every cached flow with its statistics. */
  *dump(): IterableIterator<{ flow: CachedFlow; statistics: FlowEntry }> {
    for (const statistics of this.#datapath.flowDump()) {
      const flow = this.#entries.get(statistics.id);
      if (flow) yield { flow, statistics };
    }
  }

  #makeRoom(): void {
    const byPort = new Map<number, FlowEntry[]>();
    // A dump has no order; what goes must not depend on it.
    for (const { flow, statistics } of [...this.dump()].sort((a, b) => a.flow.id - b.flow.id)) {
      const port = readNumber(flow.key, fields.in_port);
      const flows = byPort.get(port);
      if (flows) flows.push(statistics);
      else byPort.set(port, [statistics]);
    }
    const largest = [...byPort.values()].reduce((a, b) => (b.length > a.length ? b : a));
    largest.sort((a, b) => a.lastUsedMs - b.lastUsedMs);
    const count = Math.min(largest.length, Math.max(1, Math.ceil(this.#limit * EVICT_SHARE)));
    for (const { id } of largest.slice(0, count)) this.delete(id);
    this.#evicted += count;
  }

  #unindex(entry: Entry): void {
    for (const object of entry.decision.consulted) {
      const ids = this.#byObject.get(object);
      ids?.delete(entry.id);
      if (ids?.size === 0) this.#byObject.delete(object);
    }
  }

  /** Ids are 32 bits and come round again after four thousand million flows. */
  #nextId(): number {
    do this.#lastId = this.#lastId === 0xffff_ffff ? 1 : this.#lastId + 1;
    while (this.#entries.has(this.#lastId as FlowId));
    return this.#lastId;
  }
}
