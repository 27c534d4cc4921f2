/** Hosts with one store, as control planes without namespaces, and what the store has of their blocks of addresses. */
import type { Test } from 'tap';
import type { BlockRecord } from '../../src/model/records.ts';
import type { Store } from '../../src/store/store.ts';
import { manifest, openControlPlane, type ControlPlaneOptions } from './control-plane.ts';

export type Plane = Awaited<ReturnType<typeof openControlPlane>>;

/** Starts a host, which is registered. */
export async function openHost(
  t: Test,
  shared: Store,
  host: string,
  known?: string,
  options: ControlPlaneOptions = {},
): Promise<Plane> {
  const n = host.charCodeAt(0) - 95;
  const registration = {
    resource: manifest('Host', host, { underlay: `192.0.2.${n}` }),
    host,
    id: Buffer.from(host).toString('hex').padEnd(32, '0'),
    mac: `00000${n}`,
    since: '2026-01-01T00:00:00Z',
  };
  if (known === undefined) await shared.transact({ put: [{ key: `hosts/${host}`, value: registration }] });
  return openControlPlane(t, known, { host, shared, ...options });
}

export const blue = (...subnets: string[]) => manifest('Network', 'blue', { subnets });
/** Not a network namespace, but another one than that of the test: no interface is created in it. */
export const netns = '/proc/self/ns/uts';
export const endpoint = (name: string, spec: object) => manifest('Endpoint', name, { network: 'blue', netns, ...spec });

export async function attach({ cluster, endpoints }: Plane, name: string, ...addresses: string[]): Promise<string> {
  await cluster.apply([endpoint(name, { addresses })]);
  return endpoints.get(name).addresses.join();
}

export async function blocksIn(store: Store): Promise<Record<string, BlockRecord>> {
  const { entries } = await store.list('blocks/');
  return Object.fromEntries(entries.map(({ key, value }) => [key, value as BlockRecord]));
}

/** Resolves when the host has nothing more to do, and has seen what others did. */
export async function settled(...planes: readonly Plane[]): Promise<void> {
  for (let n = 0; n < 3; n++) {
    for (const { blocks, cluster } of planes) {
      await cluster.serial.run(() => cluster.enforce());
      await blocks!.keep();
    }
  }
}
