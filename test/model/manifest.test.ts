/** Manifests: what is accepted, and the exact error line for what is not. */
import t, { type Test } from 'tap';
import { transit } from '../../src/outside/link.ts';
import { jsonSchemas } from '../../src/model/json-schema.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import { parseManifests, parseResource } from '../../src/model/manifest.ts';

const network = 'apiVersion: weft.dev/v1\nkind: Network\nmetadata:\n  name: blue\n';
const endpoint = 'apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: {name: web}\n';
const host = 'apiVersion: weft.dev/v1\nkind: Host\nmetadata: {name: right}\n';

function refuses(t: Test, text: string, message: string | RegExp): void {
  const found = messageOf(() => parseManifests(text, 'net.yaml'));
  if (typeof message === 'string') t.equal(found, `net.yaml:${message}`);
  else t.match(found, message);
  t.notMatch(found, '\n', 'one line');
}

function messageOf(step: () => unknown): string {
  try {
    step();
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return code === 'invalid' ? message : `${code}: ${message}`;
  }
  return 'accepted';
}

t.test('documents, defaults, canonical text', async (t) => {
  const text = `# first
${network}spec:
  subnets: [10.0.0.0/24, 'FD00:0::/64']
  ranges: [10.0.0.10 - 10.0.0.99]
status: {phase: Ready, anything: [1, 2]}
---
---
# nothing but a comment
---
${endpoint}spec: {network: blue, netns: web, mac: 02-AA-00-00-00-01, addresses: ['fd00::0:5', '::ffff:10.0.0.5']}
---
${host}spec: {underlay: 127.0.0.2}
`;
  t.same(parseManifests(text, 'net.yaml'), [
    {
      apiVersion: 'weft.dev/v1',
      kind: 'Network',
      metadata: { name: 'blue', labels: {} },
      spec: { subnets: ['10.0.0.0/24', 'fd00::/64'], ranges: ['10.0.0.10-10.0.0.99'], routes: [], outside: false },
    },
    {
      apiVersion: 'weft.dev/v1',
      kind: 'Endpoint',
      metadata: { name: 'web', namespace: 'default', labels: {} },
      spec: {
        network: 'blue',
        netns: 'web',
        mac: '02:aa:00:00:00:01',
        addresses: ['fd00::5', '10.0.0.5'],
        interface: 'eth0',
        allowedAddresses: [],
        allowedEtherTypes: [],
        trust: false,
        publish: [],
      },
    },
    {
      apiVersion: 'weft.dev/v1',
      kind: 'Host',
      metadata: { name: 'right', labels: {} },
      spec: { underlay: '127.0.0.2' },
    },
  ]);
  t.same(parseManifests('', 'net.yaml'), []);
  t.same(parseManifests('---\n# only\n---\n', 'net.yaml'), []);
});

t.test('JSON, with tabs and escapes, and what was parsed parses to the same', async (t) => {
  const [parsed] = parseManifests(`${network}spec: {subnets: [10.0.0.0/24], vni: 7, mtu: 1400}`, 'net.yaml');
  t.same(parseManifests(JSON.stringify(parsed, null, '\t'), 'net.json'), [parsed]);
  t.same(parseManifests(JSON.stringify(parsed).replace('blue', '\\u0062lue'), 'net.json'), [parsed]);
  t.same(parseResource(JSON.parse(JSON.stringify(parsed))), parsed);
  t.same(parseManifests(JSON.stringify([parsed, parsed]), 'net.json'), [parsed, parsed], 'a list, as `get -o json`');
  const list = { apiVersion: 'v1', kind: 'List', items: [parsed, parsed], metadata: { resourceVersion: '' } };
  t.same(parseManifests(JSON.stringify(list), 'net.json'), [parsed, parsed], 'a list, as kubectl prints it');
  refuses(
    t,
    `apiVersion: v1\nkind: List\nitems:\n- ${network.replaceAll('\n', '\n  ')}spec: {}\n`,
    '8:9: spec.subnets is missing: a list is expected',
  );
  refuses(t, 'apiVersion: v1\nkind: List\nitem: []\n', /3:1: item is not supported here, did you mean "items"\?/);
  refuses(t, 'apiVersion: v1\nkind: List\n', '1:1: items is missing: a list is expected');
  t.same(parseManifests('[]', 'net.json'), []);
  const wrong = messageOf(() => parseManifests(`[${JSON.stringify(parsed)},\n  {"kind": "Net"}]`, 'net.json'));
  t.match(wrong, /^net\.json:2:12: kind: "Net" is not accepted/);
});

