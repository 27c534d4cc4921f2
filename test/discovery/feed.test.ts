/** What the thread of the DNS server is told of services: of many backends, only those that have changed. */
import { serialize } from 'node:v8';
import t from 'tap';
import { ZoneFeed } from '../../src/discovery/feed.ts';
import type { ZoneChange } from '../../src/discovery/records.ts';
import type { Zone } from '../../src/discovery/zone.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import type { Backend, Service } from '../../src/table/service.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';
import { backend, service, servicePort } from '../support/services.ts';
import { inBlue, inRed, network, shown, zoneOf } from './zone-lab.ts';

const nothing = { all: () => [], find: () => undefined };
const MANY = 10_000;

function openFeed(): ZoneFeed {
  const feed = new ZoneFeed({ networks: nothing, endpoints: nothing }, (work) => work());
  feed.restart(() => {});
  return feed;
}

/** All that there is to tell, in its pieces. */
function takeAll(feed: ZoneFeed): (readonly ZoneChange[])[] {
  const pieces: (readonly ZoneChange[])[] = [];
  for (let piece = feed.take(); piece.length > 0; piece = feed.take()) pieces.push(piece);
  return pieces;
}

/** How many backends come and go with it. */
function told(pieces: readonly (readonly ZoneChange[])[]): { readonly come: number; readonly go: number } {
  const replaced = pieces.flat().flatMap((change) => (change.kind === 'service' && change.value?.replaced) || []);
  return {
    come: replaced.reduce((sum, { by }) => sum + by.vnis.length, 0),
    go: replaced.reduce((sum, { count }) => sum + count, 0),
  };
}

function manyBackends(): Backend[] {
  return Array.from({ length: MANY }, (_, n) => {
    const name = `e${String(n).padStart(5, '0')}`;
    return backend(`10.0.${n >> 8}.${n & 255}`, { vni: 1 as Vni, endpoint: `default/${name}`, hostname: name });
  });
}

function headless(backends: readonly Backend[]): Service {
  return service({ id: 'default/set', vips: [], backends, ports: [servicePort(backends.length, { name: 'http' })] });
}

t.test('one of many backends changes', async (t) => {
  const feed = openFeed();
  const all = manyBackends();
  const put = (backends: readonly Backend[]) => {
    feed.setService(headless(backends));
    return takeAll(feed);
  };
  t.same(told(put(all)), { come: MANY, go: 0 }, 'everything is told once');
  const without = put(all.filter((_, n) => n !== 5000));
  t.same(told(without), { come: 0, go: 1 }, 'one goes');
  t.ok(serialize(without).length < 2000, 'in a small message');
  t.same(told(put(all)), { come: 1, go: 0 }, 'and comes back');
  t.same(told(put(all.map((one) => ({ ...one, address: one.address.slice() })))), { come: 0, go: 0 }, 'made anew');
  const unready = all.map((one, n) => (n % 1000 === 0 ? { ...one, ready: false } : one));
  t.same(told(put(unready)), { come: 0, go: 10 }, 'some of them, far apart');
  const moved = unready.map((one, n) => (n === 4999 ? { ...one, address: parseIp('10.1.0.1') } : one));
  t.same(told(put(moved)), { come: 1, go: 1 }, 'one has another address');
  const other = servicePort(MANY, { name: 'http', targets: moved.map((_, n) => (n === 4998 ? 81 : 8080)) });
  feed.setService({ ...headless(moved), ports: [other] });
  t.same(told(takeAll(feed)), { come: 1, go: 1 }, 'one has another port');
  feed.restart(() => {});
  t.same(told(takeAll(feed)), { come: MANY - 10, go: 0 }, 'another thread knows nothing');
});

