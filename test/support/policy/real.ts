/**
 * Truth tables of real programs: each workload is a namespace with one process, which answers all others and asks them.
 *
 *   ┌ a ────────────────────────────────┐   ┌ b ─────────────────────────┐
 *   │ shop/web shop/db lab/api ops/web  │   │ shop/api lab/web lab/db    │      shop and lab: network blue
 *   │ ops/db ─── weft                   │   │ ops/api ─── weft           │      ops: network red, routed
 *   └──────────────┴── .1 ──────────────┘   └──────┴── .2 ───────────────┘
 *                        └───────── bridge ─────────┴── etcd
 *
 * One of the three namespaces may be called `default`. Each workload has a service of its own, and those of each namespace have one
 * together, whose backends are on both hosts: `all`. Of that, several connections are asked for at once, so that the datapath opens most
 * of them by itself.
 *
 * What the specifications allow has to be answered, by the right one. What they deny must not be answered, when everything else
 * has been and the hosts have counted that many denials.
 */
import type { Test } from 'tap';
import { parseResource } from '../../../src/model/manifest.ts';
import type { Resource } from '../../../src/model/resource.ts';
import { etcdCluster } from '../cluster.ts';
import type { Lab } from '../lab.ts';
import { seesOthers } from '../mesh.ts';
import { until, type Background } from '../process.ts';
import { python } from '../traffic.ts';
import type { DatapathKind, Weft } from '../weft.ts';
import { appliedManifest, caseNetworks, dnsPod, networkOf, type CaseWorld, type PolicyCase } from './cases.ts';
import { cellsOf, cellText, truth, type Cell } from './cells.ts';
import { judge } from './oracle.ts';
import { backendName, endpointName } from './tables.ts';
import { protocolNumbers, type Manifest, type Pod, type World } from './world.ts';

/** Two ports, and those of the services that lead there. */
const PORTS = [80, 81] as const;
const SERVICE_PORTS = [1080, 1081] as const;
/** Protocols, families and ports. */
const KINDS = 8;
const WAIT_MS = 60_000;

/** What is read of a Service. */
interface VipsOf {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: { readonly clusterIPs: readonly string[] };
}

/** What one workload asks, and what has to become of it. */
interface Question {
  readonly asked: readonly [kind: string, address: string, port: number];
  readonly text: string;
  /** Who may answer. */
  readonly answers: readonly string[];
  /** True if it may be one for a backend that does not admit the client, so that nobody answers. */
  readonly mayFail: boolean;
}

export interface RealTally {
  cells: number;
  allowed: number;
  /** Connections to one of several backends, and flows by which the datapath has opened such ones by itself. */
  shared: number;
  balanced: number;
}

/** The service of all workloads of a namespace, and how many connections each client asks it for at once. */
const SHARED = 'all';
const SHARED_CONNECTIONS = 4;
/** Of how many that nobody has answered a trace tells the backend, in each case. */
const MOST_TRACED = 24;

export class RealCluster {
  readonly #wefts: readonly [Weft, Weft];
  readonly #places: Omit<CaseWorld, 'cases'>;
  readonly #programs = new Map<string, Background>();
  #inForce: readonly Manifest[] = [];

  private constructor(wefts: readonly [Weft, Weft], places: Omit<CaseWorld, 'cases'>) {
    this.#wefts = wefts;
    this.#places = places;
  }

  /** Returns when everything is in force on both hosts. */
  static async open(lab: Lab, datapath: DatapathKind, places: Omit<CaseWorld, 'cases'>): Promise<RealCluster> {
    const cluster = await etcdCluster(lab, 2);
    const wefts = (await cluster.up(datapath)) as [Weft, Weft];
    for (const weft of wefts) await seesOthers(weft, 1);
    const real = new RealCluster(wefts, places);
    await real.#declare(lab);
    return real;
  }

