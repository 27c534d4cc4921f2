/**
 * An endpoint: one interface of a container on a network, on this host or another.
 *
 * Its record is shared by the cluster: what was declared and what was allotted, and on which host it is. Where the interface
 * of a local endpoint is, and what weft has given to it (`local`), concerns only this host and is
 * stored in a separate record (`local-records.ts`).
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import type { InterfaceGiven } from '../link/interface-plan.ts';
import { netnsId } from '../link/netns-lookup.ts';
import { OWN_NETNS, resolveNetns, type NetnsRef, type NetnsSpec } from '../link/netns.ts';
import { DOCKER, HELD } from '../model/endpoint-annotations.ts';
import { burstBytes, defaultBurstBytes, queueBytes, rateBytes } from '../model/rate.ts';
import type { EndpointReport } from '../model/report.ts';
import type { EndpointResource, RateLimitSpec } from '../model/kinds/endpoint.ts';
import { isReservedMac, reservedMacsText, type AccessPort } from '../table/topology.ts';
import type { Network } from './network.ts';
import type { Declared } from './reconciler.ts';

export interface EndpointRecord {
  /** The host that it is on, in a store that several hosts share. Without one, it is on this host, or where it declares. */
  readonly host?: string;
  readonly resource: EndpointResource;
  readonly addresses: readonly string[];
  readonly mac: string;
}

export interface LocalRecord {
  readonly portNo: number;
  readonly netns: {
    readonly path: string;
    readonly dev: string;
    readonly ino: string;
    /** What the kernel calls the namespace, and no other one in this boot; missing until it has been read, or if it has none. */
    readonly cookie?: string;
  };
  /** The boot in which it was attached. */
  readonly bootId: string;
  /** The index of its interface, which survives renaming; missing until the interface is created. */
  readonly ifindex?: number;
  readonly given?: InterfaceGiven;
}

export interface Endpoint extends Declared<EndpointResource> {
  readonly addresses: readonly string[];
  readonly mac: string;
  /** The other host that it is on; undefined for an endpoint of this host. */
  readonly host?: string | undefined;
  readonly state: EndpointReport['state'];
  /** Set for an endpoint of this host, once it is known where it is. */
  readonly local?: LocalRecord;
}

/** An endpoint of this host. */
export type LocalEndpoint = Endpoint & { readonly local: LocalRecord };

export function isLocal(endpoint: Endpoint): endpoint is LocalEndpoint {
  return endpoint.local !== undefined;
}

/** True for an endpoint of this host, even if it is not yet known where its interface is. */
export function isHere({ host }: Pick<Endpoint, 'host'>): boolean {
  return host === undefined;
}

/** True for an endpoint of another host that weft runs on: that host puts it into force. */
export function isShared(endpoint: Endpoint): endpoint is Endpoint & { readonly host: string } {
  return endpoint.host !== undefined && endpoint.resource.spec.host === undefined;
}

/** True if a container engine carries its interface from weft's namespace into the container's (`carrying.ts`). */
export function isCarried({ metadata: { annotations } }: Pick<EndpointResource, 'metadata'>): boolean {
  return annotations?.[DOCKER] !== undefined;
}

/**
 * What such an endpoint says while it only has an address of this subnet: for an endpoint of the engine that is still to come, or
 * `afterwards`, when that one is gone and the engine gives the address back next.
 */
export function heldText(subnet: string, when?: 'afterwards'): string {
  return `held ${subnet}${when ? ` ${when}` : ''}`;
}

/** The subnet of an endpoint that only holds an address; undefined for all others. */
export function heldSubnet(resource: Pick<EndpointResource, 'metadata'>): string | undefined {
  return heldParts(resource)?.[1];
}

/** Does it hold the address of an endpoint of the engine that is gone? */
export function isHeldAfterwards(resource: Pick<EndpointResource, 'metadata'>): boolean {
  return heldParts(resource)?.[2] !== undefined;
}

function heldParts({ metadata: { annotations } }: Pick<EndpointResource, 'metadata'>): RegExpExecArray | null {
  return /^held (\S+)( afterwards)?$/.exec(annotations?.[DOCKER] ?? '');
}

/** True if it only holds addresses, for an endpoint to come (`held-addresses.ts`). */
export function isHolder({ metadata: { annotations } }: Pick<EndpointResource, 'metadata'>): boolean {
  return annotations?.[HELD] !== undefined;
}

/** False if weft is not to look for the namespace that it declares: it is in none, or an engine says when it is. */
export function hasPlace(resource: Pick<EndpointResource, 'metadata'>): boolean {
  return !isCarried(resource) && !isHolder(resource);
}

/** True while the interface of an endpoint is in weft's own namespace, where nobody configures it. */
export function isOnItsWay({ local }: Pick<Endpoint, 'local'>): boolean {
  return local?.netns.path === OWN_NETNS;
}

/** The namespace that a local endpoint declares, whatever it leads to. */
export function declaredNetns({ spec: { netns, pid } }: EndpointResource): NetnsSpec {
  return pid === undefined ? { netns: netns! } : { pid };
}

/** The namespace as it was when the endpoint was attached. `path` may lead elsewhere by now. */
export function netnsOf({ netns }: LocalRecord): NetnsRef {
  return { path: netns.path, dev: BigInt(netns.dev), ino: BigInt(netns.ino) };
}

/** The record with what the kernel calls the namespace; undefined: that is not known. */
export function withCookie(local: LocalRecord, cookie: string | undefined): LocalRecord {
  return cookie === undefined ? local : { ...local, netns: { ...local.netns, cookie } };
}

