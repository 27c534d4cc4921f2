/**
 * What many have a part in, in the simulated overlay of `simulated.ts`: each connection, and each packet of a flood, against the oracle.
 *
 *   several backends   services whose backends are workloads of both hosts and of all namespaces; one of them has more backends than
 *                      policies are asked about one by one, most of them on a third host. A client opens many connections to each, so
 *                      that the datapath opens most of them by itself. Each gets the backend that the service has for it, if that
 *                      one admits the client, and else nobody
 *   floods             packets that are routed or translated to an address of which only the MAC is known. Nobody gets one who does not
 *                      admit the client, and all trusted workloads of the network do that admit it, each time
 */
import { parseIp, parseMac } from '../../../src/flow/types.ts';
import type { SimulatedHost, SimulatedPort, Simulation } from '../../../src/simulation.ts';
import { tcp, udp, type Ends } from '../frames.ts';
import { parsePacket } from '../packets.ts';
import type { Random } from '../random.ts';
import { backend, service, servicePort } from '../services.ts';
import { truth, type Tally } from './cells.ts';
import { judge } from './oracle.ts';
import { gatewayOf, isTrusted, macOf, NETWORKS, networkOf } from './simulated-places.ts';
import { backendName, endpointName } from './tables.ts';
import { protocolNumbers, type Pod, type World } from './world.ts';

export interface SimulatedServicesEnvironment {
  readonly net: Simulation;
  readonly random: Random;
  /** The host and the port of each workload. */
  readonly at: ReadonlyMap<string, SimulatedHost>;
  readonly ports: ReadonlyMap<string, SimulatedPort>;
}

/** A service: its number, and those of its backends that policies may select. */
interface Shared {
  readonly number: number;
  readonly pods: readonly Pod[];
}

/** Who asks what is shared. */
interface Asking {
  readonly from: Pod;
  readonly protocol: 'TCP' | 'UDP';
  readonly family: 0 | 1;
  readonly port: 0 | 1;
}

const SERVICES = 4;
const SERVICE_PORTS = [1000, 2000] as const;
/** In each set of policies: who asks each service, how many connections it opens, and how many send what is flooded. */
const [CLIENTS, CONNECTIONS, FLOODERS] = [2, 16, 2];
/** The backends on the third host; and how much more often than each of those the others are chosen. */
const [THERE, WEIGHT] = [70, 20];
/** Nobody has these addresses, but everybody knows the MAC. */
const UNKNOWN = { blue: ['10.0.1.200', 'fd00:0:0:1::c8'], red: ['10.0.2.200', 'fd00:0:0:2::c8'] } as const;
const [SYN, ACK] = [2, 16];

export class SimulatedServices {
  readonly #environment: SimulatedServicesEnvironment;
  /** Its workloads are in the namespace default. No policy knows them, or selects them. */
  readonly #there: ReadonlyMap<Pod, SimulatedPort>;
  #services: Shared[] = [];
  #l4Ports: readonly [number, number] = [80, 81];
  #sourcePort = 30_000;

