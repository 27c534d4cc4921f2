/** A switch without a datapath: it implements what the API calls, with controls for the tests. */
import type { FollowOptions, SwitchMethods } from '../../src/api/target.ts';
import { WeftError } from '../../src/error.ts';
import type {
  AcceptReport,
  ConnectionReport,
  DecisionReport,
  DropReport,
  EndpointReport,
  FlowReport,
  NetworkReport,
  StatusReport,
} from '../../src/model/report.ts';
import type { DiffReport, PolicyTestReport } from '../../src/model/policy-report.ts';
import type { ChoiceReport, ServiceNews, ServiceReport } from '../../src/model/service-report.ts';
import { idOf, type Resource } from '../../src/model/resource.ts';
import { Pcapng, type PcapngFrame } from '../../src/observe/pcapng.ts';

export const decision: DecisionReport = {
  flow: 'in_port=web,tcp,ip_dst=10.0.0.3',
  stages: [
    { stage: 'ingress', read: ['in_port', 'eth_src'], because: 'web may send from its addresses' },
    { stage: 'send', read: [], because: 'no other host' },
  ],
  megaflow: 'in_port=web,eth_src=02:00:00:00:00:01',
  actions: 'output(db)',
  verdict: 'forward',
  consulted: [],
};

/** A change that waits to be confirmed. */
export const unconfirmed = {
  ...{ host: 'a', until: '2025-01-01T00:01:00.000Z', isTakenBack: false },
  resources: ['networkpolicy "db"', 'networkpolicy "shop/web"'],
};

export const endpoint: EndpointReport = {
  name: 'web',
  namespace: 'default',
  labels: { app: 'web' },
  network: 'blue',
  addresses: ['10.0.0.2', 'fd00::2'],
  mac: '02:00:00:00:00:01',
  state: 'attached',
  host: 'a',
  netns: '/run/netns/web',
  interface: 'eth0',
  mtu: 1450,
  port: 2,
  trust: false,
  publish: [{ hostPort: 8080, port: 80, protocol: 'TCP' }],
};

const network: NetworkReport = {
  name: 'blue',
  vni: 100,
  subnets: ['10.0.0.0/24'],
  gateways: ['10.0.0.1'],
  mtu: 1450,
  outside: true,
  endpoints: 1,
  free: { '10.0.0.0/24': 252 },
};

const test = { namespace: 'default', from: 'web', to: 'db', port: 5432, protocol: 'TCP' };

export const policyTests: PolicyTestReport[] = [
  { ...test, name: 'in', expect: 'allow', result: 'passed', packets: 1, wrong: 0, failures: [] },
  {
    ...{ ...test, name: 'out', expect: 'deny', result: 'failed', packets: 2, wrong: 2 },
    failures: [
      {
        from: { address: '10.0.0.2', endpoint: 'web' },
        to: { address: '10.0.0.3', endpoint: 'db' },
        ...{ protocol: 'tcp', port: 5432, verdict: 'allow', because: 'no policy selects either end' },
      },
    ],
  },
  {
    ...{ ...test, name: 'gone', expect: 'deny', result: 'undecided', packets: 0, wrong: 0, failures: [] },
    why: 'endpoint "gone" does not exist',
  },
];

