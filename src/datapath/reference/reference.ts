/**
 * The reference datapath: the contract of `datapath.ts` in plain TypeScript. It is there to be read next
 * to the native one and compared with it, and it is the base of networks that run inside one process.
 *
 *   1. rx: a burst comes from a TAP, the underlay, or `inject`
 *   2. arrive.ts: decapsulates it, if it came from the underlay
 *   3. extracts its keys; from here on, a frame has its L3 length
 *   4. coalesce.ts: joins frames that belong together into one superframe; within its port's rate, or it
 *      waits for that (rates.ts); one with too many segments goes on as two
 *   5. gather: gives a fragment the ports of its first one, or lets it wait for that
 *      (fragment-tracker.ts)
 *   6. parked? behind the others of its flow (pending.ts)
 *   7. connector.ts: the packet's connection has the flow that its direction took before, so no search
 *      is needed; flow cache: on a hit, its actions run, or it is too big for them and is parked with an
 *      upcall; if the flow balances, a connection is opened, and its flow is hit; on a miss, it is parked with an upcall; in both cases only if the port may have one more
 *   8. storm control; actions.ts: if it is not just carried, its IPv4 header must have a correct
 *      checksum; its connection is opened or counted, addresses are translated, it is cut into
 *      fragments if it is too big, rewritten, then each action runs in order; a refused frame is answered
 *      send.ts: tx, within the port's rate; cut into segments where superframes cannot go
 *   9. settle: hands over mirrored frames and upcalls
 *
 * Frames run to completion one at a time. Frames that memory ports transmit wait in an outbox until
 * then. `transmit` and `onUpcall` may call back: frames go out in the order in which they were decided,
 * and the outermost call delivers the upcalls, one batch after the other, so `onUpcall` is never
 * re-entered. Frames passed to `transmit` and `mirror` are copies that belong to the receiver; injected
 * frames are read before `inject` returns, and are not kept.
 */
import type { Action } from '../../flow/action.ts';
import { OUTSIDE, type Place } from '../../flow/connection.ts';
import { isErrorKey } from '../../flow/connection-of-key.ts';
import { FRAG_NONE, fields } from '../../flow/fields.ts';
import { covers, readNumber, type FlowKey } from '../../flow/key.ts';
import type { Offload } from '../../flow/offload.ts';
import type { TapPlace } from '../../flow/tap.ts';
import type { FlowId, PortNo } from '../../flow/types.ts';
import { plainBytes } from '../../wire/bytes.ts';
import { WeftError } from '../../error.ts';
import {
  isTunnel,
  noConnections,
  type Datagram,
  type Datapath,
  type DatapathCounters,
  type DatapathOptions,
  type FlowEntry,
  type FlowPut,
  type Injectable,
  type MirrorOptions,
  type MirrorSink,
  type NewPort,
  type OffloadedFrame,
  type OriginatedFrame,
  type PortOpened,
  type PortRates,
  type UpcallToken,
} from '../datapath.ts';
import { isFlooded, isTooBig, Runner } from './actions.ts';
import { Entrance } from './arrive.ts';
import { coalesce, type Arrival } from './coalesce.ts';
import { ReferenceConnections, type ReferenceConnectionOptions } from './connections.ts';
import { Connector, isOfConnections, type ConnectionFound } from './connector.ts';
import { FlowCache, type CacheEntry } from './flow-cache.ts';
import { FragmentTracker } from './fragment-tracker.ts';
import type { KernelIo, ReceivedFrame } from './kernel-io.ts';
import { Mirror } from './mirror.ts';
import { MAX_SEGMENTS, NO_OFFLOAD, segmentCount, type Frame } from './offload.ts';
import { PendingTable } from './pending.ts';
import { Probes } from './probes.ts';
import { Ports } from './ports.ts';
import { Rates } from './rates.ts';
import { withDscp } from './rewrite.ts';
import { halves } from './segment.ts';
import { Sender } from './send.ts';
import { Tally } from './tally.ts';

/** Frames taken from the kernel in one turn of the event loop. */
const FRAMES_PER_TURN = 64;
/** Bursts that are received before peers are judged. */
const MOST_DRAINED = 64;

export interface ReferenceOptions extends DatapathOptions {
  /** Opens the kernel's side when the first `tap` or `vxlan` port is added. */
  readonly io?: (onWake: () => void, onLost: (port: PortNo, why: string) => void) => KernelIo;
  /** If it is given, frames that wait for a rate go on by themselves; otherwise when the datapath is next called. */
  readonly setTimer?: typeof setTimeout;
  /** For the memory of connections. */
  readonly populate?: ReferenceConnectionOptions['populate'];
}

export type ReferenceDatapath = Datapath & Injectable;

export function openReferenceDatapath(options: ReferenceOptions): ReferenceDatapath {
  return new Reference(options);
}

