/**
 * Network policy, rule by rule of what is known to go wrong elsewhere: the truth table that `test/README.md` names, with each
 * verdict written by hand.
 */
import t from 'tap';
import { oracle } from '../support/policy/oracle.ts';
import {
  OUTSIDER,
  policy,
  clusterPolicy,
  app,
  namespace,
  packetOf,
  worldOf,
  tablesOf,
  verdictOf,
} from '../support/policy/shop.ts';
import { type Manifest } from '../support/policy/world.ts';

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