  async #declare(lab: Lab): Promise<void> {
    const [a] = this.#wefts;
    const { pods } = this.#places;
    const namespaces = await lab.namespaces(pods.map(({ namespace, name }) => `${namespace}-${name}`));
    await a.client.apply([
      ...this.#places.namespaces.map(({ name, labels }) => resource('v1', 'Namespace', { name, labels })),
      ...Object.entries(caseNetworks).map(([name, subnets]) => {
        const [network, to] = name === 'blue' ? ['red', caseNetworks.red] : ['blue', caseNetworks.blue];
        const routes = to.map((subnet) => ({ to: subnet, network }));
        return resource('weft.dev/v1', 'Network', { name }, { subnets, routes });
      }),
      ...pods.map(({ name, namespace }) => serviceOf(name, namespace, { workload: name })),
      ...this.#places.namespaces.map(({ name }) => serviceOf(SHARED, name, { service: SHARED })),
    ]);
    await this.#inForceEverywhere();
    for (const [at, weft] of this.#wefts.entries()) {
      const here = pods.filter((_, n) => n % 2 === at);
      await weft.client.apply(
        here.map(({ name, namespace, labels, addresses, ports }) =>
          resource(
            'weft.dev/v1',
            'Endpoint',
            { name, namespace, labels: { ...labels, workload: name, service: SHARED } },
            {
              ...{ network: networkOf({ addresses }), addresses, ports },
              netns: nameOf(namespaces, namespace, name),
            },
          ),
        ),
      );
    }
    await this.#inForceEverywhere();
    for (const pod of pods) {
      const inside = namespaces.find(({ name }) => name.endsWith(`-${pod.namespace}-${pod.name}`))!;
      await inside.ip('link set lo up');
      const program = inside.start(python('truth.py', endpointName(pod), ...PORTS));
      await program.says('ready');
      this.#programs.set(endpointName(pod), program);
    }
  }

  /** Puts policies into force in place of those before, and asks everything. */
  async holds(t: Test, { what, policies }: PolicyCase, tally: RealTally): Promise<void> {
    await this.#replace(policies);
    const vips = await this.#vips();
    const { namespaces, pods } = this.#places;
    const world: World = { namespaces, pods: [...pods, dnsPod], policies };
    const asked = new Map(pods.map((pod) => [endpointName(pod), this.#questionsOf(world, pod, vips)]));
    const all = [...asked.values()].flat();
    const before = await this.#denials();
    for (const [name, questions] of asked) {
      this.#programs.get(name)!.write(`${JSON.stringify(questions.map((one) => one.asked))}\n`);
    }
    const wrong = await until(
      async () => {
        const answered = await this.#answers(asked);
        const isRight = (n: number): boolean => all[n]!.answers.includes(answered[n] ?? '');
        const unexpected = answered.flatMap((answer, n) =>
          answer !== undefined && !isRight(n) && !isError(answer) ? [`${all[n]!.text}: ${answer}`] : [],
        );
        if (unexpected.length > 0) return unexpected;
        const missing = all.flatMap(({ mayFail }, n) => (mayFail || isRight(n) ? [] : [n]));
        const denied = all.filter(({ mayFail }, n) => mayFail && !isRight(n)).length;
        const counted = (await this.#denials()) - before;
        if (missing.length === 0 && counted >= denied) return this.#wronglyDenied(world, asked, answered);
        const [first] = missing;
        const seen = first === undefined ? '' : `, first ${all[first]!.text} (${answered[first]})`;
        throw new Error(`${missing.length} are not answered${seen}; ${counted} of ${denied} denials are counted`);
      },
      { what },
    ).catch((error: unknown) => [String(error)]);
    const denied = all.filter(({ answers }) => answers.length === 0).length;
    tally.cells += all.length;
    tally.allowed += all.length - denied;
    tally.shared += pods.length * namespaces.length * KINDS * SHARED_CONNECTIONS;
    tally.balanced += await this.#balanced();
    t.same(wrong, [], `${what} (${all.length - denied} of ${all.length} allowed)`);
  }

  /** Of those that may go to others, too, and that nobody has answered: which ones go to a backend that admits the client. */
  async #wronglyDenied(
    world: World,
    asked: ReadonlyMap<string, readonly Question[]>,
    answered: readonly (string | undefined)[],
  ): Promise<string[]> {
    let first = 0;
    const open: { readonly from: string; readonly n: number; readonly question: Question }[] = [];
    for (const [from, questions] of asked) {
      for (const [n, question] of questions.entries()) {
        const { answers, mayFail } = question;
        const isOpen = mayFail && answers.length > 0 && !answers.includes(answered[first + n] ?? '');
        if (isOpen) open.push({ from, n, question });
      }
      first += questions.length;
    }
    const step = Math.max(1, Math.ceil(open.length / MOST_TRACED));
    const wrong: string[] = [];
    for (const { from, n, question } of open.filter((_, at) => at % step === 0)) {
      const [kind, address, l4Port] = question.asked;
      const sourcePort = (await this.#report<number>(from, 'sources'))[n]!;
      const pod = world.pods.find((one) => endpointName(one) === from)!;
      const isIp6 = address.includes(':');
      const own = pod.addresses[isIp6 ? 1 : 0]!;
      const [source, destination] = isIp6 ? ['ipv6_src', 'ipv6_dst'] : ['ip_src', 'ip_dst'];
      const flow = `in_port=${from},${kind}${isIp6 ? '6' : ''},${source}=${own},${destination}=${address},${kind}_src=${sourcePort},${kind}_dst=${l4Port}`;
      const { stages } = await this.#weftOf(pod).client.trace(flow);
      // By its name before there is a connection, by its address afterwards.
      const said = stages.find(({ stage }) => stage === 'service')?.because ?? '';
      const [, backend = ''] = /\bbackend ([^\s,]+)/.exec(said) ?? [];
      const to = world.pods.find((one) => backendName(one) === backend || one.addresses.includes(backend));
      if (!to || question.answers.includes(endpointName(to)))
        wrong.push(`${question.text}: nobody, though it goes to ${to ? endpointName(to) : said}`);
    }
    return wrong;
  }

  #weftOf(pod: Pod): Weft {
    return this.#wefts[this.#places.pods.indexOf(pod) % 2]!;
  }

  /** How many flows there are by which the datapath opens connections to one of several backends. */
  async #balanced(): Promise<number> {
    const all = await Promise.all(this.#wefts.map((weft) => weft.client.flows()));
    return all.flat().filter(({ actions }) => actions.startsWith('balance(')).length;
  }

  async #replace(policies: readonly Manifest[]): Promise<void> {
    const [a] = this.#wefts;
    if (policies.length > 0) await a.client.apply(policies.map((one) => parseResource(appliedManifest(one))));
    for (const { kind, metadata } of this.#inForce) {
      const place = 'namespace' in metadata ? { namespace: metadata.namespace } : {};
      await a.client.delete(kind, metadata.name, place);
    }
    this.#inForce = policies;
    await this.#inForceEverywhere();
  }

  async #inForceEverywhere(): Promise<void> {
    const report = await this.#wefts[0].client.wait(WAIT_MS);
    if (report.hosts.some(({ state }) => state !== 'in force'))
      throw new Error(`not in force: ${JSON.stringify(report)}`);
  }

  async #vips(): Promise<ReadonlyMap<string, readonly string[]>> {
    const services = (await this.#wefts[0].client.get('Service')) as unknown as VipsOf[];
    return new Map(services.map(({ metadata, spec }) => [endpointName(metadata), spec.clusterIPs]));
  }

  async #denials(): Promise<number> {
    const all = await Promise.all(this.#wefts.map((weft) => weft.drops()));
    return all.reduce((sum, drops) => sum + (drops['policy_egress'] ?? 0) + (drops['policy_ingress'] ?? 0), 0);
  }

  /** What has been answered so far, in the order of all questions. */
  async #answers(asked: ReadonlyMap<string, readonly Question[]>): Promise<(string | undefined)[]> {
    const reports = await Promise.all(
      [...asked].map(async ([name, questions]) => {
        const answers = await this.#report<string>(name, 'answers');
        return questions.map((_, n) => answers[n]);
      }),
    );
    return reports.flat();
  }

  /** What the program of a workload says about its questions, by their numbers. */
  async #report<T>(name: string, what: 'answers' | 'sources'): Promise<Readonly<Record<number, T>>> {
    const program = this.#programs.get(name)!;
    const { length } = program.lines;
    program.write(`${what}\n`);
    const line = await until(() => program.lines[length], { what: `the ${what} of ${name}\n${program.stderr}` });
    return JSON.parse(line.text) as Record<number, T>;
  }

  #questionsOf(world: World, from: Pod, vips: ReadonlyMap<string, readonly string[]>): Question[] {
    const { namespaces, pods } = this.#places;
    const cells = cellsOf(pods).filter((cell) => cell.from === from);
    return [
      ...cells.map((cell) => questionOf(world, cell, vips)),
      ...namespaces.flatMap(({ name }) => {
        const backends = pods.filter(({ namespace }) => namespace === name);
        return sharedQuestions(world, from, name, backends, vips);
      }),
      ...dnsQuestions(world, from),
    ];
  }
}

