/**
 * A cached decision is never wider than what it was made from: changing a field that a decision left
 * wildcarded must not change the decision, in random networks and for random flows. And whatever flows
 * share, a decision or a megaflow, must be what each of them would have had alone.
 */
import t from 'tap';
import { prefixOf, routing } from '../../src/cluster/routing.ts';
import { Decisions } from '../../src/control/decisions.ts';
import { ofConnections } from '../../src/control/of-connections.ts';
import { turned, type ConnectionTuples } from '../../src/flow/connection.ts';
import { tupleOfKey } from '../../src/flow/connection-of-key.ts';
import { fieldList, fields } from '../../src/flow/fields.ts';
import {
  applyMask,
  bytesId,
  emptyKey,
  megaflowId,
  readBytes,
  readNumber,
  writeNumber,
  type FlowKey,
} from '../../src/flow/key.ts';
import { formatIp, isIp4, linkLocalOf, parseIp, sameBytes, type PortNo, type Vni } from '../../src/flow/types.ts';
import type { Tables } from '../../src/pipeline/stage.ts';
import { renderText } from '../../src/pipeline/text.ts';
import { withCtState } from '../../src/pipeline/ct-state.ts';
import { decide, type Decision } from '../../src/pipeline/decide.ts';
import { Changes } from '../../src/table/changes.ts';
import { clientAddress } from '../../src/table/clients.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { isFromOutside, isToService } from '../../src/table/connection-ways.ts';
import { Fdb, vtepLocation } from '../../src/table/fdb.ts';
import { NeighborTable } from '../../src/table/neighbor.ts';
import { Services } from '../../src/table/services.ts';
import {
  gatewayMac,
  hostMacOf,
  INTERNAL_MAC,
  INTERNAL_NAMESPACE_MAC,
  OUTSIDE_HOST_MAC,
  OUTSIDE_MAC,
  publishedId,
  Topology,
  type AccessPort,
} from '../../src/table/topology.ts';
import { stores } from '../support/connections.ts';
import { randomService } from '../support/random-services.ts';
import { randomHooks } from '../support/random-hooks.ts';
import { randomPolicies } from '../support/policy/random-policies.ts';
import { Random } from '../support/random.ts';
import { backend } from '../support/services.ts';
import { Workload } from '../../src/table/workload.ts';
import { ETH_ARP, ETH_IPV4, ETH_IPV6 } from '../../src/wire/ethernet.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());
const FLOWS = 8000;
const OUTSIDE_PORT = 6 as PortNo;
const INTERNAL_PORT = 7 as PortNo;
const SOCKET = parseIp('169.254.77.6');
const transit = parseIp('198.51.100.7');

const macs = Array.from({ length: 6 }, (_, i) => Uint8Array.of(2, 0, 0, 0, 0, i));
/** MACs that only weft has: the gateways of both networks, and the host. */
const routers = [gatewayMac(1 as Vni), gatewayMac(2 as Vni), hostMacOf(Uint8Array.of(0, 0, 1))];
const group = [
  Uint8Array.of(255, 255, 255, 255, 255, 255),
  Uint8Array.of(0x33, 0x33, 0, 0, 0, 1),
  Uint8Array.of(1, 0x80, 0xc2, 0, 0, 3),
  new Uint8Array(6),
];
/** Addresses of services; the last one of each family is none's. */
const vips = ['10.96.0.1', '10.96.0.2', '10.96.0.9', 'fd96::1', 'fd96::9'].map(parseIp);
const ips = [
  '0.0.0.0',
  '10.0.0.1',
  '10.0.0.2',
  '10.0.0.3',
  '::',
  'fd00::1',
  'fd00::2',
  'ff02::1',
  '192.0.2.1',
  '192.0.2.2',
  '10.0.1.1',
  '10.0.1.7',
  '198.51.100.1',
  '203.0.113.5',
]
  .map(parseIp)
  .concat(vips, macs.map(linkLocalOf));
const ips4 = ips.filter(isIp4);
const ips6 = ips.filter((ip) => !isIp4(ip));
const IP_TYPES: readonly number[] = [ETH_IPV4, ETH_IPV6];

