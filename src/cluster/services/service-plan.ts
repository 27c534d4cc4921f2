/**
 * Plans what applying a Service would store.
 *
 *   1. its families, by its policy and those of the cluster
 *   2. an address of each: the one that it has or asks for, or a free one
 *   3. node ports, in the same way; for a range of ports, as many in a row
 *   4. the claims of all that, and of the addresses that it has outside (`claims.ts`)
 *
 * What weft chooses follows from the name of the service: the same service gets the same again, and two hosts that create
 * different ones at once rarely choose the same. As in Kubernetes, the lowest addresses and node ports are chosen last, and so are
 * left to those who ask for one.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../../error.ts';
import { addressText, addressValue, isIp4, parseSubnet, type AddressRange } from '../../model/address.ts';
import {
  familyOf,
  HEADLESS,
  isHeadless,
  isPublished,
  loadBalancerIpsOf,
  NODE_PORTS,
  type Family,
  type ServiceAllotted,
  type ServicePortSpec,
  type ServiceResource,
} from '../../model/kinds/service.ts';
import { idOf } from '../../model/resource.ts';
import { readAnnotations, type PortRange } from '../../model/service-annotations.ts';
import type { Put } from '../../store/store.ts';
import type { Draft, Planned } from '../reconciler.ts';
import type { ServiceClaims } from './claims.ts';
import type { NetworksBeside } from './networks-beside.ts';
import type { ServiceRange } from './service-range.ts';
import { addressesOf, countOf, defaultPolicy, nodePortsOf, shownService, type DeclaredService } from './service.ts';

export interface ServicePlanEnvironment {
  readonly range: ServiceRange;
  readonly vips: ServiceClaims;
  readonly nodePorts: ServiceClaims;
  readonly networks: NetworksBeside;
  /** The endpoint that publishes a port of its host, or will with the change, if there is one. */
  readonly publisherOf: (
    port: { readonly port: number; readonly protocol: 'TCP' | 'UDP' },
    draft: Draft,
  ) => string | undefined;
}

/** How many of the lowest are chosen last: a part of all, within bounds. */
const BAND = {
  address: { part: 16n, least: 16n, most: 256n },
  nodePort: { part: 32n, least: 16n, most: 128n },
};

export class ServicePlan {
  readonly #environment: ServicePlanEnvironment;
  readonly #resource: ServiceResource;
  readonly #draft: Draft;
  readonly #known: DeclaredService | undefined;
  readonly #name: string;

  constructor(
    environment: ServicePlanEnvironment,
    resource: ServiceResource,
    draft: Draft,
    known: DeclaredService | undefined,
  ) {
    this.#environment = environment;
    this.#resource = resource;
    this.#draft = draft;
    this.#known = known;
    this.#name = idOf(resource.metadata);
  }

