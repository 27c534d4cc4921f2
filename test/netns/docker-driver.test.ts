/**
 *   the test, as dockerd ─► weft.sock ─► weft ─── web, db …     namespaces that "Docker" made
 *
 * What Docker asks of its network and IPAM driver, in its order and out of it: two containers; what users may ask for; what is
 * wrong; requests that come twice, late or never, since dockerd or weft was killed; and a takeover under way.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { etcdCluster } from '../support/cluster.ts';
import { upForDocker, type DockerPlugin } from '../support/docker.ts';
import { NETWORK, PlayedDockerd, POOL, ref, SUBNET, type Interface } from '../support/played-dockerd.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { attempt, until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);

const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };

async function start(lab: Lab, datapath: DatapathKind, more = '') {
  const host = await lab.namespace('host');
  const { weft, plugin } = await upForDocker(lab, host, { datapath });
  return begin(weft, plugin, more);
}

/** Two hosts that share etcd; Docker is on the first one. */
async function startShared(lab: Lab, more = '') {
  const cluster = await etcdCluster(lab, 2);
  const [first, second] = cluster.hosts;
  const { weft, plugin } = await upForDocker(lab, first!.namespace, cluster.options(first!, 'native'));
  const other = await Weft.up(lab, second!.namespace, second!.name, cluster.options(second!, 'native'));
  const begun = await begin(weft, plugin, more);
  await until(async () => (await other.client.networks()).length === 1, { what: 'the other host knows the network' });
  return { ...begun, other };
}

async function begin(weft: Weft, plugin: DockerPlugin, more: string) {
  await weft.createNetwork(`blue --subnet ${SUBNET} --subnet fd44::/64${more}`);
  await plugin.call('Plugin.Activate');
  await createNetwork(plugin);
  return { host: weft.host, weft, plugin, dockerd: new PlayedDockerd(weft.host, plugin) };
}

async function createNetwork(plugin: DockerPlugin): Promise<void> {
  await plugin.call('NetworkDriver.CreateNetwork', {
    NetworkID: NETWORK,
    Options: { 'com.docker.network.generic': { network: 'blue' }, 'com.docker.network.enable_ipv6': false },
    IPv4Data: [{ AddressSpace: 'weft', Pool: SUBNET, Gateway: '10.44.0.1/24', AuxAddresses: {} }],
    IPv6Data: [],
  });
}

function bare({ address }: Interface): string {
  return address.split('/')[0]!;
}

const carried = async (host: Namespace): Promise<string[]> =>
  (await host.links()).filter((ifname) => /^weft-[0-9a-f]{8}$/.test(ifname));

/** Waits until weft knows where the interface of an endpoint is. */
async function isFollowed(weft: Weft, container: Namespace, count = 1): Promise<void> {
  await until(
    async () => {
      const there = (await weft.client.endpoints()).filter(
        ({ netns, state, interface: ifname }) => netns === container.path && state === 'attached' && ifname === 'eth0',
      );
      return there.length === count;
    },
    { what: `weft has found ${container.name}` },
  );
}

for (const datapath of datapathKinds) {
  await t.test(`two containers, ${datapath}`, async (t) => {
    const lab = openLab(t);
    const { host, weft, dockerd, plugin } = await start(lab, datapath);
    const [web, db] = [await lab.namespace('web'), await lab.namespace('db')];
    const first = await dockerd.run('e1', web);
    const second = await dockerd.run('e2', db);
    t.match([first.address, second.address], [/^10\.44\.0\.\d+\/24$/, /^10\.44\.0\.\d+\/24$/]);
    t.equal(first.gateway, '10.44.0.1');
    await ping(web, second.address.split('/')[0]!);
    await isFollowed(weft, web);
    await isFollowed(weft, db);
    await ping(db, first.address.split('/')[0]!);
    const endpoints = await weft.client.endpoints();
    t.same(
      new Set(endpoints.map(({ addresses }) => addresses.join())),
      new Set([bare(first), bare(second)]),
      'only addresses that Docker knows',
    );
    t.same(await carried(host), []);
    t.ok(endpoints.every(({ problems = [] }) => problems.length === 0));

    await dockerd.stop('e1', web, first);
    t.equal((await weft.client.endpoints()).length, 1);
    t.same(await web.links(), [], 'the interface is gone');
    await lab.removeNamespace(db);
    await until(async () => (await weft.client.endpoints()).length === 0, {
      what: 'a container that is gone is released',
    });
    await plugin.call('NetworkDriver.DeleteEndpoint', ref('e2'));
    await dockerd.release(second.address);
    t.same(await carried(host), [], 'nothing is left');
  });
}

