/**
 * Endpoints: the interfaces of containers on networks, put into force.
 *
 *   plan   what attaching, changing or moving one would store (`endpoint-plan.ts`)
 *   put    declaration → where it is (`local-records.ts`) → in force (`endpoint-placing.ts`)
 *   renew  tries again what waits, and checks some of the interfaces (`endpoint-mending.ts`)
 *
 * An endpoint that cannot be put into force now stays declared: it waits, and `failure` says why. Its record is stored
 * before anything is set up and removed before anything is torn down, so the next start can repair whatever a crash in
 * between leaves behind. What is open is in `attachments.ts`.
 *
 * When the namespace of an endpoint is gone, its container is gone too, and the endpoint is
 * released. Only after a reboot is its lease kept (`detached`), for the container that comes back
 * under the same name.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import type { Vni } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { endpointAllotted, endpointKind, type EndpointResource } from '../model/kinds/endpoint.ts';
import type { EndpointReport } from '../model/report.ts';
import { someOf } from '../model/name.ts';
import { idOf, type Resource } from '../model/resource.ts';
import { validate } from '../model/validate.ts';
import type { Store, Transaction } from '../store/store.ts';
import { inTurns } from '../turns.ts';
import { Carrying } from './carrying.ts';
import { Attachments, type Attached, type AttachmentsEnvironment } from './attachments.ts';
import { byName, EndpointIndex } from './endpoint-index.ts';
import { lostText, EndpointMending } from './endpoint-mending.ts';
import { EndpointPlacing } from './endpoint-placing.ts';
import { EndpointPlan } from './endpoint-plan.ts';
import {
  isAttachedAnew,
  isCarried,
  isElsewhere,
  isHere,
  isHolder,
  isLocal,
  isSameIdentity,
  type Endpoint,
  type EndpointRecord,
  type LocalRecord,
} from './endpoint.ts';
import { endpointReport, shownEndpoint } from './endpoint-report.ts';
import { goneAddresses } from './gone-addresses.ts';
import type { Hosts } from './membership/hosts.ts';
import { keyOf } from './keys.ts';
import { LocalRecords } from './local-records.ts';
import type { PortProtocol } from '../model/publish.ts';
import { publishedBy, type PublishedEndpointPort } from './publishing.ts';
import type { Declared, Draft, Keeping, Planned, Reconciler, Stored, Unread } from './reconciler.ts';
import type { RefusedRecords } from './refused-records.ts';
import { Releases } from './releases.ts';
import { RemoteEndpoints } from './remote-endpoints.ts';

export interface EndpointsEnvironment extends AttachmentsEnvironment {
  readonly store: Store;
  /** The store of this host alone. */
  readonly own: Store;
  readonly forwarding: Forwarding;
  readonly hosts: Hosts;
  readonly hostName: string;
  /** Records that this host does not accept. */
  readonly refused: () => RefusedRecords;
  /** True if other hosts share the store. */
  readonly isShared: boolean;
  /** True if a host of the store is known not to run. */
  readonly isDown: (host: string) => boolean;
  /** The identity of this host, from which the MACs of its endpoints are derived. */
  readonly identity: Uint8Array;
  readonly bootId: string;
  /** True if there are peers that do not share the store. Then weft must not choose addresses. */
  readonly hasStaticPeers: (draft: Draft) => boolean;
  /** The service that has a node port on every host; undefined if none has. */
  readonly nodePortOwner: (port: number) => string | undefined;
  /** The service that has a node port although an endpoint publishes it, so that the endpoint does not. */
  readonly nodePortBefore: (port: number, protocol: PortProtocol) => string | undefined;
  /** Called with each change of an endpoint. Undefined: there is none. */
  readonly onEndpointChange: (before: Endpoint | undefined, after: Endpoint | undefined) => void;
  /** Called when the pools have given an endpoint addresses that it did not have. */
  readonly onAddressesClaimed: (endpoint: Endpoint) => void;
  /** Called with an endpoint that is another host's from now on. */
  readonly onMovedAway: (endpoint: string, host: string) => void;
}

/** How many endpoints are entered in the index in one turn; takes about a millisecond. */
const PUT_PER_TURN = 256;
/** How many waiting endpoints are tried in one turn. */
const RETRIES = 100;

