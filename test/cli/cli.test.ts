import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { endpointTable } from '../../src/cli/endpoint-table.ts';
import type { PcapngFrame } from '../../src/observe/pcapng.ts';
import { until } from '../support/process.ts';
import { decision, endpoint, flow, untilFollowers } from '../api/fake-switch.ts';
import { executable, finish, fixture, plain, type Run } from './fixture.ts';

// Each of the many processes compiles its sources again.
t.setTimeout(600_000);

/** An ARP request with its Ethernet header, so that there is something to decode. */
const arp = Buffer.from('ffffffffffff020000000001080600010800060400010200000000010a0000020000000000000a000003', 'hex');

/** The packets of a pcapng file with the port and the direction flag of each. */
function packets(t: Test, file: Buffer): { port: string; flags: number; lengthBytes: number }[] {
  const ports: string[] = [];
  const found: { port: string; flags: number; lengthBytes: number }[] = [];
  for (let at = 0; at < file.length; ) {
    const type = file.readUInt32LE(at);
    const length = file.readUInt32LE(at + 4);
    t.equal(file.readUInt32LE(at + length - 4), length, 'a block says its length at both ends');
    const option = (from: number, code: number): Buffer => {
      for (let o = at + from; ; o += 4 + ((file.readUInt16LE(o + 2) + 3) & ~3)) {
        const value = file.subarray(o + 4, o + 4 + file.readUInt16LE(o + 2));
        if (file.readUInt16LE(o) === code) return value;
      }
    };
    if (type === 1) ports.push(option(16, 2).toString());
    if (type === 6) {
      const captured = (file.readUInt32LE(at + 20) + 3) & ~3;
      const port = ports[file.readUInt32LE(at + 8)]!;
      found.push({ port, flags: option(28 + captured, 2).readUInt32LE(), lengthBytes: file.readUInt32LE(at + 24) });
    }
    at += length;
  }
  return found;
}

function frame(port: string, direction: 'rx' | 'tx', nanoseconds: bigint): PcapngFrame {
  return { port, direction, timeNs: 1_735_689_600_000_000_000n + nanoseconds, lengthBytes: arp.length, bytes: arp };
}