function randomTables(random: Random): Tables {
  const changes = new Changes();
  const topology = new Topology(hostMacOf(Uint8Array.of(0, 0, 1)), changes);
  const fdb = new Fdb({ quota: 8, ageingMs: 1000 }, changes);
  const neighbors = new NeighborTable({ quota: 64 }, changes);
  if (random.chance(0.8)) topology.openTunnel(1 as PortNo);
  for (const vni of [1, 2].filter(() => random.chance(0.9))) {
    const network = { name: `n${vni}`, vni: vni as Vni, outside: random.chance(0.7), ...randomRouting(random, vni) };
    topology.setNetwork(network);
    for (const gateway of network.gateways) neighbors.set(network.vni, gateway, gatewayMac(network.vni));
  }
  for (let portNo = 2; portNo < 6; portNo++) {
    const vni = random.pick([1, 2]) as Vni;
    if (!topology.network(vni) || random.chance(0.2)) continue;
    const mac = macs[portNo - 2]!;
    const addresses = ips.filter(() => random.chance(0.3));
    topology.setPort({
      portNo: portNo as PortNo,
      name: `p${portNo}`,
      vni,
      mac,
      addresses,
      allowedAddresses: [],
      allowedEtherTypes: random.chance(0.3) ? [0x88f7] : [],
      trust: random.chance(0.3),
    });
    fdb.setStatic(vni, mac, { kind: 'port', port: portNo as PortNo });
    for (const ip of addresses) neighbors.set(vni, ip, mac);
  }
  for (const vtep of [parseIp('192.0.2.1'), parseIp('192.0.2.2')].filter(() => random.chance(0.7))) {
    topology.vteps.add(vtep, random.chance(0.5) ? hostMacOf(Uint8Array.of(0, 0, 2)) : undefined);
    for (const mac of macs.slice(4).filter(() => random.chance(0.4))) {
      const addresses = ips.filter(() => random.chance(0.3));
      const allowedAddresses = ips.filter(() => random.chance(0.2));
      const remote = { vni: 1 as Vni, mac, addresses, allowedAddresses, vtep, trust: random.chance(0.3) };
      const workload = new Workload(remote);
      if (fdb.workload(remote.vni, mac)) continue;
      fdb.setStatic(remote.vni, mac, vtepLocation(vtep), workload);
      topology.workloads.add(workload);
      for (const ip of addresses) neighbors.set(remote.vni, ip, mac);
    }
    if (random.chance(0.6)) fdb.learn(1 as Vni, random.pick(macs), { kind: 'vtep', vtep }, 0);
    // One that no port has.
    if (random.chance(0.8)) fdb.learn(1 as Vni, random.pick(macs.slice(4)), { kind: 'vtep', vtep }, 0);
  }
  const services = randomServices(random, topology, changes);
  const connections = new ConnectionTable({
    store: stores.reference(63),
    quota: 64,
    unprovenQuota: 64,
    addressesWith: (vni, ip) => topology.addressesWith(vni, ip),
    natKey: new Uint8Array(8),
    services,
    isReserved: (protocol, port) => topology.isPublished(protocol, port),
  });
  if (random.chance(0.7)) {
    topology.setOutside({
      portNo: OUTSIDE_PORT,
      mac: OUTSIDE_MAC,
      hostMac: OUTSIDE_HOST_MAC,
      transit: [transit],
      mtu: 1500,
      published: new Map([
        [publishedId(IP_TCP, 80), { endpoint: 'p2', vni: 1 as Vni, addresses: ips.slice(0, 1), l4Port: 80 }],
      ]),
    });
  }
  if (random.chance(0.7)) {
    topology.setInternal({
      portNo: INTERNAL_PORT,
      mac: INTERNAL_MAC,
      namespaceMac: INTERNAL_NAMESPACE_MAC,
      addresses: [parseIp('169.254.77.5')],
      sockets: [SOCKET],
      mtu: 1280,
      listening: [IP_TCP, IP_UDP].map((protocol) => ({ protocol, l4Port: 80 })),
    });
  }
  const policies = randomPolicies(random, changes, ips);
  return { topology, fdb, neighbors, connections, services, policies, hooks: randomHooks(random, changes) };
}

