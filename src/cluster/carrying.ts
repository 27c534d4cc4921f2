/**
 * Endpoints whose interfaces a container engine carries into its containers, as Docker does.
 *
 *   held        the engine has asked for an address; there is no interface
 *   begin       the interface is made in weft's own namespace, which is also the engine's. It is open from then on
 *   carried     the engine moves it into the container's namespace, renames it, and gives it addresses and routes
 *   look        weft finds out where it is now: from then on it is watched, checked and taken over by the next start like
 *               any other; but weft gives it neither addresses nor routes
 *   end         the interface is removed; the address is held again
 *
 * While weft has an interface open, the kernel says where it is. One that is not open is known by its MAC, since its name and its
 * index may be others in the container; but what has its MAC is looked at only where it may be, since others may have the same.
 * Callers run the methods one after the other.
 */
import { WeftError } from '../error.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import type { TapPlace } from '../flow/tap.ts';
import type { PortNo } from '../flow/types.ts';
import { changeNamespaces, readNamespaces } from '../link/interface-facts.ts';
import { findNetns, liveNamespaces, netnsId } from '../link/netns-lookup.ts';
import { ownNetns, resolveNetns, type NetnsRef } from '../link/netns.ts';
import { deleteLink, type LinkFacts } from '../link/rtnetlink.ts';
import type { EndpointParts, EndpointPlacing } from './endpoint-placing.ts';
import { isCarried, isLocal, isOnItsWay, netnsOf, withCookie, type Endpoint, type LocalEndpoint } from './endpoint.ts';

export interface CarryingEnvironment {
  readonly forwarding: { readonly datapath: Pick<Datapath, 'portPlace'> };
  readonly exchange: ExchangeWithNetns;
  readonly bootId: string;
  readonly warn: (message: string, details: object) => void;
}

const CARRIED_NAME = /^weft-[0-9a-f]{8}$/;

/** What the interface of such an endpoint is called until it is in its container. @param id hexadecimal digits, at least 8 */
export function carriedName(id: string): string {
  return `weft-${id.slice(0, 8)}`;
}

export class Carrying {
  readonly #environment: CarryingEnvironment;
  readonly #parts: EndpointParts;
  readonly #placing: EndpointPlacing;
  readonly #broughtBack = new Set<string>();

  constructor(environment: CarryingEnvironment, parts: EndpointParts, placing: EndpointPlacing) {
    this.#environment = environment;
    this.#parts = parts;
    this.#placing = placing;
  }

  /** Those of this host. */
  all(): Endpoint[] {
    return this.#parts.index.here().filter(({ resource }) => isCarried(resource));
  }

  /** True if its interface is in a container, as far as `look` knows. */
  isInContainer(endpoint: Endpoint): boolean {
    return endpoint.state !== 'detached' && endpoint.local !== undefined && !isOnItsWay(endpoint);
  }

