/**
 * Plans what applying an endpoint would store: whether it fits on its network, which addresses, MAC
 * and port it gets, and whether this host can create its interface.
 *
 * In a store that several hosts share, any host may change the endpoints of any other one, which puts that into force. A
 * namespace means one of the host that applies it: an endpoint of another host moves here by that, if it may.
 */
import { WeftError } from '../error.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { parseMac } from '../flow/types.ts';
import { readNamespaces } from '../link/interface-facts.ts';
import { netnsId } from '../link/netns-lookup.ts';
import { resolveNetns, type NetnsRef } from '../link/netns.ts';
import { HELD } from '../model/endpoint-annotations.ts';
import type { EndpointResource } from '../model/kinds/endpoint.ts';
import { idOf } from '../model/resource.ts';
import { isReservedMac } from '../table/topology.ts';
import type { EndpointIndex } from './endpoint-index.ts';
import {
  declaredNetns,
  hasPlace,
  heldSubnet,
  isCarried,
  isHere,
  isSameDeclaration,
  isShared,
  poolOf,
  refuseNotThere,
  refuseOtherIdentity,
  refuseTakenMac,
  refuseUnplannedAddresses,
  withCookie,
  type Endpoint,
  type LocalRecord,
} from './endpoint.ts';
import type { Hosts } from './membership/hosts.ts';
import { generateMac } from './addresses/ipam.ts';
import type { Network } from './network.ts';
import { refuseListeners, refusePublish } from './publishing.ts';
import type { Draft, Planned } from './reconciler.ts';

export interface EndpointPlanEnvironment {
  readonly index: EndpointIndex;
  readonly hosts: Hosts;
  readonly hostName: string;
  /** True if other hosts share the store. */
  readonly isShared: boolean;
  /** True if a host of the store is known not to run, so that its endpoints may be attached elsewhere. */
  readonly isDown: (host: string) => boolean;
  readonly exchange: ExchangeWithNetns;
  /** The identity of this host, from which the MACs of its endpoints are derived. */
  readonly identity: Uint8Array;
  readonly bootId: string;
  /** True if there are peers that do not share the store. Then weft must not choose addresses. */
  readonly hasStaticPeers: (draft: Draft) => boolean;
  /** The service that has a node port on every host; undefined if none has. */
  readonly nodePortOwner: (port: number) => string | undefined;
}

/** A namespace, and what the kernel calls it as long as it lives, if that was read. */
interface NamedNetns extends NetnsRef {
  readonly cookie?: string | undefined;
}

export class EndpointPlan {
  readonly #environment: EndpointPlanEnvironment;
  readonly #draft: Draft;
  /** As it will be declared. */
  #resource: EndpointResource;
  readonly #name: string;
  readonly #network: Network;
  readonly #known: Endpoint | undefined;

  constructor(environment: EndpointPlanEnvironment, resource: EndpointResource, draft: Draft) {
    this.#environment = environment;
    this.#draft = draft;
    this.#resource = resource;
    this.#name = idOf(resource.metadata);
    this.#network = draft.find<Network>('Network', resource.spec.network)!;
    this.#known = environment.index.find(this.#name);
  }