class Reference implements ReferenceDatapath {
  readonly connections: ReferenceConnections;
  readonly liveness: Probes;
  readonly #options: ReferenceOptions;
  readonly #clock: () => number;
  readonly #cache: FlowCache;
  readonly #pending = new PendingTable();
  readonly #fragments = new FragmentTracker();
  readonly #tally = new Tally();
  readonly #mirror: Mirror;
  readonly #ports: Ports;
  readonly #rates: Rates;
  readonly #entrance: Entrance;
  readonly #sender: Sender;
  readonly #connector: Connector;
  readonly #runner: Runner;
  #releaseTimer: NodeJS.Timeout | undefined;
  #turnScheduled = false;
  #isHeld: boolean;
  #inside = false;
  #closed = false;

  constructor(options: ReferenceOptions) {
    const { clock, copyDscp = false, connections = noConnections(), populate } = options;
    this.#options = options;
    this.#clock = clock;
    this.#cache = new FlowCache(options.flowCap);
    this.#mirror = new Mirror(clock);
    this.#ports = new Ports(() => this.#openIo());
    this.#rates = new Rates(clock, this.#tally, {
      ingress: (port, key, frame) => this.#enterPipeline(port, key, frame),
      egress: (port, frame, from) => this.#sender.passOut(port, frame, from),
    });
    this.#entrance = new Entrance(this.#ports, this.#tally, this.#mirror, (source, frame) =>
      this.liveness.receive(source, frame),
    );
    this.#sender = new Sender(this.#ports, this.#rates, this.#tally, this.#mirror, copyDscp);
    this.connections = new ReferenceConnections({ ...connections, populate });
    const isFromTunnel = (key: FlowKey): boolean => {
      const spec = this.#ports.get(readNumber(key, fields.in_port) as PortNo);
      return spec !== undefined && isTunnel(spec);
    };
    const from = { placeOf: (key: FlowKey) => this.#placeOf(key), isFromTunnel };
    this.#connector = new Connector(this.connections, this.#cache, from, clock);
    this.#runner = new Runner(this.#sender, this.#connector, this.#rates, this.#tally);
    void options.begun?.then(() => {
      this.#isHeld = false;
      if (this.#ports.hasIo) this.#scheduleTurn();
    });
    this.#isHeld = options.begun !== undefined;
    this.liveness = new Probes({
      clock,
      sender: this.#sender,
      inTurn: (work) => this.#enter(work),
      drain: () => this.#drain(),
      setTimer: options.setTimer,
      onChanged: options.onPeersChanged,
    });
  }

  // Ports

  portsAdd(ports: readonly NewPort[]): PortOpened[] {
    return ports.map(({ port, spec }) => {
      const opened = this.#ports.add(port, spec);
      if (opened instanceof WeftError) return opened;
      this.#rates.set(port, spec.rates);
      this.#tally.addPort(port);
      if (isTunnel(spec)) this.#openTunnel(spec.local);
      return opened;
    });
  }

  portSet(port: PortNo, rates?: PortRates): string[] {
    if (rates && this.#ports.get(port)) this.#enter(() => this.#rates.replace(port, rates));
    return this.#ports.renew(port);
  }

  portPlace(port: PortNo): TapPlace | undefined {
    return this.#ports.place(port);
  }

  portDel(port: PortNo, { keep = false }: { readonly keep?: boolean } = {}): void {
    const spec = this.#ports.delete(port);
    if (!spec) return;
    if (isTunnel(spec)) this.#openTunnel(undefined);
    this.#rates.delete(port);
    this.#tally.dropped(port, 'upcall_lost', this.#pending.dropPort(port) + this.#fragments.dropPort(port));
    this.#tally.removePort(port);
    this.#ports.closePort(port, spec, keep);
  }

  /** Without a turn, as in the native datapath: nothing that waits goes on because of it. */
  #openTunnel(local: Uint8Array | undefined): void {
    this.liveness.open(local);
    if (!this.#inside) this.liveness.settle();
  }

  close(): void {
    if (this.#closed) return;
    this.liveness.close();
    this.#ports.stopIo();
    while (this.#ports.hasIo && this.#turn() > 0);
    // Nothing waits for a rate any more.
    const limited = this.#ports.hasIo ? this.#ports.numbers : [];
    for (const port of limited) this.#enter(() => this.#rates.replace(port, {}));
    for (const port of this.#ports.numbers) this.portDel(port, { keep: true });
    this.#ports.closeIo();
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
    return this.#options.io(
      () => this.#scheduleTurn(),
      (port, why) => this.#options.onPortLost(port, why),
    );
  }

  /** Lets other work of the process run between two bursts. */
  #scheduleTurn(): void {
    if (this.#turnScheduled) return;
    this.#turnScheduled = true;
    setImmediate(() => {
      this.#turnScheduled = false;
      if (!this.#closed) this.#turn();
    });
  }

  /** Receives what has arrived, a few bursts at most. @returns until when that was all from the underlay */
  #drain(): number {
    const readUntilMs = this.#ports.io.readUntil(this.#clock());
    for (let bursts = 0; bursts < MOST_DRAINED && !this.#closed && this.#turn() === FRAMES_PER_TURN; bursts++);
    return readUntilMs;
  }

  /** @returns how many frames it took */
  #turn(): number {
    if (this.#isHeld) return 0;
    const received = this.#ports.io.take(FRAMES_PER_TURN);
    this.#enter(() => {
      for (let at = 0; at < received.length; ) {
        const { port } = received[at]!;
        const next = received.findIndex((frame, i) => i > at && frame.port !== port);
        const end = next < 0 ? received.length : next;
        // The port may have been removed in the meantime.
        if (this.#ports.get(port)) this.#receive(port, received.slice(at, end));
        at = end;
      }
    });
    if (received.length === FRAMES_PER_TURN) this.#scheduleTurn();
    return received.length;
  }

  /** Handles a burst of one port: 2 and 3 for all frames, then 4. */
  #receive(port: PortNo, burst: readonly ReceivedFrame[]): void {
    const arrived = burst.flatMap((frame) => this.#entrance.arrive(port, frame) ?? []);
    for (const arrival of coalesce(arrived)) this.#forward(port, arrival);
  }

  // 4. Coalesced

  #forward(port: PortNo, arrival: Arrival): void {
    const { key, frames, receivedBytes } = arrival;
    this.#tally.received(port, receivedBytes, frames);
    this.#tally.coalesced += frames - 1;
    if (this.#rates.admitsIn(port, key, arrival)) this.#enterPipeline(port, key, arrival);
  }

  #enterPipeline(port: PortNo, key: FlowKey, frame: Frame): void {
    if (key[fields.ip_frag.offset] !== FRAG_NONE) return this.#gather(port, key, frame);
    if (segmentCount(frame) <= MAX_SEGMENTS) return this.#decide(port, key, frame);
    this.#tally.segments++;
    for (const half of halves(frame)) this.#decide(port, key, half);
  }

  // 5. Gather

  #gather(port: PortNo, key: FlowKey, fragment: Frame): void {
    const tracked = this.#fragments.track(port, key, fragment, this.#clock());
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
    this.#fragments.expire(this.#clock(), (port, frames) => this.#tally.dropped(port, 'fragment_timeout', frames));
  }

  // 6. Parked, 7. connection, flow cache

  #decide(port: PortNo, key: FlowKey, frame: Frame): void {
    if (this.#pending.has(key) && !isErrorKey(key)) {
      const refused = this.#pending.park(key, frame);
      if (refused) this.#tally.dropped(port, refused);
      return;
    }
    let connection = this.#connector.find(key, frame);
    const current = this.#connector.keyOf(connection, key, frame);
    let flow = (connection && this.#connector.flowOf(connection, current)) ?? this.#cache.lookup(current);
    const [only] = flow?.actions ?? [];
    if (flow && only?.op === 'balance') {
      this.#count(flow, frame);
      const balanced = connection ?? this.#connector.balance(only, key, frame);
      if (balanced === 'half_open_limit') return this.#tally.dropped(port, balanced);
      [connection, flow] = [balanced, undefined];
    }
    if (connection && !flow) {
      flow = this.#connector.takeFlowOfOthers(connection, this.#connector.keyOf(connection, key, frame));
    }
    if (flow) {
      this.#count(flow, frame);
      if (!isTooBig(flow.actions, frame, key)) {
        const [first, ...others] = flow.actions;
        let next: FlowKey | undefined;
        if (first?.op === 'track' && !connection) {
          connection = this.#connector.open(first, key, frame);
          if (!connection) return this.#goOnUntracked(first, others, frame, key, port);
          // What begins a connection mostly has a flow that covers no other packet of it.
          next = this.#connector.keyOf(connection, key, frame);
        }
        if (connection && isOfConnections(flow.actions) && (!next || covers(flow.key, flow.mask, next))) {
          this.#connector.giveFlow(connection, flow.id);
        }
        return this.#deliver(flow.actions, frame, key, port, connection);
      }
      const may = this.#rates.upcalls(port)?.tooBig(this.#clock()) ?? true;
      if (!may || this.#pending.open(port, key, frame)) this.#tally.dropped(port, 'too_big');
      else this.#tally.upcalls++;
      return;
    }
    const may = this.#rates.upcalls(port)?.miss(key, this.#clock()) ?? true;
    if (!may) return this.#tally.dropped(port, 'upcall_rate_limit');
    const isBalanced = connection !== undefined && this.#connector.isBalanced(connection);
    const refused = this.#pending.open(port, key, frame, isBalanced);
    if (refused) this.#tally.dropped(port, refused);
    else this.#tally.upcalls++;
  }

  /**
   * What goes on untracked has nothing to do with connections. But it is treated as they are: it would evade a limit otherwise.
   */
  #goOnUntracked(
    { treatment }: Extract<Action, { op: 'track' }>,
    actions: readonly Action[],
    frame: Frame,
    key: FlowKey,
    port: PortNo,
  ): void {
    if (!this.#connector.admits(treatment?.meter, frame)) return this.#tally.dropped(port, 'hook_rate_limit');
    const { dscp } = treatment ?? {};
    const treated = dscp === undefined ? { frame, key } : withDscp(frame, key, dscp);
    this.#deliver(actions, treated.frame, treated.key, port);
  }

  #count(flow: CacheEntry, frame: Frame): void {
    flow.packets++;
    flow.bytes += frame.bytes.length;
    flow.lastUsedMs = this.#clock();
  }

  /** The place in which the tuple of a packet with this key is meaningful. */
  #placeOf(key: FlowKey): Place | undefined {
    const spec = this.#ports.get(readNumber(key, fields.in_port) as PortNo);
    if (spec?.kind === 'tap' || spec?.kind === 'memory') return spec.place;
    const vni = readNumber(key, fields.tun_vni) as Place;
    return spec === undefined || vni === OUTSIDE ? undefined : vni;
  }

  // 8. Actions

  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void {
    this.#enter(() => {
      if (typeof what === 'number') this.#answer(what, actions);
      else this.#runner.originate(plainBytes(what.frame), actions);
    });
  }

  #answer(token: UpcallToken, actions: readonly Action[]): void {
    const released = this.#pending.release(token);
    if (!released) return;
    const { port, parked, decided } = released;
    for (const { key, frame } of parked.slice(0, decided)) {
      const connection = this.#connector.find(key, frame);
      if (connection) this.#connector.noteFlow(connection);
      this.#deliver(actions, frame, key, port, connection);
    }
    for (const { key, frame } of parked.slice(decided)) this.#decide(port, key, frame);
  }

  /** Runs a frame that came in by `port`, unless the storm limit of the port refuses it. */
  #deliver(actions: readonly Action[], frame: Frame, key: FlowKey, port: PortNo, connection?: ConnectionFound): void {
    const storm = this.#rates.storm(port);
    if (storm && isFlooded(actions, key) && !storm.take(segmentCount(frame), this.#clock())) {
      return this.#tally.dropped(port, 'storm_control');
    }
    this.#runner.run(actions, frame, key, port, connection);
  }

  // 9. Settle

  /**
   * Runs `work` and transmits the frames that result. The outermost call then hands over mirrored frames and upcalls.
   */
  #enter(work: () => void): void {
    this.#expireFragments();
    if (this.#inside) {
      this.#rates.release();
      work();
      return this.#sender.transmit();
    }
    this.#inside = true;
    try {
      this.#rates.release();
      work();
      this.#sender.transmit();
      this.#mirror.flush();
      for (let batch = this.#pending.nextBatch(); batch.length > 0; batch = this.#pending.nextBatch()) {
        this.#options.onUpcall(batch);
        this.#mirror.flush();
      }
    } finally {
      this.#inside = false;
      this.#armRelease();
      this.liveness.settle();
    }
  }

  #armRelease(): void {
    clearTimeout(this.#releaseTimer);
    const { setTimer } = this.#options;
    const dueInMs = this.#rates.dueInMs;
    if (!setTimer || this.#closed || dueInMs === undefined) return;
    this.#releaseTimer = setTimer(() => this.#enter(() => {}), dueInMs);
  }

  // Flows, mirror, counters

  flowPut(flow: FlowPut): boolean {
    this.#expireFragments();
    return this.#cache.put(flow, this.#clock());
  }

  flowDel(id: FlowId): void {
    this.#cache.delete(id);
  }

  flowGet(id: FlowId): FlowEntry | undefined {
    this.#expireFragments();
    return this.#cache.get(id);
  }

  flowDump(): Iterable<FlowEntry> {
    this.#expireFragments();
    return this.#cache.dump();
  }

  mirror(options: MirrorOptions | null, sink?: MirrorSink): void {
    this.#mirror.set(options, sink);
  }

  counters(): DatapathCounters {
    this.#expireFragments();
    const { rx, originated, copies, segments, tx, consumed, coalesced, upcalls, unanswered } = this.#tally;
    return {
      rx,
      originated,
      copies,
      segments,
      tx,
      consumed,
      coalesced,
      held: this.#pending.held + this.#fragments.held + this.#rates.held,
      ...this.#tally.snapshot(),
      upcalls,
      unanswered,
      flows: this.#cache.flows,
      masks: this.#cache.masks,
      refused: this.#cache.refused,
    };
  }
}
