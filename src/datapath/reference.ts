/**
 * The reference datapath: the contract of `datapath.ts` in plain TypeScript, to
 * be read beside the native one and held against it, and the base of networks
 * that run inside one process.
 *
 *   1. rx: a frame comes from a TAP, the underlay, or `inject`
 *   2. decapsulate, if it came from the underlay
 *   3. extract its key; from here on it has its L3 length
 *   4. parked? behind the others of its key
 *   5. flow cache: hit, and its actions run; or miss, parked with an upcall
 *   6. actions → tx
 *   7. settle: hand over mirrored frames and upcalls
 *
 * Frames run one at a time to completion; what memory ports transmit waits in an
 * outbox until then. `transmit` and `onUpcall` may call back in: frames go out in
 * the order in which they were decided, and upcalls are delivered by the
 * outermost call, one batch after the other, so `onUpcall` is never re-entered. Frames handed to
 * `transmit` and `mirror` are copies and belong to the receiver; injected ones
 * are read before `inject` returns and not kept.
 */
import type { Action } from '../flow/action.ts';
import { extract } from '../flow/extract.ts';
import { fields } from '../flow/fields.ts';
import { entropyPort, flowHash } from '../flow/hash.ts';
import { emptyKey, writeNumber, type FlowKey } from '../flow/key.ts';
import type { DropReason } from '../flow/reason.ts';
import { sameBytes, type FlowId, type PortNo } from '../flow/types.ts';
import { ETH_HEADER_BYTES } from '../wire/ethernet.ts';
import { buildVxlan, parseVxlan } from '../wire/vxlan.ts';
import { WeftError } from '../error.ts';
import type {
  Datagram,
  Datapath,
  DatapathCounters,
  DatapathOptions,
  FlowEntry,
  FlowPut,
  Injectable,
  MirroredFrame,
  MirrorOptions,
  OriginatedFrame,
  PortSpec,
  TapOpened,
  UpcallToken,
} from './datapath.ts';
import { finishChecksum } from './finish.ts';
import { FlowCache } from './flow-cache.ts';
import { Mirror } from './mirror.ts';
import { PendingTable } from './pending.ts';
import { Tally } from './tally.ts';

/** Frames taken from the kernel in one turn of the event loop. */
const FRAMES_PER_TURN = 64;
/** VIRTIO_NET_HDR_F_DATA_VALID: the checksum is known to be good. The only flag without work to do. */
const VNET_DATA_VALID = 2;

/** A frame, or a VXLAN payload, as the kernel handed it over. */
export interface ReceivedFrame {
  readonly port: PortNo;
  readonly bytes: Uint8Array;
  /** Of the virtio_net_hdr; 0 from the underlay. */
  readonly vnetFlags: number;
  readonly gsoType: number;
  /** Underlay only: who sent it, 16 bytes. */
  readonly source?: Uint8Array | undefined;
}

/** Frames from and to the kernel: `frame-io.ts`, or another one in a test. */
export interface KernelIo {
  addTap(port: PortNo, netns: string, ifname: string): TapOpened;
  openUnderlay(port: PortNo, local: Uint8Array, l4Port: number): void;
  remove(port: PortNo, keep: boolean): void;
  /** What has arrived, `max` at most. After fewer than `max`, `onWake` tells of the next. */
  take(max: number): readonly ReceivedFrame[];
  send(port: PortNo, frame: Uint8Array): DropReason | undefined;
  sendUnderlay(remote: Uint8Array, entropy: number, payload: Uint8Array): DropReason | undefined;
  close(): void;
}

