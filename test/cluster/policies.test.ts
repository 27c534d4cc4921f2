/**
 * Policies come into force: whom each of them selects, who their peers are, and what a change of policies, labels, namespaces and
 * endpoints does to that. What a rule set says by itself is tested with the tables.
 */
import t from 'tap';
import { readNamespaceMetadata } from '../../src/model/kinds/namespace.ts';
import { closedClusterPolicy, closedNetworkPolicy } from '../../src/cluster/policies/closed-policy.ts';
import { DeclaredPolicies } from '../../src/cluster/policies/declared-policies.ts';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { manifest, openControlPlane } from './control-plane.ts';

const TCP = 6;
const VNI = 100;
const blue = manifest('Network', 'blue', { subnets: ['10.0.0.0/24', 'fd00::/64'], vni: VNI });
const there = manifest('Host', 'there', { underlay: '192.0.2.2' });
const namespace = (name: string, labels: object = {}, annotations: object = {}) =>
  manifest('Namespace', name, {}, { labels, annotations });
const policy = (name: string, spec: object, metadata: object = {}) =>
  manifest('NetworkPolicy', name, { podSelector: {}, ...spec }, metadata);
const cluster = (name: string, spec: object, metadata: object = {}) =>
  manifest(
    'ClusterNetworkPolicy',
    name,
    { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ...spec },
    metadata,
  );
/** One of this host; it waits, since this is no network namespace. */
let made = 0;
const here = (name: string, address: string, metadata: object = {}, spec: object = {}) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', netns: '/proc/self/ns/uts', interface: `eth${made++}`, addresses: [address], ...spec },
    metadata,
  );
const remote = (name: string, address: string, metadata: object = {}) =>
  manifest(
    'Endpoint',
    name,
    { network: 'blue', host: 'there', addresses: [address], mac: `02:00:00:00:00:${address.slice(-2)}` },
    metadata,
  );

async function open(t: Parameters<typeof openControlPlane>[0]) {
  const plane = await openControlPlane(t);
  const { tables } = plane.forwarding;
  await plane.cluster.apply([blue, there, namespace('shop', { tier: 'front' }), namespace('ops')]);
  /** `-` if nothing selects it. */
  const judged = (endpoint: string, direction: 'ingress' | 'egress', peer: string, l4Port = 80): string => {
    const set = tables.policies.setOf(endpoint, direction);
    return set?.judge(tables.policies.peerAt(parseIp(peer), VNI as never), TCP, l4Port).verdict ?? '-';
  };
  return { ...plane, judged, policies: tables.policies };
}

t.test('a policy selects endpoints of its own namespace by their labels, as they come, change and go', async (t) => {
  const { cluster: changes, judged } = await open(t);
  await changes.apply([
    here('web', '10.0.0.10', { labels: { app: 'web' } }),
    here('db', '10.0.0.11', { labels: { app: 'db' } }),
    here('db', '10.0.0.12', { namespace: 'shop', labels: { app: 'db' } }),
  ]);
  const ingress = (): string[] => ['web', 'db', 'shop/db'].map((name) => judged(name, 'ingress', '10.0.0.99'));
  t.same(ingress(), ['-', '-', '-']);
  await changes.apply([policy('closed', { podSelector: { matchLabels: { app: 'db' } } })]);
  t.same(ingress(), ['-', 'deny', '-']);
  await changes.label(findKind('ep')!, { name: 'web' }, { app: 'db' });
  t.same(ingress(), ['deny', 'deny', '-'], 'its label has changed');
  await changes.apply([policy('closed', { podSelector: { matchLabels: { app: 'db' } } }, { namespace: 'shop' })]);
  t.same(ingress(), ['deny', 'deny', 'deny']);
  await changes.apply([here('late', '10.0.0.13', { labels: { app: 'db' } })]);
  t.equal(judged('late', 'ingress', '10.0.0.99'), 'deny', 'one that comes later');
  await changes.delete(findKind('ep')!, { name: 'late' });
  t.equal(judged('late', 'ingress', '10.0.0.99'), '-', 'one that is gone');
  await changes.apply([policy('closed', { podSelector: { matchLabels: { app: 'web' } } })]);
  t.same(ingress(), ['-', '-', 'deny'], 'it selects others now');
  await changes.delete(findKind('netpol')!, { name: 'closed', namespace: 'shop' });
  t.same(ingress(), ['-', '-', '-'], 'the last policy is deleted');
});