t.test('a value is refused with its place, its field, and what is accepted', async (t) => {
  const spec = `${network}spec:\n  subnets: [10.0.0.0/24]\n`;
  refuses(
    t,
    `${spec}  vni: 99999999\n`,
    '7:8: spec.vni: 99999999 is not accepted: a VNI is 1 to 16777214 (16777215 is that of weft’s own probes)',
  );
  refuses(
    t,
    `${spec}  vni: 16777215\n`,
    '7:8: spec.vni: 16777215 is not accepted: a VNI is 1 to 16777214 (16777215 is that of weft’s own probes)',
  );
  refuses(t, `${spec}  vni: 0\n`, '7:8: spec.vni: 0 is not accepted: a VNI is 1 to 16777214');
  refuses(t, `${spec}  vni: 1.5\n`, '7:8: spec.vni: 1.5 is not accepted: a VNI is a whole number, 1 to 16777214');
  refuses(t, `${spec}  vni: "7"\n`, '7:8: spec.vni: "7" is not accepted: a VNI is a whole number, 1 to 16777214');
  refuses(t, `${spec}  vni:\n`, '7:3: spec.vni: null is not accepted: a VNI is a whole number, 1 to 16777214');
  refuses(t, `${spec}  mtu: 9001\n`, '7:8: spec.mtu: 9001 is not accepted: an MTU is 576 to 9000');
  refuses(t, `${network}spec: {}\n`, '5:7: spec.subnets is missing: a list is expected');
  refuses(t, `${network}spec: {subnet: []}\n`, /5:8: spec\.subnet is not supported here, did you mean "subnets"\?/);
  refuses(t, `${network}spec: {shape: round}\n`, '5:7: spec.subnets is missing: a list is expected');
  refuses(t, network, '1:1: spec is missing: a map of fields is expected');
  refuses(t, 'kind: Network\napiVersion: weft.dev/v1\nspec: {subnets: [10.0.0.0/24]}', /1:1: metadata is missing/);
  refuses(
    t,
    `${spec.replace('name: blue', 'labels: {a: b}')}`,
    '4:3: metadata.name is missing: text (in quotes) is expected',
  );
  refuses(
    t,
    spec.replace('blue', 'Blue'),
    '4:9: metadata.name: "Blue" is not a name: 1 to 63 lower-case letters, digits and "-", a letter or digit at both ends',
  );
  refuses(t, spec.replace('blue', '5'), '4:9: metadata.name: 5 is not accepted: text (in quotes) is expected');
  refuses(t, spec.replace('blue', 'x'.repeat(5000)), /^net.yaml:4:9: metadata.name: "x{80}…" is not a name/);
  refuses(t, spec.replace('blue', '"a\\nb"'), /^net.yaml:4:9: metadata.name: "a\\nb" is not a name/);
  refuses(
    t,
    spec.replace('blue', 'blue\n  labels: {"a b": c}'),
    /^net.yaml:5:12: metadata.labels\["a b"\] .* label key/,
  );
  refuses(
    t,
    spec.replace('blue', 'blue\n  labels: {a: "b c"}'),
    /^net.yaml:5:15: metadata.labels.a: "b c" is not a label value/,
  );
  refuses(t, `- ${JSON.stringify({ kind: 'Network' })}`, '1:3: apiVersion is missing: accepted is "weft.dev/v1"');
  refuses(t, '- text', '1:3: "text" is not accepted: a map of fields is expected');
  refuses(t, 'text', '1:1: "text" is not accepted: a map of fields is expected');
  refuses(
    t,
    `${spec}---\n${spec.replace('10.0.0.0/24', '10.999.0.0/24')}`,
    /^net.yaml:13:13: spec.subnets\[0\]: "10.999.0.0\/24" is not a subnet/,
  );
});

