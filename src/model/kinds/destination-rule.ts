/**
 * DestinationRule (`networking.istio.io/v1`): which backends of a Service form a subset, how connections are spread over
 * them, how many each may have, and when one that fails is left alone for a while.
 *
 * Of Istio's fields, those are supported that make sense for connections; weft reads no HTTP and ends no TLS.
 */
import * as z from 'zod';
import { duration } from '../duration.ts';
import { serviceHost } from '../service-host.ts';
import { label, labelKey, name, quote } from '../value.ts';
import { foreignObject } from './foreign.ts';
import { defineKind } from './kind.ts';
import { upstreamMetadata } from './upstream.ts';

export const ISTIO_NETWORKING_V1 = 'networking.istio.io/v1';

const MOST_SUBSETS = 64;
const MOST_PORTS = 64;
const HOSTNAME_LABEL = 'kubernetes.io/hostname';
export const ZONE_LABEL = 'topology.kubernetes.io/zone';

const NO_HTTP = 'weft reads no HTTP, it balances connections';
const NO_TLS = 'weft neither begins nor ends TLS';
const FAILURES =
  'weft sees no responses, only connections that fail: give consecutiveLocalOriginFailures, which counts them';

/** `is`: the sentence that says what is accepted. */
const count = (is: string, { least, most }: { readonly least: number; readonly most: number }) =>
  z.int({ error: is }).min(least, is).max(most, is);

const percent = (what: string) => count(`${what} is a whole number, 0 to 100`, { least: 0, most: 100 });

export const portNumber = count('a port is a whole number, 1 to 65535', { least: 1, most: 65_535 });

/** Istio's PortSelector. */
export const portSelector = foreignObject({ number: portNumber });

const SIMPLE = ['ROUND_ROBIN', 'LEAST_REQUEST', 'RANDOM', 'UNSPECIFIED'] as const;
const otherSimple: Readonly<Record<string, string>> = {
  LEAST_CONN: 'is deprecated: write LEAST_REQUEST, which is the same here',
  PASSTHROUGH: 'is not supported here: for clients that choose their backend themselves, make the Service headless',
};

/** LEAST_REQUEST means the fewest connections. UNSPECIFIED is weft's own choice, as if it were not given. */
const simple = z.enum(SIMPLE, {
  error: ({ input }) => {
    const why = typeof input === 'string' && Object.hasOwn(otherSimple, input) ? otherSimple[input] : undefined;
    return why === undefined ? `accepted are ${SIMPLE.join(', ')}` : `${quote(String(input))} ${why}`;
  },
});

const consistentHash = foreignObject(
  {
    /** All connections of a client's address go to one backend, as long as that is there. */
    useSourceIp: z.boolean().optional(),
    /** What weft hashes with in any case. */
    maglev: foreignObject({}, { tableSize: 'weft chooses the size by the number of backends' }).optional(),
  },
  {
    httpHeaderName: NO_HTTP,
    httpCookie: NO_HTTP,
    httpQueryParameterName: NO_HTTP,
    ringHash: 'weft hashes with Maglev, which needs no settings',
    minimumRingSize: 'weft hashes with Maglev, which needs no settings',
  },
).refine(
  ({ useSourceIp }) => useSourceIp === true,
  'give useSourceIp: true, since the source address is the only hash key of a connection',
);

const localityLbSetting = foreignObject(
  {
    enabled: z.boolean().default(true),
    /** Backends on the client's own host, or in its zone, are preferred while there are any. */
    failoverPriority: z
      .tuple([
        z.enum([HOSTNAME_LABEL, ZONE_LABEL], {
          error: `accepted are ${HOSTNAME_LABEL} (its own host first) and ${ZONE_LABEL} (its own zone first)`,
        }),
      ])
      .optional(),
  },
  {
    distribute: 'weft prefers the own host or the own zone, but has no shares of zones: see failoverPriority',
    failover: 'weft knows hosts and zones, but no regions: see failoverPriority',
  },
);

