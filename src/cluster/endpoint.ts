/**
 * An endpoint: one interface of a container on a network, here or on another host.
 *
 * Its record is what the store has: what was declared, what was allotted, and of a
 * local one what is this host's own (`local`): where its interface is, and what
 * weft has given to that.
 */
import { WeftError } from '../error.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import type { InterfaceGiven } from '../link/interface-plan.ts';
import type { NetnsRef } from '../link/netns.ts';
import { burstBytes, defaultBurstBytes, rateBytes } from '../model/rate.ts';
import type { EndpointReport } from '../model/report.ts';
import type { EndpointResource, RateLimitSpec } from '../model/resource.ts';
import type { AccessPort } from '../table/topology.ts';
import type { Network } from './networks.ts';

export interface EndpointRecord {
  readonly resource: EndpointResource;
  readonly addresses: readonly string[];
  readonly mac: string;
  /** Of local endpoints. */
  readonly local?: LocalRecord;
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

export interface Endpoint extends EndpointRecord {
  readonly name: string;
  readonly state: EndpointReport['state'];
}

/** An endpoint of this host. */
export type LocalEndpoint = Endpoint & { readonly local: LocalRecord };

export function isLocal(endpoint: Endpoint): endpoint is LocalEndpoint {
  return endpoint.local !== undefined;
}

export function recordOf({ resource, addresses, mac, local }: Endpoint): EndpointRecord {
  return { resource, addresses, mac, ...(local && { local }) };
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
    ...(rateLimit && { limits: limitsOf(rateLimit) }),
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

function limitsOf({ ingress, egress, burst }: RateLimitSpec) {
  const limit = (text: string) => {
    const perSecond = rateBytes(text);
    return { perSecond, burst: burst === undefined ? defaultBurstBytes(perSecond) : burstBytes(burst) };
  };
  return {
    ...(ingress !== undefined && { ingress: limit(ingress) }),
    ...(egress !== undefined && { egress: limit(egress) }),
  };
}
