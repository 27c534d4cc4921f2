/**
 * The native datapath: fulfils the contract of `datapath.ts` with the addon. native/datapath.h describes
 * the path of a frame; here is only what crosses between it and JavaScript.
 *
 * With threads, these move frames between TAPs and the underlay. Upcalls are taken from the event
 * loop, for some milliseconds in each turn, so that a flood of misses does not starve the process. With 0 threads,
 * frames move between memory ports during `inject` and `execute`. As in the reference datapath, frames
 * that they transmit wait in an outbox until the addon has returned, and upcalls are delivered before
 * the outermost of these calls returns.
 */
import { WeftError } from '../../error.ts';
import { checkBpf, type BpfProgram } from '../../flow/bpf.ts';
import { encodeActions, type Action } from '../../flow/action.ts';
import { socketDescriptors, tapDescriptors, type PortDescriptors } from '../../flow/descriptors.ts';
import type { TapPlace } from '../../flow/tap.ts';
import type { FlowId, PortNo } from '../../flow/types.ts';
import { loadAddon } from '../../addon/addon.ts';
import type { NativeDatapath, NativeMirrored, NativeWaiting } from '../../addon/native-datapath.ts';
import {
  isTunnel,
  noConnections,
  portNumberRefusal,
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
  type PortSpec,
  type UpcallToken,
} from '../datapath.ts';
import { UPCALL_BATCH } from '../../flow/bounds.ts';
import type { Offload } from '../../flow/offload.ts';
import { errnoName, ioError, lostText } from '../../addon/io-error.ts';
import { NativeConnections } from './connections.ts';
import { NativeLiveness } from './liveness.ts';
import { readCounters, readFlows, readMirrored, readUpcalls } from './records.ts';
import { foundTap, renewedText, tapTarget } from '../../addon/tap.ts';

export interface NativeOptions extends DatapathOptions {
  /** TAP and VXLAN ports on this many threads of their own. 0: memory ports on the caller's thread. */
  readonly threads: number;
  /** With 0 threads: how many workers share the work, as threads would. */
  readonly workers?: number;
  readonly descriptors?: PortDescriptors | undefined;
}

/** How long a turn of the event loop goes on taking upcalls, so that everything else is answered in the meantime. */
export const TURN_MS = 3;
/** With how many a turn begins: of each two, one is to a group if any waits. */
const FIRST_UPCALLS = 2;

/** Address and TOS: `UnderlaySource` of native/frame.h. */
const SOURCE_BYTES = 17;

export type NativeSwitch = Datapath & Injectable;

/** @throws WeftError if the addon is missing or was built from other sources. */
export function openNativeDatapath(options: NativeOptions): NativeSwitch {
  return new Native(options);
}

class Native implements NativeSwitch {
  readonly connections: NativeConnections;
  readonly liveness: NativeLiveness;
  readonly #options: NativeOptions;
  readonly #native: NativeDatapath;
  readonly #ports = new Map<PortNo, PortSpec>();
  /** The names of the descriptors of ports. */
  readonly #names = new Map<PortNo, string>();
  #sink: MirrorSink | undefined;
  #outbox: (() => void)[] = [];
  #transmitting = false;
  #inside = false;
  #closed = false;
  #isTurnPlanned = false;

