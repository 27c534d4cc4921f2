/**
 * No cached decision is ever stale, whatever changes. The test makes random networks, frames and changes of every
 * table. After each change, every cached flow must equal what would be decided for it now, including its text and
 * its consulted objects. A change that changes nothing must not cause new decisions. `SEED` repeats a run.
 */
import t from 'tap';
import { routing } from '../../src/cluster/routing.ts';
import type { CachedFlow } from '../../src/control/flows.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { CONNECTION_BYTES } from '../../src/flow/connection.ts';
import { formatMegaflow, type FlowKey } from '../../src/flow/key.ts';
import { formatIp, formatMac, parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { Forwarding } from '../../src/forwarding.ts';
import type { RouteSpec } from '../../src/model/kinds/network.ts';
import { isCurrent } from '../../src/pipeline/ct-state.ts';
import { decide, type Decision } from '../../src/pipeline/decide.ts';
import { renderText } from '../../src/pipeline/text.ts';
import {
  gatewayMac,
  hostMacOf,
  OUTSIDE_HOST_MAC,
  OUTSIDE_MAC,
  publishedId,
  type Published,
} from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildVxlan } from '../../src/wire/vxlan.ts';
import { arpReply, arpRequest, echo, tcp, udp, type Ends } from '../support/frames.ts';
import { Random } from '../support/random.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());
const ROUNDS = 8;
const CHANGES = 80;
const FRAMES = 40;

const UNDERLAY = 1 as PortNo;
const OUTSIDE = 2 as PortNo;
const local = parseIp('192.0.2.1');
const vteps = ['192.0.2.2', '192.0.2.3', '2001:db8::4'];
const transit = ['169.254.77.2', 'fd77::2'];
const vnis = [1, 2];
const mac = (n: number): string => `02:00:00:00:00:0${n}`;
/** The VNI of workload `n`: 1 if `n` is odd, otherwise 2. */
const vniOf = (n: number): number => 2 - (n % 2);
const ipsOf = (n: number): string[] => [`10.0.${vniOf(n)}.1${n}`, `fd0${vniOf(n)}::1${n}`];
/** Each may be behind a port here, on another host, or nowhere. */
const workloads = [3, 4, 5, 6, 7, 8];
const shared = ['10.0.1.100', '10.0.2.100'];
const far = ['203.0.113.9', '10.9.0.9', '10.9.1.9', '2001:db8:9::9'];

const kinds = [
  'network',
  'port',
  'port gone',
  'remote',
  'remote gone',
  'VTEP',
  'VTEP gone',
  'path',
  'outside',
  'outside gone',
  'underlay',
  'underlay gone',
  'time',
] as const;

class World {
  readonly forwarding: Forwarding<ReturnType<typeof openReferenceDatapath>>;
  readonly #random: Random;
  #nowMs = 0;

  constructor(random: Random) {
    this.#random = random;
    this.forwarding = new Forwarding(openReferenceDatapath, {
      hostId: Uint8Array.of(0, 0, 1),
      fdbQuota: 3,
      neighborQuota: 3,
      fdbAgeingMs: 300_000,
      flowCap: 10_000,
      flowIdleMs: 60_000,
      connections: new Uint8Array(64 * CONNECTION_BYTES),
      connectionQuota: 16,
      storm: { port: 0, tunnel: 0 },
      wallClock: () => 0,
      natKey: new Uint8Array(8),
      clock: () => this.#nowMs,
      onPortLost: () => {},
      onError: (error) => {
        throw error;
      },
    });
  }

