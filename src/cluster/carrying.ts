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
 * An interface is known by its MAC, since its name and its index may be others in the container. Callers run the methods one
 * after the other.
 */
import { WeftError } from '../error.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { changeNamespaces, readNamespaces, type NamespaceFacts } from '../link/interface-facts.ts';
import { liveNamespaces, netnsId } from '../link/netns-lookup.ts';
import { ownNetns, resolveNetns, type NetnsRef } from '../link/netns.ts';
import { deleteLink } from '../link/rtnetlink.ts';
import type { EndpointParts, EndpointPlacing } from './endpoint-placing.ts';
import { isCarried, isLocal, isOnItsWay, netnsOf, withCookie, type Endpoint, type LocalEndpoint } from './endpoint.ts';

export interface CarryingEnvironment {
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
  /** Those that were looked for in all namespaces although nothing of them is open. */
  readonly #searched = new Set<string>();

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
    const { local: _, ...held } = endpoint;
    index.set({ ...held, state: 'detached' });
    failures.delete(name);
    this.#searched.delete(name);
    await records.trySave(new Map([[name, undefined]]));
  }

  /** Finds out where interfaces are that are on their way, or are not where they were. @returns true if one was found elsewhere */
  async look(): Promise<boolean> {
    const wanted = this.all()
      .filter(isLocal)
      .filter((endpoint) => this.#isSought(endpoint));
    if (wanted.length === 0) return false;
    const own = await ownNetns();
    const found = await this.#find(wanted, [own], { own });
    const declared = await Promise.all(
      wanted
        .filter(({ name }) => !found.has(name))
        .map(({ resource }) => resolveNetns({ netns: resource.spec.netns ?? '' }).catch(() => undefined)),
    );
    await this.#find(
      wanted,
      declared.filter((ref) => ref !== undefined),
      { own, found },
    );
    // What was in its container and is gone from there is gone: what has its MAC elsewhere is somebody else's.
    const missing = wanted.filter(
      (endpoint) => isOnItsWay(endpoint) && !found.has(endpoint.name) && !this.#searched.has(endpoint.name),
    );
    if (missing.length > 0) await this.#find(missing, liveNamespaces(), { own, found });
    for (const { name, state } of missing) if (state === 'detached' && !found.has(name)) this.#searched.add(name);
    let hasMoved = false;
    for (const endpoint of wanted) {
      const place = found.get(endpoint.name);
      if (place && (await this.#follow(endpoint, place))) hasMoved = true;
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

  /**
   * Which of these endpoints have their interfaces in which of these namespaces.
   * @param places weft's own namespace, and `found`, where what is found is added
   */
  async #find(
    endpoints: readonly LocalEndpoint[],
    namespaces: readonly NetnsRef[],
    { own, found = new Map<string, Place>() }: { readonly own: NetnsRef; readonly found?: Map<string, Place> },
  ): Promise<Map<string, Place>> {
    const refs = [...new Map(namespaces.map((ref) => [netnsId(ref), ref])).values()];
    const read = refs.length > 0 ? await readNamespaces(this.#environment.exchange, refs) : [];
    const owners = this.#owners();
    for (const [at, facts] of read.entries()) {
      if (facts instanceof WeftError) continue;
      for (const endpoint of endpoints) {
        const isOthers = (ifindex: number): boolean => {
          const owner = owners.get(placeText(netnsId(refs[at]!), ifindex));
          return owner !== undefined && owner !== endpoint.name;
        };
        const ifindex = found.has(endpoint.name)
          ? undefined
          : indexOf(endpoint, facts, { isOwn: netnsId(refs[at]!) === netnsId(own), isOthers });
        if (ifindex !== undefined) found.set(endpoint.name, { ref: refs[at]!, ifindex, cookie: facts.cookie });
      }
    }
    return found;
  }

  /** The endpoints of this host, by where their interfaces are: endpoints of different networks may have the same MAC. */
  #owners(): Map<string, string> {
    const { bootId } = this.#environment;
    return new Map(
      this.#parts.index
        .here()
        .filter(isLocal)
        .filter(({ local, state }) => state !== 'detached' && local.bootId === bootId && local.ifindex !== undefined)
        .map(({ name, local }) => [placeText(netnsId(netnsOf(local)), local.ifindex!), name]),
    );
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
    this.#searched.delete(name);
    await this.#placing.place([name]);
    return true;
  }
}

interface Place {
  readonly ref: NetnsRef;
  readonly ifindex: number;
  readonly cookie: string | undefined;
}

function placeText(netns: string, ifindex: number): string {
  return `${netns} ${ifindex}`;
}

/**
 * The index of its interface in a namespace; undefined if it is not there. In weft's own namespace it has the name that weft gave it:
 * what has its MAC there under another name is somebody else's.
 * @param where whether that is weft's own namespace, and which interfaces are those of other endpoints
 */
function indexOf(
  { mac, local, resource }: LocalEndpoint,
  { links }: NamespaceFacts,
  { isOwn, isOthers }: { readonly isOwn: boolean; readonly isOthers: (ifindex: number) => boolean },
): number | undefined {
  const taps = links
    .filter(({ queues, mac: own, ifindex }) => queues !== undefined && own === mac && !isOthers(ifindex))
    .filter(({ ifname }) => !isOwn || ifname === resource.spec.interface);
  return (taps.find(({ ifindex }) => ifindex === local.ifindex) ?? taps[0])?.ifindex;
}
