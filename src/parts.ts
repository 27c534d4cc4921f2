/**
 * The parts of a switch, and how they are connected. Whatever a process can have only once (clocks, timers, randomness)
 * is passed in by `switch.ts`.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { kernelOffloads } from './addon/kernel-offloads.ts';
import { exchangeWithNetns } from './addon/netns.ts';
import type { Attached } from './cluster/attachments.ts';
import { Allotment } from './cluster/addresses/allotment.ts';
import { Blocks } from './cluster/addresses/blocks.ts';
import { Cluster } from './cluster/cluster.ts';
import { Endpoints } from './cluster/endpoints.ts';
import type { Feed } from './cluster/feed/feed.ts';
import { Hosts } from './cluster/membership/hosts.ts';
import { Membership } from './cluster/membership/membership.ts';
import { Networks } from './cluster/networks.ts';
import { Peers } from './cluster/membership/peers.ts';
import { ProbeKey } from './cluster/membership/probe-key.ts';
import { Questions } from './cluster/membership/questions.ts';
import { publishedPorts, publishes, wantsOutside } from './cluster/publishing.ts';
import type { Draft } from './cluster/reconciler.ts';
import { belongingsOf } from './cluster/remote-endpoints.ts';
import { policyParts } from './cluster/policies/parts.ts';
import { reconcilers } from './cluster/reconcilers.ts';
import { serviceParts } from './cluster/services/parts.ts';
import { Underlay } from './cluster/underlay.ts';
import type { DaemonConfig } from './config.ts';
import { LARGEST_PORT, type Datapath, type DatapathOptions } from './datapath/datapath.ts';
import { parseIp, type PortNo, type Vni } from './flow/types.ts';
import type { Forwarding } from './forwarding.ts';
import { openForwarding } from './host-forwarding.ts';
import { isRunning, ownProcess, readBootId } from './link/process-identity.ts';
import { hostRoutes } from './link/host-routes.ts';
import { hookParts, type HookParts } from './hooks/parts.ts';
import type { ReadyHooks } from './hooks/ready.ts';
import type { NetnsWatcher } from './link/netns-watcher.ts';
import { ownAddresses, underlayInterface } from './link/underlay.ts';
import type { Entries } from './model/publish.ts';
import type { ClashReport, DecisionReport, DoctorReport, StatusReport } from './model/report.ts';
import { memberAddress } from './model/store-config.ts';
import { listenerClashes, routeClashes, subnetClashes } from './observe/clashes.ts';
import { diagnose } from './observe/doctor.ts';
import { Observer } from './observe/observer.ts';
import { policyTelling, type PolicyTelling } from './observe/policy-parts.ts';
import { trace } from './observe/tracer.ts';
import { healthParts, type HealthParts } from './checks/parts.ts';
import { InternalKeeper } from './internal/keeper.ts';
import type { ServerSpec } from './internal/server.ts';
import { dnsServer } from './discovery/dns.ts';
import { ZoneFeed } from './discovery/feed.ts';
import { Cni } from './drivers/cni/cni.ts';
import { Docker } from './drivers/docker/docker.ts';
import { ResolvConfs } from './discovery/resolv-conf.ts';
import type { EventLoopDelay } from './metrics/event-loop.ts';
import { Metrics } from './metrics/metrics.ts';
import { MetricsServer } from './metrics/server.ts';
import { OutsideKeeper } from './outside/keeper.ts';
import { OUTSIDE_IFNAME } from './outside/link.ts';
import { version } from './package.ts';
import { Paths } from './paths/paths.ts';
import type { Probe } from './paths/probe.ts';
import type { Descriptors } from './handover/descriptors.ts';
import { holderOfPort } from './handover/port-holder.ts';
import { joined, type Store } from './store/store.ts';
import { openFeed } from './stores.ts';

export interface SwitchOptions extends DaemonConfig {
  readonly logger: Logger;
  /** The file that lets connections survive a crash, best on a tmpfs. Without it, they do not. */
  readonly connectionsFile?: string;
  /** What other processes of weft have left open for this one, and are to get from it. */
  readonly descriptors?: Descriptors;
  /** Hooks that may be loaded already. */
  readonly readyHooks?: ReadyHooks;
  /** Servers of weft itself, which containers reach at the addresses of their gateways; by default, that of DNS. */
  readonly servers?: readonly ServerSpec[];
}

