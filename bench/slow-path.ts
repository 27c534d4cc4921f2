/**
 * The slow path by itself: the cost of deciding a flow, and of deciding many cached flows again.
 *
 * The native datapath runs with 0 threads, so everything happens in this process, on its one
 * thread, as often as we like:
 *
 *   inject → miss → upcalls, 64 a batch → controller → decide → flowPut, execute → memory port
 *
 * A frame also costs something when a cached flow covers it. That is measured by sending the
 * same frames again, and subtracted. What remains is the decision with everything that belongs
 * to it, including the addon's part and garbage collection. CPU time is that of the whole
 * process. There are two local ports and a VTEP. Flows are routed, and each has a destination of its
 * own, because flows that are bridged between the same stations are one cached flow.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { openPort } from '../src/datapath/datapath.ts';
import { openNativeDatapath, type NativeSwitch } from '../src/datapath/native/native.ts';
import { connectionBytes } from '../src/flow/connection.ts';
import { formatIp, formatMac, parseIp, parseMac, type PortNo, type Vni } from '../src/flow/types.ts';
import { routing } from '../src/cluster/routing.ts';
import { connectionSlots, Forwarding } from '../src/forwarding.ts';
import { gatewayMac, type AccessPort } from '../src/table/topology.ts';
import { udp } from '../test/support/frames.ts';

const VNI = 100 as Vni;
const UNDERLAY = 1 as PortNo;
const TRIGGER = 9 as PortNo;
const OUTSIDE = 8 as PortNo;
/** Below PENDING_PER_PORT for each of the two ports. */
const BURST = 1024;
const FIRST_L4_PORT = 1000;
/** Room for so many times the connections: each of two ports may have a sixteenth of it that nobody has answered. */
const UNPROVEN_PARTS = 8;
/** A sixteenth of all room is kept for those that have none yet. */
const WITH_RESERVE = 16 / 15;

const [web, db] = [endpoint(2, 'web'), endpoint(3, 'db')];
/** On the other host. Few flows go to the second one. */
const [remote, other] = [endpoint(4, 'remote'), endpoint(5, 'other')];
const vteps = ['192.0.2.2', '192.0.2.3'].map(parseIp);

interface Sent {
  readonly port: PortNo;
  readonly frame: Uint8Array;
}

export interface Decided {
  readonly flows: number;
  readonly cpuMicrosecondsPerFlow: number;
  readonly flowsPerCpuSecond: number;
  readonly heapBytesPerFlow: number;
}

export interface Revalidated {
  readonly what: string;
  /** How many were decided again, or looked at. */
  readonly flows: number;
  /** From the change until all decisions are right; the median of some runs. */
  readonly convergedMs: number;
  /** The longest time in all runs during which the event loop answered nobody. */
  readonly longestStallMs: number;
}

/** Decides `count` new flows, each of which opens a tracked connection, in a switch that has none. */
export function decideFlows(count: number): Decided {
  const frames = newFlows(count, [
    [web, db],
    [db, web],
    [web, remote],
    [db, remote],
  ]);
  const bench = new Bench(2 * count, { connections: UNPROVEN_PARTS * count });
  const before = heapBytes();
  const cold = bench.send(frames);
  const heapBytesPerFlow = (heapBytes() - before) / count;
  bench.expectFlows(count);
  bench.expectConnections(count);
  const warm = bench.send(frames);
  bench.close();
  return decided(count, cold - warm, heapBytesPerFlow);
}

function decided(flows: number, cpuMicroseconds: number, heapBytesPerFlow: number): Decided {
  const cpuMicrosecondsPerFlow = cpuMicroseconds / flows;
  return { flows, cpuMicrosecondsPerFlow, flowsPerCpuSecond: 1e6 / cpuMicrosecondsPerFlow, heapBytesPerFlow };
}

/** Decides new flows while the cache is full, so that each one evicts another. */
export function decideAtCap(cap: number, count: number): Decided {
  const frames = newFlows(cap + count, [
    [web, db],
    [web, remote],
  ]);
  const bench = new Bench(cap, { connections: UNPROVEN_PARTS * (cap + count) });
  bench.send(frames.slice(0, cap));
  const before = heapBytes();
  const cold = bench.send(frames.slice(cap));
  const heapBytesPerFlow = (heapBytes() - before) / count;
  bench.close();
  return decided(count, cold, heapBytesPerFlow);
}

