/**
 * Endings: connections that end although neither end has said so, because a backend or a host is gone, and telling those who
 * are still there.
 *
 * What nobody could use any more is ended at once, the first ones before a call returns. If there are many, the others follow in
 * the next turns. An end that speaks TCP gets a reset, as its peer would have sent it, and from then on what it sends is
 * refused.
 *
 * Owned by the thread of the switch.
 */
import type { Datapath } from '../datapath/datapath.ts';
import { OUTSIDE, type ConnectionTuples } from '../flow/connection.ts';
import type { PortNo, Vni } from '../flow/types.ts';
import { resetOfBackend, resetsOf, type Resets } from '../pipeline/resets.ts';
import type { Tables } from '../pipeline/stage.ts';
import type { Changes } from '../table/changes.ts';
import type { PinnedConnection } from '../table/ended-connections.ts';
import { GoneAddresses } from '../table/gone-addresses.ts';
import type { FarResets } from './far-resets.ts';
import { inTurns, type Later } from './turns.ts';

export interface EndingsOptions {
  readonly tables: Tables;
  readonly changes: Changes;
  readonly datapath: Datapath;
  readonly farResets: FarResets;
  readonly clock: () => number;
  readonly after: ((delayMs: number, work: () => void) => () => void) | undefined;
  readonly later: Later | undefined;
  readonly enforce: () => void;
  /** Sends a frame on behalf of the workload behind a port. */
  readonly originate: (frame: Uint8Array, from: { readonly port: PortNo }) => void;
}

/** How many connections are ended, and their ends told, in one turn. */
const TURN_ENDED = 256;
/** How many slots are gone through in one turn to find them: takes a few milliseconds. */
const TURN_SCANNED = 16_384;
/** How many tracked connections are closed in one turn, or read to see whether they are to be: takes a few milliseconds. */
const TURN_CLOSED = 2048;
/** Timers cannot wait for as long as a backend may drain. */
const LONGEST_WAIT_MS = 3_600_000;

export class Endings {
  readonly #options: EndingsOptions;
  /** From which slot on connections are still looked for whose time was over then. */
  #ending = { from: Infinity, sinceMs: 0 };
  #stopWaiting = (): void => {};
  /** Those whose tracked connections are looked for when the search that is under way has ended. */
  #gone = new GoneAddresses();
  #isSearching = false;

  constructor(options: EndingsOptions) {
    this.#options = options;
  }

