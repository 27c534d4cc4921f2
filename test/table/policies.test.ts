/** Network policy: what is told of a denial, what is noted of a change, and what is judged the same. */
import t from 'tap';
import { bytesId } from '../../src/flow/key.ts';
import { parseIp } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import {
  dnsIdentity,
  identityObject,
  namespaceObject,
  anyIngressPoliciesObject,
  ingressPoliciesObject,
  Policies,
  policyObject,
} from '../../src/table/policies.ts';
import type { Policy } from '../../src/table/policy/policy.ts';
import { podAt } from '../support/policy/oracle.ts';
import {
  NETWORK,
  TCP,
  UDP,
  namespaces,
  pods,
  policy,
  clusterPolicy,
  app,
  namespace,
  packetOf,
  worldOf,
  tablesOf,
  verdictOf,
} from '../support/policy/shop.ts';
import { endpointName, identityOf, policyOf, putWorld } from '../support/policy/tables.ts';
import { type Manifest, type NetworkPolicy, type Pod } from '../support/policy/world.ts';

t.test('22 a change of labels is in force at once, and says whom it concerns', (t) => {
  const changes = new Changes();
  const tables = new Policies(changes);
  const rules = [policy({ ingress: [{ from: [{ podSelector: app('api') }] }] })];
  putWorld(tables, worldOf(rules));
  const packet = packetOf('ops/probe > shop/web tcp 80');
  t.equal(verdictOf(tables, packet), 'deny');
  tables.takeConcerned();
  changes.drain();
  const address = parseIp('10.0.3.2');
  putWorld(tables, { ...worldOf(rules), pods: pods.map((one) => (one.namespace === 'ops' ? relabelled(one) : one)) });
  t.ok(changes.isEmpty, 'the same policies select the same workloads');
  tables.workloadsChanged([address]);
  t.equal(verdictOf(tables, packet), 'allow');
  t.same(changes.drain().changed, [identityObject(address)]);
  t.same(tables.takeConcerned(), {
    subjects: new Set(),
    addresses: new Set([bytesId(address)]),
    namespaces: new Set(),
  });
  t.end();
});

t.test(
  '22 a namespace with other labels is one change, however many workloads are in it, and none if nobody asks',
  (t) => {
    const changes = new Changes();
    const tables = new Policies(changes);
    tables.namespaceChanged('ops', { team: 'a' });
    t.ok(changes.isEmpty);
    putWorld(tables, worldOf([policy({ ingress: [{ from: [{ namespaceSelector: namespace('ops') }] }] })]));
    tables.takeConcerned();
    changes.drain();
    tables.namespaceChanged('ops', { team: 'b' });
    t.same(changes.drain().changed, [namespaceObject('ops')]);
    t.same(tables.takeConcerned().namespaces, new Set(['ops']));
    t.notOk(tables.hasConcerned);
    t.end();
  },
);

function relabelled(one: Pod): Pod {
  return { ...pods[1]!, name: one.name, addresses: one.addresses };
}

t.test('24 and 26: a policy is replaced at once, only what it says is noted, and the last one opens again', (t) => {
  const changes = new Changes();
  const tables = new Policies(changes);
  const put = (...manifests: Manifest[]): void =>
    tables.setSubject('shop/web', {
      identity: identityOf(worldOf([]), pods[0]!),
      policies: manifests.map(policyOf),
      onDeny: 'drop',
    });
  const [ingress, egress] = [policyObject('shop/web', 'ingress'), policyObject('shop/web', 'egress')];
  put(policy({ ingress: [{}], egress: [{}] }));
  t.same(changes.drain().changed, [ingress, ingressPoliciesObject, anyIngressPoliciesObject, egress]);
  put(policy({ ingress: [{}], egress: [{}] }));
  t.ok(changes.isEmpty, 'nothing has changed');
  put(policy({ ingress: [{}], egress: [{ ports: [{ port: 80 }] }] }));
  t.same(changes.drain().changed, [egress]);
  put(policy({ ingress: [] }), clusterPolicy({ ingress: [] }));
  t.same(changes.drain().changed, [ingress, ingressPoliciesObject, egress]);
  t.equal(tables.setOf('shop/web', 'egress'), undefined);
  put();
  t.same(changes.drain().changed, [ingress, ingressPoliciesObject, anyIngressPoliciesObject]);
  t.equal(tables.setOf('shop/web', 'ingress'), undefined);
  put();
  tables.setSubject('shop/web', undefined);
  t.ok(changes.isEmpty);
  t.same(tables.takeConcerned().subjects, new Set(['shop/web']));
  t.notOk(tables.hasConcerned);
  t.end();
});