  /** @throws WeftError if the service is not possible */
  make(): Planned {
    const resource = this.#resource;
    this.#refuseOtherAddresses();
    const ipFamilies = this.#families();
    const range = this.#hasAddresses ? this.#environment.range.plan(this.#draft) : [];
    const clusterIps = this.#hasAddresses ? ipFamilies.map((family, at) => this.#address(family, at)) : [];
    const nodePorts = this.#nodePorts();
    this.#refuseLoadBalancerIps(clusterIps, ipFamilies);
    const allotted: ServiceAllotted = { clusterIps, ipFamilies: [...ipFamilies], nodePorts: [...nodePorts] };
    const known = this.#known;
    const declared: DeclaredService = { name: this.#name, resource, revision: 0, allotted };
    const vips = this.#environment.vips.plan(this.#draft, this.#name, {
      before: known ? addressesOf(known) : [],
      after: new Set(addressesOf(declared)),
    });
    const ports = this.#environment.nodePorts.plan(this.#draft, this.#name, {
      before: known ? nodePortsOf(known) : [],
      after: new Set(nodePortsOf(declared)),
    });
    const also = [...range, ...vips.also, ...ports.also, ...this.#besideNetworks()];
    const isSame = known && isDeepStrictEqual(shownService(known), shownService(declared));
    if (isSame && also.length === 0 && !this.#draft.isRefused('Service', this.#name)) return { action: 'unchanged' };
    return {
      action: known ? 'configured' : 'created',
      declared,
      allotted,
      also,
      released: [...vips.released, ...ports.released],
    };
  }

  get #hasAddresses(): boolean {
    return this.#resource.spec.type !== 'ExternalName' && !isHeadless(this.#resource.spec);
  }

  /** The addresses that it asks for. */
  get #asked(): readonly string[] {
    const { clusterIP = '', clusterIPs = [] } = this.#resource.spec;
    return (clusterIPs.length > 0 ? clusterIPs : [clusterIP]).filter((ip) => ip !== '' && ip !== HEADLESS);
  }

  /** What its name stands for changes only with another service. */
  #refuseOtherAddresses(): void {
    const known = this.#known?.resource;
    if (!known || known.spec.type === 'ExternalName' || this.#resource.spec.type === 'ExternalName') return;
    if (isHeadless(known.spec) === isHeadless(this.#resource.spec)) return;
    const was = isHeadless(known.spec) ? HEADLESS : this.#known.allotted.clusterIps.join(',');
    this.#refuse('conflict', 'clusterIP', `it is ${was}, and may not change once set: delete the service first`);
  }

  /** Its families, the first one first. */
  #families(): readonly Family[] {
    const { type, ipFamilies: wanted = [], ipFamilyPolicy = defaultPolicy(this.#resource) } = this.#resource.spec;
    if (type === 'ExternalName') return [];
    const { families: served } = this.#environment.range;
    const before = this.#known?.allotted.ipFamilies[0];
    const asked = [...this.#asked.map(familyOf), ...wanted];
    const first = asked[0] ?? before ?? served[0]!;
    if (before !== undefined && first !== before) {
      this.#refuse(
        'conflict',
        'ipFamilies[0]',
        `it is ${before}, and may not change once set: delete the service first`,
      );
    }
    const other: Family = first === 'IPv4' ? 'IPv6' : 'IPv4';
    if (!this.#hasAddresses) {
      return ipFamilyPolicy === 'SingleStack' ? [first] : [first, other];
    }
    const missing = [first, ...asked].find((family) => !served.includes(family));
    if (missing !== undefined) {
      const { cidrs } = this.#environment.range;
      this.#refuse(
        'invalid',
        'ipFamilies',
        `${missing} is not configured on this cluster (--service-cidr ${cidrs.join(', ')})`,
      );
    }
    if (ipFamilyPolicy === 'RequireDualStack' && !served.includes(other)) {
      this.#refuse('invalid', 'ipFamilyPolicy', 'this cluster is not configured for dual-stack services');
    }
    return ipFamilyPolicy === 'SingleStack' || !served.includes(other) ? [first] : [first, other];
  }

  #address(family: Family, at: number): string {
    const asked = this.#asked.find((ip) => familyOf(ip) === family);
    const has = this.#known?.allotted.clusterIps.find((ip) => familyOf(ip) === family);
    const field = at === 0 ? 'clusterIP' : `clusterIPs[${at}]`;
    if (has !== undefined && asked !== undefined && has !== asked) {
      this.#refuse(
        'conflict',
        field,
        `it is ${has}, and may not change to ${asked} once set: delete the service first`,
      );
    }
    const wanted = has ?? asked;
    return wanted === undefined ? this.#chooseAddress(family) : this.#checkAddress(wanted, family, field);
  }

  #checkAddress(address: string, family: Family, field: string): string {
    const cidr = this.#environment.range.cidrOf(family)!;
    const value = addressValue(address);
    const { first, last } = usable(cidr);
    if (value < first || value > last) {
      const whole = parseSubnet(cidr);
      const isIn = whole.first <= value && value <= whole.last;
      const without = isIn ? ` without its first${family === 'IPv4' ? ' and its last' : ''} address` : '';
      const range = `The range of valid IPs is ${cidr}${without}`;
      this.#refuse('invalid', field, `${address}: the provided IP is not in the valid range. ${range}`);
    }
    this.#refuseTaken(address, field);
    return address;
  }

  #refuseTaken(address: string, field: string): void {
    const owner = this.#environment.vips.ownerOf(address, this.#draft);
    if (owner === undefined || owner === this.#name) return;
    this.#refuse('conflict', field, `${address}: provided IP is already allocated: service "${owner}" has it`);
  }

  #chooseAddress(family: Family): string {
    const cidr = this.#environment.range.cidrOf(family)!;
    const { vips } = this.#environment;
    const range = usable(cidr);
    const isFree = (value: bigint): boolean => vips.ownerOf(addressText(value), this.#draft) === undefined;
    const found = choose(range, BAND.address, `${this.#name}/${family}`, vips.taken(this.#draft), isFree);
    if (found !== undefined) return addressText(found);
    throw new WeftError(
      'exhausted',
      `service "${this.#name}": all addresses of ${cidr} are taken: delete a service, or write clusterIP: None if its clients need no address`,
    );
  }

  #nodePorts(): readonly number[] {
    const { metadata, spec } = this.#resource;
    const { ranges } = readAnnotations(metadata.annotations);
    if (!isPublished(spec)) return [...spec.ports, ...ranges].map(() => 0);
    const kept = this.#keptNodePorts();
    const chosen: number[] = [];
    for (const [at, port] of spec.ports.entries()) {
      const given = kept[at];
      chosen.push(given === undefined ? this.#chooseNodePort(port, chosen) : this.#checkNodePort(given, port));
    }
    const taken = new Set(chosen);
    for (const range of ranges) {
      const first = this.#chooseNodePorts(range, taken);
      chosen.push(first);
      for (let at = 0; at < countOf(range); at++) taken.add(first + at);
    }
    return chosen;
  }

  /** Those that its ports ask for, and of the others those that they had, by their number or else by their name: each once. */
  #keptNodePorts(): readonly (number | undefined)[] {
    const { ports } = this.#resource.spec;
    const kept = ports.map(({ nodePort }) => nodePort);
    const { resource, allotted } = this.#known ?? {};
    for (const field of ['port', 'name'] as const) {
      for (const [at, port] of ports.entries()) {
        const isSame = (other: ServicePortSpec): boolean =>
          other[field] === port[field] && other.protocol === port.protocol;
        const before = allotted?.nodePorts[resource!.spec.ports.findIndex(isSame)] || undefined;
        const isTaken = ports.some(({ protocol }, n) => protocol === port.protocol && kept[n] === before);
        if (kept[at] === undefined && !isTaken) kept[at] = before;
      }
    }
    return kept;
  }

  #checkNodePort(port: number, { protocol }: ServicePortSpec): number {
    const owner = this.#environment.nodePorts.ownerOf(String(port), this.#draft);
    if (owner !== undefined && owner !== this.#name) {
      this.#refuse('conflict', 'nodePort', `${port}: provided port is already allocated: service "${owner}" has it`);
    }
    const publisher = this.#environment.publisherOf({ port, protocol }, this.#draft);
    if (publisher !== undefined) {
      const text = `${port}/${protocol.toLowerCase()}`;
      this.#refuse('conflict', 'nodePort', `host port ${text} is published by endpoint "${publisher}" already`);
    }
    return port;
  }

  #chooseNodePort({ port, protocol }: ServicePortSpec, others: readonly number[]): number {
    const { nodePorts, publisherOf } = this.#environment;
    const asked = this.#resource.spec.ports.map(({ nodePort }) => nodePort);
    const range = { first: BigInt(NODE_PORTS.first), last: BigInt(NODE_PORTS.last) };
    const isFree = (value: bigint): boolean => {
      const one = Number(value);
      const isTaken = others.includes(one) || asked.includes(one) || nodePorts.ownerOf(String(one), this.#draft);
      return !isTaken && publisherOf({ port: one, protocol }, this.#draft) === undefined;
    };
    const all = Number(range.last - range.first) + 1;
    const found = choose(range, BAND.nodePort, `${this.#name}/${port}/${protocol}`, all, isFree);
    if (found !== undefined) return Number(found);
    throw new WeftError(
      'exhausted',
      `service "${this.#name}": all node ports of ${NODE_PORTS.first}-${NODE_PORTS.last} are taken: delete a service, or use type ClusterIP`,
    );
  }

  /** For a range: the first of as many in a row. @param taken what other ports of the service have */
  #chooseNodePorts(range: PortRange, taken: ReadonlySet<number>): number {
    const { nodePorts, publisherOf } = this.#environment;
    const { first, last, protocol } = range;
    const protocols = protocol === undefined ? this.#resource.spec.ports.map((port) => port.protocol) : [protocol];
    const isFreePort = (port: number): boolean => {
      const owner = nodePorts.ownerOf(String(port), this.#draft) ?? this.#name;
      const isPublishedBy = protocols.some((one) => publisherOf({ port, protocol: one }, this.#draft) !== undefined);
      return owner === this.#name && !taken.has(port) && !isPublishedBy;
    };
    const count = countOf(range);
    const isFree = (port: number): boolean => Array.from({ length: count }, (_, at) => port + at).every(isFreePort);
    const before = this.#rangeBefore(range);
    if (before !== undefined && isFree(before)) return before;
    const starts = { first: BigInt(NODE_PORTS.first), last: BigInt(NODE_PORTS.last - count + 1) };
    const found =
      starts.last < starts.first
        ? undefined
        : choose(starts, BAND.nodePort, `${this.#name}/${first}-${last}`, NODE_PORTS.last, (at) => isFree(Number(at)));
    if (found !== undefined) return Number(found);
    const all = `${NODE_PORTS.first}-${NODE_PORTS.last}`;
    throw new WeftError(
      'exhausted',
      `service "${this.#name}": weft.dev/ports: ${first}-${last} needs ${count} node ports in a row, and ${all} has not so many that are free: give a smaller range, or use type ClusterIP`,
    );
  }

  /** The first node port that the same range has. */
  #rangeBefore({ first, last, protocol }: PortRange): number | undefined {
    const known = this.#known;
    if (!known) return undefined;
    const { ranges } = readAnnotations(known.resource.metadata.annotations);
    const at = ranges.findIndex((one) => one.first === first && one.last === last && one.protocol === protocol);
    return at < 0 ? undefined : known.allotted.nodePorts[known.resource.spec.ports.length + at] || undefined;
  }

  #refuseLoadBalancerIps(clusterIps: readonly string[], ipFamilies: readonly Family[]): void {
    const field = this.#resource.spec.loadBalancerIP === undefined ? 'weft.dev/load-balancer-ips' : 'loadBalancerIP';
    for (const address of loadBalancerIpsOf(this.#resource)) {
      const family = familyOf(address);
      if (!ipFamilies.includes(family)) {
        const mend = `give an ${ipFamilies[0]} address, or write ipFamilyPolicy: PreferDualStack`;
        this.#refuse('invalid', field, `${address}: the service has no ${family} (ipFamilies): ${mend}`);
      }
      const range = this.#environment.range.containing(addressValue(address));
      if (range || clusterIps.includes(address)) {
        this.#refuse(
          'invalid',
          field,
          `${address} is one of those that services have within the cluster: give one of the network outside`,
        );
      }
      this.#refuseTaken(address, field);
    }
  }

  /** Addresses outside are in no network, also if one is created at the same time. */
  #besideNetworks(): readonly (Put & { readonly revision: number })[] {
    const before = this.#known ? loadBalancerIpsOf(this.#known.resource) : [];
    const added = loadBalancerIpsOf(this.#resource).filter((address) => !before.includes(address));
    if (added.length === 0) return [];
    const { clash, alsoStored } = this.#environment.networks;
    for (const address of added) {
      const subnet = address.includes(':') ? `${address}/128` : `${address}/32`;
      const found = clash(this.#draft, [parseSubnet(subnet)], [subnet]);
      if (found === undefined) continue;
      this.#refuse('conflict', 'loadBalancerIP', `${address} is no address outside: ${found}`);
    }
    return alsoStored(this.#draft);
  }

  #refuse(code: 'invalid' | 'conflict', field: string, why: string): never {
    throw new WeftError(code, `service "${this.#name}": ${field}: ${why}`);
  }
}

/** Neither the first address nor, in IPv4, the last one. Nobody has to answer for a gateway here. */
function usable(cidr: string): AddressRange {
  const { first, last } = parseSubnet(cidr);
  return { first: first + 1n, last: isIp4(first) ? last - 1n : last };
}

/**
 * A free one of a range, where the seed says first: those of the upper part come first.
 * @param taken how many may not be free, at most
 */
function choose(
  { first, last }: AddressRange,
  { part, least, most }: (typeof BAND)['address'],
  seed: string,
  taken: number,
  isFree: (value: bigint) => boolean,
): bigint | undefined {
  const size = last - first + 1n;
  const share = size / part;
  const band = size < least ? 0n : share < least ? least : share > most ? most : share;
  const upper = size - (band < size ? band : 0n);
  const start = BigInt(`0x${createHash('sha256').update(seed).digest('hex').slice(0, 32)}`) % upper;
  const looks = size > BigInt(taken) ? BigInt(taken) + 1n : size;
  for (let look = 0n; look < looks && look < upper; look++) {
    const value = first + (size - upper) + ((start + look) % upper);
    if (isFree(value)) return value;
  }
  for (let value = first; value < first + size - upper; value++) if (isFree(value)) return value;
  return undefined;
}