  /** Makes a random change. Calling the result makes the same change again. */
  change(): { readonly what: string; readonly again: (() => void) | undefined } {
    const what = this.#random.pick(kinds);
    return { what, again: this.#change(what) };
  }

  #change(what: (typeof kinds)[number]): (() => void) | undefined {
    const { forwarding } = this;
    const random = this.#random;
    const { topology } = forwarding.tables;
    const n = random.pick(workloads);
    const vtep = parseIp(random.pick(vteps));
    const remote = {
      vni: vniOf(n) as Vni,
      mac: parseMac(mac(n)),
      addresses: ipsOf(n).map(parseIp),
      allowedAddresses: random.chance(0.3) ? [parseIp(shared[vniOf(n) - 1]!)] : [],
      vtep,
      trust: random.chance(0.3),
    };
    // The MAC of a host that shares the store.
    const hostMac = random.chance(0.5) ? hostMacAt(vteps.indexOf(formatIp(vtep))) : undefined;
    const isHere = topology.port(n as PortNo) !== undefined;
    switch (what) {
      case 'network':
        return repeat(this.#network(random.pick(vnis)));
      case 'port':
        return topology.network(remote.vni) && repeat(this.#port(n, isHere));
      case 'port gone':
        return repeat(() => forwarding.removePort(n as PortNo));
      case 'remote':
        return isHere ? undefined : repeat(() => forwarding.remote.addEndpoint(remote));
      case 'remote gone':
        return isHere ? undefined : repeat(() => forwarding.remote.removeEndpoint(remote));
      case 'VTEP':
        return repeat(() => forwarding.remote.addVtep(vtep, hostMac));
      case 'VTEP gone':
        return repeat(() => forwarding.remote.removeVtep(vtep));
      case 'path': {
        const bytes = random.pick([1400, 1300]);
        return repeat(() => forwarding.remote.setPathMtu(vtep, bytes));
      }
      case 'outside':
        return repeat(this.#outside());
      case 'outside gone':
        return repeat(() => forwarding.removeOutside());
      case 'underlay':
        if (topology.tunnelPort === undefined) {
          const spec = { kind: 'memory-vxlan', name: 'underlay', local, transmit() {} } as const;
          forwarding.openUnderlay(UNDERLAY, spec);
        }
        return undefined;
      case 'underlay gone':
        if (topology.tunnelPort !== undefined) forwarding.closeUnderlay(UNDERLAY);
        return undefined;
      case 'time':
        this.#nowMs += random.pick([500, 1000, 40_000]);
        forwarding.controller.tick();
        return undefined;
      default:
        return what satisfies never;
    }
  }

  #network(vni: number): () => void {
    const random = this.#random;
    const isEmpty = this.forwarding.tables.topology.network(vni as Vni)?.ports.size === 0;
    if (isEmpty && random.chance(0.2)) return () => this.forwarding.removeNetwork(vni as Vni);
    const all: RouteSpec[] = [
      { to: `10.0.${3 - vni}.0/24`, network: `n${3 - vni}` },
      { to: `fd0${3 - vni}::/64`, network: `n${3 - vni}` },
      { to: '10.9.0.0/16', type: random.pick(['blackhole', 'unreachable', 'prohibit'] as const) },
      { to: '10.9.1.0/24', via: random.pick([ipsOf(vni).slice(0, 1), shared.slice(vni - 1, vni)]) },
      { to: '203.0.113.9/32', network: 'n3' },
      { to: '0.0.0.0/0', type: 'prohibit' },
    ];
    const routes = all.filter(() => random.chance(0.6));
    const outside = random.chance(0.6);
    const mtu = random.pick([1450, 1300, undefined]);
    return () =>
      this.forwarding.setNetwork({
        name: `n${vni}`,
        vni: vni as Vni,
        outside,
        ...(mtu !== undefined && { mtu }),
        ...routing(`n${vni}`, [`10.0.${vni}.0/24`, `fd0${vni}::/64`], routes),
      });
  }

  #port(n: number, isHere: boolean): () => void {
    const random = this.#random;
    const port = {
      portNo: n as PortNo,
      name: `w${n}`,
      vni: vniOf(n) as Vni,
      mac: parseMac(mac(n)),
      addresses: ipsOf(n).map(parseIp),
      allowedAddresses: random.chance(0.4) ? [parseIp(shared[vniOf(n) - 1]!)] : [],
      allowedEtherTypes: random.chance(0.3) ? [0x88f7] : [],
      trust: random.chance(0.3),
    };
    if (isHere) return () => this.forwarding.changePort(port);
    this.forwarding.remote.removeEndpoint(port);
    this.forwarding.addPort(port, { kind: 'memory', name: port.name, transmit() {} });
    return () => this.forwarding.changePort(port);
  }

  #outside(): () => void {
    const random = this.#random;
    const published = new Map<string, Published>();
    for (const protocol of [IP_TCP, IP_UDP]) {
      const n = random.pick(workloads);
      const to = { endpoint: `w${n}`, vni: vniOf(n) as Vni, addresses: ipsOf(n).map(parseIp), l4Port: 80 };
      if (random.chance(0.6)) published.set(publishedId(protocol, random.pick([8080, 8081])), to);
    }
    const link = { portNo: OUTSIDE, transit: transit.map(parseIp), mtu: random.pick([1500, 1280]), published };
    if (!this.forwarding.tables.topology.outside) {
      this.forwarding.setOutside(link, { kind: 'memory', name: 'outside', transmit() {} });
    }
    return () => this.forwarding.setOutside(link);
  }

