/**
 * Network policy, rule by rule of what is known to go wrong elsewhere: the truth table that `test/README.md` names, with each
 * verdict written by hand. Beside it: what is told of a denial, what is noted of a change, and what it costs.
 */
import t from 'tap';
import { bytesId } from '../../src/flow/key.ts';
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import { dnsIdentity, identityObject, Policies, policyObject } from '../../src/table/policies.ts';
import { oracle, podAt } from '../support/policy/oracle.ts';
import { endpointName, identityOf, policyOf, putWorld } from '../support/policy/tables.ts';
import {
  ICMP,
  type ClusterNetworkPolicy,
  type LabelSelector,
  type Manifest,
  type Namespace,
  type NetworkPolicy,
  type Packet,
  type Pod,
  type ProtocolName,
  type World,
} from '../support/policy/world.ts';

const NETWORK = 1 as Vni;
const TCP = 6;
const UDP = 17;
const SCTP = 132;

const namespaces: readonly Namespace[] = [
  { name: 'shop', labels: { env: 'prod' } },
  { name: 'lab', labels: { env: 'test' } },
  { name: 'ops', labels: {} },
];
const pods: readonly Pod[] = [
  pod('shop/web', '10.0.1.2', { app: 'web' }, [['http', 8080]]),
  pod('shop/api', '10.0.1.3', { app: 'api', tier: 'back' }, [['http', 8081]]),
  pod('shop/db', '10.0.1.4', { app: 'db', tier: 'back' }, [['http', 80, 'UDP']]),
  pod('lab/web', '10.0.2.2', { app: 'web' }),
  pod('ops/probe', '10.0.3.2', {}),
];
const OUTSIDER = '192.0.2.9';

function pod(
  name: string,
  address: string,
  labels: Record<string, string>,
  ports: readonly (readonly [string, number, ProtocolName?])[] = [],
): Pod {
  const [namespace, own] = name.split('/') as [string, string];
  return {
    ...{ name: own, namespace, labels, addresses: [address, `fd00::${address.split('.').slice(2).join(':')}`] },
    ports: ports.map(([port, number, protocol = 'TCP']) => ({ name: port, port: number, protocol })),
  };
}

function policy(spec: Partial<NetworkPolicy['spec']>, name = 'p', namespace = 'shop'): NetworkPolicy {
  return { kind: 'NetworkPolicy', metadata: { name, namespace }, spec: { podSelector: app('web'), ...spec } };
}

function clusterPolicy(spec: Partial<ClusterNetworkPolicy['spec']>, name = 'c'): ClusterNetworkPolicy {
  const subject = { namespaces: namespace('shop') };
  return { kind: 'ClusterNetworkPolicy', metadata: { name }, spec: { tier: 'Admin', priority: 0, subject, ...spec } };
}

function app(name: string): LabelSelector {
  return { matchLabels: { app: name } };
}

function namespace(name: string): LabelSelector {
  return { matchLabels: { 'kubernetes.io/metadata.name': name } };
}

/** `shop/web > shop/api tcp 80`, also with addresses, and `6` behind the names for IPv6. */
function packetOf(text: string): Packet {
  const [from, , to, protocol, port = '0'] = text.split(' ') as [string, string, string, string, string?];
  const numbers: Record<string, number> = { tcp: TCP, udp: UDP, sctp: SCTP, icmp: ICMP, gre: 47 };
  const addressOf = (end: string): string => {
    const known = pods.find((one) => endpointName(one) === end.replace(/6$/, ''));
    return known ? known.addresses[end.endsWith('6') ? 1 : 0]! : end;
  };
  return { from: addressOf(from), to: addressOf(to), protocol: numbers[protocol]!, port: Number(port) };
}

function worldOf(policies: readonly Manifest[]): World {
  return { namespaces, pods, policies };
}

function tablesOf(policies: readonly Manifest[]): Policies {
  const tables = new Policies(new Changes());
  putWorld(tables, worldOf(policies));
  return tables;
}

/** As the two stages of the pipeline ask. */
function verdictOf(tables: Policies, packet: Packet): 'allow' | 'deny' {
  const [source, destination] = [podAt(worldOf([]), packet.from), podAt(worldOf([]), packet.to)];
  const verdict = (subject: Pod | undefined, direction: 'ingress' | 'egress', peer: string): string | undefined =>
    subject &&
    tables
      .setOf(endpointName(subject), direction)
      ?.judge(tables.peerAt(parseIp(peer), NETWORK), packet.protocol, packet.port).verdict;
  const verdicts = [verdict(source, 'egress', packet.to), verdict(destination, 'ingress', packet.from)];
  return verdicts.includes('deny') ? 'deny' : 'allow';
}

