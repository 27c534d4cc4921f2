/**
 * Endpoints: the interfaces of containers on networks.
 *
 * An endpoint's record (`endpoint.ts`) is written to the store before anything is
 * set up and removed after all is torn down, so a crash in between leaves nothing
 * that the next start does not mend. Their interfaces are `attachments.ts`'s.
 *
 * When the namespace of an endpoint is gone, the container is, and the endpoint is
 * released; only after a reboot is the lease kept (`detached`), for the container
 * that comes back under its name.
 *
 * Callers serialize the changing methods.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { formatIp, parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { readNamespaces } from '../link/interface-facts.ts';
import { resolveNetns, type NetnsRef } from '../link/netns.ts';
import { compareNames } from '../model/name-order.ts';
import type { EndpointReport } from '../model/report.ts';
import { endpointSchema, type EndpointResource } from '../model/resource.ts';
import type { Store } from '../store/store.ts';
import { isReservedMac } from '../table/topology.ts';
import { Attachments, type AttachmentsEnvironment, type Mended } from './attachments.ts';
import {
  isLocal,
  isSameDeclaration,
  poolOf,
  recordOf,
  refuseOtherIdentity,
  refuseTakenMac,
  refuseUnplannedAddresses,
  type Endpoint,
  type EndpointRecord,
  type LocalEndpoint,
} from './endpoint.ts';
import type { Hosts } from './hosts.ts';
import { generateMac } from './ipam.ts';
import type { Network } from './network.ts';
import { publishedBy, refuseListeners, refusePublish, type PublishedEndpointPort } from './publishing.ts';

export interface EndpointsEnvironment extends AttachmentsEnvironment {
  readonly store: Store;
  readonly forwarding: Forwarding;
  readonly hosts: Hosts;
  readonly hostName: string;
  /** Of this host, from which the MACs of its endpoints are made. */
  readonly identity: Uint8Array;
  readonly bootId: string;
  /** Are there peers without a store between us? Then addresses are not ours to choose. */
  readonly hasStaticPeers: () => boolean;
}

type Action = 'created' | 'configured' | 'unchanged';
/** `netns`: of a local endpoint. */
type Plan = { readonly action: Action; readonly netns: NetnsRef | undefined };
type Outcome = { readonly action: Action; readonly endpoint: Endpoint };

const prefix = 'endpoints/';
/** 1 is the underlay's. */
const FIRST_PORT = 3;
/** Interfaces that are compared in one turn of the event loop: some 10 ms. */
const MENDED_AT_ONCE = 100;
/** Endpoints that are waited for and tried in one turn. */
const RETRIES = 100;
/** Frames that are sent at once to tell networks where their endpoints are: some 20 ms. */
const MOST_ANNOUNCED = 2000;

export class Endpoints {
  readonly #environment: EndpointsEnvironment;
  readonly #attachments: Attachments;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #byNetwork = new Map<string, Map<string, Endpoint>>();
  readonly #ports = new Set<number>();
  /** To be released, since their namespaces are gone: the store could not be written. */
  readonly #gone = new Set<string>();
  /** All of them by name; undefined since one changed. */
  #sorted: readonly Endpoint[] | undefined;

  constructor(environment: EndpointsEnvironment) {
    this.#environment = environment;
    this.#attachments = new Attachments(environment);
  }

  get size(): number {
    return this.#endpoints.size;
  }

