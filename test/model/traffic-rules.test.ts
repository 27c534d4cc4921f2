/**
 * DestinationRule and VirtualService: the shapes of Istio's documentation that are about connections are accepted, and
 * everything else is refused by name, in one exact line.
 */
import t, { type Test } from 'tap';
import { parseDocuments } from '../../src/model/document.ts';
import { duration, durationMs } from '../../src/model/duration.ts';
import type { KindDefinition } from '../../src/model/kinds/kind.ts';
import { destinationRuleKind } from '../../src/model/kinds/destination-rule.ts';
import { virtualServiceKind } from '../../src/model/kinds/virtual-service.ts';
import { serviceHost, serviceOf } from '../../src/model/service-host.ts';
import { validate } from '../../src/model/validate.ts';

const header = (kind: string): string =>
  `apiVersion: networking.istio.io/v1\nkind: ${kind}\nmetadata: { name: rule, namespace: shop }\nspec:\n`;

/** @param spec YAML without the indentation of `spec` */
function read(kind: KindDefinition, spec: string) {
  const lines = spec.split('\n').map((line) => `  ${line}`);
  const [document] = parseDocuments(header(kind.kind) + lines.join('\n'), 'rule.yaml');
  return validate(kind.schema, document!.value, { locate: document!.locate });
}

function refusal(kind: KindDefinition, spec: string): string {
  try {
    read(kind, spec);
  } catch (error) {
    return (error as Error).message.replace(/^rule\.yaml:\d+:\d+: /, '');
  }
  return 'accepted';
}

/** A rule for `ratings` with this policy, written as a flow map. */
const policy = (text: string): string => `host: ratings\ntrafficPolicy: ${text}`;
const tcp = (text: string): string => `hosts: [reviews]\ntcp: ${text}`;

function refuses(t: Test, kind: KindDefinition, cases: readonly (readonly [spec: string, message: string])[]): void {
  for (const [spec, message] of cases) t.equal(refusal(kind, spec), message, spec.replaceAll('\n', '; '));
}

t.test('the examples of a DestinationRule that are about connections', async (t) => {
  const leastRequest = read(
    destinationRuleKind,
    `host: ratings.prod.svc.cluster.local
trafficPolicy:
  loadBalancer:
    simple: LEAST_REQUEST
subsets:
- name: testversion
  labels:
    version: v3
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN`,
  );
  t.same(leastRequest.spec, {
    host: 'ratings.prod.svc.cluster.local',
    trafficPolicy: { loadBalancer: { simple: 'LEAST_REQUEST' } },
    subsets: [
      {
        name: 'testversion',
        labels: { version: 'v3' },
        trafficPolicy: { loadBalancer: { simple: 'ROUND_ROBIN' } },
      },
    ],
  });
  t.same(destinationRuleKind.references(leastRequest), [], 'the service may come later');
  t.same(destinationRuleKind.columns.cells(leastRequest), ['ratings.prod.svc.cluster.local', 'testversion']);

  const ports = read(
    destinationRuleKind,
    `host: ratings
trafficPolicy: # Apply to all ports
  portLevelSettings:
  - port:
      number: 80
    loadBalancer:
      simple: LEAST_REQUEST
  - port:
      number: 9080
    loadBalancer:
      simple: ROUND_ROBIN`,
  );
  t.match(ports.spec, { trafficPolicy: { portLevelSettings: [{ port: { number: 80 } }, { port: { number: 9080 } }] } });

  const versions = read(
    destinationRuleKind,
    `host: reviews
subsets:
- { name: v1, labels: { version: v1 } }
- { name: v2, labels: { version: v2 } }`,
  );
  t.same(destinationRuleKind.columns.cells(versions), ['reviews', 'v1,v2']);

  const breaker = read(
    destinationRuleKind,
    `host: reviews.prod.svc.cluster.local.
trafficPolicy:
  connectionPool: { tcp: { maxConnections: 100 } }
  loadBalancer: { consistentHash: { useSourceIp: true, maglev: {} }, localityLbSetting: { failoverPriority: [kubernetes.io/hostname] } }
  outlierDetection: { consecutiveLocalOriginFailures: 7, splitExternalLocalOriginErrors: true, interval: 5m, baseEjectionTime: 15m }`,
  );
  t.match(breaker.spec, {
    host: 'reviews.prod.svc.cluster.local',
    trafficPolicy: {
      outlierDetection: {
        consecutiveLocalOriginFailures: 7,
        interval: '5m',
        baseEjectionTime: '15m',
        maxEjectionPercent: 10,
        minHealthPercent: 0,
      },
      loadBalancer: { localityLbSetting: { enabled: true, failoverPriority: ['kubernetes.io/hostname'] } },
    },
  });
  t.same(destinationRuleKind.wideColumns!.cells(breaker), ['source address', 100, 7]);
  t.match(read(destinationRuleKind, policy('{ outlierDetection: {} }')).spec, {
    trafficPolicy: {
      outlierDetection: { consecutiveLocalOriginFailures: 5, interval: '10s', baseEjectionTime: '30s' },
    },
  });
});

