/**
 * How a translated connection is to be opened, or why it cannot be: whose room it takes, what its packets become, and
 * whether the datapath can open others like it by itself.
 */
import type { Action } from '../flow/action.ts';
import { BALANCE_OWNERS } from '../flow/balancing.ts';
import { networkOf, type ConnectionOpening, type ConnectionTuples } from '../flow/connection.ts';
import { EXPENDABLE } from '../flow/connection-state.ts';
import { ROOM_FREE, ROOM_NONE, type ConnectionStore, type GivenUp } from '../flow/connection-store.ts';
import type { DropReason } from '../flow/reason.ts';
import { sameBytes, type Vni } from '../flow/types.ts';
import { ConnectionEnds } from './connection-ends.ts';
import type { ConnectionOwners } from './connection-owners.ts';
import { endpointOf, isFromInside } from './connection-ways.ts';
import { NatPorts } from './nat-ports.ts';
import { choiceOf, endpointOfOpening, placesOf, type Opening } from './openings.ts';
import type { Services } from './services.ts';

const NO_QUOTA = 2 ** 32 - 1;

export interface PlanOptions {
  readonly store: ConnectionStore;
  /** How many translated connections one endpoint may have. */
  readonly quota: number;
  /** How many of these may not have been seen in use: half-open, or over without having been in use. */
  readonly unprovenQuota: number;
  /** All addresses of the workload with this address in this network, including this one. They share its quota. */
  readonly addressesWith: (vni: Vni, ip: Uint8Array) => readonly Uint8Array[];
  /**
   * True if a workload of this host has the address in this network. Without it, the datapath opens no connections through
   * services by itself.
   */
  readonly isAttached?: ((vni: Vni, ip: Uint8Array) => boolean) | undefined;
  /** 8 random bytes, which determine the ports that connections get. */
  readonly natKey: Uint8Array;
  /** True if this port of the transit address is taken, so that no connection from inside may have it. */
  readonly isReserved: (protocol: number, port: number) => boolean;
  /** Who knows the balancing tables. */
  readonly services: Pick<Services, 'tableFor'>;
}

/**
 * What it takes to open a connection. Valid until one that is not only tracked is opened or ended by whoever asks for the
 * plan. Threads of the datapath may open and close others at any time: then the store refuses to open it, or what was to be
 * given up has gone.
 */
interface Plan {
  readonly opening: Opening;
  readonly connection: ConnectionOpening;
  /** The addresses of the workload that it belongs to. */
  readonly addresses: readonly Uint8Array[];
  /** Those that are given up for it: for room, and because of the same ends. */
  readonly givenUp: readonly GivenUp[];
}

export class ConnectionPlans {
  readonly #store: ConnectionStore;
  readonly #quota: number;
  readonly #unprovenQuota: number;
  readonly #addressesWith: PlanOptions['addressesWith'];
  readonly #isAttached: NonNullable<PlanOptions['isAttached']>;
  readonly #services: PlanOptions['services'];
  readonly #ports: NatPorts;
  readonly #ends: ConnectionEnds;
  readonly #owners: ConnectionOwners;
  /** The latest one: a connection is mostly opened as soon as it is known that it can be. */
  #plan: Plan | undefined;

  constructor(owners: ConnectionOwners, options: PlanOptions & Required<Pick<PlanOptions, 'isAttached'>>) {
    const { store, quota, unprovenQuota, addressesWith, isAttached, services, natKey, isReserved } = options;
    this.#store = store;
    this.#quota = quota;
    this.#unprovenQuota = unprovenQuota;
    this.#addressesWith = addressesWith;
    this.#isAttached = isAttached;
    this.#services = services;
    this.#ports = new NatPorts(natKey);
    this.#ends = new ConnectionEnds(store, this.#ports, isReserved);
    this.#owners = owners;
  }

  /** How to open it, or why not. */
  for(opening: Opening): Plan | DropReason {
    if (this.#plan?.opening === opening) return this.#plan;
    const { vni, protocol, original } = opening;
    const endpoint = endpointOfOpening(opening);
    const addresses = this.#addressesWith(vni, endpoint);
    // Weft's own sockets open few, to see how an endpoint does: it must not look ill because it has used up its quota.
    const [quota, unproven] = 'from' in opening ? [NO_QUOTA, NO_QUOTA] : [this.#quota, this.#unprovenQuota];
    const room = this.#store.room(this.#owners.of(vni, addresses), quota, unproven);
    if (room === ROOM_NONE || !this.#owners.hasRoomFor(vni, endpoint)) return 'connection_limit';
    const choice = choiceOf(opening);
    const rival = this.#ends.rivalOf(opening);
    const mayReplace = !rival || this.#givesWay(rival) || 'socket' in opening;
    const translated = mayReplace ? this.#ends.translated(opening, addresses, rival?.slot ?? -1) : undefined;
    if (!translated) return 'nat_ports';
    this.#plan = {
      opening,
      connection: {
        ...{ kind: 'translated', places: placesOf(opening), protocol, original, translated },
        ...(choice && { pin: choice.pin }),
        ...('via' in opening && { via: opening.via }),
        ...(opening.treatment && { treatment: opening.treatment }),
        port: opening.port,
      },
      addresses,
      givenUp: [
        ...(room === ROOM_FREE ? [] : [room]),
        ...(rival && (room === ROOM_FREE || rival.slot !== room.slot) ? [rival] : []),
      ],
    };
    return this.#plan;
  }

  #givesWay({ slot }: GivenUp): boolean {
    const { records } = this.#store;
    return records.kind(slot) === 'tracked' || EXPENDABLE.has(records.state(slot));
  }

  /** The latest plan is not valid any more. */
  forget(): void {
    this.#plan = undefined;
  }

  /** See `ConnectionTable.balance`. */
  balance(opening: Opening): Extract<Action, { op: 'balance' }> | undefined {
    const { vni, original } = opening;
    const addresses = this.#addressesWith(vni, original.source);
    const table = addresses.length <= BALANCE_OWNERS ? this.tableFor(opening) : undefined;
    if (table === undefined) return undefined;
    const others = addresses.filter((ip) => !sameBytes(ip, original.source));
    const owners = [original.source, ...others].map((ip) => this.#owners.hold(vni, ip));
    const known = owners.filter((owner) => owner !== undefined);
    return known.length === owners.length ? { op: 'balance', table, owners: known } : undefined;
  }

  /** The balancing table that chooses the same backend; undefined if there is none. */
  tableFor(opening: Opening): number | undefined {
    const choice = choiceOf(opening);
    const isWithin = choice && 'replies' in opening && !opening.isFromOutside;
    if (!isWithin || !this.#isAttached(opening.vni, opening.original.source)) return undefined;
    return this.#services.tableFor(choice, opening.vni);
  }

  /** Notes that the port of an open connection is in use. @param addresses of the workload that it belongs to */
  claimPort(
    connection: ConnectionTuples,
    addresses = this.#addressesWith(networkOf(connection), endpointOf(connection)),
  ): void {
    const { protocol, original, translated } = connection;
    if (!isFromInside(connection)) return;
    this.#ports.add({ vni: networkOf(connection), protocol, original, translated }, addresses);
  }

  /** Notes that it is not in use any more. */
  releasePort(connection: ConnectionTuples): void {
    if (isFromInside(connection)) this.#ports.delete({ ...connection, vni: networkOf(connection) });
  }
}
