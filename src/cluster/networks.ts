/**
 * Networks: created, kept in the store, and put into force.
 *
 * A network's VNI and MTU are chosen when it is created and stored with it, so
 * that neither a later default nor another underlay changes them under its
 * containers; the MTU and the ranges change when somebody says so. Its address pools live here; endpoints take from them.
 */
import { WeftError } from '../error.ts';
import type { Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { compareNames } from '../model/name-order.ts';
import type { NetworkReport } from '../model/report.ts';
import { networkSchema, SMALLEST_IPV6_MTU, type NetworkResource } from '../model/resource.ts';
import type { Store } from '../store/store.ts';
import { AddressPool } from './ipam.ts';
import type { Network, NetworkRecord } from './network.ts';
import { refuseOtherSubnets } from './network-declaration.ts';
import { routing } from './routing.ts';
import { rangeOf } from './ranges.ts';
import { findOverlap } from './subnet.ts';

export interface NetworksEnvironment {
  readonly store: Store;
  readonly forwarding: Forwarding;
  /** What fits into the underlay after encapsulation; 1500 without one. Asked when a network is created. */
  readonly defaultMtu: () => Promise<number>;
  /** Are there peers without a store between us? Then VNIs are not ours to choose. */
  readonly hasStaticPeers: () => boolean;
}

const prefix = 'networks/';

export class Networks {
  readonly #environment: NetworksEnvironment;
  readonly #networks = new Map<string, Network>();

  constructor(environment: NetworksEnvironment) {
    this.#environment = environment;
  }

  /** Puts what the store holds into force. */
  async load(): Promise<void> {
    for (const { value } of (await this.#environment.store.list(prefix)).entries) {
      const record = value as NetworkRecord;
      // What was stored before a field existed gets its default.
      this.#enforce({ ...record, resource: networkSchema.parse(record.resource) });
    }
  }

  find(name: string): Network | undefined {
    return this.#networks.get(name);
  }

  /** @throws WeftError('not_found') */
  get(name: string): Network {
    const network = this.#networks.get(name);
    if (!network) {
      throw new WeftError('not_found', `network "${name}" does not exist: \`weft network create\` makes one`);
    }
    return network;
  }

  all(): Network[] {
    return [...this.#networks.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  /** What applying would do. @throws WeftError when it is not possible. */
  async plan(resource: NetworkResource): Promise<'created' | 'configured' | 'unchanged'> {
    const { name } = resource.metadata;
    const known = this.#networks.get(name);
    if (known) return planChange(known, resource);

    for (const other of this.#networks.values()) {
      const overlap = findOverlap(resource.spec.subnets, other.resource.spec.subnets);
      if (overlap) {
        throw new WeftError(
          'conflict',
          `network "${name}": subnet ${overlap[0]} overlaps ${overlap[1]} of network "${other.name}"`,
        );
      }
      if (resource.spec.vni === other.vni) {
        throw new WeftError('conflict', `network "${name}": VNI ${other.vni} is taken by network "${other.name}"`);
      }
    }
    if (resource.spec.vni === undefined && this.#environment.hasStaticPeers()) {
      throw new WeftError(
        'invalid',
        `network "${name}": vni is missing: with static peers it must be given (--vni), the same on every host`,
      );
    }
    if (resource.spec.mtu === undefined) await this.#defaultMtu(resource);
    return 'created';
  }

  async apply(resource: NetworkResource): Promise<'created' | 'configured' | 'unchanged'> {
    const action = await this.plan(resource);
    if (action === 'unchanged') return action;
    const { name } = resource.metadata;
    const known = this.#networks.get(name);
    const ranges = resource.spec.ranges.length > 0 ? resource.spec.ranges : (known?.resource.spec.ranges ?? []);
    const record: NetworkRecord = {
      resource: { ...resource, spec: { ...resource.spec, ranges } },
      vni: known?.vni ?? resource.spec.vni ?? this.#freeVni(),
      mtu: resource.spec.mtu ?? known?.mtu ?? (await this.#defaultMtu(resource)),
    };
    await this.#environment.store.transact({ put: [{ key: prefix + name, value: record }] });
    this.#enforce(record);
    return action;
  }

  async #defaultMtu({ metadata, spec }: NetworkResource): Promise<number> {
    const mtu = await this.#environment.defaultMtu();
    const missing = SMALLEST_IPV6_MTU - mtu;
    if (missing <= 0 || !spec.subnets.some((subnet) => subnet.includes(':'))) return mtu;
    throw new WeftError(
      'invalid',
      `network "${metadata.name}": the underlay leaves packets of ${mtu} bytes, and IPv6 needs ${SMALLEST_IPV6_MTU}: raise its MTU by ${missing}, or leave out the IPv6 subnet`,
    );
  }

  /** The caller has made sure that no endpoint is in it. */
  async remove(name: string): Promise<void> {
    const network = this.get(name);
    await this.#environment.store.transact({ delete: [prefix + name] });
    this.#networks.delete(name);
    this.#environment.forwarding.removeNetwork(network.vni as Vni);
  }

  report(network: Network, endpoints: number): NetworkReport {
    return {
      name: network.name,
      vni: network.vni,
      subnets: network.resource.spec.subnets,
      gateways: network.pools.map((pool) => pool.gateway),
      mtu: network.mtu,
      outside: network.resource.spec.outside,
      endpoints,
      free: Object.fromEntries(network.pools.map((pool) => [pool.subnet, pool.free])),
    };
  }

  #enforce(record: NetworkRecord): void {
    const { name } = record.resource.metadata;
    const known = this.#networks.get(name);
    const pools = record.resource.spec.subnets.map((subnet) => {
      const range = rangeOf(record.resource.spec, subnet);
      const options = { network: name, subnet, ...(range !== undefined && { range }) };
      return new AddressPool(
        options,
        known?.pools.find((pool) => pool.subnet === subnet),
      );
    });
    this.#networks.set(name, { ...record, name, pools });
    this.#route(record);
  }

  #route({ resource, vni, mtu }: NetworkRecord): void {
    const { name } = resource.metadata;
    const { subnets, routes, outside } = resource.spec;
    this.#environment.forwarding.setNetwork({
      name,
      vni: vni as Vni,
      mtu,
      outside,
      ...routing(name, subnets, routes),
    });
  }

  #freeVni(): number {
    const taken = new Set([...this.#networks.values()].map((network) => network.vni));
    let vni = 1;
    while (taken.has(vni)) vni++;
    return vni;
  }
}

/** Subnets and VNI are what makes it this network; all else can change. */
function planChange(known: Network, resource: NetworkResource): 'configured' | 'unchanged' {
  const { spec } = resource;
  const before = known.resource.spec;
  refuseOtherSubnets(known.resource, resource);
  if (spec.vni !== undefined && spec.vni !== known.vni) {
    throw new WeftError(
      'conflict',
      `network "${known.name}" exists with VNI ${known.vni}, not ${spec.vni}: it cannot change, remove the network first`,
    );
  }
  const isSame =
    JSON.stringify(known.resource.metadata) === JSON.stringify(resource.metadata) &&
    JSON.stringify(before.routes) === JSON.stringify(spec.routes) &&
    (spec.ranges.length === 0 || before.ranges.join() === spec.ranges.join()) &&
    (spec.mtu === undefined || spec.mtu === known.mtu) &&
    before.outside === spec.outside;
  return isSame ? 'unchanged' : 'configured';
}
