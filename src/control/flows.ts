/**
 * The flows that were decided and are cached in the datapath, with the decision behind each: what
 * `weft flows` and `weft why` show, and what is decided again when something changes.
 *
 *   object ──► decisions that consulted it ──► flows that have the decision
 *
 * Many flows share a decision (`decisions.ts`), so a flow costs little more than its key here. Packets
 * of many connections even share a flow (`of-connections.ts`), to which the connections refer. The
 * datapath has the same flows with the same ids, and only this class puts and deletes them there. When
 * the cap is reached, the port with the most flows gives up those unused for longest as of the last
 * dump, so a flood of flows from one workload costs the others nothing.
 *
 * Owned by the thread of the switch.
 */
import { type Datapath, type FlowEntry } from '../datapath/datapath.ts';
import { fields } from '../flow/fields.ts';
import { applyMask, covers, megaflowId, readNumber, type FlowKey, type FlowMask } from '../flow/key.ts';
import type { FlowId } from '../flow/types.ts';
import type { Decision } from '../pipeline/decide.ts';
import type { ConnectionUse } from '../pipeline/stage.ts';
import { Decisions, sameActions } from './decisions.ts';
import { KeyStore } from './key-store.ts';
import { Masks, type MaskChange, type MaskStatistics, type MaskUse } from './masks.ts';
import { ofConnections } from './of-connections.ts';
import { MultiMap } from './multi-map.ts';

export interface CachedFlow {
  readonly id: FlowId;
  /** The key of the frame for which it was decided, with all fields. */
  readonly key: FlowKey;
  readonly decision: Decision;
  /** True if connections refer to it. Its key is then that of the packet for which it was first decided. */
  readonly isOfConnections: boolean;
  /** By the clock of the switch. */
  readonly decidedAtMs: number;
  /** False if it was withdrawn and is only known here, not in the datapath. */
  readonly isInForce: boolean;
  /** Frames that had hit it as of the last dump. */
  readonly packets: number;
}

/** A flow, and what the datapath has counted for it. */
export interface CountedFlow {
  readonly flow: CachedFlow;
  readonly statistics: FlowEntry;
}

class Entry implements CachedFlow {
  readonly id: FlowId;
  readonly megaflowId: string;
  readonly keys: KeyStore;
  readonly slot: number;
  readonly port: number;
  /** Undefined for a flow of connections, for which no mask is searched. */
  readonly maskUse: MaskUse | undefined;
  decision: Decision;
  decidedAtMs: number;
  /** As of the last dump. */
  lastUsedMs: number;
  packets = 0;
  isInForce = true;

  constructor(
    id: FlowId,
    megaflowId: string,
    { keys, masks }: { readonly keys: KeyStore; readonly masks: Masks | undefined },
    key: FlowKey,
    decision: Decision,
    nowMs: number,
  ) {
    this.id = id;
    this.megaflowId = megaflowId;
    this.keys = keys;
    this.slot = keys.add(key);
    this.port = readNumber(key, fields.in_port);
    this.maskUse = masks?.add(decision.mask, this.port);
    this.decision = decision;
    this.decidedAtMs = nowMs;
    this.lastUsedMs = nowMs;
  }

  get key(): FlowKey {
    return this.keys.read(this.slot);
  }

  get isOfConnections(): boolean {
    return this.maskUse === undefined;
  }
}

/** When a flow was last used. */
export type FlowUse = Pick<FlowEntry, 'id' | 'lastUsedMs'>;

/** For sorting: those unused for longest come first, whatever their original order. */
export function byUse(a: FlowUse, b: FlowUse): number {
  return a.lastUsedMs - b.lastUsedMs || a.id - b.id;
}

/** The part of the cap that is given up at once when the cap is reached. */
const EVICT_SHARE = 0.05;

export class Flows {
  readonly #datapath: Datapath;
  readonly #cap: number;
  readonly #entries = new Map<FlowId, Entry>();
  readonly #byMegaflow = new Map<string, Entry>();
  /** Flows of connections, by their decision and then by their megaflow. */
  readonly #ofConnections = new Map<Decision, Map<string, Entry>>();
  readonly #byDecision = new MultiMap<Decision, FlowId>();
  readonly #byObject = new MultiMap<string, Decision>();
  readonly #masks = new Masks();
  /** How many each port has. */
  readonly #ofPort = new Map<number, number>();
  readonly #keys = new KeyStore();
  readonly #decisions = new Decisions();
  #lastId = 0;
  #evicted = 0;

