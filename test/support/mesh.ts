/**
 * A service with backends that are real programs, and clients that talk to it without a pause.
 *
 *   ┌ a ─────────────────┐  ┌ b ──────────┐  ┌ c ──────────┐  ┌ visitor ┐
 *   │ client ── weft     │  │ weft        │  │ weft        │  │         │
 *   │  one, four …       │  │  two …      │  │  three …    │  │         │
 *   └────────┴── .1 ─────┘  └── .2 ───────┘  └── .3 ───────┘  └─ .200 ──┘
 *                └───────── one bridge ──────────┴───── etcd ─────┘
 *
 * The visitor is outside: it comes to the service by a node port of any host. With one host, everything else is on it, and there is
 * no etcd.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { etcdCluster, type EtcdCluster } from './cluster.ts';
import type { Lab, Namespace } from './lab.ts';
import { until, type Background } from './process.ts';
import { overlay } from './topology.ts';
import { python } from './traffic.ts';
import { Weft, type DatapathKind } from './weft.ts';

export const VIP = '10.96.0.80';
export const VIP6 = 'fd77:6566:7460::80';
const SERVICE_PORT = 80;
const NODE_PORT = 30_080;
const BACKEND_PORT = 8080;
const VISITOR = '192.0.2.200';
/** Where the visitor finds a host without others. */
const ONLY_HOST = '192.0.2.1';

export interface MeshOptions {
  readonly datapath: DatapathKind;
  /** More than one share an etcd. */
  readonly hosts: 1 | 2 | 3;
  /** How long connections may stay with a backend that is drained. */
  readonly drain?: string;
}

/** What a program has seen since it began. */
export interface ServerReport {
  readonly accepted: number;
  readonly open: number;
  /** By the client, in order. */
  readonly closed: number;
  /** One for each connection that has broken: what the program was told. */
  readonly resets: readonly string[];
}

export interface LoadReport {
  readonly begun: number;
  readonly open: number;
  /** By backend. */
  readonly answered: Readonly<Record<string, number>>;
  /** When each began, in milliseconds of CLOCK_MONOTONIC, how long it took, and why it failed. */
  readonly failed: readonly (readonly [begunMs: number, tookMs: number, why: string])[];
  /** Those that were answered after more than 300 ms. */
  readonly late: readonly (readonly [begunMs: number, tookMs: number])[];
}

/** By backend, to which each connection is pinned. */
export type HoldReport = Readonly<
  Record<string, { readonly open: number; readonly exchanges: number; readonly broken: readonly string[] }>
>;

/** One of the programs of `mesh.py`. */
export class Talker<Report> {
  readonly process: Background;

  constructor(process: Background) {
    this.process = process;
  }

  async report(): Promise<Report> {
    return this.#answerTo('report');
  }

  /** A server accepts nobody any more, a load opens nothing any more; returns when all of its connections are over. */
  async finish(): Promise<Report> {
    return this.#answerTo('finish');
  }

  async kill(): Promise<void> {
    await this.process.stop('SIGKILL');
  }

  async #answerTo(line: string): Promise<Report> {
    const { lines } = this.process;
    const { length } = lines;
    this.process.write(`${line}\n`);
    await until(() => lines.length > length || !this.process.isRunning, { what: `an answer to ${line}` });
    if (lines.length === length) throw new Error(`it has ended: ${this.process.stderr}`);
    return JSON.parse(lines[length]!.text) as Report;
  }
}

export interface MeshBackend {
  readonly name: string;
  readonly weft: Weft;
  readonly namespace: Namespace;
  readonly server: Talker<ServerReport>;
}

export class Mesh {
  readonly lab: Lab;
  readonly wefts: readonly [client: Weft, ...others: Weft[]];
  readonly cluster: EtcdCluster | undefined;
  readonly client: Namespace;
  readonly visitor: Namespace;
  readonly backends: MeshBackend[] = [];
  readonly #drain: string | undefined;

  private constructor(
    lab: Lab,
    wefts: readonly [Weft, ...Weft[]],
    cluster: EtcdCluster | undefined,
    clients: { readonly client: Namespace; readonly visitor: Namespace },
    drain: string | undefined,
  ) {
    this.lab = lab;
    this.wefts = wefts;
    this.cluster = cluster;
    this.client = clients.client;
    this.visitor = clients.visitor;
    this.#drain = drain;
  }

  /** The service has no backend yet. */
  static async open(lab: Lab, { datapath, hosts, drain }: MeshOptions): Promise<Mesh> {
    const cluster = hosts === 1 ? undefined : await etcdCluster(lab, hosts);
    const visitor = await lab.namespace('visitor');
    const wefts = cluster ? await cluster.up(datapath) : [await onlyHost(lab, visitor, datapath)];
    if (cluster) {
      await lab.cable(visitor, 'eth0', cluster.wire, 'to-visitor');
      await cluster.wire.ip('link set to-visitor master br0');
      for (const weft of wefts) await seesOthers(weft, hosts - 1);
    }
    await visitor.ip(`addr add ${VISITOR}/24 dev eth0`);
    await wefts[0]!.createNetwork(`${overlay.create} --outside`);
    const client = await lab.namespace('client');
    await wefts[0]!.attach(client, { network: overlay.network, arguments: cluster ? ['--wait'] : [] });
    const mesh = new Mesh(lab, wefts as [Weft, ...Weft[]], cluster, { client, visitor }, drain);
    await mesh.apply();
    return mesh;
  }

