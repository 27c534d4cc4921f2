/**
 * A simulated overlay: several complete switches in one process, connected by an underlay in memory,
 * without root. It is for fast tests, and for users who test their own networks.
 *
 * Everything runs to completion inside `SimulatedPort.send`, in an order that depends only on the calls:
 * the same calls give the same frames. The clock advances only with `advance`. Loss on the underlay
 * comes from the random source that is passed in.
 *
 *   const net = createSimulation();
 *   const [a, b] = [net.host('a', '192.0.2.1'), net.host('b', '192.0.2.2')];
 *   for (const host of [a, b]) host.createNetwork('blue', 100);
 *   const web = a.attach({ name: 'web', network: 'blue', mac: '02:00:00:00:00:01', addresses: ['10.0.0.1'] });
 *   const db = b.attach({ name: 'db', network: 'blue', mac: '02:00:00:00:00:02', addresses: ['10.0.0.2'] });
 *   web.send(frame);
 *   db.received;
 *
 * Services are set on each host, as the cluster would do: `host.forwarding.setService`; and so are flow hooks: `host.setHook`.
 */
import type { Datagram, Datapath, DatapathOptions, Injectable } from './datapath/datapath.ts';
import { PEER_KEY_BYTES, type LivenessSettings } from './datapath/liveness.ts';
import { openReferenceDatapath } from './datapath/reference/reference.ts';
import { connectionBytes, protocolNumber } from './flow/connection.ts';
import { bytesId } from './flow/key.ts';
import { parseIp, parseMac, type PortNo, type Vni } from './flow/types.ts';
import { connectionSlots, Forwarding, type Published, type RemoteEndpoint } from './forwarding.ts';
import { WeftError } from './error.ts';
import { routing } from './cluster/routing.ts';
import { HookKeeper } from './hooks/keeper.ts';
import { nameOf } from './model/name.ts';
import type { PublishSpec } from './model/publish.ts';
import { NAMESPACE_NAME } from './model/kinds/namespace.ts';
import type { RouteSpec } from './model/kinds/network.ts';
import type { HookReport } from './model/report.ts';
import type { KnownWorkload } from './table/policies.ts';
import { publishedId, type Listening } from './table/topology.ts';

export interface SimulationOptions {
  /** The datapath of the hosts; by default the reference one. */
  readonly open?: (options: DatapathOptions) => Datapath & Injectable;
  /** The share of underlay datagrams that get lost, 0 to 1. */
  readonly loss?: number;
  /** Returns numbers in [0, 1); required with `loss`. */
  readonly random?: () => number;
  /**
   * What the underlay does to a datagram on its way, such as marking it. If it returns undefined, the datagram is lost.
   */
  readonly carry?: (datagram: Datagram) => Datagram | undefined;
  /** The hosts share a store: each knows the workloads of all others. Otherwise they are static peers, and learn. */
  readonly sharesStore?: boolean;
  /** If it is given, hosts probe each other: who is not heard of for `multiplier` intervals is down. */
  readonly liveness?: Pick<LivenessSettings, 'intervalMs' | 'multiplier'>;
  readonly fdbQuota?: number;
  readonly flowCap?: number;
  readonly connectionQuota?: number;
}

export interface SimulatedAttach {
  /** `NAME`, or `NAMESPACE/NAME`. */
  readonly name: string;
  /** What flow hooks and policies see of it. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly network: string;
  readonly mac: string;
  readonly addresses: readonly string[];
  readonly allowedAddresses?: readonly string[];
  readonly allowedEtherTypes?: readonly number[];
  readonly trust?: boolean;
}

export interface SimulatedOutside {
  /** Weft's own addresses on the link to the host, one for each family. */
  readonly transit: readonly string[];
  /** What is published from the start, by `publishedId`. `publish` adds more. */
  readonly published?: ReadonlyMap<string, Published>;
  /** In bytes; 1500 if it is not given. */
  readonly mtu?: number;
}

export interface SimulatedSockets {
  /** Weft's own addresses on the link, one for each family. */
  readonly addresses: readonly string[];
  /** The addresses of the sockets. */
  readonly sockets: readonly string[];
  readonly listening: readonly Listening[];
}

export interface SimulatedNetwork {
  readonly subnets?: readonly string[];
  readonly routes?: readonly RouteSpec[];
  /** In bytes. Everything that leaves the network is limited to it. */
  readonly mtu?: number;
  /** If true, packets that no route matches go outside. */
  readonly outside?: boolean;
}