/** Who is refused knows that nobody answers. */
function isError(answer: string): boolean {
  return /Error$|^closed$/.test(answer);
}

/** Whether it is to be answered by that one. */
function byOne(name: string, isAllowed: boolean): Pick<Question, 'answers' | 'mayFail'> {
  return { answers: isAllowed ? [name] : [], mayFail: !isAllowed };
}

function questionOf(world: World, cell: Cell, vips: ReadonlyMap<string, readonly string[]>): Question {
  const { to, protocol, family, port, through } = cell;
  const name = endpointName(to);
  const vip = vipOf(vips.get(name)!, family);
  const [address, l4Port] = through === 'service' ? [vip, SERVICE_PORTS[port]] : [to.addresses[family]!, PORTS[port]];
  return {
    asked: [protocol.toLowerCase(), address, l4Port],
    text: cellText(cell, PORTS[port]),
    ...byOne(name, truth(world, cell, PORTS[port]) === 'allow'),
  };
}

function vipOf(addresses: readonly string[], family: 0 | 1): string {
  return addresses.find((address) => address.includes(':') === (family === 1))!;
}

/** Several connections to the service of a namespace, of each kind. */
function sharedQuestions(
  world: World,
  from: Pod,
  namespace: string,
  backends: readonly Pod[],
  vips: ReadonlyMap<string, readonly string[]>,
): Question[] {
  const id = endpointName({ namespace, name: SHARED });
  const kinds = (['TCP', 'UDP'] as const).flatMap((protocol) =>
    ([0, 1] as const).flatMap((family) => ([0, 1] as const).map((port) => ({ protocol, family, port }))),
  );
  return kinds.flatMap(({ protocol, family, port }) => {
    const admitting = backends.filter((to) => {
      const cell: Cell = { from, to, protocol, family, port, through: 'service' };
      return truth(world, cell, PORTS[port]) === 'allow';
    });
    const question: Question = {
      asked: [protocol.toLowerCase(), vipOf(vips.get(id)!, family), SERVICE_PORTS[port]],
      text: `${endpointName(from)} > one of ${id} ${protocol} ${PORTS[port]} IPv${family === 0 ? 4 : 6}`,
      answers: admitting.map(endpointName),
      mayFail: admitting.length < backends.length,
    };
    return Array<Question>(SHARED_CONNECTIONS).fill(question);
  });
}

