/** A whole control plane without namespaces: store, cluster and reconcilers over a switch in memory. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Allotment } from '../../src/cluster/addresses/allotment.ts';
import { Blocks } from '../../src/cluster/addresses/blocks.ts';
import { Cluster } from '../../src/cluster/cluster.ts';
import { LocalFeed } from '../../src/cluster/feed/local-feed.ts';
import { Endpoints } from '../../src/cluster/endpoints.ts';
import { Hosts } from '../../src/cluster/membership/hosts.ts';
import { Membership, type MembershipEnvironment } from '../../src/cluster/membership/membership.ts';
import { Networks } from '../../src/cluster/networks.ts';
import { SharedFeed } from '../../src/cluster/feed/shared-feed.ts';
import { hookParts } from '../../src/hooks/parts.ts';
import { policyParts } from '../../src/cluster/policies/parts.ts';
import { reconcilers } from '../../src/cluster/reconcilers.ts';
import { belongingsOf } from '../../src/cluster/remote-endpoints.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { parseIp } from '../../src/flow/types.ts';
import { Forwarding } from '../../src/forwarding.ts';
import { NetnsWatcher } from '../../src/link/netns-watcher.ts';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { serviceParts } from '../../src/cluster/services/parts.ts';
import { joined, type Store } from '../../src/store/store.ts';

export { manifest } from '../support/switch.ts';

export interface ControlPlaneOptions {
  /** The name of its host. */
  readonly host?: string;
  /** The state of the cluster, which others have open, too; by default the host's own store. */
  readonly shared?: Store;
  /** Milliseconds. */
  readonly clock?: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
  readonly after?: (delayMs: number, work: () => void) => () => void;
  /** Where hosts publish what they have in force; with it, the host registers itself. */
  readonly applied?: Store;
  readonly underlay?: string;
  readonly serviceCidrs?: readonly string[];
  /** True for hosts that cannot be reached. */
  readonly isUnreachable?: (host: string) => boolean;
  /** Overrides of what the host is to the others. */
  readonly membership?: Partial<MembershipEnvironment>;
  /** What the kernel calls the namespace that is looked at. */
  readonly cookie?: () => bigint;
  /** Instead of registering: what it throws ends the start. */
  readonly register?: () => Promise<void>;
}

