/** Service and EndpointSlice: what Kubernetes accepts is accepted, and what it refuses is refused with its words. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { resourceHeads, resourceRow } from '../../src/cli/resource-table.ts';
import { jsonSchemas } from '../../src/model/json-schema.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { parseManifests, parseResource } from '../../src/model/manifest.ts';
import { readAnnotations } from '../../src/model/service-annotations.ts';

const service = (spec: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', ...metadata },
  spec: { ports: [{ port: 80 }], ...spec },
});
const slice = (fields: object, metadata: object = {}) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', ...metadata },
  addressType: 'IPv4',
  endpoints: [{ addresses: ['10.0.0.1'] }],
  ...fields,
});
const problemOf = (value: unknown, parse: (value: unknown) => unknown = parseResource): string => {
  try {
    parse(value);
    return 'accepted';
  } catch (error) {
    return (error as Error).message;
  }
};
/** The documents of a file. */
const documentsOf = (name: string): string[] =>
  readFileSync(new URL(`kubernetes/${name}.yaml`, import.meta.url), 'utf8').split(/^---$/m);

t.test('the examples of the documentation of Kubernetes are accepted as they are', async (t) => {
  const all = [...documentsOf('services'), ...documentsOf('endpoint-slices')];
  t.equal(all.length, 22);
  for (const document of all) {
    for (const one of parseManifests(document, 'f'))
      t.same(parseResource(JSON.parse(JSON.stringify(one))), one, 'and parse to the same');
  }
});

t.test('a service is reached from outside where its type says so', async (t) => {
  const types = 'accepted are "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"';
  t.equal(problemOf(service({ type: 'Ingress' })), `spec.type: "Ingress" is not accepted: ${types}`);
  const given = (type: string, ip: string) => problemOf(service({ type, loadBalancerIP: ip }));
  for (const ip of ['192.0.2.1', '10.1.2.3', '2001:db8::1']) t.equal(given('LoadBalancer', ip), 'accepted');
  for (const [ip, what] of [
    ['127.0.0.1', 'loopback'],
    ['169.254.77.2', 'link-local'],
    ['ff02::1', 'multicast'],
    ['fd77:6566:7430::2', 'weft’s own link to its host'],
  ] as const) {
    const message = `"${ip}" is ${what}: an address that clients outside reach is accepted`;
    t.equal(given('LoadBalancer', ip), `spec.loadBalancerIP: ${message}`);
    const annotations = { 'weft.dev/load-balancer-ips': ip };
    t.match(
      problemOf(service({ type: 'LoadBalancer' }, { annotations })),
      `${message}; there may be one of each family`,
    );
  }
  t.equal(
    problemOf(service({ type: 'LoadBalancer', allocateLoadBalancerNodePorts: false })),
    'spec.allocateLoadBalancerNodePorts: false is not accepted: the addresses of a service lead to its node ports, without which nobody comes in',
  );
  t.equal(problemOf(service({ type: 'LoadBalancer', allocateLoadBalancerNodePorts: true })), 'accepted');
  const overlay = { type: 'LoadBalancer', ports: [{ port: 4789, protocol: 'UDP' }] };
  t.equal(problemOf(service(overlay)), 'accepted', 'within the cluster, and at a node port');
  t.match(
    problemOf(service({ ...overlay, loadBalancerIP: '192.0.2.1' })),
    /^spec.ports\[0\].port: 4789\/udp is where hosts send VXLAN/,
  );
});

