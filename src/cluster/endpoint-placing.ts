/**
 * Puts endpoints into force, as far as that is possible now.
 *
 *   1. claim    an endpoint takes its addresses; one of another host is then in the tables
 *   2. settle   finds the namespace of one of this host, and gives it a port number
 *   3. locate   finds the namespace again; one whose namespace is gone is released, or kept after a reboot. So is one whose
 *               namespace was found long ago, if what has its number is another one by now
 *   4. reopen   opens the interfaces that exist, many at once
 *   5. make     creates those that do not exist
 *
 * What fails leaves its endpoint waiting, with the reason in `failures`; placing it again tries again.
 */
import { WeftError } from '../error.ts';
import type { PortNo } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import type { InterfaceGiven } from '../link/interface-plan.ts';
import { resolveNetns, type NetnsRef } from '../link/netns.ts';
import { addressValue } from '../model/address.ts';
import type { EndpointResource } from '../model/kinds/endpoint.ts';
import { inTurns } from '../turns.ts';
import type { Attachments } from './attachments.ts';
import type { EndpointIndex } from './endpoint-index.ts';
import {
  declaredNetns,
  hasPlace,
  isCarried,
  isHere,
  isLocal,
  isOnItsWay,
  poolOf,
  withCookie,
  type Endpoint,
  type LocalEndpoint,
  type LocalRecord,
} from './endpoint.ts';
import type { LocalRecords } from './local-records.ts';
import type { Network } from './network.ts';
import type { Networks } from './networks.ts';
import type { Releases } from './releases.ts';
import type { RemoteEndpoints } from './remote-endpoints.ts';

export interface EndpointPlacingEnvironment {
  readonly forwarding: Forwarding;
  readonly networks: Networks;
  readonly bootId: string;
  readonly warn: (message: string, details: object) => void;
  /** Called when the pools have given an endpoint addresses that it did not have. */
  readonly onAddressesClaimed: (endpoint: Endpoint) => void;
}

/** What is known of endpoints, and where they are in force. `endpoints.ts` owns it. */
export interface EndpointParts {
  readonly index: EndpointIndex;
  readonly records: LocalRecords;
  readonly attachments: Attachments;
  readonly remotes: RemoteEndpoints;
  readonly releases: Releases;
  /** Why an endpoint waits, or what it has lacked since it was created. */
  readonly failures: Map<string, WeftError>;
}

/** How many endpoints, most of which are other hosts', are entered in one turn; takes some milliseconds. */
const CLAIMED_PER_TURN = 32;
/** How many frames may be sent at once to announce endpoints to their networks; takes about 20 ms. */
const MOST_ANNOUNCED = 2000;

export class EndpointPlacing {
  readonly #environment: EndpointPlacingEnvironment;
  readonly #parts: EndpointParts;
  /** An interface that exists while the start is under way was created before a crash. */
  #isStarting = true;
  /** Those whose namespaces have been found just now. */
  readonly #planned = new Set<string>();

  constructor(environment: EndpointPlacingEnvironment, parts: EndpointParts) {
    this.#environment = environment;
    this.#parts = parts;
  }

  /** It is stored, and its namespace has been found for that: it is placed next. */
  planned(name: string): void {
    this.#planned.add(name);
  }

  /** The start is over. */
  started(): void {
    this.#isStarting = false;
  }

  /**
   * Puts endpoints into force that are not yet. Those of other hosts become known to the tables. On this host, existing
   * interfaces are opened and missing ones are created. An endpoint whose container is gone is released.
   */
  async place(names: readonly string[]): Promise<void> {
    const here: string[] = [];
    // What comes in masses is no news: a start, or the end of a long break.
    const isNews = !this.#isStarting && names.length <= CLAIMED_PER_TURN;
    for await (const name of inTurns(names, CLAIMED_PER_TURN)) if (this.claim(name, isNews)) here.push(name);
    const settled = await this.#settle(here);
    const local = this.#parts.index.local(settled).filter(({ state }) => state !== 'attached');
    const places = this.#locate(local);
    await this.#release(local.filter(({ name }) => !places.has(name)));
    const there = local.flatMap((endpoint) => {
      const netns = places.get(endpoint.name);
      return netns ? [{ endpoint, netns }] : [];
    });
    await this.#release(await this.#reopen(there.filter(({ endpoint }) => endpoint.local.ifindex !== undefined)));
    const missing = there.filter(({ endpoint }) => endpoint.local.ifindex === undefined);
    const gone = await this.#gone(missing);
    await this.#release(missing.flatMap(({ endpoint }) => (gone.has(endpoint.name) ? [endpoint] : [])));
    for (const { endpoint, netns } of missing) if (!gone.has(endpoint.name)) await this.#make(endpoint, netns);
    for (const name of names) this.#planned.delete(name);
    this.#announce(this.#parts.index.local(here).filter(({ state }) => state === 'attached'));
  }

