/**
 * The switch on a host: the file to read first.
 *
 *   configuration → store → tables → datapath → ports → upcalls
 *
 * `createSwitch` opens the state directory, the datapath and the underlay (`parts.ts` connects them),
 * puts into force what the store holds, and forwards from then on (`life-cycle.ts`). Frames never come
 * here: `forwarding.ts` connects the datapath with the decisions of `pipeline/decide.ts`.
 *
 * The methods are the operator's commands. Those that change something run one after the other, and
 * return when what they wrote is durable and in force (`cluster/cluster.ts`). Only this file has clocks and timers.
 */
import { randomBytes } from 'node:crypto';
import { attach, type AttachRequest } from './cluster/attaching.ts';
import type { ApplyOptions, LabelChanges } from './cluster/cluster.ts';
import type { FollowOptions, Following } from './cluster/followers.ts';
import { hostIdentity, IDENTITY_BYTES } from './cluster/membership/identity.ts';
import { createNetwork } from './cluster/network-creating.ts';
import type { NetworkOptions } from './cluster/network-declaration.ts';
import { datapathOpener } from './datapath/open.ts';
import { LifeCycle, type CloseOptions } from './life-cycle.ts';
import { NetnsWatcher } from './link/netns-watcher.ts';
import { requireTun } from './link/tun.ts';
import { EventLoopDelay } from './metrics/event-loop.ts';
import type { Metrics } from './metrics/metrics.ts';
import { endpointKind } from './model/kinds/endpoint.ts';
import type { KindDefinition } from './model/kinds/kind.ts';
import { networkKind } from './model/kinds/network.ts';
import type {
  AcceptReport,
  ApplyReport,
  ConnectionReport,
  DecisionReport,
  DoctorReport,
  DropReport,
  EndpointReport,
  FlowReport,
  HostReport,
  InForceReport,
  NetworkReport,
  StatusReport,
  WhyReport,
} from './model/report.ts';
import type { ServiceNews, ServiceReport } from './model/service-report.ts';
import type { Resource, ResourceName } from './model/resource.ts';
import type { TalkFilter } from './model/talk-report.ts';
import type { CaptureOptions, CaptureSink, ConnectionsOptions } from './observe/observer.ts';
import type { PolicyReports } from './observe/policy-reports.ts';
import { joinParts, type Parts, type SwitchOptions } from './parts.ts';
import { probeOpener } from './paths/probe.ts';
import { hostsOf, statusOf } from './status.ts';
import { openStores, type Stores } from './stores.ts';
import { Upkeep } from './upkeep.ts';

export type { RateLimitChange } from './cluster/attachment.ts';
export type { AttachRequest } from './cluster/attaching.ts';
export type { Following, FollowOptions } from './cluster/followers.ts';
export type { NetworkOptions } from './cluster/network-declaration.ts';
export type { CaptureOptions, CaptureSink, ConnectionsOptions } from './observe/observer.ts';
export type { CloseOptions } from './life-cycle.ts';
export type { SwitchOptions } from './parts.ts';

/** Milliseconds of CLOCK_MONOTONIC, which is also the clock of the native datapath. */
const clock = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/** Does something later; returns how to cancel that. */
const after = (delayMs: number, work: () => void): (() => void) => {
  const timeout = setTimeout(work, delayMs).unref();
  return () => clearTimeout(timeout);
};

/**
 * Opens everything, and forwards when it returns.
 * @throws WeftError that says what is wrong and how to fix it; nothing is left open then, but what is spare in `descriptors`.
 */
export async function createSwitch(options: SwitchOptions): Promise<Switch> {
  requireTun();
  const onWarning = (message: string): void => options.logger.warn(message);
  const stores = await openStores(options, { after, clock, wallClock: Date.now, random: Math.random, onWarning });
  return openSwitch(options, stores);
}

