/** Random changes, and random questions in between, are answered as the naive twin answers them. */
import t from 'tap';
import type { ZoneChange } from '../../src/discovery/records.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';
import { NaiveZone } from './naive-zone.ts';
import { aliased, anyBelow, endpoint, network, prefix, service, shown, zoneOf } from './zone-lab.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const random = new Random(seed);
const below = (limit: number): number => random.int(limit);
const pick = <T>(from: readonly T[]): T => random.pick(from);

const networks = ['red', 'blue', 'a'];
const names = ['a', 'b', 'red'];
const namespaces = ['a', 'b', 'default'];
const labels = [...names, ...namespaces, '_tcp', '_udp', '_http', '_b', 'h0', 'h1', '*', 'svc'];

function randomNetwork(): ZoneChange {
  const at = below(networks.length);
  const to = below(networks.length);
  const routes = [{ prefix: prefix(`10.${to}.0.0/16`), kind: 'network', network: networks[to]! } as const];
  return network(networks[at]!, at + 1, [`10.${at}.0.0/16`], to === at ? {} : { routes });
}

function randomEndpoint(): ZoneChange {
  const id = `${pick(namespaces)}/${pick(names)}`;
  const at = below(networks.length);
  if (below(4) === 0) return { kind: 'endpoint', id };
  const withAliases = (of: string, network: string, ip: string): ZoneChange =>
    aliased(of, network, [...new Set([pick(names), pick(names)])], ip);
  return pick([anyBelow, endpoint, withAliases])(id, networks[at]!, `10.${at}.0.${2 + below(200)}`);
}

function randomService(): ZoneChange {
  const id = `${pick(namespaces)}/${pick(names)}`;
  if (below(4) === 0) return { kind: 'service', id };
  const backends = Array.from({ length: below(4) }, (_, i) => {
    const at = below(networks.length);
    return { ip: `10.${at}.1.${i}`, vni: at + 1, hostname: `h${i}` };
  });
  const ports = [IP_TCP, IP_UDP].flatMap((protocol) =>
    ['http', 'b']
      .filter(() => below(2) === 0)
      .map((name) => ({ name, protocol, l4Port: 80, targets: backends.map(() => below(3) * 80) })),
  );
  const isHeadless = below(2) === 0;
  return service(id, { hasWildcard: below(2) === 0, ports, ...(isHeadless ? { backends } : { vips: ['10.96.0.1'] }) });
}

function randomName(): string {
  const parts = Array.from({ length: below(5) }, () => pick(labels));
  return below(2) === 0 ? [...parts, pick(networks), 'weft'].join('.') : [...parts, 'svc.cluster.local'].join('.');
}

t.test(`as the naive twin, seed ${seed}`, async (t) => {
  const zone = zoneOf([]);
  const naive = new NaiveZone();
  const found = new Set<string>();
  let wrong = 0;
  const apply = (change: ZoneChange): void => {
    zone.apply(change);
    naive.apply(change);
  };
  for (const at of networks.keys()) apply(network(networks[at]!, at + 1, [`10.${at}.0.0/16`]));
  for (let round = 0; round < 1500 && wrong < 3; round++) {
    apply(pick([randomNetwork, randomEndpoint, randomEndpoint, randomService, randomService])());
    for (let question = 0; question < 8; question++) {
      const client = { network: pick(networks), namespace: pick(namespaces) };
      const [name, type] = [randomName(), pick(['A', 'AAAA', 'SRV', 'ANY', 'MX'])];
      const is = shown(zone, name, type, client).filter((line) => !line.startsWith('+'));
      const expected = naive.shown(name, type, client);
      found.add(`${is[0]} ${Math.min(is.length, 3)}`);
      if (is.join() === expected.join()) continue;
      wrong++;
      t.same(is, expected, `${name} ${type} from ${client.network}, ${client.namespace}`);
    }
  }
  t.equal(wrong, 0);
  t.same([...found].sort(), ['NOERROR 1', 'NOERROR 2', 'NOERROR 3', 'NXDOMAIN 1'], 'all kinds of answers were seen');
});