t.test('unknown kinds, versions and fields are refused by name', async (t) => {
  refuses(
    t,
    'apiVersion: v1\nkind: Pod\n',
    '2:7: kind: "Pod" is not accepted: accepted are "Namespace", "Network", "Host", "Hook", "ClusterNetworkPolicy", "NetworkPolicy", "Endpoint", "Service", "EndpointSlice", "DestinationRule", "VirtualService", "PolicyTest"',
  );
  refuses(
    t,
    network.replace('weft.dev/v1', 'weft.dev/v2'),
    '1:13: apiVersion: "weft.dev/v2" is not accepted: accepted is "weft.dev/v1"',
  );
  refuses(t, 'kind: Network', '1:1: apiVersion is missing: accepted is "weft.dev/v1"');
  refuses(
    t,
    '{}',
    '1:1: kind is missing: accepted are "Namespace", "Network", "Host", "Hook", "ClusterNetworkPolicy", "NetworkPolicy", "Endpoint", "Service", "EndpointSlice", "DestinationRule", "VirtualService", "PolicyTest"',
  );
  refuses(
    t,
    `${network}spec:\n  subnets: [10.0.0.0/24]\n  colour: red\n`,
    '7:3: spec.colour is not supported here: accepted are subnets, vni, mtu, ranges, routes, outside',
  );
  refuses(
    t,
    `${network}spec:\n  subnets: [10.0.0.0/24]\n  vnl: 7\n`,
    '7:3: spec.vnl is not supported here, did you mean "vni"? accepted are subnets, vni, mtu, ranges, routes, outside',
  );
  refuses(
    t,
    `${network}  annotations: {}\nspec: {subnets: [10.0.0.0/24]}`,
    /^net.yaml:5:3: metadata.annotations is not supported here/,
  );
  const annotated = (text: string): string =>
    `${endpoint}spec: {network: blue, netns: web}\n`.replace('name: web', `name: web, annotations: {${text}}`);
  for (const [text, column, problem] of [
    ['weft.dev/wildcard: "yes"', 56, '["weft.dev/wildcard"]: "yes" is not accepted: accepted are "true", "false"'],
    ['weft.dev/wildcard: ""', 37, '["weft.dev/wildcard"]: "" is not accepted: accepted are "true", "false"'],
    [
      'weft.dev/wildcrad: "true"',
      56,
      '["weft.dev/wildcrad"]: "true" is not accepted: "weft.dev/wildcrad" is no annotation of weft, did you mean "weft.dev/wildcard"? accepted are weft.dev/wildcard, weft.dev/aliases',
    ],
    ['weft.dev/wildcard: true', 56, '["weft.dev/wildcard"]: true is not accepted: text (in quotes) is expected'],
  ] as const)
    refuses(t, annotated(text), `3:${column}: metadata.annotations${problem}`);
  for (const text of ['weft.dev/wildcard: "true"', 'weft.dev/wildcard: "false"', 'example.com/weft.dev: "yes"'])
    t.match(parseManifests(annotated(text), 'net.yaml')[0], { metadata: { name: 'web' } }, text);
  refuses(
    t,
    `${network}  __proto__: {}\nspec: {subnets: [10.0.0.0/24]}`,
    /^net.yaml:5:3: metadata.__proto__ is not supported here/,
  );
  // A map of any names, which would lose this one.
  refuses(
    t,
    `${network}  labels: {app: x, __proto__: y}\nspec: {subnets: [10.0.0.0/24]}`,
    '5:20: metadata.labels.__proto__ is not supported here: nothing can have that name',
  );
  t.match(
    messageOf(() => parseResource(JSON.parse('{"kind": "Network", "spec": {"routes": [{"__proto__": 1}]}}'))),
    /^spec\.routes\[0\]\.__proto__ is not supported here/,
  );
  refuses(t, `${network}spec: {subnets: [10.0.0.0/24]}\n"a b": 1`, /^net.yaml:6:1: \["a b"\] is not supported here/);
});

t.test('a value that is very deep takes no longer than one that is as large', async (t) => {
  let deep: unknown = 1;
  for (let depth = 0; depth < 100_000; depth++) deep = [deep];
  const network = {
    apiVersion: 'weft.dev/v1',
    kind: 'Network',
    metadata: { name: 'blue' },
    spec: { subnets: ['10.0.0.0/24'] },
    deep,
  };
  t.match(
    messageOf(() => parseResource(network)),
    /^deep is not supported here/,
  );
});

