/**
 *   runtime ─► plugin ─► weft ─── web, db …     namespaces that the "runtime" made
 *
 * What a container runtime asks of the CNI plugin, and what it gets: the commands of specification 1.1, in the versions of older
 * runtimes, too; with what may be missing, twice, many at once, while the daemon restarts or is not there.
 */
import { join } from 'node:path';
import t from 'tap';
import { CniRuntime, type CniResult } from '../support/cni.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);

async function start(lab: Lab, datapath: DatapathKind, network = 'blue --subnet 10.44.0.0/24 --subnet fd44::/64') {
  const host = await lab.namespace('host');
  const weft = await Weft.up(lab, host, 'host', { datapath });
  await weft.createNetwork(network);
  const directory = join(lab.directory, 'cni');
  await weft.run('cni', 'install', '--dir', directory);
  return { host, weft, directory, runtime: new CniRuntime(weft, directory, 'blue') };
}

const names = async (weft: Weft): Promise<string[]> =>
  (await weft.client.endpoints()).map(({ namespace, name }) => `${namespace}/${name}`).sort();

for (const datapath of datapathKinds) {
  await t.test(`two containers, ${datapath}`, async (t) => {
    const lab = openLab(t);
    const { weft, runtime } = await start(lab, datapath);
    await weft.client.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: {} } }]);
    const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
    const pod = (name: string, namespace = 'shop') =>
      `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
    const added = await runtime.add(web, { container: 'c1', args: pod('web') });
    const other = await runtime.add(db, { container: 'c2', args: pod('db_1') });
    const endpoint = (await weft.client.endpoints()).find(({ name }) => name === 'web');
    t.match(added, {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', mac: endpoint!.mac, sandbox: web.path }],
      ips: [
        { address: /^10\.44\.0\.\d+\/24$/, gateway: '10.44.0.1', interface: 0 },
        { address: /^fd44::[0-9a-f]+\/64$/, gateway: 'fd44::1', interface: 0 },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '10.44.0.1' },
        { dst: '::/0', gw: 'fd44::1' },
      ],
      dns: {
        nameservers: ['10.44.0.1', 'fd44::1'],
        search: ['shop.svc.cluster.local', 'svc.cluster.local', /./, 'blue.weft'],
      },
    });
    t.same(await names(weft), ['shop/db-1', 'shop/web'], 'named as people know them');
    for (const { address } of other.ips) await ping(web, address.split('/')[0]!);

    t.match(await runtime.call('CHECK', { container: 'c1', netns: web.path, config: { prevResult: added } }), {
      code: 0,
    });
    t.match(await runtime.call('ADD', { container: 'c1', netns: web.path }), {
      code: 1,
      said: { code: 100, msg: /container c1 has eth0 of blue already: it is endpoint "shop\/web"/ },
    });
    await web.ip('link del eth0');
    await until(
      async () =>
        (await runtime.call('CHECK', { container: 'c1', netns: web.path, config: { prevResult: added } })).code === 1,
      {
        what: 'a broken interface is told',
      },
    );
    for (const netns of [web.path, '', '/run/netns/gone']) {
      t.match(await runtime.call('DEL', { container: 'c1', netns }), { code: 0, said: undefined, stderr: '' });
    }
    t.match(await runtime.call('CHECK', { container: 'c1', netns: web.path, config: { prevResult: added } }), {
      said: { code: 3 },
    });
    t.match(await runtime.call('DEL', { container: 'c2', netns: db.path }), { code: 0 });
    t.same(await names(weft), []);
    t.equal((await db.attempt(['ip', 'link', 'show', 'eth0'])).code === 0, false, 'and the interface is gone');
  });
}

await t.test('what runtimes may ask for', async (t) => {
  const lab = openLab(t);
  const { weft, runtime } = await start(lab, 'native', 'blue --subnet 10.44.0.0/24 --subnet fd44::/64 --outside');
  const web = await lab.namespace('web');
  const added = await runtime.add(web, {
    args: 'IP=10.44.0.99;MAC=02:00:00:00:00:99;K8S_POD_NAME=web',
    config: {
      cniVersion: '1.1.0',
      'weft.dev/labels': { app: 'web', tier: 'front' },
      args: { cni: { labels: [{ key: 'app', value: 'shop' }] } },
      runtimeConfig: {
        ips: ['10.44.0.7/24', 'fd44::7', '10.44.0.7/24'],
        mac: '02:00:00:00:00:07',
        aliases: { blue: ['www', 'Shop_1'], other: ['not'] },
        bandwidth: { ingressRate: 8_000_000, ingressBurst: 8_000_000, egressRate: 0, egressBurst: 0 },
        portMappings: [
          { hostPort: 18080, containerPort: 80, protocol: 'tcp', hostIP: '' },
          { hostPort: 18053, containerPort: 53, protocol: 'udp', hostIP: '192.0.2.1' },
          { hostPort: 0, containerPort: 81, protocol: 'tcp' },
        ],
        dns: { servers: ['192.0.2.53'], searches: ['example.org'], options: [] },
      },
    },
  });
  t.match(added, {
    interfaces: [{ mac: '02:00:00:00:00:07', mtu: 1500 }],
    dns: { nameservers: ['192.0.2.53'], search: ['example.org'] },
  });
  t.same(
    added.ips.map(({ address }) => address),
    ['10.44.0.7/24', 'fd44::7/64'],
  );
  const [endpoint] = await weft.client.endpoints();
  t.match(endpoint, {
    name: 'web',
    labels: { app: 'shop', tier: 'front' },
    rateLimit: { egress: '8mbit', burst: '1000000b' },
    publish: [
      { hostPort: 18080, port: 80, protocol: 'TCP' },
      { hostPort: 18053, port: 53, protocol: 'UDP', hostIP: '192.0.2.1' },
    ],
  });
  t.match(await weft.run('get', 'endpoint', 'web', '-o', 'yaml'), /weft\.dev\/aliases: www,shop-1/);

  await t.test('what is wrong is named', async (t) => {
    const other = await lab.namespace('other');
    const refused = async (code: number, msg: RegExp, call: object, command = 'ADD'): Promise<void> =>
      void t.match(await runtime.call(command, { container: 'c2', netns: other.path, ...call }), {
        code: 1,
        said: { code, msg },
        stderr: '',
      });
    await refused(1, /cniVersion "9\.0\.0" is not known: this plugin knows 0\.3\.0/, {
      config: { cniVersion: '9.0.0' },
    });
    await refused(2, /"netwrok" with the value "\\"x\\"" is no key of this plugin, did you mean "network"/, {
      config: { netwrok: 'x' },
    });
    await refused(2, /ipam is not accepted/, { config: { ipam: { type: 'host-local' } } });
    await refused(4, /CNI_ARGS: FOO not known/, { args: 'FOO=1' });
    await refused(4, /CNI_CONTAINERID "a\/b" is not accepted/, { container: 'a/b' });
    await refused(4, /CNI_IFNAME: "far-too-long-for-it" is not accepted: an interface name has 1 to 15/, {
      ifname: 'far-too-long-for-it',
    });
    await refused(4, /missing in the environment: CNI_NETNS/, { netns: '' });
    await refused(7, /network "green" does not exist/, { config: { network: 'green' } });
    await refused(7, /runtimeConfig\.portMappings/, {
      config: { runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 2, protocol: 'sctp' }] } },
    });
    await refused(100, /10\.44\.0\.7/, { config: { runtimeConfig: { ips: ['10.44.0.7'] } } });
    await refused(50, /network "green" does not exist/, { config: { network: 'green' } }, 'STATUS');
    t.match(await runtime.execute({ CNI_COMMAND: 'ADD' }, `{"socket":"${weft.socket}",`), {
      code: 1,
      said: { code: 6 },
    });
    t.same(await names(weft), ['default/web'], 'nothing is left of any');
  });
  t.match(await runtime.execute({ CNI_COMMAND: 'VERSION' }, '{"cniVersion":"1.0.0"}'), {
    code: 0,
    said: { cniVersion: '1.1.0', supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] },
  });
  t.match(await runtime.call('STATUS', { config: { cniVersion: '1.1.0' } }), { code: 0, said: undefined });
});

await t.test('ranges of addresses', async (t) => {
  const lab = openLab(t);
  const { runtime } = await start(lab, 'native');
  const netns = await lab.namespace('web');
  const range = (rangeStart: string, rangeEnd: string, more = {}) => ({
    subnet: '10.44.0.0/24',
    ...{ rangeStart, rangeEnd, ...more },
  });
  const [one, other] = [range('10.44.0.90', '10.44.0.91', { gateway: '10.44.0.1' }), range('10.44.0.7', '10.44.0.7')];
  const ip6 = { subnet: 'fd44::/64', rangeStart: 'fd44::77', gateway: '' };
  let count = 0;
  const call = (runtimeConfig: object, command = 'ADD') =>
    runtime.call(command, {
      ...{ container: `c${++count}`, netns: netns.path, ifname: `eth${count}` },
      config: { runtimeConfig },
    });
  const addresses = async (runtimeConfig: object): Promise<string[]> => {
    const { code, said } = await call(runtimeConfig);
    t.equal(code, 0, JSON.stringify(said));
    return (said as CniResult).ips.map(({ address }) => address);
  };
  t.same(await addresses({ ipRanges: [[one, other], [ip6]] }), ['10.44.0.90/24', 'fd44::77/64']);
  t.same(await addresses({ ipRanges: [[one, other]], ips: ['10.44.0.7/24'] }), ['10.44.0.7/24', 'fd44::2/64']);
  t.same(await addresses({ ipRanges: [[other, one]] }), ['10.44.0.91/24', 'fd44::3/64'], 'what is taken is left out');
  t.same(await addresses({ ipRanges: [] }), ['10.44.0.2/24', 'fd44::4/64']);
  t.same((await addresses({ ipRanges: [[{ subnet: '10.44.0.0/30' }]] }))[0], '10.44.0.3/24', 'not the gateway');
  const refused = async (code: number, msg: RegExp, runtimeConfig: object): Promise<void> =>
    void t.match(await call(runtimeConfig), { code: 1, said: { code, msg } });
  await refused(101, /network "blue" has no free address in 10\.44\.0\.90-10\.44\.0\.91, 10\.44\.0\.7-10\.44\.0\.7/, {
    ipRanges: [[one, other]],
  });
  await refused(7, /ip 10\.44\.0\.99 is in no set of runtimeConfig\.ipRanges/, {
    ipRanges: [[ip6]],
    ips: ['10.44.0.99'],
  });
  await refused(
    7,
    /ipRanges\[0\]\[0\]\.subnet: "10\.9\.0\.0\/24" is in no subnet of network "blue": it has 10\.44\.0\.0\/24 and/,
    {
      ipRanges: [[{ subnet: '10.9.0.0/24' }]],
    },
  );
  await refused(7, /ipRanges\[0\]\[0\]\.rangeEnd: 10\.45\.0\.1 is outside 10\.44\.0\.0\/24/, {
    ipRanges: [[range('10.44.0.9', '10.45.0.1')]],
  });
  await refused(7, /ipRanges\[0\]\[1\]: rangeStart 10\.44\.0\.9 is above rangeEnd 10\.44\.0\.8/, {
    ipRanges: [[one, range('10.44.0.9', '10.44.0.8')]],
  });
  await refused(7, /ipRanges\[0\]\[0\]\.gateway: 10\.44\.0\.2 is not the gateway of network "blue"/, {
    ipRanges: [[range('10.44.0.9', '10.44.0.10', { gateway: '10.44.0.2' })]],
  });
  await refused(7, /ipRanges.*a set of ranges has at least one range/, { ipRanges: [[]] });
});

await t.test('many at once, garbage collection, and a daemon that restarts or is not there', async (t) => {
  const lab = openLab(t);
  const { weft, runtime, directory } = await start(lab, 'native');
  const containers = await Promise.all(Array.from({ length: 20 }, (_, i) => lab.namespace(`n${i}`)));
  const results = await Promise.all(
    containers.map((netns, i) => runtime.add(netns, { container: `c${i}`, args: 'IgnoreUnknown=1;K8S_POD_NAME=same' })),
  );
  const addresses = results.flatMap(({ ips }: CniResult) => ips.map(({ address }) => address));
  t.equal(new Set(addresses).size, 40, 'each has its own addresses');
  t.equal((await names(weft)).length, 20, 'and its own name');

  const foreign = await lab.namespace('foreign');
  await weft.attach(foreign, { name: 'foreign', network: 'blue' });
  const red = new CniRuntime(weft, directory, 'red');
  await red.add(await lab.namespace('red'), { container: 'c0', config: { network: 'blue' } });
  const valid = [
    { containerID: 'c0', ifname: 'eth0' },
    { containerID: 'c1', ifname: 'eth0' },
    { containerID: 'c2', ifname: 'eth1' },
  ];
  t.match(await runtime.call('GC', { config: { cniVersion: '1.1.0', 'cni.dev/valid-attachments': valid } }), {
    code: 0,
  });
  t.equal(
    (await names(weft)).length,
    4,
    'two are valid, one is of another configuration, and one was attached by hand',
  );

  await weft.kill();
  const added = runtime.add(containers[5]!, { container: 'c5' });
  await weft.start();
  t.match(await added, { interfaces: [{ name: 'eth0' }] }, 'ADD waits for a daemon that restarts');
  await weft.stop();
  t.match(await runtime.call('STATUS', { config: { cniVersion: '1.1.0' } }), {
    code: 1,
    said: { code: 50, msg: /weft does not answer at/ },
  });
  t.match(
    await runtime.call('DEL', { container: 'c5', netns: containers[5]!.path }),
    { code: 0 },
    'DEL needs no daemon',
  );
  t.match(await runtime.call('CHECK', { container: 'c1', netns: containers[1]!.path }), {
    code: 1,
    said: { code: 11 },
  });
  await weft.start();
  await until(async () => (await names(weft)).length === 4, { what: 'what was deleted meanwhile is gone' });
});