t.test('a Service is refused with the words of Kubernetes', async (t) => {
  for (const [spec, message] of [
    [{ ports: [] }, 'spec.ports is missing: give at least one port'],
    [
      { type: 'LoadBalancer', clusterIP: 'None' },
      `spec.clusterIP: "None" is not accepted: may not be set to 'None' for LoadBalancer services`,
    ],
    [
      { type: 'NodePort', clusterIP: 'None' },
      `spec.clusterIP: "None" is not accepted: may not be set to 'None' for NodePort services`,
    ],
    [
      { type: 'ExternalName', externalName: 'a.example', clusterIP: '10.96.0.1' },
      'spec.clusterIP: "10.96.0.1" is not accepted: may not be set for ExternalName services',
    ],
    [{ type: 'ExternalName' }, 'spec.externalName is missing: the name that it stands for is expected'],
    [{ type: 'ExternalName', externalName: 'a_b' }, /^spec.externalName: "a_b" is not a DNS subdomain: /],
    [
      { ports: [{ port: 80 }, { port: 81, name: 'b' }] },
      'spec.ports[0].name is missing: of several ports, each has a name',
    ],
    [
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 81, name: 'a' },
        ],
      },
      'spec.ports[1].name: "a" is given twice',
    ],
    [
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 80, name: 'b' },
        ],
      },
      'spec.ports[1]: 80 is not accepted: port 80/tcp is given twice',
    ],
    [
      { ports: [{ port: 80, protocol: 'SCTP' }] },
      /SCTP" is not accepted: weft does not carry SCTP: accepted are "TCP", "UDP"$/,
    ],
    [{ ports: [{ port: 0 }] }, 'spec.ports[0].port: 0 is not accepted: a port is 1 to 65535'],
    [{ ports: [{ port: 80, targetPort: 'a--b' }] }, /^spec.ports\[0\].targetPort: "a--b" is not accepted: /],
    [
      { ports: [{ port: 80, nodePort: 30_007 }] },
      "spec.ports[0].nodePort: 30007 is not accepted: may not be used when `type` is 'ClusterIP'",
    ],
    [
      { type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] },
      'spec.ports[0].nodePort: 80 is not accepted: provided port is not in the valid range. The range of valid ports is 30000-32767',
    ],
    [{ clusterIP: '10.96.0' }, `spec.clusterIP: "10.96.0" must be empty, 'None', or a valid IP address`],
    [{ clusterIPs: ['10.96.0.1'] }, 'spec.clusterIPs: must be empty when `clusterIP` is not specified'],
    [
      { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.1'] },
      'spec.clusterIPs: first value must match `clusterIP` (10.96.0.2)',
    ],
    [
      { clusterIP: 'None', clusterIPs: ['None', 'fd77:6566:7460::5'] },
      "spec.clusterIPs: 'None' must be the first and only value",
    ],
    [
      { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', '10.96.0.2'], ipFamilyPolicy: 'PreferDualStack' },
      'spec.clusterIPs: may specify no more than one IP for each IP family',
    ],
    [
      { clusterIP: '10.96.0.1', ipFamilies: ['IPv6'] },
      'spec.clusterIPs[0]: "10.96.0.1" is not accepted: expected an IPv6 value as indicated by `ipFamilies[0]`',
    ],
    [{ ipFamilies: ['IPv4', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' }, 'spec.ipFamilies[1]: "IPv4" is given twice'],
    [
      { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'SingleStack' },
      `spec.ipFamilyPolicy: "SingleStack" is not accepted: must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified`,
    ],
    [
      { sessionAffinityConfig: { clientIP: { timeoutSeconds: 5 } } },
      'spec.sessionAffinityConfig: must not be set when session affinity is None',
    ],
    [
      { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } } },
      /timeoutSeconds: 86401 is not accepted: must be greater than 0 and at most 86400 seconds$/,
    ],
    [
      { externalTrafficPolicy: 'Local' },
      'spec.externalTrafficPolicy: "Local" is not accepted: may only be set for externally-accessible services',
    ],
    [
      { loadBalancerIP: '192.0.2.1' },
      `spec.loadBalancerIP: "192.0.2.1" is not accepted: may only be used when \`type\` is 'LoadBalancer'`,
    ],
    [{ trafficDistribution: 'Near' }, /accepted are "PreferSameNode", "PreferSameZone", "PreferClose"$/],
  ] as const) {
    const found = problemOf(service(spec));
    if (typeof message === 'string') t.equal(found, message);
    else t.match(found, message);
  }
  t.match(
    problemOf(service({}, { name: '1web' })),
    /^metadata.name: "1web" is not a name of a Service: .* a letter first/,
  );
});

t.test('what Kubernetes has and weft does not is refused by its name', async (t) => {
  for (const [field, value] of Object.entries({
    externalIPs: ['192.0.2.1'],
    loadBalancerSourceRanges: ['192.0.2.0/24'],
    loadBalancerClass: 'internal',
    healthCheckNodePort: 30_100,
  })) {
    t.match(
      problemOf(service({ type: 'LoadBalancer', [field]: value })),
      new RegExp(
        `^spec.${field} is not supported here: .*; accepted are type, selector, .*, allocateLoadBalancerNodePorts$`,
      ),
    );
  }
  t.match(
    problemOf(service({ externalIPs: ['192.0.2.1'] })),
    /CVE-2020-8554.*use type LoadBalancer with loadBalancerIP/,
  );
  t.match(problemOf(service({}, { finalizers: [] })), /^metadata.finalizers is not supported here: it is for/);
  t.match(
    problemOf(service({}, { uid: 'x' })),
    /^metadata.uid is not supported here: an API server writes it, leave it out; accepted are name/,
  );
  t.match(
    problemOf(slice({ endpoints: [{ addresses: ['10.0.0.1'], deprecatedTopology: {} }] })),
    /^endpoints\[0\].deprecatedTopology is not supported here: write nodeName and zone/,
  );
  t.match(problemOf(service({ selectors: {} })), /^spec.selectors is not supported here, did you mean "selector"\?/);
});