t.test('a DestinationRule: what is valid for Istio and not supported is refused by name', async (t) => {
  const noHttp = 'is not supported here: weft reads no HTTP, it balances connections;';
  const failures =
    'is not supported here: weft sees no responses, only connections that fail: give consecutiveLocalOriginFailures, which counts them; accepted are consecutiveLocalOriginFailures, splitExternalLocalOriginErrors, interval, baseEjectionTime, maxEjectionPercent, minHealthPercent';
  const balancing = 'spec.trafficPolicy.loadBalancer';
  const hash = `${balancing}.consistentHash`;
  const accepts = 'accepted are host, trafficPolicy, subsets';
  const policies = 'accepted are loadBalancer, connectionPool, outlierDetection, portLevelSettings';
  refuses(t, destinationRuleKind, [
    [
      'host: ratings\nexportTo: [.]',
      `spec.exportTo is not supported here: a rule holds for clients of all namespaces; ${accepts}`,
    ],
    [
      'host: ratings\nworkloadSelector: { matchLabels: { app: ratings } }',
      `spec.workloadSelector is not supported here: a rule holds for all clients; ${accepts}`,
    ],
    ['host: ratings\nsubset: []', `spec.subset is not supported here, did you mean "subsets"? ${accepts}`],
    [
      policy('{ tls: { mode: ISTIO_MUTUAL } }'),
      `spec.trafficPolicy.tls is not supported here: weft neither begins nor ends TLS; ${policies}`,
    ],
    [
      policy('{ tunnel: { targetHost: a, targetPort: 1 } }'),
      `spec.trafficPolicy.tunnel is not supported here: weft makes no tunnels of HTTP; ${policies}`,
    ],
    [
      policy('{ proxyProtocol: { version: V2 } }'),
      `spec.trafficPolicy.proxyProtocol is not supported here: backends see the true client address, also across hosts; ${policies}`,
    ],
    [policy('{ retryBudget: {} }'), `spec.trafficPolicy.retryBudget ${noHttp} ${policies}`],
    [
      policy('{ connectionPool: { http: { http2MaxRequests: 1000 }, tcp: { maxConnections: 1 } } }'),
      `spec.trafficPolicy.connectionPool.http ${noHttp} accepted are tcp`,
    ],
    [
      policy('{ connectionPool: { tcp: { maxConnections: 100, connectTimeout: 30ms } } }'),
      'spec.trafficPolicy.connectionPool.tcp.connectTimeout is not supported here: the client decides how long it waits for a connection; accepted are maxConnections',
    ],
    [
      policy('{ connectionPool: { tcp: { maxConnections: 100, idleTimeout: 1h } } }'),
      'spec.trafficPolicy.connectionPool.tcp.idleTimeout is not supported here: the ends of a connection decide how long it lasts; accepted are maxConnections',
    ],
    [
      policy('{ connectionPool: { tcp: { maxConnections: 0 } } }'),
      'spec.trafficPolicy.connectionPool.tcp.maxConnections: 0 is not accepted: the most connections of a backend are a whole number, 1 to 2147483647',
    ],
    ...['consecutive5xxErrors', 'consecutiveGatewayErrors', 'consecutiveErrors'].map(
      (field) =>
        [
          policy(`{ outlierDetection: { ${field}: 7, interval: 5m } }`),
          `spec.trafficPolicy.outlierDetection.${field} ${failures}`,
        ] as const,
    ),
    [
      policy('{ outlierDetection: { splitExternalLocalOriginErrors: false } }'),
      'spec.trafficPolicy.outlierDetection.splitExternalLocalOriginErrors: false is not accepted: true is expected: weft sees no other errors than those of connections',
    ],
    [
      policy('{ outlierDetection: { maxEjectionPercent: 101 } }'),
      'spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is not accepted: the largest share of ejected backends is a whole number, 0 to 100',
    ],
    [
      policy('{ outlierDetection: { interval: 10 } }'),
      'spec.trafficPolicy.outlierDetection.interval: 10 is not accepted: text (in quotes) is expected',
    ],
    [
      policy('{ outlierDetection: { baseEjectionTime: 10x } }'),
      'spec.trafficPolicy.outlierDetection.baseEjectionTime: "10x" is not a duration: an ejection time is 100ms to 24h, such as 500ms, 30s or 1h30m',
    ],
    [
      policy('{ loadBalancer: { simple: PASSTHROUGH } }'),
      `${balancing}.simple: "PASSTHROUGH" is not supported here: for clients that choose their backend themselves, make the Service headless`,
    ],
    [
      policy('{ loadBalancer: { simple: LEAST_CONN } }'),
      `${balancing}.simple: "LEAST_CONN" is deprecated: write LEAST_REQUEST, which is the same here`,
    ],
    [
      policy('{ loadBalancer: { simple: random } }'),
      `${balancing}.simple: "random" is not accepted: accepted are ROUND_ROBIN, LEAST_REQUEST, RANDOM, UNSPECIFIED`,
    ],
    [policy('{ loadBalancer: {} }'), `${balancing}: give simple, consistentHash or localityLbSetting`],
    [
      policy('{ loadBalancer: { simple: RANDOM, consistentHash: { useSourceIp: true } } }'),
      `${balancing}: give either simple or consistentHash`,
    ],
    [
      policy('{ loadBalancer: { consistentHash: { httpCookie: { name: user, ttl: 0s } } } }'),
      `${hash}.httpCookie ${noHttp} accepted are useSourceIp, maglev`,
    ],
    [
      policy('{ loadBalancer: { consistentHash: { useSourceIp: false } } }'),
      `${hash}: give useSourceIp: true, since the source address is the only hash key of a connection`,
    ],
    [
      policy('{ loadBalancer: { consistentHash: { useSourceIp: true, httpHeaderName: x } } }'),
      `${hash}.httpHeaderName ${noHttp} accepted are useSourceIp, maglev`,
    ],
    [
      policy('{ loadBalancer: { consistentHash: { useSourceIp: true, ringHash: {} } } }'),
      `${hash}.ringHash is not supported here: weft hashes with Maglev, which needs no settings; accepted are useSourceIp, maglev`,
    ],
    [
      policy('{ loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 101 } } } }'),
      `${hash}.maglev.tableSize is not supported here: weft chooses the size by the number of backends; no field is accepted`,
    ],
    [
      policy('{ loadBalancer: { simple: RANDOM, warmup: { duration: 1s } } }'),
      `${balancing}.warmup is not supported here: a new backend gets its full share at once; accepted are simple, consistentHash, localityLbSetting`,
    ],
    [
      policy('{ loadBalancer: { localityLbSetting: { distribute: [] } } }'),
      `${balancing}.localityLbSetting.distribute is not supported here: weft prefers the own host or the own zone, but has no shares of zones: see failoverPriority; accepted are enabled, failoverPriority`,
    ],
    [
      policy('{ loadBalancer: { localityLbSetting: { failoverPriority: [topology.istio.io/subzone] } } }'),
      `${balancing}.localityLbSetting.failoverPriority[0]: "topology.istio.io/subzone" is not accepted: accepted are kubernetes.io/hostname (its own host first) and topology.kubernetes.io/zone (its own zone first)`,
    ],
    [
      policy('{ portLevelSettings: [{ port: { number: 80 }, outlierDetection: {} }] }'),
      'spec.trafficPolicy.portLevelSettings[0].outlierDetection is not supported here: a backend is ejected for all ports and subsets: give it in spec.trafficPolicy; accepted are port, loadBalancer, connectionPool',
    ],
    [
      'host: ratings\nsubsets: [{ name: v1, labels: { a: b }, trafficPolicy: { outlierDetection: {} } }]',
      'spec.subsets[0].trafficPolicy.outlierDetection is not supported here: a backend is ejected for all ports and subsets: give it in spec.trafficPolicy; accepted are loadBalancer, connectionPool, portLevelSettings',
    ],
    [policy('{}'), 'spec.trafficPolicy: give loadBalancer, connectionPool, outlierDetection or portLevelSettings'],
    [
      policy('{ portLevelSettings: [{ port: { number: 80 } }] }'),
      'spec.trafficPolicy.portLevelSettings[0]: give loadBalancer or connectionPool',
    ],
    [
      policy('{ portLevelSettings: [{ port: {}, loadBalancer: { simple: RANDOM } }] }'),
      'spec.trafficPolicy.portLevelSettings[0].port.number: a port is a whole number, 1 to 65535',
    ],
    [
      policy(`{ portLevelSettings: [${'{ port: { number: 80 }, loadBalancer: { simple: RANDOM } },'.repeat(2)}] }`),
      'spec.trafficPolicy.portLevelSettings[1].port.number: 80 is not accepted: this port has settings already',
    ],
    ['host: ratings', 'spec: give trafficPolicy or subsets'],
    ['host: ratings\nsubsets: [{ name: v1, labels: {} }]', 'spec.subsets[0].labels: a subset has at least one label'],
    [
      'host: ratings\nsubsets: [{ name: v1, labels: { a: b } }, { name: v1, labels: { a: c } }]',
      'spec.subsets[1].name: "v1" is given twice',
    ],
    [
      "host: '*.foo.com'\nsubsets: []",
      'spec.host: "*.foo.com" is a pattern: a Service of the cluster is accepted, as NAME or NAME.NAMESPACE.svc.cluster.local',
    ],
  ]);
});