/** Backends are local and on other hosts, in both networks and in none; two services may have the same VIP. */
function randomServices(random: Random, topology: Topology, changes: Changes): Services {
  const services = new Services(topology, changes);
  services.setHost('here', 'near');
  if (random.chance(0.7)) services.setRanges(['10.96.0.0/16', 'fd96::/64'].map(prefixOf));
  const possible = ips
    .filter((ip) => !vips.includes(ip))
    .map((ip) =>
      backend(formatIp(ip), {
        vni: random.chance(0.9) ? networkOf(ip) : random.pick([1 as Vni, 2 as Vni, undefined]),
        ...random.pick([{ host: 'here', zone: 'near' }, { host: 'there', zone: 'near' }, {}]),
      }),
    );
  for (const id of ['default/a', 'default/b', 'default/c'].filter(() => random.chance(0.7))) {
    const vips = [random.pick(['10.96.0.1', '10.96.0.2']), 'fd96::1'].map(parseIp);
    services.set(randomService(random, { id, vips, possible }), 0);
  }
  return services;
}

function randomRouting(random: Random, vni: number) {
  const others = [
    { to: '10.0.1.0/24', network: 'n2' },
    { to: '10.0.0.0/24', network: 'n1' },
    { to: '198.51.100.0/24', via: ['10.0.0.2', '10.0.0.3'] },
    { to: '192.0.2.0/24', type: random.pick(['blackhole', 'unreachable', 'prohibit'] as const) },
    { to: '192.0.2.2/32', network: 'n3' },
    { to: 'fd00::/16', network: random.pick(['n1', 'n2']) },
  ];
  const subnets = vni === 1 ? ['10.0.0.0/24', 'fd00::/64'] : ['10.0.1.0/24'];
  return routing(
    `n${vni}`,
    random.chance(0.8) ? subnets : [],
    others.filter(() => random.chance(0.7)),
  );
}

/** Values that decisions know, and now and then any other. */
function randomize(key: Uint8Array, name: keyof typeof fields, random: Random): void {
  const field = fields[name];
  const known: Partial<Record<keyof typeof fields, readonly number[]>> = {
    in_port: [1, 2, 3, 4, 5, 9],
    tun_vni: [0, 1, 2, 3],
    eth_type: [0x0800, 0x86dd, 0x0806, 0x88cc],
    vlan_tci: [0, 0, 0, 0x1005],
    ip_proto: [1, 2, 6, 17, 58],
    ip_ttl: [0, 1, 2, 64],
    ip_frag: [0, 1, 2],
    l4_src: [0, 3, 8, 67, 128, 133, 134, 135, 136, 137, 143],
    l4_dst: [0, 67, 68, 546, 80],
  };
  if (field.kind === 'mac') key.set(random.pick([...macs, ...group, ...routers]), field.offset);
  else if (field.kind === 'ip') key.set(random.pick(ips), field.offset);
  else if (known[name] && random.chance(0.9)) writeNumber(key, field, random.pick(known[name]));
  else writeNumber(key, field, random.int(2 ** (8 * field.size)));
}

/**
 * The key of a flow that a frame may have: no frame has addresses of two families, or of another one than its EtherType
 * (`extract.ts` refuses IPv4-mapped addresses in IPv6).
 */
function randomKey(random: Random, tables: Tables, honest: number): FlowKey {
  const key = emptyKey();
  for (const { name } of fieldList) randomize(key, name, random);
  if (random.chance(honest)) makeHonest(key, tables, random);
  const type = readNumber(key, fields.eth_type);
  if (!IP_TYPES.includes(type) && type !== ETH_ARP) return key;
  const isV4 = type === ETH_ARP || isIp4(readBytes(key, fields.ip_src));
  if (type !== ETH_ARP) writeNumber(key, fields.eth_type, isV4 ? ETH_IPV4 : ETH_IPV6);
  for (const field of [fields.ip_src, fields.ip_dst]) {
    if (isIp4(readBytes(key, field)) !== isV4) key.set(random.pick(isV4 ? ips4 : ips6), field.offset);
  }
  return key;
}

