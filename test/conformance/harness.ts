/**
 * A datapath with memory ports, everything that comes out of it, and the check that no frame is lost
 * on the way: the base of the conformance and differential tests.
 */
import { deepStrictEqual, strictEqual } from 'node:assert';
import {
  openPort,
  type Datagram,
  type Datapath,
  type DatapathCounters,
  type DatapathOptions,
  type Injectable,
  type OffloadedFrame,
  type Upcall,
} from '../../src/datapath/datapath.ts';
import type { Offload } from '../../src/flow/offload.ts';
import type { Action } from '../../src/flow/action.ts';
import type { Place } from '../../src/flow/connection.ts';
import type { ConnectionStoreOptions } from '../../src/flow/connection-store.ts';
import { fields, KEY_BYTES, type FieldName } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import { parseIp, type FlowId, type PortNo, type Vni } from '../../src/flow/types.ts';
import { udp } from '../support/frames.ts';

export type Switch = Datapath & Injectable;
export type Open = (options: DatapathOptions) => Switch;

export const portNo = (number: number) => number as PortNo;
export const flowId = (number: number) => number as FlowId;
export const output = (...ports: number[]): Action[] => ports.map((port) => ({ op: 'output', port: portNo(port) }));
export const encap = (vni: number, vtep: string): Action => ({ op: 'encap', vni: vni as Vni, vtep: parseIp(vtep) });
/** A frame of flow `flow`, with `sequence` in its payload. */
export const numbered = (flow: number, sequence: number): Uint8Array =>
  udp({}, 1000 + flow, 53, Uint8Array.of(sequence >> 8, sequence));
export const consume: readonly Action[] = [{ op: 'consume' }];

/** A mask that uses these fields. */
export function maskOf(...names: FieldName[]): Uint8Array {
  const mask = new Uint8Array(KEY_BYTES);
  for (const name of names) mask.fill(0xff, fields[name].offset, fields[name].offset + fields[name].size);
  return mask;
}

/** Frames that are inside it: exactly as many as the law of conservation says. */
export function checkConservation(counters: DatapathCounters): void {
  const drops = Object.values(counters.drops).reduce((sum, count) => sum + count, 0);
  strictEqual(
    counters.rx + counters.originated + counters.copies + counters.segments,
    counters.tx + counters.consumed + counters.coalesced + drops + counters.held,
    `rx + originated + copies + segments = tx + consumed + coalesced + drops + held does not hold: ${JSON.stringify(counters)}`,
  );
}

export interface HarnessOptions {
  readonly flowCap?: number;
  readonly connections?: ConnectionStoreOptions;
  /** Of memory ports, by their numbers; others are in none. */
  readonly places?: Readonly<Record<number, Place>>;
}

export class Harness {
  readonly dp: Switch;
  nowMs = 1000;
  /** What each memory port transmitted since the last `take`. */
  readonly sent = new Map<number, OffloadedFrame[]>();
  readonly datagrams: Datagram[] = [];
  /** All upcalls so far, in order, and in the batches in which they came. */
  readonly upcalls: Upcall[] = [];
  readonly batches: (readonly Upcall[])[] = [];
  /** Runs for each batch after it was recorded. */
  onUpcall: (batch: readonly Upcall[]) => void = () => {};
  /** Runs for each frame that a memory port transmits, after it was recorded. */
  onTransmit: (port: number, frame: Uint8Array) => void = () => {};

  readonly #places: Readonly<Record<number, Place>>;

  constructor(open: Open, options: HarnessOptions = {}) {
    this.#places = options.places ?? {};
    this.dp = open({
      flowCap: options.flowCap ?? 1000,
      ...(options.connections && { connections: options.connections }),
      clock: () => this.nowMs,
      onPortLost: () => {
        throw new Error('a memory port cannot be lost');
      },
      onUpcall: (batch) => {
        this.batches.push(batch);
        this.upcalls.push(...batch);
        this.onUpcall(batch);
      },
    });
  }

