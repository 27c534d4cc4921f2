/**
 * The switch on a host: the file to read first.
 *
 *   configuration → store → tables → datapath → ports → upcalls
 *
 * `createSwitch` opens the state directory, the datapath and the underlay, puts
 * into force what the store holds (networks, hosts, endpoints), and forwards
 * from then on. The frames themselves never come here: `forwarding.ts` joins
 * the datapath with the decisions of `pipeline/decide.ts`.
 *
 * The methods are the operator's verbs. Those that change something run one
 * after the other, are durable when they return, and leave nothing half done
 * when they throw. The only place with clocks and timers.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import type { Logger } from 'pino';
import { attachment, type AttachOptions } from './cluster/attachment.ts';
import { Endpoints } from './cluster/endpoints.ts';
import { Hosts } from './cluster/hosts.ts';
import { refuseInUse, refusePublished } from './cluster/in-use.ts';
import { hostIdentity, IDENTITY_BYTES } from './cluster/identity.ts';
import { networkDeclaration, type NetworkOptions } from './cluster/network-declaration.ts';
import type { Network } from './cluster/network.ts';
import { Networks } from './cluster/networks.ts';
import { publishedPorts } from './cluster/publishing.ts';
import { Underlay } from './cluster/underlay.ts';
import { refuseOutOfRange } from './cluster/ranges.ts';
import type { DaemonConfig } from './config.ts';
import type { Datapath, DatapathOptions } from './datapath/datapath.ts';
import { datapathOpener } from './datapath/open.ts';
import { connectionMemory } from './addon/connection-memory.ts';
import { HostConnections } from './addon/host-connections.ts';
import { kernelOffloads } from './addon/kernel-offloads.ts';
import { exchangeWithNetns } from './addon/netns-exchange.ts';
import { WeftError } from './error.ts';
import { Paths } from './paths/paths.ts';
import { openProbe, type Probe } from './paths/probe.ts';
import { parseIp, type PortNo, type Vni } from './flow/types.ts';
import { Forwarding } from './forwarding.ts';
import { hostRoutes } from './link/host-routes.ts';
import { OUTSIDE_IFNAME } from './outside/link.ts';
import { NetnsWatcher } from './link/netns-watcher.ts';
import { requireTun } from './link/tun.ts';
import { ownAddresses, underlayInterface } from './link/underlay.ts';
import type {
  ApplyReport,
  ClashReport,
  ConnectionReport,
  DecisionReport,
  DoctorReport,
  DropReport,
  EndpointReport,
  FlowReport,
  NetworkReport,
  StatusReport,
  WhyReport,
} from './model/report.ts';
import type { Kind, NetworkResource, Resource } from './model/resource.ts';
import { routeClashes, subnetClashes } from './observe/clashes.ts';
import { diagnose } from './observe/doctor.ts';
import { Observer, type CaptureOptions, type CaptureSink, type ConnectionsOptions } from './observe/observer.ts';
import { trace } from './observe/tracer.ts';
import { OutsideKeeper } from './outside/keeper.ts';
import { openEmbeddedStore } from './store/embedded.ts';
import type { Store } from './store/store.ts';
import { version } from './package.ts';

export type { AttachOptions, RateLimitChange } from './cluster/attachment.ts';
export type { NetworkOptions } from './cluster/network-declaration.ts';
export type { CaptureOptions, CaptureSink } from './observe/observer.ts';

export interface SwitchOptions extends DaemonConfig {
  readonly logger: Logger;
  /** Where connections outlive a crash, best on a tmpfs; without it they do not. */
  readonly connectionsFile?: string;
}

const UNDERLAY_PORT = 1 as PortNo;
const OUTSIDE_PORT = 2 as PortNo;
const TICK_MS = 1000;
/** How often the kernel is asked what it was told of the paths: connections stand still meanwhile. */
const PATH_TICK_MS = 250;
const CONNECTIONS = 65_536;
/** That one endpoint may have. */
const CONNECTION_QUOTA = CONNECTIONS / 4;
/** How long another program may have taken the rules of the outside away. */
const RENEW_TICKS = 5;
/** Containers of other hosts that one network routes to. */
const NEIGHBOR_QUOTA = 4096;

