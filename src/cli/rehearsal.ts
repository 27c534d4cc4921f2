/**
 * What a start of the daemon runs, on things in memory, so that V8 has compiled it when the build keeps what is compiled
 * (load-program.ts). Between a kill and the first frame that is forwarded again, compiling would take longer than running.
 *
 *   declare   a state directory gets networks, endpoints and a service
 *   start     they are read and put into force
 *   converse  frames are decided: between containers, over a gateway, to a service, and out of and into the host
 *
 * Nothing of this machine is opened but files in a directory for temporary ones: no interface, no socket, no namespace. A
 * function that is not reached is compiled when it is called for the first time, as ever.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { IDENTITY_BYTES } from '../cluster/membership/identity.ts';
import { routing } from '../cluster/routing.ts';
import { loadConfig } from '../config.ts';
import type { Datapath, DatapathOptions, Injectable, PortSpec } from '../datapath/datapath.ts';
import { openNativeDatapath } from '../datapath/native/native.ts';
import { openReferenceDatapath } from '../datapath/reference/reference.ts';
import { WeftError } from '../error.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import { NetnsWatcher } from '../link/netns-watcher.ts';
import { EventLoopDelay } from '../metrics/event-loop.ts';
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { RouteSpec } from '../model/kinds/network.ts';
import { joinParts, type Parts } from '../parts.ts';
import { openEmbeddedStore } from '../store/embedded.ts';
import { gatewayMac, OUTSIDE_HOST_MAC, OUTSIDE_MAC, publishedId } from '../table/topology.ts';
import { ARP_REQUEST, buildArp } from '../wire/arp.ts';
import { buildEthernet, ETH_ARP, ETH_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { buildIpv4, IP_TCP, IP_UDP, parseIpv4 } from '../wire/ipv4.ts';
import { buildTcp, buildUdp, parseTcp, parseUdp, TCP_ACK, TCP_SYN } from '../wire/l4.ts';

type Open = (options: DatapathOptions) => Datapath & Injectable;

const datapaths: readonly Open[] = [(options) => openNativeDatapath({ ...options, threads: 0 }), openReferenceDatapath];

/** What the store holds: networks, an endpoint on another host and one whose container is gone, and a service. */
const RECORDS = {
  'namespaces/default': { resource: resource('v1', 'Namespace', { name: 'default' }, {}) },
  'networks/blue': network('blue', 4660, ['10.44.0.0/24', 'fd44::/64'], { to: '10.45.0.0/24', network: 'red' }),
  'networks/red': network('red', 4661, ['10.45.0.0/24'], { to: '10.44.0.0/24', network: 'blue' }),
  'hosts/there': { resource: resource(WEFT_V1, 'Host', { name: 'there' }, { underlay: '192.0.2.2' }) },
  'endpoints/default/far': endpoint('far', '10.44.0.14', { host: 'there' }),
  'endpoints/default/gone': endpoint('gone', '10.44.0.15', { netns: '/nonexistent/gone' }),
  'attachments/default/gone': { portNo: 9, netns: { path: '/nonexistent/gone', dev: '0', ino: '0' }, bootId: '' },
  'services/default/shop': {
    resource: resource('v1', 'Service', inDefault('shop'), {
      clusterIP: '10.96.0.9',
      selector: { app: 'shop' },
      ports: [{ port: 80, targetPort: 8080 }],
    }),
    clusterIps: ['10.96.0.9'],
    ipFamilies: ['IPv4'],
    nodePorts: [],
  },
};
const [BLUE, RED] = [4660 as Vni, 4661 as Vni];
const SERVICE = '10.96.0.9';

const CONTAINERS = [
  { name: 'web', vni: BLUE, mac: '02:00:00:00:00:11', ip: '10.44.0.11' },
  { name: 'db', vni: BLUE, mac: '02:00:00:00:00:12', ip: '10.44.0.12' },
  { name: 'shop', vni: RED, mac: '02:00:00:00:00:13', ip: '10.45.0.13' },
] as const;
const OUTSIDE = { portNo: 2 as PortNo, transit: '169.254.77.2', client: '192.0.2.9' };
const L4_PORT = 8080;
/** So many answers follow each other; a connection is established with the second one. */
const ANSWERS = 4;