/** What it says, the policies, and packets that they allow and deny. */
type Case = readonly [
  rule: string,
  policies: readonly Manifest[],
  allowed: readonly string[],
  denied: readonly string[],
];

const cases: readonly Case[] = [
  [
    '1 without policyTypes: ingress always',
    [policy({})],
    ['shop/web > shop/api tcp 80'],
    ['shop/api > shop/web tcp 80', 'ops/probe > shop/web icmp'],
  ],
  [
    '1 without policyTypes: egress if there are rules for it',
    [policy({ egress: [{ to: [{ podSelector: app('api') }] }] })],
    ['shop/web > shop/api tcp 80'],
    ['shop/web > shop/db tcp 80', 'shop/api > shop/web tcp 80'],
  ],
  [
    '1 with policyTypes: nothing else, and egress without rules is closed',
    [policy({ policyTypes: ['Egress'], ingress: [] })],
    ['shop/api > shop/web tcp 80'],
    ['shop/web > shop/api tcp 80', `shop/web > ${OUTSIDER} tcp 80`],
  ],
  [
    '2 from absent or empty is everybody',
    [policy({ ingress: [{}] }), policy({ podSelector: app('api'), ingress: [{ from: [] }] }, 'q')],
    [`${OUTSIDER} > shop/web tcp 1`, 'lab/web > shop/api udp 9', 'ops/probe6 > shop/web6 icmp'],
    [],
  ],
  [
    '2 an empty selector is its whole set',
    [policy({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] })],
    ['shop/api > shop/web tcp 80', 'shop/web > shop/db tcp 80'],
    ['lab/web > shop/web tcp 80', `${OUTSIDER} > shop/db tcp 80`],
  ],
  [
    '2 an empty list of rules is nobody',
    [policy({ ingress: [] })],
    [],
    ['shop/api > shop/web tcp 80', `${OUTSIDER} > shop/web tcp 80`],
  ],
  [
    '3 ports absent or empty is all ports and protocols',
    [
      policy({
        ingress: [{ from: [{ podSelector: {} }] }, { from: [{ namespaceSelector: namespace('lab') }], ports: [] }],
      }),
    ],
    ['shop/api > shop/web sctp 9', 'shop/api > shop/web icmp', 'shop/api > shop/web gre', 'lab/web > shop/web icmp'],
    ['ops/probe > shop/web icmp'],
  ],
  [
    '3 ports given: only these, and no protocol without ports',
    [policy({ ingress: [{ ports: [{ port: 80 }, { protocol: 'UDP' }] }] })],
    ['shop/api > shop/web tcp 80', 'shop/api > shop/web udp 1', 'shop/api > shop/web udp 65535'],
    [
      'shop/api > shop/web tcp 81',
      'shop/api > shop/web icmp',
      'shop/api > shop/web gre',
      'shop/api > shop/web sctp 80',
    ],
  ],
  [
    '4 podSelector alone is of the own namespace',
    [policy({ podSelector: app('api'), ingress: [{ from: [{ podSelector: app('web') }] }] })],
    ['shop/web > shop/api tcp 80'],
    ['lab/web > shop/api tcp 80'],
  ],
  [
    '4 namespaceSelector {} is all namespaces, the own one as well',
    [policy({ podSelector: app('api'), ingress: [{ from: [{ namespaceSelector: {} }] }] })],
    ['shop/web > shop/api tcp 80', 'lab/web > shop/api tcp 80'],
    [`${OUTSIDER} > shop/api tcp 80`],
  ],
  [
    '5 both selectors in one item: AND',
    [policy({ ingress: [{ from: [{ namespaceSelector: namespace('shop'), podSelector: app('api') }] }] })],
    ['shop/api > shop/web tcp 80'],
    ['shop/db > shop/web tcp 80', 'lab/web > shop/web tcp 80'],
  ],
  [
    '5 two items: OR',
    [policy({ ingress: [{ from: [{ namespaceSelector: namespace('lab') }, { podSelector: app('api') }] }] })],
    ['shop/api > shop/web tcp 80', 'lab/web > shop/web tcp 80'],
    ['shop/db > shop/web tcp 80'],
  ],
  [
    '6 NotIn and DoesNotExist match what does not have the key',
    [
      policy({
        ingress: [
          {
            from: [
              {
                namespaceSelector: {},
                podSelector: {
                  matchExpressions: [
                    { key: 'app', operator: 'NotIn', values: ['web', 'db'] },
                    { key: 'tier', operator: 'DoesNotExist' },
                  ],
                },
              },
            ],
          },
        ],
      }),
    ],
    ['ops/probe > shop/web tcp 80'],
    ['shop/api > shop/web tcp 80', 'shop/db > shop/web tcp 80', 'lab/web > shop/web tcp 80'],
  ],
  [
    '6 In and Exists do not',
    [
      policy({
        ingress: [
          { from: [{ podSelector: { matchExpressions: [{ key: 'tier', operator: 'Exists' }] } }] },
          {
            from: [
              { namespaceSelector: { matchExpressions: [{ key: 'env', operator: 'In', values: ['test', 'x'] }] } },
            ],
          },
        ],
      }),
    ],
    ['shop/api > shop/web tcp 80', 'lab/web > shop/web tcp 80'],
    ['ops/probe > shop/web tcp 80'],
  ],
  [
    '7 kubernetes.io/metadata.name is on each namespace by itself',
    [policy({ ingress: [{ from: [{ namespaceSelector: namespace('ops') }] }] })],
    ['ops/probe > shop/web tcp 80'],
    ['lab/web > shop/web tcp 80'],
  ],
  [
    '8 TCP is the default, and UDP never opens TCP',
    [
      policy({ ingress: [{ ports: [{ port: 80 }] }] }),
      policy({ podSelector: app('api'), ingress: [{ ports: [{ port: 53, protocol: 'UDP' }] }] }, 'q'),
    ],
    ['ops/probe > shop/web tcp 80', 'ops/probe > shop/api udp 53'],
    ['ops/probe > shop/web udp 80', 'ops/probe > shop/api tcp 53'],
  ],
  [
    '8 a rule for SCTP isolates, too',
    [policy({ ingress: [{ ports: [{ port: 80, protocol: 'SCTP' }] }] })],
    ['ops/probe > shop/web sctp 80'],
    ['ops/probe > shop/web tcp 80'],
  ],
  [
    '9 a named port is that of each destination, with its protocol',
    [policy({ podSelector: {}, ingress: [{ ports: [{ port: 'http' }] }] })],
    ['ops/probe > shop/web tcp 8080', 'ops/probe > shop/api tcp 8081'],
    [
      'ops/probe > shop/web tcp 8081',
      'ops/probe > shop/api tcp 8080',
      'ops/probe > shop/db tcp 80',
      'ops/probe > shop/db udp 80',
    ],
  ],
  [
    '9 of egress, too, and beside an ipBlock it is nothing',
    [
      policy({
        podSelector: app('db'),
        egress: [
          { to: [{ podSelector: {} }, { ipBlock: { cidr: '10.0.2.0/24' } }], ports: [{ port: 'http' }] },
          { to: [{ ipBlock: { cidr: '10.0.1.3/32' } }], ports: [{ port: 'http' }] },
        ],
      }),
    ],
    ['shop/db > shop/web tcp 8080', 'shop/db > shop/api tcp 8081'],
    ['shop/db > shop/web tcp 8081', 'shop/db > lab/web tcp 8080', 'shop/db > lab/web tcp 80'],
  ],
  [
    '9 of egress, by an address alone',
    [
      policy({
        podSelector: app('db'),
        egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }], ports: [{ port: 'http' }] }],
      }),
    ],
    [],
    ['shop/db > shop/web tcp 8080', `shop/db > ${OUTSIDER} tcp 80`],
  ],
  [
    '10 endPort',
    [policy({ ingress: [{ ports: [{ port: 8000, endPort: 8010 }] }] })],
    ['ops/probe > shop/web tcp 8000', 'ops/probe > shop/web tcp 8005', 'ops/probe > shop/web tcp 8010'],
    ['ops/probe > shop/web tcp 7999', 'ops/probe > shop/web tcp 8011', 'ops/probe > shop/web udp 8005'],
  ],
  [
    '11 ipBlock matches the addresses of pods, too',
    [policy({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.2.0/24' } }] }] })],
    ['lab/web > shop/web tcp 80'],
    ['shop/api > shop/web tcp 80'],
  ],
  [
    '12 except of one rule takes nothing away from another, nor one block from another',
    [
      policy({
        ingress: [
          { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.1.0/24', '10.0.2.0/24', '10.0.3.2/32'] } }] },
          { from: [{ ipBlock: { cidr: '10.0.2.0/25' } }] },
          {
            from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.2.0/23', '10.0.1.4/32'] } }],
            ports: [{ port: 80 }],
          },
        ],
      }),
    ],
    ['10.0.4.1 > shop/web tcp 1', 'lab/web > shop/web tcp 1', 'shop/api > shop/web tcp 80'],
    [
      'ops/probe > shop/web tcp 80',
      'shop/db > shop/web tcp 80',
      'shop/api > shop/web tcp 81',
      '10.0.2.200 > shop/web tcp 80',
    ],
  ],
  [
    '13 a block of IPv4 leaves IPv6 isolated, not open',
    [policy({ ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] })],
    ['lab/web > shop/web tcp 80'],
    ['lab/web6 > shop/web6 tcp 80', '2001:db8::1 > shop/web6 icmp'],
  ],
  [
    '13 and a block of IPv6 leaves IPv4 isolated',
    [policy({ ingress: [{ from: [{ ipBlock: { cidr: '::/0', except: ['fd00::2:0/112'] } }] }] })],
    ['ops/probe6 > shop/web6 tcp 80'],
    ['ops/probe > shop/web tcp 80', 'lab/web6 > shop/web6 tcp 80'],
  ],
  [
    '14 both ends must allow',
    [
      policy({ egress: [{ to: [{ podSelector: app('api') }] }] }),
      policy({ podSelector: app('api'), ingress: [{ from: [{ podSelector: app('db') }] }] }, 'q'),
      policy({ podSelector: app('db'), ingress: [{ from: [{ podSelector: app('web') }] }] }, 'r'),
    ],
    ['shop/db > shop/api tcp 80'],
    ['shop/web > shop/api tcp 80', 'shop/web > shop/db tcp 80'],
  ],
  [
    'several policies add up',
    [
      policy({ ingress: [{ from: [{ podSelector: app('api') }], ports: [{ port: 80 }] }] }),
      policy({ ingress: [{ from: [{ podSelector: app('db') }] }] }, 'q'),
    ],
    ['shop/api > shop/web tcp 80', 'shop/db > shop/web tcp 81'],
    ['shop/api > shop/web tcp 81'],
  ],
  [
    'a group is no workload, but may be in a block',
    [
      policy({ egress: [{ to: [{ namespaceSelector: {} }] }] }),
      policy({ podSelector: app('api'), egress: [{ to: [{ ipBlock: { cidr: '224.0.0.0/4' } }] }] }, 'q'),
    ],
    ['shop/api > 224.0.0.251 udp 5353'],
    ['shop/web > 224.0.0.251 udp 5353', 'shop/api > 255.255.255.255 udp 67'],
  ],
  [
    '27 a ClusterNetworkPolicy does not isolate',
    [clusterPolicy({ ingress: [{ action: 'Accept', from: [{ namespaces: namespace('lab') }] }] })],
    ['lab/web > shop/web tcp 80', 'ops/probe > shop/web tcp 80'],
    [],
  ],
  [
    '27 Accept of the tier Admin comes before NetworkPolicy, and Deny as well',
    [
      policy({ ingress: [{ from: [{ namespaceSelector: namespace('ops') }] }] }),
      clusterPolicy({
        ingress: [
          {
            action: 'Accept',
            from: [{ namespaces: namespace('lab') }],
            protocols: [{ tcp: { destinationPort: { number: 80 } } }],
          },
          { action: 'Deny', from: [{ namespaces: namespace('ops') }], protocols: [{ udp: {} }] },
        ],
      }),
    ],
    ['lab/web > shop/web tcp 80', 'ops/probe > shop/web tcp 80', 'ops/probe > shop/web icmp'],
    ['lab/web > shop/web tcp 81', 'ops/probe > shop/web udp 80', 'shop/api > shop/web tcp 80'],
  ],
  [
    '27 Pass skips the rest of the tier only',
    [
      clusterPolicy({ ingress: [{ action: 'Pass', from: [{ namespaces: namespace('lab') }] }] }, 'c1'),
      clusterPolicy({ priority: 1, ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] }, 'c2'),
      clusterPolicy({ tier: 'Baseline', ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] }, 'c3'),
      policy({ podSelector: app('api'), ingress: [{}] }),
    ],
    ['lab/web > shop/api tcp 80', `${OUTSIDER} > shop/web tcp 80`],
    ['lab/web > shop/web tcp 80', 'ops/probe > shop/api tcp 80'],
  ],
  [
    '27 Baseline is asked for what no NetworkPolicy selects in that direction',
    [
      policy({ egress: [{}], policyTypes: ['Egress'] }),
      clusterPolicy({
        tier: 'Baseline',
        ingress: [{ action: 'Deny', from: [{ namespaces: namespace('lab') }] }],
        egress: [{ action: 'Deny', to: [{ networks: ['192.0.2.0/24'] }] }],
      }),
    ],
    [`shop/web > ${OUTSIDER} tcp 80`, 'ops/probe > shop/web tcp 80'],
    ['lab/web > shop/web tcp 80', `shop/api > ${OUTSIDER} tcp 80`],
  ],
  [
    '27 Accept on egress does not excuse ingress',
    [
      clusterPolicy({ egress: [{ action: 'Accept', to: [{ namespaces: {} }] }] }),
      policy({ podSelector: app('api'), ingress: [] }),
    ],
    ['shop/web > shop/db tcp 80'],
    ['shop/web > shop/api tcp 80'],
  ],
  [
    '27 priorities: the smallest first, then as it is written, then by name',
    [
      clusterPolicy({ priority: 7, ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] }, 'a'),
      clusterPolicy({ priority: 6, ingress: [{ action: 'Accept', from: [{ namespaces: namespace('lab') }] }] }, 'z'),
      clusterPolicy({ priority: 7, ingress: [{ action: 'Accept', from: [{ namespaces: namespace('ops') }] }] }, 'b'),
    ],
    ['lab/web > shop/web tcp 80'],
    ['ops/probe > shop/web tcp 80'],
  ],
  [
    '27 a peer that cannot be read fails closed: Accept matches nothing',
    [
      clusterPolicy({ ingress: [{ action: 'Accept', from: [{}, { namespaces: {} }] }] }),
      clusterPolicy({ tier: 'Baseline', ingress: [{ action: 'Deny', from: [{ namespaces: namespace('lab') }] }] }, 'd'),
    ],
    ['ops/probe > shop/web tcp 80'],
    ['lab/web > shop/web tcp 80'],
  ],
  [
    '27 and Deny and Pass deny everything, whatever ports they are for',
    [
      clusterPolicy({ ingress: [{ action: 'Deny', from: [{}], protocols: [{ udp: {} }] }] }),
      clusterPolicy({ egress: [{ action: 'Pass', to: [{}] }] }, 'd'),
    ],
    ['lab/web > ops/probe tcp 80'],
    ['lab/web > shop/web tcp 80', `${OUTSIDER} > shop/db icmp`, 'shop/web > lab/web tcp 80'],
  ],
  [
    '27 a named port of any protocol',
    [
      clusterPolicy({
        ingress: [{ action: 'Deny', from: [{ namespaces: {} }], protocols: [{ destinationNamedPort: 'http' }] }],
      }),
    ],
    ['ops/probe > shop/db tcp 80', 'ops/probe > shop/web tcp 80'],
    ['ops/probe > shop/db udp 80', 'ops/probe > shop/web tcp 8080'],
  ],
];

