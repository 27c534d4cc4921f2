/**
 * Connections: which conversations are open, and which are opened and given up.
 *
 *   container ──original──► [ translated ] ──► outside        opened from inside
 *   outside   ──original──► [ translated ] ──► container      to a published port, or to one of a service: it goes to a backend
 *   weft      ──original──► [ translated ] ──► container      from a socket of weft itself
 *   container ──original──► [ translated ] ──► weft           to a socket of weft itself (`clients.ts`)
 *   container ──original──► [ translated ] ──► container      to the address of a service; it goes to a backend
 *   other host ─────────────original─────────► container      from outside to a backend; it was translated there
 *
 * A tuple is meaningful in one place only: in a network, outside, or among weft's own sockets. Each
 * connection can be found from both sides, by its original packets as they come in and by its replies. The store of the datapath
 * finds them (flow/connection-store.ts); nothing is kept here for a single connection. Connections that
 * are only tracked are opened and closed by the datapath.
 *
 * The number of connections is limited by the store, and tracked ones give way to translated ones, except for some that are
 * left to them. One endpoint may have `quota` translated ones. Beyond that, a new connection replaces one that is half-open
 * (nobody has answered it) or over, the oldest first; if there is none, the new one is refused. Of connections that have only
 * been half-open, or are over without having been in use, an endpoint may have `unprovenQuota`, so opening connections that
 * nobody answers takes no more than that. A connection ends by a timeout that depends on its state (RFC 5382 §5, RFC 4787
 * §4.3, RFC 5508 §3.2), or with its endpoint.
 *
 * When the backend of a connection within is gone, its record stays for a while (`retire`). So what its backend still
 * sends is known to be of that connection, and is not taken for packets that are to pass as they are. What its client
 * sends is known, too, if it is TCP; a datagram begins another connection.
 *
 * The records survive a crash, and `recover` takes over what they hold, except for connections to weft's
 * own sockets, which have gone.
 */
import {
  endVerdicts,
  isInternal,
  networkOf,
  OUTSIDE,
  turned,
  type ConnectionOpening,
  type ConnectionTuples,
  type Place,
  type ProtocolTuple,
  type Tuple,
} from '../flow/connection.ts';
import type { Action } from '../flow/action.ts';
import { awaitedAnswer, EXPENDABLE, isAnotherSyn, isGivenUp, isTaken, OVER } from '../flow/connection-state.ts';
import type { ConnectionStore, FoundConnection, GivenUp } from '../flow/connection-store.ts';
import type { DropReason } from '../flow/reason.ts';
import { sameBytes, type PortNo, type Vni } from '../flow/types.ts';
import type { RepliesIn } from './backends.ts';
import { entryAt, openPinAt, type ConnectionEntry } from './connection-entries.ts';
import { ConnectionOwners } from './connection-owners.ts';
import { ConnectionPlans, type PlanOptions } from './connection-plans.ts';
import { endpointOf, isToService, objectsOf, sentOutside } from './connection-ways.ts';
import { EndedConnections, isRemembered, pinnedAt, wasTracked, type PinnedConnection } from './ended-connections.ts';
import { choiceOf, clientOriginOf, type Opening } from './openings.ts';
import type { PolicyDirection } from './policy/policy.ts';
import { hasPort, type PortRanges } from './port-ranges.ts';
import { frontOf } from './service-fronts.ts';
import type { Services } from './services.ts';
import { allSlots, type NextSlot, type Slots } from './slots.ts';
import { TrackedConnections } from './tracked-connections.ts';
import { IP_UDP } from '../wire/ipv4.ts';

const NOBODY = new Uint8Array(16);

export interface ConnectionOptions extends PlanOptions {
  /** Called when a connection has ended, with the tuple that the transit address sent, or would have sent. */
  readonly onClosed?: ((outside: ProtocolTuple) => void) | undefined;
  /** Who is told of connections with a choice. */
  readonly services: Pick<
    Services,
    'opened' | 'closed' | 'recovered' | 'passOver' | 'reopened' | 'tableFor' | 'claimed'
  >;
}

