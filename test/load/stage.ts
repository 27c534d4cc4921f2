/**
 *   outside ── eth0 ┌ left ────────────────────┐              ┌ right ─────────┐
 *                   │ attacker ─┐               │              │                │
 *                   │ quiet ────┼─ weft ────────┼── underlay ──┼─── weft ── far │
 *                   │ server ───┘ (looked at)   │              │ (forges, too)  │
 *                   └──────────────────────────┘              └────────────────┘
 *
 * Where floods come from, and who else wants to be served. The server is the backend of a service.
 * A container floods through its own interface, and answers nothing; `policies` is the same while many policies select all containers. Floods from the underlay are made on the right host, with any outer source.
 */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTool } from '../../bench/load/tool.ts';
import { compiled } from '../support/compiled.ts';
import { Lab, type Namespace } from '../support/lab.ts';
import type { Background } from '../support/process.ts';
import {
  attachContainer,
  overlay,
  underlay,
  underlayLink,
  type Container,
  type Underlay,
} from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

export const floodTool = compiled('test/load/flood.cc', 'test/flood');

export type Place = 'container' | 'policies' | 'tunnel';

const ECHO_PORT = '7301';
const REQUESTS_PORT = '7302';
/** A flow of a client to the service and one to its server may have one source port: behind the service, they would be one. */
const SERVICE_ECHO_PORT = '7303';
const GATEWAY = '10.44.0.1';
const VIP = '10.96.0.80';

const service = `
apiVersion: v1
kind: Service
metadata: { name: server }
spec:
  selector: { app: server }
  clusterIP: ${VIP}
  ports:
    - { name: echo, port: ${ECHO_PORT}, targetPort: ${SERVICE_ECHO_PORT}, protocol: UDP }
    - { name: requests, port: 80, targetPort: ${REQUESTS_PORT} }
`;
const POLICIES = 1000;

/** All of them select all containers, in both directions. One allows what others than the attacker do, and its ping of the gateway. */
function policies(): string {
  const others = Array.from({ length: POLICIES - 1 }, (_, n) => {
    const peer = `[{ ipBlock: { cidr: 172.16.${n >> 2}.0/${24 + (n % 8)} } }]`;
    return policy(n, peer, `[{ port: ${1000 + n} }]`);
  });
  const ports = [ECHO_PORT, SERVICE_ECHO_PORT].map((port) => `{ port: ${port}, protocol: UDP }`);
  const peers = '[{ podSelector: {} }, { ipBlock: { cidr: 198.51.100.0/24 } }]';
  const gateway = `, { to: [{ ipBlock: { cidr: ${GATEWAY}/32 } }] }`;
  return [...others, policy(POLICIES, peers, `[${[...ports, `{ port: ${REQUESTS_PORT} }`].join()}]`, gateway)].join(
    '---\n',
  );
}

function policy(n: number, peers: string, ports: string, egress = ''): string {
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p${n} }
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{ from: ${peers}, ports: ${ports} }]
  egress: [{ to: ${peers}, ports: ${ports} }${egress}]