/** Makes it something that a workload or a peer would send, so that decisions get past the first checks. */
function makeHonest(key: Uint8Array, tables: Tables, random: Random): void {
  if (random.chance(0.2)) return makeEntering(key, random);
  if (random.chance(0.1)) return makeInternal(key, random);
  if (random.chance(0.1)) return makeEntry(key, tables, random);
  if (random.chance(0.05)) return makeReturning(key, tables, random);
  if (random.chance(0.2)) {
    writeNumber(key, fields.in_port, 1);
    writeNumber(key, fields.tun_vni, 1);
    writeNumber(key, fields.vlan_tci, 0);
    key.set(random.pick([...tables.topology.vteps.all(), ...ips]), fields.tun_src.offset);
    key.set(random.pick([...macs, gatewayMac(1 as Vni), hostMacOf(Uint8Array.of(0, 0, 2))]), fields.eth_src.offset);
    if (random.chance(0.8)) key.set(random.pick([...macs, ...macs.slice(4)]), fields.eth_dst.offset);
    return;
  }
  const portNo = 2 + random.int(4);
  const port = tables.topology.port(portNo as PortNo);
  writeNumber(key, fields.vlan_tci, 0);
  if (!port) return;
  writeNumber(key, fields.in_port, portNo);
  key.set(port.mac, fields.eth_src.offset);
  if (random.chance(0.8)) key.set(port.mac, fields.nd_lla.offset);
  if (port.addresses.length > 0) key.set(random.pick(port.addresses), fields.ip_src.offset);
  if (random.chance(0.2)) makeForService(key, port, random);
  else if (random.chance(0.25)) makeRequest(key, random);
  else if (random.chance(0.3)) makeRouted(key, port.vni, random);
}

/** Makes it something that the host would forward from outside. */
function makeEntering(key: Uint8Array, random: Random): void {
  writeNumber(key, fields.in_port, OUTSIDE_PORT);
  writeNumber(key, fields.eth_type, 0x0800);
  writeNumber(key, fields.vlan_tci, 0);
  key.set(OUTSIDE_MAC, fields.eth_dst.offset);
  key.set(random.chance(0.9) ? transit : random.pick(ips), fields.ip_dst.offset);
  key.set(random.pick(ips), fields.ip_src.offset);
  writeNumber(key, fields.l4_dst, random.pick([80, 81]));
}

/** Makes it something that another host would bring for a backend from outside. */
function makeEntry(key: Uint8Array, { topology }: Tables, random: Random): void {
  const vteps = topology.vteps.all().filter((vtep) => topology.vteps.isSharing(vtep));
  const ports = [2, 3, 4, 5].flatMap((portNo) => topology.port(portNo as PortNo) ?? []);
  const backends = ports.flatMap(({ vni, mac, addresses }) => addresses.map((address) => ({ vni, mac, address })));
  const ofNetwork = backends.filter(({ vni, address }) => networkOf(address) === vni);
  if (vteps.length === 0 || ofNetwork.length === 0) return;
  const { vni, mac, address } = random.pick(ofNetwork);
  writeNumber(key, fields.in_port, 1);
  writeNumber(key, fields.tun_vni, vni);
  writeNumber(key, fields.vlan_tci, 0);
  key.set(random.pick(vteps), fields.tun_src.offset);
  key.set(random.chance(0.9) ? gatewayMac(vni) : hostMacOf(Uint8Array.of(0, 0, 2)), fields.eth_src.offset);
  key.set(random.chance(0.9) ? mac : random.pick(macs), fields.eth_dst.offset);
  writeNumber(key, fields.eth_type, isIp4(address) ? 0x0800 : 0x86dd);
  const isV4 = isIp4(address);
  const source = random.chance(0.8) ? (isV4 ? '203.0.113.5' : '2001:db8::5') : undefined;
  key.set(
    source === undefined ? random.pick(ips.filter((ip) => isIp4(ip) === isV4)) : parseIp(source),
    fields.ip_src.offset,
  );
  key.set(address, fields.ip_dst.offset);
  writeNumber(key, fields.ip_frag, 0);
  writeNumber(key, fields.ip_proto, random.pick([IP_TCP, IP_UDP]));
  writeNumber(key, fields.l4_src, random.pick([1, 2]));
  writeNumber(key, fields.l4_dst, random.pick([53, 80, 8080]));
}