for (const store of ['of the host', 'of several hosts']) {
  await t.test(`what users may ask for, with a store ${store}`, async (t) => {
    const lab = openLab(t);
    const up = store === 'of the host' ? start(lab, 'native', ' --outside') : startShared(lab, ' --outside');
    const { weft, dockerd, plugin } = await up;
    const web = await lab.namespace('web');
    const made = await dockerd.run('e1', web, {
      address: '10.44.0.9',
      mac: '02:00:00:00:00:09',
      options: {
        'weft.dev/name': 'web',
        'weft.dev/labels': 'app=shop,tier=front',
        'weft.dev/aliases': 'www,Shop_1',
      },
    });
    t.equal(made.address, '10.44.0.9/24');
    const ports = [
      { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 18080, HostPortEnd: 18080 },
      { Proto: 17, IP: '', Port: 53, HostIP: '0.0.0.0', HostPort: 18053, HostPortEnd: 18053 },
    ];
    const publish = (list: unknown) =>
      plugin.call('NetworkDriver.ProgramExternalConnectivity', {
        ...ref('e1'),
        Options: { 'com.docker.network.portmap': list },
      });
    await publish(ports);
    await publish(ports);
    const [endpoint] = await weft.client.endpoints();
    t.match(endpoint, {
      name: 'web',
      mac: '02:00:00:00:00:09',
      labels: { app: 'shop', tier: 'front' },
      publish: [
        { hostPort: 18080, port: 80, protocol: 'TCP' },
        { hostPort: 18053, port: 53, protocol: 'UDP', hostIP: '0.0.0.0' },
      ],
    });
    t.match(await weft.run('get', 'endpoint', 'web', '-o', 'yaml'), /weft\.dev\/aliases: www,shop-1/);
    t.match(await plugin.call('NetworkDriver.EndpointOperInfo', ref('e1')), { Value: { 'weft.dev/name': 'web' } });
    await plugin.call('NetworkDriver.RevokeExternalConnectivity', ref('e1'));
    await plugin.call('NetworkDriver.RevokeExternalConnectivity', ref('e1'));
    t.same((await weft.client.endpoints())[0]!.publish, []);
    await publish(null);

    await t.test('both families', async (t) => {
      const six = await plugin.call<{ Address: string }>('IpamDriver.RequestAddress', { PoolID: 'blue/fd44::/64' });
      const four = await dockerd.request();
      await plugin.call('NetworkDriver.CreateEndpoint', {
        ...ref('e6'),
        Interface: { Address: four, AddressIPv6: six.Address, MacAddress: '' },
      });
      const joined = await plugin.call('NetworkDriver.Join', { ...ref('e6'), SandboxKey: '/run/docker/netns/none' });
      t.match(joined, { Gateway: '10.44.0.1', GatewayIPv6: 'fd44::1' });
      const both = (await weft.client.endpoints()).find(({ addresses }) => addresses.length === 2);
      t.same(
        both?.addresses,
        [four, six.Address].map((address) => address.split('/')[0]),
      );
      await plugin.call('NetworkDriver.DeleteEndpoint', ref('e6'));
      await dockerd.release(four);
      await plugin.call('IpamDriver.ReleaseAddress', { PoolID: 'blue/fd44::/64', Address: six.Address });
      t.equal((await weft.client.endpoints()).length, 1);
    });
  });
}

