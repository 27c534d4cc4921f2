/**
 * The networks of the namespace tests: hosts on an underlay, and containers on hosts. A host is
 * run by weft, or by the kernel's own bridge and vxlan device, with which weft must
 * interoperate.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Namespace } from './lab.ts';
import { Weft, type DatapathKind } from './weft.ts';

/** The overlay of all tests: one VNI, with IPv4 and IPv6. */
export const overlay = {
  network: 'blue',
  vni: 4660,
  subnets: ['10.44.0.0/24', 'fd44::/64'],
  /** The words of `network create`. */
  create: 'blue --subnet 10.44.0.0/24 --subnet fd44::/64 --vni 4660',
} as const;

/** Overlay addresses of container number `n`. */
export function overlayIps(n: number): [ip4: string, ip6: string] {
  return [`10.44.0.${n}`, `fd44::${n.toString(16)}`];
}

export type Family = 'ipv4' | 'ipv6';

/** An attached container: where it is and what it is called there. */
export interface Container {
  readonly namespace: Namespace;
  readonly ip4: string;
  readonly ip6: string;
  readonly mac: string;
}

/** A new namespace, attached with the addresses of container number `n`. */
export async function attachContainer(
  lab: Lab,
  weft: Weft,
  role: string,
  n: number,
  more: readonly string[] = [],
): Promise<Container> {
  const namespace = await lab.namespace(role);
  const [ip4, ip6] = overlayIps(n);
  const { mac } = await weft.attach(namespace, {
    network: overlay.network,
    arguments: ['--ip', ip4, '--ip', ip6, ...more],
  });
  return { namespace, ip4, ip6, mac };
}

export interface OneHost {
  readonly host: Namespace;
  readonly weft: Weft;
  readonly web: Container;
  readonly db: Container;
}

/** One host with the containers `web` (number 11) and `db` (number 12). */
export async function oneHost(lab: Lab, datapath: DatapathKind): Promise<OneHost> {
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath });
  await weft.createNetwork(overlay.create);
  return {
    host,
    weft,
    web: await attachContainer(lab, weft, 'web', 11),
    db: await attachContainer(lab, weft, 'db', 12),
  };
}

/** Addresses on the cable between `client` and `host` of an `OutsideHost`. */
export const outsideIps = {
  client: { ip4: '192.0.2.2', ip6: '2001:db8::2' },
  host: { ip4: '192.0.2.1', ip6: '2001:db8::1' },
} as const;

export interface OutsideHost extends OneHost {
  /** Has no route to the containers. */
  readonly client: Namespace;
}

/** Like `oneHost`, with an outside and a client on a cable (`eth0` at both ends). @param published by `web` */
export async function outsideHost(
  lab: Lab,
  datapath: DatapathKind,
  published: readonly string[],
): Promise<OutsideHost> {
  const [client, host] = [await lab.namespace('client'), await lab.namespace('host')];
  await lab.cable(client, 'eth0', host, 'eth0');
  for (const [namespace, { ip4, ip6 }] of [
    [client, outsideIps.client],
    [host, outsideIps.host],
  ] as const) {
    await namespace.ip(`address add ${ip4}/24 dev eth0`);
    await namespace.ip(`address add ${ip6}/64 dev eth0 nodad`);
  }
  const weft = await Weft.up(lab, host, 'host', { datapath });
  await weft.createNetwork(`${overlay.create} --outside`);
  const web = await attachContainer(
    lab,
    weft,
    'web',
    11,
    published.flatMap((port) => ['--publish', port]),
  );
  return { client, host, weft, web, db: await attachContainer(lab, weft, 'db', 12) };
}

/** A second network of that host, to which `web` and `db` are routed, with the container `shop`. @returns where that is */
export async function routedShop(
  lab: Lab,
  { weft }: OneHost,
): Promise<{ readonly shop: Namespace; readonly ip: string }> {
  const file = join(lab.directory, 'networks.yaml');
  writeFileSync(
    file,
    `
apiVersion: weft.dev/v1
kind: Network
metadata: { name: ${overlay.network} }
spec: { subnets: ${JSON.stringify(overlay.subnets)}, vni: ${overlay.vni}, outside: true, routes: [{ to: 10.45.0.0/24, network: red }] }
---
apiVersion: weft.dev/v1
kind: Network
metadata: { name: red }
spec: { subnets: [10.45.0.0/24], routes: [{ to: 10.44.0.0/24, network: ${overlay.network} }] }
`,
  );
  await weft.run('apply', '-f', file);
  const shop = await lab.namespace('shop');
  const ip = '10.45.0.11';
  await weft.attach(shop, { network: 'red', arguments: ['--ip', ip] });
  return { shop, ip };
}

export interface Underlay {
  readonly family: Family;
  readonly left: Namespace;
  readonly right: Namespace;
  readonly leftIp: string;
  readonly rightIp: string;
}

/** Name of the underlay's interface on both hosts. */
export const underlayLink = 'under0';

const underlayAddresses = {
  ipv4: { left: '192.0.2.1', right: '192.0.2.2', prefixLength: 24 },
  ipv6: { left: '2001:db8::1', right: '2001:db8::2', prefixLength: 64 },
} as const;