/** Milliseconds of CLOCK_MONOTONIC: the clock of the native datapath, too. */
const clock = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/**
 * Opens everything and forwards when it returns.
 * @throws WeftError that says what is wrong and how to mend it; nothing is left open then.
 */
export async function createSwitch(options: SwitchOptions): Promise<Switch> {
  requireTun();
  const open = await datapathOpener(options.datapath, options, setTimeout);
  const store = await openEmbeddedStore({
    directory: options.state,
    onWarning: (message) => options.logger.warn(message),
    after: (delayMs, work) => {
      const timeout = setTimeout(work, delayMs).unref();
      return () => clearTimeout(timeout);
    },
  });
  let made: Switch | undefined;
  try {
    const identity = await hostIdentity(store, () => randomBytes(IDENTITY_BYTES));
    made = new Switch(options, store, open, identity);
    await made.start();
    return made;
  } catch (error) {
    if (made) await made.close();
    else await store.close();
    throw error;
  }
}

export class Switch {
  readonly #options: SwitchOptions;
  readonly #store: Store;
  readonly #underlay: Underlay;
  readonly #forwarding: Forwarding;
  readonly #networks: Networks;
  readonly #hosts: Hosts;
  readonly #endpoints: Endpoints;
  readonly #outside: OutsideKeeper;
  readonly #observer: Observer;
  readonly #watcher: NetnsWatcher;
  /** Of the underlay. */
  readonly #paths: Paths;
  /** Undefined where it cannot be done. */
  readonly #probe: Probe | undefined = openProbe(() => performance.now(), setTimeout);
  readonly #startedAt = new Date();
  #isRenewing = false;
  #isRenewingEndpoints = false;
  #ticker: NodeJS.Timeout | undefined;
  #pathTicker: NodeJS.Timeout | undefined;
  #changes: Promise<unknown> = Promise.resolve();
  #isForwarding = false;
  #isClosed = false;

