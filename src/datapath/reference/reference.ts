/**
 * The reference datapath: the contract of `datapath.ts` in plain TypeScript, to
 * be read beside the native one and held against it, and the base of networks
 * that run inside one process.
 *
 *   1. rx: a burst comes from a TAP, the underlay, or `inject`
 *   2. decapsulate, if it came from the underlay
 *   3. extract its keys; from here on a frame has its L3 length
 *   4. coalesce: what belongs together becomes one superframe; within its port's rate, or it waits for that; one of too
 *      many segments goes on as two
 *   5. track: a fragment gets the ports of its first, or waits for that
 *   6. parked? behind the others of its key
 *   7. flow cache: hit, and its actions run; or miss, parked with an upcall if the port may have one more
 *   8. storm control; actions → tx, within the port's rate: where more is done than to carry it, the IPv4 header has a
 *      right checksum; addresses are translated; what is too big in fragments
 *      or, on a hit, with an upcall; cut into segments where superframes cannot go
 *   9. settle: hand over mirrored frames and upcalls
 *
 * Frames run one at a time to completion; what memory ports transmit waits in an
 * outbox until then. `transmit` and `onUpcall` may call back in: frames go out in
 * the order in which they were decided, and upcalls are delivered by the
 * outermost call, one batch after the other, so `onUpcall` is never re-entered. Frames handed to
 * `transmit` and `mirror` are copies and belong to the receiver; injected ones
 * are read before `inject` returns and not kept.
 */