  /**
   * Ends the connections to backends that are gone, or have moved so that their replies come in elsewhere, or whose time
   * to drain is over, and those by ports that the service does not have any more, and tells both ends of those of TCP; of UDP
   * also those by addresses and node ports that lead elsewhere now. It is done again when the time of others is over.
   */
  endPinned(): void {
    const { tables, changes, clock, later, originate } = this.#options;
    const { connections, services } = tables;
    this.#ending = { from: 0, sinceMs: clock() };
    const isAny =
      services.strayed.size +
        services.moved.size +
        services.redirected.size +
        services.ended(this.#ending.sinceMs).size >
      0;
    // The usual case, of which there are very many at a start.
    if (!isAny) {
      this.#options.enforce();
      return this.#endLater(this.#ending.sinceMs);
    }
    inTurns(later, () => {
      const now = clock();
      const pins = services.ended(this.#ending.sinceMs);
      const slots = { from: this.#ending.from, to: this.#ending.from + TURN_SCANNED };
      const gone = [...connections.pinned(pins, TURN_ENDED, slots)];
      gone.push(...connections.strayed(services.strayed, TURN_ENDED - gone.length, slots));
      const isOne = (one: ConnectionTuples): boolean => !pins.has(one.pin ?? 0) && services.leadsElsewhere(one);
      gone.push(...connections.redirected(services.redirected, isOne, TURN_ENDED - gone.length, slots));
      const { followed, changed } = connections.follow(services.moved, now, TURN_ENDED - gone.length, slots);
      changes.changedAll(changed);
      const ended = [...gone, ...followed];
      for (const connection of ended) {
        const resets = resetsOf(connection, tables);
        if (resets) originate(resets.toBackend, { port: resets.port });
        // From now on, what the client answers is not passed on.
        changes.changedAll(connections.retire(connection.slot, now));
        this.#tellClient(connection, resets);
      }
      this.#options.enforce();
      if (ended.length === TURN_ENDED) return true;
      this.#ending.from = slots.to;
      const left = pins.size + services.strayed.size + services.moved.size + services.redirected.size;
      if (slots.to < connections.slots && left > 0) return true;
      services.strayed.clear();
      services.redirected.clear();
      services.moved.clear();
      this.#endLater(now);
      return false;
    });
  }

  #endLater(nowMs: number): void {
    const { tables, after } = this.#options;
    this.#stopWaiting();
    const nextMs = tables.services.nextEndMs(this.#ending.sinceMs);
    if (nextMs === undefined || !after) return;
    const waitMs = Math.min(Math.max(nextMs - nowMs, 0), LONGEST_WAIT_MS);
    this.#stopWaiting = after(Math.ceil(waitMs), () => this.endPinned());
  }

  /** Tells the ends of connections that were ended before a crash, if that came before all of them were told. */
  tellUntold(): void {
    const { tables, later } = this.#options;
    inTurns(later, () => {
      const untold = tables.connections.ended.untold(TURN_ENDED);
      for (const connection of untold) this.#tellClient(connection, resetsOf(connection, tables));
      return untold.length === TURN_ENDED;
    });
  }

  /** A backend on another host may not have heard it: then it is told again. @param resets undefined if there is nobody to tell */
  #tellClient(connection: PinnedConnection, resets: Resets | undefined): void {
    const { tables, datapath, farResets } = this.#options;
    if (resets) datapath.execute({ frame: resets.toClient }, [{ op: 'output', port: resets.port }]);
    if (!resets || !farResets.add(connection)) tables.connections.ended.told(connection.slot);
  }

  /** Tells a client outside that its connection ends, since its endpoint is gone. At once: the way out may be closed next. */
  tellOutside(connection: PinnedConnection): void {
    const { tables, datapath } = this.#options;
    if (connection.kind !== 'translated' || connection.places[0] !== OUTSIDE) return;
    const resets = resetsOf(connection, tables);
    if (resets) datapath.execute({ frame: resets.toClient }, [{ op: 'output', port: resets.port }]);
  }

  /** Ends the connections from outside that came in by this host, which has gone, and tells their backends. */
  endEntered(vtep: Uint8Array): void {
    const { tables, changes, datapath, clock, later } = this.#options;
    let from = 0;
    inTurns(later, () => {
      const ended = tables.connections.enteredBy(vtep, TURN_ENDED, { from, to: from + TURN_SCANNED });
      for (const connection of ended) {
        const reset = resetOfBackend(connection, tables);
        changes.changedAll(tables.connections.retire(connection.slot, clock()));
        if (reset) datapath.execute({ frame: reset.frame }, [{ op: 'output', port: reset.port }]);
        tables.connections.ended.told(connection.slot);
      }
      this.#options.enforce();
      if (ended.length < TURN_ENDED) from += TURN_SCANNED;
      return from < tables.connections.slots;
    });
  }

  /**
   * Ends the tracked connections that began with packets of this port, which is closed, and in no flow any more. Another port
   * may get its number before that is done.
   */
  endOfPort(portNo: PortNo): void {
    const { tables, later } = this.#options;
    const { tracked } = tables.connections;
    const until = tracked.now();
    inTurns(later, () => tracked.endOfPort(portNo, until, TURN_CLOSED));
  }

  /**
   * Ends the tracked connections that these addresses of a network have now, whoever opened them. Call this when no flow
   * opens others any more: those that are opened later stay.
   * @param addresses undefined: those of the whole network
   */
  endTracked(vni: Vni, addresses: readonly Uint8Array[] | undefined): void {
    const { tracked } = this.#options.tables.connections;
    if (tracked.size === 0) return;
    const until = tracked.now();
    if (!addresses) this.#gone.addNetwork(vni, until);
    for (const ip of addresses ?? []) this.#gone.add(vni, ip, until);
    if (!this.#isSearching) this.#search();
  }

  /** One search finds those of all that are gone when it begins, since many may go at once. */
  #search(): void {
    const { tables, later } = this.#options;
    let gone = new GoneAddresses();
    let from = Infinity;
    this.#isSearching = true;
    inTurns(later, () => {
      if (from >= tables.connections.slots) {
        [gone, this.#gone, from] = [this.#gone, new GoneAddresses(), 0];
        this.#isSearching = !gone.isEmpty;
        if (!this.#isSearching) return false;
      }
      const slots = { from, to: from + TURN_SCANNED };
      from = tables.connections.tracked.endOf(gone, slots, TURN_CLOSED, (vni, ip) => this.#routedTo(vni, ip));
      return true;
    });
  }

  #routedTo(vni: Vni, ip: Uint8Array): Vni | undefined {
    const { topology } = this.#options.tables;
    const route = topology.network(vni)?.routes.lookup(ip).route;
    return route?.kind === 'network' ? topology.networkNamed(route.network)?.vni : undefined;
  }

  close(): void {
    this.#stopWaiting();
  }
}