const bothWays = (rules: readonly object[]): NetworkPolicy =>
  policy({ podSelector: {}, policyTypes: ['Ingress', 'Egress'], ingress: [...rules], egress: [...rules] });

/** How one policy is put in place of another one. */
const ways: Readonly<Record<string, (tables: Policies, before: Policy, after: Policy) => void>> = {
  'for all at once': (tables, before, after) => t.ok(tables.replacePolicy(before, after)),
  'for each': (tables, _, after) => {
    const world = worldOf([]);
    for (const one of pods.filter((pod) => pod.namespace === 'shop')) {
      const subject = { identity: identityOf(world, one), policies: [after], onDeny: 'drop' } as const;
      tables.setSubject(endpointName(one), subject);
    }
  },
};

for (const [first, put] of Object.entries(ways)) {
  for (const [second, putAgain] of Object.entries(ways)) {
    t.test(`what is opened ${first} is closed again ${second}, in the direction in which it was opened`, (t) => {
      const changes = new Changes();
      const tables = new Policies(changes);
      // Another object each time, as a record that is read again.
      const closed = (): Policy => policyOf(bothWays([]));
      const denied = closed();
      const said = (direction: 'ingress' | 'egress'): string =>
        tables.setOf('shop/web', direction)!.judge(tables.peerAt(parseIp('10.0.3.2'), NETWORK), TCP, 80).verdict;
      const told = () => ({
        changed: changes.drain().changed.filter((object) => object.endsWith('shop/web')),
        isConcerned: tables.takeConcerned().subjects.has('shop/web'),
      });
      ways['for each']!(tables, denied, denied);
      told();
      for (const direction of ['ingress', 'egress'] as const) {
        const other = direction === 'ingress' ? 'egress' : 'ingress';
        const before = direction === 'ingress' ? denied : closed();
        const opened = policyOf({
          ...bothWays([]),
          spec: { ...bothWays([]).spec, [direction]: [{}] },
        });
        put(tables, before, opened);
        t.same([said(direction), said(other)], ['allow', 'deny']);
        t.same(told(), { changed: [policyObject('shop/web', direction)], isConcerned: true });
        putAgain(tables, opened, closed());
        t.same([said(direction), said(other)], ['deny', 'deny']);
        t.same(told(), { changed: [policyObject('shop/web', direction)], isConcerned: true }, 'and it is told');
        const both = policyOf(bothWays([{}]));
        put(tables, closed(), both);
        t.same([said(direction), said(other)], ['allow', 'allow'], 'both directions say the same');
        told();
        putAgain(tables, both, closed());
        t.same([said(direction), said(other)], ['deny', 'deny']);
        const changed = [policyObject('shop/web', 'egress'), policyObject('shop/web', 'ingress')];
        t.same({ ...told(), changed: changed.sort() }, { changed, isConcerned: true });
      }
      t.end();
    });
  }
}

t.test('a policy that would be at another place, or about another direction, is not replaced for all at once', (t) => {
  const tables = tablesOf([bothWays([])]);
  const one = policyOf(bothWays([]));
  const others: Record<string, Policy> = {
    'another name': policyOf({ ...bothWays([{}]), metadata: { name: 'q', namespace: 'shop' } }),
    'one direction': policyOf(policy({ podSelector: {}, ingress: [{}] })),
    'an answer of its own': { ...policyOf(bothWays([{}])), onDeny: 'reject' },
    'ports with names': policyOf(bothWays([{ ports: [{ port: 'http' }] }])),
    'another priority': { ...policyOf(bothWays([{}])), priority: 1 },
  };
  for (const [what, other] of Object.entries(others)) t.notOk(tables.replacePolicy(one, other), what);
  t.equal(verdictOf(tables, packetOf('ops/probe > shop/web tcp 80')), 'deny', 'and nothing is done');
  t.end();
});

t.test('ties follow a policy that is replaced for all at once', (t) => {
  const rule = (action: 'Accept' | 'Deny') => [{ action, from: [{ namespaces: {} }] }];
  const [a, b] = [clusterPolicy({ ingress: rule('Accept') }, 'a'), clusterPolicy({ ingress: rule('Accept') }, 'b')];
  const tables = tablesOf([a, b]);
  t.same(tables.ties(), []);
  t.ok(tables.replacePolicy(policyOf(b), policyOf(clusterPolicy({ ingress: rule('Deny') }, 'b'))));
  t.equal(tables.ties().length, 1, 'they contradict each other now');
  t.end();
});

