/**
 * Where services are reached from outside: by their node ports, on all addresses of every host, and by their own ports at
 * the addresses that the operator gave them, each of which leads to the node port.
 */
import { familyOf, loadBalancerIpsOf } from '../../model/kinds/service.ts';
import type { Entries } from '../../model/publish.ts';
import { readAnnotations } from '../../model/service-annotations.ts';
import type { DeclaredService } from './service.ts';
import { portsOf } from './service-value.ts';

export class ServiceEntries {
  /** Of those services that have any. */
  readonly #byService = new Map<string, Entries>();
  /** Made when it is asked for. */
  #all: Entries | undefined;

  /** Of all services; the same object as long as none has changed. */
  get all(): Entries {
    return (this.#all ??= joined([...this.#byService.values()]));
  }

  /** Undefined: there is no such service. */
  set(name: string, service: DeclaredService | undefined): void {
    const entries = service && entriesOf(service);
    if (entries && entries.ports.length > 0) this.#byService.set(name, entries);
    else if (!this.#byService.delete(name)) return;
    this.#all = undefined;
  }
}

function joined(every: readonly Entries[]): Entries {
  return {
    ports: every.flatMap(({ ports }) => ports),
    addresses: every.flatMap(({ addresses }) => addresses),
  };
}

/** Each in the families of the service. */
function entriesOf(service: DeclaredService): Entries {
  const { resource, allotted } = service;
  const { ranges } = readAnnotations(resource.metadata.annotations);
  const published = portsOf(service, ranges).flatMap(({ protocolName: protocol, l4Port, lastL4Port, nodePort }) =>
    nodePort === undefined
      ? []
      : Array.from({ length: lastL4Port - l4Port + 1 }, (_, at) => ({
          protocol,
          l4Port: l4Port + at,
          nodePort: nodePort + at,
        })),
  );
  const ports = allotted.ipFamilies.flatMap((family) =>
    published.map(({ protocol, nodePort }) => ({ family: numberOf(family), protocol, hostPort: nodePort })),
  );
  const addresses = loadBalancerIpsOf(resource).flatMap((address) =>
    published.map((port) => ({ family: numberOf(familyOf(address)), address, ...port })),
  );
  return { ports, addresses };
}

function numberOf(family: 'IPv4' | 'IPv6'): 4 | 6 {
  return family === 'IPv4' ? 4 : 6;
}