t.test('wrong usage exits 2 with one line that leads to the help', async (t) => {
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [['top'], /^weft: unknown command 'top' \(see weft --help\)$/],
    [[], /^weft: a command is missing/],
    [['network'], /^weft: a command is missing \(see weft network --help\)$/],
    [['attach', 'web', '--network', 'blue'], /^weft: give one of --netns and --pid \(see weft attach --help\)$/],
    [['attach', 'web', '--network', 'blue', '--pid', 'x'], /'x' is invalid.*whole number/],
    [['attach', 'web', '--network', 'blue', '--pid', '1', '--shape', '1'], /unknown option '--shape'/],
    [
      ['attach', 'web', '--network', 'blue', '--pid', '1', '--rate-limit', 'up=1mbit'],
      /--rate-limit up=1mbit: it is RATE, ingress=RATE, egress=RATE, or both with a comma/,
    ],
    [
      ['attach', 'web', '--network', 'blue', '--pid', '1', '--rate-limit', 'egress=1mbit,egress=2mbit'],
      /egress is given twice/,
    ],
    [['attach', 'web', '--network', 'blue', '--pid', '1', '--label', 'app'], /--label app: it is KEY=VALUE/],
    [
      ['attach', 'web', '--network', 'blue', '--pid', '1', '--publish', '80'],
      /--publish 80: it is \[IP:\]HOSTPORT:PORT/,
    ],
    [['attach', 'web', '--network', 'blue', '--pid', '1', '--port', '80'], /--port 80: it is NAME=PORT\[\/tcp\|udp\]/],
    [['attach', 'web', '--network', 'blue', '--pid', '1', '--publish', '80:80/sctp'], /--publish 80:80\/sctp: it is/],
    [['attach', 'web', '--network', 'blue', '--pid', '1', '--publish', '::1:80:80'], /an IPv6 address in brackets/],
    [['status', '-o', 'xml'], /table, json, yaml/],
    [
      ['get', 'pod'],
      /"pod" is not a kind; there are Namespace, Network, Host, Hook, ClusterNetworkPolicy, NetworkPolicy, Endpoint/,
    ],
    [['delete', 'endpoint/a/shop/web'], /a\/shop\/web: a name is NAME or NAMESPACE\/NAME/],
    [['detach', '/web'], /\/web: a name is NAME or NAMESPACE\/NAME/],
    [['describe', 'ep', 'shop/web', '-n', 'shop'], /shop\/web: a name has no "\/" beside -n/],
    [['get', 'network', 'default/blue'], /default\/blue: a Network has no namespace/],
    [['describe', 'svc/web', 'svc/db'], /svc\/web svc\/db: give one resource, as KIND NAME or KIND\/NAME/],
    [['delete', 'svc/web', 'db'], /db: give KIND NAME…, or KIND\/NAME for each/],
    [['delete', 'svc', 'web', 'svc/db'], /svc\/db: give KIND NAME…, or KIND\/NAME for each/],
    [['delete', 'svc', ''], /NAME is missing/],
    [['get', 'svc', 'web', ''], /NAME is missing/],
    [['get', 'svc', 'web', 'db', '--watch'], /--watch follows one resource, or all of a kind/],
    [['get', 'netwrok'], /"netwrok" is not a kind, did you mean "Network"\? there are/],
    [
      ['network', 'create', 'blue', '--subnet', '10.0.0.0/24', '--rang', '10.0.0.2-10.0.0.9'],
      /unknown option '--rang' \(Did you mean --range\?\)/,
    ],
    [['delete', 'network'], /either -f FILE or KIND NAME/],
    [['status', 'extra'], /^weft: "extra" is not expected \(see weft status --help\)$/],
    [['hosts', 'b', 'c', 'd'], /^weft: "c", "d" are not expected/],
    [
      ['attach', 'web', '--network', 'blue', '--network=red', '--pid', '1'],
      /^weft: --network is given twice, as "blue" and "red" \(see weft attach --help\)$/,
    ],
    [['status', '-o', 'json', '-o', 'yaml'], /--output is given twice, as "json" and "yaml"/],
  ];
  const runs = await Promise.all(wrong.map(([args]) => plain(t, args)));
  for (const [index, [args, expected]] of wrong.entries()) {
    const { code, stdout, stderr } = runs[index]!;
    t.equal(code, 2, `weft ${args.join(' ')}`);
    t.equal(stdout, '');
    t.match(stderr.trimEnd(), expected);
    t.equal(stderr.trimEnd().split('\n').length, 1, 'one line');
  }
});

t.test('a wrong configuration exits 2: a supervisor has nothing to gain from another try', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), `weft-up-${process.pid}-`));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = (name: string, text: string): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  };
  const long = join(directory, `${'x'.repeat(120)}.sock`);
  const wrong: readonly (readonly [string[], string | RegExp])[] = [
    [['--peer', 'nowhere'], /^weft: --peer: "nowhere" is not an IPv4 or IPv6 address$/],
    [['--underlay', '192.0.2.300'], /^weft: --underlay: "192\.0\.2\.300"/],
    [['--datapath', 'fast'], /^weft: --datapath: .*"native", "reference"/],
    [['--store', 'redis'], /^weft: --store: "redis"/],
    [['--state', ''], /^weft: --state: ""/],
    [['--peer', '192.0.2.1', '--peer', '192.0.2.1'], /given twice/],
    [['--config', join(directory, 'missing.yaml')], /missing\.yaml" cannot be read/],
    [['--config', file('key.yaml', 'peer: 192.0.2.1\n')], /key\.yaml:1:1: peer is not supported here/],
    [['--config', file('value.yaml', 'threads: many\n')], /value\.yaml:1:10: threads: "many"/],
    [['--config', file('syntax.yaml', 'threads: [\n')], /syntax\.yaml:/],
    [['--state', join(directory, 'state'), '--socket', long], /--socket .*at most 107 bytes/],
  ];
  for (const [args, expected] of wrong) {
    const { code, stderr } = await plain(t, ['up', ...args]);
    t.equal(code, 2, `weft up ${args.join(' ')}`);
    t.match(stderr.trimEnd(), expected);
    t.equal(stderr.trimEnd().split('\n').length, 1, 'one line');
  }
});