export const diff: DiffReport = {
  hosts: [],
  resources: [
    {
      ...{ kind: 'NetworkPolicy', name: 'db', namespace: 'shop', action: 'configured', more: 0 },
      fields: [
        { path: '.spec.ingress[0].ports[0].port', before: 80, after: 81 },
        { path: '.metadata.labels.app', before: undefined, after: 'db' },
      ],
    },
    { kind: 'Namespace', name: 'ops', action: 'created', fields: [], more: 0 },
  ],
  policyTests: [policyTests[1]!],
  connections: {
    live: 7,
    ended: [{ ...policyTests[1]!.failures[0]!, verdict: 'deny', because: 'ingress: isolated', connections: 2 }],
    more: 1,
  },
  flowClasses: {
    ...{ count: 40, givenUp: 0, passedOver: 3 },
    changed: [
      {
        from: { address: '10.0.0.4', endpoint: 'job-1', gone: true },
        to: { address: '10.0.0.3', endpoint: 'db' },
        ...{ protocol: 'tcp', port: 5432, before: 'allow', verdict: 'deny', because: 'ingress: isolated' },
        ...{ covers: 'exact', opened: 24, denied: 0 },
        firstSeen: '2025-01-01T00:00:00.000Z',
        lastSeen: '2025-01-01T01:00:00.000Z',
      },
      {
        from: { address: '10.0.0.2', endpoint: 'web' },
        to: { address: '198.51.100.3' },
        ...{ protocol: 'icmp', port: 0, before: 'deny', verdict: 'allow', because: 'no policy selects either end' },
        ...{ covers: 'block', opened: 0, denied: 1 },
        firstSeen: '2025-01-01T00:00:00.000Z',
        lastSeen: '2025-01-01T00:00:00.000Z',
      },
    ],
    more: 1,
  },
  services: {
    ended: [
      {
        from: { address: '10.0.0.2', endpoint: 'web' },
        to: { address: '10.0.0.3', endpoint: 'db' },
        ...{ protocol: 'tcp', port: 5432, service: 'sql', connections: 2 },
        because: 'it is no backend of the service any more',
      },
    ],
    changed: [
      {
        from: { address: '10.0.0.4', endpoint: 'job-1', gone: true },
        to: { address: '10.0.0.3', endpoint: 'db' },
        ...{ protocol: 'tcp', port: 5432, service: 'sql', because: 'its backend cannot be chosen any more' },
        then: [
          { address: '10.0.0.5', endpoint: 'db-2', port: 5432 },
          { address: '10.0.0.6', port: 5433 },
        ],
        ...{ thenMore: 3, covers: 'exact', opened: 24, lastSeen: '2025-01-01T00:00:00.000Z' },
      },
    ],
    more: 4,
  },
};

export const flow: FlowReport = {
  id: 42,
  megaflow: decision.megaflow,
  actions: decision.actions,
  packets: 3,
  bytes: 300,
  decidedAt: '2025-01-01T00:00:00.000Z',
  idleMs: 10,
  packet: {
    protocol: 'tcp',
    network: 'blue',
    source: '10.0.0.2:40000',
    destination: '10.0.0.3:80',
    from: 'default/web',
    to: 'default/db',
  },
};

export const drop: DropReport = {
  id: 'd7',
  port: 'web',
  reason: 'spoofed_mac',
  text: 'source MAC is not the port’s own',
  count: 5,
  lastAt: '2025-01-01T00:00:00.000Z',
  flow: 'in_port=web',
};

export const connection: ConnectionReport = {
  id: 'c3',
  protocol: 'tcp',
  state: 'established',
  direction: 'outbound',
  network: 'blue',
  endpoint: 'web',
  source: '10.0.0.10:40000',
  destination: '203.0.113.9:443',
  translatedSource: '169.254.77.2:40000',
  translatedDestination: '203.0.113.9:443',
  from: 'default/web',
  to: null,
  service: null,
  packets: 7,
  bytes: 800,
  replyPackets: 5,
  replyBytes: 90_000,
  idleMs: 1200,
  expiresInMs: 7_400_000,
};

/** Through a service. */
export const balanced: ConnectionReport = {
  ...connection,
  id: 'c4',
  direction: 'service',
  source: '10.0.0.2:40001',
  destination: '10.96.0.80:80',
  translatedSource: '10.0.0.2:40001',
  translatedDestination: '10.0.0.3:8080',
  to: 'default/db',
  service: { name: 'default/shop', port: 'http' },
};

const backend = { endpoint: 'default/db', address: '10.0.0.3', host: 'a', weight: 2 };
const port = { name: 'http', protocol: 'TCP', port: 80 } as const;

export const service: ServiceReport = {
  name: 'shop',
  namespace: 'default',
  addresses: ['10.96.0.80'],
  externalAddresses: [],
  ports: [{ ...port, nodePort: 30_080 }],
  balancing: 'maglev',
  affinityMs: 10_800_000,
  drainMs: 30_000,
  internalTrafficPolicy: 'Cluster',
  externalTrafficPolicy: 'Local',
  trafficDistribution: 'none',
  backends: [
    { ...backend, network: 'blue', zone: 'z1', state: 'ready', ports: [8080], connections: 12_345 },
    {
      ...{ endpoint: null, address: '10.0.0.4', network: null, host: 'b', zone: null, weight: 1 },
      ...{ state: 'ejected', why: 'no answer to 3 connections', ports: [null], connections: 0 },
    },
  ],
};

