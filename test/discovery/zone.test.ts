/** What weft's names mean to a client. The numbers of tests are those of the list of known traps of DNS for containers. */
import t from 'tap';
import type { ServiceUpdate } from '../../src/discovery/records.ts';
import { ServiceNames } from '../../src/discovery/service-names.ts';
import { serviceUpdate } from '../../src/discovery/service-update.ts';
import { MOST_RECORDS } from '../../src/discovery/zone.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { backend, service as declared } from '../support/services.ts';
import { aliased, anyBelow, endpoint, inBlue, inRed, network, prefix, service, shown, zoneOf } from './zone-lab.ts';

const http = { name: 'http', protocol: IP_TCP, l4Port: 80, targets: [] as number[] };
const dns = { name: 'dns', protocol: IP_UDP, l4Port: 53, targets: [] };

const routes = [{ prefix: prefix('10.45.0.0/24'), kind: 'network', network: 'blue' } as const];
const base = [
  network('red', 1, ['10.44.0.0/24', 'fd44::/64'], { routes }),
  network('blue', 2, ['10.45.0.0/24']),
  network('green', 3, ['10.46.0.0/24']),
  network('open', 4, ['203.0.113.0/24'], { outside: true }),
  endpoint('default/web', 'red', '10.44.0.2', 'fd44::2'),
  endpoint('default/old', 'red', '10.44.0.3'),
  endpoint('shop/web', 'red', '10.44.0.4'),
  endpoint('default/db', 'blue', '10.45.0.2'),
  endpoint('default/far', 'green', '10.46.0.2'),
  service('default/api', { vips: ['10.96.0.10', 'fd77:6566:7460::10'], ports: [http, dns] }),
  service('default/four', { vips: ['10.96.0.11'] }),
  service('default/set', {
    ports: [{ ...http, targets: [8080, 8080, 0, 9090] }],
    backends: [
      { ip: '10.44.0.2', vni: 1, hostname: 'web-0' },
      { ip: 'fd44::2', vni: 1, hostname: 'web-0' },
      { ip: '10.44.0.3', vni: 1 },
      { ip: '10.46.0.2', vni: 3, hostname: 'far' },
    ],
  }),
  service('default/idle', { ports: [http] }),
  service('shop/alias', { externalName: 'API.default.svc.cluster.local.' }),
  service('shop/mail', { externalName: 'mail.example.org' }),
  service('default/any', { vips: ['10.96.0.12'], hasWildcard: true, ports: [http] }),
];
const inGreen = { network: 'green', namespace: 'default' };

t.test('1: a name that has only IPv4 exists, and has no AAAA', async (t) => {
  const zone = zoneOf(base);
  for (const name of ['four.default.svc.cluster.local', 'old.red.weft', '10-44-0-3.set.default.svc.cluster.local']) {
    t.same(shown(zone, name, 'AAAA'), ['NOERROR'], name);
    t.equal(shown(zone, name, 'A').length, 2, name);
    t.same(shown(zone, name, 'MX'), ['NOERROR'], name);
  }
  t.same(shown(zone, 'web.red.weft', 'AAAA'), ['NOERROR', 'web.red.weft AAAA fd44::2']);
});

t.test('2: a name that only has names below it exists', async (t) => {
  const zone = zoneOf(base);
  const ofServices = ['svc.cluster.local', 'default.svc.cluster.local', '_tcp.api.default.svc.cluster.local'];
  for (const name of [...ofServices, 'red.weft', 'shop.red.weft', 'dns.cluster.local', '0.44.10.in-addr.arpa']) {
    t.same(shown(zone, name, 'A'), ['NOERROR'], name);
  }
  t.same(shown(zone, 'other.svc.cluster.local', 'A'), ['NXDOMAIN'], 'a namespace without services');
  t.same(shown(zone, 'other.red.weft', 'A'), ['NXDOMAIN']);
  t.same(shown(zone, '_sctp.api.default.svc.cluster.local', 'A'), ['NXDOMAIN']);
});

