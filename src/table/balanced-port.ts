/**
 * Ports at work: ports of services that clients have asked for, with the numbers of their backends (`backends.ts`).
 *
 *   of            puts a port to work when its first client comes
 *   follow        adapts the ports of a service that has changed: who has left, who has time to drain, who has moved. A port may
 *                 become part of a range, or be taken out of one: who still gets from the same number to the same port of a
 *                 backend goes on, and all other connections end
 *   followChecks  adapts them to what checks say of its backends
 *   claimAll      gives a service those of its backends that connections from before a restart have
 *
 * TCP connections stay with a backend that is out, since nothing else could go on with them. In UDP, a client may never pause and
 * never open another socket, so what it sends goes to another backend as soon as there is one.
 */
import { isIp4 } from '../flow/types.ts';
import { IP_UDP } from '../wire/ipv4.ts';
import type { Backends, PinnedBackend, Unclaimed } from './backends.ts';
import type { BalancingTables } from './balancing-tables.ts';
import type { BackendIndex } from './candidates.ts';
import type { Health } from './health.ts';
import { claimedBackend } from './claimed-backend.ts';
import { nodePortId } from './node-ports.ts';
import { commonPorts, joinedPorts, type PortInterval, type PortRanges } from './port-ranges.ts';
import { isPort } from './service-addresses.ts';
import { frontsOf } from './service-fronts.ts';
import { backendId, scopeId, type AskingClients } from './service-keys.ts';
import type { Backend, Service, ServicePort } from './service.ts';

/** A port of a service that clients have asked for. */
export interface BalancedPort {
  /** What names it in the keys of scopes and clients. */
  readonly id: number;
  /** That of the service. */
  readonly object: string;
  service: Service;
  port: ServicePort;
  /** Goes up with each change of the service or its health: what was made before does not hold any more. */
  version: number;
  /**
   * By `backendId`. New connections get the first one; the others have connections from when their port was one by itself, or
   * part of another range.
   */
  readonly pinned: Map<string, readonly PinnedBackend[]>;
  /** Ids of tables that the datapath may have for its clients (`balancing-tables.ts`). */
  readonly tables: Set<number>;
  /** The clients that have asked for it, by `scopeId`. */
  readonly askedBy: Map<string, AskingClients>;
}

/** A service, and those of its ports. */
export interface KnownService {
  service: Service;
  readonly object: string;
  balanced: BalancedPort[];
}

/** How many of `askedBy` are kept. Beyond that, those that asked the longest ago are forgotten. */
const MOST_ASKING = 1024;

/** Clients ask for the port, for the first time since it has changed. */
export function noteClients(balanced: BalancedPort, clients: AskingClients): void {
  const { askedBy } = balanced;
  const id = scopeId(balanced, clients);
  askedBy.delete(id);
  if (askedBy.size >= MOST_ASKING) askedBy.delete(askedBy.keys().next().value!);
  askedBy.set(id, clients);
}

/** Undefined if no client has asked for it. */
export function balancedAt(
  { balanced }: KnownService,
  { protocol, l4Port }: Pick<ServicePort, 'protocol' | 'l4Port'>,
): BalancedPort | undefined {
  return balanced.find(({ port }) => port.protocol === protocol && port.l4Port === l4Port);
}

export class BalancedPorts {
  readonly #backends: Backends;
  readonly #tables: BalancingTables;
  readonly #health: Pick<Health, 'has'>;
  readonly #hostName: () => string | undefined;
  #lastId = 0;

  /** @param hostName of this host, as backends have it */
  constructor(
    backends: Backends,
    tables: BalancingTables,
    health: Pick<Health, 'has'>,
    hostName: () => string | undefined,
  ) {
    this.#backends = backends;
    this.#tables = tables;
    this.#health = health;
    this.#hostName = hostName;
  }

  of(known: KnownService, port: ServicePort): BalancedPort {
    const there = balancedAt(known, port);
    if (there) return there;
    const { service, object } = known;
    const balanced = {
      id: ++this.#lastId,
      object,
      service,
      port,
      version: 0,
      pinned: new Map(),
      tables: new Set<number>(),
      askedBy: new Map<string, AskingClients>(),
    };
    known.balanced.push(balanced);
    return balanced;
  }

  /** What was made of them before does not hold any more. */
  renew({ balanced }: KnownService): void {
    for (const one of balanced) {
      one.version++;
      for (const id of one.tables) this.#tables.remove(id);
      one.tables.clear();
    }
  }