  /** It cannot be in force now, and that is told. @param netns where its interface will be */
  wait(endpoint: Endpoint, why: WeftError, netns?: NetnsRef): void {
    if (this.#parts.failures.get(endpoint.name)?.message !== why.message) this.tellWaiting(endpoint.name, why);
    this.waitUntold(endpoint, why, netns);
  }

  tellWaiting(endpoint: string, { message }: WeftError): void {
    const subject = `endpoint "${endpoint}": `;
    const error = message.startsWith(subject) ? message.slice(subject.length) : message;
    this.#environment.warn('endpoint waits', { endpoint, error });
  }

  /** It cannot be in force now, as far as is known so far. */
  waitUntold(endpoint: Endpoint, why: WeftError, netns?: NetnsRef): void {
    this.#parts.failures.set(endpoint.name, why);
    if (netns && isLocal(endpoint)) this.#parts.attachments.wait(endpoint, netns, why.message);
    this.#parts.index.set({ ...endpoint, state: 'waiting' });
  }

  /** Closes its interface, or takes it out of the tables. @param options whether its interface stays for the next start */
  async close(endpoint: Endpoint, options: { readonly keep: boolean }): Promise<void> {
    if (isLocal(endpoint)) await this.#parts.attachments.close(endpoint, options);
    this.#parts.remotes.withdraw(endpoint.name);
  }

  /**
   * Claims the addresses of an endpoint; one of another host is then in force. @returns true for one of this host to go
   * on with
   */
  claim(name: string, isNews = false): boolean {
    const endpoint = this.#parts.index.find(name);
    if (!endpoint) return false;
    try {
      const network = this.#environment.networks.get(endpoint.resource.spec.network);
      const isNew = (address: string): boolean =>
        poolOf(network, address, name).ownerOf(addressValue(address)) !== name;
      const claimed = endpoint.addresses.filter(isNew);
      this.#claimAddresses(network, endpoint);
      if (claimed.length > 0) this.#environment.onAddressesClaimed(endpoint);
      // While it waits for its MAC, nobody else is to get its addresses.
      const owner = this.#parts.index.withMac(network.name, endpoint.mac);
      if (owner !== undefined && owner !== name) {
        throw new WeftError('conflict', `endpoint "${name}": mac ${endpoint.mac} is taken by endpoint "${owner}"`);
      }
      if (isHere(endpoint)) return true;
      this.#parts.remotes.enter(endpoint, isNews);
      this.#parts.failures.delete(name);
      if (endpoint.state !== 'remote') this.#parts.index.set({ ...endpoint, state: 'remote' });
    } catch (error) {
      this.#parts.remotes.withdraw(name);
      this.wait(endpoint, error as WeftError);
    }
    return false;
  }

  /** Claims each address, also if another one cannot be had: nobody else is to get those that it waits with. */
  #claimAddresses(network: Network, { name, addresses, host, resource }: Endpoint): void {
    const failures: unknown[] = [];
    for (const address of addresses) {
      try {
        poolOf(network, address, name).claim(name, address, isHere({ host }), isCarried(resource));
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /**
   * Finds the namespaces of endpoints that have no local record yet, and gives another port number to those whose number
   * somebody else got in the meantime. @returns the names of those that have a record now
   */
  async #settle(names: readonly string[]): Promise<string[]> {
    const found = new Map<string, LocalRecord>();
    for (const name of names) {
      const endpoint = this.#parts.index.find(name)!;
      if (endpoint.state === 'attached' || this.#parts.index.hasPort(endpoint)) continue;
      // Its engine says when its interface is wanted, or nobody wants one.
      if (!hasPlace(endpoint.resource) && !endpoint.local) continue;
      try {
        const local = endpoint.local ?? (await this.#newRecord(endpoint.resource));
        const portNo = this.#parts.index.freePort(new Set([...found.values()].map((one) => one.portNo)));
        found.set(name, { ...local, portNo });
      } catch (error) {
        this.wait(endpoint, error as WeftError);
      }
    }
    await this.#parts.records.trySave(found);
    for (const [name, local] of found) this.#parts.index.set({ ...this.#parts.index.find(name)!, local });
    return names.filter((name) => this.#parts.index.find(name)?.local !== undefined);
  }

  async #newRecord(resource: EndpointResource): Promise<Omit<LocalRecord, 'portNo'>> {
    const { path, dev, ino } = await resolveNetns(declaredNetns(resource));
    return { netns: { path, dev: String(dev), ino: String(ino) }, bootId: this.#environment.bootId };
  }

  /** Where they are now. Those that no longer exist are left out. */
  #locate(endpoints: readonly LocalEndpoint[]): ReadonlyMap<string, NetnsRef> {
    const known = endpoints.flatMap(({ name }) => {
      const netns = this.#parts.attachments.netns(name);
      return netns ? [[name, netns] as const] : [];
    });
    // The numbers of a namespace mean another one after a reboot.
    const others = endpoints.filter(
      ({ name, local }) =>
        this.#parts.attachments.netns(name) === undefined && local.bootId === this.#environment.bootId,
    );
    return new Map([...known, ...this.#parts.attachments.locate(others)]);
  }

  /** Releases the endpoints of containers that are gone. After a reboot, their leases are kept. */
  async #release(lost: readonly LocalEndpoint[]): Promise<void> {
    const released = lost.filter(({ local }) => local.bootId === this.#environment.bootId);
    for (const { name, local } of released) {
      this.#environment.warn('endpoint released: its namespace is gone', { endpoint: name, netns: local.netns.path });
      this.#parts.releases.add(name);
    }
    for (const endpoint of lost) this.#parts.index.set({ ...endpoint, state: 'detached' });
    await this.#parts.releases.run();
  }

  /** @returns those whose namespace is gone */
  async #reopen(
    places: readonly { readonly endpoint: LocalEndpoint; readonly netns: NetnsRef }[],
  ): Promise<LocalEndpoint[]> {
    const results = this.#parts.attachments.reopen(places);
    const missing = places.filter((_, at) => results[at]!.state === 'detached');
    const gone = missing.length > 0 ? await this.#parts.attachments.gone(missing) : new Set<string>();
    for (const [at, { endpoint }] of places.entries()) {
      const reopened = results[at]!;
      if (gone.has(endpoint.name)) continue;
      if (reopened.state === 'attached') {
        this.#parts.failures.delete(endpoint.name);
        this.#parts.index.set({
          ...endpoint,
          local: { ...endpoint.local, ifindex: reopened.ifindex },
          state: 'attached',
        });
        continue;
      }
      if (reopened.state === 'waiting') this.#parts.failures.set(endpoint.name, new WeftError('system', reopened.why));
      else this.#parts.failures.delete(endpoint.name);
      if (reopened.state !== endpoint.state) {
        this.#environment.warn('endpoint not re-attached', { endpoint: endpoint.name, error: reopened.why });
      }
      this.#parts.index.set({ ...endpoint, state: reopened.state });
    }
    return missing.flatMap(({ endpoint }) => (gone.has(endpoint.name) ? [endpoint] : []));
  }

  /** Those of which something else has the number of the namespace by now. */
  async #gone(
    places: readonly { readonly endpoint: LocalEndpoint; readonly netns: NetnsRef }[],
  ): Promise<ReadonlySet<string>> {
    const { attachments } = this.#parts;
    const isNamed = ({ name, local }: LocalEndpoint): boolean =>
      local.netns.cookie !== undefined && !this.#planned.has(name);
    const named = places.filter(({ endpoint }) => isNamed(endpoint));
    return named.length > 0 ? attachments.gone(named) : new Set();
  }

  async #make(endpoint: LocalEndpoint, netns: NetnsRef): Promise<void> {
    const { name } = endpoint;
    try {
      const ifindex = this.#parts.attachments.make(endpoint, netns, { mayBeThere: this.#isStarting });
      const made: LocalEndpoint = { ...endpoint, local: { ...endpoint.local, ifindex }, state: 'attached' };
      this.#parts.index.set(made);
      const given = await this.#give(made);
      const local = withCookie({ ...made.local, given }, this.#parts.attachments.cookie(name));
      this.#parts.index.set({ ...made, local });
      await this.#parts.records.save(new Map([[name, local]]));
      this.#parts.failures.delete(name);
    } catch (error) {
      const isMade = this.#parts.attachments.isOpen(name);
      if (isMade) this.#parts.failures.set(name, error as WeftError);
      else this.wait(endpoint, error as WeftError, netns);
    }
  }

  /** One that is on its way is given all else by whoever carries it off. */
  async #give(made: LocalEndpoint): Promise<InterfaceGiven> {
    if (!isOnItsWay(made)) return this.#parts.attachments.give(made);
    await this.#parts.attachments.prepare(made);
    return { addresses: [], routes: [] };
  }

  /**
   * Neighbors that asked in vain in the meantime would wait up to a second before they ask again. Announcements are
   * flooded, which is not worth it in a large network, except for a single endpoint.
   */
  #announce(endpoints: readonly LocalEndpoint[]): void {
    let copies = 0;
    for (const { local, resource } of endpoints) {
      copies += this.#parts.index.countIn(resource.spec.network);
      if (copies > MOST_ANNOUNCED && endpoints.length > 1) return;
      this.#environment.forwarding.announce(local.portNo as PortNo);
    }
  }
}