export type Found = FoundConnection;

export class ConnectionTable {
  readonly ended: EndedConnections;
  readonly tracked: TrackedConnections;
  readonly #store: ConnectionStore;
  readonly #onClosed: ConnectionOptions['onClosed'];
  readonly #services: ConnectionOptions['services'];
  readonly #isAttached: NonNullable<ConnectionOptions['isAttached']>;
  readonly #owners = new ConnectionOwners();
  readonly #plans: ConnectionPlans;

  constructor(options: ConnectionOptions) {
    const { store, onClosed, services, isAttached = () => false } = options;
    this.#store = store;
    this.ended = new EndedConnections(store);
    this.tracked = new TrackedConnections(store);
    this.#services = services;
    this.#isAttached = isAttached;
    this.#onClosed = onClosed;
    this.#plans = new ConnectionPlans(this.#owners, { ...options, isAttached });
  }

  get size(): number {
    return this.#store.size;
  }

  get limit(): number {
    return this.#store.limit;
  }

  /** Slots below this one may have connections. */
  get slots(): number {
    return this.#store.records.ready;
  }

  /** False: no connection has packets that come in there. */
  hasAnyIn(place: Place): boolean {
    return this.#store.hasAnyIn(place);
  }

  lookup(place: Place, protocol: number, tuple: Tuple): Found | undefined {
    return this.#store.lookup(place, protocol, tuple);
  }

  /** True if there is a connection to or from the outside. @param sent the tuple that the transit address sends */
  isOpenOutside({ protocol, ...sent }: ProtocolTuple): boolean {
    const found = this.lookup(OUTSIDE, protocol, turned(sent));
    return found !== undefined && this.#store.records.kind(found.slot) !== 'ended';
  }

  /** The tuples of a connection that was found. */
  tuples(slot: number): ConnectionTuples {
    return this.#store.records.read(slot);
  }

