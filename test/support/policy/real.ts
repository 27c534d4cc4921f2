/**
 * Truth tables of real programs: each workload is a namespace with one process, which answers all others and asks them.
 *
 *   ┌ a ────────────────────────────────┐   ┌ b ─────────────────────────┐
 *   │ shop/web shop/db lab/api ops/web  │   │ shop/api lab/web lab/db    │      shop and lab: network blue
 *   │ ops/db ─── weft                   │   │ ops/api ─── weft           │      ops: network red, routed
 *   └──────────────┴── .1 ──────────────┘   └──────┴── .2 ───────────────┘
 *                        └───────── bridge ─────────┴── etcd
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
import {
  appliedManifest,
  caseNamespaces,
  caseNetworks,
  casePods,
  dnsPod,
  networkOf,
  type PolicyCase,
} from './cases.ts';
import { cellsOf, cellText, truth, type Cell } from './cells.ts';
import { judge } from './oracle.ts';
import { endpointName } from './tables.ts';
import { protocolNumbers, type Manifest, type Pod, type World } from './world.ts';

/** Two ports, and those of the services that lead there. */
const PORTS = [80, 81] as const;
const SERVICE_PORTS = [1080, 1081] as const;
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
  /** Who has to answer; undefined: nobody. */
  readonly answer: string | undefined;
}

export interface RealTally {
  cells: number;
  allowed: number;
}

export class RealCluster {
  readonly #wefts: readonly [Weft, Weft];
  readonly #programs = new Map<string, Background>();
  #inForce: readonly Manifest[] = [];

  private constructor(wefts: readonly [Weft, Weft]) {
    this.#wefts = wefts;
  }

  /** Returns when everything is in force on both hosts. */
  static async open(lab: Lab, datapath: DatapathKind): Promise<RealCluster> {
    const cluster = await etcdCluster(lab, 2);
    const wefts = (await cluster.up(datapath)) as [Weft, Weft];
    for (const weft of wefts) await seesOthers(weft, 1);
    const real = new RealCluster(wefts);
    await real.#declare(lab);
    return real;
  }

