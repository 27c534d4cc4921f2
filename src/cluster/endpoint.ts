/**
 * An endpoint: one interface of a container on a network, here or on another host.
 *
 * Its record is the cluster's: what was declared, and what was allotted. Where the
 * interface of a local one is, and what weft has given to that (`local`), is this host's
 * own, and a record of its own (`local-records.ts`).
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import type { InterfaceGiven } from '../link/interface-plan.ts';
import type { NetnsRef } from '../link/netns.ts';
import { burstBytes, defaultBurstBytes, queueBytes, rateBytes } from '../model/rate.ts';
import type { EndpointReport } from '../model/report.ts';
import type { EndpointResource, RateLimitSpec } from '../model/kinds/endpoint.ts';
import { isReservedMac, reservedMacsText, type AccessPort } from '../table/topology.ts';
import type { Network } from './network.ts';
import type { Declared } from './reconciler.ts';

export interface EndpointRecord {
  readonly resource: EndpointResource;
  readonly addresses: readonly string[];
  readonly mac: string;
}

export interface LocalRecord {
  readonly portNo: number;
  readonly netns: { readonly path: string; readonly dev: string; readonly ino: string };
  /** The boot in which it was attached. */
  readonly bootId: string;
  /** Of its interface, whatever that is called by now; missing until it was made. */
  readonly ifindex?: number;
  readonly given?: InterfaceGiven;
}

export interface Endpoint extends EndpointRecord, Declared<EndpointResource> {
  readonly state: EndpointReport['state'];
  /** Of one of this host, once it is known where it is. */
  readonly local?: LocalRecord;
}

/** An endpoint of this host. */
export type LocalEndpoint = Endpoint & { readonly local: LocalRecord };

export function isLocal(endpoint: Endpoint): endpoint is LocalEndpoint {
  return endpoint.local !== undefined;
}

/** Is it of this host? Where its interface is may still be unknown. */
export function isHere({ resource }: Pick<Endpoint, 'resource'>): boolean {
  return resource.spec.host === undefined;
}

/** The namespace as it was when it was attached; `path` may lead elsewhere by now. */
export function netnsOf({ netns }: LocalRecord): NetnsRef {
  return { path: netns.path, dev: BigInt(netns.dev), ino: BigInt(netns.ino) };
}

/** The pool that `address` belongs to. @throws WeftError('invalid') when it is outside the network's subnets. */
export function poolOf(network: Network, address: string) {
  const pool = network.pools.find((candidate) => candidate.contains(address));
  if (!pool) {
    const subnets = network.pools.map((candidate) => candidate.subnet).join(', ');
    throw new WeftError('invalid', `ip ${address} is outside the subnets of network "${network.name}" (${subnets})`);
  }
  return pool;
}

/** Its port, for the datapath: an interface that is known is found by what it is. */
export function tapSpec({ name, resource, local }: LocalEndpoint, netns: NetnsRef) {
  const { interface: ifname, rateLimit } = resource.spec;
  return {
    kind: 'tap',
    name,
    netns: netns.path,
    ifname,
    ...(local.ifindex !== undefined && { known: { dev: netns.dev, ino: netns.ino, ifindex: local.ifindex } }),
    rates: ratesOf(rateLimit),
  } as const;
}

/** Its port, for the tables. */
export function accessPort({ name, resource, addresses, mac, local }: LocalEndpoint, network: Network): AccessPort {
  return {
    portNo: local.portNo as PortNo,
    name,
    vni: network.vni as Vni,
    mac: parseMac(mac),
    addresses: addresses.map(parseIp),
    allowedAddresses: resource.spec.allowedAddresses.map(parseIp),
    allowedEtherTypes: resource.spec.allowedEtherTypes.map(Number),
    trust: resource.spec.trust,
  };
}