/** The same with open stores, which are closed with the switch. */
export async function openSwitch(options: SwitchOptions, stores: Stores): Promise<Switch> {
  const { own, store } = stores;
  const retain = options.descriptors?.isContinued ?? false; // another daemon goes on with them if this start fails
  let made: Switch | undefined;
  try {
    let begin = (): void => {};
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const openDatapath = await datapathOpener(options.datapath, { ...options, begun }, setTimeout);
    const identity = await hostIdentity(own, () => randomBytes(IDENTITY_BYTES));
    made = new Switch(options, begin, (upkeep) =>
      joinParts(options, {
        ...{ ...stores, openDatapath, identity, clock, after },
        natKey: randomBytes(8),
        randomHostId: () => randomBytes(3),
        session: randomBytes(8),
        randomKey: () => randomBytes(32),
        watcher: new NetnsWatcher(setInterval),
        probe: probeOpener(() => performance.now(), setTimeout),
        wallClock: Date.now,
        later: setImmediate,
        newId: () => randomBytes(16).toString('hex'),
        eventLoop: new EventLoopDelay({ clock: () => performance.now(), every: setInterval }),
        status: () => made!.status(),
        onPortLost: (port, why) => upkeep.onPortLost(port, why),
        onNamespaceGone: (gone) => upkeep.onNamespaceGone(gone),
      }),
    );
    await made.life.start();
    return made;
  } catch (error) {
    if (made) await made.close({ retain });
    else await Promise.all([store.close(), own.close()]);
    throw error;
  }
}

export class Switch {
  readonly #options: SwitchOptions;
  readonly #parts: Parts;
  readonly #startedAt = new Date();
  /** How it starts, which `createSwitch` does, and ends. */
  readonly life: LifeCycle;