  /** Adapts the ports at work to their changed service. @param nowMs begins the time to drain */
  follow(known: KnownService, nowMs: number): void {
    this.renew(known);
    const { service, balanced: before } = known;
    if (before.length === 0) return;
    known.balanced = [];
    for (const balanced of before) {
      const port = portAfter(service, balanced.port);
      if (!port || balancedAt(known, port)) continue;
      known.balanced.push(balanced);
      balanced.service = service;
      balanced.port = port;
    }
    const leads = leadsOf(service);
    const served = [true, false].filter((isV4) => isServedFamily(service, isV4));
    for (const balanced of before) {
      const pinned = [...balanced.pinned];
      balanced.pinned.clear();
      for (const [id, all] of pinned) {
        const lead = leads.get(leadId(balanced.port, id));
        for (const one of all.filter((one) => this.#backends.has(one))) {
          const ports = commonPorts(one.ports, lead?.ports ?? []);
          if (!lead || ports.length === 0) {
            this.#backends.remove(one);
            // It may come back before its last connection has ended.
            if (known.balanced.includes(balanced)) put(balanced, id, one);
            continue;
          }
          const { backend, distance } = lead;
          this.#backends.setPorts(one, ports);
          this.#place(one, backend);
          const isLeaving = backend.terminating && served.includes(isIp4(backend.address));
          this.#backends.setEnd(one, isLeaving ? (endOf(one) ?? nowMs + service.drainMs) : undefined);
          this.#backends.setOut(one, this.#isOut(service, balanced.port, backend));
          const port = service.ports.find((port) => isPort(port, balanced.port.protocol, ports[0]!.first - distance));
          put(known.balanced.includes(balanced) ? balanced : this.of(known, port!), id, one);
        }
      }
    }
    for (const { pinned } of known.balanced) for (const [id, all] of pinned) this.#forgetUnused(pinned, id, all);
  }

  /** Adapts the ports at work to what checks say of these backends. */
  followChecks({ service, balanced }: KnownService, changed: readonly BackendIndex[]): void {
    const atWork = balanced.filter(({ port }) => port.protocol === IP_UDP);
    if (atWork.length === 0) return;
    const ports = service.ports.filter(({ protocol }) => protocol === IP_UDP);
    for (const at of changed) {
      const backend = service.backends[at]!;
      for (const port of ports) {
        const id = backendId(port, backend, at);
        const all = atWork.flatMap(({ pinned }) => pinned.get(id) ?? []);
        for (const one of all)
          if (this.#backends.has(one)) this.#backends.setOut(one, this.#isOut(service, port, backend));
      }
    }
  }

  /** Those that new connections do not get, and that have no others. */
  #forgetUnused(pinned: BalancedPort['pinned'], id: string, [first, ...others]: readonly PinnedBackend[]): void {
    const used = others.filter(({ connections }) => connections > 0);
    if (used.length === others.length) return;
    for (const one of others) if (one.connections === 0) this.#backends.remove(one);
    pinned.set(id, [first!, ...used]);
  }

  /** Its service has gone. */
  remove(known: KnownService): void {
    this.renew(known);
    for (const { pinned } of known.balanced) for (const one of [...pinned.values()].flat()) this.#backends.remove(one);
  }

  pinnedOf({ id: portId, service, port, pinned }: BalancedPort, at: BackendIndex): PinnedBackend {
    const backend = service.backends[at]!;
    const id = backendId(port, backend, at);
    const there = pinned.get(id)?.find((one) => this.#backends.has(one));
    const one = there ?? this.#backends.add(service.id, { address: backend.address, l4Port: port.targets[at]! });
    const ports = [targetsOf(port, at)];
    this.#backends.setPorts(one, there ? joinedPorts([...there.ports, ...ports]) : ports);
    if (there) return there;
    pinned.set(id, [one]);
    one.portId = portId;
    this.#place(one, backend);
    return one;
  }

  /**
   * Gives a service those of its backends that connections from before a restart have.
   * @param routedTo gives them to one that its routes lead to instead @param nowMs begins the time to drain anew
   */
  claimAll(known: KnownService, nowMs: number, routedTo?: KnownService): void {
    if (!this.#backends.hasUnclaimed) return;
    const to = routedTo ?? known;
    let leads: Leads | undefined;
    const take = (front: string, unclaimed: Unclaimed): boolean => {
      const isPublished = front === nodePortId(unclaimed.protocol, unclaimed.l4Port);
      const claimed = claimedBackend(unclaimed, { service: known.service, isPublished }, routedTo?.service);
      if (!claimed) return false;
      const { port, at } = claimed;
      const { back, from } = unclaimed;
      const backend = to.service.backends[at]!;
      const id = backendId(port, backend, at);
      const balanced = this.of(to, port);
      put(balanced, id, back);
      noteClients(balanced, { from, isV4: isIp4(backend.address), subset: undefined });
      back.service = to.service.id;
      leads ??= leadsOf(to.service);
      this.#backends.setPorts(back, leads.get(leadId(port, id))!.ports);
      this.#place(back, backend);
      if (backend.terminating && isServedFamily(to.service, isIp4(backend.address)))
        this.#backends.setEnd(back, nowMs + to.service.drainMs);
      this.#backends.setOut(back, this.#isOut(to.service, port, backend));
      return true;
    };
    for (const front of frontsOf(known.service)) this.#backends.claim(front, (unclaimed) => take(front, unclaimed));
  }

  #isOut({ id }: Service, { protocol }: ServicePort, backend: Backend): boolean {
    return isOut(protocol, backend, this.#health.has(id, backend, 'check_failed'));
  }

  /** Notes where a backend is. Of one that is no endpoint, or is attached nowhere, nobody knows. */
  #place(pinned: PinnedBackend, { vni, endpoint, host }: Backend): void {
    const here = this.#hostName();
    if (vni === undefined || endpoint === undefined || host === undefined || here === undefined) return;
    this.#backends.place(pinned, host === here ? vni : 'of_client');
  }
}

/**
 * True if what clients send to a backend goes to another one as soon as there is one: it is UDP, and this one could get nothing new.
 * One that is ejected could: that is a guess.
 */
export function isOut(protocol: number, { ready, serving }: Backend, isCheckFailed: boolean): boolean {
  return protocol === IP_UDP && ((!ready && !serving) || isCheckFailed);
}

/** Of a family without a ready one, those that terminate get new connections, which must not end. */
export function isServedFamily({ backends }: Service, isV4: boolean): boolean {
  return backends.some(({ ready, terminating, address }) => ready && !terminating && isIp4(address) === isV4);
}

/** A deadline that has begun. */
function endOf({ endsAtMs }: PinnedBackend): number | undefined {
  return endsAtMs === undefined || endsAtMs === -Infinity ? undefined : endsAtMs;
}

function put({ id: portId, pinned }: BalancedPort, id: string, one: PinnedBackend): void {
  pinned.set(id, [...(pinned.get(id) ?? []), one]);
  one.portId = portId;
}

/** The port of the changed service that has the number of this one, or else any of its range. */
function portAfter({ ports }: Service, { protocol, l4Port, lastL4Port }: ServicePort): ServicePort | undefined {
  return (
    ports.find((port) => isPort(port, protocol, l4Port)) ??
    ports.find((port) => port.protocol === protocol && port.l4Port <= lastL4Port && l4Port <= port.lastL4Port)
  );
}

/** A backend that ports of a service lead to. */
interface Lead {
  readonly backend: Backend;
  /** How far its ports are from theirs. */
  readonly distance: number;
  /** Which ones of its ports they lead to. */
  ports: PortRanges;
}
type Leads = ReadonlyMap<string, Lead>;

function leadId({ protocol }: Pick<ServicePort, 'protocol'>, backend: string): string {
  return `${protocol}/${backend}`;
}

function leadsOf({ ports, backends }: Service): Leads {
  const leads = new Map<string, Lead>();
  for (const port of ports) {
    for (const [at, backend] of backends.entries()) {
      if ((port.targets[at] ?? 0) === 0) continue;
      const id = leadId(port, backendId(port, backend, at));
      const lead = leads.get(id);
      if (lead) lead.ports = joinedPorts([...lead.ports, targetsOf(port, at)]);
      else leads.set(id, { backend, distance: port.targets[at]! - port.l4Port, ports: [targetsOf(port, at)] });
    }
  }
  return leads;
}

function targetsOf({ targets, l4Port, lastL4Port }: ServicePort, at: BackendIndex): PortInterval {
  const first = targets[at]!;
  return { first, last: first + lastL4Port - l4Port };
}
