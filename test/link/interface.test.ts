/**
 *   this process ──ip──► ┌ box ───────────────────┐
 *                        │ eth0: a persistent TAP │
 *                        └────────────────────────┘
 */
import t from 'tap';
import { checkIfname, configureInterface, findTap } from '../../src/link/interface.ts';
import { resolveNetns } from '../../src/link/netns.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';

const config = {
  ifname: 'eth0',
  mac: '02:00:00:00:00:0a',
  mtu: 1450,
  addresses: [
    { ip: '10.1.0.5', prefixLength: 24 },
    { ip: 'fd00:1::5', prefixLength: 64 },
  ],
};

const tap = (box: Namespace, ifname: string): Promise<string> =>
  box.ip(`tuntap add dev ${ifname} mode tap multi_queue vnet_hdr`);

async function addresses(box: Namespace, scope: string): Promise<string[]> {
  const [link] = JSON.parse(await box.ip('-j address show dev eth0')) as [
    { addr_info: { local: string; prefixlen: number; scope: string }[] },
  ];
  return link.addr_info.filter((one) => one.scope === scope).map((one) => `${one.local}/${one.prefixlen}`);
}

t.test('an interface gets exactly its MAC, MTU and addresses, and comes up', async (t) => {
  const box = await openLab(t).namespace('box');
  const ns = await resolveNetns({ netns: box.name });
  t.equal(await findTap(ns, 'eth0'), undefined);
  await t.rejects(configureInterface(ns, config), {
    code: 'not_found',
    message: /interface "eth0" does not exist in /,
  });

  await tap(box, 'eth0');
  t.match(await findTap(ns, 'eth0'), { isOpen: false });
  await box.ip('link set eth0 addrgenmode random');
  await configureInterface(ns, config);

  const [link] = JSON.parse(await box.ip('-j -d link show dev eth0')) as [Record<string, unknown>];
  t.equal(link['address'], config.mac);
  t.equal(link['mtu'], 1450);
  t.equal(link['inet6_addr_gen_mode'], 'eui64');
  t.ok((link['flags'] as string[]).includes('UP'));
  t.same(await addresses(box, 'global'), ['10.1.0.5/24', 'fd00:1::5/64']);
  t.notMatch(
    await box.ip('-6 address show dev eth0 scope global'),
    /tentative/,
    'no duplicate detection for what weft gave',
  );
});

t.test('what is right already is not touched', async (t) => {
  const lab = openLab(t);
  const box = await lab.namespace('box');
  const ns = await resolveNetns({ netns: box.name });
  await tap(box, 'eth0');
  await configureInterface(ns, config);
  const monitor = box.start(['ip', '-o', 'monitor', 'link', 'address']);
  let mtu = 60_000;
  const listening = async (): Promise<boolean> => {
    await box.ip(`link set lo mtu ${++mtu}`);
    return monitor.stdout.includes('lo:');
  };
  await until(listening, { what: 'ip monitor listens' });
  // By now the duplicate detection of the interface is over, or it is the last thing to be reported.
  await until(async () => !(await box.ip('-6 address show dev eth0')).includes('tentative'), {
    what: 'the link-local address is there',
  });
  const before = monitor.stdout.length;
  await configureInterface(ns, config);
  await box.ip('link set lo mtu 50000');
  await monitor.says('mtu 50000');
  t.notMatch(monitor.stdout.slice(before).replace(/.*fe80:.*/g, ''), /eth0/, 'the kernel tells of no change');
});

t.test('strays go, whatever else was set', async (t) => {
  const lab = openLab(t);
  const [box, other] = [await lab.namespace('box'), await lab.namespace('other')];
  const ns = await resolveNetns({ netns: box.name });
  await lab.cable(box, 'eth0', other, 'eth0'); // with a carrier there are link-local addresses
  await until(async () => (await addresses(box, 'link')).length === 1, { what: 'the first link-local address' });
  // The wanted address is a secondary of a stray one, whose removal would remove it, too.
  for (const stray of ['10.1.0.9/24', '10.1.0.8/24', '10.1.0.5/24', '10.1.0.5/16', 'fd00:1::9/64', 'fd00:1::5/64']) {
    await box.ip(`address add ${stray} dev eth0`);
  }
  await configureInterface(ns, config);
  t.same(await addresses(box, 'global'), ['10.1.0.5/24', 'fd00:1::5/64']);
  await until(async () => (await addresses(box, 'link')).join() === 'fe80::ff:fe00:a/64', {
    what: 'the link-local address of the new MAC alone',
  });

  await box.ip('address add 10.1.0.7/24 dev eth0');
  await configureInterface(ns, { ...config, addresses: [{ ip: '10.1.0.7', prefixLength: 24 }] });
  t.same(await addresses(box, 'global'), ['10.1.0.7/24']);
});

t.test('refusals of the kernel name the command', async (t) => {
  const box = await openLab(t).namespace('box');
  const ns = await resolveNetns({ netns: box.name });
  await tap(box, 'eth0');
  await t.rejects(configureInterface(ns, { ...config, mtu: 70_000 }), {
    code: 'system',
    message: /^`ip link set dev eth0 mtu 70000` in \/run\/netns\/\S+ failed: .*mtu/,
  });
});

t.test('a namespace under the same name that is another one is not entered', async (t) => {
  const lab = openLab(t);
  const box = await lab.namespace('box');
  const ns = await resolveNetns({ netns: box.name });
  await tap(box, 'eth0');
  await t.rejects(findTap({ ...ns, ino: ns.ino + 1n }, 'eth0'), {
    code: 'not_found',
    message: /does not exist any more/,
  });
  await lab.removeNamespace(box);
  await t.rejects(findTap(ns, 'eth0'), { code: 'not_found', message: /does not exist any more/ });
  await t.rejects(configureInterface(ns, config), { code: 'not_found' });
});

t.test('interface names', async (t) => {
  for (const bad of [
    '',
    'lo',
    'all',
    'a/b',
    'a b',
    'a\nb',
    '-a',
    '"a"',
    'a#',
    'sixteencharacter',
    '.',
    '..',
    'a%d',
    'ä',
  ]) {
    t.throws(() => checkIfname(bad), { code: 'invalid' }, JSON.stringify(bad));
  }
  for (const good of ['eth0', 'e', 'fifteencharacte', 'net1.100', '_x-y']) t.doesNotThrow(() => checkIfname(good));
});