/** Of the gateway of its own network. Policies judge what it sends; the gateway itself has none. */
function dnsQuestions(world: World, from: Pod): Question[] {
  const own = networkOf(from) === 'blue' ? dnsPod.addresses.slice(0, 2) : dnsPod.addresses.slice(2);
  return (['TCP', 'UDP'] as const).flatMap((protocol) =>
    own.map((to, family) => {
      const packet = { from: from.addresses[family]!, to, protocol: protocolNumbers[protocol], port: 53 };
      return {
        asked: [`dns-${protocol.toLowerCase()}`, to, 53] as const,
        text: `${endpointName(from)} asks ${to} for a name over ${protocol}`,
        ...byOne('dns', judge(world, from, 'egress', packet) === 'allow'),
      };
    }),
  );
}

function nameOf(namespaces: readonly { readonly name: string }[], namespace: string, name: string): string {
  return namespaces.find((one) => one.name.endsWith(`-${namespace}-${name}`))!.name;
}

function serviceOf(name: string, namespace: string, selector: Record<string, string>): Resource {
  return resource(...(['v1', 'Service', { name, namespace }] as const), {
    selector,
    ipFamilyPolicy: 'RequireDualStack',
    ports: (['TCP', 'UDP'] as const).flatMap((protocol) =>
      SERVICE_PORTS.map((port, n) => ({
        ...{ name: `${protocol.toLowerCase()}-${n}`, protocol, port, targetPort: PORTS[n] },
      })),
    ),
  });
}

function resource(apiVersion: string, kind: string, metadata: object, spec?: object): Resource {
  return parseResource({ apiVersion, kind, metadata, ...(spec && { spec }) });
}