/** Two hosts on a cable. */
export async function underlay(lab: Lab, family: Family): Promise<Underlay> {
  const [left, right] = [await lab.namespace('left'), await lab.namespace('right')];
  await lab.cable(left, underlayLink, right, underlayLink);
  const addresses = underlayAddresses[family];
  const nodad = family === 'ipv6' ? ' nodad' : '';
  await left.ip(`addr add ${addresses.left}/${addresses.prefixLength} dev ${underlayLink}${nodad}`);
  await right.ip(`addr add ${addresses.right}/${addresses.prefixLength} dev ${underlayLink}${nodad}`);
  return { family, left, right, leftIp: addresses.left, rightIp: addresses.right };
}

/**
 * A veth cable carries superframes and unfinished checksums that no wire would. After this, each
 * frame on the cable looks as if a network card had sent it.
 */
export async function withoutOffloads({ left, right }: Underlay): Promise<void> {
  const features = ['tx', 'gso', 'gro', 'tso', 'tx-udp-segmentation', 'tx-udp_tnl-segmentation'];
  for (const host of [left, right]) {
    await host.run(['ethtool', '-K', underlayLink, ...features.flatMap((feature) => [feature, 'off'])]);
  }
}

/** Like `withoutOffloads`, but a host merges what it receives, as network cards and their drivers do. */
export async function likeAWire(under: Underlay): Promise<void> {
  await withoutOffloads(under);
  for (const host of [under.left, under.right]) await host.run(['ethtool', '-K', underlayLink, 'gro', 'on']);
}

/** Sets addresses and MTU of a container on a host without weft. */
async function setUpContainer(namespace: Namespace, n: number, mtu: number): Promise<Container> {
  const [ip4, ip6] = overlayIps(n);
  const mac = `02:4b:00:00:00:${n.toString(16).padStart(2, '0')}`;
  await namespace.ip(`link set eth0 address ${mac} mtu ${mtu}`);
  await namespace.ip(`addr add ${ip4}/24 dev eth0`);
  await namespace.ip(`addr add ${ip6}/64 dev eth0 nodad`);
  return { namespace, ip4, ip6, mac };
}

/** The MTU that encapsulation leaves on an underlay of 1500 bytes. */
export const overlayMtu = { ipv4: 1450, ipv6: 1430 } as const;

/**
 * Makes `host` a VTEP with the kernel's own means: a bridge with a vxlan device that floods to
 * one peer and learns the MACs behind it.
 */
export async function kernelVtep(host: Namespace, local: string, peer: string, mtu: number): Promise<void> {
  await host.ip('link add br0 type bridge');
  await host.ip(
    `link add vxlan0 type vxlan id ${overlay.vni} local ${local} remote ${peer} dstport 4789 dev ${underlayLink}`,
  );
  await host.ip(`link set vxlan0 mtu ${mtu} master br0 up`);
  await host.ip('link set br0 up');
}

/** A container behind the bridge of `kernelVtep`. */
export async function kernelContainer(
  lab: Lab,
  host: Namespace,
  role: string,
  n: number,
  mtu: number,
): Promise<Container> {
  const namespace = await lab.namespace(role);
  await lab.cable(host, `veth-${role}`.slice(0, 15), namespace, 'eth0');
  await host.ip(`link set ${`veth-${role}`.slice(0, 15)} mtu ${mtu} master br0`);
  return setUpContainer(namespace, n, mtu);
}

const routedAddresses = {
  ipv4: { left: ['192.0.2.1', '192.0.2.2', 24], right: ['198.51.100.1', '198.51.100.2', 24] },
  ipv6: { left: ['2001:db8:1::1', '2001:db8:1::2', 64], right: ['2001:db8:2::1', '2001:db8:2::2', 64] },
} as const;

export interface RoutedUnderlay extends Underlay {
  /** Its links are called `left` and `right`. */
  readonly router: Namespace;
}

/** Two hosts with a router between them. As on real wires, a large packet is one packet, not a superframe. */
export async function routedUnderlay(lab: Lab, family: Family): Promise<RoutedUnderlay> {
  const router = await lab.namespace('router');
  const hosts = { left: await lab.namespace('left'), right: await lab.namespace('right') };
  await router.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  for (const side of ['left', 'right'] as const) {
    const [host, gateway, length] = routedAddresses[family][side];
    await lab.cable(hosts[side], underlayLink, router, side);
    const nodad = family === 'ipv6' ? ' nodad' : '';
    await hosts[side].ip(`addr add ${host}/${length} dev ${underlayLink}${nodad}`);
    await router.ip(`addr add ${gateway}/${length} dev ${side}${nodad}`);
    await hosts[side].ip(`route add default via ${gateway}`);
    const off = ['tx', 'gso', 'gro', 'tso', 'tx-udp-segmentation'].flatMap((feature) => [feature, 'off']);
    await hosts[side].run(['ethtool', '-K', underlayLink, ...off]);
    await router.run(['ethtool', '-K', side, ...off]);
  }
  const [leftIp, rightIp] = [routedAddresses[family].left[0], routedAddresses[family].right[0]];
  return { ...hosts, router, family, leftIp, rightIp };
}
