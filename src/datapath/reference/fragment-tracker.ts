/**
 * Fragments on their way through the switch. Only the first fragment of a datagram has its ports, and
 * all of its fragments must be decided by them. So the first one is remembered, and later ones get
 * its protocol and ports in their keys; those that come before it wait. Datagrams are not reassembled,
 * and nothing is changed.
 *
 * native/fragment_tracker.h has the rules, with the reasons; this is the plain version, which
 * remembers each fragment that came.
 */
import { fragmentPart, type FragmentPart } from '../../flow/extract.ts';
import { fields } from '../../flow/fields.ts';
import { bytesId, readBytes, readNumber, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import type { PortNo } from '../../flow/types.ts';
import { ETH_IPV4 } from '../../wire/ethernet.ts';
import {
  DATAGRAMS_PER_PORT,
  FRAGMENT_TIMEOUT_MS,
  WAITING_BYTES_PER_PORT,
  WAITING_PER_DATAGRAM,
} from '../../flow/bounds.ts';
import type { Frame } from './offload.ts';

/** A fragment with its key; the key of a later one has the protocol and ports of its first one. */
export interface TrackedFragment {
  readonly frame: Frame;
  readonly key: FlowKey;
}

/** What happens to a fragment. */
export type Tracked = {
  /** How many fragments of other datagrams of the port gave way: `fragment_limit`. */
  gaveWay: number;
} & (
  | { readonly kind: 'waits' }
  /** It is dropped, and `withIt` waiting ones with it, for the same reason. */
  | { readonly kind: 'dropped'; readonly reason: DropReason; readonly withIt: number }
  /** It is forwarded, and after it those that waited, in order. */
  | { readonly kind: 'goes'; readonly fragments: readonly TrackedFragment[] }
);

interface Datagram {
  readonly id: string;
  readonly port: PortNo;
  readonly dueMs: number;
  readonly parts: FragmentPart[];
  first: FlowKey | undefined;
  isDiscarded: boolean;
  waiting: TrackedFragment[];
}

/** What is known about the datagrams of one port, the oldest first. */
interface Share {
  readonly datagrams: Set<Datagram>;
  /** Bytes that wait. */
  bytes: number;
}

export class FragmentTracker {
  /** The oldest first. */
  readonly #datagrams = new Map<string, Datagram>();
  readonly #shares = new Map<PortNo, Share>();
  #held = 0;

  /** Fragments that wait now. */
  get held(): number {
    return this.#held;
  }

  /** Tracks a fragment from `port` that was extracted to `key`. If it waits, it is copied. */
  track(port: PortNo, key: FlowKey, frame: Frame, nowMs: number): Tracked {
    const part = fragmentPart(frame.bytes, key);
    const id = identityOf(key, part);
    let gaveWay = 0;
    let datagram = this.#datagrams.get(id);
    if (!datagram) {
      const { datagrams } = this.#share(port);
      if (datagrams.size === DATAGRAMS_PER_PORT) gaveWay = this.#remove(oldest(datagrams));
      datagram = {
        id,
        port,
        dueMs: nowMs + FRAGMENT_TIMEOUT_MS,
        parts: [],
        first: undefined,
        isDiscarded: false,
        waiting: [],
      };
      this.#datagrams.set(id, datagram);
      datagrams.add(datagram);
    }
    const tracked = this.#add(datagram, part, key, frame);
    tracked.gaveWay += gaveWay;
    return tracked;
  }

  #add(datagram: Datagram, part: FragmentPart, key: FlowKey, frame: Frame): Tracked {
    const { parts } = datagram;
    const dropped = (reason: DropReason, withIt = 0): Tracked => ({ kind: 'dropped', reason, withIt, gaveWay: 0 });
    if (datagram.isDiscarded) return dropped('fragment_overlap');
    const isConsistent = parts.every((other) => mayBelongTogether(part, other));
    if (isConsistent && parts.some((other) => isSame(part, other))) return dropped('fragment_duplicate');
    if (!isConsistent || parts.some((other) => overlaps(part, other))) {
      datagram.isDiscarded = true;
      return dropped('fragment_overlap', this.#takeWaiting(datagram).length);
    }

    const isFirst = part.at === 0;
    if (!isFirst && !datagram.first) {
      if (datagram.waiting.length === WAITING_PER_DATAGRAM) return dropped('fragment_limit');
      const { hasRoom, gaveWay } = this.#makeRoom(datagram, frame.bytes.length);
      if (!hasRoom) return { ...dropped('fragment_limit'), gaveWay };
      const { offload } = frame;
      datagram.waiting.push({ frame: { bytes: frame.bytes.slice(), offload }, key });
      this.#share(datagram.port).bytes += frame.bytes.length;
      this.#held++;
      parts.push(part);
      return { kind: 'waits', gaveWay };
    }

    parts.push(part);
    if (isFirst) datagram.first = key;
    const fragments = [{ frame, key }, ...this.#takeWaiting(datagram)];
    if (isWhole(parts)) this.#remove(datagram);
    return {
      kind: 'goes',
      fragments: fragments.map((one) => ({ ...one, key: keyLike(one.key, datagram.first!) })),
      gaveWay: 0,
    };
  }

  /** Forgets datagrams that are too old. Calls `drop` for their waiting fragments. */
  expire(nowMs: number, drop: (port: PortNo, frames: number) => void): void {
    for (const datagram of this.#datagrams.values()) {
      if (nowMs < datagram.dueMs) return;
      drop(datagram.port, this.#remove(datagram));
    }
  }

  /** Forgets the datagrams from `port`. @returns the number of fragments that waited */
  dropPort(port: PortNo): number {
    let frames = 0;
    for (const datagram of this.#share(port).datagrams) frames += this.#remove(datagram);
    this.#shares.delete(port);
    return frames;
  }

  #share(port: PortNo): Share {
    let share = this.#shares.get(port);
    if (!share) this.#shares.set(port, (share = { datagrams: new Set(), bytes: 0 }));
    return share;
  }

  /** Makes room for `bytes` waiting bytes of `datagram`, which must stay. */
  #makeRoom({ port, id }: Datagram, bytes: number): { hasRoom: boolean; gaveWay: number } {
    const share = this.#share(port);
    let gaveWay = 0;
    while (share.bytes + bytes > WAITING_BYTES_PER_PORT) {
      const first = oldest(share.datagrams);
      if (first.id === id) return { hasRoom: false, gaveWay };
      gaveWay += this.#remove(first);
    }
    return { hasRoom: true, gaveWay };
  }

  #takeWaiting(datagram: Datagram): TrackedFragment[] {
    const { waiting } = datagram;
    datagram.waiting = [];
    const share = this.#share(datagram.port);
    for (const { frame } of waiting) share.bytes -= frame.bytes.length;
    this.#held -= waiting.length;
    return waiting;
  }

  /** @returns the number of fragments that waited */
  #remove(datagram: Datagram): number {
    this.#datagrams.delete(datagram.id);
    this.#share(datagram.port).datagrams.delete(datagram);
    return this.#takeWaiting(datagram).length;
  }
}