export class Endpoints implements Reconciler {
  readonly #environment: EndpointsEnvironment;
  readonly #attachments: Attachments;
  readonly #index: EndpointIndex;
  readonly #records: LocalRecords;
  readonly #releases: Releases;
  readonly #remotes: RemoteEndpoints;
  /** Why an endpoint waits, or what it has lacked since it was created. */
  readonly #failures = new Map<string, WeftError>();
  /** The names of those whose records this host does not accept, and of which nothing is in force. */
  readonly #unread = new Set<string>();
  /** Those that had neither an interface nor a declaration when that was looked at last, but a record of where they would be. */
  #unfounded: ReadonlySet<string> = new Set();
  /** Those that are being deleted by whoever asked this host to. */
  readonly #deletedHere = new Set<string>();
  /** Those that wait since this change, which nobody was told yet. */
  readonly #suspended = new Set<string>();
  readonly #placing: EndpointPlacing;
  readonly #mending: EndpointMending;
  /** Of those whose interfaces container engines carry into containers. */
  readonly carrying: Carrying;

  constructor(environment: EndpointsEnvironment) {
    const index = new EndpointIndex(environment);
    const attachments = new Attachments(environment);
    const records = new LocalRecords(environment.own, environment.warn);
    const remotes = new RemoteEndpoints(environment);
    const releases = new Releases({ ...environment, index });
    const parts = { index, attachments, records, remotes, releases, failures: this.#failures };
    this.#environment = environment;
    this.#index = index;
    this.#attachments = attachments;
    this.#records = records;
    this.#remotes = remotes;
    this.#releases = releases;
    this.#placing = new EndpointPlacing(environment, parts);
    this.#mending = new EndpointMending(parts);
    this.carrying = new Carrying(environment, parts, this.#placing);
  }

  get size(): number {
    return this.#index.size;
  }

  all(): readonly Endpoint[] {
    return this.#index.all();
  }

  /** Those of a network, unsorted. */
  in(network: string): Iterable<Endpoint> {
    return this.#index.in(network);
  }

  countIn(network: string): number {
    return this.#index.countIn(network);
  }

  /** The number of endpoints of this host. */
  get local(): number {
    return this.#index.ports;
  }

  get hostName(): string {
    return this.#environment.hostName;
  }

  find(name: string): Endpoint | undefined {
    return this.#index.find(name);
  }

  /** All of them, unsorted. */
  values(): Iterable<Endpoint> {
    return this.#index.values();
  }

  /** The name of the endpoint that has a MAC in a network. */
  withMac(network: string, mac: string): string | undefined {
    return this.#index.withMac(network, mac);
  }

  get(name: string): Endpoint {
    const endpoint = this.#index.find(name);
    if (!endpoint)
      throw new WeftError('not_found', `endpoint "${name}" does not exist: \`weft endpoints\` shows those that do`);
    return endpoint;
  }

  /**
   * @throws WeftError('not_found') if it has moved from here to a host that runs, as a record says that this host does not
   * accept: it is for that one to delete
   */
  refuseRemoval(name: string): void {
    const { refused, hostName, isDown } = this.#environment;
    const known = this.find(name);
    const isElsewhere = (): boolean => refused().isOfAnother(endpointKind, name, hostName, (owner) => !isDown(owner));
    if (!known || !isHere(known) || !isElsewhere()) return;
    const owner = refused().ownerOf(endpointKind, name);
    throw new WeftError('not_found', `endpoint "${name}" is on host "${owner}" by now: delete it there`);
  }

  /** Whoever deletes it here knows of it. */
  planRemoval(name: string): Transaction {
    this.#deletedHere.add(name);
    return {};
  }

  shown(declared: Declared): Resource {
    return shownEndpoint(declared as Endpoint);
  }

  failure(name: string): WeftError | undefined {
    return this.#failures.get(name);
  }

  /** What the last check found wrong with interfaces of this host, and why other endpoints wait. */
  problems(): Record<string, string[]> {
    return this.#mending.problems();
  }

  /** What attached endpoints publish: one entry for each family in which the endpoint has an address. */
  published(): PublishedEndpointPort[] {
    const here = this.#index.here();
    const attached = here.filter(({ state }) => state === 'attached');
    return attached.flatMap((endpoint) => publishedBy(endpoint, this.#environment.nodePortBefore));
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
    const failure = this.#failures.get(endpoint.name)?.message ?? lostText(endpoint);
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
    return goneAddresses(this.#index.here(), this.#environment.networks);
  }

  async plan(resource: EndpointResource, draft: Draft): Promise<Planned> {
    const environment = { ...this.#environment, index: this.#index };
    const planned = await new EndpointPlan(environment, resource, draft).make();
    if (planned.own) draft.onStored(() => this.#placing.planned(idOf(resource.metadata)));
    return planned;
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

  kept(names: Iterable<string>): ReadonlyMap<string, object | undefined> {
    return new Map([...names].map((name) => [name, this.#records.find(name)]));
  }

  keeping(own: ReadonlyMap<string, object | undefined>): Keeping {
    const { transaction, stored } = this.#records.change(own as ReadonlyMap<string, LocalRecord | undefined>);
    return {
      store: this.#environment.own,
      transaction,
      stored: (revision) => {
        stored(revision);
        for (const name of own.keys()) {
          const { local: _, ...endpoint } = this.#index.find(name) ?? {};
          if ('state' in endpoint && endpoint.state !== 'attached')
            this.#index.set({ ...endpoint, ...this.#localOf(name) });
        }
      },
    };
  }

  /** The addresses that they had here stay theirs, as far as this host remembers them. */
  refused(records: readonly Unread[]): void {
    for (const { name } of records) if (!this.#index.find(name)) this.#unread.add(name);
  }

  async put(stored: readonly Stored<EndpointResource>[]): Promise<void> {
    await this.#giveBackUnread(stored.map(({ name }) => name));
    const toPlace: string[] = [];
    for await (const { name, resource, revision, record } of inTurns(stored, PUT_PER_TURN)) {
      const { addresses, mac, host: owner } = record as EndpointRecord;
      const host = this.#otherHost(resource, owner);
      const before = this.#index.find(name);
      const state = host === undefined ? 'detached' : 'remote';
      const fresh: Endpoint = { name, resource, revision, addresses, mac, host, state };
      const isOther = before && (!isSameIdentity(before, fresh) || (await isElsewhere(before, resource)));
      this.#deletedHere.delete(name);
      if (before && isHere(before) && host !== undefined) this.#environment.onMovedAway(name, host);
      if (isOther && isHere(before)) await this.#remove([name]);
      else if (isOther) this.#forget(before, fresh.addresses);
      const known = this.#index.find(name);
      if (known) this.#change(known, { ...known, resource, revision, host });
      else this.#index.set({ ...fresh, ...(host === undefined && this.#localOf(name)) });
      if (!known || !isHere(known) || isAttachedAnew(known)) toPlace.push(name);
    }
    await this.#placing.place(toPlace);
  }

  /** Gives back the addresses of endpoints that went before anybody was told of them. */
  async listed(): Promise<void> {
    for (const { name: network, pools } of this.#environment.networks.all()) {
      for (const pool of pools) {
        pool.claimUsed?.((owner) => this.#unread.has(owner));
        await pool.keep(
          (owner) => this.#unread.has(owner) || this.#index.find(owner)?.resource.spec.network === network,
        );
      }
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    this.#tellUndeclared(names.filter((name) => !this.#deletedHere.delete(name) && this.#attachments.find(name)));
    await this.#remove(names);
  }

  /**
   * Called once, when everything declared has been put into force: removes what a crash has left behind, and the interfaces
   * of what was deleted or went to another host in the meantime.
   * @param isDeclared tells whether the store has such an endpoint, be it one that this version does not accept
   * @returns true if an interface was found elsewhere
   */
  async started(isDeclared: (name: string) => boolean): Promise<boolean> {
    this.#placing.started();
    // What was carried off while nobody looked is open again as soon as possible.
    const hasMoved = await this.carrying.look({ isStart: true });
    const isGone = (name: string): boolean => !isDeclared(name) && !this.#mayBeDeclared(name);
    const left = this.#records.names().filter((name) => isGone(name) || this.#hasMoved(name));
    this.#tellUndeclared(left);
    for (const name of left) {
      const local = this.#records.find(name)!;
      if (local.bootId === this.#environment.bootId) await this.#attachments.removeLeft(name, local);
    }
    await this.#records.trySave(new Map(left.map((name) => [name, undefined])));
    return hasMoved;
  }

  async retry(names: readonly string[]): Promise<readonly string[]> {
    await this.#placing.place(names.filter((name) => this.#index.find(name)?.state === 'waiting'));
    const mended = await this.#mending.mend(names);
    return mended.filter((one) => one.mended.length > 0).map(({ endpoint }) => endpoint.name);
  }

  /** Keeps the addresses of those that wait in a network for them. None is opened: what policies say of it may come later. */
  claimIn(network: string): void {
    const pools = this.#environment.networks.find(network)?.pools ?? [];
    for (const pool of pools) pool.claimUsed?.((owner) => this.#unread.has(owner));
    const waiting = [...this.#index.in(network)].filter(({ state }) => state === 'waiting');
    for (const { name } of byName(waiting)) this.#placing.claim(name);
  }

  /** Compares all interfaces with what they were given, and repairs them. */
  async mend(): Promise<void> {
    await this.#mending.mend();
  }

  /** Does the same without repairing anything. @returns what is wrong, by endpoint */
  inspect(): Promise<Record<string, string[]>> {
    return this.#mending.inspect();
  }

  /** Follows a change of the network, whose MTU was `before`. */
  async followNetwork(network: string, before: number): Promise<void> {
    const mtu = this.#environment.networks.find(network)?.mtu;
    const endpoints = this.#index.local().filter(({ resource }) => resource.spec.network === network);
    if (mtu !== undefined && mtu !== before) await this.#attachments.changeMtu(endpoints, { before, mtu });
    await this.#mending.mend(endpoints.map(({ name }) => name));
  }

  /** Follows a host that has another address, or is gone. */
  async followHost(host: string): Promise<void> {
    const there = [...this.#index.values()].filter((endpoint) => endpoint.host === host);
    await this.#placing.place(byName(there).map(({ name }) => name));
  }

  /** Hosts are known now. Their endpoints may have come before them, and wait: there may be thousands, so `renew` would take long. */
  async followHosts(hosts: ReadonlySet<string>): Promise<void> {
    const waiting = [...this.#index.waiting()].flatMap((name) => this.#index.find(name) ?? []);
    const there = waiting.filter(({ host }) => host !== undefined && hosts.has(host));
    await this.#placing.place(byName(there).map(({ name }) => name));
  }

  /** What they need is gone, and may come back: they wait, unless what follows of the same change says something else of them. */
  async suspend(endpoints: Iterable<Endpoint>, why: WeftError): Promise<void> {
    for (const endpoint of byName(endpoints)) {
      await this.#placing.close(endpoint, { keep: true });
      this.#placing.waitUntold(endpoint, why);
      this.#suspended.add(endpoint.name);
    }
  }

  settle(): void {
    for (const name of this.#suspended) {
      const [endpoint, why] = [this.#index.find(name), this.#failures.get(name)];
      if (why && endpoint && isHere(endpoint) && endpoint.state === 'waiting') this.#placing.tellWaiting(name, why);
    }
    this.#suspended.clear();
  }

  /**
   * Called about once a second. Tries again what could not be put into force or released, and checks some of the
   * interfaces in turn. @returns true if an interface was opened
   */
  async renew(): Promise<boolean> {
    await this.#releases.run();
    const tried = [...this.#index.waiting()].slice(0, RETRIES);
    await this.#placing.place(tried);
    const opened = tried.filter((name) => this.#index.find(name)?.state === 'attached');
    if (opened.length > 0) await this.#mending.mend(opened);
    await this.#mending.mendSome();
    await this.#dropUnfounded();
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
    await this.#placing.close(endpoint, { keep: false });
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
    await this.#placing.close(endpoint, { keep: true });
    this.#index.set({ ...endpoint, state: 'detached' });
  }

  /** Closes all TAPs. */
  async close(): Promise<void> {
    for (const endpoint of this.#index.here()) await this.#placing.close(endpoint, { keep: true });
  }

  /** Puts a changed declaration of the same endpoint into force. */
  #change(known: Endpoint, endpoint: Endpoint): void {
    this.#index.set(endpoint);
    if (!isLocal(endpoint)) return;
    const isLimitSame = isDeepStrictEqual(known.resource.spec.rateLimit, endpoint.resource.spec.rateLimit);
    this.#attachments.change(endpoint, { isLimitSame });
  }

  /** Closes ports, removes interfaces, and gives addresses back: one in each turn, because the kernel takes its time. */
  async #remove(names: readonly string[]): Promise<void> {
    await this.#giveBackUnread(names);
    for await (const name of inTurns(names, 1)) {
      const endpoint = this.#index.find(name);
      const left = this.#attachments.find(name) === undefined ? this.#records.find(name) : undefined;
      if (endpoint) await this.#placing.close(endpoint, { keep: false });
      // Its interface may be there although it is not open: without its network, or if this version did not accept it.
      if (left?.bootId === this.#environment.bootId) await this.#attachments.removeLeft(name, left);
      if (endpoint) this.#forget(endpoint);
    }
    await this.#records.trySave(new Map(names.map((name) => [name, undefined])));
  }

  /** Somebody else has deleted them, or they were deleted while this host was away. */
  #tellUndeclared(names: readonly string[]): void {
    if (names.length === 0) return;
    const message = 'endpoints that were attached here are not declared here any more: their interfaces are removed';
    this.#environment.warn(message, { endpoints: someOf(names) });
  }

  /**
   * What is left of attaches that never came about, as their answers were lost: the store has none of them. It is asked at the second
   * look, since they may have been on their way.
   */
  async #dropUnfounded(): Promise<void> {
    const { store, refused } = this.#environment;
    const unfounded = this.#records
      .names()
      .filter((name) => this.#records.find(name)!.ifindex === undefined && !this.#index.find(name))
      .filter((name) => refused().revision(endpointKind, name) === undefined);
    const dropped = new Map<string, undefined>();
    for (const name of unfounded.filter((one) => this.#unfounded.has(one))) {
      const isNowhere = await store.get(keyOf(endpointKind, name)).then(
        (entry) => entry === undefined,
        () => false,
      );
      if (isNowhere) dropped.set(name, undefined);
    }
    this.#unfounded = new Set(unfounded);
    if (dropped.size > 0) await this.#records.trySave(dropped);
  }

  /** Whoever has the name of this host now has not got its interfaces: those stay. */
  #hasMoved(name: string): boolean {
    const host = this.#index.find(name)?.host;
    return host !== undefined && host !== this.#environment.hostName;
  }

  /** Its answer was lost, and what the store says of it is not known yet: there is no interface, only the place of one. */
  #mayBeDeclared(name: string): boolean {
    return this.#records.find(name)?.ifindex === undefined && !this.#environment.store.health().isReachable;
  }

  #localOf(name: string): { readonly local?: LocalRecord } {
    const local = this.#records.find(name);
    return local ? { local } : {};
  }

  /** The host that it is on, if that is another one. @param owner from its record */
  #otherHost({ spec }: EndpointResource, owner: string | undefined): string | undefined {
    const { hostName, hosts } = this.#environment;
    if (owner === undefined) return spec.host;
    return owner === hostName && !hosts.isTaken ? undefined : owner;
  }

  /** It is not declared any more, or not as it was. Its port is closed. @param kept addresses that it still has */
  #forget(endpoint: Endpoint, kept: readonly string[] = []): void {
    const { name } = endpoint;
    this.#remotes.withdraw(name);
    this.#index.remove(name);
    this.#failures.delete(name);
    this.#releases.delete(name);
    this.#giveBack(endpoint, kept);
  }

  /** What was kept for them is theirs no longer, or they say now which of it is. */
  async #giveBackUnread(names: readonly string[]): Promise<void> {
    const known = new Set(names.filter((name) => this.#unread.delete(name)));
    if (known.size === 0) return;
    for (const { pools } of this.#environment.networks.all()) {
      for (const pool of pools) await pool.keep((owner) => !known.has(owner));
    }
  }

  #giveBack({ name, resource, addresses }: Endpoint, kept: readonly string[]): void {
    const network = this.#environment.networks.find(resource.spec.network);
    const others = addresses.filter((address) => !kept.includes(address));
    for (const address of others) {
      const pool = network?.pools.find((one) => one.contains(address));
      const had = isCarried(resource) ? 'carried' : isHolder(resource) ? 'held' : 'used';
      pool?.giveBack(name, address, had);
    }
  }
}