t.test('what is told of a denial', (t) => {
  const judged = (policies: readonly Manifest[], text: string) => {
    const tables = tablesOf(policies);
    const packet = packetOf(text);
    const subject = endpointName(podAt(worldOf([]), packet.to)!);
    return tables
      .setOf(subject, 'ingress')!
      .judge(tables.peerAt(parseIp(packet.from), NETWORK), packet.protocol, packet.port);
  };
  const network = (name: string) => ({ kind: 'NetworkPolicy' as const, name: `shop/${name}` });
  const open = policy({
    ingress: [{ from: [{ podSelector: app('db') }] }, { from: [{ podSelector: app('api') }], ports: [{ port: 80 }] }],
  });

  const samePeer = judged([policy({ ingress: [] }, 'closed'), open], 'shop/api > shop/web tcp 81');
  t.match(samePeer.because, {
    kind: 'isolated',
    direction: 'ingress',
    policies: [network('closed'), network('p')],
    more: 0,
  });
  t.match(samePeer.nearest, { policy: network('p'), index: 1, differsIn: 'port', ports: [{ first: 80 }] });
  const other = judged([open], 'lab/web > shop/web tcp 80').nearest!;
  t.match(other, { policy: network('p'), index: 0, differsIn: 'peer', direction: 'ingress', tier: 'network' });
  t.equal(judged([policy({ ingress: [] })], 'lab/web > shop/web tcp 80').nearest, undefined, 'nothing is near');
  const udp = policy({ ingress: [{ from: [{ podSelector: app('db') }], ports: [{ protocol: 'UDP' }] }] });
  t.equal(judged([udp], 'lab/web > shop/web tcp 80').nearest, undefined, 'of another protocol');

  const byAdmin = clusterPolicy({ ingress: [{ action: 'Accept', from: [{ namespaces: namespace('ops') }] }] });
  const own = judged([byAdmin, open], 'lab/web > shop/web tcp 80').nearest!;
  t.match(own, { policy: network('p'), index: 0, differsIn: 'peer' }, 'a rule of the policy that isolates it');
  const admin = judged([byAdmin, policy({ ingress: [] })], 'lab/web > shop/web tcp 80').nearest!;
  t.match(
    admin,
    { tier: 'admin', policy: { name: 'c' }, differsIn: 'peer' },
    'if that has none, one of the tier admin',
  );

  const deny = clusterPolicy({ ingress: [{ action: 'Deny', from: [{ namespaces: namespace('lab') }] }] });
  const byRule = judged([deny, policy({ ingress: [{}] })], 'lab/web > shop/web tcp 80');
  t.match(byRule.because, { kind: 'rule', action: 'deny', tier: 'admin', policy: { name: 'c' }, index: 0 });
  t.equal(byRule.nearest, undefined, 'what is asked later would not have helped');
  t.match(judged([open], 'shop/db > shop/web tcp 9').because, { kind: 'rule', action: 'accept', policy: network('p') });
  t.match(judged([deny], 'ops/probe > shop/web tcp 9').because, { kind: 'no_rule', direction: 'ingress' });

  const many = Array.from({ length: 9 }, (_, n) => policy({ ingress: [] }, `p${n}`));
  t.match(judged(many, 'ops/probe > shop/web tcp 9').because, { policies: { length: 4 }, more: 5 });
  t.end();
});

t.test('staged policies are told and not enforced', (t) => {
  const staged = {
    ...policy({ ingress: [] }),
    metadata: { name: 's', namespace: 'shop', annotations: { 'weft.dev/staged': 'true' } },
  };
  const tables = tablesOf([staged]);
  const judge = (name: string) =>
    tables.setOf(name, 'ingress')?.judge(tables.peerAt(parseIp('10.0.2.2'), NETWORK), TCP, 80);
  t.match(judge('shop/web'), { verdict: 'allow', because: { kind: 'no_rule' } });
  t.match(judge('shop/web')!.staged, {
    verdict: 'deny',
    because: { kind: 'isolated', policies: [{ name: 'shop/s' }] },
  });
  t.equal(judge('shop/api'), undefined, 'it does not select this one');
  const both = tablesOf([staged, policy({ ingress: [] }, 'q')]);
  t.equal(
    both.setOf('shop/web', 'ingress')!.judge(both.peerAt(parseIp('10.0.2.2'), NETWORK), TCP, 80).staged,
    undefined,
  );
  t.end();
});

