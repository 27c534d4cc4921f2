/**
 * Hosts: the other ends of the overlay.
 *
 * An address given with `--peer` is a VTEP without a name. A Host resource gives one a name, so that endpoints of other hosts
 * can say where they are. With a store that several hosts share, each of them has registered itself there with its underlay
 * address, its id and a MAC of its own (`registration.ts`): peers follow the store, and what such a host sends is compared with
 * what the store has of it.
 */
import { WeftError } from '../../error.ts';
import { formatIp, isIp4, parseIp } from '../../flow/types.ts';
import type { Remote } from '../../forwarding/remote.ts';
import { hostKind, type HostResource } from '../../model/kinds/host.ts';
import { compareNames } from '../../model/name-order.ts';
import { hostRegistration, type HostRegistration } from '../../model/records.ts';
import type { ClashReport } from '../../model/report.ts';
import { validate } from '../../model/validate.ts';
import { hostMacOf } from '../../table/topology.ts';
import { joined, type Expectation, type Transaction } from '../../store/store.ts';
import { Declarations } from '../declarations.ts';
import { LEASE_MS } from './presence.ts';
import { keyOf, nameOfKey } from '../keys.ts';
import type { Declared, Draft, Planned, Stored } from '../reconciler.ts';
import type { RefusedRecords } from '../refused-records.ts';
import { claimKeys, claimsIn, leasedKeys, type HostClaims } from './registration.ts';

export interface HostsEnvironment {
  readonly forwarding: { readonly remote: Pick<Remote, 'addVtep' | 'removeVtep'> };
  /** The name of this host. */
  readonly name: string;
  /** The id of this host, as it is registered. */
  readonly id: string;
  /** Records that this host does not accept. */
  readonly refused: () => RefusedRecords;
  /** The address of this host, 16 bytes; undefined without an underlay, and until it is known. */
  readonly underlay: () => Uint8Array | undefined;
  /** The peers from the configuration, 16 bytes each. */
  readonly peers: readonly Uint8Array[];
  /** Why a host of the store must not be deleted; undefined if it may be. */
  readonly whyAlive: (name: string) => string | undefined;
  /** What a change expects if a host must not begin to run before it is made. */
  readonly stillGone: (name: string) => Expectation;
  /** All that a host of the store has there besides its registration. */
  readonly belongingsOf: (name: string) => Transaction;
  /** Called when a host that existed has another address, or is gone. */
  readonly onMoved: (name: string) => Promise<void>;
  /** Called when there are hosts that there were not before. */
  readonly onAdded: (names: ReadonlySet<string>) => Promise<void>;
}

/** What is known of a host besides its resource. */
interface Facts {
  /** One array for everything that is behind it. */
  readonly vtep: Uint8Array;
  readonly registration: HostRegistration | undefined;
}

export class Hosts extends Declarations<HostResource> {
  readonly #environment: HostsEnvironment;
  /** The peers from the configuration. */
  readonly #peers: ReadonlySet<string>;
  readonly #facts = new Map<string, Facts>();
  /** By underlay address, which two have only if something is wrong. */
  readonly #at = new Map<string, Set<string>>();
  /** The VTEPs in force, by address: the MACs of those that share the store. */
  readonly #followed = new Map<string, string | undefined>();
  /** Their addresses; another array after each change of a host. */
  #vteps: readonly string[] | undefined;

  constructor(environment: HostsEnvironment) {
    super('Host', 'a Host with its underlay address can be applied');
    this.#environment = environment;
    this.#peers = new Set(environment.peers.map(formatIp));
    this.#follow(this.#peers);
  }

