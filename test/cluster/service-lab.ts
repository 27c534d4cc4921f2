/** A host that shares a store with another one, for tests of what is behind a service. */
import type { Test } from 'tap';
import { formatIp } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { manifest, openControlPlane, openStore } from './control-plane.ts';

export type Plane = Awaited<ReturnType<typeof openControlPlane>>;

export const kind = (text: string) => findKind(text)!;
const macOf = (n: number): string => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`;
const network = {
  resource: manifest('Network', 'blue', { subnets: ['10.0.0.0/24', 'fd00::/64'] }),
  vni: 100,
  mtu: 1450,
};
const hosts = { left: '192.0.2.1', right: '192.0.2.2' };
export const hostRecord = (host: keyof typeof hosts, labels: object = {}) => ({
  resource: manifest('Host', host, { underlay: hosts[host] }, { labels }),
  host,
  id: Buffer.from(host).toString('hex').padEnd(32, '0'),
  mac: `00000${host.length}`,
  since: '2026-01-01T00:00:00Z',
});
/** An endpoint of the host `right`, with 10.0.0.N and fd00::N. */
export const app = (
  n: number,
  { labels = { app: 'web' }, ...spec }: { labels?: object; [field: string]: unknown } = {},
) => ({
  resource: manifest('Endpoint', `app-${n}`, { network: 'blue', netns: '/run/app', ...spec }, { labels }),
  addresses: [`10.0.0.${n}`, `fd00::${n.toString(16)}`],
  mac: macOf(n),
  host: 'right',
});
export const service = (name: string, spec: object, annotations?: object) =>
  manifest('Service', name, spec, annotations && { annotations });
export const slice = (name: string, of: string, fields: object) =>
  parseResource({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ...fields,
  });

/** What the host `left` has in force. */
export async function lab(t: Test, records: Readonly<Record<string, unknown>> = {}, down = new Set<string>()) {
  const store = await openStore(t);
  const all = { 'networks/blue': network, 'hosts/left': hostRecord('left'), 'hosts/right': hostRecord('right') };
  await store.transact({ put: Object.entries({ ...all, ...records }).map(([key, value]) => ({ key, value })) });
  const options = { host: 'left', shared: store, isUnreachable: (host: string) => down.has(host) };
  return openControlPlane(t, undefined, options);
}

export const at = (n: number): string => `endpoints/default/app-${n}`;
export const find = ({ forwarding }: Plane, id = 'default/web') => forwarding.tables.services.get(id)!;
export const addressesOf = (plane: Plane, id?: string): string[] =>
  find(plane, id).backends.map(({ address }) => formatIp(address));
/** ready, serving, terminating. */
export const stateOf = (plane: Plane, n = 0): boolean[] => {
  const { ready, serving, terminating } = find(plane).backends[n]!;
  return [ready, serving, terminating];
};
