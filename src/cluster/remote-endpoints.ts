/** Endpoints of other hosts, as the tables have them: they are withdrawn where they were entered. */
import { parseIp, parseMac, type Vni } from '../flow/types.ts';
import type { Remote } from '../forwarding/remote.ts';
import type { RemoteEndpoint } from '../forwarding.ts';
import { endpointKind } from '../model/kinds/endpoint.ts';
import type { Transaction } from '../store/store.ts';
import { isShared, type Endpoint } from './endpoint.ts';
import type { Hosts } from './membership/hosts.ts';
import type { Networks } from './networks.ts';
import type { RefusedRecords } from './refused-records.ts';

export interface RemoteEndpointsEnvironment {
  readonly forwarding: { readonly remote: Pick<Remote, 'addEndpoint' | 'announceEndpoint' | 'removeEndpoint'> };
  readonly networks: Networks;
  readonly hosts: Hosts;
}

/**
 * What deletes the endpoints of another host of the store.
 * @param all endpoints @param refused records that this host does not accept
 */
export function belongingsOf(
  host: string,
  all: Iterable<Endpoint>,
  refused: RefusedRecords,
  hosts: Pick<Hosts, 'isThere'>,
): Transaction {
  const isElsewhere = ({ name }: Endpoint): boolean =>
    refused.isOfAnother(endpointKind, name, host, (owner) => hosts.isThere(owner));
  const endpoints = [...all].filter(
    (endpoint) => isShared(endpoint) && endpoint.host === host && !isElsewhere(endpoint),
  );
  const revisions = new Map(endpoints.map(({ name, revision }) => [name, revision]));
  for (const name of refused.ofHost(endpointKind, host)) revisions.set(name, 0);
  const expect = [...revisions].map(([name, revision]) => refused.expectation(endpointKind, { name, revision }));
  return { expect, delete: expect.map(({ key }) => key) };
}

export class RemoteEndpoints {
  readonly #environment: RemoteEndpointsEnvironment;
  /** Where each is in the tables. */
  readonly #entered = new Map<string, Pick<RemoteEndpoint, 'vni' | 'mac'>>();

  constructor(environment: RemoteEndpointsEnvironment) {
    this.#environment = environment;
  }

  /** Enters it, or follows a change. @param isNews true if local containers may remember another holder of its addresses @throws WeftError('not_found') without its network or host */
  enter({ name, host, resource: { spec }, mac, addresses }: Endpoint, isNews: boolean): void {
    const { forwarding, networks, hosts } = this.#environment;
    const remote: RemoteEndpoint = {
      vni: networks.get(spec.network).vni as Vni,
      mac: parseMac(mac),
      addresses: addresses.map(parseIp),
      allowedAddresses: spec.allowedAddresses.map(parseIp),
      vtep: hosts.vtepOf(host!),
      trust: spec.trust,
    };
    if (isNews && !this.#entered.has(name)) forwarding.remote.announceEndpoint(remote);
    this.#entered.set(name, forwarding.remote.addEndpoint(remote));
  }

  /** Does nothing if it was not entered. */
  withdraw(name: string): void {
    const remote = this.#entered.get(name);
    if (remote) this.#environment.forwarding.remote.removeEndpoint(remote);
    this.#entered.delete(name);
  }
}
