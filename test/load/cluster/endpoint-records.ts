/**
 * What the hosts of a large cluster write for their endpoints: the records, and where their addresses come from. Each host
 * claims blocks of a network one after the other, as many as it needs, and gives their addresses out.
 */
import { generateMac } from '../../../src/cluster/addresses/ipam.ts';
import { blockKey } from '../../../src/cluster/addresses/block.ts';
import { addressText, addressValue } from '../../../src/model/address.ts';
import type { Put } from '../../../src/store/store.ts';

/** How many networks there are: each host has endpoints in HOST_NETWORKS of them. */
export const NETWORKS = 10;
const HOST_NETWORKS = 2;
const BLOCK = 16;

export function networkName(network: number): string {
  return `net${network}`;
}

export function subnetOf(network: number): string {
  return `10.${network}.0.0/16`;
}

export function hostName(host: number): string {
  return `host-${host}`;
}

export function underlayOf(host: number): string {
  return `172.16.${host >> 8}.${host & 255}`;
}

/** 16 bytes that no other host has. */
export function identityOf(host: number): Buffer {
  return Buffer.from(`host ${host}`.padEnd(16, '.'));
}

/** The networks in which a host has endpoints. */
export function networksOf(host: number): number[] {
  return Array.from({ length: HOST_NETWORKS }, (_, at) => (host + (at * NETWORKS) / HOST_NETWORKS) % NETWORKS);
}

export interface PlayedEndpoint {
  readonly name: string;
  readonly host: number;
  readonly network: number;
  readonly address: string;
}

export function endpointKey({ name }: PlayedEndpoint): string {
  return `endpoints/default/${name}`;
}

/** As `EndpointPlan` has it stored. */
export function endpointRecord(
  { name, host, network, address }: PlayedEndpoint,
  labels: Readonly<Record<string, string>> = {},
): object {
  const resource = {
    apiVersion: 'weft.dev/v1',
    kind: 'Endpoint',
    metadata: { name, namespace: 'default', labels },
    spec: {
      network: networkName(network),
      netns: name,
      addresses: [],
      interface: 'eth0',
      allowedAddresses: [],
      allowedEtherTypes: [],
      trust: false,
      publish: [],
    },
  };
  const mac = generateMac(networkName(network), name, identityOf(host), 0);
  return { resource, addresses: [address], mac, host: hostName(host) };
}

/** The blocks of one network, and the addresses in them that endpoints can have. */
export class Addresses {
  readonly #network: number;
  /** The last block of the network that a host has claimed. The one with the gateway belongs to nobody. */
  #last = 0;
  /** Of each host: its free addresses. */
  readonly #free = new Map<number, string[]>();

  constructor(network: number) {
    this.#network = network;
  }

  /** @returns an address for the host, and the block to claim for it, if it has none left */
  take(host: number): { readonly address: string; readonly claim?: Put } {
    const free = this.#free.get(host) ?? [];
    this.#free.set(host, free);
    const known = free.shift();
    if (known !== undefined) return { address: known };
    const first = addressValue(`10.${this.#network}.0.0`) + BigInt(++this.#last * BLOCK);
    free.push(...Array.from({ length: BLOCK }, (_, at) => addressText(first + BigInt(at))));
    const claim = { key: blockKey(networkName(this.#network), first), value: { host: hostName(host), claimed: {} } };
    return { address: free.shift()!, claim };
  }

  /** It goes to the end, as addresses rest before they are given out again. */
  giveBack({ host, address }: PlayedEndpoint): void {
    this.#free.get(host)!.push(address);
  }
}