t.test('peers are known by the labels of endpoint and namespace, here and on other hosts', async (t) => {
  const { cluster: changes, judged } = await open(t);
  const from = (peer: object) => policy('in', { ingress: [{ from: [peer] }] });
  await changes.apply([
    here('db', '10.0.0.10'),
    here('web', '10.0.0.11', { labels: { app: 'web' } }),
    remote('far', '10.0.0.12', { namespace: 'shop', labels: { app: 'web' } }),
    remote('other', 'fd00::13', { namespace: 'ops' }),
    from({ podSelector: { matchLabels: { app: 'web' } } }),
  ]);
  const all = (): string[] =>
    ['10.0.0.11', '10.0.0.12', 'fd00::13', '10.0.0.99'].map((peer) => judged('db', 'ingress', peer));
  t.same(all(), ['allow', 'deny', 'deny', 'deny'], 'of the own namespace');
  await changes.apply([from({ namespaceSelector: {} })]);
  t.same(all(), ['allow', 'allow', 'allow', 'deny'], 'of all namespaces, and no stranger');
  await changes.apply([from({ namespaceSelector: { matchLabels: { tier: 'front' } } })]);
  t.same(all(), ['deny', 'allow', 'deny', 'deny']);
  await changes.apply([from({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'ops' } } })]);
  t.same(all(), ['deny', 'deny', 'allow', 'deny'], 'each namespace has its name as a label');
  await changes.apply([from({ namespaceSelector: { matchLabels: { tier: 'back' } } })]);
  t.same(all(), ['deny', 'deny', 'deny', 'deny']);
  await changes.label(findKind('ns')!, { name: 'ops' }, { tier: 'back' });
  t.same(all(), ['deny', 'deny', 'allow', 'deny'], 'a namespace has another label');
  await changes.label(findKind('ns')!, { name: 'ops' }, { tier: null });
  t.same(all(), ['deny', 'deny', 'deny', 'deny']);
  await changes.apply([from({ namespaceSelector: {}, podSelector: { matchLabels: { role: 'client' } } })]);
  await changes.label(findKind('ep')!, { name: 'far', namespace: 'shop' }, { role: 'client' });
  t.same(all(), ['deny', 'allow', 'deny', 'deny'], 'an endpoint of another host has another label');
  await changes.delete(findKind('ep')!, { name: 'far', namespace: 'shop' });
  t.same(all(), ['deny', 'deny', 'deny', 'deny'], 'its address is nobody’s');
});

t.test('a link-local address is that of the endpoint whose MAC it is made of', async (t) => {
  const { cluster: changes, policies } = await open(t);
  await changes.apply([remote('far', '10.0.0.12', { namespace: 'shop' })]);
  const at = (address: string, vni = VNI) => policies.peerAt(parseIp(address), vni as never).endpoint;
  t.equal(at('fe80::ff:fe00:12'), 'shop/far');
  t.equal(at('fe80::ff:fe00:12', 7), undefined, 'in its own network');
  t.equal(at('fe80::ff:fe00:13'), undefined);
  t.equal(at('fe80::1'), undefined);
  t.equal(at('10.0.0.12'), 'shop/far');
  t.equal(at('10.0.0.1'), undefined, 'the gateway');
  t.equal(at('192.0.2.9'), undefined);
});

t.test('who an address belongs to is told when it changes, if there is a policy', async (t) => {
  const { cluster: changes, policies } = await open(t);
  const told: string[] = [];
  const workloadsChanged = policies.workloadsChanged.bind(policies);
  policies.workloadsChanged = function (addresses) {
    const all = [...addresses];
    told.push(...all.map(formatIp));
    workloadsChanged(all);
  };
  await changes.apply([here('db', '10.0.0.10'), remote('far', '10.0.0.12')]);
  await changes.label(findKind('ep')!, { name: 'far' }, { app: 'web' });
  t.same(told, [], 'there is no policy');
  await changes.apply([policy('in', { ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }] }] })]);
  await changes.label(findKind('ep')!, { name: 'far' }, { app: 'db' });
  t.same(new Set(told), new Set(['10.0.0.12', 'fe80::ff:fe00:12']), 'its addresses are told');
});