t.test('every verb has a help with examples', async (t) => {
  const help = await plain(t, ['--help']);
  t.equal(help.code, 0);
  const verbs = [...help.stdout.matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name]) => name!);
  t.same(verbs.sort(), [
    ...['apply', 'attach', 'capture', 'cni', 'completion', 'confirm', 'connections', 'delete', 'demo'],
    ...['describe', 'detach', 'diff', 'doctor', 'down', 'drops', 'endpoints', 'flows', 'get', 'hook', 'hosts'],
    ...['install-service', 'key', 'label'],
    ...['metrics', 'network', 'policy', 'schema', 'services', 'status', 'trace', 'up', 'why'],
  ]);
  for (const args of [['attach'], ['network', 'create'], ['up']]) {
    const { code, stdout } = await plain(t, [...args, '--help']);
    t.equal(code, 0);
    t.match(stdout, `Examples:\n  weft ${args.join(' ')}`);
    t.match(stdout, '--socket', 'global options are in it');
  }
  t.match((await plain(t, ['up', '--help'])).stdout, /--config <file> +[^]*allowHost/);
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  t.match(await plain(t, ['--version']), { code: 0, stdout: `${version}\n` });
});

t.test('without a daemon it says how to start one', async (t) => {
  const socket = join(tmpdir(), `weft-none-${process.pid}.sock`);
  t.match(await plain(t, ['status', '--socket', socket]), {
    code: 1,
    stdout: '',
    stderr: `weft: no weft daemon answers on ${socket}: start it with \`weft up\`, or name its socket with --socket\n`,
  });
});

t.test('what is wrong with an interface stands below the table, on lines of its own', async (t) => {
  const text = await endpointTable([{ ...endpoint, problems: ['eth0 is down', 'its MTU is 1300'] }]);
  t.match(text, /^NAME .*\nweb .*\n\nweb: eth0 is down\nweb: its MTU is 1300\n$/);
  t.notMatch(await endpointTable([endpoint]), /\n\n/);
  t.match(await endpointTable([{ ...endpoint, state: 'detached', held: true }]), / held +a /);
});

t.test('tables, JSON and YAML; global options before and after the verb', async (t) => {
  const { weft, sw } = await fixture(t);
  const { stdout } = await weft(['endpoints']);
  t.match(
    stdout,
    /^NAME +NETWORK +ADDRESSES +MAC +STATE +HOST +NETNS +INTERFACE +MTU +RATE LIMIT +PUBLISHED\nweb +blue +10\.0\.0\.2,fd00::2 /,
  );
  t.notMatch(stdout, '\u001b', 'no colours into a pipe');
  t.same(JSON.parse((await weft(['endpoints', '-o', 'json'])).stdout), [endpoint]);
  t.match((await weft(['-o', 'yaml', 'endpoints'])).stdout, /^- name: web\n {2}namespace: default\n/);

  sw.connectionBytes = 1_234_567;
  t.match((await weft(['connections'])).stdout, / 1\.23M\/90\.0k /, 'large numbers are short in tables');
  t.equal(JSON.parse((await weft(['connections', '-o', 'json'])).stdout)[0].bytes, 1_234_567, 'and whole in JSON');
  t.match(
    (await weft(['connections'])).stdout,
    /\nc3 +tcp +established +default\/web 10\.0\.0\.10:40000 +203\.0\.113\.9:443 +- +from 169\.254\.77\.2:40000 /,
  );
  const status = await weft(['status']);
  t.match(status, { code: 0, stdout: /Forwarding: +yes\n[^]*Drops: +spoofed_mac=5\nUnanswered: +3 refused frames/ });
  sw.forwarding = false;
  t.match(await weft(['status', '-o', 'json']), {
    code: 1,
    stdout: /"forwarding": false/,
    stderr: /^weft: not forwarding: .*\n$/,
  });
  t.same(await weft(['metrics']), { code: 0, stdout: '# prometheus\n', stderr: '' });
  t.same((await weft(['metrics', '--openmetrics'])).stdout, '# openmetrics\n');
  t.same(JSON.parse((await weft(['metrics', '-o', 'json'])).stdout), await sw.metrics.report());
  t.match(await weft(['metrics', '--openmetrics', '-o', 'yaml']), {
    code: 2,
    stderr: /give either --openmetrics or -o/,
  });
  t.match(await weft(['doctor']), { code: 0, stdout: /^CHECK +RESULT +DETAIL\ntun +ok / });
  sw.doctorFails = true;
  t.match(await weft(['doctor']), { code: 1, stderr: 'weft: failed: peer (check the route)\n' });
  t.equal((await weft(['doctor', '--accept-store'])).stdout, 'network "blue" deleted\n');
  sw.accepted = { accepted: [], lost: ['endpoint "web" was taken over by host "b"', 'endpoint "db" was deleted'] };
  t.equal(
    (await weft(['doctor', '--accept-store'])).stdout,
    'given up: endpoint "web" was taken over by host "b"\ngiven up: endpoint "db" was deleted\nNothing is held: the store is in force.\n',
  );
});

