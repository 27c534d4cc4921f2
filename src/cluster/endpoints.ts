/**
 * Endpoints: the interfaces of containers on networks.
 *
 * An endpoint's record (its addresses, MAC, port number and namespace) is
 * written to the store before anything is set up and removed after all is torn
 * down, so a crash in between leaves nothing that the next start does not mend.
 *
 * A record names its namespace by path, device and inode. When the namespace is
 * gone, the container is, and the endpoint is released; only after a reboot is
 * the lease kept (`detached`), for the container that comes back under its name.
 *
 * Callers serialize the changing methods.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { formatIp, parseIp, parseMac, type PortNo, type Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { configureInterface, interfaceExists } from '../link/interface.ts';
import { isSameNetns, resolveNetns, type NetnsRef } from '../link/netns.ts';
import type { NetnsWatcher } from '../link/netns-watcher.ts';
import { compareNames } from '../model/name-order.ts';
import type { EndpointReport } from '../model/report.ts';
import { burstBytes, defaultBurstBytes, rateBytes } from '../model/rate.ts';
import { endpointSchema, type EndpointResource, type RateLimitSpec } from '../model/resource.ts';
import type { Store } from '../store/store.ts';
import { isReservedMac, reservedMacsText } from '../table/topology.ts';
import type { Hosts } from './hosts.ts';
import { generateMac } from './ipam.ts';
import type { Network, Networks } from './networks.ts';
import { publishedBy, refuseListeners, refusePublish, type PublishedEndpointPort } from './publishing.ts';

export interface EndpointRecord {
  readonly resource: EndpointResource;
  readonly addresses: readonly string[];
  readonly mac: string;
  /** Of local endpoints. */
  readonly local?: {
    readonly portNo: number;
    readonly netns: { readonly path: string; readonly dev: string; readonly ino: string };
    /** The boot in which it was attached. */
    readonly bootId: string;
  };
}

export interface Endpoint extends EndpointRecord {
  readonly name: string;
  readonly state: EndpointReport['state'];
}

export interface EndpointsEnvironment {
  readonly store: Store;
  readonly forwarding: Forwarding;
  readonly networks: Networks;
  readonly hosts: Hosts;
  readonly watcher: NetnsWatcher;
  readonly hostName: string;
  /** Of this host, from which the MACs of its endpoints are made. */
  readonly identity: Uint8Array;
  readonly bootId: string;
  /** Are there peers without a store between us? Then addresses are not ours to choose. */
  readonly hasStaticPeers: () => boolean;
  /** The namespace of an attached endpoint is gone. */
  readonly onNamespaceGone: (name: string) => void;
  readonly warn: (message: string, details: object) => void;
}

type Action = 'created' | 'configured' | 'unchanged';
/** `netns`: of a local endpoint. */
type Plan = { readonly action: Action; readonly netns: NetnsRef | undefined };
type Outcome = { readonly action: Action; readonly endpoint: Endpoint };

const prefix = 'endpoints/';
/** 1 is the underlay's. */
const FIRST_PORT = 3;

export class Endpoints {
  readonly #environment: EndpointsEnvironment;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #portNames = new Map<number, string>();
  readonly #watched = new Map<number, NetnsRef>();

  constructor(environment: EndpointsEnvironment) {
    this.#environment = environment;
  }