t.test('3: a name that does not exist does not for any type', async (t) => {
  const zone = zoneOf(base);
  const names = [
    'no.default.svc.cluster.local',
    'no.red.weft',
    'no.no.weft',
    'x.cluster.local',
    '9.0.44.10.in-addr.arpa',
  ];
  for (const type of ['A', 'AAAA', 'MX', 'HTTPS', 'UNKNOWN_65', 'UNKNOWN_64999', 'SRV', 'ANY']) {
    for (const name of names) t.same(shown(zone, name, type), ['NXDOMAIN'], `${name} ${type}`);
  }
});

t.test('4: a headless service without ready endpoints does not exist', async (t) => {
  const zone = zoneOf(base);
  const idle = 'idle.default.svc.cluster.local';
  for (const name of [idle, `_tcp.${idle}`, `_http._tcp.${idle}`]) t.same(shown(zone, name, 'A'), ['NXDOMAIN'], name);
  const nowhere = { network: 'nowhere', namespace: 'default' };
  t.same(shown(zone, 'set.default.svc.cluster.local', 'A', nowhere), ['NXDOMAIN'], 'nor if none is reached');
});

t.test('5: what is weft’s, whatever its type, and what is not', async (t) => {
  const zone = zoneOf(base);
  for (const name of [
    'cluster.local',
    'weft',
    'a.weft',
    'a.b.c.d.e.weft',
    'x.y.cluster.local',
    '1.1.168.192.in-addr.arpa',
  ]) {
    for (const type of ['A', 'NS', 'DS', 'UNKNOWN_65'])
      t.not(shown(zone, name, type)[0], 'elsewhere', `${name} ${type}`);
  }
  for (const name of [
    '',
    'local',
    'example.org',
    'weft.example',
    'xcluster.local',
    '8.8.8.8.in-addr.arpa',
    'api',
    'arpa',
  ]) {
    t.same(shown(zone, name, 'A'), ['elsewhere'], name);
  }
});

t.test('services: the VIPs, from everywhere', async (t) => {
  const zone = zoneOf(base);
  const name = 'api.default.svc.cluster.local';
  for (const client of [inRed, inBlue, inGreen]) {
    t.same(shown(zone, name, 'A', client), ['NOERROR', `${name} A 10.96.0.10`]);
    t.same(shown(zone, name, 'AAAA', client), ['NOERROR', `${name} AAAA fd77:6566:7460::10`]);
  }
  t.same(shown(zone, `x.${name}`, 'A'), ['NXDOMAIN']);
  t.same(shown(zone, 'dns-version.cluster.local', 'TXT'), ['NOERROR', 'dns-version.cluster.local TXT 1.1.0']);
  t.match(shown(zone, 'cluster.local', 'SOA'), ['NOERROR', /^cluster\.local SOA/]);
});

t.test('headless services: the addresses that the client reaches, and a name for each endpoint', async (t) => {
  const zone = zoneOf(base);
  const name = 'set.default.svc.cluster.local';
  t.same(shown(zone, name, 'A'), ['NOERROR', `${name} A 10.44.0.2`, `${name} A 10.44.0.3`]);
  t.same(shown(zone, name, 'AAAA'), ['NOERROR', `${name} AAAA fd44::2`]);
  t.same(shown(zone, `web-0.${name}`, 'A'), ['NOERROR', `web-0.${name} A 10.44.0.2`]);
  t.same(shown(zone, `10-44-0-3.${name}`, 'A'), ['NOERROR', `10-44-0-3.${name} A 10.44.0.3`]);
  t.same(shown(zone, `far.${name}`, 'A'), ['NXDOMAIN'], 'which is not reached from here');
  t.same(shown(zone, `far.${name}`, 'A', inGreen), ['NOERROR', `far.${name} A 10.46.0.2`]);
  t.same(shown(zone, `a.web-0.${name}`, 'A'), ['NXDOMAIN']);
});