/** What the parts need besides their options. */
export interface Foundations {
  /** The state of the cluster. */
  readonly store: Store;
  /** What only this host keeps, in its state directory; without a shared store, the same store. */
  readonly own: Store;
  /** Where hosts publish which revision they have in force; undefined without a shared store. */
  readonly applied: Store | undefined;
  /** What hosts ask each other; undefined without a shared store. */
  readonly questions: Store | undefined;
  readonly openDatapath: (options: DatapathOptions) => Datapath;
  /** The identity of this host: `IDENTITY_BYTES` that no other host has. */
  readonly identity: Uint8Array;
  /** 8 random bytes. */
  readonly natKey: Uint8Array;
  /** Returns 3 random bytes. */
  readonly randomHostId: () => Uint8Array;
  /** 8 random bytes by which peers know this process. */
  readonly session: Uint8Array;
  /** Returns 32 random bytes. */
  readonly randomKey: () => Uint8Array;
  readonly watcher: NetnsWatcher;
  /** Undefined if probing is not possible. */
  readonly probe: () => Probe | undefined;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly later: (work: () => void) => void;
  /** Does something after some milliseconds; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** The delays of the event loop; they belong to the parts. */
  readonly eventLoop: EventLoopDelay;
  readonly status: () => StatusReport;
  /** Returns a random text for the id of a new cluster. */
  readonly newId: () => string;
  readonly onPortLost: (port: PortNo, why: string) => void;
  readonly onNamespaceGone: (gone: Attached) => void;
}

export interface Parts extends PolicyTelling {
  readonly store: Store;
  readonly own: Store;
  readonly feed: Feed;
  readonly watcher: NetnsWatcher;
  readonly forwarding: Forwarding;
  readonly underlay: Underlay;
  readonly paths: Paths;
  readonly peers: Peers;
  /** Undefined without a shared store. */
  readonly probeKey: ProbeKey | undefined;
  /** Undefined without a shared store. */
  readonly questions: Questions | undefined;
  readonly networks: Networks;
  /** Only with a shared store. */
  readonly blocks: Blocks | undefined;
  readonly hosts: Hosts;
  readonly endpoints: Endpoints;
  readonly cluster: Cluster;
  readonly membership: Membership;
  readonly outside: OutsideKeeper;
  readonly internal: InternalKeeper;
  readonly resolvConfs: ResolvConfs;
  readonly cni: Cni;
  readonly docker: Docker;
  readonly health: HealthParts;
  readonly observer: Observer;
  readonly hooks: HookParts;
  readonly eventLoop: EventLoopDelay;
  /** For readers of the API. */
  readonly metrics: Metrics;
  readonly metricsServer: MetricsServer;
  readonly clashes: () => ClashReport[];
  readonly doctor: () => Promise<DoctorReport>;
  readonly trace: (flow: string) => Promise<DecisionReport>;
}

export const UNDERLAY_PORT = 1 as PortNo;
export const OUTSIDE_PORT = 2 as PortNo;
/** Those of containers are counted from 3. */
export const INTERNAL_PORT = LARGEST_PORT as PortNo;