t.test('a namespace with other labels is told as one, and weft’s DNS has those of its own', async (t) => {
  const { cluster: changes, policies } = await open(t);
  const admitted = policy('in', { ingress: [{ from: [{ namespaceSelector: { matchLabels: { tier: 'back' } } }] }] });
  await changes.apply([here('db', '10.0.0.10'), remote('far', '10.0.0.12', { namespace: 'shop' }), admitted]);
  policies.workloadsChanged = (addresses) => t.same([...addresses], []);
  policies.takeConcerned();
  const far = () =>
    policies.setOf('db', 'ingress')!.judge(policies.peerAt(parseIp('10.0.0.12'), VNI as never), TCP, 80);
  t.equal(far().verdict, 'deny');
  await changes.apply([namespace('shop', { tier: 'back' })]);
  t.equal(far().verdict, 'allow');
  t.equal(policies.dns.namespaceLabels['name'], undefined);
  await changes.apply([namespace('kube-system', { name: 'kube-system' })]);
  t.match(policies.dns.namespaceLabels, { name: 'kube-system', 'kubernetes.io/metadata.name': 'kube-system' });
  await changes.delete(findKind('ns')!, { name: 'kube-system' });
  t.same(policies.dns.namespaceLabels, { 'kubernetes.io/metadata.name': 'kube-system' });
});

t.test('a policy that takes the place of another one is never missing in between', async (t) => {
  const plane = await open(t);
  const { cluster: changes, policies, write } = plane;
  await changes.apply([here('db', '10.0.0.10')]);
  const denyAll = { tier: 'Admin', ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] };
  const records = (resource: object) => ({ resource });
  const setSubject = policies.setSubject.bind(policies);
  const seen: (string | undefined)[] = [];
  policies.setSubject = function (endpoint, subject) {
    setSubject(endpoint, subject);
    seen.push(subject?.policies.map(({ name }) => name.name).join());
  };
  await write({ 'networkpolicies/default/a': records(policy('a', {})) });
  await write({ 'networkpolicies/default/a': undefined, 'networkpolicies/default/b': records(policy('b', {})) });
  await write({ 'networkpolicies/default/b': undefined, 'clusternetworkpolicies/c': records(cluster('c', denyAll)) });
  await write({
    'clusternetworkpolicies/c': undefined,
    'networkpolicies/default/a': records(policy('a', {})),
    'endpoints/default/new': {
      resource: here('new', '10.0.0.11'),
      addresses: ['10.0.0.11'],
      mac: '02:00:00:00:00:11',
    },
  });
  t.notOk(seen.includes(undefined), seen.join(' '));
  t.same(new Set(seen), new Set(['a', 'b', 'c']));
});

t.test('what else a change does is in force with the old policies, until all of the new ones are there', async (t) => {
  const { cluster: changes, policies, write } = await open(t);
  const wide = { podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { tier: 'back' } } }] }] };
  await changes.apply([here('db', '10.0.0.10'), remote('far', '10.0.0.12', { namespace: 'shop' }), policy('a', wide)]);
  const setSubject = policies.setSubject.bind(policies);
  const seen: (string | undefined)[] = [];
  policies.setSubject = function (endpoint, subject) {
    setSubject(endpoint, subject);
    seen.push(subject?.policies.map(({ name }) => name.name).join());
  };
  const far = (): string =>
    policies.setOf('db', 'ingress')!.judge(policies.peerAt(parseIp('10.0.0.12'), VNI as never), TCP, 80).verdict;
  const judged: string[] = [];
  const workloadsChanged = policies.workloadsChanged.bind(policies);
  policies.workloadsChanged = function (addresses) {
    workloadsChanged(addresses);
    judged.push(far());
  };
  // The endpoint of the host that goes has to wait; it gets the label that the old policy wants, and the new one does not.
  await write({
    'namespaces/shop': { resource: namespace('shop', { tier: 'back' }) },
    'hosts/there': undefined,
    'networkpolicies/default/a': undefined,
    'networkpolicies/default/b': { resource: policy('b', { podSelector: {} }) },
  });
  t.same(seen, ['b'], 'no moment without a policy');
  t.ok(judged.length > 0);
  t.same(new Set(judged), new Set(['deny']), 'nor with the old policy and the new label');
});