t.test('networks, endpoints and resources', async (t) => {
  const { weft, sw } = await fixture(t);
  const create = ['network', 'create', 'red', '--subnet', '10.1.0.0/24', '--subnet', 'fd01::/64', '--vni', '7'];
  t.match(await weft(create), { code: 0, stdout: /^NAME +VNI +SUBNETS/ });
  t.match(await weft([...create, '--mtu', '100000']), {
    code: 1,
    stderr: /^weft: --mtu: 100000 is not accepted: an MTU is 576 to 9000\n$/,
  });
  t.match(await weft([...create.slice(0, -1), '0']), {
    code: 1,
    stderr: 'weft: --vni: 0 is not accepted: a VNI is 1 to 16777214\n',
  });
  t.match(
    (await weft(['network', 'ls'])).stdout,
    /blue +100 +10\.0\.0\.0\/24 +10\.0\.0\.1 +1450 +yes +1 +10\.0\.0\.0\/24=252\n$/,
  );
  const everywhere = ['network', 'create', 'red', '--mtu', '1400', '--wait'];
  t.match(await weft(everywhere), { code: 0, stdout: /^red [^]*\nin force on a\n$/m });
  t.match(await weft(['network', 'rm', 'red']), { code: 0, stdout: 'network/red deleted\n' });
  t.match(await weft(['network', 'rm', 'blue', 'green']), {
    code: 1,
    stdout: 'network/green deleted\n',
    stderr: /^weft: network "blue" has 1 endpoint/,
  });
  t.equal(sw.calls.pop(), 'removeNetwork green');
  t.match(await weft(['detach', 'pending', '--wait']), {
    code: 0,
    stdout: 'endpoint/pending detached, pending: the store has it still\nin force on a\n',
  });
  t.equal(sw.calls.pop(), 'detach pending');
  t.match(await weft(['network', 'rm', 'blue']), {
    code: 1,
    stderr: 'weft: network "blue" has 1 endpoint: detach it first\n',
  });

  const attach = [
    'attach',
    'db',
    '--network',
    'blue',
    '--ip',
    '10.0.0.7',
    '--label',
    'app=db',
    '--label',
    'v=',
    '--trust',
  ];
  t.match(await weft([...attach, '--netns', './ns']), { code: 0, stdout: /\ndb +blue / });
  for (const [rate, shown] of [
    ['1.5mbps', '12mbit'],
    ['egress=10mbit', 'egress=10mbit'],
    ['egress=10mbit,ingress=1gbit', 'ingress=1gbit,egress=10mbit'],
  ] as const) {
    t.match(await weft(['attach', 'db', '--network', 'blue', '--pid', '1', '--rate-limit', rate]), {
      code: 0,
      stdout: new RegExp(`^db .* 1450 +${shown} +8080->80/tcp$`, 'm'),
    });
  }
  t.match(await weft(['attach', 'db', '--network', 'blue', '--pid', '1', '--rate-limit', 'egress=100Mbit']), {
    code: 1,
    stderr: /^weft: --rate-limit: egress: "100Mbit" is not a rate like 100mbit: a number and bit, .*\n$/,
  });
  for (const [flags, request] of [
    [['--label', 'app-', '--label', 'v=1'], '"labels":{"app":null,"v":"1"}'],
    [['--publish', 'none'], '"publish":[]'],
    [['--port', 'none'], '"ports":[]'],
    [
      ['--port', 'http=8080', '--port', 'dns=53/UDP'],
      '"ports":[{"name":"http","port":8080,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}]',
    ],
    [['--rate-limit', 'none'], '"rateLimit":null'],
    [['--rate-limit', 'ingress=none,egress=1mbit'], '"rateLimit":{"ingress":null,"egress":"1mbit"}'],
    [['--no-trust'], '"trust":false'],
    [['--wildcard'], '"wildcard":true'],
    [['--no-wildcard'], '"wildcard":false'],
  ] as const) {
    t.match(await weft(['attach', 'db', '--network', 'blue', '--pid', '1', ...flags]), { code: 0 });
    t.equal(sw.calls.pop(), `attach {"name":"db","network":"blue","pid":1,${request}}`, 'what is taken away');
  }
  t.match(await weft(['attach', 'new', '--network', 'blue', '--pid', '1', '--move']), {
    code: 0,
    stderr: 'note: endpoint "new": no host had it: it is attached as a new one\n',
  });
  sw.calls.pop();
  t.match(await weft(['detach', 'db']), { code: 0, stdout: 'endpoint/db detached\n' });
  for (const [args, request] of [
    [['detach', 'default/db'], 'detach db'],
    [['detach', 'shop/db'], 'detach shop/db'],
    [
      ['attach', 'shop/db', '--network', 'blue', '--pid', '1'],
      'attach {"name":"db","network":"blue","pid":1,"namespace":"shop"}',
    ],
    [['label', 'ep/shop/web', 'a=b'], 'label Endpoint/shop/web {"a":"b"}'],
    [['label', 'ep', 'shop/web', 'a=b'], 'label Endpoint/shop/web {"a":"b"}'],
  ] as const) {
    t.match(await weft(args), { code: 0 });
    t.equal(sw.calls.pop(), request, 'a name with its namespace, as names are printed');
  }
  t.same(sw.calls, [
    'createNetwork red {"subnets":["10.1.0.0/24","fd01::/64"],"vni":7}',
    'createNetwork red {"mtu":1400}',
    'removeNetwork red',
    `attach {"name":"db","network":"blue","netns":"${process.cwd()}/ns","ip":["10.0.0.7"],"labels":{"app":"db","v":""},"trust":true}`,
    ...['{"ingress":"12mbit","egress":"12mbit"}', '{"egress":"10mbit"}', '{"ingress":"1gbit","egress":"10mbit"}'].map(
      (rateLimit) => `attach {"name":"db","network":"blue","pid":1,"rateLimit":${rateLimit}}`,
    ),
    'detach db',
  ]);

  t.match(await weft(['network', 'create', 'red', '--subnet', '10.1.0.0/24', '--outside']), {
    code: 0,
    stderr: /^note: for the outside this host has an interface weft0 .* nftables table .* forwarding switched on .*\n$/,
  });
  const published = ['8080:80', '192.0.2.1:53:5353/udp', '[2001:DB8::1]:443:8443/TCP', '[::]:444:8444'];
  const flags = published.flatMap((text) => ['--publish', text]);
  t.match(await weft(['attach', 'web', '--network', 'blue', '--pid', '1', ...flags]), {
    code: 0,
    stdout: /PUBLISHED\nweb +blue .* 8080->80\/tcp\n$/,
  });
  t.match(sw.calls.at(-2), '"outside":true');
  t.same(JSON.parse(sw.calls.at(-1)!.replace('attach ', '')).publish, [
    { hostPort: 8080, port: 80, protocol: 'TCP' },
    { hostPort: 53, port: 5353, protocol: 'UDP', hostIP: '192.0.2.1' },
    { hostPort: 443, port: 8443, protocol: 'TCP', hostIP: '2001:db8::1' },
    { hostPort: 444, port: 8444, protocol: 'TCP', hostIP: '::' },
  ]);
  for (const [text, message] of [
    ['0:80', '--publish 0:80: hostPort: 0 is not accepted: a port is 1 to 65535'],
    ['80:70000', '--publish 80:70000: port: 70000 is not accepted: a port is 1 to 65535'],
    [
      '127.0.0.1:80:80',
      /^weft: --publish 127\.0\.0\.1:80:80: hostIP: "127\.0\.0\.1" is loopback: an address that other machines/,
    ],
    [':80:80', '--publish :80:80: hostIP: "" is not an IPv4 or IPv6 address'],
  ] as const) {
    const { code, stderr } = await weft(['attach', 'web', '--network', 'blue', '--pid', '1', '--publish', text]);
    t.equal(code, 1);
    t.match(stderr, typeof message === 'string' ? `weft: ${message}\n` : message);
  }

  t.equal(
    (await weft(['attach', 'web', '--network', 'blue', '--pid', '1', '--port', 'http=80', '--port', '80=80'])).stderr,
    'weft: --port 80=80: name: "80" is not accepted: a port name has 1 to 15 lower-case letters, digits and single "-", at least one letter, and a letter or digit at both ends\n',
  );

  t.match(
    (await weft(['get', 'networks'])).stdout,
    /^NAME +SUBNETS +VNI +MTU +LABELS\nblue +10\.0\.0\.0\/24 +- +- +-\n$/,
  );
  t.match(JSON.parse((await weft(['get', 'Network', 'blue', '-o', 'json'])).stdout), { kind: 'Network' });
  const described = (await weft(['describe', 'network', 'blue'])).stdout;
  t.match(described, /Spec:\n {2}subnets: +10\.0\.0\.0\/24\n/);
  t.match(described, /Status:\n {2}vni: +100\n/);
  t.match(described, /Endpoints:\nNAME +[^]*\nweb /);
});