/** Runs all of it. @throws if something of it fails, which is a defect */
export async function rehearse(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-rehearsal-'));
  try {
    await declare(directory);
    for (const open of datapaths) {
      await start(directory, open, (parts, datapath) => new Conversations(parts, datapath).hold());
      // There are connections now.
      await start(directory, open, () => {});
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function declare(directory: string): Promise<void> {
  const store = await openEmbeddedStore({ directory, onWarning: fail, after: never });
  await store.transact({ put: Object.entries(RECORDS).map(([key, value]) => ({ key, value })) });
  await store.close();
}

/** Starts the parts of a switch with what the directory holds, without what would reach the machine. */
async function start(
  directory: string,
  open: Open,
  work: (parts: Parts, datapath: Datapath & Injectable) => void,
): Promise<void> {
  const noTimer = (): NodeJS.Timeout => setTimeout(() => {}, 0).unref();
  const own = await openEmbeddedStore({ directory, onWarning: fail, after: never });
  let datapath!: Datapath & Injectable;
  const config = loadConfig({ host: 'here', state: directory });
  const parts = joinParts(
    {
      ...config,
      connections: 1024,
      connectionsFile: join(directory, 'connections'),
      logger: pino({ level: 'warn' }, { write: fail }),
      servers: [],
    },
    {
      store: own,
      own,
      applied: undefined,
      questions: undefined,
      openDatapath: (options) => (datapath = open(options)),
      identity: new Uint8Array(IDENTITY_BYTES),
      natKey: new Uint8Array(8),
      randomHostId: () => new Uint8Array(3),
      session: new Uint8Array(8),
      randomKey: () => new Uint8Array(32),
      watcher: new NetnsWatcher(noTimer),
      probe: () => undefined,
      clock: () => 0,
      wallClock: () => 0,
      later: queueMicrotask,
      after: never,
      newId: () => '',
      eventLoop: new EventLoopDelay({ clock: () => 0, every: noTimer }),
      status: () => fail('nobody asks for its status'),
      onPortLost: (port, why) => fail(`port ${port}: ${why}`),
      onNamespaceGone: () => {},
    },
  );
  const { cluster, forwarding, watcher } = parts;
  try {
    await cluster.serial.run(() => cluster.start());
    work(parts, datapath);
  } finally {
    await cluster.serial.close();
    await cluster.close();
    watcher.close();
    await own.close();
    forwarding.close();
  }
}

/** Containers, and a client outside, that begin connections with each other. */
class Conversations {
  readonly #datapath: Datapath & Injectable;
  /** What has come out of the switch and is not answered yet. */
  #out: { readonly port: PortNo; readonly frame: Uint8Array }[] = [];
  /** How many frames the switch has sent. */
  #carried = 0;

  constructor({ forwarding }: Parts, datapath: Datapath & Injectable) {
    this.#datapath = datapath;
    const web = CONTAINERS[0];
    forwarding.openUnderlay(1 as PortNo, {
      kind: 'memory-vxlan',
      name: 'underlay',
      local: parseIp('192.0.2.1'),
      transmit: () => this.#carried++,
    });
    const endpoint = { endpoint: web.name, vni: web.vni, addresses: [parseIp(web.ip)], l4Port: L4_PORT };
    const published = new Map([IP_TCP, IP_UDP].map((protocol) => [publishedId(protocol, L4_PORT), endpoint]));
    // If it were declared, the host would get an interface.
    const ways = routing('blue', ['10.44.0.0/24'], [{ to: '10.45.0.0/24', network: 'red' }]);
    forwarding.setNetwork({ name: 'blue', vni: BLUE, mtu: 1450, ...ways, outside: true });
    forwarding.setOutside(
      { portNo: OUTSIDE.portNo, transit: [parseIp(OUTSIDE.transit)], mtu: 1500, published },
      this.#spec(OUTSIDE.portNo, 'outside'),
    );
    for (const [at, { name, vni, mac, ip }] of CONTAINERS.entries()) {
      const address = { mac: parseMac(mac), addresses: [parseIp(ip)], allowedAddresses: [], allowedEtherTypes: [] };
      forwarding.addPort({ portNo: portOf(at), name, vni, ...address, trust: false }, this.#spec(portOf(at), name));
    }
  }

  hold(): void {
    const [web, db, shop] = CONTAINERS;
    const gateway = gatewayMac(BLUE);
    this.#ask(db.ip);
    for (const protocol of [IP_TCP, IP_UDP]) {
      this.#begin(protocol, portOf(0), parseMac(web.mac), parseMac(db.mac), web.ip, db.ip);
      for (const far of [shop.ip, SERVICE, '10.44.0.14', OUTSIDE.client]) {
        this.#begin(protocol, portOf(0), parseMac(web.mac), gateway, web.ip, far);
      }
      this.#begin(protocol, OUTSIDE.portNo, OUTSIDE_HOST_MAC, OUTSIDE_MAC, OUTSIDE.client, OUTSIDE.transit);
    }
  }

  /** `web` asks for the MAC of an address. */
  #ask(ip: string): void {
    const [{ mac, ip: own }] = CONTAINERS;
    const [senderMac, senderIp] = [parseMac(mac), wireIp(own)];
    const operation = {
      operation: ARP_REQUEST,
      senderMac,
      senderIp,
      targetMac: new Uint8Array(6),
      targetIp: wireIp(ip),
    };
    const destination = new Uint8Array(6).fill(0xff);
    this.#send(
      portOf(0),
      buildEthernet({ destination, source: senderMac, type: ETH_ARP, payload: buildArp(operation) }),
    );
  }

  #begin(protocol: number, port: PortNo, source: Uint8Array, destination: Uint8Array, from: string, to: string): void {
    const [ends, sourcePort] = [[wireIp(from), wireIp(to)] as const, 40_000];
    const ports = { sourcePort, destinationPort: to === SERVICE ? 80 : L4_PORT };
    const payload =
      protocol === IP_TCP
        ? buildTcp(...ends, { ...ports, flags: TCP_SYN })
        : buildUdp(...ends, { ...ports, payload: new Uint8Array() });
    this.#send(port, packet(source, destination, ...ends, protocol, payload));
  }

  /** Sends it, and the answers to what comes of it. */
  #send(port: PortNo, frame: Uint8Array): void {
    const before = this.#carried;
    this.#datapath.inject(port, frame);
    if (this.#carried === before) fail('a frame leads nowhere');
    for (let answers = 0; answers < ANSWERS; answers++) {
      for (const one of this.#out.splice(0)) {
        const answer = answerTo(one.frame);
        if (answer) this.#datapath.inject(one.port, answer);
      }
    }
    this.#out = [];
  }

  #spec(port: PortNo, name: string): PortSpec {
    return {
      kind: 'memory',
      name,
      transmit: (frame) => {
        this.#out.push({ port, frame: frame.slice() });
        this.#carried++;
      },
    };
  }
}