t.test('weft’s own annotations are read, and others mean nothing', async (t) => {
  const annotations = {
    'weft.dev/ports': '5060-5160, 7000/udp',
    'weft.dev/drain': '1m30s',
    'weft.dev/balancing': 'least-connections',
    'weft.dev/wildcard': 'true',
    'example.com/anything': 'x',
  };
  t.equal(problemOf(service({}, { annotations })), 'accepted');
  t.same(readAnnotations(annotations), {
    ranges: [
      { first: 5060, last: 5160, protocol: undefined },
      { first: 7000, last: 7000, protocol: 'UDP' },
    ],
    drainMs: 90_000,
    balancing: 'least-connections',
    hasWildcard: true,
    loadBalancerIps: [],
  });
  for (const [key, text, message] of [
    ['ports', '5160-5060', /"5160-5060" is not a range of ports like 5060-5160/],
    ['ports', '1-5,5/udp', /"1-5,5\/udp" has ranges that overlap$/],
    ['ports', '1-70000', /is not a range of ports/],
    ['drain', '30', /"30" is not a duration: a time to drain is 0s to 24h, such as 500ms, 30s or 1h30m$/],
    ['drain', '25h', /"25h" is out of range: a time to drain is 0s to 24h/],
    ['balancing', 'meglev', /"meglev" is not a way of balancing, did you mean "maglev"\? accepted are maglev, round-/],
    ['wildcard', 'yes', /accepted are "true", "false"$/],
    ['load-balancer-ips', '192.0.2.1', /may only be used when `type` is 'LoadBalancer'$/],
    ['drian', '5s', /"weft.dev\/drian" is no annotation of weft, did you mean "weft.dev\/drain"\? accepted are weft/],
    ['healthcheck-interval', '5s', /no annotation of weft, did you mean "weft.dev\/health-check-interval"\?/],
  ] as const) {
    const found = problemOf(service({}, { annotations: { [`weft.dev/${key}`]: text } }));
    t.match(found, message);
    t.match(found, `metadata.annotations["weft.dev/${key}"]: `);
  }
  for (const spec of [{ clusterIP: 'None' }, { type: 'ExternalName', externalName: 'a.example' }]) {
    const balancing = { 'weft.dev/balancing': 'random' };
    t.equal(
      problemOf(service(spec, { annotations: balancing })),
      'metadata.annotations["weft.dev/balancing"]: "random" is not accepted: without an address, it has no effect',
    );
    t.equal(problemOf(service(spec, { annotations: { 'weft.dev/wildcard': 'true' } })), 'accepted');
  }
  const checked = { 'weft.dev/health-check': 'tcp' };
  t.equal(problemOf(service({}, { annotations: checked })), 'accepted');
  t.match(problemOf(service({ clusterIP: 'None' }, { annotations: checked })), /without an address, it has no effect$/);
  const names = { ports: [{ port: 53, protocol: 'UDP' }] };
  t.match(
    problemOf(service(names, { annotations: checked })),
    /there is no TCP port: give weft.dev\/health-check-port$/,
  );
  t.equal(problemOf(service(names, { annotations: { ...checked, 'weft.dev/health-check-port': '80' } })), 'accepted');
  t.match(
    problemOf(service({}, { annotations: { 'weft.dev/health-check-path': '/up' } })),
    /without weft.dev\/health-check, which is tcp or http$/,
  );
  t.match(
    problemOf(service({}, { annotations: { 'weft.dev/healthcheck': 'tcp' } })),
    /did you mean "weft.dev\/health-check"/,
  );
  const twice = { 'weft.dev/load-balancer-ips': '192.0.2.1,192.0.2.2' };
  t.match(
    problemOf(service({ type: 'LoadBalancer' }, { annotations: twice })),
    /may specify no more than one IP for each IP family$/,
  );
});