  /** @throws WeftError if the endpoint is not possible */
  async make(): Promise<Planned> {
    const known = this.#known;
    const { host } = this.#resource.spec;
    this.#refuseMoved();
    if (host !== undefined && this.#environment.hosts.registrationOf(host)) return this.#makeOfHost(host);
    if (host !== undefined) refuseNotThere(this.#resource);
    if (host === undefined && known && isShared(known)) return this.#move(known, known.host);
    if (known) refuseOtherIdentity(known, this.#resource);
    const netns = host === undefined ? await this.#refuseHost() : undefined;
    return known ? this.#change(known, netns) : this.#create(netns);
  }

  /** It runs on another host than the one that it is on as far as this one knows. */
  #refuseMoved(): void {
    const { hostName, isDown } = this.#environment;
    const owner = this.#draft.ownerOf(this.#name);
    if (owner === undefined || owner === hostName || owner === this.#known?.host) return;
    if (this.#draft.mayMove(this.#name) || isDown(owner)) return;
    throw new WeftError(
      'conflict',
      `endpoint "${this.#name}" is on host "${owner}", as a record says that this version of weft does not accept: detach it there first, or take it over with \`weft attach --move\``,
    );
  }

  /** For a manifest whose spec.host names a host of the store, as `weft get` shows the endpoint on every other host. */
  #makeOfHost(host: string): Planned {
    const { hostName } = this.#environment;
    const known = this.#known;
    const isStatic = known?.resource.spec.host !== undefined;
    if (!known || isStatic || (known.host ?? hostName) !== host) {
      if (known) refuseOtherIdentity(known, this.#resource);
      const where = host === hostName ? 'here' : 'there';
      throw new WeftError(
        'invalid',
        `endpoint "${this.#name}": host "${host}" attaches its endpoints itself: attach it ${where}, or apply it ${where} with netns or pid`,
      );
    }
    const { netns, pid, interface: ifname } = known.resource.spec;
    const { host: _, ...spec } = this.#resource.spec;
    const place = netns !== undefined ? { netns } : { pid };
    this.#resource = { ...this.#resource, spec: { ...spec, ...place, interface: ifname } };
    refuseOtherIdentity(known, this.#resource);
    if (isHere(known)) refuseListeners(this.#resource, known.resource.spec.publish);
    return this.#change(known, undefined);
  }

  /** From another host to this one, with its addresses and its MAC. */
  async #move(known: Endpoint, from: string): Promise<Planned> {
    if (!this.#draft.mayMove(this.#name) && !this.#environment.isDown(from)) {
      throw new WeftError(
        'conflict',
        `endpoint "${this.#name}" is on host "${from}": detach it first, or take it over with \`weft attach --move\``,
      );
    }
    refuseOtherIdentity(known, this.#resource);
    const netns = await this.#refuseHost();
    this.#refusePublish(known.addresses);
    const local = netns && this.#localRecord(netns);
    for (const address of known.addresses) this.#poolOf(address).move(this.#name, address, this.#draft);
    const at = local && { local };
    const declared: Endpoint = { ...known, resource: this.#resource, host: undefined, state: 'detached', ...at };
    return {
      action: 'configured',
      declared,
      allotted: this.#allotted(known, undefined),
      also: this.#alsoWritten(),
      ...(local && { own: local }),
    };
  }

  /** @param host the other host that it is on */
  #allotted({ addresses, mac }: Pick<Endpoint, 'addresses' | 'mac'>, host: string | undefined): object {
    const { isShared: isOfStore, hostName } = this.#environment;
    const isStatic = this.#resource.spec.host !== undefined;
    return { addresses, mac, ...(isOfStore && !isStatic && { host: host ?? hostName }) };
  }

  /** Plans a change of labels, allowed addresses or EtherTypes, named or published ports, trust or rate limit. */
  #change(known: Endpoint, netns: NamedNetns | undefined): Planned {
    this.#refusePublish(known.addresses);
    const isSame = isSameDeclaration(known, this.#resource) && !this.#draft.isRefused('Endpoint', this.#name);
    // An endpoint that was detached is attached again.
    const isAnew = known.state === 'detached' && netns !== undefined;
    if (isSame && !isAnew) return { action: 'unchanged' };
    return {
      action: 'configured',
      declared: { ...known, resource: this.#resource },
      allotted: this.#allotted(known, known.host),
      ...(isAnew && { own: this.#localRecord(netns) }),
    };
  }

  #create(netns: NamedNetns | undefined): Planned {
    const { spec } = this.#resource;
    const isOfEngine = isCarried(this.#resource);
    for (const address of spec.addresses) this.#poolOf(address).check(this.#name, address, isOfEngine);
    refuseTakenMac(this.#inNetwork(), this.#resource);
    if (spec.host === undefined)
      refuseUnplannedAddresses(this.#network, this.#resource, (range) => this.#mayChoose(range));
    const served = this.#pools().map(({ gateway }) => gateway);
    this.#refusePublish(served);
    const addresses = this.#takeAddresses();
    const mac = spec.mac ?? this.#freeMac();
    const local = netns && this.#localRecord(netns);
    const declared: Endpoint = {
      name: this.#name,
      resource: this.#resource,
      revision: 0,
      addresses,
      mac,
      host: spec.host,
      state: 'detached',
      ...(local && { local }),
    };
    const allotted = this.#allotted(declared, undefined);
    return { action: 'created', declared, allotted, also: this.#alsoWritten(), ...(local && { own: local }) };
  }

  /** What the pools store with the addresses. */
  #alsoWritten() {
    return this.#network.pools.flatMap((pool) => pool.written(this.#draft));
  }

  #localRecord(netns: NamedNetns): LocalRecord {
    const { index, bootId } = this.#environment;
    const planned = [...this.#draft.planned<Endpoint>('Endpoint').values()];
    const portNo =
      this.#known?.local?.portNo ?? index.freePort(new Set(planned.flatMap(({ local }) => local?.portNo ?? [])));
    const { path, dev, ino, cookie } = netns;
    return withCookie({ portNo, netns: { path, dev: String(dev), ino: String(ino) }, bootId }, cookie);
  }

  /** Takes the declared addresses, and one from each other subnet that weft may choose from. */
  #takeAddresses(): string[] {
    const { addresses: requested, host } = this.#resource.spec;
    const isOfEngine = isCarried(this.#resource);
    const asked = requested.map((address) => this.#poolOf(address).plan(this.#name, address, this.#draft, isOfEngine));
    const chosen = (host === undefined ? this.#pools() : [])
      .filter((pool) => !requested.some((address) => pool.contains(address)))
      .map((pool) => pool.plan(this.#name, undefined, this.#draft));
    return [...asked, ...chosen];
  }

  #poolOf(address: string): Network['pools'][number] {
    return poolOf(this.#network, address, this.#name);
  }

  /**
   * The pools that give a new local endpoint an address. One that an engine carries has only those that the engine knows, and one
   * that only holds addresses has those that it holds.
   */
  #pools(): Network['pools'] {
    const { addresses } = this.#resource.spec;
    if (!hasPlace(this.#resource)) {
      const named = addresses.length > 0 ? undefined : this.#resource.metadata.annotations?.[HELD];
      const held = heldSubnet(this.#resource) ?? named;
      return this.#network.pools.filter(
        (pool) => addresses.some((address) => pool.contains(address)) || pool.subnet === held,
      );
    }
    return this.#network.pools.filter(
      (pool) => addresses.some((address) => pool.contains(address)) || this.#mayChoose(pool.range),
    );
  }

  #mayChoose(range: string | undefined): boolean {
    return range !== undefined || !this.#environment.hasStaticPeers(this.#draft);
  }

  #freeMac(): string {
    const { index } = this.#environment;
    const planned = new Set([...this.#plannedInNetwork()].map((endpoint) => endpoint.mac));
    const isTaken = (mac: string): boolean => planned.has(mac) || index.withMac(this.#network.name, mac) !== undefined;
    for (let attempt = 0; ; attempt++) {
      const mac = generateMac(this.#network.name, this.#name, this.#environment.identity, attempt);
      if (!isTaken(mac) && !isReservedMac(parseMac(mac))) return mac;
    }
  }

  *#inNetwork(): Iterable<Endpoint> {
    yield* this.#environment.index.in(this.#network.name);
    yield* this.#plannedInNetwork();
  }

  *#plannedInNetwork(): Iterable<Endpoint> {
    for (const endpoint of this.#draft.planned<Endpoint>('Endpoint').values()) {
      if (endpoint.resource.spec.network === this.#network.name) yield endpoint;
    }
  }

  /** @param ips as in `refusePublish` */
  #refusePublish(ips: readonly string[]): void {
    refusePublish(this.#resource, this.#network, ips, {
      endpoints: () => this.#others(),
      nodePortOwner: this.#environment.nodePortOwner,
    });
  }

  /** All local endpoints as they will be after this change. */
  #others(): Endpoint[] {
    const planned = this.#draft.planned<Endpoint>('Endpoint');
    const others = this.#environment.index.here().filter(({ name }) => !planned.has(name));
    return [...others, ...planned.values()].filter(isHere);
  }

  /**
   * Checks what on this host prevents a local endpoint. @returns the namespace that it is or will be in; undefined if a
   * container engine says that later, or it only holds addresses
   */
  async #refuseHost(): Promise<NamedNetns | undefined> {
    const { spec } = this.#resource;
    const known = this.#known;
    refuseListeners(this.#resource, known?.resource.spec.publish);
    if (!hasPlace(this.#resource)) return undefined;
    const netns = await resolveNetns(declaredNetns(this.#resource));
    if (known?.local && known.state !== 'detached') {
      const at = known.local.netns;
      if (at.dev !== String(netns.dev) || at.ino !== String(netns.ino)) {
        throw new WeftError('conflict', `endpoint "${known.name}" is attached in ${at.path} already: detach it first`);
      }
      return netns;
    }
    const [facts] = await readNamespaces(this.#environment.exchange, [netns]);
    if (facts instanceof WeftError) throw facts;
    // One that moves here within this machine leaves its interface behind: it is removed when its host lets go.
    const isLeft = (mac: string): boolean => known !== undefined && !isHere(known) && mac === known.mac;
    const there = facts!.links.find(({ ifname, mac }) => ifname === spec.interface && !isLeft(mac));
    if (there || this.#isPlanned(netns)) {
      const remove = `\`nsenter --net=${netns.path} ip link del ${spec.interface}\``;
      const otherwise = known
        ? 'the name of its interface cannot change, so remove that one first'
        : 'choose another with --ifname';
      // Of an interface that weft has, or that its holder keeps, a queue is open.
      const isLeftOver = there?.queues === 0;
      const wayOut = isLeftOver
        ? `it is a TAP that no program has open, as a host leaves them whose state was lost: ${remove}`
        : otherwise;
      throw new WeftError(
        'conflict',
        `endpoint "${this.#name}": interface "${spec.interface}" exists in ${netns.path} already: ${wayOut}`,
      );
    }
    return { ...netns, cookie: facts!.cookie };
  }

  /** True if another endpoint of the same change will have this interface. */
  #isPlanned(netns: NetnsRef): boolean {
    const id = netnsId(netns);
    return [...this.#draft.planned<Endpoint>('Endpoint').values()].some(
      ({ local, resource }) =>
        local !== undefined &&
        `${local.netns.dev}/${local.netns.ino}` === id &&
        resource.spec.interface === this.#resource.spec.interface,
    );
  }
}