t.test('what kubectl prints of a resource that no server has created is accepted as it is', async (t) => {
  // kubectl create service clusterip shop --tcp=80:8080 --dry-run=client -o yaml, and the same of a namespace
  const printed = `apiVersion: v1
kind: Service
metadata:
  creationTimestamp: null
  labels:
    app: shop
  name: shop
spec:
  ports:
  - name: 80-8080
    port: 80
    protocol: TCP
    targetPort: 8080
  selector:
    app: shop
  type: ClusterIP
status:
  loadBalancer: {}
---
apiVersion: v1
kind: Namespace
metadata:
  creationTimestamp: null
  name: shop
spec: {}
status: {}
`;
  t.match(parseManifests(printed, 'kubectl.yaml'), [
    { metadata: { name: 'shop', labels: { app: 'shop' } }, spec: { ports: [{ targetPort: 8080 }] } },
    { kind: 'Namespace', metadata: { name: 'shop' } },
  ]);
  const of: Readonly<Record<string, object>> = {
    Namespace: { spec: {} },
    Network: { spec: { subnets: ['10.0.0.0/24'] } },
    Host: { spec: { underlay: '192.0.2.1' } },
    Hook: { spec: { source: 'export default 1' } },
    ClusterNetworkPolicy: { spec: { tier: 'Admin', priority: 0, subject: { namespaces: {} } } },
    NetworkPolicy: { spec: { podSelector: {} } },
    PolicyTest: { spec: { from: { endpoint: 'web' }, to: { endpoint: 'db' }, port: 80, expect: 'allow' } },
    Endpoint: { spec: { network: 'blue', netns: 'web' } },
    Service: { spec: { ports: [{ port: 80 }] } },
    EndpointSlice: { addressType: 'IPv4', endpoints: [], ports: [] },
    DestinationRule: { spec: { host: 'shop', trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } } },
    VirtualService: { spec: { hosts: ['shop'], tcp: [{ route: [{ destination: { host: 'shop' } }] }] } },
  };
  for (const { kind, apiVersion } of kinds) {
    const written = (creationTimestamp: unknown): unknown => ({
      ...{ apiVersion, kind, ...of[kind] },
      metadata: { name: 'one', creationTimestamp },
      status: {},
    });
    const { metadata } = parseResource(written(null));
    t.notOk('creationTimestamp' in metadata, kind);
    t.throws(() => parseResource(written('2026-11-26T16:30:00Z')), {
      message: /^metadata.creationTimestamp is not supported here: /,
    });
  }
});

t.test('text that is no YAML', async (t) => {
  refuses(t, 'kind: Network\n  name: [red\n', /^net.yaml:2:\d+: /);
  refuses(t, `${network}  name: red\n`, '5:3: name is given twice: a map has each key once');
  refuses(t, '{"kind": "Network", "kind": "Host"}', '1:21: kind is given twice: a map has each key once');
  refuses(t, 'metadata:\n  name: red: blue\n', /^net.yaml:2:9: name: text with ": " in it needs quotes, and a map /);
  refuses(t, '\tkind: Network', /^net.yaml:1:1: Tabs/);
  refuses(t, 'kind: !secret Network', /^net.yaml:1:7: Unresolved tag/);
  refuses(t, 'kind: *nowhere', /^net.yaml:1:\d+: Unresolved alias/);
  refuses(t, '? [a]\n: b\n', /^net.yaml:1:3: /);
});

t.test('bombs', async (t) => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const nineOf = (name: string | undefined): string =>
    Array(9)
      .fill(name === undefined ? 'x' : `*${name}`)
      .join();
  const bomb = names.map((name, index) => `${name}: &${name} [${nineOf(names[index - 1])}]`).join('\n');
  refuses(t, bomb, /^net.yaml:1:1: .*alias/);
  refuses(t, '['.repeat(200_000), /^net.yaml:1:\d+: /);
  refuses(t, '{"a":'.repeat(100_000), /^net.yaml:1:\d+: /);
  refuses(t, '['.repeat(50_000), /nested too deep/);
  refuses(t, `a: ${'x'.repeat(1 << 20)}`, ' 1048579 bytes are too many: at most 1048576 are accepted');
  refuses(t, `${host}spec: &spec {underlay: *spec}`, '4:24: spec.underlay: text (in quotes) is expected');
  const shared = `${network}spec:\n  subnets: &nets [10.0.0.0/24]\n  ranges: *nets\n`;
  refuses(t, shared, /^net.yaml:\d+:\d+: spec.ranges\[0\]: "10.0.0.0\/24" is not a range/);
});

