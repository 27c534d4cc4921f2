/**
 * Node ports: which services are published at which port of all hosts. Connections from outside come to such a port of the
 * transit address, whatever address of the host, or of the service, their client has asked for (src/outside).
 *
 * Each is claimed for one service. Should two have it nevertheless, it is that of the one whose id is first, as with their
 * addresses, so that all hosts find the same one.
 *
 * Its object, which a decision consults that looks for one, is `node-port/PROTOCOL/PORT`.
 */
import { protocolName } from '../flow/connection.ts';
import type { Changes } from './changes.ts';
import type { Service, ServicePort } from './service.ts';

export class NodePorts {
  readonly #changes: Changes;
  /** By `nodePortId`: the ids of the services, in their order. */
  readonly #services = new Map<string, readonly string[]>();

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  /** The id of the service that has it. */
  ownerOf(protocol: number, l4Port: number): string | undefined {
    return this.#services.get(nodePortId(protocol, l4Port))?.[0];
  }

  /** Puts the node ports of a service in the place of those that it had before. */
  replace(before: Service | undefined, after: Service | undefined): void {
    if (!before?.ports.some(hasNodePort) && !after?.ports.some(hasNodePort)) return;
    const [old, now] = [nodePortIds(before), nodePortIds(after)];
    for (const id of old) if (!now.has(id)) this.#take(id, before!.id);
    for (const id of now) if (!old.has(id)) this.#give(id, after!.id);
  }

  #give(id: string, service: string): void {
    const others = this.#services.get(id);
    this.#services.set(id, others ? [...others, service].sort() : [service]);
    if (others) this.#changes.changed(objectOf(id));
    else this.#changes.added(objectOf(id));
  }

  #take(id: string, service: string): void {
    const others = this.#services.get(id)?.filter((other) => other !== service) ?? [];
    if (others.length === 0) this.#services.delete(id);
    else this.#services.set(id, others);
    this.#changes.changed(objectOf(id));
  }
}

/** `tcp/30080`. @param protocol the IP protocol, TCP or UDP */
export function nodePortId(protocol: number, l4Port: number): string {
  return `${protocolName(protocol)}/${l4Port}`;
}

/** Which service has this port of all hosts, if any. */
export function nodePortObject(protocol: number, l4Port: number): string {
  return objectOf(nodePortId(protocol, l4Port));
}

function objectOf(id: string): string {
  return `node-port/${id}`;
}

/** How far from the first port of a service that one is which leads there; undefined if it does not. */
export function nodePortOffset(port: ServicePort, protocol: number, l4Port: number): number | undefined {
  if (port.protocol !== protocol || port.nodePort === undefined) return undefined;
  const offset = l4Port - port.nodePort;
  return offset >= 0 && offset <= port.lastL4Port - port.l4Port ? offset : undefined;
}

function hasNodePort({ nodePort }: ServicePort): boolean {
  return nodePort !== undefined;
}

/** The node ports that a service has, as `nodePortId`, each once. */
export function nodePortIds(service: Service | undefined): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const { protocol, nodePort, l4Port, lastL4Port } of service?.ports ?? []) {
    if (nodePort === undefined) continue;
    for (let offset = 0; offset <= lastL4Port - l4Port; offset++) ids.add(nodePortId(protocol, nodePort + offset));
  }
  return ids;
}
