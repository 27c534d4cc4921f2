/**
 * Who may be chosen for which clients: a scope for all clients of a network, or from outside, that ask a port of a service for an
 * address of one family, maybe for a subset of its backends. It is made when its first client comes, and anew when something
 * has changed that it was made of (`balancer.ts`).
 *
 * A backend that terminates is a candidate only where clients can get nobody else. So whether its connections have to end when
 * its time to drain is over, too, is a question to the scopes (`isNeeded`): others may be ready for other clients.
 */
import { isIp4, sameBytes } from '../flow/types.ts';
import { noteClients, type BalancedPort, type BalancedPorts } from './balanced-port.ts';
import type { Candidate, Scope } from './balancer.ts';
import type { BalancingTables } from './balancing-tables.ts';
import { candidatesOf, policyFor, type Surroundings } from './candidates.ts';
import type { Health } from './health.ts';
import { reachFrom } from './reach.ts';
import { Scopes } from './scopes.ts';
import { scopeId, type AskingClients, type ClientOrigin } from './service-keys.ts';
import { spreadOf } from './service.ts';
import type { Topology } from './topology.ts';

export interface PortScope extends Scope {
  readonly id: string;
  readonly balanced: BalancedPort;
  /** What it was made of: the version of the port, and of the networks. */
  readonly version: number;
  readonly networksVersion: number;
}

/** What scopes are made of, besides services. */
export interface ServiceScopesEnvironment {
  readonly topology: Topology;
  readonly ports: BalancedPorts;
  readonly tables: BalancingTables;
  readonly health: Pick<Health, 'of'>;
  /** This host. */
  readonly host: () => { readonly name: string | undefined; readonly zone: string | undefined };
  /** True if VIPs are taken from there. */
  readonly isInRange: (address: Uint8Array) => boolean;
}

export class ServiceScopes {
  readonly #environment: ServiceScopesEnvironment;
  readonly #scopes: Scopes<PortScope>;

  /** @param limitBytes for Maglev tables and the like; see `scopes.ts` */
  constructor(environment: ServiceScopesEnvironment, limitBytes?: number) {
    this.#environment = environment;
    this.#scopes = new Scopes(limitBytes, ({ balanced, balancing }) => {
      if (balancing === undefined) return;
      environment.tables.remove(balancing);
      balanced.tables.delete(balancing);
    });
  }

  /** About how much memory all of them take. */
  get lengthBytes(): number {
    return this.#scopes.lengthBytes;
  }

  get(id: string): PortScope | undefined {
    return this.#scopes.get(id);
  }

  /** Notes that it was used, and how large it is now. */
  use(scope: PortScope): void {
    this.#scopes.use(scope.id, scope);
  }

  of(balanced: BalancedPort, clients: AskingClients): PortScope {
    const id = scopeId(balanced, clients);
    const before = this.#scopes.get(id);
    const { networksVersion } = this.#environment.topology;
    if (before?.version === balanced.version && before.networksVersion === networksVersion) return before;
    noteClients(balanced, clients);
    const scope = { id, balanced, ...this.#renewed(balanced, clients, before) };
    this.use(scope);
    return scope;
  }

  #renewed(
    balanced: BalancedPort,
    { from, isV4, subset }: AskingClients,
    before: PortScope | undefined,
  ): Omit<PortScope, 'id' | 'balanced'> {
    const { topology, ports } = this.#environment;
    const { service, port, version } = balanced;
    const reach = reachFrom(topology, from);
    const policy = policyFor(service, from);
    const surroundings = this.surroundings(service.id, from, reach);
    const { chosen, excluded, refusal } = candidatesOf(service, port, { isV4, policy, subset }, surroundings);
    const candidates = chosen.map((at): Candidate => {
      const backend = service.backends[at]!;
      return { backend, weight: backend.weight, target: port.targets[at]!, pinned: ports.pinnedOf(balanced, at) };
    });
    const consulted = [balanced.object, ...reach.consulted];
    const spread = spreadOf(service, port, subset);
    return {
      selection: { service, port, subset, spread, candidates, excluded, refusal, consulted },
      table: before?.table,
      tableOf: before?.tableOf,
      position: before?.position ?? 0,
      balancing: undefined,
      version,
      networksVersion: topology.networksVersion,
    };
  }

  /** What the candidates of a service depend on besides it, for clients from there. */
  surroundings(id: string, from: ClientOrigin, reach = reachFrom(this.#environment.topology, from)): Surroundings {
    const { health, host, isInRange } = this.#environment;
    const { name, zone } = host();
    return {
      ...{ host: name, zone },
      // Addresses of services are nowhere else: a packet to one would leave by the way outside.
      reaches: (backend) => !isInRange(backend.address) && reach.has(backend),
      faultOf: (backend) => health.of(id, backend),
    };
  }

  /**
   * True if clients that have asked for the port get this backend, which terminates, because there is no other one for them.
   * @param isLedTo whether routes lead to a subset now
   */
  isNeeded(balanced: BalancedPort, address: Uint8Array, isLedTo: (subset: string) => boolean): boolean {
    // Who asks is noted once more.
    for (const clients of [...balanced.askedBy.values()]) {
      const { isV4, subset } = clients;
      if (isIp4(address) !== isV4 || (subset !== undefined && !isLedTo(subset))) continue;
      const { candidates } = this.of(balanced, clients).selection;
      if (candidates.some(({ backend }) => sameBytes(backend.address, address))) return true;
    }
    return false;
  }

  /** True if some of the clients that have asked for the port, for an address of that family, get a backend now. */
  isServed(balanced: BalancedPort, isV4: boolean): boolean {
    // Who asks is noted once more.
    for (const clients of [...balanced.askedBy.values()]) {
      if (clients.isV4 === isV4 && this.of(balanced, clients).selection.candidates.length > 0) return true;
    }
    return false;
  }
}