/** A store of its own, closed at the end of the test. */
export async function openStore(t: Test, directory = mkdtempSync(join(tmpdir(), `weft-store-${process.pid}-`))) {
  const store = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after: realAfter });
  t.teardown(async () => {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return store;
}

function realAfter(delayMs: number, work: () => void): () => void {
  const timeout = setTimeout(work, delayMs).unref();
  return () => clearTimeout(timeout);
}

/** Closed at the end of the test. @param known the directory of one that is closed; by default a new one */
export async function openControlPlane(t: Test, known?: string, options: ControlPlaneOptions = {}) {
  const {
    host = 'here',
    shared,
    applied,
    underlay = '192.0.2.1',
    clock,
    cookie = () => 0n,
    after = realAfter,
    wallClock = Date.now,
  } = options;
  const directory = known ?? mkdtempSync(join(tmpdir(), `weft-cluster-${process.pid}-`));
  const own = await openEmbeddedStore({ directory, onWarning: (message) => t.fail(message), after });
  const warnings: string[] = [];
  const tell = (_: object, message: string): void => void warnings.push(message);
  const feed = !shared
    ? new LocalFeed(own)
    : new SharedFeed({
        store: shared,
        place: { endpoints: ['192.0.2.100:2379'], prefix: 'weft/' },
        ...{ own, host, after },
        id: Buffer.from(host).toString('hex').padEnd(32, '0'),
        isContinued: false,
        copyFile: join(directory, 'copy'),
        whyBarred: () => membership.whyBarred,
        isDecided: () => membership.isDecided,
        newId: () => randomUUID(),
        wallClock: () => 0,
        logger: { info: () => {}, warn: tell, error: tell },
      });
  const { store } = feed;
  const allotment = shared && new Allotment();
  const blocks: Blocks | undefined =
    shared &&
    new Blocks({
      store,
      own,
      hostName: host,
      expectations: (name) => {
        const network = networks.expectation(name);
        return network && [network, ...hosts.expectation()];
      },
      onLost: (names, why) =>
        endpoints.suspend(
          names.flatMap((name) => endpoints.find(name) ?? []),
          why,
        ),
      clock: clock ?? (() => performance.now()),
      after,
      warn: (message) => warnings.push(message),
    });
  const forwarding = new Forwarding(openReferenceDatapath, {
    hostId: Uint8Array.of(0, 0, 1),
    fdbQuota: 64,
    neighborQuota: 64,
    fdbAgeingMs: 300_000,
    flowCap: 1000,
    flowIdleMs: 60_000,
    connections: new Uint8Array(0),
    connectionQuota: 1,
    wallClock: () => 0,
    natKey: new Uint8Array(8),
    clock: () => 0,
    onPortLost: () => {},
    onError: (error) => {
      throw error;
    },
  });
  const id = Buffer.from(host).toString('hex').padEnd(32, '0').slice(0, 32);
  const membership: Membership = new Membership({
    shared: shared && applied && { store: shared, applied },
    own,
    hosts: () => hosts,
    host,
    id,
    version: '1.0.0',
    process: { bootId: 'boot', pidNamespace: 'pid:[1]', pid: 1, startTicks: '1', stateDirectory: directory },
    state: directory,
    underlay: () => underlay,
    mtu: async () => 1500,
    mustWait: () => feed.mustWait(),
    isStored: () => cluster.isStored,
    isReachable: () => undefined,
    unreachableMs: () => undefined,
    isRunning: () => false,
    randomHostId: () => randomBytes(3),
    setHostId: (hostId) => forwarding.setHostId(hostId),
    settled: () => forwarding.controller.revalidator.settled(),
    kept: () => feed.kept(),
    clock: () => performance.now(),
    wallClock: Date.now,
    after,
    onChange: ({ why }) => void (why !== undefined && warnings.push(why)),
    ...options.membership,
  });
  const hosts: Hosts = new Hosts({
    forwarding,
    name: host,
    id,
    refused: () => cluster.refused,
    underlay: () => parseIp(underlay),
    peers: [],
    whyAlive: (name) => membership.whyAlive(name),
    stillGone: (name) => membership.live.expectation(name),
    belongingsOf: (name) =>
      joined(belongingsOf(name, endpoints.all(), cluster.refused, hosts), blocks?.without(name) ?? {}),
    onMoved: (name) => endpoints.followHost(name),
    onAdded: (names) => endpoints.followHosts(names),
  });
  const serving = serviceParts({
    tables: {
      setService: (service) => forwarding.setService(service),
      removeService: (service) => forwarding.removeService(service),
      setHost: (name, zone) => forwarding.setHost(name, zone),
      setServiceRanges: (ranges) => forwarding.setServiceRanges(ranges),
      servicesLoaded: () => forwarding.servicesLoaded(),
      setClient: (name, client) => {
        forwarding.tables.services.setClient(name, client);
        forwarding.controller.enforce();
      },
    },
    serviceCidrs: options.serviceCidrs,
    networks: () => networks,
    hosts: () => hosts,
    endpoints: () => endpoints,
    allotment,
    hostName: host,
    isDown: () => false,
    isUnreachable: options.isUnreachable ?? (() => false),
    later: setImmediate,
    warn: (message) => warnings.push(message),
    onError: (error) => {
      throw error;
    },
  });
  const policies = policyParts({ forwarding, networks: () => networks, endpoints: () => endpoints });
  const hooks = hookParts({ forwarding, host, files: [], clock: () => 0, warn: (message) => warnings.push(message) });
  const networks: Networks = new Networks({
    forwarding,
    serviceClash: (subnets, texts) => serving.clash(subnets, texts),
    allotment,
    blocks,
    defaultMtu: async () => 1450,
    hasStaticPeers: () => false,
    endpointsOf: (network) => endpoints.in(network),
    countOf: (network) => endpoints.countIn(network),
    refused: () => cluster.refused,
    onAdded: (name) => endpoints.claimIn(name),
    onChanged: async () => {},
    onRemoved: (name, why) => endpoints.suspend(endpoints.in(name), why),
  });
  const watcher = new NetnsWatcher(setInterval);
  const endpoints: Endpoints = new Endpoints({
    store,
    own,
    forwarding,
    networks,
    hosts,
    watcher,
    // Namespaces without interfaces.
    exchange: async (all) => all.map(() => ({ result: 0, cookie: cookie(), settings: [], replies: new Uint8Array() })),
    refused: () => cluster.refused,
    hostName: host,
    isShared: shared !== undefined,
    isDown: (name) => membership.isDown(name),
    identity: Buffer.from(host),
    bootId: 'boot',
    hasStaticPeers: () => false,
    nodePortOwner: serving.nodePortOwner,
    nodePortBefore: serving.nodePortBefore,
    onEndpointChange: (before, after) => {
      policies.enforcement.endpointChanged(before, after);
      serving.enforcement.endpointChanged(before, after);
    },
    onAddressesClaimed: (endpoint) => policies.enforcement.addressesClaimed(endpoint),
    onMovedAway: (endpoint, host) => warnings.push(`${endpoint} has moved to ${host}`),
    onNamespaceGone: () => {},
    warn: (message) => warnings.push(message),
  });
  const cluster: Cluster = new Cluster({
    hostName: host,
    feed,
    reconcilers: reconcilers({ networks, hosts, endpoints, ...serving, ...policies, hooks: hooks.declared }),
    registers: [...(allotment && blocks ? [allotment, blocks, membership.live] : []), ...serving.registers],
    onInForce: (revision, latest) => membership.reached(revision, latest),
    onEnforced: async () => {},
    check: (change) => serving.check(change).then(() => policies.tests.check(change)),
    prepare: async () => {},
    onApplied: async () => {},
    after,
    wallClock,
    logger: {
      info: () => {},
      warn: (_, message) => warnings.push(message),
      error: (details, message) => t.fail(`${message}: ${String((details as { err?: unknown }).err)}`),
    },
  });
  const close = async (): Promise<void> => {
    await Promise.all([cluster.serial.close(), blocks?.close()]);
    await membership.close();
    await cluster.close();
    await hooks.keeper.close();
    watcher.close();
    forwarding.datapath.close();
    await own.close();
  };
  t.teardown(async () => {
    await close();
    rmSync(directory, { recursive: true, force: true });
  });
  const register = options.register ?? ((): Promise<void> => membership.start());
  try {
    await cluster.serial.run(() => cluster.start(undefined, register));
  } catch (error) {
    await close();
    throw error;
  }
  blocks?.start();
  /** What another program writes; in force when it returns, as far as that is possible. */
  const write = async (entries: Readonly<Record<string, unknown>>): Promise<void> => {
    const all = Object.entries(entries);
    await (shared ?? store).transact({
      put: all.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value }])),
      delete: all.flatMap(([key, value]) => (value === undefined ? [key] : [])),
    });
    await cluster.serial.run(() => cluster.enforce());
  };
  return {
    blocks,
    cluster,
    close,
    directory,
    endpoints,
    feed,
    forwarding,
    hosts,
    membership,
    networks,
    policies,
    serving,
    store,
    warnings,
    write,
  };
}
