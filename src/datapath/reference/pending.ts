/**
 * Undecided flows: one entry for each flow of which a frame missed the cache, with the frames that wait
 * for the decision, in order.
 *
 * Frames of one flow may have keys that differ in TOS and TTL. The upcall is about the first one. Its
 * answer releases those with the same key that come first; behind them, the rest is decided as if it
 * arrived then.
 *
 * Everything is bounded for each input port, so that a port which sends nothing but new flows uses up
 * only its own share: PENDING_PER_PORT entries, PENDING_BALANCED_PER_PORT of them for connections that the datapath has opened by
 * itself, PARKED_PER_FLOW frames in each (PARKED_FRAGMENTS if
 * they are fragments), PARKED_BYTES_PER_PORT bytes together. Upcalls are handed out once each, in turn
 * over the ports. Those for multicast and broadcast frames, which take longest because many ports get
 * the frames, are at most every second one.
 */
import { FRAG_NONE, fields } from '../../flow/fields.ts';
import { bytesId, readBytes, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import { isGroupMac, type PortNo } from '../../flow/types.ts';
import { type Upcall, type UpcallToken } from '../datapath.ts';
import {
  HEAD_BYTES,
  PARKED_FRAGMENTS,
  PARKED_PER_FLOW,
  PENDING_BALANCED_PER_PORT,
  PENDING_PER_PORT,
  UPCALL_BATCH,
} from '../../flow/bounds.ts';
import { packetBytes, type Frame } from './offload.ts';

/** Bytes of frames that may wait from one port. */
const PARKED_BYTES_PER_PORT = 8 * 1024 * 1024;

interface Parked {
  readonly key: FlowKey;
  readonly frame: Frame;
}

interface Pending {
  readonly token: UpcallToken;
  readonly port: PortNo;
  /** `flowId` of its frames. */
  readonly flow: string;
  readonly isBalanced: boolean;
  readonly parked: Parked[];
}

/** What an answer releases, in order: the first `decided` ones have the key of the upcall. */
export interface Released {
  readonly port: PortNo;
  readonly parked: readonly Parked[];
  readonly decided: number;
}

/** Not delivered yet, by port; the port whose turn it is comes first. */
type Undelivered = Map<PortNo, Pending[]>;

/** What waits from one port. */
interface Share {
  readonly pendings: Set<Pending>;
  balanced: number;
  bytes: number;
}

export class PendingTable {
  readonly #byFlow = new Map<string, Pending>();
  readonly #byToken = new Map<UpcallToken, Pending>();
  readonly #shares = new Map<PortNo, Share>();
  readonly #single: Undelivered = new Map();
  /** For multicast and broadcast frames. */
  readonly #group: Undelivered = new Map();
  #lastToken = 0;
  #held = 0;

  /** Frames that are parked now. */
  get held(): number {
    return this.#held;
  }

  /** Is the flow of this key undecided? */
  has(key: FlowKey): boolean {
    return this.#byFlow.size > 0 && this.#byFlow.has(flowId(key));
  }

  /** Parks a copy of `frame` behind others of its flow. Keeps `key`. Returns why not, if it cannot. */
  park(key: FlowKey, frame: Frame): DropReason | undefined {
    const pending = this.#byFlow.get(flowId(key))!;
    const isFragment = key[fields.ip_frag.offset] !== FRAG_NONE;
    if (pending.parked.length >= (isFragment ? PARKED_FRAGMENTS : PARKED_PER_FLOW)) return 'upcall_parked_full';
    return this.#hold(pending, this.#shares.get(pending.port)!, { key, frame });
  }

  /**
   * Opens an undecided flow with a copy of its first frame. Keeps `key`. Returns why not, if it cannot.
   * @param isBalanced it is one direction of a balanced connection
   */
  open(port: PortNo, key: FlowKey, frame: Frame, isBalanced = false): DropReason | undefined {
    const share = this.#shares.get(port) ?? { pendings: new Set(), balanced: 0, bytes: 0 };
    if (share.pendings.size >= PENDING_PER_PORT) return 'upcall_queue_full';
    if (isBalanced && share.balanced >= PENDING_BALANCED_PER_PORT) return 'upcall_queue_full';
    const pending = { token: this.#lastToken + 1, port, flow: flowId(key), isBalanced, parked: [] };
    const refused = this.#hold(pending, share, { key, frame });
    if (refused) return refused;
    this.#lastToken++;
    share.pendings.add(pending);
    if (isBalanced) share.balanced++;
    this.#shares.set(port, share);
    this.#byFlow.set(pending.flow, pending);
    this.#byToken.set(pending.token, pending);
    const undelivered = isGroupMac(readBytes(key, fields.eth_dst)) ? this.#group : this.#single;
    const queue = undelivered.get(port);
    if (queue) queue.push(pending);
    else undelivered.set(port, [pending]);
    return undefined;
  }

  /** The next upcalls to deliver, at most UPCALL_BATCH; empty if all are delivered. */
  nextBatch(): Upcall[] {
    const batch: Upcall[] = [];
    while (batch.length < UPCALL_BATCH) {
      const isGroup = this.#single.size === 0 || (batch.length % 2 === 1 && this.#group.size > 0);
      const next = takeNext(isGroup ? this.#group : this.#single);
      if (!next) break;
      const { key, frame } = next.parked[0]!;
      const { bytes } = frame;
      batch.push({
        token: next.token,
        key,
        head: bytes.slice(0, HEAD_BYTES),
        lengthBytes: bytes.length,
        packetBytes: Math.min(packetBytes(frame), 0xffff),
      });
    }
    return batch;
  }

  /** Answers a token: takes its frames out, in order. Undefined for a token that is unknown or was used. */
  release(token: UpcallToken): Released | undefined {
    const pending = this.#byToken.get(token);
    if (!pending) return undefined;
    this.#remove(pending);
    const { port, parked } = pending;
    const first = bytesId(parked[0]!.key);
    const rest = parked.findIndex(({ key }) => bytesId(key) !== first);
    return { port, parked, decided: rest < 0 ? parked.length : rest };
  }

  /** Removes everything from `port` that waits. @returns the number of frames that were parked */
  dropPort(port: PortNo): number {
    let frames = 0;
    for (const pending of this.#shares.get(port)?.pendings ?? []) {
      frames += pending.parked.length;
      this.#remove(pending);
    }
    this.#single.delete(port);
    this.#group.delete(port);
    return frames;
  }

  #hold(pending: Pending, share: Share, { key, frame }: Parked): DropReason | undefined {
    const { bytes, offload } = frame;
    if (share.bytes + bytes.length > PARKED_BYTES_PER_PORT) return 'upcall_queue_full';
    share.bytes += bytes.length;
    pending.parked.push({ key, frame: { bytes: bytes.slice(), offload } });
    this.#held++;
    return undefined;
  }

  #remove(pending: Pending): void {
    const share = this.#shares.get(pending.port)!;
    for (const { frame } of pending.parked) share.bytes -= frame.bytes.length;
    this.#held -= pending.parked.length;
    share.pendings.delete(pending);
    if (pending.isBalanced) share.balanced--;
    if (share.pendings.size === 0) this.#shares.delete(pending.port);
    this.#byFlow.delete(pending.flow);
    this.#byToken.delete(pending.token);
  }
}

/** Frames of one flow may differ in TOS and TTL, and still none may overtake another. */
function flowId(key: FlowKey): string {
  const flow = key.slice();
  flow[fields.ip_tos.offset] = flow[fields.ip_ttl.offset] = 0;
  return bytesId(flow);
}

/** The next one of the port whose turn it is; that port then comes last. */
function takeNext(undelivered: Undelivered): Pending | undefined {
  for (const [port, queue] of undelivered) {
    undelivered.delete(port);
    const next = queue.shift();
    if (queue.length > 0) undelivered.set(port, queue);
    return next;
  }
  return undefined;
}
