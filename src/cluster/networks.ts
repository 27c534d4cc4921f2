/**
 * Networks: planned, and put into force.
 *
 * The VNI and the MTU of a network are chosen when it is created and stored with it, so neither a
 * later default nor another underlay changes them under its containers. The MTU and the ranges
 * change when somebody changes the declaration. A network owns its address pools, and endpoints take
 * addresses from them.
 */
import { WeftError } from '../error.ts';
import type { Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { parseSubnet, type Subnet } from '../model/address.ts';
import { networkAllotted, networkKind, SMALLEST_IPV6_MTU, type NetworkResource } from '../model/kinds/network.ts';
import { compareNames } from '../model/name-order.ts';
import type { AllottedNetwork } from '../model/records.ts';
import type { NetworkReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import { validate } from '../model/validate.ts';
import { joined, type Expectation, type Put, type Transaction } from '../store/store.ts';
import { inTurns } from '../turns.ts';
import type { Allotment } from './addresses/allotment.ts';
import type { Endpoint } from './endpoint.ts';
import { refusePublished } from './in-use.ts';
import type { Blocks } from './addresses/blocks.ts';
import { AddressPool } from './addresses/ipam.ts';
import { NetworkClaims } from './addresses/network-claims.ts';
import type { Network, NetworkRecord } from './network.ts';
import { refuseOtherSubnets } from './network-declaration.ts';
import type { Pool } from './addresses/pool.ts';
import { rangeOf, refuseOutOfRange } from './ranges.ts';
import type { Declared, Draft, Planned, Reconciler, Stored, Unread } from './reconciler.ts';
import type { RefusedRecords } from './refused-records.ts';
import { routing } from './routing.ts';

export interface NetworksEnvironment {
  readonly forwarding: Forwarding;
  /** What fits into the underlay after encapsulation; 1500 without an underlay. Called when a network is created. */
  readonly defaultMtu: () => Promise<number>;
  /** Of all networks of a shared store; undefined without one. */
  readonly allotment?: Allotment | undefined;
  /** The blocks of addresses of a shared store; undefined without one. */
  readonly blocks?: Blocks | undefined;
  /** What of its subnets services have for themselves; undefined if nothing. @param texts of `subnets` */
  readonly serviceClash: (subnets: readonly Subnet[], texts: readonly string[]) => string | undefined;
  /** True if there are peers that do not share the store. Then weft must not choose VNIs. */
  readonly hasStaticPeers: (draft: Draft) => boolean;
  /** Records that this host does not accept. */
  readonly refused: () => RefusedRecords;
  /** Unsorted; there may be very many. */
  readonly endpointsOf: (network: string) => Iterable<Endpoint>;
  readonly countOf: (network: string) => number;
  /** Called with the name of each network that comes, changes or goes. */
  readonly onNamed?: (name: string) => void;
  /**
   * A network has come: endpoints may wait for it, and nobody else is to get their addresses. They must not be opened yet: policies
   * of the same change are not in force.
   */
  readonly onAdded: (name: string) => void;
  /** Called when a network that existed has changed. */
  readonly onChanged: (network: Network, before: Network) => Promise<void>;
  /** A network is about to go. Nobody has to have asked whether endpoints are in it. */
  readonly onRemoved: (name: string, why: WeftError) => Promise<void>;
}

/** How many networks are put into force, or removed, in one turn of the event loop. */
const PUT_PER_TURN = 16;

export class Networks implements Reconciler {
  readonly #environment: NetworksEnvironment;
  readonly #networks = new Map<string, Network>();
  /** Sorted by name; made when it is asked for. */
  #sorted: readonly Network[] | undefined;
  readonly #claims = new NetworkClaims();
  /** Those of the networks that a change creates. */
  readonly #planned = new WeakMap<Draft, NetworkClaims>();
  /** Those of the networks that are put into force together. */
  readonly #together = new WeakMap<readonly Stored[], NetworkClaims>();
  /** Asked once a change, however many networks it creates. */
  readonly #defaultMtus = new WeakMap<Draft, Promise<number>>();

  constructor(environment: NetworksEnvironment) {
    this.#environment = environment;
  }

  get size(): number {
    return this.#networks.size;
  }

  find(name: string): Network | undefined {
    return this.#networks.get(name);
  }

  /** The network that has a VNI. */
  withVni(vni: number): Network | undefined {
    const name = this.#claims.networkWith(vni);
    return name === undefined ? undefined : this.#networks.get(name);
  }

  /** The network that an address is in. Networks do not overlap. */
  at(address: bigint): Network | undefined {
    const name = this.#claims.networkAt(address);
    return name === undefined ? undefined : this.#networks.get(name);
  }

  get(name: string): Network {
    const network = this.#networks.get(name);
    if (!network) {
      const refusal = this.#environment.refused().failure(networkKind, name);
      if (refusal) throw refusal;
      throw new WeftError(
        'not_found',
        `network "${name}" does not exist: \`weft network ls\` shows those that do, and \`weft network create\` makes one`,
      );
    }
    return network;
  }

  /** Sorted by name. The same array as long as none has changed. */
  all(): readonly Network[] {
    return (this.#sorted ??= [...this.#networks.values()].sort((a, b) => compareNames(a.name, b.name)));
  }

  shown(declared: Declared): Resource {
    const { resource, vni, mtu } = declared as Network;
    return { ...resource, spec: { ...resource.spec, vni, mtu } };
  }

  async plan(resource: NetworkResource, draft: Draft): Promise<Planned> {
    const { name } = resource.metadata;
    this.#refuseRanges(resource);
    const known = this.#networks.get(name);
    const action = known ? this.#planChange(known, resource, draft) : this.#planNew(resource, draft);
    if (action === 'unchanged') return { action };
    const ranges = resource.spec.ranges.length > 0 ? resource.spec.ranges : (known?.resource.spec.ranges ?? []);
    const record: NetworkRecord = {
      resource: { ...resource, spec: { ...resource.spec, ranges } },
      vni: known?.vni ?? resource.spec.vni ?? this.#plannedIn(draft).freeVni(...this.#taken()),
      mtu: resource.spec.mtu ?? known?.mtu ?? (await this.#defaultMtu(resource, draft)),
    };
    const declared: Network = { ...record, name, revision: 0, pools: this.#poolsOf(record, known) };
    const allotted = { vni: record.vni, mtu: record.mtu };
    if (known) return { action, declared, allotted };
    this.#plannedIn(draft).add(declared);
    const { allotment } = this.#environment;
    const also = allotment ? [allotment.plan(draft, name, allottedTo(record), this.#allotted())] : [];
    return { action, declared, allotted, also };
  }

  /** What of other subnets networks have, or will have with the change; undefined if nothing. @param texts of `subnets` */
  clash(draft: Draft, subnets: readonly Subnet[], texts: readonly string[]): string | undefined {
    const all = [...this.#taken(), this.#plannedIn(draft)];
    return all.map((claims) => claims.clash('', subnets, texts)).find((clash) => clash !== undefined);
  }

  /** What a change stores so that networks which are created at once are planned on it. */
  planNothing(draft: Draft): readonly (Put & { readonly revision: number })[] {
    const { allotment } = this.#environment;
    return allotment ? [allotment.planNothing(draft, this.#allotted())] : [];
  }

  planRemoval(name: string): Transaction {
    const { allotment, blocks } = this.#environment;
    if (!allotment || !blocks) return {};
    return joined(allotment.planRemoval(name), blocks.withoutNetwork(name));
  }

  check({ name, resource, record }: Stored<NetworkResource>, others: readonly Stored[]): void {
    const { vni } = validate(networkAllotted, record);
    const texts = resource.spec.subnets;
    const subnets = texts.map(parseSubnet);
    const together = this.#together.get(others) ?? new NetworkClaims();
    this.#together.set(others, together);
    for (const claims of [this.#claims, together]) {
      const clash = claims.clash(name, subnets, texts, vni);
      if (clash !== undefined) throw new WeftError('conflict', clash);
    }
    together.add({ name, vni, pools: subnets.map((addresses, at) => ({ subnet: texts[at]!, addresses })) });
  }

  async put(stored: readonly Stored<NetworkResource>[]): Promise<void> {
    for await (const { name, resource, revision, record } of inTurns(stored, PUT_PER_TURN)) {
      const { vni, mtu } = record as NetworkRecord;
      const known = this.#networks.get(name);
      if (known && !isSameIdentity(known, { resource, vni, mtu })) await this.remove([name]);
      const before = this.#networks.get(name);
      const network: Network = {
        resource,
        vni,
        mtu,
        name,
        revision,
        pools: this.#poolsOf({ resource, vni, mtu }, before),
      };
      if (before) this.#claims.remove(before);
      this.#claims.add(network);
      this.#sorted = undefined;
      this.#networks.set(name, network);
      this.#route(network);
      this.#environment.onNamed?.(name);
      if (before) await this.#environment.onChanged(network, before);
      else this.#environment.onAdded(name);
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    for await (const name of inTurns(names, PUT_PER_TURN)) {
      const why = `network "${name}" does not exist any more: create it again, or detach`;
      await this.#environment.onRemoved(name, new WeftError('not_found', why));
      const network = this.#networks.get(name);
      this.#sorted = undefined;
      this.#networks.delete(name);
      this.#environment.blocks?.forget(name);
      if (!network) continue;
      this.#environment.onNamed?.(name);
      this.#claims.remove(network);
      this.#environment.forwarding.removeNetwork(network.vni as Vni);
    }
  }

  /** A record that this host does not accept is there all the same. */
  refused(records: readonly Unread[]): void {
    for (const { name } of records) this.#environment.blocks?.keepOf(name);
  }

  /** What a change of something in the network expects of it; undefined without it. */
  expectation(name: string): Expectation | undefined {
    const network = this.#networks.get(name);
    return network && this.#environment.refused().expectation(networkKind, network);
  }

  report(network: Network): NetworkReport {
    return {
      name: network.name,
      vni: network.vni,
      subnets: network.resource.spec.subnets,
      gateways: network.pools.map((pool) => pool.gateway),
      mtu: network.mtu,
      outside: network.resource.spec.outside,
      endpoints: this.#environment.countOf(network.name),
      free: Object.fromEntries(network.pools.map((pool) => [pool.subnet, pool.free])),
    };
  }

  #planNew(resource: NetworkResource, draft: Draft): 'created' {
    const { name } = resource.metadata;
    const subnets = resource.spec.subnets.map(parseSubnet);
    for (const claims of [...this.#taken(), this.#plannedIn(draft)]) {
      const clash = claims.clash(name, subnets, resource.spec.subnets, resource.spec.vni);
      if (clash !== undefined) throw new WeftError('conflict', `network "${name}": ${clash}`);
    }
    const clash = this.#environment.serviceClash(subnets, resource.spec.subnets);
    if (clash !== undefined) throw new WeftError('conflict', `network "${name}": ${clash}`);
    if (resource.spec.vni === undefined && this.#environment.hasStaticPeers(draft)) {
      throw new WeftError(
        'invalid',
        `network "${name}": vni is missing: with static peers it must be given (--vni), the same on every host`,
      );
    }
    this.#environment.blocks?.refuseLeft(name, subnets, (other) => this.#networks.has(other));
    return 'created';
  }

  /** Only the subnets and the VNI identify a network; everything else can change. */
  #planChange(known: Network, resource: NetworkResource, draft: Draft): 'configured' | 'unchanged' {
    const { spec } = resource;
    const before = known.resource.spec;
    const { endpointsOf } = this.#environment;
    refusePublished(resource, endpointsOf(known.name));
    refuseOutOfRange(known, resource, endpointsOf(known.name));
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
      before.outside === spec.outside &&
      !draft.isRefused('Network', known.name);
    return isSame ? 'unchanged' : 'configured';
  }

  async #defaultMtu({ metadata, spec }: NetworkResource, draft: Draft): Promise<number> {
    const asked = this.#defaultMtus.get(draft) ?? this.#environment.defaultMtu();
    this.#defaultMtus.set(draft, asked);
    const mtu = await asked;
    const missing = SMALLEST_IPV6_MTU - mtu;
    if (missing <= 0 || !spec.subnets.some((subnet) => subnet.includes(':'))) return mtu;
    throw new WeftError(
      'invalid',
      `network "${metadata.name}": the underlay leaves packets of ${mtu} bytes, and IPv6 needs ${SMALLEST_IPV6_MTU}: raise its MTU by ${missing}, or leave out the IPv6 subnet`,
    );
  }

  #route({ name, resource, vni, mtu }: Network): void {
    const { subnets, routes, outside } = resource.spec;
    this.#environment.forwarding.setNetwork({
      name,
      vni: vni as Vni,
      mtu,
      outside,
      ...routing(name, subnets, routes),
    });
  }

  #allotted(): [string, AllottedNetwork][] {
    return this.all().map((one) => [one.name, allottedTo(one)]);
  }

  /** What existing networks have for themselves. */
  #taken(): NetworkClaims[] {
    const { allotment } = this.#environment;
    return allotment ? [this.#claims, allotment.claims] : [this.#claims];
  }

  /**
   * @param before the network that this one replaces. A pool whose range stays is the same pool, which remembers what was
   * given back; otherwise, what is taken there is taken in the new one too.
   */
  #poolsOf({ resource }: NetworkRecord, before: Network | undefined): Pool[] {
    const { name } = resource.metadata;
    return resource.spec.subnets.map((subnet) => {
      const range = rangeOf(resource.spec, subnet);
      const known = before?.pools.find((pool) => pool.subnet === subnet);
      if (known && known.range === range) return known;
      const { blocks } = this.#environment;
      if (blocks) return blocks.pool(name, subnet);
      return new AddressPool({ network: name, subnet, ...(range !== undefined && { range }) }, known as AddressPool);
    });
  }

  #refuseRanges({ metadata, spec: { ranges } }: NetworkResource): void {
    const [range] = ranges;
    if (range === undefined || !this.#environment.allotment) return;
    throw new WeftError(
      'invalid',
      `network "${metadata.name}": range ${range}: with a shared store, hosts claim their addresses in blocks, and ranges are for static peers: leave it out`,
    );
  }

  #plannedIn(draft: Draft): NetworkClaims {
    const planned = this.#planned.get(draft) ?? new NetworkClaims();
    this.#planned.set(draft, planned);
    return planned;
  }
}

function allottedTo({ vni, resource }: NetworkRecord): AllottedNetwork {
  return { vni, subnets: resource.spec.subnets };
}

/** False for a network that was deleted and created again, which nobody can be attached to yet. */
function isSameIdentity(a: NetworkRecord, b: NetworkRecord): boolean {
  return a.vni === b.vni && a.resource.spec.subnets.join() === b.resource.spec.subnets.join();
}
