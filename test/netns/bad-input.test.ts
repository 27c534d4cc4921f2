/**
 *   operator ── wrong command ── weft        says so, does nothing
 *
 * Each wrong input ends with 1 or 2 and one line that names the field, the value
 * and what is accepted; networks, endpoints, leases and interfaces are as before.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import t, { type Test } from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { attempt, type Result } from '../support/process.ts';
import { oneHost, overlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft, weftCommand } from '../support/weft.ts';

t.setTimeout(600_000);

interface Wrong {
  readonly what: string;
  readonly words: readonly string[];
  /** What the line must contain. */
  readonly says: readonly (string | RegExp)[];
}

const network = ['--network', overlay.network];

function wrongs(free: Namespace, web: Namespace, directory: string): Wrong[] {
  const manifest = (name: string, text: string): string => {
    const file = join(directory, name);
    writeFileSync(file, text);
    return file;
  };
  const there = [...network, '--netns', free.name];
  const head = 'apiVersion: weft.dev/v1\nkind: Network\nmetadata:\n  name: red\n';
  const endpointIn = (netns: string): string =>
    `apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: x }\nspec: { network: ${overlay.network}, netns: ${netns} }\n`;
  const dryRun = ['apply', '--dry-run', '-f'];
  return [
    { what: 'an unknown namespace', words: ['attach', 'x', ...network, '--netns', 'nowhere'], says: ['nowhere'] },
    {
      what: 'a path that is no namespace',
      words: ['attach', 'x', ...network, '--netns', '/etc/hostname'],
      says: ['/etc/hostname'],
    },
    { what: 'an unknown pid', words: ['attach', 'x', ...network, '--pid', '999999999'], says: ['999999999'] },
    { what: 'a pid that is no number', words: ['attach', 'x', ...network, '--pid', 'init'], says: ['init', /number/] },
    {
      what: 'an interface in use',
      words: ['attach', 'x', ...network, '--netns', web.name],
      says: ['eth0', '--ifname'],
    },
    {
      what: 'an interface that a host has left behind',
      words: ['attach', 'x', ...there, '--ifname', 'eth8'],
      says: ['eth8', 'no program has open', new RegExp(`nsenter --net=\\S*/${free.name} ip link del eth8`)],
    },
    {
      what: 'an interface of which nobody knows whether it is open',
      words: ['attach', 'x', ...there, '--ifname', 'eth9'],
      says: ['eth9', '--ifname'],
    },
    {
      what: 'an interface name that is too long',
      words: ['attach', 'x', ...there, '--ifname', 'a-very-long-name'],
      says: [/15/],
    },
    {
      what: 'an address outside the subnet',
      words: ['attach', 'x', ...there, '--ip', '10.99.0.1'],
      says: ['10.99.0.1', '10.44.0.0/24'],
    },
    { what: 'a taken address', words: ['attach', 'x', ...there, '--ip', '10.44.0.11'], says: ['10.44.0.11', 'web'] },
    {
      what: 'a MAC address of weft’s own',
      words: ['attach', 'x', ...there, '--mac', '02:77:64:00:00:01'],
      says: ['02:77:64:00:00:01', '(02:77:64:…, 02:77:65:…, 02:77:66:…)'],
    },
    {
      what: 'a taken IPv6 address, with a free IPv4 one',
      words: ['attach', 'x', ...there, '--ip', '10.44.0.70', '--ip', 'fd44::b'],
      says: ['fd44::b', 'web'],
    },
    {
      what: 'the gateway’s address',
      words: ['attach', 'x', ...there, '--ip', '10.44.0.1'],
      says: ['10.44.0.1', 'gateway'],
    },
    {
      what: 'the broadcast address',
      words: ['attach', 'x', ...there, '--ip', '10.44.0.255'],
      says: ['10.44.0.255', 'broadcast'],
    },
    { what: 'no address', words: ['attach', 'x', ...there, '--ip', '10.44.0'], says: ['10.44.0', /IPv4 or IPv6/] },
    {
      what: 'an address with the length of its prefix',
      words: ['attach', 'x', ...there, '--ip', '10.44.0.70/24'],
      says: ['did you mean 10.44.0.70?'],
    },
    {
      what: 'a taken MAC',
      words: ['attach', 'x', ...there, '--mac', '02:00:00:00:00:aa', '--ip', '10.44.0.11'],
      says: ['web'],
    },
    {
      what: 'a group MAC',
      words: ['attach', 'x', ...there, '--mac', '01:00:5e:00:00:01'],
      says: ['01:00:5e:00:00:01', /unicast/],
    },
    {
      what: 'an unknown network',
      words: ['attach', 'x', '--network', 'nowhere', '--netns', free.name],
      says: ['nowhere', 'network create'],
    },
    {
      what: 'an unknown network, where the interface exists too',
      words: ['attach', 'x', '--network', 'nowhere', '--netns', web.name],
      says: ['nowhere', 'network create'],
    },
    { what: 'an endpoint name with capitals', words: ['attach', 'Web', ...there], says: ['Web', /lower-case/] },
    { what: 'no network', words: ['attach', 'x', '--netns', free.name], says: ['--network'] },
    { what: 'neither namespace nor pid', words: ['attach', 'x', ...network], says: ['--netns', '--pid'] },
    { what: 'both namespace and pid', words: ['attach', 'x', ...there, '--pid', '1'], says: ['--netns', '--pid'] },
    {
      what: 'a full subnet',
      words: ['attach', 'x', '--network', 'tiny', '--netns', free.name],
      says: ['tiny', '10.46.0.0/30'],
    },
    { what: 'the name of another endpoint', words: ['attach', 'web', ...there, '--ifname', 'eth1'], says: ['web'] },

    {
      what: 'an overlapping subnet',
      words: ['network', 'create', 'red', '--subnet', '10.44.0.128/25'],
      says: ['10.44.0.128/25', '10.44.0.0/24', 'blue'],
    },
    {
      what: 'a subnet with host bits',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.5/24'],
      says: ['10.47.0.5/24', '10.47.0.0/24'],
    },
    { what: 'no subnet', words: ['network', 'create', 'red'], says: ['--subnet', 'red', 'does not exist'] },
    {
      what: 'another subnet than the network has',
      words: ['network', 'create', 'blue', '--subnet', '10.47.0.0/24'],
      says: ['10.47.0.0/24', 'exists with subnets', '10.44.0.0/24'],
    },
    {
      what: 'two IPv4 subnets',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--subnet', '10.48.0.0/24'],
      says: [/IPv4/],
    },
    {
      what: 'a taken VNI',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--vni', '4660'],
      says: ['4660', 'blue'],
    },
    {
      what: 'VNI 0',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--vni', '0'],
      says: ['vni', '1 to 16777214'],
    },
    {
      what: 'a VNI of more than 24 bits',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--vni', '16777216'],
      says: ['16777214'],
    },
    {
      what: 'an MTU of 100',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--mtu', '100'],
      says: ['576'],
    },
    {
      what: 'a range outside the subnet',
      words: ['network', 'create', 'red', '--subnet', '10.47.0.0/24', '--range', '10.48.0.1-10.48.0.9'],
      says: ['10.48.0.1-10.48.0.9'],
    },
    { what: 'removing a network with endpoints', words: ['network', 'rm', 'blue'], says: ['blue', 'web', 'db'] },
    { what: 'removing an unknown network', words: ['network', 'rm', 'nowhere'], says: ['nowhere'] },
    { what: 'detaching an unknown endpoint', words: ['detach', 'nobody'], says: ['nobody'] },

    {
      what: 'YAML that is none',
      words: ['apply', '-f', manifest('syntax.yaml', 'kind: Network\n  name: [red\n')],
      says: ['syntax.yaml', /2:\d+|line 2.*column/],
    },
    {
      what: 'an unknown field',
      words: ['apply', '-f', manifest('field.yaml', `${head}spec:\n  subnets: [10.47.0.0/24]\n  colour: red\n`)],
      says: ['colour', 'field.yaml', /7:\d+|line 7.*column/],
    },
    {
      what: 'a value that is not accepted',
      words: ['apply', '-f', manifest('value.yaml', `${head}spec:\n  subnets: [10.47.0.0/24]\n  vni: 99999999\n`)],
      says: ['vni', '16777214', /7:\d+|line 7.*column/],
    },
    {
      what: 'an unknown kind',
      words: ['apply', '-f', manifest('kind.yaml', 'apiVersion: weft.dev/v1\nkind: Router\nmetadata: {name: r}\n')],
      says: ['Router'],
    },
    { what: 'a file that does not exist', words: ['apply', '-f', join(directory, 'none.yaml')], says: ['none.yaml'] },
    {
      what: 'a good manifest before a bad one',
      words: [
        'apply',
        '-f',
        manifest(
          'two.yaml',
          `${head}spec:\n  subnets: [10.47.0.0/24]\n---\n${head.replace('red', 'pink')}spec:\n  subnets: [10.999.0.0/24]\n`,
        ),
      ],
      says: ['10.999.0.0/24'],
    },

    {
      what: 'an unknown namespace in a dry run',
      words: [...dryRun, manifest('nowhere.yaml', endpointIn('nowhere'))],
      says: ['nowhere'],
    },
    {
      what: 'an interface in use, in a dry run',
      words: [...dryRun, manifest('used.yaml', endpointIn(web.name))],
      says: ['eth0', '--ifname'],
    },
    { what: 'a flow without port', words: ['trace', 'tcp,ip_dst=10.44.0.12'], says: ['in_port'] },
    { what: 'a flow with an unknown field', words: ['trace', 'in_port=web,colour=red'], says: ['colour'] },
    { what: 'a flow to nobody', words: ['trace', 'in_port=web,icmp'], says: ['ip_dst is missing'] },
    { what: 'a flow of an unknown port', words: ['trace', 'in_port=nobody,tcp'], says: ['nobody'] },
    { what: 'the reason of nothing', words: ['why', '4711000'], says: ['4711000'] },
    { what: 'a capture of an unknown port', words: ['capture', '--port', 'nobody'], says: ['nobody'] },
    { what: 'an unknown verb', words: ['atach', 'x'], says: ['atach'] },
    { what: 'an unknown option', words: ['status', '--verbose'], says: ['--verbose'] },
    { what: 'an unknown output format', words: ['status', '-o', 'xml'], says: ['xml', 'yaml'] },
  ];
}