  /** Those whose interfaces the engine has brought back from their containers, or may have: it says next that they are gone. */
  broughtBack(): Endpoint[] {
    return this.all().filter((endpoint) => this.#broughtBack.has(endpoint.name) && isOnItsWay(endpoint));
  }

  /** Makes the interface of an endpoint that has none. @throws WeftError; then it has none */
  async begin(name: string): Promise<void> {
    const { attachments, failures, index, records } = this.#parts;
    const known = index.find(name)!;
    const netns = await ownNetns();
    const at = { path: netns.path, dev: String(netns.dev), ino: String(netns.ino) };
    const local = { portNo: index.freePort(new Set()), netns: at, bootId: this.#environment.bootId };
    await records.save(new Map([[name, local]]));
    const placed: LocalEndpoint = { ...known, local };
    index.set(placed);
    try {
      const ifindex = attachments.make(placed, netns, { mayBeThere: true });
      const made: LocalEndpoint = { ...placed, local: { ...local, ifindex }, state: 'attached' };
      index.set(made);
      await attachments.prepare(made);
      const given = { ...made.local, given: { addresses: [], routes: [] } };
      index.set({ ...made, local: given });
      await records.save(new Map([[name, given]]));
      failures.delete(name);
    } catch (error) {
      await this.end(name);
      throw error;
    }
  }

  /** Removes the interface wherever it is, if there is one. */
  async end(name: string): Promise<void> {
    const { attachments, failures, index, records } = this.#parts;
    const endpoint = index.find(name);
    if (!endpoint?.local) return;
    const isKnown = attachments.find(name) !== undefined;
    await this.#placing.close(endpoint, { keep: false });
    if (!isKnown && endpoint.local.bootId === this.#environment.bootId) {
      await attachments.removeLeft(name, endpoint.local);
    }
    this.#broughtBack.delete(name);
    const { local: _, ...held } = endpoint;
    index.set({ ...held, state: 'detached' });
    failures.delete(name);
    await records.trySave(new Map([[name, undefined]]));
  }

  /**
   * Finds out where interfaces are that are on their way, or are not where they were.
   * @param options.isStart true if they may have been carried off while no weft had them open
   * @returns true if one was found elsewhere
   */
  async look({ isStart = false } = {}): Promise<boolean> {
    const wanted = this.all()
      .filter(isLocal)
      .filter((endpoint) => this.#isSought(endpoint));
    if (wanted.length === 0) return false;
    const own = await ownNetns();
    const declared = await this.#declared(wanted);
    const isOpen = ({ name }: LocalEndpoint): boolean => this.#parts.attachments.isOpen(name);
    const found = await this.#ask(wanted.filter(isOpen), [own, ...declared.values()]);
    const closed = wanted.filter((endpoint) => !isOpen(endpoint));
    await this.#find(closed, [own], { found, isLike: (link, { resource }) => link.ifname === resource.spec.interface });
    await this.#find(closed, [...declared.values()], {
      found,
      isLike: (_, endpoint, ref) => declared.get(endpoint.name) === ref,
    });
    // Anybody may have an interface with its MAC; but it keeps its index when it is moved, if that is free.
    const missing = isStart ? closed.filter(({ name }) => !found.has(name)) : [];
    const others = missing.length > 0 ? liveNamespaces().filter((ref) => netnsId(ref) !== netnsId(own)) : [];
    await this.#find(missing, others, { found, isLike: ({ ifindex }, { local }) => ifindex === local.ifindex });
    let hasMoved = false;
    for (const endpoint of wanted) {
      const place = found.get(endpoint.name);
      if (place && (await this.#follow(endpoint, place))) hasMoved = true;
      // It may have been carried off and brought back before weft has seen that.
      if (isStart && isOnItsWay(this.#parts.index.find(endpoint.name) ?? {})) this.#broughtBack.add(endpoint.name);
    }
    return hasMoved;
  }

  /**
   * Removes interfaces in weft's own namespace that no endpoint has any more: their engine has brought them back while weft
   * was not there.
   */
  async sweep(): Promise<void> {
    const own = await ownNetns();
    const [facts] = await readNamespaces(this.#environment.exchange, [own]);
    if (!facts || facts instanceof WeftError) return;
    const used = new Set(this.all().map(({ resource }) => resource.spec.interface));
    // What somebody has open is not left behind.
    const left = facts.links.filter(
      ({ ifname, queues }) => CARRIED_NAME.test(ifname) && queues === 0 && !used.has(ifname),
    );
    if (left.length === 0) return;
    this.#environment.warn('interfaces that no container has any more are removed', {
      interfaces: left.map(({ ifname }) => ifname),
    });
    await changeNamespaces(this.#environment.exchange, [{ ns: own, settings: [], requests: left.map(deleteLink) }]);
  }

  #isSought(endpoint: LocalEndpoint): boolean {
    if (endpoint.local.bootId !== this.#environment.bootId) return false;
    const problems = this.#parts.attachments.find(endpoint.name)?.problems ?? [];
    return isOnItsWay(endpoint) || endpoint.state === 'detached' || problems.length > 0;
  }

  /** The namespaces of their containers, by endpoint, as far as they are there. */
  async #declared(endpoints: readonly LocalEndpoint[]): Promise<Map<string, NetnsRef>> {
    const known = new Map<string, NetnsRef>();
    const declared = new Map<string, NetnsRef>();
    for (const { name, resource } of endpoints) {
      const ref = await resolveNetns({ netns: resource.spec.netns ?? '' }).catch(() => undefined);
      if (ref === undefined) continue;
      const one = known.get(netnsId(ref)) ?? ref;
      known.set(netnsId(one), one);
      declared.set(name, one);
    }
    return declared;
  }

  /** Asks the kernel where open interfaces are. @param namespaces in which they are likely to be */
  async #ask(endpoints: readonly LocalEndpoint[], namespaces: readonly NetnsRef[]): Promise<Map<string, Place>> {
    const places = new Map<string, TapPlace>();
    for (const { name, local } of endpoints) {
      const place = this.#environment.forwarding.datapath.portPlace(local.portNo as PortNo);
      if (place) places.set(name, place);
    }
    const known = new Map(namespaces.map((ref) => [netnsId(ref), ref]));
    const others = [...places.values()].filter((place) => !known.has(netnsId(place)));
    const paths =
      others.length > 0 ? findNetns(others.map((one) => ({ ...one, path: '' }))) : new Map<string, string>();
    for (const { dev, ino } of others) {
      const path = paths.get(netnsId({ dev, ino }));
      if (path !== undefined) known.set(netnsId({ dev, ino }), { path, dev, ino });
    }
    const found = new Map<string, Place>();
    const refs = [...known].flatMap(([id, ref]) =>
      [...places.values()].some((one) => netnsId(one) === id) ? ref : [],
    );
    await this.#find(
      endpoints.filter(({ name }) => places.has(name)),
      refs,
      {
        found,
        isLike: ({ ifname }, { name }, ref) =>
          places.get(name)!.ifname === ifname && netnsId(places.get(name)!) === netnsId(ref),
      },
    );
    return found;
  }

  /**
   * Adds to `found` which of these endpoints have their interfaces in which of these namespaces: a TAP with the MAC that is no
   * other endpoint's.
   */
  async #find(
    endpoints: readonly LocalEndpoint[],
    namespaces: readonly NetnsRef[],
    { found, isLike }: Search,
  ): Promise<void> {
    const refs = [...new Map(namespaces.map((ref) => [netnsId(ref), ref])).values()];
    if (endpoints.length === 0 || refs.length === 0) return;
    const read = await readNamespaces(this.#environment.exchange, refs);
    const owners = this.#owners();
    for (const [at, facts] of read.entries()) {
      if (facts instanceof WeftError) continue;
      const ref = refs[at]!;
      for (const endpoint of endpoints) {
        const { name, mac, local } = endpoint;
        if (found.has(name)) continue;
        const isFree = ({ ifindex }: LinkFacts): boolean => {
          const taken = owners.get(placeText(netnsId(ref), ifindex));
          return taken === undefined || taken.has(name);
        };
        const taps = facts.links
          .filter((link) => link.queues !== undefined && link.mac === mac && isFree(link))
          .filter((link) => isLike(link, endpoint, ref));
        const tap = taps.find(({ ifindex }) => ifindex === local.ifindex) ?? taps[0];
        if (!tap) continue;
        found.set(name, { ref, ifindex: tap.ifindex, cookie: facts.cookie });
        owners.set(placeText(netnsId(ref), tap.ifindex), new Set([name]));
      }
    }
  }

  /**
   * The endpoints of this host, by where their interfaces were last: endpoints of different networks may have the same MAC. Also
   * those that are not in force, and whose records are not accepted.
   */
  #owners(): Map<string, Set<string>> {
    const { records } = this.#parts;
    const owners = new Map<string, Set<string>>();
    for (const name of records.names()) {
      const local = records.find(name)!;
      if (local.bootId !== this.#environment.bootId || local.ifindex === undefined) continue;
      const at = placeText(netnsId(netnsOf(local)), local.ifindex);
      owners.set(at, (owners.get(at) ?? new Set()).add(name));
    }
    return owners;
  }

  /** @returns true if it was elsewhere */
  async #follow(endpoint: LocalEndpoint, { ref, ifindex, cookie }: Place): Promise<boolean> {
    const { name, local } = endpoint;
    const isSame = netnsId(netnsOf(local)) === netnsId(ref) && local.ifindex === ifindex;
    if (isSame && endpoint.state === 'attached') return false;
    const netns = { path: ref.path, dev: String(ref.dev), ino: String(ref.ino) };
    const moved = withCookie({ ...local, netns, ifindex }, cookie);
    if (!(await this.#parts.records.trySave(new Map([[name, moved]])))) return false;
    // It is opened anew, so that whoever keeps its descriptors knows where it is.
    await this.#placing.close(endpoint, { keep: true });
    this.#parts.index.set({ ...endpoint, local: moved, state: 'detached' });
    if (isOnItsWay({ local: moved }) && !isOnItsWay(endpoint)) this.#broughtBack.add(name);
    await this.#placing.place([name]);
    return true;
  }
}

interface Place {
  readonly ref: NetnsRef;
  readonly ifindex: number;
  readonly cookie: string | undefined;
}

interface Search {
  readonly found: Map<string, Place>;
  readonly isLike: (link: LinkFacts, endpoint: LocalEndpoint, ref: NetnsRef) => boolean;
}

function placeText(netns: string, ifindex: number): string {
  return `${netns} ${ifindex}`;
}