/** What its port may pass each second. */
export function ratesOf({ ingress, egress, burst }: RateLimitSpec = {}) {
  const rate = (text: string) => {
    const perSecond = rateBytes(text);
    const burstOf = burst === undefined ? defaultBurstBytes(perSecond) : burstBytes(burst);
    return { perSecond, burst: burstOf, queue: queueBytes(perSecond) };
  };
  return {
    ...(ingress !== undefined && { ingress: rate(ingress) }),
    ...(egress !== undefined && { egress: rate(egress) }),
  };
}

/** What makes an endpoint that endpoint cannot change. @throws WeftError('conflict') */
export function refuseOtherIdentity(known: Endpoint, { spec }: EndpointResource): void {
  const was = known.resource.spec;
  const differs = (field: string, is: string, given: string): never => {
    throw new WeftError(
      'conflict',
      `endpoint "${known.name}" exists with ${field} ${is}, not ${given}: detach it first`,
    );
  };
  if (spec.network !== was.network) differs('network', was.network, spec.network);
  if (spec.host !== was.host) differs('host', was.host ?? 'this one', spec.host ?? 'this one');
  if (spec.mac !== undefined && spec.mac !== known.mac) differs('mac', known.mac, spec.mac);
  if (spec.host === undefined && spec.interface !== was.interface) differs('ifname', was.interface, spec.interface);
  const missing = spec.addresses.filter((address) => !known.addresses.includes(address));
  if (missing.length > 0) differs('ip', known.addresses.join(','), missing.join(','));
}

/** Is it the same interface in all that cannot change under a container? */
export function isSameIdentity(a: Endpoint, b: Endpoint): boolean {
  const of = ({ resource: { spec }, addresses, mac }: Endpoint): unknown[] => [
    spec.network,
    spec.host,
    spec.interface,
    addresses,
    mac,
  ];
  return isDeepStrictEqual(of(a), of(b));
}

/** Is it declared with all that can change as it is? */
export function isSameDeclaration(known: Endpoint, { metadata, spec }: EndpointResource): boolean {
  const was = known.resource;
  return (
    JSON.stringify(was.metadata) === JSON.stringify(metadata) &&
    was.spec.trust === spec.trust &&
    JSON.stringify(was.spec.publish) === JSON.stringify(spec.publish) &&
    isDeepStrictEqual(was.spec.rateLimit, spec.rateLimit) &&
    was.spec.allowedAddresses.join() === spec.allowedAddresses.join() &&
    was.spec.allowedEtherTypes.join() === spec.allowedEtherTypes.join()
  );
}

/** @param others in its network @throws WeftError when the MAC that it asks for cannot be its own */
export function refuseTakenMac(others: Iterable<Endpoint>, { metadata, spec }: EndpointResource): void {
  const { mac } = spec;
  if (mac === undefined) return;
  const refuse = (code: 'invalid' | 'conflict', why: string): never => {
    throw new WeftError(code, `endpoint "${metadata.name}": mac ${mac} is ${why}`);
  };
  if (isReservedMac(parseMac(mac))) refuse('invalid', `one of weft’s own (${reservedMacsText}): choose another`);
  const owner = [...others].find((endpoint) => endpoint.mac === mac);
  if (owner) refuse('conflict', `taken by endpoint "${owner.name}"`);
}

/** @throws WeftError when weft may choose none of its addresses, and it asks for none */
export function refuseUnplannedAddresses(
  network: Network,
  resource: EndpointResource,
  mayChoose: (range: string | undefined) => boolean,
): void {
  if (resource.spec.addresses.length > 0 || network.pools.every((pool) => mayChoose(pool.range))) return;
  const shared = network.pools.filter(({ range }) => range !== undefined).map(({ subnet }) => subnet);
  const without = network.pools.filter(({ subnet }) => !shared.includes(subnet)).map(({ subnet }) => subnet);
  throw new WeftError(
    'invalid',
    `endpoint "${resource.metadata.name}": ip is missing: with static peers give --ip, or the network this host’s own share of ${without.join(' and ')}: \`weft network create ${network.name} --range FIRST-LAST\``,
  );
}