/** Decides, opens and translates `count` new connections to the outside. */
export function openConnections(count: number): Decided {
  const bench = new Bench(1000, { connections: Math.ceil(WITH_RESERVE * count), outside: true });
  const frames = newConnections(count);
  const before = heapBytes();
  const cold = bench.send(frames);
  const heapBytesPerFlow = (heapBytes() - before) / count;
  bench.expectConnections(count);
  const warm = bench.send(frames);
  bench.close();
  return decided(count, cold - warm, heapBytesPerFlow);
}

/** How long changes of tables, and the periodic work, take with `count` cached flows. */
export async function revalidate(count: number, few: number): Promise<Revalidated[]> {
  const [known, flooding] = [new Bench(2 * count), new Bench(2 * count)];
  known.send([
    ...newFlows(few, [[web, other]]),
    ...newFlows(count - few, [
      [web, db],
      [web, remote],
    ]),
  ]);
  flooding.send(newFloods(count, [web, db]));
  for (const bench of [known, flooding]) bench.expectFlows(count);
  const move = (run: number): void => {
    known.forwarding.remote.addEndpoint({ ...placed(other), vtep: vteps[run % 2]!, trust: false });
  };
  const change = (run: number): void =>
    known.forwarding.changePort({ ...web, allowedEtherTypes: run % 2 === 0 ? [0x88f7] : [] });
  const join = (run: number): void => flooding.forwarding.remote.addVtep(parseIp(`192.0.2.${10 + run}`));
  const results = [
    await known.change('an endpoint moves', few, 20, move),
    await known.change('the periodic sweep', known.flows, 5, () => known.forwarding.controller.tick()),
    await flooding.change('a VTEP joins, all flood to it', flooding.flows, 3, join),
    await known.change('a port changes, from which all come', known.flows, 3, change),
  ];
  for (const bench of [known, flooding]) bench.close();
  return results;
}

class Bench {
  readonly forwarding: Forwarding<NativeSwitch>;
  #waiting: readonly Sent[] = [];
  /** One burst a second, because upcalls are limited by time. */
  #nowMs = 0;
  readonly #later: (() => void)[] = [];