  /** Use `createSwitch`. */
  constructor(
    options: SwitchOptions,
    store: Store,
    open: (options: DatapathOptions) => Datapath,
    identity: Uint8Array,
  ) {
    const { logger } = options;
    this.#options = options;
    this.#store = store;
    const hostConnections = new HostConnections((error) =>
      logger.warn({ err: error }, 'the host remembers connections that are over until they time out'),
    );
    this.#forwarding = new Forwarding(open, {
      hostId: identity.subarray(0, 3),
      fdbQuota: options.fdbQuota,
      neighborQuota: NEIGHBOR_QUOTA,
      fdbAgeingMs: options.fdbAgeingMs,
      flowCap: options.flowLimit,
      flowIdleMs: options.flowIdleMs,
      connections: connectionMemory(options.connectionsFile, CONNECTIONS + 1),
      connectionQuota: CONNECTION_QUOTA,
      storm: { port: options.stormLimit, tunnel: options.tunnelStormLimit },
      natKey: randomBytes(8),
      onConnectionClosed: (connection) => hostConnections.forget(connection),
      clock,
      later: setImmediate,
      onPortLost: (port, why) => this.#onPortLost(port, why),
      onError: (error) => logger.error({ err: error }, 'decision failed'),
    });
    this.#watcher = new NetnsWatcher(setInterval);
    this.#paths = new Paths({
      probe: this.#probe,
      clock,
      local: () => this.#underlay.address,
      onChange: (peer, { mtu, source }, before) => {
        this.#forwarding.setPathMtu(parseIp(peer), mtu - this.#underlay.encapBytes);
        if (before !== undefined) logger.info({ peer, mtu, before, source }, 'path MTU changed');
      },
    });
    const hasStaticPeers = (): boolean => options.peers.length > 0 || this.#hosts.size > 0;
    const shared = { store, forwarding: this.#forwarding };
    this.#underlay = new Underlay({
      forwarding: this.#forwarding,
      portNo: UNDERLAY_PORT,
      l4Port: options.vxlanPort,
      address: options.underlay,
      peer: options.peers[0],
      onChange: ({ open: isOpen, why }) => {
        if (isOpen) logger.info({ underlay: this.#underlay.addressText }, 'underlay open');
        else logger.warn({ why }, 'waiting for the underlay');
      },
    });
    this.#hosts = new Hosts({
      ...shared,
      name: options.host,
      underlay: () => this.#underlay.address,
      peers: options.peers.map(parseIp),
    });
    this.#networks = new Networks({ ...shared, defaultMtu: () => this.#underlay.defaultMtu(), hasStaticPeers });
    this.#endpoints = new Endpoints({
      ...shared,
      networks: this.#networks,
      hosts: this.#hosts,
      watcher: this.#watcher,
      exchange: exchangeWithNetns,
      hostName: options.host,
      identity,
      bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
      hasStaticPeers,
      onNamespaceGone: (name) => this.#onNamespaceGone(name),
      warn: (message, details) => logger.warn(details, message),
    });
    this.#outside = new OutsideKeeper({
      forwarding: this.#forwarding,
      portNo: OUTSIDE_PORT,
      isWanted: () => this.#networks.all().some(({ resource }) => resource.spec.outside),
      published: () => this.#endpoints.published(),
      targets: () => publishedPorts(this.#endpoints.published(), (network) => this.#networks.get(network).vni as Vni),
      allowHost: options.allowHost,
      vxlanPort: options.vxlanPort,
      warn: (message, details) => logger.warn(details, message),
      onFailure: (error) => logger.error({ err: error }, 'the outside is not as it should be'),
    });
    this.#observer = new Observer({
      forwarding: this.#forwarding,
      endpoints: this.#endpoints,
      underlayPort: UNDERLAY_PORT,
      clock,
      wallClock: Date.now,
      application: `weft ${version}`,
    });
  }

  /** Puts the configuration and the store into force. Called once, by `createSwitch`. */
  async start(): Promise<void> {
    await this.#underlay.keep();
    await this.#networks.load();
    await this.#hosts.load();
    await this.#endpoints.load();
    const isHere = this.#endpoints.localAddresses();
    this.#forwarding.endConnections((vni, ip) => !isHere(vni, ip));
    await this.#outside.start();
    // Everything forwards by now; what follows puts back what was changed meanwhile.
    await this.#endpoints.mend();
    this.#paths.watch(this.#hosts.vteps());
    this.#pathTicker = setInterval(() => this.#paths.look(), PATH_TICK_MS);
    let ticks = 0;
    this.#ticker = setInterval(() => {
      void this.#underlay.keep();
      this.#paths.watch(this.#hosts.vteps());
      if (++ticks % RENEW_TICKS === 0) this.#renewOutside();
      this.#renewEndpoints();
      this.#forwarding.controller.tick();
    }, TICK_MS);
    this.#isForwarding = true;
  }

  status(): StatusReport {
    const { host, datapath, flowLimit } = this.#options;
    return {
      host,
      version,
      pid: process.pid,
      startedAt: this.#startedAt.toISOString(),
      forwarding: this.#isForwarding,
      underlay: this.#underlay.addressText ?? null,
      tunnel: this.#underlay.report() ?? null,
      peers: this.#hosts.vteps(),
      pathMtus: Object.fromEntries([...this.#paths.known].map(([peer, { mtu }]) => [peer, mtu])),
      pathSources: Object.fromEntries([...this.#paths.known].map(([peer, { source }]) => [peer, source])),
      store: 'embedded',
      clashes: this.#clashes(),
      outside: this.#outside.report(),
      networks: this.#networks.all().length,
      endpoints: this.#endpoints.size,
      endpointProblems: this.#endpoints.problems(),
      ...this.#observer.status({ kind: datapath, flowLimit }),
    };
  }

  /** Checks the kernel, the rights, the underlay and the peers. */
  doctor(): Promise<DoctorReport> {
    const underlay = this.#underlay.addressText;
    return diagnose({
      underlay,
      tunnel: this.#underlay.report(),
      vxlanPort: this.#options.vxlanPort,
      peers: this.#hosts.vteps(),
      paths: this.#paths.known,
      networks: this.#networks.all(),
      underlayInterface: async () => (underlay === undefined ? undefined : underlayInterface(underlay)),
      encapBytes: this.#underlay.encapBytes,
      offloads: kernelOffloads(),
      outside: this.#outside.isWanted ? () => this.#serially(() => this.#outside.inspect()) : undefined,
      published: this.#endpoints.published(),
      clashes: this.#clashes(),
      ownAddresses,
      endpoints: () =>
        this.#serially(async () => ({ local: this.#endpoints.local, problems: await this.#endpoints.inspect() })),
      probe: this.#probe,
      lostUpcalls: this.#forwarding.datapath.counters().drops.upcall_lost ?? 0,
    });
  }

  /** How many flows are decided and cached. */
  get cachedFlows(): number {
    return this.#forwarding.controller.flows.size;
  }

  networks(): NetworkReport[] {
    return this.#networks.all().map((network) => this.#reportNetwork(network.name));
  }

  /** Creates a network, or changes of one what `options` name. */
  createNetwork(name: string, options: NetworkOptions): Promise<NetworkReport> {
    return this.#serially(async () => {
      await this.#applyNow(networkDeclaration(name, options, this.#networks.find(name)?.resource));
      return this.#reportNetwork(name);
    });
  }

  async removeNetwork(name: string): Promise<void> {
    await this.delete('Network', name);
  }

  /** Attaches a container. Attaching again changes what `options` name, and nothing else. */
  attach(options: AttachOptions): Promise<EndpointReport> {
    return this.#serially(async () => {
      // A misspelt network is told first, not what else is in the way.
      this.#networks.get(options.network);
      await this.#applyNow(attachment(options, this.#endpoints.find(options.name)?.resource));
      return this.#endpoints.report(this.#endpoints.get(options.name));
    });
  }

  async detach(name: string): Promise<void> {
    await this.delete('Endpoint', name);
  }

  endpoints(): EndpointReport[] {
    return this.#endpoints.all().map((endpoint) => this.#endpoints.report(endpoint));
  }

  apply(resource: Resource, options: { readonly dryRun?: boolean } = {}): Promise<ApplyReport> {
    return this.#serially(() => this.#applyNow(resource, options));
  }

  delete(kind: Kind, name: string, options: { readonly dryRun?: boolean } = {}): Promise<ApplyReport> {
    return this.#serially(async () => {
      const { dryRun = false } = options;
      refuseInUse(kind, name, { networks: this.#networks, hosts: this.#hosts, endpoints: this.#endpoints });
      if (!dryRun) {
        await { Network: this.#networks, Host: this.#hosts, Endpoint: this.#endpoints }[kind].remove(name);
        await this.#outside.keep();
        this.#log(kind, name, 'deleted');
      }
      return { kind, name, action: 'deleted', dryRun };
    });
  }

  /** Resources as they were declared. @throws WeftError('not_found') for a name that does not exist. */
  get(kind: Kind, name?: string): Resource[] {
    switch (kind) {
      case 'Network':
        return (name === undefined ? this.#networks.all() : [this.#networks.get(name)]).map(withVni);
      case 'Host':
        return name === undefined ? this.#hosts.all() : [this.#hosts.get(name)];
      case 'Endpoint':
        return (name === undefined ? this.#endpoints.all() : [this.#endpoints.get(name)]).map(
          ({ resource, addresses, mac }) => ({
            ...resource,
            spec: { ...resource.spec, addresses: [...addresses], mac },
          }),
        );
      default:
        return kind satisfies never;
    }
  }

  /** Decides one frame that is described in text, without any effect. */
  trace(flow: string): Promise<DecisionReport> {
    return trace(flow, {
      forwarding: this.#forwarding,
      endpoints: this.#endpoints,
      hosts: this.#hosts,
      portByName: (name) => this.#observer.portByName(name),
      portName: (port) => this.#observer.nameOf(port),
      pathMtu: (vtep) => this.#paths.known.get(vtep)?.mtu,
      outside: () => ({
        allowHost: this.#options.allowHost,
        vxlanPort: this.#options.vxlanPort,
        published: this.#endpoints.published(),
      }),
    });
  }

  flows(): FlowReport[] {
    return this.#observer.flows();
  }

  /** The decision behind a live flow (`42`) or a drop (`d7`). @throws WeftError('not_found') */
  why(id: string): WhyReport {
    return this.#observer.why(id);
  }

  drops(): DropReport[] {
    return this.#observer.drops();
  }

  /** The conversations of containers with the outside. @throws WeftError('not_found') */
  connections(options: ConnectionsOptions = {}): AsyncIterable<ConnectionReport> {
    return this.#observer.connections(options);
  }

  /** Calls `listener` with each flow that is decided. Returns how to stop. */
  onFlow(listener: (flow: FlowReport) => void): () => void {
    return this.#observer.onFlow(listener);
  }

  /** Calls `listener` with each decision to drop. Returns how to stop. */
  onDrop(listener: (drop: DropReport) => void): () => void {
    return this.#observer.onDrop(listener);
  }

  /** Copies frames to `sink`, as a pcapng file; returns how to stop. */
  capture(options: CaptureOptions, sink: CaptureSink): () => void {
    return this.#observer.capture(options, sink);
  }

  /** Stops. TAPs stay in their containers for the next start, unless `purge` removes them and their endpoints. */
  async close(options: { readonly purge?: boolean } = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isForwarding = false;
    clearInterval(this.#ticker);
    clearInterval(this.#pathTicker);
    this.#underlay.close();
    this.#paths.close();
    await this.#changes.catch(() => {});
    try {
      await this.#endpoints.close({ purge: options.purge ?? false });
      await this.#outside.close();
    } finally {
      this.#watcher.close();
      this.#forwarding.datapath.close();
      if (options.purge && this.#options.connectionsFile !== undefined) {
        rmSync(this.#options.connectionsFile, { force: true });
      }
      await this.#store.close();
    }
  }

  async #applyNow(resource: Resource, options: { readonly dryRun?: boolean } = {}): Promise<ApplyReport> {
    const { dryRun = false } = options;
    refusePublished(resource, this.#endpoints);
    if (resource.kind === 'Network') {
      const known = this.#networks.find(resource.metadata.name);
      if (known) refuseOutOfRange(known, resource, this.#endpoints.of(known.name));
    }
    const action = await (dryRun ? this.#plan(resource) : this.#apply(resource));
    if (action !== 'unchanged' && !dryRun) this.#log(resource.kind, resource.metadata.name, action);
    return { kind: resource.kind, name: resource.metadata.name, action, dryRun };
  }

  async #plan(resource: Resource): Promise<ApplyReport['action']> {
    switch (resource.kind) {
      case 'Network':
        return this.#networks.plan(resource);
      case 'Host':
        return this.#hosts.plan(resource);
      case 'Endpoint':
        return (await this.#endpoints.plan(resource)).action;
      default:
        return resource satisfies never;
    }
  }

  async #apply(resource: Resource): Promise<ApplyReport['action']> {
    switch (resource.kind) {
      case 'Network':
        await this.#networks.plan(resource);
        try {
          // First, since it is what can fail.
          if (resource.spec.outside) await this.#outside.set(true);
          const action = await this.#applyNetwork(resource);
          this.#warnOfSubnets(this.#networks.get(resource.metadata.name));
          // Which default route a container takes depends on the outside of its networks.
          await this.#endpoints.mendNetwork(resource.metadata.name);
          return action;
        } finally {
          await this.#outside.keep();
        }
      case 'Host':
        return this.#hosts.apply(resource);
      case 'Endpoint': {
        const { action } = await this.#endpoints.apply(resource);
        await (resource.spec.publish.length > 0 ? this.#outside.set() : this.#outside.keep());
        return action;
      }
      default:
        return resource satisfies never;
    }
  }

  async #applyNetwork(resource: NetworkResource): Promise<ApplyReport['action']> {
    const { name } = resource.metadata;
    const before = this.#networks.find(name)?.mtu;
    const action = await this.#networks.apply(resource);
    if (before !== undefined) await this.#endpoints.changeMtu(name, before);
    return action;
  }

  #renewOutside(): void {
    if (this.#isRenewing || !this.#outside.isWanted) return;
    this.#isRenewing = true;
    void this.#serially(() => this.#outside.mend())
      .catch((error: unknown) => this.#unexpected(error))
      .finally(() => (this.#isRenewing = false));
  }

  #renewEndpoints(): void {
    if (this.#isRenewingEndpoints) return;
    this.#isRenewingEndpoints = true;
    void this.#serially(async () => {
      if (await this.#endpoints.renew()) await this.#outside.keep();
    })
      .catch((error: unknown) => this.#unexpected(error))
      .finally(() => (this.#isRenewingEndpoints = false));
  }

  #clashes(): ClashReport[] {
    const networks = this.#networks.all();
    return [
      ...this.#observer.tunnelClashes(),
      ...this.#subnetClashes(networks),
      ...routeClashes(networks.map(({ name, resource }) => ({ name, routes: resource.spec.routes }))),
    ];
  }

  #warnOfSubnets(network: Network): void {
    for (const { detail } of this.#subnetClashes([network])) {
      this.#options.logger.warn({ network: network.name }, detail);
    }
  }

  /** Without an outside no container reaches what the host does, whatever its address. */
  #subnetClashes(networks: readonly Network[]): ClashReport[] {
    if (!this.#outside.isWanted) return [];
    const routes = hostRoutes().filter(({ ifname }) => ifname !== OUTSIDE_IFNAME);
    return subnetClashes(
      networks.map(({ name, resource }) => ({ name, subnets: resource.spec.subnets })),
      routes,
    );
  }

  #reportNetwork(name: string): NetworkReport {
    return this.#networks.report(this.#networks.get(name), this.#endpoints.of(name).length);
  }

  #onPortLost(port: PortNo, why: string): void {
    this.#options.logger.warn({ port, endpoint: this.#endpoints.portName(port), why }, 'port lost');
    void this.#serially(async () => {
      if (port === UNDERLAY_PORT) this.#underlay.lost(why);
      else if (port === OUTSIDE_PORT) await this.#outside.lost();
      else await this.#endpoints.detach(port);
      await this.#outside.keep();
    }).catch((error: unknown) => this.#unexpected(error));
  }

  #onNamespaceGone(name: string): void {
    void this.#serially(async () => {
      await this.#endpoints.removeGone(name);
      await this.#outside.keep();
      this.#options.logger.info({ endpoint: name }, 'endpoint released: its namespace is gone');
    }).catch((error: unknown) => this.#unexpected(error));
  }

  #unexpected(error: unknown): void {
    // What was still to be done when the switch was closed was refused.
    if (this.#isClosed && error instanceof WeftError && error.code === 'conflict') return;
    if (error instanceof WeftError && error.code === 'not_found') return;
    this.#options.logger.error({ err: error }, 'unexpected');
  }

  #log(kind: Kind, name: string, action: ApplyReport['action']): void {
    this.#options.logger.info({ kind, name }, action);
  }

  /** Runs changes one after the other. */
  #serially<T>(change: () => Promise<T>): Promise<T> {
    const run = this.#changes.then(() => {
      if (this.#isClosed) throw new WeftError('conflict', 'the switch is stopping');
      return change();
    });
    this.#changes = run.catch(() => {});
    return run;
  }
}

function withVni({ resource, vni, mtu }: { resource: NetworkResource; vni: number; mtu: number }): NetworkResource {
  return { ...resource, spec: { ...resource.spec, vni, mtu } };
}