t.test('headless services: all that are ready, whatever the service says of clients of its address', async (t) => {
  const at = (ip: string, host: string, more = {}) => backend(ip, { vni: 1 as Vni, host, ...more });
  const value = serviceUpdate(
    declared({
      ...{ id: 'default/set', vips: [], internalPolicy: 'local', externalPolicy: 'local', distribution: 'same-node' },
      backends: [at('10.44.0.2', 'here'), at('10.44.0.3', 'there'), at('10.44.0.4', 'there', { ready: false })],
    }),
    undefined,
  );
  const zone = zoneOf([network('red', 1, ['10.44.0.0/24']), { kind: 'service', id: 'default/set', value }]);
  const name = 'set.default.svc.cluster.local';
  t.same(shown(zone, name, 'A'), ['NOERROR', `${name} A 10.44.0.2`, `${name} A 10.44.0.3`]);
});

t.test('13: SRV for named ports, with a target that has addresses, in the additional section, too', async (t) => {
  const zone = zoneOf(base);
  const api = 'api.default.svc.cluster.local';
  t.same(shown(zone, `_http._tcp.${api}`, 'SRV'), [
    'NOERROR',
    `_http._tcp.${api} SRV 80 ${api}`,
    `+ ${api} A 10.96.0.10`,
    `+ ${api} AAAA fd77:6566:7460::10`,
  ]);
  t.equal(shown(zone, `_dns._udp.${api}`, 'SRV')[1], `_dns._udp.${api} SRV 53 ${api}`);
  t.same(shown(zone, `_dns._tcp.${api}`, 'SRV'), ['NXDOMAIN'], 'a protocol that the port does not have');
  t.same(shown(zone, `_http._tcp.${api}`, 'A'), ['NOERROR']);
  const set = 'set.default.svc.cluster.local';
  t.same(
    shown(zone, `_http._tcp.${set}`, 'SRV'),
    ['NOERROR', `_http._tcp.${set} SRV 8080 web-0.${set}`, `+ web-0.${set} A 10.44.0.2`, `+ web-0.${set} AAAA fd44::2`],
    'one target with two addresses; one that lacks the port is left out',
  );
  t.same(
    shown(zone, `_http._tcp.${set}`, 'SRV', inGreen),
    ['NOERROR', `_http._tcp.${set} SRV 9090 far.${set}`, `+ far.${set} A 10.46.0.2`],
    'a port of its own',
  );
});

t.test('the gateways, where weft itself answers', async (t) => {
  const zone = zoneOf([network('red', 1, ['10.44.0.0/24', 'fd44::/64']), network('twin', 2, ['10.44.0.0/24'])]);
  const [first, second, other] = ['10.44.0.1', 'fd44::1', '10.44.0.2'].map(parseIp);
  t.same(
    [first, second, other].map((ip) => zone.isGateway(ip!)),
    [true, true, false],
  );
  zone.apply({ kind: 'network', name: 'red' });
  t.same(
    [first, second].map((ip) => zone.isGateway(ip!)),
    [true, false],
    'another network has the first one, too',
  );
  zone.apply({ kind: 'network', name: 'twin' });
  t.notOk(zone.isGateway(first!));
});