const UNDERLAY_PORT = 1 as PortNo;
const OUTSIDE_PORT = 2 as PortNo;
const INTERNAL_PORT = 65_535 as PortNo;
const CONNECTIONS = 4096;

export class Simulation {
  readonly #options: SimulationOptions;
  readonly #hosts = new Map<string, SimulatedHost>();
  readonly #underlay: Datagram[] = [];
  #isRunning = false;
  #nowMs = 0;

  constructor(options: SimulationOptions) {
    if (options.loss !== undefined && options.random === undefined) {
      throw new WeftError('invalid', 'simulation: loss needs a source of random numbers, random');
    }
    this.#options = options;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Adds a host, which is a peer of all existing hosts. */
  host(name: string, underlay: string): SimulatedHost {
    const address = parseIp(underlay);
    const host: SimulatedHost = new SimulatedHost(name, address, {
      ...this.#options,
      clock: () => this.#nowMs,
      send: (datagram) => this.#underlay.push(datagram),
      run: (step) => this.#run(step),
      others: () => [...this.#hosts.values()].filter((other) => other !== host),
    });
    const macOf = ({ forwarding }: SimulatedHost): Uint8Array | undefined =>
      this.#options.sharesStore ? forwarding.tables.topology.hostMac : undefined;
    for (const other of this.#hosts.values()) {
      other.forwarding.remote.addVtep(address, macOf(host));
      host.forwarding.remote.addVtep(other.underlay, macOf(other));
      if (this.#options.sharesStore) for (const remote of other.remotes()) host.forwarding.remote.addEndpoint(remote);
    }
    this.#hosts.set(bytesId(address), host);
    this.#probe();
    return host;
  }

  /** Advances the clock, and lets every host do its periodic work. */
  advance(milliseconds: number): void {
    const endMs = this.#nowMs + milliseconds;
    for (let dueMs = this.#dueMs(); dueMs < endMs; dueMs = this.#dueMs()) this.#nowMs = Math.max(this.#nowMs, dueMs);
    this.#nowMs = endMs;
    this.#run(() => {
      for (const { forwarding } of this.#hosts.values()) {
        forwarding.lookAtConnections();
        forwarding.controller.tick();
        forwarding.controller.audit.tick();
      }
    });
  }

  close(): void {
    for (const host of this.#hosts.values()) host.close();
    this.#hosts.clear();
  }

  /** Has every host probe every other one. */
  #probe(): void {
    const { liveness } = this.#options;
    if (!liveness) return;
    const key = new Uint8Array(PEER_KEY_BYTES);
    const hosts = [...this.#hosts.values()];
    for (const host of hosts) {
      const peers = hosts.filter((other) => other !== host).map(({ underlay: address }) => ({ address, key }));
      host.forwarding.remote.setLiveness({ ...liveness, session: host.underlay.subarray(8), peers, vnis: [] });
      host.forwarding.remote.followPeers();
    }
  }

  /** Lets all hosts send the probes that are due now. @returns when the next ones are */
  #dueMs(): number {
    let dueMs = Infinity;
    for (const { forwarding } of this.#hosts.values()) {
      this.#run(() => (dueMs = Math.min(dueMs, forwarding.datapath.liveness.run() ?? Infinity)));
    }
    return dueMs;
  }

  /** Runs one step, then delivers what it put on the underlay, in the order in which it was sent. */
  #run(step: () => void): void {
    step();
    if (this.#isRunning) return;
    this.#isRunning = true;
    const { loss = 0, random, carry = (datagram: Datagram) => datagram } = this.#options;
    try {
      for (let datagram = this.#underlay.shift(); datagram; datagram = this.#underlay.shift()) {
        if (random && random() < loss) continue;
        const carried = carry(datagram);
        if (!carried) continue;
        this.#hosts.get(bytesId(carried.destination))?.forwarding.datapath.injectDatagram(UNDERLAY_PORT, carried);
      }
    } finally {
      this.#isRunning = false;
    }
  }
}

interface HostOptions extends SimulationOptions {
  readonly clock: () => number;
  readonly send: (datagram: Datagram) => void;
  readonly run: (step: () => void) => void;
  readonly others: () => readonly SimulatedHost[];
}

export class SimulatedHost {
  readonly name: string;
  /** 16 bytes, IPv4-mapped or IPv6. */
  readonly underlay: Uint8Array;
  readonly forwarding: Forwarding<Datapath & Injectable>;
  readonly #run: (step: () => void) => void;
  readonly #others: () => readonly SimulatedHost[];
  readonly #networks = new Map<string, Vni>();
  readonly #ports = new Map<string, SimulatedPort>();
  /** What hooks and policies see of its workloads, by address. */
  readonly #workloads = new Map<string, KnownWorkload>();
  readonly #hooks: HookKeeper;
  #lastPort: number = OUTSIDE_PORT;

  constructor(name: string, underlay: Uint8Array, options: HostOptions) {
    this.name = name;
    this.underlay = underlay;
    this.#run = options.run;
    this.#others = options.sharesStore ? options.others : () => [];
    this.forwarding = new Forwarding(options.open ?? openReferenceDatapath, {
      hostId: underlay.subarray(13),
      fdbQuota: options.fdbQuota ?? 2048,
      neighborQuota: 2048,
      fdbAgeingMs: 300_000,
      flowCap: options.flowCap ?? 100_000,
      flowIdleMs: 10_000,
      connections: new Uint8Array(connectionBytes(connectionSlots(CONNECTIONS))),
      connectionQuota: options.connectionQuota ?? CONNECTIONS,
      natKey: new Uint8Array(8),
      clock: options.clock,
      wallClock: options.clock,
      onPortLost: () => {},
      onError: (error) => {
        throw error;
      },
    });
    this.forwarding.tables.policies.workloadsFrom((address) => this.#workloadAt(bytesId(address)));
    this.#hooks = new HookKeeper({
      tables: this.forwarding.tables.hooks,
      enforce: () => this.forwarding.controller.enforce(),
      host: name,
      clock: options.clock,
      warn: () => {},
    });
    this.forwarding.controller.audit.onMismatch = ({ what, why }) => {
      throw new WeftError('internal', `host "${name}": ${what} is not as it would be decided now: ${why}`);
    };
    this.forwarding.setHost(name, undefined);
    // There are none from before a restart, so whatever is set is all that there is.
    this.forwarding.servicesLoaded();
    this.forwarding.openUnderlay(UNDERLAY_PORT, {
      kind: 'memory-vxlan',
      name: 'underlay',
      local: underlay,
      transmit: options.send,
    });
  }

  /** Creates a network. With `subnets` it has a gateway, and with `routes` ways to other networks. */
  createNetwork(name: string, vni: number, options: SimulatedNetwork = {}): void {
    this.#networks.set(name, vni as Vni);
    const { subnets = [], routes = [], mtu, outside = false } = options;
    const network = { name, vni: vni as Vni, ...(mtu !== undefined && { mtu }) };
    this.forwarding.setNetwork({ ...network, ...routing(name, subnets, routes), outside });
  }

  /** Opens the way outside: whatever comes out of the port goes to the host. */
  openOutside({ transit, published = new Map(), mtu = 1500 }: SimulatedOutside): SimulatedPort {
    const portNo = OUTSIDE_PORT;
    const port = new SimulatedPort(portNo, (frame) => this.#run(() => this.forwarding.datapath.inject(portNo, frame)));
    this.forwarding.setOutside(
      { portNo, transit: transit.map(parseIp), mtu, published },
      { kind: 'memory', name: 'outside', transmit: (frame) => port.received.push(frame.slice()) },
    );
    return port;
  }

  /** Opens the link to weft's own sockets: whatever comes out of the port goes to them. */
  openInternal({ addresses, sockets, listening }: SimulatedSockets): SimulatedPort {
    const portNo = INTERNAL_PORT;
    const port = new SimulatedPort(portNo, (frame) => this.#run(() => this.forwarding.datapath.inject(portNo, frame)));
    const link = { portNo, addresses: addresses.map(parseIp), sockets: sockets.map(parseIp), mtu: 1280 };
    this.forwarding.setInternal(
      { ...link, listening },
      { kind: 'memory', name: 'internal', transmit: (frame) => port.received.push(frame.slice()) },
    );
    return port;
  }

  /** From now on, a port of the transit address leads to one of an endpoint, whatever it led to before. */
  publish(name: string, { protocol, hostPort, port: l4Port }: Omit<PublishSpec, 'hostIP'>): void {
    const { topology } = this.forwarding.tables;
    const endpoint = topology.port(this.#portOf(name).portNo)!;
    const { outside } = topology;
    if (!outside) throw new WeftError('conflict', `host "${this.name}" has no way outside: call openOutside first`);
    const published = new Map(outside.published);
    const { vni, addresses } = endpoint;
    published.set(publishedId(protocolNumber(protocol), hostPort), { endpoint: name, vni, addresses, l4Port });
    this.forwarding.setOutside({ ...outside, published });
  }

  attach(options: SimulatedAttach): SimulatedPort {
    const vni = this.#networks.get(options.network);
    if (vni === undefined) throw new WeftError('not_found', `network "${options.network}" does not exist`);
    const portNo = ++this.#lastPort as PortNo;
    const port = new SimulatedPort(portNo, (frame) => this.#run(() => this.forwarding.datapath.inject(portNo, frame)));
    this.forwarding.addPort(
      {
        portNo,
        name: options.name,
        vni,
        mac: parseMac(options.mac),
        addresses: options.addresses.map(parseIp),
        allowedAddresses: (options.allowedAddresses ?? []).map(parseIp),
        allowedEtherTypes: options.allowedEtherTypes ?? [],
        trust: options.trust ?? false,
      },
      { kind: 'memory', name: options.name, transmit: (frame) => port.received.push(frame.slice()) },
    );
    this.#ports.set(options.name, port);
    const { namespace } = nameOf(options.name);
    const namespaceLabels = { [NAMESPACE_NAME]: namespace };
    const identity = { namespace, labels: options.labels ?? {}, namespaceLabels, ports: [] };
    for (const address of options.addresses)
      this.#workloads.set(bytesId(parseIp(address)), { endpoint: options.name, identity });
    const remote = this.#remoteOf(portNo);
    for (const { forwarding } of this.#others()) forwarding.remote.addEndpoint(remote);
    return port;
  }

  detach(name: string): void {
    const { portNo } = this.#portOf(name);
    const remote = this.#remoteOf(portNo);
    this.forwarding.removePort(portNo);
    this.#ports.delete(name);
    for (const [address, { endpoint }] of this.#workloads) if (endpoint === name) this.#workloads.delete(address);
    for (const { forwarding } of this.#others()) forwarding.remote.removeEndpoint(remote);
  }

  /**
   * Puts a flow hook into force, in the place of the one that has this name. Its text is TypeScript, as in a manifest.
   * @throws WeftError that says why it cannot be loaded: then the one before stays, and if there is none, this one denies everything
   */
  async setHook(
    name: string,
    source: string,
    { onError = 'deny' }: { readonly onError?: 'deny' | 'allow' } = {},
  ): Promise<void> {
    await this.#hooks.set([[name, { name, file: `${name}.ts`, source, onError }]]);
    const why = this.#hooks.failure(name);
    if (why !== undefined) throw new WeftError('invalid', why);
  }

  removeHook(name: string): Promise<void> {
    return this.#hooks.remove(name);
  }

  /** Its hooks, in the order in which they are asked. */
  hooks(): HookReport[] {
    return this.#hooks.report();
  }

  close(): void {
    void this.#hooks.close();
    this.forwarding.close();
  }

  /** Those of other hosts are known only if they share a store. */
  #workloadAt(address: string): KnownWorkload | undefined {
    const own = this.#workloads.get(address);
    if (own) return own;
    for (const other of this.#others()) {
      const workload = other.#workloads.get(address);
      if (workload) return workload;
    }
    return undefined;
  }

  /** Its workloads, as the other hosts know them. */
  remotes(): RemoteEndpoint[] {
    return [...this.#ports.values()].map(({ portNo }) => this.#remoteOf(portNo));
  }

  #remoteOf(portNo: PortNo): RemoteEndpoint {
    return { ...this.forwarding.tables.topology.port(portNo)!, vtep: this.underlay };
  }

  #portOf(name: string): SimulatedPort {
    const port = this.#ports.get(name);
    if (!port) throw new WeftError('not_found', `endpoint "${name}" does not exist`);
    return port;
  }
}

export class SimulatedPort {
  readonly portNo: PortNo;
  /** Frames that came out of the switch here, oldest first. You may remove them. */
  readonly received: Uint8Array[] = [];
  readonly #inject: (frame: Uint8Array) => void;

  constructor(portNo: PortNo, inject: (frame: Uint8Array) => void) {
    this.portNo = portNo;
    this.#inject = inject;
  }

  /** Sends a frame (from its Ethernet header on) into the switch, and runs everything that follows from it. */
  send(frame: Uint8Array): void {
    this.#inject(frame);
  }
}

export function createSimulation(options: SimulationOptions = {}): Simulation {
  return new Simulation(options);
}
