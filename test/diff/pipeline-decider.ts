/**
 * The real controller and pipeline as a decider. Ports are workloads with the addresses that random
 * frames use, in two networks, one of them trusted, or the way outside. Now and then some of the cached
 * flows are checked: their masks must not be too wide, and their actions must be what would be decided
 * now. Services come and go, with backends in both networks, on another host and outside (`services.ts`).
 */
import type { PortSpec, Upcall } from '../../src/datapath/datapath.ts';
import { routing } from '../../src/cluster/routing.ts';
import { balancedDecision } from '../../src/control/balanced.ts';
import { Controller } from '../../src/control/controller.ts';
import { formatActions } from '../../src/flow/action.ts';
import { formatMegaflow, type FlowKey } from '../../src/flow/key.ts';
import { linkLocalOf, parseIp, parseMac, sameBytes, type PortNo, type Vni } from '../../src/flow/types.ts';
import type { RouteSpec } from '../../src/model/kinds/network.ts';
import { Changes } from '../../src/table/changes.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import { Fdb, vtepLocation } from '../../src/table/fdb.ts';
import { NeighborTable } from '../../src/table/neighbor.ts';
import { decide, type Decision } from '../../src/pipeline/decide.ts';
import type { Tables } from '../../src/pipeline/stage.ts';
import type { Hooks } from '../../src/table/hooks.ts';
import { Policies } from '../../src/table/policies.ts';
import { Services } from '../../src/table/services.ts';
import {
  gatewayMac,
  hostMacOf,
  publishedId,
  Topology,
  type AccessPort,
  type OutsidePort,
} from '../../src/table/topology.ts';
import { randomHooks } from '../support/random-hooks.ts';
import { inTurn, type Random } from '../support/random.ts';
import type { Decider, DeciderContext } from './differential.ts';
import { SHARING_VTEP } from './conversations.ts';
import { changeServices, HOST, RANGES, ZONE } from './services.ts';
import { findWideMasks } from './wildcards.ts';
import { Workload } from '../../src/table/workload.ts';
import { IP_UDP } from '../../src/wire/ipv4.ts';

const vnis = [1, 100] as Vni[];
const vteps = ['192.0.2.2', '192.0.2.3', '2001:db8::2'].map(parseIp);
const INTERESTING_KEYS = 200;
const FIRST_CHANGES = 6;
/**
 * How likely services change in a step. In every other session that is seldom, since what the datapath has for choosing their backends
 * goes with each change.
 */
const SERVICE_CHANGES = [0.1, 0.005];

export class PipelineDecider implements Decider {
  /** Defects found in cached flows. */
  readonly defects: string[] = [];
  flowsChecked = 0;
  readonly #context: DeciderContext;
  readonly #changes = new Changes();
  readonly #topology = new Topology(hostMacOf(Uint8Array.of(0, 0, 1)), this.#changes);
  readonly #fdb = new Fdb({ quota: 20, ageingMs: 20_000 }, this.#changes);
  readonly #neighbors = new NeighborTable({ quota: 64 }, this.#changes);
  readonly #services = new Services(this.#topology, this.#changes);
  readonly #hooks: Hooks;
  readonly #policies = new Policies(this.#changes);
  #openedConnections: ConnectionTable | undefined;
  readonly #keys: FlowKey[] = [];
  #upcalls = 0;
  #serviceChanges: number;
  readonly #changing: number;
  #made: Controller | undefined;

