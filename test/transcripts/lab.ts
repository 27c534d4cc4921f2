/**
 * A simulated network driven by the commands in the documents in this folder.
 *
 *   store                                                    the hosts share one, instead of being static peers; before any host
 *   host NAME UNDERLAY [copy-dscp]
 *   network NAME VNI [SUBNET…] [mtu=BYTES] [outside]         on every host
 *   route NETWORK PREFIX [network=NAME] [via=IP,…] [type=blackhole|unreachable|prohibit]
 *   attach HOST/PORT NETWORK MAC IP… [trust] [ethertype=TYPE]… [allowed=IP]…
 *   detach HOST/PORT
 *   outside HOST TRANSIT… [mtu=BYTES]                        the link to the host: the port HOST/outside
 *   services PREFIX…                                         the addresses that those of services are taken from, on every host
 *   service NAME vip=IP[,IP] port=PORT[-LAST]:PORT/tcp|udp[@NODEPORT]… [backend=HOST/PORT[:PORT]|[NETWORK/]IP[:PORT]]… [policy=local] [outside-policy=local]
 *           [balancing=METHOD] [affinity=MS] [most=CONNECTIONS] [leads-to=NAME]
 *   service NAME                                             there is none any more
 *   label NAME KEY=VALUE…                                    what selectors match of the workload behind that port
 *   policy NAME for=NAME,… ingress|egress [peer=KEY:VALUE|NAMESPACE|PREFIX]… [port=PORT[-LAST]/tcp|udp]… [nobody] [reject] [staged]
 *   policy NAME                                              there is none any more
 *   hook NAME STATEMENT…                                      a flow hook on every host: what its function (flow, ctx) does
 *   hook NAME                                                there is none any more
 *   listen HOST PORT/tcp|udp…                                weft’s own sockets: the port HOST/internal
 *   publish HOST/PORT HOSTPORT:PORT/tcp|udp
 *   path HOST UNDERLAY BYTES                                 the largest inner packet on the way there
 *   peer HOST UNDERLAY down|up|gone                          what the host knows of another one
 *   underlay HOST down
 *   mark ECN|nothing                                         what the underlay marks on every datagram
 *   show ASPECT…                                             what to show of a frame besides its summary (`shown.ts`)
 *   trace HOST FLOW                                          what `weft trace FLOW` prints
 *   send HOST/PORT KIND [FIELD=VALUE…]                       a frame (`said.ts`)
 *   flows HOST                                               the cached flows, and how many frames each has forwarded
 *   connections HOST
 *   advance MILLISECONDS
 *
 * `send` and `advance` print their effects: what the underlay carried (if `show` asks for it), the
 * frames that came out, the drops, and the number of frames that the switch holds if it has changed.
 */