t.test('subnets', async (t) => {
  const subnets = (text: string, message: string) =>
    refuses(
      t,
      `${network}spec: {subnets: [${text}]}`,
      new RegExp(`^net.yaml:5:\\d+: spec.subnets(\\[\\d\\])?: ${message}`),
    );
  subnets('', 'a network has at least one subnet');
  subnets('10.0.0.0/24, "fd00::/64", 10.1.0.0/24', 'a network has at most one IPv4 and one IPv6 subnet');
  subnets('"fd77:6566:7430::/64"', '"fd77:6566:7430::/64" has addresses that are weft’s own link to its host: ');
  subnets('10.0.0.0/24, 10.1.0.0/24', '"10.1.0.0/24" is the second IPv4 subnet');
  subnets('"fd00::/64", "fd01::/64"', '"fd01::/64" is the second IPv6 subnet');
  subnets('10.0.0.5/24', '"10.0.0.5/24" has host bits set, did you mean 10.0.0.0/24\\?');
  subnets('"fd00::1/64"', '"fd00::1/64" has host bits set, did you mean fd00::/64\\?');
  subnets('10.0.0.0/7', '"10.0.0.0/7" has prefix length 7: accepted are 8 to 30');
  subnets('10.0.0.0/31', '"10.0.0.0/31" has prefix length 31: accepted are 8 to 30');
  subnets('"fd00::/127"', '"fd00::/127" has prefix length 127: accepted are 32 to 126');
  subnets('0.0.0.0/0', '"0.0.0.0/0" has prefix length 0');
  subnets('"::/0"', '"::/0" has prefix length 0');
  subnets('0.0.0.0/8', '"0.0.0.0/8" has addresses that are unspecified');
  subnets('127.0.0.0/24', '"127.0.0.0/24" has addresses that are loopback');
  subnets('169.0.0.0/8', '"169.0.0.0/8" has addresses that are link-local');
  subnets('239.1.2.0/24', '"239.1.2.0/24" has addresses that are multicast');
  subnets('250.0.0.0/8', '"250.0.0.0/8" has addresses that are reserved');
  subnets('"fe80::/64"', '"fe80::/64" has addresses that are link-local');
  subnets('"ff02::/64"', '"ff02::/64" has addresses that are multicast');
  subnets('"::/64"', '"::/64" has addresses that are unspecified');
  subnets('"::ffff:10.0.0.0/120"', '"::ffff:10.0.0.0/120" is IPv4-mapped: write it as an IPv4 subnet');
  for (const text of [
    '10.0.0.0',
    '10.0.0/24',
    '010.0.0.0/24',
    '10.0.0.0/024',
    '10.0.0.0/24/24',
    '"fd00::%eth0/64"',
    'x',
  ]) {
    subnets(text, '.* is not a subnet like 10.0.0.0/24 or fd00::/64');
  }
});

t.test('routes lead somewhere, and say so in one way', async (t) => {
  const spec = (routes: string): string =>
    `${network}spec:\n  subnets: [10.0.0.0/24, "fd00::/64"]\n  routes: [${routes}]\n`;
  const refused = (route: string, message: RegExp) => refuses(t, spec(route), message);
  const [parsed] = parseManifests(
    spec('{ to: 10.1.0.0/16, network: red }, { to: 0.0.0.0/0, via: [10.0.0.7] }, { to: "FD09::/16", type: blackhole }'),
    'x',
  );
  t.match(parsed?.spec, {
    routes: [{ to: '10.1.0.0/16' }, { to: '0.0.0.0/0', via: ['10.0.0.7'] }, { to: 'fd09::/16', type: 'blackhole' }],
  });
  t.match(parseManifests(spec('{ to: 192.0.2.1, network: red }'), 'x')[0]?.spec, { routes: [{ to: '192.0.2.1/32' }] });
  refused('{ to: 10.1.0.0/16 }', /spec.routes\[0\]: "10.1.0.0\/16" is not accepted: give the network that it leads to/);
  refused('{ to: 10.1.0.0/16, network: red, type: prohibit }', /a prohibit route has no network/);
  refused('{ to: 10.1.0.1/16, network: red }', /has host bits set, did you mean 10.1.0.0\/16\?/);
  refused('{ to: 10.1.0.0/33, network: red }', /has prefix length 33: accepted are 0 to 32/);
  refused('{ to: everywhere, network: red }', /is not a destination like/);
  refused('{ to: 10.0.0.128/25, network: red }', /is within a subnet of the network itself/);
  refused('{ to: 10.1.0.0/16, via: [10.2.0.1] }', /spec.routes\[0\].via\[0\]: "10.2.0.1" is outside the subnets/);
  refused('{ to: 10.1.0.0/16, via: ["fd00::7"] }', /is not of the family of 10.1.0.0\/16/);
  refused('{ to: 10.1.0.0/16, via: [] }', /at least one next hop/);
  refused('{ to: 10.1.0.0/16, network: a }, { to: 10.1.0.0/16, network: b }', /"10.1.0.0\/16" has a route already/);
  refused('{ to: 10.1.0.0/16, metric: 5 }', /spec.routes\[0\].metric is not supported here/);
});

