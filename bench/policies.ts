/**
 * Network policy: what deciding costs with few and many rules, what it takes to compile and change them, and how long it takes
 * until all open connections have been judged anew.
 */
import { ReferenceConnections } from '../src/datapath/reference/connections.ts';
import { Sweep } from '../src/control/sweep.ts';
import { connectionBytes } from '../src/flow/connection.ts';
import { bytesId } from '../src/flow/key.ts';
import { parseIp, parseMac, type Vni } from '../src/flow/types.ts';
import { Changes } from '../src/table/changes.ts';
import { ConnectionTable } from '../src/table/connections.ts';
import { Policies, type PolicySet, type KnownWorkload } from '../src/table/policies.ts';
import type { Policy, PolicyRule } from '../src/table/policy/policy.ts';
import { Topology } from '../src/table/topology.ts';
import { IP_TCP } from '../src/wire/ipv4.ts';
import { bytesInUse } from '../test/support/heap.ts';
import { noServices } from '../test/support/connections.ts';

const VNI = 100 as Vni;
const MIB = 2 ** 20;
const RULES = [10, 100, 1000, 10_000] as const;
const ENDPOINTS = 1000;
const JUDGED = 20_000;
const ROUNDS = 9;
const CONNECTIONS = 262_144;

export interface PolicyFigures {
  /** What policies say of a first packet, by the number of rules. */
  readonly judgedNanoseconds: ReadonlyMap<number, number>;
  /** 10,000 rules for 1,000 endpoints, each of which has all its judgements made once. */
  readonly compiledMs: number;
  readonly compiledMib: number;
  /** One of 1,000 policies is replaced by another one, with ten rules and blocks that nobody has mentioned before: the slowest of some changes. */
  readonly changedMs: number;
  /** 262,144 connections, of as many classes, and of few. */
  readonly sweptMs: number;
  readonly sweptAlikeMs: number;
}

export function policyFigures(): PolicyFigures {
  const sets = RULES.map((rules) => [rules, setOf(rules)] as const);
  for (const [rules, set] of sets) judge(set, rules);
  const rounds = Array.from({ length: ROUNDS }, () => sets.map(([rules, set]) => judge(set, rules)));
  const judgedNanoseconds = new Map(RULES.map((rules, at) => [rules, median(rounds.map((round) => round[at]!))]));
  return { judgedNanoseconds, ...compiled(), sweptMs: swept(CONNECTIONS), sweptAlikeMs: swept(10) };
}

/** Clients are workloads with labels of their own, and hosts outside; there is a rule for each of some. */
function setOf(rules: number): readonly [PolicySet, Policies] {
  const policies = new Policies(new Changes());
  const clients = new Map<string, KnownWorkload>();
  for (let n = 0; n < 256; n++) clients.set(bytesId(clientAddress(n)), workload(`client-${n}`, `app-${n % 10}`));
  policies.workloadsFrom((address) => clients.get(bytesId(address)));
  const ingress = Array.from({ length: rules }, (_, n) => ruleOf(n));
  policies.setSubject('default/server', subject([policyOf('all', ingress)]));
  return [policies.setOf('default/server', 'ingress')!, policies];
}

function ruleOf(n: number): PolicyRule {
  const block = { ip: Uint8Array.of(...parseIp('172.16.0.0').subarray(0, 13), n >> 8, n & 255, 0), length: 24 };
  return {
    action: 'accept',
    peers: [
      { kind: 'workloads', namespaces: 'default', pods: [{ key: 'app', operator: 'in', values: [`app-${n}`] }] },
      { kind: 'block', block, except: [{ ...block, length: 28 }] },
    ],
    ports: [{ kind: 'range', protocol: IP_TCP, first: 1000 + (n % 50_000), last: 1000 + (n % 50_000) }],
  };
}

/** @param rules how many there are @returns nanoseconds each */
function judge([set, policies]: readonly [PolicySet, Policies], rules: number): number {
  const addresses = Array.from({ length: 512 }, (_, n) => (n < 256 ? clientAddress(n) : ruleAddress(n, rules)));
  const begin = cpuMicroseconds();
  for (let n = 0; n < JUDGED; n++) {
    const peer = policies.peerAt(addresses[n & 511]!, VNI);
    set.portsFor(peer, IP_TCP);
    set.judge(peer, IP_TCP, 1000 + (n & 1023));
  }
  return ((cpuMicroseconds() - begin) * 1000) / JUDGED;
}

function clientAddress(n: number): Uint8Array {
  return parseIp(`10.0.1.${n & 255}`);
}

/** In the blocks of eight rules, from the first one to the last. */
function ruleAddress(n: number, rules: number): Uint8Array {
  const rule = Math.round(((n & 7) * (rules - 1)) / 7);
  return parseIp(`172.${rule >> 8}.${rule & 255}.${n & 255}`);
}

function compiled(): Pick<PolicyFigures, 'compiledMs' | 'compiledMib' | 'changedMs'> {
  const before = bytesInUse();
  const begin = cpuMicroseconds();
  const kept = [new ManyPolicies()];
  const compiledMs = (cpuMicroseconds() - begin) / 1000;
  const compiledMib = (bytesInUse() - before) / MIB;
  // What follows on the collections that have just been forced is not what a change takes, so others are changed.
  kept[0] = new ManyPolicies();
  const changed = Array.from({ length: ROUNDS }, (_, round) => kept[0]!.change(20_000 + 10 * round));
  return { compiledMs, compiledMib, changedMs: Math.max(...changed) };
}