t.test('whose an address is is told once the endpoint has it', async (t) => {
  const { cluster: changes, policies, write } = await open(t);
  await changes.apply([here('db', '10.0.0.10'), policy('in', { ingress: [{ from: [{ podSelector: {} }] }] })]);
  const told: string[] = [];
  const workloadsChanged = policies.workloadsChanged.bind(policies);
  policies.workloadsChanged = function (addresses) {
    const all = [...addresses];
    workloadsChanged(all);
    for (const address of all) {
      const { endpoint = 'nobody' } = policies.peerAt(address, VNI as never);
      if (formatIp(address) === '10.0.0.12') told.push(endpoint);
    }
  };
  await changes.apply([remote('far', '10.0.0.12')]);
  t.equal(told.at(-1), 'far');
  told.length = 0;
  const resource = changes.get(findKind('ep')!, { name: 'far' })[0];
  await write({ 'endpoints/default/far': { resource, addresses: ['10.0.0.12'], mac: '02:00:00:00:00:77' } });
  t.same(new Set(told), new Set(['nobody', 'far']));
  t.equal(told.at(-1), 'far', 'with another MAC it is as good as another one');
  await changes.delete(findKind('ep')!, { name: 'far' });
  t.equal(told.at(-1), 'nobody');
});

t.test('a policy that a defect keeps out of force is closed, and everybody is told', (t) => {
  const changed: (readonly [string, string])[] = [];
  const closed = (name: string, resource: unknown) => {
    if (resource !== undefined) throw new Error('a second defect');
    return { ...closedNetworkPolicy(name, resource) };
  };
  const policies = new DeclaredPolicies('NetworkPolicy', {
    value: () => {
      throw new TypeError('x is undefined');
    },
    closedValue: closed,
    onChange: (name, after) => changed.push([name, JSON.stringify(after?.selector)]),
    onComplete: () => {},
  });
  const stored = { name: 'shop/a', resource: policy('a', {}) as never, revision: 7, record: {} };
  t.throws(() => policies.check(stored), { code: 'internal', message: /defect.* is closed: x is undefined/ });
  void policies.refused([stored]);
  t.same(changed, [['shop/a', '{"namespaces":"shop","pods":[]}']], 'everything in its namespace');

  const broken = (value: object): object =>
    new Proxy(value, {
      get: () => {
        throw new Error('a defect');
      },
    });
  const db = { matchLabels: { app: 'db' } };
  const { selector, policy: value } = closedNetworkPolicy('shop/a', {
    spec: { podSelector: db, ingress: [broken({}), { from: [{ ipBlock: { cidr: '10.0.0.0/24' } }] }] },
  });
  t.match(selector, { pods: [{ key: 'app' }] }, 'what it selects can be read');
  t.match(value.ingress, [{ action: 'accept', isUnreadable: true }, { peers: [{ kind: 'block' }] }]);
  t.end();
});

t.test('of a policy with a field that nothing can have, no rule accepts more than what can be read', (t) => {
  const odd = JSON.parse('{"matchLabels":{"__proto__":{"x":1}}}') as object;
  const from = [{ podSelector: odd }, { namespaceSelector: odd }, { podSelector: {}, namespaceSelector: odd }];
  for (const peer of from) {
    const { policy: value } = closedNetworkPolicy('shop/a', {
      spec: {
        podSelector: {},
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [peer] }],
        egress: [{ to: [peer] }],
      },
    });
    for (const rules of [value.ingress, value.egress])
      t.match(rules, [{ action: 'accept', isUnreadable: true }], JSON.stringify(peer));
  }
  const { selector } = closedNetworkPolicy('shop/a', { spec: { podSelector: odd, ingress: [] } });
  t.same(selector, { namespaces: 'shop', pods: [] }, 'whom it selects: everybody');
  for (const action of ['Accept', 'Deny', 'Pass']) {
    const rule = { action, name: 'a', from: [{ namespaces: odd }] };
    const pods = { action, name: 'b', from: [{ pods: { namespaceSelector: {}, podSelector: odd } }] };
    const { policy: value } = closedClusterPolicy('c', {
      spec: { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ingress: [rule, pods] },
    });
    t.match(value.ingress, [{ isUnreadable: true }, { isUnreadable: true }], action);
  }
  t.same(closedClusterPolicy('c', { spec: { subject: { namespaces: odd } } }).selector, { namespaces: [], pods: [] });
  t.equal(readNamespaceMetadata('shop', { metadata: { labels: JSON.parse('{"__proto__":{}}') } }), undefined);
  t.end();
});