/** Makes it what a backend answers to a client outside: on its own host, and on the host by which the client came in. */
function makeReturning(key: Uint8Array, { topology, connections, fdb, neighbors }: Tables, random: Random): void {
  const open = [...connections.entries()].filter(isFromOutside);
  if (open.length === 0) return;
  const { translated, protocol, places } = random.pick(open);
  const { source, sourcePort, destination, destinationPort } = turned(translated);
  const vni = places[1] as Vni;
  const mac = neighbors.lookup(vni, source);
  const where = mac && fdb.lookup(vni, mac)?.where;
  if (!where) return;
  writeNumber(key, fields.in_port, where.kind === 'port' ? where.port : 1);
  writeNumber(key, fields.tun_vni, where.kind === 'port' ? 0 : vni);
  key.set(where.kind === 'port' ? new Uint8Array(16) : where.vtep, fields.tun_src.offset);
  writeNumber(key, fields.vlan_tci, 0);
  key.set(where.kind === 'port' ? mac : gatewayMac(vni), fields.eth_src.offset);
  key.set(where.kind === 'port' ? gatewayMac(vni) : topology.hostMac, fields.eth_dst.offset);
  writeNumber(key, fields.eth_type, isIp4(source) ? 0x0800 : 0x86dd);
  key.set(source, fields.ip_src.offset);
  key.set(destination, fields.ip_dst.offset);
  writeNumber(key, fields.ip_ttl, random.pick([1, 64, 64]));
  writeNumber(key, fields.ip_frag, 0);
  writeNumber(key, fields.ip_proto, protocol);
  writeNumber(key, fields.l4_src, sourcePort);
  writeNumber(key, fields.l4_dst, random.chance(0.9) ? destinationPort : 9);
}

/** Makes it something that a socket of weft would send. */
function makeInternal(key: Uint8Array, random: Random): void {
  writeNumber(key, fields.in_port, INTERNAL_PORT);
  writeNumber(key, fields.eth_type, 0x0800);
  writeNumber(key, fields.vlan_tci, 0);
  key.set(INTERNAL_MAC, fields.eth_dst.offset);
  key.set(SOCKET, fields.ip_src.offset);
  key.set(clientAddress(1 + random.int(4), true, 0), fields.ip_dst.offset);
}

/** Makes it a packet for another place. */
function makeRouted(key: Uint8Array, vni: Vni, random: Random): void {
  key.set(gatewayMac(vni), fields.eth_dst.offset);
  writeNumber(
    key,
    fields.eth_type,
    isIp4(key.subarray(fields.ip_src.offset, fields.ip_src.offset + 16)) ? 0x0800 : 0x86dd,
  );
  writeNumber(key, fields.ip_ttl, random.pick([1, 64]));
  key.set(random.pick(ips), fields.ip_dst.offset);
  if (random.chance(0.3)) makeForSocket(key, vni, random);
}

/** Makes it a packet for a socket of weft at the gateway. */
function makeForSocket(key: Uint8Array, vni: Vni, random: Random): void {
  writeNumber(key, fields.eth_type, 0x0800);
  key.set(parseIp(`10.0.${vni - 1}.7`), fields.ip_src.offset);
  key.set(parseIp(`10.0.${vni - 1}.1`), fields.ip_dst.offset);
  writeNumber(key, fields.ip_proto, random.pick([IP_TCP, IP_UDP]));
  writeNumber(key, fields.l4_dst, random.pick([80, 81]));
}

/** Makes it a packet for a port that a service may have, if the port has an address of a subnet. */
function makeForService(key: Uint8Array, { vni, addresses }: AccessPort, random: Random): void {
  const own = addresses.filter((ip) => networkOf(ip) === vni);
  if (own.length === 0) return;
  const source = random.pick(own);
  key.set(source, fields.ip_src.offset);
  key.set(random.pick(vips.filter((vip) => isIp4(vip) === isIp4(source))), fields.ip_dst.offset);
  key.set(gatewayMac(vni), fields.eth_dst.offset);
  writeNumber(key, fields.eth_type, isIp4(source) ? 0x0800 : 0x86dd);
  writeNumber(key, fields.ip_ttl, random.pick([1, 64, 64]));
  writeNumber(key, fields.ip_frag, 0);
  writeNumber(key, fields.ip_proto, random.pick([IP_TCP, IP_UDP]));
  writeNumber(key, fields.l4_dst, random.pick([53, 80, 81, 82]));
}

/** The network that has its subnet, if both have one; undefined if none has. */
function networkOf(ip: Uint8Array): Vni | undefined {
  const text = formatIp(ip);
  if (text.startsWith('10.0.1.')) return 2 as Vni;
  return text.startsWith('10.0.0.') || text.startsWith('fd00::') ? (1 as Vni) : undefined;
}