t.test('the examples of a VirtualService that are about connections', async (t) => {
  const mongo = read(
    virtualServiceKind,
    `hosts:
- mongo.prod.svc.cluster.local
tcp:
- match:
  - port: 27017
  route:
  - destination:
      host: mongo.backup.svc.cluster.local
      port:
        number: 5555`,
  );
  t.same(virtualServiceKind.references(mongo), [
    { kind: 'Service', name: 'mongo', namespace: 'prod' },
    { kind: 'Service', name: 'mongo', namespace: 'backup' },
  ]);
  t.same(virtualServiceKind.columns.cells(mongo), ['mongo.prod.svc.cluster.local', 'mongo.backup.svc.cluster.local']);

  const split = read(
    virtualServiceKind,
    `hosts: [reviews]
tcp:
- match: [{ sourceLabels: { app: productpage }, sourceNamespace: test }, { port: 9080 }]
  route: [{ destination: { host: reviews, subset: v3 } }]
- route:
  - { destination: { host: reviews, subset: v1 }, weight: 90 }
  - { destination: { host: reviews.shop.svc.cluster.local, subset: v2 }, weight: 10 }`,
  );
  t.same(
    virtualServiceKind.references(split),
    [{ kind: 'Service', name: 'reviews', namespace: 'shop' }],
    'each Service once, whatever it is called',
  );
  t.same(virtualServiceKind.columns.cells(split), [
    'reviews',
    'reviews/v3; reviews/v1 90, reviews.shop.svc.cluster.local/v2 10',
  ]);
  t.same(read(virtualServiceKind, tcp('[{ route: [{ destination: { host: reviews }, weight: 0 }] }]')).spec, {
    hosts: ['reviews'],
    tcp: [{ match: [], route: [{ destination: { host: 'reviews' }, weight: 0 }] }],
  });
});

