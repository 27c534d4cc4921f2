/** A client whose backend cannot be reached: its refusal is cached only if its next packet would get the same backend. */
import t from 'tap';
import { routing } from '../../src/cluster/routing.ts';
import { extract } from '../../src/flow/extract.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import { formatMac, parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { Decisions } from '../../src/control/decisions.ts';
import { reportDecision } from '../../src/observe/decision.ts';
import { decide } from '../../src/pipeline/decide.ts';
import { renderText } from '../../src/pipeline/text.ts';
import { Changes } from '../../src/table/changes.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { Fdb } from '../../src/table/fdb.ts';
import { NeighborTable } from '../../src/table/neighbor.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import { Hooks } from '../../src/table/hooks.ts';
import { Policies } from '../../src/table/policies.ts';
import { Services } from '../../src/table/services.ts';
import { gatewayMac, hostMacOf, Topology } from '../../src/table/topology.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { stores } from '../support/connections.ts';
import * as frames from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';

const vni = 1 as Vni;
const portNo = 2 as PortNo;
const mac = parseMac('02:00:00:00:00:02');

const cases: readonly [what: string, given: Partial<Service>, backends: number, isCached: boolean][] = [
  ['maglev', { balancing: 'maglev' }, 2, true],
  ['source-hash', { balancing: 'source-hash' }, 2, true],
  ['round-robin', { balancing: 'round-robin' }, 2, false],
  ['random', { balancing: 'random' }, 2, false],
  ['least-connections', { balancing: 'least-connections' }, 2, false],
  ['maglev, with affinity', { balancing: 'maglev', affinityMs: 1000 }, 2, false],
  ['round-robin, of one', { balancing: 'round-robin', affinityMs: 1000 }, 1, true],
];

for (const [what, given, count, isCached] of cases) {
  t.test(what, async (t) => {
    const { reason, cacheable } = refusal(given, count);
    t.match({ reason, cacheable }, { reason: 'neighbor_unresolved', cacheable: isCached });
  });
}

t.test('TTL 1 ends at the gateway, whether or not a backend has room', async (t) => {
  for (const maxConnections of [undefined, 0, 1]) {
    const { reason, cacheable } = refusal({ balancing: 'random', maxConnections }, 2, {}, { protocol: IP_TCP, ttl: 1 });
    t.match({ reason, cacheable }, { reason: 'ttl_exceeded', cacheable: true });
  }
  t.match(refusal({ maxConnections: 0 }, 2, {}, { protocol: IP_TCP }), { reason: 'service_full', cacheable: false });
});

t.test('if all have as many connections as they may, it says who, and how many that is', async (t) => {
  const { reason, stages, refused } = refusal({ maxConnections: 0 }, 5, {}, { protocol: IP_TCP });
  t.equal(reason, 'service_full');
  t.match(
    renderText(stages.at(-1)!.because),
    / as they may \(10\.0\.0\.3: 0 at most, 10\.0\.0\.4: 0 at most, .*, and 2 more\); answered by/,
  );
  t.match(refused, { service: 'default/web', more: 2 });
});

t.test('without a backend that is ready, it says what excludes the first ones', async (t) => {
  const because = (count: number, more: Partial<Backend>): string => {
    const { reason, stages } = refusal({}, count, more);
    t.equal(reason, 'service_no_backend');
    return renderText(stages.at(-1)!.because);
  };
  const none = 'service default/web: no backend is ready that this network reaches';
  t.match(because(0, {}), `${none} (it has none); answered by`);
  t.match(because(2, { ready: false }), `${none} (10.0.0.3: it is not ready, 10.0.0.4: it is not ready); answered by`);
  const whyNotReady = 'its endpoint is detached';
  t.match(because(1, { ready: false, whyNotReady }), ` (10.0.0.3: it is not ready: ${whyNotReady}); `);
  t.match(because(5, { weight: 0, endpoint: 'default/b' }), / \(default\/b: its weight is 0, .*, and 2 more\); /);

  const decision = refusal({}, 5, { weight: 0, endpoint: 'default/b', host: 'h' });
  const { refused } = reportDecision(emptyKey(), decision, String);
  const excluded = ['10.0.0.3', '10.0.0.4', '10.0.0.5'].map((address) => ({
    endpoint: 'default/b',
    address,
    host: 'h',
    why: 'its weight is 0',
  }));
  t.same(refused, { service: 'default/web', excluded, more: 2 }, 'a report has the same');
  const decisions = new Decisions();
  const first = decisions.intern(decision);
  const moved = decisions.intern(refusal({}, 5, { weight: 0, endpoint: 'default/b', host: 'i' }));
  t.equal(first.refused?.excluded[0]?.backend.host, 'h');
  t.equal(moved.refused?.excluded[0]?.backend.host, 'i', 'not another host’s, though the words are the same');
});