import { decisionText } from '../../src/cli/decision.ts';
import type { Datagram, Datapath, DatapathOptions, Injectable } from '../../src/datapath/datapath.ts';
import { formatActions } from '../../src/flow/action.ts';
import { formatEnd, protocolName } from '../../src/flow/connection.ts';
import { formatMegaflow } from '../../src/flow/key.ts';
import { formatMac, parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import type { RouteSpec } from '../../src/model/kinds/network.ts';
import { reportDecision } from '../../src/observe/decision.ts';
import { parseFlow } from '../../src/observe/flow-spec.ts';
import { createSimulation, type SimulatedHost, type SimulatedPort, type Simulation } from '../../src/simulation.ts';
import type { FlowHook } from '../../src/table/hooks.ts';
import {
  gatewayMac,
  INTERNAL_MAC,
  INTERNAL_NAMESPACE_MAC,
  OUTSIDE_HOST_MAC,
  OUTSIDE_MAC,
} from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import type { Routing, Service } from '../../src/table/service.ts';
import { hookOf } from '../support/hooks.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { checkConservation } from '../conformance/harness.ts';
import { buildFrame, ecnOf, type Speaker } from './said.ts';
import { LabPolicies } from './policies.ts';
import { datagramText, frameText, parseAspects, type Aspect } from './shown.ts';

export type Open = (options: DatapathOptions) => Datapath & Injectable;

interface Network {
  readonly vni: number;
  readonly subnets: readonly string[];
  readonly mtu: number | undefined;
  readonly outside: boolean;
  /** By prefix. */
  readonly routes: Map<string, RouteSpec>;
}

/** A port, and what it can send. */
interface Place extends Speaker {
  readonly port: SimulatedPort;
  /** Of its network, if it is in one. */
  readonly vni?: Vni;
  /** The last frame that came out. */
  latest?: Uint8Array;
}

const UNDERLAY = { name: 'underlay', portNo: 1 as PortNo } as const;
const OUTSIDE = 'outside';
const INTERNAL = { addresses: ['169.254.77.5', 'fd77:6566:7431::1'], sockets: ['169.254.77.6', 'fd77:6566:7431::2'] };
/** The switch does its periodic work about once a second. */
const TICK_MS = 1000;

export class Lab {
  #net: Simulation;
  readonly #hosts = new Map<string, SimulatedHost>();
  readonly #networks = new Map<string, Network>();
  /** By HOST/PORT. */
  readonly #places = new Map<string, Place>();
  readonly #verbs: Readonly<Record<string, (words: readonly string[]) => string[] | void>> = {
    store: () => this.#store(),
    host: ([name, underlay, ...rest]) => this.#host(name!, underlay!, rest),
    network: (words) => this.#network(words),
    route: (words) => this.#route(words),
    attach: (words) => this.#attach(words),
    detach: ([place]) => this.#detach(place!),
    outside: (words) => this.#outside(words),
    services: (words) => this.#services(words),
    service: (words) => this.#service(words),
    label: ([name, ...labels]) => this.#policies.label(name!, labels),
    policy: (words) => this.#observe(() => this.#policy(words)),
    hook: ([name, ...words]) => this.#hook(name!, words.join(' ')),
    listen: (words) => this.#listen(words),
    publish: ([place, what]) => this.#publish(place!, what!),
    path: ([host, vtep, bytes]) => void this.#at(host!).forwarding.remote.setPathMtu(parseIp(vtep!), Number(bytes)),
    peer: ([host, vtep, state]) => this.#observe(() => this.#peer(host!, parseIp(vtep!), state!)),
    underlay: ([host]) => this.#at(host!).forwarding.closeUnderlay(UNDERLAY.portNo),
    mark: ([ecn]) => void (this.#mark = ecn === 'nothing' ? undefined : ecnOf(ecn!)),
    show: (words) => void (this.#aspects = parseAspects(words)),
    trace: ([host, flow]) => [this.#trace(host!, flow!)],
    send: ([place, kind, ...fields]) => this.#observe(() => this.#send(place!, kind!, fields)),
    flows: ([host]) => this.#flows(host!),
    connections: ([host]) => this.#connections(host!),
    advance: ([milliseconds]) => this.#observe(() => this.#advance(Number(milliseconds))),
  };
  readonly #policies = new LabPolicies();
  readonly #hooks = new Map<string, FlowHook>();
  readonly #open: Open;
  #aspects: readonly Aspect[] = [];
  #copiesDscp = false;
  #mark: number | undefined;
  #carried: Datagram[] = [];

  constructor(open: Open) {
    this.#open = open;
    this.#net = this.#simulation(false);
  }

  /** Runs one command. @returns its output, in lines */
  run(line: string): string {
    if (line === '') return '';
    const [verb, ...words] = line.split(/\s+/);
    try {
      const run = this.#verbs[verb!];
      if (!run) throw new Error(`${verb} is no verb: accepted are ${Object.keys(this.#verbs).join(', ')}`);
      return (run(words) ?? []).join('\n');
    } catch (cause) {
      throw new Error(`the line "${line}" cannot be run`, { cause });
    }
  }

  /** Checks that no frame was lost without a reason. */
  check(): void {
    for (const { forwarding } of this.#hosts.values()) checkConservation(forwarding.datapath.counters());
  }

  close(): void {
    this.#net.close();
  }

  // What exists

  #simulation(sharesStore: boolean): Simulation {
    return createSimulation({
      open: (options) => this.#open({ ...options, copyDscp: this.#copiesDscp }),
      carry: (datagram) => this.#carry(datagram),
      sharesStore,
    });
  }

  #store(): void {
    this.#net.close();
    this.#net = this.#simulation(true);
  }

  #host(name: string, underlay: string, words: readonly string[]): void {
    this.#copiesDscp = words.includes('copy-dscp');
    const host = this.#net.host(name, underlay);
    this.#hosts.set(name, host);
  }

  #network(words: readonly string[]): void {
    const [[name, vni, ...rest], fields] = sorted(words);
    const mtu = fields.get('mtu')?.[0];
    this.#networks.set(name!, {
      vni: Number(vni),
      subnets: rest.filter((word) => word !== OUTSIDE),
      mtu: mtu === undefined ? undefined : Number(mtu),
      outside: rest.includes(OUTSIDE),
      routes: new Map(),
    });
    this.#declare(name!);
  }

  #route(words: readonly string[]): void {
    const [[name, to], fields] = sorted(words);
    const network = fields.get('network')?.[0];
    const via = fields.get('via')?.[0]?.split(',');
    const type = fields.get('type')?.[0] as RouteSpec['type'];
    this.#networks.get(name!)!.routes.set(to!, {
      to: to!,
      ...(network !== undefined && { network }),
      ...(via && { via }),
      ...(type !== undefined && { type }),
    });
    this.#declare(name!);
  }

  #declare(name: string): void {
    const { vni, routes, mtu, ...network } = this.#networks.get(name)!;
    for (const host of this.#hosts.values()) {
      host.createNetwork(name, vni, { ...network, routes: [...routes.values()], ...(mtu !== undefined && { mtu }) });
    }
  }

  #attach(words: readonly string[]): void {
    const [[place, network, mac, ...rest], fields] = sorted(words);
    const addresses = rest.filter((word) => word !== 'trust');
    const port = this.#at(hostOf(place!)).attach({
      name: portOf(place!),
      network: network!,
      mac: mac!,
      addresses,
      allowedAddresses: fields.get('allowed') ?? [],
      allowedEtherTypes: (fields.get('ethertype') ?? []).map(Number),
      trust: rest.includes('trust'),
    });
    const { vni, subnets } = this.#networks.get(network!)!;
    const gateway = subnets.length > 0 ? { peerMac: formatMac(gatewayMac(vni as Vni)) } : {};
    this.#places.set(place!, { port, vni: vni as Vni, mac: mac!, addresses, ...gateway });
  }

  #detach(place: string): void {
    this.#at(hostOf(place)).detach(portOf(place));
    this.#places.delete(place);
  }

  #outside(words: readonly string[]): void {
    const [[host, ...transit], fields] = sorted(words);
    const mtu = fields.get('mtu')?.[0];
    const port = this.#at(host!).openOutside({ transit, ...(mtu !== undefined && { mtu: Number(mtu) }) });
    const ends = { mac: formatMac(OUTSIDE_HOST_MAC), peerMac: formatMac(OUTSIDE_MAC) };
    this.#places.set(`${host!}/${OUTSIDE}`, { port, ...ends, addresses: [], peerAddresses: transit });
  }

  #services(words: readonly string[]): void {
    const ranges = words.map((word) => {
      const [ip, length] = word.split('/');
      return { ip: parseIp(ip!), length: Number(length) };
    });
    for (const { forwarding } of this.#hosts.values()) forwarding.setServiceRanges(ranges);
  }

  #service(words: readonly string[]): void {
    const [[name], fields] = sorted(words);
    const id = `default/${name}`;
    const declared = fields.size === 0 ? undefined : this.#declaredService(id, fields);
    for (const { forwarding } of this.#hosts.values()) {
      if (declared) forwarding.setService(declared);
      else forwarding.removeService(id);
    }
  }

  #declaredService(id: string, fields: ReadonlyMap<string, string[]>): Service {
    const declared = (fields.get('backend') ?? []).flatMap((text) => {
      const [place, ownPort] = text.split(':') as [string, string?];
      const known = this.#places.get(place);
      if (!known) {
        // It is nobody's own: somewhere in that network, or outside.
        const [ip, network] = place.split('/').toReversed() as [string, string?];
        const vni = network === undefined ? undefined : (this.#networks.get(network)!.vni as Vni);
        return [{ ownPort, backend: backend(ip, { vni }) }];
      }
      return known.addresses.map((address) => ({
        ownPort,
        backend: backend(address, { vni: known.vni, endpoint: `default/${portOf(place)}`, host: hostOf(place) }),
      }));
    });
    const backends = declared.map((one) => one.backend);
    const ports = fields.get('port')!.map((text) => {
      const [, first, last, target, protocol, nodePort] = /^(\d+)(?:-(\d+))?:(\d+)\/(tcp|udp)(?:@(\d+))?$/.exec(text)!;
      return servicePort(backends.length, {
        protocol: protocol === 'tcp' ? IP_TCP : IP_UDP,
        l4Port: Number(first),
        lastL4Port: Number(last ?? first),
        nodePort: nodePort === undefined ? undefined : Number(nodePort),
        targets: declared.map(({ ownPort }) => Number(ownPort ?? target)),
      });
    });
    const [affinity, most, other] = ['affinity', 'most', 'leads-to'].map((field) => fields.get(field)?.[0]);
    return service({
      ...{ id, backends, ports, vips: fields.get('vip')![0]!.split(',').map(parseIp) },
      internalPolicy: fields.get('policy')?.[0] === 'local' ? 'local' : 'cluster',
      externalPolicy: fields.get('outside-policy')?.[0] === 'local' ? 'local' : 'cluster',
      balancing: (fields.get('balancing')?.[0] ?? 'maglev') as Service['balancing'],
      affinityMs: affinity === undefined ? undefined : Number(affinity),
      maxConnections: most === undefined ? undefined : Number(most),
      routing: other === undefined ? undefined : leadingTo(other),
    });
  }

  #policy(words: readonly string[]): void {
    const [[name, ...flags], fields] = sorted(words);
    this.#policies.set(name!, flags, fields);
    const pods = [...this.#places].flatMap(([place, { vni, addresses }]) =>
      vni === undefined ? [] : [{ name: portOf(place), host: hostOf(place), vni, addresses }],
    );
    for (const [host, { forwarding }] of this.#hosts) this.#policies.put(forwarding, host, pods);
  }

  #hook(name: string, body: string): void {
    if (body === '') this.#hooks.delete(name);
    else this.#hooks.set(name, hookOf(name, body));
    const inOrder = [...this.#hooks.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { forwarding } of this.#hosts.values()) {
      forwarding.tables.hooks.set(inOrder);
      forwarding.controller.enforce();
    }
  }

  #listen([host, ...ports]: readonly string[]): void {
    const listening = ports.map((text) => {
      const [port, protocol] = text.split('/');
      return { protocol: protocol === 'tcp' ? IP_TCP : IP_UDP, l4Port: Number(port) };
    });
    const port = this.#at(host!).openInternal({ ...INTERNAL, listening });
    const ends = { mac: formatMac(INTERNAL_NAMESPACE_MAC), peerMac: formatMac(INTERNAL_MAC) };
    this.#places.set(`${host!}/internal`, { port, ...ends, addresses: INTERNAL.sockets });
  }

  #publish(place: string, what: string): void {
    const [, hostPort, port, protocol] = /^(\d+):(\d+)\/(tcp|udp)$/.exec(what)!;
    this.#at(hostOf(place)).publish(portOf(place), {
      hostPort: Number(hostPort),
      port: Number(port),
      protocol: protocol === 'tcp' ? 'TCP' : 'UDP',
    });
  }

  #peer(host: string, vtep: Uint8Array, state: string): void {
    const { forwarding } = this.#at(host);
    if (state === 'gone') forwarding.remote.removeVtep(vtep);
    else forwarding.remote.setVtepsDown([{ vtep, isDown: state === 'down' }]);
  }

  // What happens

  #send(place: string, kind: string, fields: readonly string[]): void {
    const from = this.#places.get(place);
    if (!from) throw new Error(`there is no port ${place}`);
    from.port.send(buildFrame(kind, fields, from, (about) => this.#places.get(about ?? place)?.latest));
  }

  #advance(milliseconds: number): void {
    for (let left = milliseconds; left > 0; left -= TICK_MS) this.#net.advance(Math.min(left, TICK_MS));
  }

  #carry(datagram: Datagram): Datagram {
    const carried = this.#mark === undefined ? datagram : { ...datagram, tos: ((datagram.tos ?? 0) & ~3) | this.#mark };
    this.#carried.push(carried);
    return carried;
  }

  /** Runs `what`, and reports its effects. */
  #observe(what: () => void): string[] {
    const before = this.#counts();
    this.#carried = [];
    what();
    const carried = this.#aspects.includes('underlay') ? this.#carried.map(datagramText) : [];
    const out = [...this.#places].flatMap(([name, place]) =>
      place.port.received.splice(0).map((frame) => {
        place.latest = frame;
        return `${name} gets ${frameText(frame, this.#aspects)}`;
      }),
    );
    const after = this.#counts();
    const drops = [...after.drops].flatMap(([what, count]) => {
      const times = count - (before.drops.get(what) ?? 0);
      return times === 0 ? [] : [`${what}${times === 1 ? '' : `, ${times} times`}`];
    });
    const held = [...after.held].flatMap(([host, count]) =>
      count === before.held.get(host) ? [] : [`${host} holds ${frames(count)}`],
    );
    return [...carried, ...out, ...drops, ...held];
  }

  /** How often each host has dropped for each reason, and how many frames it holds. */
  #counts(): { readonly drops: ReadonlyMap<string, number>; readonly held: ReadonlyMap<string, number> } {
    const counters = [...this.#hosts].map(([name, host]) => [name, host.forwarding.datapath.counters()] as const);
    return {
      drops: new Map(
        counters.flatMap(([name, { drops }]) =>
          Object.entries(drops).map(([reason, count]) => [`${name} drops it: ${reason}`, count] as const),
        ),
      ),
      held: new Map(counters.map(([name, { held }]) => [name, held])),
    };
  }

  // Questions

  #trace(host: string, flow: string): string {
    const { forwarding } = this.#at(host);
    const { key, head } = parseFlow(flow, forwarding.tables, (name) => this.#portNo(host, name));
    const report = reportDecision(key, forwarding.controller.decide(key, head), this.#nameOn(host));
    return decisionText(report).trimEnd();
  }

  #flows(host: string): string[] {
    const { controller } = this.#at(host).forwarding;
    const name = this.#nameOn(host);
    const lines = [...controller.flows.dump()].map(({ flow, statistics }) => {
      const actions = formatActions(flow.decision.actions, name);
      return `${formatMegaflow(flow.key, flow.decision.mask, name)} packets=${statistics.packets} actions=${actions}`;
    });
    return lines.sort();
  }

  #connections(host: string): string[] {
    const { connections } = this.#at(host).forwarding.tables;
    return [...connections.entries()].map(({ protocol, state, original, translated, expiresAtMs }) => {
      const ends = `${formatEnd(original.source, original.sourcePort)} > ${formatEnd(original.destination, original.destinationPort)}`;
      const as = `${formatEnd(translated.source, translated.sourcePort)} > ${formatEnd(translated.destination, translated.destinationPort)}`;
      const seconds = Math.round((expiresAtMs - this.#net.nowMs) / 1000);
      return `${protocolName(protocol)} ${state}: ${ends}, as ${as}, ends in ${seconds} s`;
    });
  }

  #at(host: string): SimulatedHost {
    const found = this.#hosts.get(host);
    if (!found) throw new Error(`there is no host ${host}`);
    return found;
  }

  #portNo(host: string, name: string): PortNo | undefined {
    return name === UNDERLAY.name ? UNDERLAY.portNo : this.#places.get(`${host}/${name}`)?.port.portNo;
  }

  #nameOn(host: string): (port: number) => string {
    return (portNo) => {
      if (portNo === UNDERLAY.portNo) return UNDERLAY.name;
      const entry = [...this.#places].find(([place, { port }]) => port.portNo === portNo && hostOf(place) === host);
      return entry ? portOf(entry[0]) : String(portNo);
    };
  }
}

/** Separates plain words from fields with values. */
function sorted(words: readonly string[]): [plain: string[], fields: Map<string, string[]>] {
  const plain = words.filter((word) => !word.includes('='));
  const fields = new Map<string, string[]>();
  for (const word of words) {
    const [name = '', value] = word.split('=');
    if (value !== undefined) fields.set(name, [...(fields.get(name) ?? []), value]);
  }
  return [plain, fields];
}

/** All connections go to another service. */
function leadingTo(name: string): Routing {
  const destination = { service: `default/${name}`, subset: undefined, l4Port: undefined, weight: 1 };
  return { rule: 'default/rule', routes: [{ matches: [], destinations: [destination] }] };
}

function hostOf(place: string): string {
  return place.split('/')[0]!;
}

function portOf(place: string): string {
  return place.split('/')[1]!;
}

function frames(count: number): string {
  return count === 0 ? 'no frame any more' : count === 1 ? '1 frame' : `${count} frames`;
}