/** Makes it an ARP request, as an honest port would send it. */
function makeRequest(key: Uint8Array, random: Random): void {
  writeNumber(key, fields.eth_type, 0x0806);
  writeNumber(key, fields.ip_proto, 1);
  key.set(group[0]!, fields.eth_dst.offset);
  key.set(key.subarray(fields.eth_src.offset, fields.eth_src.offset + 6), fields.nd_lla.offset);
  key.set(random.pick(ips), fields.ip_dst.offset);
}

function verdict({ actions, mask, consulted, effects, reason }: Decision): unknown {
  return { actions, mask, consulted: [...consulted].sort(), effects, reason };
}

const hasBecause = ({ stages }: Decision, word: string): boolean => {
  const route = stages.find(({ stage }) => stage === 'route');
  return route !== undefined && renderText(route.because).startsWith(word);
};
const isBack = (decision: Decision): boolean =>
  decision.verdict === 'forward' && hasBecause(decision, 'outside by host');
const isOut = (decision: Decision): boolean => decision.verdict === 'forward' && hasBecause(decision, 'outside:');

const ROUNDS = 40;
/** What the flows must lead to. */
const OUTCOMES = [
  'forward',
  'consume',
  'spoof_ip4',
  'spoof_arp',
  'spoof_nd',
  'rogue_dhcp',
  'split_horizon',
  'no_destination',
  'same_port',
  'wait',
  'ttl_exceeded',
  'no_route',
  'martian',
  'gateway_refused',
  'connect',
  'connect to a socket',
  'forward, connected',
  'no_connection',
  'connect to a backend',
  'connect to a backend from outside',
  'connect by another host',
  'back to another host',
  'out for another host',
  'service_unknown',
  'service_no_backend',
  'service_local',
  'two replies',
  'policy_egress',
  'policy_ingress',
  'hook_denied',
  'hook_failed',
] as const;