t.test('ExternalName: an alias, which is followed', async (t) => {
  const zone = zoneOf(base);
  const alias = 'alias.shop.svc.cluster.local';
  t.same(shown(zone, alias, 'A'), [
    'NOERROR',
    `${alias} CNAME api.default.svc.cluster.local`,
    'api.default.svc.cluster.local A 10.96.0.10',
  ]);
  t.same(shown(zone, alias, 'CNAME'), ['NOERROR', `${alias} CNAME api.default.svc.cluster.local`]);
  t.equal(zone.answer(alias, 'MX', inRed)?.missing, 'api.default.svc.cluster.local', 'no data, where it leads to');
  t.equal(zone.answer(alias, 'A', inRed)?.missing, undefined);
  zone.apply(service('shop/lost', { externalName: 'no.default.svc.cluster.local' }));
  const lost = zone.answer('lost.shop.svc.cluster.local', 'A', inRed);
  t.match(lost, { rcode: 'NXDOMAIN', missing: 'no.default.svc.cluster.local' });
  const mail = 'mail.shop.svc.cluster.local';
  t.same(shown(zone, mail, 'AAAA'), ['NOERROR', `${mail} CNAME mail.example.org`, 'leads to mail.example.org']);
  zone.apply(service('a/a', { externalName: 'b.b.svc.cluster.local' }));
  zone.apply(service('b/b', { externalName: 'a.a.svc.cluster.local' }));
  const circle = [
    'a.a.svc.cluster.local CNAME b.b.svc.cluster.local',
    'b.b.svc.cluster.local CNAME a.a.svc.cluster.local',
  ];
  t.same(shown(zone, 'a.a.svc.cluster.local', 'A'), ['SERVFAIL', ...circle], 'a circle: each alias once');
  t.same(shown(zone, 'a.a.svc.cluster.local', 'CNAME'), ['NOERROR', circle[0]]);
  zone.apply(service('a/self', { externalName: 'self.a.svc.cluster.local', hasWildcard: true }));
  const self = 'x.self.a.svc.cluster.local';
  t.equal(shown(zone, self, 'A').length, 3, 'the name below, and the alias of itself');
  for (let at = 1; at <= 9; at++) zone.apply(service(`c/s${at}`, { externalName: `s${at + 1}.c.svc.cluster.local` }));
  zone.apply(service('c/s10', { vips: ['10.96.0.77'] }));
  t.equal(
    shown(zone, 's1.c.svc.cluster.local', 'A')[0],
    'SERVFAIL',
    'too many aliases, and not a name without addresses',
  );
  t.equal(zone.answer('s1.c.svc.cluster.local', 'A', inRed)?.missing, undefined);
  t.ok(shown(zone, 's2.c.svc.cluster.local', 'A').includes('s10.c.svc.cluster.local A 10.96.0.77'));
  t.equal(shown(zone, 's2.c.svc.cluster.local', 'A')[0], 'NOERROR', 'eight of them');
});

t.test('endpoints: in the namespace of who asks, or in the one that is named', async (t) => {
  const zone = zoneOf(base);
  const inShop = { network: 'red', namespace: 'shop' };
  t.same(shown(zone, 'web.red.weft', 'A'), ['NOERROR', 'web.red.weft A 10.44.0.2']);
  t.same(shown(zone, 'web.red.weft', 'A', inShop), ['NOERROR', 'web.red.weft A 10.44.0.4']);
  t.same(shown(zone, 'old.red.weft', 'A', inShop), ['NXDOMAIN']);
  t.same(shown(zone, 'old.default.red.weft', 'A', inShop), ['NOERROR', 'old.default.red.weft A 10.44.0.3']);
  t.same(shown(zone, 'db.blue.weft', 'A'), ['NOERROR', 'db.blue.weft A 10.45.0.2'], 'a route leads there');
  t.same(shown(zone, 'web.red.weft', 'A', inBlue), ['NXDOMAIN'], 'none leads back');
  t.same(shown(zone, 'far.green.weft', 'A'), ['NXDOMAIN']);
});