t.test('the order of kinds: policies come before endpoints, and go after them', async (t) => {
  const { cluster: changes, write, policies } = await open(t);
  const setSubject = policies.setSubject.bind(policies);
  const events: string[] = [];
  policies.setSubject = function (endpoint, subject) {
    setSubject(endpoint, subject);
    events.push(`${endpoint} ${subject?.policies.length ?? 'none'}`);
  };
  const record = { resource: here('db', '10.0.0.10'), addresses: ['10.0.0.10'], mac: '02:00:00:00:00:10' };
  await write({
    'endpoints/default/db': record,
    'networkpolicies/default/a': { resource: policy('a', {}) },
    'clusternetworkpolicies/c': { resource: cluster('c', {}) },
  });
  t.same(events, ['db 2'], 'at once with everything');
  events.length = 0;
  await write({ 'endpoints/default/db': undefined, 'networkpolicies/default/a': undefined });
  t.same(events, ['db none']);
  t.same(changes.refused.report(), []);
});

t.test('what a namespace says about denied packets holds for policies that do not say it', async (t) => {
  const { cluster: changes, policies } = await open(t);
  await changes.apply([here('db', '10.0.0.10', { namespace: 'shop' }), policy('a', {}, { namespace: 'shop' })]);
  const rejects = (): boolean =>
    policies.setOf('shop/db', 'ingress')!.judge(policies.peerAt(parseIp('10.0.0.9'), VNI as never), TCP, 80).rejects;
  t.equal(rejects(), false);
  await changes.apply([namespace('shop', {}, { 'weft.dev/on-deny': 'reject' })]);
  t.equal(rejects(), true);
  await changes.apply([policy('a', {}, { namespace: 'shop', annotations: { 'weft.dev/on-deny': 'drop' } })]);
  t.equal(rejects(), false);
});

t.test('a record that this version does not know is closed', async (t) => {
  const { cluster: changes, judged, write, warnings } = await open(t);
  await changes.apply([
    here('web', '10.0.0.10', { labels: { app: 'web' } }),
    here('db', '10.0.0.11', { labels: { app: 'db' } }),
    here('far', '10.0.0.12', { namespace: 'shop' }),
  ]);
  const all = (direction: 'ingress' | 'egress' = 'ingress'): string[] =>
    ['web', 'db', 'shop/far'].map((name) => judged(name, direction, '10.0.0.99'));
  const np = (spec: unknown, metadata: object = {}) => ({
    'networkpolicies/default/p': {
      resource: {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'p', namespace: 'default', ...metadata },
        spec,
      },
    },
  });
  const db = { matchLabels: { app: 'db' } };
  const anybody = { ipBlock: { cidr: '0.0.0.0/0' } };
  await write(np({ podSelector: db, ingress: [{ from: [{ serviceAccounts: {} }] }] }));
  t.same(all(), ['-', 'deny', '-'], 'a peer that is not known');
  t.same(all('egress'), ['-', '-', '-']);
  await write(np({ podSelector: db, ingress: [{ from: [{ serviceAccounts: {} }] }, { from: [anybody] }] }));
  t.same(all(), ['-', 'allow', '-'], 'another rule that is known');
  await write(np({ podSelector: { names: ['db'] }, ingress: [{}] }));
  t.same(all(), ['allow', 'allow', '-'], 'a selector that is not known');
  await write(np({ podSelector: db, policyTypes: ['Forward'] }));
  t.same(
    [all(), all('egress')],
    [
      ['-', 'deny', '-'],
      ['-', 'deny', '-'],
    ],
    'directions that are not known',
  );
  await write(np({ podSelector: db, egress: { all: true } }));
  t.same(
    [all(), all('egress')],
    [
      ['-', 'deny', '-'],
      ['-', 'deny', '-'],
    ],
    'rules that are no list',
  );
  await write(np(undefined));
  t.same(
    [all(), all('egress')],
    [
      ['deny', 'deny', '-'],
      ['deny', 'deny', '-'],
    ],
    'nothing is known',
  );
  await write({ 'networkpolicies/default/p': 7 });
  t.same(all(), ['deny', 'deny', '-']);
  await write(np({ podSelector: db, ingress: [{ from: [{ x: 1 }] }] }, { annotations: { 'weft.dev/staged': 'true' } }));
  t.same(all(), ['-', 'allow', '-'], 'it is staged');
  t.throws(() => changes.get(findKind('netpol')!, { name: 'p' }), { message: /^networkpolicy "p" waits: / });

  await write(np({ podSelector: db, ingress: [{}] }));
  t.same(all(), ['-', 'allow', '-'], 'one that is known takes its place');
  await write(np({ podSelector: db, ingress: [{ from: [{ x: 1 }] }] }));
  t.same(all(), ['-', 'deny', '-'], 'and the other way round');
  await write({ 'networkpolicies/default/p': undefined });
  t.same(all(), ['-', '-', '-'], 'it can be deleted');
  t.same(changes.refused.report(), []);

  const cnp = (spec: unknown) => ({
    'clusternetworkpolicies/c': {
      resource: {
        apiVersion: 'policy.networking.k8s.io/v1alpha2',
        kind: 'ClusterNetworkPolicy',
        metadata: { name: 'c' },
        spec,
      },
    },
  });
  const subject = { pods: { namespaceSelector: {}, podSelector: db } };
  const rule = (action: string) => ({ action, to: [{ fqdns: ['x'] }] });
  const known = { tier: 'Admin', priority: 1, subject };
  for (const [action, verdict] of [
    ['Accept', 'allow'],
    ['Deny', 'deny'],
    ['Pass', 'deny'],
    ['Log', 'deny'],
  ] as const) {
    await write(cnp({ ...known, egress: [rule(action)] }));
    t.same(all('egress'), ['-', verdict, '-'], `${action} with a peer that is not known`);
    t.equal(judged('db', 'ingress', '10.0.0.99'), '-');
  }
  await write(cnp({ ...known, subject: { machines: {} }, egress: [rule('Deny')] }));
  t.same(all('egress'), ['deny', 'deny', 'deny'], 'a subject that is not known');
  await write(cnp(undefined));
  t.same(
    [all(), all('egress')],
    [
      ['deny', 'deny', 'deny'],
      ['deny', 'deny', 'deny'],
    ],
    'nothing is known',
  );
  await write({ 'clusternetworkpolicies/c': undefined });
  t.same(
    [all(), all('egress')],
    [
      ['-', '-', '-'],
      ['-', '-', '-'],
    ],
  );
  t.same(
    new Set(warnings.filter((text) => !text.startsWith('endpoint waits'))),
    new Set(['a record of the store is not accepted']),
  );
});