t.test('a VirtualService: what is valid for Istio and not supported is refused by name', async (t) => {
  const route = 'route: [{ destination: { host: reviews } }]';
  const accepts = 'accepted are hosts, tcp';
  const matches = 'accepted are port, sourceLabels, sourceNamespace';
  const noGateways = 'is not supported here: weft has no gateways, a rule holds for all containers;';
  refuses(t, virtualServiceKind, [
    [
      `hosts: [reviews]\nhttp: [{ ${route} }]`,
      `spec.http is not supported here: http routes are layer 7, and weft balances connections: write them as tcp routes; ${accepts}`,
    ],
    [
      `${tcp(`[{ ${route} }]`)}\nhttp: [{ ${route} }]`,
      `spec.http is not supported here: http routes are layer 7, and weft balances connections: write them as tcp routes; ${accepts}`,
    ],
    [
      `${tcp(`[{ ${route} }]`)}\ntls: []`,
      `spec.tls is not supported here: tls routes go by the name in the handshake, which weft does not read: write them as tcp routes; ${accepts}`,
    ],
    [`${tcp(`[{ ${route} }]`)}\ngateways: [mesh]`, `spec.gateways ${noGateways} ${accepts}`],
    [tcp(`[{ match: [{ gateways: [a] }], ${route} }]`), `spec.tcp[0].match[0].gateways ${noGateways} ${matches}`],
    [
      tcp(`[{ match: [{ destinationSubnets: [10.0.0.0/8] }], ${route} }]`),
      `spec.tcp[0].match[0].destinationSubnets is not supported here: spec.hosts says which Service is meant; ${matches}`,
    ],
    [
      tcp(`[{ match: [{ sourceSubnet: 10.0.0.0/8 }], ${route} }]`),
      `spec.tcp[0].match[0].sourceSubnet is not supported here: clients are matched by sourceLabels and sourceNamespace; ${matches}`,
    ],
    [
      tcp(`[{ match: [{ port: 70000 }], ${route} }]`),
      'spec.tcp[0].match[0].port: 70000 is not accepted: a port is a whole number, 1 to 65535',
    ],
    [
      tcp(`[{ match: [{ sourceLabels: {} }], ${route} }]`),
      'spec.tcp[0].match[0].sourceLabels: give at least one label',
    ],
    [
      tcp('[{ route: [{ destination: { host: reviews }, weight: -1 }] }]'),
      'spec.tcp[0].route[0].weight: -1 is not accepted: a weight is a whole number, 0 to 1000000',
    ],
    [
      tcp(
        '[{ route: [{ destination: { host: reviews, subset: v1 } }, { destination: { host: reviews, subset: v2 } }] }]',
      ),
      'spec.tcp[0].route: the weights of its destinations add up to 0, so none gets anything: give at least one a weight',
    ],
    [tcp('[]'), 'spec.tcp: give at least one route'],
    ['hosts: [reviews]', 'spec.tcp: give at least one route'],
    [tcp('[{ route: [] }]'), 'spec.tcp[0].route: give at least one destination'],
    [tcp(`[{ ${route} }, { ${route} }]`), 'spec.tcp[1]: is never reached: tcp[0] takes every connection'],
    [
      tcp(`[{ match: [{ port: 1 }, {}], ${route} }, { ${route} }]`),
      'spec.tcp[1]: is never reached: tcp[0] takes every connection',
    ],
    [
      `hosts: [reviews, reviews.shop.svc.cluster.local]\ntcp: [{ ${route} }]`,
      'spec.hosts[1]: "reviews.shop.svc.cluster.local" is given twice',
    ],
    [`hosts: []\ntcp: [{ ${route} }]`, 'spec.hosts: give at least one Service'],
    [
      `hosts: [10.96.0.1]\ntcp: [{ ${route} }]`,
      'spec.hosts[0]: "10.96.0.1" is an address: a Service of the cluster is accepted, as NAME or NAME.NAMESPACE.svc.cluster.local',
    ],
  ]);
});