t.test('a piece has few services that have many backends', async (t) => {
  const feed = openFeed();
  const backends = manyBackends().slice(0, 1000);
  for (let n = 0; n < 10; n++) feed.setService({ ...headless(backends), id: `default/set-${n}` });
  t.same(
    takeAll(feed).map((piece) => piece.length),
    [2, 2, 2, 2, 2],
  );
});

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
t.test(`what the thread knows after random changes is what there is, seed ${seed}`, async (t) => {
  const random = new Random(seed);
  const below = (limit: number): number => random.int(limit);
  const networks = [network('red', 1, ['10.1.0.0/16', 'fd01::/64']), network('blue', 2, ['10.2.0.0/16'])];
  const randomBackend = (n: number): Backend =>
    backend(`10.${1 + below(2)}.0.${2 + below(3)}`, {
      vni: (1 + below(2)) as Vni,
      ...(below(4) > 0 && { endpoint: `default/e${n}` }),
      ...(below(4) > 0 && { hostname: `h${below(4)}` }),
      ready: below(4) > 0,
    });
  const randomPorts = (count: number) =>
    [IP_TCP, IP_UDP].flatMap((protocol) =>
      ['', 'http', 'b']
        .filter(() => below(2) === 0)
        .map((name) => {
          const targets = Array.from({ length: count }, () => 80 * below(3));
          return servicePort(count, { name, protocol, targets });
        }),
    );
  const changed = (before: Service | undefined, id: string): Service => {
    const kept = (before?.backends ?? []).filter(() => below(4) > 0);
    const backends = [...kept, ...Array.from({ length: below(3) }, () => randomBackend(below(10)))];
    // Mostly in the order that services have.
    if (below(5) > 0) backends.sort((a, b) => ((a.endpoint ?? '~') < (b.endpoint ?? '~') ? -1 : 1));
    const isSame = before && below(2) === 0 && before.backends.length === backends.length;
    const vips = below(4) === 0 ? ['10.96.0.1'] : [];
    const ports = isSame ? before.ports : randomPorts(backends.length);
    return service({ id, backends, ports, vips: vips.map(parseIp), hasWildcard: below(2) === 0 });
  };
  const ids = ['default/a', 'default/b', 'shop/a'];
  const known = new Map<string, Service>();
  const feed = openFeed();
  const learn = (zone: Zone, from: ZoneFeed): void => {
    for (const piece of takeAll(from)) for (const change of structuredClone(piece)) zone.apply(change);
  };
  let zone = zoneOf(networks);
  const questions = ids.flatMap((id) => {
    const name = `${id.split('/').reverse().join('.')}.svc.cluster.local`;
    const hosts = Array.from({ length: 4 }, (_, n) => [`h${n}.${name}`, 'A']);
    const ports = ['_tcp', '_udp'].flatMap((protocol) => ['_http', '_b'].map((port) => `${port}.${protocol}.${name}`));
    return [[name, 'ANY'], [`x.${name}`, 'A'], ...hosts, ...ports.map((port) => [port, 'SRV'])];
  });
  const reverse = ['10.1.0.2', '10.1.0.3', '10.2.0.4', '10.96.0.1'].map((ip) => [
    `${ip.split('.').reverse().join('.')}.in-addr.arpa`,
    'PTR',
  ]);
  let records = 0;
  for (let round = 0; round < 200; round++) {
    const id = ids[below(ids.length)]!;
    if (below(8) === 0) {
      known.delete(id);
      feed.removeService(id);
    } else {
      const next = changed(known.get(id), id);
      known.set(id, next);
      feed.setService(next);
    }
    if (below(3) === 0) continue;
    if (below(50) === 0) {
      feed.restart(() => {});
      zone = zoneOf(networks);
    }
    learn(zone, feed);
    const all = openFeed();
    for (const one of known.values()) all.setService(one);
    const naive = zoneOf(networks);
    learn(naive, all);
    for (const client of [inRed, inBlue]) {
      for (const [name = '', type = ''] of [...questions, ...reverse]) {
        const [is, expected] = [shown(zone, name, type, client), shown(naive, name, type, client)];
        records += is.length - 1;
        if (is.join() === expected.join()) continue;
        t.same(is, expected, `round ${round}: ${name} ${type} in ${client.network}`);
        return;
      }
    }
  }
  t.ok(records > 1000, `${records} records were answered`);
});