  /** One that was found, with what each direction has sent. */
  pinnedAt(slot: number): PinnedConnection {
    return pinnedAt(this.#store.records, slot);
  }

  /** True if it had a choice of backends, and both sides have said that it is over. */
  isOverWithChoice(slot: number): boolean {
    const { records } = this.#store;
    return records.pin(slot) !== 0 && OVER.has(records.state(slot));
  }

  /** True if it may give way to another one: it is half-open, or over. */
  isExpendable(slot: number): boolean {
    return EXPENDABLE.has(this.#store.records.state(slot));
  }

  /** See `connection-state.ts`. */
  awaitedAnswer(slot: number): number | undefined {
    return awaitedAnswer(this.#store.records, slot);
  }

  /** True if it had a choice, nobody has answered, and a SYN with this sequence number is of another one. */
  isGivenUp(slot: number, sequence: number): boolean {
    return isGivenUp(this.#store.records, slot, sequence);
  }

  /** True if its backend has another conversation with the same ends. */
  needsOtherPort(slot: number): boolean {
    return isTaken(this.#store.records, slot);
  }

  /** True if a SYN with this sequence number begins another conversation than this tracked one. */
  isAnotherSyn({ slot, reply }: Found, sequence: number): boolean {
    return isAnotherSyn(this.#store.records, slot, reply, sequence);
  }

  /** True if no connection has that tuple, but one goes on with it (`ConnectionStore`). */
  isTaken(place: Place, protocol: number, tuple: Tuple): boolean {
    return this.#store.isTaken(place, protocol, tuple);
  }

  /** True if the slot still has the connection that was found there. */
  isOpen({ slot, generation }: Pick<Found, 'slot' | 'generation'>): boolean {
    return this.#store.records.generation(slot) === generation;
  }

  /** That of the connection which is in the slot now. */
  generationAt(slot: number): number {
    return this.#store.records.generation(slot);
  }

  /** From now on, packets of that direction take this cached flow. Does nothing if the connection has ended. */
  setFlow(found: Found, flow: number): void {
    this.#store.setFlow(found, flow);
  }

  /** The cached flow that packets of that direction take; 0 means none. */
  flow(found: Found): number {
    const flow = this.#store.records.flow(found.slot, found.reply);
    return this.isOpen(found) ? flow : 0;
  }

  /** Why it cannot be opened now; undefined if it can. */
  refusal(opening: Opening): DropReason | undefined {
    const plan = this.#plans.for(opening);
    return typeof plan === 'string' ? plan : undefined;
  }

  /**
   * From now on, the end of this connection is noted: the datapath does not close it by itself, as it may those whose backend
   * a balancing table chose. Who refers to a single connection claims it. Returns false if it has ended.
   */
  claim(found: Pick<Found, 'slot' | 'generation'>): boolean {
    const { slot, generation } = found;
    const { records } = this.#store;
    const table = records.table(slot);
    if (table === 0) return this.isOpen(found);
    if (!this.#store.claim(slot, generation)) return false;
    const connection = records.read(slot);
    this.#owners.add(networkOf(connection), endpointOf(connection));
    if (connection.pin !== undefined) this.#services.claimed(slot, connection.pin, table);
    return true;
  }

  /** How the datapath opens connections like this one by itself; undefined if it cannot. */
  balance(opening: Opening): Extract<Action, { op: 'balance' }> | undefined {
    return this.#plans.balance(opening);
  }

  /** Opens a connection unless it is refused. Returns the names of what changed. */
  open(opening: Opening, nowMs: number): readonly string[] {
    const plan = this.#plans.for(opening);
    if (typeof plan === 'string') return [];
    const { connection, addresses, givenUp } = plan;
    const changed = givenUp.flatMap((one) => this.#leave(one));
    const { vni, protocol, original } = opening;
    const endpoint = endpointOf(connection);
    const table = this.#plans.tableFor(opening);
    const owner = table === undefined ? this.#owners.add(vni, endpoint) : this.#owners.hold(vni, endpoint);
    const slot =
      owner === undefined
        ? -1
        : this.#store.open({ ...connection, ...(table !== undefined && { table }) }, owner, nowMs, givenUp);
    this.#plans.forget();
    if (slot < 0) {
      // Another thread has taken the room. What was to be given up has already been reported as over.
      for (const given of givenUp) this.#store.close(given.slot, given.generation);
      if (owner !== undefined && table === undefined) this.#owners.delete(vni, endpoint);
      return changed;
    }
    this.#plans.claimPort(connection, addresses);
    const choice = choiceOf(opening);
    if (choice && table === undefined)
      this.#services.opened(slot, choice, clientOriginOf(opening), { protocol, ...original }, nowMs);
    return [...changed, ...objectsOf(connection)];
  }

  /** Ends some of the connections that have been idle for too long; each call checks others. */
  expire(nowMs: number): readonly string[] {
    const changed: string[] = [];
    this.#plans.forget();
    for (const slot of this.#store.expire(nowMs)) changed.push(...this.#close(slot));
    this.#owners.release(({ number, vni, ip }) => !this.#isAttached(vni, ip) && isEmpty(this.#store.owned(number)));
    return changed;
  }

  /** Ends the connections of an endpoint's address for which `isOver` is true. @param onEnd called with each before it ends */
  forget(
    vni: Vni,
    ip: Uint8Array,
    isOver: (connection: ConnectionTuples) => boolean = () => true,
    onEnd: (connection: PinnedConnection) => void = () => {},
  ): readonly string[] {
    const [owner] = this.#owners.of(vni, [ip]);
    if (owner === undefined) return [];
    const { records } = this.#store;
    const found = [...this.#store.owned(owner)].map((slot) => ({ slot, generation: records.generation(slot) }));
    const over = found.filter(({ slot }) => {
      const connection = records.read(slot);
      // Meanwhile, threads of the datapath may have put one of another endpoint there.
      const isIts = networkOf(connection) === vni && sameBytes(endpointOf(connection), ip);
      return isIts && isOver(connection);
    });
    return over.flatMap((one) => {
      if (!this.claim(one)) return [];
      onEnd(this.pinnedAt(one.slot));
      return this.#close(one.slot);
    });
  }

  /** Ends the translated connections for which `isOver` is true, and forgets them. @param onEnd called with each before it ends */
  end(
    isOver: (connection: ConnectionTuples & { readonly vni: Vni }) => boolean,
    onEnd: (connection: PinnedConnection) => void = () => {},
  ): readonly string[] {
    const changed: string[] = [];
    const { records } = this.#store;
    for (const slot of this.#slots()) {
      if (records.kind(slot) === 'tracked') continue;
      const generation = records.generation(slot);
      const connection = records.read(slot);
      const isOne = isOver({ ...connection, vni: networkOf(connection) });
      if (!isOne || !this.claim({ slot, generation })) continue;
      onEnd(this.pinnedAt(slot));
      changed.push(...this.#close(slot));
    }
    return changed;
  }

  /** The connections that go to backends with these numbers, at most `limit`, of some slots. */
  pinned(pins: ReadonlySet<number>, limit = Infinity, slots = allSlots): readonly PinnedConnection[] {
    const { records } = this.#store;
    const next: NextSlot = (from, to) => records.nextPinned(from, to, pins);
    return pins.size === 0 ? [] : this.#toBackends(slots, limit, next, (slot) => pins.has(records.pin(slot)));
  }

  /** Those that go to other ports of these backends, by number, than they may, at most `limit` of some slots. */
  strayed(
    backends: ReadonlyMap<number, { readonly ports: PortRanges }>,
    limit = Infinity,
    slots = allSlots,
  ): readonly PinnedConnection[] {
    const { records } = this.#store;
    const next: NextSlot = (from, to) => records.nextPinned(from, to, backends);
    const isOne = (slot: number): boolean => {
      const { pin = 0, translated } = records.read(slot);
      const backend = backends.get(pin);
      return backend !== undefined && !hasPort(backend.ports, translated.destinationPort);
    };
    return backends.size === 0 ? [] : this.#toBackends(slots, limit, next, isOne);
  }

  /** The UDP connections through these addresses and node ports (`frontOf`) that lead elsewhere now, at most `limit` of some slots. */
  redirected(
    fronts: ReadonlySet<string>,
    leadsElsewhere: (connection: ConnectionTuples) => boolean,
    limit = Infinity,
    slots = allSlots,
  ): readonly PinnedConnection[] {
    const { records } = this.#store;
    const next: NextSlot = (from, to) => records.nextOfProtocol(from, to, IP_UDP);
    const isOne = (slot: number): boolean => {
      const connection = records.read(slot);
      return !connection.via && fronts.has(frontOf(connection)) && leadsElsewhere(connection);
    };
    return fronts.size === 0 ? [] : this.#toBackends(slots, limit, next, isOne);
  }

  /**
   * Finds connections to backends that have moved, at most `limit` of some slots, and changes the place where their replies
   * come in, so that they are found there: for their ends to be told, and then refused. Only if others have their tuple there,
   * the place stays. Returns them, and the names of what changed.
   */
  follow(
    moved: ReadonlyMap<number, RepliesIn>,
    nowMs: number,
    limit = Infinity,
    slots = allSlots,
  ): { readonly followed: readonly PinnedConnection[]; readonly changed: readonly string[] } {
    const { records } = this.#store;
    const next: NextSlot = (from, to) => records.nextPinned(from, to, moved);
    const isElsewhere = (slot: number): boolean => this.#placeIfMoved(records.read(slot), moved) !== undefined;
    const found = moved.size === 0 ? [] : this.#toBackends(slots, limit, next, isElsewhere);
    const changed: string[] = [];
    const followed = found.flatMap((connection) => {
      const replies = this.#placeIfMoved(connection, moved)!;
      if (this.#store.find(replies, connection.protocol, turned(connection.translated)) >= 0) return [connection];
      const port = records.port(connection.slot) as PortNo;
      changed.push(...this.#close(connection.slot));
      const slot = this.#reopen({ ...connection, port, places: [connection.places[0], replies] }, nowMs);
      return slot === undefined ? [] : [pinnedAt(records, slot)];
    });
    return { followed, changed };
  }

  /** Where its replies come in; undefined if that is where they come in already, or always do. */
  #placeIfMoved(connection: ConnectionTuples, moved: ReadonlyMap<number, RepliesIn>): Vni | undefined {
    const { places, pin } = connection;
    const replies = pin !== undefined && isToService(connection) ? moved.get(pin) : undefined;
    const place = replies === 'of_client' ? (places[0] as Vni) : replies;
    return place === places[1] ? undefined : place;
  }

  /** Opens again what was closed. Returns its slot; undefined if there is no room any more. */
  #reopen(connection: PinnedConnection & ConnectionOpening, nowMs: number): number | undefined {
    const [vni, endpoint] = [networkOf(connection), endpointOf(connection)];
    const owner = this.#owners.add(vni, endpoint);
    const slot = owner === undefined ? -1 : this.#store.open(connection, owner, nowMs);
    if (slot < 0) {
      if (owner !== undefined) this.#owners.delete(vni, endpoint);
      return undefined;
    }
    this.#services.reopened(slot, connection.pin!);
    for (const [at, half] of connection.halves.entries()) this.#store.records.writeHalf(slot, at === 1, half);
    return slot;
  }

  /** The connections that came in from outside by another host, at most `limit`, of some slots. */
  enteredBy(vtep: Uint8Array, limit = Infinity, slots = allSlots): readonly PinnedConnection[] {
    const { records } = this.#store;
    const next: NextSlot = (from, to) => records.nextVia(from, to, vtep);
    return this.#toBackends(slots, limit, next, (slot) => sameBytes(records.via(slot) ?? NOBODY, vtep));
  }

  /**
   * @param next whose records look like it: threads of the datapath may be writing others there
   * @param isOne judges what the record says, which holds if it can be claimed afterwards
   */
  #toBackends(
    { from, to }: Slots,
    limit: number,
    next: NextSlot,
    isOne: (slot: number) => boolean,
  ): readonly PinnedConnection[] {
    const found: PinnedConnection[] = [];
    const { records } = this.#store;
    for (let slot = from - 1; found.length < limit && (slot = next(slot + 1, to)) >= 0; ) {
      const generation = records.generation(slot);
      const isOpen = generation !== 0 && generation % 2 === 0 && records.kind(slot) === 'translated';
      if (isOpen && isOne(slot) && this.claim({ slot, generation })) found.push(pinnedAt(records, slot));
    }
    return found;
  }

  /**
   * Ends a connection whose backend, or entry host, is gone, or that policies deny, and remembers it for a while; UDP to the outside
   * is forgotten. The next datagram of its client goes to another backend, or is judged. Returns the names of what changed.
   * @param generation of one that is only tracked: another one may be in its slot by now
   * @param deniedFor the direction for which policies deny it. Then its client is not told after a crash
   */
  retire(
    slot: number,
    nowMs: number,
    generation = this.#store.records.generation(slot),
    deniedFor?: PolicyDirection,
  ): readonly string[] {
    const connection = this.#store.records.read(slot);
    if (!this.isOpen({ slot, generation })) return [];
    if (!isRemembered(connection)) return this.#close(slot, generation);
    this.#plans.forget();
    if (connection.pin !== undefined) this.#services.closed(slot, connection.pin);
    const verdict = deniedFor ? endVerdicts[`denied_${deniedFor}`] : endVerdicts.other;
    this.#store.end(slot, nowMs, generation, verdict);
    // No decision about packets of one that is only tracked depends on this one.
    return connection.kind === 'tracked' ? [] : objectsOf(connection);
  }

  /** Forgets one that has ended: what its ends send begins another one. Returns the names of what changed. */
  forgetEnded({ slot, generation }: GivenUp): readonly string[] {
    return this.ended.has(slot) ? this.#close(slot, generation) : [];
  }

  /** Takes over what the records already hold, before anything else is opened, and frees incomplete ones. */
  recover(nowMs: number): void {
    for (const slot of this.#store.recover(nowMs)) {
      const connection = this.#store.records.read(slot);
      if (isInternal(connection)) {
        this.#store.adopt(slot, 0);
        this.#store.close(slot);
        continue;
      }
      if (wasTracked(connection)) {
        this.#store.adopt(slot, 0);
        continue;
      }
      const owner = this.#owners.add(networkOf(connection), endpointOf(connection));
      // There are always as many owners as endpoints, unless the records belong to another switch.
      this.#store.adopt(slot, owner ?? 0);
      if (owner === undefined) this.#store.close(slot);
      else this.#takeOver(connection);
      this.ended.recover(slot);
    }
  }

  #takeOver(connection: ConnectionTuples): void {
    this.#plans.claimPort(connection);
    if (connection.pin === undefined) return;
    if (connection.kind === 'translated') this.#services.recovered(connection, connection.pin);
    // It has ended, and is still told of.
    else this.#services.passOver(connection.pin);
  }

  *entries(): Generator<ConnectionEntry> {
    for (const slot of this.#slots()) {
      const entry = this.entry(slot);
      if (entry) yield entry;
    }
  }

  /** The connection in that slot; undefined if there is none. */
  entry(slot: number): ConnectionEntry | undefined {
    return entryAt(this.#store.records, slot);
  }

  /** The table that chose the backend of the connection in that slot, if the datapath may close it by itself. */
  balancedAt(slot: number): { readonly table: number; readonly pin: number } | undefined {
    const { records } = this.#store;
    const table = records.generation(slot) === 0 ? 0 : records.table(slot);
    return table === 0 ? undefined : { table, pin: records.pin(slot) };
  }

  /** For each slot that was ever used: the number of the backend of its connection; 0 if it has none, or if it is over. */
  *openPins(): Generator<number> {
    const { records } = this.#store;
    for (let slot = 0; slot < records.ready; slot++) yield openPinAt(records, slot);
  }

  *#slots(): Generator<number> {
    const { records } = this.#store;
    for (let slot = 0; slot < records.ready; slot++) {
      const generation = records.generation(slot);
      if (generation !== 0 && generation % 2 === 0) yield slot;
    }
  }

  /**
   * Called before it is closed. Returns the names of what changes: for one that the datapath may close by itself, that is
   * nothing.
   */
  #leave({ slot, generation }: GivenUp): string[] {
    this.#plans.forget();
    const { records } = this.#store;
    const connection = records.read(slot);
    // Only the datapath closes connections without being told to, and puts others there.
    const isOfDatapath = generation === 0 || generation % 2 === 1 || records.generation(slot) !== generation;
    if (isOfDatapath || connection.kind === 'tracked' || connection.table !== undefined) return [];
    if (wasTracked(connection)) return objectsOf(connection);
    if (connection.kind === 'translated' && connection.pin !== undefined) this.#services.closed(slot, connection.pin);
    this.#plans.releasePort(connection);
    if (connection.places.includes(OUTSIDE))
      this.#onClosed?.({ protocol: connection.protocol, ...sentOutside(connection) });
    this.#owners.delete(networkOf(connection), endpointOf(connection));
    return objectsOf(connection);
  }

  #close(slot: number, generation = this.#store.records.generation(slot)): string[] {
    const changed = this.#leave({ slot, generation });
    this.#store.close(slot, generation);
    return changed;
  }
}

function isEmpty(slots: Iterable<number>): boolean {
  for (const _ of slots) return false;
  return true;
}
