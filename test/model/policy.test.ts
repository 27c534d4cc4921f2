/** NetworkPolicy and ClusterNetworkPolicy: what their specifications accept is accepted, what they refuse is refused, by name. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { resourceHeads, resourceRow } from '../../src/cli/resource-table.ts';
import { jsonSchemas } from '../../src/model/json-schema.ts';
import { directionsOf, type NetworkPolicyResource } from '../../src/model/kinds/network-policy.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { labelSelector, labelSelectorText, requirementsOf } from '../../src/model/kinds/label-selector.ts';
import { parseManifests, parseResource } from '../../src/model/manifest.ts';
import { matchesLabels } from '../../src/labels.ts';

const policy = (spec: object, metadata: object = {}) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'web', ...metadata },
  spec: { podSelector: {}, ...spec },
});
const cluster = (spec: object, metadata: object = {}) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name: 'web', ...metadata },
  spec: { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ...spec },
});
const problemOf = (value: unknown): string => {
  try {
    parseResource(value);
    return 'accepted';
  } catch (error) {
    return (error as Error).message;
  }
};
const documentsOf = (name: string): string[] =>
  readFileSync(new URL(`kubernetes/${name}.yaml`, import.meta.url), 'utf8').split(/^---$/m);

t.test('policies of the shapes that the documentation of Kubernetes shows are accepted as they are', async (t) => {
  const all = [...documentsOf('network-policies'), ...documentsOf('cluster-network-policies')];
  t.equal(all.length, 17);
  for (const document of all) {
    for (const one of parseManifests(document, 'f'))
      t.same(parseResource(JSON.parse(JSON.stringify(one))), one, 'and parse to the same');
  }
});

t.test('a NetworkPolicy is refused with the words of Kubernetes', async (t) => {
  const from = (peer: object) => policy({ ingress: [{ from: [peer] }] });
  const ports = (port: object) => policy({ egress: [{ ports: [port] }] });
  const at = 'spec.ingress[0].from[0]';
  const port = 'spec.egress[0].ports[0]';
  for (const [value, message] of [
    [from({}), `${at}: must specify a peer: give podSelector, namespaceSelector, both of them, or ipBlock`],
    [
      from({ podSelector: null }),
      `${at}: must specify a peer: give podSelector, namespaceSelector, both of them, or ipBlock`,
    ],
    [
      from({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }),
      `${at}.ipBlock: may not specify both ipBlock and another peer`,
    ],
    [
      from({ ipBlock: { cidr: '10.0.0.1' } }),
      `${at}.ipBlock.cidr: "10.0.0.1" has no prefix length, did you mean 10.0.0.1/32?`,
    ],
    [from({ ipBlock: { cidr: 'ten' } }), /ipBlock.cidr: "ten" is not a CIDR like 10.0.0.0\/8/],
    [
      from({ ipBlock: { cidr: '10.0.0.0/33' } }),
      `${at}.ipBlock.cidr: "10.0.0.0/33" has prefix length 33: accepted are 0 to 32`,
    ],
    [from({ ipBlock: { cidr: '::ffff:10.0.0.0/104' } }), /is IPv4-mapped: write it as an IPv4 CIDR/],
    [
      from({ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.1.0/25'] } }),
      `${at}.ipBlock.except[0]: "10.0.1.0/25" must be a strict subset of \`cidr\`, which is 10.0.0.0/24`,
    ],
    [from({ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.0.0/24'] } }), /must be a strict subset/],
    [from({ ipBlock: { cidr: '::/0', except: ['10.0.0.0/24'] } }), /must be a strict subset/],
    [
      from({ serviceAccountSelector: {} }),
      `${at}.serviceAccountSelector is not supported here: accepted are podSelector, namespaceSelector, ipBlock`,
    ],
    [
      from({ podSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }),
      /operator: "Is" is not a valid selector operator: accepted are In, NotIn, Exists, DoesNotExist/,
    ],
    [
      from({ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }),
      /matchExpressions\[0\].values: must be specified when `operator` is 'In' or 'NotIn'/,
    ],
    [from({ podSelector: { matchExpressions: [{ key: 'a', operator: 'NotIn', values: [] }] } }), /must be specified/],
    [
      from({ podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }),
      /values: may not be specified when `operator` is 'Exists' or 'DoesNotExist'/,
    ],
    [from({ podSelector: { matchLabels: { 'a b': 'c' } } }), /is not a label key/],
    [from({ podSelector: { matchLabel: { a: 'c' } } }), /matchLabel is not supported here, did you mean "matchLabels"/],
    [policy({ ingress: [{ to: [] }] }), /ingress\[0\].to is not supported here: an ingress rule says who may come in/],
    [policy({ egress: [{ from: [] }] }), /egress\[0\].from is not supported here: an egress rule says where to/],
    [
      policy({ policyTypes: ['ingress'] }),
      'spec.policyTypes[0]: "ingress" is not accepted: accepted are "Ingress", "Egress"',
    ],
    [policy({ policyTypes: ['Ingress', 'Egress', 'Ingress'] }), /may not specify more than two policyTypes/],
    [ports({ port: 0 }), `${port}.port: 0 is not accepted: a port is 1 to 65535`],
    [ports({ port: 70_000 }), /a port is 1 to 65535/],
    [ports({ port: 'Web' }), /a port name has 1 to 15 lower-case letters/],
    [ports({ protocol: 'ICMP' }), `${port}.protocol: "ICMP" is not accepted: accepted are "TCP", "UDP", "SCTP"`],
    [ports({ endPort: 2 }), `${port}.endPort: 2 is not accepted: may not be specified when \`port\` is not specified`],
    [ports({ port: 'web', endPort: 2 }), /may not be specified when `port` is non-numeric/],
    [ports({ port: 3, endPort: 2 }), /must be greater than or equal to `port`, which is 3/],
    [policy({}, { name: 'Web' }), /"Web" is not a DNS subdomain/],
    [
      policy({}, { annotations: { 'weft.dev/on-deny': 'refuse' } }),
      'metadata.annotations["weft.dev/on-deny"]: "refuse" is not accepted: accepted are "drop", "reject"',
    ],
    [policy({}, { annotations: { 'weft.dev/staged': 'yes' } }), /"yes" is not accepted: accepted are "true", "false"/],
    [
      policy({}, { annotations: { 'weft.dev/ondeny': 'drop' } }),
      /is no annotation of weft, did you mean "weft.dev\/on-deny"/,
    ],
  ] as const) {
    const problem = problemOf(value);
    if (typeof message === 'string') t.equal(problem, message);
    else t.match(problem, message);
  }
  for (const value of [
    policy({ ingress: [{ from: [], ports: [] }] }),
    policy({ ingress: [{ from: null, ports: null }], egress: null, policyTypes: [] }),
    policy({ egress: [{ ports: [{ port: 80, endPort: 80 }] }] }),
    policy({}, { name: 'web.front' }),
    from({ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '224.0.0.0/4'] } }),
    policy({}, { annotations: { 'weft.dev/on-deny': 'reject', 'weft.dev/staged': 'true', 'example.com/x': 'y' } }),
  ])
    t.equal(problemOf(value), 'accepted');
});

t.test('host bits of a block mean nothing', async (t) => {
  const parsed = parseResource(
    policy({ ingress: [{ from: [{ ipBlock: { cidr: '10.1.2.3/8', except: ['10.9.9.9/16', '10.0.0.1/32'] } }] }] }),
  ) as NetworkPolicyResource;
  t.same(parsed.spec.ingress![0]!.from, [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.9.0.0/16', '10.0.0.1/32'] } }]);
});

t.test('the directions of a NetworkPolicy', async (t) => {
  const of = (spec: object) => directionsOf((parseResource(policy(spec)) as NetworkPolicyResource).spec);
  t.same(of({}), { ingress: true, egress: false });
  t.same(of({ egress: [] }), { ingress: true, egress: false });
  t.same(of({ egress: [{}] }), { ingress: true, egress: true });
  t.same(of({ policyTypes: [], egress: [{}] }), { ingress: true, egress: true });
  t.same(of({ policyTypes: ['Egress'] }), { ingress: false, egress: true });
  t.same(of({ policyTypes: ['Ingress'], egress: [{}] }), { ingress: true, egress: false });
});

t.test('a ClusterNetworkPolicy is refused as upstream does', async (t) => {
  const from = (peer: object) => cluster({ ingress: [{ action: 'Deny', from: [peer] }] });
  const to = (peer: object, more: object = {}) => cluster({ egress: [{ action: 'Deny', to: [peer], ...more }] });
  const protocols = (...all: object[]) => to({ namespaces: {} }, { protocols: all });
  const protocol = 'spec.egress[0].protocols[0]';
  const rules = (count: number) =>
    Array.from({ length: count }, () => ({ action: 'Deny', from: [{ namespaces: {} }] }));
  for (const [value, message] of [
    [
      cluster({ tier: 'NetworkPolicy' }),
      'spec.tier: "NetworkPolicy" is not accepted: accepted are "Admin", "Baseline"',
    ],
    [
      cluster({ priority: 1001 }),
      'spec.priority: 1001 is not accepted: a priority is a whole number, 0 to 1000; 0 goes first',
    ],
    [cluster({ priority: -1 }), /0 to 1000/],
    [
      cluster({ priority: undefined }),
      'spec.priority is missing: a priority is a whole number, 0 to 1000; 0 goes first',
    ],
    [cluster({ subject: undefined }), /^spec.subject is missing/],
    [cluster({ subject: {} }), 'spec.subject: give exactly one of namespaces and pods'],
    [
      cluster({ subject: { namespaces: {}, pods: { namespaceSelector: {}, podSelector: {} } } }),
      'spec.subject: give exactly one of namespaces and pods',
    ],
    [cluster({ subject: { pods: { namespaceSelector: {} } } }), /^spec.subject.pods.podSelector is missing/],
    [cluster({ ingress: rules(26) }), /must have at most 25 items/],
    [cluster({ ingress: [{ action: 'Allow', from: [{ namespaces: {} }] }] }), /accepted are "Accept", "Deny", "Pass"/],
    [cluster({ ingress: [{ action: 'Deny' }] }), /ingress\[0\].from is missing/],
    [cluster({ ingress: [{ action: 'Deny', from: [] }] }), /must have at least 1 item/],
    [
      cluster({ ingress: [{ action: 'Deny', name: 'x'.repeat(101), from: [{ namespaces: {} }] }] }),
      /at most 100 characters/,
    ],
    [from({}), 'spec.ingress[0].from[0]: give exactly one of namespaces and pods'],
    [from({ networks: ['10.0.0.0/8'] }), /networks is not supported here: upstream has it in egress rules only/],
    [to({ nodes: {} }), /nodes is not supported here: write the addresses of the hosts as networks/],
    [to({ domainNames: ['kubernetes.io'] }), /domainNames is not supported here: policies are about addresses/],
    [to({ networks: [] }), /must have at least 1 item/],
    [to({ networks: ['10.0.0.0/8', '10.0.0.0/8'] }), /networks\[1\].*is given twice/],
    [protocols({}), `${protocol}: give exactly one of tcp, udp, sctp and destinationNamedPort`],
    [protocols({ tcp: {} }), /tcp.destinationPort is missing/],
    [protocols({ tcp: { destinationPort: {} } }), /destinationPort: give exactly one of number and range/],
    [protocols({ tcp: { destinationPort: { range: { start: 5, end: 5 } } } }), /Start port must be less than End port/],
    [protocols({ icmp: {} }), /icmp is not supported here/],
    [
      to({ networks: ['10.0.0.0/8'] }, { protocols: [{ destinationNamedPort: 'http' }] }),
      /destinationNamedPort: "http" is not accepted: networks have no named ports/,
    ],
    [cluster({}, { namespace: 'shop' }), /metadata.namespace is not supported here: its name is unique in the cluster/],
  ] as const) {
    const problem = problemOf(value);
    if (typeof message === 'string') t.equal(problem, message);
    else t.match(problem, message);
  }
  for (const value of [
    cluster({}),
    cluster({ ingress: rules(25) }),
    cluster({ priority: 0 }),
    cluster({ priority: 1000 }),
  ])
    t.equal(problemOf(value), 'accepted');
});

t.test('selectors', async (t) => {
  const matches = (selector: object, labels: Record<string, string>) =>
    matchesLabels(requirementsOf(labelSelector.parse(selector)), labels);
  const expression = (operator: string, ...values: string[]) => ({
    matchExpressions: [{ key: 'a', operator, ...(values.length > 0 && { values }) }],
  });
  for (const [selector, labels, is] of [
    [{}, {}, true],
    [{ matchLabels: { a: 'b' } }, { a: 'b', c: 'd' }, true],
    [{ matchLabels: { a: 'b', c: 'd' } }, { a: 'b' }, false],
    [{ matchLabels: { a: 'b' }, ...expression('NotIn', 'b') }, { a: 'b' }, false],
    [expression('In', 'b', 'c'), { a: 'c' }, true],
    [expression('In', 'b', 'c'), {}, false],
    [expression('NotIn', 'b'), {}, true],
    [expression('NotIn', 'b'), { a: 'b' }, false],
    [expression('NotIn', 'b'), { a: 'c' }, true],
    [expression('Exists'), { a: '' }, true],
    [expression('Exists'), {}, false],
    [expression('DoesNotExist'), {}, true],
    [expression('DoesNotExist'), { a: 'b' }, false],
    [expression('Exists'), JSON.parse('{"__proto__":"x"}') as Record<string, string>, false],
  ] as const)
    t.equal(matches(selector, labels), is, JSON.stringify([selector, labels]));
  const text = (selector: object) => labelSelectorText(labelSelector.parse(selector));
  t.equal(text({}), '<none>');
  t.equal(text({ matchLabels: { b: '1', a: '2' }, ...expression('In', 'x', 'y') }), 'a=2,b=1,a in (x,y)');
  t.equal(text(expression('DoesNotExist')), '!a');
});

t.test('names, columns and schemas', async (t) => {
  for (const word of ['netpol', 'NetworkPolicies', 'networkpolicy'])
    t.equal(findKind(word)?.kind, 'NetworkPolicy', word);
  for (const word of ['cnp', 'clusternetworkpolicies']) t.equal(findKind(word)?.kind, 'ClusterNetworkPolicy', word);
  const [netpol, cnp] = [findKind('netpol')!, findKind('cnp')!];
  t.same(resourceHeads(netpol), ['NAME', 'NAMESPACE', 'POD-SELECTOR', 'LABELS']);
  t.same(resourceRow(netpol, parseResource(policy({ podSelector: { matchLabels: { app: 'web' } } }))), [
    'web',
    'default',
    'app=web',
    '',
  ]);
  t.same(resourceRow(cnp, parseResource(cluster({}))), ['web', 'Admin', 1, '']);
  for (const kind of ['NetworkPolicy', 'ClusterNetworkPolicy']) t.ok(kind in jsonSchemas().resources, kind);
});

t.test('a namespace has its own name as a label', async (t) => {
  const namespace = (metadata: object) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'shop', ...metadata },
  });
  const own = (name: string) => namespace({ labels: { 'kubernetes.io/metadata.name': name } });
  t.equal(problemOf(own('shop')), 'accepted');
  t.equal(
    problemOf(own('other')),
    'metadata.labels["kubernetes.io/metadata.name"]: "other" is not accepted: each namespace has its own name there, leave it out',
  );
  t.equal(problemOf(namespace({ annotations: { 'weft.dev/on-deny': 'reject' } })), 'accepted');
  t.match(problemOf(namespace({ annotations: { 'weft.dev/staged': 'true' } })), /is no annotation of weft/);
});