t.test('MTU and ranges go with the subnets', async (t) => {
  const spec = (rest: string) => `${network}spec:\n  subnets: [10.0.0.0/24, 'fd00::/64']\n  ${rest}\n`;
  refuses(t, spec('mtu: 1279'), '7:8: spec.mtu: 1279 is not accepted: with an IPv6 subnet an MTU is 1280 to 9000');
  t.equal(parseManifests(spec('mtu: 1280'), 'x').length, 1);
  t.equal(parseManifests(`${network}spec: {subnets: [10.0.0.0/24], mtu: 576}`, 'x').length, 1);
  t.equal(parseManifests(spec('ranges: [10.0.0.2-10.0.0.2, "fd00::10-fd00::1f"]'), 'x').length, 1);
  const ranges = (text: string, message: RegExp) => refuses(t, spec(`ranges: [${text}]`), message);
  ranges(
    '10.0.1.1-10.0.1.9',
    /7:12: spec.ranges\[0\]: "10.0.1.1-10.0.1.9" is not within a subnet of the network \(10.0.0.0\/24, fd00::\/64\)/,
  );
  ranges('10.0.0.200-10.0.1.9', /is not within a subnet/);
  ranges('10.0.0.9-10.0.0.1', /the first not above the last/);
  ranges('"10.0.0.9-fd00::1"', /both ends are of one family/);
  ranges('10.0.0.9', /is not a range like/);
  ranges('10.0.0.0-10.0.0.1', /has no address for a container/);
  ranges('10.0.0.255-10.0.0.255', /has no address for a container/);
  ranges('"fd00::-fd00::1"', /has no address for a container/);
  ranges(
    '10.0.0.10-10.0.0.19, 10.0.0.20-10.0.0.29',
    /7:33: spec.ranges\[1\]: "10.0.0.20-10.0.0.29" is the second range of 10.0.0.0\/24/,
  );
});

t.test('endpoints and hosts', async (t) => {
  const spec = (fields: string, message: RegExp) => refuses(t, `${endpoint}spec: {network: blue, ${fields}}`, message);
  spec('', /4:7: spec: give exactly one of netns, pid and host$/);
  spec('netns: web, pid: 1', /spec: give exactly one of netns, pid and host$/);
  spec('host: right', /spec: an endpoint of another host needs its mac and addresses$/);
  spec('netns: ""', /spec.netns: "" is not accepted: a network namespace is a name or a path$/);
  spec('pid: init', /spec.pid: "init" is not accepted: a pid is a positive whole number$/);
  spec('pid: 0', /spec.pid: 0 is not accepted: a pid is a positive whole number$/);
  spec(
    'pid: 1, addresses: [10.0.0.1, "fd00::1", "::ffff:10.0.0.1"]',
    /spec.addresses\[2\]: "10.0.0.1" is given twice$/,
  );
  spec('pid: 1, addresses: [10.0.0.300]', /spec.addresses\[0\]: "10.0.0.300" is not an IPv4 or IPv6 address$/);
  spec('pid: 1, addresses: ["fe80::1%eth0"]', /is not an IPv4 or IPv6 address$/);
  spec(
    'pid: 1, mac: "01:00:5e:00:00:01"',
    /spec.mac: "01:00:5e:00:00:01" is a group or zero address: a port needs a unicast one$/,
  );
  spec('pid: 1, mac: "02:00"', /spec.mac: "02:00" is not a MAC address like 02:00:00:00:00:01$/);
  spec(
    'pid: 1, interface: a-very-long-name',
    /spec.interface: "a-very-long-name" is not accepted: an interface name has 1 to 15 characters/,
  );
  for (const reserved of ['lo', 'all', 'default']) {
    spec(`pid: 1, interface: ${reserved}`, /spec.interface: ".*" is not accepted: this interface name is reserved$/);
  }
  // What no kernel takes, or takes as another name, would be declared and wait for ever.
  for (const impossible of ['eth%d', 'a/b', 'a\\0b', 'a\\tb', 'a\\x01b', 'é'.repeat(8), '']) {
    spec(`pid: 1, interface: "${impossible}"`, /spec.interface: .* is not accepted: an interface name has 1 to 15/);
  }
  spec('pid: 1, trust: yes', /spec.trust: "yes" is not accepted: true or false is expected$/);
  spec(
    'pid: 1, allowedAddresses: [224.0.0.1]',
    /spec.allowedAddresses\[0\]: "224.0.0.1" is multicast: a unicast address is accepted$/,
  );
  spec(
    `pid: 1, allowedAddresses: ["${transit.ip6.weft}"]`,
    /spec.allowedAddresses\[0\]: "fd77:6566:7430::2" is weft’s own link to its host: a unicast address is accepted$/,
  );
  spec(
    'pid: 1, allowedEtherTypes: [0x0800]',
    /spec.allowedEtherTypes\[0\]: 2048 is not accepted: 0x0800 is IPv4, which is always accepted and checked$/,
  );
  spec('pid: 1, allowedEtherTypes: ["0x8100"]', /"0x8100" is a VLAN tag, which no network carries$/);
  for (const type of ['46', '0x10000', '"rarp"', '1.5']) {
    spec(`pid: 1, allowedEtherTypes: [${type}]`, /is not an EtherType: 0x0600 to 0xffff$/);
  }
  spec('pid: 1, allowedAddresses: [169.254.77.2]', /spec.allowedAddresses\[0\]: "169.254.77.2" is link-local/);
  for (const underlay of ['0.0.0.0', '"::"', '224.0.0.1', '"ff02::1"', '"fe80::1"', '255.255.255.255']) {
    refuses(
      t,
      `${host}spec: {underlay: ${underlay}}`,
      /4:18: spec.underlay: ".*" is [a-z-]+: a unicast address is accepted$/,
    );
  }
});

