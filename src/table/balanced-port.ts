/**
 * Ports at work: ports of services that clients have asked for, with the numbers of their backends (`backends.ts`).
 *
 *   of          puts a port to work when its first client comes
 *   follow      adapts the ports of a service that has changed: who has left, who has time to drain, who has moved
 *   claimAll    gives a service those of its backends that connections from before a restart have
 */
import { bytesId } from '../flow/key.ts';
import { isIp4 } from '../flow/types.ts';
import type { Backends, PinnedBackend } from './backends.ts';
import type { BalancingTables } from './balancing-tables.ts';
import type { BackendIndex } from './candidates.ts';
import { claimedBackend } from './claimed-backend.ts';
import { nodePortId, nodePortIds } from './node-ports.ts';
import { addressesOf, isPort } from './service-addresses.ts';
import { backendId } from './service-keys.ts';
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
  /** By network, address and port of a backend. */
  readonly pinned: Map<string, PinnedBackend>;
  /** Ids of tables that the datapath may have for its clients (`balancing-tables.ts`). */
  readonly tables: Set<number>;
}

/** A service, and those of its ports. */
export interface KnownService {
  service: Service;
  readonly object: string;
  balanced: BalancedPort[];
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
  readonly #hostName: () => string | undefined;
  #lastId = 0;

  /** @param hostName of this host, as backends have it */
  constructor(backends: Backends, tables: BalancingTables, hostName: () => string | undefined) {
    this.#backends = backends;
    this.#tables = tables;
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
    known.balanced = known.balanced.filter((balanced) => this.#follow(balanced, known.service, nowMs));
  }

  /** Its service has gone. */
  remove(known: KnownService): void {
    this.renew(known);
    for (const { pinned } of known.balanced) for (const one of pinned.values()) this.#backends.remove(one);
  }

  pinnedOf({ service, port, pinned }: BalancedPort, at: BackendIndex): PinnedBackend {
    const backend = service.backends[at]!;
    const id = backendId(port, backend, at);
    const there = pinned.get(id);
    if (there && this.#backends.has(there)) return there;
    const added = this.#backends.add(service.id, { address: backend.address, l4Port: port.targets[at]! });
    pinned.set(id, added);
    this.#place(added, backend);
    return added;
  }

  /** Gives `to` those of its backends that connections to `known` from before a restart have. */
  claimAll(known: KnownService, to = known): void {
    for (const address of addressesOf(known.service)) this.#claim(known, bytesId(address), to);
    for (const id of nodePortIds(known.service)) this.#claim(known, id, to);
  }

  /** Returns false if the service does not have the port any more. */
  #follow(balanced: BalancedPort, service: Service, nowMs: number): boolean {
    const { port: before, pinned } = balanced;
    const port = service.ports.find((port) => isPort(port, before.protocol, before.l4Port));
    const backends = new Map<string, Backend>();
    // Of a family without a ready one, those that terminate get new connections, which must not end.
    const staying = service.backends.filter(({ ready, terminating }) => ready && !terminating);
    const served = new Set(staying.map(({ address }) => isIp4(address)));
    if (port)
      for (const [at, backend] of service.backends.entries()) backends.set(backendId(port, backend, at), backend);
    for (const [id, one] of pinned) {
      if (!this.#backends.has(one)) {
        pinned.delete(id);
        continue;
      }
      const backend = backends.get(id);
      if (!backend) {
        this.#backends.remove(one);
        continue;
      }
      this.#place(one, backend);
      const isLeaving = backend.terminating && served.has(isIp4(backend.address));
      this.#backends.setEnd(one, isLeaving ? (endOf(one) ?? nowMs + service.drainMs) : undefined);
    }
    if (!port) return false;
    balanced.service = service;
    balanced.port = port;
    return true;
  }

  /** Notes where a backend is. Of one that is no endpoint, or is attached nowhere, nobody knows. */
  #place(pinned: PinnedBackend, { vni, endpoint, host }: Backend): void {
    const here = this.#hostName();
    if (vni === undefined || endpoint === undefined || host === undefined || here === undefined) return;
    this.#backends.place(pinned, host === here ? vni : 'of_client');
  }

  /** @param front as in `Services.recovered` */
  #claim({ service }: KnownService, front: string, to: KnownService): void {
    this.#backends.claim(front, (unclaimed) => {
      const isPublished = front === nodePortId(unclaimed.protocol, unclaimed.l4Port);
      const claimed = claimedBackend(unclaimed, { service, isPublished }, to.service);
      if (!claimed) return false;
      const { port, at } = claimed;
      this.of(to, port).pinned.set(backendId(port, to.service.backends[at]!, at), unclaimed.back);
      unclaimed.back.service = to.service.id;
      this.#place(unclaimed.back, to.service.backends[at]!);
      return true;
    });
  }
}

/** A deadline that has begun. */
function endOf({ endsAtMs }: PinnedBackend): number | undefined {
  return endsAtMs === undefined || endsAtMs === -Infinity ? undefined : endsAtMs;
}