t.test('a namespace that this version does not know has the labels that can be read', async (t) => {
  const { cluster: changes, judged, write } = await open(t);
  await changes.apply([
    here('db', '10.0.0.10'),
    remote('far', '10.0.0.12', { namespace: 'shop' }),
    cluster('c', { ingress: [{ action: 'Deny', from: [{ namespaces: { matchLabels: { tier: 'bad' } } }] }] }),
  ]);
  t.equal(judged('db', 'ingress', '10.0.0.12'), 'allow');
  const resource = {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'shop', labels: { tier: 'bad' } },
    spec: { quota: 1 },
  };
  await write({ 'namespaces/shop': { resource } });
  t.equal(judged('db', 'ingress', '10.0.0.12'), 'deny');
});

t.test('labels of namespaces', async (t) => {
  const { cluster: changes } = await open(t);
  const kind = findKind('ns')!;
  const shown = (name: string) => changes.get(kind, { name })[0]!;
  t.same(shown('shop').metadata.labels, { tier: 'front', 'kubernetes.io/metadata.name': 'shop' });
  t.match(await changes.apply([shown('shop')]), [{ action: 'unchanged' }], 'what is shown can be applied');
  await t.rejects(changes.label(kind, { name: 'shop' }, { 'kubernetes.io/metadata.name': 'other' }), {
    code: 'invalid',
    message: /"other" is not accepted: each namespace has its own name there/,
  });
  await changes.label(kind, { name: 'shop' }, { tier: null });
  t.same(shown('shop').metadata.labels, { 'kubernetes.io/metadata.name': 'shop' });
});

t.test('policies are in force again after a restart', async (t) => {
  const first = await open(t);
  await first.cluster.apply([
    here('db', '10.0.0.10', { labels: { app: 'db' } }),
    policy('in', { ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.32/27' } }] }] }),
  ]);
  await first.close();
  const second = await openControlPlane(t, first.directory);
  const { policies } = second.forwarding.tables;
  const verdict = (ip: string) =>
    policies.setOf('db', 'ingress')?.judge(policies.peerAt(parseIp(ip), VNI as never), TCP, 1).verdict;
  t.equal(verdict('10.0.0.33'), 'allow');
  t.equal(verdict('10.0.0.65'), 'deny');
});