t.test('named ports', async (t) => {
  const ports = (list: string) => `${endpoint}spec:\n  network: blue\n  netns: web\n  ports: ${list}\n`;
  const [web] = parseManifests(
    ports('[{name: http, port: 8080}, {name: x-2dns, port: 53, protocol: UDP}]'),
    'net.yaml',
  );
  t.match(web?.spec, {
    ports: [
      { name: 'http', port: 8080, protocol: 'TCP' },
      { name: 'x-2dns', port: 53, protocol: 'UDP' },
    ],
  });
  refuses(t, ports('[{name: "", port: 80}]'), /spec.ports\[0\].name: "" is not accepted: a port name has 1 to 15/);
  const accepted =
    'a port name has 1 to 15 lower-case letters, digits and single "-", at least one letter, and a letter or';
  for (const name of ['80', 'Http', '-http', 'http-', 'a--b', 'a_b', 'a-name-too-long1']) {
    refuses(
      t,
      ports(`[{name: "${name}", port: 80}]`),
      `7:18: spec.ports[0].name: "${name}" is not accepted: ${accepted} digit at both ends`,
    );
  }
  refuses(t, ports('[{port: 80}]'), '7:11: spec.ports[0].name is missing: text (in quotes) is expected');
  refuses(t, ports('[{name: a, port: 0}]'), '7:27: spec.ports[0].port: 0 is not accepted: a port is 1 to 65535');
  refuses(
    t,
    ports('[{name: a, port: 1, protocol: SCTP}]'),
    '7:40: spec.ports[0].protocol: "SCTP" is not accepted: accepted are "TCP", "UDP"',
  );
  refuses(
    t,
    ports('[{name: a, port: 1}, {name: a, port: 1, protocol: UDP}]'),
    '7:31: spec.ports[1]: the name "a" is given twice: each port has a name of its own',
  );
});