t.test('it says which route has led to where nobody is', async (t) => {
  const v9 = {
    ...{ name: 'v9', balancing: 'maglev', distribution: 'none' },
    maxConnections: undefined,
    portSpreads: new Map(),
  };
  const destination = { service: 'default/web', subset: 'v9', l4Port: undefined, weight: 1 };
  const routed: Partial<Service> = {
    subsets: [v9 as Service['subsets'][0]],
    routing: { rule: 'default/web', routes: [{ matches: [], destinations: [destination] }] },
  };
  const { reason, stages } = refusal(routed, 1, {}, { protocol: IP_TCP });
  t.equal(reason, 'service_no_backend');
  t.match(
    renderText(stages.at(-1)!.because),
    'service default/web: virtualservice default/web leads to subset v9, all: no backend is ready that this network reaches (10.0.0.3: it is not in the subset)',
  );
});

/** What happens to the first packet of a client to a service whose backends do not answer. */
function refusal(
  given: Partial<Service>,
  count: number,
  more: Partial<Backend> = {},
  { protocol = IP_UDP, ttl = 64 } = {},
): ReturnType<typeof decide> {
  const changes = new Changes();
  const topology = new Topology(hostMacOf(Uint8Array.of(0, 0, 1)), changes);
  topology.setNetwork({ name: 'n1', vni, ...routing('n1', ['10.0.0.0/24'], []) });
  const addresses = [parseIp('10.0.0.2')];
  const rest = { allowedAddresses: [], allowedEtherTypes: [], trust: false };
  topology.setPort({ portNo, name: 'p2', vni, mac, addresses, ...rest });
  const fdb = new Fdb({ quota: 8, ageingMs: 1000 }, changes);
  fdb.setStatic(vni, mac, { kind: 'port', port: portNo });
  const neighbors = new NeighborTable({ quota: 64 }, changes);
  const backends = Array.from({ length: count }, (_, n) => backend(`10.0.0.${3 + n}`, { vni, ...more }));
  for (const { address } of backends) {
    neighbors.ask(vni, address, 0);
    neighbors.fail(vni, address, 0);
  }
  const services = new Services(topology, changes);
  services.set(service({ backends, ports: [servicePort(count, { protocol, l4Port: 53 })], ...given }), 0);
  const connections = new ConnectionTable({
    store: stores.reference(8),
    quota: 8,
    unprovenQuota: 8,
    addressesWith: (vni, ip) => topology.addressesWith(vni, ip),
    natKey: new Uint8Array(8),
    services,
    isReserved: () => false,
  });
  const key = emptyKey();
  const ends = {
    srcMac: formatMac(mac),
    dstMac: formatMac(gatewayMac(vni)),
    src: '10.0.0.2',
    dst: '10.96.0.1',
    ip4: { ttl },
  };
  const ports = { sourcePort: 1234, destinationPort: 53 };
  extract(protocol === IP_TCP ? frames.tcp(ends, ports) : frames.udp(ends, 1234, 53), key);
  writeNumber(key, fields.in_port, portNo);
  const [policies, hooks] = [new Policies(changes), new Hooks(changes)];
  return decide(key, { topology, fdb, neighbors, connections, services, policies, hooks });
}