  /** @param more of the manifest's metadata, as one line of YAML */
  async apply(): Promise<void> {
    const file = join(this.lab.directory, 'service.yaml');
    const annotations = this.#drain === undefined ? '' : `, annotations: { weft.dev/drain: ${this.#drain} }`;
    writeFileSync(
      file,
      `
apiVersion: v1
kind: Service
metadata: { name: web${annotations} }
spec:
  type: NodePort
  selector: { app: web }
  ipFamilyPolicy: PreferDualStack
  clusterIP: ${VIP}
  clusterIPs: ['${VIP}', '${VIP6}']
  ports: [{ name: http, port: ${SERVICE_PORT}, targetPort: ${BACKEND_PORT}, nodePort: ${NODE_PORT} }]
`,
    );
    await this.wefts[0].run('apply', '-f', file, '--wait=60s');
  }

  /** A new backend, whose program listens before it gets connections; returns when all hosts have it. @param at its host */
  async addBackend(name: string, at = this.backends.length % this.wefts.length): Promise<MeshBackend> {
    const weft = this.wefts[at]!;
    const namespace = await this.lab.namespace(name);
    await weft.attach(namespace, { name, network: overlay.network });
    const server = await talker<ServerReport>(namespace, 'serve', name, BACKEND_PORT);
    const backend = { name, weft, namespace, server };
    await this.label(backend, 'app=web');
    this.backends.push(backend);
    return backend;
  }

  /** Returns when all hosts have it. */
  async label({ name, weft }: MeshBackend, label: string): Promise<void> {
    await weft.run('label', 'endpoint', name, label, '--wait=60s');
  }

  /** So many new connections a second, until it is finished. */
  load(rate: number, address: string = VIP): Promise<Talker<LoadReport>> {
    return talker(this.client, 'load', address, SERVICE_PORT, 'shared', rate);
  }

  /** The same of the visitor, who comes in by all hosts: so many a second by all of them together. */
  enter(rate: number): Promise<Talker<LoadReport>[]> {
    return this.#byEachHost((host, own) =>
      talker(this.visitor, 'load', host, NODE_PORT, own, rate / this.wefts.length),
    );
  }

  /** Connections of the visitor that stay open and exchange data: so many by each host; returns when all are open. */
  holdEntered(count: number, pauseMs: number): Promise<Talker<HoldReport>[]> {
    return this.#byEachHost((host, own) => talker(this.visitor, 'hold', host, NODE_PORT, own, count, pauseMs));
  }

  /**
   * By several hosts, each connection has a port of its own: a backend cannot tell apart two connections from one port, whoever
   * brings them, so the second one would have to wait.
   */
  #byEachHost<T>(work: (address: string, own: 'own' | 'shared') => Promise<T>): Promise<T[]> {
    if (!this.cluster) return Promise.all([work(ONLY_HOST, 'shared')]);
    return Promise.all(this.cluster.hosts.map(({ underlay }) => work(underlay, 'own')));
  }

  /** Connections that stay open and exchange data; returns when all are open. */
  hold(count: number, pauseMs: number, address: string = VIP): Promise<Talker<HoldReport>> {
    return talker(this.client, 'hold', address, SERVICE_PORT, 'shared', count, pauseMs);
  }
}

/** The visitor is on a cable to it. */
async function onlyHost(lab: Lab, visitor: Namespace, datapath: DatapathKind): Promise<Weft> {
  const host = await lab.namespace('a');
  await lab.cable(visitor, 'eth0', host, 'eth0');
  await host.ip(`addr add ${ONLY_HOST}/24 dev eth0`);
  return Weft.up(lab, host, 'a', { datapath });
}

export async function talker<Report>(at: Namespace, ...words: readonly (string | number)[]): Promise<Talker<Report>> {
  const process = at.start(python('mesh.py', ...words));
  await process.says('ready\n');
  return new Talker<Report>(process);
}

/** Waits until a host has heard the probes of so many others. */
export async function seesOthers(weft: Weft, count: number): Promise<void> {
  await until(async () => (await weft.client.hosts()).filter(({ state }) => state === 'up').length === count, {
    what: 'each host has heard the others’ probes',
  });
}

/** Waits until each connection has exchanged something again. @param of these backends @returns what its program has seen then */
export async function goesOn(holding: Talker<HoldReport>, of?: readonly string[]): Promise<HoldReport> {
  const before = await holding.report();
  return until(
    async () => {
      const now = await holding.report();
      const isOn = Object.entries(now).every(
        ([name, { open, exchanges }]) =>
          (of && !of.includes(name)) || exchanges >= (before[name]?.exchanges ?? 0) + 2 * open,
      );
      return isOn ? now : undefined;
    },
    { what: 'data on all connections' },
  );
}