  constructor(options: NativeOptions) {
    this.#options = options;
    this.connections = new NativeConnections(options.connections ?? noConnections());
    this.#native = new (loadAddon().Datapath)(
      options.threads || (options.workers ?? 1),
      options.threads > 0,
      options.flowCap,
      options.copyDscp ?? false,
      this.connections.table,
      {
        // In a turn of its own: as long as upcalls keep coming, Node.js calls this back again before anything else gets its turn.
        wake: () => this.#planTurn(),
        transmit: (port, frame, flags, gsoType, gsoSize, csumStart, csumOffset) => {
          const spec = this.#ports.get(port as PortNo);
          if (spec?.kind !== 'memory') return;
          const offload = flags === 0 ? undefined : { flags, gsoType, gsoSize, csumStart, csumOffset };
          this.#outbox.push(() => spec.transmit(frame, offload));
        },
        transmitDatagram: (port, destination, sourcePort, tos, payload) => {
          const spec = this.#ports.get(port as PortNo);
          if (spec?.kind !== 'memory-vxlan') return;
          const datagram = { source: spec.local, destination, sourcePort, tos, payload };
          this.#outbox.push(() => spec.transmit(datagram));
        },
      },
    );
    this.#native.setClock(options.clock());
    if (options.begun) {
      this.#native.hold();
      void options.begun.then(() => this.#closed || this.#native.begin());
    }
    this.liveness = new NativeLiveness(this.#native, (work) => this.#enter(work), options.threads > 0);
  }

  // Ports

  portsAdd(ports: readonly NewPort[]): PortOpened[] {
    if (this.#closed) throw new WeftError('conflict', 'the datapath is closed');
    const taken = new Set(this.#ports.keys());
    const results = ports.map(({ port, spec }): PortOpened => {
      const refused = taken.has(port)
        ? new WeftError('conflict', `port ${port} exists already`)
        : this.#refusal(port, spec);
      if (refused) return refused;
      taken.add(port);
      return spec.kind === 'tap' ? undefined : this.#open(port, spec);
    });
    const taps = ports.flatMap(({ port, spec }, at) =>
      spec.kind === 'tap' && !results[at] ? [{ port, spec, at }] : [],
    );
    if (taps.length === 0) return results;
    const opened = this.#native.addTaps(
      taps.map(({ port }) => port),
      taps.map(({ spec }) => tapTarget(spec)),
      this.#options.descriptors?.spareTaps() ?? [],
    );
    for (const [i, { port, spec, at }] of taps.entries()) {
      const one = opened[i]!;
      if (typeof one !== 'number') this.#enterPort(port, spec, spec.isTransient ? undefined : tapDescriptors(one));
      results[at] = typeof one === 'number' ? ioError(-one, spec) : one;
    }
    return results;
  }

  #refusal(port: PortNo, spec: PortSpec): WeftError | undefined {
    const refused = portNumberRefusal(port);
    if (refused) return refused;
    const tunnel = [...this.#ports].find(([, one]) => isTunnel(one))?.[0];
    if (isTunnel(spec) && tunnel !== undefined) {
      return new WeftError('conflict', `port ${port}: port ${tunnel} is the VXLAN port already`);
    }
    const isMemory = spec.kind === 'memory' || spec.kind === 'memory-vxlan';
    if (isMemory === (this.#options.threads === 0)) return undefined;
    const accepted = isMemory ? 'tap and vxlan ports' : 'memory ports';
    return new WeftError(
      'invalid',
      `port ${port}: a datapath with ${this.#options.threads} threads has ${accepted}, not "${spec.kind}"`,
    );
  }

  #open(port: PortNo, spec: Exclude<PortSpec, { kind: 'tap' }>): WeftError | undefined {
    const error = this.#openNative(port, spec);
    if (error !== 0 && spec.kind === 'vxlan') return ioError(-error, spec);
    if (error !== 0) return new WeftError('internal', `port ${port} could not be added (${errnoName(-error)})`);
    this.#enterPort(port, spec, spec.kind === 'vxlan' ? socketDescriptors(spec.local, spec.l4Port) : undefined);
    return undefined;
  }

  #openNative(port: PortNo, spec: Exclude<PortSpec, { kind: 'tap' }>): number {
    switch (spec.kind) {
      case 'vxlan': {
        const spares = this.#options.descriptors?.spare(socketDescriptors(spec.local, spec.l4Port)) ?? [];
        return this.#native.addVxlan(port, spec.local, spec.l4Port, Int32Array.from(spares));
      }
      case 'memory':
        return this.#native.addMemory(port, spec.offloads ?? false);
      case 'memory-vxlan':
        return this.#native.addMemoryVxlan(port, spec.local);
      default:
        return spec satisfies never;
    }
  }

  #enterPort(port: PortNo, spec: PortSpec, name?: string): void {
    if (spec.rates) this.#native.setRates(port, encodeRates(spec.rates));
    if (!isTunnel(spec) && spec.place !== undefined) this.#native.setPlace(port, spec.place);
    this.#ports.set(port, spec);
    if (name === undefined || !this.#options.descriptors) return;
    this.#names.set(port, name);
    this.#options.descriptors.opened(name, this.#native.descriptors(port));
  }

  portSet(port: PortNo, rates?: PortRates): string[] {
    const spec = this.#ports.get(port);
    if (!spec) return [];
    // The new rates may admit frames that wait.
    if (rates) this.#enter(() => this.#native.setRates(port, encodeRates(rates)));
    return spec.kind === 'tap' ? renewedText(this.#native.renewTap(port)) : [];
  }

  portPlace(port: PortNo): TapPlace | undefined {
    return this.#ports.get(port)?.kind === 'tap' ? foundTap(this.#native.findTap(port)) : undefined;
  }

  portDel(port: PortNo, { keep = false }: { readonly keep?: boolean } = {}): void {
    if (!this.#ports.delete(port)) return;
    const name = this.#names.get(port);
    this.#names.delete(port);
    if (name !== undefined) this.#options.descriptors?.closing(name);
    const error = this.#native.removePort(port, keep);
    if (error !== 0) throw new WeftError('system', `port ${port} could not be removed (${errnoName(-error)})`);
  }

  close(): void {
    if (this.#closed) return;
    if (this.#options.threads > 0) {
      this.#native.stop();
      // Nothing waits for a rate any more.
      for (const port of this.#ports.keys()) this.#enter(() => this.#native.setRates(port, encodeRates({})));
      while (this.#deliver(UPCALL_BATCH) > 0);
    }
    this.#closed = true;
    this.#ports.clear();
    this.#native.close();
  }

  // Frames in and out of memory ports

  inject(port: PortNo, frame: Uint8Array, offload?: Offload): void {
    this.injectBurst(port, [{ frame, offload }]);
  }

  injectBurst(port: PortNo, frames: readonly OffloadedFrame[]): void {
    if (this.#ports.get(port)?.kind !== 'memory') throw new WeftError('not_found', `port ${port} is no memory port`);
    const offloads = new Uint16Array(5 * frames.length);
    frames.forEach(({ offload }, i) => {
      if (!offload) return;
      const { flags, gsoType, gsoSize, csumStart, csumOffset } = offload;
      offloads.set([flags, gsoType, gsoSize, csumStart, csumOffset], 5 * i);
    });
    const bytes = frames.map(({ frame }) => frame);
    this.#enter(() => this.#native.inject(port, bytes, offloads));
  }

  injectDatagram(port: PortNo, datagram: Datagram): void {
    this.injectDatagrams(port, [datagram]);
  }

  injectDatagrams(port: PortNo, datagrams: readonly Datagram[]): void {
    if (this.#ports.get(port)?.kind !== 'memory-vxlan') {
      throw new WeftError('not_found', `port ${port} is no memory-vxlan port`);
    }
    const sources = new Uint8Array(SOURCE_BYTES * datagrams.length);
    datagrams.forEach(({ source, tos = 0 }, i) => sources.set([...source, tos], SOURCE_BYTES * i));
    const payloads = datagrams.map(({ payload }) => payload);
    this.#enter(() => this.#native.injectDatagrams(port, sources, payloads));
  }

  /** Empties the outbox. Frames that `transmit` sends back in go to its end. */
  #transmit(): void {
    if (this.#transmitting) return;
    this.#transmitting = true;
    try {
      for (let next = this.#outbox.shift(); next; next = this.#outbox.shift()) next();
    } finally {
      this.#transmitting = false;
    }
  }

  // Upcalls

  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void {
    const encoded = encodeActions(actions);
    this.#enter(() => {
      if (typeof what === 'number') this.#native.execute(what, encoded);
      else this.#native.originate(what.frame, encoded);
    });
  }

  /** With 0 threads, time advances with calls, and whatever is too old by then is dropped. */
  #setClock(): void {
    if (this.#options.threads === 0) this.#native.setClock(this.#options.clock());
  }

  /**
   * Runs `work` and transmits the frames that result. With 0 threads, the outermost call then hands over everything
   * else.
   */
  #enter(work: () => void): void {
    this.#setClock();
    if (this.#options.threads > 0) return work();
    this.#native.release();
    if (this.#inside) {
      work();
      return this.#transmit();
    }
    this.#inside = true;
    try {
      work();
      this.#transmit();
      while (this.#deliver(UPCALL_BATCH) > 0);
    } finally {
      this.#inside = false;
    }
  }

  #planTurn(): void {
    if (this.#isTurnPlanned) return;
    this.#isTurnPlanned = true;
    setImmediate(() => {
      this.#isTurnPlanned = false;
      this.#turn();
    });
  }

  /**
   * One turn of the event loop, with threads. It begins with few upcalls, and goes on with twice as many each time while there is
   * time: code that runs for the first time, and decisions about frames to every port of a large network, take a hundred times
   * as long as others.
   */
  #turn(): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    const endMs = clock() + TURN_MS;
    try {
      for (let most = FIRST_UPCALLS; this.#deliver(most) === most; most = Math.min(2 * most, UPCALL_BATCH)) {
        if (clock() >= endMs) return this.#planTurn();
      }
    } catch (error) {
      this.#planTurn();
      throw error;
    }
  }

  /** Hands over what waits, with `most` upcalls at most. Returns the number of upcalls. */
  #deliver(most: number): number {
    const waiting: NativeWaiting = this.#native.takeWaiting(most);
    for (const { port, errno } of waiting.lost) this.#options.onPortLost(port as PortNo, lostText(errno));
    this.#deliverMirrored(waiting);
    if (waiting.peersChanged) this.#options.onPeersChanged?.();
    const batch = readUpcalls(waiting.upcalls);
    if (batch.length > 0) this.#options.onUpcall(batch);
    return batch.length;
  }

  #deliverMirrored({ mirrored, mirrorLost }: NativeMirrored): void {
    if (mirrored.length > 0 || mirrorLost > 0) this.#sink?.(readMirrored(mirrored), mirrorLost);
  }

  // Flows, mirror, counters

  flowPut({ id, key, mask, actions, ofConnections = false }: FlowPut): boolean {
    this.#setClock();
    return this.#native.flowPut(id, key, mask, encodeActions(actions), ofConnections);
  }

  flowDel(id: FlowId): void {
    this.#native.flowDel(id);
  }

  flowGet(id: FlowId): FlowEntry | undefined {
    this.#setClock();
    return readFlows(this.#native.flowGet(id))[0];
  }

  *flowDump(): Generator<FlowEntry> {
    this.#setClock();
    for (let cursor = 0; cursor >= 0; ) {
      const { flows, next } = this.#native.flowDump(cursor);
      yield* readFlows(flows);
      cursor = next;
    }
  }

  mirror(options: MirrorOptions | null, sink?: MirrorSink): void {
    const filter = packBpf(options?.filter ? checkBpf(options.filter) : []);
    this.#deliverMirrored(this.#native.mirrorStop());
    this.#sink = options ? sink : undefined;
    if (options) this.#native.mirrorStart(options.port ?? 0, options.snapBytes, filter);
  }

  counters(): DatapathCounters {
    this.#setClock();
    return readCounters(this.#native.counters());
  }
}

function encodeRates(rates: PortRates): Float64Array {
  const { ingress, egress, storm, upcalls, answers, sockets, unanswered } = rates;
  const numbers = [ingress, egress, storm, upcalls, answers, sockets, unanswered].flatMap((rate) => [
    rate?.perSecond ?? 0,
    rate?.burst ?? 0,
    rate?.queue ?? 0,
  ]);
  return Float64Array.from(numbers);
}

function packBpf(program: BpfProgram): Uint32Array {
  return Uint32Array.from(program.flatMap(({ code, jumpTrue, jumpFalse, k }) => [code, jumpTrue, jumpFalse, k]));
}