export const choice: ChoiceReport = {
  service: 'default/shop',
  port,
  by: 'maglev',
  reason: 'one of 2 candidates, by the hash of the connection',
  candidates: [
    { ...backend, port: 8080, chosen: true },
    { endpoint: 'default/other', address: 'fd00::5', host: null, weight: 1, port: 8080, chosen: false },
  ],
  excluded: [{ endpoint: null, address: '10.0.0.4', host: 'b', why: 'it is ejected: no answer to 3 connections' }],
};

export const resource: Resource = {
  apiVersion: 'weft.dev/v1',
  kind: 'Network',
  metadata: { name: 'blue', labels: {} },
  spec: { subnets: ['10.0.0.0/24'], ranges: [], routes: [], outside: true },
};

export interface FakeSwitch extends SwitchMethods {
  forwarding: boolean;
  doctorFails: boolean;
  accepted: AcceptReport;
  connectionCount: number;
  /** Bytes of each connection. */
  connectionBytes: number;
  /** KIND/NAME of resources that cannot be deleted because they do not exist. */
  readonly missing: Set<string>;
  /** The same, of resources that cannot be deleted. */
  readonly inUse: Set<string>;
  /** Calls that changed something, in order, as text. */
  readonly calls: string[];
  readonly flowListeners: Set<(flow: FlowReport) => void>;
  readonly followers: Set<FollowOptions>;
  /** Tell something to those who follow services, or with undefined that the switch stops. */
  readonly serviceFollowers: Set<(news: ServiceNews | undefined) => void>;
  readonly captures: Set<(frames: readonly PcapngFrame[], lost?: number) => void>;
  /** Called when a follower or a capture begins or ends. */
  onFollowers: () => void;
}