  constructor(environment: SimulatedServicesEnvironment) {
    this.#environment = environment;
    const host = environment.net.host('there', '192.0.2.3');
    host.createNetwork('blue', NETWORKS.blue.vni, {
      subnets: NETWORKS.blue.subnets,
      routes: NETWORKS.red.subnets.map((to) => ({ to, network: 'red' })),
    });
    host.createNetwork('red', NETWORKS.red.vni, {
      subnets: NETWORKS.red.subnets,
      routes: NETWORKS.blue.subnets.map((to) => ({ to, network: 'blue' })),
    });
    this.#there = new Map(
      Array.from({ length: THERE }, (_, n) => {
        const addresses = [`10.0.0.${n + 2}`, `fd00::${(n + 2).toString(16)}`];
        const pod: Pod = { name: `there-${n}`, namespace: 'default', labels: {}, ports: [], addresses };
        const attached = { name: endpointName(pod), network: 'blue', mac: macOf(pod), addresses };
        return [pod, host.attach(attached)] as const;
      }),
    );
  }

  /** Services have other backends, and other ports of these. */
  move(pods: readonly Pod[], l4Ports: readonly [number, number]): void {
    const { at, random } = this.#environment;
    this.#l4Ports = l4Ports;
    this.#services = Array.from({ length: SERVICES }, (_, number) => ({
      number,
      pods: someOf(random, pods, 2 + random.int(3)),
    }));
    for (const { forwarding } of new Set(at.values())) {
      for (const { number, pods: own } of this.#services) {
        const here = own.flatMap((pod) =>
          backendsOf(pod, at.get(endpointName(pod))!.name).map((one) => ({ ...one, weight: WEIGHT })),
        );
        const there = number === 0 ? [...this.#there.keys()].flatMap((pod) => backendsOf(pod, 'there')) : [];
        forwarding.setService(serviceOf(number, [...here, ...there], l4Ports));
      }
      for (const [n, network] of (['blue', 'red'] as const).entries()) {
        const { vni } = NETWORKS[network];
        for (const address of UNKNOWN[network])
          forwarding.tables.neighbors.set(vni, parseIp(address), parseMac(`02:00:00:00:ff:0${n}`));
        const unknown = UNKNOWN[network].map((address) => backend(address, { vni, host: 'there' }));
        forwarding.setService(serviceOf(SERVICES + n, unknown, l4Ports));
      }
    }
  }

  ask(world: World, tally: Tally): void {
    const { random } = this.#environment;
    for (const shared of this.#services) {
      for (const from of someOf(random, world.pods, CLIENTS)) this.#open(world, shared, this.#asking(from), tally);
    }
    for (const from of someOf(random, world.pods, FLOODERS)) {
      for (const [n, network] of (['blue', 'red'] as const).entries()) {
        this.#flood(world, network, this.#asking(from), SERVICES + n, tally);
        if (network !== networkOf(from)) this.#flood(world, network, this.#asking(from), undefined, tally);
      }
    }
  }

  #asking(from: Pod): Asking {
    const { random } = this.#environment;
    const protocol = random.pick(['TCP', 'TCP', 'UDP'] as const);
    return { from, protocol, family: random.pick([0, 1] as const), port: random.pick([0, 1] as const) };
  }

  /** So many connections of one client to one port. */
  #open(world: World, { number }: Shared, asking: Asking, tally: Tally): void {
    const { at, ports } = this.#environment;
    const { from, protocol, family, port } = asking;
    const { forwarding } = at.get(endpointName(from))!;
    const { services } = forwarding.tables;
    const l4Port = this.#l4Ports[port];
    const tuple = {
      ...{ protocol: protocolNumbers[protocol], source: parseIp(from.addresses[family]!) },
      ...{ destination: parseIp(vipsOf(number)[family]), destinationPort: SERVICE_PORTS[port] },
    };
    for (let n = 0; n < CONNECTIONS; n++) {
      const sourcePort = this.#nextPort();
      const found = services.find(tuple.destination, tuple.protocol, tuple.destinationPort)!;
      const choice = services.choose(found, NETWORKS[networkOf(from)].vni, { ...tuple, sourcePort });
      if (choice.kind === 'none') throw new Error(`service ${number} has no backend: ${choice.why}`);
      const chosen = [...world.pods, ...this.#there.keys()].find(
        ({ addresses }) => Buffer.compare(parseIp(addresses[family]!), choice.backend.address) === 0,
      )!;
      const expected = truth(world, { ...asking, to: chosen, through: 'service' }, l4Port);
      const { upcalls } = forwarding.datapath.counters();
      ports.get(endpointName(from))!.send(this.#frame(asking, sourcePort, vipsOf(number)[family], true, SYN));
      const got = this.#received(l4Port);
      tally.shared++;
      if (got.length > 0 && forwarding.datapath.counters().upcalls === upcalls) tally.byDatapath++;
      const seen = got.join(', ') || 'nobody';
      const due = expected === 'allow' ? endpointName(chosen) : 'nobody';
      if (seen === due) continue;
      const what = `connection ${n + 1} of ${this.#text(asking)} to service ${number}, of which it gets ${endpointName(chosen)}`;
      tally.wrong.push({ what: `${what}: ${seen}, not ${due}`, world });
    }
  }

  /** @param number that of the service; undefined: straight to the address */
  #flood(world: World, network: keyof typeof UNKNOWN, asking: Asking, number: number | undefined, tally: Tally): void {
    const { ports } = this.#environment;
    const { from, protocol, family, port } = asking;
    const l4Port = this.#l4Ports[port];
    const packet = { from: from.addresses[family]!, protocol: protocolNumbers[protocol], port: l4Port };
    const maySend = judge(world, from, 'egress', { ...packet, to: UNKNOWN[network][family] }) === 'allow';
    const others = world.pods.filter((pod) => pod !== from && networkOf(pod) === network);
    const admitting = others.filter(
      (pod) => maySend && judge(world, pod, 'ingress', { ...packet, to: pod.addresses[family]! }) === 'allow',
    );
    const [may, must] = [admitting.map(endpointName), admitting.filter(isTrusted).map(endpointName)];
    const sourcePort = this.#nextPort();
    const destination = number === undefined ? UNKNOWN[network][family] : vipsOf(number)[family];
    for (const flags of [SYN, ACK, ACK]) {
      ports.get(endpointName(from))!.send(this.#frame(asking, sourcePort, destination, number !== undefined, flags));
      const seen = this.#received(l4Port);
      tally.floods++;
      if (maySend && others.some((pod) => isTrusted(pod) && !admitting.includes(pod))) tally.leftOut++;
      const isOnce = new Set(seen).size === seen.length;
      if (isOnce && seen.every((name) => may.includes(name)) && must.every((name) => seen.includes(name))) continue;
      const way = number === undefined ? 'routed' : 'translated';
      const what = `a flood in ${network} of ${this.#text(asking)}, ${way}, with flags ${flags}`;
      tally.wrong.push({ what: `${what}: [${seen.join()}], not [${must.join()}] among [${may.join()}]`, world });
    }
  }

  #text({ from, protocol, family, port }: Asking): string {
    return `${endpointName(from)} ${protocol} ${this.#l4Ports[port]} IPv${family === 0 ? 4 : 6}`;
  }

  #frame(
    { from, protocol, family, port }: Asking,
    sourcePort: number,
    dst: string,
    isToService: boolean,
    flags: number,
  ) {
    const ends: Ends = { src: from.addresses[family]!, dst, srcMac: macOf(from), dstMac: gatewayOf(from) };
    const destinationPort = isToService ? SERVICE_PORTS[port] : this.#l4Ports[port];
    if (protocol === 'UDP') return udp(ends, sourcePort, destinationPort);
    return tcp(ends, { sourcePort, destinationPort, sequence: flags === SYN ? 100 : 101, flags });
  }

  /** Takes what lies at the ports. @returns who has something for that port of its own, once for each packet */
  #received(l4Port: number): string[] {
    const { ports } = this.#environment;
    const there = [...this.#there].map(([pod, port]) => [endpointName(pod), port] as const);
    return [...ports, ...there].flatMap(([name, { received }]) =>
      received.splice(0).map((frame) => {
        const { destinationPort } = parsePacket(frame);
        return destinationPort === l4Port ? name : `${name} at port ${destinationPort}`;
      }),
    );
  }

  #nextPort(): number {
    this.#sourcePort = this.#sourcePort >= 60_000 ? 30_000 : this.#sourcePort + 1;
    return this.#sourcePort;
  }
}

function backendsOf(pod: Pod, host: string) {
  const given = { endpoint: backendName(pod), vni: NETWORKS[networkOf(pod)].vni, host };
  return pod.addresses.map((address) => backend(address, given));
}

function serviceOf(number: number, backends: ReturnType<typeof backend>[], l4Ports: readonly [number, number]) {
  const ports = (['TCP', 'UDP'] as const).flatMap((protocol) =>
    SERVICE_PORTS.map((l4Port, n) =>
      servicePort(backends.length, {
        ...{ name: `${protocol}-${n}`, protocol: protocolNumbers[protocol], l4Port, lastL4Port: l4Port },
        targets: backends.map(() => l4Ports[n]!),
      }),
    ),
  );
  return service({ id: `b/shared-${number}`, vips: vipsOf(number).map(parseIp), ports, backends });
}

function vipsOf(number: number): readonly [string, string] {
  return [`10.96.1.${number + 1}`, `fd77:6566:7460::1:${number + 1}`];
}

function someOf<T>(random: Random, all: readonly T[], count: number): T[] {
  const left = [...all];
  return Array.from({ length: count }, () => left.splice(random.int(left.length), 1)[0]!);
}