  /** Sends a frame that somebody could send, by a port, the tunnel or the outside. */
  send(): void {
    const random = this.#random;
    const { datapath, tables } = this.forwarding;
    const { outside, tunnelPort, hostMac } = tables.topology;
    if (outside && random.chance(0.2)) {
      const family = random.int(2);
      const src = family === 0 ? far[0]! : far[3]!;
      datapath.inject(OUTSIDE, this.#ipFrame({ ...entering, src, dst: transit[family]! }));
      return;
    }
    const [from, to] = [random.pick(workloads), random.pick(workloads)];
    const family = random.int(2);
    const src = random.chance(0.9) ? ipsOf(from)[family]! : shared[vniOf(from) - 1]!;
    const isV4 = !src.includes(':');
    const gateway = formatMac(gatewayMac(vniOf(from) as Vni));
    const isOfPort = tables.topology.port(from as PortNo) !== undefined;
    // Other hosts route, too, and ask.
    const srcMac = isOfPort || random.chance(0.7) ? mac(from) : random.pick([gateway, formatMac(hostMacAt(1))]);
    const ends: Ends = { srcMac, src, dst: ipsOf(to)[isV4 ? 0 : 1]! };
    const frame = (): Uint8Array => {
      if (random.chance(0.1)) return arpRequest({ ...ends, src: ipsOf(from)[0]!, dst: ipsOf(to)[0]! });
      if (random.chance(0.1)) {
        const said = { ...ends, src: shared[vniOf(from) - 1]!, dst: ipsOf(to)[0]! };
        return arpReply({ ...said, dstMac: random.pick([gateway, 'ff:ff:ff:ff:ff:ff']) });
      }
      const dstMac = random.pick([
        mac(to),
        gateway,
        gateway,
        formatMac(hostMac),
        'ff:ff:ff:ff:ff:ff',
        '33:33:00:00:00:01',
      ]);
      const dst = random.pick([ends.dst!, random.pick(far.filter((ip) => ip.includes(':') === !isV4))]);
      return this.#ipFrame({ ...ends, dstMac, dst });
    };
    if (isOfPort) datapath.inject(from as PortNo, frame());
    else if (tunnelPort !== undefined) {
      const vni = random.chance(0.9) ? vniOf(from) : 7;
      datapath.injectDatagram(tunnelPort, {
        source: parseIp(random.pick(vteps)),
        destination: local,
        sourcePort: 50_000,
        payload: buildVxlan({ vni, frame: frame() }),
      });
    }
  }

  #ipFrame(ends: Ends): Uint8Array {
    const random = this.#random;
    const l4Port = random.pick([80, 8080, 8081, 53]);
    switch (random.int(3)) {
      case 0:
        return tcp(ends, { sourcePort: 1000, destinationPort: l4Port });
      case 1:
        return udp(ends, 1000, l4Port);
      default:
        return echo(ends, 1, 1);
    }
  }
}

const entering = { srcMac: formatMac(OUTSIDE_HOST_MAC), dstMac: formatMac(OUTSIDE_MAC) };

/** The MAC of the host behind a VTEP, if it shares the store. */
function hostMacAt(vtep: number): Uint8Array {
  return hostMacOf(Uint8Array.of(0, 1, vtep));
}

/** Makes the change now, and returns it for repetition. */
function repeat(change: () => void): () => void {
  change();
  return change;
}

/** Everything that is kept of a decision, and everything visible of it. */
function shown({ actions, mask, consulted, effects, stages, verdict, reason }: Decision): string {
  const why = stages.map(({ stage, because }) => `${stage}: ${renderText(because)}`);
  return JSON.stringify({ verdict, reason, actions, effects, consulted, why, mask: mask.join() });
}

t.setTimeout(120_000);

t.test(`no cached decision is stale (SEED=${seed})`, async (t) => {
  const random = new Random(seed);
  const seen = new Set<string>();
  let checked = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const world = new World(random);
    const { controller, datapath } = world.forwarding;
    for (let step = 0; step < CHANGES; step++) {
      const { what, again } = world.change();
      const stale = [...controller.flows.dump()].find(({ flow }) => isStale(flow));
      if (stale) {
        const { key, decision } = stale.flow;
        t.equal(shown(decision), shown(anew(key)), `${what}: ${formatMegaflow(key, decision.mask)} is stale`);
        return;
      }
      checked += controller.flows.size;
      const before = controller.revalidator.statistics().redecided;
      again?.();
      if (controller.revalidator.statistics().redecided !== before) {
        t.fail(`${what}: the same again decides ${controller.revalidator.statistics().redecided - before} flows anew`);
        return;
      }
      for (let i = 0; i < FRAMES; i++) world.send();
    }
    for (const { flow } of controller.flows.dump()) seen.add(flow.decision.reason ?? flow.decision.verdict);
    datapath.close();

    function isStale({ key, decision }: CachedFlow): boolean {
      return shown(decision) !== shown(anew(key));
    }

    /** What begins a conversation, and what is known, is decided for all conversations, whatever has become of the first. */
    function anew(key: FlowKey): Decision {
      const { tables } = world.forwarding;
      return isCurrent(key, tables) ? decide(key, tables) : controller.decide(key);
    }
  }
  t.ok(checked > 10_000, `${checked} cached flows were looked at`);
  t.ok(seen.size > 10, `which were ${[...seen].sort().join(', ')}`);
});