  async #declare(lab: Lab): Promise<void> {
    const [a] = this.#wefts;
    const namespaces = await lab.namespaces(casePods.map(({ namespace, name }) => `${namespace}-${name}`));
    await a.client.apply([
      ...caseNamespaces.map(({ name, labels }) => resource('v1', 'Namespace', { name, labels })),
      ...Object.entries(caseNetworks).map(([name, subnets]) => {
        const [network, to] = name === 'blue' ? ['red', caseNetworks.red] : ['blue', caseNetworks.blue];
        const routes = to.map((subnet) => ({ to: subnet, network }));
        return resource('weft.dev/v1', 'Network', { name }, { subnets, routes });
      }),
      ...casePods.map(({ name, namespace }) =>
        resource(
          'v1',
          'Service',
          { name, namespace },
          {
            selector: { workload: name },
            ipFamilyPolicy: 'RequireDualStack',
            ports: (['TCP', 'UDP'] as const).flatMap((protocol) =>
              SERVICE_PORTS.map((port, n) => ({
                ...{ name: `${protocol.toLowerCase()}-${n}`, protocol, port, targetPort: PORTS[n] },
              })),
            ),
          },
        ),
      ),
    ]);
    await this.#inForceEverywhere();
    for (const [at, weft] of this.#wefts.entries()) {
      const here = casePods.filter((_, n) => n % 2 === at);
      await weft.client.apply(
        here.map(({ name, namespace, labels, addresses, ports }) =>
          resource(
            'weft.dev/v1',
            'Endpoint',
            { name, namespace, labels: { ...labels, workload: name } },
            {
              ...{ network: networkOf({ namespace } as Pod), addresses, ports },
              netns: nameOf(namespaces, namespace, name),
            },
          ),
        ),
      );
    }
    await this.#inForceEverywhere();
    for (const pod of casePods) {
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
    const world: World = { namespaces: caseNamespaces, pods: [...casePods, dnsPod], policies };
    const asked = new Map(casePods.map((pod) => [endpointName(pod), questionsOf(world, pod, vips)]));
    const all = [...asked.values()].flat();
    const denied = all.filter(({ answer }) => answer === undefined).length;
    const before = await this.#denials();
    for (const [name, questions] of asked) {
      this.#programs.get(name)!.write(`${JSON.stringify(questions.map((one) => one.asked))}\n`);
    }
    const wrong = await until(
      async () => {
        const answered = await this.#answers(asked);
        const unexpected = answered.flatMap(({ answer, text }, n) =>
          answer !== undefined && answer !== all[n]!.answer && !isError(answer) ? [`${text}: ${answer}`] : [],
        );
        if (unexpected.length > 0) return unexpected;
        const missing = all.filter((one, n) => one.answer !== undefined && answered[n]!.answer !== one.answer);
        const counted = (await this.#denials()) - before;
        if (missing.length === 0 && counted >= denied) return [];
        const first = missing[0];
        const seen = first && answered[all.indexOf(first)]!.answer;
        throw new Error(
          `${missing.length} are not answered${first ? `, first ${first.text} (${seen})` : ''}; ${counted} of ${denied} denials are counted`,
        );
      },
      { what },
    ).catch((error: unknown) => [String(error)]);
    tally.cells += all.length;
    tally.allowed += all.length - denied;
    t.same(wrong, [], `${what} (${all.length - denied} of ${all.length} allowed)`);
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
  async #answers(
    asked: ReadonlyMap<string, readonly Question[]>,
  ): Promise<{ readonly text: string; readonly answer: string | undefined }[]> {
    const reports = await Promise.all(
      [...asked].map(async ([name, questions]) => {
        const program = this.#programs.get(name)!;
        const { length } = program.lines;
        program.write('report\n');
        const line = await until(() => program.lines[length], { what: `a report of ${name}\n${program.stderr}` });
        const answers = JSON.parse(line.text) as Record<number, string>;
        return questions.map(({ text }, n) => ({ text, answer: answers[n] }));
      }),
    );
    return reports.flat();
  }
}

/** Who is refused knows that nobody answers. */
function isError(answer: string): boolean {
  return /Error$|^closed$/.test(answer);
}

function questionsOf(world: World, from: Pod, vips: ReadonlyMap<string, readonly string[]>): Question[] {
  const cells = cellsOf(casePods).filter((cell) => cell.from === from);
  return [...cells.map((cell) => questionOf(world, cell, vips)), ...dnsQuestions(world, from)];
}

function questionOf(world: World, cell: Cell, vips: ReadonlyMap<string, readonly string[]>): Question {
  const { to, protocol, family, port, through } = cell;
  const name = endpointName(to);
  const isIp6 = (address: string): boolean => address.includes(':');
  const vip = vips.get(name)!.find((address) => isIp6(address) === (family === 1))!;
  const [address, l4Port] = through === 'service' ? [vip, SERVICE_PORTS[port]] : [to.addresses[family]!, PORTS[port]];
  return {
    asked: [protocol.toLowerCase(), address, l4Port],
    text: cellText(cell, PORTS[port]),
    answer: truth(world, cell, PORTS[port]) === 'allow' ? name : undefined,
  };
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
        answer: judge(world, from, 'egress', packet) === 'allow' ? 'dns' : undefined,
      };
    }),
  );
}

function nameOf(namespaces: readonly { readonly name: string }[], namespace: string, name: string): string {
  return namespaces.find((one) => one.name.endsWith(`-${namespace}-${name}`))!.name;
}

function resource(apiVersion: string, kind: string, metadata: object, spec?: object): Resource {
  return parseResource({ apiVersion, kind, metadata, ...(spec && { spec }) });
}