  memory(...ports: number[]): void {
    for (const port of ports) this.#memory(port, false);
  }

  /** Adds memory ports that take superframes and partial checksums. */
  offloading(...ports: number[]): void {
    for (const port of ports) this.#memory(port, true);
  }

  #memory(port: number, offloads: boolean): void {
    this.sent.set(port, []);
    const transmit = (frame: Uint8Array, offload: Offload | undefined): void => {
      this.sent.get(port)!.push({ frame, offload });
      this.onTransmit(port, frame);
    };
    const place = this.#places[port];
    openPort(this.dp, portNo(port), {
      kind: 'memory',
      name: `m${port}`,
      offloads,
      ...(place !== undefined && { place }),
      transmit,
    });
  }

  vxlan(port: number, local: string): void {
    openPort(this.dp, portNo(port), {
      kind: 'memory-vxlan',
      name: `v${port}`,
      local: parseIp(local),
      transmit: (datagram) => this.datagrams.push(datagram),
    });
  }

  inject(port: number, ...frames: Uint8Array[]): void {
    for (const frame of frames) this.dp.inject(portNo(port), frame);
  }

  burst(port: number, ...frames: OffloadedFrame[]): void {
    this.dp.injectBurst(portNo(port), frames);
  }

  /** One receive of VXLAN payloads, all from `source`. */
  injectDatagrams(port: number, source: string, ...payloads: Uint8Array[]): void {
    const ends = { source: parseIp(source), destination: parseIp('192.0.2.1'), sourcePort: 50000 };
    this.dp.injectDatagrams(
      portNo(port),
      payloads.map((payload) => ({ ...ends, payload })),
    );
  }

  injectDatagram(port: number, source: string, payload: Uint8Array, tos = 0): void {
    const destination = parseIp('192.0.2.1');
    this.dp.injectDatagram(portNo(port), { source: parseIp(source), destination, sourcePort: 50000, tos, payload });
  }

  /** Answers the upcall with number `index` (from 0; negative numbers count from the end). */
  answer(index: number, actions: readonly Action[]): void {
    this.dp.execute(this.upcalls.at(index)!.token, actions);
  }

  /** Returns what `port` has sent, and forgets it. */
  take(port: number): Uint8Array[] {
    return this.takeOffloaded(port).map(({ frame }) => frame);
  }

  takeOffloaded(port: number): OffloadedFrame[] {
    return this.sent.get(port)!.splice(0);
  }

  /** Caches a flow with these actions for everything that comes in by `port`. */
  forward(port: number, actions: readonly Action[]): void {
    const key = emptyKey();
    writeNumber(key, fields.in_port, port);
    this.dp.flowPut({ id: flowId(port), key, mask: maskOf('in_port'), actions });
  }

  /** The counters, after checking them. */
  counters(): DatapathCounters {
    const counters = this.dp.counters();
    checkConservation(counters);
    return counters;
  }

  drops(): DatapathCounters['drops'] {
    return this.counters().drops;
  }

  /** Checks conservation before and after the datapath closes, when nothing may be held any more. */
  close(): void {
    this.counters();
    this.dp.close();
  }

  /** The frames and their remaining offload work are equal, in order. */
  static sameOffloaded(actual: readonly OffloadedFrame[], expected: readonly OffloadedFrame[], what?: string): void {
    const text = (list: readonly OffloadedFrame[]) =>
      list.map(({ frame, offload }) => `${JSON.stringify(offload)} ${Buffer.from(frame).toString('hex')}`);
    deepStrictEqual(text(actual), text(expected), what);
  }

  /** The bytes of frames are equal, in order. */
  static same(actual: readonly Uint8Array[], expected: readonly Uint8Array[], what?: string): void {
    const text = (frames: readonly Uint8Array[]) => frames.map((frame) => Buffer.from(frame).toString('hex'));
    deepStrictEqual(text(actual), text(expected), what);
  }
}
