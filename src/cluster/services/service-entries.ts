/**
 * Where services are reached from outside: by their node ports, on all addresses of every host, and by their own ports at
 * the addresses that the operator gave them, each of which leads to the node port.
 */
import { familyOf, loadBalancerIpsOf } from '../../model/kinds/service.ts';
import type { Entries } from '../../model/publish.ts';
import type { DeclaredService } from './service.ts';
import type { Held } from './holders.ts';
import { publishedPortsOf } from './service-value.ts';

export class ServiceEntries {
  /** Of those services that have any. */
  readonly #byService = new Map<string, Entries>();
  /** Made when it is asked for. */
  #all: Entries | undefined;

  /** Of all services; the same object as long as none has changed. */
  get all(): Entries {
    return (this.#all ??= joined([...this.#byService.values()]));
  }

  /** Undefined: there is no such service, or it is not reached. @param held what it has of all that it says */
  set(name: string, service: DeclaredService | undefined, held: Held): void {
    const entries = service && entriesOf(service, held);
    if (entries && entries.ports.length > 0) this.#byService.set(name, entries);
    else if (!this.#byService.delete(name)) return;
    this.#all = undefined;
  }
}

const none: Entries = { ports: [], addresses: [] };

function joined(every: readonly Entries[]): Entries {
  return {
    ports: every.flatMap(({ ports }) => ports),
    addresses: every.flatMap(({ addresses }) => addresses),
  };
}

/** Each in the families of the service. */
function entriesOf(service: DeclaredService, held: Held): Entries {
  const { name, resource, allotted } = service;
  if (allotted.nodePorts.every((port) => port === 0)) return none;
  const published = [...publishedPortsOf(service)].filter(({ nodePort, protocol }) =>
    held.hasNodePort(name, nodePort, protocol),
  );
  const ports = allotted.ipFamilies.flatMap((family) =>
    published.map(({ protocol, nodePort }) => ({ family: numberOf(family), protocol, hostPort: nodePort })),
  );
  const reached = loadBalancerIpsOf(resource).filter((address) => held.hasAddress(name, address));
  const addresses = reached.flatMap((address) =>
    published.map((port) => ({ family: numberOf(familyOf(address)), address, ...port })),
  );
  return { ports, addresses };
}

function numberOf(family: 'IPv4' | 'IPv6'): 4 | 6 {
  return family === 'IPv4' ? 4 : 6;
}