function resource(apiVersion: string, kind: string, metadata: object, spec: object): object {
  return { apiVersion, kind, metadata: { labels: {}, ...metadata }, spec };
}

function inDefault(name: string): object {
  return { name, namespace: 'default', labels: { app: 'shop' } };
}

function network(name: string, vni: number, subnets: readonly string[], route: RouteSpec): object {
  const spec = { subnets, vni, mtu: 1450, routes: [route] };
  return { resource: resource(WEFT_V1, 'Network', { name }, spec), vni, mtu: 1450 };
}

function endpoint(name: string, address: string, place: object): object {
  const [mac, addresses] = [`02:00:00:00:00:${address.slice(-2)}`, [address]];
  const spec = { network: 'blue', addresses, mac, ...place };
  return { resource: resource(WEFT_V1, 'Endpoint', inDefault(name), spec), addresses, mac };
}

const never = (): (() => void) => () => {};

function fail(what: string): never {
  throw new WeftError('internal', `the rehearsal of a start: ${what}`);
}

function portOf(at: number): PortNo {
  return (OUTSIDE.portNo + 1 + at) as PortNo;
}

function wireIp(text: string): Uint8Array {
  return parseIp(text).subarray(12);
}

function packet(
  source: Uint8Array,
  destination: Uint8Array,
  from: Uint8Array,
  to: Uint8Array,
  protocol: number,
  segment: Uint8Array,
): Uint8Array {
  const payload = buildIpv4({ source: from, destination: to, protocol, payload: segment });
  return buildEthernet({ destination, source, type: ETH_IPV4, payload });
}

/** What whoever gets this frame sends back; undefined if that is nothing. */
function answerTo(frame: Uint8Array): Uint8Array | undefined {
  const ethernet = parseEthernet(frame);
  const ip = ethernet && ethernet.type === ETH_IPV4 ? parseIpv4(ethernet.payload) : undefined;
  if (!ip) return undefined;
  const ends = [ip.destination, ip.source] as const;
  const l4 = ip.protocol === IP_TCP ? parseTcp(ip.payload) : parseUdp(ip.payload);
  if (!l4) return undefined;
  const ports = { sourcePort: l4.destinationPort, destinationPort: l4.sourcePort };
  const segment =
    'flags' in l4
      ? buildTcp(...ends, { ...ports, flags: l4.flags === TCP_SYN ? TCP_SYN | TCP_ACK : TCP_ACK })
      : buildUdp(...ends, { ...ports, payload: l4.payload });
  return packet(ethernet!.destination, ethernet!.source, ...ends, ip.protocol, segment);
}
