/** Configuration: defaults, the file, the options that win, and the line about what is refused. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { configFrom, loadConfig, type ConfigOptions } from '../src/config.ts';
import { flowCapOf, memoryBytes } from '../src/memory.ts';
import { certificates } from './support/certificates.ts';

const directory = mkdtempSync(join(tmpdir(), `weft-config-${process.pid}-`));
t.teardown(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'weft.yaml');

function file(text: string): string {
  writeFileSync(path, text);
  return path;
}

function refuses(t: Test, options: ConfigOptions, message: string | RegExp): void {
  let found = 'accepted';
  try {
    loadConfig(options);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    found = code === 'invalid' || code === 'usage' ? message : `${code}: ${message}`;
  }
  if (typeof message === 'string') t.equal(found, message);
  else t.match(found, message);
  t.notMatch(found, '\n', 'one line');
}

const refusesFile = (t: Test, text: string, message: string) =>
  refuses(t, { config: file(text) }, `${path}:${message}`);

t.test('defaults', async (t) => {
  const { host, ...rest } = loadConfig({});
  t.match(host, /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
  t.match(hostname().toLowerCase(), host.slice(0, 1), 'made of the host name');
  t.match(rest, {
    underlay: undefined,
    peers: [],
    state: '/var/lib/weft',
    datapath: 'native',
    flowLimit: flowCapOf(memoryBytes()),
    connections: 262_144,
    fdbQuota: 2048,
    fdbAgeingMs: 300_000,
    flowIdleMs: 10_000,
    vxlanPort: 4789,
    stormLimit: 1000,
    tunnelStormLimit: 10_000,
    allowHost: false,
    docker: false,
  });
  const documentation = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8');
  // Hooks are given by an option, which has no key.
  const keys = Object.keys(rest).filter((key) => key !== 'hooks');
  for (const key of ['host', ...keys]) t.match(documentation, `\n| \`${key}\` | `, `${key} is documented`);
  for (const empty of ['', '# nothing\n', '{}', '---\n'])
    t.same(loadConfig({ config: file(empty) }), { host, ...rest });
});

t.test('keys of peers: one for all, some of their own, and no message shows one', async (t) => {
  const [a, b] = ['0a'.repeat(32), 'B0'.repeat(32)];
  const config = file(
    `peers: [192.0.2.2, 192.0.2.3]\npeerKey: ${a}\npeerKeys: { 192.0.2.3: ${b} }\nliveness: { intervalMs: 100 }\n`,
  );
  const read = loadConfig({ config });
  t.same(read.peerKey, new Uint8Array(32).fill(0x0a));
  t.same([...read.peerKeys], [['192.0.2.3', new Uint8Array(32).fill(0xb0)]]);
  t.same(read.liveness, { intervalMs: 100, multiplier: 3 });
  const given = loadConfig({ config, peer: [`192.0.2.3,${a}`, '192.0.2.4'] });
  t.same(given.peers, ['192.0.2.3', '192.0.2.4']);
  t.same([...given.peerKeys], [['192.0.2.3', new Uint8Array(32).fill(0x0a)]], 'the option wins');

  const expected = 'a key of 64 hexadecimal digits is expected, the same on both hosts (`weft key` prints a new one)';
  for (const wrong of ['', 'secret', a.slice(1), `${a},`])
    refuses(t, { peer: [`192.0.2.2,${wrong}`] }, `--peer: ${expected}`);
  refuses(t, { peer: [`host,${a}`] }, '--peer: "host" is not an IPv4 or IPv6 address');
  refusesFile(t, 'peerKey: secret\n', `1:10: peerKey: ${expected}`);
  refusesFile(t, 'peerKeys: { 192.0.2.2: 12 }\n', `1:24: peerKeys["192.0.2.2"]: ${expected}`);
  refusesFile(
    t,
    'liveness: { intervalMs: 10 }\n',
    '1:25: liveness.intervalMs: 10 is not accepted: milliseconds, 50 to 10000',
  );
  refusesFile(
    t,
    'liveness: { multiplier: 1 }\n',
    '1:25: liveness.multiplier: 1 is not accepted: a number of intervals, 2 to 50',
  );
});

t.test('the file, and the options that win over it', async (t) => {
  const config = file(`
host: a
underlay: 192.0.2.1
peers: [192.0.2.2, 192.0.2.3]
store: embedded
state: /srv/weft
datapath: reference
flowLimit: 1000
fdbQuota: 64
fdbAgeingMs: 60000
flowIdleMs: 5000
vxlanPort: 8472
stormLimit: 5000
tunnelStormLimit: 0
allowHost: [53/udp, 8080/tcp]
metrics: 127.0.0.1:9464
`);
  const fromFile = {
    host: 'a',
    underlay: '192.0.2.1',
    peers: ['192.0.2.2', '192.0.2.3'],
    state: '/srv/weft',
    datapath: 'reference',
    flowLimit: 1000,
    fdbQuota: 64,
    fdbAgeingMs: 60_000,
    flowIdleMs: 5000,
    vxlanPort: 8472,
    stormLimit: 5000,
    tunnelStormLimit: 0,
    allowHost: [
      { protocol: 'UDP', port: 53 },
      { protocol: 'TCP', port: 8080 },
    ],
    metrics: { host: '127.0.0.1', port: 9464 },
  };
  t.match(loadConfig({ config }), fromFile);
  const options = {
    host: 'b',
    underlay: 'FD00::0:1',
    peer: ['fd00::2'],
    store: 'embedded',
    state: 'below',
    datapath: 'native',
  };
  t.match(loadConfig({ config, ...options }), {
    ...fromFile,
    host: 'b',
    underlay: 'fd00::1',
    peers: ['fd00::2'],
    state: join(process.cwd(), 'below'),
    datapath: 'native',
  });
  t.match(loadConfig({ peer: ['192.0.2.2'] }), { underlay: undefined, peers: ['192.0.2.2'] }, 'the kernel chooses');
  t.match(loadConfig({ underlay: '127.0.0.1', peer: ['127.0.0.2'] }), { peers: ['127.0.0.2'] }, 'on the loopback');
});

t.test('the store that several hosts share', async (t) => {
  const store = (text: string, options: ConfigOptions = {}) => loadConfig({ config: file(text), ...options }).store;
  const members = ['10.0.0.1:2379', '[fd00::1]:2379', 'etcd-1.example:2381'];
  const url = 'etcd://10.0.0.1:2379,[FD00:0::1]:2379,etcd-1.example:2381';
  t.same(loadConfig({ store: url }).store, { endpoints: members, prefix: 'weft/' });
  t.same(store(`store: '${url}'\n`), { endpoints: members, prefix: 'weft/' });
  const { ca, client } = certificates(directory, []);
  const passwordFile = join(directory, 'password');
  writeFileSync(passwordFile, 'w\n');
  const withFiles = (files: { readonly password?: string; readonly key?: string }): string => `store:
  endpoints: [10.0.0.1:2379, '[fd00::1]:2379', etcd-1.example:2381]
  prefix: clusters/a/
  user: weft
  passwordFile: ${files.password ?? passwordFile}
  tls: { ca: ${ca}, certificate: ${client.certificate}, key: ${files.key ?? client.key} }
`;
  const all = withFiles({});
  const fields = {
    endpoints: members,
    prefix: 'clusters/a/',
    user: { name: 'weft', passwordFile },
    tls: { ca, ...client },
  };
  t.same(store(all), fields);
  t.same(store(all, { store: 'etcd://10.0.0.9:2379' }), { ...fields, endpoints: ['10.0.0.9:2379'] }, 'the rest stays');
  t.equal(store(all, { store: 'embedded' }), 'embedded');
  t.same(store('store: { endpoints: [a:1], tls: {} }\n'), { endpoints: ['a:1'], prefix: 'weft/', tls: {} });

  const form = 'is not a host and a port, like 10.0.0.1:2379, "[fd00::1]:2379" or etcd-1.example:2379';
  for (const wrong of ['10.0.0.1', ':2379', '10.0.0:2379', '10.0.0.256:2379', 'fd00::1:2379', '[10.0.0.1]:2379'])
    refuses(t, { store: `etcd://${wrong}` }, `--store: "etcd://${wrong}" is not accepted: "${wrong}" ${form}`);
  for (const wrong of ['a:0', 'a:65536', 'a_b:2379', 'a:2379/x', 'http://a:2379'])
    refusesFile(t, `store: { endpoints: ['${wrong}'] }\n`, `1:22: store.endpoints[0]: "${wrong}" ${form}`);
  refuses(t, { store: 'etcd://' }, `--store: "etcd://" is not accepted: "" ${form}`);
  refuses(t, { store: 'etcd://a:1,a:1' }, '--store: "etcd://a:1,a:1" is not accepted: "a:1" is given twice');
  const accepted =
    'accepted are "embedded" and the members of an etcd cluster, like etcd://10.0.0.1:2379,10.0.0.2:2379';
  refuses(t, { store: 'redis://' }, `--store: "redis://" is not accepted: ${accepted}`);
  refusesFile(t, 'store: shared\n', `1:8: store: "shared" is not accepted: ${accepted}`);
  refusesFile(t, 'store: {}\n', '1:8: store.endpoints is missing: a list is expected');
  refusesFile(t, 'store: { endpoints: [] }\n', '1:21: store.endpoints: at least one is expected');
  const etcd = (more: string): string => `store: { endpoints: [a:1], ${more} }\n`;
  refusesFile(t, etcd('user: weft'), '1:8: store: user and passwordFile go together: both or none');
  refusesFile(t, etcd('tls: { key: /k }'), '1:33: store.tls: certificate and key go together: both or none');
  refusesFile(
    t,
    etcd('tls: { ca: ca.pem }'),
    `1:39: store.tls.ca: "ca.pem" is not accepted: the absolute path of a file is expected`,
  );
  refusesFile(
    t,
    etcd('prefix: weft'),
    `1:36: store.prefix: "weft" is not accepted: letters, digits, "-", "_", "." and "/" are expected, with "/" at the end`,
  );
  for (const wrong of ['weft/state/', 'weft/applied/b/', 'weft/questions/'])
    refusesFile(
      t,
      etcd(`prefix: ${wrong}`),
      `1:36: store.prefix: "${wrong}" is not accepted: "state", "applied" and "questions" are where another cluster would have its own keys: choose another name`,
    );
  for (const prefix of ['weft/b/', 'state/', 'weft/my-state/'])
    t.match(store(etcd(`prefix: ${prefix}`)), { prefix }, 'it can lie below that of another cluster');
  refusesFile(
    t,
    etcd('passwd: x'),
    `1:28: store.passwd is not supported here: accepted are endpoints, prefix, user, passwordFile, tls`,
  );

  refusesFile(
    t,
    etcd(`usr: weft, passwordFile: ${passwordFile}`),
    `1:28: store.usr is not supported here, did you mean "user"? accepted are endpoints, prefix, user, passwordFile, tls`,
  );

  const missing = join(directory, 'missing');
  const unreadable = `${missing} cannot be read: ENOENT: no such file or directory, open '${missing}'`;
  refusesFile(t, withFiles({ password: missing }), `5:17: store.passwordFile: ${unreadable}`);
  const text = withFiles({ key: ca });
  const column = text.split('\n')[5]!.lastIndexOf(ca) + 1;
  refuses(
    t,
    { config: file(text) },
    new RegExp(`^${path}:6:${column}: store\\.tls\\.key: ${ca} does not hold a private key in PEM: `),
  );
  t.equal(store(withFiles({ password: missing }), { store: 'embedded' }), 'embedded', 'it needs no credentials');
});

t.test('where metrics are served', async (t) => {
  const metrics = (text: string) => loadConfig({ config: file(`metrics: '${text}'\n`) }).metrics;
  t.equal(loadConfig({}).metrics, undefined);
  t.same(metrics('[::1]:9464'), { host: '::1', port: 9464 });
  t.same(metrics('[FD00::0:1]:65535'), { host: 'fd00::1', port: 65_535 });
  t.same(metrics('0.0.0.0:1024'), { host: '0.0.0.0', port: 1024 });
  const is = 'an address of this host and a TCP port of 1024 to 65535, like 127.0.0.1:9464 or "[::1]:9464"';
  for (const wrong of ['9464', ':9464', 'localhost:9464', '127.0.0.1', '127.0.0.1:80', '127.0.0.1:1023'])
    refusesFile(t, `metrics: '${wrong}'\n`, `1:10: metrics: "${wrong}" is not ${is}`);
  for (const wrong of ['127.0.0.1:65536', '[127.0.0.1]:9464', '::1:9464', '[fe80::1%eth0]:9464', '1.2.3:9464'])
    refusesFile(t, `metrics: '${wrong}'\n`, `1:10: metrics: "${wrong}" is not ${is}`);
  refusesFile(t, 'metrics: 9464\n', `1:10: metrics: 9464 is not accepted: ${is}, is expected`);
});

t.test('a field of the file is refused with its place', async (t) => {
  const ip = 'is not an IPv4 or IPv6 address';
  refusesFile(
    t,
    'host: A b\n',
    '1:7: host: "A b" is not a name: 1 to 63 lower-case letters, digits and "-", a letter or digit at both ends',
  );
  refusesFile(t, 'host: a\nunderlay: eth0\n', `2:11: underlay: "eth0" ${ip}`);
  refusesFile(t, 'peers:\n  - 192.0.2.2\n  - right\n', `3:5: peers[1]: "right" ${ip}`);
  refusesFile(t, 'peers: 192.0.2.2\n', '1:8: peers: "192.0.2.2" is not accepted: a list is expected');
  refusesFile(t, 'peers: [224.0.0.1]\n', '1:9: peers[0]: "224.0.0.1" is multicast: a unicast address is accepted');
  refusesFile(t, 'datapath: kernel\n', '1:11: datapath: "kernel" is not accepted: accepted are "native", "reference"');
  refusesFile(t, 'vxlanPort: 1023\n', '1:12: vxlanPort: 1023 is not accepted: a UDP port, 1024 to 65535');
  refusesFile(t, 'flowLimit: 0\n', '1:12: flowLimit: 0 is not accepted: a number of flows, 1 to 4194304');
  refusesFile(t, 'fdbQuota: many\n', '1:11: fdbQuota: "many" is not accepted: a number of MAC addresses, 1 to 1048576');
  refusesFile(t, 'fdbAgeingMs: 1.5\n', '1:14: fdbAgeingMs: 1.5 is not accepted: milliseconds, 1000 to 86400000');
  const hostPort = 'a port of 1 to 65535 with its protocol, like 53/udp or 8080/tcp';
  refusesFile(t, 'allowHost: [53/sctp]\n', `1:13: allowHost[0]: "53/sctp" is not ${hostPort}`);
  refusesFile(t, 'allowHost: [53/udp, 70000/tcp]\n', `1:21: allowHost[1]: "70000/tcp" is not ${hostPort}`);
  refusesFile(t, 'allowHost: [53]\n', `1:13: allowHost[0]: 53 is not accepted: ${hostPort}, is expected`);
  refusesFile(
    t,
    'allowHost: 53/udp\n',
    '1:12: allowHost: "53/udp" is not accepted: true, false or a list of ports like 53/udp',
  );
  refusesFile(t, 'allowHost: {}\n', '1:12: allowHost: true, false or a list of ports like 53/udp');
  refusesFile(t, 'flowIdleMs: 10\n', '1:13: flowIdleMs: 10 is not accepted: milliseconds, 1000 to 3600000');
  refusesFile(t, 'state: below\n', '1:8: state: "below" is not accepted: an absolute path is expected');
  refuses(
    t,
    { config: file('a: 1\nhost: a\n') },
    /:1:1: a is not supported here: accepted are host, underlay, peers, /,
  );
  refusesFile(t, 'host: a\nhost: b\n', '2:1: host is given twice: a map has each key once');
  refusesFile(t, '- a\n', '1:1: a map of fields is expected');
  refusesFile(t, 'host: a\n---\nhost: b\n', '3:1: a configuration is one document');
  refuses(t, { config: file('host: [a\n') }, /weft\.yaml:\d+:\d+: /);
  refuses(t, { config: join(directory, 'none.yaml') }, /none\.yaml" cannot be read: ENOENT/);
  refuses(t, { config: directory }, /cannot be read: EISDIR/);
});

t.test('an option is refused by its name', async (t) => {
  refuses(t, { host: 'A' }, /^--host: "A" is not a name/);
  refuses(t, { underlay: 'eth0' }, /^--underlay: "eth0" is not an IPv4 or IPv6 address$/);
  refuses(t, { underlay: '0.0.0.0' }, /^--underlay: "0\.0\.0\.0" is unspecified: a unicast address is accepted$/);
  refuses(t, { underlay: 'fe80::1' }, /^--underlay: "fe80::1" is link-local/);
  refuses(t, { peer: ['192.0.2.2', 'right'] }, /^--peer: "right" is not an IPv4 or IPv6 address$/);
  refuses(t, { datapath: 'kernel' }, /^--datapath: "kernel" is not accepted: accepted are "native", "reference"$/);
  refuses(t, { state: '' }, /^--state: "" is not accepted/);
});

t.test('a program gives the fields of the file, and hooks', async (t) => {
  t.same(configFrom({}), loadConfig({}), 'all have the defaults of the daemon');
  const hook = file('hook');
  t.match(configFrom({ host: 'a', peers: ['192.0.2.2'], hooks: [hook] }), {
    ...{ host: 'a', peers: ['192.0.2.2'], hooks: [hook] },
  });
  const refused: readonly (readonly [object, string | RegExp])[] = [
    [{ docker: true }, /^docker is not supported here: accepted are host, underlay, /],
    [{ host: 'A' }, /^host: "A" is not a name/],
    [{ stat: '/tmp' }, /^stat is not supported here, did you mean "state"\?/],
    [{ hooks: [hook, join(directory, 'none.ts')] }, /^hooks\[1\]: ".*none\.ts" cannot be read: ENOENT/],
    [{ underlay: '192.0.2.1', peers: ['192.0.2.1'] }, /^peers\[0\]: "192\.0\.2\.1" is the address of this host itself/],
  ];
  for (const [fields, message] of refused) t.throws(() => configFrom(fields), { code: 'invalid', message });
});

t.test('peers belong to the underlay, and are others', async (t) => {
  const own = 'is the address of this host itself (underlay): a peer is another host';
  refuses(t, { underlay: '192.0.2.1', peer: ['192.0.2.2', '192.0.2.1'] }, `--peer: "192.0.2.1" ${own}`);
  refuses(t, { underlay: 'fd00::1', peer: ['fd00:0::1'] }, `--peer: "fd00::1" ${own}`);
  refuses(t, { peer: ['192.0.2.2', '192.0.2.2'] }, '--peer: "192.0.2.2" is given twice');
  refuses(
    t,
    { underlay: '192.0.2.1', peer: ['fd00::2'] },
    '--peer: "fd00::2" is not of the family of the underlay, 192.0.2.1: one underlay is IPv4 or IPv6',
  );
  refuses(t, { peer: ['fd00::2', '192.0.2.2'] }, /"192\.0\.2\.2" is not of the family of the first peer, fd00::2/);
  refusesFile(t, 'underlay: 192.0.2.1\npeers: [192.0.2.1]\n', `2:9: peers[0]: "192.0.2.1" ${own}`);
  refuses(t, { config: file('underlay: 192.0.2.1'), peer: ['192.0.2.1'] }, `--peer: "192.0.2.1" ${own}`);
  refuses(
    t,
    { config: file('peers: [192.0.2.1]'), underlay: '192.0.2.1' },
    /weft\.yaml:1:9: peers\[0\]: "192\.0\.2\.1" is/,
  );
});