  /**
   * The underlay addresses of all VTEPs: those from `--peer`, then of hosts by their names, whoever came first. The same array
   * as long as no host has changed.
   */
  vteps(): readonly string[] {
    return (this.#vteps ??= this.#inOrder());
  }

  #inOrder(): string[] {
    const all = new Set([...this.#peers, ...this.all().map(({ resource }) => resource.spec.underlay)]);
    return [...all].filter((underlay) => this.#followed.has(underlay));
  }

  /** The VTEP of a host, always the same array. @throws WeftError('not_found') */
  vtepOf(name: string): Uint8Array {
    return (this.#facts.get(name) ?? { vtep: parseIp(this.get(name).resource.spec.underlay) }).vtep;
  }

  /** The name of the host that has an underlay address; undefined if none has it. */
  nameAt(underlay: string): string | undefined {
    // Of several hosts with one address, the first one counts.
    return this.#namesAt(underlay)[0];
  }

  /** What a host that shares the store has registered; undefined for one that does not. */
  registrationOf(name: string): HostRegistration | undefined {
    return this.#facts.get(name)?.registration;
  }

  /** True if the store has such a host, be it one whose record this host does not accept. */
  isThere(name: string): boolean {
    return this.find(name) !== undefined || this.#environment.refused().revision(hostKind, name) !== undefined;
  }

  #isOwn(name: string): boolean {
    return this.registrationOf(name)?.id === this.#environment.id;
  }

  /** Hosts with the address of this one: `apply` refuses them, but the store may have them all the same. */
  clashes(): ClashReport[] {
    const own = this.#environment.underlay();
    if (!own) return [];
    const underlay = formatIp(own);
    return this.#namesAt(underlay)
      .filter((name) => name !== this.#environment.name && !this.#isOwn(name))
      .map((name) => ({
        detail: `host "${name}" is declared with underlay ${underlay}, the address of this host`,
        hint: `\`weft delete host ${name}\`, or give it its own address`,
      }));
  }

  /** What a change expects of this host if it must not be made after the host was removed. */
  expectation(): Expectation[] {
    const { name, refused } = this.#environment;
    const host = this.find(name);
    return host ? [refused().expectation(hostKind, host)] : [];
  }

  /** True if the name of this host is registered for another host. */
  get isTaken(): boolean {
    const { name, id } = this.#environment;
    const registration = this.registrationOf(name);
    return registration !== undefined && registration.id !== id;
  }

  override plan(resource: HostResource, draft: Draft): Planned {
    const { name } = resource.metadata;
    const { underlay } = resource.spec;
    const registration = this.registrationOf(name);
    const known = this.find(name);
    if (registration) {
      if (known!.resource.spec.underlay === underlay) return { ...super.plan(resource, draft), allotted: registration };
      throw new WeftError(
        'conflict',
        `host "${name}" has registered itself with underlay ${known!.resource.spec.underlay}, not ${underlay}: its address follows its configuration`,
      );
    }
    const own = this.#environment.underlay();
    if (name === this.#environment.name) throw new WeftError('conflict', `host "${name}" is this host itself`);
    if (own && formatIp(own) === underlay) {
      throw new WeftError('conflict', `host "${name}": underlay ${underlay} is the address of this host itself`);
    }
    if (own && isIp4(own) !== isIp4(parseIp(underlay))) {
      throw new WeftError(
        'invalid',
        `host "${name}": underlay ${underlay} is not of the family of this host’s underlay ${formatIp(own)}`,
      );
    }
    refuseTakenUnderlay(resource, [...this.all(), ...draft.planned<Declared<HostResource>>('Host').values()]);
    if (known && known.resource.spec.underlay !== underlay) {
      throw new WeftError(
        'conflict',
        `host "${name}" exists with underlay ${known.resource.spec.underlay}, not ${underlay}: delete it first`,
      );
    }
    return super.plan(resource, draft);
  }

  refuseRemoval(name: string): void {
    if (!this.#isOfStore(name)) return;
    if (name === this.#environment.name && !this.isTaken) {
      throw new WeftError(
        'conflict',
        `host "${name}" is this host itself: \`weft down --purge\` here, or \`weft down\` here and then delete it on another host`,
      );
    }
    const why = this.#environment.whyAlive(name);
    if (why !== undefined) {
      throw new WeftError(
        'conflict',
        `host "${name}" ${why}, and would register itself again: \`weft down\` there first; if it was stopped or has died just now, try again in ${LEASE_MS / 1000} s`,
      );
    }
  }

  /** With a host that has registered itself goes all that it has, unless it comes back just now. */
  planRemoval(name: string): Transaction {
    if (!this.#isOfStore(name)) return {};
    return joined({ expect: [this.#environment.stillGone(name)], delete: leasedKeys(name) }, this.#removal(name));
  }

  /** What goes with it, and is no presence: that ends by itself. */
  goesWith(name: string): string[] {
    return (this.#removal(name).delete ?? []).map(nameOfKey);
  }

  #removal(name: string): Transaction {
    if (!this.#isOfStore(name)) return {};
    return joined(this.#environment.belongingsOf(name), { delete: claimKeys(this.#claimsOf(name) ?? {}) });
  }

  /** True for a host that has registered itself, be it with a record that is not accepted. */
  #isOfStore(name: string): boolean {
    return this.registrationOf(name) !== undefined || this.#claimsOf(name)?.id !== undefined;
  }

  /**
   * What a host has claimed, as the store has it now. Where that is not accepted, what is in force may be another host's by now, and
   * what cannot be read stays: a claim of a host that does not exist counts for nothing.
   */
  #claimsOf(name: string): HostClaims | undefined {
    const refused = this.#environment.refused().entry(hostKind, name);
    if (refused) return this.#claimsOfNobodyElse(name, claimsIn(refused.value));
    const registration = this.registrationOf(name);
    return registration && { ...registration, underlay: this.get(name).resource.spec.underlay };
  }

  /** A record that is not accepted may name what another host has. */
  #claimsOfNobodyElse(name: string, claims: HostClaims): HostClaims {
    const others = new Set(
      [...this.#facts].flatMap(([other, { registration }]) =>
        other === name ? [] : [registration?.id, registration?.mac, this.find(other)?.resource.spec.underlay],
      ),
    );
    return Object.fromEntries(Object.entries(claims).filter(([, value]) => !others.has(value)));
  }

  /**
   * Takes this host out of the store, with all that it has there besides its endpoints. What has a lease goes with that: a large
   * transaction that is given up would leave it there without one, and then it would stay for good.
   */
  planFarewell(): Transaction {
    const { name } = this.#environment;
    if (!this.registrationOf(name) || this.isTaken) return {};
    return joined({ expect: this.expectation(), delete: [keyOf(hostKind, name)] }, this.#removal(name));
  }

  /** The hosts that share the store. */
  registered(): string[] {
    return [...this.#facts].flatMap(([name, { registration }]) => (registration ? [name] : []));
  }

  check({ record }: Stored<HostResource>): void {
    if ('id' in record) validate(hostRegistration, record);
  }

  override async put(stored: readonly Stored<HostResource>[]): Promise<void> {
    const moved: string[] = [];
    const added = new Set<string>();
    const touched = new Set<string>();
    for (const { name, resource, record } of stored) {
      const { underlay } = resource.spec;
      const known = this.find(name)?.resource.spec.underlay;
      touched.add(underlay);
      if (known === undefined) added.add(name);
      else if (known !== underlay) {
        moved.push(name);
        this.#leave(known, name);
        touched.add(known);
      }
      this.#facts.set(name, {
        vtep: (known === underlay ? this.#facts.get(name)?.vtep : undefined) ?? parseIp(underlay),
        registration: 'id' in record ? hostRegistration.parse(record) : undefined,
      });
      this.#at.set(underlay, (this.#at.get(underlay) ?? new Set()).add(name));
    }
    await super.put(stored);
    this.#follow(touched);
    for (const name of moved) await this.#environment.onMoved(name);
    if (added.size > 0) await this.#environment.onAdded(added);
  }

  override async remove(names: readonly string[]): Promise<void> {
    const touched = new Set<string>();
    for (const name of names) {
      const known = this.find(name)?.resource.spec.underlay;
      if (known === undefined) continue;
      this.#leave(known, name);
      this.#facts.delete(name);
      touched.add(known);
    }
    await super.remove(names);
    this.#follow(touched);
    for (const name of names) await this.#environment.onMoved(name);
  }

  #leave(underlay: string, name: string): void {
    const names = this.#at.get(underlay);
    names?.delete(name);
    if (names?.size === 0) this.#at.delete(underlay);
  }

  /** Those that have an underlay address, sorted. */
  #namesAt(underlay: string): string[] {
    return [...(this.#at.get(underlay) ?? [])].sort(compareNames);
  }

  /** The VTEP that there should be at an address. This host itself is none. */
  #wantedAt(underlay: string): { readonly mac: string | undefined } | undefined {
    const names = this.#namesAt(underlay);
    // Whatever else somebody has written into the store with its address.
    if (names.some((name) => this.#isOwn(name))) return undefined;
    const last = names.at(-1);
    if (last !== undefined) return { mac: this.registrationOf(last)?.mac };
    return this.#peers.has(underlay) ? { mac: undefined } : undefined;
  }

  /** @param underlays where a host has changed */
  #follow(underlays: Iterable<string>): void {
    const { forwarding } = this.#environment;
    this.#vteps = undefined;
    for (const underlay of underlays) {
      const wanted = this.#wantedAt(underlay);
      if (!wanted) {
        if (this.#followed.delete(underlay)) forwarding.remote.removeVtep(parseIp(underlay));
        continue;
      }
      const { mac } = wanted;
      if (this.#followed.has(underlay) && this.#followed.get(underlay) === mac) continue;
      this.#followed.set(underlay, mac);
      forwarding.remote.addVtep(parseIp(underlay), mac === undefined ? undefined : hostMacOf(Buffer.from(mac, 'hex')));
    }
  }
}

function refuseTakenUnderlay(
  { metadata: { name }, spec: { underlay } }: HostResource,
  hosts: readonly Declared<HostResource>[],
): void {
  const owner = hosts.find((other) => other.name !== name && other.resource.spec.underlay === underlay);
  if (owner) throw new WeftError('conflict', `host "${name}": underlay ${underlay} is taken by host "${owner.name}"`);
}