`;
}

/** No SYN of it becomes a connection, and none is ended by a reset of its kernel. */
const silence = `table ip silent {
  chain input {
    type filter hook input priority 0
    meta l4proto tcp drop
  }
}`;

export interface FloodOptions {
  readonly mode: string;
  /** Frames a second; 0: as fast as possible. */
  readonly rate: number;
  readonly seconds: number;
}

export class Stage {
  readonly lab: Lab;
  /** The daemon that is flooded. */
  readonly weft: Weft;
  readonly #under: Underlay;
  readonly #attacker: Container;
  readonly #quiet: Container;
  readonly #server: Container;
  readonly #far: Container;

  private constructor(
    lab: Lab,
    weft: Weft,
    under: Underlay,
    containers: Record<'attacker' | 'quiet' | 'server' | 'far', Container>,
  ) {
    this.lab = lab;
    this.weft = weft;
    this.#under = under;
    this.#attacker = containers.attacker;
    this.#quiet = containers.quiet;
    this.#server = containers.server;
    this.#far = containers.far;
  }

  /** Calls `work` with a stage of its own, whose paths are warm. @param memoryBytes what the flooded daemon may use */
  static async with<T>(place: Place, work: (stage: Stage) => Promise<T>, memoryBytes?: number): Promise<T> {
    floodTool.build();
    loadTool.build();
    const lab = new Lab();
    try {
      const stage = await Stage.#open(lab, memoryBytes);
      if (place === 'policies') await stage.#apply('policies.yaml', policies());
      return await work(stage);
    } finally {
      await lab.close();
    }
  }

  static async #open(lab: Lab, memoryBytes: number | undefined): Promise<Stage> {
    const under = await underlay(lab, 'ipv4');
    const outside = await lab.namespace('outside');
    await lab.cable(outside, 'eth0', under.left, 'eth0');
    await outside.ip('address add 198.51.100.9/24 dev eth0');
    await under.left.ip('address add 198.51.100.1/24 dev eth0');
    // Packets with any outer source must reach weft.
    await under.left.run([
      'sysctl',
      '-qw',
      'net.ipv4.conf.all.rp_filter=0',
      `net.ipv4.conf.${underlayLink}.rp_filter=0`,
    ]);
    const [left, right] = [
      { underlay: under.leftIp, peers: [under.rightIp] },
      { underlay: under.rightIp, peers: [under.leftIp] },
    ];
    const within = memoryBytes === undefined ? [] : limited(lab, memoryBytes);
    const weft = await Weft.up(lab, under.left, 'left', { datapath: 'native', ...left, within });
    const other = await Weft.up(lab, under.right, 'right', { datapath: 'native', ...right });
    await weft.createNetwork(`${overlay.create} --outside --range 10.44.0.2-10.44.0.99`);
    await other.createNetwork(`${overlay.create} --range 10.44.0.100-10.44.0.199`);
    const containers = {
      attacker: await attachContainer(lab, weft, 'attacker', 11),
      quiet: await attachContainer(lab, weft, 'quiet', 12),
      server: await attachContainer(lab, weft, 'server', 13, ['--label', 'app=server']),
      far: await attachContainer(lab, other, 'far', 114),
    };
    await containers.attacker.namespace.run(['nft', silence]);
    const stage = new Stage(lab, weft, under, containers);
    await stage.#apply('service.yaml', service);
    for (const from of [containers.attacker, containers.quiet, containers.far]) {
      await ping(from.namespace, containers.server.ip4);
    }
    await ping(containers.quiet.namespace, '198.51.100.9');
    const { namespace: server } = containers.server;
    for (const [at, port] of [
      [server, ECHO_PORT],
      [server, SERVICE_ECHO_PORT],
      [outside, ECHO_PORT],
    ] as const) {
      await at.start([floodTool.path, 'echo', '--port', port]).says('ready');
    }
    return stage;
  }

  async #apply(name: string, manifests: string): Promise<void> {
    const file = join(this.lab.directory, name);
    writeFileSync(file, manifests);
    await this.weft.run('apply', '-f', file);
  }

  /** A flood, until its time is over. */
  async flood(from: Place, options: FloodOptions): Promise<Background> {
    const paced = [
      '--mode',
      options.mode,
      '--rate',
      String(options.rate),
      '--seconds',
      String(options.seconds),
      '--seed',
      '1',
    ];
    const [attacker, server, far] = [this.#attacker, this.#server, this.#far];
    if (from !== 'tunnel') {
      return attacker.namespace.start([
        ...[floodTool.path, 'frames', '--interface', 'eth0', ...paced],
        ...['--mac', attacker.mac, '--ip', attacker.ip4, '--ip6', attacker.ip6],
        ...['--peer-mac', server.mac, '--peer', server.ip4, '--peer6', server.ip6],
        ...['--gateway-mac', await this.#gatewayMac(), '--gateway', GATEWAY, '--outside', '198.51.100.9', '--vip', VIP],
      ]);
    }
    const { right, left } = this.#under;
    return right.start([
      ...[floodTool.path, 'tunnel', '--interface', underlayLink, ...paced],
      ...['--mac', await macOf(right, underlayLink), '--next-mac', await macOf(left, underlayLink)],
      ...['--peer', this.#under.rightIp, '--local', this.#under.leftIp, '--vni', String(overlay.vni)],
      ...['--inner-mac', far.mac, '--inner', far.ip4, '--inner-peer-mac', server.mac, '--inner-peer', server.ip4],
    ]);
  }

  /** New flows of a container that does not flood: to the same host, and through a service and to the outside, or through the tunnel. */
  newFlows(
    from: Place,
    options: { rate: number; seconds: number; inTimeMs: number },
  ): Readonly<Record<string, Background>> {
    const { rate, seconds, inTimeMs } = options;
    const ask = (client: Namespace, to: string): Background =>
      client.start([
        ...[floodTool.path, 'new-flows', '--to', to, '--port', ECHO_PORT, '--rate', String(rate)],
        ...['--seconds', String(seconds), '--in-time-ms', String(inTimeMs)],
      ]);
    const local = ask(this.#quiet.namespace, this.#server.ip4);
    if (from === 'tunnel') return { local, tunnel: ask(this.#far.namespace, this.#server.ip4) };
    const { namespace: quiet } = this.#quiet;
    return { local, service: ask(quiet, VIP), outside: ask(quiet, '198.51.100.9') };
  }

  /** Requests over one open connection, one at a time; through the tunnel if that is flooded. */
  async requests(from: Place, seconds: number): Promise<Background> {
    const server = this.#server.namespace.start([loadTool.path, 'rr-server', '--port', REQUESTS_PORT]);
    await server.says('ready');
    const client = from === 'tunnel' ? this.#far : this.#quiet;
    const to = ['--to', this.#server.ip4, '--port', REQUESTS_PORT, '--warmup', '0.2', '--seconds', String(seconds)];
    return client.namespace.start([loadTool.path, 'rr-client', ...to]);
  }

  async #gatewayMac(): Promise<string> {
    const { namespace } = this.#attacker;
    await ping(namespace, GATEWAY);
    return namespace
      .run(['ip', '-j', 'neigh', 'show', GATEWAY])
      .then((text) => (JSON.parse(text) as [{ lladdr: string }])[0].lladdr);
  }
}

async function macOf(namespace: Namespace, link: string): Promise<string> {
  const [{ address }] = JSON.parse(await namespace.run(['ip', '-j', 'link', 'show', link])) as [{ address: string }];
  return address;
}

/** A command prefix that limits memory to `bytes`: a control group of version 1 or 2. */
function limited(lab: Lab, bytes: number): string[] {
  const isSecond = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const group = join(isSecond ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory', `weft-load-${process.pid}`);
  mkdirSync(group);
  lab.onClose(async () => rmdirSync(group));
  writeFileSync(join(group, isSecond ? 'memory.max' : 'memory.limit_in_bytes'), String(bytes));
  return ['sh', '-c', `echo $$ > ${join(group, 'cgroup.procs')} && exec "$@"`, 'sh'];
}