  /** @param connections there is room for so many @param outside with a way out, and no other route */
  constructor(flowCap: number, { connections = 0, outside = false } = {}) {
    this.forwarding = new Forwarding((options) => openNativeDatapath({ ...options, threads: 0 }), {
      hostId: Uint8Array.of(0, 0, 1),
      fdbQuota: 2048,
      neighborQuota: 64,
      fdbAgeingMs: 300_000,
      flowCap,
      flowIdleMs: 1e9,
      connections: new Uint8Array(connectionBytes(connectionSlots(connections))),
      connectionQuota: 4 * connections,
      natKey: new Uint8Array(8),
      clock: () => this.#nowMs,
      wallClock: () => this.#nowMs,
      later: (work) => this.#later.push(work),
      onPortLost: () => {},
      onError: (error) => {
        throw error;
      },
    });
    const { forwarding } = this;
    forwarding.openUnderlay(UNDERLAY, {
      kind: 'memory-vxlan',
      name: 'underlay',
      local: parseIp('192.0.2.1'),
      transmit() {},
    });
    const routes = outside ? [] : [web, db, remote, other].map(routeBy);
    forwarding.setNetwork({ name: 'blue', vni: VNI, ...routing('blue', ['10.0.0.0/24'], routes), outside });
    if (outside) {
      const link = { portNo: OUTSIDE, transit: [parseIp('169.254.77.2')], mtu: 1500, published: new Map() };
      forwarding.setOutside(link, { kind: 'memory', name: 'outside', transmit() {} });
    }
    for (const vtep of vteps) forwarding.remote.addVtep(vtep);
    for (const port of [web, db]) forwarding.addPort(port, { kind: 'memory', name: port.name, transmit() {} });
    for (const endpoint of [remote, other])
      forwarding.remote.addEndpoint({ ...placed(endpoint), vtep: vteps[0]!, trust: false });
    // A frame sent by this port brings in the frames that wait, all before the first upcall is delivered.
    const { datapath } = forwarding;
    openPort(datapath, TRIGGER, {
      kind: 'memory',
      name: 'trigger',
      transmit: () => {
        for (const { port, frame } of this.#waiting) datapath.inject(port, frame);
      },
    });
  }

  /** Sends frames, one burst at a time. Returns the CPU time that they took, in microseconds. */
  send(frames: readonly Sent[]): number {
    const before = process.cpuUsage();
    for (let at = 0; at < frames.length; at += BURST) {
      this.#waiting = frames.slice(at, at + BURST);
      this.#nowMs += 1000;
      this.forwarding.datapath.execute({ frame: trigger }, [{ op: 'output', port: TRIGGER }]);
    }
    const { user, system } = process.cpuUsage(before);
    return user + system;
  }

  expectConnections(count: number): void {
    const { flows, drops } = this.forwarding.datapath.counters();
    const { size } = this.forwarding.tables.connections;
    if (size !== count) throw new Error(`${size} connections, not ${count}: ${flows} flows, ${JSON.stringify(drops)}`);
  }

  get flows(): number {
    return this.forwarding.datapath.counters().flows;
  }

  /** There may be more: those of what follows, if a conversation began with one. */
  expectFlows(atLeast: number): void {
    const { flows, drops } = this.forwarding.datapath.counters();
    if (flows < atLeast) throw new Error(`${flows} flows, not ${atLeast}: ${JSON.stringify(drops)}`);
  }

  /** Measures changes, each until its last turn of the event loop. */
  async change(what: string, flows: number, runs: number, change: (run: number) => void): Promise<Revalidated> {
    const converged: number[] = [];
    let longestStallMs = 0;
    for (let run = 0; run < runs; run++) {
      const start = performance.now();
      let last = start;
      const turn = (): void => {
        longestStallMs = Math.max(longestStallMs, performance.now() - last);
        last = performance.now();
      };
      change(run);
      turn();
      while (this.#later.length > 0) {
        await new Promise((resolve) => setImmediate(resolve));
        for (const work of this.#later.splice(0)) work();
        turn();
      }
      converged.push(last - start);
    }
    const convergedMs = converged.sort((a, b) => a - b)[runs >> 1]!;
    return { what, flows, convergedMs, longestStallMs };
  }

  close(): void {
    this.forwarding.datapath.close();
  }
}

function endpoint(number: number, name: string): AccessPort {
  const mac = parseMac(`02:00:00:00:00:0${number}`);
  const addresses = [parseIp(`10.0.0.${number}`)];
  return {
    portNo: number as PortNo,
    name,
    vni: VNI,
    mac,
    addresses,
    allowedAddresses: [],
    allowedEtherTypes: [],
    trust: false,
  };
}

function placed({ mac, addresses }: AccessPort) {
  return { vni: VNI, mac, addresses };
}

/** What the endpoint is the next hop to. */
function routeBy({ portNo, addresses: [address] }: AccessPort) {
  return { to: `20.${portNo}.0.0/16`, via: [formatIp(address!)] };
}

/** One frame of each of `count` flows, spread evenly over `pairs`: from an endpoint, by way of another one. */
function newFlows(count: number, pairs: readonly (readonly [AccessPort, AccessPort])[]): Sent[] {
  return Array.from({ length: count }, (_, i) => {
    const [from, by] = pairs[i % pairs.length]!;
    const n = Math.floor(i / pairs.length);
    return routed(from, `20.${by.portNo}.${n >> 8}.${n & 255}`, 40_000, 1);
  });
}

/** One frame of each of `count` flows to stations that do not exist, from each endpoint in turns. */
function newFloods(count: number, senders: readonly AccessPort[]): Sent[] {
  return Array.from({ length: count }, (_, i) => {
    const from = senders[i % senders.length]!;
    const n = Math.floor(i / senders.length);
    const dstMac = formatMac(Uint8Array.of(2, 6, 0, n >> 16, n >> 8, n));
    const ends = { srcMac: formatMac(from.mac), dstMac, src: formatIp(from.addresses[0]!), dst: '10.0.0.6' };
    return { port: from.portNo, frame: udp(ends, 40_000, 1) };
  });
}

/** One frame of each of `count` connections to the outside, from two containers in turns. */
function newConnections(count: number): Sent[] {
  return Array.from({ length: count }, (_, i) => {
    const n = i >> 1;
    return routed(i % 2 === 0 ? web : db, `198.51.${100 + (n >> 14)}.${(n >> 6) & 255}`, FIRST_L4_PORT + (n & 63), 443);
  });
}

function routed(from: AccessPort, dst: string, sourcePort: number, destinationPort: number): Sent {
  const [srcMac, dstMac] = [from.mac, gatewayMac(VNI)].map(formatMac) as [string, string];
  const ends = { srcMac, dstMac, src: formatIp(from.addresses[0]!), dst };
  return { port: from.portNo, frame: udp(ends, sourcePort, destinationPort) };
}

const trigger = routed(web, '10.0.0.3', 40_000, 1).frame;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What JavaScript holds on its heap and in array buffers, without garbage. */
function heapBytes(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
