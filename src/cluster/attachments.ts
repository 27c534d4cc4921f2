/**
 * The interfaces of this host's endpoints, in their network namespaces.
 *
 *   open ──► the port carries frames      its TAP is created, or found again
 *   mend ──► the interface is repaired    read, compared and changed, many at once
 *
 * Opening and mending are separate because frames pass as soon as a TAP is open: after a restart,
 * all TAPs are opened before any interface is checked. Starting, renewing and applying all use
 * `mend`. Problems that it finds but leaves (`interface-plan.ts` explains why) are shown by
 * `status`, `endpoints` and `doctor`.
 *
 * If a TAP cannot be opened now (another program has it open, or there are no file descriptors),
 * its endpoint waits. An interface is identified by its index and a namespace by device and inode,
 * because both can be renamed. Callers run the methods that change something one after the other.
 */
import { WeftError } from '../error.ts';
import { type PortNo } from '../flow/types.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import type { Forwarding, TapOpened } from '../forwarding.ts';
import {
  changeNamespaces,
  readNamespaces,
  type NamespaceChange,
  type NamespaceFacts,
} from '../link/interface-facts.ts';
import {
  planInterface,
  type InterfaceGiven,
  type InterfacePlan,
  type InterfaceWanted,
} from '../link/interface-plan.ts';
import { findNetns, netnsId } from '../link/netns-lookup.ts';
import { isSameNetns, type NetnsRef } from '../link/netns.ts';
import type { NetnsWatcher } from '../link/netns-watcher.ts';
import { deleteLink, setLink, type LinkFacts } from '../link/rtnetlink.ts';
import { compareNames } from '../model/name-order.ts';
import {
  accessPort,
  isCarried,
  isOnItsWay,
  netnsOf,
  poolOf,
  ratesOf,
  tapSpec,
  type LocalEndpoint,
  type LocalRecord,
} from './endpoint.ts';
import type { Networks } from './networks.ts';

export interface AttachmentsEnvironment {
  readonly forwarding: Forwarding;
  readonly networks: Networks;
  readonly watcher: NetnsWatcher;
  readonly exchange: ExchangeWithNetns;
  /** Called when the namespace of an open or waiting endpoint is gone. */
  readonly onNamespaceGone: (gone: Attached) => void;
  readonly warn: (message: string, details: object) => void;
}

/**
 * One interface of an endpoint, from when it is opened or waited for until it is closed. An endpoint that is attached again
 * has another one, and so has another endpoint at the same port number.
 */
export interface Attached {
  readonly endpoint: string;
}

/** What this host knows of the interface of an open or waiting endpoint. */
interface Attachment extends Attached {
  /** The namespace under the path that is being watched. */
  readonly watched: NetnsRef;
  /** The namespace under its current path. */
  netns: NetnsRef;
  /** The number of open queues; undefined while the endpoint waits. */
  queues: number | undefined;
  ifname: string;
  /** What the kernel calls the namespace, once the interface has been found there. */
  cookie: string | undefined;
  /** What the last check found missing, as one text. */
  lacked: string;
  problems: readonly string[];
}

export interface Mended {
  readonly endpoint: LocalEndpoint;
  /** What weft has given to the interface so far. */
  readonly given: InterfaceGiven;
  /** What was restored. */
  readonly mended: readonly string[];
}

/** An endpoint, and the plan for its interface. */
interface Compared {
  readonly endpoint: LocalEndpoint;
  readonly attachment: Attachment;
  readonly plan: InterfacePlan;
}

/** The result of trying to open a TAP again. */
export type Reopened =
  | { readonly state: 'attached'; readonly ifindex: number }
  /** The interface no longer exists. weft does not create it again by itself. Its namespace may be gone, too (`gone`). */
  | { readonly state: 'detached'; readonly why: string }
  | { readonly state: 'waiting'; readonly why: string };

/** How many endpoints one check covers. */
const LOOKED_AT_ONCE = 20;
/** All endpoints are covered within this many checks, unless there are too many for that. */
const LOOKS = 5;