export function joinParts(options: SwitchOptions, foundations: Foundations): Parts {
  const { logger } = options;
  const { own, watcher, probe, clock } = foundations;
  const id = Buffer.from(foundations.identity).toString('hex');
  const feed = openFeed(options, foundations, { id, membership: () => membership });
  const { store } = feed;
  const warn = (message: string, details: object): void => logger.warn(details, message);
  const forwarding: Forwarding = openForwarding(options, foundations, () => peers.noteChanges());

  const underlay = new Underlay({
    forwarding,
    portNo: UNDERLAY_PORT,
    l4Port: options.vxlanPort,
    address: options.underlay,
    // The way to the store is the way to the hosts that share it, unless somebody says otherwise.
    peer: options.peers[0] ?? memberAddress(options.store),
    keptFor: holderOfPort,
    onChange: ({ open: isOpen, why }) => {
      membership.moved();
      if (isOpen) logger.info({ underlay: underlay.addressText }, 'underlay open');
      else logger.warn({ why }, 'waiting for the underlay');
    },
  });
  const paths = new Paths({
    probe,
    clock,
    local: () => underlay.address,
    onLook: (peer, { mtu, source }, before) => {
      forwarding.remote.setPathMtu(parseIp(peer), mtu - underlay.encapBytes);
      if (before !== undefined && before !== mtu) logger.info({ peer, mtu, before, source }, 'path MTU changed');
    },
  });

  const isShared = store !== own;
  const allotment = isShared ? new Allotment() : undefined;
  const blocks: Blocks | undefined = isShared
    ? new Blocks({
        store,
        own,
        hostName: options.host,
        expectations: (name) => {
          const network = networks.expectation(name);
          return network && [network, ...hosts.expectation()];
        },
        onLost: (names, why) =>
          endpoints.suspend(
            names.flatMap((name) => endpoints.find(name) ?? []),
            why,
          ),
        clock,
        after: foundations.after,
        warn,
      })
    : undefined;
  const underlayOf = (name: string): string | undefined => hosts.find(name)?.resource.spec.underlay;
  const isReachable = (name: string): boolean | undefined => peers.isReachable(underlayOf(name));
  const isUnreachable = (name: string): boolean => peers.isAvoided(underlayOf(name));
  const isHostDown = (name: string): boolean => membership.isDown(name) || isUnreachable(name);
  const serving = serviceParts({
    tables: {
      setService: (service) => {
        forwarding.setService(service);
        names.setService(service);
        health.setService(service);
      },
      removeService: (service) => {
        forwarding.removeService(service);
        names.removeService(service);
        health.removeService(service);
      },
      setClient: (name, client) => {
        forwarding.tables.services.setClient(name, client);
        forwarding.controller.enforce();
      },
      setHost: (name, zone) => forwarding.setHost(name, zone),
      setServiceRanges: (ranges) => forwarding.setServiceRanges(ranges),
      // At a start, that is said when clients outside can be told that their backends have gone (`life-cycle.ts`).
      servicesLoaded: () => {
        if (outside.hasStarted) forwarding.servicesLoaded();
      },
    },
    serviceCidrs: options.serviceCidrs,
    networks: () => networks,
    hosts: () => hosts,
    endpoints: () => endpoints,
    allotment,
    hostName: options.host,
    isDown: isHostDown,
    isUnreachable,
    later: foundations.later,
    onError: (error) => logger.error({ err: error }, 'services are not as they should be'),
    warn: (message) => logger.warn(message),
  });
  const policies = policyParts({ forwarding, networks: () => networks, endpoints: () => endpoints });
  const hooks = hookParts({
    ...{ forwarding, clock, warn },
    ...{ files: options.hooks, ready: options.readyHooks },
    host: options.host,
  });
  const hasStaticPeers = (draft: Draft): boolean => options.peers.length > 0 || (!allotment && draft.count('Host') > 0);
  const membership: Membership = new Membership({
    shared: foundations.applied && { store: foundations.store, applied: foundations.applied },
    own,
    hosts: () => hosts,
    host: options.host,
    id,
    version,
    process: ownProcess(options.state),
    state: options.state,
    underlay: () => underlay.addressText,
    mtu: () => underlay.mtu(),
    mustWait: () => feed.mustWait(),
    isStored: () => cluster.isStored,
    isReachable,
    unreachableMs: (name) => peers.downMs(underlayOf(name)),
    isRunning,
    randomHostId: foundations.randomHostId,
    setHostId: (hostId) => forwarding.setHostId(hostId),
    settled: () => forwarding.controller.revalidator.settled(),
    kept: () => feed.kept(),
    clock,
    wallClock: foundations.wallClock,
    after: foundations.after,
    onChange: ({ state, why }) => {
      health.unhealthy.publish();
      if (state === 'registered') logger.info({ host: options.host }, 'registered in the store');
      else if (state === 'waiting') logger.warn({ why }, 'waiting to register in the store');
      else logger.error({ why }, 'this host is refused: it goes on with what it knows, and writes nothing');
    },
  });
  const hosts: Hosts = new Hosts({
    ...{ forwarding, id, name: options.host },
    refused: () => cluster.refused,
    underlay: () => underlay.address,
    peers: options.peers.map(parseIp),
    whyAlive: (name) => membership.whyAlive(name),
    stillGone: (name) => membership.live.expectation(name),
    belongingsOf: (name) =>
      joined(belongingsOf(name, endpoints.all(), cluster.refused, hosts), blocks?.without(name) ?? {}),
    onMoved: (name) => {
      if (name === options.host && !hosts.registrationOf(name)) membership.lost();
      return endpoints.followHost(name);
    },
    onAdded: (names) => endpoints.followHosts(names),
  });
  const networks: Networks = new Networks({
    forwarding,
    allotment,
    blocks,
    defaultMtu: () => underlay.defaultMtu(),
    serviceClash: (subnets, texts) => serving.clash(subnets, texts),
    hasStaticPeers,
    endpointsOf: (network) => endpoints.in(network),
    countOf: (network) => endpoints.countIn(network),
    refused: () => cluster.refused,
    onNamed: (name) => names.networkChanged(name),
    onAdded: (name) => endpoints.claimIn(name),
    onChanged: ({ name }, { mtu }) => endpoints.followNetwork(name, mtu),
    onRemoved: (name, why) => endpoints.suspend(endpoints.in(name), why),
  });
  const endpoints: Endpoints = new Endpoints({
    ...{ store, own, forwarding, networks, hosts, watcher },
    exchange: exchangeWithNetns,
    refused: () => cluster.refused,
    hostName: options.host,
    isShared,
    isDown: (name) => membership.isDown(name),
    identity: foundations.identity,
    bootId: readBootId(),
    hasStaticPeers,
    nodePortOwner: serving.nodePortOwner,
    nodePortBefore: serving.nodePortBefore,
    onEndpointChange: (before, after) => {
      const { name } = (after ?? before)!;
      policies.enforcement.endpointChanged(before, after);
      serving.enforcement.endpointChanged(before, after);
      names.endpointChanged(name);
      resolvConfs.endpointChanged(name);
      cni.endpointChanged(before, after);
      docker.endpointChanged(before, after);
    },
    onAddressesClaimed: (endpoint) => policies.enforcement.addressesClaimed(endpoint),
    onMovedAway: (endpoint, host) => logger.info({ endpoint, host }, 'endpoint has moved to another host'),
    onNamespaceGone: foundations.onNamespaceGone,
    warn,
  });

  const cni: Cni = new Cni({
    cluster: () => cluster,
    ...{ endpoints, networks },
    onFailure: (details) => logger.warn(details, 'a container runtime asked for what cannot be done'),
  });
  const docker: Docker = new Docker({
    cluster: () => cluster,
    ...{ endpoints, networks, own, newId: foundations.newId },
    onFailure: (details) => logger.warn(details, 'Docker asked for what cannot be done'),
  });
  const { later } = foundations;
  const names: ZoneFeed = new ZoneFeed({ networks, endpoints }, later);
  const resolvConfs = new ResolvConfs({ networks, endpoints, later, warn });

  const probeKey = isShared
    ? new ProbeKey({ store, mustWait: () => feed.mustWait(), random: foundations.randomKey })
    : undefined;
  const peers: Peers = new Peers({
    forwarding,
    liveness: { session: foundations.session, ...options.liveness },
    vteps: () => hosts.vteps(),
    sources: () => [hosts.vteps(), networks.all(), probeKey?.key],
    nameOf: (underlay) => hosts.nameAt(underlay),
    // Hosts that share the store have its key.
    keyOf: (underlay) => {
      const name = hosts.nameAt(underlay);
      const isOfStore = name !== undefined && hosts.registrationOf(name) !== undefined;
      return isOfStore ? probeKey?.key : (options.peerKeys.get(underlay) ?? options.peerKey);
    },
    networks: () => networks.all(),
    pathMtu: (underlay) => paths.known.get(underlay)?.mtu,
    isShared,
    vxlanPort: options.vxlanPort,
    clock,
    wallClock: foundations.wallClock,
    onChange: ({ underlay: peer, name, state, why }) => {
      const details = { peer, ...(name !== null && { host: name }), state, ...(why !== undefined && { why }) };
      if (state === 'up') logger.info(details, 'peer is up');
      else logger.warn(details, `peer is ${state}`);
    },
    onHostChanged: (name) => serving.enforcement.hostChanged(name),
    followed: () => serving.enforcement.caughtUp(),
    onError: (error) => logger.error({ err: error }, 'what is known of peers is not in force'),
  });

  const entries = (): Entries => {
    const { ports, addresses } = serving.services.entries;
    return { ports: [...endpoints.published(), ...ports], addresses };
  };
  const health = healthParts({
    ...{ forwarding, hostName: options.host, clock, later, after: foundations.after, logger },
    store: isShared ? store : undefined,
    lease: () => (feed.report()?.refused === undefined ? membership.lease : undefined),
  });

  const outside = new OutsideKeeper({
    forwarding,
    portNo: OUTSIDE_PORT,
    isWanted: () =>
      serving.services.entries.ports.length > 0 || networks.all().some(({ resource }) => wantsOutside(resource)),
    entries,
    targets: () => publishedPorts(endpoints.published(), (network) => networks.get(network).vni as Vni),
    allowHost: options.allowHost,
    vxlanPort: options.vxlanPort,
    left: (ns) => options.descriptors?.left(ns),
    keptRules: join(options.state, 'rules'),
    warn,
    onFailure: (error) => logger.error({ err: error }, 'the outside is not as it should be'),
  });
  const internal = new InternalKeeper({
    forwarding,
    portNo: INTERNAL_PORT,
    servers: options.servers ?? [dnsServer(names), health.checks.server],
    onLost: (why) => foundations.onPortLost(INTERNAL_PORT, why),
    onFailure: (why) => logger.error({ why }, 'weft’s own sockets are not as they should be'),
  });
  const observer = new Observer({
    forwarding,
    endpoints,
    isHostDown,
    isShared,
    underlayPort: UNDERLAY_PORT,
    clock,
    wallClock: foundations.wallClock,
    after: foundations.after,
    application: `weft ${version}`,
  });

  const questions: Questions | undefined =
    foundations.questions &&
    new Questions({
      ...foundations,
      ...{ store: foundations.questions, host: options.host },
      others: () => membership.others(),
      mustWait: () => feed.mustWait(),
      answer: (question) => telling.whatIf.answer(question),
    });
  const telling = policyTelling({
    ...{ forwarding, policies, endpoints, networks, questions, clock, warn, wallClock: foundations.wallClock },
    ...{ host: options.host, state: options.state, services: serving.enforcement },
    cluster: () => cluster,
    onError: (error) => logger.error({ err: error }, 'flow classes are not as they should be'),
  });
  const { status, eventLoop } = foundations;
  const openMetrics = (): Metrics => new Metrics({ status, peers: () => peers.report(), delays: eventLoop.reader() });
  const metricsServer = new MetricsServer({
    address: options.metrics,
    metrics: openMetrics(),
    onChange: ({ address, why }) => {
      if (why === undefined) logger.info({ address }, 'metrics are served');
      else logger.warn({ address, why }, 'metrics cannot be served at this address: trying again');
    },
    onInternal: (error) => logger.error({ err: error }, 'internal error'),
  });

  /** Without an outside, no container can reach what the host can, whatever its address. */
  const clashesOfSubnets = (names: readonly string[]): ClashReport[] => {
    if (!outside.isWanted) return [];
    const routes = hostRoutes().filter(({ ifname }) => ifname !== OUTSIDE_IFNAME);
    const wanted = names.map((name) => ({ name, subnets: networks.get(name).resource.spec.subnets }));
    return subnetClashes(wanted, routes);
  };
  const clashes = (): ClashReport[] => [
    ...membership.differences(),
    ...hosts.clashes(),
    ...serving.clashes(),
    ...health.unhealthy.clashes(),
    ...observer.tunnelClashes(),
    ...peers.clashes(),
    ...clashesOfSubnets(networks.all().map(({ name }) => name)),
    ...routeClashes(networks.all().map(({ name, resource }) => ({ name, routes: resource.spec.routes }))),
  ];

  const cluster: Cluster = new Cluster({
    hostName: options.host,
    feed,
    reconcilers: reconcilers({ networks, hosts, endpoints, ...serving, ...policies, hooks: hooks.declared }),
    registers: [
      ...(allotment && blocks && probeKey ? [allotment, blocks, membership.live, probeKey] : []),
      ...serving.registers,
      health.unhealthy.declaredHosts,
      health.unhealthy,
    ],
    check: (change) => serving.check(change).then(() => policies.tests.check(change)),
    onInForce: (revision, latest) => membership.reached(revision, latest),
    onEnforced: () => {
      peers.follow();
      return outside.keep();
    },
    // Makes sure that the outside can be set up before what needs it is declared.
    prepare: async (resources) => {
      if (resources.some(wantsOutside)) await outside.set(true);
    },
    onApplied: async (resources) => {
      const applied = resources.filter(({ kind }) => kind === 'Network').map(({ metadata }) => metadata.name);
      for (const { detail } of clashesOfSubnets(applied)) logger.warn(detail);
      if (resources.some(publishes)) await outside.set();
    },
    noteSwept: () => telling.policyReports.noteSwept(),
    after: foundations.after,
    wallClock: foundations.wallClock,
    logger,
  });

  return {
    ...{
      store,
      own,
      feed,
      watcher,
      forwarding,
      underlay,
      paths,
      peers,
      probeKey,
      networks,
      blocks,
      hosts,
      endpoints,
      cluster,
      membership,
      outside,
      internal,
      resolvConfs,
      cni,
      docker,
      health,
      observer,
      hooks,
      eventLoop,
      metrics: openMetrics(),
      metricsServer,
      clashes,
      questions,
      ...telling,
    },
    doctor: async () =>
      diagnose({
        state: options.state,
        underlay: underlay.addressText,
        tunnel: underlay.report(),
        vxlanPort: options.vxlanPort,
        peers: hosts.vteps(),
        hosts: peers.report(),
        paths: paths.known,
        networks: networks.all(),
        underlayInterface: async () =>
          underlay.addressText === undefined ? undefined : underlayInterface(underlay.addressText),
        encapBytes: underlay.encapBytes,
        offloads: kernelOffloads(),
        outside: outside.isWanted ? () => cluster.serial.run(() => outside.inspect()) : undefined,
        published: endpoints.published(),
        clashes: [...clashes(), ...listenerClashes(serving.services.entries.ports, serving.nodePortOwner)],
        policies: () => policies.enforcement.doubts(),
        hooks: hooks.keeper.report(),
        refusedRecords: cluster.refused.report(),
        refusedRecordCount: cluster.refused.count,
        confirmation: cluster.confirmation.report(),
        internal: internal.report(),
        ownAddresses,
        endpoints: () =>
          cluster.serial.run(async () => ({ local: endpoints.local, problems: await endpoints.inspect() })),
        probe: probe(),
        store: feed.report() ?? undefined,
        waitsFor: feed.waitsFor()?.message,
        registration: membership.report,
        inForce: await membership.lookInForce(),
        audit: observer.audit(),
        flowCache: observer.datapath({ kind: options.datapath, flowLimit: options.flowLimit }),
        lostUpcalls: forwarding.datapath.counters().drops.upcall_lost ?? 0,
      }),
    trace: (flow) =>
      trace(flow, {
        forwarding,
        endpoints,
        hosts,
        portByName: (name) => observer.portByName(name),
        portName: (port) => observer.nameOf(port),
        pathMtu: (vtep) => paths.known.get(vtep)?.mtu,
        outside: () => ({
          allowHost: options.allowHost,
          vxlanPort: options.vxlanPort,
          published: entries().ports,
        }),
      }),
  };
}