await t.test('where hosts share a store, Docker gets an address again at once, and nobody else does', async (t) => {
  const lab = openLab(t);
  const { weft, dockerd, plugin, other } = await startShared(lab);
  const [web, box] = [await lab.namespace('web'), await lab.namespace('box')];
  const address = '10.44.0.20';
  const first = await dockerd.run('e1', web, { address });
  await isFollowed(weft, web);
  await dockerd.stop('e1', web, first);
  await t.rejects(
    weft.attach(box, { network: 'blue', name: 'box', arguments: ['--ip', address] }),
    /ip 10\.44\.0\.20 was endpoint "docker-[0-9a-f]{8}"'s a moment ago/,
    'not an endpoint that is attached',
  );
  await t.rejects(
    other.attach(box, { network: 'blue', name: 'box', arguments: ['--ip', address] }),
    /10\.44\.0\.20/,
    'nor one of another host',
  );
  const options = { 'weft.dev/name': 'web' };
  const second = await dockerd.run('e2', web, { address, options });
  t.equal(second.address, `${address}/24`, 'a container that is started again');
  await isFollowed(weft, web);
  await dockerd.stop('e2', web, second);

  await dockerd.request(address);
  await plugin.call('Plugin.Activate');
  t.equal(await dockerd.request(address), `${address}/24`, 'and by another dockerd');
  await dockerd.release(address);
  t.same(await weft.client.endpoints(), []);

  // What an endpoint had that no engine carries rests for Docker, too.
  await weft.attach(box, { network: 'blue', name: 'box', arguments: ['--ip', '10.44.0.21'] });
  await weft.run('detach', 'box');
  await t.rejects(dockerd.request('10.44.0.21'), /was endpoint "box"'s a moment ago/);
});

await t.test('an interface is never taken for another one that has its MAC', async (t) => {
  const lab = openLab(t);
  const { host, weft, dockerd, plugin } = await start(lab, 'native');
  const [web, box, evil] = [await lab.namespace('web'), await lab.namespace('box'), await lab.namespace('evil')];
  const mac = '02:00:00:00:00:44';
  await weft.createNetwork('red --subnet 10.46.0.0/24');
  await weft.attach(box, { network: 'red', arguments: ['--mac', mac] });
  for (const where of [evil, host]) {
    await where.ip('tuntap add dev tap0 mode tap multi_queue');
    await where.ip(`link set tap0 address ${mac}`);
  }
  const isGone = async (): Promise<boolean> =>
    (await weft.client.endpoints()).some(({ state }) => state === 'detached');

  for (const [id, isKnown] of [
    ['e1', true],
    ['e2', false],
  ] as const) {
    const made = await dockerd.run(id, web, { mac });
    if (isKnown) await isFollowed(weft, web);
    await web.ip('link delete eth0');
    await until(isGone, { what: 'weft sees that the interface is gone' });
    const lost = (await weft.client.endpoints()).find(({ state }) => state === 'detached');
    t.match(lost?.problems, [/is not there any more: disconnect the container/]);
    // It looks where the interface is before it gives the address back.
    await dockerd.release(made.address);
    await plugin.call('NetworkDriver.DeleteEndpoint', ref(id));
    t.same(
      (await weft.client.endpoints()).map(({ name, state }) => ({ name, state })),
      [{ name: 'box', state: 'attached' }],
      isKnown ? 'once it was in its container' : 'nor before weft has seen it there',
    );
  }
  // While weft is not there, it is carried off to where Docker's files are not seen, and stays what it was.
  const made = await dockerd.request();
  await dockerd.create('e3', made, { mac });
  const { InterfaceName, Gateway } = await dockerd.join('e3', '/run/docker/netns/none');
  await weft.kill();
  await dockerd.carry(web, { ifname: InterfaceName.SrcName, address: made, gateway: Gateway });
  await weft.start();
  await isFollowed(weft, web);
  // It goes on to another namespace while weft has it open.
  const inner = await lab.namespace('inner');
  await web.ip(`link set eth0 netns ${inner.name}`);
  await isFollowed(weft, inner);
  await plugin.call('NetworkDriver.DeleteEndpoint', ref('e3'));
  await dockerd.release(made);
  t.same([await web.links(), await inner.links()], [[], []]);
  t.same([await box.links(), await evil.links()], [['eth0'], ['tap0']], 'those of the others stay');
  t.ok((await host.links()).includes('tap0'));
});

await t.test('an address that Docker was not told of is released, unless it was asked for by name', async (t) => {
  const lab = openLab(t);
  const { weft, dockerd } = await start(lab, 'native');
  const web = await lab.namespace('web');
  const untold = await dockerd.request();
  const wanted = await dockerd.request('10.44.0.30');
  const used = await dockerd.request();
  await weft.kill();
  await weft.start();
  await dockerd.create('e1', used);
  await dockerd.join('e1', web.path);
  const held = new Set([wanted, used].map((address) => address.split('/')[0]));
  await until(async () => (await weft.client.endpoints()).length === 2, {
    what: `${untold} is released`,
    timeoutMs: 120_000,
  });
  t.same(new Set((await weft.client.endpoints()).flatMap(({ addresses }) => addresses)), held);
});

await t.test('what is wrong is named, and nothing is left of it', async (t) => {
  const lab = openLab(t);
  const { host, weft, plugin, dockerd } = await start(lab, 'native');
  const refused = async (method: string, body: object, why: RegExp): Promise<void> => {
    const { status, body: said } = await plugin.send(method, JSON.stringify(body));
    t.match({ status, said }, { status: 200, said: { Err: why, Error: why } }, method);
  };
  const taken = await dockerd.request('10.44.0.7');
  await refused('IpamDriver.RequestPool', {}, /the IPAM option network is missing: docker network create/);
  await refused('IpamDriver.RequestPool', { Options: { network: 'green' } }, /network "green" does not exist/);
  await refused(
    'IpamDriver.RequestPool',
    { Options: { network: 'blue' }, Pool: '10.9.0.0/24' },
    /--subnet "10\.9\.0\.0\/24" is not of network "blue": it has 10\.44\.0\.0\/24/,
  );
  await refused(
    'IpamDriver.RequestPool',
    { Options: { network: 'blue' }, Pool: SUBNET, SubPool: '10.44.0.0/28' },
    /--ip-range "10\.44\.0\.0\/28" is not accepted/,
  );
  await refused('IpamDriver.RequestAddress', { PoolID: 'x' }, /PoolID "x" is none of weft's/);
  await refused(
    'IpamDriver.RequestAddress',
    { PoolID: POOL, Address: '10.44.0.7' },
    /10\.44\.0\.7 is taken by endpoint/,
  );
  await refused(
    'IpamDriver.RequestAddress',
    { PoolID: POOL, Address: '10.45.0.7' },
    /outside the subnets of network "blue"/,
  );
  await refused('IpamDriver.RequestAddress', { PoolID: POOL, Address: 'x' }, /"x" is not an IPv4 or IPv6 address/);
  await refused(
    'IpamDriver.RequestAddress',
    { PoolID: POOL, Address: '10.44.0.7', Options: GATEWAY },
    /--gateway 10\.44\.0\.7 is not accepted: the gateway of network "blue" in 10\.44\.0\.0\/24 is 10\.44\.0\.1/,
  );
  const network = { NetworkID: 'b', IPv4Data: [{ AddressSpace: 'weft', Pool: SUBNET }] };
  const generic = (options: object) => ({ Options: { 'com.docker.network.generic': options } });
  await refused('NetworkDriver.CreateNetwork', network, /the option network is missing/);
  await refused(
    'NetworkDriver.CreateNetwork',
    { ...network, ...generic({ network: 'green' }) },
    /"green" does not exist/,
  );
  await refused(
    'NetworkDriver.CreateNetwork',
    { ...network, ...generic({ network: 'blue' }), IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: SUBNET }] },
    /give --ipam-driver weft --ipam-opt network=NAME, too/,
  );
  await refused(
    'NetworkDriver.CreateNetwork',
    { ...network, ...generic({ network: 'blue' }), IPv4Data: [{ AddressSpace: 'weft', Pool: '10.9.0.0/24' }] },
    /subnet "10\.9\.0\.0\/24" is not of network "blue"/,
  );
  const create = (Interface: unknown, Options?: object, NetworkID = NETWORK) => ({
    ...{ NetworkID, EndpointID: 'e1', Interface },
    ...(Options && { Options }),
  });
  await refused(
    'NetworkDriver.CreateEndpoint',
    create({ Address: taken }, {}, 'none'),
    /does not know Docker's network "none"/,
  );
  await refused('NetworkDriver.CreateEndpoint', create({}), /Interface\.Address is missing/);
  await refused('NetworkDriver.CreateEndpoint', create(null), /Interface/);
  await refused('NetworkDriver.CreateEndpoint', create({ Address: taken, MacAddress: 'x' }), /MacAddress/);
  await refused(
    'NetworkDriver.CreateEndpoint',
    create({ Address: taken }, { 'weft.dev/name': 'No Name' }),
    /Options\.weft\.dev\/name: "No Name" is not a name|"No Name" is not a name/,
  );
  await refused(
    'NetworkDriver.CreateEndpoint',
    create({ Address: taken }, { 'weft.dev/labels': 'app' }),
    /"app" is not KEY=VALUE/,
  );
  await refused(
    'NetworkDriver.CreateEndpoint',
    create({ Address: taken }, { 'weft.dev/label': 'app=db' }),
    /unknown option "weft\.dev\/label"; known are weft\.dev\/name, weft\.dev\/namespace, weft\.dev\/labels/,
  );
  // The address stays held until Docker gives it back, also where what was to have it is not possible.
  for (const options of [
    { 'weft.dev/namespace': 'none' },
    { 'weft.dev/name': 'other', 'weft.dev/namespace': 'none' },
  ]) {
    await refused('NetworkDriver.CreateEndpoint', create({ Address: taken }, options), /namespace "none"/);
    await refused(
      'IpamDriver.RequestAddress',
      { PoolID: POOL, Address: '10.44.0.7' },
      /10\.44\.0\.7 is taken by endpoint "docker-/,
    );
  }
  await weft.createNetwork('open --subnet 10.46.0.0/24 --outside');
  await refused(
    'NetworkDriver.CreateNetwork',
    {
      ...network,
      Options: { 'com.docker.network.generic': { network: 'open' }, 'com.docker.network.internal': true },
      IPv4Data: [{ AddressSpace: 'weft', Pool: '10.46.0.0/24' }],
    },
    /--internal is not accepted: network "open" has an outside/,
  );
  await refused('NetworkDriver.Join', { ...ref('e1'), SandboxKey: '/x' }, /weft has no endpoint of Docker's "e1"/);
  await refused('NetworkDriver.Join', { ...ref('../e1'), SandboxKey: '/x' }, /EndpointID/);
  await refused('NetworkDriver.Join', { ...ref('e1'), SandboxKey: 'x' }, /SandboxKey: .*an absolute path/);
  await dockerd.create('e1', taken);
  const ports = (mapping: object) => ({ ...ref('e1'), Options: { 'com.docker.network.portmap': [mapping] } });
  await refused(
    'NetworkDriver.ProgramExternalConnectivity',
    ports({ Proto: 6, Port: 80, HostPort: 18080 }),
    /network "blue" has no outside/,
  );
  await refused(
    'NetworkDriver.ProgramExternalConnectivity',
    ports({ Proto: 132, Port: 80, HostPort: 1 }),
    /6 \(TCP\) and 17 \(UDP\)/,
  );
  await refused(
    'NetworkDriver.ProgramExternalConnectivity',
    ports({ Proto: 6, Port: 80, HostPort: 0 }),
    /the host's port is missing/,
  );

  for (const [text, why] of [
    ['{', /is not JSON/],
    ['null', /.+/],
    ['[]', /.+/],
    ['"x"', /.+/],
    ['['.repeat(500_000), /is not JSON/],
    [`{"__proto__":{"NetworkID":"x"},"NetworkID":${'['.repeat(1000)}${']'.repeat(1000)}}`, /NetworkID/],
  ] as const) {
    const { status, body } = await plugin.send('NetworkDriver.CreateEndpoint', text);
    t.match({ status, body }, { status: 200, body: { Err: why } }, text.slice(0, 20));
  }
  // Whether its sender reads the answer, or is cut off before, is a matter of luck.
  const large = await plugin.send('NetworkDriver.CreateEndpoint', 'x'.repeat(2_000_000)).catch((error: Error) => error);
  if (!(large instanceof Error)) t.match(large.body, { Err: /is larger than 1048576 bytes/ });
  for (const [method, how] of [
    ['NetworkDriver.AllocateNetwork', 'POST'],
    ['Plugin.Activate', 'GET'],
    ['', 'POST'],
    ['constructor', 'POST'],
  ] as const) {
    t.match(await plugin.send(method, '{}', how), { status: 404 }, `${how} /${method}`);
  }
  // Docker would ask for ever.
  const asked = { Options: { network: 'blue' } };
  for (let i = 0; i < 4; i++)
    t.match(await plugin.call('IpamDriver.RequestPool', asked), { PoolID: POOL, Pool: SUBNET });
  await refused('IpamDriver.RequestPool', asked, /give it with --subnet 10\.44\.0\.0\/24/);
  t.match(await plugin.call('IpamDriver.RequestPool', { ...asked, Pool: 'fd44::/64', V6: true }), {
    Pool: 'fd44::/64',
  });
  t.match(await plugin.call('IpamDriver.RequestAddress', { PoolID: POOL, Options: GATEWAY }), {
    Address: '10.44.0.1/24',
  });

  await plugin.call('NetworkDriver.DeleteEndpoint', ref('e1'));
  await plugin.call('NetworkDriver.DeleteEndpoint', ref('e1'));
  await dockerd.release(taken);
  await dockerd.release(taken);
  await dockerd.release('10.44.0.1');
  t.same(await weft.client.endpoints(), []);
  t.same(await carried(host), []);
});

await t.test('what is late, and who is killed', async (t) => {
  const lab = openLab(t);
  const { host, weft, plugin, dockerd } = await start(lab, 'native');
  const [web, db, api] = [await lab.namespace('web'), await lab.namespace('db'), await lab.namespace('api')];

  const held = await dockerd.request('10.44.0.20');
  await weft.kill();
  t.equal(existsSync(plugin.socket), true);
  await weft.start();
  await t.rejects(dockerd.request('10.44.0.20'), /is taken/, 'what was answered is held over a crash of weft');
  await dockerd.create('e1', held);
  const joined = await dockerd.join('e1', web.path);
  t.same(await dockerd.join('e1', web.path), joined, 'Docker may ask again');
  const first = { ifname: joined.InterfaceName.SrcName, address: held, gateway: joined.Gateway };
  await weft.kill();
  await dockerd.carry(web, first);
  await weft.start();
  await isFollowed(weft, web);
  const second = await dockerd.run('e2', db);
  await isFollowed(weft, db);
  await ping(web, second.address.split('/')[0]!);

  await t.test('another daemon on the same state, with another socket, is refused and takes nothing', async (t) => {
    const other = join(lab.directory, 'other.sock');
    const { code, stderr } = await attempt(weft.upCommand().map((word) => (word === weft.socket ? other : word)));
    t.equal(code, 1);
    t.match(stderr, /^weft: state directory \S+ is in use by weft with pid \d+: choose another with --state$/m);
    t.match(await plugin.call('IpamDriver.GetCapabilities'), { RequiresRequestReplay: true });
    await ping(web, second.address.split('/')[0]!);
  });

  await t.test('weft goes on when another one takes over', async () => {
    let isDone = false;
    const asking = (async () => {
      let count = 0;
      while (!isDone) {
        t.match(await plugin.call('IpamDriver.GetCapabilities'), { RequiresRequestReplay: true });
        await dockerd.release(await dockerd.request());
        count++;
      }
      return count;
    })();
    await weft.takeOver();
    isDone = true;
    t.ok((await asking) > 0);
    await ping(web, second.address.split('/')[0]!);
  });

  await t.test('dockerd is killed', async (t) => {
    await dockerd.request('10.44.0.30');
    await dockerd.create('e3', await dockerd.request());
    await dockerd.join('e3', '/run/docker/netns/none');
    t.equal((await carried(host)).length, 1);
    // A late word about an address that somebody in a container has.
    await dockerd.release(first.address);
    t.equal((await weft.client.endpoints()).length, 4);

    await plugin.call('Plugin.Activate');
    t.same(
      new Set((await weft.client.endpoints()).map(({ addresses }) => addresses.join())),
      new Set([bare(first), bare(second)]),
      'what is in containers stays',
    );
    t.same(await carried(host), []);
    t.equal(await dockerd.request(first.address.split('/')[0]), first.address, 'and is asked for again');
    await t.rejects(dockerd.request(first.address.split('/')[0]), /is taken/, 'once');
    await dockerd.stop('e1', web, first);
    t.equal((await weft.client.endpoints()).length, 1);
  });

  await t.test('weft is not there when a container ends', async (t) => {
    await weft.kill();
    await dockerd.bringBack(db, second);
    await lab.removeNamespace(db);
    await weft.start();
    await until(async () => (await weft.client.endpoints()).length === 0, { what: 'the endpoint is released' });
    await until(async () => (await carried(host)).length === 0, { what: 'its interface is removed' });
    const third = await dockerd.run('e4', api, { address: second.address.split('/')[0]! });
    t.equal(third.address, second.address);
    await isFollowed(weft, api);
    await api.ip('link delete eth0');
    await plugin.call('NetworkDriver.DeleteEndpoint', ref('e4'));
    await dockerd.release(third.address);
    t.same(await weft.client.endpoints(), []);
  });
  await weft.stop();
  t.equal(existsSync(plugin.socket), false, 'no socket is left where nobody listens');
  await weft.start();
});