/** The pool that contains an address of `endpoint`. @throws WeftError('invalid') if no subnet of the network does */
export function poolOf(network: Network, address: string, endpoint: string) {
  const pool = network.pools.find((candidate) => candidate.contains(address));
  if (!pool) {
    const subnets = network.pools.map((candidate) => candidate.subnet).join(', ');
    const where = `outside the subnets of network "${network.name}" (${subnets})`;
    throw new WeftError('invalid', `endpoint "${endpoint}": ip ${address} is ${where}`);
  }
  return pool;
}

/** The port for the datapath. If the interface is known, it is found by index, namespace device and inode. */
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

/** The port for the tables. */
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

/** How much its port may pass each second. */
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

/** Refuses to change what identifies an endpoint. @throws WeftError('conflict') */
export function refuseOtherIdentity(known: Endpoint, resource: EndpointResource): void {
  const { spec } = resource;
  const was = known.resource.spec;
  const differs = (field: string, is: string, given: string): never => {
    throw new WeftError(
      'conflict',
      `endpoint "${known.name}" exists with ${field} ${is}, not ${given}: detach it first`,
    );
  };
  if (spec.network !== was.network) differs('network', was.network, spec.network);
  const isMoved = spec.host !== undefined ? spec.host !== known.host : was.host !== undefined;
  for (const annotation of [DOCKER, HELD]) {
    const [had, has] = [known.resource, resource].map(
      ({ metadata }) => metadata.annotations?.[annotation] !== undefined,
    );
    if (had && !has) differs(`annotation ${annotation}`, 'set', 'missing');
    if (!had && has) differs(`annotation ${annotation}`, 'missing', 'set');
  }
  if (isMoved) differs('host', known.host ?? 'this one', spec.host ?? 'this one');
  if (spec.mac !== undefined && spec.mac !== known.mac) differs('mac', known.mac, spec.mac);
  if (isHere(known) && spec.interface !== was.interface) differs('ifname', was.interface, spec.interface);
  const missing = spec.addresses.filter((address) => !known.addresses.includes(address));
  if (missing.length > 0) differs('ip', known.addresses.join(','), missing.join(','));
}

/** Refuses what only the host itself can do that an endpoint is on, if weft does not run there. @throws WeftError('invalid') */
export function refuseNotThere({ metadata: { name }, spec }: EndpointResource): void {
  const refuse = (field: string, why: string): never => {
    throw new WeftError('invalid', `endpoint "${name}": ${field}: an endpoint of another host is ${why}`);
  };
  if (spec.publish.length > 0) refuse('publish', 'published there, not here');
  if (spec.rateLimit !== undefined) refuse('rateLimit', 'limited there');
}

/** True if both agree on everything that cannot change under a running container. On other hosts, it may move. */
export function isSameIdentity(a: Endpoint, b: Endpoint): boolean {
  const of = ({ host, resource: { spec }, addresses, mac }: Endpoint): unknown[] => [
    spec.network,
    host === undefined,
    host === undefined && spec.interface,
    addresses,
    mac,
  ];
  return isDeepStrictEqual(of(a), of(b));
}

/**
 * True if it declares another namespace than the one that it is attached in: it was deleted and created again. Paths may
 * change, so the namespaces are compared, and one that is not found is no other one.
 */
export async function isElsewhere({ resource: before, local }: Endpoint, resource: EndpointResource): Promise<boolean> {
  if (!local || isCarried(resource) || isDeepStrictEqual(declaredNetns(before), declaredNetns(resource))) return false;
  try {
    return netnsId(await resolveNetns(declaredNetns(resource))) !== netnsId(netnsOf(local));
  } catch {
    return false;
  }
}

/** True if its interface was gone, and the place where it will be created again has just been stored. */
export function isAttachedAnew({ state, local }: Endpoint): boolean {
  return state === 'detached' && local !== undefined && local.ifindex === undefined;
}

/** True if nothing that can change has changed. */
export function isSameDeclaration(known: Endpoint, { metadata, spec }: EndpointResource): boolean {
  const was = known.resource;
  return (
    JSON.stringify(was.metadata) === JSON.stringify(metadata) &&
    was.spec.trust === spec.trust &&
    // Of all others, the namespaces are compared, and not what leads to them.
    (was.spec.netns === spec.netns || !isCarried(was)) &&
    JSON.stringify(was.spec.publish) === JSON.stringify(spec.publish) &&
    isDeepStrictEqual(was.spec.ports ?? [], spec.ports ?? []) &&
    isDeepStrictEqual(was.spec.rateLimit, spec.rateLimit) &&
    was.spec.allowedAddresses.join() === spec.allowedAddresses.join() &&
    was.spec.allowedEtherTypes.join() === spec.allowedEtherTypes.join()
  );
}

/** @param others the endpoints of its network @throws WeftError if it asks for a MAC that it cannot have */
export function refuseTakenMac(others: Iterable<Endpoint>, { metadata, spec }: EndpointResource): void {
  const { mac } = spec;
  if (mac === undefined) return;
  const refuse = (code: 'invalid' | 'conflict', why: string): never => {
    throw new WeftError(code, `endpoint "${metadata.name}": mac ${mac} is ${why}`);
  };
  if (isReservedMac(parseMac(mac))) refuse('invalid', `one of weft’s own (${reservedMacsText}): choose another`);
  for (const owner of others) if (owner.mac === mac) refuse('conflict', `taken by endpoint "${owner.name}"`);
}

/** @throws WeftError if weft may not choose any of its addresses, and it asks for none */
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