function oldest(datagrams: ReadonlySet<Datagram>): Datagram {
  const [first] = datagrams;
  return first!;
}

/** A string that is the same for the fragments of one datagram. */
function identityOf(key: FlowKey, { id }: FragmentPart): string {
  const isIp4 = readNumber(key, fields.eth_type) === ETH_IPV4;
  const names = ['in_port', 'tun_vni', 'tun_src', 'ip_src', 'ip_dst'] as const;
  const ends = names.map((name) => bytesId(readBytes(key, fields[name]))).join('');
  return `${ends}${isIp4 ? `4.${readNumber(key, fields.ip_proto)}` : 6}.${id}`;
}

function endOf({ at, bytes }: FragmentPart): number {
  return at + bytes;
}

function overlaps(a: FragmentPart, b: FragmentPart): boolean {
  return a.at < endOf(b) && b.at < endOf(a);
}

function isSame(a: FragmentPart, b: FragmentPart): boolean {
  return a.at === b.at && a.bytes === b.bytes;
}

/** The last one must end behind all others. */
function mayBelongTogether(a: FragmentPart, b: FragmentPart): boolean {
  if (a.more && b.more) return true;
  if (!a.more && !b.more) return endOf(a) === endOf(b);
  return a.more ? endOf(a) < endOf(b) : endOf(b) < endOf(a);
}

/** For parts that do not overlap. */
function isWhole(parts: readonly FragmentPart[]): boolean {
  const last = parts.find(({ more }) => !more);
  return last !== undefined && parts.reduce((sum, { bytes }) => sum + bytes, 0) === endOf(last);
}

/** `key` with the protocol and ports of `first`. */
function keyLike(key: FlowKey, first: FlowKey): FlowKey {
  const copy = key.slice();
  for (const name of ['ip_proto', 'l4_src', 'l4_dst', 'icmp_id'] as const) {
    copy.set(readBytes(first, fields[name]), fields[name].offset);
  }
  return copy;
}
