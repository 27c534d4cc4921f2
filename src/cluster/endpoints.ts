/**
 * Endpoints: the interfaces of containers on networks, put into force.
 *
 *   put    declaration → where it is (`local-records.ts`) → its interface
 *   place  opens the interfaces that exist, many at once, and creates those that do not
 *   renew  tries again what waits, and checks some of the interfaces
 *
 * An endpoint that cannot be put into force now stays declared: it waits, and `failure` and
 * `problems` say why. Its record is stored before anything is set up and removed before anything is
 * torn down, so the next start can repair whatever a crash in between leaves behind. Interfaces are
 * in `attachments.ts`, plans in `endpoint-plan.ts`.
 *
 * When the namespace of an endpoint is gone, its container is gone too, and the endpoint is
 * released. Only after a reboot is its lease kept (`detached`), for the container that comes back
 * under the same name.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { resolveNetns, type NetnsRef } from '../link/netns.ts';
import { endpointAllotted, type EndpointResource } from '../model/kinds/endpoint.ts';
import type { EndpointReport } from '../model/report.ts';
import type { Resource } from '../model/resource.ts';
import { validate } from '../model/validate.ts';
import type { Store } from '../store/store.ts';
import { inTurns } from '../turns.ts';
import { Attachments, type Attached, type AttachmentsEnvironment, type Mended } from './attachments.ts';
import { byName, EndpointIndex } from './endpoint-index.ts';
import { EndpointPlan } from './endpoint-plan.ts';
import {
  declaredNetns,
  isAttachedAnew,
  isElsewhere,
  isHere,
  isLocal,
  isSameIdentity,
  poolOf,
  type Endpoint,
  type EndpointRecord,
  type LocalEndpoint,
  type LocalRecord,
} from './endpoint.ts';
import { endpointReport, shownEndpoint } from './endpoint-report.ts';
import { goneAddresses } from './gone-addresses.ts';
import type { Hosts } from './hosts.ts';
import { LocalRecords } from './local-records.ts';
import { publishedBy, type PublishedEndpointPort } from './publishing.ts';
import type { Declared, Draft, Planned, Reconciler, Stored } from './reconciler.ts';
import { Releases } from './releases.ts';
import { RemoteEndpoints } from './remote-endpoints.ts';

export interface EndpointsEnvironment extends AttachmentsEnvironment {
  readonly store: Store;
  /** The store of this host alone. */
  readonly own: Store;
  readonly forwarding: Forwarding;
  readonly hosts: Hosts;
  readonly hostName: string;
  /** True if other hosts share the store. */
  readonly isShared: boolean;
  /** True if a host of the store is known not to run. */
  readonly isDown: (host: string) => boolean;
  /** The identity of this host, from which the MACs of its endpoints are derived. */
  readonly identity: Uint8Array;
  readonly bootId: string;
  /** True if there are peers that do not share the store. Then weft must not choose addresses. */
  readonly hasStaticPeers: (draft: Draft) => boolean;
}

/** How many interfaces are compared in one turn of the event loop; takes about 10 ms. */
const MENDED_AT_ONCE = 100;
/** How many endpoints, most of which are other hosts', are entered in one turn; takes some milliseconds. */
const CLAIMED_PER_TURN = 32;
/** How many waiting endpoints are tried in one turn. */
const RETRIES = 100;
/** How many frames may be sent at once to announce endpoints to their networks; takes about 20 ms. */
const MOST_ANNOUNCED = 2000;
/** What is wrong with a detached endpoint, and how to fix it. */
const DETACHED = 'its interface is not there any more: attach it again';

export class Endpoints implements Reconciler {
  readonly #environment: EndpointsEnvironment;
  readonly #attachments: Attachments;
  readonly #index: EndpointIndex;
  readonly #records: LocalRecords;
  /** Why an endpoint waits, or what it has lacked since it was created. */
  readonly #failures = new Map<string, WeftError>();
  readonly #releases: Releases;
  readonly #remotes: RemoteEndpoints;
  /** An interface that exists while the start is under way was created before a crash. */
  #isStarting = true;