await t.test('of commands', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  await weft.createNetwork('tiny --subnet 10.46.0.0/30');
  await weft.attach(await lab.namespace('only'), { network: 'tiny' });
  const free = await lab.namespace('free');
  await free.run(['ip', 'tuntap', 'add', 'dev', 'eth8', 'mode', 'tap', 'multi_queue']);
  await free.run(['ip', 'tuntap', 'add', 'dev', 'eth9', 'mode', 'tap']);
  const everything = async (): Promise<unknown> => ({
    networks: await weft.client.networks(),
    endpoints: await weft.client.endpoints(),
    ports: (await weft.status()).ports.map(({ name }) => name),
    links: [await free.links(), await web.namespace.links(), await db.namespace.links()],
  });

  const before = await everything();
  for (const { what, words, says } of wrongs(free, web.namespace, lab.directory)) {
    await t.test(what, async (t) => {
      const result = await weft.attempt(...words);
      refused(t, result, says);
      t.same(await everything(), before, 'nothing half done');
    });
  }
  await ping(web.namespace, db.ip4);
});

await t.test('of weft up', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  await host.ip('addr add 192.0.2.1/32 dev lo');
  const up = (...words: readonly string[]): string[] => {
    return [
      ...weftCommand,
      '--socket',
      join(lab.directory, 'up.sock'),
      'up',
      '--state',
      join(lab.directory, 'state'),
      ...words,
    ];
  };

  const cases: { what: string; command: readonly string[]; says: readonly (string | RegExp)[] }[] = [
    {
      what: 'without the rights of root',
      command: ['setpriv', '--bounding-set=-all', '--inh-caps=-all', ...up()],
      says: [/root/],
    },
    {
      what: 'without /dev/net/tun',
      command: ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh', ...up()],
      says: ['/dev/net/tun'],
    },
    { what: 'with an underlay that is no address', command: up('--underlay', 'eth0'), says: ['eth0', /underlay/] },
    { what: 'with a peer that is no address', command: up('--peer', 'right'), says: ['right', /peer/] },
    { what: 'with an unknown datapath', command: up('--datapath', 'kernel'), says: ['kernel', 'native', 'reference'] },
    { what: 'with an unknown store', command: up('--store', 'redis://'), says: ['redis://'] },
    {
      what: 'with a configuration that does not exist',
      command: up('--config', join(lab.directory, 'none.yaml')),
      says: ['none.yaml'],
    },
  ];
  for (const { what, command, says } of cases) {
    await t.test(what, async (t) => refused(t, await host.attempt(command), says));
  }

  await t.test('with a state of a newer version', async (t) => {
    const weft = await Weft.up(lab, host, 'newer', { datapath: 'native' });
    await weft.createNetwork(overlay.create);
    await weft.stop();
    const journal = join(weft.state, 'journal');
    const [header = '', ...records] = readFileSync(journal, 'utf8').split('\n');
    const newer = header.slice(9).replace(/"format":\d+/, '"format":999');
    writeFileSync(journal, [`${crc32(newer).toString(16).padStart(8, '0')} ${newer}`, ...records].join('\n'));
    refused(t, await attempt(weft.upCommand()), [weft.state, /version/]);
  });

  await t.test('with a state directory that is a file', async (t) => {
    const file = join(lab.directory, 'file');
    writeFileSync(file, '');
    const command = [...weftCommand, '--socket', join(lab.directory, 'up.sock'), 'up', '--state', file];
    refused(t, await host.attempt(command), [file, /directory/i]);
  });

  await t.test('a dead socket file is no obstacle', async () => {
    const weft = await Weft.up(lab, host, 'dead', { datapath: 'native' });
    await weft.kill();
    await weft.start();
  });
});

function refused(t: Test, result: Result, says: readonly (string | RegExp)[]): void {
  t.ok(result.code === 1 || result.code === 2, `exit ${result.code}`);
  t.equal(result.stderr.trim().split('\n').length, 1, result.stderr);
  for (const part of says) t.match(result.stderr, part);
  t.equal(result.stdout, '', 'nothing on standard output');
}