export function fakeSwitch(): FakeSwitch {
  const calls: string[] = [];
  const flowListeners = new Set<(flow: FlowReport) => void>();
  const followers = new Set<FollowOptions>();
  const serviceFollowers = new Set<(news: ServiceNews | undefined) => void>();
  const captures = new Set<(frames: readonly PcapngFrame[], lost?: number) => void>();
  const sw: FakeSwitch = {
    forwarding: true,
    doctorFails: false,
    accepted: { accepted: [{ name: 'network "blue"', change: 'deleted' }] },
    connectionCount: 1,
    connectionBytes: connection.bytes,
    missing: new Set(),
    inUse: new Set(),
    calls,
    flowListeners,
    followers,
    serviceFollowers,
    captures,
    onFollowers: () => {},
    status: () => statusOf(sw.forwarding),
    hosts: async () => [],
    metrics: {
      text: async (format) => ({ contentType: `text/plain; of=${format}`, text: `# ${format}\n` }),
      report: async () => [{ name: 'weft_peers', type: 'gauge', help: 'Peers', values: [{ labels: {}, value: 2 }] }],
    },
    wait: async () => ({ revision: 7, hosts: [{ host: 'a', state: 'in force' as const, revision: 7 }] }),
    acceptStore: async () => sw.accepted,
    doctor: async () => ({
      checks: [
        { check: 'tun', result: 'ok', detail: '/dev/net/tun is there' },
        ...(sw.doctorFails
          ? [{ check: 'peer', result: 'failed' as const, detail: 'no answer', hint: 'check the route' }]
          : []),
      ],
    }),
    networks: () => [network],
    createNetwork: async (name, options) => {
      calls.push(`createNetwork ${name} ${JSON.stringify(options)}`);
      return { ...network, name };
    },
    removeNetwork: async (name) => {
      if (name === 'blue') throw new WeftError('conflict', 'network "blue" has 1 endpoint: detach it first');
      calls.push(`removeNetwork ${name}`);
    },
    attach: async (options) => {
      calls.push(`attach ${JSON.stringify(options)}`);
      const { ingress, egress } = options.rateLimit ?? {};
      const rateLimit = { ...(ingress && { ingress }), ...(egress && { egress }) };
      const isNew = options.move && options.name === 'new';
      return {
        ...endpoint,
        ...(options.name !== undefined && { name: options.name }),
        ...(options.rateLimit && { rateLimit }),
        ...(isNew && { wasNowhere: true }),
      };
    },
    detach: async (which) => {
      calls.push(`detach ${idOf(which)}`);
      const pending = which.name === 'pending' ? { pending: 'the store has it still' } : {};
      return { kind: 'Endpoint', ...which, action: 'deleted', dryRun: false, ...pending };
    },
    endpoints: () => [endpoint],
    apply: async (resources, options) => {
      const dryRun = options?.dryRun ?? false;
      const names = resources.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
      const confirm = options?.confirmMs;
      calls.push(
        `apply ${names.join(' ')}${dryRun ? ' dry' : ''}${confirm === undefined ? '' : ` confirm ${confirm}`}`,
      );
      return resources.map(({ kind, metadata: { name } }) => ({
        ...{ kind, name, action: 'created', dryRun },
        ...(confirm !== undefined && { unconfirmedUntil: unconfirmed.until }),
      }));
    },
    confirmation: {
      confirm: async () => {
        calls.push('confirm');
        return {
          host: 'a',
          at: '2025-01-01T00:00:00.000Z',
          resources: unconfirmed.resources,
          otherwise: [{ resource: 'network "old"', why: 'it was deleted since' }],
        };
      },
    },
    delete: async ({ kind }, { name }) => {
      if (sw.missing.has(`${kind}/${name}`)) throw new WeftError('not_found', `there is no ${kind} "${name}"`);
      if (sw.inUse.has(`${kind}/${name}`)) throw new WeftError('state', `${kind} "${name}" has endpoints`);
      calls.push(`delete ${kind}/${name}`);
      return { kind, name, action: 'deleted', dryRun: false };
    },
    whatIf: {
      policyTests: async (resources) => {
        calls.push(`policyTests ${resources.map(({ kind }) => kind).join(',')}`);
        return policyTests;
      },
      diff: async (resources) => {
        calls.push(`diff ${resources.map(({ kind }) => kind).join(',')}`);
        return diff;
      },
    },
    label: async ({ kind }, which, labels) => {
      calls.push(`label ${kind}/${idOf(which)} ${JSON.stringify(labels)}`);
      return { kind, name: which.name, action: 'configured', dryRun: false };
    },
    get: ({ kind }, which) => {
      const name = which?.name;
      if (kind !== 'Network' || (name ?? 'blue') !== 'blue')
        throw new WeftError('not_found', `there is no ${kind} "${name}"`);
      return [resource];
    },
    follow: ({ kind }, options) => {
      if (kind !== 'Network') throw new WeftError('internal', `nothing follows ${kind}`);
      followers.add(options);
      sw.onFollowers();
      return {
        listing: [resource].filter(options.wants),
        stop: () => {
          followers.delete(options);
          sw.onFollowers();
        },
      };
    },
    trace: async (text) => ({ ...decision, flow: text }),
    flows: async function* () {
      yield flow;
    },
    why: (id) => {
      if (id === '13') throw new RangeError('a defect');
      if (id === 'c4') return { id, connection: balanced, choice };
      return { id, decidedAt: flow.decidedAt, packets: 3, bytes: 300, idleMs: 2100, decision };
    },
    drops: () => [drop],
    services: (which) => {
      const { name = service.name, namespace } = which ?? {};
      if (name !== service.name) throw new WeftError('not_found', `there is no Service "${idOf({ name, namespace })}"`);
      return servicesOf(namespace);
    },
    followServices: (which, signal) => {
      sw.services(which);
      return queued(signal, (tell) => {
        serviceFollowers.add(tell);
        sw.onFollowers();
        return () => {
          serviceFollowers.delete(tell);
          sw.onFollowers();
        };
      });
    },
    connections: (options) => {
      const name = options?.endpoint;
      if (name !== undefined && name !== endpoint.name)
        throw new WeftError('not_found', `endpoint "${name}" does not exist`);
      return connectionsOf(sw.connectionCount, sw.connectionBytes);
    },
    onFlow: (listener) => {
      flowListeners.add(listener);
      sw.onFollowers();
      return () => {
        flowListeners.delete(listener);
        sw.onFollowers();
      };
    },
    onDrop: () => () => {},
    policies: { log: () => [], onEvent: () => () => {} },
    drivers: {
      cni: {
        async answer(request) {
          calls.push(`cni ${request.environment['CNI_COMMAND']} ${request.isAgain} ${request.config}`);
          const isDone = request.environment['CNI_COMMAND'] === 'DEL';
          return { isDone, text: isDone ? '' : '{"code":11}\n' };
        },
      },
    },
    capture: ({ port, snapBytes, filter }, sink) => {
      if (port !== undefined && port !== 'web') throw new WeftError('not_found', `there is no port "${port}"`);
      if (filter) calls.push(`filter of ${filter.length} instructions`);
      const pcapng = new Pcapng(snapBytes);
      const deliver = (frames: readonly PcapngFrame[], lost = 0): void => {
        sink(pcapng.interfaces(frames), 0, 0);
        sink(pcapng.frames(frames), frames.length, lost);
      };
      sink(pcapng.header('weft test'), 0, 0);
      captures.add(deliver);
      sw.onFollowers();
      return () => {
        captures.delete(deliver);
        sw.onFollowers();
      };
    },
  };
  return sw;
}