  /** Use `createSwitch`. */
  constructor(options: SwitchOptions, begin: () => void, join: (upkeep: Upkeep) => Parts) {
    const upkeep = new Upkeep(() => this.#parts, options.logger, setInterval);
    this.#options = options;
    this.#parts = join(upkeep);
    this.life = new LifeCycle(options, this.#parts, { upkeep, begin, after });
  }

  status(): StatusReport {
    return statusOf(this.#parts, this.#options, { startedAt: this.#startedAt, isForwarding: this.life.isForwarding });
  }

  /** The metrics of the daemon, for whoever asks over the API. */
  get metrics(): Pick<Metrics, 'text' | 'report'> {
    return this.#parts.metrics;
  }

  /** What policies have denied and ended. */
  get policies(): Pick<PolicyReports, 'log' | 'onEvent'> {
    return this.#parts.policyReports;
  }

  /** The other hosts, and what is known of the way to each. */
  hosts(): Promise<HostReport[]> {
    return hostsOf(this.#parts);
  }

  /** Checks the kernel, the rights, the underlay and the peers. */
  doctor(): Promise<DoctorReport> {
    return this.#parts.doctor();
  }

  /** Puts into force what a shared store says although it is not what it was. Does nothing if it is. */
  acceptStore(): Promise<AcceptReport> {
    return this.#parts.cluster.acceptStore();
  }

  /** The number of cached flows. */
  get cachedFlows(): number {
    return this.#parts.forwarding.controller.flows.size;
  }

  networks(): NetworkReport[] {
    this.#parts.cluster.requireKnown();
    return this.#parts.networks.all().map((network) => this.#parts.networks.report(network));
  }

  /** Creates a network, or changes what `options` name of an existing one. */
  createNetwork(name: string, options: NetworkOptions): Promise<NetworkReport> {
    return createNetwork(this.#parts, name, options);
  }

  async removeNetwork(name: string): Promise<void> {
    await this.delete(networkKind, { name });
  }

  /** See `cluster/attaching.ts`. Attaching it again changes what `options` name, and nothing else. */
  attach(options: AttachRequest): Promise<EndpointReport> {
    return attach({ ...this.#parts, after }, options);
  }

  /** What container runtimes ask: by the CNI plugin, and Docker of its network and IPAM driver. */
  get drivers(): Pick<Parts, 'cni' | 'docker'> {
    return this.#parts;
  }

  /** Waits until what is in force here is so on all hosts that are not down. @throws WeftError that names the others */
  wait(timeoutMs: number, signal?: AbortSignal): Promise<InForceReport> {
    return this.#parts.membership.inForce.wait(timeoutMs, signal);
  }

  detach(which: ResourceName): Promise<ApplyReport> {
    return this.delete(endpointKind, which);
  }

  endpoints(): EndpointReport[] {
    this.#parts.cluster.requireKnown();
    return this.#parts.endpoints.all().map((endpoint) => this.#parts.endpoints.report(endpoint));
  }

  /** Applies all of `resources` in one revision, or none. */
  apply(resources: readonly Resource[], options: ApplyOptions = {}): Promise<ApplyReport[]> {
    return this.#parts.cluster.apply(resources, options);
  }

  /** The change that waits to be confirmed. */
  get confirmation(): Pick<Parts['cluster']['confirmation'], 'confirm'> {
    return this.#parts.cluster.confirmation;
  }

  delete(kind: KindDefinition, which: ResourceName, options: { readonly dryRun?: boolean } = {}): Promise<ApplyReport> {
    return this.#parts.cluster.delete(kind, which, options);
  }

  /** Sets labels of a resource; null removes one. */
  label(kind: KindDefinition, which: ResourceName, labels: LabelChanges): Promise<ApplyReport> {
    return this.#parts.cluster.label(kind, which, labels);
  }

  /** What would be if resources were applied. Nothing is changed. */
  get whatIf(): Parts['whatIf'] {
    return this.#parts.whatIf;
  }

  /** The resources as declared. @throws WeftError('not_found') if a name does not exist. */
  get(kind: KindDefinition, which: Partial<ResourceName> = {}): Resource[] {
    return this.#parts.cluster.get(kind, which);
  }

  /** Follows the resources of a kind: what is declared, and every change that is put into force. */
  follow(kind: KindDefinition, options: FollowOptions): Following {
    return this.#parts.cluster.followers.follow(kind, options);
  }

  /** Decides one frame that is described in text, without any effect. */
  trace(flow: string): Promise<DecisionReport> {
    return this.#parts.trace(flow);
  }

  /** The cached flows. */
  flows(of: TalkFilter = {}): AsyncIterable<FlowReport> {
    return this.#parts.observer.flows(of);
  }

  /** The decision behind a live flow (`42`), a drop (`d7`) or a connection (`c3`). @throws WeftError('not_found') */
  why(id: string): WhyReport {
    return this.#parts.observer.why(id);
  }

  /** The services, or the named one. @throws WeftError('not_found') */
  services(which: Partial<ResourceName> = {}): AsyncIterable<ServiceReport> {
    this.#parts.cluster.requireKnown();
    return this.#parts.observer.services(which);
  }

  /** Follows the services, or the named one, until `signal` is aborted. @throws WeftError('not_found') */
  followServices(which: Partial<ResourceName>, signal: AbortSignal): AsyncIterable<ServiceNews> {
    return this.#parts.observer.followServices(which, signal);
  }

  drops(of: TalkFilter = {}): DropReport[] {
    return this.#parts.observer.drops(of);
  }

  /** The conversations of containers with the outside. @throws WeftError('not_found') */
  connections(options: ConnectionsOptions = {}): AsyncIterable<ConnectionReport> {
    return this.#parts.observer.connections(options);
  }

  /** Calls `listener` with each flow that is decided. Returns a function that stops it. */
  onFlow(listener: (flow: FlowReport) => void, of: TalkFilter = {}): () => void {
    return this.#parts.observer.onFlow(listener, of);
  }

  /** Calls `listener` with each decision to drop. Returns a function that stops it. */
  onDrop(listener: (drop: DropReport) => void, of: TalkFilter = {}): () => void {
    return this.#parts.observer.onDrop(listener, of);
  }

  /** Copies frames to `sink` as a pcapng file. Returns a function that stops it. */
  capture(options: CaptureOptions, sink: CaptureSink): () => void {
    return this.#parts.observer.capture(options, sink);
  }

  /** Stops; see `LifeCycle.close`. */
  close(options: CloseOptions = {}): Promise<void> {
    return this.life.close(options);
  }
}