/** Each of 1,000 endpoints has three of as many policies, and no two have the same ones; one has all. Each has been asked. */
class ManyPolicies {
  readonly #policies = new Policies(new Changes());
  readonly #all = Array.from({ length: 1000 }, (_, p) =>
    policyOf(
      `p${p}`,
      Array.from({ length: 10 }, (_, n) => ruleOf(10 * p + n)),
    ),
  );

  constructor() {
    this.#policies.workloadsFrom((address) => workload('client', `app-${address[15]}`));
    for (let endpoint = 0; endpoint < ENDPOINTS; endpoint++) this.#put(endpoint);
    for (let endpoint = 0; endpoint < ENDPOINTS; endpoint++) this.#judgeAll(endpoint);
  }

  /** Replaces one of them. @returns milliseconds */
  change(rule: number): number {
    const begin = cpuMicroseconds();
    const before = this.#all[0]!;
    this.#all[0] = policyOf(
      'p0',
      Array.from({ length: 10 }, (_, n) => ruleOf(rule + n)),
    );
    if (!this.#policies.replacePolicy(before, this.#all[0])) throw new Error('it is not replaced for all at once');
    for (let endpoint = 0; endpoint < ENDPOINTS; endpoint++) {
      if (endpoint === 0 || policiesOf(endpoint).includes(0)) this.#judgeAll(endpoint);
    }
    return (cpuMicroseconds() - begin) / 1000;
  }

  #put(endpoint: number): void {
    const own = endpoint === 0 ? this.#all : policiesOf(endpoint).map((number) => this.#all[number]!);
    this.#policies.setSubject(`default/server-${endpoint}`, subject(own));
  }

  #judgeAll(endpoint: number): void {
    const set = this.#policies.setOf(`default/server-${endpoint}`, 'ingress')!;
    for (let n = 0; n < 20; n++) set.judge(this.#policies.peerAt(clientAddress(n), VNI), IP_TCP, 1000 + n);
  }
}

/** Their numbers. */
function policiesOf(endpoint: number): readonly number[] {
  return [0, 1, 2].map((n) => (endpoint + n * 97) % 1000);
}

/** Of half of them, the client is denied. @param clients how many there are */
function swept(clients: number): number {
  const changes = new Changes();
  const topology = new Topology(parseMac('02:00:00:00:00:ff'), changes);
  const policies = new Policies(changes);
  const store = new ReferenceConnections({
    memory: new Uint8Array(connectionBytes(CONNECTIONS + 64)),
    ...{ limit: CONNECTIONS, quota: CONNECTIONS, unprovenQuota: CONNECTIONS },
  });
  const connections = new ConnectionTable({
    ...{ store, quota: CONNECTIONS, unprovenQuota: CONNECTIONS, natKey: new Uint8Array(8), services: noServices },
    ...{ addressesWith: (_, ip) => [ip], isReserved: () => false },
  });
  const server = parseIp('10.0.0.1');
  const destination = { destination: server, destinationPort: 80 };
  for (let n = 0; n < CONNECTIONS; n++) {
    const client = n % clients;
    const source = Uint8Array.of(
      ...parseIp('11.0.0.0').subarray(0, 13),
      client >> 16,
      (client >> 8) & 255,
      client & 255,
    );
    const tuple = { source, sourcePort: 1 + Math.floor(n / clients), ...destination };
    const tracked = {
      kind: 'tracked',
      places: [VNI, VNI],
      protocol: IP_TCP,
      original: tuple,
      translated: tuple,
    } as const;
    store.open(tracked, 1 + (n & 1023), 0);
  }
  policies.workloadsFrom((address) => (address[12] === 10 ? workload('default/server', 'server') : undefined));
  const denied = { ip: parseIp('11.2.0.0'), length: 15 };
  const rule: PolicyRule = {
    action: 'accept',
    peers: [{ kind: 'block', block: { ip: parseIp('11.0.0.0'), length: 8 }, except: [denied] }],
    ports: undefined,
  };
  policies.setSubject('default/server', subject([policyOf('p', [rule])]));
  // No port is known by its MAC, so the ends are found by their addresses.
  const nowhere = { neighbors: { resolve: () => undefined }, fdb: { lookup: () => undefined } };
  const sweep = new Sweep({
    tables: { policies, topology, connections, ...nowhere } as unknown as ConstructorParameters<
      typeof Sweep
    >[0]['tables'],
    ...{ changes, records: store.records, clock: () => 0, send: () => {}, wayOf: () => () => {} },
    farResets: { add: () => false },
    enforce: () => changes.drain(),
    later: undefined,
  });
  const begin = cpuMicroseconds();
  sweep.start();
  return (cpuMicroseconds() - begin) / 1000;
}

function policyOf(name: string, ingress: readonly PolicyRule[]): Policy {
  return {
    name: { kind: 'NetworkPolicy', name: `default/${name}` },
    ...{ tier: 'network', priority: 0, ingress, egress: undefined, onDeny: undefined, isStaged: false },
  };
}

function subject(policies: readonly Policy[]): Parameters<Policies['setSubject']>[1] {
  return { ...workload('default/server', 'server'), policies, onDeny: 'drop' };
}

const identities = new Map<string, KnownWorkload['identity']>();

/** Those with the same label share their identity. */
function workload(endpoint: string, app: string): KnownWorkload {
  let identity = identities.get(app);
  if (!identity) {
    const namespaceLabels = { 'kubernetes.io/metadata.name': 'default' };
    identities.set(app, (identity = { namespace: 'default', labels: { app }, namespaceLabels, ports: [] }));
  }
  return { endpoint, identity };
}

function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