t.test('12: PTR for addresses of the client’s own network, and VIPs', async (t) => {
  const zone = zoneOf(base);
  const own = '2.0.44.10.in-addr.arpa';
  const ofWeb = ['NOERROR', `${own} PTR web-0.set.default.svc.cluster.local`, `${own} PTR web.default.red.weft`];
  t.same(shown(zone, own, 'PTR'), ofWeb);
  const ip6 = `2.${'0.'.repeat(27)}4.4.d.f.ip6.arpa`;
  t.equal(shown(zone, ip6, 'PTR')[2], `${ip6} PTR web.default.red.weft`);
  t.same(shown(zone, own, 'PTR', inBlue), ['NXDOMAIN'], 'another network');
  t.same(shown(zone, '2.0.45.10.in-addr.arpa', 'PTR'), ['NXDOMAIN'], 'one that is only reached');
  const vip = '10.0.96.10.in-addr.arpa';
  t.same(shown(zone, vip, 'PTR', inBlue), ['NOERROR', `${vip} PTR api.default.svc.cluster.local`]);
  t.same(shown(zone, own, 'A'), ['NOERROR']);
  for (const ip of [
    '1.0.168.192',
    '7.1.16.172',
    '1.0.0.127',
    '9.9.254.169',
    '1.1.64.100',
    '300.0.168.192',
    '1.1.0.168.192',
  ]) {
    t.same(shown(zone, `${ip}.in-addr.arpa`, 'PTR'), ['NXDOMAIN'], ip);
  }
  t.same(shown(zone, '1.0.32.172.in-addr.arpa', 'PTR'), ['elsewhere']);
  const open = { network: 'open', namespace: 'default' };
  t.same(shown(zone, '7.113.0.203.in-addr.arpa', 'PTR', open), ['NXDOMAIN'], 'its own subnet, although it is public');
  t.same(shown(zone, '7.113.0.203.in-addr.arpa', 'PTR'), ['elsewhere']);
});

t.test('14: at most a hundred addresses, shuffled', async (t) => {
  const backends = Array.from({ length: 250 }, (_, i) => ({ ip: `10.44.1.${i}`, vni: 1 }));
  let next = 0;
  const zone = zoneOf([...base, service('default/large', { backends })], (limit) => (next += 7) % limit);
  const ask = (): string[] =>
    zone.answer('large.default.svc.cluster.local', 'A', inRed)!.answers.map(({ data }) => data as string);
  const [first, second] = [ask(), ask()];
  t.equal(first.length, MOST_RECORDS);
  t.equal(new Set(first).size, MOST_RECORDS, 'each once');
  t.notSame(first, second);
  t.ok(
    [...first, ...second].some((ip) => Number(ip.split('.')[3]) > 150),
    'of all of them',
  );
});

t.test('a question costs the same however many backends a headless service has', async (t) => {
  const backends = Array.from({ length: 1000 }, (_, i) => {
    return { ip: `10.44.${i >> 8}.${i & 255}`, hostname: `web-${i}`, vni: 1 };
  });
  const ports = [{ ...http, targets: backends.map(() => 8080) }];
  const many = service('default/many', { hasWildcard: true, ports, backends });
  const zone = zoneOf([...base, many]);
  const name = 'many.default.svc.cluster.local';
  t.equal(shown(zone, name, 'A').length, 1 + MOST_RECORDS);
  t.equal(shown(zone, `_http._tcp.${name}`, 'SRV').length, 1 + 2 * MOST_RECORDS, 'with the address of each target');
  t.same(shown(zone, `web-999.${name}`, 'A'), ['NOERROR', `web-999.${name} A 10.44.3.231`]);
  t.match(shown(zone, `x.${name}`, 'A')[1], new RegExp(`^x.${name} A 10`));
  t.same(shown(zone, '231.3.44.10.in-addr.arpa', 'PTR'), ['NXDOMAIN'], 'out of the subnet');
  t.equal(shown(zone, '9.0.44.10.in-addr.arpa', 'PTR').length, 2);

  const names = new ServiceNames();
  names.set('default/many', many.value as ServiceUpdate);
  let looks = 0;
  const reach = (): boolean => ++looks > 0;
  const askAll = (): void => {
    for (const below of [[], ['_http', '_tcp'], ['web-999'], ['x']]) {
      t.not(names.find([...below, 'many', 'default'], 'red', reach), 'none');
    }
  };
  for (let i = 0; i < 3; i++) askAll();
  t.equal(looks, backends.length, 'each is looked at once');
  names.networksChanged();
  askAll();
  t.equal(looks, 2 * backends.length, 'until networks change');
});