export class Attachments {
  readonly #environment: AttachmentsEnvironment;
  /** By endpoint name. Those that have not been checked for longest come first. */
  readonly #attachments = new Map<string, Attachment>();
  readonly #portNames = new Map<number, string>();

  constructor(environment: AttachmentsEnvironment) {
    this.#environment = environment;
  }

  portName(portNo: number): string | undefined {
    return this.#portNames.get(portNo);
  }

  /** The interface that is open at a port. */
  at(portNo: number): Attached | undefined {
    return this.#attachments.get(this.#portNames.get(portNo) ?? '');
  }

  /** False if it was closed in the meantime. */
  isCurrent(attached: Attached): boolean {
    return this.#attachments.get(attached.endpoint) === attached;
  }

  isOpen(name: string): boolean {
    return this.#attachments.get(name)?.queues !== undefined;
  }

  /** The namespace of its interface, the interface's current name, and what is wrong with it. */
  find(
    name: string,
  ): { readonly netns: string; readonly ifname: string; readonly problems: readonly string[] } | undefined {
    const attachment = this.#attachments.get(name);
    return attachment && { netns: attachment.netns.path, ifname: attachment.ifname, problems: attachment.problems };
  }

  /** The problems of all endpoints that have any. */
  problems(): Record<string, string[]> {
    const all = [...this.#attachments].filter(([, { problems }]) => problems.length > 0);
    return Object.fromEntries(
      all.sort(([a], [b]) => compareNames(a, b)).map(([name, { problems }]) => [name, [...problems]]),
    );
  }

  /** The current paths of the namespaces of `endpoints`, by endpoint. Namespaces that are gone are left out. */
  locate(endpoints: readonly LocalEndpoint[]): ReadonlyMap<string, NetnsRef> {
    const refs = endpoints.map(({ name, local }) => ({ name, ref: netnsOf(local) }));
    const isThere = new Map(refs.map(({ name, ref }) => [name, isSameNetns(ref)]));
    const lost = refs.filter(({ name }) => !isThere.get(name)).map(({ ref }) => ref);
    const paths = lost.length > 0 ? findNetns(lost) : new Map<string, string>();
    return new Map(
      refs.flatMap(({ name, ref }) => {
        if (isThere.get(name)) return [[name, ref] as const];
        const path = paths.get(netnsId(ref));
        return path === undefined ? [] : [[name, { ...ref, path }] as const];
      }),
    );
  }

  /** The namespace of an open or waiting endpoint's interface. */
  netns(name: string): NetnsRef | undefined {
    return this.#attachments.get(name)?.netns;
  }

  /**
   * Creates the interface of a new endpoint; it is still down. @returns its index @throws WeftError, leaving nothing
   * behind
   * @param options.mayBeThere true if an interface may have been created before a crash that kept it from being stored
   */
  make(endpoint: LocalEndpoint, netns: NetnsRef, { mayBeThere }: { readonly mayBeThere: boolean }): number {
    const { forwarding } = this.#environment;
    const opened = forwarding.addPort(this.#port(endpoint), tapSpec(endpoint, netns))!;
    // A path can lead to another namespace by now, and another program can have created the interface first.
    const isElsewhere = opened.dev !== netns.dev || opened.ino !== netns.ino;
    if (isElsewhere || !(opened.created || mayBeThere)) {
      forwarding.removePort(endpoint.local.portNo as PortNo, { keep: !opened.created });
      const why = isElsewhere ? 'leads to another network namespace now' : 'has the interface already';
      throw new WeftError('conflict', `endpoint "${endpoint.name}": ${netns.path} ${why}`);
    }
    this.#enter(endpoint, netns, opened.queues);
    return opened.ifindex;
  }

  /**
   * Opens the TAPs of endpoints that have one: at a start, and later for those that were busy then. All are opened at
   * once, and all are known before a frame of any is decided. `netns` is where the TAP is.
   */
  reopen(places: readonly { readonly endpoint: LocalEndpoint; readonly netns: NetnsRef }[]): Reopened[] {
    const opened = this.#environment.forwarding.addPorts(
      places.map(({ endpoint, netns }) => ({ port: this.#port(endpoint), spec: tapSpec(endpoint, netns) })),
    );
    return places.map(({ endpoint, netns }, at) => this.#reopened(endpoint, netns, opened[at]!));
  }

  #reopened(endpoint: LocalEndpoint, netns: NetnsRef, opened: TapOpened | WeftError): Reopened {
    if (!(opened instanceof WeftError) && !opened.created) {
      this.#enter(endpoint, netns, opened.queues);
      return { state: 'attached', ifindex: opened.ifindex };
    }
    if (!(opened instanceof WeftError)) {
      this.#environment.forwarding.removePort(endpoint.local.portNo as PortNo);
      this.#leave(endpoint.name);
      const why = `interface "${endpoint.resource.spec.interface}" in ${netns.path} was deleted`;
      return { state: 'detached', why };
    }
    const why = opened.message;
    if (opened.code === 'not_found') {
      this.#leave(endpoint.name);
      return { state: 'detached', why };
    }
    this.#enter(endpoint, netns, undefined);
    this.#attachments.get(endpoint.name)!.problems = [why];
    return { state: 'waiting', why };
  }

  /**
   * Those of these endpoints, whose interface is not there, that have lost their namespace as well: what is found under its path
   * or number is another one, because the kernel gives the number of one that is gone to the next at once. Where the kernel's
   * name for the namespace is not known, another path means another namespace.
   */
  async gone(
    places: readonly { readonly endpoint: LocalEndpoint; readonly netns: NetnsRef }[],
  ): Promise<ReadonlySet<string>> {
    const named = places.filter(({ endpoint }) => endpoint.local.netns.cookie !== undefined);
    const read = named.length > 0 ? await this.#read(named.map(({ netns }) => netns)) : [];
    const facts = new Map(named.map(({ endpoint: { name } }, at) => [name, read[at]!]));
    const gone = places.filter(({ endpoint: { name, local }, netns }) => {
      const found = facts.get(name);
      // Nobody has looked: a release is for good, and the next start looks again.
      if (found instanceof WeftError && found.code !== 'not_found') return false;
      const cookie = found && cookieOf(found);
      return cookie === undefined ? netns.path !== local.netns.path : cookie !== local.netns.cookie;
    });
    return new Set(gone.map(({ endpoint }) => endpoint.name));
  }

  #read(namespaces: readonly NetnsRef[]): Promise<(NamespaceFacts | WeftError)[]> {
    return readNamespaces(this.#environment.exchange, namespaces);
  }

  /** What the kernel calls the namespace of an open interface; undefined as long as that is not known. */
  cookie(name: string): string | undefined {
    return this.#attachments.get(name)?.cookie;
  }

  /** Notes that the interface of `endpoint` cannot be created now. */
  wait(endpoint: LocalEndpoint, netns: NetnsRef, why: string): void {
    this.#enter(endpoint, netns, undefined);
    this.#attachments.get(endpoint.name)!.problems = [why];
  }

  /** Removes the interface of an endpoint that is no longer declared. */
  async removeLeft(name: string, local: LocalRecord): Promise<void> {
    const netns = netnsOf(local);
    const path = isSameNetns(netns) ? netns.path : findNetns([netns]).get(netnsId(netns));
    if (path !== undefined) await this.#deleteInterface({ name, local }, { ...netns, path });
  }

  /** Closes the port. With `keep`, the interface stays; otherwise it is removed, even if it could not be opened. */
  async close(endpoint: LocalEndpoint, { keep }: { readonly keep: boolean }): Promise<void> {
    const attachment = this.#attachments.get(endpoint.name);
    this.#leave(endpoint.name);
    if (!attachment) return;
    if (attachment.queues !== undefined) {
      this.#portNames.delete(endpoint.local.portNo);
      this.#environment.forwarding.removePort(endpoint.local.portNo as PortNo, { keep });
    } else if (!keep) {
      await this.#deleteInterface(endpoint, attachment.netns);
    }
  }

  /** Applies changed rates and changed permissions to an open port. */
  change(endpoint: LocalEndpoint, { isLimitSame }: { readonly isLimitSame: boolean }): void {
    if (!this.isOpen(endpoint.name)) return;
    const { forwarding } = this.#environment;
    const portNo = endpoint.local.portNo as PortNo;
    if (!isLimitSame)
      this.#noteMended(endpoint, forwarding.limitPort(portNo, ratesOf(endpoint.resource.spec.rateLimit)));
    forwarding.changePort(this.#port(endpoint));
  }

  /** Configures a new interface completely. @throws WeftError with the first thing that failed */
  async give(endpoint: LocalEndpoint): Promise<InterfaceGiven> {
    const attachment = this.#attachments.get(endpoint.name)!;
    const { netns } = attachment;
    const [facts] = await this.#read([netns]);
    const plan = this.#plan(endpoint, attachment, facts!);
    if (plan instanceof WeftError) throw plan;
    const [failed] = await changeNamespaces(this.#environment.exchange, [{ ns: netns, ...plan }]);
    // Where IPv6 cannot be enabled, IPv4 works alone, and the problem is reported.
    if (plan.settings.length > 0 && failed!.length > 0) {
      await this.mend([{ ...endpoint, local: { ...endpoint.local, given: plan.given } }]);
    } else if (failed![0]) {
      throw failed![0];
    }
    return plan.given;
  }

  /** Gives a new interface its MAC and its MTU; all else is up to whoever carries it off. @throws WeftError */
  async prepare({ name, resource, mac, local }: LocalEndpoint): Promise<void> {
    const ns = this.#netns(name);
    const [facts] = await this.#read([ns]);
    if (facts instanceof WeftError) throw facts;
    const link = tapOf(facts!, local.ifindex);
    if (!link) throw new WeftError('system', `interface "${resource.spec.interface}" in ${ns.path} was deleted`);
    const { mtu } = this.#environment.networks.get(resource.spec.network);
    const change = { mac, mtu, ...(link.ip6 && { addrgenmode: 'eui64' as const }) };
    const [failed] = await changeNamespaces(this.#environment.exchange, [
      { ns, settings: [], requests: [setLink(link, change)] },
    ]);
    if (failed![0]) throw failed![0];
  }

  /** The endpoints to check next. Those that lack something are checked again soon. */
  due(): string[] {
    const open = [...this.#attachments].filter(([, { queues }]) => queues !== undefined);
    const turn = open.slice(0, Math.min(LOOKED_AT_ONCE, Math.ceil(open.length / LOOKS)));
    const lacking = open.slice(turn.length).filter(([, { lacked }]) => lacked !== '');
    for (const [name, attachment] of turn) {
      this.#attachments.delete(name);
      this.#attachments.set(name, attachment);
    }
    return [...turn, ...lacking.slice(0, LOOKED_AT_ONCE)].map(([name]) => name);
  }

  /** The problems of the interfaces, by endpoint. Checks without changing anything. */
  async inspect(endpoints: readonly LocalEndpoint[]): Promise<Record<string, string[]>> {
    const compared = await this.#compare(endpoints);
    const lacking = compared.map(({ endpoint, plan }) => [endpoint.name, lackingText(plan)] as const);
    return Object.fromEntries([
      ...Object.entries(this.problems()),
      ...lacking.filter(([, problems]) => problems.length > 0).map(([name, problems]) => [name, problems] as const),
    ]);
  }

  /**
   * Compares the interfaces of open endpoints with what they were given, and repairs them.
   * @param options.isPatient leaves what is missing for the first time: somebody may be about to restore it elsewhere
   */
  async mend(endpoints: readonly LocalEndpoint[], { isPatient = false } = {}): Promise<Mended[]> {
    const { exchange, forwarding } = this.#environment;
    const changes: (NamespaceChange & Compared & { readonly renewed: readonly string[] })[] = [];
    const results: Mended[] = [];
    for (const compared of await this.#compare(endpoints)) {
      const { endpoint, attachment, plan } = compared;
      const renewed = forwarding.datapath.portSet(endpoint.local.portNo as PortNo);
      this.#note(endpoint.name, attachment, plan.problems);
      const lacks = plan.lacks.join(', ');
      const isToMend = !isPatient || lacks === attachment.lacked;
      attachment.lacked = lacks;
      if (plan.requests.length > 0 && isToMend) changes.push({ ns: attachment.netns, ...plan, ...compared, renewed });
      else if (plan.requests.length === 0) results.push({ endpoint, given: plan.given, mended: renewed });
    }
    const failed = changes.length > 0 ? await changeNamespaces(exchange, changes) : [];
    for (const [at, { endpoint, attachment, plan, renewed }] of changes.entries()) {
      const errors = failed[at]!.map(({ message }) => message);
      if (errors.length > 0) {
        this.#note(endpoint.name, attachment, [...plan.problems, ...errors]);
        continue;
      }
      attachment.lacked = '';
      results.push({ endpoint, given: plan.given, mended: [...renewed, ...plan.lacks] });
    }
    for (const { endpoint, mended } of results) this.#noteMended(endpoint, mended);
    return results;
  }

  #noteMended({ name }: LocalEndpoint, mended: readonly string[]): void {
    if (mended.length > 0) this.#environment.warn('the interface was restored', { endpoint: name, mended });
  }

  /**
   * Sets the MTU of interfaces that still have the MTU `before`, or more than `mtu`. Smaller ones stay: the container
   * chose them.
   */
  async changeMtu(
    endpoints: readonly LocalEndpoint[],
    { before, mtu }: { before: number; mtu: number },
  ): Promise<void> {
    const { exchange, warn } = this.#environment;
    const open = endpoints.filter(({ name }) => this.isOpen(name));
    const facts = open.length > 0 ? await this.#read(open.map(({ name }) => this.#netns(name))) : [];
    const changes = open.flatMap(({ name, local }, at) => {
      const found = facts[at]!;
      const link = found instanceof WeftError ? undefined : tapOf(found, local.ifindex);
      if (!link || (link.mtu !== before && link.mtu <= mtu)) return [];
      return [{ name, ns: this.#netns(name), settings: [], requests: [setLink(link, { mtu })] }];
    });
    const failed = changes.length > 0 ? await changeNamespaces(exchange, changes) : [];
    for (const [at, { name }] of changes.entries()) {
      for (const { message } of failed[at]!) warn('the MTU was not changed', { endpoint: name, mtu, error: message });
    }
  }

  /**
   * Reads the namespaces of all open endpoints at once. If an endpoint cannot be compared, that is noted as its
   * problem.
   */
  async #compare(endpoints: readonly LocalEndpoint[]): Promise<Compared[]> {
    const open = endpoints.filter((endpoint) => this.isOpen(endpoint.name) && !isOnItsWay(endpoint));
    if (open.length === 0) return [];
    const namespaces = new Map(open.map(({ name }) => [netnsId(this.#netns(name)), this.#netns(name)]));
    const read = await this.#read([...namespaces.values()]);
    const facts = new Map([...namespaces.keys()].map((id, at) => [id, read[at]!]));
    return open.flatMap((endpoint) => {
      const attachment = this.#attachments.get(endpoint.name);
      if (!attachment) return [];
      const plan = this.#plan(endpoint, attachment, facts.get(netnsId(attachment.netns))!);
      if (!(plan instanceof WeftError)) return [{ endpoint, attachment, plan }];
      this.#note(endpoint.name, attachment, [plan.message]);
      return [];
    });
  }

  #port(endpoint: LocalEndpoint) {
    return accessPort(endpoint, this.#environment.networks.get(endpoint.resource.spec.network));
  }

  #enter(endpoint: LocalEndpoint, netns: NetnsRef, queues: number | undefined): void {
    const { name, resource, local } = endpoint;
    if (queues !== undefined) this.#portNames.set(local.portNo, name);
    const known = this.#attachments.get(name);
    if (known) {
      known.queues = queues;
      known.problems = [];
      return;
    }
    const ifname = resource.spec.interface;
    const attachment: Attachment = {
      endpoint: name,
      watched: netns,
      netns,
      queues,
      ifname,
      cookie: undefined,
      lacked: '',
      problems: [],
    };
    this.#attachments.set(name, attachment);
    const { watcher, onNamespaceGone } = this.#environment;
    watcher.watch(
      netns,
      () => onNamespaceGone(attachment),
      (moved) => (attachment.netns = moved),
    );
  }

  #leave(name: string): void {
    const attachment = this.#attachments.get(name);
    if (attachment) this.#environment.watcher.unwatch(attachment.watched);
    this.#attachments.delete(name);
  }

  #netns(name: string): NetnsRef {
    return this.#attachments.get(name)!.netns;
  }

  #plan(endpoint: LocalEndpoint, attachment: Attachment, facts: NamespaceFacts | WeftError): InterfacePlan | WeftError {
    if (facts instanceof WeftError) return facts;
    const { ifindex, given } = endpoint.local;
    const link = tapOf(facts, ifindex);
    if (!link) {
      const { ifname, netns } = attachment;
      return new WeftError(
        'not_found',
        `interface "${ifname}" is no longer in ${netns.path}: move it back from the namespace that it was moved to, or detach the endpoint`,
      );
    }
    attachment.ifname = link.ifname;
    attachment.cookie = facts.cookie;
    return planInterface(this.#wanted(endpoint, attachment), given, link, facts);
  }

  #wanted({ name, resource, addresses, mac }: LocalEndpoint, { queues = 0 }: Attachment): InterfaceWanted {
    const network = this.#environment.networks.get(resource.spec.network);
    // Whoever carries it into the container gives it addresses and routes.
    const own = isCarried(resource) ? [] : addresses;
    const pools = network.pools.filter((pool) => own.some((ip) => pool.contains(ip)));
    return {
      mac,
      isTrusted: resource.spec.trust,
      mtu: network.mtu,
      addresses: own.map((ip) => ({ ip, prefixLength: poolOf(network, ip, name).prefixLength })),
      gateways: pools.map(({ gateway }) => gateway),
      hasOutside: network.resource.spec.outside,
      queues,
    };
  }

  #note(name: string, attachment: Attachment, problems: readonly string[]): void {
    if (problems.join() === attachment.problems.join()) return;
    attachment.problems = problems;
    if (problems.length > 0)
      this.#environment.warn('the interface is not as weft configured it', { endpoint: name, problems });
  }

  /** Deletes an interface that another program has open. */
  async #deleteInterface({ name, local }: Pick<LocalEndpoint, 'name' | 'local'>, netns: NetnsRef): Promise<void> {
    const { exchange, warn } = this.#environment;
    const [facts] = await this.#read([netns]);
    if (facts instanceof WeftError) return; // gone, and the interface with it
    const { cookie } = local.netns;
    if (cookie !== undefined && facts!.cookie !== undefined && cookie !== facts!.cookie) return; // the number is another one's by now
    const link = tapOf(facts!, local.ifindex);
    if (!link) return;
    const [failed] = await changeNamespaces(exchange, [{ ns: netns, settings: [], requests: [deleteLink(link)] }]);
    if (failed!.length > 0) warn('its interface was left behind', { endpoint: name, error: failed![0]!.message });
  }
}

function cookieOf(facts: NamespaceFacts | WeftError): string | undefined {
  return facts instanceof WeftError ? undefined : facts.cookie;
}

/** Finds a TAP by its index. If the TAP has moved to another namespace, that index may belong to anything here. */
function tapOf({ links }: NamespaceFacts, index: number | undefined): LinkFacts | undefined {
  return links.find(({ ifindex, queues }) => ifindex === index && queues !== undefined);
}

function lackingText({ lacks, problems }: InterfacePlan): string[] {
  if (lacks.length === 0) return [...problems];
  return [...problems, `${lacks.join(', ')} missing: \`weft up\` puts back what it gave within seconds`];
}
