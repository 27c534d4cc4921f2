/**
 *   ┌ left, named twin ──────┐              ┌ right, named twin ─────┐
 *   │ web (11) ── weft VXLAN ┼── underlay ──┼ VXLAN weft ── web (21) │
 *   └────────────────────────┘              └────────────────────────┘
 *
 * Two hosts that were set up alike, or that do not fit together.
 */
import t from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { openLab } from '../support/lab.ts';
import { run, until } from '../support/process.ts';
import { overlay, overlayIps, underlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const datapath = 'native';
const [[left4, left6], [right4, right6]] = [overlayIps(11), overlayIps(21)];

t.test('two hosts of one name, with endpoints of one name, reach each other', async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  const named = { datapath, arguments: ['--host', 'twin'] } as const;
  const left = await Weft.up(lab, under.left, 'left', { ...named, underlay: under.leftIp, peers: [under.rightIp] });
  const right = await Weft.up(lab, under.right, 'right', { ...named, underlay: under.rightIp, peers: [under.leftIp] });
  for (const host of [left, right]) await host.createNetwork(overlay.create);
  const ips = (ip4: string, ip6: string): string[] => ['--ip', ip4, '--ip', ip6];
  const [webLeft, webRight] = [await lab.namespace('web-left'), await lab.namespace('web-right')];
  const there = { name: 'web', network: overlay.network };
  const one = await left.attach(webLeft, { ...there, arguments: ips(left4, left6) });
  const other = await right.attach(webRight, { ...there, arguments: ips(right4, right6) });
  t.equal(one.host, other.host, 'they have one name');
  t.not(one.mac, other.mac, 'and MACs of their own');
  for (const ip of [right4, right6]) await ping(webLeft, ip);

  // Like a state directory from before hosts had an identity.
  await left.stop();
  const store = await openEmbeddedStore({
    directory: left.state,
    onWarning: (message) => t.fail(message),
    after: () => () => {},
  });
  await store.transact({ delete: ['identity'] });
  await store.close();
  await left.start();
  t.same(await left.json('endpoints'), [one], 'an endpoint keeps its MAC');
  for (const ip of [left4, left6]) await ping(webRight, ip);
});

t.test('what does not fit together is named by status and doctor, until it is mended', async (t) => {
  const lab = openLab(t);
  const under = await underlay(lab, 'ipv4');
  const left = await Weft.up(lab, under.left, 'left', {
    datapath,
    underlay: under.leftIp,
    arguments: ['--peer', '192.0.2.99'],
  });
  const right = await Weft.up(lab, under.right, 'right', { datapath, underlay: under.rightIp, peers: [under.leftIp] });
  const told = async (): Promise<string[]> => (await left.status()).clashes.map(({ detail }) => detail);
  await left.createNetwork('blue --subnet 10.44.0.0/24 --vni 777');
  await right.createNetwork('blue --subnet 10.44.0.0/24 --vni 778');
  const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
  await left.attach(web, { network: 'blue', arguments: ['--ip', left4] });
  t.same(await told(), []);

  // Its announcement is the first frame.
  await right.attach(db, { network: 'blue', arguments: ['--ip', right4, '--trust'] });
  await until(async () => (await told()).length > 0, { what: 'a clash' });
  t.same(await told(), [`${under.rightIp} sends VXLAN to this host, and is not a peer of it`]);

  await run([...left.command(['apply', '-f', '-'])], { input: hostManifest(under.rightIp) });
  t.notMatch((await told()).join(), /not a peer/);
  const speak = (): Promise<unknown> => db.attempt(['ping', '-c1', '-W1', left4]);
  await speak();
  t.same(await told(), [`peer ${under.rightIp} sends VNI 778, which no network here has`]);
  t.match(await left.run('doctor'), /clash +warning +peer 192\.0\.2\.2 sends VNI 778/);
  t.match(await left.run('status'), /^Clash: +peer 192\.0\.2\.2 sends VNI 778/m);

  await right.run('detach', 'db');
  await right.run('network', 'rm', 'blue');
  await right.createNetwork('blue --subnet 10.44.0.0/24 --vni 777');
  const mac = (await left.json('endpoints'))[0]!.mac;
  await right.attach(db, { network: 'blue', arguments: ['--ip', right4, '--mac', mac] });
  await speak();
  t.match(await told(), [/VNI 778/, `peer ${under.rightIp} sends from ${mac}, the MAC of endpoint "web" of this host`]);
  // It announces its address when it is attached.
  await right.attach(await lab.namespace('copy'), { network: 'blue', arguments: ['--ip', left4] });
  const duplicate = `peer ${under.rightIp} says that it has ${left4}, the address of endpoint "web" of this host`;
  await until(async () => (await told()).includes(duplicate), { what: duplicate });
  await left.run('detach', 'web');
  t.match(await told(), [/VNI 778/]);

  // Now db is attached already, and web takes its address.
  await left.attach(web, { network: 'blue', arguments: ['--ip', right4, '--mac', '02:00:00:00:00:01'] });
  const both = (): Promise<string[]> => Promise.all([left, right].map((host) => host.run('doctor')));
  const onRight = `peer ${under.leftIp} says that it has ${right4}, the address of endpoint "db" of this host`;
  const onLeft = `peer ${under.rightIp} says that it has ${right4}, the address of endpoint "web" of this host`;
  await until(async () => (await both()).every((text, i) => text.includes(i === 0 ? onLeft : onRight)), {
    what: `both hosts tell of ${right4}`,
  });
});

t.test('a subnet that the host reaches elsewhere is named, where a network has an outside', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  await lab.cable(host, 'eth0', await lab.namespace('lan'), 'eth0');
  await host.ip('address add 203.0.113.1/24 dev eth0');
  await host.ip('address add 2001:db8:1::1/64 dev eth0 nodad');
  const weft = await Weft.up(lab, host, 'host', { datapath });
  await weft.createNetwork('inner --subnet 203.0.113.0/25');
  t.same((await weft.status()).clashes, [], 'without an outside nothing leaves it');
  await weft.run('network', 'rm', 'inner');
  await weft.createNetwork('lan --subnet 203.0.113.0/25 --subnet 2001:db8:2::/64 --outside');
  await weft.createNetwork('six --subnet 2001:db8:1::/64');
  await weft.createNetwork('fine --subnet 10.9.0.0/24 --subnet fd09::/64 --outside');
  t.match(
    (await weft.status()).clashes.map(({ detail }) => detail),
    [
      /^subnet 203\.0\.113\.0\/25 of network "lan" overlaps 203\.0\.113\.0\/24, .* by eth0:/,
      /^subnet 2001:db8:1::\/64 of network "six" overlaps 2001:db8:1::\/64, /,
    ],
  );
  t.match(
    weft.log(),
    /subnet 203\.0\.113\.0\/25 of network \\"lan\\" overlaps/,
    'whoever creates it can read it in the log',
  );
});

function hostManifest(ip: string): string {
  return `{ apiVersion: weft.dev/v1, kind: Host, metadata: { name: right }, spec: { underlay: ${ip} } }`;
}
