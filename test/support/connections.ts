/** Stores of connections for tests: those of the reference and of the native datapath. */
import { NativeConnections } from '../../src/datapath/native/connections.ts';
import { ReferenceConnections } from '../../src/datapath/reference/connections.ts';
import { connectionBytes } from '../../src/flow/connection.ts';
import type { ConnectionOptions } from '../../src/table/connections.ts';
import type { ConnectionStore, ConnectionStoreOptions } from '../../src/flow/connection-store.ts';

/** Memory for this many connections, plus one slot. */
export function connectionMemoryFor(limit: number): Uint8Array {
  return new Uint8Array(connectionBytes(limit + 1));
}

function optionsOf(limit: number, memory: Uint8Array): ConnectionStoreOptions {
  return { memory, limit, quota: limit, unprovenQuota: limit };
}

/** For tables of connections that lead to no services. */
export const noServices: ConnectionOptions['services'] = {
  opened: () => undefined,
  closed: () => undefined,
  recovered: () => undefined,
  passOver: () => undefined,
  reopened: () => undefined,
  tableFor: () => undefined,
  claimed: () => undefined,
};

/** By the datapath that has it. */
export const stores = {
  reference: (limit: number, memory = connectionMemoryFor(limit)): ConnectionStore =>
    new ReferenceConnections(optionsOf(limit, memory)),
  native: (limit: number, memory = connectionMemoryFor(limit)): ConnectionStore =>
    new NativeConnections(optionsOf(limit, memory)),
} as const;