export interface ReferenceOptions extends DatapathOptions {
  /** Opens the kernel's side when the first `tap` or `vxlan` port is added. */
  readonly io?: (onWake: () => void, onLost: (port: PortNo, why: string) => void) => KernelIo;
}

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
  readonly #cache: FlowCache;
  readonly #pending = new PendingTable();
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
    this.#mirror = new Mirror(options.clock);
  }

  // Ports

  portAdd(port: PortNo, spec: PortSpec): TapOpened | undefined {
    if (this.#ports.has(port)) throw new WeftError('conflict', `port ${port} exists already`);
    const tunnel = spec.kind === 'vxlan' || spec.kind === 'memory-vxlan' ? { port, spec } : undefined;
    if (tunnel && this.#tunnel) {
      throw new WeftError('conflict', `port ${port}: port ${this.#tunnel.port} is the VXLAN port already`);
    }
    const opened = spec.kind === 'tap' ? this.#openIo().addTap(port, spec.netns, spec.ifname) : undefined;
    if (spec.kind === 'vxlan') this.#openIo().openUnderlay(port, spec.local, spec.l4Port);
    if (tunnel) this.#tunnel = tunnel;
    this.#ports.set(port, spec);
    this.#tally.addPort(port);
    return opened;
  }

  portDel(port: PortNo, options: { readonly keep?: boolean } = {}): void {
    const spec = this.#ports.get(port);
    if (!spec) return;
    this.#ports.delete(port);
    if (this.#tunnel?.port === port) this.#tunnel = undefined;
    this.#tally.dropped(port, 'upcall_lost', this.#pending.dropPort(port));
    this.#tally.removePort(port);
    if (spec.kind === 'tap' || spec.kind === 'vxlan') this.#io!.remove(port, options.keep ?? false);
  }

  close(): void {
    for (const port of [...this.#ports.keys()]) this.portDel(port, { keep: true });
    this.#io?.close();
    this.#closed = true;
  }

  // 1. rx

  inject(port: PortNo, frame: Uint8Array): void {
    if (this.#ports.get(port)?.kind !== 'memory') throw new WeftError('not_found', `port ${port} is no memory port`);
    this.#enter(() => this.#receive(port, frame, newKey(port)));
  }

  injectDatagram(port: PortNo, datagram: Datagram): void {
    if (this.#ports.get(port)?.kind !== 'memory-vxlan') {
      throw new WeftError('not_found', `port ${port} is no memory-vxlan port`);
    }
    this.#enter(() => this.#receiveDatagram(this.#tunnel!, datagram.source, datagram.payload));
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
      for (const frame of received) this.#receiveFromKernel(frame);
    });
    if (received.length === FRAMES_PER_TURN) this.#scheduleTurn();
  }

  #receiveFromKernel({ port, source, bytes, vnetFlags, gsoType }: ReceivedFrame): void {
    // It may have been removed since.
    if (!this.#ports.has(port)) return;
    if (source) return this.#receiveDatagram(this.#tunnel!, source, bytes);
    // Offloads are not negotiated, so a header that asks for one is wrong.
    if ((vnetFlags & ~VNET_DATA_VALID) !== 0 || gsoType !== 0) {
      this.#tally.received(port, bytes.length);
      return this.#tally.dropped(port, 'bad_vnet_hdr');
    }
    this.#receive(port, bytes, newKey(port));
  }

  // 2. Decapsulate

  #receiveDatagram({ port, spec }: Tunnel, source: Uint8Array, payload: Uint8Array): void {
    const vxlan = parseVxlan(payload);
    if (!vxlan || vxlan.frame.length < ETH_HEADER_BYTES) {
      this.#tally.received(port, payload.length);
      return this.#tally.dropped(port, 'vxlan_malformed');
    }
    if (sameBytes(source, spec.local)) {
      this.#tally.received(port, vxlan.frame.length);
      return this.#tally.dropped(port, 'vxlan_own_address');
    }
    const key = newKey(port);
    writeNumber(key, fields.tun_vni, vxlan.vni);
    key.set(source, fields.tun_src.offset);
    this.#receive(port, vxlan.frame, key);
  }

  // 3. Extract, 4. parked, 5. flow cache

  #receive(port: PortNo, received: Uint8Array, key: FlowKey): void {
    this.#mirror.frame(port, 'rx', received);
    const extracted = extract(received, key);
    if (!extracted.ok) {
      this.#tally.received(port, received.length);
      return this.#tally.dropped(port, extracted.reason);
    }
    const whole = received.subarray(0, extracted.lengthBytes);
    this.#tally.received(port, whole.length);
    const frame = port === this.#tunnel?.port ? finishChecksum(whole, key) : whole;

    if (this.#pending.has(key)) {
      const refused = this.#pending.park(key, frame);
      if (refused) this.#tally.dropped(port, refused);
      return;
    }
    const flow = this.#cache.lookup(key);
    if (flow) {
      flow.packets++;
      flow.bytes += frame.length;
      flow.lastUsedMs = this.#options.clock();
      return this.#run(flow.actions, frame, key, port);
    }
    const refused = this.#pending.open(port, key, frame);
    if (refused) this.#tally.dropped(port, refused);
    else this.#tally.upcalls++;
  }

  // 6. Actions

  execute(what: UpcallToken | OriginatedFrame, actions: readonly Action[]): void {
    this.#enter(() => {
      if (typeof what === 'number') this.#release(what, actions);
      else this.#originate(what.frame, actions);
    });
  }

  #release(token: UpcallToken, actions: readonly Action[]): void {
    const released = this.#pending.release(token);
    if (!released) return;
    const { frames, key, port } = released;
    for (const frame of frames) this.#run(actions, frame, key, port);
  }

  #originate(made: Uint8Array, actions: readonly Action[]): void {
    this.#tally.originated++;
    const key = emptyKey();
    const extracted = extract(made, key);
    if (!extracted.ok) return this.#tally.dropped(undefined, extracted.reason);
    this.#run(actions, made.subarray(0, extracted.lengthBytes), key, undefined);
  }

  /** @param port where the frame came in; undefined when weft made it */
  #run(actions: readonly Action[], frame: Uint8Array, key: FlowKey, port: PortNo | undefined): void {
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
        default:
          action satisfies never;
      }
    }
  }

  #output(to: PortNo, frame: Uint8Array, from: PortNo | undefined): void {
    const spec = this.#ports.get(to);
    if (spec?.kind === 'memory') {
      this.#sent(to, frame);
      const copy = frame.slice();
      this.#outbox.push(() => spec.transmit(copy));
    } else if (spec?.kind === 'tap') {
      const refused = this.#io!.send(to, frame);
      if (refused) this.#tally.dropped(from, refused);
      else this.#sent(to, frame);
    } else {
      this.#tally.dropped(from, 'port_gone');
    }
  }

  #encap(vni: number, vtep: Uint8Array, frame: Uint8Array, key: FlowKey, from: PortNo | undefined): void {
    if (!this.#tunnel) return this.#tally.dropped(from, 'underlay_missing');
    const { port, spec } = this.#tunnel;
    const payload = buildVxlan({ vni, frame });
    if (spec.kind === 'memory-vxlan') {
      this.#sent(port, frame);
      const datagram = { source: spec.local, destination: vtep, sourcePort: entropyPort(key), payload };
      this.#outbox.push(() => spec.transmit(datagram));
      return;
    }
    const refused = this.#io!.sendUnderlay(vtep, flowHash(key), payload);
    if (refused) this.#tally.dropped(from, refused);
    else this.#sent(port, frame);
  }

  #sent(port: PortNo, frame: Uint8Array): void {
    this.#tally.sent(port, frame.length);
    this.#mirror.frame(port, 'tx', frame);
  }

  // 7. Settle

  /** Runs `work` and transmits what came of it; the outermost call then hands over mirrored frames and upcalls. */
  #enter(work: () => void): void {
    if (this.#inside) {
      work();
      return this.#transmit();
    }
    this.#inside = true;
    try {
      work();
      this.#transmit();
      this.#mirror.flush();
      for (let batch = this.#pending.nextBatch(); batch.length > 0; batch = this.#pending.nextBatch()) {
        this.#options.onUpcall(batch);
        this.#mirror.flush();
      }
    } finally {
      this.#inside = false;
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
    return this.#cache.put(flow, this.#options.clock());
  }

  flowDel(id: FlowId): void {
    this.#cache.delete(id);
  }

  flowDump(): FlowEntry[] {
    return this.#cache.dump();
  }

  mirror(options: MirrorOptions | null, sink?: (frames: readonly MirroredFrame[]) => void): void {
    this.#mirror.set(options, sink);
  }

  counters(): DatapathCounters {
    const { rx, originated, copies, tx, consumed, upcalls } = this.#tally;
    return {
      rx,
      originated,
      copies,
      segments: 0,
      tx,
      consumed,
      coalesced: 0,
      held: this.#pending.held,
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