t.test('decisions read like ofproto/trace', async (t) => {
  const { weft } = await fixture(t);
  const text = `Flow: ${decision.flow}

ingress     web may send from its addresses  (read: in_port, eth_src)
send        no other host  (read: nothing)

Megaflow: ${decision.megaflow}
Actions: ${decision.actions}
`;
  t.equal((await weft(['trace', decision.flow])).stdout, text);
  const why = await weft(['why', '42']);
  t.equal(why.stdout, `decided at ${flow.decidedAt}  (3 packets, 300 bytes, last used 2s ago)\n${text}`);
});

t.test('manifests: all are checked first, then applied in order of dependency and deleted in reverse', async (t) => {
  const { weft, sw, directory } = await fixture(t);
  const manifests = join(directory, 'manifests');
  const manifest = (kind: string, name: string, spec: object): string =>
    JSON.stringify({ apiVersion: 'weft.dev/v1', kind, metadata: { name }, spec });
  const web = manifest('Endpoint', 'web', { network: 'blue', netns: 'web' });
  const blue = `apiVersion: weft.dev/v1\nkind: Network\nmetadata:\n  name: blue\nspec:\n  subnets: [10.0.0.0/24]\n`;

  mkdirSync(manifests);
  writeFileSync(join(manifests, '1.json'), web);
  writeFileSync(join(manifests, '2.yaml'), blue);
  writeFileSync(join(manifests, '3.yml'), manifest('Host', 'b', { underlay: '192.0.2.2' }));
  writeFileSync(join(manifests, 'README'), '{');
  t.match(await weft(['apply', '-f', manifests]), {
    code: 0,
    stdout: 'network/blue created\nhost/b created\nendpoint/web created\n',
  });
  t.match(await weft(['delete', '-f', manifests]), {
    code: 0,
    stdout: 'endpoint/web deleted\nhost/b deleted\nnetwork/blue deleted\n',
  });
  const listed = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [JSON.parse(web)], metadata: {} });
  const several = ['-f', join(manifests, '2.yaml'), '-f', '-', '-f', '-'];
  t.match(await weft(['apply', ...several], listed), {
    code: 0,
    stdout: 'network/blue created\nendpoint/web created\n',
  });
  t.match(await weft(['delete', ...several], listed), {
    code: 0,
    stdout: 'endpoint/web deleted\nnetwork/blue deleted\n',
  });
  t.match(await weft(['apply', '-f', manifests, '-f', '-'], ''), {
    code: 1,
    stderr: 'weft: -f -: there are no resources in it\n',
  });
  sw.calls.length -= 3;
  t.match(await weft(['apply', '-f', '-', '--dry-run'], blue), { code: 0, stdout: 'network/blue created (dry run)\n' });
  t.match(await weft(['delete', 'networks', 'blue', '-o', 'json']), { code: 0, stdout: /"action": "deleted"/ });
  const before = sw.calls.length;
  sw.missing.add('Host/b');
  t.match(await weft(['delete', '-f', manifests]), {
    code: 1,
    stdout: 'endpoint/web deleted\nnetwork/blue deleted\n',
    stderr: /^weft: there is no Host "b" \(all others are deleted; --ignore-not-found makes this no failure\)\n$/,
  });
  t.match(await weft(['delete', '-f', manifests, '--ignore-not-found']), {
    code: 0,
    stdout: 'endpoint/web deleted\nnetwork/blue deleted\n',
    stderr: '',
  });
  t.match(await weft(['delete', 'host', 'b']), { code: 1, stderr: 'weft: there is no Host "b"\n' });
  t.match(await weft(['delete', 'host', 'b', '--ignore-not-found']), { code: 0, stdout: '', stderr: '' });
  t.match(await weft(['delete', 'ep', 'a', 'b', 'c']), {
    code: 0,
    stdout: 'endpoint/a deleted\nendpoint/b deleted\nendpoint/c deleted\n',
  });
  t.match(await weft(['delete', 'host', 'a', 'b', 'c']), {
    code: 1,
    stdout: 'host/a deleted\nhost/c deleted\n',
    stderr: /^weft: there is no Host "b" \(all others are deleted; --ignore-not-found makes this no failure\)\n$/,
  });
  sw.inUse.add('Network/blue');
  const mixed = await weft(['delete', 'ep/a', 'net/blue', 'host/b', 'ep/c', '-o', 'json', '--ignore-not-found']);
  t.match(mixed, { code: 1, stderr: 'weft: Network "blue" has endpoints\n' });
  t.match(JSON.parse(mixed.stdout), [{ name: 'a' }, { name: 'c' }]);
  sw.calls.length = before;
  t.equal(sw.calls.length, 6, 'a file is one request');

  const broken = join(manifests, '4.yaml');
  writeFileSync(broken, blue.replace('10.0.0.0/24', '10.0.0.1/24'));
  const { code, stderr } = await weft(['apply', '-f', manifests]);
  t.equal(code, 1);
  t.match(
    stderr,
    new RegExp(`^weft: ${broken}:6:\\d+: [^\\n]*10\\.0\\.0\\.1/24[^\\n]*\\n$`),
    'file:line:column, the value',
  );
  t.equal(sw.calls.length, 6, 'nothing was applied');
  t.match(await weft(['apply', '-f', '/dev/zero']), { code: 1, stderr: /^weft: \/dev\/zero: it is too large: / });
  t.match(await weft(['apply', '-f', join(directory, 'none')]), { code: 1, stderr: /^weft: -f .*none: .*\n$/ });
});