import { limitOf, type Action } from '../../flow/action.ts';
import { ConnectionRecords } from '../../flow/connection.ts';
import { extract } from '../../flow/extract.ts';
import { FRAG_NONE, fields } from '../../flow/fields.ts';
import { entropyPort, flowHash } from '../../flow/hash.ts';
import { emptyKey, readBytes, readNumber, writeNumber, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import { isGroupMac, sameBytes, type FlowId, type PortNo } from '../../flow/types.ts';
import { ETH_HEADER_BYTES } from '../../wire/ethernet.ts';
import { isIcmpError } from '../../wire/icmp-error.ts';
import { plainBytes } from '../../wire/bytes.ts';
import { buildVxlan, parseVxlan } from '../../wire/vxlan.ts';
import { WeftError } from '../../error.ts';
import {
  isSamePort,
  type Datagram,
  type Datapath,
  type DatapathCounters,
  type DatapathOptions,
  type FlowEntry,
  type FlowPut,
  type Injectable,
  type MirrorOptions,
  type MirrorSink,
  type OffloadedFrame,
  type OriginatedFrame,
  type PortLimits,
  type PortSpec,
  type TapPort,
  type UpcallToken,
} from '../datapath.ts';
import type { Offload } from '../../flow/offload.ts';
import type { TapOpened } from '../../flow/tap.ts';
import { bucketsOf, type Buckets } from './bucket.ts';
import { UpcallLimit } from './upcall-limit.ts';
import { decapsulateEcn, outerTos } from './ecn.ts';
import { coalesce, type Arrival, type Arrived } from './coalesce.ts';
import { FlowCache } from './flow-cache.ts';
import { Mirror } from './mirror.ts';
import { translateAddresses, type Translation } from './nat.ts';
import { FragmentTracker } from './fragment-tracker.ts';
import { fragments, mayFragment } from './fragment.ts';
import {
  checkOffload,
  GSO_NONE,
  hasRightIpv4Header,
  MAX_SEGMENTS,
  NO_OFFLOAD,
  packetBytes,
  segmentCount,
  unfinishedChecksum,
  wireBytes,
  type Frame,
} from './offload.ts';
import { PendingTable } from './pending.ts';
import { RateQueue } from './rate-queue.ts';
import { untagPriority } from './priority-tag.ts';
import type { TapSpec } from '../../addon/tap.ts';
import { rewrite } from './rewrite.ts';
import { halves, segments, takes, TAKES_ALL } from './segment.ts';
import { Tally } from './tally.ts';

/** Frames taken from the kernel in one turn of the event loop. */
const FRAMES_PER_TURN = 64;
/** A frame, or a VXLAN payload, as the kernel handed it over. */
export interface ReceivedFrame {
  readonly port: PortNo;
  readonly bytes: Uint8Array;
  readonly offload: Offload;
  /** Underlay only: who sent it, 16 bytes. */
  readonly source?: Uint8Array | undefined;
  /** Underlay only: DSCP and ECN of the outer header. */
  readonly tos?: number | undefined;
}

/** Datagrams that were not sent. */
export interface Refused {
  readonly reason: DropReason;
  readonly datagrams: number;
}

/** Frames from and to the kernel: `frame-io.ts`, or another one in a test. */
export interface KernelIo {
  addTap(port: PortNo, spec: TapSpec): TapOpened;
  renewTap(port: PortNo): string[];
  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void;
  remove(port: PortNo, keep: boolean): void;
  /** What has arrived, `max` at most. After fewer than `max`, `onWake` tells of the next. */
  take(max: number): readonly ReceivedFrame[];
  /** What a TAP takes: native/io/tap.h. */
  offloads(port: PortNo): number;
  send(port: PortNo, frame: Frame): DropReason | undefined;
  sendUnderlay(remote: Uint8Array, entropy: number, tos: number, payloads: readonly Uint8Array[]): Refused | undefined;
  close(): void;
}

export interface ReferenceOptions extends DatapathOptions {
  /** Opens the kernel's side when the first `tap` or `vxlan` port is added. */
  readonly io?: (onWake: () => void, onLost: (port: PortNo, why: string) => void) => KernelIo;
  /** With it, frames that wait for a rate go on by themselves; without it, when the datapath is next called. */
  readonly setTimer?: typeof setTimeout;
}

type Direction = 'ingress' | 'egress';

type LocalSpec = Extract<PortSpec, { kind: 'memory' | 'tap' }>;
type TunnelSpec = Extract<PortSpec, { kind: 'vxlan' | 'memory-vxlan' }>;

interface Tunnel {
  readonly port: PortNo;
  readonly spec: TunnelSpec;
}

export type ReferenceDatapath = Datapath & Injectable;

export function openReferenceDatapath(options: ReferenceOptions): ReferenceDatapath {
  return new Reference(options);
}

class Reference implements ReferenceDatapath {
  readonly #options: ReferenceOptions;
  readonly #ports = new Map<PortNo, PortSpec>();
  readonly #buckets = new Map<PortNo, Buckets>();
  readonly #upcalls = new Map<PortNo, UpcallLimit>();
  /** The queues that are not empty, in the order in which they began to fill. */
  #waiting: { readonly port: PortNo; readonly direction: Direction; readonly queue: RateQueue }[] = [];
  #releaseDueMs = Number.POSITIVE_INFINITY;
  #releaseTimer: NodeJS.Timeout | undefined;
  readonly #cache: FlowCache;
  readonly #connections: ConnectionRecords;
  readonly #pending = new PendingTable();
  readonly #fragments = new FragmentTracker();
  readonly #tally = new Tally();
  readonly #mirror: Mirror;
  #tunnel: Tunnel | undefined;
  #io: KernelIo | undefined;
  #turnScheduled = false;
  #inside = false;
  /** Calls of memory ports' `transmit` that are due. */
  readonly #outbox: (() => void)[] = [];
  #transmitting = false;
  #closed = false;

  constructor(options: ReferenceOptions) {
    this.#options = options;
    this.#cache = new FlowCache(options.flowLimit);
    this.#connections = new ConnectionRecords(options.connections ?? new Uint8Array());
    this.#mirror = new Mirror(options.clock);
  }

  // Ports

  portAdd(port: PortNo, spec: PortSpec): TapOpened | undefined {
    const known = this.#ports.get(port);
    if (known) {
      if (!isSamePort(known, spec)) throw new WeftError('conflict', `port ${port} exists already`);
      this.#enter(() => {
        this.#limitPort(port, spec.limits);
        // What waits may be within the new limits.
        this.#releaseDueMs = 0;
        this.#release();
      });
      return undefined;
    }
    const tunnel = spec.kind === 'vxlan' || spec.kind === 'memory-vxlan' ? { port, spec } : undefined;
    if (tunnel && this.#tunnel) {
      throw new WeftError('conflict', `port ${port}: port ${this.#tunnel.port} is the VXLAN port already`);
    }
    const opened = spec.kind === 'tap' ? this.#openIo().addTap(port, spec) : undefined;
    if (spec.kind === 'vxlan') this.#openIo().openUnderlay(port, spec.local, spec.l4Port);
    if (tunnel) this.#tunnel = tunnel;
    this.#ports.set(port, spec);
    this.#limitPort(port, spec.limits);
    this.#tally.addPort(port);
    return opened;
  }

  tapsAdd(taps: readonly TapPort[]): (TapOpened | WeftError)[] {
    return taps.map(({ port, spec }) => {
      try {
        return this.portAdd(port, spec)!;
      } catch (error) {
        if (error instanceof WeftError) return error;
        throw error;
      }
    });
  }

  portRenew(port: PortNo): string[] {
    return this.#ports.get(port)?.kind === 'tap' ? this.#io!.renewTap(port) : [];
  }

  #limitPort(port: PortNo, limits: PortLimits = {}): void {
    this.#buckets.set(port, bucketsOf(limits));
    if (limits.upcalls) this.#upcalls.set(port, new UpcallLimit(limits.upcalls));
    else this.#upcalls.delete(port);
  }

  portDel(port: PortNo, options: { readonly keep?: boolean } = {}): void {
    const spec = this.#ports.get(port);
    if (!spec) return;
    this.#ports.delete(port);
    this.#buckets.delete(port);
    this.#upcalls.delete(port);
    if (this.#tunnel?.port === port) this.#tunnel = undefined;
    this.#dropQueued(port);
    this.#tally.dropped(port, 'upcall_lost', this.#pending.dropPort(port) + this.#fragments.dropPort(port));
    this.#tally.removePort(port);
    if (spec.kind === 'tap' || spec.kind === 'vxlan') this.#io!.remove(port, options.keep ?? false);
  }

  close(): void {
    for (const port of [...this.#ports.keys()]) this.portDel(port, { keep: true });
    this.#io?.close();
    clearTimeout(this.#releaseTimer);
    this.#closed = true;
  }

  // 1. rx

  inject(port: PortNo, frame: Uint8Array, offload?: Offload): void {
    this.injectBurst(port, [{ frame, offload }]);
  }

  injectBurst(port: PortNo, frames: readonly OffloadedFrame[]): void {
    if (this.#ports.get(port)?.kind !== 'memory') throw new WeftError('not_found', `port ${port} is no memory port`);
    const burst = frames.map(({ frame, offload = NO_OFFLOAD }) => ({ port, bytes: plainBytes(frame), offload }));
    this.#enter(() => this.#receive(port, burst));
  }

  injectDatagram(port: PortNo, datagram: Datagram): void {
    this.injectDatagrams(port, [datagram]);
  }

  injectDatagrams(port: PortNo, datagrams: readonly Datagram[]): void {
    if (this.#ports.get(port)?.kind !== 'memory-vxlan') {
      throw new WeftError('not_found', `port ${port} is no memory-vxlan port`);
    }
    const burst = datagrams.map(({ source, tos, payload }) => ({
      port,
      source,
      tos,
      bytes: plainBytes(payload),
      offload: NO_OFFLOAD,
    }));
    this.#enter(() => this.#receive(port, burst));
  }

  #openIo(): KernelIo {
    if (!this.#options.io) throw new WeftError('system', 'this datapath was opened without ports of the kernel');
    this.#io ??= this.#options.io(
      () => this.#scheduleTurn(),
      (port, why) => this.#options.onPortLost(port, why),
    );
    return this.#io;
  }

  /** Other work of the process gets its turn between two bursts. */
  #scheduleTurn(): void {
    if (this.#turnScheduled) return;
    this.#turnScheduled = true;
    setImmediate(() => {
      this.#turnScheduled = false;
      if (!this.#closed) this.#turn();
    });
  }

  #turn(): void {
    const received = this.#io!.take(FRAMES_PER_TURN);
    this.#enter(() => {
      for (let at = 0; at < received.length; ) {
        const { port } = received[at]!;
        const next = received.findIndex((frame, i) => i > at && frame.port !== port);
        const end = next < 0 ? received.length : next;
        // It may have been removed since.
        if (this.#ports.has(port)) this.#receive(port, received.slice(at, end));
        at = end;
      }
    });
    if (received.length === FRAMES_PER_TURN) this.#scheduleTurn();
  }

  /** A burst of one port. */
  #receive(port: PortNo, burst: readonly ReceivedFrame[]): void {
    const arrived = burst.flatMap((frame) => this.#arrive(port, frame) ?? []);
    for (const arrival of coalesce(arrived)) this.#forward(port, arrival);
  }

  // 2. Decapsulate

  #arrive(port: PortNo, { bytes, source, tos, offload }: ReceivedFrame): Arrived | undefined {
    const key = newKey(port);
    if (!source) return this.#extract(port, bytes, key, offload);
    const vxlan = parseVxlan(bytes);
    if (!vxlan || vxlan.frame.length < ETH_HEADER_BYTES) return this.#refuse(port, bytes.length, 'vxlan_malformed');
    if (sameBytes(source, this.#tunnel!.spec.local)) return this.#refuse(port, vxlan.frame.length, 'vxlan_own_address');
    writeNumber(key, fields.tun_vni, vxlan.vni);
    key.set(source, fields.tun_src.offset);
    return this.#extract(port, vxlan.frame, key, NO_OFFLOAD, tos);
  }

  // 3. Extract

  #extract(port: PortNo, received: Uint8Array, key: FlowKey, asked: Offload, tos = 0): Arrived | undefined {
    this.#mirror.frame(port, 'rx', received);
    const { bytes: frame, offload: offloadAsked } = untagPriority({ bytes: received, offload: asked });
    const extracted = extract(frame, key);
    if (!extracted.ok) return this.#refuse(port, frame.length, extracted.reason);
    const packet = frame.subarray(0, extracted.lengthBytes);
    const bytes = decapsulateEcn(packet, key, tos);
    if (!bytes) return this.#refuse(port, packet.length, 'ecn_ce_not_ect');
    const l4 = extracted.l4Offset;
    const offload =
      port === this.#tunnel?.port ? unfinishedChecksum(bytes, key, l4) : checkOffload(bytes, offloadAsked, key, l4);
    if (!offload) return this.#refuse(port, bytes.length, 'bad_vnet_hdr');
    // Sooner or later a superframe is cut, and each segment gets a header checksum that is right.
    if (offload.gsoType !== GSO_NONE && !hasRightIpv4Header(bytes, key)) {
      return this.#refuse(port, bytes.length, 'ipv4_checksum');
    }
    return { bytes, offload, key, l4 };
  }

  #refuse(port: PortNo, lengthBytes: number, reason: DropReason): undefined {
    this.#tally.received(port, lengthBytes);
    this.#tally.dropped(port, reason);
  }

  // 4. coalesce.ts

  #forward(port: PortNo, arrival: Arrival): void {
    const { key, frames, receivedBytes } = arrival;
    this.#tally.received(port, receivedBytes, frames);
    this.#tally.coalesced += frames - 1;
    if (this.#admits(port, 'ingress', arrival, key, port)) this.#enterPipeline(port, key, arrival);
  }

  #enterPipeline(port: PortNo, key: FlowKey, frame: Frame): void {
    if (key[fields.ip_frag.offset] !== FRAG_NONE) return this.#track(port, key, frame);
    if (segmentCount(frame) <= MAX_SEGMENTS) return this.#decide(port, key, frame);
    this.#tally.segments++;
    for (const half of halves(frame)) this.#decide(port, key, half);
  }

  // Waiting for a rate

  /** May it pass now? If not, it waits or was dropped. */
  #admits(port: PortNo, direction: Direction, frame: Frame, key: FlowKey | undefined, from?: PortNo): boolean {
    const bucket = this.#buckets.get(port)?.[direction];
    if (!bucket) return true;
    const nowMs = this.#options.clock();
    const bytes = wireBytes(frame);
    const filled = this.#waiting.find(
      (one) => one.port === port && one.direction === direction && one.queue.length > 0,
    )?.queue;
    if (!filled && bucket.take(bytes, nowMs)) return true;
    const queue = filled ?? new RateQueue();
    if (!queue.push({ frame, key, from, wireBytes: bytes }, bucket.queue)) {
      this.#tally.dropped(from, `rate_limit_${direction}`);
    } else if (!filled) {
      this.#waiting.push({ port, direction, queue });
      this.#releaseDueMs = Math.min(this.#releaseDueMs, bucket.againMs(nowMs));
    }
    return false;
  }

  /**
   * Sends on what waited for a rate and is within it now. A frame that goes on from an ingress queue may have to wait in
   * an egress queue; one that was empty then comes last in the list, so this loop reaches it too.
   */
  #release(): void {
    const nowMs = this.#options.clock();
    if (nowMs < this.#releaseDueMs) return;
    this.#releaseDueMs = Number.POSITIVE_INFINITY;
    for (const { port, direction, queue } of this.#waiting) {
      const bucket = this.#buckets.get(port)?.[direction];
      for (let next = queue.front; next; next = queue.front) {
        if (bucket && !bucket.take(next.wireBytes, nowMs)) {
          this.#releaseDueMs = Math.min(this.#releaseDueMs, bucket.againMs(nowMs));
          break;
        }
        queue.pop();
        if (direction === 'ingress') this.#enterPipeline(port, next.key!, next.frame);
        else this.#passOut(port, this.#ports.get(port) as LocalSpec, next.frame, next.from);
      }
    }
    this.#waiting = this.#waiting.filter(({ queue }) => queue.length > 0);
  }

  #armRelease(): void {
    clearTimeout(this.#releaseTimer);
    const { clock, setTimer } = this.#options;
    if (!setTimer || this.#closed || this.#waiting.length === 0) return;
    this.#releaseTimer = setTimer(() => this.#enter(() => {}), Math.max(0, this.#releaseDueMs - clock()));
  }

  /** `port` was taken out. */
  #dropQueued(port: PortNo): void {
    for (const { direction, queue } of this.#waiting.filter((one) => one.port === port)) {
      const reason = direction === 'ingress' ? 'upcall_lost' : 'port_gone';
      while (queue.length > 0) this.#tally.dropped(queue.pop().from, reason);
    }
    this.#waiting = this.#waiting.filter((one) => one.port !== port);
  }

  #queuedFrames(): number {
    return this.#waiting.reduce((sum, { queue }) => sum + queue.length, 0);
  }

  // 5. Track

  #track(port: PortNo, key: FlowKey, fragment: Frame): void {
    const tracked = this.#fragments.track(port, key, fragment, this.#options.clock());
    this.#tally.dropped(port, 'fragment_limit', tracked.gaveWay);
    switch (tracked.kind) {
      case 'waits':
        return;
      case 'dropped':
        return this.#tally.dropped(port, tracked.reason, 1 + tracked.withIt);
      case 'goes':
        for (const one of tracked.fragments) this.#decide(port, one.key, one.frame);
        return;
      default:
        return tracked satisfies never;
    }
  }

  #expireFragments(): void {
    this.#fragments.expire(this.#options.clock(), (port, frames) =>
      this.#tally.dropped(port, 'fragment_timeout', frames),
    );
  }

  // 6. Parked, 7. flow cache

  #decide(port: PortNo, key: FlowKey, frame: Frame): void {
    if (this.#pending.has(key) && !isError(key)) {
      const refused = this.#pending.park(key, frame);
      if (refused) this.#tally.dropped(port, refused);
      return;
    }
    const flow = this.#cache.lookup(key);
    if (flow) {
      flow.packets++;
      flow.bytes += frame.bytes.length;
      flow.lastUsedMs = this.#options.clock();
      if (!isTooBig(flow.actions, frame, key)) return this.#deliver(flow.actions, frame, key, port);
      const may = this.#upcalls.get(port)?.tooBig(this.#options.clock()) ?? true;
      if (!may || this.#pending.open(port, key, frame)) this.#tally.dropped(port, 'too_big');
      else this.#tally.upcalls++;
      return;
    }
    const may = this.#upcalls.get(port)?.miss(key, this.#options.clock()) ?? true;
    if (!may) return this.#tally.dropped(port, 'upcall_rate_limit');
    const refused = this.#pending.open(port, key, frame);
    if (refused) this.#tally.dropped(port, refused);
    else this.#tally.upcalls++;
  }

  // 8. Actions

  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void {
    this.#enter(() => {
      if (typeof what === 'number') this.#answer(what, actions);
      else this.#originate(plainBytes(what.frame), actions);
    });
  }

  #answer(token: UpcallToken, actions: readonly Action[]): void {
    const released = this.#pending.release(token);
    if (!released) return;
    const { frames, key, port } = released;
    for (const frame of frames) this.#deliver(actions, frame, key, port);
  }

  #originate(made: Uint8Array, actions: readonly Action[]): void {
    this.#tally.originated++;
    const key = emptyKey();
    const extracted = extract(made, key);
    if (!extracted.ok) return this.#tally.dropped(undefined, extracted.reason);
    const bytes = made.subarray(0, extracted.lengthBytes);
    this.#run(actions, { bytes, offload: NO_OFFLOAD }, key, undefined);
  }

  /** What came in by `port`, if its storm limit does not refuse it. */
  #deliver(actions: readonly Action[], frame: Frame, key: FlowKey, port: PortNo): void {
    const storm = this.#buckets.get(port)?.storm;
    if (storm && isFlooded(actions, key) && !storm.take(segmentCount(frame), this.#options.clock())) {
      return this.#tally.dropped(port, 'storm_control');
    }
    this.#run(actions, frame, key, port);
  }

  /** @param port where the frame came in; undefined when weft made it */
  #run(actions: readonly Action[], frame: Frame, key: FlowKey, port: PortNo | undefined): void {
    const [first] = actions as readonly [Action];
    if (isHandled(actions, frame) && !hasRightIpv4Header(frame.bytes, key)) {
      return this.#tally.dropped(port, 'ipv4_checksum');
    }
    if (translates(first)) return this.#translate(first, actions.slice(1), frame, key, port);
    if (first.op === 'limit') return this.#limit(first.bytes, actions.slice(1), frame, key, port);
    const rewritten = rewrite(first, frame, key);
    if (rewritten) return this.#run(actions.slice(1), rewritten, key, port);
    this.#tally.copies += actions.length - 1;
    for (const action of actions) {
      switch (action.op) {
        case 'output':
          this.#output(action.port, frame, port);
          break;
        case 'encap':
          this.#encap(action.vni, action.vtep, frame, key, port);
          break;
        case 'drop':
          this.#tally.dropped(port, action.reason);
          break;
        case 'consume':
          this.#tally.consumed++;
          break;
        case 'limit':
        case 'route':
        case 'echo':
        case 'nat':
        case 'related':
        case 'clamp':
          break; // only before those
        default:
          action satisfies never;
      }
    }
  }

  #translate(
    action: Translation,
    actions: readonly Action[],
    frame: Frame,
    key: FlowKey,
    port: PortNo | undefined,
  ): void {
    const translated = translateAddresses(action, this.#connections, frame, key, this.#options.clock());
    if (typeof translated === 'string') return this.#tally.dropped(port, translated);
    this.#run(actions, translated, key, port);
  }

  /** Of a superframe each packet by itself. */
  #limit(limit: number, actions: readonly Action[], frame: Frame, key: FlowKey, port: PortNo | undefined): void {
    if (packetBytes(frame) <= limit) return this.#run(actions, frame, key, port);
    if (!mayFragment(frame.bytes, key)) return this.#tally.dropped(port, 'too_big');
    const packets = segments(frame);
    this.#tally.segments += packets.length - 1;
    for (const packet of packets) {
      const cut = fragments(packet, limit);
      this.#tally.segments += cut.length - 1;
      for (const bytes of cut) this.#run(actions, { bytes, offload: NO_OFFLOAD }, key, port);
    }
  }

  #output(to: PortNo, frame: Frame, from: PortNo | undefined): void {
    const spec = this.#ports.get(to);
    if (spec?.kind !== 'memory' && spec?.kind !== 'tap') return this.#tally.dropped(from, 'port_gone');
    if (this.#admits(to, 'egress', frame, undefined, from)) this.#passOut(to, spec, frame, from);
  }

  #passOut(to: PortNo, spec: LocalSpec, frame: Frame, from: PortNo | undefined): void {
    const offloads = spec.kind === 'tap' ? this.#io!.offloads(to) : spec.offloads ? TAKES_ALL : 0;
    if (takes(offloads, frame.offload)) return this.#send(to, spec, frame, from);
    const cut = segments(frame);
    this.#tally.segments += cut.length - 1;
    for (const bytes of cut) this.#send(to, spec, { bytes, offload: NO_OFFLOAD }, from);
  }

  #send(to: PortNo, spec: LocalSpec, frame: Frame, from: PortNo | undefined): void {
    if (spec.kind === 'memory') {
      const copy = frame.bytes.slice();
      const offload = frame.offload.flags === 0 ? undefined : frame.offload;
      this.#outbox.push(() => spec.transmit(copy, offload));
    } else {
      const refused = this.#io!.send(to, frame);
      if (refused) return this.#tally.dropped(from, refused);
    }
    this.#sent(to, frame.bytes);
  }

  #encap(vni: number, vtep: Uint8Array, frame: Frame, key: FlowKey, from: PortNo | undefined): void {
    if (!this.#tunnel) return this.#tally.dropped(from, 'underlay_missing');
    const { port, spec } = this.#tunnel;
    const cut = segments(frame);
    this.#tally.segments += cut.length - 1;
    const tos = outerTos(key, this.#options.copyDscp ?? false);
    const payloads = cut.map((bytes) => buildVxlan({ vni, frame: bytes }));
    let sent = cut;
    if (spec.kind === 'memory-vxlan') {
      for (const payload of payloads) {
        const datagram = { source: spec.local, destination: vtep, sourcePort: entropyPort(key), tos, payload };
        this.#outbox.push(() => spec.transmit(datagram));
      }
    } else {
      const refused = this.#io!.sendUnderlay(vtep, flowHash(key), tos, payloads);
      if (refused) {
        this.#tally.dropped(from, refused.reason, refused.datagrams);
        sent = cut.slice(refused.datagrams);
      }
    }
    for (const bytes of sent) this.#sent(port, bytes);
  }

  #sent(port: PortNo, frame: Uint8Array): void {
    this.#tally.sent(port, frame.length);
    this.#mirror.frame(port, 'tx', frame);
  }

  // 9. Settle

  /** Runs `work` and transmits what came of it; the outermost call then hands over mirrored frames and upcalls. */
  #enter(work: () => void): void {
    this.#expireFragments();
    if (this.#inside) {
      this.#release();
      work();
      return this.#transmit();
    }
    this.#inside = true;
    try {
      this.#release();
      work();
      this.#transmit();
      this.#mirror.flush();
      for (let batch = this.#pending.nextBatch(); batch.length > 0; batch = this.#pending.nextBatch()) {
        this.#options.onUpcall(batch);
        this.#mirror.flush();
      }
    } finally {
      this.#inside = false;
      this.#armRelease();
    }
  }

  /** Empties the outbox; what `transmit` brings back in goes to its end. */
  #transmit(): void {
    if (this.#transmitting) return;
    this.#transmitting = true;
    try {
      for (let next = this.#outbox.shift(); next; next = this.#outbox.shift()) next();
    } finally {
      this.#transmitting = false;
    }
  }

  // Flows, mirror, counters

  flowPut(flow: FlowPut): boolean {
    this.#expireFragments();
    return this.#cache.put(flow, this.#options.clock());
  }

  flowDel(id: FlowId): void {
    this.#cache.delete(id);
  }

  flowDump(): FlowEntry[] {
    this.#expireFragments();
    return this.#cache.dump();
  }

  mirror(options: MirrorOptions | null, sink?: MirrorSink): void {
    this.#mirror.set(options, sink);
  }

  counters(): DatapathCounters {
    this.#expireFragments();
    const { rx, originated, copies, segments: cut, tx, consumed, coalesced, upcalls } = this.#tally;
    return {
      rx,
      originated,
      copies,
      segments: cut,
      tx,
      consumed,
      coalesced,
      held: this.#pending.held + this.#fragments.held + this.#queuedFrames(),
      ...this.#tally.snapshot(),
      upcalls,
      flows: this.#cache.flows,
      masks: this.#cache.masks,
    };
  }
}