const NO_WARMUP = 'a new backend gets its full share at once';
const loadBalancer = foreignObject(
  {
    simple: simple.optional(),
    consistentHash: consistentHash.optional(),
    localityLbSetting: localityLbSetting.optional(),
  },
  {
    warmup: NO_WARMUP,
    warmupDurationSecs: NO_WARMUP,
    zoneAwareLbSetting: 'see localityLbSetting',
  },
).superRefine((settings, context) => {
  if (Object.keys(settings).length === 0) {
    context.addIssue({ code: 'custom', message: 'give simple, consistentHash or localityLbSetting' });
  }
  if (settings.simple === undefined || settings.consistentHash === undefined) return;
  context.addIssue({ code: 'custom', message: 'give either simple or consistentHash' });
});

const ENDS = 'the ends of a connection decide how long it lasts';
const connectionPool = foreignObject(
  {
    tcp: foreignObject(
      {
        /** Of each backend. A connection that finds all of them full is refused. */
        maxConnections: count('the most connections of a backend are a whole number, 1 to 2147483647', {
          least: 1,
          most: 2_147_483_647,
        }),
      },
      {
        connectTimeout: 'the client decides how long it waits for a connection',
        tcpKeepalive: 'keepalives are sent by the ends of a connection',
        maxConnectionDuration: ENDS,
        idleTimeout: ENDS,
      },
    ),
  },
  { http: NO_HTTP },
);

const outlierDetection = foreignObject(
  {
    /** Connections that fail in a row until the backend is ejected. */
    consecutiveLocalOriginFailures: count('failures in a row are a whole number, 1 to 1000', {
      least: 1,
      most: 1000,
    }).default(5),
    /** In weft all failures are of this kind. */
    splitExternalLocalOriginErrors: z
      .literal(true, { error: 'true is expected: weft sees no other errors than those of connections' })
      .optional(),
    /** How often ejected backends are looked at, and a backend that has worked since is forgiven an ejection. */
    interval: duration('an interval', { leastMs: 100, mostMs: 3_600_000 }).default('10s'),
    /** The first ejection; each one that follows is longer by as much. */
    baseEjectionTime: duration('an ejection time', { leastMs: 100, mostMs: 86_400_000 }).default('30s'),
    /** Of the backends, those that may be ejected at the same time. */
    maxEjectionPercent: percent('the largest share of ejected backends').default(10),
    /** If fewer than these are left, ejections count for nothing and all backends are used. */
    minHealthPercent: percent('the least share of healthy backends').default(0),
  },
  {
    consecutive5xxErrors: FAILURES,
    consecutiveGatewayErrors: FAILURES,
    consecutiveErrors: FAILURES,
    outlierDetectionHttpErrorCodes: NO_HTTP,
  },
);

const policyShape = {
  loadBalancer: loadBalancer.optional(),
  connectionPool: connectionPool.optional(),
};
const refusedOfPolicy = {
  tls: NO_TLS,
  tunnel: 'weft makes no tunnels of HTTP',
  proxyProtocol: 'backends see the true client address, also across hosts',
  retryBudget: NO_HTTP,
};

const refusedOfPart = {
  ...refusedOfPolicy,
  outlierDetection: 'a backend is ejected for all ports and subsets: give it in spec.trafficPolicy',
};

/** A policy that says nothing is a mistake. */
const saysSomething = (policy: Readonly<Record<string, unknown>>): boolean =>
  Object.keys(policy).some((field) => field !== 'port');

/** What is said for one port replaces the policy above it as a whole. */
const portTrafficPolicy = foreignObject({ port: portSelector, ...policyShape }, refusedOfPart).refine(
  saysSomething,
  'give loadBalancer or connectionPool',
);