t.test('an EndpointSlice says which addresses, of one family', async (t) => {
  t.equal(problemOf(slice({ endpoints: undefined, ports: null })), 'accepted');
  t.equal(
    problemOf(slice({ endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready: null }, hints: null }] })),
    'accepted',
    'null is as if it were not there',
  );
  t.equal(problemOf(slice({}, { name: 'example.com-1' })), 'accepted', 'a name has dots');
  t.equal(
    problemOf(slice({}, { annotations: { 'example.com/a': 'b' } })),
    'accepted',
    'annotations of others are kept',
  );
  t.equal(
    problemOf(slice({}, { annotations: { 'weft.dev/drain': '3s' } })),
    'metadata.annotations["weft.dev/drain"]: "3s" is not accepted: "weft.dev/drain" has no effect here: write it in the Service',
  );
  for (const [fields, message] of [
    [
      { addressType: 'FQDN' },
      'addressType: "FQDN" is not accepted: weft does not support names as addresses: accepted are "IPv4", "IPv6"',
    ],
    [{ addressType: 'IPv6' }, 'endpoints[0].addresses[0]: "10.0.0.1" is not accepted: must be an IPv6 address'],
    [{ endpoints: [{ addresses: [] }] }, 'endpoints[0].addresses: must contain at least 1 address'],
    [
      { endpoints: [{ addresses: ['127.0.0.1'] }] },
      'endpoints[0].addresses[0]: "127.0.0.1" is not accepted: may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ],
    [{ endpoints: [{ addresses: ['169.254.0.1'] }] }, /"169.254.0.1" is link-local: a unicast address is accepted$/],
    [{ ports: [{ port: 80 }, { port: 81 }] }, 'ports[1].name: "" is given twice'],
    [{ ports: [{ name: 'a', port: 80, protocol: 'SCTP' }] }, /weft does not carry SCTP/],
    [{ ports: [{ name: 'a' }] }, 'ports[0].port is missing: a port is expected'],
    [{ spec: {} }, /^spec is not supported here/],
  ] as const) {
    const found = problemOf(slice(fields));
    if (typeof message === 'string') t.equal(found, message);
    else t.match(found, message);
  }
  const labels = { 'endpointslice.kubernetes.io/managed-by': 'weft.dev' };
  t.match(problemOf(slice({}, { labels })), /weft makes such a slice itself: leave it out$/);
});

t.test('they are shown as kubectl shows them', async (t) => {
  const kind = findKind('svc')!;
  t.same(resourceHeads(kind), ['NAME', 'NAMESPACE', 'TYPE', 'CLUSTER-IP', 'EXTERNAL-IP', 'PORT(S)', 'LABELS']);
  const row = (spec: object, metadata?: object) =>
    resourceRow(kind, parseResource(service(spec, metadata)), true).slice(2);
  const ports = [
    { name: 'a', port: 80, nodePort: 30_007 },
    { name: 'b', port: 53, protocol: 'UDP' },
  ];
  t.same(row({ clusterIP: '10.96.0.5', selector: { app: 'web', tier: 'a' } }), [
    ...['ClusterIP', '10.96.0.5', '<none>', '80/TCP', 'app=web,tier=a', ''],
  ]);
  t.same(row({ type: 'LoadBalancer', clusterIP: '10.96.0.5', ports }), [
    ...['LoadBalancer', '10.96.0.5', '<pending>', '80:30007/TCP,53/UDP', '<none>', ''],
  ]);
  const annotations = { 'weft.dev/load-balancer-ips': '192.0.2.1,2001:DB8::1', 'weft.dev/ports': '90-99' };
  const balanced = service({ type: 'LoadBalancer' }, { annotations });
  t.same(row(balanced.spec, { annotations }).slice(2, 4), ['192.0.2.1,2001:db8::1', '80/TCP,90-99/TCP']);
  const shown = { ...parseResource(balanced), status: { nodePorts: ['31000-31009'] } };
  t.equal(resourceRow(kind, shown)[5], '80/TCP,90-99:31000-31009/TCP');
  const further = { 'weft.dev/ports': '9000,79-81,54/tcp' };
  t.equal(
    row(
      {
        clusterIP: '10.96.0.5',
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 53, protocol: 'UDP' },
        ],
      },
      { annotations: further },
    )[3],
    '80/TCP,53/UDP,9000/TCP,9000/UDP,79/TCP,81/TCP,79-81/UDP,54/TCP',
    'as `weft services` shows them: without those that are declared',
  );
  t.same(row({ type: 'ExternalName', externalName: 'a.example', ports: [] }), [
    ...['ExternalName', '<none>', 'a.example', '<none>', '<none>', ''],
  ]);
  const endpoints = ['1', '2', '3', '4'].map((n) => ({ addresses: [`10.0.0.${n}`] }));
  t.same(
    resourceRow(findKind('endpointslices')!, parseResource(slice({ endpoints, ports: [{ port: 80 }] }))).slice(2),
    [...['IPv4', '80', '10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...', '']],
  );
  t.ok('Service' in jsonSchemas().resources && 'EndpointSlice' in jsonSchemas().resources);
});