  all(): readonly Endpoint[] {
    return (this.#sorted ??= byName(this.#endpoints.values()));
  }

  of(network: string): readonly Endpoint[] {
    return byName(this.#in(network));
  }

  /** How many are of this host. */
  get local(): number {
    return this.#ports.size;
  }

  /** What is wrong with the interfaces of this host's endpoints, as they were looked at last. */
  problems(): Record<string, string[]> {
    return this.#attachments.problems();
  }

  find(name: string): Endpoint | undefined {
    return this.#endpoints.get(name);
  }

  /** @throws WeftError('not_found') */
  get(name: string): Endpoint {
    const endpoint = this.#endpoints.get(name);
    if (!endpoint)
      throw new WeftError('not_found', `endpoint "${name}" does not exist: \`weft endpoints\` shows those that do`);
    return endpoint;
  }

  /** What attached endpoints publish: one entry a family that the endpoint has an address of. */
  published(): PublishedEndpointPort[] {
    const publishing = [...this.#endpoints.values()].filter(
      ({ resource, state }) => state === 'attached' && resource.spec.publish.length > 0,
    );
    return byName(publishing).flatMap(publishedBy);
  }

  portName(portNo: number): string | undefined {
    return this.#attachments.portName(portNo);
  }

  /** What tells whether a container of this host may send from an address, 16 bytes, in a network. */
  localAddresses(): (vni: Vni, ip: Uint8Array) => boolean {
    const known = new Set<string>();
    const withTrusted = new Set<number>();
    for (const { resource, addresses, local } of this.all()) {
      if (!local) continue;
      const { network, allowedAddresses, trust } = resource.spec;
      const { vni } = this.#environment.networks.get(network);
      for (const address of [...addresses, ...allowedAddresses]) known.add(`${vni} ${address}`);
      if (trust) withTrusted.add(vni);
    }
    return (vni, ip) => withTrusted.has(vni) || known.has(`${vni} ${formatIp(ip)}`);
  }

  byPort(portNo: number): Endpoint | undefined {
    const name = this.#attachments.portName(portNo);
    return name === undefined ? undefined : this.#endpoints.get(name);
  }

  /**
   * Puts what the store holds into force: opens the TAPs that are still in their containers, from when on traffic
   * passes, and releases endpoints whose container is gone. `mend` is to follow.
   */
  async load(): Promise<void> {
    const { store, bootId, warn } = this.#environment;
    for (const { value } of (await store.list(prefix)).entries) {
      const stored = value as EndpointRecord;
      // What was stored before a field existed gets its default.
      const record: EndpointRecord = { ...stored, resource: endpointSchema.parse(stored.resource) };
      const { name } = record.resource.metadata;
      const network = this.#environment.networks.get(record.resource.spec.network);
      for (const address of record.addresses) poolOf(network, address).take(name, address);
      const endpoint: Endpoint = { ...record, name, state: record.local ? 'detached' : 'remote' };
      this.#set(endpoint);
      if (!record.local) this.#environment.forwarding.addRemote(this.#remoteOf(endpoint));
    }
    const local = this.#local();
    const places = this.#attachments.locate(local);
    this.#reopen(
      local.flatMap((endpoint) => {
        const netns = places.get(endpoint.name);
        return netns ? [{ endpoint, netns }] : [];
      }),
    );
    const released = local.filter((endpoint) => !places.has(endpoint.name) && endpoint.local.bootId === bootId);
    for (const { name, local: was } of released) {
      warn('endpoint released: its namespace is gone', { endpoint: name, netns: was.netns.path });
    }
    await this.#release(released).catch((error: Error) => {
      warn('the leases of endpoints that are released stay until they can be', { error: error.message });
      for (const { name } of released) this.#gone.add(name);
    });
    this.#announce(this.#local().filter(({ state }) => state === 'attached'));
  }

  /** Compares all interfaces with what they were given, and mends them. */
  async mend(names?: readonly string[]): Promise<readonly Mended[]> {
    const left = (names === undefined ? this.all() : this.#local(names)).map(({ name }) => name);
    const results: Mended[] = [];
    while (left.length > 0) {
      const some = this.#local(left.splice(0, MENDED_AT_ONCE));
      results.push(...(await this.#remember(await this.#attachments.mend(some))));
    }
    return results;
  }

  /** The same without mending: what is wrong, by endpoint. */
  inspect(): Promise<Record<string, string[]>> {
    return this.#attachments.inspect(this.#local());
  }

  /** Of the endpoints of a network that has changed. */
  mendNetwork(network: string): Promise<readonly Mended[]> {
    return this.mend(this.of(network).map(({ name }) => name));
  }

  /**
   * To be called about once a second: what could not be opened or released is tried again, and some of the interfaces
   * are looked at, each in its turn. @returns true if one was opened
   */
  async renew(): Promise<boolean> {
    await this.#releaseGone();
    const waiting = [...this.#endpoints.values()].filter(isLocal).filter(({ state }) => state === 'waiting');
    const tried = this.#reopen(waiting.slice(0, RETRIES).map((endpoint) => ({ endpoint })));
    const opened = tried.filter(({ state }) => state === 'attached');
    if (opened.length > 0) {
      const names = opened.map(({ name }) => name);
      this.#announce(this.#local(names));
      await this.mend(names);
    }
    await this.#remember(await this.#attachments.mend(this.#local(this.#attachments.due()), { isPatient: true }));
    return opened.length > 0;
  }

  /** What applying would do: it looks, and changes nothing. @throws WeftError when it is not possible. */
  async plan(resource: EndpointResource): Promise<Plan> {
    const { metadata, spec } = resource;
    const known = this.#endpoints.get(metadata.name);
    // First what does not depend on other resources: in a dry run those may not exist yet.
    if (known) refuseOtherIdentity(known, resource);
    const netns = spec.host === undefined ? await this.#refuseHost(resource, known) : undefined;
    const network = this.#environment.networks.get(spec.network);
    if (known) {
      refusePublish(resource, network, known.addresses, () => this.all());
      const isSame = known.state !== 'detached' && isSameDeclaration(known, resource);
      return { action: isSame ? 'unchanged' : 'configured', netns };
    }
    for (const address of spec.addresses) poolOf(network, address).check(metadata.name, address);
    refuseTakenMac(this.#in(network.name), resource);
    if (spec.host !== undefined) this.#environment.hosts.get(spec.host);
    else refuseUnplannedAddresses(network, resource, (range) => this.#mayChoose(range));
    const served = this.#pools(network, resource).map(({ gateway }) => gateway);
    refusePublish(resource, network, served, () => this.all());
    return { action: 'created', netns };
  }

  /** Also mends the interface of an endpoint that is declared as it is. */
  async apply(resource: EndpointResource): Promise<Outcome> {
    const { action, netns } = await this.plan(resource);
    const known = this.#endpoints.get(resource.metadata.name);
    if (known && known.state !== 'detached') {
      if (isLocal(known) && known.state === 'waiting') this.#reopen([{ endpoint: known }]);
      const endpoint = action === 'unchanged' ? known : await this.#redeclare(known, resource);
      const mended = (await this.mend([endpoint.name])).some((one) => one.mended.length > 0);
      return { action: mended ? 'configured' : action, endpoint: this.get(endpoint.name) };
    }
    const endpoint = netns ? await this.#attach(resource, netns, known) : await this.#addRemote(resource);
    return { action, endpoint };
  }

  /** The network's MTU was `before`: the interfaces of its local endpoints get the one that it has now. */
  async changeMtu(network: string, before: number): Promise<void> {
    const { mtu } = this.#environment.networks.get(network);
    if (mtu !== before) await this.#attachments.changeMtu(this.of(network).filter(isLocal), { before, mtu });
  }

  /** Stops the port, removes the interface, and gives the addresses back. @throws WeftError; then the lease stays */
  async remove(name: string): Promise<void> {
    const endpoint = this.get(name);
    await this.#close(endpoint, { keep: false });
    try {
      await this.#release([endpoint]);
    } catch (error) {
      if (endpoint.local) this.#set({ ...endpoint, state: 'detached' });
      else this.#environment.forwarding.addRemote(this.#remoteOf(endpoint));
      throw error;
    }
  }

  /** The same for one whose namespace is gone, and its interface with it: where the lease stays, `renew` ends it. */
  async removeGone(name: string): Promise<void> {
    try {
      await this.remove(name);
    } catch (error) {
      if (this.#endpoints.has(name)) this.#gone.add(name);
      throw error;
    }
  }

  /** Its interface was deleted in the container: the lease stays, for the next attach. */
  async detach(portNo: number): Promise<void> {
    const endpoint = this.byPort(portNo);
    if (!endpoint) return;
    await this.#close(endpoint, { keep: true });
    this.#set({ ...endpoint, state: 'detached' });
  }

  /** Lets go of all TAPs; with `purge` they are removed, with their endpoints. Those of other hosts stay declared. */
  async close(options: { readonly purge: boolean }): Promise<void> {
    for (const endpoint of this.all()) {
      if (options.purge && isLocal(endpoint)) await this.remove(endpoint.name);
      else await this.#close(endpoint, { keep: true });
    }
  }

  report(endpoint: Endpoint): EndpointReport {
    const { resource, local } = endpoint;
    const { spec, metadata } = resource;
    const found = this.#attachments.find(endpoint.name);
    return {
      name: endpoint.name,
      namespace: metadata.namespace,
      labels: metadata.labels,
      network: spec.network,
      addresses: [...endpoint.addresses],
      mac: endpoint.mac,
      state: endpoint.state,
      host: spec.host ?? this.#environment.hostName,
      ...(local && {
        netns: found?.netns ?? local.netns.path,
        interface: found?.ifname ?? spec.interface,
        mtu: this.#environment.networks.get(spec.network).mtu,
        ...(endpoint.state === 'attached' && { port: local.portNo }),
        ...(found && found.problems.length > 0 && { problems: [...found.problems] }),
      }),
      trust: spec.trust,
      publish: spec.publish.map(({ hostIP, ...one }) => ({ ...one, ...(hostIP !== undefined && { hostIP }) })),
      ...(spec.rateLimit && { rateLimit: spec.rateLimit }),
    };
  }

  async #attach(resource: EndpointResource, netns: NetnsRef, known: Endpoint | undefined): Promise<Endpoint> {
    const { networks, bootId } = this.#environment;
    const { name } = resource.metadata;
    const network = networks.get(resource.spec.network);
    const addresses = known?.addresses ?? this.#takeAddresses(network, resource);
    const endpoint: LocalEndpoint = {
      resource,
      name,
      addresses,
      mac: known?.mac ?? resource.spec.mac ?? this.#freeMac(network, name),
      local: {
        portNo: this.#freePort(),
        netns: { path: netns.path, dev: String(netns.dev), ino: String(netns.ino) },
        bootId,
      },
      state: 'detached',
    };
    try {
      await this.#put(endpoint);
      const ifindex = this.#attachments.make(endpoint, netns);
      const made: LocalEndpoint = { ...endpoint, local: { ...endpoint.local, ifindex } };
      const given = await this.#attachments.give(made);
      const attached: LocalEndpoint = { ...made, local: { ...made.local, given }, state: 'attached' };
      await this.#put(attached);
      this.#environment.forwarding.announce(attached.local.portNo as PortNo);
      return attached;
    } catch (error) {
      await this.#close(endpoint, { keep: false });
      if (known) await this.#put(known).catch(() => {});
      else await this.#release([endpoint]).catch(() => this.#giveBack(endpoint));
      throw error;
    }
  }

  #reopen(places: readonly { readonly endpoint: LocalEndpoint; readonly netns?: NetnsRef }[]): Endpoint[] {
    const results = this.#attachments.reopen(places);
    return places.map(({ endpoint }, at) => {
      const reopened = results[at]!;
      if (reopened.state !== 'attached' && reopened.state !== endpoint.state) {
        this.#environment.warn('endpoint not re-attached', { endpoint: endpoint.name, error: reopened.why });
      }
      const { ifindex } = reopened.state === 'attached' ? reopened : endpoint.local;
      const local = { ...endpoint.local, ...(ifindex !== undefined && { ifindex }) };
      const known: Endpoint = { ...endpoint, local, state: reopened.state };
      this.#set(known);
      return known;
    });
  }

  /**
   * Neighbors that asked in vain meanwhile would wait up to a second before they ask again. What is announced is
   * flooded, and in a large network that is more than it is worth.
   */
  #announce(endpoints: readonly LocalEndpoint[]): void {
    let copies = 0;
    for (const { local, resource } of endpoints) {
      copies += this.#byNetwork.get(resource.spec.network)?.size ?? 0;
      if (copies > MOST_ANNOUNCED) return;
      this.#environment.forwarding.announce(local.portNo as PortNo);
    }
  }

  /** Those of this host, in the order of their names. */
  #local(names?: readonly string[]): LocalEndpoint[] {
    const endpoints = names?.flatMap((name) => this.#endpoints.get(name) ?? []) ?? this.all();
    return endpoints.filter(isLocal);
  }

  /** What was given is stored where it is news. */
  async #remember(results: readonly Mended[]): Promise<readonly Mended[]> {
    const news = results.flatMap(({ endpoint: { name }, given }) => {
      const known = this.#endpoints.get(name);
      if (!known?.local || isDeepStrictEqual(known.local.given, given)) return [];
      return [{ ...known, local: { ...known.local, given } }];
    });
    if (news.length > 0) {
      const put = news.map((endpoint) => ({ key: prefix + endpoint.name, value: recordOf(endpoint) }));
      try {
        await this.#environment.store.transact({ put });
      } catch (error) {
        // At the next look it is news again.
        this.#environment.warn('what interfaces were given is not stored', { error: (error as Error).message });
        return results;
      }
    }
    for (const endpoint of news) this.#set(endpoint);
    return results;
  }

  async #close(endpoint: Endpoint, options: { readonly keep: boolean }): Promise<void> {
    if (isLocal(endpoint)) await this.#attachments.close(endpoint, options);
    else this.#environment.forwarding.removeRemote(this.#remoteOf(endpoint));
  }

  async #release(endpoints: readonly Endpoint[]): Promise<void> {
    if (endpoints.length === 0) return;
    await this.#environment.store.transact({ delete: endpoints.map(({ name }) => prefix + name) });
    for (const endpoint of endpoints) {
      this.#forget(endpoint);
      this.#giveBack(endpoint);
    }
  }

  async #releaseGone(): Promise<void> {
    for (const name of this.#gone) {
      const endpoint = this.#endpoints.get(name);
      // Somebody may have attached it anew, or detached it.
      if (endpoint?.state === 'detached') {
        try {
          await this.#release([endpoint]);
        } catch {
          return; // as it was told when it failed first
        }
      }
      this.#gone.delete(name);
    }
  }

  /** The addresses of an endpoint that the store does not have: one that it could not be told of, or released. */
  #giveBack({ name, resource, addresses }: Endpoint): void {
    if (this.#endpoints.has(name)) return;
    const network = this.#environment.networks.get(resource.spec.network);
    for (const address of addresses) poolOf(network, address).release(address);
  }

  async #put(endpoint: Endpoint): Promise<void> {
    await this.#environment.store.transact({ put: [{ key: prefix + endpoint.name, value: recordOf(endpoint) }] });
    this.#set(endpoint);
  }

  #set(endpoint: Endpoint): void {
    const { name, resource, local } = endpoint;
    const before = this.#endpoints.get(name);
    if (before) this.#forget(before);
    this.#endpoints.set(name, endpoint);
    const { network } = resource.spec;
    const others = this.#byNetwork.get(network);
    if (others) others.set(name, endpoint);
    else this.#byNetwork.set(network, new Map([[name, endpoint]]));
    if (local) this.#ports.add(local.portNo);
    this.#sorted = undefined;
  }

  /** As `of`, in no order. */
  #in(network: string): Iterable<Endpoint> {
    return this.#byNetwork.get(network)?.values() ?? [];
  }

  #forget({ name, resource, local }: Endpoint): void {
    this.#endpoints.delete(name);
    const others = this.#byNetwork.get(resource.spec.network);
    others?.delete(name);
    if (others?.size === 0) this.#byNetwork.delete(resource.spec.network);
    if (local) this.#ports.delete(local.portNo);
    this.#sorted = undefined;
  }

  async #addRemote(resource: EndpointResource): Promise<Endpoint> {
    const { forwarding, networks } = this.#environment;
    const { name } = resource.metadata;
    const network = networks.get(resource.spec.network);
    const addresses = this.#takeAddresses(network, resource);
    const endpoint: Endpoint = { resource, name, addresses, mac: resource.spec.mac!, state: 'remote' };
    try {
      await this.#put(endpoint);
    } catch (error) {
      this.#giveBack(endpoint);
      throw error;
    }
    forwarding.addRemote(this.#remoteOf(endpoint));
    return endpoint;
  }

  /** The same endpoint with other labels, allowed addresses or EtherTypes, published ports, trust or rate limit. */
  async #redeclare(known: Endpoint, resource: EndpointResource): Promise<Endpoint> {
    const endpoint: Endpoint = { ...known, resource };
    await this.#put(endpoint);
    if (isLocal(endpoint)) {
      const isLimitSame = isDeepStrictEqual(known.resource.spec.rateLimit, resource.spec.rateLimit);
      this.#attachments.change(endpoint, { isLimitSame });
    } else {
      this.#environment.forwarding.addRemote(this.#remoteOf(endpoint));
    }
    return endpoint;
  }

  /** The declared addresses, and one of each other subnet that weft may choose from. */
  #takeAddresses(network: Network, resource: EndpointResource): string[] {
    const { name } = resource.metadata;
    const { addresses: requested, host } = resource.spec;
    const taken: string[] = [];
    try {
      for (const address of requested) taken.push(poolOf(network, address).take(name, address));
      for (const pool of host === undefined ? this.#pools(network, resource) : []) {
        if (!requested.some((address) => pool.contains(address))) taken.push(pool.take(name));
      }
    } catch (error) {
      for (const address of taken) poolOf(network, address).release(address);
      throw error;
    }
    return taken;
  }

  /** The pools that a new local endpoint has an address of. */
  #pools(network: Network, { spec }: EndpointResource): Network['pools'] {
    return network.pools.filter(
      (pool) => spec.addresses.some((address) => pool.contains(address)) || this.#mayChoose(pool.range),
    );
  }

  #mayChoose(range: string | undefined): boolean {
    return range !== undefined || !this.#environment.hasStaticPeers();
  }

  #freeMac(network: Network, name: string): string {
    const taken = new Set([...this.#in(network.name)].map((endpoint) => endpoint.mac));
    for (let attempt = 0; ; attempt++) {
      const mac = generateMac(network.name, name, this.#environment.identity, attempt);
      if (!taken.has(mac) && !isReservedMac(parseMac(mac))) return mac;
    }
  }

  #freePort(): number {
    let portNo = FIRST_PORT;
    while (this.#ports.has(portNo)) portNo++;
    return portNo;
  }

  /** What on this host is in the way of a local endpoint. @returns the namespace that it is or will be in */
  async #refuseHost(resource: EndpointResource, known: Endpoint | undefined): Promise<NetnsRef> {
    const { metadata, spec } = resource;
    refuseListeners(resource, known?.resource.spec.publish);
    const netns = await resolveNetns(spec.pid === undefined ? { netns: spec.netns! } : { pid: spec.pid });
    if (known?.local && known.state !== 'detached') {
      const at = known.local.netns;
      if (at.dev !== String(netns.dev) || at.ino !== String(netns.ino)) {
        throw new WeftError('conflict', `endpoint "${known.name}" is attached in ${at.path} already: detach it first`);
      }
      return netns;
    }
    const [facts] = await readNamespaces(this.#environment.exchange, [netns]);
    if (facts instanceof WeftError) throw facts;
    if (facts!.links.some(({ ifname }) => ifname === spec.interface)) {
      throw new WeftError(
        'conflict',
        `endpoint "${metadata.name}": interface "${spec.interface}" exists in ${netns.path} already: choose another with --ifname`,
      );
    }
    return netns;
  }

  #remoteOf(endpoint: Endpoint) {
    const { hosts, networks } = this.#environment;
    const { spec } = endpoint.resource;
    return {
      vni: networks.get(spec.network).vni as Vni,
      mac: parseMac(endpoint.mac),
      addresses: endpoint.addresses.map(parseIp),
      vtep: parseIp(hosts.get(spec.host!).spec.underlay),
      trust: spec.trust,
    };
  }
}

function byName(endpoints: Iterable<Endpoint>): Endpoint[] {
  return [...endpoints].sort((a, b) => compareNames(a.name, b.name));
}