t.test('wildcards mean what nothing else below their owner does', async (t) => {
  const zone = zoneOf(base);
  const name = 'any.default.svc.cluster.local';
  for (const below of ['x', 'y.x', '*', '_udp', '_x._y']) {
    t.same(shown(zone, `${below}.${name}`, 'A'), ['NOERROR', `${below}.${name} A 10.96.0.12`], below);
    t.same(shown(zone, `${below}.${name}`, 'AAAA'), ['NOERROR'], below);
  }
  t.same(shown(zone, `_tcp.${name}`, 'A'), ['NOERROR'], 'which exists');
  t.same(shown(zone, `x._tcp.${name}`, 'A'), ['NXDOMAIN'], 'whose closest ancestor is not the owner');
  t.same(shown(zone, name, 'A'), ['NOERROR', `${name} A 10.96.0.12`]);
  zone.apply(service('shop/out', { externalName: 'example.org', hasWildcard: true }));
  const out = 'x.out.shop.svc.cluster.local';
  t.same(shown(zone, out, 'A'), ['NOERROR', `${out} CNAME example.org`, 'leads to example.org']);
});

t.test('wildcards of endpoints mean what no other name below theirs does', async (t) => {
  const inShop = { network: 'red', namespace: 'shop' };
  const zone = zoneOf([...base, anyBelow('default/shop', 'red', '10.44.0.7'), anyBelow('shop/cdn', 'red', 'fd44::9')]);
  for (const below of ['x', 'y.x', '*', 'cdn.x', '_http._tcp', String.raw`a\046b`]) {
    for (const owner of ['shop.red.weft', 'shop.default.red.weft']) {
      const name = `${below}.${owner}`;
      t.same(shown(zone, name, 'A'), ['NOERROR', `${name} A 10.44.0.7`], name);
      for (const type of ['AAAA', 'MX', 'SRV'])
        t.same(shown(zone, name, type), ['NOERROR'], `${name} ${type}: no data`);
    }
  }
  t.same(shown(zone, 'x.*.shop.red.weft', 'A'), ['NXDOMAIN'], 'the wildcard is a name, which has none below it');
  t.same(shown(zone, 'shop.red.weft', 'A'), ['NOERROR', 'shop.red.weft A 10.44.0.7'], 'the owner itself');
  t.same(shown(zone, 'web.shop.red.weft', 'A'), ['NOERROR', 'web.shop.red.weft A 10.44.0.4'], 'an endpoint of shop');
  t.same(shown(zone, 'x.web.shop.red.weft', 'A'), ['NXDOMAIN'], 'which is the closest ancestor, and has no wildcard');
  const ofCdn = 'x.y.cdn.shop.red.weft';
  t.same(shown(zone, ofCdn, 'AAAA'), ['NOERROR', `${ofCdn} AAAA fd44::9`], 'one that has its own');
  t.same(shown(zone, ofCdn, 'A'), ['NOERROR']);
  t.same(shown(zone, 'x.cdn.red.weft', 'AAAA', inShop), ['NOERROR', 'x.cdn.red.weft AAAA fd44::9']);
  t.same(shown(zone, 'x.cdn.red.weft', 'AAAA'), ['NXDOMAIN'], 'the short name is of the own namespace');
  t.same(shown(zone, 'x.shop.red.weft', 'A', inShop), ['NXDOMAIN'], 'names of namespaces mean nobody');
  t.same(shown(zone, 'x.web.red.weft', 'A'), ['NXDOMAIN'], 'and others have none');
  t.same(shown(zone, 'x.shop.default.red.weft', 'A', inBlue), ['NXDOMAIN'], 'nor has it for who does not reach it');
  t.same(shown(zone, '7.0.44.10.in-addr.arpa', 'PTR'), ['NOERROR', '7.0.44.10.in-addr.arpa PTR shop.default.red.weft']);
  t.same(shown(zone, 'x.7.0.44.10.in-addr.arpa', 'PTR'), ['NXDOMAIN'], 'addresses have no names below theirs');
  zone.apply(endpoint('default/shop', 'red', '10.44.0.7'));
  t.same(shown(zone, 'x.shop.red.weft', 'A'), ['NXDOMAIN'], 'until it is taken away');
});