t.test('a host is a Service, in the namespace of the rule or in the one that it names', async (t) => {
  for (const [host, name, namespace] of [
    ['reviews', 'reviews', 'shop'],
    ['reviews.prod.svc.cluster.local', 'reviews', 'prod'],
    ['reviews.prod.svc.cluster.local.', 'reviews', 'prod'],
    ['svc.svc.svc.cluster.local', 'svc', 'svc'],
  ] as const) {
    t.same(serviceOf(serviceHost.parse(host), 'shop'), { name, namespace }, host);
  }
  for (const wrong of [
    ...['', '.', 'Reviews', 'reviews.prod', 'reviews.prod.svc', 'example.com', '*', '*.svc.cluster.local', 'fd00::1'],
    ...[
      'svc.cluster.local',
      'a.svc.cluster.local',
      'a.b.c.svc.cluster.local',
      '.b.svc.cluster.local',
      'a..svc.cluster.local',
    ],
  ]) {
    t.notOk(serviceHost.safeParse(wrong).success, JSON.stringify(wrong));
  }
});

t.test('durations', async (t) => {
  const accepted = duration('a time', { leastMs: 1, mostMs: 86_400_000 });
  for (const [text, ms] of [
    ['1ms', 1],
    ['1.5s', 1500],
    ['1h30m', 5_400_000],
    ['0.001s', 1],
    ['1m1.1s', 61_100],
    ['24h', 86_400_000],
  ] as const) {
    t.equal(durationMs(accepted.parse(text)), ms, text);
  }
  for (const wrong of ['', '1', 's', '-1s', '1 s', '0s', '25h', '0.5ms', '1d', '1e3s', `${'1'.repeat(10)}h`]) {
    t.notOk(accepted.safeParse(wrong).success, JSON.stringify(wrong));
  }
});