const portLevelSettings = z
  .array(portTrafficPolicy)
  .min(1, 'leave it out, or give at least one port')
  .max(MOST_PORTS, `at most ${MOST_PORTS} ports have settings of their own`)
  .superRefine((settings, context) => {
    const numbers = settings.map(({ port }) => port.number);
    for (const [index, input] of numbers.entries()) {
      if (numbers.indexOf(input) === index) continue;
      const path = [index, 'port', 'number'];
      context.addIssue({ code: 'custom', path, input, message: 'this port has settings already' });
    }
  })
  .optional();

const trafficPolicy = foreignObject(
  { ...policyShape, outlierDetection: outlierDetection.optional(), portLevelSettings },
  refusedOfPolicy,
).refine(saysSomething, 'give loadBalancer, connectionPool, outlierDetection or portLevelSettings');

const subsetTrafficPolicy = foreignObject({ ...policyShape, portLevelSettings }, refusedOfPart).refine(
  saysSomething,
  'give loadBalancer, connectionPool or portLevelSettings',
);

const subset = foreignObject({
  name,
  /** Its backends have all of these labels. */
  labels: z
    .record(labelKey, label)
    .refine((labels) => Object.keys(labels).length > 0, 'a subset has at least one label'),
  /** What is said here goes before what the rule says for all backends. */
  trafficPolicy: subsetTrafficPolicy.optional(),
});

const EVERY_NAMESPACE = 'a rule holds for clients of all namespaces';

export const destinationRuleSchema = foreignObject({
  apiVersion: z.literal(ISTIO_NETWORKING_V1),
  kind: z.literal('DestinationRule'),
  metadata: upstreamMetadata(name),
  spec: foreignObject(
    {
      host: serviceHost,
      trafficPolicy: trafficPolicy.optional(),
      subsets: z.array(subset).max(MOST_SUBSETS, `a rule has at most ${MOST_SUBSETS} subsets`).default([]),
    },
    { exportTo: EVERY_NAMESPACE, workloadSelector: 'a rule holds for all clients' },
  ).superRefine(({ trafficPolicy: policy, subsets }, context) => {
    if (policy === undefined && subsets.length === 0) {
      context.addIssue({ code: 'custom', message: 'give trafficPolicy or subsets' });
    }
    const names = subsets.map((one) => one.name);
    for (const [index, input] of names.entries()) {
      if (names.indexOf(input) === index) continue;
      const path = ['subsets', index, 'name'];
      context.addIssue({ code: 'custom', path, input, message: `${quote(input)} is given twice` });
    }
  }),
});

export type DestinationRuleResource = z.output<typeof destinationRuleSchema>;
export type TrafficPolicySpec = z.output<typeof trafficPolicy>;
export type LoadBalancerSpec = z.output<typeof loadBalancer>;
export type OutlierDetectionSpec = z.output<typeof outlierDetection>;

export const destinationRuleKind = defineKind({
  kind: 'DestinationRule',
  plural: 'destinationrules',
  shortNames: ['dr'],
  apiVersion: ISTIO_NETWORKING_V1,
  isNamespaced: true,
  schema: destinationRuleSchema,
  isLeaf: true,
  // The Service may come later, or go: the rule waits for it.
  references: () => [],
  columns: {
    heads: ['HOST', 'SUBSETS'],
    cells: ({ spec: { host, subsets } }) => [host, subsets.map((one) => one.name).join(',')],
  },
  wideColumns: {
    heads: ['BALANCING', 'CONNECTIONS', 'EJECTED AFTER'],
    cells: ({ spec: { trafficPolicy: policy } }) => [
      balancingText(policy),
      policy?.connectionPool?.tcp.maxConnections ?? '',
      policy?.outlierDetection?.consecutiveLocalOriginFailures ?? '',
    ],
  },
});

function balancingText({ loadBalancer: settings }: TrafficPolicySpec = {}): string {
  if (settings?.consistentHash) return 'source address';
  return settings?.simple ?? '';
}
