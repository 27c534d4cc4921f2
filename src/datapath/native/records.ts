/**
 * Records as the addon packs them: the structs `UpcallRecord` (native/pending.h), `MirrorRecord`
 * (native/mirror.h) and `FlowRecord`, and the numbers of `Counters` (native/addon.cc), in the byte
 * order of the machine. Nobody else uses the arrays that the addon hands over, so records of upcalls
 * and flows are views of them.
 */
import { endianness } from 'node:os';
import { ACTION_BYTES, decodeActions, type Action } from '../../flow/action.ts';
import { KEY_BYTES } from '../../flow/fields.ts';
import type { FlowKey, FlowMask } from '../../flow/key.ts';
import { dropReasons, type DropReason } from '../../flow/reason.ts';
import type { FlowId, PortNo } from '../../flow/types.ts';
import {
  type DatapathCounters,
  type FlowEntry,
  type MirroredFrame,
  type PortCounters,
  type Upcall,
  type UpcallToken,
} from '../datapath.ts';
import { HEAD_BYTES } from '../../flow/bounds.ts';

const LITTLE = endianness() === 'LE';

const UPCALL = {
  token: 0,
  length: 8,
  headLength: 12,
  packetBytes: 14,
  key: 16,
  head: 16 + KEY_BYTES,
  size: 16 + KEY_BYTES + HEAD_BYTES,
};
const MIRROR = { port: 0, direction: 2, length: 4, copied: 8, timeMs: 16, size: 24 };
const FLOW = {
  id: 0,
  actions: 4,
  packets: 8,
  bytes: 16,
  lastUsedMs: 24,
  key: 32,
  mask: 32 + KEY_BYTES,
  size: 32 + 2 * KEY_BYTES,
};

/** The upcalls are views of `bytes`, which belong to them from now on. */
export function readUpcalls(bytes: Uint8Array): Upcall[] {
  const view = viewOf(bytes);
  const upcalls: Upcall[] = [];
  for (let at = 0; at < bytes.length; at += UPCALL.size) upcalls.push(new UpcallView(bytes, view, at));
  return upcalls;
}

/** Reads the rest of an upcall when it is asked for: a decision needs only token and key. */
class UpcallView implements Upcall {
  readonly token: UpcallToken;
  readonly key: FlowKey;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #at: number;

  constructor(bytes: Uint8Array, view: DataView, at: number) {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = at;
    this.token = view.getFloat64(at + UPCALL.token, LITTLE);
    this.key = bytes.subarray(at + UPCALL.key, at + UPCALL.head);
  }

  get head(): Uint8Array {
    const from = this.#at + UPCALL.head;
    return this.#bytes.subarray(from, from + this.#view.getUint16(this.#at + UPCALL.headLength, LITTLE));
  }

  get packetBytes(): number {
    return this.#view.getUint16(this.#at + UPCALL.packetBytes, LITTLE);
  }

  get lengthBytes(): number {
    return this.#view.getUint32(this.#at + UPCALL.length, LITTLE);
  }
}

/** The frames are views of `bytes`, which belong to them from now on. */
export function readMirrored(bytes: Uint8Array): MirroredFrame[] {
  const view = viewOf(bytes);
  const frames: MirroredFrame[] = [];
  for (let at = 0; at < bytes.length; ) {
    frames.push(new MirroredView(bytes, view, at));
    at += MIRROR.size + Math.ceil(view.getUint32(at + MIRROR.copied, LITTLE) / 8) * 8;
  }
  return frames;
}

/** Reads a frame when it is asked for: tens of thousands of views that live at the same time are expensive for V8. */
class MirroredView implements MirroredFrame {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #at: number;

  constructor(bytes: Uint8Array, view: DataView, at: number) {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = at;
  }

  get port(): PortNo {
    return this.#view.getUint16(this.#at + MIRROR.port, LITTLE) as PortNo;
  }

  get direction(): 'rx' | 'tx' {
    return this.#view.getUint16(this.#at + MIRROR.direction, LITTLE) === 0 ? 'rx' : 'tx';
  }

  get timeMs(): number {
    return this.#view.getFloat64(this.#at + MIRROR.timeMs, LITTLE);
  }

  get lengthBytes(): number {
    return this.#view.getUint32(this.#at + MIRROR.length, LITTLE);
  }

  get bytes(): Uint8Array {
    const from = this.#at + MIRROR.size;
    return this.#bytes.subarray(from, from + this.#view.getUint32(this.#at + MIRROR.copied, LITTLE));
  }
}

export function readFlows(bytes: Uint8Array): FlowEntry[] {
  const view = viewOf(bytes);
  const flows: FlowEntry[] = [];
  for (let at = 0; at < bytes.length; ) {
    const actions = at + FLOW.size;
    const next = actions + view.getUint32(at + FLOW.actions, LITTLE) * ACTION_BYTES;
    flows.push(new FlowRecordView(bytes, view, at, next));
    at = next;
  }
  return flows;
}

/** Reads the rest of a flow when it is asked for: most callers need only its statistics. */
class FlowRecordView implements FlowEntry {
  readonly id: FlowId;
  readonly lastUsedMs: number;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, view: DataView, at: number, end: number) {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = at;
    this.#end = end;
    this.id = view.getUint32(at + FLOW.id, LITTLE) as FlowId;
    this.lastUsedMs = view.getFloat64(at + FLOW.lastUsedMs, LITTLE);
  }

  get packets(): number {
    return this.#view.getFloat64(this.#at + FLOW.packets, LITTLE);
  }

  get bytes(): number {
    return this.#view.getFloat64(this.#at + FLOW.bytes, LITTLE);
  }

  get key(): FlowKey {
    return this.#bytes.slice(this.#at + FLOW.key, this.#at + FLOW.mask);
  }

  get mask(): FlowMask {
    return this.#bytes.slice(this.#at + FLOW.mask, this.#at + FLOW.size);
  }

  get actions(): readonly Action[] {
    return decodeActions(this.#bytes.subarray(this.#at + FLOW.size, this.#end));
  }
}

export function readCounters(numbers: Float64Array): DatapathCounters {
  let at = 0;
  const next = (): number => numbers[at++]!;
  const drops = (): Partial<Record<DropReason, number>> => {
    const counts: Partial<Record<DropReason, number>> = {};
    for (const [reason] of dropReasons) {
      const count = next();
      if (count > 0) counts[reason] = count;
    }
    return counts;
  };
  // In the order in which they are packed.
  const totals = {
    rx: next(),
    originated: next(),
    copies: next(),
    segments: next(),
    tx: next(),
    consumed: next(),
    coalesced: next(),
    held: next(),
    upcalls: next(),
    unanswered: next(),
    flows: next(),
    masks: next(),
    refused: { flows: next(), masks: next() },
    drops: drops(),
  };
  const ports = new Map<PortNo, PortCounters>();
  while (at < numbers.length) {
    const port = next() as PortNo;
    ports.set(port, {
      rxFrames: next(),
      rxBytes: next(),
      txFrames: next(),
      txBytes: next(),
      unanswered: next(),
      drops: drops(),
    });
  }
  return { ...totals, ports };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