function newKey(port: PortNo): FlowKey {
  const key = emptyKey();
  writeNumber(key, fields.in_port, port);
  return key;
}

/** Is it routed, translated, answered or cut by these actions, and not only carried? */
function isHandled(actions: readonly Action[], frame: Frame): boolean {
  return actions.some((action) => {
    switch (action.op) {
      case 'nat':
      case 'related':
      case 'route':
      case 'echo':
      case 'clamp':
        return true;
      case 'limit':
        return packetBytes(frame) > action.bytes;
      default:
        return false;
    }
  });
}

function translates(action: Action): action is Translation {
  return action.op === 'nat' || action.op === 'related';
}

/** It is decided by what it quotes, so never together with others of its key. */
function isError(key: FlowKey): boolean {
  return isIcmpError(readNumber(key, fields.ip_proto), readNumber(key, fields.l4_src));
}

/** Is it sent to a group address, or to more than one place? */
function isFlooded(actions: readonly Action[], key: FlowKey): boolean {
  const places = actions.filter(({ op }) => op === 'output' || op === 'encap').length;
  return places > 1 || (places === 1 && isGroupMac(readBytes(key, fields.eth_dst)));
}

/** Does it go no further with these actions, not even in fragments? */
function isTooBig(actions: readonly Action[], frame: Frame, key: FlowKey): boolean {
  const limit = limitOf(actions);
  return limit !== undefined && packetBytes(frame) > limit && !mayFragment(frame.bytes, key);
}
