/** Datapaths with tunnels and a clock in common, and the underlay between them, which a test can cut. */
import { openPort, type Datagram } from '../../src/datapath/datapath.ts';
import type { PeerLiveness } from '../../src/datapath/liveness.ts';
import { bytesId } from '../../src/flow/key.ts';
import { formatIp, parseIp, sameBytes } from '../../src/flow/types.ts';
import { checkConservation, portNo, type Open, type Switch } from './harness.ts';

export const TUNNEL = portNo(1);
export const INTERVAL_MS = 300;
export const MULTIPLIER = 3;
export const WINDOW_MS = INTERVAL_MS * MULTIPLIER;
export const addressOf = (host: number): string => `192.0.2.${host}`;
export const keyOf = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

interface Host {
  readonly dp: Switch;
  readonly number: number;
  /** How often its peers have changed. */
  changes: number;
}

export interface FleetOptions {
  /** What a host knows of its peers; by default, all have one key. */
  readonly keys?: (host: number, peer: number) => Uint8Array | undefined;
  readonly vnis?: (host: number) => readonly number[];
}

export class Fleet {
  nowMs = 1000;
  /** Everything that was sent. */
  readonly sent: Datagram[] = [];
  /** Says which datagrams arrive. */
  carries: (from: string, to: string) => boolean = () => true;
  delayMs = 0;
  /** Says which hosts do not get to run. */
  stalls: (host: string) => boolean = () => false;
  /** Says whether the second host with one address gets what is sent there. */
  reachesTwin: () => boolean = () => false;
  readonly #open: Open;
  readonly #options: FleetOptions;
  readonly #hosts = new Map<string, Host>();
  readonly #twins = new Map<string, Host>();
  #underway: { readonly atMs: number; readonly datagram: Datagram }[] = [];

  /** Hosts with numbers from 1 to `count`. */
  constructor(open: Open, count: number, options: FleetOptions = {}) {
    this.#open = open;
    this.#options = options;
    for (let host = 1; host <= count; host++) this.start(host, host);
    for (let host = 1; host <= count; host++) this.know(host);
  }

  /** Starts a host, or starts it again with another session. */
  start(host: number, session: number): void {
    this.#start(this.#hosts, host, session);
  }

  /** Starts a second host with the same address, which knows the same peers. */
  startTwin(host: number, session: number): void {
    this.#start(this.#twins, host, session);
    this.#tell(this.#twins.get(addressOf(host))!, host);
  }

  #start(hosts: Map<string, Host>, host: number, session: number): void {
    const address = addressOf(host);
    hosts.get(address)?.dp.close();
    const dp = this.#open({
      flowCap: 10,
      clock: () => this.nowMs,
      onUpcall: () => {},
      onPortLost: () => {},
      onPeersChanged: () => void hosts.get(address)!.changes++,
    });
    hosts.set(address, { dp, number: session, changes: 0 });
    openPort(dp, TUNNEL, {
      kind: 'memory-vxlan',
      name: 'tunnel',
      local: parseIp(address),
      transmit: (datagram) => this.#transmit(datagram),
    });
  }

  /** Tells a host of its peers. */
  know(host: number, peers?: readonly string[]): void {
    this.#tell(this.#hosts.get(addressOf(host))!, host, peers);
  }

  /** Tells a host that it has another interval. */
  pace(host: number, intervalMs: number): void {
    this.#tell(this.#hosts.get(addressOf(host))!, host, undefined, intervalMs);
  }

  #tell(
    { dp, number }: Host,
    host: number,
    peers: readonly string[] = [...this.#hosts.keys()].filter((address) => address !== addressOf(host)),
    intervalMs: number = INTERVAL_MS,
  ): void {
    const { keys = () => keyOf(7), vnis = () => [100] } = this.#options;
    dp.liveness.set({
      session: Uint8Array.of(0, 0, 0, 0, 0, 0, 1, number),
      intervalMs,
      multiplier: MULTIPLIER,
      peers: peers.map((peer) => ({ address: parseIp(peer), key: keys(host, Number(peer.split('.')[3])) })),
      vnis: vnis(host),
    });
  }

  dp(host: number): Switch {
    return this.#hosts.get(addressOf(host))!.dp;
  }

  changes(host: number): number {
    return this.#hosts.get(addressOf(host))!.changes;
  }

  peer(host: number, peer: number): PeerLiveness {
    const found = this.dp(host)
      .liveness.peers()
      .find(({ address }) => formatIp(address) === addressOf(peer));
    if (!found) throw new Error(`host ${host} has no peer ${peer}`);
    return found;
  }

  state(host: number, peer: number): string {
    const { state, fault } = this.peer(host, peer);
    return fault === 'none' ? state : `${state}: ${fault}`;
  }

  drops(host: number): Partial<Record<string, number>> {
    const counters = this.dp(host).counters();
    checkConservation(counters);
    return counters.drops;
  }

  /** The probes that went from one host to another. */
  probes(from: number, to: number): Datagram[] {
    const [source, destination] = [parseIp(addressOf(from)), parseIp(addressOf(to))];
    return this.sent.filter((one) => sameBytes(one.source, source) && sameBytes(one.destination, destination));
  }

  /** Lets time pass: each host does what is due when it is due. */
  advance(milliseconds: number): void {
    const endMs = this.nowMs + milliseconds;
    for (;;) {
      const running = [...this.#hosts].filter(([address]) => !this.stalls(address)).map(([, host]) => host);
      const dues = [...running, ...this.#twins.values()].map(({ dp }) => dp.liveness.run() ?? Infinity);
      // What arrives may make something due at once.
      if (this.#deliver()) continue;
      const nextMs = Math.min(...dues, ...this.#underway.map(({ atMs }) => atMs), endMs);
      if (nextMs >= endMs) break;
      this.nowMs = Math.max(this.nowMs, nextMs);
    }
    this.nowMs = endMs;
  }

  /** All hosts have slept that long. */
  jump(milliseconds: number): void {
    this.nowMs += milliseconds;
    this.advance(0);
  }

  close(): void {
    for (const { dp } of this.#all()) {
      checkConservation(dp.counters());
      dp.close();
    }
  }

  #all(): Host[] {
    return [...this.#hosts.values(), ...this.#twins.values()];
  }

  #transmit(datagram: Datagram): void {
    this.sent.push(datagram);
    this.#underway.push({ atMs: this.nowMs + this.delayMs, datagram });
  }

  /** @returns whether anything was under way until now */
  #deliver(): boolean {
    const arrived = this.#underway.filter(({ atMs }) => atMs <= this.nowMs);
    this.#underway = this.#underway.filter(({ atMs }) => atMs > this.nowMs);
    for (const { datagram } of arrived) {
      const to = formatIp(datagram.destination);
      if (!this.carries(formatIp(datagram.source), to)) continue;
      const hosts = this.#twins.has(to) && this.reachesTwin() ? this.#twins : this.#hosts;
      hosts.get(to)?.dp.injectDatagram(TUNNEL, datagram);
    }
    return arrived.length > 0;
  }
}

/** The same bytes, as text. */
export const datagramId = ({ source, destination, sourcePort, payload }: Datagram): string =>
  `${formatIp(source)}:${sourcePort} > ${formatIp(destination)} ${Buffer.from(bytesId(payload), 'latin1').toString('hex')}`;
