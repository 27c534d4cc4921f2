/**
 * A switch as programs use it: one of their own (`local-switch.ts`), or that of a running daemon (`daemon-client.ts`). Both answer
 * the same requests of the API, so a program can do what the command line can, and gets the same errors. It keeps nothing: what
 * it returns was true when it was asked.
 */
import type { CaptureEvent, Client, Followed, InNamespace, Selection } from '../api/client.ts';
import type { CaptureOptions, ConnectionsOptions, NetworkOptions } from '../api/target.ts';
import type { DiffReport } from '../model/policy-report.ts';
import type {
  ApplyReport,
  ConfirmReport,
  ConnectionReport,
  DecisionReport,
  DropReport,
  EndpointReport,
  FlowReport,
  InForceReport,
  MetricReport,
  NetworkReport,
  StatusReport,
  WhyReport,
} from '../model/report.ts';
import type { Resource, ResourceEvent } from '../model/resource.ts';
import type { TalkFilter } from '../model/talk-report.ts';
import { DriverHandle } from './driver-handle.ts';
import { FollowingUntil } from './following.ts';
import { HealthHandle } from './health-handle.ts';
import { HooksHandle } from './hooks-handle.ts';
import type { Manifest } from './manifest.ts';
import { NetworkHandle } from './network-handle.ts';
import { PoliciesHandle } from './policies-handle.ts';
import { ServicesHandle } from './services-handle.ts';

export interface ApplyManifestsOptions {
  /** Says what would be done, and does nothing. */
  readonly dryRun?: boolean;
  /** The change is taken back after that, unless `confirm` is called before. */
  readonly confirmMs?: number;
}

export class SwitchHandle {
  /** The network driver: containers that come and go. */
  readonly driver: DriverHandle;
  readonly services: ServicesHandle;
  readonly policies: PoliciesHandle;
  readonly hooks: HooksHandle;
  readonly health: HealthHandle;
  readonly #client: Client;
  readonly #until = new FollowingUntil();

  protected constructor(client: Client) {
    this.#client = client;
    this.driver = new DriverHandle(client);
    this.services = new ServicesHandle(client, this.#until);
    this.policies = new PoliciesHandle(client, this.#until);
    this.hooks = new HooksHandle(client);
    this.health = new HealthHandle(client);
  }

  // Networks

  /** Creates a network, or changes what `options` name of an existing one. A new one needs at least one subnet. */
  async createNetwork(name: string, options: NetworkOptions): Promise<NetworkHandle> {
    await this.#client.createNetwork(name, options);
    return this.network(name);
  }

  /** An existing network. Nothing is asked: what the handle does fails if there is none. */
  network(name: string): NetworkHandle {
    return new NetworkHandle(this.#client, name);
  }

  networks(): Promise<NetworkReport[]> {
    return this.#client.networks();
  }

  endpoints(): Promise<EndpointReport[]> {
    return this.#client.endpoints();
  }

  // Resources

  /** Applies all of `manifests` in one revision, or none. Resolves when they are in force on this host. */
  apply(manifests: readonly Manifest[], options: ApplyManifestsOptions = {}): Promise<ApplyReport[]> {
    return this.#client.apply(manifests, options);
  }

  /** Keeps the change that waits to be confirmed. */
  confirm(): Promise<ConfirmReport> {
    return this.#client.confirm();
  }

  /** What would be different if `manifests` were applied. Nothing is changed. */
  diff(manifests: readonly Manifest[]): Promise<DiffReport> {
    return this.#client.diff(manifests);
  }

  /** As declared, with what weft has allotted. @param kind its name, plural or short name @throws WeftError('not_found') */
  get(kind: string, name?: string, which: Selection = {}): Promise<Resource[]> {
    return this.#client.get(kind, name, which);
  }

  /** @param kind its name, plural or short name */
  delete(kind: string, name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#client.delete(kind, name, place);
  }

  /** Sets labels; null removes one. */
  label(
    kind: string,
    name: string,
    labels: Readonly<Record<string, string | null>>,
    place: InNamespace = {},
  ): Promise<ApplyReport> {
    return this.#client.label(kind, name, labels, place);
  }

  /** What there is of a kind, then `open`, then every change. After `lost`, everything is listed again. */
  follow(kind: string, which: Selection = {}, signal?: AbortSignal): AsyncGenerator<Followed<ResourceEvent>> {
    return this.#client.followResources({ kind, ...which }, this.#until.signal(signal));
  }

  /** Waits until what is in force here is so on all hosts that are not down. @throws WeftError that names the others */
  wait(timeoutMs: number): Promise<InForceReport> {
    return this.#client.wait(timeoutMs);
  }

  // What happens to frames

  status(): Promise<StatusReport> {
    return this.#client.status();
  }

  /** Decides one frame that is described in text (`in_port=web,tcp,ip_dst=10.0.0.3,tcp_dst=80`), without any effect. */
  trace(flow: string): Promise<DecisionReport> {
    return this.#client.trace(flow);
  }

  /** The decision behind a cached flow (`42`), a drop (`d7`) or a connection (`c3`). */
  why(id: string): Promise<WhyReport> {
    return this.#client.why(id);
  }

  /** The cached flows. */
  flows(of: TalkFilter = {}): Promise<FlowReport[]> {
    return this.#client.flows(of);
  }

  /** `open`, then each flow that is decided. */
  followFlows(of: TalkFilter = {}, signal?: AbortSignal): AsyncGenerator<Followed<FlowReport>> {
    return this.#client.followFlows(this.#until.signal(signal), of);
  }

  drops(of: TalkFilter = {}): Promise<DropReport[]> {
    return this.#client.drops(of);
  }

  /** `open`, then each decision to drop. */
  followDrops(of: TalkFilter = {}, signal?: AbortSignal): AsyncGenerator<Followed<DropReport>> {
    return this.#client.followDrops(this.#until.signal(signal), of);
  }

  connections(of: ConnectionsOptions = {}): Promise<ConnectionReport[]> {
    return this.#client.connections(of);
  }

  /** The blocks of one pcapng file, its header first. */
  capture(options: CaptureOptions, signal?: AbortSignal): AsyncGenerator<CaptureEvent> {
    return this.#client.capture(options, this.#until.signal(signal));
  }

  metrics(): Promise<MetricReport[]> {
    return this.#client.metrics();
  }

  /** Ends everything that is followed. */
  protected endFollowing(): void {
    this.#until.end();
  }
}