  all(): Endpoint[] {
    return [...this.#endpoints.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  of(network: string): Endpoint[] {
    return this.all().filter((endpoint) => endpoint.resource.spec.network === network);
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
    return this.all().flatMap((endpoint) => (endpoint.state === 'attached' ? publishedBy(endpoint) : []));
  }

  portName(portNo: number): string | undefined {
    return this.#portNames.get(portNo);
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
    const name = this.#portNames.get(portNo);
    return name === undefined ? undefined : this.#endpoints.get(name);
  }

  /**
   * Puts what the store holds into force: re-attaches the TAPs that are still in
   * their containers, and releases endpoints whose container is gone.
   */
  async load(): Promise<void> {
    const { store, bootId, warn } = this.#environment;
    const opened: { endpoint: Endpoint; netns: NetnsRef }[] = [];
    for (const { value } of await store.list(prefix)) {
      const stored = value as EndpointRecord;
      // What was stored before a field existed gets its default.
      const record: EndpointRecord = { ...stored, resource: endpointSchema.parse(stored.resource) };
      const { name } = record.resource.metadata;
      const network = this.#environment.networks.get(record.resource.spec.network);
      for (const address of record.addresses) poolOf(network, address).take(name, address);
      const endpoint: Endpoint = { ...record, name, state: record.local ? 'detached' : 'remote' };
      this.#endpoints.set(name, endpoint);
      if (!record.local) {
        this.#environment.forwarding.addRemote(this.#remoteOf(endpoint));
        continue;
      }
      const netns = netnsOf(record.local);
      if (isSameNetns(netns)) {
        try {
          opened.push({ endpoint: this.#open(endpoint, netns, false), netns });
        } catch (error) {
          warn('endpoint not re-attached', { endpoint: name, error: String(error) });
        }
      } else if (record.local.bootId === bootId) {
        warn('endpoint released: its namespace is gone', { endpoint: name, netns: netns.path });
        await this.#release(endpoint);
      }
    }
    // Traffic passes again from here on. Neighbors that asked in vain meanwhile would wait up to
    // a second before they ask again.
    for (const { endpoint } of opened) this.#environment.forwarding.announce(endpoint.local!.portNo as PortNo);
    // What follows only mends what was changed meanwhile.
    for (const { endpoint, netns } of opened) {
      await this.#configure(endpoint, netns).catch((error: unknown) => {
        warn('interface not configured', { endpoint: endpoint.name, error: String(error) });
      });
    }
  }

  /** What applying would do: it looks, and changes nothing. @throws WeftError when it is not possible. */
  async plan(resource: EndpointResource): Promise<Plan> {
    const { metadata, spec } = resource;
    const known = this.#endpoints.get(metadata.name);
    // First what does not depend on other resources: in a dry run those may not exist yet.
    if (known) refuseOtherIdentity(known, resource);
    const netns = spec.host === undefined ? await refuseHost(resource, known) : undefined;
    const network = this.#environment.networks.get(spec.network);
    if (known) {
      refusePublish(resource, network, known.addresses, this.all());
      const isSame = known.state !== 'detached' && isSameDeclaration(known, resource);
      return { action: isSame ? 'unchanged' : 'configured', netns };
    }
    for (const address of spec.addresses) poolOf(network, address).check(metadata.name, address);
    this.#refuseTakenMac(network, resource);
    if (spec.host !== undefined) this.#environment.hosts.get(spec.host);
    else this.#refuseUnplannedAddresses(network, resource);
    const served = this.#pools(network, resource).map(({ gateway }) => gateway);
    refusePublish(resource, network, served, this.all());
    return { action: 'created', netns };
  }

  async apply(resource: EndpointResource): Promise<Outcome> {
    const { action, netns } = await this.plan(resource);
    const known = this.#endpoints.get(resource.metadata.name);
    if (known && action === 'unchanged') return { action, endpoint: known };
    if (known && known.state !== 'detached') return { action, endpoint: await this.#redeclare(known, resource) };
    const endpoint = netns ? await this.#attach(resource, netns, known) : await this.#addRemote(resource);
    return { action, endpoint };
  }

  /** Stops the port, removes the interface, and gives the addresses back. */
  async remove(name: string): Promise<void> {
    const endpoint = this.get(name);
    this.#close(endpoint, { keep: false });
    await this.#release(endpoint);
  }

  /** Its interface was deleted in the container: the lease stays, for the next attach. */
  detach(portNo: number): void {
    const endpoint = this.byPort(portNo);
    if (!endpoint) return;
    this.#close(endpoint, { keep: true });
    this.#endpoints.set(endpoint.name, { ...endpoint, state: 'detached' });
  }

  /** Lets go of all TAPs; with `purge` they are removed from the containers, and the endpoints with them. */
  async close(options: { readonly purge: boolean }): Promise<void> {
    for (const endpoint of this.all()) {
      if (options.purge) await this.remove(endpoint.name);
      else this.#close(endpoint, { keep: true });
    }
  }

  report(endpoint: Endpoint): EndpointReport {
    const { resource, local } = endpoint;
    const { spec, metadata } = resource;
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
        netns: local.netns.path,
        interface: spec.interface,
        mtu: this.#environment.networks.get(spec.network).mtu,
        ...(endpoint.state === 'attached' && { port: local.portNo }),
      }),
      trust: spec.trust,
      publish: spec.publish.map(({ hostIP, ...one }) => ({ ...one, ...(hostIP !== undefined && { hostIP }) })),
      ...(spec.rateLimit && { rateLimit: spec.rateLimit }),
    };
  }

  async #attach(resource: EndpointResource, netns: NetnsRef, known: Endpoint | undefined): Promise<Endpoint> {
    const { store, networks, bootId } = this.#environment;
    const { name } = resource.metadata;
    const network = networks.get(resource.spec.network);
    const addresses = known?.addresses ?? this.#takeAddresses(network, resource);
    const endpoint: Endpoint = {
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
      await store.transact({ put: [{ key: prefix + name, value: recordOf(endpoint) }] });
      this.#endpoints.set(name, endpoint);
      const attached = this.#open(endpoint, netns, true);
      await this.#configure(attached, netns);
      this.#environment.forwarding.announce(attached.local!.portNo as PortNo);
      return attached;
    } catch (error) {
      this.#close(endpoint, { keep: false });
      if (known) {
        await store.transact({ put: [{ key: prefix + name, value: recordOf(known) }] });
        this.#endpoints.set(name, known);
      } else {
        await this.#release(endpoint);
      }
      throw error;
    }
  }

  /** @param isNew false: its interface is expected to be there; then another one is not made in its place */
  #open(endpoint: Endpoint, netns: NetnsRef, isNew: boolean): Endpoint {
    const { forwarding, watcher, onNamespaceGone } = this.#environment;
    const portNo = endpoint.local!.portNo as PortNo;
    const opened = forwarding.addPort(this.#accessPort(endpoint), tapSpec(endpoint));
    // A path can come to lead to another namespace, and an inode number to name one.
    const isElsewhere = opened !== undefined && (opened.dev !== netns.dev || opened.ino !== netns.ino);
    if (isElsewhere || opened?.created !== isNew) {
      forwarding.removePort(portNo, { keep: opened?.created === false });
      const why = isElsewhere
        ? 'leads to another network namespace now'
        : isNew
          ? 'has the interface already'
          : 'has lost the interface';
      throw new WeftError('conflict', `endpoint "${endpoint.name}": ${netns.path} ${why}`);
    }
    this.#portNames.set(portNo, endpoint.name);
    this.#watched.set(portNo, netns);
    watcher.watch(netns, () => onNamespaceGone(endpoint.name));
    const attached: Endpoint = { ...endpoint, state: 'attached' };
    this.#endpoints.set(endpoint.name, attached);
    return attached;
  }

  async #configure(endpoint: Endpoint, netns: NetnsRef): Promise<void> {
    const { spec } = endpoint.resource;
    const network = this.#environment.networks.get(spec.network);
    await configureInterface(netns, {
      ifname: spec.interface,
      mac: endpoint.mac,
      mtu: network.mtu,
      addresses: endpoint.addresses.map((ip) => ({ ip, prefixLength: poolOf(network, ip).prefixLength })),
      gateways: network.pools
        .filter((pool) => endpoint.addresses.some((ip) => pool.contains(ip)))
        .map((pool) => pool.gateway),
    });
  }

  #close(endpoint: Endpoint, options: { readonly keep: boolean }): void {
    const { forwarding, watcher } = this.#environment;
    if (!endpoint.local) {
      forwarding.removeRemote(this.#remoteOf(endpoint));
      return;
    }
    const { portNo } = endpoint.local;
    const netns = this.#watched.get(portNo);
    if (this.#portNames.get(portNo) !== endpoint.name || !netns) return;
    watcher.unwatch(netns);
    this.#watched.delete(portNo);
    forwarding.removePort(portNo as PortNo, options);
    this.#portNames.delete(portNo);
  }

  async #release(endpoint: Endpoint): Promise<void> {
    const { store, networks } = this.#environment;
    await store.transact({ delete: [prefix + endpoint.name] });
    const network = networks.get(endpoint.resource.spec.network);
    for (const address of endpoint.addresses) poolOf(network, address).release(address);
    this.#endpoints.delete(endpoint.name);
  }

  async #addRemote(resource: EndpointResource): Promise<Endpoint> {
    const { store, forwarding, networks } = this.#environment;
    const { name } = resource.metadata;
    const network = networks.get(resource.spec.network);
    const addresses = this.#takeAddresses(network, resource);
    const endpoint: Endpoint = { resource, name, addresses, mac: resource.spec.mac!, state: 'remote' };
    await store.transact({ put: [{ key: prefix + name, value: recordOf(endpoint) }] });
    this.#endpoints.set(name, endpoint);
    forwarding.addRemote(this.#remoteOf(endpoint));
    return endpoint;
  }

  /** The same endpoint with other labels, allowed addresses, published ports, trust or rate limit. */
  async #redeclare(known: Endpoint, resource: EndpointResource): Promise<Endpoint> {
    const endpoint: Endpoint = { ...known, resource };
    await this.#environment.store.transact({ put: [{ key: prefix + known.name, value: recordOf(endpoint) }] });
    this.#endpoints.set(known.name, endpoint);
    if (endpoint.local) {
      const { forwarding } = this.#environment;
      const isLimitSame = isDeepStrictEqual(known.resource.spec.rateLimit, resource.spec.rateLimit);
      if (!isLimitSame) forwarding.limitPort(endpoint.local.portNo as PortNo, tapSpec(endpoint));
      forwarding.changePort(this.#accessPort(endpoint));
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

  #refuseUnplannedAddresses(network: Network, resource: EndpointResource): void {
    if (resource.spec.addresses.length > 0 || network.pools.every((pool) => this.#mayChoose(pool.range))) return;
    throw new WeftError(
      'invalid',
      `endpoint "${resource.metadata.name}": ip is missing: with static peers give --ip, or the network a --range that is this host’s own share of ${network.pools.map((pool) => pool.subnet).join(' and ')}`,
    );
  }

  #refuseTakenMac(network: Network, resource: EndpointResource): void {
    const { mac } = resource.spec;
    if (mac !== undefined && isReservedMac(parseMac(mac))) {
      throw new WeftError(
        'invalid',
        `endpoint "${resource.metadata.name}": mac ${mac} is one of weft’s own (${reservedMacsText}): choose another`,
      );
    }
    const owner = mac && this.of(network.name).find((endpoint) => endpoint.mac === mac);
    if (owner) {
      throw new WeftError(
        'conflict',
        `endpoint "${resource.metadata.name}": mac ${mac} is taken by endpoint "${owner.name}"`,
      );
    }
  }

  #freeMac(network: Network, name: string): string {
    const taken = new Set(this.of(network.name).map((endpoint) => endpoint.mac));
    for (let attempt = 0; ; attempt++) {
      const mac = generateMac(network.name, name, this.#environment.identity, attempt);
      if (!taken.has(mac) && !isReservedMac(parseMac(mac))) return mac;
    }
  }

  #freePort(): number {
    let portNo = FIRST_PORT;
    const reserved = new Set([...this.#endpoints.values()].map((endpoint) => endpoint.local?.portNo));
    while (reserved.has(portNo)) portNo++;
    return portNo;
  }

  #accessPort(endpoint: Endpoint) {
    const { spec } = endpoint.resource;
    return {
      portNo: endpoint.local!.portNo as PortNo,
      name: endpoint.name,
      vni: this.#environment.networks.get(spec.network).vni as Vni,
      mac: parseMac(endpoint.mac),
      addresses: endpoint.addresses.map(parseIp),
      allowedAddresses: spec.allowedAddresses.map(parseIp),
      trust: spec.trust,
    };
  }

  #remoteOf(endpoint: Endpoint) {
    const { hosts, networks } = this.#environment;
    const { spec } = endpoint.resource;
    return {
      vni: networks.get(spec.network).vni as Vni,
      mac: parseMac(endpoint.mac),
      addresses: endpoint.addresses.map(parseIp),
      vtep: parseIp(hosts.get(spec.host!).spec.underlay),
    };
  }
}