t.test('who is denied is told if the policy says so, else if its namespace does', (t) => {
  const annotated = (onDeny?: string): NetworkPolicy => ({
    ...policy({ ingress: [] }),
    metadata: { name: 'p', namespace: 'shop', ...(onDeny && { annotations: { 'weft.dev/on-deny': onDeny } }) },
  });
  const rejects = (ofPolicy: string | undefined, ofNamespace?: string): boolean => {
    const tables = new Policies(new Changes());
    const annotations = { ...(ofNamespace && { 'weft.dev/on-deny': ofNamespace }) };
    putWorld(tables, {
      ...worldOf([annotated(ofPolicy)]),
      namespaces: namespaces.map((one) => ({ ...one, annotations })),
    });
    return tables.setOf('shop/web', 'ingress')!.judge(tables.peerAt(parseIp('10.0.2.2'), NETWORK), TCP, 80).rejects;
  };
  t.equal(rejects(undefined), false);
  t.equal(rejects('reject'), true);
  t.equal(rejects(undefined, 'reject'), true);
  t.equal(rejects('drop', 'reject'), false);
  t.end();
});

t.test('priorities that are equal are told if they may contradict each other', (t) => {
  const rule = (action: 'Accept' | 'Deny') => [{ action, from: [{ namespaces: {} }] }];
  const [a, b] = [clusterPolicy({ ingress: rule('Deny') }, 'b'), clusterPolicy({ ingress: rule('Accept') }, 'a')];
  t.match(tablesOf([a, b]).ties(), [
    { tier: 'admin', priority: 0, direction: 'ingress', policies: [{ name: 'a' }, { name: 'b' }] },
  ]);
  t.same(tablesOf([a, clusterPolicy({ priority: 1, ingress: rule('Accept') }, 'a')]).ties(), []);
  t.same(tablesOf([a, clusterPolicy({ ingress: rule('Deny') }, 'a')]).ties(), [], 'they say the same');
  t.end();
});

t.test('which ports matter', (t) => {
  const tables = tablesOf([
    policy({
      ingress: [
        { from: [{ podSelector: app('api') }], ports: [{ port: 80 }, { port: 8000, endPort: 8002 }] },
        { from: [{ podSelector: app('db') }], ports: [{ port: 1000, endPort: 2000 }] },
      ],
    }),
  ]);
  const set = tables.setOf('shop/web', 'ingress')!;
  const portsFor = (address: string, protocol: number) =>
    set.portsFor(tables.peerAt(parseIp(address), NETWORK), protocol);
  t.same(portsFor('10.0.1.3', TCP), { singles: [80, 8000, 8001, 8002], hasRanges: false });
  t.same(portsFor('10.0.1.4', TCP), { singles: [], hasRanges: true });
  t.same(portsFor('10.0.1.4', UDP), { singles: [], hasRanges: false });
  t.same(portsFor('10.0.2.2', TCP), { singles: [], hasRanges: false }, 'no rule is about that peer');
  t.ok(set.asksIdentity);
  const blocks = policy({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }] });
  t.notOk(tablesOf([blocks]).setOf('shop/web', 'ingress')!.asksIdentity);
  t.end();
});

t.test('weft’s DNS is a workload that the usual recipe allows', (t) => {
  const recipe = policy({
    egress: [
      {
        to: [{ namespaceSelector: namespace('kube-system'), podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } }],
        ports: [{ port: 53, protocol: 'UDP' }, { port: 'dns-tcp' }],
      },
    ],
  });
  const set = tablesOf([recipe]).setOf('shop/web', 'egress')!;
  const gateway = { address: parseIp('10.0.1.1'), identity: dnsIdentity({ name: 'kube-system' }), endpoint: undefined };
  t.equal(set.judge(gateway, UDP, 53).verdict, 'allow');
  t.equal(set.judge(gateway, TCP, 53).verdict, 'allow');
  t.equal(set.judge(gateway, TCP, 80).verdict, 'deny');
  const byLabel = policy({ egress: [{ to: [{ namespaceSelector: { matchLabels: { name: 'kube-system' } } }] }] });
  const declared = tablesOf([byLabel]);
  const judged = () =>
    declared.setOf('shop/web', 'egress')!.judge({ ...gateway, identity: declared.dns }, UDP, 53).verdict;
  t.equal(judged(), 'deny');
  declared.namespaceChanged('kube-system', { name: 'kube-system' });
  t.equal(judged(), 'allow', 'by the labels that its namespace declares, too');
  t.end();
});

t.test('workloads with the same policies share a rule set', (t) => {
  const all = policy({ podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] });
  const tables = tablesOf([all]);
  const judge = (name: string) =>
    tables.setOf(name, 'ingress')!.judge(tables.peerAt(parseIp('10.0.2.2'), NETWORK), TCP, 80);
  t.equal(judge('shop/web'), judge('shop/api'), 'the very same judgement');
  t.end();
});
