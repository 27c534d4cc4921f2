/** Conflicts in an operator's words, and which subnets are in conflict. */
import t from 'tap';
import type { Clash } from '../../src/control/clashes.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { listenerClashes, routeClashes, subnetClashes, tunnelClash } from '../../src/observe/clashes.ts';
import { Changes } from '../../src/table/changes.ts';
import { Fdb } from '../../src/table/fdb.ts';
import { NeighborTable } from '../../src/table/neighbor.ts';

const vni = 100 as Vni;
const mac = parseMac('02:00:00:00:00:01');
const hostMac = parseMac('02:77:65:00:00:01');

t.test('what comes by the tunnel', async (t) => {
  const changes = new Changes();
  const fdb = new Fdb({ quota: 1, ageingMs: 1 }, changes);
  fdb.setStatic(vni, mac, { kind: 'port', port: 3 as PortNo });
  const neighbors = new NeighborTable({ quota: 1 }, changes);
  const ip = parseIp('10.0.0.1');
  neighbors.set(vni, ip, mac);
  const names = { hostMac, fdb, neighbors, portName: (port: number) => (port === 3 ? 'web' : '?'), isShared: false };
  const about = (clash: Clash, more: { isShared?: boolean; agoMs?: number } = {}) =>
    tunnelClash({ clash, atMs: 1000 }, { ...names, ...more }, 1000 + (more.agoMs ?? 0));
  const vtep = parseIp('192.0.2.3');
  t.match(about({ kind: 'stranger', vtep }), {
    detail: '192.0.2.3 sends VXLAN to this host, and is not a peer of it',
    hint: /--peer 192\.0\.2\.3 here/,
  });
  t.match(about({ kind: 'vni', vtep, vni: 778 as Vni }), {
    detail: 'peer 192.0.2.3 sends VNI 778, which no network here has',
    hint: /same VNI/,
  });
  t.match(about({ kind: 'mac', vtep, vni, mac }), {
    detail: 'peer 192.0.2.3 sends from 02:00:00:00:00:01, the MAC of endpoint "web" of this host',
    hint: /--mac/,
  });
  t.match(about({ kind: 'address', vtep, vni, ip }), {
    detail: 'peer 192.0.2.3 says that it has 10.0.0.1, the address of endpoint "web" of this host',
    hint: /--ip/,
  });
  t.match(about({ kind: 'mac', vtep, vni, mac: hostMac }), {
    detail: /peer 192\.0\.2\.3 has the identity of this host/,
    hint: /state directory/,
  });
  const detail = '192.0.2.3 sends VXLAN to this host, and is not a peer of it';
  for (const [agoMs, last] of [
    [0, ''],
    [40_000, ' (last 40 s ago)'],
    [300_000, ' (last 5 min ago)'],
  ] as const)
    t.equal(about({ kind: 'stranger', vtep }, { agoMs }).detail, `${detail}${last}`);
  const ofStore = about({ kind: 'stranger', vtep }, { isShared: true });
  t.match(ofStore, { detail, hint: /which store it uses/ });
  t.notMatch(ofStore.hint, '--peer', 'hosts of a store are peers by themselves');
});

t.test('subnets that the host has routes to', async (t) => {
  const routes = [
    { to: '203.0.113.0/24', ifname: 'up0' },
    { to: '10.0.0.0/8', ifname: 'vpn0' },
    { to: '2001:db8::/64', ifname: 'up0' },
  ];
  const about = (...subnets: string[]): string[] =>
    subnetClashes([{ name: 'lan', subnets }], routes).map(({ detail }) => detail);
  t.same(about('192.168.0.0/24', 'fd00::/64'), []);
  t.match(about('203.0.113.128/25'), [
    /^subnet 203\.0\.113\.128\/25 of network "lan" overlaps 203\.0\.113\.0\/24, .* up0:/,
  ]);
  t.match(about('10.2.0.0/24'), [/overlaps 10\.0\.0\.0\/8, .* vpn0:/]);
  t.match(about('192.168.0.0/24', '2001:db8::/56'), [/overlaps 2001:db8::\/64/]);
});

t.test('a route to a network that this host does not have', async (t) => {
  const blue = {
    name: 'blue',
    routes: [{ to: '10.1.0.0/24', network: 'red' }, { to: '10.2.0.0/24', network: 'green' }, { to: '10.3.0.0/24' }],
  };
  t.same(routeClashes([blue, { name: 'red', routes: [] }]), [
    {
      detail: 'the route of network "blue" to 10.2.0.0/24 leads to network "green", which does not exist on this host',
      hint: 'create network "green" here, too, or correct the route and apply it again',
    },
  ]);
});

t.test('a node port that a program of the host listens on', async (t) => {
  const nodePorts = [
    { family: 4, protocol: 'TCP', hostPort: 30_080 },
    { family: 6, protocol: 'TCP', hostPort: 30_080 },
    { family: 4, protocol: 'TCP', hostPort: 30_081 },
  ] as const;
  const found = listenerClashes(
    nodePorts,
    () => 'default/web',
    (all) => all.map(({ l4Port }) => (l4Port === 30_080 ? '0.0.0.0' : undefined)),
  );
  t.same(
    found.map(({ detail }) => detail),
    [
      '30080/tcp is the node port of service "default/web", and a program of this host listens on 0.0.0.0: clients outside come to the service',
    ],
  );
});