/** The pool that `address` belongs to. @throws WeftError('invalid') when it is outside the network's subnets. */
function poolOf(network: Network, address: string) {
  const pool = network.pools.find((candidate) => candidate.contains(address));
  if (!pool) {
    const subnets = network.pools.map((candidate) => candidate.subnet).join(', ');
    throw new WeftError('invalid', `ip ${address} is outside the subnets of network "${network.name}" (${subnets})`);
  }
  return pool;
}

/** Its port, for the datapath. */
function tapSpec({ name, resource, local }: Endpoint) {
  const { interface: ifname, rateLimit } = resource.spec;
  const spec = { kind: 'tap', name, netns: local!.netns.path, ifname } as const;
  return rateLimit ? { ...spec, limits: limitsOf(rateLimit) } : spec;
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

function netnsOf({ netns }: NonNullable<EndpointRecord['local']>): NetnsRef {
  return { path: netns.path, dev: BigInt(netns.dev), ino: BigInt(netns.ino) };
}

function recordOf({ resource, addresses, mac, local }: Endpoint): EndpointRecord {
  return { resource, addresses, mac, ...(local && { local }) };
}

/** What on this host is in the way of a local endpoint. @returns the namespace that it is or will be in */
async function refuseHost(resource: EndpointResource, known: Endpoint | undefined): Promise<NetnsRef> {
  const { metadata, spec } = resource;
  refuseListeners(resource, known?.resource.spec.publish);
  const netns = await resolveNetns(spec.pid === undefined ? { netns: spec.netns! } : { pid: spec.pid });
  if (known?.state === 'attached') {
    const at = known.local!.netns;
    if (at.dev !== String(netns.dev) || at.ino !== String(netns.ino)) {
      throw new WeftError('conflict', `endpoint "${known.name}" is attached in ${at.path} already: detach it first`);
    }
  } else if (await interfaceExists(netns, spec.interface)) {
    throw new WeftError(
      'conflict',
      `endpoint "${metadata.name}": interface "${spec.interface}" exists in ${netns.path} already: choose another with --ifname`,
    );
  }
  return netns;
}

/** What makes an endpoint that endpoint cannot change. */
function refuseOtherIdentity(known: Endpoint, { metadata, spec }: EndpointResource): void {
  const was = known.resource.spec;
  const differs = (field: string, is: string, given: string): never => {
    throw new WeftError(
      'conflict',
      `endpoint "${metadata.name}" exists with ${field} ${is}, not ${given}: detach it first`,
    );
  };
  if (spec.network !== was.network) differs('network', was.network, spec.network);
  if (spec.host !== was.host) differs('host', was.host ?? 'this one', spec.host ?? 'this one');
  if (spec.mac !== undefined && spec.mac !== known.mac) differs('mac', known.mac, spec.mac);
  if (spec.host === undefined && spec.interface !== was.interface) differs('ifname', was.interface, spec.interface);
  const missing = spec.addresses.filter((address) => !known.addresses.includes(address));
  if (missing.length > 0) differs('ip', known.addresses.join(','), missing.join(','));
}

function isSameDeclaration(known: Endpoint, { metadata, spec }: EndpointResource): boolean {
  const was = known.resource;
  return (
    JSON.stringify(was.metadata) === JSON.stringify(metadata) &&
    was.spec.trust === spec.trust &&
    JSON.stringify(was.spec.publish) === JSON.stringify(spec.publish) &&
    isDeepStrictEqual(was.spec.rateLimit, spec.rateLimit) &&
    was.spec.allowedAddresses.join() === spec.allowedAddresses.join()
  );
}