/** What is told, in order, until that is undefined or `signal` is aborted. */
async function* queued<T>(
  signal: AbortSignal,
  subscribe: (tell: (item: T | undefined) => void) => () => void,
): AsyncGenerator<T> {
  const waiting: (T | undefined)[] = [];
  let wake = (): void => {};
  const stop = subscribe((item) => {
    waiting.push(item);
    wake();
  });
  signal.addEventListener('abort', () => wake(), { once: true });
  try {
    while (!signal.aborted) {
      if (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      for (const item of waiting.splice(0)) {
        if (item === undefined) return;
        yield item;
      }
    }
  } finally {
    stop();
  }
}

async function* connectionsOf(count: number, bytes: number): AsyncGenerator<ConnectionReport> {
  for (let n = 0; n < count; n++) yield { ...connection, id: `c${3 + n}`, bytes };
}

async function* servicesOf(namespace = 'default'): AsyncGenerator<ServiceReport> {
  if (namespace === 'default') yield service;
}

function statusOf(forwarding: boolean): StatusReport {
  return {
    host: 'a',
    version: '0.1.0',
    pid: process.pid,
    startedAt: '2025-01-01T00:00:00.000Z',
    forwarding,
    underlay: null,
    tunnel: null,
    peers: [],
    peerStates: {},
    pathMtus: {},
    pathSources: {},
    store: 'embedded',
    sharedStore: null,
    clashes: [],
    outside: null,
    internal: null,
    metrics: null,
    registration: null,
    inForce: null,
    confirmation: { waiting: null, takenBack: null },
    networks: 1,
    endpoints: 1,
    endpointProblems: {},
    refusedRecords: [],
    refusedRecordCount: 0,
    hooks: [],
    flowClasses: { count: 40, limit: 16_384, givenUp: 0, passedOver: 3 },
    connections: { active: 1, tracked: 0, ended: 0, limit: 65_536 },
    policies: { cut: 0, stagedDecisions: 0, stagedConnections: 0 },
    health: { checked: 0, failing: 0, ejected: 0, ejections: 0 },
    decisions: { redecided: 0, withdrawn: 0 },
    audit: { flows: 7, connections: 3, mismatches: 0 },
    fdb: { entries: 0, learned: {}, evicted: 0, moves: 0 },
    memory: { rssBytes: 1 << 26, heapTotalBytes: 1 << 25, heapUsedBytes: 1 << 24 },
    datapath: {
      kind: 'reference',
      rx: 5,
      originated: 0,
      copies: 0,
      segments: 0,
      tx: 0,
      consumed: 0,
      coalesced: 0,
      held: 0,
      drops: { spoofed_mac: 5 },
      upcalls: 1,
      unanswered: 3,
      flows: 1,
      masks: 1,
      flowLimit: 1000,
      maskLimit: 64,
      refused: { flows: 0, masks: 0, dropMasks: 0 },
      evicted: { flows: 0, masks: 0 },
    },
    ports: [
      {
        port: 2,
        name: 'web',
        kind: 'tap',
        network: 'blue',
        rxFrames: 5,
        rxBytes: 300,
        txFrames: 0,
        txBytes: 0,
        unanswered: 0,
        drops: { spoofed_mac: 5 },
      },
    ],
  };
}

/** Resolves when `condition` is true; it is checked whenever the followers change. */
export async function untilFollowers(sw: FakeSwitch, condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise<void>((resolve) => {
      sw.onFollowers = resolve;
    });
  }
}
