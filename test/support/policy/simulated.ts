/**
 * Truth tables in a simulated overlay: what two switches do with real frames, cell by cell, against the oracle.
 *
 *   ┌ left ───────────────────┐           ┌ right ──────────────────┐
 *   │ a c b/b c/a c/c         │  underlay │ b b/a b/c c/b           │      namespace default: network blue
 *   └─────────────────────────┴───────────┴─────────────────────────┘      namespaces b and c: network red
 *
 * A cell is who asks whom, by which protocol, family and port, by its address or through a service of its own, whose ports
 * are others. Whoever may ask gets an answer. Then policies and labels change, and the same is asked with new connections at once;
 * those from before go on exactly if they are allowed still. Services with several backends, and what is flooded, are asked
 * together with that (`simulated-services.ts`).
 */
import { openNativeDatapath } from '../../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../../src/datapath/reference/reference.ts';
import { parseIp } from '../../../src/flow/types.ts';
import { createSimulation, type SimulatedHost, type SimulatedPort, type Simulation } from '../../../src/simulation.ts';
import type { Opener } from '../backend-lab.ts';
import { tcp, udp, type Ends } from '../frames.ts';
import { parsePacket } from '../packets.ts';
import type { Random } from '../random.ts';
import { backend, service, servicePort } from '../services.ts';
import { randomPlaces, randomPolicies } from './generate.ts';
import { cellsOf, cellText, truth, type Cell, type Tally } from './cells.ts';
import type { Verdict } from './oracle.ts';
import { gatewayOf, isTrusted, macOf, NETWORKS, networkOf } from './simulated-places.ts';
import { SimulatedServices } from './simulated-services.ts';
import { backendName, endpointName, putWorld } from './tables.ts';
import { protocolNumbers, type Manifest, type World } from './world.ts';

export const simulatedDatapaths: Readonly<Record<string, Opener>> = {
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
  reference: openReferenceDatapath,
};

const [SYN, ACK] = [2, 16];
/** What may be probed: some have a name at some workloads, and those around them are the ends of ranges. */
const PORTS = [79, 80, 81, 443, 53, 1, 65_535, 8080];
/** The ports of all services, which lead to the two that are probed. */
const SERVICE_PORTS = [1000, 2000] as const;
/** Longer than any connection that says nothing is remembered, but established ones of TCP, which stay and are audited. */
const FORGOTTEN_MS = 3_600_000;
/** After how many sets of policies workloads and namespaces get other labels, and after how many services lead to other ports. */
const [RELABELLED_EACH, MOVED_EACH] = [2, 6];
/** The share of connections that goes on when policies change, and of packets that are answered. */
const [HELD_SHARE, ANSWERED_SHARE] = [0.1, 0.3];

interface Held extends Cell {
  readonly sourcePort: number;
  readonly l4Port: number;
}

/** Asks of so many random policies, some at a time. Of the cells through services, a share is asked each time, and all by address. */
export function simulateTruth(open: Opener, random: Random, policies: number, serviceShare: number): Tally {
  const net = createSimulation({ open, sharesStore: true });
  try {
    return new SimulatedCluster(net, random).run(policies, serviceShare);
  } finally {
    net.close();
  }
}