  constructor(context: DeciderContext) {
    this.#context = context;
    this.#hooks = randomHooks(context.random, this.#changes);
    this.#serviceChanges = context.turn;
    this.#changing = inTurn(SERVICE_CHANGES, context.turn);
    for (const vni of vnis) this.#setNetwork(vni);
    for (const vtep of vteps) {
      const isSharing = sameBytes(vtep, SHARING_VTEP);
      this.#topology.vteps.add(vtep, isSharing ? hostMacOf(Uint8Array.of(0, 0, 2)) : undefined);
    }
    // An endpoint of one of the other hosts.
    const [vni, mac] = [vnis[0]!, parseMac('02:00:00:00:00:07')];
    const addresses = ['10.0.0.7', 'fd00::7'].map(parseIp);
    const remote = new Workload({ vni, mac, addresses, allowedAddresses: [], vtep: SHARING_VTEP, trust: false });
    this.#fdb.setStatic(vni, mac, vtepLocation(SHARING_VTEP), remote);
    this.#topology.workloads.add(remote);
    for (const ip of addresses) this.#neighbors.set(vni, ip, mac);
    this.#services.setHost(HOST, ZONE);
    this.#services.setRanges(RANGES);
    this.#services.loaded(0);
    for (let i = 0; i < FIRST_CHANGES; i++) this.#changeServices(context.random);
  }