t.test('published ports', async (t) => {
  const [web] = parseManifests(
    `${endpoint}spec:
  network: blue
  netns: web
  publish:
    - { hostPort: 8080, port: 80 }
    - { hostPort: 8080, port: 80, protocol: UDP, hostIP: '2001:DB8::1' }
    - { hostPort: 8080, port: 81, protocol: UDP, hostIP: 0.0.0.0 }
    - { hostPort: 4789, port: 4789 }
`,
    'net.yaml',
  );
  t.match(web?.spec, {
    publish: [
      { hostPort: 8080, port: 80, protocol: 'TCP', hostIP: undefined },
      { hostPort: 8080, port: 80, protocol: 'UDP', hostIP: '2001:db8::1' },
      { hostPort: 8080, port: 81, protocol: 'UDP', hostIP: '0.0.0.0' },
      { hostPort: 4789, port: 4789, protocol: 'TCP' },
    ],
  });
  const publish = (list: string, message: string | RegExp, place = 'netns: web') =>
    refuses(t, `${endpoint}spec:\n  network: blue\n  ${place}\n  publish: ${list}\n`, message);
  publish('[{port: 80}]', '7:13: spec.publish[0].hostPort is missing: a port is expected');
  publish('[{hostPort: 0, port: 80}]', '7:24: spec.publish[0].hostPort: 0 is not accepted: a port is 1 to 65535');
  publish(
    '[{hostPort: 80, port: 80, protocol: tcp}]',
    '7:48: spec.publish[0].protocol: "tcp" is not accepted: accepted are "TCP", "UDP"',
  );
  publish(
    '[{hostPort: 80, port: 80, hostIP: "::1"}]',
    /hostIP: "::1" is loopback: an address that other machines reach this host at is accepted$/,
  );
  publish(
    `[{hostPort: 80, port: 80, hostIP: "${transit.ip6.host}"}]`,
    /hostIP: "fd77:6566:7430::1" is weft’s own link to its host: an address that other machines reach this host at/,
  );
  publish(
    '[{hostPort: 80, port: 80, name: http}]',
    '7:38: spec.publish[0].name is not supported here: accepted are hostPort, port, protocol, hostIP',
  );
  publish(
    '[{hostPort: 4789, port: 80, protocol: UDP}]',
    '7:24: spec.publish[0].hostPort: 4789/udp is where hosts send VXLAN: choose another port',
  );
  publish(
    '[{hostPort: 80, port: 80}, {hostPort: 80, port: 81, hostIP: 192.0.2.1}]',
    '7:39: spec.publish[1]: "80/tcp" is published twice',
  );
  refuses(
    t,
    `${network}spec: {subnets: [10.0.0.0/24], outside: 1}`,
    '5:41: spec.outside: 1 is not accepted: true or false is expected',
  );
});

t.test('over the API the same lines come without a place', async (t) => {
  const value = {
    apiVersion: 'weft.dev/v1',
    kind: 'Network',
    metadata: { name: 'blue' },
    spec: { subnets: ['10.0.0.0/24'] },
  };
  t.match(parseResource({ ...value, status: 1 }), { kind: 'Network', spec: { ranges: [] } });
  const message = (given: unknown) => messageOf(() => parseResource(given));
  t.equal(
    message({ ...value, spec: { ...value.spec, vni: 0 } }),
    'spec.vni: 0 is not accepted: a VNI is 1 to 16777214',
  );
  t.equal(
    message({ ...value, spec: { ...value.spec, x: 0 } }),
    'spec.x is not supported here: accepted are subnets, vni, mtu, ranges, routes, outside',
  );
  t.equal(
    message({ ...value, kind: 'Pod' }),
    'kind: "Pod" is not accepted: accepted are "Namespace", "Network", "Host", "Hook", "ClusterNetworkPolicy", "NetworkPolicy", "Endpoint", "Service", "EndpointSlice", "DestinationRule", "VirtualService", "PolicyTest"',
  );
  for (const given of [null, undefined, 5, 'x', []]) t.match(message(given), /a map of fields is expected$/);
});

t.test('JSON Schema of all resources and reports', async (t) => {
  const { resources, reports } = jsonSchemas();
  t.same(Object.keys(resources), [
    ...['Namespace', 'Network', 'Host', 'Hook', 'ClusterNetworkPolicy', 'NetworkPolicy', 'Endpoint'],
    ...['Service', 'EndpointSlice', 'DestinationRule', 'VirtualService', 'PolicyTest'],
  ]);
  t.match(resources['Network'], { required: ['apiVersion', 'kind', 'metadata', 'spec'], additionalProperties: false });
  t.match(resources['Network'], { properties: { spec: { properties: { vni: { minimum: 1, maximum: 16_777_214 } } } } });
  t.match(reports['status'], {
    type: 'object',
    properties: { datapath: { properties: { drops: { type: 'object' } } } },
  });
  t.match(reports['endpoint'], { properties: { state: { enum: ['attached', 'waiting', 'detached', 'remote'] } } });
});