class SimulatedCluster {
  readonly #net: Simulation;
  readonly #random: Random;
  readonly #hosts: readonly [SimulatedHost, SimulatedHost];
  readonly #ports = new Map<string, SimulatedPort>();
  readonly #at = new Map<string, SimulatedHost>();
  #places: ReturnType<typeof randomPlaces>;
  #l4Ports: readonly [number, number] = [80, 81];
  #held: Held[] = [];
  readonly #services: SimulatedServices;
  readonly #tally: Tally = {
    ...{ policies: 0, cells: 0, allowed: 0, held: 0, cut: 0 },
    ...{ shared: 0, byDatapath: 0, floods: 0, leftOut: 0, wrong: [] },
  };

  constructor(net: Simulation, random: Random) {
    this.#net = net;
    this.#random = random;
    this.#places = randomPlaces(random);
    const hosts = [net.host('left', '192.0.2.1'), net.host('right', '192.0.2.2')] as const;
    this.#hosts = hosts;
    for (const host of hosts) {
      for (const [name, { vni, subnets }] of Object.entries(NETWORKS)) {
        const other = name === 'blue' ? 'red' : 'blue';
        const routes = NETWORKS[other].subnets.map((to) => ({ to, network: other }));
        host.createNetwork(name, vni, { subnets, routes });
      }
    }
    for (const [n, pod] of this.#places.pods.entries()) {
      const host = hosts[n % 2]!;
      const name = endpointName(pod);
      const attached = {
        name,
        network: networkOf(pod),
        mac: macOf(pod),
        addresses: pod.addresses,
        trust: isTrusted(pod),
      };
      this.#ports.set(name, host.attach(attached));
      this.#at.set(name, host);
    }
    this.#services = new SimulatedServices({ net, random, at: this.#at, ports: this.#ports });
  }

  run(count: number, serviceShare: number): Tally {
    let policies: Manifest[] = [];
    for (let set = 0; this.#tally.policies < count && this.#tally.wrong.length < 10; set++) {
      if (set % MOVED_EACH === 0) this.#move();
      // Last: what is noted here is to be judged with what `#ask` puts into force.
      if (set % RELABELLED_EACH === 0) this.#relabel();
      const added = randomPolicies(this.#random);
      this.#tally.policies += added.length;
      // Some stay as they were, as in life.
      policies = [...policies.filter(() => this.#random.chance(0.3)), ...added].map(
        (policy, n) => ({ ...policy, metadata: { ...policy.metadata, name: `p${n}` } }) as Manifest,
      );
      this.#ask({ ...this.#places, policies }, set, serviceShare);
    }
    return this.#tally;
  }

  /** Workloads and namespaces have other labels, and other ports have names. */
  #relabel(): void {
    this.#places = randomPlaces(this.#random);
    const addresses = this.#places.pods.flatMap((pod) => pod.addresses.map(parseIp));
    for (const { forwarding } of this.#hosts) forwarding.tables.policies.workloadsChanged(addresses);
  }

  /** Time passes, other ports are asked, and services lead to them. */
  #move(): void {
    this.#held = [];
    this.#net.advance(FORGOTTEN_MS);
    this.#l4Ports = [this.#random.pick(PORTS.slice(0, 4)), this.#random.pick(PORTS.slice(4))];
    this.#services.move(this.#places.pods, this.#l4Ports);
    for (const { forwarding } of this.#hosts) {
      for (const [at, pod] of this.#places.pods.entries()) {
        const backends = pod.addresses.map((address) =>
          backend(address, {
            ...{ endpoint: backendName(pod), vni: NETWORKS[networkOf(pod)].vni },
            host: this.#at.get(endpointName(pod))!.name,
          }),
        );
        const ports = (['TCP', 'UDP'] as const).flatMap((protocol) =>
          SERVICE_PORTS.map((l4Port, n) =>
            servicePort(2, {
              ...{ name: `${protocol}-${n}`, protocol: protocolNumbers[protocol], l4Port, lastL4Port: l4Port },
              targets: backends.map(() => this.#l4Ports[n]!),
            }),
          ),
        );
        forwarding.setService(service({ id: backendName(pod), vips: vipsOf(at).map(parseIp), ports, backends }));
      }
    }
  }

  #ask(world: World, set: number, serviceShare: number): void {
    for (const host of this.#hosts) {
      const { tables, controller } = host.forwarding;
      putWorld(tables.policies, world, (pod) => this.#at.get(endpointName(pod)) === host);
      controller.enforce();
    }
    // What the hosts send to the ends of connections that are over.
    this.#net.advance(1);
    this.#drain();
    const sourcePort = 10_000 + (set % 5000) * 2;
    const allowed: Held[] = [];
    for (const cell of cellsOf(world.pods)) {
      if (cell.through === 'service' && !this.#random.chance(serviceShare)) continue;
      const l4Port = this.#l4Ports[cell.port];
      const held = { ...cell, l4Port, sourcePort: sourcePort + (cell.through === 'service' ? 1 : 0) };
      const expected = truth(world, cell, l4Port);
      this.#tally.cells++;
      if (expected === 'allow') this.#tally.allowed++;
      this.#expect(world, held, expected, 'a new connection');
      if (expected === 'allow') allowed.push(held);
    }
    for (const held of this.#held) {
      const expected = truth(world, held, held.l4Port);
      this.#tally.held++;
      if (expected === 'deny') this.#tally.cut++;
      this.#expect(world, held, expected, 'one from before');
    }
    this.#services.ask(world, this.#tally);
    this.#held = allowed.filter(() => this.#random.chance(HELD_SHARE));
  }

  /** Sends a packet, and what answers it. */
  #expect(world: World, held: Held, expected: Verdict, what: string): void {
    const { from, to } = held;
    const [source, target] = [this.#ports.get(endpointName(from))!, this.#ports.get(endpointName(to))!];
    source.send(this.#frame(world, held, what === 'a new connection'));
    const arrived = target.received.splice(0);
    const got = arrived.map((frame) => parsePacket(frame));
    const hasArrived = got.length === 1 && got[0]!.destinationPort === held.l4Port;
    let seen: string = got.length === 0 ? 'deny' : hasArrived ? 'allow' : 'something else';
    if (hasArrived && from !== to && this.#random.chance(ANSWERED_SHARE)) {
      target.send(answerTo(arrived[0]!, held));
      const [answer] = source.received.splice(0).map((frame) => parsePacket(frame));
      if (answer?.destinationPort !== held.sourcePort) seen = 'no answer';
    }
    const others = this.#drain();
    if (others.length > 0) seen += `, and ${others.join(', ')} got something`;
    if (seen !== expected) {
      this.#tally.wrong.push({ what: `${what}, ${cellText(held, held.l4Port)}: ${seen}, not ${expected}`, world });
    }
  }

  #frame(world: World, held: Held, isNew: boolean): Uint8Array {
    const { from, to, protocol, family, port, through, l4Port, sourcePort } = held;
    const vip = vipsOf(world.pods.findIndex((pod) => endpointName(pod) === endpointName(to)))[family];
    const isRouted = through === 'service' || networkOf(from) !== networkOf(to);
    const ends: Ends = {
      ...{ src: from.addresses[family]!, dst: through === 'service' ? vip : to.addresses[family]! },
      ...{ srcMac: macOf(from), dstMac: isRouted ? gatewayOf(from) : macOf(to) },
    };
    const destinationPort = through === 'service' ? SERVICE_PORTS[port] : l4Port;
    if (protocol === 'UDP') return udp(ends, sourcePort, destinationPort);
    const flags = isNew ? SYN : ACK;
    return tcp(ends, {
      sourcePort,
      destinationPort,
      sequence: isNew ? 100 : 101,
      acknowledgment: isNew ? 0 : 501,
      flags,
    });
  }

  /** Takes whatever lies at the ports. @returns who had something */
  #drain(): string[] {
    const names: string[] = [];
    for (const [name, { received }] of this.#ports) if (received.splice(0).length > 0) names.push(name);
    return names;
  }
}

/** From whoever got a packet to whom it came from. */
function answerTo(frame: Uint8Array, { from, to, protocol, family, sourcePort, l4Port }: Held): Uint8Array {
  const isRouted = networkOf(from) !== networkOf(to);
  const ends: Ends = {
    ...{ src: to.addresses[family]!, dst: from.addresses[family]! },
    ...{ srcMac: macOf(to), dstMac: isRouted ? gatewayOf(to) : macOf(from) },
  };
  if (protocol === 'UDP') return udp(ends, l4Port, sourcePort);
  const isNew = (parsePacket(frame).flags & SYN) !== 0;
  const acknowledgment = parsePacket(frame).sequence + (isNew ? 1 : 0);
  return tcp(ends, {
    ...{ sourcePort: l4Port, destinationPort: sourcePort, acknowledgment },
    ...{ sequence: isNew ? 500 : 501, flags: isNew ? SYN | ACK : ACK },
  });
}

function vipsOf(at: number): readonly [string, string] {
  return [`10.96.0.${at + 1}`, `fd77:6566:7460::${at + 1}`];
}