t.test('following prints one JSON a line, until Ctrl-C or until nobody reads', async (t) => {
  const { start, sw } = await fixture(t);
  const child = start(['flows', '--follow', '-o', 'json']);
  const ended = finish(child);
  await untilFollowers(sw, () => sw.flowListeners.size === 1);
  const seen = new Promise<void>((resolve) => {
    let text = '';
    child.stdout!.on('data', (part) => {
      text += String(part);
      if (text.split('\n').length > 2) resolve();
    });
  });
  for (const listener of sw.flowListeners) for (const id of [1, 2]) listener({ ...flow, id });
  await seen;
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  t.equal(code, 0);
  t.equal(stderr, '');
  t.same(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id),
    [1, 2],
  );

  const unread = start(['flows', '--follow']);
  unread.stdout!.destroy();
  const end = finish(unread);
  await untilFollowers(sw, () => sw.flowListeners.size === 1);
  const timer = setInterval(() => {
    for (const listener of sw.flowListeners) listener(flow);
  }, 20);
  t.teardown(() => clearInterval(timer));
  t.match(await end, { code: 0, stderr: '' });
});

t.test('capture prints lines, and writes a file that tcpdump reads', async (t) => {
  const { start, sw, directory } = await fixture(t);
  const frames = [frame('web', 'rx', 123_456_789n), frame('db', 'tx', 123_456_790n), frame('web', 'rx', 200_000_000n)];
  const capture = async (args: readonly string[]): Promise<Run> => {
    const ended = finish(start(['capture', ...args]));
    await untilFollowers(sw, () => sw.captures.size === 1);
    for (const sink of sw.captures) sink(frames);
    const result = await ended;
    await untilFollowers(sw, () => sw.captures.size === 0);
    return result;
  };

  const lines = await capture(['--count', '2']);
  t.equal(lines.code, 0);
  t.equal(
    lines.stdout,
    '00:00:00.123456 web in  ARP who-has 10.0.0.3 tell 10.0.0.2\n00:00:00.123456 db out ARP who-has 10.0.0.3 tell 10.0.0.2\n',
  );
  t.match(lines.stderr, /2 frames captured\n0 frames left out/);
  t.match(JSON.parse((await capture(['--count', '1', '-o', 'json'])).stdout), {
    time: '2025-01-01T00:00:00.123456789Z',
    port: 'web',
    direction: 'rx',
  });

  const file = join(directory, 'all.pcapng');
  t.equal((await capture(['-w', file, '--count', '3'])).code, 0);
  const read = await finish(spawn('tcpdump', ['-r', file, '-nn', '-tt', '--nano'], { stdio: 'pipe' }));
  t.equal(read.code, 0);
  const decoded = read.stdout.trimEnd().split('\n');
  t.equal(decoded.length, 3);
  t.match(decoded[0], /1735689600\.123456789.*Request who-has 10\.0\.0\.3 tell 10\.0\.0\.2/);
  t.match(decoded[2], /1735689600\.200000000/);

  t.same(packets(t, readFileSync(file)), [
    { port: 'web', flags: 1, lengthBytes: 42 },
    { port: 'db', flags: 2, lengthBytes: 42 },
    { port: 'web', flags: 1, lengthBytes: 42 },
  ]);

  const piped = start(['capture', '-w', '-', '--count', '3']);
  const reader = spawn('tcpdump', ['-r', '-', '-nn'], { stdio: 'pipe' });
  piped.stdout!.pipe(reader.stdin);
  const readFromPipe = finish(reader);
  await untilFollowers(sw, () => sw.captures.size === 1);
  for (const sink of sw.captures) sink(frames);
  t.equal((await readFromPipe).stdout.trimEnd().split('\n').length, 3);
  await untilFollowers(sw, () => sw.captures.size === 0);

  const none = join(directory, 'none.pcapng');
  const refused = await finish(start(['capture', '--port', 'nope', '-w', none]));
  t.match(refused, { code: 1, stderr: 'weft: there is no port "nope"\n' });
  t.notOk(existsSync(none), 'no file is left');

  t.match(await finish(start(['capture', '--snaplen', '300000'])), {
    code: 2,
    stderr: /^weft: .*--snaplen.*300000.* It is a whole number, 64 to 262144\. \(see weft capture --help\)\n$/,
  });
  t.match(await finish(start(['capture', 'tcp', 'prot', '80'])), { code: 2, stderr: /^weft: filter "tcp prot 80": / });
  const without = spawn(process.execPath, [executable, 'capture', 'arp'], { stdio: 'pipe', env: { PATH: directory } });
  t.match(await finish(without), { code: 1, stderr: /compiled by tcpdump, which is not installed: `apt install/ });
  sw.calls.length = 0;
  const filtered = finish(start(['capture', '--count', '1', 'tcp', 'port', '80']));
  await untilFollowers(sw, () => sw.captures.size === 1);
  for (const sink of sw.captures) sink(frames, 7);
  t.match(await filtered, { code: 0, stderr: /1 frames captured\n7 frames left out: they came faster/ });
  t.match(sw.calls, [/^filter of \d+ instructions$/]);
  await untilFollowers(sw, () => sw.captures.size === 0);

  rmSync(file);
  const child = start(['capture', '-w', file]);
  const ended = finish(child);
  await untilFollowers(sw, () => sw.captures.size === 1);
  for (const sink of sw.captures) sink(frames, 2);
  await until(() => existsSync(file) && statSync(file).size > 0, { what: 'the file' });
  for (const sink of sw.captures) sink(frames);
  child.kill('SIGINT');
  const interrupted = await ended;
  t.match(interrupted, { code: 0, stderr: /6 frames captured\n2 frames left out: they came faster/ }, 'Ctrl-C ends it');
  t.equal(packets(t, readFileSync(file)).length, 6, 'what was on the way is in the file');
});

t.test('down waits until the socket is gone', async (t) => {
  const { weft, sw, socket } = await fixture(t);
  t.match(await weft(['down', '--purge']), { code: 0, stdout: 'weft has stopped, its ports are removed\n' });
  t.notOk(existsSync(socket));
  t.same(sw.calls, ['shutdown true']);
  t.match(await weft(['down']), { code: 1, stderr: /no weft daemon answers/ });
});