  constructor(environment: EndpointsEnvironment) {
    this.#environment = environment;
    this.#index = new EndpointIndex(environment);
    this.#attachments = new Attachments(environment);
    this.#records = new LocalRecords(environment.own);
    this.#remotes = new RemoteEndpoints(environment);
    this.#releases = new Releases({ ...environment, index: this.#index });
  }

  get size(): number {
    return this.#index.size;
  }

  all(): readonly Endpoint[] {
    return this.#index.all();
  }

  of(network: string): readonly Endpoint[] {
    return byName(this.#index.in(network));
  }

  /** The number of endpoints of this host. */
  get local(): number {
    return this.#index.ports;
  }

  find(name: string): Endpoint | undefined {
    return this.#index.find(name);
  }

  get(name: string): Endpoint {
    const endpoint = this.#index.find(name);
    if (!endpoint)
      throw new WeftError('not_found', `endpoint "${name}" does not exist: \`weft endpoints\` shows those that do`);
    return endpoint;
  }

  shown(declared: Declared): Resource {
    return shownEndpoint(declared as Endpoint);
  }

  failure(name: string): WeftError | undefined {
    return this.#failures.get(name);
  }

  /** What the last check found wrong with interfaces of this host, and why other endpoints wait. */
  problems(): Record<string, string[]> {
    const found = this.#attachments.problems();
    const others = [...this.#failures].filter(([name]) => !Object.hasOwn(found, name));
    return { ...Object.fromEntries(others.map(([name, { message }]) => [name, [message]])), ...found };
  }

  /** What attached endpoints publish: one entry for each family in which the endpoint has an address. */
  published(): PublishedEndpointPort[] {
    const publishing = [...this.#index.values()].filter(
      ({ resource, state }) => state === 'attached' && resource.spec.publish.length > 0,
    );
    return byName(publishing).flatMap(publishedBy);
  }

  portName(portNo: number): string | undefined {
    return this.#attachments.portName(portNo);
  }

  byPort(portNo: number): Endpoint | undefined {
    const name = this.#attachments.portName(portNo);
    return name === undefined ? undefined : this.#index.find(name);
  }

  report(endpoint: Endpoint): EndpointReport {
    const { networks, hostName } = this.#environment;
    const found = this.#attachments.find(endpoint.name);
    const failure =
      this.#failures.get(endpoint.name)?.message ?? (endpoint.state === 'detached' ? DETACHED : undefined);
    const problems = found?.problems ?? [];
    return endpointReport(endpoint, {
      hostName,
      mtu: networks.find(endpoint.resource.spec.network)?.mtu,
      ...found,
      problems: problems.length > 0 || failure === undefined ? problems : [failure],
    });
  }

  /** Returns a function that tells whether no container of this host may send from a 16-byte address in a network. */
  isGone(): (vni: Vni, ip: Uint8Array) => boolean {
    return goneAddresses(this.all().filter(isHere), this.#environment.networks);
  }

  plan(resource: EndpointResource, draft: Draft): Promise<Planned> {
    const environment = { ...this.#environment, index: this.#index };
    return new EndpointPlan(environment, resource, draft).make();
  }

  check({ resource, record }: Stored<EndpointResource>): void {
    const { host } = validate(endpointAllotted, record);
    if (this.#environment.isShared && host === undefined && resource.spec.host === undefined) {
      throw new WeftError('invalid', 'host: is missing: in a shared store, an endpoint says which host it is on');
    }
  }

  load(): Promise<void> {
    return this.#records.load();
  }

  async keep(own: ReadonlyMap<string, object | undefined>): Promise<ReadonlyMap<string, object | undefined>> {
    const before = new Map([...own.keys()].map((name) => [name, this.#records.find(name)]));
    await this.#records.save(own as ReadonlyMap<string, LocalRecord | undefined>);
    for (const name of own.keys()) {
      const { local: _, ...endpoint } = this.#index.find(name) ?? {};
      if ('state' in endpoint && endpoint.state !== 'attached')
        this.#index.set({ ...endpoint, ...this.#localOf(name) });
    }
    return before;
  }

  async put(stored: readonly Stored<EndpointResource>[]): Promise<void> {
    const toPlace: string[] = [];
    for (const { name, resource, revision, record } of stored) {
      const { addresses, mac, host: owner } = record as EndpointRecord;
      const host = this.#otherHost(resource, owner);
      const before = this.#index.find(name);
      const state = host === undefined ? 'detached' : 'remote';
      const fresh: Endpoint = { name, resource, revision, addresses, mac, host, state };
      const isOther = before && (!isSameIdentity(before, fresh) || (await isElsewhere(before, resource)));
      if (isOther && isHere(before)) await this.remove([name]);
      else if (isOther) this.#forget(before);
      const known = this.#index.find(name);
      if (known) this.#change(known, { ...known, resource, revision, host });
      else this.#index.set({ ...fresh, ...(host === undefined && this.#localOf(name)) });
      if (!known || !isHere(known) || isAttachedAnew(known)) toPlace.push(name);
    }
    await this.place(toPlace);
  }

  /** Gives back the addresses of endpoints that went before anybody was told of them. */
  listed(): void {
    for (const { name: network, pools } of this.#environment.networks.all()) {
      for (const pool of pools) {
        pool.keep((owner) => this.#index.find(owner)?.resource.spec.network === network);
      }
    }
  }

  /** Closes ports, removes interfaces, and gives addresses back: one in each turn, because the kernel takes its time. */
  async remove(names: readonly string[]): Promise<void> {
    for await (const name of inTurns(names, 1)) {
      const endpoint = this.#index.find(name);
      const left = this.#attachments.find(name) === undefined ? this.#records.find(name) : undefined;
      if (endpoint) await this.#close(endpoint, { keep: false });
      // Its interface may be there although it is not open: without its network, or if this version did not accept it.
      if (left?.bootId === this.#environment.bootId) await this.#attachments.removeLeft(name, left);
      if (endpoint) this.#forget(endpoint);
    }
    await this.#save(new Map(names.map((name) => [name, undefined])));
  }

  /**
   * Puts endpoints into force that are not yet. Those of other hosts become known to the tables. On this host, existing
   * interfaces are opened and missing ones are created. An endpoint whose container is gone is released.
   */
  async place(names: readonly string[]): Promise<void> {
    const here: string[] = [];
    // What comes in masses is no news: a start, or the end of a long break.
    const isNews = !this.#isStarting && names.length <= CLAIMED_PER_TURN;
    for await (const name of inTurns(names, CLAIMED_PER_TURN)) if (this.#claim(name, isNews)) here.push(name);
    const settled = await this.#settle(here);
    const local = this.#local(settled).filter(({ state }) => state !== 'attached');
    const places = this.#locate(local);
    await this.#release(local.filter(({ name }) => !places.has(name)));
    const there = local.flatMap((endpoint) => {
      const netns = places.get(endpoint.name);
      return netns ? [{ endpoint, netns }] : [];
    });
    this.#reopen(there.filter(({ endpoint }) => endpoint.local.ifindex !== undefined));
    for (const { endpoint, netns } of there)
      if (endpoint.local.ifindex === undefined) await this.#make(endpoint, netns);
    this.#announce(this.#local(names).filter(({ state }) => state === 'attached'));
  }

  /**
   * Called once, when everything declared has been put into force: removes what a crash has left behind.
   * @param isDeclared tells whether the store has such an endpoint, be it one that this version does not accept
   */
  async started(isDeclared: (name: string) => boolean): Promise<void> {
    this.#isStarting = false;
    const left = this.#records.names().filter((name) => !isDeclared(name));
    for (const name of left) {
      const local = this.#records.find(name)!;
      if (local.bootId === this.#environment.bootId) await this.#attachments.removeLeft(name, local);
    }
    await this.#save(new Map(left.map((name) => [name, undefined])));
  }

  async retry(names: readonly string[]): Promise<readonly string[]> {
    await this.place(names.filter((name) => this.#index.find(name)?.state === 'waiting'));
    const mended = await this.mend(names);
    return mended.filter((one) => one.mended.length > 0).map(({ endpoint }) => endpoint.name);
  }

  /** Compares all interfaces with what they were given, and repairs them. */
  async mend(names?: readonly string[]): Promise<readonly Mended[]> {
    const left = [...(names ?? this.all().map(({ name }) => name))];
    const results: Mended[] = [];
    while (left.length > 0) {
      const some = this.#local(left.splice(0, MENDED_AT_ONCE));
      results.push(...(await this.#remember(await this.#attachments.mend(some))));
    }
    return results;
  }

  /** Does the same without repairing anything. @returns what is wrong, by endpoint */
  async inspect(): Promise<Record<string, string[]>> {
    const detached = this.all().filter(({ state }) => state === 'detached');
    return {
      ...Object.fromEntries(detached.map(({ name }) => [name, [DETACHED]])),
      ...this.problems(),
      ...(await this.#attachments.inspect(this.#local())),
    };
  }

  /** Follows a change of the network, whose MTU was `before`. */
  async followNetwork(network: string, before: number): Promise<void> {
    const mtu = this.#environment.networks.find(network)?.mtu;
    const endpoints = this.of(network);
    if (mtu !== undefined && mtu !== before) {
      await this.#attachments.changeMtu(endpoints.filter(isLocal), { before, mtu });
    }
    await this.mend(endpoints.map(({ name }) => name));
  }

  /** Follows a host that has another address, or is gone. */
  async followHost(host: string): Promise<void> {
    await this.place(this.all().flatMap((endpoint) => (endpoint.host === host ? [endpoint.name] : [])));
  }

  /** What they need is gone, and may come back: they wait. */
  async suspend(endpoints: readonly Endpoint[], why: WeftError): Promise<void> {
    for (const endpoint of endpoints) {
      await this.#close(endpoint, { keep: true });
      this.#wait(endpoint, why);
    }
  }

  /**
   * Called about once a second. Tries again what could not be put into force or released, and checks some of the
   * interfaces in turn. @returns true if an interface was opened
   */
  async renew(): Promise<boolean> {
    await this.#releases.run();
    const waiting = [...this.#index.values()].filter(({ state }) => state === 'waiting').map(({ name }) => name);
    const tried = waiting.slice(0, RETRIES);
    await this.place(tried);
    const opened = tried.filter((name) => this.#index.find(name)?.state === 'attached');
    if (opened.length > 0) await this.mend(opened);
    await this.#remember(await this.#attachments.mend(this.#local(this.#attachments.due()), { isPatient: true }));
    return opened.length > 0;
  }

  /** The interface that is open at a port. */
  attachedAt(portNo: number): Attached | undefined {
    return this.#attachments.at(portNo);
  }

  /**
   * Called when the namespace is gone, and the interface with it. If the lease cannot be ended now, `renew` ends it
   * later. Does nothing if the endpoint has been attached again, or closed, in the meantime.
   * @returns true if the endpoint is released
   */
  async removeGone(gone: Attached): Promise<boolean> {
    const name = gone.endpoint;
    const endpoint = this.#index.find(name);
    if (!endpoint || !this.#attachments.isCurrent(gone)) return false;
    await this.#close(endpoint, { keep: false });
    this.#index.set({ ...endpoint, state: 'detached' });
    this.#failures.delete(name);
    this.#releases.add(name);
    await this.#releases.run();
    return true;
  }

  /**
   * Called when the interface was deleted in the container. The lease stays for the next attach. Does nothing if it has
   * been closed in the meantime.
   */
  async detach(lost: Attached): Promise<void> {
    const endpoint = this.#index.find(lost.endpoint);
    if (!endpoint || !this.#attachments.isCurrent(lost)) return;
    await this.#close(endpoint, { keep: true });
    this.#index.set({ ...endpoint, state: 'detached' });
  }

  /** Closes all TAPs. */
  async close(): Promise<void> {
    for (const endpoint of this.all()) await this.#close(endpoint, { keep: true });
  }

  /** Where they are now. Those that no longer exist are left out. */
  #locate(endpoints: readonly LocalEndpoint[]): ReadonlyMap<string, NetnsRef> {
    const known = endpoints.flatMap(({ name }) => {
      const netns = this.#attachments.netns(name);
      return netns ? [[name, netns] as const] : [];
    });
    // The numbers of a namespace mean another one after a reboot.
    const others = endpoints.filter(
      ({ name, local }) => this.#attachments.netns(name) === undefined && local.bootId === this.#environment.bootId,
    );
    return new Map([...known, ...this.#attachments.locate(others)]);
  }

  /**
   * Claims the addresses of an endpoint; one of another host is then in force. @returns true for one of this host to go
   * on with
   */
  #claim(name: string, isNews: boolean): boolean {
    const endpoint = this.#index.find(name);
    if (!endpoint) return false;
    try {
      const network = this.#environment.networks.get(endpoint.resource.spec.network);
      const owner = this.#index.withMac(network.name, endpoint.mac);
      if (owner !== undefined && owner !== name) {
        throw new WeftError('conflict', `endpoint "${name}": mac ${endpoint.mac} is taken by endpoint "${owner}"`);
      }
      for (const address of endpoint.addresses) poolOf(network, address).claim(name, address, isHere(endpoint));
      if (isHere(endpoint)) return true;
      this.#remotes.enter(endpoint, isNews);
      this.#failures.delete(name);
      if (endpoint.state !== 'remote') this.#index.set({ ...endpoint, state: 'remote' });
    } catch (error) {
      this.#remotes.withdraw(name);
      this.#wait(endpoint, error as WeftError);
    }
    return false;
  }

  /**
   * Finds the namespaces of endpoints that have no local record yet, and gives another port number to those whose number
   * somebody else got in the meantime. @returns the names of those that have a record now
   */
  async #settle(names: readonly string[]): Promise<string[]> {
    const found = new Map<string, LocalRecord>();
    for (const name of names) {
      const endpoint = this.#index.find(name)!;
      if (endpoint.state === 'attached' || this.#index.hasPort(endpoint)) continue;
      try {
        const local = endpoint.local ?? (await this.#newRecord(endpoint.resource));
        const portNo = this.#index.freePort(new Set([...found.values()].map((one) => one.portNo)));
        found.set(name, { ...local, portNo });
      } catch (error) {
        this.#wait(endpoint, error as WeftError);
      }
    }
    await this.#save(found);
    for (const [name, local] of found) this.#index.set({ ...this.#index.find(name)!, local });
    return names.filter((name) => this.#index.find(name)?.local !== undefined);
  }

  async #newRecord(resource: EndpointResource): Promise<Omit<LocalRecord, 'portNo'>> {
    const { path, dev, ino } = await resolveNetns(declaredNetns(resource));
    return { netns: { path, dev: String(dev), ino: String(ino) }, bootId: this.#environment.bootId };
  }

  #reopen(places: readonly { readonly endpoint: LocalEndpoint; readonly netns: NetnsRef }[]): void {
    const results = this.#attachments.reopen(places);
    for (const [at, { endpoint }] of places.entries()) {
      const reopened = results[at]!;
      if (reopened.state === 'attached') {
        this.#failures.delete(endpoint.name);
        this.#index.set({ ...endpoint, local: { ...endpoint.local, ifindex: reopened.ifindex }, state: 'attached' });
        continue;
      }
      if (reopened.state === 'waiting') this.#failures.set(endpoint.name, new WeftError('system', reopened.why));
      else this.#failures.delete(endpoint.name);
      if (reopened.state !== endpoint.state) {
        this.#environment.warn('endpoint not re-attached', { endpoint: endpoint.name, error: reopened.why });
      }
      this.#index.set({ ...endpoint, state: reopened.state });
    }
  }

  async #make(endpoint: LocalEndpoint, netns: NetnsRef): Promise<void> {
    const { name } = endpoint;
    try {
      const ifindex = this.#attachments.make(endpoint, netns, { mayBeThere: this.#isStarting });
      const made: LocalEndpoint = { ...endpoint, local: { ...endpoint.local, ifindex }, state: 'attached' };
      this.#index.set(made);
      const given = await this.#attachments.give(made);
      const local = { ...made.local, given };
      this.#index.set({ ...made, local });
      await this.#records.save(new Map([[name, local]]));
      this.#failures.delete(name);
    } catch (error) {
      const isMade = this.#attachments.isOpen(name);
      if (isMade) this.#failures.set(name, error as WeftError);
      else this.#wait(endpoint, error as WeftError, netns);
    }
  }

  /** @param netns where its interface will be */
  #wait(endpoint: Endpoint, why: WeftError, netns?: NetnsRef): void {
    const isNews = this.#failures.get(endpoint.name)?.message !== why.message;
    if (isNews) this.#environment.warn('endpoint waits', { endpoint: endpoint.name, error: why.message });
    this.#failures.set(endpoint.name, why);
    if (netns && isLocal(endpoint)) this.#attachments.wait(endpoint, netns, why.message);
    this.#index.set({ ...endpoint, state: 'waiting' });
  }

  /** Puts a changed declaration of the same endpoint into force. */
  #change(known: Endpoint, endpoint: Endpoint): void {
    this.#index.set(endpoint);
    if (!isLocal(endpoint)) return;
    const isLimitSame = isDeepStrictEqual(known.resource.spec.rateLimit, endpoint.resource.spec.rateLimit);
    this.#attachments.change(endpoint, { isLimitSame });
  }

  #localOf(name: string): { readonly local?: LocalRecord } {
    const local = this.#records.find(name);
    return local ? { local } : {};
  }

  /**
   * Neighbors that asked in vain in the meantime would wait up to a second before they ask again. Announcements are
   * flooded, which is not worth it in a large network, except for a single endpoint.
   */
  #announce(endpoints: readonly LocalEndpoint[]): void {
    let copies = 0;
    for (const { local, resource } of endpoints) {
      copies += this.#index.countIn(resource.spec.network);
      if (copies > MOST_ANNOUNCED && endpoints.length > 1) return;
      this.#environment.forwarding.announce(local.portNo as PortNo);
    }
  }

  /** The endpoints of this host whose place is known, sorted by name. */
  #local(names?: readonly string[]): LocalEndpoint[] {
    const endpoints = names?.flatMap((name) => this.#index.find(name) ?? []) ?? this.all();
    return endpoints.filter(isLocal);
  }

  /** Stores what was given if it has changed. */
  async #remember(results: readonly Mended[]): Promise<readonly Mended[]> {
    const news = results.flatMap(({ endpoint: { name }, given }) => {
      const known = this.#index.find(name);
      const stored = this.#records.find(name);
      if (!known?.local || (isDeepStrictEqual(known.local.given, given) && stored?.ifindex === known.local.ifindex)) {
        return [];
      }
      return [{ ...known, local: { ...known.local, given } }];
    });
    if (!(await this.#save(new Map(news.map(({ name, local }) => [name, local]))))) return results;
    for (const endpoint of news) {
      this.#failures.delete(endpoint.name);
      this.#index.set(endpoint);
    }
    return results;
  }

  /** @returns false if it cannot be stored now; the next check tries again */
  async #save(changes: ReadonlyMap<string, LocalRecord | undefined>): Promise<boolean> {
    try {
      await this.#records.save(changes);
      return true;
    } catch (error) {
      this.#environment.warn('what this host knows of its interfaces is not stored', {
        error: (error as Error).message,
      });
      return false;
    }
  }

  async #close(endpoint: Endpoint, options: { readonly keep: boolean }): Promise<void> {
    if (isLocal(endpoint)) await this.#attachments.close(endpoint, options);
    this.#remotes.withdraw(endpoint.name);
  }

  /** Releases the endpoints of containers that are gone. After a reboot, their leases are kept. */
  async #release(lost: readonly LocalEndpoint[]): Promise<void> {
    const released = lost.filter(({ local }) => local.bootId === this.#environment.bootId);
    for (const { name, local } of released) {
      this.#environment.warn('endpoint released: its namespace is gone', { endpoint: name, netns: local.netns.path });
      this.#releases.add(name);
    }
    for (const endpoint of lost) this.#index.set({ ...endpoint, state: 'detached' });
    await this.#releases.run();
  }

  /** The host that it is on, if that is another one. @param owner from its record */
  #otherHost({ spec }: EndpointResource, owner: string | undefined): string | undefined {
    const { hostName, hosts } = this.#environment;
    if (owner === undefined) return spec.host;
    return owner === hostName && !hosts.isTaken ? undefined : owner;
  }

  /** It is not declared any more, or not as it was. Its port is closed. */
  #forget(endpoint: Endpoint): void {
    const { name } = endpoint;
    this.#remotes.withdraw(name);
    this.#index.remove(name);
    this.#failures.delete(name);
    this.#releases.delete(name);
    this.#giveBack(endpoint);
  }

  #giveBack({ name, resource, addresses }: Endpoint): void {
    const network = this.#environment.networks.find(resource.spec.network);
    for (const address of addresses) network?.pools.find((pool) => pool.contains(address))?.giveBack(name, address);
  }
}
