/**
 * Balancing tables: by which the datapath itself chooses the backend of a new connection through a service. They are made by
 * `table/balancer.ts`, which chooses in the same way, so it does not matter who opens a connection.
 *
 *   hash of the tuple, or of the client's address ──► slot ──► backend
 *
 * A table never changes: when a backend comes or goes, there is another one with another id. `native/balancing_table.h` has
 * the same hashes.
 */
import type { Place, ProtocolTuple } from './connection.ts';
import { HASH_SEED, mixed, mixIn } from './hash.ts';

/** How many owners share the quota that a balanced connection counts towards, at most: the addresses of one workload. */
export const BALANCE_OWNERS = 4;

/** The size of a backend as it is passed to the addon: pin, place of replies, address, port, 2 zero bytes. */
export const BALANCED_BACKEND_BYTES = 28;

export interface BalancedBackend {
  /** Its number in the records of connections. */
  readonly pin: number;
  /** 16 bytes, IPv4-mapped or IPv6. */
  readonly address: Uint8Array;
  /** Its port for the first port of the service. */
  readonly target: number;
  /** Where its replies come in; undefined: nobody knows, and so the datapath opens no connections to it. */
  readonly replies: Place | undefined;
}

export interface BalancingTable {
  /** Every connection of a client gets the same backend. */
  readonly byClient: boolean;
  /** Of the service: who asks for the next port gets that behind the target. */
  readonly firstPort: number;
  /** For the connections of one workload, and for those of them not seen in use. */
  readonly quota: number;
  readonly unprovenQuota: number;
  /** Positions of backends. */
  readonly slots: Uint16Array;
  readonly backends: readonly BalancedBackend[];
}

/** True if there is a backend in each slot. */
export function isBalancingTable({ slots, backends }: BalancingTable): boolean {
  return slots.length > 0 && slots.every((at) => at < backends.length);
}

/** The backend of a new connection. */
export function backendOf({ byClient, slots, backends }: BalancingTable, tuple: ProtocolTuple): BalancedBackend {
  const hash = byClient ? clientHash(tuple) : tupleHash(tuple, 0);
  return backends[slots[hash % slots.length]!]!;
}

/**
 * Distinguishes connections: the same on all hosts, because those from outside may come in by any of them.
 * @param nth another number gives another hash
 */
export function tupleHash(tuple: ProtocolTuple, nth: number): number {
  const { protocol, source, destination, sourcePort, destinationPort } = tuple;
  let hash = mixIn(mixIn(HASH_SEED, source), destination);
  for (const number of [protocol, sourcePort, destinationPort, nth]) {
    hash = Math.imul(hash ^ (number & 0xffff), 0x01000193);
    hash = Math.imul(hash ^ (number >>> 16), 0x01000193);
  }
  return mixed(hash);
}

/** Distinguishes clients. */
export function clientHash({ source }: Pick<ProtocolTuple, 'source'>): number {
  return mixed(mixIn(HASH_SEED, source));
}
