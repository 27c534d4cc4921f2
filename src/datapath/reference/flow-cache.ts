/**
 * The flow cache of the reference datapath. There is one exact-match table for each distinct mask
 * (tuple space search), they are searched in the order in which their masks were added, and the first
 * hit wins.
 *
 * Masks consist of whole fields, which keeps the tables few, and MASK_CAP bounds the search whatever
 * is decided. A mask is removed with its last flow. Flows of connections are found by the id that the
 * connection stores, and no mask is searched for them. Nothing expires by itself: the owner of the
 * cache looks at `lastUsedMs` and deletes.
 */
import type { Action } from '../../flow/action.ts';
import { KEY_BYTES } from '../../flow/fields.ts';
import { applyMask, bytesId, type FlowKey, type FlowMask } from '../../flow/key.ts';
import type { FlowId } from '../../flow/types.ts';
import type { FlowEntry, FlowPut, FlowRefusals } from '../datapath.ts';
import { MASK_CAP } from '../../flow/bounds.ts';

/** A flow in the cache. The datapath counts hits in it. */
export interface CacheEntry {
  id: FlowId;
  readonly key: FlowKey;
  readonly mask: FlowMask;
  actions: readonly Action[];
  readonly ofConnections: boolean;
  packets: number;
  bytes: number;
  lastUsedMs: number;
}

interface Table {
  readonly mask: FlowMask;
  /** By the bytes of the masked key. */
  readonly flows: Map<string, CacheEntry>;
}

/** The maximum number of distinct masks of flows of connections. */
const CONNECTION_MASK_CAP = 64;

export class FlowCache {
  readonly #cap: number;
  /** By the bytes of the mask, in search order. */
  readonly #tables = new Map<string, Table>();
  readonly #byId = new Map<FlowId, CacheEntry>();
  #refused: FlowRefusals = { flows: 0, masks: 0 };
  /** The number of flows of connections with each mask, by its bytes. */
  readonly #ofConnections = new Map<string, number>();
  /** Holds the masked key during a lookup. */
  readonly #masked = Buffer.alloc(KEY_BYTES);

  constructor(cap: number) {
    this.#cap = cap;
  }

  get flows(): number {
    return this.#byId.size;
  }

  /** Masks that are searched. */
  get masks(): number {
    return this.#tables.size;
  }

  get refused(): FlowRefusals {
    return this.#refused;
  }

  lookup(key: FlowKey): CacheEntry | undefined {
    for (const { mask, flows } of this.#tables.values()) {
      for (let i = 0; i < KEY_BYTES; i++) this.#masked[i] = key[i]! & mask[i]!;
      const flow = flows.get(this.#masked.toString('latin1'));
      if (flow) return flow;
    }
    return undefined;
  }

  byId(id: number): CacheEntry | undefined {
    return this.#byId.get(id as FlowId);
  }

  /** Returns false, and counts it, if a cap refuses the flow. A replacement is never refused. */
  put(flow: FlowPut, nowMs: number): boolean {
    const known = this.#byId.get(flow.id);
    if (known) {
      known.actions = flow.actions;
      return true;
    }
    const key = applyMask(flow.key, flow.mask);
    const maskId = bytesId(flow.mask);
    if (flow.ofConnections) return this.#putOfConnections(flow, key, maskId, nowMs);
    const keyId = bytesId(key);
    const table = this.#tables.get(maskId);
    const same = table?.flows.get(keyId);
    if (same) this.#byId.delete(same.id);
    else if (this.#byId.size >= this.#cap) return this.#refuse('flows');
    else if (!table && this.#tables.size >= MASK_CAP) return this.#refuse('masks');

    const mask = table?.mask ?? flow.mask.slice();
    const entry = newFlow(flow, key, mask, nowMs);
    if (table) table.flows.set(keyId, entry);
    else this.#tables.set(maskId, { mask, flows: new Map([[keyId, entry]]) });
    this.#byId.set(flow.id, entry);
    return true;
  }

  #putOfConnections(flow: FlowPut, key: FlowKey, maskId: string, nowMs: number): boolean {
    const sharing = this.#ofConnections.get(maskId) ?? 0;
    const hasMask = sharing > 0 || this.#ofConnections.size < CONNECTION_MASK_CAP;
    if (this.#byId.size >= this.#cap) return this.#refuse('flows');
    if (!hasMask) return this.#refuse('masks');
    this.#ofConnections.set(maskId, sharing + 1);
    this.#byId.set(flow.id, { ...newFlow(flow, key, flow.mask.slice(), nowMs), ofConnections: true });
    return true;
  }

  delete(id: FlowId): void {
    const flow = this.#byId.get(id);
    if (!flow) return;
    this.#byId.delete(id);
    const maskId = bytesId(flow.mask);
    if (flow.ofConnections) {
      const sharing = this.#ofConnections.get(maskId)! - 1;
      if (sharing > 0) this.#ofConnections.set(maskId, sharing);
      else this.#ofConnections.delete(maskId);
      return;
    }
    const table = this.#tables.get(maskId)!;
    table.flows.delete(bytesId(flow.key));
    if (table.flows.size === 0) this.#tables.delete(maskId);
  }

  #refuse(what: keyof FlowRefusals): false {
    this.#refused = { ...this.#refused, [what]: this.#refused[what] + 1 };
    return false;
  }

  /** A copy. */
  get(id: FlowId): FlowEntry | undefined {
    const flow = this.#byId.get(id);
    return flow && { ...flow };
  }

  /** Copies, in no particular order. */
  *dump(): Generator<FlowEntry> {
    for (const flow of this.#byId.values()) yield { ...flow };
  }
}

function newFlow({ id, actions }: FlowPut, key: FlowKey, mask: FlowMask, nowMs: number): CacheEntry {
  return { id, key, mask, actions, ofConnections: false, packets: 0, bytes: 0, lastUsedMs: nowMs };
}