  /** Both networks have a gateway and routes to each other. From the first, everything else goes one of two ways. */
  #setNetwork(vni: Vni): void {
    const [first, second] = vnis as [Vni, Vni];
    const [subnets, others, other] =
      vni === first
        ? [['10.0.0.0/24', 'fd00::/64'], ['10.0.1.0/24', 'fd01::/64'], second]
        : [['10.0.1.0/24', 'fd01::/64'], ['10.0.0.0/24', 'fd00::/64'], first];
    const routes: RouteSpec[] = others.map((to) => ({ to, network: `net${other}` }));
    if (vni === first) {
      routes.push({ to: '172.16.0.0/12', via: ['10.0.0.3', '10.0.0.4'] }, { to: 'fe00::/8', type: 'unreachable' });
    }
    // Larger than the outside accepts, so that some packets are too big on the way there.
    const network = { name: `net${vni}`, vni, mtu: 150, outside: true, ...routing(`net${vni}`, subnets, routes) };
    this.#topology.setNetwork(network);
    for (const gateway of network.gateways) this.#neighbors.set(vni, gateway, gatewayMac(vni));
  }

  get #connections(): ConnectionTable {
    if (this.#openedConnections) return this.#openedConnections;
    const store = this.#context.dp().connections;
    const quotas = { quota: 6, unprovenQuota: 4 };
    this.#openedConnections = new ConnectionTable({
      store,
      ...quotas,
      addressesWith: (vni, ip) => this.#topology.addressesWith(vni, ip),
      isAttached: (vni, ip) => this.#topology.isAttached(vni, ip),
      natKey: new Uint8Array(8),
      services: this.#services,
      isReserved: (protocol, port) => this.#topology.isPublished(protocol, port),
    });
    this.#services.balanceWith({ store, ...quotas }, this.#openedConnections);
    return this.#openedConnections;
  }

  get #tables(): Tables {
    return {
      topology: this.#topology,
      fdb: this.#fdb,
      neighbors: this.#neighbors,
      connections: this.#connections,
      services: this.#services,
      policies: this.#policies,
      hooks: this.#hooks,
    };
  }

  get #controller(): Controller {
    if (this.#made) return this.#made;
    this.#made = new Controller(this.#context.dp(), {
      tables: this.#tables,
      changes: this.#changes,
      flowCap: 100,
      flowIdleMs: 10_000,
      clock: this.#context.clock,
      onError: (error) => {
        throw error;
      },
    });
    this.#made.audit.onMismatch = ({ what, why }) => {
      throw new Error(`${what} is not as it would be decided now: ${why}`);
    };
    return this.#made;
  }

  upcalls(batch: readonly Upcall[]): void {
    for (const { key } of batch) this.#keys[this.#upcalls++ % INTERESTING_KEYS] = key;
    this.#controller.handle(batch);
  }

  step(random: Random): void {
    if (random.chance(0.5)) {
      this.#controller.tick();
      this.#controller.audit.tick();
    }
    if (random.chance(this.#changing)) {
      this.#changeServices(random);
      this.#controller.endings.endPinned();
    }
    if (random.chance(0.1)) this.#check(random);
  }

  #changeServices(random: Random): void {
    changeServices(random, this.#services, this.#context.clock(), this.#serviceChanges++);
  }

  portAdded(portNo: PortNo, spec: PortSpec): void {
    if (spec.kind === 'memory-vxlan') this.#topology.openTunnel(portNo);
    else if (portNo === OUTSIDE_PORT) this.#topology.setOutside(outside);
    else this.#join(workload(portNo));
    this.#controller.enforce();
  }

  #join(port: AccessPort): void {
    this.#topology.setPort(port);
    this.#fdb.setStatic(port.vni, port.mac, { kind: 'port', port: port.portNo });
    for (const ip of resolved(port)) this.#neighbors.set(port.vni, ip, port.mac);
  }

  portRemoved(portNo: PortNo): void {
    const port = this.#topology.port(portNo);
    if (portNo === OUTSIDE_PORT) this.#topology.setOutside(undefined);
    else if (port) this.#leave(port);
    this.#controller.enforce();
  }

  #leave(port: AccessPort): void {
    this.#topology.removePort(port.portNo);
    this.#fdb.removeStatic(port.vni, port.mac);
    this.#fdb.forget({ kind: 'port', port: port.portNo });
    for (const ip of resolved(port)) this.#neighbors.remove(port.vni, ip);
  }

  #check(random: Random): void {
    // A flow of connections covers what belongs to the connections that have it, and says nothing about other tuples.
    const cached = [...this.#controller.flows.dump()].map(({ flow }) => flow).filter((flow) => !flow.isOfConnections);
    if (cached.length === 0) return;
    // One that balances decides nothing about packets of a connection, and port numbers of open ones prove nothing.
    const isBalancing = ({ actions: [first] }: Decision): boolean => first?.op === 'balance';
    const picked = [random.pick(cached), random.pick(cached)].filter(({ decision }) => !isBalancing(decision));
    const some = picked.map(({ key, decision }) => ({ key, mask: decision.mask }));
    // What the datapath has found out about its connection is a field like any other.
    const decideKey = (key: FlowKey) => decide(key, this.#tables);
    this.defects.push(...findWideMasks({ flows: some, decide: decideKey, random, interesting: this.#keys }));
    for (const { key, decision } of cached) {
      const decided = decideKey(key);
      const balanced = isBalancing(decision) ? balancedDecision(decided) : undefined;
      // It depends on the source port whether the backend is reached, and there may be no room for another connection.
      if (isBalancing(decision) && !balanced && decided.stages.some(({ stage }) => stage === 'route')) continue;
      const [then, now] = [formatActions(decision.actions), formatActions((balanced ?? decided).actions)];
      if (then !== now) this.defects.push(`stale: ${formatMegaflow(key, decision.mask)} has ${then}, not ${now}`);
    }
    this.flowsChecked += cached.length;
  }
}

const OUTSIDE_PORT = 3 as PortNo;
const outside: OutsidePort = {
  portNo: OUTSIDE_PORT,
  mac: parseMac('02:00:00:00:00:02'),
  hostMac: parseMac('02:00:00:00:00:03'),
  transit: [parseIp('198.51.100.2'), parseIp('2001:db8:99::2')],
  mtu: 100,
  published: new Map([
    [
      publishedId(IP_UDP, 53),
      { endpoint: 'w2', vni: vnis[0]!, addresses: ['10.0.0.2', 'fd00::2'].map(parseIp), l4Port: 80 },
    ],
  ]),
};

/** Port 4 is trusted, port 5 is in the second network; MACs and addresses are those of the random frames. */
function workload(portNo: PortNo): AccessPort {
  return {
    portNo,
    name: `w${portNo}`,
    vni: portNo === 5 ? vnis[1]! : vnis[0]!,
    mac: parseMac(`02:00:00:00:00:0${portNo}`),
    addresses: (portNo === 5 ? ['10.0.1.5', 'fd01::5'] : [`10.0.0.${portNo}`, `fd00::${portNo}`]).map(parseIp),
    allowedAddresses: portNo === 2 ? [parseIp('10.0.1.1')] : [],
    allowedEtherTypes: portNo === 5 ? [0x88f7] : [],
    trust: portNo === 4,
  };
}

function resolved(port: AccessPort): Uint8Array[] {
  return [...port.addresses, linkLocalOf(port.mac)];
}