t.test('the truth table', (t) => {
  for (const [rule, policies, allowed, denied] of cases) {
    const tables = tablesOf(policies);
    t.test(rule, (t) => {
      for (const [verdict, texts] of [
        ['allow', allowed],
        ['deny', denied],
      ] as const) {
        for (const text of texts) {
          t.equal(verdictOf(tables, packetOf(text)), verdict, text);
          t.equal(oracle(worldOf(policies), packetOf(text)), verdict, `${text}, as the oracle has it`);
        }
      }
      t.end();
    });
  }
  t.end();
});

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
  t.same(tables.takeConcerned(), { subjects: new Set(), addresses: new Set([bytesId(address)]) });
  t.end();
});

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
  t.same(changes.drain().changed, [ingress, egress]);
  put(policy({ ingress: [{}], egress: [{}] }));
  t.ok(changes.isEmpty, 'nothing has changed');
  put(policy({ ingress: [{}], egress: [{ ports: [{ port: 80 }] }] }));
  t.same(changes.drain().changed, [egress]);
  put(policy({ ingress: [] }), clusterPolicy({ ingress: [] }));
  t.same(changes.drain().changed, [ingress, egress]);
  t.equal(tables.setOf('shop/web', 'egress'), undefined);
  put();
  t.same(changes.drain().changed, [ingress]);
  t.equal(tables.setOf('shop/web', 'ingress'), undefined);
  put();
  tables.setSubject('shop/web', undefined);
  t.ok(changes.isEmpty);
  t.same(tables.takeConcerned().subjects, new Set(['shop/web']));
  t.notOk(tables.hasConcerned);
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
  const gateway = { address: parseIp('10.0.1.1'), identity: dnsIdentity, endpoint: undefined };
  t.equal(set.judge(gateway, UDP, 53).verdict, 'allow');
  t.equal(set.judge(gateway, TCP, 53).verdict, 'allow');
  t.equal(set.judge(gateway, TCP, 80).verdict, 'deny');
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