  constructor(datapath: Datapath, cap: number) {
    this.#datapath = datapath;
    this.#cap = cap;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** How many flows were removed because the cap was reached. */
  get evicted(): number {
    return this.#evicted;
  }

  get(id: FlowId): CachedFlow | undefined {
    return this.#entries.get(id);
  }

  /** The part of the cap that the flows of this port take. */
  shareOf(port: number): number {
    return (this.#ofPort.get(port) ?? 0) / this.#cap;
  }

  /** All cached flows. Those that are put or deleted in the meantime may or may not be among them. */
  all(): IterableIterator<CachedFlow> {
    return this.#entries.values();
  }

  get masks(): MaskStatistics {
    return this.#masks.statistics;
  }

  /** The key of a cached flow, copied into `to`. */
  readKey(id: FlowId, to: Uint8Array): FlowKey {
    return this.#keys.read(this.#entries.get(id)!.slot, to);
  }

  /**
   * Caches a decision. A flow with the same megaflow is replaced and keeps its statistics. Returns undefined if there
   * are too many masks; then each frame is decided separately.
   */
  put(key: FlowKey, decided: Decision, nowMs: number): CachedFlow | undefined {
    const decision = this.#decisions.intern(decided);
    const megaflow = megaflowId(key, decision.mask);
    const known = this.#byMegaflow.get(megaflow);
    if (known) return this.#change(known, key, decision, nowMs);

    const isDrop = decision.reason !== undefined;
    if (!this.#masks.admits(decision.mask, isDrop)) return undefined;
    if (this.#entries.size >= this.#cap) this.#makeRoom();
    const id = this.#nextId();
    if (!this.#datapath.flowPut({ id, key, mask: decision.mask, actions: decision.actions })) {
      // There is room for another flow, so the reason is that there is none for another mask.
      if (!isDrop) this.#masks.refuse(decision.mask, readNumber(key, fields.in_port), key.slice());
      return undefined;
    }
    const entry = new Entry(id, megaflow, { keys: this.#keys, masks: this.#masks }, key, decision, nowMs);
    this.#add(entry);
    this.#byMegaflow.set(megaflow, entry);
    this.#index(entry);
    return entry;
  }

  /**
   * Caches a decision about a packet of a connection, or finds it cached for other connections. Connections that store
   * the flow's id use it. Returns undefined if there are too many masks.
   */
  putOfConnection(key: FlowKey, decided: Decision, connection: ConnectionUse, nowMs: number): CachedFlow | undefined {
    const decision = this.#decisions.intern(ofConnections(decided, connection, key));
    const megaflow = megaflowId(key, decision.mask);
    const known = this.#ofConnections.get(decision)?.get(megaflow);
    if (known?.isInForce) return known;
    if (this.#entries.size >= this.#cap) this.#makeRoom();
    const id = this.#nextId();
    const { mask, actions } = decision;
    if (!this.#datapath.flowPut({ id, key, mask, actions, ofConnections: true })) return undefined;
    const entry = new Entry(id, megaflow, { keys: this.#keys, masks: undefined }, key, decision, nowMs);
    this.#add(entry);
    const alike = this.#ofConnections.get(decision) ?? new Map<string, Entry>();
    this.#ofConnections.set(decision, alike.set(megaflow, entry));
    this.#index(entry);
    return entry;
  }

  /** True if a flow is in force that has this mask and covers packets with this key. */
  has(key: FlowKey, mask: FlowMask): boolean {
    return this.#byMegaflow.get(megaflowId(key, mask))?.isInForce === true;
  }

  /** True if the flow covers packets with this key. */
  covers(flow: CachedFlow, key: FlowKey): boolean {
    const { mask } = flow.decision;
    return covers(applyMask(flow.key, mask), mask, key);
  }

  #change(entry: Entry, key: FlowKey, decision: Decision, nowMs: number): CachedFlow | undefined {
    const { id } = entry;
    entry.decidedAtMs = nowMs;
    const { mask, actions } = decision;
    if (!entry.isInForce || !sameActions(actions, entry.decision.actions)) {
      entry.isInForce = this.#datapath.flowPut({ id, key, mask, actions });
      if (!entry.isInForce) {
        this.delete(id);
        return undefined;
      }
    }
    if (decision === entry.decision) return entry;
    this.#unindex(entry);
    entry.decision = decision;
    this.#index(entry);
    return entry;
  }

  /** Removes a flow from the datapath until it is put again, because it must not decide anything any more. */
  withdraw(id: FlowId): void {
    this.#datapath.flowDel(id);
    this.#entries.get(id)!.isInForce = false;
  }

  delete(id: FlowId): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#datapath.flowDel(id);
    this.#unindex(entry);
    this.#entries.delete(id);
    this.#count(entry.port, -1);
    this.#keys.remove(entry.slot);
    if (!entry.maskUse) {
      const alike = this.#ofConnections.get(entry.decision)!;
      if (alike.get(entry.megaflowId) === entry) alike.delete(entry.megaflowId);
      if (alike.size === 0) this.#ofConnections.delete(entry.decision);
      return;
    }
    this.#masks.remove(entry.maskUse, entry.port);
    this.#byMegaflow.delete(entry.megaflowId);
  }

  /** The flows whose decisions consulted any of `objects`. */
  consulting(objects: Iterable<string>): FlowId[] {
    const decisions = new Set<Decision>();
    for (const object of objects) {
      for (const decision of this.#byObject.get(object)) decisions.add(decision);
    }
    const ids: FlowId[] = [];
    for (const decision of decisions) for (const id of this.#byDecision.get(decision)) ids.push(id);
    return ids;
  }

  /** A cached flow that is in force, with its statistics. */
  find(id: FlowId): CountedFlow | undefined {
    const flow = this.#entries.get(id);
    const statistics = flow && this.#datapath.flowGet(id);
    return statistics && { flow, statistics };
  }

  /**
   * All cached flows that are in force, with their statistics. The last of these dumps determines which flows have been
   * unused for longest, and how much each mask is used.
   */
  *dump(): Generator<CountedFlow> {
    for (const statistics of this.#datapath.flowDump()) {
      const flow = this.#entries.get(statistics.id);
      if (!flow) continue;
      flow.lastUsedMs = statistics.lastUsedMs;
      const { packets } = statistics;
      // There are fewer than before if the flow was withdrawn and put again.
      if (flow.maskUse) flow.maskUse.frames += packets < flow.packets ? packets : packets - flow.packets;
      flow.packets = packets;
      yield { flow, statistics };
    }
  }

  /**
   * Ends a window in which the use of masks is measured, after a dump.
   * @returns if a mask gives way: the flows that have it, which the caller must delete, and the mask that replaces it
   */
  endMaskWindow(): (MaskChange & { readonly flows: readonly FlowId[] }) | undefined {
    const change = this.#masks.endWindow();
    if (!change) return undefined;
    const flows: FlowId[] = [];
    for (const { id, maskUse } of this.#entries.values()) if (maskUse?.mask === change.leaving) flows.push(id);
    return { ...change, flows };
  }

  #add(entry: Entry): void {
    this.#entries.set(entry.id, entry);
    this.#count(entry.port, 1);
  }

  #count(port: number, by: 1 | -1): void {
    const count = (this.#ofPort.get(port) ?? 0) + by;
    if (count > 0) this.#ofPort.set(port, count);
    else this.#ofPort.delete(port);
  }

  #makeRoom(): void {
    const largest = this.#largestPort();
    const entries: Entry[] = [];
    for (const entry of this.#entries.values()) if (entry.port === largest) entries.push(entry);
    const count = Math.min(entries.length, Math.max(1, Math.ceil(this.#cap * EVICT_SHARE)));
    // Flows that go were last used at this time or earlier. Sorting numbers is much quicker than sorting flows.
    const until = Float64Array.from(entries, (entry) => entry.lastUsedMs).sort()[count - 1]!;
    const oldest = entries.filter((entry) => entry.lastUsedMs <= until).sort(byUse);
    for (const { id } of oldest.slice(0, count)) this.delete(id);
    this.#evicted += count;
  }

  /** The port with the most flows; if several have the same number, the one with the smallest port number. */
  #largestPort(): number {
    const [[port]] = [...this.#ofPort].sort(([a, m], [b, n]) => n - m || a - b) as [[number, number]];
    return port;
  }

  #index({ id, decision }: Entry): void {
    if (!this.#byDecision.add(decision, id)) return;
    for (const object of decision.consulted) this.#byObject.add(object, decision);
  }

  #unindex({ id, decision }: Entry): void {
    if (!this.#byDecision.delete(decision, id)) return;
    for (const object of decision.consulted) this.#byObject.delete(object, decision);
  }

  /** Ids have 32 bits, and repeat after four thousand million flows. */
  #nextId(): FlowId {
    do this.#lastId = this.#lastId === 0xffff_ffff ? 1 : this.#lastId + 1;
    while (this.#entries.has(this.#lastId as FlowId));
    return this.#lastId as FlowId;
  }
}