t.test('what goes is gone, and what changes is as it is now', async (t) => {
  const zone = zoneOf(base);
  zone.apply(endpoint('default/web', 'blue', '10.45.0.9'));
  t.same(shown(zone, 'web.red.weft', 'A'), ['NXDOMAIN']);
  t.same(shown(zone, 'web.blue.weft', 'A'), ['NOERROR', 'web.blue.weft A 10.45.0.9']);
  t.equal(shown(zone, '2.0.44.10.in-addr.arpa', 'PTR').length, 2, 'the service still has its address');
  zone.apply({ kind: 'service', id: 'default/set' });
  t.same(shown(zone, '2.0.44.10.in-addr.arpa', 'PTR'), ['NXDOMAIN']);
  zone.apply({ kind: 'service', id: 'default/api' });
  t.same(shown(zone, 'api.default.svc.cluster.local', 'A'), ['NXDOMAIN']);
  t.same(shown(zone, '10.0.96.10.in-addr.arpa', 'PTR'), ['NXDOMAIN']);
  zone.apply({ kind: 'network', name: 'blue' });
  t.same(shown(zone, 'web.blue.weft', 'A'), ['NXDOMAIN']);
  zone.apply({ kind: 'endpoint', id: 'shop/web' });
  t.same(shown(zone, 'shop.red.weft', 'A'), ['NXDOMAIN']);
});

t.test('7: negative answers name a zone above, and are not kept for long', async (t) => {
  const zone = zoneOf(base);
  for (const name of ['no.default.svc.cluster.local', 'no.red.weft', '9.0.44.10.in-addr.arpa']) {
    const { name: owner, data } = zone.soa(name);
    t.equal((data as { minimum: number }).minimum, 5);
    t.ok(name.endsWith(`.${owner}`), `${owner} is above ${name}`);
  }
});

t.test(
  'an alias means all endpoints of its namespace and network that have it, and no name of an endpoint',
  async (t) => {
    const zone = zoneOf([
      ...base,
      aliased('default/db-1', 'red', ['db', 'web'], '10.44.0.21'),
      aliased('default/db-2', 'red', ['db'], '10.44.0.22', 'fd44::22'),
      aliased('shop/db-3', 'red', ['db'], '10.44.0.23'),
      aliased('default/db-4', 'blue', ['db'], '10.45.0.24'),
    ]);
    const addresses = (name: string, type: 'A' | 'AAAA' = 'A'): string[] =>
      shown(zone, name, type)
        .map((line) => line.split(' ').at(-1)!)
        .sort();
    t.same(addresses('db.red.weft'), ['10.44.0.21', '10.44.0.22', 'NOERROR']);
    t.same(addresses('db.default.red.weft', 'AAAA'), ['NOERROR', 'fd44::22']);
    t.same(addresses('db.shop.red.weft'), ['10.44.0.23', 'NOERROR']);
    t.same(addresses('web.red.weft'), ['10.44.0.2', 'NOERROR'], 'whose name it is');
    t.same(shown(zone, 'any.db.red.weft', 'A'), ['NXDOMAIN']);
    t.match(shown(zone, '21.0.44.10.in-addr.arpa', 'PTR').join(), /db-1\.default\.red\.weft/, 'its own name alone');

    zone.apply({ kind: 'endpoint', id: 'default/web' });
    t.same(addresses('web.red.weft'), ['10.44.0.21', 'NOERROR']);
    zone.apply(aliased('default/db-1', 'red', [], '10.44.0.21'));
    t.same(shown(zone, 'web.red.weft', 'A'), ['NXDOMAIN']);
    t.same(addresses('db.red.weft'), ['10.44.0.22', 'NOERROR']);
  },
);
