/** What is missing on an interface, decided from facts alone, without the kernel. */
import t from 'tap';
import type { NamespaceFacts } from '../../src/link/interface-facts.ts';
import { planInterface, type InterfaceWanted } from '../../src/link/interface-plan.ts';
import type { LinkFacts } from '../../src/link/rtnetlink.ts';

const wanted: InterfaceWanted = {
  mac: '02:00:00:00:00:0a',
  isTrusted: false,
  mtu: 1450,
  addresses: [
    { ip: '10.1.0.5', prefixLength: 24 },
    { ip: 'fd00:1::5', prefixLength: 64 },
  ],
  gateways: ['10.1.0.1', 'fd00:1::1'],
  hasOutside: false,
  queues: 1,
};

const eth0: LinkFacts = {
  ifindex: 7,
  ifname: 'eth0',
  mac: wanted.mac,
  mtu: 1450,
  isUp: true,
  hasCarrier: true,
  hasMaster: false,
  ip6: { isDisabled: false, isEui64: true },
  queues: 1,
};

const given = {
  addresses: wanted.addresses,
  routes: wanted.gateways.map((gateway) => ({ gateway, metric: 20_007 })),
};

const whole: NamespaceFacts = {
  cookie: undefined,
  links: [eth0],
  addresses: [
    ...wanted.addresses.map((address) => ({ ifindex: 7, ...address })),
    { ifindex: 7, ip: 'fe80::ff:fe00:a', prefixLength: 64 },
  ],
  routes: given.routes.map((route) => ({ ifindex: 7, ...route })),
};

/** What is done, in the words of iproute2, and what is reported. */
function plan(link: Partial<LinkFacts>, facts: Partial<NamespaceFacts>, options: Partial<InterfaceWanted> = {}) {
  const { requests, problems, lacks } = planInterface(
    { ...wanted, ...options },
    given,
    { ...eth0, ...link },
    { ...whole, ...facts },
  );
  return { does: requests.map(({ text }) => text), problems, lacks };
}

const nothing = { does: [], problems: [], lacks: [] };

t.test('what is as it was given is left', (t) => {
  t.same(plan({}, {}), nothing);
  t.end();
});

t.test('a new interface gets all of it, and IPv6 where that is disabled for new ones', (t) => {
  const bare = { ...whole, addresses: [], routes: [] };
  const fresh = { ...eth0, mac: '5e:00:00:00:00:01', mtu: 1500, isUp: false, ip6: { isDisabled: true, isEui64: true } };
  const { requests, settings } = planInterface(wanted, undefined, fresh, bare);
  t.same(
    requests.map(({ text }) => text),
    [
      'link set dev eth0 address 02:00:00:00:00:0a mtu 1450 addrgenmode eui64',
      'link set dev eth0 up',
      'address replace 10.1.0.5/24 dev eth0',
      'address replace fd00:1::5/64 dev eth0',
      'route add default via 10.1.0.1 dev eth0 metric 20007',
      'route add default via fd00:1::1 dev eth0 metric 20007',
    ],
  );
  t.same(settings, [{ path: '/proc/sys/net/ipv6/conf/eth0/disable_ipv6', value: '0' }]);
  const only4 = { ...wanted, addresses: wanted.addresses.slice(0, 1), gateways: wanted.gateways.slice(0, 1) };
  t.same(planInterface(only4, undefined, fresh, bare).settings, [], 'not without an address of it');
  t.end();
});

t.test('what was flushed is put back, the link-local address too', (t) => {
  t.same(plan({}, { addresses: [], routes: [] }).does, [
    'address replace 10.1.0.5/24 dev eth0',
    'address replace fd00:1::5/64 dev eth0',
    'address replace fe80::ff:fe00:a/64 dev eth0',
    'route add default via 10.1.0.1 dev eth0 metric 20007',
    'route add default via fd00:1::1 dev eth0 metric 20007',
  ]);
  const own = [...whole.addresses.slice(0, 2), { ifindex: 7, ip: 'fe80::1234', prefixLength: 64 }];
  t.same(plan({}, { addresses: own }), nothing, 'a link-local address of its own will do');
  t.same(plan({ ip6: { isDisabled: false, isEui64: false } }, { addresses: own.slice(0, 2) }), nothing, 'or none');
  t.end();
});

t.test('what a container did is left', (t) => {
  const vip = [...whole.addresses, { ifindex: 7, ip: '10.1.0.100', prefixLength: 32 }];
  t.same(plan({ mtu: 1280 }, { addresses: vip }), nothing, 'an address of its own, a smaller MTU');
  const onBridge = whole.addresses.map((address) => ({ ...address, ifindex: 9 }));
  t.same(plan({}, { addresses: onBridge.slice(0, 2), routes: [] }).does, [
    'address replace fe80::ff:fe00:a/64 dev eth0',
  ]);
  t.same(plan({ hasMaster: true }, { addresses: onBridge, routes: [] }), nothing, 'addresses of the bridge it is in');
  t.same(plan({ mac: '02:00:00:00:00:99' }, {}, { isTrusted: true }), nothing, 'a MAC, where it may choose that');
  t.end();
});

t.test('what stays wrong is told, and nothing is done about it', (t) => {
  const told = (link: Partial<LinkFacts>, facts: Partial<NamespaceFacts> = {}): string => {
    const { does, problems } = plan(link, facts);
    t.same(does, []);
    return problems.join();
  };
  t.match(told({ isUp: false }, { addresses: [], routes: [] }), /^eth0 is down, the container took it down/);
  const disabled = { ip6: { isDisabled: true, isEui64: true } };
  const only4 = { addresses: whole.addresses.slice(0, 1), routes: whole.routes.slice(0, 1) };
  t.match(told(disabled, only4), /^IPv6 is disabled on eth0, so fd00:1::5 is not reached: `sysctl /);
  t.match(told({ ip6: undefined, mtu: 1000 }, only4), /^eth0 has no IPv6/);
  t.match(told({ mtu: 9000 }), /^eth0 has MTU 9000, more than the network’s 1450/);
  t.match(told({ queues: 2 }), /^another program has eth0 open, too/);
  t.match(told({ hasMaster: true }, { addresses: [] }), /^no interface has 10\.1\.0\.5\/24/);
  t.end();
});

t.test('MAC and carrier are put back without a moment down', (t) => {
  t.same(plan({ mac: '02:00:00:00:00:99' }, {}).does, ['link set dev eth0 address 02:00:00:00:00:0a']);
  t.same(plan({ hasCarrier: false }, {}).does, ['link set dev eth0 carrier on']);
  t.end();
});

t.test('only what weft gave, and does not give any more, is removed', (t) => {
  t.same(plan({}, {}, { addresses: wanted.addresses.slice(0, 1), gateways: ['10.1.0.1'] }).does, [
    'address del fd00:1::5/64 dev eth0',
    'route del default via fd00:1::1 dev eth0 metric 20007',
  ]);
  t.same(
    plan({}, {}, { hasOutside: true }).does,
    [
      'route del default via 10.1.0.1 dev eth0 metric 20007',
      'route del default via fd00:1::1 dev eth0 metric 20007',
      'route add default via 10.1.0.1 dev eth0 metric 10007',
      'route add default via fd00:1::1 dev eth0 metric 10007',
    ],
    'a network that comes to have an outside is preferred from then on',
  );
  t.end();
});