t.test(`flipping wildcarded fields changes nothing (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const reached = new Set<string>();
  // Some outcomes are rare: it goes on until each was seen.
  const isMissing = (): boolean => OUTCOMES.some((outcome) => !reached.has(outcome));
  for (let round = 0; round < ROUNDS || (round < 10 * ROUNDS && isMissing()); round++) {
    const tables = randomTables(random);
    for (let i = 0; i < FLOWS / ROUNDS; i++) {
      let key = withCtState(randomKey(random, tables, 0.6), tables);
      let decision = decide(key, tables);
      reached.add(decision.reason ?? decision.verdict);
      if (decision.opening && 'socket' in decision.opening) reached.add('connect to a socket');
      if (decision.opening && 'via' in decision.opening) reached.add('connect by another host');
      if (isBack(decision)) reached.add('back to another host');
      if (isOut(decision)) reached.add('out for another host');
      if (decision.opening && 'replies' in decision.opening) {
        reached.add(`connect to a backend${decision.opening.isFromOutside ? ' from outside' : ''}`);
      }
      if (decision.opening && random.chance(0.8)) {
        tables.connections.open(decision.opening, 0);
        const again = decide(withCtState(key, tables), tables);
        if (decision.opened) {
          // What policies said when it began stays.
          const opened = { ...decision.opened(), judged: again.judged };
          if (everything(opened) !== everything(again)) t.same(everything(opened), everything(again));
        }
        decision = again;
        key = withCtState(key, tables);
        reached.add(`${decision.verdict}, connected`);
        const [one, other] = repliesTo(tables, found(key, tables), random);
        if (one !== undefined) reached.add('two replies');
        if (one !== other) t.equal(other, one, 'a decision about a reply depends on the port of its client');
      }
      for (const { name, offset, size } of fieldList) {
        const other = key.slice();
        randomize(other, name, random);
        // The part of the field that was used stays: nothing, its beginning, or all of it.
        for (let i = offset; i < offset + size; i++) if (decision.mask[i] !== 0) other[i] = key[i]!;
        // The datapath writes the state of the connection, which other fields change.
        if (sameBytes(other, key) || withCtState(other, tables) !== other) continue;
        const again = decide(other, tables);
        if (JSON.stringify(verdict(again)) !== JSON.stringify(verdict(decision))) {
          t.same(verdict(again), verdict(decision), `${name} is wildcarded and yet decides`);
          return;
        }
      }
    }
  }
  for (const outcome of OUTCOMES) t.ok(reached.has(outcome), `the flows reach ${outcome}`);
});

function found(key: FlowKey, { connections, topology }: Tables): ConnectionTuples | undefined {
  const vni = topology.port(readNumber(key, fields.in_port) as PortNo)?.vni;
  const tuple = tupleOfKey(key);
  const found = vni !== undefined && tuple && connections.lookup(vni, tuple.protocol, tuple);
  return found ? connections.tuples(found.slot) : undefined;
}

/**
 * What is cached for a reply of a connection through a service, and of one that differs in nothing but the port of its client:
 * new connections begin with the flow that replies of the others have.
 */
function repliesTo(tables: Tables, connection: ConnectionTuples | undefined, random: Random): (string | undefined)[] {
  if (!connection || !isToService(connection)) return [];
  const { places, protocol, original, translated } = connection;
  const [vni, replies] = places as [Vni, Vni];
  const port = tables.services.find(original.destination, protocol, original.destinationPort);
  const alike = { ...original, sourcePort: 1 + random.int(65_535) };
  const choice = port && tables.services.choose(port, vni, { protocol, ...alike });
  if (choice?.kind !== 'backend' || !sameBytes(choice.backend.address, translated.destination)) return [];
  tables.connections.open({ vni, protocol, original: alike, choice, replies }, 0);
  const at = tables.connections.lookup(vni, protocol, alike);
  if (!at) return [];
  const from = random.pick([2, 3, 4, 5]) as PortNo;
  const key = emptyKey();
  const server = tables.topology.port(from);
  if (server?.vni !== replies) return [];
  writeNumber(key, fields.in_port, from);
  writeNumber(key, fields.eth_type, isIp4(original.source) ? 0x0800 : 0x86dd);
  writeNumber(key, fields.ip_ttl, random.pick([1, 64, 64]));
  writeNumber(key, fields.ip_proto, protocol);
  key.set(server.mac, fields.eth_src.offset);
  key.set(random.pick([gatewayMac(replies), random.pick(macs)]), fields.eth_dst.offset);
  return [connection, tables.connections.tuples(at.slot)].map(({ translated }) => {
    key.set(translated.destination, fields.ip_src.offset);
    key.set(translated.source, fields.ip_dst.offset);
    writeNumber(key, fields.l4_src, translated.destinationPort);
    writeNumber(key, fields.l4_dst, translated.sourcePort);
    const reply = withCtState(key, tables);
    const decision = decide(reply, tables);
    const { connection } = decision;
    return connection && everything(ofConnections(decision, connection, reply));
  });
}

/** Everything that anybody can see of a decision, of its stages the last one. */
function everything(decision: Decision): string {
  const last = decision.stages.at(-1)!;
  const consulted = decision.consulted.toSorted();
  return JSON.stringify({ ...decision, consulted, stages: { ...last, because: renderText(last.because) } });
}

t.test(`equal decisions are one object, others never (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const decisions = new Decisions();
  const tables = randomTables(random);
  const known = new Set<Decision>();
  let cached = 0;
  const megaflows = new Map<string, string>();
  for (let i = 0; i < FLOWS; i++) {
    const key = randomKey(random, tables, 1);
    const decision = decide(withCtState(key, tables), tables);
    if (!decision.cacheable) continue;
    cached++;
    const interned = decisions.intern(decision);
    known.add(interned);
    if (everything(interned) !== everything(decision)) {
      t.equal(everything(interned), everything(decision));
      return;
    }
    const megaflow = bytesId(applyMask(key, decision.mask)) + bytesId(decision.mask);
    const id = megaflowId(key, decision.mask);
    if ((megaflows.get(id) ?? megaflow) !== megaflow) {
      t.fail(`two megaflows have the id ${Buffer.from(id, 'latin1').toString('hex')}`);
      return;
    }
    megaflows.set(id, megaflow);
  }
  t.equal(new Set(megaflows.values()).size, megaflows.size, 'and one megaflow has one id');
  t.ok(known.size < cached * 0.7, `${known.size} decisions for ${cached} flows`);
});
